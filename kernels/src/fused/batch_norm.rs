//! Batch norm over the channels of images stored channels last, with ReLU in the same pass.
use candle_core::{Result, Tensor};

use crate::plain;

/// `(x − mean)/√(var + eps)·gamma + beta` with mean and biased variance of the batch, then ReLU if `relu`.
///
/// - Shape: `x` is `[.., C]`, `gamma` and `beta` are `[C]`; the output has the shape of `x`.
/// - Returns the output, the mean `[C]` and the unbiased variance `[C]`, the two without history: they are what running
///   statistics average.
///
/// # Errors
/// When the shapes do not fit, or with fewer than two values per channel.
pub fn batch_norm_train(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64, relu: bool) -> Result<(Tensor, Tensor, Tensor)> {
    plain::batch_norm_train(x, gamma, beta, eps, relu)
}

/// `(x − mean)/√(variance + eps)·gamma + beta` with given statistics, then ReLU if `relu`.
///
/// - Shape: `x` is `[.., C]`, the others are `[C]`; the output has the shape of `x`.
///
/// # Errors
/// When the shapes do not fit.
pub fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    mean: &Tensor,
    variance: &Tensor,
    eps: f64,
    relu: bool,
) -> Result<Tensor> {
    plain::batch_norm_eval(x, gamma, beta, mean, variance, eps, relu)
}

/// `max(a + b, 0)` of equal shapes, the end of a residual block.
///
/// # Errors
/// When the shapes differ.
pub fn add_relu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    plain::add_relu(a, b)
}
