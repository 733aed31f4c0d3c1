//! Training step of a GPT with the fused operations, in each numerics, or with their references.
//!
//! ```text
//! cargo run --release -p kernels --example gpt_step -- --numerics bf16 --threads 2
//! --hidden 384 --layers 6 --heads 6 --intermediate 1536 --sequence 256 --batch 8 --vocab 4096      13.9 M parameters, the default
//! --hidden 768 --layers 24 --heads 12 --intermediate 2048 --sequence 512 --batch 2 --vocab 32000 --tied      LAuReL's Table 5
//! ```
//! One line of JSON like those of other programs that time the same work: each step's seconds after the warm-up, their median, mean
//! milliseconds of the phases, processor time per step (which on a busy machine says more than the clock) and peak resident memory.
#![allow(clippy::print_stdout, reason = "the example's output")]
use std::time::Instant;

use candle_core::{DType, Device, Error, Result, Tensor, Var};
use kernels::{AdamWParams, Numerics, Tape, adamw_step, plain};

const EPS: f64 = 1e-5;

/// Shape and settings of a run.
#[derive(Clone, Debug)]
struct Options {
    hidden: usize,
    layers: usize,
    heads: usize,
    intermediate: usize,
    sequence: usize,
    batch: usize,
    vocab: usize,
    tied: bool,
    steps: usize,
    warmup: usize,
    threads: usize,
    numerics: Numerics,
    /// The references instead of the fused operations.
    plain: bool,
    /// Candle's own backward instead of the tape.
    candle_backward: bool,
}

impl Options {
    fn parse() -> std::result::Result<Self, String> {
        let mut options = Self {
            hidden: 384,
            layers: 6,
            heads: 6,
            intermediate: 0,
            sequence: 256,
            batch: 8,
            vocab: 4096,
            tied: false,
            steps: 5,
            warmup: 1,
            threads: 2,
            numerics: Numerics::F32,
            plain: false,
            candle_backward: false,
        };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--tied" => options.tied = true,
                "--plain" => options.plain = true,
                "--candle-backward" => options.candle_backward = true,
                "--numerics" => options.numerics = args.next().unwrap_or_default().parse()?,
                _ => {
                    let value = args.next().and_then(|value| value.parse().ok()).ok_or(format!("{flag}: expected a number"))?;
                    *match flag.as_str() {
                        "--hidden" => &mut options.hidden,
                        "--layers" => &mut options.layers,
                        "--heads" => &mut options.heads,
                        "--intermediate" => &mut options.intermediate,
                        "--sequence" => &mut options.sequence,
                        "--batch" => &mut options.batch,
                        "--vocab" => &mut options.vocab,
                        "--steps" => &mut options.steps,
                        "--warmup" => &mut options.warmup,
                        "--threads" => &mut options.threads,
                        other => return Err(format!("unknown flag {other}")),
                    } = value;
                }
            }
        }
        if options.plain && options.numerics != Numerics::F32 {
            return Err(format!("--numerics {}: the references of --plain are in f32 only", options.numerics));
        }
        if options.intermediate == 0 {
            options.intermediate = 4 * options.hidden;
        }
        Ok(options)
    }
}

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
    options: Options,
    tokens: Var,
    positions: Var,
    blocks: Vec<Block>,
    norm: [Var; 2],
    head: Option<Var>,
}

fn matrix(rows: usize, cols: usize) -> Result<Var> {
    // fixed pseudo-random weights of deviation about 0.02; the time of a step does not depend on them
    let values =
        (0..rows * cols).map(|i| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 2.4e8 - 0.035).collect();
    Var::from_vec(values, (rows, cols), &Device::Cpu)
}

fn norm(width: usize) -> Result<[Var; 2]> {
    Ok([Var::ones(width, DType::F32, &Device::Cpu)?, Var::zeros(width, DType::F32, &Device::Cpu)?])
}

impl Network {
    fn new(options: &Options) -> Result<Self> {
        let (d, inner) = (options.hidden, options.intermediate);
        let block = || -> Result<Block> {
            Ok(Block {
                norm1: norm(d)?,
                qkv: [matrix(d, d)?, matrix(d, d)?, matrix(d, d)?],
                out: matrix(d, d)?,
                norm2: norm(d)?,
                up: matrix(inner, d)?,
                down: matrix(d, inner)?,
            })
        };
        Ok(Self {
            options: options.clone(),
            tokens: matrix(options.vocab, d)?,
            positions: matrix(options.sequence, d)?,
            blocks: (0..options.layers).map(|_| block()).collect::<Result<_>>()?,
            norm: norm(d)?,
            head: if options.tied { None } else { Some(matrix(options.vocab, d)?) },
        })
    }

    fn vars(&self) -> Vec<&Var> {
        let mut vars = vec![&self.tokens, &self.positions, &self.norm[0], &self.norm[1]];
        vars.extend(&self.head);
        for block in &self.blocks {
            vars.extend(block.norm1.iter().chain(&block.qkv).chain(&block.norm2).chain([&block.out, &block.up, &block.down]));
        }
        vars
    }

    fn loss(&self, tokens: &Tensor, position_ids: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let Options { hidden, heads, sequence, batch, numerics, plain: is_plain, .. } = self.options;
        // activations between products; the stream stays f32
        let dtype = if numerics == Numerics::Bf16 { DType::BF16 } else { DType::F32 };
        let norm = |x: &Tensor, p: &[Var; 2]| {
            if is_plain {
                plain::layer_norm(x, &p[0], Some(&p[1]), EPS)
            } else {
                kernels::layer_norm_as(x, &p[0], Some(&p[1]), EPS, dtype)
            }
        };
        let linear = |x: &Tensor, w: &Var| {
            if is_plain { plain::linear(x, w, None) } else { kernels::linear_in(numerics, x, w, None) }
        };
        let attention = if is_plain { plain::causal_attention } else { kernels::causal_attention };
        let gelu = if is_plain { plain::gelu_tanh } else { kernels::gelu_tanh };
        let embedding = if is_plain { plain::embedding } else { kernels::embedding };
        let add = if is_plain { plain::add } else { kernels::add };
        let d = hidden / heads;
        let mut h = add(&embedding(&self.tokens, tokens)?, &embedding(&self.positions, position_ids)?)?; // [B, T, D]
        for block in &self.blocks {
            let x = norm(&h, &block.norm1)?;
            let project = |w: &Var| kernels::reshape(&linear(&x, w)?, (batch, sequence, heads, d));
            let (q, k, v) = (project(&block.qkv[0])?, project(&block.qkv[1])?, project(&block.qkv[2])?);
            let attended = attention(&q, &k, &v, 1. / (d as f64).sqrt())?;
            h = add(&h, &linear(&kernels::reshape(&attended, (batch, sequence, hidden))?, &block.out)?)?;
            let inner = gelu(&linear(&norm(&h, &block.norm2)?, &block.up)?)?;
            h = add(&h, &linear(&inner, &block.down)?)?;
        }
        let h = kernels::reshape(&norm(&h, &self.norm)?, (batch * sequence, hidden))?;
        let head = self.head.as_ref().unwrap_or(&self.tokens);
        if is_plain {
            plain::linear_cross_entropy(&h, head, None, targets)
        } else {
            kernels::linear_cross_entropy_in(numerics, &h, head, None, targets)
        }
    }
}

/// Processor time of this process so far in seconds, all threads (Linux; 10 ms ticks).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // utime and stime are the 12th and 13th field behind the name in parentheses
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.)
}

/// Peak resident bytes of this process (Linux).
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn run(options: &Options) -> Result<()> {
    let network = Network::new(options)?;
    let Options { batch, sequence, vocab, steps, warmup, .. } = *options;
    let ids =
        |factor: usize, shift: usize| (0..batch * sequence).map(|i| ((i * factor + shift) % vocab) as u32).collect::<Vec<_>>();
    let tokens = Tensor::from_vec(ids(7919, 13), (batch, sequence), &Device::Cpu)?;
    let targets = Tensor::from_vec(ids(104_729, 5), batch * sequence, &Device::Cpu)?;
    let positions: Vec<u32> = (0..batch * sequence).map(|i| (i % sequence) as u32).collect();
    let positions = Tensor::from_vec(positions, (batch, sequence), &Device::Cpu)?;
    let vars = network.vars();
    let parameters: usize = vars.iter().map(|var| var.elem_count()).sum();
    let mut moments: Vec<(Vec<f32>, Vec<f32>)> = vec![(Vec::new(), Vec::new()); vars.len()];
    let params = AdamWParams { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
    let (mut totals, mut phases, mut last, mut cpu) = (Vec::new(), [0f64; 3], 0f32, None);
    for step in 0..warmup + steps {
        if step == warmup {
            cpu = cpu_seconds();
        }
        let start = Instant::now();
        let tape = (!options.candle_backward && !options.plain).then(Tape::start);
        let loss = network.loss(&tokens, &positions, &targets)?;
        let forward = start.elapsed().as_secs_f64();
        let grads = match tape {
            Some(tape) => tape.backward(&loss)?,
            None => loss.backward()?,
        };
        let backward = start.elapsed().as_secs_f64();
        for (var, (m, v)) in vars.iter().zip(&mut moments) {
            let grad = grads.get(var.as_tensor()).ok_or_else(|| Error::Msg("a parameter without gradient".into()))?;
            adamw_step(var, grad, m, v, step as u64 + 1, &params, 1.)?;
        }
        last = loss.to_scalar()?;
        let total = start.elapsed().as_secs_f64();
        if step >= warmup {
            totals.push(total);
            for (phase, seconds) in phases.iter_mut().zip([forward, backward - forward, total - backward]) {
                *phase += seconds / steps as f64 * 1e3;
            }
        }
    }
    let listed = totals.iter().map(|s| format!("{s:.4}")).collect::<Vec<_>>().join(", ");
    totals.sort_by(f64::total_cmp);
    let median = f64::midpoint(totals[(steps - 1) / 2], totals[steps / 2]);
    let cpu = cpu.zip(cpu_seconds()).map_or(f64::NAN, |(start, end)| (end - start) / steps as f64 * 1e3);
    println!(
        "{{\"numerics\": \"{}\", \"plain\": {}, \"threads\": {}, \"params\": {parameters}, \"median_s\": {median:.4}, \"cpu_ms\": {cpu:.0}, \
         \"forward_ms\": {:.0}, \"backward_ms\": {:.0}, \"update_ms\": {:.0}, \"peak_bytes\": {}, \"loss\": {last:.5}, \"step_s\": [{listed}]}}",
        options.numerics,
        options.plain,
        options.threads,
        phases[0],
        phases[1],
        phases[2],
        peak_bytes().unwrap_or_default(),
    );
    Ok(())
}

fn main() -> Result<()> {
    let options = Options::parse().map_err(Error::Msg)?;
    kernels::cpu::stop_candle_threads();
    kernels::cpu::keep_freed_memory();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build().map_err(Error::wrap)?;
    pool.install(|| run(&options))
}
