//! Joining a block's output with the residual side.
//!
//! ```text
//! add(a, b) = a + b
//! merge     = α·fx + β·residual          ab = (α, β), scalars or one pair per feature
//! backward: dfx = α·g     d_residual = β·g     dα = Σ g·fx     dβ = Σ g·residual     (over rows, and over features for scalars)
//! ```
//! `a` or `residual` is the stream; `b` or `fx` may be bf16 beside an f32 stream.
//!
//! Source: LAuReL (arXiv:2411.07501) §2.1 for the weighted form.
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use half::bf16;
use rayon::prelude::*;

use super::cast;
use crate::access::{F32Ref, f32s, is_fast, output, tensor};
use crate::element::{Element, Lock, elements, in_f32, is_element, output_of, tensor_of, with_element};
use crate::parallel::{self, Disjoint, PIECE, is_worth_it};
use crate::simd::{dot, multiversion};
use crate::tape::{apply2, apply3};
use crate::{check, plain};

/// Rows of one task, and of one partial sum of the weights' gradients.
const ROWS: usize = 64;

/// `a + b` of equal shapes, on all threads; the output has the dtype of `a`.
///
/// # Errors
/// When the shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !is_element(a) || !is_element(b) {
        return plain::add(a, b);
    }
    check::same_shape("add", "b", a, b)?;
    apply2(&a.contiguous()?, &b.contiguous()?, Add)
}

/// `ab[0]·fx + ab[1]·residual`.
///
/// - Shape: `fx` and `residual` are `[.., D]`; `ab` is `[2]` (scalars) or `[2, D]` (per feature); the output is like `residual`.
/// - Kept for backward: the arguments.
///
/// # Errors
/// When the shapes do not fit.
pub fn merge(fx: &Tensor, residual: &Tensor, ab: &Tensor) -> Result<Tensor> {
    if !is_fast(&[residual]) || !is_element(fx) || !is_element(ab) {
        return plain::merge(fx, residual, ab);
    }
    check::merge(fx, residual, ab)?;
    apply3(&fx.contiguous()?, &residual.contiguous()?, &in_f32(ab)?, Merge)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let half = |s: &CpuStorage| matches!(s, CpuStorage::BF16(_));
        let y = match (half(s1), half(s2)) {
            (false, false) => sums::<f32, f32>(elements(s1, l1)?, elements(s2, l2)?),
            (false, true) => sums::<f32, bf16>(elements(s1, l1)?, elements(s2, l2)?),
            (true, false) => sums::<bf16, f32>(elements(s1, l1)?, elements(s2, l2)?),
            (true, true) => sums::<bf16, bf16>(elements(s1, l1)?, elements(s2, l2)?),
        };
        Ok((y, l1.shape().clone()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let db = if b.track_op() { Some(cast(grad, b.dtype())?) } else { None };
        Ok((a.track_op().then(|| grad.clone()), db))
    }
}

fn sums<A: Element, B: Element>(a: &[A], b: &[B]) -> CpuStorage {
    let mut y = output_of::<A>(a.len());
    if is_worth_it(a.len()) {
        y.par_chunks_mut(PIECE).zip(a.par_chunks(PIECE).zip(b.par_chunks(PIECE))).for_each(|(y, (a, b))| add_slices(a, b, y));
    } else {
        add_slices(a, b, &mut y);
    }
    A::storage(y)
}

multiversion! {
    fn add_slices<S, A: Element, B: Element>(a: &[A], b: &[B], y: &mut [A]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = A::narrow(a.wide() + b.wide());
        }
    }
}

struct Merge;

/// Pieces of `[.., D]` by whole rows: tasks, and the range of elements of each.
fn tasks(len: usize, d: usize) -> (usize, impl Fn(usize) -> (usize, usize)) {
    let step = (PIECE / d).clamp(1, ROWS) * d;
    (len.div_ceil(step), move |task| (task * step, ((task + 1) * step).min(len)))
}

impl CustomOp3 for Merge {
    fn name(&self) -> &'static str {
        "merge"
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
        let (residual, ab) = (f32s(s2, l2)?, f32s(s3, l3)?);
        let y = match s1 {
            CpuStorage::BF16(_) => merged::<bf16>(elements(s1, l1)?, residual, ab, l1.dims()),
            _ => merged::<f32>(elements(s1, l1)?, residual, ab, l1.dims()),
        };
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        fx: &Tensor,
        residual: &Tensor,
        ab: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        with_element!(fx, T => merge_gradients::<T>(fx, residual, ab, &grad))
    }
}

fn merged<T: Element>(fx: &[T], residual: &[f32], ab: &[f32], dims: &[usize]) -> Vec<f32> {
    let (alpha, beta) = ab.split_at(ab.len() / 2);
    let mut y = output(fx.len());
    let target = Disjoint::new(&mut y);
    let (count, range) = tasks(fx.len(), dims[dims.len() - 1]);
    parallel::for_each(count, fx.len(), |task| {
        let (start, end) = range(task);
        // SAFETY: each task has its own rows.
        let y = unsafe { target.range(start, end) };
        merge_forward(&fx[start..end], &residual[start..end], alpha, beta, y);
    });
    y
}

fn merge_gradients<T: Element>(
    fx: &Tensor,
    residual: &Tensor,
    ab: &Tensor,
    grad: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
    let f_lock = Lock::new(fx);
    let (fs, rs, abs, g) = (f_lock.elements::<T>()?, F32Ref::new(residual)?, F32Ref::new(ab)?, F32Ref::new(grad)?);
    let width = abs.len() / 2;
    let (alpha, beta) = abs.split_at(width);
    let (mut d_fx, mut d_residual) = (output_of::<T>(g.len()), output(g.len()));
    let (target_f, target_r) = (Disjoint::new(&mut d_fx), Disjoint::new(&mut d_residual));
    let (count, range) = tasks(g.len(), fx.dims()[fx.rank() - 1]);
    let parts = parallel::map(count, g.len(), |task| {
        let (start, end) = range(task);
        let mut sums = vec![0f32; 2 * width];
        // SAFETY: each task has its own rows of both results.
        let (d_fx, d_residual) = unsafe { (target_f.range(start, end), target_r.range(start, end)) };
        merge_backward(&fs[start..end], &rs[start..end], &g[start..end], (alpha, beta), d_fx, d_residual, &mut sums);
        sums
    });
    let mut sums = vec![0f64; 2 * width];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
    }
    let d_fx = if fx.track_op() { Some(tensor_of(d_fx, fx.dims())?) } else { None };
    let d_residual = if residual.track_op() { Some(tensor(d_residual, residual.dims())?) } else { None };
    let d_ab = if ab.track_op() { Some(tensor(sums.into_iter().map(|sum| sum as f32).collect(), ab.dims())?) } else { None };
    Ok((d_fx, d_residual, d_ab))
}

multiversion! {
    fn merge_forward<S, T: Element>(fx: &[T], residual: &[f32], alpha: &[f32], beta: &[f32], y: &mut [f32]) {
        if let (&[alpha], &[beta]) = (alpha, beta) {
            for ((y, f), &r) in y.iter_mut().zip(fx).zip(residual) {
                *y = S::fma(alpha, f.wide(), beta * r);
            }
            return;
        }
        let d = alpha.len();
        for ((y, f), r) in y.chunks_exact_mut(d).zip(fx.chunks_exact(d)).zip(residual.chunks_exact(d)) {
            for ((((y, f), &r), &alpha), &beta) in y.iter_mut().zip(f).zip(r).zip(alpha).zip(beta) {
                *y = S::fma(alpha, f.wide(), beta * r);
            }
        }
    }
}

multiversion! {
    fn merge_backward<S, T: Element>(
        fx: &[T],
        residual: &[f32],
        g: &[f32],
        ab: (&[f32], &[f32]),
        d_fx: &mut [T],
        d_residual: &mut [f32],
        sums: &mut [f32],
    ) {
        let (alpha, beta) = ab;
        let d = alpha.len();
        if let (&[alpha], &[beta]) = (alpha, beta) {
            for ((&g, d_fx), d_residual) in g.iter().zip(d_fx).zip(d_residual) {
                *d_fx = T::narrow(alpha * g);
                *d_residual = beta * g;
            }
            let mut buffer = vec![0f32; fx.len()];
            sums[0] = dot::<S>(g, T::row(fx, &mut buffer));
            sums[1] = dot::<S>(g, residual);
            return;
        }
        let (d_alpha, d_beta) = sums.split_at_mut(d);
        let (d_alpha, d_beta, alpha, beta) = (&mut d_alpha[..d], &mut d_beta[..d], &alpha[..d], &beta[..d]);
        let inputs = fx.chunks_exact(d).zip(residual.chunks_exact(d)).zip(g.chunks_exact(d));
        for (((f, r), g), (d_fx, d_residual)) in inputs.zip(d_fx.chunks_exact_mut(d).zip(d_residual.chunks_exact_mut(d))) {
            for i in 0..d {
                d_fx[i] = T::narrow(alpha[i] * g[i]);
                d_residual[i] = beta[i] * g[i];
                d_alpha[i] = S::fma(g[i], f[i].wide(), d_alpha[i]);
                d_beta[i] = S::fma(g[i], r[i], d_beta[i]);
            }
        }
    }
}
