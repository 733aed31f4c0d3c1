//! Shape and options of a decoder, their checks, and the presets of this project (paper.md section 9.4).
//!
//! One config covers two forms: the **Llama form** (RMSNorm, rotary positions, SwiGLU) and the **GPT form** (LayerNorm,
//! learned positions, a two-matrix MLP). Every difference is a field, so mixtures are allowed. Field names are those of
//! published `config.json` files where the field has one.

use laurel::ResidualConfig;
use serde::{Deserialize, Serialize};

use super::extras::Extras;
use crate::error::{ModelError, Result};

/// Normalisation before attention, before the MLP and before the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// `x / sqrt(mean(x²) + eps) · weight`; D parameters.
    Rms,
    /// `(x − mean) / sqrt(var + eps) · weight + bias`; 2D parameters.
    Layer,
}

/// How a token's position enters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Positions {
    /// Rotation of queries and keys, halves layout (Su et al. 2021); no parameters.
    Rotary {
        /// Base of the geometric series of wave lengths.
        theta: f64,
        /// Adjustment for contexts longer than those trained on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scaling: Option<RotaryScaling>,
    },
    /// A learned vector per position, added to the embedding; `max_position_embeddings · D` parameters.
    Learned {},
}

/// Adjustments of the rotary frequencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RotaryScaling {
    /// Every frequency divided by `factor`.
    Linear {
        /// Ratio of the new to the trained context.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a linear blend between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wave lengths above `original / low_freq_factor` count as low frequency.
        low_freq_factor: f64,
        /// Wave lengths below `original / high_freq_factor` count as high frequency.
        high_freq_factor: f64,
        /// Context of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
    /// YaRN (Peng et al. 2023, arXiv 2309.00071): pairs that turn fewer than `beta_slow` times over the original context are divided
    /// by `factor`, those above `beta_fast` kept, a linear blend by pair between; cos and sin are multiplied by `attention_factor`.
    Yarn {
        /// Ratio of the new to the trained context.
        factor: f64,
        /// Context of the original training, in tokens.
        original_max_position_embeddings: usize,
        /// Turns above which a frequency is kept.
        beta_fast: f64,
        /// Turns below which it is divided.
        beta_slow: f64,
        /// Magnitude of the rotated vectors.
        attention_factor: f64,
    },
}

impl RotaryScaling {
    /// Factor of cos and sin.
    pub(crate) fn magnitude(&self) -> f64 {
        match self {
            Self::Yarn { attention_factor, .. } => *attention_factor,
            Self::Linear { .. } | Self::Llama3 { .. } => 1.0,
        }
    }
}

/// The feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MlpKind {
    /// `down(silu(gate(x)) ⊙ up(x))`: three matrices.
    Swiglu,
    /// `down(gelu(gate(x)) ⊙ up(x))` with the tanh approximation: three matrices.
    GegluTanh,
    /// `down(gelu(up(x)))` with the tanh approximation (`gelu_new`): two matrices.
    #[serde(alias = "gelu-tanh")]
    GeluTanh,
    /// `down(gelu(up(x)))` with the exact error function: two matrices.
    #[serde(alias = "gelu-erf")]
    GeluErf,
}

impl MlpKind {
    /// Matrices of size `F·D`.
    pub fn num_matrices(self) -> usize {
        match self {
            Self::Swiglu | Self::GegluTanh => 3,
            Self::GeluTanh | Self::GeluErf => 2,
        }
    }
}

/// A decoder-only language model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Width of the residual stream, D.
    pub hidden_size: usize,
    /// Width of the MLP, F.
    pub intermediate_size: usize,
    /// Transformer layers, N.
    pub num_hidden_layers: usize,
    /// Query heads, H.
    pub num_attention_heads: usize,
    /// Key and value heads, K; a divisor of H.
    pub num_key_value_heads: usize,
    /// Width of one head, d; `hidden_size / num_attention_heads` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Entries of the vocabulary, V.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Kind of every norm.
    pub norm: NormKind,
    /// Added to the mean square (or variance) inside norms.
    pub norm_eps: f64,
    /// Position scheme.
    pub positions: Positions,
    /// Kind of the MLP.
    pub mlp: MlpKind,
    /// Whether the head shares the embedding table.
    pub tie_word_embeddings: bool,
    /// Whether the head adds a bias of size V.
    #[serde(default)]
    pub head_bias: bool,
    /// Whether the query, key and value maps have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the attention output map has a bias.
    #[serde(default)]
    pub attention_output_bias: bool,
    /// Whether the MLP maps have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Naive scaling, the `naive+n` control: layers added on top of `num_hidden_layers`. The scale of the initial output
    /// maps still follows `num_hidden_layers`, so the common layers start as in the reference.
    #[serde(default)]
    pub extra_layers: usize,
    /// Naive widening, the `wide+r` control: units added to `intermediate_size` in every layer. In a two-matrix MLP
    /// `r` units have exactly the `2rD` parameters of one low-rank pair (paper.md section 12.2).
    #[serde(default)]
    pub mlp_extra: usize,
    /// The residual connection.
    #[serde(default)]
    pub residual: ResidualConfig,
    /// Weight c of the attention increment in each layer's outgoing sum, `x + c·a + m`, while the MLP reads `x + a`;
    /// empty means 1 everywhere. Set by [`crate::fold()`] for placement `layer`, not meant for training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attention_carry: Vec<f64>,
    /// What a published family adds.
    #[serde(default, skip_serializing_if = "Extras::is_none")]
    pub extras: Extras,
}

impl DecoderConfig {
    /// Width of one head, d.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Layers that are built: `num_hidden_layers + extra_layers`.
    pub fn num_layers(&self) -> usize {
        self.num_hidden_layers + self.extra_layers
    }

    /// Width of the MLP that is built: `intermediate_size + mlp_extra`.
    pub fn mlp_width(&self) -> usize {
        self.intermediate_size + self.mlp_extra
    }

    /// The architecture choice as tables show it: `plain`, `rw+lr`, `naive+1`, `wide+8`.
    pub fn variant(&self) -> String {
        let residual = self.residual.variant();
        let mut parts = Vec::new();
        if self.extra_layers > 0 {
            parts.push(format!("naive+{}", self.extra_layers));
        }
        if self.mlp_extra > 0 {
            parts.push(format!("wide+{}", self.mlp_extra));
        }
        if parts.is_empty() || residual != "plain" {
            parts.push(residual);
        }
        parts.join("+")
    }

    /// Checks every field; the first problem is returned.
    ///
    /// # Errors
    /// [`ModelError::Config`] with key, expected and found.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(ModelError::config(key, "at least 1", value));
            }
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(ModelError::config(
                "num_attention_heads",
                format!("a divisor of hidden_size ({})", self.hidden_size),
                self.num_attention_heads,
            )
            .with_hint("or set head_dim"));
        }
        if self.head_dim == Some(0) {
            return Err(ModelError::config("head_dim", "at least 1", 0));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(ModelError::config(
                "num_key_value_heads",
                format!("a divisor of num_attention_heads ({})", self.num_attention_heads),
                self.num_key_value_heads,
            ));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(ModelError::config("norm_eps", "a number between 0 and 1, both excluded", self.norm_eps));
        }
        self.validate_positions()?;
        if !self.attention_carry.is_empty() && self.attention_carry.len() != self.num_layers() {
            return Err(ModelError::config(
                "attention_carry",
                format!("no entry or one per layer ({})", self.num_layers()),
                format!("{} entries", self.attention_carry.len()),
            ));
        }
        self.extras.validate(self)?;
        self.validate_residual()
    }

    /// The layer whose keys and values a layer reads: its own, or the last of its kind before the sharing ones (Gemma 3n).
    pub(crate) fn key_value_layer(&self, layer: usize) -> usize {
        let shared = self.extras.gemma3n.as_ref().map_or(0, |gemma3n| gemma3n.kv_shared_layers);
        let own = self.num_layers().saturating_sub(shared);
        if layer < own {
            return layer;
        }
        (0..own).rev().find(|&earlier| self.extras.is_local(earlier) == self.extras.is_local(layer)).unwrap_or(layer)
    }

    fn validate_residual(&self) -> Result<()> {
        self.residual
            .validate(self.hidden_size)
            .map_err(|error| ModelError::config(format!("residual.{}", error.key), error.expected, error.found))
    }

    fn validate_positions(&self) -> Result<()> {
        let Positions::Rotary { theta, scaling } = &self.positions else { return Ok(()) };
        if !self.head_dim().is_multiple_of(2) {
            return Err(ModelError::config("head_dim", "an even number (rotary positions turn pairs)", self.head_dim()));
        }
        if !(theta.is_finite() && *theta > 1.0) {
            return Err(ModelError::config("positions.theta", "a finite number above 1", theta));
        }
        let factor = match scaling {
            None => return Ok(()),
            Some(RotaryScaling::Linear { factor }) => *factor,
            Some(RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, .. }) => {
                if !(*low_freq_factor > 0.0 && high_freq_factor > low_freq_factor) {
                    return Err(ModelError::config(
                        "positions.scaling.high_freq_factor",
                        format!("a number above low_freq_factor ({low_freq_factor}), both positive"),
                        high_freq_factor,
                    ));
                }
                *factor
            }
            Some(RotaryScaling::Yarn { factor, original_max_position_embeddings, beta_fast, beta_slow, attention_factor }) => {
                if *original_max_position_embeddings == 0 || !(*beta_slow > 0.0 && beta_fast > beta_slow) {
                    return Err(ModelError::config(
                        "positions.scaling.beta_fast",
                        format!("a number above beta_slow ({beta_slow}), both positive, and an original context"),
                        beta_fast,
                    ));
                }
                if !(attention_factor.is_finite() && *attention_factor > 0.0) {
                    return Err(ModelError::config(
                        "positions.scaling.attention_factor",
                        "a finite number above 0",
                        attention_factor,
                    ));
                }
                *factor
            }
        };
        if factor.is_finite() && factor >= 1.0 {
            Ok(())
        } else {
            Err(ModelError::config("positions.scaling.factor", "a finite number of at least 1", factor))
        }
    }
}

/// Shapes this project measures at (ours; the paper publishes none).
impl DecoderConfig {
    /// GPT form that reproduces both printed baseline counts of the paper's Table 5: 157,197,056 parameters with 24
    /// layers, 179,229,440 with 28 (paper.md section 9.3; the head count is our choice).
    pub fn table5(num_hidden_layers: usize) -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 2048,
            num_hidden_layers,
            num_attention_heads: 12,
            num_key_value_heads: 12,
            head_dim: None,
            vocab_size: 32_000,
            max_position_embeddings: 512,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            positions: Positions::Learned {},
            mlp: MlpKind::GeluTanh,
            tie_word_embeddings: true,
            head_bias: true,
            attention_bias: false,
            attention_output_bias: false,
            mlp_bias: false,
            extra_layers: 0,
            mlp_extra: 0,
            residual: ResidualConfig::default(),
            attention_carry: Vec::new(),
            extras: Extras::default(),
        }
    }

    /// Llama form of 1,104,218,112 parameters, our stand-in for the paper's LLM-1B.
    pub fn llama_1b() -> Self {
        Self::llama(2048, 8192, 16, 32, 8)
    }

    /// Llama form of 3,938,920,960 parameters, our stand-in for the paper's LLM-4B.
    pub fn llama_4b() -> Self {
        Self::llama(2560, 10_240, 40, 20, 4)
    }

    fn llama(hidden_size: usize, intermediate_size: usize, layers: usize, heads: usize, key_value_heads: usize) -> Self {
        Self {
            hidden_size,
            intermediate_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: key_value_heads,
            head_dim: None,
            vocab_size: 32_000,
            max_position_embeddings: 2048,
            norm: NormKind::Rms,
            norm_eps: 1e-5,
            positions: Positions::Rotary { theta: 10_000.0, scaling: None },
            mlp: MlpKind::Swiglu,
            tie_word_embeddings: false,
            head_bias: false,
            attention_bias: false,
            attention_output_bias: false,
            mlp_bias: false,
            extra_layers: 0,
            mlp_extra: 0,
            residual: ResidualConfig::default(),
            attention_carry: Vec::new(),
            extras: Extras::default(),
        }
    }

    /// The same network with another residual connection.
    #[must_use]
    pub fn with_residual(mut self, residual: ResidualConfig) -> Self {
        self.residual = residual;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut DecoderConfig)) -> String {
        let mut config = DecoderConfig::llama_1b();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn presets_are_valid() {
        for config in [DecoderConfig::table5(28), DecoderConfig::llama_1b(), DecoderConfig::llama_4b()] {
            config.validate().unwrap();
        }
    }

    #[test]
    fn variants_name_what_differs_from_a_plain_network() {
        let with = |extra_layers, mlp_extra, preset: &str| {
            let residual = ResidualConfig::preset(preset, 4, 3).unwrap();
            DecoderConfig { extra_layers, mlp_extra, residual, ..DecoderConfig::llama_1b() }.variant()
        };
        assert_eq!([with(0, 0, "plain"), with(0, 0, "rw+lr"), with(1, 0, "plain")], ["plain", "rw+lr", "naive+1"]);
        assert_eq!([with(0, 8, "plain"), with(1, 8, "rw")], ["wide+8", "naive+1+wide+8+rw"]);
    }

    #[test]
    fn errors_name_key_expected_and_found() {
        assert_eq!(problem(|c| c.vocab_size = 0), "vocab_size: expected at least 1, found 0");
        assert_eq!(
            problem(|c| c.num_key_value_heads = 5),
            "num_key_value_heads: expected a divisor of num_attention_heads (32), found 5"
        );
        assert_eq!(
            problem(|c| c.num_attention_heads = 3),
            "num_attention_heads: expected a divisor of hidden_size (2048), found 3\nhint: or set head_dim"
        );
        assert_eq!(
            problem(|c| c.head_dim = Some(63)),
            "head_dim: expected an even number (rotary positions turn pairs), found 63"
        );
        assert_eq!(
            problem(|c| c.positions = Positions::Rotary { theta: f64::NAN, scaling: None }),
            "positions.theta: expected a finite number above 1, found NaN"
        );
        assert_eq!(problem(|c| c.norm_eps = 0.0), "norm_eps: expected a number between 0 and 1, both excluded, found 0");
        assert_eq!(
            problem(|c| c.residual = ResidualConfig::preset("lr", 4096, 3).unwrap()),
            "residual.augment[0].rank: expected 1..=2048 (the residual's width), found 4096"
        );
        assert_eq!(
            problem(|c| c.attention_carry = vec![1.0]),
            "attention_carry: expected no entry or one per layer (16), found 1 entries"
        );
    }
}
