//! Linear layer with the weight stored as published checkpoints store it, `[out, in]`.
//!
//! ```text
//! y = x·wᵀ + bias        dx = g·w        dw = gᵀ·x        dbias = Σ_rows g
//! ```
//! The products read `w` through its strides: nothing is transposed in memory. A few rows take the path that reads the
//! weight once. In [`Numerics::Bf16`] x, y and their gradients are bf16, the weight is rounded while it is packed, and its gradient
//! is f32; in [`Numerics::F32Split`] everything is f32 and the products are split.
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Tensor};
use half::bf16;

use crate::access::{F32Ref, is_fast, to_f32};
use crate::element::{Element, Lock, elements, in_f32, is_element, output, tensor};
use crate::gemm::bf16::{Matrix, Numbers, Rounding};
use crate::gemm::{Operand, Product, skinny};
use crate::parallel;
use crate::simd::multiversion;
use crate::tape::{apply2, apply3};
use crate::{Numerics, check, plain};

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
        Some(bias) => apply3(&x.contiguous()?, &w.contiguous()?, &bias.contiguous()?, Linear),
        None => apply2(&x.contiguous()?, &w.contiguous()?, Linear),
    }
}

/// [`linear`] in the given numerics.
///
/// - [`Numerics::F32`]: as [`linear`], whatever the dtypes.
/// - [`Numerics::F32Split`]: f32 in and out; split products where they pay (processors with matrix tiles), else as [`linear`].
/// - [`Numerics::Bf16`]: `x` in f32 is rounded first; the output is bf16. The weight may be f32 or, frozen, bf16. A frozen f32 weight
///   is rounded for many rows but not for a few (up to 24, of a large weight 64), which read it as it is: there a row's result depends,
///   within the stated error, on how many rows stand beside it. A weight kept in bf16 is the same number either way.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear_in(numerics: Numerics, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let rounding = match Rounding::of(numerics) {
        None => return linear(x, w, bias),
        Some(Rounding::Split) if !is_fast(&[x, w]) => return linear(x, w, bias),
        Some(rounding) => rounding,
    };
    if ![x, w, bias.unwrap_or(w)].into_iter().all(is_element) {
        return plain::linear(x, w, bias);
    }
    check::linear(x, w, bias)?;
    let x = if rounding == Rounding::Once { super::cast(x, DType::BF16)? } else { x.clone() };
    if is_bf16_inference(&x, w, bias) {
        return linear_bf16(&x, w, bias);
    }
    let rows = x.elem_count() / w.dims()[1];
    let is_trained = [&x, w, bias.unwrap_or(w)].into_iter().any(Tensor::track_op);
    if !is_trained && skinny::is_faster(rows, w.elem_count()) {
        return super::cast(&linear(&super::cast(&x, DType::F32)?, w, bias)?, x.dtype()); // a few rows: bound by reading the weight
    }
    let (x, w) = (x.contiguous()?, in_f32(w)?);
    match bias {
        Some(bias) => apply3(&x, &w, &in_f32(bias)?, Rounded(rounding)),
        None => apply2(&x, &w, Rounded(rounding)),
    }
}

/// A linear layer whose products round their operands. The output has the dtype of x, the weight is f32.
struct Rounded(Rounding);

impl Rounded {
    fn forward(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let w = elements::<f32>(s2, l2)?;
        let (out, k) = l2.shape().dims2()?;
        let mut dims = l1.dims().to_vec();
        dims[l1.dims().len() - 1] = out;
        let rows = l1.shape().elem_count() / k;
        let product = Product::new(rows, out, k);
        let y = if matches!(s1, CpuStorage::BF16(_)) {
            let mut y = output::<bf16>(rows * out);
            product.rounded(self.0, Matrix::rows(elements::<bf16>(s1, l1)?, k), Matrix::rows(w, k).t(), bias, &mut y, out);
            bf16::storage(y)
        } else {
            let mut y = output(rows * out);
            product.rounded(self.0, Matrix::rows(elements::<f32>(s1, l1)?, k), Matrix::rows(w, k).t(), bias, &mut y, out);
            f32::storage(y)
        };
        Ok((y, dims.into()))
    }

    fn backward<T: crate::gemm::bf16::Output>(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)>
    where
        for<'b> Numbers<'b>: From<&'b [T]>,
    {
        let grad = grad.contiguous()?;
        let (x_lock, g_lock, ws) = (Lock::new(x), Lock::new(&grad), F32Ref::new(w)?);
        let (xs, g) = (x_lock.elements::<T>()?, g_lock.elements::<T>()?);
        let (out, k) = w.dims2()?;
        let rows = xs.len() / k;
        let dx = if x.track_op() {
            let mut dx = output::<T>(rows * k);
            Product::new(rows, k, out).rounded(self.0, Matrix::rows(g, out), Matrix::rows(&ws[..], k), None, &mut dx, k);
            Some(tensor(dx, x.dims())?)
        } else {
            None
        };
        let dw = if w.track_op() {
            let mut dw = output::<f32>(out * k);
            Product::new(out, k, rows).rounded(self.0, Matrix::rows(g, out).t(), Matrix::rows(xs, k), None, &mut dw, k);
            Some(tensor(dw, w.dims())?)
        } else {
            None
        };
        let db = match bias {
            Some(bias) if bias.track_op() => Some(tensor(column_sums(g, out), bias.dims())?),
            _ => None,
        };
        Ok((dx, dw, db))
    }

    fn gradients(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        match x.dtype() {
            DType::BF16 => self.backward::<bf16>(x, w, bias, grad),
            _ => self.backward::<f32>(x, w, bias, grad),
        }
    }
}

impl CustomOp2 for Rounded {
    fn name(&self) -> &'static str {
        "linear-rounded"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(s1, l1, s2, l2, None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = self.gradients(x, w, None, grad)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Rounded {
    fn name(&self) -> &'static str {
        "linear-rounded-bias"
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
        self.forward(s1, l1, s2, l2, Some(elements::<f32>(s3, l3)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, w, Some(bias), grad)
    }
}

/// A weight kept in bf16 to be read faster, where nothing has to be trained.
fn is_bf16_inference(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> bool {
    let frozen = !x.track_op() && !w.track_op() && !bias.is_some_and(Tensor::track_op);
    frozen && matches!(x.device(), Device::Cpu) && w.dtype() == DType::BF16 && matches!(x.dtype(), DType::F32 | DType::BF16)
}

/// Rows of the weight that are widened at a time for a packed product.
const WIDENED: usize = 256;

/// [`linear`] with a bf16 weight: a few rows read it directly; more of them take a product of bf16 operands when x is bf16 too, and
/// the weight in widened blocks otherwise.
fn linear_bf16(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut dims = check::linear(x, w, bias)?;
    let (out, k) = w.dims2()?;
    let bias = bias.map(to_f32).transpose()?;
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    let (x_lock, w_lock) = (Lock::new(&x), Lock::new(&w));
    let ws = w_lock.elements::<bf16>()?;
    let rows = x.elem_count() / k;
    let last = dims.len() - 1;
    dims[last] = out;
    // each group of rows widens the weight again, so this path ends at half as many rows as for f32
    if skinny::is_faster(2 * rows, ws.len()) {
        let mut y = output(rows * out);
        skinny::product(&to_f32(&x)?, ws, bias.as_deref(), &mut y, k);
        return tensor(y, &dims)?.to_dtype(x.dtype());
    }
    if x.dtype() == DType::BF16 {
        let mut y = output::<bf16>(rows * out);
        let (a, b) = (Matrix::rows(x_lock.elements::<bf16>()?, k), Matrix::rows(ws, k).t());
        Product::new(rows, out, k).rounded(Rounding::Once, a, b, bias.as_deref(), &mut y, out);
        return tensor(y, &dims);
    }
    let xs = x_lock.elements::<f32>()?;
    let mut y = output(rows * out);
    for first in (0..out).step_by(WIDENED) {
        let count = WIDENED.min(out - first);
        let wide: Vec<f32> = ws[first * k..(first + count) * k].iter().map(|w| w.to_f32()).collect();
        Product::new(rows, count, k).into(Operand::rows(xs, k), Operand::rows(&wide, k).t(), &mut y[first..], out);
    }
    if let Some(bias) = &bias {
        y.chunks_exact_mut(out.max(1)).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
    }
    tensor(y, &dims)
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (y, shape) = forward(elements::<f32>(s1, l1)?, l1, elements::<f32>(s2, l2)?, l2, None)?;
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
        let (y, shape) = forward(elements::<f32>(s1, l1)?, l1, elements::<f32>(s2, l2)?, l2, Some(elements::<f32>(s3, l3)?))?;
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
        let db = if bias.track_op() {
            Some(tensor(column_sums::<f32>(&F32Ref::new(&grad)?, bias.elem_count()), bias.dims())?)
        } else {
            None
        };
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
pub(crate) fn column_sums<T: Element>(x: &[T], d: usize) -> Vec<f32> {
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
    /// Adds the rows of `x`, of which the last may be shorter, to sums of their width.
    pub(super) fn add_rows<S, T: Element>(x: &[T], sums: &mut [f32]) {
        for row in x.chunks(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x.wide();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    /// Split products in a linear layer, which a processor without tiles never chooses by itself.
    #[test]
    fn a_split_linear_layer_follows_f64() -> Result<()> {
        let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 504. - 1.;
        let var = |dims: &[usize], seed: usize| {
            let count = dims.iter().product::<usize>();
            Var::from_vec((0..count).map(|i| value(i + seed)).collect(), dims, &Device::Cpu)
        };
        let args = [var(&[37, 70], 0)?, var(&[33, 70], 100)?, var(&[33], 200)?];
        let wide = args.iter().map(|x| Var::from_tensor(&x.to_dtype(DType::F64)?)).collect::<Result<Vec<_>>>()?;
        let y = apply3(&args[0], &args[1], &args[2], Rounded(Rounding::Split))?;
        let wanted = plain::linear(&wide[0], &wide[1], Some(&wide[2]))?;
        let close = |found: &Tensor, wanted: &Tensor| -> Result<f64> {
            let difference = (found.to_dtype(DType::F64)? - wanted)?.abs()?.max_all()?.to_scalar::<f64>()?;
            Ok(difference / wanted.abs()?.max_all()?.to_scalar::<f64>()?)
        };
        // 3·2⁻¹⁶ of Σ|a·b|, which is a few times the largest sum
        assert!(close(&y, &wanted)? < 1e-4);
        let (grads, wanted_grads) = (y.sqr()?.sum_all()?.backward()?, wanted.sqr()?.sum_all()?.backward()?);
        for (x, wide) in args.iter().zip(&wide) {
            let (grad, wanted) = (grads.get(x).expect("a gradient"), wanted_grads.get(wide).expect("a gradient"));
            assert!(close(grad, wanted)? < 2e-4, "{}", close(grad, wanted)?);
        }
        Ok(())
    }
}
