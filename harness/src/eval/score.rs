//! Log-likelihoods of many token sequences: the prefix tree walked in packed passes of bounded size.
//!
//! ```text
//! pass: tokens of several nodes ──forward_runs──> hidden ──rows with targets only──> logits ──log-softmax──> Σ log p(target), greedy?
//!          └── each node's keys and values are held once, until its last child is through ──> children
//! ```
//! A pass takes tokens from the top of a stack of nodes until it is full: a long node is cut, short ones share a pass, nothing is padded.
//! Sums are in f64; log-softmax is over the full vocabulary from f32 logits, or rounded to the model's own type when asked.

use std::cell::Cell;
use std::rc::Rc;

use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};
use models::{Decoder, KvSegment, Run};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::encode::EncodedPair;
use super::prefix_tree::{self, Node};

/// Bounds of one forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// New tokens of a pass.
    pub batch_tokens: usize,
    /// Cached positions held at once, those of shared prefixes once. A single sequence may always take its own length.
    pub cache_tokens: usize,
    /// Sequences that are decoded together.
    pub decode_rows: usize,
    /// Whether shared prefixes are computed once.
    pub share_prefixes: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self { batch_tokens: 2048, cache_tokens: 32_768, decode_rows: 96, share_prefixes: true }
    }
}

/// The number format in which log-probabilities are rounded; they are always computed in f32 or wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Softmax {
    /// Not rounded.
    #[default]
    F32,
    /// To the model's own type, each token's and the sum, as the reference harness does when it is not told otherwise.
    Model,
}

impl Softmax {
    /// Rounds a value of a model of the given type.
    fn round(self, value: f64, dtype: DType) -> f64 {
        match (self, dtype) {
            (Self::Model, DType::BF16) => bf16::from_f64(value).to_f64(),
            (Self::Model, DType::F16) => f16::from_f64(value).to_f64(),
            _ => value,
        }
    }

    /// A token's log-probability, and whether it is the most probable one, from its row of logits and their `(ln Σ exp, argmax)`.
    fn of_token(self, logits: &[f32], (log_normaliser, most_probable): (f64, usize), token: usize, dtype: DType) -> (f64, bool) {
        let of = |id: usize| self.round(f64::from(logits[id]) - log_normaliser, dtype);
        let is_most_probable = match self {
            Self::F32 => most_probable == token,
            // Rounding makes ties; the lowest id wins them.
            Self::Model => of(token) == of(most_probable) && !(0..token).any(|id| of(id) == of(token)),
        };
        (of(token), is_most_probable)
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
pub(super) const LOGITS_ELEMENTS: usize = 4 << 20;

/// Scores every pair; `done` hears which are finished.
///
/// # Errors
/// When a forward pass fails. A pair whose logits are not finite scores NaN, which the caller must refuse.
pub fn score_pairs(
    decoder: &Decoder,
    pairs: &[EncodedPair],
    budget: Budget,
    softmax: Softmax,
    done: &mut Scored<'_>,
) -> Result<()> {
    let inputs: Vec<&[u32]> = pairs.iter().map(|pair| pair.input.as_slice()).collect();
    let mut roots = prefix_tree::build(&inputs, budget.share_prefixes);
    // The longest on top: the first pass is the memory peak and early time estimates are upper bounds.
    roots.sort_by_key(depth);
    let held = Rc::new(Cell::new(0));
    let mut stack: Vec<Item<'_>> = roots.iter().map(|node| Item::new(decoder, node, &[], &held)).collect();
    let scores = vec![PairScore { loglikelihood: 0.0, is_greedy: true }; pairs.len()];
    let mut scorer = Scorer { decoder, pairs, softmax, scores };
    while !stack.is_empty() {
        let mut pass = take_pass(&mut stack, budget, held.get());
        let hidden = forward(decoder, pairs, &mut pass)?; // [N, D]
        scorer.score(&hidden, &pass)?;
        let mut finished = Vec::new();
        for (mut item, count) in pass.into_iter().rev() {
            item.computed += count;
            if item.computed < item.tok() {
                stack.push(item);
                continue;
            }
            let node = item.node;
            finished.extend(node.members.iter().filter(|&&member| pairs[member].input.len() == node.end));
            if node.children.is_empty() {
                continue;
            }
            let mut chain = item.before;
            chain.push(Rc::new(item.own));
            let mut children: Vec<&Node> = node.children.iter().collect();
            children.sort_by_key(|child| depth(child));
            stack.extend(children.into_iter().map(|child| Item::new(decoder, child, &chain, &held)));
        }
        let finished: Vec<(usize, PairScore)> =
            finished.into_iter().map(|&member| (member, scorer.final_score(member))).collect();
        done(&finished);
    }
    Ok(())
}

/// Positions of the deepest path.
fn depth(node: &Node) -> usize {
    node.children.iter().map(depth).max().unwrap_or(node.end)
}

/// A segment that counts its positions among those held, for as long as it lives.
struct Held {
    segment: KvSegment,
    count: usize,
    total: Rc<Cell<usize>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.count);
    }
}

/// A node on its way.
struct Item<'a> {
    node: &'a Node,
    before: Vec<Rc<Held>>,
    own: Held,
    /// Tokens of the node that are through.
    computed: usize,
}

impl<'a> Item<'a> {
    fn new(decoder: &Decoder, node: &'a Node, before: &[Rc<Held>], total: &Rc<Cell<usize>>) -> Self {
        // No room yet: a node that waits must not cost memory.
        let segment = KvSegment::new(decoder.config(), node.start, 0);
        Self { node, before: before.to_vec(), own: Held { segment, count: 0, total: Rc::clone(total) }, computed: 0 }
    }

    fn tok(&self) -> usize {
        self.node.end - self.node.start
    }

    /// Makes room for the whole node.
    fn reserve(&mut self, decoder: &Decoder) {
        if self.own.count == 0 {
            self.own.segment = KvSegment::new(decoder.config(), self.node.start, self.tok());
            self.own.count = self.tok();
            self.own.total.set(self.own.total.get() + self.tok());
        }
    }
}

/// The next nodes from the top of the stack, each with the number of its tokens that fit; at least one.
fn take_pass<'a>(stack: &mut Vec<Item<'a>>, budget: Budget, held: usize) -> Vec<(Item<'a>, usize)> {
    let mut pass: Vec<(Item<'a>, usize)> = Vec::new();
    let (mut room, mut cached) = (budget.batch_tokens.max(1), held);
    while let Some(item) = stack.last() {
        let new = if item.own.count == 0 { item.tok() } else { 0 };
        if room == 0 || (!pass.is_empty() && cached + new > budget.cache_tokens) {
            break;
        }
        let Some(item) = stack.pop() else { break };
        let count = (item.tok() - item.computed).min(room);
        (room, cached) = (room - count, cached + new);
        pass.push((item, count));
    }
    pass
}

/// Runs the tokens of a pass; `[N, D]`.
fn forward(decoder: &Decoder, pairs: &[EncodedPair], pass: &mut [(Item<'_>, usize)]) -> Result<Tensor> {
    let mut runs = Vec::with_capacity(pass.len());
    for (item, count) in pass {
        item.reserve(decoder);
        let first = item.node.start + item.computed;
        runs.push(Run {
            ids: &pairs[item.node.sequence].input[first..first + *count],
            before: item.before.iter().map(|held| &held.segment).collect(),
            own: &mut item.own.segment,
        });
    }
    decoder.forward_runs(&mut runs)
}

struct Scorer<'a> {
    decoder: &'a Decoder,
    pairs: &'a [EncodedPair],
    softmax: Softmax,
    scores: Vec<PairScore>,
}

/// A row of the hidden activations, the pair that it scores, and the token it should predict.
type Wanted = (u32, usize, u32);

impl Scorer<'_> {
    fn final_score(&self, pair: usize) -> PairScore {
        let score = self.scores[pair];
        PairScore { loglikelihood: self.softmax.round(score.loglikelihood, self.decoder.dtype()), ..score }
    }

    /// Scores the targets that fall into a pass.
    fn score(&mut self, hidden: &Tensor, pass: &[(Item<'_>, usize)]) -> Result<()> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut row = 0;
        for (item, count) in pass {
            let start = item.node.start + item.computed;
            for &member in &item.node.members {
                let pair = &self.pairs[member];
                let first = pair.input.len() - pair.targets.len();
                for position in first.max(start)..(start + count).min(pair.input.len()) {
                    wanted.push(((row + position - start) as u32, member, pair.targets[position - first]));
                }
            }
            row += count;
        }
        wanted.sort_by_key(|&(row, ..)| row); // stable: each pair's positions stay in order
        self.add(hidden, &wanted)
    }

    /// Adds the log-probabilities of the wanted targets to their pairs' sums.
    fn add(&mut self, hidden: &Tensor, wanted: &[Wanted]) -> Result<()> {
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
                let row = &logits[at * vocab_size..][..vocab_size];
                let (value, is_most_probable) = self.softmax.of_token(row, summary[at], target as usize, self.decoder.dtype());
                let score = &mut self.scores[pair];
                score.loglikelihood += value;
                score.is_greedy &= is_most_probable;
            }
        }
        Ok(())
    }
}

/// Splits the wanted list without separating entries of one row.
trait ChunkByRows {
    fn chunk_by_rows(&self, rows: usize) -> impl Iterator<Item = &[Wanted]>;
}

impl ChunkByRows for [Wanted] {
    fn chunk_by_rows(&self, rows: usize) -> impl Iterator<Item = &[Wanted]> {
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
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - maximum).exp()).sum();
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
    fn log_probabilities_are_rounded_to_the_models_type_on_request_only() {
        // bf16 has 8 bits of mantissa: 1/128 is the step between 1 and 2.
        assert_eq!(Softmax::F32.round(-1.003, DType::BF16), -1.003);
        assert_eq!(Softmax::Model.round(-1.003, DType::BF16), -1.0);
        assert_eq!(Softmax::Model.round(-1.006, DType::BF16), -1.0 - 1.0 / 128.0);
        assert_eq!(Softmax::Model.round(-1.003, DType::F32), -1.003);
    }

    #[test]
    fn a_tie_that_rounding_makes_goes_to_the_lowest_id() {
        // ln p = -1.0991, -1.0986, -1.0981: below 2 the step of bf16 is 1/128, so all three are one value.
        let logits = [1.0, 1.0005, 1.001];
        let greedy = |softmax: Softmax, dtype| -> Vec<bool> {
            (0..3).map(|token| softmax.of_token(&logits, log_sum_exp(&logits), token, dtype).1).collect()
        };
        assert_eq!(greedy(Softmax::F32, DType::BF16), [false, false, true]);
        assert_eq!(greedy(Softmax::Model, DType::BF16), [true, false, false]);
        assert_eq!(greedy(Softmax::Model, DType::F32), [false, false, true]);
        // Ids above the most probable one are never tied into first place.
        let below = [1.001, 1.0, 0.0];
        let (_, is_greedy) = Softmax::Model.of_token(&below, log_sum_exp(&below), 1, DType::BF16);
        assert!(!is_greedy);
    }

    #[test]
    fn chunks_never_split_a_row() {
        let wanted = [(0, 0, 0), (0, 1, 0), (1, 2, 0), (3, 3, 0), (3, 4, 0)];
        let sizes: Vec<usize> = wanted.chunk_by_rows(2).map(<[_]>::len).collect();
        assert_eq!(sizes, [3, 2]);
    }
}
