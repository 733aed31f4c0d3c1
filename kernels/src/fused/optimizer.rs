//! AdamW in place, and the squared norm that clipping needs.
//!
//! ```text
//! g ← grad_scale·grad
//! m ← β₁m + (1 − β₁)g        v ← β₂v + (1 − β₂)g²
//! θ ← θ·(1 − η·λ) − η·m̂/(√v̂ + ε)        m̂ = m/(1 − β₁ᵗ)   v̂ = v/(1 − β₂ᵗ)
//! ```
//! Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2, with the decay multiplied by the rate as in PyTorch.
use std::sync::Mutex;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::access::{F32Ref, is_fast, to_f32};
use crate::element::elements;
use crate::parallel::{self, PIECE, is_worth_it};
use crate::simd::multiversion;

/// Settings of one AdamW update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWParams {
    /// Step size η.
    pub learning_rate: f64,
    /// Decay of the first moment, β₁.
    pub beta1: f64,
    /// Decay of the second moment, β₂.
    pub beta2: f64,
    /// Added to the root of the second moment, ε.
    pub eps: f64,
    /// Decoupled decay λ, multiplied by the learning rate.
    pub weight_decay: f64,
}

/// One AdamW update of `var` in place.
///
/// - `m`, `v`: moments in f32, one per element; empty vectors are filled with zeros.
/// - `step`: number of this update, counted from 1.
/// - `grad_scale`: factor of the gradient (clipping, accumulation), applied on the fly.
/// - Every element is computed alone: the bits do not depend on the number of threads.
/// - A variable that is not f32 is updated in f32 and rounded back.
///
/// # Errors
/// When shapes or lengths differ or `step` is 0.
pub fn adamw_step(
    var: &Var,
    grad: &Tensor,
    m: &mut Vec<f32>,
    v: &mut Vec<f32>,
    step: u64,
    p: &AdamWParams,
    grad_scale: f64,
) -> Result<()> {
    let n = var.elem_count();
    if grad.dims() != var.dims() {
        bail!("adamw_step: argument `grad`: expected shape {:?}, found {:?}", var.dims(), grad.dims());
    }
    if step == 0 {
        bail!("adamw_step: argument `step`: expected at least 1, found 0\nhint: steps count from 1");
    }
    for (name, moments) in [("m", &mut *m), ("v", &mut *v)] {
        if moments.is_empty() {
            moments.resize(n, 0.);
        }
        if moments.len() != n {
            bail!("adamw_step: argument `{name}`: expected {n} moments, found {}", moments.len());
        }
    }
    let factors = Factors::new(step, p, grad_scale);
    if is_fast(&[var, grad]) && var.is_contiguous() {
        return var.inplace_op2(&grad.contiguous()?, &Update { factors, moments: Mutex::new((m, v)) });
    }
    let mut theta = to_f32(var)?;
    factors.update(&mut theta, &to_f32(grad)?, m, v);
    var.set(&Tensor::from_vec(theta, var.dims(), var.device())?.to_dtype(var.dtype())?)
}

/// Constants of one update, computed in f64 and rounded once.
#[derive(Clone, Copy)]
struct Factors {
    grad_scale: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    /// 1 − η·λ
    keep: f32,
    /// η / (1 − β₁ᵗ)
    rate: f32,
    /// 1 / √(1 − β₂ᵗ)
    root: f32,
    eps: f32,
}

impl Factors {
    fn new(step: u64, p: &AdamWParams, grad_scale: f64) -> Self {
        let power = |beta: f64| beta.powf(step as f64);
        Self {
            grad_scale: grad_scale as f32,
            beta1: p.beta1 as f32,
            one_minus_beta1: (1. - p.beta1) as f32,
            beta2: p.beta2 as f32,
            one_minus_beta2: (1. - p.beta2) as f32,
            keep: (1. - p.learning_rate * p.weight_decay) as f32,
            rate: (p.learning_rate / (1. - power(p.beta1))) as f32,
            root: (1. / (1. - power(p.beta2)).sqrt()) as f32,
            eps: p.eps as f32,
        }
    }

    fn update(self, theta: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        if is_worth_it(theta.len()) {
            let moments = m.par_chunks_mut(PIECE).zip(v.par_chunks_mut(PIECE));
            let parts = theta.par_chunks_mut(PIECE).zip(g.par_chunks(PIECE)).zip(moments);
            parts.for_each(|((theta, g), (m, v))| update(theta, g, m, v, self));
        } else {
            update(theta, g, m, v, self);
        }
    }
}

multiversion! {
    fn update<S>(theta: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], f: Factors) {
        for (((theta, &g), m), v) in theta.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * f.grad_scale;
            *m = S::fma(f.beta1, *m, f.one_minus_beta1 * g);
            *v = S::fma(f.beta2, *v, f.one_minus_beta2 * g * g);
            *theta = S::fma(*theta, f.keep, -(f.rate * *m / S::fma(v.sqrt(), f.root, f.eps)));
        }
    }
}

struct Update<'a> {
    factors: Factors,
    moments: Mutex<(&'a mut Vec<f32>, &'a mut Vec<f32>)>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (CpuStorage::F32(theta), Some((start, end))) = (s1, l1.contiguous_offsets()) else {
            bail!("adamw_step: expected a contiguous f32 variable, found {l1:?}")
        };
        let mut moments = self.moments.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (m, v) = &mut *moments;
        self.factors.update(&mut theta[start..end], elements::<f32>(s2, l2)?, m, v);
        Ok(())
    }
}

/// Σ g² of a gradient, in f64: pieces of fixed size, added in order.
///
/// # Errors
/// When the tensor cannot be read.
pub fn grad_sq_norm(grad: &Tensor) -> Result<f64> {
    if is_fast(&[grad]) {
        let grad = grad.contiguous()?;
        return Ok(sum_of_squares(&F32Ref::new(&grad)?));
    }
    Ok(sum_of_squares(&to_f32(grad)?))
}

fn sum_of_squares(g: &[f32]) -> f64 {
    let pieces = g.len().div_ceil(PIECE);
    let parts = parallel::map(pieces, g.len(), |i| squares(&g[i * PIECE..((i + 1) * PIECE).min(g.len())]));
    parts.iter().sum()
}

multiversion! {
    fn squares<S>(g: &[f32]) -> f64 {
        const LANES: usize = 16;
        let mut lanes = [0f64; LANES];
        let chunks = g.chunks_exact(LANES);
        let tail = chunks.remainder();
        for chunk in chunks {
            for (lane, &g) in lanes.iter_mut().zip(chunk) {
                *lane += g as f64 * g as f64;
            }
        }
        for (lane, &g) in lanes.iter_mut().zip(tail) {
            *lane += g as f64 * g as f64;
        }
        lanes.iter().sum()
    }
}
