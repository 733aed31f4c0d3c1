//! What published families add to the Llama and the GPT form. Everything is off by default, and then absent from configs.
//!
//! | field | Qwen 3 | GPT-NeoX | Gemma 2 | Gemma 3 | Gemma 3n |
//! |---|---|---|---|---|---|
//! | `qk_norm` | ● | | | ● | ● |
//! | `parallel_residual`, `rotary_dim` | | ● | | | |
//! | `post_norms`, `embedding_scale`, `query_scale`, `local` | | | ● | ● | ● |
//! | `attention_softcap` | | | ● | | |
//! | `logit_softcap` | | | ● | | ● |
//! | `gemma3n` | | | | | ● |
//!
//! Sources: the published configs and model cards; Gemma 2: arXiv 2408.00118, Gemma 3: arXiv 2503.19786, GPT-NeoX: arXiv 2204.06745.

use serde::{Deserialize, Serialize};

use super::config::{DecoderConfig, Positions};
use crate::error::{ModelError, Result};
use crate::gemma3n::Gemma3nConfig;

/// Additions to the two forms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extras {
    /// RMS norms of each query and key head, before the rotation; 2d parameters per layer.
    pub qk_norm: bool,
    /// Attention and MLP both read the layer's input: `x + attention(norm(x)) + mlp(norm'(x))`.
    pub parallel_residual: bool,
    /// Dimensions of a head that turn with the position; all of them when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary_dim: Option<usize>,
    /// Norms of what attention and MLP return, before it joins the stream; 2D parameters per layer.
    pub post_norms: bool,
    /// Factor of the token embedding, not of a head that shares its table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_scale: Option<f64>,
    /// Factor of the attention scores instead of `1/√d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_scale: Option<f64>,
    /// c in `c·tanh(score / c)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_softcap: Option<f64>,
    /// c in `c·tanh(logit / c)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_softcap: Option<f64>,
    /// Layers that see a window of the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// AltUp, per-layer embeddings, the LAuReL block and shared keys and values of Gemma 3n.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gemma3n: Option<Gemma3nConfig>,
}

/// Layers with local attention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Positions a query sees, its own included.
    pub window: usize,
    /// For each layer whether it is local.
    pub layers: Vec<bool>,
    /// Rotary base of local layers, without scaling; that of the other layers when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theta: Option<f64>,
}

impl Extras {
    /// Whether nothing is added.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a layer is local.
    pub(crate) fn is_local(&self, layer: usize) -> bool {
        self.local.as_ref().is_some_and(|local| local.layers.get(layer) == Some(&true))
    }

    pub(super) fn validate(&self, config: &DecoderConfig) -> Result<()> {
        if self.parallel_residual && config.residual.placement != laurel::Placement::Layer {
            return Err(ModelError::config("extras.parallel_residual", "residual placement `layer`", "another"));
        }
        if self.parallel_residual && !config.attention_carry.is_empty() {
            return Err(ModelError::config("extras.parallel_residual", "no attention_carry", "one"));
        }
        if let Some(turned) = self.rotary_dim {
            let fits = turned.is_multiple_of(2) && (2..=config.head_dim()).contains(&turned);
            if !fits || !matches!(config.positions, Positions::Rotary { .. }) {
                let expected = format!("an even number in 2..={} (head_dim) and rotary positions", config.head_dim());
                return Err(ModelError::config("extras.rotary_dim", expected, turned));
            }
        }
        let positive = [
            ("extras.embedding_scale", self.embedding_scale),
            ("extras.query_scale", self.query_scale),
            ("extras.attention_softcap", self.attention_softcap),
            ("extras.logit_softcap", self.logit_softcap),
        ];
        for (key, value) in positive {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(ModelError::config(key, "a finite number above 0", value));
            }
        }
        if let Some(local) = &self.local {
            if local.window == 0 {
                return Err(ModelError::config("extras.local.window", "at least 1", 0));
            }
            if local.layers.len() != config.num_layers() {
                let expected = format!("one entry per layer ({})", config.num_layers());
                return Err(ModelError::config("extras.local.layers", expected, format!("{} entries", local.layers.len())));
            }
            if let Some(theta) = local.theta.filter(|theta| !(theta.is_finite() && *theta > 1.0)) {
                return Err(ModelError::config("extras.local.theta", "a finite number above 1", theta));
            }
        }
        self.gemma3n.as_ref().map_or(Ok(()), |gemma3n| gemma3n.validate(config))
    }
}
