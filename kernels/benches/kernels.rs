//! Time of each fused operation beside its reference, forward and backward, at the shapes of a small model.
//!
//! `cargo bench -p kernels`; the residual rows are the ones the method's overhead is made of.
#![allow(missing_docs, reason = "criterion's macros generate undocumented functions")]
use std::hint::black_box;

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use kernels::{KvSlab, Merge, plain};

fn variable(dims: &[usize]) -> Var {
    let count: usize = dims.iter().product();
    let values =
        (0..count as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1u64 << 23) as f32 - 1.).collect();
    Var::from_vec(values, dims, &Device::Cpu).expect("the shape holds the values")
}

/// Forward and backward of both forms.
fn pair(c: &mut Criterion, name: &str, fused: impl Fn() -> Result<Tensor>, reference: impl Fn() -> Result<Tensor>) {
    let mut group = c.benchmark_group(name);
    let step = |f: &dyn Fn() -> Result<Tensor>| black_box(f().and_then(|y| y.sum_all()?.backward()).expect("shapes fit"));
    group.bench_function("fused forward", |b| b.iter(|| black_box(fused().expect("shapes fit"))));
    group.bench_function("plain forward", |b| b.iter(|| black_box(reference().expect("shapes fit"))));
    group.bench_function("fused step", |b| b.iter(|| step(&fused)));
    group.bench_function("plain step", |b| b.iter(|| step(&reference)));
    group.finish();
}

fn residual(c: &mut Criterion) {
    let (x, fx) = (variable(&[512, 2048]), variable(&[512, 2048]));
    let (down, up, ab) = (variable(&[2048, 4]), variable(&[4, 2048]), variable(&[2]));
    pair(c, "add 512x2048", || kernels::add(&x, &fx), || plain::add(&x, &fx));
    let weighted = Merge { ab: Some(&ab), ..Merge::plain(&fx, &x) };
    pair(c, "merge 512x2048", || kernels::merge(&weighted), || plain::merge(&weighted));
    let mapped = Merge { map: Some((&down, &up)), ..weighted };
    pair(c, "merge 512x2048 with a map of rank 4", || kernels::merge(&mapped), || plain::merge(&mapped));
}

fn layers(c: &mut Criterion) {
    let (x, w, weight) = (variable(&[2048, 384]), variable(&[1536, 384]), variable(&[384]));
    let (gate, head) = (variable(&[2048, 1536]), variable(&[8, 256, 6, 64]));
    pair(c, "linear 2048x384 to 1536", || kernels::linear(&x, &w, None), || plain::linear(&x, &w, None));
    pair(c, "rms_norm 2048x384", || kernels::rms_norm(&x, &weight, 1e-5), || plain::rms_norm(&x, &weight, 1e-5));
    pair(c, "swiglu 2048x1536", || kernels::swiglu(&gate, &gate), || plain::swiglu(&gate, &gate));
    let attention = |f: fn(&Tensor, &Tensor, &Tensor, f64) -> Result<Tensor>| f(&head, &head, &head, 0.125);
    pair(c, "attention 8x256x6x64", || attention(kernels::causal_attention), || attention(plain::causal_attention));
}

fn decode(c: &mut Criterion) {
    let (x, w) = (variable(&[1, 2048]), variable(&[8192, 2048]));
    let (x, w) = (x.detach(), w.detach());
    c.bench_function("linear 1x2048 to 8192", |b| b.iter(|| black_box(kernels::linear(&x, &w, None).expect("shapes fit"))));
    let mut slab = KvSlab::new(1, 8, 1024, 64);
    let past = Tensor::ones((1, 1024, 8, 64), DType::F32, &Device::Cpu).expect("a valid shape");
    slab.append(&[0], &past, &[0]).expect("it fits");
    let q = Tensor::ones((1, 1, 32, 64), DType::F32, &Device::Cpu).expect("a valid shape");
    c.bench_function("attention_cached 1024 positions", |b| {
        b.iter(|| black_box(kernels::attention_cached(&q, &slab, &slab, &[1023], 0.125).expect("shapes fit")));
    });
}

criterion_group!(benches, residual, layers, decode);
criterion_main!(benches);
