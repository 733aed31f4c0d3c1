//! Log-likelihoods of many token sequences: the prefix tree walked in batches of bounded size.
//!
//! ```text
//! batch of segments ──forward_cached──> hidden ──rows with targets only──> logits ──log-softmax──> Σ log p(target), greedy?
//!        └── children select their parents' cache rows and go on ──┘
//! ```
//! Rows of a batch have their own lengths, padding is on the right, and position 0 is the first real token: with causal attention no padded
//! position can reach a real one. Sums are in f64; log-softmax is over the full vocabulary from f32 logits.

use candle_core::{DType, Device, Result, Tensor, bail};
use models::{Decoder, KvCache};
use rayon::prelude::*;

use super::encode::EncodedPair;
use super::prefix_tree::{self, Node};

/// Bounds of one forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Padded new tokens of a batch.
    pub batch_tokens: usize,
    /// Cached positions of a batch, prefixes included.
    pub cache_tokens: usize,
    /// Whether shared prefixes are computed once.
    pub share_prefixes: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self { batch_tokens: 2048, cache_tokens: 32_768, share_prefixes: true }
    }
}

/// What one pair scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairScore {
    /// Σ ln p(target), nats.
    pub loglikelihood: f64,
    /// Every target is the most probable token (ties: the lowest id).
    pub is_greedy: bool,
}

/// Hears which pairs are finished, with their scores.
pub type Scored<'a> = dyn FnMut(&[(usize, PairScore)]) + 'a;

/// Logits rows held at once: 16 MiB of f32 at a vocabulary of 32,000 would be 131 rows.
const LOGITS_ELEMENTS: usize = 4 << 20;

/// Scores every pair; `done` hears how many are finished.
///
/// # Errors
/// When a forward pass fails. A pair whose logits are not finite scores NaN, which the caller must refuse.
pub fn score_pairs(decoder: &Decoder, pairs: &[EncodedPair], budget: Budget, done: &mut Scored<'_>) -> Result<()> {
    let inputs: Vec<&[u32]> = pairs.iter().map(|pair| pair.input.as_slice()).collect();
    let mut roots = prefix_tree::build(&inputs, budget.share_prefixes);
    // The longest first: the first batch is the memory peak and early time estimates are upper bounds.
    roots.sort_by_key(|node| std::cmp::Reverse(depth(node)));
    let scores = vec![PairScore { loglikelihood: 0.0, is_greedy: true }; pairs.len()];
    let mut walk = Walk { decoder, pairs, budget, scores, done };
    let nodes: Vec<(usize, &Node)> = roots.iter().map(|node| (0, node)).collect();
    walk.nodes(None, &nodes)
}

/// Positions of the deepest path.
fn depth(node: &Node) -> usize {
    node.children.iter().map(depth).max().unwrap_or(node.end)
}

struct Walk<'a> {
    decoder: &'a Decoder,
    pairs: &'a [EncodedPair],
    budget: Budget,
    scores: Vec<PairScore>,
    done: &'a mut Scored<'a>,
}

impl Walk<'_> {
    /// Computes sibling segments, each continuing row `.0` of the parent's cache, then what goes on from them.
    fn nodes(&mut self, parent: Option<&KvCache>, nodes: &[(usize, &Node)]) -> Result<()> {
        let mut rest = nodes;
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(self.batch_len(rest));
            rest = others;
            let mut cache = match parent {
                None => {
                    KvCache::new(self.decoder.config(), batch.len(), batch.iter().map(|(_, node)| node.end).max().unwrap_or(0))
                }
                Some(parent) => {
                    let mut cache = parent.clone();
                    cache.select_rows(&batch.iter().map(|&(row, _)| row).collect::<Vec<_>>())?;
                    cache
                }
            };
            self.batch(&mut cache, batch)?;
            let mut children: Vec<(usize, &Node)> = batch
                .iter()
                .enumerate()
                .flat_map(|(row, (_, node))| node.children.iter().map(move |child| (row, child)))
                .collect();
            children.sort_by_key(|(_, child)| std::cmp::Reverse(child.end));
            self.nodes(Some(&cache), &children)?;
        }
        Ok(())
    }

    /// How many of the next segments fit one forward pass; at least one.
    fn batch_len(&self, nodes: &[(usize, &Node)]) -> usize {
        let (mut width, mut length) = (0, 0);
        let fits = |(count, (_, node)): (usize, &(usize, &Node))| {
            width = width.max(node.end - node.start);
            length = length.max(node.end);
            count == 0 || ((count + 1) * width <= self.budget.batch_tokens && (count + 1) * length <= self.budget.cache_tokens)
        };
        nodes.iter().enumerate().map(fits).take_while(|&fits| fits).count()
    }

    fn batch(&mut self, cache: &mut KvCache, batch: &[(usize, &Node)]) -> Result<()> {
        let lens: Vec<usize> = batch.iter().map(|(_, node)| node.end - node.start).collect();
        let width = lens.iter().copied().max().unwrap_or(0);
        let mut ids = vec![0u32; batch.len() * width];
        for (row, (_, node)) in batch.iter().enumerate() {
            let segment = &self.pairs[node.sequence].input[node.start..node.end];
            ids[row * width..row * width + segment.len()].copy_from_slice(segment);
        }
        let ids = Tensor::from_vec(ids, (batch.len(), width), self.decoder.device())?;
        let hidden = self.decoder.forward_cached(&ids, &lens, cache)?; // [B, T, D]

        // (row of hidden, pair, target): the targets that fall into these segments.
        let mut wanted: Vec<(u32, usize, u32)> = Vec::new();
        for (row, (_, node)) in batch.iter().enumerate() {
            for &member in &node.members {
                let pair = &self.pairs[member];
                let first = pair.input.len() - pair.targets.len();
                for position in first.max(node.start)..node.end.min(pair.input.len()) {
                    wanted.push(((row * width + position - node.start) as u32, member, pair.targets[position - first]));
                }
            }
        }
        wanted.sort_by_key(|&(row, ..)| row); // stable: each pair's positions stay in order
        self.score(&hidden, &wanted)?;
        let finished: Vec<(usize, PairScore)> = batch
            .iter()
            .flat_map(|(_, node)| node.members.iter().filter(|&&member| self.pairs[member].input.len() == node.end))
            .map(|&member| (member, self.scores[member]))
            .collect();
        (self.done)(&finished);
        Ok(())
    }

    /// Adds the log-probabilities of the wanted targets to their pairs' sums.
    fn score(&mut self, hidden: &Tensor, wanted: &[(u32, usize, u32)]) -> Result<()> {
        let hidden = hidden.flatten_to(1)?; // [B·T, D]
        let vocab_size = self.decoder.config().vocab_size;
        let rows_at_once = (LOGITS_ELEMENTS / vocab_size).max(1);
        for part in wanted.chunk_by_rows(rows_at_once) {
            // Pairs that share an input want the same row: its logits are computed once.
            let mut rows: Vec<u32> = part.iter().map(|&(row, ..)| row).collect();
            rows.dedup();
            let index = Tensor::from_vec(rows.clone(), rows.len(), hidden.device())?;
            let logits = self.decoder.logits(&hidden.index_select(&index, 0)?)?; // [R, V]
            let logits = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            let summary: Vec<(f64, usize)> = logits.par_chunks(vocab_size).map(log_sum_exp).collect();
            let mut at = 0;
            for &(row, pair, target) in part {
                while rows[at] != row {
                    at += 1;
                }
                if target as usize >= vocab_size {
                    bail!(
                        "token id {target} lies outside the model's vocabulary of {vocab_size}: the tokenizer is another model's"
                    );
                }
                let (log_normaliser, most_probable) = summary[at];
                let score = &mut self.scores[pair];
                score.loglikelihood += f64::from(logits[at * vocab_size + target as usize]) - log_normaliser;
                score.is_greedy &= most_probable == target as usize;
            }
        }
        Ok(())
    }
}

/// Splits the wanted list without separating entries of one row.
trait ChunkByRows {
    fn chunk_by_rows(&self, rows: usize) -> impl Iterator<Item = &[(u32, usize, u32)]>;
}

impl ChunkByRows for [(u32, usize, u32)] {
    fn chunk_by_rows(&self, rows: usize) -> impl Iterator<Item = &[(u32, usize, u32)]> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let mut distinct = 0;
            let mut last = None;
            let count = rest
                .iter()
                .take_while(|&&(row, ..)| {
                    distinct += usize::from(last.replace(row) != Some(row));
                    distinct <= rows
                })
                .count();
            let (part, others) = rest.split_at(count);
            rest = others;
            (!part.is_empty()).then_some(part)
        })
    }
}

/// `(ln Σ exp(logit), argmax)` of one row; ties go to the lowest id, NaN anywhere gives NaN.
pub(super) fn log_sum_exp(logits: &[f32]) -> (f64, usize) {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    let maximum = f64::from(logits[best]);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - logits[best]).exp()).sum();
    (maximum + sum.ln(), best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sum_exp_is_stable_and_breaks_ties_downwards() {
        let (value, best) = log_sum_exp(&[1000.0, 1000.0, 0.0]);
        assert_eq!((value, best), (1000.0 + 2f64.ln(), 0));
        assert!(log_sum_exp(&[0.0, f32::NAN]).0.is_nan());
    }

    #[test]
    fn chunks_never_split_a_row() {
        let wanted = [(0, 0, 0), (0, 1, 0), (1, 2, 0), (3, 3, 0), (3, 4, 0)];
        let sizes: Vec<usize> = wanted.chunk_by_rows(2).map(<[_]>::len).collect();
        assert_eq!(sizes, [3, 2]);
    }
}
