//! Activations, element by element, with their derivatives recomputed from the input in the backward pass.
//!
//! ```text
//! silu(x)      = x·σ(x)                                        Elfwing et al. 2018 (arXiv:1702.03118)
//! swiglu(g, u) = silu(g)·u                                     Shazeer 2020 (arXiv:2002.05202)
//! gelu_tanh(x) = x·½·(1 + tanh(√(2/π)(x + 0.044715 x³)))       Hendrycks and Gimpel 2016 (arXiv:1606.08415)
//! gelu_erf(x)  = x·½·(1 + erf(x/√2))
//! ```
//! `½·(1 + tanh u)` is computed as `σ(2u)`, which keeps the relative precision of the left tail.
//!
//! Arguments are f32 or bf16 (computed in f32 and rounded once).
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor};
use half::bf16;
use rayon::prelude::*;

use crate::element::{Element, Lock, elements, is_element, output, tensor, with_element};
use crate::parallel::{PIECE, is_worth_it};
use crate::simd::{Isa, exp, multiversion, sigmoid};
use crate::tape::{apply1, apply2};
use crate::{check, plain};

/// One-argument function and its derivative over slices.
struct Unary<T> {
    name: &'static str,
    /// `y = f(x)`
    forward: fn(&[T], &mut [T]),
    /// `dx = f'(x)·g`
    backward: fn(&[T], &[T], &mut [T]),
}

/// The function of one format.
macro_rules! function {
    ($name:literal, $forward:ident, $backward:ident, $t:ty) => {
        Unary::<$t> { name: $name, forward: $forward::<$t>, backward: $backward::<$t> }
    };
}

/// Applies the function of the format of `x`.
macro_rules! unary {
    ($x:expr, $name:literal, $forward:ident, $backward:ident, $fallback:expr) => {
        match $x.dtype() {
            DType::F32 if is_element($x) => apply1(&$x.contiguous()?, function!($name, $forward, $backward, f32)),
            DType::BF16 if is_element($x) => apply1(&$x.contiguous()?, function!($name, $forward, $backward, bf16)),
            _ => $fallback($x),
        }
    };
}

/// `x · sigmoid(x)`.
///
/// - Shape: any; the output has the shape and dtype of `x`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    unary!(x, "silu", silu_forward, silu_backward, plain::silu)
}

/// GELU in its tanh approximation.
///
/// - Shape: any; the output has the shape and dtype of `x`.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    unary!(x, "gelu-tanh", gelu_tanh_forward, gelu_tanh_backward, plain::gelu_tanh)
}

/// GELU by the error function, within 3e-7 of the exact value relative to `|x|`.
///
/// - Shape: any; the output has the shape and dtype of `x`.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    unary!(x, "gelu-erf", gelu_erf_forward, gelu_erf_backward, plain::gelu_erf)
}

/// `silu(gate) · up` in one pass.
///
/// - Shape: `gate` and `up` are equal; so is the output.
///
/// # Errors
/// When the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !is_element(gate) || !is_element(up) || gate.dtype() != up.dtype() {
        return plain::swiglu(gate, up);
    }
    check::same_shape("swiglu", "up", gate, up)?;
    apply2(&gate.contiguous()?, &up.contiguous()?, SwiGlu)
}

impl<T: Element> CustomOp1 for Unary<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x: &[T] = elements(storage, layout)?;
        let mut y = output(x.len());
        if is_worth_it(x.len()) {
            y.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(y, x)| (self.forward)(x, y));
        } else {
            (self.forward)(x, &mut y);
        }
        Ok((T::storage(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x_lock, g_lock) = (Lock::new(x), Lock::new(&grad));
        let (xs, g) = (x_lock.elements::<T>()?, g_lock.elements::<T>()?);
        let mut dx = output(xs.len());
        if is_worth_it(xs.len()) {
            let parts = dx.par_chunks_mut(PIECE).zip(xs.par_chunks(PIECE).zip(g.par_chunks(PIECE)));
            parts.for_each(|(dx, (x, g))| (self.backward)(x, g, dx));
        } else {
            (self.backward)(xs, g, &mut dx);
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
        let y = with_element!(s1.dtype(), T => T::storage(swiglu_of::<T>(elements(s1, l1)?, elements(s2, l2)?)));
        Ok((y, l1.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        with_element!(gate.dtype(), T => swiglu_gradients::<T>(gate, up, &grad))
    }
}

fn swiglu_of<T: Element>(gate: &[T], up: &[T]) -> Vec<T> {
    let mut y = output(gate.len());
    if is_worth_it(gate.len()) {
        let parts = y.par_chunks_mut(PIECE).zip(gate.par_chunks(PIECE).zip(up.par_chunks(PIECE)));
        parts.for_each(|(y, (gate, up))| swiglu_forward(gate, up, y));
    } else {
        swiglu_forward(gate, up, &mut y);
    }
    y
}

fn swiglu_gradients<T: Element>(gate: &Tensor, up: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let locks = [gate, up, grad].map(Lock::new);
    let (gates, ups, g) = (locks[0].elements::<T>()?, locks[1].elements::<T>()?, locks[2].elements::<T>()?);
    let (mut d_gate, mut d_up) = (output(g.len()), output(g.len()));
    if is_worth_it(g.len()) {
        let inputs = gates.par_chunks(PIECE).zip(ups.par_chunks(PIECE)).zip(g.par_chunks(PIECE));
        let parts = d_gate.par_chunks_mut(PIECE).zip(d_up.par_chunks_mut(PIECE)).zip(inputs);
        parts.for_each(|((d_gate, d_up), ((gate, up), g))| swiglu_backward(gate, up, g, d_gate, d_up));
    } else {
        swiglu_backward(gates, ups, g, &mut d_gate, &mut d_up);
    }
    let d_gate = if gate.track_op() { Some(tensor(d_gate, gate.dims())?) } else { None };
    let d_up = if up.track_op() { Some(tensor(d_up, up.dims())?) } else { None };
    Ok((d_gate, d_up))
}

multiversion! {
    fn silu_forward<S, T: Element>(x: &[T], y: &mut [T]) {
        for (y, x) in y.iter_mut().zip(x) {
            let x = x.wide();
            *y = T::narrow(x * sigmoid::<S>(x));
        }
    }
}

/// Derivative of silu: `σ(x)·(1 + x·(1 − σ(x)))`, given `s = σ(x)`.
#[inline(always)]
fn silu_slope<S: Isa>(x: f32, s: f32) -> f32 {
    s * S::fma(x, 1. - s, 1.)
}

multiversion! {
    fn silu_backward<S, T: Element>(x: &[T], g: &[T], dx: &mut [T]) {
        for ((dx, x), g) in dx.iter_mut().zip(x).zip(g) {
            let (x, g) = (x.wide(), g.wide());
            *dx = T::narrow(g * silu_slope::<S>(x, sigmoid::<S>(x)));
        }
    }
}

multiversion! {
    fn swiglu_forward<S, T: Element>(gate: &[T], up: &[T], y: &mut [T]) {
        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
            let gate = gate.wide();
            *y = T::narrow(gate * sigmoid::<S>(gate) * up.wide());
        }
    }
}

multiversion! {
    fn swiglu_backward<S, T: Element>(gate: &[T], up: &[T], g: &[T], d_gate: &mut [T], d_up: &mut [T]) {
        let n = g.len();
        let (gate, up, d_gate, d_up) = (&gate[..n], &up[..n], &mut d_gate[..n], &mut d_up[..n]);
        for i in 0..n {
            let (gate, g) = (gate[i].wide(), g[i].wide());
            let s = sigmoid::<S>(gate);
            d_up[i] = T::narrow(g * gate * s);
            d_gate[i] = T::narrow(g * up[i].wide() * silu_slope::<S>(gate, s));
        }
    }
}

/// 2·√(2/π): twice the slope of the tanh approximation at zero.
const TWO_SQRT_2_OVER_PI: f32 = 1.595_769;
/// Cubic coefficient of the tanh approximation.
const CUBIC: f32 = 0.044715;

multiversion! {
    fn gelu_tanh_forward<S, T: Element>(x: &[T], y: &mut [T]) {
        for (y, x) in y.iter_mut().zip(x) {
            let x = x.wide();
            *y = T::narrow(x * sigmoid::<S>(TWO_SQRT_2_OVER_PI * S::fma(CUBIC * x * x, x, x)));
        }
    }
}

multiversion! {
    /// With `s = σ(2u)`: `d/dx x·s = s + x·s·(1 − s)·2u'`.
    fn gelu_tanh_backward<S, T: Element>(x: &[T], g: &[T], dx: &mut [T]) {
        for ((dx, x), g) in dx.iter_mut().zip(x).zip(g) {
            let (x, g) = (x.wide(), g.wide());
            let s = sigmoid::<S>(TWO_SQRT_2_OVER_PI * S::fma(CUBIC * x * x, x, x));
            let slope = TWO_SQRT_2_OVER_PI * S::fma(3. * CUBIC * x, x, 1.);
            *dx = T::narrow(g * S::fma(x * s * (1. - s), slope, s));
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
    fn gelu_erf_forward<S, T: Element>(x: &[T], y: &mut [T]) {
        for (y, x) in y.iter_mut().zip(x) {
            let x = x.wide();
            *y = T::narrow(x * normal_cdf::<S>(x));
        }
    }
}

/// 1/√(2π), the normal density at zero.
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

multiversion! {
    fn gelu_erf_backward<S, T: Element>(x: &[T], g: &[T], dx: &mut [T]) {
        for ((dx, x), g) in dx.iter_mut().zip(x).zip(g) {
            let (x, g) = (x.wide(), g.wide());
            let density = DENSITY_AT_ZERO * exp::<S>(-0.5 * x * x);
            *dx = T::narrow(g * S::fma(x, density, normal_cdf::<S>(x)));
        }
    }
}
