//! AltUp: M streams of which a layer computes one and predicts the others (Baykal et al. 2023, arXiv 2301.13310, in Gemma 3n's form).
//!
//! ```text
//! r(x) = tanh(W_r·norm(x) / D)                      [B, T, M]
//! predict   p_o = h_o + Σ_m C[o, m]·h_m             C = W_p·r(h_a), M×M per position
//! correct   h_m = p_m + (1 + c_m)·(z − p_a)         c = W_c·r(z); z is what the layer made of p_a
//! ```

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use kernels::Numerics;

use super::Gemma3nConfig;
use crate::decoder::{DecoderConfig, NormKind};
use crate::init::Distribution;
use crate::layers::{Linear, Norm, Param};

#[derive(Debug)]
pub(super) struct AltUp {
    correction_coefs: Linear,
    prediction_coefs: Linear,
    modality_router: Linear,
    router_norm: Norm,
    correct_output_scale: Param,
    inputs: usize,
    active: usize,
    scales_output: bool,
}

impl AltUp {
    pub(super) fn new(decoder: &DecoderConfig, config: &Gemma3nConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, inputs) = (decoder.hidden_size, config.altup_inputs);
        Ok(Self {
            correction_coefs: Linear::new(inputs, inputs, false, &vb.pp("correction_coefs"))?,
            prediction_coefs: Linear::new(inputs, inputs * inputs, false, &vb.pp("prediction_coefs"))?,
            modality_router: Linear::new(hidden, inputs, false, &vb.pp("modality_router"))?,
            router_norm: Norm::new(NormKind::Rms, hidden, decoder.norm_eps, &vb.pp("router_norm"))?,
            correct_output_scale: Param::new(hidden, "correct_output_scale", vb)?,
            inputs,
            active: config.altup_active,
            scales_output: config.altup_correct_scale,
        })
    }

    /// `[B, T, D] -> [B, T, M]`; in f32 whatever the products' numerics, as it is small and steers everything.
    fn route(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = x.dim(candle_core::D::Minus1)? as f64;
        let normed = (self.router_norm.forward(x, Numerics::F32)? / hidden)?;
        self.modality_router.forward(&normed, Numerics::F32)?.tanh()
    }

    /// M streams `[B, T, D]` to their predictions.
    pub(super) fn predict(&self, streams: &[Tensor]) -> Result<Vec<Tensor>> {
        let coefs = self.prediction_coefs.forward(&self.route(&streams[self.active])?, Numerics::F32)?; // [B, T, M·M]
        let one = |out: usize| {
            streams.iter().enumerate().try_fold(streams[out].clone(), |sum, (m, stream)| {
                sum + stream.broadcast_mul(&coefs.narrow(2, out * self.inputs + m, 1)?)?
            })
        };
        (0..self.inputs).map(one).collect()
    }

    /// Predictions and the layer's own result to the next streams.
    pub(super) fn correct(&self, predictions: &[Tensor], result: &Tensor) -> Result<Vec<Tensor>> {
        let coefs = (self.correction_coefs.forward(&self.route(result)?, Numerics::F32)? + 1.0)?; // [B, T, M]
        let innovation = (result - &predictions[self.active])?;
        let one = |(m, prediction): (usize, &Tensor)| prediction + innovation.broadcast_mul(&coefs.narrow(2, m, 1)?)?;
        predictions.iter().enumerate().map(one).collect()
    }

    /// The active stream as the per-layer gate reads it.
    pub(super) fn scaled(&self, active: &Tensor) -> Result<Tensor> {
        if self.scales_output { active.broadcast_mul(self.correct_output_scale.tensor()) } else { Ok(active.clone()) }
    }

    pub(super) fn init(&self, std: f64, seed: u64) -> Result<()> {
        for map in [&self.correction_coefs, &self.prediction_coefs, &self.modality_router] {
            map.init(std, seed)?;
        }
        self.router_norm.init(seed)?;
        self.correct_output_scale.init(Distribution::Constant(1.0), seed)
    }
}
