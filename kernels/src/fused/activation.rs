//! Activations, element by element, with their derivatives recomputed from the input in the backward pass.
//!
//! ```text
//! silu(x)      = x·σ(x)                                        Elfwing et al. 2018 (arXiv:1702.03118)
//! swiglu(g, u) = silu(g)·u                                     Shazeer 2020 (arXiv:2002.05202)
//! gelu_tanh(x) = x·½·(1 + tanh(√(2/π)(x + 0.044715 x³)))       Hendrycks and Gimpel 2016 (arXiv:1606.08415)
//! gelu_erf(x)  = x·½·(1 + erf(x/√2))
//! ```
//! `½·(1 + tanh u)` is computed as `σ(2u)`, which keeps the relative precision of the left tail.
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::access::{F32Ref, f32s, is_fast, output, tensor};
use crate::parallel::{PIECE, is_worth_it};
use crate::simd::{Isa, exp, multiversion, sigmoid};
use crate::{check, plain};

/// `x · sigmoid(x)`.
///
/// - Shape: any; the output has the shape and dtype of `x`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    unary(x, Unary { name: "silu", forward: silu_forward, backward: silu_backward }, plain::silu)
}

/// GELU in its tanh approximation.
///
/// - Shape: any; the output has the shape and dtype of `x`.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    unary(x, Unary { name: "gelu-tanh", forward: gelu_tanh_forward, backward: gelu_tanh_backward }, plain::gelu_tanh)
}

/// GELU by the error function, within 3e-7 of the exact value relative to `|x|`.
///
/// - Shape: any; the output has the shape and dtype of `x`.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    unary(x, Unary { name: "gelu-erf", forward: gelu_erf_forward, backward: gelu_erf_backward }, plain::gelu_erf)
}

/// `silu(gate) · up` in one pass.
///
/// - Shape: `gate` and `up` are equal; so is the output.
///
/// # Errors
/// When the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !is_fast(&[gate, up]) {
        return plain::swiglu(gate, up);
    }
    check::same_shape("swiglu", "up", gate, up)?;
    gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu)
}

/// One-argument function and its derivative over slices.
struct Unary {
    name: &'static str,
    /// `y = f(x)`
    forward: fn(&[f32], &mut [f32]),
    /// `dx = f'(x)·g`
    backward: fn(&[f32], &[f32], &mut [f32]),
}

fn unary(x: &Tensor, op: Unary, fallback: fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if is_fast(&[x]) { x.contiguous()?.apply_op1(op) } else { fallback(x) }
}

impl CustomOp1 for Unary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32s(storage, layout)?;
        let mut y = output(x.len());
        if is_worth_it(x.len()) {
            y.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(y, x)| (self.forward)(x, y));
        } else {
            (self.forward)(x, &mut y);
        }
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (xs, g) = (F32Ref::new(x)?, F32Ref::new(&grad)?);
        let mut dx = output(xs.len());
        if is_worth_it(xs.len()) {
            let parts = dx.par_chunks_mut(PIECE).zip(xs.par_chunks(PIECE).zip(g.par_chunks(PIECE)));
            parts.for_each(|(dx, (x, g))| (self.backward)(x, g, dx));
        } else {
            (self.backward)(&xs, &g, &mut dx);
        }
        Ok(Some(tensor(dx, x.dims())?))
    }
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (f32s(s1, l1)?, f32s(s2, l2)?);
        let mut y = output(gate.len());
        if is_worth_it(gate.len()) {
            let parts = y.par_chunks_mut(PIECE).zip(gate.par_chunks(PIECE).zip(up.par_chunks(PIECE)));
            parts.for_each(|(y, (gate, up))| swiglu_forward(gate, up, y));
        } else {
            swiglu_forward(gate, up, &mut y);
        }
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (gates, ups, g) = (F32Ref::new(gate)?, F32Ref::new(up)?, F32Ref::new(&grad)?);
        let (mut d_gate, mut d_up) = (output(g.len()), output(g.len()));
        if is_worth_it(g.len()) {
            let inputs = gates.par_chunks(PIECE).zip(ups.par_chunks(PIECE)).zip(g.par_chunks(PIECE));
            let parts = d_gate.par_chunks_mut(PIECE).zip(d_up.par_chunks_mut(PIECE)).zip(inputs);
            parts.for_each(|((d_gate, d_up), ((gate, up), g))| swiglu_backward(gate, up, g, d_gate, d_up));
        } else {
            swiglu_backward(&gates, &ups, &g, &mut d_gate, &mut d_up);
        }
        let d_gate = if gate.track_op() { Some(tensor(d_gate, gate.dims())?) } else { None };
        let d_up = if up.track_op() { Some(tensor(d_up, up.dims())?) } else { None };
        Ok((d_gate, d_up))
    }
}

multiversion! {
    fn silu_forward<S>(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * sigmoid::<S>(x);
        }
    }
}

/// Derivative of silu: `σ(x)·(1 + x·(1 − σ(x)))`, given `s = σ(x)`.
#[inline(always)]
fn silu_slope<S: Isa>(x: f32, s: f32) -> f32 {
    s * S::fma(x, 1. - s, 1.)
}

multiversion! {
    fn silu_backward<S>(x: &[f32], g: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(g) {
            *dx = g * silu_slope::<S>(x, sigmoid::<S>(x));
        }
    }
}

multiversion! {
    fn swiglu_forward<S>(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
            *y = gate * sigmoid::<S>(gate) * up;
        }
    }
}

multiversion! {
    fn swiglu_backward<S>(gate: &[f32], up: &[f32], g: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        let n = g.len();
        let (gate, up, d_gate, d_up) = (&gate[..n], &up[..n], &mut d_gate[..n], &mut d_up[..n]);
        for i in 0..n {
            let s = sigmoid::<S>(gate[i]);
            d_up[i] = g[i] * gate[i] * s;
            d_gate[i] = g[i] * up[i] * silu_slope::<S>(gate[i], s);
        }
    }
}

/// 2·√(2/π): twice the slope of the tanh approximation at zero.
const TWO_SQRT_2_OVER_PI: f32 = 1.595_769;
/// Cubic coefficient of the tanh approximation.
const CUBIC: f32 = 0.044715;

multiversion! {
    fn gelu_tanh_forward<S>(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * sigmoid::<S>(TWO_SQRT_2_OVER_PI * S::fma(CUBIC * x * x, x, x));
        }
    }
}

multiversion! {
    /// With `s = σ(2u)`: `d/dx x·s = s + x·s·(1 − s)·2u'`.
    fn gelu_tanh_backward<S>(x: &[f32], g: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(g) {
            let s = sigmoid::<S>(TWO_SQRT_2_OVER_PI * S::fma(CUBIC * x * x, x, x));
            let slope = TWO_SQRT_2_OVER_PI * S::fma(3. * CUBIC * x, x, 1.);
            *dx = g * S::fma(x * s * (1. - s), slope, s);
        }
    }
}

/// Φ(x), the normal distribution function, by the Chebyshev fit of erfc with relative error below 1.2e-7 (Press et al., Numerical
/// Recipes in C, 2nd edition, §6.2, `erfcc`).
#[inline(always)]
fn normal_cdf<S: Isa>(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1. / S::fma(0.5, z, 1.);
    let p = S::fma(t, 0.170_872_77, -0.822_152_23);
    let p = S::fma(t, p, 1.488_515_8);
    let p = S::fma(t, p, -1.135_204);
    let p = S::fma(t, p, 0.278_868_07);
    let p = S::fma(t, p, -0.186_288_06);
    let p = S::fma(t, p, 0.096_784_18);
    let p = S::fma(t, p, 0.374_091_96);
    let p = S::fma(t, p, 1.000_023_7);
    let p = S::fma(t, p, -1.265_512_2);
    let tail = 0.5 * t * exp::<S>(S::fma(-z, z, p));
    if x < 0. { tail } else { 1. - tail }
}

multiversion! {
    fn gelu_erf_forward<S>(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * normal_cdf::<S>(x);
        }
    }
}

/// 1/√(2π), the normal density at zero.
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

multiversion! {
    fn gelu_erf_backward<S>(x: &[f32], g: &[f32], dx: &mut [f32]) {
        for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(g) {
            let density = DENSITY_AT_ZERO * exp::<S>(-0.5 * x * x);
            *dx = g * S::fma(x, density, normal_cdf::<S>(x));
        }
    }
}
