//! LAuReL's low-rank map in one operation, where it stands alone ([`super::merge`] has it inside the residual).
//!
//! ```text
//! low_rank       y = (x·down)·up          down: [D, r]    up: [r, D]
//! backward, z = x·down kept [rows, r] and e = g·upᵀ:
//!   dx = e·downᵀ     d_down = xᵀ·e     d_up = zᵀ·g
//! ```
//! Source: LAuReL (arXiv:2411.07501) §2.2. The operation is bound by memory: x is read once per direction.
use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use crate::access::{F32Ref, is_fast};
use crate::element::{elements, in_f32, is_element, output, tensor};
use crate::gemm::{Operand, Product, skinny};
use crate::parallel::{self, Disjoint};
use crate::simd::{Isa, LANES, multiversion};
use crate::tape::{Gradients, apply3};
use crate::{check, plain};

/// Rows of one task, and of one partial sum of the weights' gradients.
const ROWS: usize = 128;
/// Ranks up to which the branch is bound by memory and goes without packed products.
pub(super) const THIN: usize = 16;
/// Widths up to which `x·down` goes column by column of registers: sums along so short a row would cost more than its products.
const NARROW: usize = 128;

/// `(x·down)·up`, in f32 also where the maps are bf16.
///
/// - Shape: `x` is `[.., D]`, `down` is `[D, r]`, `up` is `[r, D]`; the output has the shape and dtype of `x`.
/// - Cost: `4·r·D` FLOPs per row forward, twice that backward. The D x D product is never formed.
/// - Kept for backward: `x` and `x·down`, r numbers per row.
///
/// # Errors
/// When the shapes do not fit.
pub fn low_rank(x: &Tensor, down: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !is_fast(&[x]) || !is_element(down) || !is_element(up) {
        return plain::low_rank(x, down, up);
    }
    check::low_rank(x, down, up)?;
    apply3(&x.contiguous()?, &in_f32(down)?, &in_f32(up)?, LowRank { inner: OnceLock::new() })
}

struct LowRank {
    /// `x·down`, `[rows, r]`, from the forward pass.
    inner: OnceLock<Vec<f32>>,
}

/// `z = x·columns` over rows of width `d`; `columns` is `[D, r]`, `rows` the same as `[r, D]`, read up to rank [`THIN`] only.
pub(super) fn reduce(x: &[f32], rows: &[f32], columns: &[f32], r: usize, z: &mut [f32], d: usize) {
    if d <= NARROW && r.is_multiple_of(LANES) {
        z.fill(0.);
        add_thin(x, columns, d, z);
    } else if r <= THIN {
        skinny::product_one_thread(x, rows, z, d);
    } else {
        Product::new(x.len() / d, r, d).one_thread().into(Operand::rows(x, d), Operand::rows(columns, r), z, r);
    }
}

/// `y += z·up` over rows; `up` as rows for few columns of `z` (up to [`THIN`]), as an operand for more.
pub(super) fn expand(z: &[f32], thin_up: &[f32], up: Operand<'_>, r: usize, y: &mut [f32], d: usize) {
    if r <= THIN {
        add_thin(z, thin_up, r, y);
    } else {
        Product::new(y.len() / d, d, r).one_thread().adding().into(Operand::rows(z, r), up, y, d);
    }
}

impl CustomOp3 for LowRank {
    fn name(&self) -> &'static str {
        "low-rank"
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
        let (x, down, up) = (elements::<f32>(s1, l1)?, elements::<f32>(s2, l2)?, elements::<f32>(s3, l3)?);
        let (d, r) = l2.shape().dims2()?;
        let rows = x.len() / d;
        let turned = if r <= THIN { transposed(down, r) } else { Vec::new() };
        let (mut y, mut z) = (output(x.len()), output(rows * r));
        let (target_y, target_z) = (Disjoint::new(&mut y), Disjoint::new(&mut z));
        parallel::for_each(rows.div_ceil(ROWS), x.len(), |task| {
            let (start, end) = (task * ROWS, ((task + 1) * ROWS).min(rows));
            // SAFETY: each task has its own rows of both results.
            let (y, z) = unsafe { (target_y.range(start * d, end * d), target_z.range(start * r, end * r)) };
            reduce(&x[start * d..end * d], &turned, down, r, z, d);
            y.fill(0.);
            expand(z, up, Operand::rows(up, d), r, y, d);
        });
        let _ = self.inner.set(z);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, down: &Tensor, up: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        let (xs, a, b, g) = (F32Ref::new(x)?, F32Ref::new(down)?, F32Ref::new(up)?, F32Ref::new(&grad)?);
        let z = self.inner.get().map_or(&[][..], Vec::as_slice);
        let (d, r) = down.dims2()?;
        let rows = xs.len() / d;
        let turned_down = if r <= THIN { transposed(&a, r) } else { Vec::new() };
        let turned_up = transposed(&b, d);
        let mut dx = output(xs.len());
        let target = Disjoint::new(&mut dx);
        let parts = parallel::map(rows.div_ceil(ROWS), xs.len(), |task| {
            let (start, end) = (task * ROWS, ((task + 1) * ROWS).min(rows));
            let count = end - start;
            // SAFETY: each task has its own rows.
            let dx = unsafe { target.range(start * d, end * d) };
            let (x, g, z) = (&xs[start * d..end * d], &g[start * d..end * d], &z[start * r..end * r]);
            let mut e = output(count * r);
            reduce(g, &b, &turned_up, r, &mut e, d);
            dx.fill(0.);
            expand(&e, &turned_down, Operand::rows(&a, r).t(), r, dx, d);
            let e = Operand::rows(&e, r);
            // d_down transposed, [r, D], so that both sums have long rows
            let mut sums = output(2 * r * d);
            let (d_down, d_up) = sums.split_at_mut(r * d);
            Product::new(r, d, count).one_thread().into(e.t(), Operand::rows(x, d), d_down, d);
            Product::new(r, d, count).one_thread().into(Operand::rows(z, r).t(), Operand::rows(g, d), d_up, d);
            sums
        });
        let mut sums = vec![0f32; 2 * r * d];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        let d_up = sums.split_off(r * d);
        let dx = if x.track_op() { Some(tensor(dx, x.dims())?) } else { None };
        let d_down = if down.track_op() { Some(tensor(sums, &[r, d])?.t()?.contiguous()?) } else { None };
        let d_up = if up.track_op() { Some(tensor(d_up, &[r, d])?) } else { None };
        Ok((dx, d_down, d_up))
    }
}

/// `[D, r]` as `[r, D]`.
pub(super) fn transposed(down: &[f32], r: usize) -> Vec<f32> {
    let d = down.len() / r.max(1);
    let mut turned = output(down.len());
    for (i, row) in down.chunks_exact(r.max(1)).enumerate() {
        for (column, value) in row.iter().enumerate() {
            turned[column * d + i] = *value;
        }
    }
    turned
}

multiversion! {
    /// `y += z·up` over rows, for few columns of `z`: one pass over `y`.
    fn add_thin<S>(z: &[f32], up: &[f32], r: usize, y: &mut [f32]) {
        let d = up.len() / r;
        for (z, y) in z.chunks_exact(r).zip(y.chunks_exact_mut(d)) {
            let mut column = 0;
            while column + 4 * LANES <= d {
                add_columns::<S, 64>(z, up, y, column);
                column += 4 * LANES;
            }
            while column + LANES <= d {
                add_columns::<S, LANES>(z, up, y, column);
                column += LANES;
            }
            while column < d {
                add_columns::<S, 1>(z, up, y, column);
                column += 1;
            }
        }
    }
}

/// `N` columns of one row of [`add_thin`].
#[inline(always)]
fn add_columns<S: Isa, const N: usize>(z: &[f32], up: &[f32], y: &mut [f32], column: usize) {
    let mut sums = [0f32; N];
    sums.copy_from_slice(&y[column..column + N]);
    for (&z, up) in z.iter().zip(up.chunks_exact(y.len())) {
        for (sum, &up) in sums.iter_mut().zip(&up[column..column + N]) {
            *sum = S::fma(z, up, *sum);
        }
    }
    y[column..column + N].copy_from_slice(&sums);
}
