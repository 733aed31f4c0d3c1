//! Conversion between f32 and bf16, on all threads, with the gradient converted back.
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use half::bf16;
use rayon::prelude::*;

use crate::element::{Element, elements, is_element, output};
use crate::parallel::{PIECE, is_worth_it};
use crate::simd::multiversion;
use crate::tape::apply1;

/// `x` in another float dtype: rounded to nearest even when it gets narrower.
///
/// # Errors
/// When candle cannot convert the dtypes.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    if !is_element(x) || !matches!(dtype, DType::F32 | DType::BF16) {
        return x.to_dtype(dtype);
    }
    apply1(&x.contiguous()?, Cast)
}

/// From either format to the other.
struct Cast;

impl CustomOp1 for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = match storage {
            CpuStorage::BF16(_) => f32::storage(converted::<bf16, f32>(elements(storage, layout)?)),
            _ => bf16::storage(converted::<f32, bf16>(elements(storage, layout)?)),
        };
        Ok((y, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        cast(&grad.detach(), x.dtype()).map(Some)
    }
}

fn converted<A: Element, B: Element>(x: &[A]) -> Vec<B> {
    let mut y = output::<B>(x.len());
    if is_worth_it(x.len()) {
        y.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(y, x)| convert(x, y));
    } else {
        convert(x, &mut y);
    }
    y
}

multiversion! {
    pub(super) fn convert<S, A: Element, B: Element>(x: &[A], y: &mut [B]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = B::narrow(x.wide());
        }
    }
}
