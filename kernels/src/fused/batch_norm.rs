//! Batch norm over the channels of images stored channels last, with ReLU in the same pass, and the sums that end a residual block.
//!
//! ```text
//! y = relu?((x − μ)·r·γ + β)      r = 1/√(var + eps), var biased      Ioffe and Szegedy 2015 (arXiv:1502.03167), algorithm 1
//!
//! backward over the n values of a channel, with h = g where y > 0 (all of g without ReLU) and x̂ = (x − μ)·r:
//!   dβ = Σ h      dγ = Σ h·x̂      dx = γ·r·(h − dβ/n − x̂·dγ/n)          (given statistics: γ·r·h)
//! ```
//! Where ReLU clipped is found again from `x`, so that `y` need not be read. Mean and variance of a piece are taken while it is in
//! the cache and joined in f64 (Chan et al. 1983): one read of `x`, and no difference of large squares.
//!
//! Activations are f32 or bf16; parameters, statistics and sums are f32.
//!
//! Rows of few channels would make short loops: vectors of one number per channel are repeated to [`WIDTH`], and the rows are
//! read as many at a time.
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::cast;
use super::linear::add_rows;
use crate::access::{F32Ref, to_f32};
use crate::element::{Element, Lock, elements, in_f32, is_element, output, tensor, with_element};
use crate::parallel::{self, Disjoint, PIECE, is_worth_it};
use crate::simd::multiversion;
use crate::tape::{Gradients, apply2, apply3};
use crate::{check, plain};

/// Parameters and settings of a batch norm over channels, `C` of them.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// Scale of each channel, `[C]`.
    pub gamma: &'a Tensor,
    /// Shift of each channel, `[C]`.
    pub beta: &'a Tensor,
    /// Added to the variance.
    pub eps: f64,
    /// Whether `max(·, 0)` stands behind it.
    pub relu: bool,
}

/// `(x − mean)/√(var + eps)·gamma + beta` with mean and biased variance of the batch, then ReLU where asked for.
///
/// - Shape: `x` is `[.., C]`; the output has the shape of `x`.
/// - Returns the output, the mean `[C]` and the unbiased variance `[C]`, the two without history: they are what running
///   statistics average.
/// - Kept for backward: `x`.
///
/// # Errors
/// When the shapes do not fit, or with fewer than two values per channel.
pub fn batch_norm_train(x: &Tensor, norm: &BatchNorm<'_>) -> Result<(Tensor, Tensor, Tensor)> {
    let &BatchNorm { gamma, beta, eps, relu } = norm;
    let channels = check::batch_norm("batch_norm_train", x, &[("gamma", gamma), ("beta", beta)])?;
    if ![x, gamma, beta].into_iter().all(is_element) || x.elem_count() < 2 * channels {
        return plain::batch_norm_train(x, norm);
    }
    let x = x.contiguous()?;
    let (mean, biased) = with_element!(x.dtype(), T => statistics::<T>(Lock::new(&x).elements()?, channels));
    let n = (x.elem_count() / channels) as f64;
    let unbiased = biased.iter().map(|v| (v * n / (n - 1.)) as f32).collect();
    let rstd = biased.iter().map(|v| (1. / (v + eps).sqrt()) as f32).collect();
    let mean: Vec<f32> = mean.into_iter().map(|mean| mean as f32).collect();
    let mean_tensor = tensor(mean.clone(), &[channels])?;
    let y = apply3(&x, &in_f32(gamma)?, &in_f32(beta)?, Normalise { mean, rstd, relu, of_batch: true })?;
    Ok((y, mean_tensor, tensor(unbiased, &[channels])?))
}

/// `(x − mean)/√(variance + eps)·gamma + beta` with given statistics, then ReLU where asked for.
///
/// - Shape: `x` is `[.., C]`, `mean` and `variance` are `[C]`; the output has the shape of `x`.
/// - The statistics are constants: they get no gradient.
///
/// # Errors
/// When the shapes do not fit.
pub fn batch_norm_eval(x: &Tensor, norm: &BatchNorm<'_>, mean: &Tensor, variance: &Tensor) -> Result<Tensor> {
    let &BatchNorm { gamma, beta, eps, relu } = norm;
    let vectors = [("gamma", gamma), ("beta", beta), ("mean", mean), ("variance", variance)];
    check::batch_norm("batch_norm_eval", x, &vectors)?;
    if ![x, gamma, beta, mean, variance].into_iter().all(is_element) {
        return plain::batch_norm_eval(x, norm, mean, variance);
    }
    let rstd = to_f32(variance)?.iter().map(|&v| (1. / (f64::from(v) + eps).sqrt()) as f32).collect();
    let op = Normalise { mean: to_f32(mean)?, rstd, relu, of_batch: false };
    apply3(&x.contiguous()?, &in_f32(gamma)?, &in_f32(beta)?, op)
}

/// `a + b` of equal shapes, on all threads; the output has the dtype of `a`.
///
/// # Errors
/// When the shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !is_element(a) || !is_element(b) {
        return plain::add(a, b);
    }
    check::same_shape("add", "b", a, b)?;
    apply2(&a.contiguous()?, &b.contiguous()?, Add)
}

/// `max(a + b, 0)` of equal shapes, the end of a residual block.
///
/// # Errors
/// When the shapes differ.
pub fn add_relu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !is_element(a) || a.dtype() != b.dtype() {
        return plain::add_relu(a, b);
    }
    check::same_shape("add_relu", "b", a, b)?;
    apply2(&a.contiguous()?, &b.contiguous()?, AddRelu)
}

/// Least length of the repeated per-channel vectors.
const WIDTH: usize = 256;

/// `channel` numbers repeated to at least [`WIDTH`].
fn repeat(channel: &[f32]) -> Vec<f32> {
    channel.repeat(WIDTH.div_ceil(channel.len()))
}

/// Length of [`repeat`]'s result.
fn width(channels: usize) -> usize {
    WIDTH.div_ceil(channels) * channels
}

/// Adds the repetitions up.
fn fold(sums: &[f32], channels: usize) -> Vec<f32> {
    let mut folded = vec![0f32; channels];
    for sums in sums.chunks_exact(channels) {
        folded.iter_mut().zip(sums).for_each(|(folded, sum)| *folded += sum);
    }
    folded
}

/// Numbers of a piece: whole repetitions, about [`PIECE`].
fn piece(channels: usize) -> usize {
    (PIECE / width(channels)).max(1) * width(channels)
}

/// Runs `f(start, end)` for the pieces of `n` numbers and returns what they give, in order.
fn map_pieces<T: Send>(n: usize, channels: usize, f: impl Fn(usize, usize) -> T + Send + Sync) -> Vec<T> {
    let piece = piece(channels);
    parallel::map(n.div_ceil(piece), n, |i| f(i * piece, n.min((i + 1) * piece)))
}

/// Mean and biased variance of every channel.
fn statistics<T: Element>(x: &[T], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let parts = map_pieces(x.len(), channels, |start, end| {
        let x = &x[start..end];
        let rows = x.len() / channels;
        let mut sums = vec![0f32; width(channels)];
        add_rows(x, &mut sums);
        let mean: Vec<f32> = fold(&sums, channels).into_iter().map(|sum| sum / rows as f32).collect();
        sums.fill(0.);
        add_squares(x, &repeat(&mean), &mut sums);
        (rows as f64, mean, fold(&sums, channels))
    });
    let (mut count, mut mean, mut squares) = (0f64, vec![0f64; channels], vec![0f64; channels]);
    for (rows, part_mean, part_squares) in parts {
        let total = count + rows;
        for c in 0..channels {
            let distance = f64::from(part_mean[c]) - mean[c];
            mean[c] += distance * rows / total;
            squares[c] += f64::from(part_squares[c]) + distance * distance * count * rows / total;
        }
        count = total;
    }
    (mean, squares.into_iter().map(|squares| squares / count).collect())
}

multiversion! {
    fn add_squares<S, T: Element>(x: &[T], mean: &[f32], sums: &mut [f32]) {
        for row in x.chunks(sums.len()) {
            for ((sum, &x), &mean) in sums.iter_mut().zip(row).zip(mean) {
                let centred = x.wide() - mean;
                *sum = S::fma(centred, centred, *sum);
            }
        }
    }
}

/// Negative numbers become zero; NaN stays.
#[inline(always)]
fn clip(y: f32, relu: bool) -> f32 {
    if relu && y < 0. { 0. } else { y }
}

/// The gradient where ReLU let `y` pass, else zero.
#[inline(always)]
fn passed(g: f32, y: f32, relu: bool) -> f32 {
    if relu && y <= 0. { 0. } else { g }
}

/// Gradient of the vectors as tensors, where wanted.
fn vector_gradient(wanted: &Tensor, sums: &[f64]) -> Result<Option<Tensor>> {
    let gradient = || tensor(sums.iter().map(|&sum| sum as f32).collect(), wanted.dims());
    wanted.track_op().then(gradient).transpose()
}

/// Sums of the pieces, one after the other.
fn join(parts: &[[Vec<f32>; 2]], which: usize, channels: usize) -> Vec<f64> {
    let mut sums = vec![0f64; channels];
    for part in parts {
        sums.iter_mut().zip(&part[which]).for_each(|(sum, &part)| *sum += f64::from(part));
    }
    sums
}

/// Batch norm of the first argument with given statistics.
struct Normalise {
    mean: Vec<f32>,
    rstd: Vec<f32>,
    relu: bool,
    /// Whether the statistics are functions of the first argument.
    of_batch: bool,
}

impl Normalise {
    /// `rstd·gamma`
    fn scale(&self, gamma: &[f32]) -> Vec<f32> {
        self.rstd.iter().zip(gamma).map(|(r, gamma)| r * gamma).collect()
    }
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch-norm"
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
        let (gamma, beta) = (elements::<f32>(s2, l2)?, elements::<f32>(s3, l3)?);
        let y = with_element!(s1.dtype(), T => self.forward::<T>(elements(s1, l1)?, gamma, beta));
        Ok((y, l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, gamma: &Tensor, beta: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let grad = cast(grad, x.dtype())?.contiguous()?;
        with_element!(x.dtype(), T => self.backward::<T>(x, gamma, beta, &grad))
    }
}

impl Normalise {
    fn forward<T: Element>(&self, x: &[T], gamma: &[f32], beta: &[f32]) -> CpuStorage {
        let (mean, scale, beta) = (repeat(&self.mean), repeat(&self.scale(gamma)), repeat(beta));
        let mut y = output::<T>(x.len());
        let target = Disjoint::new(&mut y);
        map_pieces(x.len(), gamma.len(), |start, end| {
            // SAFETY: each task has its own piece.
            normalise(&x[start..end], &mean, &scale, &beta, unsafe { target.range(start, end) }, self.relu);
        });
        T::storage(y)
    }

    fn backward<T: Element>(&self, x: &Tensor, gamma: &Tensor, beta: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let (x_lock, g_lock) = (Lock::new(x), Lock::new(grad));
        let (xs, g) = (x_lock.elements::<T>()?, g_lock.elements::<T>()?);
        let (gammas, betas) = (F32Ref::new(gamma)?, F32Ref::new(beta)?);
        let channels = gammas.len();
        let n = (xs.len() / channels) as f64;
        let scale = self.scale(&gammas);
        let (mean, wide_scale, wide_beta) = (repeat(&self.mean), repeat(&scale), repeat(&betas));
        let parts = map_pieces(xs.len(), channels, |start, end| {
            let mut sums = [vec![0f32; mean.len()], vec![0f32; mean.len()]];
            let [first, second] = &mut sums;
            normalise_sums(&xs[start..end], &g[start..end], (&mean, &wide_scale, &wide_beta), first, second, self.relu);
            sums.map(|sums| fold(&sums, channels))
        });
        let (d_beta, centred) = (join(&parts, 0, channels), join(&parts, 1, channels));
        let d_gamma: Vec<f64> = centred.iter().zip(&self.rstd).map(|(sum, &r)| sum * f64::from(r)).collect();
        let dx = if x.track_op() {
            // dx = scale·h + slope·(x − μ) + offset
            let vector = |f: &dyn Fn(usize) -> f64| repeat(&(0..channels).map(|c| f(c) as f32).collect::<Vec<_>>());
            let through = |c: usize| if self.of_batch { -f64::from(scale[c]) / n } else { 0. };
            let slope = vector(&|c| through(c) * f64::from(self.rstd[c]) * d_gamma[c]);
            let offset = vector(&|c| through(c) * d_beta[c]);
            let mut dx = output::<T>(xs.len());
            let target = Disjoint::new(&mut dx);
            map_pieces(xs.len(), channels, |start, end| {
                // SAFETY: each task has its own piece.
                let dx = unsafe { target.range(start, end) };
                let vectors = (&mean[..], &wide_scale[..], &wide_beta[..]);
                normalise_gradient(&xs[start..end], &g[start..end], vectors, &slope, &offset, dx, self.relu);
            });
            Some(tensor(dx, x.dims())?)
        } else {
            None
        };
        Ok((dx, vector_gradient(gamma, &d_gamma)?, vector_gradient(beta, &d_beta)?))
    }
}

multiversion! {
    fn normalise<S, T: Element>(x: &[T], mean: &[f32], scale: &[f32], beta: &[f32], y: &mut [T], relu: bool) {
        let width = mean.len();
        for (x, y) in x.chunks(width).zip(y.chunks_mut(width)) {
            let n = x.len();
            let (y, mean, scale, beta) = (&mut y[..n], &mean[..n], &scale[..n], &beta[..n]);
            for i in 0..n {
                y[i] = T::narrow(clip(S::fma(x[i].wide() - mean[i], scale[i], beta[i]), relu));
            }
        }
    }
}

multiversion! {
    fn normalise_sums<S, T: Element>(
        x: &[T],
        g: &[T],
        vectors: (&[f32], &[f32], &[f32]),
        sums: &mut [f32],
        centred_sums: &mut [f32],
        relu: bool,
    ) {
        let width = sums.len();
        for (x, g) in x.chunks(width).zip(g.chunks(width)) {
            let n = x.len();
            let (g, mean, scale, beta) = (&g[..n], &vectors.0[..n], &vectors.1[..n], &vectors.2[..n]);
            let (sums, centred_sums) = (&mut sums[..n], &mut centred_sums[..n]);
            for i in 0..n {
                let centred = x[i].wide() - mean[i];
                let h = passed(g[i].wide(), S::fma(centred, scale[i], beta[i]), relu);
                sums[i] += h;
                centred_sums[i] = S::fma(h, centred, centred_sums[i]);
            }
        }
    }
}

multiversion! {
    fn normalise_gradient<S, T: Element>(
        x: &[T],
        g: &[T],
        vectors: (&[f32], &[f32], &[f32]),
        slope: &[f32],
        offset: &[f32],
        dx: &mut [T],
        relu: bool,
    ) {
        let width = slope.len();
        for ((x, g), dx) in x.chunks(width).zip(g.chunks(width)).zip(dx.chunks_mut(width)) {
            let n = x.len();
            let (g, dx, mean, scale, beta) = (&g[..n], &mut dx[..n], &vectors.0[..n], &vectors.1[..n], &vectors.2[..n]);
            let (slope, offset) = (&slope[..n], &offset[..n]);
            for i in 0..n {
                let centred = x[i].wide() - mean[i];
                let h = passed(g[i].wide(), S::fma(centred, scale[i], beta[i]), relu);
                dx[i] = T::narrow(S::fma(scale[i], h, S::fma(slope[i], centred, offset[i])));
            }
        }
    }
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = with_element!(s1.dtype(), A => {
            with_element!(s2.dtype(), B => sums::<A, B>(elements(s1, l1)?, elements(s2, l2)?))
        });
        Ok((y, l1.shape().clone()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let db = if b.track_op() { Some(cast(grad, b.dtype())?) } else { None };
        Ok((a.track_op().then(|| grad.clone()), db))
    }
}

fn sums<A: Element, B: Element>(a: &[A], b: &[B]) -> CpuStorage {
    let mut y = output::<A>(a.len());
    if is_worth_it(a.len()) {
        y.par_chunks_mut(PIECE).zip(a.par_chunks(PIECE).zip(b.par_chunks(PIECE))).for_each(|(y, (a, b))| add_slices(a, b, y));
    } else {
        add_slices(a, b, &mut y);
    }
    A::storage(y)
}

multiversion! {
    fn add_slices<S, A: Element, B: Element>(a: &[A], b: &[B], y: &mut [A]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = A::narrow(a.wide() + b.wide());
        }
    }
}

struct AddRelu;

impl CustomOp2 for AddRelu {
    fn name(&self) -> &'static str {
        "add-relu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = with_element!(s1.dtype(), T => add_relu_of::<T>(elements(s1, l1)?, elements(s2, l2)?));
        Ok((y, l1.shape().clone()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = cast(grad, y.dtype())?.contiguous()?;
        let (y_lock, g_lock) = (Lock::new(y), Lock::new(&grad));
        // both arguments have the same gradient, which nothing writes to
        let d = with_element!(y.dtype(), T => tensor(passed_of::<T>(y_lock.elements()?, g_lock.elements()?), y.dims())?);
        Ok((a.track_op().then(|| d.clone()), b.track_op().then_some(d)))
    }
}

fn add_relu_of<T: Element>(a: &[T], b: &[T]) -> CpuStorage {
    let mut y = output::<T>(a.len());
    let target = Disjoint::new(&mut y);
    map_pieces(a.len(), 1, |start, end| {
        // SAFETY: each task has its own piece.
        add_and_clip(&a[start..end], &b[start..end], unsafe { target.range(start, end) });
    });
    T::storage(y)
}

/// The gradient `g` where ReLU let `y` pass, else zero.
pub(super) fn passed_of<T: Element>(y: &[T], g: &[T]) -> Vec<T> {
    let mut d = output::<T>(g.len());
    let target = Disjoint::new(&mut d);
    map_pieces(g.len(), 1, |start, end| {
        // SAFETY: each task has its own piece.
        keep_passed(&y[start..end], &g[start..end], unsafe { target.range(start, end) });
    });
    d
}

multiversion! {
    fn add_and_clip<S, T: Element>(a: &[T], b: &[T], y: &mut [T]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = T::narrow(clip(a.wide() + b.wide(), true));
        }
    }
}

multiversion! {
    fn keep_passed<S, T: Element>(y: &[T], g: &[T], d: &mut [T]) {
        for ((d, &y), &g) in d.iter_mut().zip(y).zip(g) {
            *d = T::narrow(passed(g.wide(), y.wide(), true));
        }
    }
}
