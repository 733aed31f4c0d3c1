//! `--max-memory`: what a model takes while it is asked, known from its config before a weight is read.
//!
//! ```text
//! weights + batch_tokens · activations + logits + positions · bytes per position ≤ --max-memory
//! ```
//! The positions that are left bound the longest request; what one request does not need is room for others beside it
//! ([`Evaluator::with_max_tok`](super::Evaluator::with_max_tok)).

use anyhow::anyhow;
use candle_core::{DType, Device};
use models::{DecoderConfig, KvSegment};

use super::score::{Budget, LOGITS_ELEMENTS};
use crate::error::Hint as _;

/// A model's bytes within a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    max_bytes: u64,
    weights: u64,
    activations: u64,
    logits: u64,
    per_tok: u64,
    longest: u64,
}

impl Memory {
    /// A model within `max_bytes`.
    ///
    /// # Errors
    /// When not even one position fits.
    pub fn new(config: &DecoderConfig, dtype: DType, device: &Device, max_bytes: u64) -> anyhow::Result<Self> {
        // A tied table is kept twice where matrices are packed, which is f32 on the CPU: rows to look up, panels to multiply with.
        let is_packed = dtype == DType::F32 && device.is_cpu();
        let table = if config.tie_word_embeddings && is_packed { config.vocab_size * config.hidden_size } else { 0 };
        // bf16 matrices are read as they are stored.
        let value = if dtype == DType::BF16 { 2 } else { dtype.size_in_bytes().max(4) };
        // Of a layer at once: the stream with its history, queries, keys, values, attention's result, and three of the feed-forward's width.
        let width = (6 + config.residual.cost(config.hidden_size).history) * config.hidden_size
            + (3 * config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim()
            + 3 * config.mlp_width();
        let budget = Budget::default();
        let memory = Self {
            max_bytes,
            weights: ((config.num_params().total + table) * value) as u64,
            activations: (4 * width * budget.batch_tokens) as u64,
            logits: 2 * 4 * LOGITS_ELEMENTS.max(config.vocab_size * budget.decode_rows) as u64,
            per_tok: KvSegment::bytes_per_tok(config) as u64,
            longest: config.max_position_embeddings as u64,
        };
        if memory.max_tok() == 0 { Err(memory.refusal(1)) } else { Ok(memory) }
    }

    fn fixed(&self) -> u64 {
        self.weights + self.activations + self.logits
    }

    /// Cached positions that fit.
    pub fn max_tok(&self) -> usize {
        (self.max_bytes.saturating_sub(self.fixed()) / self.per_tok) as usize
    }

    /// The error for a request of that many positions, which does not fit.
    pub fn refusal(&self, request_tok: usize) -> anyhow::Error {
        let Self { max_bytes, weights, activations, logits, per_tok, .. } = self;
        let needed = self.fixed() + request_tok as u64 * per_tok;
        let parts = format!("weights {weights}, activations {activations}, logits {logits}, {per_tok} per position");
        anyhow!(
            "--max-memory: expected at least {needed} bytes for a request of {request_tok} positions ({parts}), found {max_bytes}"
        )
        .hint("a smaller model, fewer examples in the prompt, or more memory")
    }

    /// The bound in words.
    pub fn describe(&self) -> String {
        let cached = (self.max_tok() as u64).min(Budget::default().cache_tokens as u64 + self.longest);
        let gigabytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1e9);
        format!(
            "memory: at most {} GB: weights {}, activations {}, {cached} cached positions {}",
            gigabytes(self.fixed() + cached * self.per_tok),
            gigabytes(self.weights),
            gigabytes(self.activations + self.logits),
            gigabytes(cached * self.per_tok),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(config: &DecoderConfig, dtype: DType, max_bytes: u64) -> anyhow::Result<Memory> {
        Memory::new(config, dtype, &Device::Cpu, max_bytes)
    }

    #[test]
    fn a_tied_table_is_kept_twice_in_f32_only() {
        let config = DecoderConfig { tie_word_embeddings: true, ..DecoderConfig::table5(2) };
        let (params, table) = (config.num_params().total as u64, (config.vocab_size * config.hidden_size) as u64);
        assert_eq!(memory(&config, DType::F32, u64::MAX).unwrap().weights, 4 * (params + table));
        assert_eq!(memory(&config, DType::BF16, u64::MAX).unwrap().weights, 2 * params);
    }

    #[test]
    fn a_long_model_is_refused_for_the_length_of_requests_not_for_its_own() {
        let config = DecoderConfig { max_position_embeddings: 131_072, ..DecoderConfig::table5(2) };
        let whole = memory(&config, DType::F32, u64::MAX).unwrap();
        let room = |tok: u64| whole.fixed() + tok * whole.per_tok;
        assert_eq!(memory(&config, DType::F32, room(300)).unwrap().max_tok(), 300);
        let error = memory(&config, DType::F32, room(1) - 1).unwrap_err().to_string();
        assert!(error.contains(&format!("expected at least {} bytes for a request of 1 positions", room(1))), "{error}");
    }
}
