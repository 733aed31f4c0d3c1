//! Shared prefixes of token sequences: what several requests have in common is computed once.
//!
//! ```text
//! 5-shot block ─┬─ question 1 ─┬─ " A"          one node per box, each computed once;
//!               │              └─ " B"          a child continues its parent's key-value cache
//!               └─ question 2 …
//! ```
//! Sorting the sequences makes every set with a common prefix a contiguous range, so the tree is built from sorted order alone.
//! A branch that saves fewer than [`MIN_SAVED_TOKENS`] is not worth a forward pass of its own and is computed with each child.

/// Tokens that sharing must save before a segment becomes a node.
pub const MIN_SAVED_TOKENS: usize = 16;

/// A segment of tokens that at least one sequence runs through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// A sequence that runs through the segment; its tokens are `sequences[sequence][start..end]`.
    pub sequence: usize,
    /// First position.
    pub start: usize,
    /// One past the last position.
    pub end: usize,
    /// Sequences that run through this segment.
    pub members: Vec<usize>,
    /// Segments that go on from here.
    pub children: Vec<Node>,
}

/// The forest over `sequences`. With `share` false every sequence is its own root.
pub fn build(sequences: &[&[u32]], share: bool) -> Vec<Node> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by(|&a, &b| sequences[a].cmp(sequences[b]).then(a.cmp(&b)));
    if share {
        return grow(sequences, &order, 0);
    }
    order.into_iter().map(|i| leaf(sequences, &[i], 0)).collect()
}

/// Tokens that computing the forest feeds to the model.
pub fn computed_tokens(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| node.end - node.start + computed_tokens(&node.children)).sum()
}

fn leaf(sequences: &[&[u32]], members: &[usize], start: usize) -> Node {
    Node { sequence: members[0], start, end: sequences[members[0]].len(), members: members.to_vec(), children: Vec::new() }
}

/// Nodes for a sorted range that is equal up to `start`.
fn grow(sequences: &[&[u32]], range: &[usize], start: usize) -> Vec<Node> {
    let (Some(&first), Some(&last)) = (range.first(), range.last()) else { return Vec::new() };
    let common = start + sequences[first][start..].iter().zip(&sequences[last][start..]).take_while(|(a, b)| a == b).count();
    if sequences[last].len() == common {
        // The longest of the range ends here: all are equal.
        return vec![leaf(sequences, range, start)];
    }
    let shares = (common - start) * (range.len() - 1) >= MIN_SAVED_TOKENS;
    let from = if shares { common } else { start };
    let mut children = Vec::new();
    let mut rest = range;
    while let Some(&head) = rest.first() {
        let key = sequences[head].get(common);
        let count = rest.iter().take_while(|&&i| sequences[i].get(common) == key).count();
        let (part, others) = rest.split_at(count);
        match key {
            // Sequences that end at the branching point belong to the shared node itself.
            None if shares => {}
            None => children.push(leaf(sequences, part, start)),
            Some(_) => children.extend(grow(sequences, part, from)),
        }
        rest = others;
    }
    if shares {
        return vec![Node { sequence: first, start, end: common, members: range.to_vec(), children }];
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sequence's tokens are covered by exactly one path, in order, whatever is shared.
    fn check_cover(sequences: &[&[u32]], nodes: &[Node]) {
        fn walk(sequences: &[&[u32]], node: &Node, path: &[u32], found: &mut Vec<usize>) {
            let mut path = path.to_vec();
            assert_eq!(path.len(), node.start);
            path.extend(&sequences[node.sequence][node.start..node.end]);
            for &member in &node.members {
                assert_eq!(sequences[member][..node.end], path);
                if sequences[member].len() == node.end {
                    found.push(member);
                }
            }
            for child in &node.children {
                assert!(child.members.iter().all(|member| node.members.contains(member)));
                walk(sequences, child, &path, found);
            }
        }
        let mut found = Vec::new();
        for node in nodes {
            walk(sequences, node, &[], &mut found);
        }
        found.sort_unstable();
        assert_eq!(found, (0..sequences.len()).collect::<Vec<_>>());
    }

    #[test]
    fn a_long_prefix_is_computed_once() {
        let prefix: Vec<u32> = (0..20).collect();
        let with = |suffix: &[u32]| [&prefix[..], suffix].concat();
        let all = [with(&[30, 31]), with(&[40]), with(&[]), with(&[30, 31])];
        let sequences: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
        let nodes = build(&sequences, true);
        check_cover(&sequences, &nodes);
        assert_eq!(computed_tokens(&nodes), 23); // 20 shared, 2 for the two equal ones, 1
        assert_eq!(computed_tokens(&build(&sequences, false)), 22 + 21 + 20 + 22);
    }

    #[test]
    fn a_short_common_start_is_not_split() {
        let sequences: [&[u32]; 3] = [&[1, 2, 3], &[1, 2, 4], &[1]];
        let nodes = build(&sequences, true);
        check_cover(&sequences, &nodes);
        assert_eq!(nodes.len(), 3);
    }

    proptest::proptest! {
        #[test]
        fn any_set_of_sequences_is_covered(
            raw in proptest::collection::vec(proptest::collection::vec(0u32..3, 1..40), 1..30),
            share in proptest::bool::ANY,
        ) {
            let sequences: Vec<&[u32]> = raw.iter().map(Vec::as_slice).collect();
            let nodes = build(&sequences, share);
            check_cover(&sequences, &nodes);
            proptest::prop_assert!(computed_tokens(&nodes) <= raw.iter().map(Vec::len).sum());
        }
    }
}
