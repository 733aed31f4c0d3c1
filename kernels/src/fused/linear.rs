//! Linear layer with the weight stored as published checkpoints store it, `[out, in]`.
//!
//! ```text
//! y = x·wᵀ + bias        dx = g·w        dw = gᵀ·x        dbias = Σ_rows g
//! ```
//! The products read `w` through its strides: nothing is transposed in memory. A few rows take the path that reads the
//! weight once. In [`Numerics::Bf16`] x, y and their gradients are bf16, the weight is rounded while it is packed, and its gradient
//! is f32; in [`Numerics::F32Split`] everything is f32 and the products are split.
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Tensor};
use half::bf16;

use crate::access::{F32Ref, is_fast, to_f32};
use crate::element::{Element, Lock, elements, is_element, output, tensor, with_element};
use crate::gemm::bf16::{Matrix, Numbers, Rounding};
use crate::gemm::{Operand, Product, skinny};
use crate::parallel;
use crate::simd::multiversion;
use crate::tape::{Gradients, Layer, apply_layer};
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
    apply_layer(x, w, bias, Linear)
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
    apply_layer(&x, w, bias, Rounded(rounding))
}

/// A linear layer whose products round their operands. The output has the dtype of x, the weight is f32.
struct Rounded(Rounding);

impl Layer for Rounded {
    fn name(&self) -> &'static str {
        "linear-rounded"
    }

    fn forward(&self, x: &CpuStorage, l: &Layout, w: &[f32], shape: &Shape, bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let (out, k) = shape.dims2()?;
        let rows = l.shape().elem_count() / k;
        let y = with_element!(x.dtype(), T => {
            let (mut y, x) = (output::<T>(rows * out), elements::<T>(x, l)?);
            Product::new(rows, out, k).rounded(self.0, Matrix::rows(x, k), Matrix::rows(w, k).t(), bias, &mut y, out);
            T::storage(y)
        });
        Ok((y, with_last(l.dims(), out)))
    }

    fn backward(&self, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, grad: &Tensor) -> Result<Gradients> {
        with_element!(x.dtype(), T => self.gradients::<T>(x, w, bias, grad))
    }
}

impl Rounded {
    fn gradients<T: crate::gemm::bf16::Output>(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Gradients>
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
        Ok((dx, dw, bias_gradient(g, bias)?))
    }
}

/// The dimensions with another last one.
fn with_last(dims: &[usize], last: usize) -> Shape {
    let mut dims = dims.to_vec();
    if let Some(d) = dims.last_mut() {
        *d = last;
    }
    dims.into()
}

/// Sum over the rows of the output's gradient, where wanted.
pub(super) fn bias_gradient<T: Element>(g: &[T], bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let wanted = bias.filter(|bias| bias.track_op());
    wanted.map(|bias| tensor(column_sums(g, bias.elem_count()), bias.dims())).transpose()
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

impl Layer for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, x: &CpuStorage, l: &Layout, w: &[f32], shape: &Shape, bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let (x, (out, k)) = (elements::<f32>(x, l)?, shape.dims2()?);
        let mut y = output(x.len() / k * out);
        product(x, w, bias, &mut y, k);
        Ok((CpuStorage::F32(y), with_last(l.dims(), out)))
    }

    fn backward(&self, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, grad: &Tensor) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        let (xs, ws, g) = (F32Ref::new(x)?, F32Ref::new(w)?, F32Ref::new(&grad)?);
        let (out, k) = w.dims2()?;
        let rows = xs.len() / k;
        let dx = if x.track_op() {
            let mut dx = output(rows * k);
            Product::new(rows, k, out).into(Operand::rows(&g, out), Operand::rows(&ws, k), &mut dx, k);
            Some(tensor(dx, x.dims())?)
        } else {
            None
        };
        let dw = if w.track_op() {
            let mut dw = output(out * k);
            Product::new(out, k, rows).into(Operand::rows(&g, out).t(), Operand::rows(&xs, k), &mut dw, k);
            Some(tensor(dw, w.dims())?)
        } else {
            None
        };
        Ok((dx, dw, bias_gradient::<f32>(&g, bias)?))
    }
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
        let y = apply_layer(&args[0], &args[1], Some(&args[2]), Rounded(Rounding::Split))?;
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
