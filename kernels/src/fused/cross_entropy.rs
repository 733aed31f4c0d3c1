//! Softmax cross-entropy from logits, and fused with the linear layer that makes them.
//!
//! ```text
//! nll(row) = log Σⱼ exp(zⱼ) − z_target        loss = mean of nll over the targets that count
//! dz       = (softmax(z) − onehot(target)) · g / count
//! ```
//! The fused form makes logits for a chunk of rows at a time and, since the mean's divisor is known beforehand, turns each chunk
//! into its gradients at once: all logits of a batch never exist together, and nothing is computed twice (Hsu et al. 2024,
//! arXiv:2410.10989, §3.2).
use std::sync::{Mutex, OnceLock};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use half::bf16;

use super::cast;
use super::linear::{column_sums, product};
use crate::access::{F32Ref, is_fast, u32s};
use crate::element::{elements, is_element, output, tensor, with_element};
use crate::gemm::bf16::{Matrix, Numbers, Rounding};
use crate::gemm::{Operand, Product};
use crate::parallel::{self, Disjoint};
use crate::plain::IGNORED;
use crate::simd::{Isa, exp, max, multiversion, sum};
use crate::tape::{Gradients, Layer, apply_layer, apply2};
use crate::{Numerics, check, plain};

/// Mean negative log-likelihood of the targets, in nats.
///
/// - Shape: `logits` is `[N, V]`, `targets` are u32 `[N]`, `u32::MAX` where a row does not count; the output is a scalar.
/// - Kept for backward: the logits and one number per row.
///
/// # Errors
/// When the shapes do not fit, a target is not below V, or no target counts.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if !is_fast(&[logits]) {
        return plain::cross_entropy(logits, targets);
    }
    check::cross_entropy("cross_entropy", logits, targets)?;
    apply2(&logits.contiguous()?, &targets.contiguous()?, CrossEntropy { log_sums: OnceLock::new() })
}

/// Negative log-likelihood of each target, in nats; 0 where ignored. Detached.
///
/// - Shape: `logits` is `[N, V]`, `targets` are u32 `[N]`; the output is `[N]`.
/// - Sums of exponentials are accumulated in f64.
///
/// # Errors
/// When the shapes do not fit or a target is not below V.
pub fn token_nll(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if !is_fast(&[logits]) {
        return plain::token_nll(logits, targets);
    }
    let (n, vocab) = check::cross_entropy("token_nll", logits, targets)?;
    let (logits, ids) = (logits.contiguous()?, targets.to_vec1::<u32>()?);
    check_ids("token_nll", &ids, vocab)?;
    let rows = evaluate(&F32Ref::new(&logits)?, &ids, vocab);
    tensor(rows.into_iter().map(|row| row.nll as f32).collect(), &[n])
}

/// Cross-entropy of the logits `h·wᵀ + bias` without ever holding all of them.
///
/// - Shape: `h` is `[N, D]`, `w` is `[V, D]`, `bias` is `[V]`, `targets` are u32 `[N]`; the output is a scalar.
/// - Cost: `6·N·D·V` FLOPs, all in the forward pass; only the wanted gradients are computed.
/// - Kept for backward: the gradients, sized as `h`, `w` and `bias`.
///
/// # Errors
/// When the shapes do not fit, a target is not below V, or no target counts.
pub fn linear_cross_entropy(h: &Tensor, w: &Tensor, bias: Option<&Tensor>, targets: &Tensor) -> Result<Tensor> {
    linear_cross_entropy_in(Numerics::F32, h, w, bias, targets)
}

/// [`linear_cross_entropy`] in the given numerics. In [`Numerics::Bf16`] `h` is taken in bf16; logits, their softmax and the loss are
/// f32 in all of them.
///
/// # Errors
/// As [`linear_cross_entropy`].
pub fn linear_cross_entropy_in(
    numerics: Numerics,
    h: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    targets: &Tensor,
) -> Result<Tensor> {
    if ![h, w, bias.unwrap_or(w)].into_iter().all(is_element) || numerics == Numerics::F32 && !is_fast(&[h, w]) {
        return plain::linear_cross_entropy(h, w, bias, targets);
    }
    let dims = check::linear(h, w, bias)?;
    let &[n, _] = &dims[..] else { bail!("linear_cross_entropy: argument `h`: expected shape [N, D], found {dims:?}") };
    check::check_targets("linear_cross_entropy", n, targets)?;
    let ids = targets.to_vec1::<u32>()?;
    check_ids("linear_cross_entropy", &ids, w.dims()[0])?;
    counted("linear_cross_entropy", &ids)?;
    let h = cast(h, if numerics == Numerics::Bf16 { DType::BF16 } else { DType::F32 })?;
    let wanted = Wanted { h: h.track_op(), w: w.track_op(), bias: bias.is_some_and(Tensor::track_op) };
    apply_layer(&h, w, bias, LinearCrossEntropy { ids, wanted, numerics, gradients: Mutex::new(None) })
}

/// Every target is ignored or below `vocab`.
fn check_ids(op: &str, ids: &[u32], vocab: usize) -> Result<()> {
    match ids.iter().position(|&id| id != IGNORED && id as usize >= vocab) {
        Some(row) => bail!("{op}: target of row {row}: expected below {vocab} or {IGNORED} (ignored), found {}", ids[row]),
        None => Ok(()),
    }
}

/// Number of targets that count; an error when there are none.
fn counted(op: &str, ids: &[u32]) -> Result<usize> {
    match ids.iter().filter(|&&id| id != IGNORED).count() {
        0 => bail!(
            "{op}: the mean over no targets is undefined: expected a target that is not ignored, found none of {}",
            ids.len()
        ),
        count => Ok(count),
    }
}

/// Elements of logits of one task.
const TASK: usize = 64 * 1024;

/// Rows of one task of width `vocab`.
fn rows_per_task(vocab: usize) -> usize {
    (TASK / vocab).max(1)
}

/// What the forward pass finds in a row.
#[derive(Clone, Copy)]
struct Row {
    /// log Σ exp(z)
    log_sum: f32,
    /// Zero where ignored.
    nll: f64,
}

/// Each row of `logits: [N, vocab]` with its target.
fn evaluate(logits: &[f32], ids: &[u32], vocab: usize) -> Vec<Row> {
    let rows = rows_per_task(vocab);
    let parts = parallel::map(ids.len().div_ceil(rows), logits.len(), |task| {
        let ids = &ids[task * rows..((task + 1) * rows).min(ids.len())];
        let logits = &logits[task * rows * vocab..][..ids.len() * vocab];
        let mut found = vec![Row { log_sum: 0., nll: 0. }; ids.len()];
        evaluate_rows(logits, ids, vocab, &mut found);
        found
    });
    parts.concat()
}

multiversion! {
    fn evaluate_rows<S>(logits: &[f32], ids: &[u32], vocab: usize, found: &mut [Row]) {
        for ((row, &id), found) in logits.chunks_exact(vocab).zip(ids).zip(found) {
            let top = max::<S>(row);
            let log_sum = f64::from(top) + sum_exp::<S>(row, top).ln();
            *found = Row { log_sum: log_sum as f32, nll: if id == IGNORED { 0. } else { log_sum - f64::from(row[id as usize]) } };
        }
    }
}

/// Σ exp(zⱼ − top): f32 inside pieces of 512, f64 across them, which keeps the error of the sum at that of one exponential.
#[inline(always)]
fn sum_exp<S: Isa>(row: &[f32], top: f32) -> f64 {
    const PIECE: usize = 512;
    let mut buffer = [0f32; PIECE];
    let mut total = 0f64;
    for piece in row.chunks(PIECE) {
        for (e, &z) in buffer.iter_mut().zip(piece) {
            *e = exp::<S>(z - top);
        }
        total += f64::from(sum::<S>(&buffer[..piece.len()]));
    }
    total
}

/// Turns logits into `(softmax(z) − onehot)·factor` in `out`, rows of ignored targets into zeros.
fn gradient(logits: &[f32], ids: &[u32], found: &[f32], vocab: usize, factor: f32, out: &mut [f32]) {
    let rows = rows_per_task(vocab);
    let target = Disjoint::new(out);
    parallel::for_each(ids.len().div_ceil(rows), logits.len(), |task| {
        let (start, end) = (task * rows, ((task + 1) * rows).min(ids.len()));
        // SAFETY: each task has its own rows.
        let out = unsafe { target.range(start * vocab, end * vocab) };
        out.copy_from_slice(&logits[start * vocab..end * vocab]);
        gradient_rows(&ids[start..end], &found[start..end], vocab, factor, out);
    });
}

multiversion! {
    /// [`gradient`] in place.
    fn gradient_rows<S>(ids: &[u32], log_sums: &[f32], vocab: usize, factor: f32, rows: &mut [f32]) {
        for ((row, &id), &log_sum) in rows.chunks_exact_mut(vocab).zip(ids).zip(log_sums) {
            if id == IGNORED {
                row.fill(0.);
                continue;
            }
            for z in row.iter_mut() {
                *z = exp::<S>(*z - log_sum) * factor;
            }
            row[id as usize] -= factor;
        }
    }
}

struct CrossEntropy {
    /// Log-sums of the rows, from the forward pass.
    log_sums: OnceLock<Vec<f32>>,
}

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (logits, ids) = (elements::<f32>(s1, l1)?, u32s(s2, l2)?);
        let (_, vocab) = l1.shape().dims2()?;
        check_ids("cross_entropy", ids, vocab)?;
        let count = counted("cross_entropy", ids)?;
        let rows = evaluate(logits, ids, vocab);
        let loss = rows.iter().map(|row| row.nll).sum::<f64>() / count as f64;
        let _ = self.log_sums.set(rows.iter().map(|row| row.log_sum).collect());
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, targets: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ids = targets.to_vec1::<u32>()?;
        let factor = grad.to_scalar::<f32>()? / counted("cross_entropy", &ids)? as f32;
        let z = F32Ref::new(logits)?;
        let mut dz = output(z.len());
        let log_sums = self.log_sums.get().map_or(&[][..], Vec::as_slice);
        gradient(&z, &ids, log_sums, logits.dims()[1], factor, &mut dz);
        Ok((Some(tensor(dz, logits.dims())?), None))
    }
}

/// Which gradients somebody needs.
#[derive(Clone, Copy)]
struct Wanted {
    h: bool,
    w: bool,
    bias: bool,
}

struct LinearCrossEntropy {
    ids: Vec<u32>,
    wanted: Wanted,
    numerics: Numerics,
    /// For an incoming gradient of one.
    gradients: Mutex<Option<Gradients>>,
}

/// Logits of one chunk: 64 MiB of f32, but at least [`MIN_ROWS`] and at most [`MAX_ROWS`] rows.
const CHUNK: usize = 16 * 1024 * 1024;
/// Fewer rows would spend their time packing the weight.
const MIN_ROWS: usize = 128;
/// More rows gain nothing and fall out of the last-level cache.
const MAX_ROWS: usize = 512;

/// The gradient of the activations that make the logits, in their format.
enum HiddenGradient {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

/// The three products of one chunk of `rows` rows: logits, and the gradients from the logits' gradient `g`.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    numerics: Numerics,
    h: Numbers<'a>,
    w: &'a [f32],
    rows: usize,
    vocab: usize,
    d: usize,
}

impl Chunk<'_> {
    /// `None` for plain f32 products.
    fn rounding(&self) -> Option<Rounding> {
        Rounding::of(self.numerics)
    }

    fn logits(&self, bias: Option<&[f32]>, logits: &mut [f32]) {
        let &Self { h, w, rows, vocab, d, .. } = self;
        match (self.rounding(), h) {
            (Some(rounding), h) => {
                Product::new(rows, vocab, d).rounded(rounding, Matrix::rows(h, d), Matrix::rows(w, d).t(), bias, logits, vocab);
            }
            (None, Numbers::F32(h)) => product(h, w, bias, logits, d),
            (None, Numbers::Bf16(_)) => unreachable!("f32 products take f32 activations"),
        }
    }

    fn hidden_gradient(&self, g: &[f32], start: usize, dh: &mut HiddenGradient) {
        let &Self { w, rows, vocab, d, .. } = self;
        let p = Product::new(rows, d, vocab);
        let range = start * d..(start + rows) * d;
        match (self.rounding(), dh) {
            (None, HiddenGradient::F32(dh)) => p.into(Operand::rows(g, vocab), Operand::rows(w, d), &mut dh[range], d),
            (Some(rounding), HiddenGradient::F32(dh)) => {
                p.rounded(rounding, Matrix::rows(g, vocab), Matrix::rows(w, d), None, &mut dh[range], d);
            }
            (rounding, HiddenGradient::Bf16(dh)) => {
                let rounding = rounding.unwrap_or(Rounding::Once);
                p.rounded(rounding, Matrix::rows(g, vocab), Matrix::rows(w, d), None, &mut dh[range], d);
            }
        }
    }

    fn add_weight_gradient(&self, g: &[f32], dw: &mut [f32]) {
        let &Self { h, rows, vocab, d, .. } = self;
        let p = Product::new(vocab, d, rows).adding();
        match (self.rounding(), h) {
            (None, Numbers::F32(h)) => p.into(Operand::rows(g, vocab).t(), Operand::rows(h, d), dw, d),
            (rounding, h) => {
                p.rounded(rounding.unwrap_or(Rounding::Once), Matrix::rows(g, vocab).t(), Matrix::rows(h, d), None, dw, d);
            }
        }
    }
}

impl LinearCrossEntropy {
    fn loss(&self, h: Numbers<'_>, w: &[f32], bias: Option<&[f32]>, (vocab, d): (usize, usize)) -> Result<f32> {
        let (n, wanted) = (self.ids.len(), self.wanted);
        let count = counted("linear_cross_entropy", &self.ids)?;
        let factor = 1. / count as f32;
        let rows = (CHUNK / vocab).clamp(MIN_ROWS, MAX_ROWS).min(n);
        let mut logits = output(rows * vocab);
        let mut dh = wanted.h.then(|| match h {
            Numbers::F32(h) => HiddenGradient::F32(output(h.len())),
            Numbers::Bf16(h) => HiddenGradient::Bf16(output(h.len())),
        });
        let mut dw = wanted.w.then(|| vec![0f32; vocab * d]);
        let mut db = wanted.bias.then(|| vec![0f32; vocab]);
        let mut loss = 0f64;
        for start in (0..n).step_by(rows) {
            let end = (start + rows).min(n);
            let (ids, count) = (&self.ids[start..end], end - start);
            let chunk = Chunk { numerics: self.numerics, h: h.range(start * d, end * d), w, rows: count, vocab, d };
            let logits = &mut logits[..count * vocab];
            chunk.logits(bias, logits);
            let found = evaluate(logits, ids, vocab);
            loss += found.iter().map(|row| row.nll).sum::<f64>();
            if !(wanted.h || wanted.w || wanted.bias) {
                continue;
            }
            let log_sums: Vec<f32> = found.iter().map(|row| row.log_sum).collect();
            let per_task = rows_per_task(vocab);
            let target = Disjoint::new(logits);
            parallel::for_each(count.div_ceil(per_task), count * vocab, |task| {
                let (first, last) = (task * per_task, ((task + 1) * per_task).min(count));
                // SAFETY: each task has its own rows.
                let rows = unsafe { target.range(first * vocab, last * vocab) };
                gradient_rows(&ids[first..last], &log_sums[first..last], vocab, factor, rows);
            });
            if let Some(dh) = &mut dh {
                chunk.hidden_gradient(logits, start, dh);
            }
            if let Some(dw) = &mut dw {
                chunk.add_weight_gradient(logits, dw);
            }
            if let Some(db) = &mut db {
                db.iter_mut().zip(column_sums(logits, vocab)).for_each(|(sum, part)| *sum += part);
            }
        }
        let keep = |data: Option<Vec<f32>>, dims: &[usize]| data.map(|data| tensor(data, dims)).transpose();
        let dh = dh
            .map(|dh| match dh {
                HiddenGradient::F32(dh) => tensor(dh, &[n, d]),
                HiddenGradient::Bf16(dh) => tensor(dh, &[n, d]),
            })
            .transpose()?;
        let gradients = (dh, keep(dw, &[vocab, d])?, keep(db, &[vocab])?);
        *self.gradients.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(gradients);
        Ok((loss / count as f64) as f32)
    }
}

impl Layer for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        "linear-cross-entropy"
    }

    fn forward(&self, h: &CpuStorage, l: &Layout, w: &[f32], shape: &Shape, bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let loss = with_element!(h.dtype(), T => self.loss(elements::<T>(h, l)?.into(), w, bias, shape.dims2()?))?;
        Ok((CpuStorage::F32(vec![loss]), Shape::from(())))
    }

    fn backward(&self, _h: &Tensor, _w: &Tensor, _bias: Option<&Tensor>, grad: &Tensor) -> Result<Gradients> {
        let g = f64::from(grad.to_scalar::<f32>()?);
        let kept = self.gradients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (dh, dw, db) = kept.clone().unwrap_or_default();
        let scaled = |t: Option<Tensor>| match t {
            Some(t) if g != 1. => (t * g).map(Some),
            other => Ok(other),
        };
        Ok((scaled(dh)?, scaled(dw)?, scaled(db)?))
    }
}
