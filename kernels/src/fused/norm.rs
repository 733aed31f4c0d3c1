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
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::access::{F32Ref, f32s, is_fast, output, tensor};
use crate::parallel::{self, Disjoint};
use crate::simd::{Isa, dot, multiversion, sum, sum_of};
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
    if !is_fast(&[x, weight]) {
        return plain::rms_norm(x, weight, eps);
    }
    check::norm("rms_norm", x, weight, None)?;
    x.contiguous()?.apply_op2(&weight.contiguous()?, Norm { eps: eps as f32, centred: false })
}

/// `(x − mean) / √(var + eps) · weight + bias` over the last axis, with the biased variance.
///
/// - Shape: `x` is `[.., D]`, `weight` and `bias` are `[D]`; the output has the shape and dtype of `x`.
/// - Kept for backward: `x`.
///
/// # Errors
/// When the shapes do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    if !is_fast(&[x, weight]) || bias.is_some_and(|bias| !is_fast(&[bias])) {
        return plain::layer_norm(x, weight, bias, eps);
    }
    check::norm("layer_norm", x, weight, bias)?;
    let op = Norm { eps: eps as f32, centred: true };
    match bias {
        Some(bias) => x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op),
        None => x.contiguous()?.apply_op2(&weight.contiguous()?, op),
    }
}

struct Norm {
    eps: f32,
    /// Whether the mean is removed.
    centred: bool,
}

/// Gradients by argument, each only if wanted.
type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl Norm {
    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let d = weight.len();
        let mut y = output(x.len());
        let target = Disjoint::new(&mut y);
        parallel::for_each(x.len().div_ceil(ROWS * d), x.len(), |task| {
            let (start, end) = (task * ROWS * d, ((task + 1) * ROWS * d).min(x.len()));
            // SAFETY: each task has its own rows.
            let y = unsafe { target.range(start, end) };
            norm_forward(&x[start..end], weight, bias, y, self.eps, self.centred);
        });
        y
    }

    fn backward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, grad: &Tensor) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        let (xs, w, g) = (F32Ref::new(x)?, F32Ref::new(weight)?, F32Ref::new(&grad)?);
        let d = w.len();
        let mut dx = output(xs.len());
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

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        if self.centred { "layer-norm" } else { "rms-norm" }
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.forward(f32s(s1, l1)?, f32s(s2, l2)?, None)), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = self.backward(x, weight, None, grad)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "layer-norm-bias"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(f32s(s1, l1)?, f32s(s2, l2)?, Some(f32s(s3, l3)?));
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        self.backward(x, weight, Some(bias), grad)
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
    fn norm_forward<S>(x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32], eps: f32, centred: bool) {
        let d = weight.len();
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let (mean, r) = statistics::<S>(x, eps, centred);
            match bias {
                Some(bias) => {
                    for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                        *y = S::fma((x - mean) * r, w, b);
                    }
                }
                None => {
                    for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                        *y = (x - mean) * r * w;
                    }
                }
            }
        }
    }
}

multiversion! {
    #[allow(clippy::too_many_arguments, reason = "two inputs, three outputs, two settings")]
    fn norm_backward<S>(x: &[f32], weight: &[f32], g: &[f32], dx: &mut [f32], dw: &mut [f32], db: &mut [f32], eps: f32, centred: bool) {
        let d = weight.len();
        let (dw, db) = (&mut dw[..d], &mut db[..d]);
        for ((x, g), dx) in x.chunks_exact(d).zip(g.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
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
                dx[i] = r * (S::fma(g[i], weight[i], -mean_h) - normal * mean_hx);
            }
        }
    }
}
