//! Forward and forward+backward of one merge per variant, at 512 × 2048 in f32: the shape of a 1B model's prefill.
//!
//! `cargo bench -p laurel`; compare the variants' rows with `plain`, and the `kernels` feature with `--no-default-features`.

use std::hint::black_box;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use criterion::{Criterion, criterion_group, criterion_main};
use laurel::{FeatureAxis, Residual, ResidualConfig, ResidualStream};

const ROWS: usize = 512;
const FEATURES: usize = 2048;

fn merge(criterion: &mut Criterion) {
    let cpu = &Device::Cpu;
    let ramp = |scale: f64| {
        let values = Tensor::arange(0f32, (ROWS * FEATURES) as f32, cpu).unwrap();
        (values * scale).unwrap().sin().unwrap().reshape((1, ROWS, FEATURES)).unwrap()
    };
    for name in ["plain", "rw", "lr", "pa", "rw+lr", "rw+lr+pa"] {
        let config = ResidualConfig::preset(name, 4, 3).unwrap();
        let variables = VarMap::new();
        let vb = VarBuilder::from_varmap(&variables, DType::F32, cpu);
        let residual = Residual::new(&config, FEATURES, FeatureAxis::Last, vb).unwrap();
        residual.init(0).unwrap();
        let (x, fx) = (Var::from_tensor(&ramp(0.1)).unwrap(), Var::from_tensor(&ramp(0.3)).unwrap());
        let forward = || {
            let stream = ResidualStream::start(x.as_tensor().clone(), residual.needs());
            residual.merge(&fx, None, &stream).unwrap()
        };
        criterion.bench_function(&format!("merge/{name}/forward"), |bencher| bencher.iter(|| black_box(forward())));
        criterion.bench_function(&format!("merge/{name}/backward"), |bencher| {
            bencher.iter(|| black_box(forward().sum_all().unwrap().backward().unwrap()));
        });
    }
}

criterion_group!(benches, merge);
criterion_main!(benches);
