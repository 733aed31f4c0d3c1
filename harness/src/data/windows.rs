//! Which tokens stand in which batch: a pure function of (seed, position), so resuming needs no state.
//!
//! ```text
//! epoch e:  windows w = 0 … n-1 at offset_e + w·T, n = (tokens - 1) / T     offset_e and their order from stream("train/order", seed, e)
//! item i:   epoch i / n, the (i mod n)-th window of its order;  inputs = ids[s .. s+T], targets = ids[s+1 .. s+1+T]
//! ```
//! Variants that share seed and data therefore see identical batches: comparisons are paired.

use crate::error::Hint as _;
use anyhow::anyhow;
use std::path::Path;

/// Purpose of the random stream that orders windows.
const ORDER: &str = "train/order";

/// Targets that count nothing in the loss.
pub const IGNORED: u32 = u32::MAX;

/// Training windows of a token stream.
#[derive(Debug)]
pub struct Windows<'a> {
    ids: &'a [u32],
    sequence_length: usize,
    seed: u64,
    epoch: Option<Epoch>,
}

#[derive(Debug)]
struct Epoch {
    number: u64,
    offset: usize,
    order: Vec<usize>,
}

/// Inputs and targets, both `[rows, sequence_length]`, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids.
    pub inputs: Vec<u32>,
    /// The next id at each position, or [`IGNORED`].
    pub targets: Vec<u32>,
    /// Sequences.
    pub rows: usize,
}

impl<'a> Windows<'a> {
    /// Windows of `sequence_length` tokens over a stream.
    ///
    /// # Errors
    /// When the stream has no window of that length; `path` is named.
    pub fn new(ids: &'a [u32], sequence_length: usize, seed: u64, path: &Path) -> anyhow::Result<Self> {
        if ids.len() <= sequence_length {
            return Err(anyhow!(
                "the corpus `{}` is too short: expected more than data.sequence_length ({sequence_length}) tokens, found {}",
                path.display(),
                ids.len()
            ))
            .hint("use more text or a shorter data.sequence_length");
        }
        Ok(Self { ids, sequence_length, seed, epoch: None })
    }

    /// Windows in one epoch.
    pub fn per_epoch(&self) -> usize {
        (self.ids.len() - 1) / self.sequence_length
    }

    /// Items `first .. first + rows` of the endless sequence of epochs.
    pub fn batch(&mut self, first: u64, rows: usize) -> Batch {
        let mut batch = Batch {
            inputs: Vec::with_capacity(rows * self.sequence_length),
            targets: Vec::with_capacity(rows * self.sequence_length),
            rows,
        };
        for item in first..first + rows as u64 {
            let start = self.start(item);
            batch.inputs.extend_from_slice(&self.ids[start..start + self.sequence_length]);
            batch.targets.extend_from_slice(&self.ids[start + 1..=start + self.sequence_length]);
        }
        batch
    }

    fn start(&mut self, item: u64) -> usize {
        let count = self.per_epoch();
        let number = item / count as u64;
        if self.epoch.as_ref().is_none_or(|epoch| epoch.number != number) {
            let mut stream = stats::rng::stream(ORDER, self.seed, number);
            let slack = self.ids.len() - 1 - count * self.sequence_length;
            let offset = stats::rng::index(&mut stream, slack + 1);
            self.epoch = Some(Epoch { number, offset, order: stats::rng::permutation(&mut stream, count) });
        }
        let epoch = self.epoch.as_ref().expect("set above");
        epoch.offset + epoch.order[(item % count as u64) as usize] * self.sequence_length
    }
}

/// Validation batches: every token but the first is predicted exactly once, in order; the last window is filled with [`IGNORED`].
///
/// - `max_windows`: windows from the start of the stream; 0 for all.
pub fn validation_batches(ids: &[u32], sequence_length: usize, rows: usize, max_windows: usize) -> Vec<Batch> {
    let starts: Vec<usize> = (0..ids.len().saturating_sub(1)).step_by(sequence_length).collect();
    let used = if max_windows == 0 { starts.len() } else { max_windows.min(starts.len()) };
    starts[..used]
        .chunks(rows)
        .map(|starts| {
            let mut batch = Batch { inputs: Vec::new(), targets: Vec::new(), rows: starts.len() };
            for &start in starts {
                for position in start..start + sequence_length {
                    batch.inputs.push(ids.get(position).copied().unwrap_or(0));
                    batch.targets.push(ids.get(position + 1).copied().unwrap_or(IGNORED));
                }
            }
            batch
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_epoch_covers_every_window_once_and_targets_are_shifted() {
        let ids: Vec<u32> = (0..43).collect();
        let mut windows = Windows::new(&ids, 8, 7, Path::new("x")).unwrap();
        assert_eq!(windows.per_epoch(), 5);
        let mut starts = BTreeSet::new();
        for item in 0..5 {
            let batch = windows.batch(item, 1);
            starts.insert(batch.inputs[0]);
            assert!(batch.inputs.iter().zip(&batch.targets).all(|(input, target)| input + 1 == *target));
        }
        let starts: Vec<u32> = starts.into_iter().collect();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 8), "{starts:?}");
        assert!(starts[0] <= 2 && starts.len() == 5);
    }

    #[test]
    fn order_depends_on_seed_and_epoch_and_not_on_how_it_is_asked_for() {
        let ids: Vec<u32> = (0..1000).collect();
        let mut a = Windows::new(&ids, 10, 0, Path::new("x")).unwrap();
        let mut b = Windows::new(&ids, 10, 0, Path::new("x")).unwrap();
        let all = a.batch(0, 250);
        b.batch(240, 3); // asking elsewhere first changes nothing
        for item in 0..250 {
            assert_eq!(b.batch(item, 1).inputs, all.inputs[item as usize * 10..][..10]);
        }
        let other = Windows::new(&ids, 10, 1, Path::new("x")).unwrap().batch(0, 99);
        assert_ne!(other.inputs, all.inputs[..990]);
        assert_ne!(all.inputs[..990], all.inputs[990..1980]);
    }

    #[test]
    fn too_short_a_corpus_is_refused_with_both_numbers() {
        let error = Windows::new(&[1, 2, 3], 3, 0, Path::new("a.txt")).unwrap_err().to_string();
        assert!(error.contains("a.txt") && error.contains("(3) tokens, found 3"), "{error}");
        assert_eq!(Windows::new(&[1, 2, 3, 4], 3, 0, Path::new("a.txt")).unwrap().batch(0, 1).targets, [2, 3, 4]);
    }

    #[test]
    fn validation_predicts_every_token_but_the_first_once() {
        let ids = [10, 11, 12, 13, 14, 15];
        let batches = validation_batches(&ids, 4, 1, 0);
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0].targets, [11, 12, 13, 14]);
        assert_eq!(batches[1].inputs[0], 14);
        assert_eq!(batches[1].targets, [15, IGNORED, IGNORED, IGNORED]);
        assert_eq!(validation_batches(&ids, 4, 8, 1)[0].rows, 1);
    }
}
