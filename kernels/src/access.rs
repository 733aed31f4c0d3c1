//! Reading f32 tensors and ids as slices; [`crate::element`] has the activations in either format.
use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, Layout, Result, Storage, StorageRef, Tensor, bail};

/// The fused path is taken when every tensor is f32 on the CPU.
pub(crate) fn is_fast(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32 && matches!(t.device(), Device::Cpu))
}

/// The u32 elements of a contiguous operand of a custom operation.
pub(crate) fn u32s<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [u32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("fused operation: expected contiguous ids, found {layout:?}")
    };
    Ok(&storage.as_slice::<u32>()?[start..end])
}

/// A read lock on the contiguous f32 elements of a tensor.
pub(crate) struct F32Ref<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> F32Ref<'a> {
    /// Locks a contiguous f32 CPU tensor for reading.
    pub(crate) fn new(t: &'a Tensor) -> Result<Self> {
        let (storage, layout) = t.storage_and_layout();
        let (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
            bail!(
                "fused operation: expected a contiguous f32 tensor on the CPU, found {:?} {layout:?} on {:?}",
                t.dtype(),
                t.device()
            )
        };
        Ok(Self { storage, start, end })
    }
}

impl Deref for F32Ref<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.start..self.end],
            _ => unreachable!("checked in `new`"),
        }
    }
}

/// Elements of any float tensor as f32, in order.
pub(crate) fn to_f32(t: &Tensor) -> Result<Vec<f32>> {
    t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
}
