//! Causal self-attention with grouped key/value heads.
//!
//! ```text
//! q, k, v = x·Wqᵀ, x·Wkᵀ, x·Wvᵀ     q, k turned by position (rotary)     y = softmax(q·kᵀ / √d, causal)·v · Woᵀ
//! ```
//! Query head h reads key/value head `⌊h·K/H⌋`. Source: Vaswani et al. 2017; grouped heads: Ainslie et al. 2023
//! (arXiv 2305.13245).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use kernels::Numerics;

use super::cache::LayerCache;
use super::config::DecoderConfig;
use crate::layers::Linear;

/// What a layer needs to know about where its input stands in the sequence.
pub(crate) struct Context<'a> {
    /// `cos`, `sin` of the positions, for rotary networks.
    pub(crate) rotation: Option<&'a (Tensor, Tensor)>,
    /// Keys and values of this layer so far; absent for the training form.
    pub(crate) cache: Option<LayerCache<'a>>,
    /// How products are computed.
    pub(crate) numerics: Numerics,
}

#[derive(Debug)]
pub(crate) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
}

impl Attention {
    pub(crate) fn new(config: &DecoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim());
        let (q, kv) = (config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim);
        Ok(Self {
            q_proj: Linear::new(hidden, q, config.attention_bias, &vb.pp("q_proj"))?,
            k_proj: Linear::new(hidden, kv, config.attention_bias, &vb.pp("k_proj"))?,
            v_proj: Linear::new(hidden, kv, config.attention_bias, &vb.pp("v_proj"))?,
            o_proj: Linear::new(q, hidden, config.attention_output_bias, &vb.pp("o_proj"))?,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim,
        })
    }

    /// `[B, T, D] -> [B, T, D]`.
    pub(crate) fn forward(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let (batch, new_tok, _) = x.dims3()?;
        let numerics = context.numerics;
        let heads = |y: Tensor, count: usize| kernels::reshape(&y, (batch, new_tok, count, self.head_dim)); // [B, T, heads, d]
        let q = heads(self.q_proj.forward(x, numerics)?, self.num_attention_heads)?;
        let k = heads(self.k_proj.forward(x, numerics)?, self.num_key_value_heads)?;
        let v = heads(self.v_proj.forward(x, numerics)?, self.num_key_value_heads)?;
        let (q, k) = match context.rotation {
            Some((cos, sin)) => (kernels::rotary(&q, cos, sin)?, kernels::rotary(&k, cos, sin)?),
            None => (q, k),
        };
        let scale = (self.head_dim as f64).powf(-0.5);
        let y = match &mut context.cache {
            None => kernels::causal_attention(&q, &k, &v, scale)?,
            Some(cache) => cache.attend(&q, &k, &v, scale)?,
        };
        let y = kernels::reshape(&y, (batch, new_tok, self.num_attention_heads * self.head_dim))?;
        self.o_proj.forward(&y, numerics)
    }

    pub(crate) fn init(&self, std: f64, output_std: f64, seed: u64) -> Result<()> {
        for projection in [&self.q_proj, &self.k_proj, &self.v_proj] {
            projection.init(std, seed)?;
        }
        self.o_proj.init(output_std, seed)
    }
}
