//! Every differentiable operation at shapes chosen to hit the edges: widths off the vector width, one row, no rows, several tasks.
use candle_core::{DType, Device, Result, Tensor};
use kernels::plain;

/// An operation over its differentiable arguments; ids, tables and settings are captured.
pub(crate) type Operation = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// One operation at one shape.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Differentiable arguments in f32.
    pub(crate) args: Vec<Tensor>,
    pub(crate) fused: Operation,
    pub(crate) plain: Operation,
    /// Size of the terms that results are sums and differences of: results may cancel to less, their rounding errors do not.
    pub(crate) size: f64,
    /// Largest deviation of value and gradient from f64, relative to the largest element (at least `size`): a few roundings (6e-8 each) for
    /// element-wise work, growing with the square root of the length for sums.
    pub(crate) tolerance: f64,
}

/// Numbers in −1..1 from a counter (splitmix64): the same for every run and machine.
pub(crate) fn uniform(count: usize, seed: u64) -> Vec<f32> {
    (0..count as u64)
        .map(|i| {
            let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed.wrapping_mul(0xd1b5_4a32_d192_ed03));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.
        })
        .collect()
}

pub(crate) fn random(dims: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(uniform(dims.iter().product(), seed), dims, &Device::Cpu).unwrap()
}

/// Ids below `limit`; every `ignored_every`-th is ignored.
pub(crate) fn ids(dims: &[usize], limit: usize, ignored_every: Option<usize>) -> Tensor {
    let count: usize = dims.iter().product();
    let ids: Vec<u32> = (0..count)
        .map(|i| match ignored_every {
            Some(n) if i % n == n - 1 => u32::MAX,
            _ => (i * 7919 % limit) as u32,
        })
        .collect();
    Tensor::from_vec(ids, dims, &Device::Cpu).unwrap()
}

/// Angles' cosines and sines as tables.
fn tables(dims: &[usize]) -> (Tensor, Tensor) {
    let angles = (random(dims, 99) * 3.).unwrap();
    (angles.cos().unwrap(), angles.sin().unwrap())
}

fn like(table: &Tensor, x: &Tensor) -> Result<Tensor> {
    table.to_dtype(x.dtype())
}

pub(crate) struct List(Vec<Case>);

impl List {
    /// Sets the size of the last `count` cases.
    pub(crate) fn sized(&mut self, count: usize, size: f64) {
        let start = self.0.len() - count;
        self.0[start..].iter_mut().for_each(|case| case.size = size);
    }

    pub(crate) fn add(
        &mut self,
        name: String,
        shapes: &[&[usize]],
        tolerance: f64,
        fused: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
        plain: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    ) {
        let args = shapes.iter().enumerate().map(|(i, dims)| random(dims, i as u64)).collect();
        self.0.push(Case { name, args, fused: Box::new(fused), plain: Box::new(plain), size: 1., tolerance });
    }
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    let mut list = List(Vec::new());
    activations(&mut list);
    norms(&mut list);
    linears(&mut list);
    attentions(&mut list);
    losses(&mut list);
    residuals(&mut list);
    list.0.extend(images());
    list.0
}

/// The cases of operations on images.
pub(crate) fn images() -> Vec<Case> {
    let mut list = List(Vec::new());
    crate::images::convolutions(&mut list);
    crate::images::norms(&mut list);
    crate::images::pools(&mut list);
    list.0
}

/// The exponent of the tanh form reaches 25 at |x| = 6; its rounding of 25·6e-8 is a relative 1.5e-6 of the exponential, and the
/// gradient passes the factor 6 as well.
const ACTIVATION: f64 = 3e-6;

fn activations(list: &mut List) {
    for dims in [&[0][..], &[1], &[3, 5, 7], &[40, 1000]] {
        // arguments of −6..6 reach both tails
        let wide = |x: &Tensor| x * 6.;
        list.add(
            format!("silu {dims:?}"),
            &[dims],
            ACTIVATION,
            move |a| kernels::silu(&wide(&a[0])?),
            move |a| plain::silu(&wide(&a[0])?),
        );
        list.add(
            format!("gelu_tanh {dims:?}"),
            &[dims],
            ACTIVATION,
            move |a| kernels::gelu_tanh(&wide(&a[0])?),
            move |a| plain::gelu_tanh(&wide(&a[0])?),
        );
        list.add(
            format!("gelu_erf {dims:?}"),
            &[dims],
            ACTIVATION,
            move |a| kernels::gelu_erf(&wide(&a[0])?),
            move |a| plain::gelu_erf(&wide(&a[0])?),
        );
        list.add(
            format!("swiglu {dims:?}"),
            &[dims, dims],
            ACTIVATION,
            move |a| kernels::swiglu(&wide(&a[0])?, &a[1]),
            move |a| plain::swiglu(&wide(&a[0])?, &a[1]),
        );
    }
}

fn norms(list: &mut List) {
    for dims in [&[1, 1][..], &[0, 5], &[1, 17], &[2, 3, 33], &[130, 384]] {
        let d = dims[dims.len() - 1];
        // one feature: the centred row is zero and its scale is 1/√eps, so rounding is amplified; eps 0.1 keeps it in range
        let eps = if d == 1 { 0.1 } else { 1e-5 };
        let name = format!("{dims:?}");
        list.add(
            format!("rms_norm {name}"),
            &[dims, &[d]],
            3e-6,
            move |a| kernels::rms_norm(&a[0], &a[1], eps),
            move |a| plain::rms_norm(&a[0], &a[1], eps),
        );
        list.add(
            format!("layer_norm {name}"),
            &[dims, &[d]],
            3e-6,
            move |a| kernels::layer_norm(&a[0], &a[1], None, eps),
            move |a| plain::layer_norm(&a[0], &a[1], None, eps),
        );
        list.add(
            format!("layer_norm with bias {name}"),
            &[dims, &[d], &[d]],
            3e-6,
            move |a| kernels::layer_norm(&a[0], &a[1], Some(&a[2]), eps),
            move |a| plain::layer_norm(&a[0], &a[1], Some(&a[2]), eps),
        );
    }
}

fn linears(list: &mut List) {
    for (dims, out) in
        [(&[1, 1][..], 1), (&[0, 3], 4), (&[7], 5), (&[1, 1, 100], 130), (&[2, 2, 33], 9), (&[3, 50, 65], 37), (&[300, 64], 128)]
    {
        let d = dims[dims.len() - 1];
        list.add(
            format!("linear {dims:?} to {out}"),
            &[dims, &[out, d]],
            5e-6,
            |a| kernels::linear(&a[0], &a[1], None),
            |a| plain::linear(&a[0], &a[1], None),
        );
        list.add(
            format!("linear with bias {dims:?} to {out}"),
            &[dims, &[out, d], &[out]],
            5e-6,
            |a| kernels::linear(&a[0], &a[1], Some(&a[2])),
            |a| plain::linear(&a[0], &a[1], Some(&a[2])),
        );
    }
}

fn attentions(list: &mut List) {
    for (b, t, heads, kv_heads, d) in
        [(1, 1, 1, 1, 2), (0, 3, 2, 1, 4), (2, 5, 4, 2, 6), (1, 64, 2, 2, 16), (2, 65, 3, 1, 8), (1, 200, 6, 2, 20)]
    {
        let (q, kv) = ([b, t, heads, d], [b, t, kv_heads, d]);
        list.add(
            format!("causal_attention B{b} T{t} H{heads} K{kv_heads} d{d}"),
            &[&q, &kv, &kv],
            5e-6,
            |a| kernels::causal_attention(&(&a[0] * 3.)?, &a[1], &a[2], 0.7),
            |a| plain::causal_attention(&(&a[0] * 3.)?, &a[1], &a[2], 0.7),
        );
        for dims in [&[t, d / 2][..], &[b, t, d / 2]] {
            let (cos, sin) = tables(dims);
            let (cos2, sin2) = (cos.clone(), sin.clone());
            list.add(
                format!("rotary {q:?} by {dims:?}"),
                &[&q],
                1e-6,
                move |a| kernels::rotary(&a[0], &like(&cos, &a[0])?, &like(&sin, &a[0])?),
                move |a| plain::rotary(&a[0], &like(&cos2, &a[0])?, &like(&sin2, &a[0])?),
            );
        }
    }
}

fn losses(list: &mut List) {
    for (n, d, vocab, ignored) in [(1, 1, 2, None), (5, 3, 10, Some(2)), (33, 20, 1000, Some(5)), (600, 16, 77, None)] {
        let targets = ids(&[n], vocab, ignored);
        let (t1, t2, t3, t4) = (targets.clone(), targets.clone(), targets.clone(), targets.clone());
        list.add(
            format!("cross_entropy N{n} V{vocab}"),
            &[&[n, vocab]],
            3e-6,
            move |a| kernels::cross_entropy(&(&a[0] * 5.)?, &t1),
            move |a| plain::cross_entropy(&(&a[0] * 5.)?, &t2),
        );
        list.add(
            format!("linear_cross_entropy N{n} D{d} V{vocab}"),
            &[&[n, d], &[vocab, d]],
            5e-6,
            move |a| kernels::linear_cross_entropy(&a[0], &a[1], None, &t3),
            move |a| plain::linear_cross_entropy(&a[0], &a[1], None, &t4),
        );
        let (t5, t6) = (targets.clone(), targets);
        list.add(
            format!("linear_cross_entropy with bias N{n} D{d} V{vocab}"),
            &[&[n, d], &[vocab, d], &[vocab]],
            5e-6,
            move |a| kernels::linear_cross_entropy(&a[0], &a[1], Some(&a[2]), &t5),
            move |a| plain::linear_cross_entropy(&a[0], &a[1], Some(&a[2]), &t6),
        );
        // gradients of a mean over n rows are probabilities divided by n
        list.sized(3, 1. / n as f64);
    }
    for (dims, rows, d) in [(&[3][..], 4, 5), (&[0], 4, 5), (&[20, 30], 7, 300), (&[1, 1, 1], 1, 1)] {
        let (i1, i2) = (ids(dims, rows, None), ids(dims, rows, None));
        list.add(
            format!("embedding {dims:?} of {rows} x {d}"),
            &[&[rows, d]],
            2e-6,
            move |a| kernels::embedding(&a[0], &i1),
            move |a| plain::embedding(&a[0], &i2),
        );
    }
}

fn residuals(list: &mut List) {
    for (dims, rank) in [(&[1, 1][..], 1), (&[0, 6], 2), (&[2, 3, 17], 4), (&[300, 96], 5), (&[5, 64], 32), (&[7, 200], 24)] {
        let d = dims[dims.len() - 1];
        list.add(
            format!("low_rank {dims:?} rank {rank}"),
            &[dims, &[d, rank], &[rank, d]],
            3e-6,
            |a| kernels::low_rank(&a[0], &a[1], &a[2]),
            |a| plain::low_rank(&a[0], &a[1], &a[2]),
        );
        list.add(format!("add {dims:?}"), &[dims, dims], 2e-7, |a| kernels::add(&a[0], &a[1]), |a| plain::add(&a[0], &a[1]));
        merges(list, dims, d, rank);
    }
}

/// Combinations of parts (with a ReLU behind one of them): weights (none, scalar, per feature), two summands, own map, no branch, one
/// or two of unequal rank.
fn merges(list: &mut List, dims: &'static [usize], d: usize, rank: usize) {
    for weights in [None, Some(vec![2]), Some(vec![2, d])] {
        for (two, own, branches) in [(false, false, 0), (true, false, 0), (false, true, 0), (true, true, 2), (false, false, 1)] {
            let ranks: Vec<usize> = (0..branches).map(|j| rank + j).collect();
            let mut shapes: Vec<Vec<usize>> = vec![dims.to_vec(); 2 + usize::from(two)];
            shapes.extend(weights.clone());
            if own {
                shapes.extend([vec![d, rank], vec![rank, d]]);
            }
            for r in &ranks {
                let mut z = dims.to_vec();
                *z.last_mut().unwrap() = *r;
                shapes.extend([z, vec![*r, d]]);
            }
            let has_ab = weights.is_some();
            let build = move |a: &[Tensor], f: &dyn Fn(&kernels::Merge<'_>) -> Result<Tensor>| {
                let mut rest = a[2..].iter();
                let fx2 = if two { rest.next() } else { None };
                let ab = if has_ab { rest.next() } else { None };
                let map = if own { rest.next().zip(rest.next()) } else { None };
                let branches: Vec<_> = std::iter::from_fn(|| Some((rest.next()?.clone(), rest.next()?.clone()))).collect();
                f(&kernels::Merge { fx: &a[0], x: &a[1], fx2, ab, map, branches: &branches, relu: two && own })
            };
            let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
            list.add(
                format!(
                    "merge {dims:?} rank {rank}: weights {weights:?}, two summands {two}, own map {own}, {branches} branches"
                ),
                &shapes,
                4e-6,
                move |a| build(a, &|m| kernels::merge(m)),
                move |a| build(a, &|m| plain::merge(m)),
            );
        }
    }
}

/// The same values in another dtype.
pub(crate) fn cast(args: &[Tensor], dtype: DType) -> Vec<Tensor> {
    args.iter().map(|x| x.to_dtype(dtype).unwrap()).collect()
}
