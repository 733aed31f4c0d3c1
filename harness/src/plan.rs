//! Which part of a long command this process does: `--shard i/n` takes every n-th entry of the sorted plan.

use std::str::FromStr;

/// One of n equal parts of a plan, `i/n` with i from 1 to n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// The whole plan.
    pub const ALL: Self = Self { index: 0, count: 1 };

    /// Number of this part, from 1, and how many parts there are.
    pub fn numbers(self) -> (usize, usize) {
        (self.index + 1, self.count)
    }

    /// Whether the entry at `position` of the sorted plan belongs to this shard.
    pub fn takes(self, position: usize) -> bool {
        position % self.count == self.index
    }

    /// This shard's entries of a plan, in order.
    pub fn select<T>(self, plan: Vec<T>) -> Vec<T> {
        plan.into_iter().enumerate().filter(|(position, _)| self.takes(*position)).map(|(_, entry)| entry).collect()
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected `i/n` with i from 1 to n, such as `1/4`, found `{text}`");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let (index, count): (usize, usize) = (index.parse().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?);
        if (1..=count).contains(&index) { Ok(Self { index: index - 1, count }) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_the_plan_once() {
        let plan: Vec<usize> = (0..10).collect();
        let mut joined: Vec<usize> =
            (1..=3).flat_map(|i| format!("{i}/3").parse::<Shard>().unwrap().select(plan.clone())).collect();
        joined.sort_unstable();
        assert_eq!(joined, plan);
        assert_eq!(Shard::ALL.select(plan.clone()), plan);
    }

    #[test]
    fn shard_numbers_outside_are_refused() {
        for text in ["0/3", "4/3", "1", "a/b", "1/0"] {
            assert!(text.parse::<Shard>().unwrap_err().contains("expected `i/n`"), "{text}");
        }
    }
}
