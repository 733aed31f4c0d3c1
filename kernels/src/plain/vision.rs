//! References of the operations on images: convolution, batch norm, pooling.
//!
//! Activations are `[B, Y, X, C]` (channels last) as in the fused operations.
use candle_core::{Result, Tensor};

use crate::check;
use crate::fused::{BatchNorm, Conv2dConfig};

/// Every `stride`-th of `count` elements from `first` along `axis`.
fn every(x: &Tensor, axis: usize, first: usize, stride: usize, count: usize) -> Result<Tensor> {
    let places: Vec<u32> = (0..count).map(|i| (first + i * stride) as u32).collect();
    x.index_select(&Tensor::new(places, x.device())?, axis)
}

/// A convolution, see [`crate::conv2d`]. Composed, since the backward of candle's own takes the image for a square: with a stride,
/// the gradient of other images has a wrong shape.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: &Conv2dConfig) -> Result<Tensor> {
    let s = check::conv2d(x, weight, bias, config)?;
    let Conv2dConfig { stride, padding, groups } = *config;
    if s.batch == 0 {
        return Tensor::zeros((0, s.out_height, s.out_width, s.out_channels), x.dtype(), x.device());
    }
    let padded = x.contiguous()?.pad_with_zeros(1, padding, padding)?.pad_with_zeros(2, padding, padding)?;
    let mut taps = Vec::new();
    for ky in 0..s.kernel_height {
        let rows = every(&padded.contiguous()?, 1, ky, stride, s.out_height)?;
        for kx in 0..s.kernel_width {
            taps.push(every(&rows, 2, kx, stride, s.out_width)?); // [B, Y', X', I]
        }
    }
    let (inputs, outputs) = (s.channels / groups, s.out_channels / groups);
    let (rows, depth) = (s.batch * s.out_height * s.out_width, taps.len() * inputs);
    let windows = Tensor::stack(&taps, 3)?; // [B, Y', X', kY·kX, I]
    let group = |group: usize| {
        let windows = windows.narrow(4, group * inputs, inputs)?.contiguous()?.reshape((rows, depth))?;
        let weight = weight.narrow(0, group * outputs, outputs)?.permute((2, 3, 1, 0))?; // [kY, kX, I, O]
        windows.matmul(&weight.contiguous()?.reshape((depth, outputs))?)
    };
    let y = Tensor::cat(&(0..groups).map(group).collect::<Result<Vec<_>>>()?, 1)?;
    let y = y.reshape((s.batch, s.out_height, s.out_width, s.out_channels))?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// A convolution with what follows it at inference, see [`crate::conv2d_inference`].
pub fn conv2d_inference(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    relu: bool,
    config: &Conv2dConfig,
) -> Result<Tensor> {
    let y = conv2d(x, weight, bias, config)?;
    let y = match residual {
        Some(residual) => {
            check::same_shape("conv2d_inference", "residual", &y, residual)?;
            (y + residual)?
        }
        None => y,
    };
    if relu { super::relu(&y) } else { Ok(y) }
}

/// Batch norm with the statistics of the batch, see [`crate::batch_norm_train`].
pub fn batch_norm_train(x: &Tensor, norm: &BatchNorm<'_>) -> Result<(Tensor, Tensor, Tensor)> {
    let &BatchNorm { gamma, beta, eps, relu } = norm;
    let channels = check::batch_norm("batch_norm_train", x, &[("gamma", gamma), ("beta", beta)])?;
    let rows = x.elem_count() / channels;
    if rows < 2 {
        candle_core::bail!("batch_norm_train: argument `x`: expected at least 2 values per channel, found {:?}", x.dims());
    }
    let flat = x.reshape((rows, channels))?;
    let mean = flat.mean_keepdim(0)?;
    let centred = flat.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(0)?;
    let y = centred.broadcast_div(&(&variance + eps)?.sqrt()?)?.broadcast_mul(gamma)?.broadcast_add(beta)?;
    let y = if relu { super::relu(&y)? } else { y };
    let unbiased = (variance.squeeze(0)?.detach() * (rows as f64 / (rows - 1) as f64))?;
    Ok((y.reshape(x.shape())?, mean.squeeze(0)?.detach(), unbiased))
}

/// Batch norm with given statistics, see [`crate::batch_norm_eval`].
pub fn batch_norm_eval(x: &Tensor, norm: &BatchNorm<'_>, mean: &Tensor, variance: &Tensor) -> Result<Tensor> {
    let &BatchNorm { gamma, beta, eps, relu } = norm;
    let vectors = [("gamma", gamma), ("beta", beta), ("mean", mean), ("variance", variance)];
    check::batch_norm("batch_norm_eval", x, &vectors)?;
    let scale = (gamma / (variance.detach() + eps)?.sqrt()?)?;
    let y = x.broadcast_sub(&mean.detach())?.broadcast_mul(&scale)?.broadcast_add(beta)?;
    if relu { super::relu(&y) } else { Ok(y) }
}

/// `max(a + b, 0)`, see [`crate::add_relu`].
pub fn add_relu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check::same_shape("add_relu", "b", a, b)?;
    super::relu(&(a + b)?)
}

/// Largest element of each window, see [`crate::max_pool2d`].
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let g = check::pool("max_pool2d", x, kernel, stride, padding)?;
    if x.elem_count() == 0 {
        return Tensor::zeros((g.batch, g.out_height, g.out_width, g.channels), x.dtype(), x.device());
    }
    let mut padded = x.contiguous()?;
    for axis in [1, 2] {
        if padding > 0 {
            let mut dims = padded.dims().to_vec();
            dims[axis] = padding;
            let border = Tensor::full(f32::NEG_INFINITY, dims, x.device())?.to_dtype(x.dtype())?;
            padded = Tensor::cat(&[&border, &padded, &border], axis)?;
        }
    }
    let mut top: Option<Tensor> = None;
    for ky in 0..kernel {
        let rows = every(&padded, 1, ky, stride, g.out_height)?;
        for kx in 0..kernel {
            let tap = every(&rows, 2, kx, stride, g.out_width)?;
            top = Some(match top {
                None => tap,
                // the first of equal elements stays, and NaN wins, as in PyTorch
                Some(top) => (tap.gt(&top)? + tap.ne(&tap)?)?.where_cond(&tap, &top)?,
            });
        }
    }
    top.map_or_else(|| x.zeros_like(), Ok)
}

/// Mean over the image, see [`crate::global_avg_pool`].
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    let (_, height, width, _) = check::image("global_avg_pool", "x", x)?;
    x.sum((1, 2))? / (height * width) as f64
}
