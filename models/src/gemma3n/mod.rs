//! Gemma 3n, the shipped model with a LAuReL block: what its layers have beside those of the decoder.
//!
//! ```text
//! streams   h_0 = √D·E[id]     h_m = W_m·h_0, brought to the magnitude of h_0            m = 1..M
//! layer     p = predict(h)     n = norm(p_a)     y = (p_a + norm(attention(n)) + laurel(n)) / √2
//!           z = y + norm(mlp(norm(y)))           h = correct(p, z)
//!           h_m += norm(W·(gelu(W_g·(s ⊙ h_a)) ⊙ e_layer))                               m = 1..M
//! e         (norm(W·h_0 / √D) + √P·E'[id]) / √2, P values for every layer                per-layer embeddings
//! out       mean over m of h_m, turned back and brought to the magnitude of h_0
//! ```
//! [`altup`] has predict and correct; laurel(n) is [`laurel`]'s term `gemma3n`. The last layers read the keys and values of the last
//! layer of their kind before them. Differs: `altup_coef_clip` acts in training only, and is not applied.
//!
//! Source: the public Gemma 3n code and configs (read as behaviour); AltUp: Baykal et al. 2023; paper.md section 11.

mod altup;
mod layer;

use candle_core::{D, Result, Tensor};
use candle_nn::VarBuilder;
use laurel::{Residual, ResidualConfig};
use serde::{Deserialize, Serialize};

use self::layer::Layer;
use crate::decoder::attention::Context;
use crate::decoder::{DecoderConfig, MlpKind, NormKind};
use crate::error::{ModelError, Result as ModelResult};
use crate::layers::{Embedding, Linear, Norm};

/// Smallest mean square that a stream is divided by.
const SMALLEST_POWER: f64 = 1e-5;
/// The epsilon that [`laurel`]'s term has.
const LAUREL_EPS: f64 = 1e-6;

/// What Gemma 3n adds to the decoder's config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gemma3nConfig {
    /// Width of a per-layer embedding, P.
    pub per_layer_size: usize,
    /// Ids that have one; others take that of id 0.
    pub per_layer_vocab: usize,
    /// Streams, M.
    pub altup_inputs: usize,
    /// The stream that attention and MLP compute on.
    pub altup_active: usize,
    /// Whether the active stream is scaled before it meets the per-layer embedding.
    pub altup_correct_scale: bool,
    /// Rank of the LAuReL block.
    pub laurel_rank: usize,
    /// Last layers that have no keys and values of their own.
    pub kv_shared_layers: usize,
    /// For each layer the share of gate values that are set to zero.
    pub sparsity: Vec<f64>,
}

/// Elements of what Gemma 3n adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddedParams {
    pub(crate) embedding: usize,
    pub(crate) laurel: usize,
    pub(crate) other: usize,
}

impl Gemma3nConfig {
    pub(crate) fn validate(&self, config: &DecoderConfig) -> ModelResult<()> {
        let layers = config.num_layers();
        for (key, value) in [("per_layer_size", self.per_layer_size), ("per_layer_vocab", self.per_layer_vocab)] {
            if value == 0 {
                return Err(ModelError::config(format!("extras.gemma3n.{key}"), "at least 1", value));
            }
        }
        if self.altup_active >= self.altup_inputs {
            let expected = format!("less than altup_inputs ({})", self.altup_inputs);
            return Err(ModelError::config("extras.gemma3n.altup_active", expected, self.altup_active));
        }
        if self.sparsity.len() != layers || self.sparsity.iter().any(|share| !(0.0..1.0).contains(share)) {
            let expected = format!("one number in 0..1 per layer ({layers})");
            return Err(ModelError::config("extras.gemma3n.sparsity", expected, format!("{:?}", self.sparsity)));
        }
        let own = layers.saturating_sub(self.kv_shared_layers);
        let has_source = |layer| (0..own).any(|earlier| config.extras.is_local(earlier) == config.extras.is_local(layer));
        if own == 0 || !(own..layers).all(has_source) {
            let expected = "fewer layers than there are, with one of each kind before them";
            return Err(ModelError::config("extras.gemma3n.kv_shared_layers", expected, self.kv_shared_layers));
        }
        if self.laurel_rank == 0 || self.laurel_rank > config.hidden_size {
            let expected = format!("1..={} (hidden_size)", config.hidden_size);
            return Err(ModelError::config("extras.gemma3n.laurel_rank", expected, self.laurel_rank));
        }
        if (config.norm_eps - LAUREL_EPS).abs() > 1e-12 {
            return Err(ModelError::config("norm_eps", format!("{LAUREL_EPS:e}, which the LAuReL block has"), config.norm_eps));
        }
        let is_gemma = config.norm == NormKind::Rms
            && config.mlp == MlpKind::GegluTanh
            && config.extras.post_norms
            && config.extras.qk_norm
            && config.residual == ResidualConfig::default()
            && !config.extras.parallel_residual;
        if is_gemma {
            Ok(())
        } else {
            let expected = "norm rms, mlp geglu_tanh, extras.post_norms, extras.qk_norm and a plain residual";
            Err(ModelError::config("extras.gemma3n", expected, "another combination"))
        }
    }

    /// Elements that come on top of the decoder's.
    pub(crate) fn params(&self, config: &DecoderConfig) -> AddedParams {
        let (d, p, m, n) = (config.hidden_size, self.per_layer_size, self.altup_inputs, config.num_layers());
        let altup = m * m + m * m * m + m * d + 2 * d; // correction, prediction, router, router norm, output scale
        let per_layer = 2 * d * p + d; // gate, projection, norm
        AddedParams {
            embedding: self.per_layer_vocab * n * p,
            laurel: n * (2 * self.laurel_rank * d + d),
            other: n * (altup + per_layer) + d * n * p + p + 2 * (m - 1) * d * d,
        }
    }

    /// Weights that meet every position in a product, and LAuReL's share of them.
    pub(crate) fn matmul_weights(&self, config: &DecoderConfig) -> (u64, u64) {
        let (d, p, m, n) = (config.hidden_size, self.per_layer_size, self.altup_inputs, config.num_layers());
        let laurel = n * 2 * self.laurel_rank * d;
        // The router runs twice per layer.
        let layer = m * m + m * m * m + 2 * m * d + 2 * d * p;
        ((n * layer + laurel + d * n * p + 2 * (m - 1) * d * d) as u64, laurel as u64)
    }
}

/// Everything between embedding and final norm.
#[derive(Debug)]
pub(crate) struct Gemma3nBody {
    config: Gemma3nConfig,
    layers: Vec<Layer>,
    embed_tokens_per_layer: Embedding,
    per_layer_model_projection: Linear,
    per_layer_projection_norm: Norm,
    altup_projections: Vec<Linear>,
    altup_unembed_projections: Vec<Linear>,
}

impl Gemma3nBody {
    pub(crate) fn new(decoder: &DecoderConfig, config: &Gemma3nConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, width) = (decoder.hidden_size, decoder.num_layers() * config.per_layer_size);
        let projections = |name: &str| {
            let one = |i| Linear::new(hidden, hidden, false, &vb.pp(format!("{name}.{i}")));
            (0..config.altup_inputs - 1).map(one).collect::<Result<Vec<_>>>()
        };
        let norm = &vb.pp("per_layer_projection_norm");
        Ok(Self {
            config: config.clone(),
            layers: (0..decoder.num_layers())
                .map(|layer| Layer::new(decoder, config, layer, &vb.pp(format!("layers.{layer}"))))
                .collect::<Result<Vec<_>>>()?,
            embed_tokens_per_layer: Embedding::new(config.per_layer_vocab, width, &vb.pp("embed_tokens_per_layer"))?,
            per_layer_model_projection: Linear::new(hidden, width, false, &vb.pp("per_layer_model_projection"))?,
            per_layer_projection_norm: Norm::new(NormKind::Rms, config.per_layer_size, decoder.norm_eps, norm)?,
            altup_projections: projections("altup_projections")?,
            altup_unembed_projections: projections("altup_unembed_projections")?,
        })
    }

    /// Ids `[B, T]` and their scaled embeddings `[B, T, D]` to what the final norm reads, `[B, T, D]`.
    pub(crate) fn forward(&self, ids: &Tensor, embedded: Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let numerics = context.numerics;
        let per_layer = self.per_layer_inputs(ids, &embedded, context)?; // [B, T, N, P]
        let power = power(&embedded)?.sqrt()?;
        let mut streams = vec![embedded];
        for projection in &self.altup_projections {
            let stream = projection.forward(&streams[0], numerics)?;
            streams.push(at_magnitude(&stream, &power)?);
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let own = per_layer.narrow(2, i, 1)?.squeeze(2)?.contiguous()?; // [B, T, P]
            streams = layer.forward(streams, &own, context)?;
        }
        let magnitude = self::power(&streams[0])?.sqrt()?;
        let mut sum = streams[0].clone();
        for (projection, stream) in self.altup_unembed_projections.iter().zip(&streams[1..]) {
            sum = (sum + at_magnitude(&projection.forward(stream, numerics)?, &magnitude)?)?;
        }
        sum / self.config.altup_inputs as f64
    }

    fn per_layer_inputs(&self, ids: &Tensor, embedded: &Tensor, context: &Context<'_>) -> Result<Tensor> {
        let (batch, length, hidden) = embedded.dims3()?;
        let size = self.config.per_layer_size;
        let shape = (batch, length, self.layers.len(), size);
        let projected = self.per_layer_model_projection.forward(embedded, context.numerics)?;
        let projected = (projected * (hidden as f64).powf(-0.5))?.reshape(shape)?;
        let projected = self.per_layer_projection_norm.forward(&projected, context.numerics)?.to_dtype(embedded.dtype())?;
        let has_own = ids.lt(self.config.per_layer_vocab as u32)?;
        let ids = has_own.where_cond(ids, &ids.zeros_like()?)?;
        let table = self.embed_tokens_per_layer.forward(&ids)?.to_dtype(embedded.dtype())?.reshape(shape)?;
        (projected + (table * (size as f64).sqrt())?)? * std::f64::consts::FRAC_1_SQRT_2
    }

    pub(crate) fn residuals(&self) -> Vec<&Residual> {
        self.layers.iter().map(Layer::residual).collect()
    }

    pub(crate) fn init(&self, std: f64, output_std: f64, seed: u64) -> Result<()> {
        self.layers.iter().try_for_each(|layer| layer.init(std, output_std, seed))?;
        self.embed_tokens_per_layer.init(std, seed)?;
        self.per_layer_model_projection.init(std, seed)?;
        self.per_layer_projection_norm.init(seed)?;
        self.altup_projections.iter().chain(&self.altup_unembed_projections).try_for_each(|map| map.init(std, seed))
    }
}

/// Mean square of every position, `[B, T, 1]`.
fn power(x: &Tensor) -> Result<Tensor> {
    x.sqr()?.mean_keepdim(D::Minus1)
}

/// `x` at a root mean square of `magnitude`.
fn at_magnitude(x: &Tensor, magnitude: &Tensor) -> Result<Tensor> {
    x.broadcast_mul(magnitude)?.broadcast_div(&power(x)?.maximum(SMALLEST_POWER)?.sqrt()?)
}
