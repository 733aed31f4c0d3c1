//! Prefill and greedy decoding of a Llama-shaped network with frozen bf16 weights, beside the memory bandwidth of the same run.
//!
//! ```text
//! cargo run --release -p models --example llm_infer -- --threads 2 --prompt 512 --output 32 --residual rw+lr --rank 4
//! hidden 2048, intermediate 8192, 16 layers, 32 heads on 8 key-value heads, vocabulary 32000: 1.10 B parameters, the default
//! ```
//! One line of JSON per network: seconds of the prompt, seconds per further token, bytes of weights that a token reads and their rate,
//! and the rate at which the same threads sum a large array, medians all. With `--residual` the plain network and the variant share their common
//! weights and take turns, so that their ratio does not depend on what else the machine does.
#![allow(clippy::print_stdout, reason = "the example's output")]
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use half::bf16;
use kernels::Numerics;
use laurel::ResidualConfig;
use models::{Decoder, DecoderConfig, KvCache, MlpKind, NormKind, Positions};
use rayon::prelude::*;

/// Frozen pseudo-random weights by name, made on first use and shared by the networks.
#[derive(Clone, Default)]
struct Weights(Arc<Mutex<HashMap<String, Tensor>>>);

impl SimpleBackend for Weights {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(tensor) = known.get(name) {
            return Ok(tensor.clone());
        }
        let count = shape.elem_count();
        let mut values = vec![bf16::ONE; count];
        if shape.rank() == 2 {
            // deviation 0.02 / √3; which values they are does not change the time
            values.par_iter_mut().enumerate().for_each(|(i, value)| {
                let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                *value = bf16::from_f32((mixed as f32 / (1u64 << 23) as f32 - 1.) * 0.02);
            });
        } else if name.contains("mix") {
            values.fill(bf16::ZERO);
        }
        let tensor = Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?;
        known.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Err(Error::Msg(format!("`{name}` is asked for without a shape")))
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

struct Options {
    sizes: HashMap<&'static str, usize>,
    residual: Option<String>,
}

impl Options {
    fn parse() -> std::result::Result<Self, String> {
        let defaults = [
            ("--hidden", 2048),
            ("--intermediate", 8192),
            ("--layers", 16),
            ("--heads", 32),
            ("--kv-heads", 8),
            ("--vocab", 32000),
            ("--prompt", 512),
            ("--output", 32),
            ("--repeats", 3),
            ("--threads", 2),
            ("--rank", 4),
        ];
        let mut options = Self { sizes: HashMap::from(defaults), residual: None };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            let value = args.next().unwrap_or_default();
            if flag == "--residual" {
                options.residual = Some(value);
                continue;
            }
            let place = options.sizes.get_mut(flag.as_str()).ok_or(format!("unknown flag {flag}"))?;
            *place = value.parse().map_err(|_| format!("{flag}: expected a number, found `{value}`"))?;
        }
        Ok(options)
    }

    fn size(&self, flag: &str) -> usize {
        self.sizes[flag]
    }

    fn config(&self) -> DecoderConfig {
        DecoderConfig {
            hidden_size: self.size("--hidden"),
            intermediate_size: self.size("--intermediate"),
            num_hidden_layers: self.size("--layers"),
            num_attention_heads: self.size("--heads"),
            num_key_value_heads: self.size("--kv-heads"),
            head_dim: Some(self.size("--hidden") / self.size("--heads")),
            vocab_size: self.size("--vocab"),
            max_position_embeddings: 4096,
            norm: NormKind::Rms,
            positions: Positions::Rotary { theta: 10000.0, scaling: None },
            mlp: MlpKind::Swiglu,
            tie_word_embeddings: false,
            head_bias: false,
            ..DecoderConfig::llama_1b()
        }
    }
}

/// Bytes per second at which the pool's threads read a large array, of several passes.
fn bandwidth() -> Vec<f64> {
    let data = vec![1u64; 64 << 20]; // 512 MiB, far beyond any cache
    let pass = || {
        let start = Instant::now();
        let sum: u64 = data.par_chunks(1 << 17).map(|part| part.iter().fold(0u64, |a, &b| a.wrapping_add(b))).sum();
        black_box(sum);
        (data.len() * 8) as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| pass()).collect()
}

/// Seconds of the prompt and of each further token.
fn answer(model: &Decoder, prompt: &[u32], output: usize) -> Result<(f64, Vec<f64>)> {
    let mut cache = KvCache::new(model.config(), 1, prompt.len() + output);
    let next = |hidden: &Tensor| -> Result<u32> {
        let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?;
        model.logits(&last)?.flatten_all()?.argmax(0)?.to_scalar::<u32>()
    };
    let start = Instant::now();
    let ids = Tensor::from_slice(prompt, (1, prompt.len()), &Device::Cpu)?;
    let mut token = next(&model.forward_cached(&ids, &[prompt.len()], &mut cache)?)?;
    let prefill = start.elapsed().as_secs_f64();
    let mut gaps = Vec::new();
    for _ in 1..output {
        let start = Instant::now();
        let ids = Tensor::from_slice(&[token], (1, 1), &Device::Cpu)?;
        token = next(&model.forward_cached(&ids, &[1], &mut cache)?)?;
        gaps.push(start.elapsed().as_secs_f64());
    }
    Ok((prefill, gaps))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run(options: &Options) -> Result<()> {
    let weights = Weights::default();
    let build = |config: &DecoderConfig| -> Result<Decoder> {
        let vb = VarBuilder::from_backend(Box::new(weights.clone()), DType::BF16, Device::Cpu);
        Ok(Decoder::new(config, vb)?.with_numerics(Numerics::Bf16))
    };
    let mut networks = vec![("plain".to_owned(), build(&options.config())?)];
    if let Some(name) = &options.residual {
        let residual = ResidualConfig::preset(name, options.size("--rank"), 3)
            .ok_or_else(|| Error::Msg(format!("--residual: no preset `{name}`")))?;
        networks.push((name.clone(), build(&options.config().with_residual(residual))?));
    }
    let prompt: Vec<u32> = (0..options.size("--prompt")).map(|i| (i * 7919 % options.size("--vocab")) as u32).collect();
    let output = options.size("--output").max(2);
    let mut times: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); networks.len()];
    let mut rates = Vec::new();
    for _ in 0..options.size("--repeats") {
        for ((_, model), (prefill, gaps)) in networks.iter().zip(&mut times) {
            rates.extend(bandwidth());
            let (first, rest) = answer(model, &prompt, output)?;
            prefill.push(first);
            gaps.extend(rest);
        }
    }
    let rate = median(&mut rates);
    for ((name, model), (prefill, gaps)) in networks.iter().zip(&mut times) {
        let count = models::Model::num_params(model);
        // every weight but the embedding table, of which one row is read
        let read = (count.total - model.config().vocab_size * model.config().hidden_size) * size_of::<bf16>();
        let (prefill, gap) = (median(prefill), median(gaps));
        println!(
            "{{\"network\": \"{name}\", \"threads\": {}, \"params\": {}, \"prefill_s\": {prefill:.4}, \"tpot_s\": {gap:.5}, \
             \"best_tpot_s\": {:.5}, \"weights_bytes_per_s\": {:.3e}, \"memory_bytes_per_s\": {rate:.3e}, \"share\": {:.3}}}",
            options.size("--threads"),
            count.total,
            gaps[0],
            read as f64 / gap,
            read as f64 / gap / rate,
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    let options = Options::parse().map_err(Error::Msg)?;
    kernels::cpu::stop_candle_threads();
    kernels::cpu::keep_freed_memory();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.size("--threads")).build().map_err(Error::wrap)?;
    pool.install(|| run(&options))
}
