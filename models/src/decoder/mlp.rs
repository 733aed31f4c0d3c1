//! The feed-forward part of a layer.
//!
//! ```text
//! swiglu       y = (silu(x·Wgᵀ) ⊙ x·Wuᵀ) · Wdᵀ      Shazeer 2020, arXiv 2002.05202
//! geglu_tanh   y = (gelu(x·Wgᵀ) ⊙ x·Wuᵀ) · Wdᵀ      the same, tanh approximation
//! gelu_tanh    y = gelu(x·Wuᵀ) · Wdᵀ                  Hendrycks and Gimpel 2016, arXiv 1606.08415, tanh approximation
//! gelu_erf     the same with the error function
//! ```

use candle_core::{D, Result, Tensor};
use candle_nn::VarBuilder;
use kernels::Numerics;

use super::config::{DecoderConfig, MlpKind};
use crate::layers::Linear;

#[derive(Debug)]
pub(crate) struct Mlp {
    kind: MlpKind,
    gate_proj: Option<Linear>,
    up_proj: Linear,
    down_proj: Linear,
    /// Standard deviations above the mean below which a gate value counts as zero (Gemma 3n).
    cutoff: Option<f64>,
}

impl Mlp {
    pub(crate) fn new(config: &DecoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, width, bias) = (config.hidden_size, config.mlp_width(), config.mlp_bias);
        let gate_proj = match config.mlp {
            MlpKind::Swiglu | MlpKind::GegluTanh => Some(Linear::new(hidden, width, bias, &vb.pp("gate_proj"))?),
            MlpKind::GeluTanh | MlpKind::GeluErf => None,
        };
        Ok(Self {
            kind: config.mlp,
            gate_proj,
            up_proj: Linear::new(hidden, width, bias, &vb.pp("up_proj"))?,
            down_proj: Linear::new(width, hidden, bias, &vb.pp("down_proj"))?,
            cutoff: None,
        })
    }

    /// Keeps about the `1 − sparsity` largest gate values of each position: those above `mean + Φ⁻¹(sparsity)·std`, less that bound.
    pub(crate) fn with_sparsity(self, sparsity: f64) -> Self {
        let quantile = std::f64::consts::SQRT_2 * candle_core::cpu::erf::erf_inv(2.0 * sparsity - 1.0);
        Self { cutoff: (sparsity > 0.0).then_some(quantile), ..self }
    }

    fn sparse(&self, gate: Tensor) -> Result<Tensor> {
        let Some(cutoff) = self.cutoff else { return Ok(gate) };
        let mean = gate.mean_keepdim(D::Minus1)?;
        let centred = gate.broadcast_sub(&mean)?;
        let std = centred.sqr()?.mean_keepdim(D::Minus1)?.sqrt()?;
        gate.broadcast_sub(&(mean + (std * cutoff)?)?)?.relu()
    }

    /// `[B, T, D] -> [B, T, D]`.
    pub(crate) fn forward(&self, x: &Tensor, numerics: Numerics) -> Result<Tensor> {
        let up = self.up_proj.forward(x, numerics)?; // [B, T, F]
        let hidden = match (&self.gate_proj, self.kind) {
            (Some(gate), MlpKind::GegluTanh) => (kernels::gelu_tanh(&self.sparse(gate.forward(x, numerics)?)?)? * up)?,
            (Some(gate), _) => kernels::swiglu(&gate.forward(x, numerics)?, &up)?,
            (None, MlpKind::GeluErf) => kernels::gelu_erf(&up)?,
            (None, _) => kernels::gelu_tanh(&up)?,
        };
        self.down_proj.forward(&hidden, numerics)
    }

    pub(crate) fn pack(&mut self) -> Result<()> {
        self.gate_proj.iter_mut().chain([&mut self.up_proj, &mut self.down_proj]).try_for_each(Linear::pack)
    }

    pub(crate) fn init(&self, std: f64, output_std: f64, seed: u64) -> Result<()> {
        if let Some(gate) = &self.gate_proj {
            gate.init(std, seed)?;
        }
        self.up_proj.init(std, seed)?;
        self.down_proj.init(output_std, seed)
    }
}
