//! Linear layer with the weight stored as published checkpoints store it, `[out, in]`.
//!
//! ```text
//! y = x·wᵀ + bias        dx = g·w        dw = gᵀ·x        dbias = Σ_rows g
//! ```
//! The products read `w` through its strides: nothing is transposed in memory. A few rows take the path that reads the
//! weight once.
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};
use half::bf16;

use crate::access::{F32Ref, f32s, is_fast, output, tensor, to_f32};
use crate::gemm::{Operand, Product, skinny};
use crate::parallel;
use crate::simd::multiversion;
use crate::{check, plain};

/// `x·wᵀ + bias`.
///
/// - Shape: `x` is `[.., in]`, `w` is `[out, in]`, `bias` is `[out]`; the output is `[.., out]`.
/// - Cost: `2·in·out` FLOPs per row forward, twice that backward.
/// - A bf16 weight that needs no gradient is read as it is, with f32 sums; `x` is then f32 or bf16 and the output has its dtype.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if is_bf16_inference(x, w, bias) {
        return linear_bf16(x, w, bias);
    }
    if !is_fast(&[x, w]) || bias.is_some_and(|bias| !is_fast(&[bias])) {
        return plain::linear(x, w, bias);
    }
    check::linear(x, w, bias)?;
    match bias {
        Some(bias) => x.contiguous()?.apply_op3(&w.contiguous()?, &bias.contiguous()?, Linear),
        None => x.contiguous()?.apply_op2(&w.contiguous()?, Linear),
    }
}

/// A weight kept in bf16 to be read faster, where nothing has to be trained.
fn is_bf16_inference(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> bool {
    let frozen = !x.track_op() && !w.track_op() && !bias.is_some_and(Tensor::track_op);
    frozen && matches!(x.device(), Device::Cpu) && w.dtype() == DType::BF16 && matches!(x.dtype(), DType::F32 | DType::BF16)
}

/// Rows of the weight that are widened at a time for a packed product.
const WIDENED: usize = 256;

/// [`linear`] with a bf16 weight: a few rows read it directly, more of them take it in widened blocks.
fn linear_bf16(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut dims = check::linear(x, w, bias)?;
    let (out, k) = w.dims2()?;
    let (xs, bias) = (to_f32(x)?, bias.map(to_f32).transpose()?);
    let w = w.contiguous()?;
    let (storage, layout) = w.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("linear: argument `w`: expected a contiguous weight on the CPU, found {layout:?}")
    };
    let ws = &storage.as_slice::<bf16>()?[start..end];
    let rows = xs.len() / k;
    let mut y = output(rows * out);
    // each group of rows widens the weight again, so this path ends at half as many rows as for f32
    if skinny::is_faster(2 * rows, ws.len()) {
        skinny::product(&xs, ws, bias.as_deref(), &mut y, k);
    } else {
        for first in (0..out).step_by(WIDENED) {
            let count = WIDENED.min(out - first);
            let wide: Vec<f32> = ws[first * k..(first + count) * k].iter().map(|w| w.to_f32()).collect();
            Product::new(rows, count, k).into(Operand::rows(&xs, k), Operand::rows(&wide, k).t(), &mut y[first..], out);
        }
        if let Some(bias) = &bias {
            y.chunks_exact_mut(out.max(1)).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
        }
    }
    let last = dims.len() - 1;
    dims[last] = out;
    tensor(y, &dims)?.to_dtype(x.dtype())
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (y, shape) = forward(f32s(s1, l1)?, l1, f32s(s2, l2)?, l2, None)?;
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        backward(x, w, &grad.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear-bias"
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
        let (y, shape) = forward(f32s(s1, l1)?, l1, f32s(s2, l2)?, l2, Some(f32s(s3, l3)?))?;
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (dx, dw) = backward(x, w, &grad)?;
        let db =
            if bias.track_op() { Some(tensor(column_sums(&F32Ref::new(&grad)?, bias.elem_count()), bias.dims())?) } else { None };
        Ok((dx, dw, db))
    }
}

fn forward(x: &[f32], l1: &Layout, w: &[f32], l2: &Layout, bias: Option<&[f32]>) -> Result<(Vec<f32>, Shape)> {
    let (out, k) = l2.shape().dims2()?;
    let rows = x.len() / k;
    let mut dims = l1.dims().to_vec();
    dims[l1.dims().len() - 1] = out;
    let mut y = output(rows * out);
    product(x, w, bias, &mut y, k);
    Ok((y, dims.into()))
}

/// `y = x·wᵀ + bias` over slices, rows of `k`.
pub(crate) fn product(x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32], k: usize) {
    let (rows, out) = (x.len() / k, w.len() / k);
    if skinny::is_faster(rows, w.len()) {
        skinny::product(x, w, bias, y, k);
        return;
    }
    let product = Product::new(rows, out, k);
    let (a, b) = (Operand::rows(x, k), Operand::rows(w, k).t());
    match bias {
        Some(bias) if out > 0 => {
            y.chunks_exact_mut(out).for_each(|row| row.copy_from_slice(bias));
            product.adding().into(a, b, y, out);
        }
        _ => product.into(a, b, y, out),
    }
}

fn backward(x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (xs, ws, g) = (F32Ref::new(x)?, F32Ref::new(w)?, F32Ref::new(grad)?);
    let (out, k) = w.dims2()?;
    let rows = xs.len() / k;
    let dx = if x.track_op() {
        let mut dx = output(rows * k);
        Product::new(rows, k, out).into(Operand::rows(&g, out), Operand::rows(&ws, k), &mut dx, k);
        Some(tensor(dx, x.dims())?)
    } else {
        None
    };
    let dw = if w.track_op() { Some(tensor(weight_gradient(&g, &xs, out, k), w.dims())?) } else { None };
    Ok((dx, dw))
}

/// `gᵀ·x`, `[out, k]`.
fn weight_gradient(g: &[f32], x: &[f32], out: usize, k: usize) -> Vec<f32> {
    let rows = x.len() / k;
    let mut dw = output(out * k);
    Product::new(out, k, rows).into(Operand::rows(g, out).t(), Operand::rows(x, k), &mut dw, k);
    dw
}

/// Rows of one partial sum.
const ROWS: usize = 128;

/// Sums over rows of width `d`: partial sums of [`ROWS`] rows, added in order.
pub(crate) fn column_sums(x: &[f32], d: usize) -> Vec<f32> {
    let parts = parallel::map(x.len().div_ceil((ROWS * d).max(1)), x.len(), |task| {
        let mut sums = vec![0f32; d];
        add_rows(&x[task * ROWS * d..((task + 1) * ROWS * d).min(x.len())], &mut sums);
        sums
    });
    let mut sums = vec![0f32; d];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    sums
}

multiversion! {
    fn add_rows<S>(x: &[f32], sums: &mut [f32]) {
        for row in x.chunks_exact(sums.len()) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}
