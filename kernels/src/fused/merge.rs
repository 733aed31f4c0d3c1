//! Joining a block's output with the residual side: LAuReL's whole formula in one pass over the activations.
//!
//! ```text
//! y = α·(fx + fx') + β·(x + (x·down)·up + Σ_j z_j·up_j), at least 0 where a ReLU stands behind it
//!
//! backward, U = [up; up_1; …], Z = [x·down, z_1, …], e = (g·β)·Uᵀ cut like Z:
//!   dfx = dfx' = α·g        dα = Σ g·(fx + fx')
//!   dx  = β·g + e_0·downᵀ   dβ = Σ g·x + Σ U·dU/β     d_down = xᵀ·e_0     dz_j = e_j     dU = Zᵀ·(g·β)
//! ```
//! Nothing with D numbers per row is kept that the arguments do not hold already: `fx + fx'` and the residual side are formed for
//! a block of rows in the cache, forward and again backward (paper.md 12.3, 12.4).
//!
//! Source: LAuReL (arXiv:2411.07501) §2.1–2.3.
use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::batch_norm::passed_of;
use super::cast;
use super::low_rank::{THIN, expand, reduce, transposed};
use crate::access::{F32Ref, is_fast};
use crate::element::{Element, Lock, elements, from_storage, in_f32, is_element, output, tensor, with_element};
use crate::gemm::{Operand, Product};
use crate::parallel::{self, Disjoint, PIECE};
use crate::simd::{dot, multiversion};
use crate::tape::{self, Gradients, apply2, apply3};
use crate::{check, plain, stand_in};

/// Rows of one task, and of one partial sum of the weights' gradients.
const ROWS: usize = 64;

/// Operands of [`merge`]; `D` is the width of the activations, `[.., D]`.
#[derive(Debug, Clone, Copy)]
pub struct Merge<'a> {
    /// The block's output, `[.., D]`.
    pub fx: &'a Tensor,
    /// A second summand of the block's output, `[.., D]`: the sum is not formed in memory.
    pub fx2: Option<&'a Tensor>,
    /// The residual side, `[.., D]`.
    pub x: &'a Tensor,
    /// α and β: `[2]` (scalars) or `[2, D]` (per feature); both 1 where absent.
    pub ab: Option<&'a Tensor>,
    /// A low-rank map of `x`: `down` `[D, r]` and `up` `[r, D]`.
    pub map: Option<(&'a Tensor, &'a Tensor)>,
    /// Second halves of low-rank maps of other activations: `z_j` `[.., r_j]` and `up_j` `[r_j, D]`.
    pub branches: &'a [(Tensor, Tensor)],
    /// Whether `max(·, 0)` stands behind it, as in a ResNet.
    pub relu: bool,
}

impl<'a> Merge<'a> {
    /// The plain residual `fx + x`, to which a caller adds what it has.
    pub fn plain(fx: &'a Tensor, x: &'a Tensor) -> Self {
        Self { fx, fx2: None, x, ab: None, map: None, branches: &[], relu: false }
    }

    /// Whether the fused form serves: an f32 stream, a block's output in f32 or bf16, parameters in either.
    fn is_fast(&self) -> bool {
        let maps = self.map.into_iter().flat_map(|(down, up)| [down, up]);
        let branches = self.branches.iter().flat_map(|(z, up)| [z, up]);
        let parts_agree = self.fx2.is_none_or(|fx2| fx2.dtype() == self.fx.dtype() && is_element(fx2));
        is_fast(&[self.x])
            && is_element(self.fx)
            && parts_agree
            && self.ab.into_iter().chain(maps).chain(branches).all(is_element)
    }
}

/// `α·(fx + fx2) + β·(x + (x·down)·up + Σ z_j·up_j)`, at least 0 where asked; absent parts are left out.
///
/// - Shape: that of `fx`; the output has the dtype of `x`, and `fx` and `fx2` may be bf16 beside an f32 `x`.
/// - Cost: `4·r·D + Σ 2·r_j·D` FLOPs per row forward, twice that backward; bound by memory for the ranks in use.
/// - Kept for backward: the arguments and `x·down`, r numbers per row.
///
/// # Errors
/// When the shapes do not fit.
pub fn merge(args: &Merge<'_>) -> Result<Tensor> {
    if !args.is_fast() {
        return plain::merge(args);
    }
    check::merge(args)?;
    let owned = |t: &Tensor| t.contiguous();
    let pair = |(a, b): (&Tensor, &Tensor)| Ok::<_, candle_core::Error>((in_f32(a)?, in_f32(b)?));
    let (fx, x) = (owned(args.fx)?, owned(args.x)?);
    let op = MergeOp {
        fx: fx.clone(),
        fx2: args.fx2.map(owned).transpose()?,
        ab: args.ab.map(in_f32).transpose()?,
        map: args.map.map(pair).transpose()?,
        branches: args.branches.iter().map(|(z, up)| pair((z, up))).collect::<Result<_>>()?,
        relu: args.relu,
        inner: OnceLock::new(),
    };
    let arguments = op.arguments(&x);
    let (is_noting, is_trained) = (tape::is_noting(&arguments), arguments.iter().any(|t| t.track_op()));
    if is_noting || !is_trained {
        let result = with_element!(op.fx.dtype(), T => op.forward::<T>(&F32Ref::new(&x)?, x.shape()))?;
        if is_noting {
            return tape::note(result, move |y, grad| op.argument_gradients(x, y, grad));
        }
        return from_storage(result.0, result.1); // nothing asks for a gradient: no copy of the small arguments for candle's tape
    }
    let fx = match &op.fx2 {
        Some(fx2) => stand_in::sum(&fx, fx2)?,
        None => fx,
    };
    let small = op.small();
    if small.is_empty() {
        return apply2(&fx, &x, op);
    }
    let small = stand_in::bundle(&small)?;
    apply3(&fx, &x, &small, op)
}

/// The arguments that candle does not pass, contiguous; `fx` is among them because a stand-in may take its place.
struct MergeOp {
    fx: Tensor,
    fx2: Option<Tensor>,
    ab: Option<Tensor>,
    map: Option<(Tensor, Tensor)>,
    branches: Vec<(Tensor, Tensor)>,
    relu: bool,
    /// `x·down`, `[rows, r]`, from the forward pass.
    inner: OnceLock<Vec<f32>>,
}

/// The same, locked for reading, with what both directions need of them.
struct Operands<'a> {
    ab: Option<F32Ref<'a>>,
    zs: Vec<F32Ref<'a>>,
    /// β·U, `[R, D]`, and U itself.
    scaled_up: Vec<f32>,
    up: Vec<f32>,
    /// `down`, `[D, r]`, and its transpose.
    down: Option<(F32Ref<'a>, Vec<f32>)>,
    d: usize,
    /// Rank of the map of `x`, ranks of the branches.
    own: usize,
    ranks: Vec<usize>,
}

impl Operands<'_> {
    fn alpha(&self) -> &[f32] {
        self.ab.as_ref().map_or(&[1.], |ab| &ab[..ab.len() / 2])
    }

    fn beta(&self) -> &[f32] {
        self.ab.as_ref().map_or(&[1.], |ab| &ab[ab.len() / 2..])
    }

    /// R: all ranks together.
    fn rank(&self) -> usize {
        self.own + self.ranks.iter().sum::<usize>()
    }

    /// Rows `start..end` of Z, `[rows, R]`, given those of its first columns.
    fn gather(&self, own: &[f32], start: usize, end: usize) -> Vec<f32> {
        let mut z = output((end - start) * self.rank());
        let mut first = 0;
        let parts =
            std::iter::once((own, self.own)).chain(self.zs.iter().zip(&self.ranks).map(|(z, &r)| (&z[start * r..end * r], r)));
        for (part, r) in parts.filter(|(_, r)| *r > 0) {
            for (z, part) in z.chunks_exact_mut(self.rank()).zip(part.chunks_exact(r)) {
                z[first..first + r].copy_from_slice(part);
            }
            first += r;
        }
        z
    }
}

impl MergeOp {
    /// The arguments of few numbers, in the order of their gradients.
    fn small(&self) -> Vec<&Tensor> {
        let map = self.map.iter().flat_map(|(down, up)| [down, up]);
        self.ab.iter().chain(map).chain(self.branches.iter().flat_map(|(z, up)| [z, up])).collect()
    }

    fn arguments<'a>(&'a self, x: &'a Tensor) -> Vec<&'a Tensor> {
        [&self.fx, x].into_iter().chain(&self.fx2).chain(self.small()).collect()
    }

    /// Every argument with its gradient.
    fn argument_gradients(self, x: Tensor, y: &Tensor, grad: &Tensor) -> Result<Vec<(Tensor, Option<Tensor>)>> {
        let small = self.small();
        let wants_fx = self.fx.track_op() || self.fx2.as_ref().is_some_and(Tensor::track_op);
        let wanted = [wants_fx, x.track_op(), small.iter().any(|t| t.track_op())];
        let [d_fx, d_x, d_small] = self.gradients(&x, y, grad, wanted)?;
        let mut gradients = vec![];
        let mut start = 0;
        for argument in small {
            let len = argument.elem_count();
            if let Some(flat) = &d_small {
                let piece = flat.narrow(0, start, len)?.reshape(argument.shape())?;
                gradients.push((argument.clone(), Some(piece)));
            }
            start += len;
        }
        gradients.extend(self.fx2.map(|fx2| (fx2, d_fx.clone())));
        gradients.extend([(self.fx, d_fx), (x, d_x)]);
        Ok(gradients)
    }

    fn locks(&self) -> (Lock<'_>, Option<Lock<'_>>) {
        (Lock::new(&self.fx), self.fx2.as_ref().map(Lock::new))
    }

    fn operands(&self) -> Result<Operands<'_>> {
        let d = self.fx.dims()[self.fx.rank() - 1];
        let mut up = vec![];
        for tensor in self.map.iter().chain(&self.branches).map(|(_, up)| up) {
            up.extend_from_slice(&F32Ref::new(tensor)?);
        }
        let ab = self.ab.as_ref().map(F32Ref::new).transpose()?;
        let mut scaled_up = up.clone();
        if let Some(ab) = &ab {
            match &ab[ab.len() / 2..] {
                &[beta] => scaled_up.iter_mut().for_each(|u| *u *= beta),
                beta => scaled_up.chunks_exact_mut(d).for_each(|row| row.iter_mut().zip(beta).for_each(|(u, b)| *u *= b)),
            }
        }
        let down = match &self.map {
            Some((down, _)) => {
                let values = F32Ref::new(down)?;
                let turned = transposed(&values, down.dims()[1]);
                Some((values, turned))
            }
            None => None,
        };
        Ok(Operands {
            ab,
            zs: self.branches.iter().map(|(z, _)| F32Ref::new(z)).collect::<Result<_>>()?,
            scaled_up,
            up,
            down,
            d,
            own: self.map.as_ref().map_or(0, |(_, up)| up.dims()[0]),
            ranks: self.branches.iter().map(|(_, up)| up.dims()[0]).collect(),
        })
    }

    fn forward<T: Element>(&self, x: &[f32], shape: &Shape) -> Result<(CpuStorage, Shape)> {
        let o = self.operands()?;
        let (lock, lock2) = self.locks();
        let (fx, fx2) = (lock.elements::<T>()?, lock2.as_ref().map_or(Ok(&[][..]), Lock::elements::<T>)?);
        let (d, rank, rows) = (o.d, o.rank(), x.len() / o.d);
        let (mut y, mut inner) = (output(x.len()), output(rows * o.own));
        let (target, target_z) = (Disjoint::new(&mut y), Disjoint::new(&mut inner));
        let (count, range) = tasks(rows, d, rank);
        parallel::for_each(count, x.len(), |task| {
            let (start, end) = range(task);
            // SAFETY: each task has its own rows of both results.
            let (y, own) = unsafe { (target.range(start * d, end * d), target_z.range(start * o.own, end * o.own)) };
            let block = start * d..end * d;
            let fx2 = if fx2.is_empty() { fx2 } else { &fx2[block.clone()] };
            let x = &x[block.clone()];
            combine(&fx[block], fx2, x, (o.alpha(), o.beta()), y);
            if let Some((down, turned)) = &o.down {
                reduce(x, turned, down, o.own, own, d);
            }
            if rank > 0 {
                expand(&o.gather(own, start, end), &o.scaled_up, Operand::rows(&o.scaled_up, d), rank, y, d);
            }
            if self.relu {
                clamp(y);
            }
        });
        let _ = self.inner.set(inner);
        Ok((CpuStorage::F32(y), shape.clone()))
    }

    fn gradients(&self, x: &Tensor, y: &Tensor, grad: &Tensor, wanted: [bool; 3]) -> Result<[Option<Tensor>; 3]> {
        let grad = grad.contiguous()?;
        let grad = if self.relu { tensor(passed_of::<f32>(&F32Ref::new(y)?, &F32Ref::new(&grad)?), y.dims())? } else { grad };
        with_element!(self.fx.dtype(), T => self.backward::<T>(x, &grad, wanted))
    }

    /// Gradients of `fx`, of `x`, and of the small arguments one behind the other.
    fn backward<T: Element>(&self, x: &Tensor, grad: &Tensor, wanted: [bool; 3]) -> Result<[Option<Tensor>; 3]> {
        let [wants_fx, wants_x, wants_small] = wanted;
        if self.small().is_empty() {
            let d_fx = if wants_fx { Some(cast(grad, self.fx.dtype())?) } else { None };
            return Ok([d_fx, wants_x.then(|| grad.clone()), None]);
        }
        let o = self.operands()?;
        let scaled_columns = transposed(&o.scaled_up, o.d); // [D, R]
        let (lock, lock2) = self.locks();
        let (fx, fx2) = (lock.elements::<T>()?, lock2.as_ref().map_or(Ok(&[][..]), Lock::elements::<T>)?);
        let (xs, g) = (F32Ref::new(x)?, F32Ref::new(grad)?);
        let own_z = self.inner.get().map_or(&[][..], Vec::as_slice);
        let (d, rank, rows) = (o.d, o.rank(), xs.len() / o.d);
        let copies = o.ab.is_none(); // α = β = 1: the gradient itself is that of fx, and of x where x has no map
        let (needs_fx, needs_x) = (wants_fx && !copies, wants_x && !(copies && o.own == 0));
        let mut d_fx = output::<T>(if needs_fx { g.len() } else { 0 });
        let mut d_x = output(if needs_x { g.len() } else { 0 });
        let mut d_zs: Vec<Vec<f32>> = o.ranks.iter().map(|r| output(rows * r)).collect();
        let width = o.ab.as_ref().map_or(0, |ab| ab.len() / 2);
        let (target_f, target_x) = (Disjoint::new(&mut d_fx), Disjoint::new(&mut d_x));
        let targets_z: Vec<_> = d_zs.iter_mut().map(|z| Disjoint::new(z)).collect();
        let (count, range) = tasks(rows, d, rank);
        // of each task: [dα | dβ without the maps | d_downᵀ, [r, D] | dU/β, [R, D]]
        let sizes = 2 * width + (o.own + rank) * d;
        let parts = parallel::map(count, g.len(), |task| {
            let (start, end) = range(task);
            let count = end - start;
            let block = start * d..end * d;
            let (x, g) = (&xs[block.clone()], &g[block.clone()]);
            let mut sums = vec![0f32; sizes];
            let (d_ab, maps) = sums.split_at_mut(2 * width);
            let (d_down, d_up) = maps.split_at_mut(o.own * d);
            // SAFETY: each task has its own rows of both results.
            let (d_fx, d_x) = unsafe {
                (
                    target_f.range(if needs_fx { start * d } else { 0 }, if needs_fx { end * d } else { 0 }),
                    target_x.range(if needs_x { start * d } else { 0 }, if needs_x { end * d } else { 0 }),
                )
            };
            if let Some(ab) = &o.ab {
                let ab = ab.split_at(width);
                let fx2 = if fx2.is_empty() { fx2 } else { &fx2[block.clone()] };
                scale(g, ab.0, d_fx);
                scale(g, ab.1, d_x);
                weight_sums(&fx[block], fx2, x, g, d_ab);
            } else if needs_x {
                d_x.copy_from_slice(g);
            }
            if rank == 0 {
                return sums;
            }
            let mut e = output(count * rank);
            reduce(g, &o.scaled_up, &scaled_columns, rank, &mut e, d);
            let z = o.gather(&own_z[start * o.own..end * o.own], start, end);
            Product::new(rank, d, count).one_thread().into(Operand::rows(&z, rank).t(), Operand::rows(g, d), d_up, d);
            let mut first = o.own;
            for (target, &r) in targets_z.iter().zip(&o.ranks) {
                // SAFETY: each task has its own rows.
                let d_z = unsafe { target.range(start * r, end * r) };
                for (d_z, e) in d_z.chunks_exact_mut(r).zip(e.chunks_exact(rank)) {
                    d_z.copy_from_slice(&e[first..first + r]);
                }
                first += r;
            }
            if let Some((down, turned)) = &o.down {
                let own: Vec<f32> = e.chunks_exact(rank).flat_map(|e| &e[..o.own]).copied().collect();
                Product::new(o.own, d, count).one_thread().into(Operand::rows(&own, o.own).t(), Operand::rows(x, d), d_down, d);
                if needs_x {
                    expand(&own, turned, Operand::rows(down, o.own).t(), o.own, d_x, d);
                }
            }
            sums
        });
        let mut sums = vec![0f64; sizes];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
        }
        let d_fx = match (wants_fx, needs_fx) {
            (true, true) => Some(tensor(d_fx, x.dims())?),
            (true, false) => Some(cast(grad, self.fx.dtype())?),
            _ => None,
        };
        let d_x = match (wants_x, needs_x) {
            (true, true) => Some(tensor(d_x, x.dims())?),
            (true, false) => Some(grad.clone()),
            _ => None,
        };
        let small = wants_small.then(|| self.small_gradients(&o, &sums, &d_zs)).transpose()?;
        Ok([d_fx, d_x, small])
    }

    /// The gradients of [`Self::small`] in its order.
    fn small_gradients(&self, o: &Operands<'_>, sums: &[f64], d_zs: &[Vec<f32>]) -> Result<Tensor> {
        let d = o.d;
        let width = o.ab.as_ref().map_or(0, |ab| ab.len() / 2);
        let (d_ab, maps) = sums.split_at(2 * width);
        let (d_down, d_up) = maps.split_at(o.own * d);
        let mut flat: Vec<f32> = Vec::with_capacity(self.small().iter().map(|t| t.elem_count()).sum());
        if width > 0 {
            let (d_alpha, d_beta) = d_ab.split_at(width);
            flat.extend(d_alpha.iter().map(|&v| v as f32));
            let mut d_beta = d_beta.to_vec();
            for (i, (&u, &du)) in o.up.iter().zip(d_up).enumerate() {
                d_beta[if width == 1 { 0 } else { i % d }] += f64::from(u) * du;
            }
            flat.extend(d_beta.iter().map(|&v| v as f32));
        }
        let beta = o.beta();
        let of_up = |first: usize, r: usize| {
            (first * d..(first + r) * d).map(|i| (d_up[i] * f64::from(if width > 1 { beta[i % d] } else { beta[0] })) as f32)
        };
        if o.own > 0 {
            flat.extend((0..d).flat_map(|column| (0..o.own).map(move |r| d_down[r * d + column] as f32)));
            flat.extend(of_up(0, o.own));
        }
        let mut first = o.own;
        for (d_z, &r) in d_zs.iter().zip(&o.ranks) {
            flat.extend_from_slice(d_z);
            flat.extend(of_up(first, r));
            first += r;
        }
        let len = flat.len();
        tensor(flat, &[len])
    }
}

multiversion! {
    fn clamp<S>(y: &mut [f32]) {
        for y in y {
            // a comparison with NaN is false: NaN stays
            *y = if *y < 0. { 0. } else { *y };
        }
    }
}

/// Tasks over rows of width `d`, and the rows of each: what fits the second-level cache, but enough for a packed product.
fn tasks(rows: usize, d: usize, rank: usize) -> (usize, impl Fn(usize) -> (usize, usize)) {
    let step = if rank > THIN { ROWS } else { (PIECE / d).clamp(16, ROWS) };
    (rows.div_ceil(step), move |task| (task * step, ((task + 1) * step).min(rows)))
}

impl CustomOp2 for MergeOp {
    fn name(&self) -> &'static str {
        "merge"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        with_element!(self.fx.dtype(), T => self.forward::<T>(elements::<f32>(s2, l2)?, l2.shape()))
    }

    fn bwd(&self, fx: &Tensor, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [d_fx, d_x, _] = self.gradients(x, y, grad, [fx.track_op(), x.track_op(), false])?;
        Ok((d_fx, d_x))
    }
}

impl CustomOp3 for MergeOp {
    fn name(&self) -> &'static str {
        "merge"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_element!(self.fx.dtype(), T => self.forward::<T>(elements::<f32>(s2, l2)?, l2.shape()))
    }

    fn bwd(&self, fx: &Tensor, x: &Tensor, small: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let [d_fx, d_x, d_small] = self.gradients(x, y, grad, [fx.track_op(), x.track_op(), small.track_op()])?;
        Ok((d_fx, d_x, d_small))
    }
}

multiversion! {
    /// `y = α·(fx + fx2) + β·x`; `fx2` may be empty, α and β have one number or one per feature.
    fn combine<S, T: Element>(fx: &[T], fx2: &[T], x: &[f32], ab: (&[f32], &[f32]), y: &mut [f32]) {
        let (alpha, beta) = ab;
        if let (&[alpha], &[beta]) = (alpha, beta) {
            if fx2.is_empty() {
                for ((y, f), &x) in y.iter_mut().zip(fx).zip(x) {
                    *y = S::fma(alpha, f.wide(), beta * x);
                }
            } else {
                for (((y, f), f2), &x) in y.iter_mut().zip(fx).zip(fx2).zip(x) {
                    *y = S::fma(alpha, f.wide() + f2.wide(), beta * x);
                }
            }
            return;
        }
        // α·(fx + fx2) as above, not α·fx + α·fx2: at weights of one this is the plain sum to the last bit
        let d = alpha.len();
        for (row, (y, x)) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).enumerate() {
            let f = &fx[row * d..][..d];
            if fx2.is_empty() {
                for i in 0..d {
                    y[i] = S::fma(alpha[i], f[i].wide(), beta[i] * x[i]);
                }
            } else {
                let f2 = &fx2[row * d..][..d];
                for i in 0..d {
                    y[i] = S::fma(alpha[i], f[i].wide() + f2[i].wide(), beta[i] * x[i]);
                }
            }
        }
    }
}

multiversion! {
    /// `target = weight·g`, one weight or one per feature; nothing when the target is empty.
    fn scale<S, T: Element>(g: &[f32], weight: &[f32], target: &mut [T]) {
        if let &[weight] = weight {
            for (target, &g) in target.iter_mut().zip(g) {
                *target = T::narrow(weight * g);
            }
            return;
        }
        let d = weight.len();
        for (target, g) in target.chunks_exact_mut(d).zip(g.chunks_exact(d)) {
            for ((target, &g), &weight) in target.iter_mut().zip(g).zip(weight) {
                *target = T::narrow(weight * g);
            }
        }
    }
}

multiversion! {
    /// `Σ g·(fx + fx2)` and `Σ g·x`, whole or per feature, into the halves of `sums`.
    fn weight_sums<S, T: Element>(fx: &[T], fx2: &[T], x: &[f32], g: &[f32], sums: &mut [f32]) {
        let (d_alpha, d_beta) = sums.split_at_mut(sums.len() / 2);
        if let ([d_alpha], [d_beta]) = (&mut *d_alpha, &mut *d_beta) {
            let mut buffer = vec![0f32; fx.len()];
            *d_alpha = dot::<S>(g, T::row(fx, &mut buffer));
            if !fx2.is_empty() {
                *d_alpha += dot::<S>(g, T::row(fx2, &mut buffer));
            }
            *d_beta = dot::<S>(g, x);
            return;
        }
        let d = d_alpha.len();
        for fx in [fx, fx2] {
            for (f, g) in fx.chunks_exact(d).zip(g.chunks_exact(d)) {
                for ((sum, f), &g) in d_alpha.iter_mut().zip(f).zip(g) {
                    *sum = S::fma(g, f.wide(), *sum);
                }
            }
        }
        for (x, g) in x.chunks_exact(d).zip(g.chunks_exact(d)) {
            for ((sum, &x), &g) in d_beta.iter_mut().zip(x).zip(g) {
                *sum = S::fma(g, x, *sum);
            }
        }
    }
}
