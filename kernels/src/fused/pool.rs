//! Pooling over images stored channels last.
use candle_core::{Result, Tensor};

use crate::plain;

/// Largest element of each `kernel` x `kernel` window; the border of `padding` pixels never wins.
///
/// - Shape: `x` is `[B, Y, X, C]`, the output is `[B, Y', X', C]` with `Y' = ⌊(Y + 2·padding − kernel)/stride⌋ + 1`.
/// - The gradient goes to the first of equal elements, row by row. NaN wins.
///
/// # Errors
/// When `x` is no image, or the window is larger than the padded image.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    plain::max_pool2d(x, kernel, stride, padding)
}

/// Mean over the image: `[B, Y, X, C]` to `[B, C]`.
///
/// # Errors
/// When `x` is no image or has no pixel.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    plain::global_avg_pool(x)
}
