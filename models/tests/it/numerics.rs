//! The decoder in every numerics: near the f64 network, gradients everywhere, cached decoding like the uncached.

use candle_core::{DType, Tensor};
use kernels::{Numerics, Tape};
use models::{Decoder, KvCache, ParamStore};

use crate::networks::{build, every_variant, gpt_form, ids, llama_form, values};

/// The loss, in nats, may be off by this much: roundings of 2⁻⁹ in bf16, of 2⁻¹⁵ in split products, of activations of size one.
fn limit(numerics: Numerics) -> f64 {
    match numerics {
        Numerics::F32 => 1e-4,
        Numerics::F32Split => 1e-3,
        Numerics::Bf16 => 0.15,
    }
}

fn copy(from: &ParamStore, to: &ParamStore) {
    for (name, var) in from.vars() {
        to.set(&name, &var.to_dtype(DType::F64).unwrap()).unwrap();
    }
}

#[test]
fn every_variant_trains_in_every_numerics() {
    for (name, config) in every_variant() {
        let (exact, exact_params) = build(&config, DType::F64);
        let (inputs, targets) = (ids(&config, 2, 7), ids(&config, 2, 7));
        for numerics in Numerics::ALL {
            let (decoder, params) = build(&config, DType::F32);
            copy(&params, &exact_params);
            let decoder = decoder.with_numerics(numerics);
            let wanted = exact.loss(&inputs, &targets).unwrap().to_scalar::<f64>().unwrap();
            let by_candle = decoder.loss(&inputs, &targets).unwrap().backward().unwrap();
            let tape = Tape::start();
            let loss = decoder.loss(&inputs, &targets).unwrap();
            let gradients = tape.backward(&loss).unwrap();
            let found = f64::from(loss.to_scalar::<f32>().unwrap());
            assert!((found - wanted).abs() <= limit(numerics), "{name} {numerics}: {found} {wanted}");
            for (parameter, var) in params.vars() {
                let (gradient, other) = (gradients.get(var.as_tensor()), by_candle.get(var.as_tensor()));
                assert_eq!(gradient.is_some(), other.is_some(), "{name} {numerics}: {parameter}");
                let (Some(gradient), Some(other)) = (gradient, other) else { continue };
                assert_eq!(gradient.dtype(), DType::F32, "{name}: {parameter}");
                let (gradient, other) = (values(gradient), values(other));
                // softmax does not see a key's bias: its gradient is zero up to roundings of terms of size one
                let least = if parameter.ends_with("k_proj.bias") { 1.0 } else { 1e-2 };
                let size = other.iter().fold(least, |a: f64, b| a.max(b.abs()));
                let worst = gradient.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                // the tape adds the gradients of a shared tensor in another order, which the next product may round differently
                let near = match numerics {
                    Numerics::F32 => 1e-5,
                    Numerics::F32Split => 1e-4,
                    Numerics::Bf16 => 0.05,
                };
                assert!(worst <= near * size, "{name} {numerics}: {parameter}: {worst:e} of {size:e}");
            }
        }
    }
}

fn forward(decoder: &Decoder, inputs: &Tensor) -> Vec<f64> {
    values(&decoder.forward(inputs).unwrap().to_dtype(DType::F32).unwrap())
}

#[test]
fn bf16_parameters_and_numerics_follow_f32_with_and_without_a_cache() {
    for config in [llama_form(), gpt_form()] {
        let config = config.with_residual(laurel::ResidualConfig::preset("rw+lr+pa", 3, 3).unwrap());
        let (_, params) = build(&config, DType::BF16);
        let wide = ParamStore::new(DType::F32, params.vars()[0].1.device());
        let reference = Decoder::new(&config, wide.var_builder()).unwrap();
        copy(&params, &wide);
        let inputs = ids(&config, 2, 9);
        let wanted = forward(&reference, &inputs);
        let frozen = Decoder::new(&config, params.freeze()).unwrap().with_numerics(Numerics::Bf16);
        let close = |found: &[f64], what: &str| {
            let size = wanted.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
            let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 0.05 * size, "{what}: {worst:e} of {size:e}");
        };
        close(&forward(&frozen, &inputs), "uncached");
        let mut cache = KvCache::new(&config, 2, 9);
        let parts: Vec<Tensor> = [(0, 4), (4, 4), (8, 1)]
            .into_iter()
            .map(|(start, count)| {
                let part = inputs.narrow(1, start, count).unwrap().contiguous().unwrap();
                let hidden = frozen.forward_cached(&part, &[count, count], &mut cache).unwrap();
                frozen.logits(&hidden).unwrap()
            })
            .collect();
        close(&values(&Tensor::cat(&parts, 1).unwrap().to_dtype(DType::F32).unwrap()), "cached");
    }
}
