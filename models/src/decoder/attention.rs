//! Causal self-attention with grouped key/value heads.
//!
//! ```text
//! q, k, v = x·Wqᵀ, x·Wkᵀ, x·Wvᵀ     q, k turned by position (rotary)     y = softmax(q·kᵀ / √d, causal)·v · Woᵀ
//! ```
//! Query head h reads key/value head `⌊h·K/H⌋`. Source: Vaswani et al. 2017; grouped heads: Ainslie et al. 2023
//! (arXiv 2305.13245). What published families change ([`super::Extras`]): norms of the heads, another scale, capped scores, a
//! window, keys and values of an earlier layer.

use candle_core::{DType, Result, Tensor, bail};
use candle_nn::VarBuilder;
use kernels::Numerics;

use super::config::{DecoderConfig, NormKind};
use super::masked::{self, Scores};
use crate::layers::{Linear, Norm};

/// Keys and values that came before the new tokens, of every layer.
pub(crate) trait Cached {
    /// Appends new keys and values `[B, T, K, d]` to those of `layer` (none where another layer has appended them in this pass), then
    /// lets the queries `[B, T, H, d]` attend to everything up to their own position.
    fn attend(&mut self, layer: usize, q: &Tensor, new: Option<(&Tensor, &Tensor)>, scores: Scores) -> Result<Tensor>;
}

/// What a layer needs to know about where its input stands in the sequence.
pub(crate) struct Context<'a> {
    /// `cos`, `sin` of the positions, for rotary networks.
    pub(crate) rotation: Option<&'a (Tensor, Tensor)>,
    /// The same for local layers where their base differs.
    pub(crate) local_rotation: Option<&'a (Tensor, Tensor)>,
    /// Keys and values so far; absent for the training form.
    pub(crate) cache: Option<&'a mut dyn Cached>,
    /// Keys and values that later layers share, by layer, in the training form.
    pub(crate) shared: Vec<(usize, Tensor, Tensor)>,
    /// How products are computed.
    pub(crate) numerics: Numerics,
}

/// Keys and values of a layer's own.
#[derive(Debug)]
struct KeyValue {
    k_proj: Linear,
    v_proj: Linear,
    k_norm: Option<Norm>,
    /// Values are normed without a weight: ones `[d]` stand for it.
    v_norm: Option<Tensor>,
}

#[derive(Debug)]
pub(crate) struct Attention {
    q_proj: Linear,
    q_norm: Option<Norm>,
    /// Absent where an earlier layer's are read.
    own: Option<KeyValue>,
    o_proj: Linear,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    norm_eps: f64,
    /// The layer whose keys and values are read.
    source: usize,
    /// Whether later layers read this one's.
    is_shared: bool,
    is_local: bool,
    scores: Scores,
}

impl Attention {
    pub(crate) fn new(config: &DecoderConfig, layer: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, head_dim, extras) = (config.hidden_size, config.head_dim(), &config.extras);
        let (q, kv) = (config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim);
        let norm =
            |name: &str| extras.qk_norm.then(|| Norm::new(NormKind::Rms, head_dim, config.norm_eps, &vb.pp(name))).transpose();
        let source = config.key_value_layer(layer);
        let own = if source == layer {
            Some(KeyValue {
                k_proj: Linear::new(hidden, kv, config.attention_bias, &vb.pp("k_proj"))?,
                v_proj: Linear::new(hidden, kv, config.attention_bias, &vb.pp("v_proj"))?,
                k_norm: norm("k_norm")?,
                v_norm: extras.gemma3n.is_some().then(|| Tensor::ones(head_dim, vb.dtype(), vb.device())).transpose()?,
            })
        } else {
            None
        };
        let is_local = extras.is_local(layer);
        Ok(Self {
            q_proj: Linear::new(hidden, q, config.attention_bias, &vb.pp("q_proj"))?,
            q_norm: norm("q_norm")?,
            own,
            o_proj: Linear::new(q, hidden, config.attention_output_bias, &vb.pp("o_proj"))?,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim,
            norm_eps: config.norm_eps,
            source,
            is_shared: (layer + 1..config.num_layers()).any(|later| config.key_value_layer(later) == layer),
            is_local,
            scores: Scores {
                scale: extras.query_scale.unwrap_or_else(|| (head_dim as f64).powf(-0.5)),
                softcap: extras.attention_softcap,
                window: extras.local.as_ref().filter(|_| is_local).map(|local| local.window),
            },
        })
    }

    /// `[B, T, D] -> [B, T, D]`.
    pub(crate) fn forward(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let (batch, new_tok, _) = x.dims3()?;
        let numerics = context.numerics;
        let rotation = context.local_rotation.filter(|_| self.is_local).or(context.rotation);
        let turn = |x: Tensor| rotation.map_or_else(|| Ok(x.clone()), |(cos, sin)| kernels::rotary(&x, cos, sin));
        let heads = |y: Tensor, count: usize| kernels::reshape(&y, (batch, new_tok, count, self.head_dim)); // [B, T, heads, d]
        let normed = |y: Tensor, norm: &Option<Norm>| norm.as_ref().map_or_else(|| Ok(y.clone()), |n| n.forward(&y, numerics));
        let q = heads(self.q_proj.forward(x, numerics)?, self.num_attention_heads)?;
        let q = turn(normed(q, &self.q_norm)?)?;
        let own = match &self.own {
            None => None,
            Some(own) => {
                let k = heads(own.k_proj.forward(x, numerics)?, self.num_key_value_heads)?;
                let v = heads(own.v_proj.forward(x, numerics)?, self.num_key_value_heads)?;
                let v = match &own.v_norm {
                    Some(ones) => kernels::rms_norm(&v, ones, self.norm_eps)?,
                    None => v,
                };
                Some((turn(normed(k, &own.k_norm)?)?, v))
            }
        };
        let y = if let Some(cache) = &mut context.cache {
            cache.attend(self.source, &q, own.as_ref().map(|(k, v)| (k, v)), self.scores)?
        } else {
            let shared = || context.shared.iter().find(|(layer, ..)| *layer == self.source).map(|(_, k, v)| (k, v));
            let Some((k, v)) = own.as_ref().map(|(k, v)| (k, v)).or_else(shared) else {
                bail!("keys and values of layer {} are not there yet", self.source)
            };
            self.attend(&q, k, v)?
        };
        if let (true, None, Some((k, v))) = (self.is_shared, &context.cache, own) {
            context.shared.push((self.source, k, v));
        }
        let y = kernels::reshape(&y, (batch, new_tok, self.num_attention_heads * self.head_dim))?;
        self.o_proj.forward(&y, numerics)
    }

    pub(crate) fn pack(&mut self) -> Result<()> {
        let own = self.own.iter_mut().flat_map(|own| [&mut own.k_proj, &mut own.v_proj]);
        [&mut self.q_proj, &mut self.o_proj].into_iter().chain(own).try_for_each(Linear::pack)
    }

    /// The training form.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        if self.scores.is_plain(q.dim(1)?) {
            return kernels::causal_attention(q, k, v, self.scores.scale);
        }
        let wide = |x: &Tensor| if x.dtype() == DType::BF16 { x.to_dtype(DType::F32) } else { Ok(x.clone()) };
        kernels::cast(&masked::composed(&wide(q)?, &wide(k)?, &wide(v)?, self.scores)?, q.dtype())
    }

    pub(crate) fn init(&self, std: f64, output_std: f64, seed: u64) -> Result<()> {
        self.q_proj.init(std, seed)?;
        if let Some(own) = &self.own {
            own.k_proj.init(std, seed)?;
            own.v_proj.init(std, seed)?;
            own.k_norm.as_ref().map_or(Ok(()), |norm| norm.init(seed))?;
        }
        self.q_norm.as_ref().map_or(Ok(()), |norm| norm.init(seed))?;
        self.o_proj.init(output_std, seed)
    }
}
