//! Attention of new positions over a key-value cache, for batches of sequences of different lengths. Forward only.
//!
//! ```text
//! query t of row b attends to cached positions 0 ..= past[b] + t
//! ```
//! The query heads of a group read the same keys, so their rows are taken together: a task is one key-value head of one sequence
//! and a block of positions, its scores are `[positions·group, keys]`.
use candle_core::{Result, Tensor, bail};

use super::KvSlab;
use crate::access::F32Ref;
use crate::element::{output, tensor};
use crate::fused::softmax_rows;
use crate::gemm::{Operand, Product, skinny};
use crate::parallel::{self, Disjoint};
use crate::simd::{Isa, multiversion};

/// Rows of scores of one task.
const ROWS: usize = 64;
/// Rows up to which sums over the values beat a packed product.
const FEW: usize = 8;

/// Attention of the newest positions over everything cached for their row, the newest included.
///
/// - Shape: `q` is `[B, T, H, d]`, the caches hold B rows of K heads with H a multiple of K; the output is `[B, T, H, d]` f32.
/// - `past[b]`: valid positions of row b before the new ones; the keys and values of the new ones are already in the cache.
/// - Agrees with [`crate::causal_attention`] to rounding. `q` of another float dtype is computed in f32. No backward.
///
/// # Errors
/// When the shapes do not fit or a row's cache is shorter than `past[b] + T`.
pub fn attention_cached(q: &Tensor, keys: &KvSlab, values: &KvSlab, past: &[usize], scale: f64) -> Result<Tensor> {
    let &[b, t, heads, d] = q.dims() else {
        bail!("attention_cached: argument `q`: expected shape [B, T, H, d], found {:?}", q.dims())
    };
    for (name, slab) in [("keys", keys), ("values", values)] {
        if slab.rows() != b || slab.head_dim() != d || slab.kv_heads() == 0 || heads % slab.kv_heads() != 0 {
            let found = (slab.rows(), slab.kv_heads(), slab.head_dim());
            bail!(
                "attention_cached: argument `{name}`: expected {b} rows, a divisor of {heads} heads, head dimension {d}, found {found:?}"
            );
        }
        if let Some(row) = past.iter().position(|past| past + t > slab.capacity()) {
            let needed = past[row] + t;
            bail!(
                "attention_cached: argument `{name}`: row {row}: expected {needed} positions, found room for {}",
                slab.capacity()
            );
        }
    }
    if past.len() != b || keys.kv_heads() != values.kv_heads() {
        bail!("attention_cached: expected {b} lengths and equal numbers of heads, found {} lengths", past.len());
    }
    if q.elem_count() == 0 {
        return q.to_dtype(candle_core::DType::F32);
    }
    let q = q.detach().to_dtype(candle_core::DType::F32)?.contiguous()?;
    let q = F32Ref::new(&q)?;
    let mut o = output(q.len());
    let call = Call { q: &q, keys, values, heads, d, t, scale: scale as f32, o: Disjoint::new(&mut o) };
    let group = heads / keys.kv_heads();
    let positions = (ROWS / group).max(1);
    let blocks = t.div_ceil(positions);
    let longest = past.iter().max().map_or(0, |past| past + t);
    parallel::for_each(b * keys.kv_heads() * blocks, b * heads * t * longest * d / 4, |task| {
        let (place, block) = (task / blocks, task % blocks);
        let (row, kv_head) = (place / keys.kv_heads(), place % keys.kv_heads());
        let first = block * positions;
        call.block(row, kv_head, first..(first + positions).min(t), past[row]);
    });
    tensor(o, &[b, t, heads, d])
}

/// One call's arguments.
struct Call<'a> {
    /// `[B, T, H, d]`
    q: &'a [f32],
    keys: &'a KvSlab,
    values: &'a KvSlab,
    heads: usize,
    d: usize,
    t: usize,
    scale: f32,
    /// `[B, T, H, d]`
    o: Disjoint<'a, f32>,
}

impl Call<'_> {
    /// The given positions of one key-value head's group.
    fn block(&self, row: usize, kv_head: usize, positions: std::ops::Range<usize>, past: usize) {
        let d = self.d;
        let group = self.heads / self.keys.kv_heads();
        let rows = positions.len() * group;
        let keys = past + positions.end;
        let (key, value) = (&self.keys.head(row, kv_head)[..keys * d], &self.values.head(row, kv_head)[..keys * d]);
        let start = |position: usize| ((row * self.t + position) * self.heads + kv_head * group) * d;
        // the group's queries of a position are neighbours: [positions·group, d]
        let queries: Vec<f32> =
            positions.clone().flat_map(|p| &self.q[start(p)..start(p) + group * d]).map(|q| q * self.scale).collect();
        let mut scores = output(rows * keys);
        let mut result = output(rows * d);
        if skinny::is_faster(rows, key.len()) {
            skinny::product_one_thread(&queries, key, &mut scores, d);
        } else {
            Product::new(rows, keys, d).one_thread().into(
                Operand::rows(&queries, d),
                Operand::rows(key, d).t(),
                &mut scores,
                keys,
            );
        }
        softmax_rows(&mut scores, keys, past + positions.start, group, &mut vec![0.; rows]);
        if rows <= FEW {
            weighted_sums(&scores, value, d, &mut result);
        } else {
            Product::new(rows, d, keys).one_thread().into(Operand::rows(&scores, keys), Operand::rows(value, d), &mut result, d);
        }
        for (position, result) in positions.zip(result.chunks_exact(group * d)) {
            // SAFETY: this group's heads of this position belong to this task.
            unsafe { self.o.range(start(position), start(position) + group * d) }.copy_from_slice(result);
        }
    }
}

multiversion! {
    /// `result[r, :] = Σₗ weights[r, l]·values[l, :]`.
    fn weighted_sums<S>(weights: &[f32], values: &[f32], d: usize, result: &mut [f32]) {
        let keys = values.len() / d;
        for (weights, result) in weights.chunks_exact(keys).zip(result.chunks_exact_mut(d)) {
            let mut column = 0;
            while column + 64 <= d {
                weighted_columns::<S, 64>(weights, values, d, column, result);
                column += 64;
            }
            while column + 16 <= d {
                weighted_columns::<S, 16>(weights, values, d, column, result);
                column += 16;
            }
            while column < d {
                weighted_columns::<S, 1>(weights, values, d, column, result);
                column += 1;
            }
        }
    }
}

/// [`weighted_sums`] for `N` columns held in registers.
#[inline(always)]
fn weighted_columns<S: Isa, const N: usize>(weights: &[f32], values: &[f32], d: usize, column: usize, result: &mut [f32]) {
    let mut sums = [0f32; N];
    for (&weight, value) in weights.iter().zip(values.chunks_exact(d)) {
        for (sum, &v) in sums.iter_mut().zip(&value[column..column + N]) {
            *sum = S::fma(weight, v, *sum);
        }
    }
    result[column..column + N].copy_from_slice(&sums);
}
