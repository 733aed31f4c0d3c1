//! Causal grouped-query attention in its training form, without keeping the T x T matrix.
//!
//! ```text
//! P = softmax(scale·q·kᵀ + causal mask)        o = P·v        query head h reads key-value head h / (H/K)
//!
//! backward, P recomputed from the kept log-sum-exp of each row (Dao et al. 2022, arXiv:2205.14135, §3.1):
//!   dv = Pᵀ·do     dP = do·vᵀ     dS = P∘(dP − rowsum(do∘o))·scale     dq = dS·k     dk = dSᵀ·q
//! ```
//! Arguments are f32, or bf16 with bf16 products; scores, their softmax and all sums are f32 in either.
//!
//! Queries are taken [`BLOCK`] at a time against the keys up to the block's end, so the upper triangle is never computed beyond the
//! block on the diagonal. A task is one query head; backward, the gradients of a key-value head that a group of query heads reads are
//! added up afterwards in their order.
use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use half::bf16;

use super::cast::convert;
use crate::element::{Element, Lock, elements, is_element, output, tensor, with_element};
use crate::gemm::bf16::{Matrix, Output, Rounding};
use crate::gemm::{Operand, Product};
use crate::parallel::{self, Disjoint};
use crate::simd::{dot, exp, max, multiversion, sum};
use crate::tape::{Gradients, apply3};
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
    if ![q, k, v].into_iter().all(is_element) || q.dtype() != k.dtype() || q.dtype() != v.dtype() {
        return plain::causal_attention(q, k, v, scale);
    }
    check::attention(q, k, v)?;
    let op = Attention { scale: scale as f32, log_sums: OnceLock::new() };
    apply3(&q.contiguous()?, &k.contiguous()?, &v.contiguous()?, op)
}

/// Products of one format of activations.
trait Format: Output {
    /// `c = alpha·a·b` in f32, or added to it.
    fn scores(p: Product, a: View<'_, Self>, b: View<'_, Self>, c: &mut [f32], row: usize);
    /// `c = a·b` in the format.
    ///
    /// # Safety
    /// As [`Product::into_address`].
    unsafe fn product(p: Product, a: View<'_, Self>, b: View<'_, Self>, c: *mut Self, row: usize);
    /// Weights in the format: themselves, or rounded into the buffer.
    fn weights<'a>(weights: &'a [f32], buffer: &'a mut Vec<Self>) -> &'a [Self];
}

/// A matrix whose rows are `row` apart, or its transpose.
#[derive(Clone, Copy)]
struct View<'a, T> {
    data: &'a [T],
    row: usize,
    transposed: bool,
}

impl<'a, T> View<'a, T> {
    fn rows(data: &'a [T], row: usize) -> Self {
        Self { data, row, transposed: false }
    }

    fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }
}

impl Format for f32 {
    fn scores(p: Product, a: View<'_, f32>, b: View<'_, f32>, c: &mut [f32], row: usize) {
        p.into(operand(a), operand(b), c, row);
    }

    unsafe fn product(p: Product, a: View<'_, f32>, b: View<'_, f32>, c: *mut f32, row: usize) {
        // SAFETY: the caller's promise.
        unsafe { p.into_address(operand(a), operand(b), c, row) }
    }

    fn weights<'a>(weights: &'a [f32], _buffer: &'a mut Vec<f32>) -> &'a [f32] {
        weights
    }
}

fn operand(view: View<'_, f32>) -> Operand<'_> {
    let rows = Operand::rows(view.data, view.row);
    if view.transposed { rows.t() } else { rows }
}

impl Format for bf16 {
    fn scores(p: Product, a: View<'_, bf16>, b: View<'_, bf16>, c: &mut [f32], row: usize) {
        p.rounded(Rounding::Once, matrix(a), matrix(b), None, c, row);
    }

    unsafe fn product(p: Product, a: View<'_, bf16>, b: View<'_, bf16>, c: *mut bf16, row: usize) {
        // SAFETY: the caller's promise.
        unsafe { p.rounded_to(Rounding::Once, matrix(a), matrix(b), None, bf16::target(c), row) }
    }

    fn weights<'a>(weights: &'a [f32], buffer: &'a mut Vec<bf16>) -> &'a [bf16] {
        if buffer.len() < weights.len() {
            *buffer = output(weights.len());
        }
        let buffer = &mut buffer[..weights.len()];
        convert(weights, buffer);
        buffer
    }
}

fn matrix(view: View<'_, bf16>) -> Matrix<'_> {
    let rows = Matrix::rows(view.data, view.row);
    if view.transposed { rows.t() } else { rows }
}

struct Attention {
    scale: f32,
    /// `[B, H, T]`: log Σ exp(scale·q·k) of each row, from the forward pass.
    log_sums: OnceLock<Vec<f32>>,
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    b: usize,
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
        let (b, t, heads, d) = l1.shape().dims4()?;
        let sizes = Sizes { b, t, heads, kv_heads: l2.dims()[2], d };
        let o = with_element!(s1.dtype(), T => self.forward::<T>(sizes, elements(s1, l1)?, elements(s2, l2)?, elements(s3, l3)?));
        Ok((o, l1.shape().clone()))
    }

    fn bwd(&self, q: &Tensor, k: &Tensor, v: &Tensor, o: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        with_element!(q.dtype(), T => self.backward::<T>([q, k, v, o, &grad]))
    }
}

impl Attention {
    fn forward<T: Format>(&self, sizes: Sizes, q: &[T], k: &[T], v: &[T]) -> CpuStorage {
        let Sizes { b, t, heads, d, .. } = sizes;
        let mut o = output::<T>(q.len());
        let mut log_sums = output(b * heads * t);
        let (target, target_sums) = (Disjoint::new(&mut o), Disjoint::new(&mut log_sums));
        parallel::for_each(b * heads, b * heads * t * t.max(d), |task| {
            // SAFETY: each task has its own head's sums.
            let sums = unsafe { target_sums.range(task * t, (task + 1) * t) };
            head_forward(sizes, (task / heads, task % heads), q, k, v, self.scale, &target, sums);
        });
        // a second run on the same operation object computes the same numbers
        let _ = self.log_sums.set(log_sums);
        T::storage(o)
    }

    /// `tensors`: q, k, v, the output and its gradient.
    fn backward<T: Format>(&self, tensors: [&Tensor; 5]) -> Result<Gradients> {
        let [q, k, v, ..] = tensors;
        let (b, t, heads, d) = q.dims4()?;
        let sizes = Sizes { b, t, heads, kv_heads: k.dims()[2], d };
        let log_sums = self.log_sums.get().map_or(&[][..], Vec::as_slice);
        let locks = tensors.map(Lock::new);
        let inputs = Inputs {
            q: locks[0].elements::<T>()?,
            k: locks[1].elements()?,
            v: locks[2].elements()?,
            o: locks[3].elements()?,
            g: locks[4].elements()?,
        };
        let (mut dq, mut dk, mut dv) = (output::<T>(inputs.q.len()), output::<T>(inputs.k.len()), output::<T>(inputs.v.len()));
        let work = b * heads * t * t.max(d);
        let target = Disjoint::new(&mut dq);
        let parts = parallel::map(b * heads, work, |task| {
            head_backward(sizes, (task / heads, task % heads), &inputs, log_sums, self.scale, &target)
        });
        let group = heads / sizes.kv_heads;
        let (target_k, target_v) = (Disjoint::new(&mut dk), Disjoint::new(&mut dv));
        parallel::for_each(b * sizes.kv_heads, 2 * b * heads * t * d, |task| {
            let start = sizes.kv_start(task / sizes.kv_heads, task % sizes.kv_heads);
            let parts = &parts[task * group..(task + 1) * group];
            for position in 0..t {
                let (first, row) = (position * d..(position + 1) * d, start + position * sizes.kv_row());
                // SAFETY: each key-value head belongs to one task, and a position's slice ends before the next one is made.
                let (dk, dv) = unsafe { (target_k.range(row, row + d), target_v.range(row, row + d)) };
                for (i, (dk, dv)) in first.zip(dk.iter_mut().zip(dv)) {
                    *dk = T::narrow(parts.iter().map(|part| part.0[i]).sum());
                    *dv = T::narrow(parts.iter().map(|part| part.1[i]).sum());
                }
            }
        });
        let dq = if q.track_op() { Some(tensor(dq, q.dims())?) } else { None };
        let dk = if k.track_op() { Some(tensor(dk, k.dims())?) } else { None };
        let dv = if v.track_op() { Some(tensor(dv, v.dims())?) } else { None };
        Ok((dq, dk, dv))
    }
}

/// Output and log-sums of one query head.
#[allow(clippy::too_many_arguments, reason = "three inputs, two outputs, where and how")]
fn head_forward<T: Format>(
    sizes: Sizes,
    (row, head): (usize, usize),
    q: &[T],
    k: &[T],
    v: &[T],
    scale: f32,
    o: &Disjoint<T>,
    log_sums: &mut [f32],
) {
    let Sizes { t, d, .. } = sizes;
    let kv_head = head / (sizes.heads / sizes.kv_heads);
    let q = &q[sizes.q_start(row, head)..];
    let (k, v) = (&k[sizes.kv_start(row, kv_head)..], &v[sizes.kv_start(row, kv_head)..]);
    let mut scores = output(BLOCK.min(t) * t);
    let mut buffer = Vec::new();
    for first in (0..t).step_by(BLOCK) {
        let rows = BLOCK.min(t - first);
        let keys = first + rows; // the block's last query sees this many
        let block = View::rows(&q[first * sizes.q_row()..], sizes.q_row());
        let product = Product::new(rows, keys, d).one_thread().scaled(scale);
        T::scores(product, block, View::rows(k, sizes.kv_row()).t(), &mut scores, keys);
        softmax_rows(&mut scores[..rows * keys], keys, first, 1, &mut log_sums[first..first + rows]);
        let address = o.address(sizes.q_start(row, head) + first * sizes.q_row());
        let product = Product::new(rows, d, keys).one_thread();
        let weights = View::rows(T::weights(&scores[..rows * keys], &mut buffer), keys);
        // SAFETY: the rows of this head belong to this task, are d wide and q_row ≥ d apart, and lie inside `o`.
        unsafe { T::product(product, weights, View::rows(v, sizes.kv_row()), address, sizes.q_row()) };
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
struct Inputs<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    o: &'a [T],
    g: &'a [T],
}

/// Writes the gradient of one query head; returns its parts of those of the keys and values that it reads, `[T, d]` each.
fn head_backward<T: Format>(
    sizes: Sizes,
    (row, head): (usize, usize),
    inputs: &Inputs<T>,
    log_sums: &[f32],
    scale: f32,
    dq: &Disjoint<T>,
) -> (Vec<f32>, Vec<f32>) {
    let Sizes { t, d, .. } = sizes;
    let (q_row, kv_row) = (sizes.q_row(), sizes.kv_row());
    let kv_start = sizes.kv_start(row, head / (sizes.heads / sizes.kv_heads));
    let (k, v) = (View::rows(&inputs.k[kv_start..], kv_row), View::rows(&inputs.v[kv_start..], kv_row));
    let (mut k_sum, mut v_sum) = (vec![0f32; t * d], vec![0f32; t * d]);
    let (mut p, mut ds) = (output(BLOCK.min(t) * t), output(BLOCK.min(t) * t));
    let (mut p_buffer, mut ds_buffer) = (Vec::new(), Vec::new());
    let log_sums = &log_sums[(row * sizes.heads + head) * t..][..t];
    for first in (0..t).step_by(BLOCK) {
        let rows = BLOCK.min(t - first);
        let keys = first + rows;
        let start = sizes.q_start(row, head) + first * q_row;
        let (q, g) = (View::rows(&inputs.q[start..], q_row), View::rows(&inputs.g[start..], q_row));
        T::scores(Product::new(rows, keys, d).one_thread().scaled(scale), q, k.t(), &mut p, keys);
        T::scores(Product::new(rows, keys, d).one_thread(), g, v.t(), &mut ds, keys);
        let (o, g_rows) = (&inputs.o[start..], &inputs.g[start..]);
        let (p, ds) = (&mut p[..rows * keys], &mut ds[..rows * keys]);
        softmax_backward(p, ds, keys, first, &log_sums[first..first + rows], o, g_rows, (q_row, d), scale);
        let p = View::rows(T::weights(p, &mut p_buffer), keys);
        let ds = View::rows(T::weights(ds, &mut ds_buffer), keys);
        T::scores(Product::new(keys, d, rows).one_thread().adding(), p.t(), g, &mut v_sum, d);
        T::scores(Product::new(keys, d, rows).one_thread().adding(), ds.t(), q, &mut k_sum, d);
        let product = Product::new(rows, d, keys).one_thread();
        // SAFETY: the rows of this head belong to this task, are d wide and q_row ≥ d apart, and lie inside `dq`.
        unsafe { T::product(product, ds, k, dq.address(start), q_row) };
    }
    (k_sum, v_sum)
}

multiversion! {
    /// Turns scores into P and dP into dS, row by row.
    #[allow(clippy::too_many_arguments, reason = "the row-wise step of the formula reads all of them")]
    fn softmax_backward<S, T: Element>(
        p: &mut [f32],
        ds: &mut [f32],
        keys: usize,
        first: usize,
        log_sums: &[f32],
        o: &[T],
        g: &[T],
        widths: (usize, usize),
        scale: f32,
    ) {
        let (q_row, d) = widths;
        let (mut o_buffer, mut g_buffer) = (vec![0f32; d], vec![0f32; d]);
        for (i, ((p, ds), &log_sum)) in p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys)).zip(log_sums).enumerate() {
            let (o, g) = (&o[i * q_row..i * q_row + d], &g[i * q_row..i * q_row + d]);
            let delta = dot::<S>(T::row(o, &mut o_buffer), T::row(g, &mut g_buffer));
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
