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
use laurel::ResidualStream;

use super::Decoder;
use super::attention::{Cached, Context};
use super::config::DecoderConfig;

/// Keys and values of a stretch of one sequence in every layer.
#[derive(Debug, Clone)]
pub struct KvSegment {
    layers: Vec<KvPiece>,
    start: usize,
}

impl KvSegment {
    /// An empty segment that begins at position `start`, with room for `capacity` positions; it grows when that is too little.
    pub fn new(config: &DecoderConfig, start: usize, capacity: usize) -> Self {
        let piece = |_| KvPiece::new(config.num_key_value_heads, capacity, config.head_dim());
        Self { layers: (0..config.num_layers()).map(piece).collect(), start }
    }

    /// Bytes of one position.
    pub fn bytes_per_tok(config: &DecoderConfig) -> usize {
        2 * config.num_layers() * config.num_key_value_heads * config.head_dim() * size_of::<f32>()
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
        let embedded = self.embed(&ids.unsqueeze(0)?, &positions.unsqueeze(0)?)?; // [1, N, D]
        let mut stream = ResidualStream::start(embedded, self.needs);
        for (index, layer) in self.layers.iter().enumerate() {
            let mut cache = LayerRuns { layer: index, runs };
            layer.forward(&mut stream, &mut Context { rotation: rotation.as_ref(), cache: Some(&mut cache), numerics: self.numerics })?;
        }
        self.norm.forward(&stream.finish()?, self.numerics)?.squeeze(0)
    }
}

/// One layer's part of the runs' segments.
struct LayerRuns<'a, 'b> {
    layer: usize,
    runs: &'a mut [Run<'b>],
}

impl Cached for LayerRuns<'_, '_> {
    fn attend(&mut self, q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
        let layer = self.layer;
        let mut own: Vec<(&mut KvPiece, usize)> =
            self.runs.iter_mut().map(|run| (&mut run.own.layers[layer], run.ids.len())).collect();
        kernels::append_runs(&k.squeeze(0)?, &v.squeeze(0)?, &mut own)?;
        let runs: Vec<AttentionRun<'_>> = self
            .runs
            .iter()
            .map(|run| AttentionRun {
                before: run.before.iter().map(|segment| &segment.layers[layer]).collect(),
                own: &run.own.layers[layer],
                new_tok: run.ids.len(),
            })
            .collect();
        kernels::attention_runs(&q.squeeze(0)?, &runs, scale)?.to_dtype(q.dtype())?.unsqueeze(0)
    }
}
