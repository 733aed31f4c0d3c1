//! Packed runs of new tokens, each behind segments that other runs may share: nothing is padded, copied or computed twice.
//!
//! ```text
//! segment "few-shot block"   0 ..  371     computed once
//!    ├─ segment "question 1" 371 .. 430    run: before = [block]
//!    └─ segment "question 2" 371 .. 455    run: before = [block], in the same pass
//! ```
//! A segment knows at which position it starts; a run's `before` must cover all positions up to there. An evaluator walks a prefix tree this
//! way, and decodes many sequences at once: a run of one token each, whose `own` segment grows.

use candle_core::{Result, Tensor, bail};
use kernels::{AttentionRun, KvPiece};

use super::Decoder;
use super::attention::{Cached, Context};
use super::config::DecoderConfig;
use super::masked::{self, Scores, Sequence};

/// Keys and values of a stretch of one sequence in every layer.
#[derive(Debug, Clone)]
pub struct KvSegment {
    layers: Vec<KvPiece>,
    start: usize,
}

impl KvSegment {
    /// An empty segment that begins at position `start`, with room for `capacity` positions; it grows when that is too little.
    pub fn new(config: &DecoderConfig, start: usize, capacity: usize) -> Self {
        // A layer that reads another's keys and values holds none.
        let room = |layer| if config.key_value_layer(layer) == layer { capacity } else { 0 };
        let piece = |layer| KvPiece::new(config.num_key_value_heads, room(layer), config.head_dim());
        Self { layers: (0..config.num_layers()).map(piece).collect(), start }
    }

    /// Bytes of one position.
    pub fn bytes_per_tok(config: &DecoderConfig) -> usize {
        let layers = (0..config.num_layers()).filter(|&layer| config.key_value_layer(layer) == layer).count();
        2 * layers * config.num_key_value_heads * config.head_dim() * size_of::<f32>()
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, KvPiece::len)
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// First position.
    pub fn start(&self) -> usize {
        self.start
    }

    /// One past the last position.
    pub fn end(&self) -> usize {
        self.start + self.len()
    }

    /// Bytes held, free room included.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(KvPiece::bytes).sum()
    }
}

/// New tokens of one sequence.
#[derive(Debug)]
pub struct Run<'a> {
    /// Token ids, at least one.
    pub ids: &'a [u32],
    /// What comes before `own`, the oldest first, without a gap from position 0.
    pub before: Vec<&'a KvSegment>,
    /// The segment that the new tokens extend.
    pub own: &'a mut KvSegment,
}

impl Decoder {
    /// Computes the new tokens of every run and appends them to their segments; forward only.
    ///
    /// - Returns the final, normed activations `[N, D]` of all new tokens, run after run.
    /// - Runs with the same `before` attend together when they stand side by side.
    ///
    /// # Errors
    /// When a run is empty, its segments leave a gap, or it would exceed `max_position_embeddings`; nothing is appended then.
    pub fn forward_runs(&self, runs: &mut [Run<'_>]) -> Result<Tensor> {
        let limit = self.config.max_position_embeddings;
        let mut positions = Vec::new();
        for (at, run) in runs.iter().enumerate() {
            let covered = run.before.iter().try_fold(0, |end, segment| (segment.start == end).then(|| segment.end()));
            if covered != Some(run.own.start) {
                bail!("forward_runs: run {at}: expected segments from position 0 to {} without a gap", run.own.start);
            }
            let (first, end) = (run.own.end(), run.own.end() + run.ids.len());
            if run.ids.is_empty() || end > limit {
                bail!(
                    "forward_runs: run {at}: expected 1..={} new tokens (max_position_embeddings is {limit}), found {}",
                    limit.saturating_sub(first),
                    run.ids.len()
                );
            }
            positions.extend(first as u32..end as u32);
        }
        let ids: Vec<u32> = runs.iter().flat_map(|run| run.ids).copied().collect();
        let device = self.device();
        let (ids, positions) = (Tensor::new(ids, device)?, Tensor::new(positions, device)?);
        let rotation = self.rotary.as_ref().map(|rotary| rotary.rows(&positions)).transpose()?;
        let local_rotation = self.local_rotary.as_ref().map(|rotary| rotary.rows(&positions)).transpose()?;
        let mut pass = RunsPass { runs };
        let mut context = Context {
            rotation: rotation.as_ref(),
            local_rotation: local_rotation.as_ref(),
            cache: Some(&mut pass),
            shared: Vec::new(),
            numerics: self.numerics,
        };
        self.through_layers(&ids.unsqueeze(0)?, &positions.unsqueeze(0)?, &mut context)?.squeeze(0)
    }
}

/// The runs' segments during a forward pass.
struct RunsPass<'a, 'b> {
    runs: &'a mut [Run<'b>],
}

impl Cached for RunsPass<'_, '_> {
    fn attend(&mut self, layer: usize, q: &Tensor, new: Option<(&Tensor, &Tensor)>, scores: Scores) -> Result<Tensor> {
        if let Some((k, v)) = new {
            let mut own: Vec<(&mut KvPiece, usize)> =
                self.runs.iter_mut().map(|run| (&mut run.own.layers[layer], run.ids.len())).collect();
            kernels::append_runs(&k.squeeze(0)?, &v.squeeze(0)?, &mut own)?;
        }
        let end = |run: &Run<'_>| run.own.start + run.own.layers[layer].len();
        let q = q.squeeze(0)?; // [N, H, d]
        if scores.is_plain(self.runs.iter().map(end).max().unwrap_or(0)) {
            let runs: Vec<AttentionRun<'_>> = self
                .runs
                .iter()
                .map(|run| AttentionRun {
                    before: run.before.iter().map(|segment| &segment.layers[layer]).collect(),
                    own: &run.own.layers[layer],
                    new_tok: run.ids.len(),
                })
                .collect();
            return kernels::attention_runs(&q, &runs, scores.scale)?.to_dtype(q.dtype())?.unsqueeze(0);
        }
        let sequences: Vec<Sequence<'_>> = self
            .runs
            .iter()
            .map(|run| {
                let pieces = run.before.iter().map(|segment| &segment.layers[layer]).chain([&run.own.layers[layer]]);
                let pieces = pieces
                    .map(|piece| {
                        (0..piece.kv_heads()).map(|head| piece.head_parts(head)).map(|(k, v)| (k.into(), v.into())).collect()
                    })
                    .collect();
                Sequence { pieces, past: end(run) - run.ids.len(), new_tok: run.ids.len() }
            })
            .collect();
        masked::attend_pieces(&q, &sequences, scores)?.unsqueeze(0)
    }
}
