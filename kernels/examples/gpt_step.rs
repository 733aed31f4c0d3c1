//! Training step of a small GPT with the fused operations and with their references, on one and two threads.
//!
//! ```text
//! hidden 384, 6 layers, 6 heads, intermediate 1536, batch 8 x 256 tokens, vocabulary 4096: 13.9 M parameters
//! cargo run --release -p kernels --example gpt_step [-- steps [fused|plain]]
//! ```
//! The shape is the one the design notes quote for other programs. Each line is one variant: minimum and median of the step over
//! the steps after a first one, mean milliseconds of its three phases, and processor time per step, which on a busy machine says
//! more than the clock.
#![allow(clippy::print_stdout, reason = "the example's output")]
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::{AdamWParams, adamw_step, plain};

const HIDDEN: usize = 384;
const LAYERS: usize = 6;
const HEADS: usize = 6;
const LENGTH: usize = 256;
const BATCH: usize = 8;
const VOCAB: usize = 4096;
const EPS: f64 = 1e-5;

/// Operations under test, so that one network serves both sides.
struct Ops {
    name: &'static str,
    linear: fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>,
    layer_norm: fn(&Tensor, &Tensor, Option<&Tensor>, f64) -> Result<Tensor>,
    attention: fn(&Tensor, &Tensor, &Tensor, f64) -> Result<Tensor>,
    gelu: fn(&Tensor) -> Result<Tensor>,
    embedding: fn(&Tensor, &Tensor) -> Result<Tensor>,
    add: fn(&Tensor, &Tensor) -> Result<Tensor>,
    loss: fn(&Tensor, &Tensor, Option<&Tensor>, &Tensor) -> Result<Tensor>,
}

const FUSED: Ops = Ops {
    name: "fused",
    linear: kernels::linear,
    layer_norm: kernels::layer_norm,
    attention: kernels::causal_attention,
    gelu: kernels::gelu_tanh,
    embedding: kernels::embedding,
    add: kernels::add,
    loss: kernels::linear_cross_entropy,
};

const PLAIN: Ops = Ops {
    name: "plain",
    linear: plain::linear,
    layer_norm: plain::layer_norm,
    attention: plain::causal_attention,
    gelu: plain::gelu_tanh,
    embedding: plain::embedding,
    add: plain::add,
    loss: plain::linear_cross_entropy,
};

/// One pre-norm block.
struct Block {
    norm1: [Var; 2],
    qkv: [Var; 3],
    out: Var,
    norm2: [Var; 2],
    up: Var,
    down: Var,
}

struct Network {
    tokens: Var,
    positions: Var,
    blocks: Vec<Block>,
    norm: [Var; 2],
    head: Var,
}

fn matrix(rows: usize, cols: usize) -> Result<Var> {
    // fixed pseudo-random weights of deviation about 0.02; the time of a step does not depend on them
    let values =
        (0..rows * cols).map(|i| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 2.4e8 - 0.035).collect();
    Var::from_vec(values, (rows, cols), &Device::Cpu)
}

fn norm() -> Result<[Var; 2]> {
    Ok([Var::ones(HIDDEN, DType::F32, &Device::Cpu)?, Var::zeros(HIDDEN, DType::F32, &Device::Cpu)?])
}

impl Network {
    fn new() -> Result<Self> {
        let block = || -> Result<Block> {
            Ok(Block {
                norm1: norm()?,
                qkv: [matrix(HIDDEN, HIDDEN)?, matrix(HIDDEN, HIDDEN)?, matrix(HIDDEN, HIDDEN)?],
                out: matrix(HIDDEN, HIDDEN)?,
                norm2: norm()?,
                up: matrix(4 * HIDDEN, HIDDEN)?,
                down: matrix(HIDDEN, 4 * HIDDEN)?,
            })
        };
        Ok(Self {
            tokens: matrix(VOCAB, HIDDEN)?,
            positions: matrix(LENGTH, HIDDEN)?,
            blocks: (0..LAYERS).map(|_| block()).collect::<Result<_>>()?,
            norm: norm()?,
            head: matrix(VOCAB, HIDDEN)?,
        })
    }

    fn vars(&self) -> Vec<&Var> {
        let mut vars = vec![&self.tokens, &self.positions, &self.norm[0], &self.norm[1], &self.head];
        for block in &self.blocks {
            vars.extend(block.norm1.iter().chain(&block.qkv).chain(&block.norm2).chain([&block.out, &block.up, &block.down]));
        }
        vars
    }

    fn loss(&self, ops: &Ops, tokens: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let norm = |x: &Tensor, p: &[Var; 2]| (ops.layer_norm)(x, &p[0], Some(&p[1]), EPS);
        let d = HIDDEN / HEADS;
        let mut h = (ops.embedding)(&self.tokens, tokens)?.broadcast_add(&self.positions)?; // [B, T, D]
        for block in &self.blocks {
            let x = norm(&h, &block.norm1)?;
            let project = |w: &Var| (ops.linear)(&x, w, None)?.reshape((BATCH, LENGTH, HEADS, d));
            let (q, k, v) = (project(&block.qkv[0])?, project(&block.qkv[1])?, project(&block.qkv[2])?);
            let attended = (ops.attention)(&q, &k, &v, 1. / (d as f64).sqrt())?.reshape((BATCH, LENGTH, HIDDEN))?;
            h = (ops.add)(&h, &(ops.linear)(&attended, &block.out, None)?)?;
            let x = norm(&h, &block.norm2)?;
            let inner = (ops.gelu)(&(ops.linear)(&x, &block.up, None)?)?;
            h = (ops.add)(&h, &(ops.linear)(&inner, &block.down, None)?)?;
        }
        let h = norm(&h, &self.norm)?.reshape((BATCH * LENGTH, HIDDEN))?;
        (ops.loss)(&h, &self.head, None, targets)
    }
}

/// Processor time of this process so far in seconds, all threads (Linux; 10 ms ticks).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // utime and stime are the 12th and 13th field behind the name in parentheses
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.)
}

/// One trained variant: times of each step in seconds, by phase.
fn measure(ops: &Ops, threads: usize, steps: usize) -> Result<()> {
    let network = Network::new()?;
    let ids =
        |factor: usize, shift: usize| (0..BATCH * LENGTH).map(|i| ((i * factor + shift) % VOCAB) as u32).collect::<Vec<_>>();
    let tokens = Tensor::from_vec(ids(7919, 13), (BATCH, LENGTH), &Device::Cpu)?;
    let targets = Tensor::from_vec(ids(104_729, 5), BATCH * LENGTH, &Device::Cpu)?;
    let vars = network.vars();
    let mut moments: Vec<(Vec<f32>, Vec<f32>)> = vec![(Vec::new(), Vec::new()); vars.len()];
    let params = AdamWParams { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
    let (mut totals, mut phases, mut last, mut cpu) = (Vec::new(), [0f64; 3], 0f32, None);
    for step in 0..=steps {
        if step == 1 {
            cpu = cpu_seconds();
        }
        let start = Instant::now();
        let loss = network.loss(ops, &tokens, &targets)?;
        let forward = start.elapsed().as_secs_f64();
        let grads = loss.backward()?;
        let backward = start.elapsed().as_secs_f64();
        for (var, (m, v)) in vars.iter().zip(&mut moments) {
            let grad =
                grads.get(var.as_tensor()).ok_or_else(|| candle_core::Error::Msg("a parameter without gradient".into()))?;
            adamw_step(var, grad, m, v, step as u64 + 1, &params, 1.)?;
        }
        let total = start.elapsed().as_secs_f64();
        last = loss.to_scalar()?;
        if step > 0 {
            totals.push(total);
            phases[0] += forward;
            phases[1] += backward - forward;
            phases[2] += total - backward;
        }
    }
    totals.sort_by(f64::total_cmp);
    let [forward, backward, update] = phases.map(|s| s / steps as f64 * 1e3);
    let cpu = cpu.zip(cpu_seconds()).map_or(f64::NAN, |(start, end)| (end - start) / steps as f64 * 1e3);
    println!(
        "{} threads={threads} step min {:.0} ms median {:.0} ms (forward {forward:.0} backward {backward:.0} update {update:.0}) cpu {cpu:.0} ms loss {last:.4}",
        ops.name,
        totals[0] * 1e3,
        totals[totals.len() / 2] * 1e3,
    );
    Ok(())
}

fn main() -> Result<()> {
    let steps = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(5);
    let only = std::env::args().nth(2);
    kernels::cpu::stop_candle_threads();
    kernels::cpu::keep_freed_memory();
    println!("{}", kernels::cpu::describe());
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(candle_core::Error::wrap)?;
        for ops in [&FUSED, &PLAIN].into_iter().filter(|ops| only.as_ref().is_none_or(|only| only == ops.name)) {
            pool.install(|| measure(ops, threads, steps))?;
        }
    }
    Ok(())
}
