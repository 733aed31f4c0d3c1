//! Stochastic gradient descent with momentum, in place.
//!
//! ```text
//! g ← grad_scale·grad + λ·θ
//! m ← μ·m + g
//! θ ← θ − η·(g + μ·m)  with Nesterov's momentum,   θ ← θ − η·m  without
//! ```
//! Source: Sutskever et al. 2013 (ICML), §2, in the form of PyTorch's `SGD` without dampening.
use std::sync::Mutex;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::access::{is_fast, to_f32};
use crate::element::elements;
use crate::parallel::{PIECE, is_worth_it};
use crate::simd::multiversion;

/// Settings of one SGD update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdParams {
    /// Step size η.
    pub learning_rate: f64,
    /// Decay of the momentum, μ; 0 for plain descent.
    pub momentum: f64,
    /// Whether the step looks ahead along the momentum.
    pub nesterov: bool,
    /// L2 penalty λ, added to the gradient.
    pub weight_decay: f64,
}

/// One SGD update of `var` in place.
///
/// - `m`: momentum in f32, one per element; an empty vector is filled with zeros. Untouched, and may stay empty, without momentum.
/// - `grad_scale`: factor of the gradient (clipping, accumulation), applied on the fly.
/// - Every element is computed alone: the bits do not depend on the number of threads.
/// - A variable that is not f32 is updated in f32 and rounded back.
///
/// # Errors
/// When shapes or lengths differ.
pub fn sgd_step(var: &Var, grad: &Tensor, m: &mut Vec<f32>, p: &SgdParams, grad_scale: f64) -> Result<()> {
    let n = var.elem_count();
    if grad.dims() != var.dims() {
        bail!("sgd_step: argument `grad`: expected shape {:?}, found {:?}", var.dims(), grad.dims());
    }
    if p.momentum != 0. {
        if m.is_empty() {
            m.resize(n, 0.);
        }
        if m.len() != n {
            bail!("sgd_step: argument `m`: expected {n} elements, found {}", m.len());
        }
    }
    let factors = Factors {
        grad_scale: grad_scale as f32,
        decay: p.weight_decay as f32,
        momentum: p.momentum as f32,
        rate: p.learning_rate as f32,
        nesterov: p.nesterov,
    };
    if is_fast(&[var, grad]) && var.is_contiguous() {
        return var.inplace_op2(&grad.contiguous()?, &Update { factors, m: Mutex::new(m) });
    }
    let mut theta = to_f32(var)?;
    factors.update(&mut theta, &to_f32(grad)?, m);
    var.set(&Tensor::from_vec(theta, var.dims(), var.device())?.to_dtype(var.dtype())?)
}

/// Constants of one update, rounded once.
#[derive(Clone, Copy)]
struct Factors {
    grad_scale: f32,
    decay: f32,
    momentum: f32,
    rate: f32,
    nesterov: bool,
}

impl Factors {
    fn update(self, theta: &mut [f32], g: &[f32], m: &mut [f32]) {
        let many = is_worth_it(theta.len());
        let pieces = theta.par_chunks_mut(PIECE).zip(g.par_chunks(PIECE));
        match (self.momentum == 0., many) {
            (true, true) => pieces.for_each(|(theta, g)| descend(theta, g, self)),
            (true, false) => descend(theta, g, self),
            (false, true) => {
                pieces.zip(m.par_chunks_mut(PIECE)).for_each(|((theta, g), m)| descend_with_momentum(theta, g, m, self));
            }
            (false, false) => descend_with_momentum(theta, g, m, self),
        }
    }
}

multiversion! {
    fn descend<S>(theta: &mut [f32], g: &[f32], f: Factors) {
        for (theta, &g) in theta.iter_mut().zip(g) {
            let g = S::fma(f.decay, *theta, f.grad_scale * g);
            *theta = S::fma(-f.rate, g, *theta);
        }
    }
}

multiversion! {
    fn descend_with_momentum<S>(theta: &mut [f32], g: &[f32], m: &mut [f32], f: Factors) {
        // the look-ahead as arithmetic, so that the loop has no branch: step = own·g + along·m
        let (own, along) = if f.nesterov { (1., f.momentum) } else { (0., 1.) };
        for ((theta, &g), m) in theta.iter_mut().zip(g).zip(m) {
            let g = S::fma(f.decay, *theta, f.grad_scale * g);
            *m = S::fma(f.momentum, *m, g);
            *theta = S::fma(-f.rate, S::fma(along, *m, own * g), *theta);
        }
    }
}

struct Update<'a> {
    factors: Factors,
    /// The momentum; an operation sees itself only by shared reference.
    m: Mutex<&'a mut Vec<f32>>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (CpuStorage::F32(theta), Some((start, end))) = (s1, l1.contiguous_offsets()) else {
            bail!("sgd_step: expected a contiguous f32 variable, found {l1:?}")
        };
        let mut m = self.m.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.factors.update(&mut theta[start..end], elements::<f32>(s2, l2)?, &mut m);
        Ok(())
    }
}
