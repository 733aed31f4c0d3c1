//! Rows of a table by id, and the scattered sum that is its gradient.
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::access::{F32Ref, is_fast, u32s};
use crate::element::{elements, output, tensor};
use crate::parallel::{self, Disjoint};
use crate::tape::apply2;
use crate::{check, plain};

/// Columns of one task of the backward pass: 1 KiB of each row.
const COLUMNS: usize = 256;
/// Ids of one task of the forward pass.
const IDS: usize = 128;

/// `table[ids]`.
///
/// - Shape: `table` is `[V, D]`, `ids` are u32 `[..]`; the output is `[.., D]`.
/// - Backward: rows of the gradient are added up in the order of the ids, so the bits do not depend on the threads.
///
/// # Errors
/// When the shapes do not fit or an id is not below V.
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    if !is_fast(&[table]) {
        return plain::embedding(table, ids);
    }
    check::embedding(table, ids)?;
    apply2(&table.contiguous()?, &ids.contiguous()?, Embedding)
}

struct Embedding;

impl CustomOp2 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (table, ids) = (elements::<f32>(s1, l1)?, u32s(s2, l2)?);
        let (rows, d) = l1.shape().dims2()?;
        if let Some(position) = ids.iter().position(|&id| id as usize >= rows) {
            bail!("embedding: id at position {position}: expected below {rows}, found {}", ids[position]);
        }
        let mut y = output(ids.len() * d);
        let target = Disjoint::new(&mut y);
        parallel::for_each(ids.len().div_ceil(IDS), ids.len() * d, |task| {
            for (position, &id) in ids.iter().enumerate().skip(task * IDS).take(IDS) {
                let id = id as usize;
                // SAFETY: each position belongs to one task.
                unsafe { target.range(position * d, (position + 1) * d) }.copy_from_slice(&table[id * d..(id + 1) * d]);
            }
        });
        let mut dims = l2.dims().to_vec();
        dims.push(d);
        Ok((CpuStorage::F32(y), dims.into()))
    }

    fn bwd(&self, table: &Tensor, ids: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let g = F32Ref::new(&grad)?;
        let (rows, d) = table.dims2()?;
        let ids = ids.flatten_all()?.to_vec1::<u32>()?;
        let mut sums = vec![0f32; rows * d];
        let target = Disjoint::new(&mut sums);
        parallel::for_each(d.div_ceil(COLUMNS), g.len(), |task| {
            let (start, end) = (task * COLUMNS, ((task + 1) * COLUMNS).min(d));
            for (&id, g) in ids.iter().zip(g.chunks_exact(d.max(1))) {
                let row = id as usize * d;
                // SAFETY: each task has its own columns of every row.
                let sums = unsafe { target.range(row + start, row + end) };
                sums.iter_mut().zip(&g[start..end]).for_each(|(sum, g)| *sum += g);
            }
        });
        Ok((Some(tensor(sums, table.dims())?), None))
    }
}
