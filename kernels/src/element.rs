//! The two number formats of activations: f32, and bf16, which is the upper half of an f32.
//!
//! Kernels compute in f32 and are written once over [`Element`]: reading widens exactly, writing rounds to nearest, ties to even.
use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, Var, bail};
use half::bf16;

use crate::simd::{Isa, LANES};

/// A number format of activations.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// The number as f32, exactly.
    fn wide(self) -> f32;
    /// The nearest number of the format.
    fn narrow(x: f32) -> Self;
    /// A row as f32: itself, or widened into the buffer of its length.
    fn row<'a>(x: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32];
    /// Sixteen numbers of memory as f32 in a vector.
    fn load<S: Isa>(x: &[Self; LANES]) -> S::V;
    /// The elements of a storage of this format.
    fn slice(storage: &CpuStorage) -> Result<&[Self]>;
    /// A storage that owns the elements.
    fn storage(data: Vec<Self>) -> CpuStorage;
}

impl Element for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn row<'a>(x: &'a [Self], _buffer: &'a mut [f32]) -> &'a [f32] {
        x
    }

    #[inline(always)]
    fn load<S: Isa>(x: &[Self; LANES]) -> S::V {
        S::load(x)
    }

    fn slice(storage: &CpuStorage) -> Result<&[Self]> {
        storage.as_slice()
    }

    fn storage(data: Vec<Self>) -> CpuStorage {
        CpuStorage::F32(data)
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        // branch-free, so that loops vectorise: adding half of the last place kept, or just below it for an even one, rounds
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        Self::from_bits(if x.is_nan() { quiet } else { rounded } as u16)
    }

    #[inline(always)]
    fn row<'a>(x: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
        for (wide, &x) in buffer.iter_mut().zip(x) {
            *wide = x.wide();
        }
        buffer
    }

    #[inline(always)]
    fn load<S: Isa>(x: &[Self; LANES]) -> S::V {
        S::load_bf16(x)
    }

    fn slice(storage: &CpuStorage) -> Result<&[Self]> {
        storage.as_slice()
    }

    fn storage(data: Vec<Self>) -> CpuStorage {
        CpuStorage::BF16(data)
    }
}

/// Whether a tensor is in one of the formats, on the CPU.
pub(crate) fn is_element(t: &Tensor) -> bool {
    matches!(t.dtype(), DType::F32 | DType::BF16) && matches!(t.device(), Device::Cpu)
}

/// The elements of a contiguous operand of a custom operation.
pub(crate) fn elements<'a, T: Element>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("fused operation: expected a contiguous operand, found {layout:?}")
    };
    Ok(&T::slice(storage)?[start..end])
}

/// A read lock on the contiguous elements of a tensor.
pub(crate) struct Lock<'a> {
    storage: StorageRef<'a>,
    layout: Layout,
}

impl<'a> Lock<'a> {
    pub(crate) fn new(t: &'a Tensor) -> Self {
        let (storage, layout) = t.storage_and_layout();
        let layout = layout.clone();
        Self { storage, layout }
    }

    /// The elements, which must be of format `T`.
    pub(crate) fn elements<T: Element>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => elements(storage, &self.layout),
            _ => bail!("fused operation: expected a tensor on the CPU"),
        }
    }
}

/// A vector of `n` elements for a kernel to fill.
///
/// Not zeroed: a training step writes hundreds of megabytes of results, and clearing each first costs as much again.
pub(crate) fn output<T: Element>(n: usize) -> Vec<T> {
    let mut data = Vec::with_capacity(n);
    // SAFETY: the capacity is `n`; every kernel writes each element before anything reads it, and neither format has invalid bit
    // patterns or a destructor.
    #[allow(clippy::uninit_vec, reason = "kernels write every element before any is read")]
    unsafe {
        data.set_len(n);
    }
    data
}

/// A CPU tensor that owns `data`, with no history.
pub(crate) fn tensor<T: Element>(data: Vec<T>, dims: &[usize]) -> Result<Tensor> {
    from_storage(T::storage(data), dims)
}

/// A CPU tensor over a storage, with no history.
pub(crate) fn from_storage(storage: CpuStorage, shape: impl Into<Shape>) -> Result<Tensor> {
    match storage {
        CpuStorage::F32(data) => Tensor::from_vec(data, shape, &Device::Cpu),
        CpuStorage::BF16(data) => Tensor::from_vec(data, shape, &Device::Cpu),
        _ => bail!("fused operation: expected an f32 or bf16 result"),
    }
}

/// A variable over a storage: a leaf whose gradient is tracked.
pub(crate) fn variable(storage: CpuStorage, shape: Shape) -> Result<Tensor> {
    Ok(match storage {
        CpuStorage::F32(data) => Var::from_vec(data, shape, &Device::Cpu)?.as_tensor().clone(),
        CpuStorage::BF16(data) => Var::from_vec(data, shape, &Device::Cpu)?.as_tensor().clone(),
        _ => bail!("fused operation: expected an f32 or bf16 result"),
    })
}

/// The tensor in f32 and contiguous: itself, or converted by candle (small ones: weights of norms, biases).
pub(crate) fn in_f32(t: &Tensor) -> Result<Tensor> {
    t.to_dtype(DType::F32)?.contiguous()
}

/// Runs `$body` with `$t` naming the format of a dtype.
macro_rules! with_element {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            other => candle_core::bail!("fused operation: expected f32 or bf16, found {other:?}"),
        }
    };
}
pub(crate) use with_element;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even_and_keeps_special_values() {
        for bits in
            (0..u32::MAX).step_by(9973).chain([0x3f80_8000, 0x3f81_8000, 0x7f7f_ffff, 0x7f80_0000, 0xff80_0000, 0x8000_0000])
        {
            let x = f32::from_bits(bits);
            let (found, wanted) = (<bf16 as Element>::narrow(x), bf16::from_f32(x));
            assert!(found.to_bits() == wanted.to_bits() || x.is_nan() && found.is_nan(), "{x}: {found} instead of {wanted}");
        }
    }

    #[test]
    fn every_bf16_number_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let x = bf16::from_bits(bits);
            assert!(x.wide().to_bits() == x.to_f32().to_bits() || x.is_nan());
        }
    }
}
