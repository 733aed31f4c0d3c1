//! Causal grouped-query attention in its training form, without keeping the T x T matrix.
//!
//! ```text
//! P = softmax(scale·q·kᵀ + causal mask)        o = P·v        query head h reads key-value head h / (H/K)
//!
//! backward, P recomputed from the kept log-sum-exp of each row (Dao et al. 2022, arXiv:2205.14135, §3.1):
//!   dv = Pᵀ·do     dP = do·vᵀ     dS = P∘(dP − rowsum(do∘o))·scale     dq = dS·k     dk = dSᵀ·q
//! ```
//! Queries are taken [`BLOCK`] at a time against the keys up to the block's end, so the upper triangle is never computed beyond the
//! block on the diagonal. A task is one head (forward) or one key-value head with its group of query heads (backward, where they
//! add to the same gradient in order).
use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use crate::access::{F32Ref, f32s, is_fast, output, tensor};
use crate::gemm::{Operand, Product};
use crate::parallel::{self, Disjoint};
use crate::simd::{dot, exp, max, multiversion, sum};
use crate::{check, plain};

/// Queries per block.
const BLOCK: usize = 64;

/// `softmax(scale·q·kᵀ)·v` where position t attends to positions `0..=t`.
///
/// - Shape: `q` is `[B, T, H, d]`, `k` and `v` are `[B, T, K, d]` with H a multiple of K; the output is `[B, T, H, d]`.
/// - Cost: `4·H·d·(T + 1)/2` FLOPs per position forward, 2.5 times that backward.
/// - Kept for backward: the inputs, the output and one number per query and head.
///
/// # Errors
/// When the shapes do not fit.
pub fn causal_attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
    if !is_fast(&[q, k, v]) {
        return plain::causal_attention(q, k, v, scale);
    }
    check::attention(q, k, v)?;
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, Attention { scale: scale as f32, log_sums: OnceLock::new() })
}

struct Attention {
    scale: f32,
    /// `[B, H, T]`: log Σ exp(scale·q·k) of each row, from the forward pass.
    log_sums: OnceLock<Vec<f32>>,
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    t: usize,
    heads: usize,
    kv_heads: usize,
    d: usize,
}

impl Sizes {
    /// Distance of two positions of a query head.
    fn q_row(self) -> usize {
        self.heads * self.d
    }

    /// Distance of two positions of a key-value head.
    fn kv_row(self) -> usize {
        self.kv_heads * self.d
    }

    /// Offset of the first position of head `head` of batch row `row` in `[B, T, H, d]`.
    fn q_start(self, row: usize, head: usize) -> usize {
        row * self.t * self.q_row() + head * self.d
    }

    /// Offset of the first position of key-value head `head` of batch row `row` in `[B, T, K, d]`.
    fn kv_start(self, row: usize, head: usize) -> usize {
        row * self.t * self.kv_row() + head * self.d
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "causal-attention"
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
        let (q, k, v) = (f32s(s1, l1)?, f32s(s2, l2)?, f32s(s3, l3)?);
        let (b, t, heads, d) = l1.shape().dims4()?;
        let sizes = Sizes { t, heads, kv_heads: l2.dims()[2], d };
        let mut o = output(q.len());
        let mut log_sums = output(b * heads * t);
        let (target, target_sums) = (Disjoint::new(&mut o), Disjoint::new(&mut log_sums));
        parallel::for_each(b * heads, b * heads * t * t.max(d), |task| {
            // SAFETY: each task has its own head's sums.
            let sums = unsafe { target_sums.range(task * t, (task + 1) * t) };
            head_forward(sizes, (task / heads, task % heads), q, k, v, self.scale, &target, sums);
        });
        // a second run on the same operation object computes the same numbers
        let _ = self.log_sums.set(log_sums);
        Ok((CpuStorage::F32(o), l1.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        o: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (b, t, heads, d) = q.dims4()?;
        let sizes = Sizes { t, heads, kv_heads: k.dims()[2], d };
        let log_sums = self.log_sums.get().map_or(&[][..], Vec::as_slice);
        let inputs = Inputs {
            q: &F32Ref::new(q)?,
            k: &F32Ref::new(k)?,
            v: &F32Ref::new(v)?,
            o: &F32Ref::new(o)?,
            g: &F32Ref::new(&grad)?,
        };
        let (mut dq, mut dk, mut dv) = (output(inputs.q.len()), output(inputs.k.len()), output(inputs.v.len()));
        let (target_q, target_k, target_v) = (Disjoint::new(&mut dq), Disjoint::new(&mut dk), Disjoint::new(&mut dv));
        parallel::for_each(b * sizes.kv_heads, b * heads * t * t.max(d), |task| {
            let place = (task / sizes.kv_heads, task % sizes.kv_heads);
            group_backward(sizes, place, &inputs, log_sums, self.scale, [&target_q, &target_k, &target_v]);
        });
        let dq = if q.track_op() { Some(tensor(dq, q.dims())?) } else { None };
        let dk = if k.track_op() { Some(tensor(dk, k.dims())?) } else { None };
        let dv = if v.track_op() { Some(tensor(dv, v.dims())?) } else { None };
        Ok((dq, dk, dv))
    }
}

/// Output and log-sums of one query head.
#[allow(clippy::too_many_arguments, reason = "three inputs, two outputs, where and how")]
fn head_forward(
    sizes: Sizes,
    (row, head): (usize, usize),
    q: &[f32],
    k: &[f32],
    v: &[f32],
    scale: f32,
    o: &Disjoint<f32>,
    log_sums: &mut [f32],
) {
    let Sizes { t, d, .. } = sizes;
    let kv_head = head / (sizes.heads / sizes.kv_heads);
    let q = &q[sizes.q_start(row, head)..];
    let (k, v) = (&k[sizes.kv_start(row, kv_head)..], &v[sizes.kv_start(row, kv_head)..]);
    let mut scores = output(BLOCK.min(t) * t);
    for first in (0..t).step_by(BLOCK) {
        let rows = BLOCK.min(t - first);
        let keys = first + rows; // the block's last query sees this many
        let block = Operand::rows(&q[first * sizes.q_row()..], sizes.q_row());
        let product = Product::new(rows, keys, d).one_thread().scaled(scale);
        product.into(block, Operand::rows(k, sizes.kv_row()).t(), &mut scores, keys);
        softmax_rows(&mut scores[..rows * keys], keys, first, 1, &mut log_sums[first..first + rows]);
        let address = o.address(sizes.q_start(row, head) + first * sizes.q_row());
        let product = Product::new(rows, d, keys).one_thread();
        // SAFETY: the rows of this head belong to this task, are d wide and q_row ≥ d apart, and lie inside `o`.
        unsafe { product.into_address(Operand::rows(&scores, keys), Operand::rows(v, sizes.kv_row()), address, sizes.q_row()) };
    }
}

multiversion! {
    /// Softmax of the first `first + i / group + 1` entries of row `i`, zeros behind them, and each row's log-sum-exp.
    pub(crate) fn softmax_rows<S>(scores: &mut [f32], keys: usize, first: usize, group: usize, log_sums: &mut [f32]) {
        for (i, (row, log_sum)) in scores.chunks_exact_mut(keys).zip(log_sums).enumerate() {
            let (seen, hidden) = row.split_at_mut((first + i / group + 1).min(keys));
            hidden.fill(0.);
            let top = max::<S>(seen);
            for score in seen.iter_mut() {
                *score = exp::<S>(*score - top);
            }
            let total = sum::<S>(seen);
            let factor = 1. / total;
            for score in seen.iter_mut() {
                *score *= factor;
            }
            *log_sum = top + total.ln();
        }
    }
}

/// What the backward pass reads: queries, keys, values, output and its gradient.
struct Inputs<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    o: &'a [f32],
    g: &'a [f32],
}

/// Gradients of one key-value head and of the query heads that read it.
fn group_backward(
    sizes: Sizes,
    (row, kv_head): (usize, usize),
    inputs: &Inputs,
    log_sums: &[f32],
    scale: f32,
    [dq, dk, dv]: [&Disjoint<f32>; 3],
) {
    let Sizes { t, d, .. } = sizes;
    let (q_row, kv_row) = (sizes.q_row(), sizes.kv_row());
    let group = sizes.heads / sizes.kv_heads;
    let kv_start = sizes.kv_start(row, kv_head);
    let (k, v) = (Operand::rows(&inputs.k[kv_start..], kv_row), Operand::rows(&inputs.v[kv_start..], kv_row));
    // gradients of the key-value head gathered contiguously, [T, d] each
    let (mut k_sum, mut v_sum) = (vec![0f32; t * d], vec![0f32; t * d]);
    let (mut p, mut ds) = (output(BLOCK.min(t) * t), output(BLOCK.min(t) * t));
    for head in kv_head * group..(kv_head + 1) * group {
        let log_sums = &log_sums[(row * sizes.heads + head) * t..][..t];
        for first in (0..t).step_by(BLOCK) {
            let rows = BLOCK.min(t - first);
            let keys = first + rows;
            let start = sizes.q_start(row, head) + first * q_row;
            let (q, g) = (Operand::rows(&inputs.q[start..], q_row), Operand::rows(&inputs.g[start..], q_row));
            Product::new(rows, keys, d).one_thread().scaled(scale).into(q, k.t(), &mut p, keys);
            Product::new(rows, keys, d).one_thread().into(g, v.t(), &mut ds, keys);
            let (o, g_rows) = (&inputs.o[start..], &inputs.g[start..]);
            let (p, ds) = (&mut p[..rows * keys], &mut ds[..rows * keys]);
            softmax_backward(p, ds, keys, first, &log_sums[first..first + rows], o, g_rows, (q_row, d), scale);
            let (p, ds) = (Operand::rows(p, keys), Operand::rows(ds, keys));
            Product::new(keys, d, rows).one_thread().adding().into(p.t(), g, &mut v_sum, d);
            Product::new(keys, d, rows).one_thread().adding().into(ds.t(), q, &mut k_sum, d);
            let product = Product::new(rows, d, keys).one_thread();
            // SAFETY: the rows of this head belong to this task, are d wide and q_row ≥ d apart, and lie inside `dq`.
            unsafe { product.into_address(ds, k, dq.address(start), q_row) };
        }
    }
    for (target, sum) in [(dk, &k_sum), (dv, &v_sum)] {
        for (position, sum) in sum.chunks_exact(d.max(1)).enumerate() {
            let start = kv_start + position * kv_row;
            // SAFETY: this key-value head belongs to this task.
            unsafe { target.range(start, start + d) }.copy_from_slice(sum);
        }
    }
}

multiversion! {
    /// Turns scores into P and dP into dS, row by row.
    #[allow(clippy::too_many_arguments, reason = "the row-wise step of the formula reads all of them")]
    fn softmax_backward<S>(
        p: &mut [f32],
        ds: &mut [f32],
        keys: usize,
        first: usize,
        log_sums: &[f32],
        o: &[f32],
        g: &[f32],
        widths: (usize, usize),
        scale: f32,
    ) {
        let (q_row, d) = widths;
        for (i, ((p, ds), &log_sum)) in p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys)).zip(log_sums).enumerate() {
            let delta = dot::<S>(&o[i * q_row..i * q_row + d], &g[i * q_row..i * q_row + d]);
            let seen = (first + i + 1).min(keys);
            p[seen..].fill(0.);
            ds[seen..].fill(0.);
            for (p, ds) in p[..seen].iter_mut().zip(&mut ds[..seen]) {
                *p = exp::<S>(*p - log_sum);
                *ds = *p * (*ds - delta) * scale;
            }
        }
    }
}
