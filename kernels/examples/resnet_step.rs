//! A training step of ResNet-20 for CIFAR, and a forward pass of ResNet-50, with the operations on images.
//!
//! ```text
//! cifar20   3 stages of 3 basic blocks, 16/32/64 channels, 1x1 shortcuts where shapes change, 32x32 images, batch 128: 0.27 M parameters
//! resnet50  the bottleneck network with batch norm folded into the convolutions, 224x224 images, batch 8: 25.6 M parameters
//! cargo run --release -p kernels --example resnet_step -- cifar20|resnet50 [steps [threads [batch [f32|bf16]]]]
//! ```
//! Prints minimum and median of the steps after a first one, and processor time per step, which on a busy machine says more than
//! the clock. Weights are pseudo-random: the time of a step does not depend on them.
#![allow(clippy::print_stdout, reason = "the example's output")]
use std::time::Instant;

use candle_core::{DType, Device, Error, Result, Tensor, Var};
use kernels::{BatchNorm, Conv2dConfig, PackedConv2d, SgdParams, sgd_step};

/// Numbers of deviation `size` from a counter.
fn random(dims: &[usize], size: f32) -> Result<Tensor> {
    let count: usize = dims.iter().product();
    let values: Vec<f32> = (0..count as u64)
        .map(|i| {
            let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            // uniform in ±√3 has deviation one
            ((z ^ (z >> 27)) >> 40) as f32 / (1u64 << 23) as f32 * size * 1.732 - size * 1.732
        })
        .collect();
    Tensor::from_vec(values, dims, &Device::Cpu)
}

/// Weight `[O, I, k, k]` that keeps the size of activations.
fn weight(inputs: usize, outputs: usize, kernel: usize) -> Result<Tensor> {
    random(&[outputs, inputs, kernel, kernel], (2. / (inputs * kernel * kernel) as f32).sqrt())
}

/// A convolution and its batch norm, in training.
struct ConvNorm {
    weight: Var,
    gamma: Var,
    beta: Var,
    config: Conv2dConfig,
}

impl ConvNorm {
    fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Result<Self> {
        Ok(Self {
            weight: Var::from_tensor(&weight(inputs, outputs, kernel)?)?,
            gamma: Var::ones(outputs, DType::F32, &Device::Cpu)?,
            beta: Var::zeros(outputs, DType::F32, &Device::Cpu)?,
            config: Conv2dConfig { stride, padding: kernel / 2, groups: 1 },
        })
    }

    fn forward(&self, x: &Tensor, relu: bool) -> Result<Tensor> {
        let y = kernels::conv2d(x, &self.weight, None, &self.config)?;
        let norm = BatchNorm { gamma: &self.gamma, beta: &self.beta, eps: 1e-5, relu };
        Ok(kernels::batch_norm_train(&y, &norm)?.0)
    }
}

/// ResNet-20: stem, blocks of two convolutions and perhaps a shortcut, classifier.
struct Cifar {
    stem: ConvNorm,
    blocks: Vec<(ConvNorm, ConvNorm, Option<ConvNorm>)>,
    classifier: Var,
}

impl Cifar {
    fn new() -> Result<Self> {
        let mut blocks = Vec::new();
        let mut inputs = 16;
        for (stage, outputs) in [16, 32, 64].into_iter().enumerate() {
            for block in 0..3 {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let shortcut = if inputs == outputs { None } else { Some(ConvNorm::new(inputs, outputs, 1, stride)?) };
                blocks.push((ConvNorm::new(inputs, outputs, 3, stride)?, ConvNorm::new(outputs, outputs, 3, 1)?, shortcut));
                inputs = outputs;
            }
        }
        Ok(Self { stem: ConvNorm::new(3, 16, 3, 1)?, blocks, classifier: Var::from_tensor(&random(&[10, 64], 0.1)?)? })
    }

    fn vars(&self) -> Vec<&Var> {
        let units = self.blocks.iter().flat_map(|(a, b, c)| [Some(a), Some(b), c.as_ref()]).flatten();
        let units = std::iter::once(&self.stem).chain(units);
        units.flat_map(|unit| [&unit.weight, &unit.gamma, &unit.beta]).chain([&self.classifier]).collect()
    }

    fn loss(&self, images: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let mut h = self.stem.forward(images, true)?;
        for (first, second, shortcut) in &self.blocks {
            let inner = second.forward(&first.forward(&h, true)?, false)?;
            let side = shortcut.as_ref().map_or_else(|| Ok(h.clone()), |shortcut| shortcut.forward(&h, false))?;
            h = kernels::add_relu(&inner, &side)?;
        }
        let pooled = kernels::cast(&kernels::global_avg_pool(&h)?, DType::F32)?;
        kernels::cross_entropy(&kernels::linear(&pooled, &self.classifier, None)?, labels)
    }
}

/// One kind of step: runs it and returns a number to print.
type Step = Box<dyn FnMut() -> Result<f32>>;

fn cifar(batch: usize, dtype: DType) -> Result<Step> {
    let network = Cifar::new()?;
    let images = random(&[batch, 32, 32, 3], 1.)?.to_dtype(dtype)?;
    let labels = Tensor::from_vec((0..batch as u32).map(|i| i * 7 % 10).collect(), batch, &Device::Cpu)?;
    let params = SgdParams { learning_rate: 0.05, momentum: 0.9, nesterov: true, weight_decay: 5e-4 };
    let mut momenta = vec![Vec::new(); network.vars().len()];
    Ok(Box::new(move || {
        let tape = kernels::Tape::start();
        let loss = network.loss(&images, &labels)?;
        let grads = tape.backward(&loss)?;
        for (var, m) in network.vars().into_iter().zip(&mut momenta) {
            let grad = grads.get(var.as_tensor()).ok_or_else(|| Error::Msg("a parameter without gradient".into()))?;
            sgd_step(var, grad, m, &params, 1.)?;
        }
        loss.to_scalar()
    }))
}

/// ResNet-50 with batch norm folded.
fn resnet50(batch: usize, dtype: DType) -> Result<Step> {
    let conv = |inputs: usize, outputs: usize, kernel: usize, stride: usize| {
        let config = Conv2dConfig { stride, padding: kernel / 2, groups: 1 };
        PackedConv2d::new(&weight(inputs, outputs, kernel)?.to_dtype(dtype)?, Some(&random(&[outputs], 0.01)?), &config)
    };
    let stem = conv(3, 64, 7, 2)?;
    let mut blocks = Vec::new();
    let mut inputs = 64;
    for (stage, count) in [3, 4, 6, 3].into_iter().enumerate() {
        let inner = 64 << stage;
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let shortcut = if block == 0 { Some(conv(inputs, 4 * inner, 1, stride)?) } else { None };
            blocks.push((conv(inputs, inner, 1, 1)?, conv(inner, inner, 3, stride)?, conv(inner, 4 * inner, 1, 1)?, shortcut));
            inputs = 4 * inner;
        }
    }
    let classifier = random(&[1000, 2048], 0.02)?;
    let images = random(&[batch, 224, 224, 3], 1.)?.to_dtype(dtype)?;
    Ok(Box::new(move || {
        let mut h = kernels::max_pool2d(&stem.forward(&images, None, true)?, 3, 2, 1)?;
        for (reduce, middle, expand, shortcut) in &blocks {
            let side = shortcut.as_ref().map_or_else(|| Ok(h.clone()), |shortcut| shortcut.forward(&h, None, false))?;
            let inner = middle.forward(&reduce.forward(&h, None, true)?, None, true)?;
            h = expand.forward(&inner, Some(&side), true)?;
        }
        let pooled = kernels::cast(&kernels::global_avg_pool(&h)?, DType::F32)?;
        kernels::linear(&pooled, &classifier, None)?.abs()?.mean_all()?.to_scalar()
    }))
}

/// Processor time of this process so far in seconds, all threads (Linux; 10 ms ticks).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // utime and stime are the 12th and 13th field behind the name in parentheses
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.)
}

/// A network for batches of a size.
type Build = fn(usize, DType) -> Result<Step>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let argument = |i: usize, default: &'static str| arguments.get(i).map_or(default, String::as_str);
    let number = |i: usize, default: &'static str| match argument(i, default).parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Error::Msg(format!("argument {i}: expected a number above 0, found `{}`", argument(i, default)))),
    };
    let (model, steps, threads) = (argument(1, "cifar20"), number(2, "8")?, number(3, "2")?);
    let (build, batch): (Build, _) = match model {
        "cifar20" => (cifar, number(4, "128")?),
        "resnet50" => (resnet50, number(4, "8")?),
        other => return Err(Error::Msg(format!("expected `cifar20` or `resnet50`, found `{other}`"))),
    };
    let dtype = match argument(5, "f32") {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        other => return Err(Error::Msg(format!("expected `f32` or `bf16`, found `{other}`"))),
    };
    kernels::cpu::stop_candle_threads();
    kernels::cpu::keep_freed_memory();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(Error::wrap)?;
    pool.install(|| {
        let mut step = build(batch, dtype)?;
        step()?;
        let (mut seconds, mut last, start_cpu) = (Vec::new(), 0f32, cpu_seconds());
        for _ in 0..steps {
            let start = Instant::now();
            last = step()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        let cpu = start_cpu.zip(cpu_seconds()).map_or(f64::NAN, |(start, end)| (end - start) / steps as f64 * 1e3);
        seconds.sort_by(f64::total_cmp);
        println!(
            "{model} {dtype:?} {} batch={batch} step min {:.1} ms median {:.1} ms cpu {cpu:.0} ms result {last:.4}",
            kernels::cpu::describe(),
            seconds[0] * 1e3,
            seconds[steps / 2] * 1e3
        );
        Ok(())
    })
}
