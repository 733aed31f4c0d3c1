//! Normalisation over the last axis.
//!
//! ```text
//! rms_norm(x)   = x·r·w            r = 1/√(mean(x²) + eps)                        Zhang and Sennrich 2019 (arXiv:1910.07467)
//! layer_norm(x) = (x − μ)·r·w + b  r = 1/√(mean((x − μ)²) + eps)                  Ba et al. 2016 (arXiv:1607.06450)
//!
//! backward, with h = g·w and x̂ the normalised row:
//!   dx = r·(h − mean(h) − x̂·mean(h·x̂))      (rms_norm: without mean(h))
//!   dw = Σ_rows g·x̂        db = Σ_rows g
//! ```
//! Mean and scale of a row are recomputed in the backward pass: the row is read anyway, and nothing has to be kept.
//!
//! The input is f32 or bf16 and so is the output, each for itself: a stream in f32 feeds products in bf16. All arithmetic is f32.
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Layout, Result, Shape, Tensor};

use crate::access::F32Ref;
use crate::element::{Element, Lock, elements, is_element, output, tensor, with_element};
use crate::parallel::{self, Disjoint};
use crate::simd::{Isa, dot, multiversion, sum, sum_of};
use crate::tape::{Gradients, Layer, apply_layer};
use crate::{check, plain};

/// Rows of one task, and of one partial sum of the weight's gradient.
const ROWS: usize = 64;

/// `x / √(mean(x²) + eps) · weight` over the last axis.
///
/// - Shape: `x` is `[.., D]`, `weight` is `[D]`; the output has the shape and dtype of `x`.
/// - Kept for backward: `x`.
///
/// # Errors
/// When the shapes do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    rms_norm_as(x, weight, eps, x.dtype())
}

/// [`rms_norm`] with an output of the given dtype.
///
/// # Errors
/// When the shapes do not fit.
pub fn rms_norm_as(x: &Tensor, weight: &Tensor, eps: f64, dtype: DType) -> Result<Tensor> {
    if !is_fused(x, &[weight], dtype) {
        return plain::rms_norm(x, weight, eps)?.to_dtype(dtype);
    }
    check::norm("rms_norm", x, weight, None)?;
    apply_layer(x, weight, None, Norm { eps: eps as f32, centred: false, dtype })
}

/// `(x − mean) / √(var + eps) · weight + bias` over the last axis, with the biased variance.
///
/// - Shape: `x` is `[.., D]`, `weight` and `bias` are `[D]`; the output has the shape and dtype of `x`.
/// - Kept for backward: `x`.
///
/// # Errors
/// When the shapes do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    layer_norm_as(x, weight, bias, eps, x.dtype())
}

/// [`layer_norm`] with an output of the given dtype.
///
/// # Errors
/// When the shapes do not fit.
pub fn layer_norm_as(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64, dtype: DType) -> Result<Tensor> {
    if !is_fused(x, &[weight, bias.unwrap_or(weight)], dtype) {
        return plain::layer_norm(x, weight, bias, eps)?.to_dtype(dtype);
    }
    check::norm("layer_norm", x, weight, bias)?;
    apply_layer(x, weight, bias, Norm { eps: eps as f32, centred: true, dtype })
}

/// Whether every tensor and the output are f32 or bf16 on the CPU.
fn is_fused(x: &Tensor, parameters: &[&Tensor], dtype: DType) -> bool {
    is_element(x) && parameters.iter().all(|t| is_element(t)) && matches!(dtype, DType::F32 | DType::BF16)
}

struct Norm {
    eps: f32,
    /// Whether the mean is removed.
    centred: bool,
    /// Of the output.
    dtype: DType,
}

impl Layer for Norm {
    fn name(&self) -> &'static str {
        if self.centred { "layer-norm" } else { "rms-norm" }
    }

    fn forward(
        &self,
        x: &CpuStorage,
        l: &Layout,
        weight: &[f32],
        _: &Shape,
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let y = with_element!(x.dtype(), T => {
            with_element!(self.dtype, O => self.rows::<T, O>(elements(x, l)?, weight, bias))
        });
        Ok((y, l.shape().clone()))
    }

    fn backward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, grad: &Tensor) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        with_element!(x.dtype(), T => with_element!(grad.dtype(), O => self.gradients::<T, O>(x, weight, bias, &grad)))
    }
}

impl Norm {
    fn rows<T: Element, O: Element>(&self, x: &[T], weight: &[f32], bias: Option<&[f32]>) -> CpuStorage {
        let d = weight.len();
        let mut y = output::<O>(x.len());
        let target = Disjoint::new(&mut y);
        parallel::for_each(x.len().div_ceil(ROWS * d), x.len(), |task| {
            let (start, end) = (task * ROWS * d, ((task + 1) * ROWS * d).min(x.len()));
            // SAFETY: each task has its own rows.
            let y = unsafe { target.range(start, end) };
            norm_forward(&x[start..end], weight, bias, y, self.eps, self.centred);
        });
        O::storage(y)
    }

    fn gradients<T: Element, O: Element>(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Gradients> {
        let (x_lock, w, g_lock) = (Lock::new(x), F32Ref::new(weight)?, Lock::new(grad));
        let (xs, g) = (x_lock.elements::<T>()?, g_lock.elements::<O>()?);
        let d = w.len();
        let mut dx = output::<T>(xs.len());
        let target = Disjoint::new(&mut dx);
        let parts = parallel::map(xs.len().div_ceil(ROWS * d), xs.len(), |task| {
            let (start, end) = (task * ROWS * d, ((task + 1) * ROWS * d).min(xs.len()));
            let mut sums = vec![0f32; 2 * d];
            let (dw, db) = sums.split_at_mut(d);
            // SAFETY: each task has its own rows.
            let dx = unsafe { target.range(start, end) };
            norm_backward(&xs[start..end], &w, &g[start..end], dx, dw, db, self.eps, self.centred);
            sums
        });
        let mut sums = vec![0f32; 2 * d];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        let db = sums.split_off(d);
        let dx = if x.track_op() { Some(tensor(dx, x.dims())?) } else { None };
        let dw = if weight.track_op() { Some(tensor(sums, &[d])?) } else { None };
        let db = if bias.is_some_and(Tensor::track_op) { Some(tensor(db, &[d])?) } else { None };
        Ok((dx, dw, db))
    }
}

/// Mean (zero unless centred) and reciprocal scale of a row.
#[inline(always)]
fn statistics<S: Isa>(x: &[f32], eps: f32, centred: bool) -> (f32, f32) {
    let d = x.len() as f32;
    if centred {
        let mean = sum::<S>(x) / d;
        let minus_mean = S::splat(-mean);
        let squares = sum_of::<S>(x.len(), |at, acc| {
            let centred = S::add(at.load_or::<S>(x, mean), minus_mean);
            S::mul_add(centred, centred, acc)
        });
        (mean, 1. / (squares / d + eps).sqrt())
    } else {
        (0., 1. / (dot::<S>(x, x) / d + eps).sqrt())
    }
}

multiversion! {
    fn norm_forward<S, T: Element, O: Element>(x: &[T], weight: &[f32], bias: Option<&[f32]>, y: &mut [O], eps: f32, centred: bool) {
        let d = weight.len();
        let mut buffer = vec![0f32; d];
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let x = T::row(x, &mut buffer);
            let (mean, r) = statistics::<S>(x, eps, centred);
            match bias {
                Some(bias) => {
                    for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                        *y = O::narrow(S::fma((x - mean) * r, w, b));
                    }
                }
                None => {
                    for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                        *y = O::narrow((x - mean) * r * w);
                    }
                }
            }
        }
    }
}

multiversion! {
    #[allow(clippy::too_many_arguments, reason = "two inputs, three outputs, two settings")]
    fn norm_backward<S, T: Element, O: Element>(
        x: &[T],
        weight: &[f32],
        g: &[O],
        dx: &mut [T],
        dw: &mut [f32],
        db: &mut [f32],
        eps: f32,
        centred: bool,
    ) {
        let d = weight.len();
        let (mut x_buffer, mut g_buffer) = (vec![0f32; d], vec![0f32; d]);
        let (dw, db) = (&mut dw[..d], &mut db[..d]);
        for ((x, g), dx) in x.chunks_exact(d).zip(g.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
            let (x, g) = (T::row(x, &mut x_buffer), O::row(g, &mut g_buffer));
            let (x, g) = (&x[..d], &g[..d]);
            let (mean, r) = statistics::<S>(x, eps, centred);
            let mean_h = if centred { dot::<S>(g, weight) / d as f32 } else { 0. };
            let (minus_mean, scale) = (S::splat(-mean), S::splat(r));
            let sum_hx = sum_of::<S>(d, |at, acc| {
                let normal = S::mul(S::add(at.load::<S>(x), minus_mean), scale);
                S::mul_add(S::mul(at.load::<S>(g), at.load::<S>(weight)), normal, acc)
            });
            let mean_hx = sum_hx / d as f32;
            for i in 0..d {
                let normal = (x[i] - mean) * r;
                dw[i] = S::fma(g[i], normal, dw[i]);
                db[i] += g[i];
                dx[i] = T::narrow(r * (S::fma(g[i], weight[i], -mean_h) - normal * mean_hx));
            }
        }
    }
}
