//! Joining a block's output with the residual side: LAuReL's whole formula in one pass over the activations.
//!
//! ```text
//! add(a, b) = a + b
//! merge     y = α·(fx + fx') + β·(x + (x·down)·up + Σ_j z_j·up_j)
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
use rayon::prelude::*;

use crate::access::{F32Ref, f32s, is_fast, output, tensor};
use crate::fused::low_rank::{THIN, add_thin, transposed};
use crate::gemm::{Operand, Product, skinny};
use crate::parallel::{self, Disjoint, PIECE, is_worth_it};
use crate::simd::{dot, multiversion};
use crate::{check, plain, stand_in};

/// Rows of one task, and of one partial sum of the weights' gradients.
const ROWS: usize = 64;

/// `a + b` of equal shapes, on all threads.
///
/// # Errors
/// When the shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !is_fast(&[a, b]) {
        return plain::add(a, b);
    }
    check::same_shape("add", "b", a, b)?;
    a.contiguous()?.apply_op2(&b.contiguous()?, Add)
}

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
}

impl<'a> Merge<'a> {
    /// The plain residual `fx + x`, to which a caller adds what it has.
    pub fn plain(fx: &'a Tensor, x: &'a Tensor) -> Self {
        Self { fx, fx2: None, x, ab: None, map: None, branches: &[] }
    }

    fn tensors(&self) -> Vec<&'a Tensor> {
        let maps = self.map.into_iter().flat_map(|(down, up)| [down, up]);
        let branches = self.branches.iter().flat_map(|(z, up)| [z, up]);
        [self.fx, self.x].into_iter().chain(self.fx2).chain(self.ab).chain(maps).chain(branches).collect()
    }
}

/// `α·(fx + fx2) + β·(x + (x·down)·up + Σ z_j·up_j)`; absent parts are left out.
///
/// - Shape: that of `fx`.
/// - Cost: `4·r·D + Σ 2·r_j·D` FLOPs per row forward, twice that backward; bound by memory for the ranks in use.
/// - Kept for backward: the arguments and `x·down`, r numbers per row.
///
/// # Errors
/// When the shapes do not fit.
pub fn merge(args: &Merge<'_>) -> Result<Tensor> {
    if !is_fast(&args.tensors()) {
        return plain::merge(args);
    }
    check::merge(args)?;
    let owned = |t: &Tensor| t.contiguous();
    let pair = |(a, b): (&Tensor, &Tensor)| Ok::<_, candle_core::Error>((owned(a)?, owned(b)?));
    let (fx, x) = (owned(args.fx)?, owned(args.x)?);
    let op = MergeOp {
        fx: fx.clone(),
        fx2: args.fx2.map(owned).transpose()?,
        ab: args.ab.map(owned).transpose()?,
        map: args.map.map(pair).transpose()?,
        branches: args.branches.iter().map(|(z, up)| pair((z, up))).collect::<Result<_>>()?,
        inner: OnceLock::new(),
    };
    let fx = match &op.fx2 {
        Some(fx2) => stand_in::sum(&fx, fx2)?,
        None => fx,
    };
    let small = op.small();
    if small.is_empty() {
        return fx.apply_op2(&x, op);
    }
    let small = stand_in::bundle(&small)?;
    fx.apply_op3(&x, &small, op)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (f32s(s1, l1)?, f32s(s2, l2)?);
        let mut y = output(a.len());
        if is_worth_it(a.len()) {
            y.par_chunks_mut(PIECE).zip(a.par_chunks(PIECE).zip(b.par_chunks(PIECE))).for_each(|(y, (a, b))| add_slices(a, b, y));
        } else {
            add_slices(a, b, &mut y);
        }
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((a.track_op().then(|| grad.clone()), b.track_op().then(|| grad.clone())))
    }
}

multiversion! {
    fn add_slices<S>(a: &[f32], b: &[f32], y: &mut [f32]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}

/// The arguments that candle does not pass, contiguous; `fx` is among them because a stand-in may take its place.
struct MergeOp {
    fx: Tensor,
    fx2: Option<Tensor>,
    ab: Option<Tensor>,
    map: Option<(Tensor, Tensor)>,
    branches: Vec<(Tensor, Tensor)>,
    /// `x·down`, `[rows, r]`, from the forward pass.
    inner: OnceLock<Vec<f32>>,
}

/// The same, locked for reading, with what both directions need of them.
struct Operands<'a> {
    fx: F32Ref<'a>,
    fx2: Option<F32Ref<'a>>,
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
            fx: F32Ref::new(&self.fx)?,
            fx2: self.fx2.as_ref().map(F32Ref::new).transpose()?,
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

    fn forward(&self, x: &[f32], shape: &Shape) -> Result<(CpuStorage, Shape)> {
        let o = self.operands()?;
        let (d, rank, rows) = (o.d, o.rank(), x.len() / o.d);
        let (mut y, mut inner) = (output(x.len()), output(rows * o.own));
        let (target, target_z) = (Disjoint::new(&mut y), Disjoint::new(&mut inner));
        let (count, range) = tasks(rows, d, rank);
        parallel::for_each(count, x.len(), |task| {
            let (start, end) = range(task);
            // SAFETY: each task has its own rows of both results.
            let (y, own) = unsafe { (target.range(start * d, end * d), target_z.range(start * o.own, end * o.own)) };
            let fx2 = o.fx2.as_ref().map_or(&[][..], |fx2| &fx2[start * d..end * d]);
            let x = &x[start * d..end * d];
            combine(&o.fx[start * d..end * d], fx2, x, (o.alpha(), o.beta()), y);
            if let Some((down, turned)) = &o.down {
                if o.own <= THIN {
                    skinny::product_one_thread(x, turned, own, d);
                } else {
                    Product::new(end - start, o.own, d).one_thread().into(
                        Operand::rows(x, d),
                        Operand::rows(down, o.own),
                        own,
                        o.own,
                    );
                }
            }
            if rank > 0 {
                expand(&o.gather(own, start, end), &o.scaled_up, Operand::rows(&o.scaled_up, d), rank, y, d);
            }
        });
        let _ = self.inner.set(inner);
        Ok((CpuStorage::F32(y), shape.clone()))
    }

    /// Gradients of `fx`, of `x`, and of the small arguments one behind the other.
    fn backward(&self, x: &Tensor, grad: &Tensor, wanted: [bool; 3]) -> Result<[Option<Tensor>; 3]> {
        let [wants_fx, wants_x, wants_small] = wanted;
        let grad = grad.contiguous()?;
        if self.small().is_empty() {
            return Ok([wants_fx.then(|| grad.clone()), wants_x.then(|| grad.clone()), None]);
        }
        let o = self.operands()?;
        let (xs, g) = (F32Ref::new(x)?, F32Ref::new(&grad)?);
        let own_z = self.inner.get().map_or(&[][..], Vec::as_slice);
        let (d, rank, rows) = (o.d, o.rank(), xs.len() / o.d);
        let copies = o.ab.is_none(); // α = β = 1: the gradient itself is that of fx, and of x where x has no map
        let (needs_fx, needs_x) = (wants_fx && !copies, wants_x && !(copies && o.own == 0));
        let mut d_fx = output(if needs_fx { g.len() } else { 0 });
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
                let fx2 = o.fx2.as_ref().map_or(&[][..], |fx2| &fx2[block.clone()]);
                scale(g, ab, d_fx, d_x);
                weight_sums(&o.fx[block.clone()], fx2, x, g, d_ab);
            } else if needs_x {
                d_x.copy_from_slice(g);
            }
            if rank == 0 {
                return sums;
            }
            let mut e = output(count * rank);
            if rank <= THIN {
                skinny::product_one_thread(g, &o.scaled_up, &mut e, d);
            } else {
                Product::new(count, rank, d).one_thread().into(
                    Operand::rows(g, d),
                    Operand::rows(&o.scaled_up, d).t(),
                    &mut e,
                    rank,
                );
            }
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
        let gradient = |wants: bool, needs: bool, data: Vec<f32>| match (wants, needs) {
            (true, true) => tensor(data, x.dims()).map(Some),
            (true, false) => Ok(Some(grad.clone())),
            _ => Ok(None),
        };
        let small = wants_small.then(|| self.small_gradients(&o, &sums, &d_zs)).transpose()?;
        Ok([gradient(wants_fx, needs_fx, d_fx)?, gradient(wants_x, needs_x, d_x)?, small])
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

/// Tasks over rows of width `d`, and the rows of each: what fits the second-level cache, but enough for a packed product.
fn tasks(rows: usize, d: usize, rank: usize) -> (usize, impl Fn(usize) -> (usize, usize)) {
    let step = if rank > THIN { ROWS } else { (PIECE / d).clamp(16, ROWS) };
    (rows.div_ceil(step), move |task| (task * step, ((task + 1) * step).min(rows)))
}

/// `y += z·up` over rows; `up` as rows for few columns of `z`, as an operand for more.
fn expand(z: &[f32], thin_up: &[f32], up: Operand<'_>, r: usize, y: &mut [f32], d: usize) {
    if r <= THIN {
        add_thin(z, thin_up, r, y);
    } else {
        Product::new(y.len() / d, d, r).one_thread().adding().into(Operand::rows(z, r), up, y, d);
    }
}

impl CustomOp2 for MergeOp {
    fn name(&self) -> &'static str {
        "merge"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(f32s(s2, l2)?, l2.shape())
    }

    fn bwd(&self, fx: &Tensor, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [d_fx, d_x, _] = self.backward(x, grad, [fx.track_op(), x.track_op(), false])?;
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
        self.forward(f32s(s2, l2)?, l2.shape())
    }

    fn bwd(
        &self,
        fx: &Tensor,
        x: &Tensor,
        small: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [d_fx, d_x, d_small] = self.backward(x, grad, [fx.track_op(), x.track_op(), small.track_op()])?;
        Ok((d_fx, d_x, d_small))
    }
}

multiversion! {
    /// `y = α·(fx + fx2) + β·x`; `fx2` may be empty, α and β have one number or one per feature.
    fn combine<S>(fx: &[f32], fx2: &[f32], x: &[f32], ab: (&[f32], &[f32]), y: &mut [f32]) {
        let (alpha, beta) = ab;
        if let (&[alpha], &[beta]) = (alpha, beta) {
            if fx2.is_empty() {
                for ((y, &f), &x) in y.iter_mut().zip(fx).zip(x) {
                    *y = S::fma(alpha, f, beta * x);
                }
            } else {
                for (((y, &f), &f2), &x) in y.iter_mut().zip(fx).zip(fx2).zip(x) {
                    *y = S::fma(alpha, f + f2, beta * x);
                }
            }
            return;
        }
        let d = alpha.len();
        for (row, (y, (f, x))) in y.chunks_exact_mut(d).zip(fx.chunks_exact(d).zip(x.chunks_exact(d))).enumerate() {
            for ((((y, &f), &x), &alpha), &beta) in y.iter_mut().zip(f).zip(x).zip(alpha).zip(beta) {
                *y = S::fma(alpha, f, beta * x);
            }
            if !fx2.is_empty() {
                for ((y, &f), &alpha) in y.iter_mut().zip(&fx2[row * d..]).zip(alpha) {
                    *y = S::fma(alpha, f, *y);
                }
            }
        }
    }
}

multiversion! {
    /// `d_fx = α·g` and `d_x = β·g`, each unless empty.
    fn scale<S>(g: &[f32], ab: (&[f32], &[f32]), d_fx: &mut [f32], d_x: &mut [f32]) {
        for (weight, target) in [(ab.0, d_fx), (ab.1, d_x)] {
            if let &[weight] = weight {
                for (target, &g) in target.iter_mut().zip(g) {
                    *target = weight * g;
                }
                continue;
            }
            let d = weight.len();
            for (target, g) in target.chunks_exact_mut(d).zip(g.chunks_exact(d)) {
                for ((target, &g), &weight) in target.iter_mut().zip(g).zip(weight) {
                    *target = weight * g;
                }
            }
        }
    }
}

multiversion! {
    /// `Σ g·(fx + fx2)` and `Σ g·x`, whole or per feature, into the halves of `sums`.
    fn weight_sums<S>(fx: &[f32], fx2: &[f32], x: &[f32], g: &[f32], sums: &mut [f32]) {
        let (d_alpha, d_beta) = sums.split_at_mut(sums.len() / 2);
        if let ([d_alpha], [d_beta]) = (&mut *d_alpha, &mut *d_beta) {
            *d_alpha = dot::<S>(g, fx) + if fx2.is_empty() { 0. } else { dot::<S>(g, fx2) };
            *d_beta = dot::<S>(g, x);
            return;
        }
        let d = d_alpha.len();
        for (factor, is_alpha) in [(fx, true), (fx2, true), (x, false)] {
            let sums = if is_alpha { &mut *d_alpha } else { &mut *d_beta };
            for (factor, g) in factor.chunks_exact(d).zip(g.chunks_exact(d)) {
                for ((sum, &factor), &g) in sums.iter_mut().zip(factor).zip(g) {
                    *sum = S::fma(g, factor, *sum);
                }
            }
        }
    }
}
