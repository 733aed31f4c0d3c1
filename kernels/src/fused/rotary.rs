//! Rotary position embedding, rotate-half layout (as in Hugging Face's Llama; Su et al. 2021, arXiv:2104.09864).
//!
//! ```text
//! (x₁, x₂) = halves of a head        y₁ = x₁·cos − x₂·sin        y₂ = x₂·cos + x₁·sin
//! ```
//! A rotation: the backward pass turns the gradient by the opposite angle and needs no input.
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use crate::access::F32Ref;
use crate::element::{Element, Lock, elements, in_f32, is_element, output, tensor, with_element};
use crate::parallel::{self, Disjoint};
use crate::simd::multiversion;
use crate::tape::{Gradients, apply3};
use crate::{check, plain};

/// Positions of one task.
const POSITIONS: usize = 32;

/// Turns each head of `x` by its position's angles.
///
/// - Shape: `x` is `[B, T, H, d]` with even `d`; `cos` and `sin` are `[T, d/2]` (shared by the batch) or `[B, T, d/2]`; the output
///   has the shape and dtype of `x`.
/// - The tables are constants: no gradient reaches them.
///
/// # Errors
/// When the shapes do not fit.
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if ![x, cos, sin].into_iter().all(is_element) {
        return plain::rotary(x, cos, sin);
    }
    check::rotary(x, cos, sin)?;
    apply3(&x.contiguous()?, &in_f32(&cos.detach())?, &in_f32(&sin.detach())?, Rotary)
}

struct Rotary;

impl CustomOp3 for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
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
        let (cos, sin) = (elements::<f32>(s2, l2)?, elements::<f32>(s3, l3)?);
        let y = with_element!(s1.dtype(), T => T::storage(turn(elements::<T>(s1, l1)?, l1.dims(), cos, sin, 1.)));
        Ok((y, l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, cos: &Tensor, sin: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        let (cos, sin) = (F32Ref::new(cos)?, F32Ref::new(sin)?);
        let dx = with_element!(x.dtype(), T => {
            tensor(turn(Lock::new(&grad).elements::<T>()?, x.dims(), &cos, &sin, -1.), x.dims())?
        });
        Ok((Some(dx), None, None))
    }
}

/// Rotation of `x: [B, T, H, d]` by the angles, or by their opposites for `sign = −1`.
fn turn<T: Element>(x: &[T], dims: &[usize], cos: &[f32], sin: &[f32], sign: f32) -> Vec<T> {
    let (positions, width, half) = (dims[0] * dims[1], dims[2] * dims[3], dims[3] / 2);
    let angles = cos.len() / half; // T or B·T
    let mut y = output(x.len());
    let target = Disjoint::new(&mut y);
    parallel::for_each(positions.div_ceil(POSITIONS), x.len(), |task| {
        for position in task * POSITIONS..((task + 1) * POSITIONS).min(positions) {
            let (start, angle) = (position * width, position % angles * half);
            // SAFETY: each position belongs to one task, and its slice ends before the next one is made.
            let y = unsafe { target.range(start, start + width) };
            turn_heads(&x[start..start + width], &cos[angle..angle + half], &sin[angle..angle + half], sign, y);
        }
    });
    y
}

multiversion! {
    /// All heads of one position.
    fn turn_heads<S, T: Element>(x: &[T], cos: &[f32], sin: &[f32], sign: f32, y: &mut [T]) {
        let half = cos.len();
        let sin = &sin[..half];
        for (x, y) in x.chunks_exact(2 * half).zip(y.chunks_exact_mut(2 * half)) {
            let (x1, x2) = x.split_at(half);
            let (y1, y2) = y.split_at_mut(half);
            let (x2, y1, y2) = (&x2[..half], &mut y1[..half], &mut y2[..half]);
            for i in 0..half {
                let (a, b, s) = (x1[i].wide(), x2[i].wide(), sign * sin[i]);
                y1[i] = T::narrow(S::fma(a, cos[i], -(b * s)));
                y2[i] = T::narrow(S::fma(b, cos[i], a * s));
            }
        }
    }
}
