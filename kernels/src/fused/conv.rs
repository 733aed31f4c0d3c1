//! Convolution over images stored channels last, with the weight stored as published checkpoints store it, `[O, I/groups, kY, kX]`.
use candle_core::{Result, Tensor};

use crate::plain;

/// Settings of a convolution, equal for both image axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Distance of neighbouring windows, in pixels.
    pub stride: usize,
    /// Zeros added at each border, in pixels.
    pub padding: usize,
    /// Channels are cut into this many groups that do not see each other.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: 1, padding: 0, groups: 1 }
    }
}

/// `y[b, i, j, o] = bias[o] + Σ_{c, ky, kx} x[b, s·i + ky − p, s·j + kx − p, c]·w[o, c, ky, kx]`, zeros outside the image.
///
/// - Shape: `x` is `[B, Y, X, I]`, `weight` is `[O, I/groups, kY, kX]`, `bias` is `[O]`; the output is `[B, Y', X', O]` with
///   `Y' = ⌊(Y + 2·padding − kY)/stride⌋ + 1`.
/// - An argument that needs no gradient gets none, and nothing is computed for it.
///
/// # Errors
/// When the shapes do not fit.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: &Conv2dConfig) -> Result<Tensor> {
    plain::conv2d(x, weight, bias, config)
}

/// [`conv2d`], then `+ residual` and ReLU where asked for, in one pass over the output; no gradients.
///
/// # Errors
/// When the shapes do not fit.
pub fn conv2d_inference(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    relu: bool,
    config: &Conv2dConfig,
) -> Result<Tensor> {
    PackedConv2d::new(weight, bias, config)?.forward(x, residual, relu)
}

/// A convolution whose weight is arranged once for many forward passes; no gradients.
#[derive(Clone, Debug)]
pub struct PackedConv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    config: Conv2dConfig,
}

impl PackedConv2d {
    /// Arranges `weight` `[O, I/groups, kY, kX]`; `bias` is `[O]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, config: &Conv2dConfig) -> Result<Self> {
        Ok(Self { weight: weight.detach(), bias: bias.map(Tensor::detach), config: *config })
    }

    /// `conv2d(x) + residual`, then ReLU if `relu`; `x` is `[B, Y, X, I]`, the output and `residual` are `[B, Y', X', O]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        plain::conv2d_inference(&x.detach(), &self.weight, self.bias.as_ref(), residual, relu, &self.config)
    }
}
