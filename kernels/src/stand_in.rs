//! Custom operations of more than three differentiable arguments, which candle's graph does not know (our [`crate::Tape`] does).
//!
//! An operation keeps its further arguments itself and is applied to *stand-ins* for them: tensors that have a shape and a place in
//! the graph but no elements. What the operation returns as a stand-in's gradient is handed on to the arguments behind it:
//!
//! ```text
//! sum(a, b)      shape of a     da = db = g                       no copy: v = a + b is never formed
//! bundle(a, …)   shape [Σ n]    the pieces of g, in order         any number of arguments of any shape
//! ```
//! A stand-in must never be read: only the operation that made it may take it as an argument.
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::element::{Element, with_element};
use crate::tape::Gradients;

/// A stand-in for `a + b` of equal shapes and formats.
pub(crate) fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2(b, Sum)
}

/// A stand-in for all arguments one behind the other, `[Σ elements]`.
pub(crate) fn bundle(args: &[&Tensor]) -> Result<Tensor> {
    match args {
        [] => bail!("a bundle of no tensors"),
        [a] => a.apply_op1(Bundle),
        [a, b] => a.apply_op2(b, Bundle),
        [a, b, c] => a.apply_op3(b, c, Bundle),
        [a, b, rest @ ..] => a.apply_op3(b, &bundle(rest)?, Bundle),
    }
}

fn no_elements() -> CpuStorage {
    CpuStorage::F32(vec![])
}

struct Sum;

impl CustomOp2 for Sum {
    fn name(&self) -> &'static str {
        "sum stand-in"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        // of the summands' format, because their gradient is
        let none = with_element!(s1.dtype(), T => T::storage(vec![]));
        Ok((none, l1.shape().clone()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((a.track_op().then(|| grad.clone()), b.track_op().then(|| grad.clone())))
    }
}

struct Bundle;

impl Bundle {
    fn pieces<const N: usize>(grad: &Tensor, args: [&Tensor; N]) -> Result<[Option<Tensor>; N]> {
        let mut pieces = [const { None }; N];
        let mut start = 0;
        for (piece, arg) in pieces.iter_mut().zip(args) {
            let len = arg.elem_count();
            if arg.track_op() {
                *piece = Some(grad.narrow(0, start, len)?.reshape(arg.shape())?);
            }
            start += len;
        }
        Ok(pieces)
    }
}

impl CustomOp1 for Bundle {
    fn name(&self) -> &'static str {
        "bundle of 1"
    }

    fn cpu_fwd(&self, _: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((no_elements(), l.shape().elem_count().into()))
    }

    fn bwd(&self, a: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [a] = Self::pieces(grad, [a])?;
        Ok(a)
    }
}

impl CustomOp2 for Bundle {
    fn name(&self) -> &'static str {
        "bundle of 2"
    }

    fn cpu_fwd(&self, _: &CpuStorage, l1: &Layout, _: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((no_elements(), (l1.shape().elem_count() + l2.shape().elem_count()).into()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = Self::pieces(grad, [a, b])?;
        Ok((a, b))
    }
}

impl CustomOp3 for Bundle {
    fn name(&self) -> &'static str {
        "bundle of 3"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        l1: &Layout,
        _: &CpuStorage,
        l2: &Layout,
        _: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((no_elements(), [l1, l2, l3].iter().map(|l| l.shape().elem_count()).sum::<usize>().into()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, c: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let [a, b, c] = Self::pieces(grad, [a, b, c])?;
        Ok((a, b, c))
    }
}
