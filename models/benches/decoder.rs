//! Forward and backward of a small decoder per variant, and one cached decoding step: what LAuReL costs in place.
//!
//! `cargo bench -p models`. Shapes are small so that a run takes about a minute; absolute times mean little, the ratio to `plain`
//! on the same machine is the figure.

use std::hint::black_box;

use candle_core::{DType, Device, Tensor};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use laurel::ResidualConfig;
use models::{Decoder, DecoderConfig, KvCache, ParamStore};

fn network(preset: &str) -> (Decoder, ParamStore) {
    let residual = ResidualConfig::preset(preset, 16, 3).expect("a known preset");
    let config = DecoderConfig {
        hidden_size: 256,
        intermediate_size: 512,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        vocab_size: 1024,
        max_position_embeddings: 256,
        ..DecoderConfig::llama_1b()
    }
    .with_residual(residual);
    let params = ParamStore::new(DType::F32, &Device::Cpu);
    let decoder = Decoder::new(&config, params.var_builder()).expect("a valid config");
    decoder.init_weights(0).expect("a trainable network");
    (decoder, params)
}

fn tokens(batch: usize, length: usize) -> Tensor {
    let ids: Vec<u32> = (0..(batch * length) as u32).map(|i| i * 37 % 1024).collect();
    Tensor::from_vec(ids, (batch, length), &Device::Cpu).expect("a shape that fits")
}

fn benches(criterion: &mut Criterion) {
    let presets = ["plain", "rw", "lr", "pa", "rw+lr", "rw+lr+pa"];
    let mut group = criterion.benchmark_group("forward+backward 2x128");
    group.sample_size(20);
    for preset in presets {
        let (decoder, _) = network(preset);
        let ids = tokens(2, 128);
        group.bench_function(preset, |bencher| {
            bencher.iter(|| black_box(decoder.loss(&ids, &ids).and_then(|loss| loss.backward()).expect("a finite step")));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("decode 1 token behind 128");
    for preset in presets {
        let (decoder, params) = network(preset);
        let decoder = Decoder::new(decoder.config(), params.freeze()).expect("a valid config");
        let mut cache = KvCache::new(decoder.config(), 1, 256);
        decoder.forward_cached(&tokens(1, 128), &[128], &mut cache).expect("room in the cache");
        let next = tokens(1, 1);
        group.bench_function(preset, |bencher| {
            bencher.iter_batched_ref(
                || cache.clone(),
                |cache| black_box(decoder.forward_cached(&next, &[1], cache).and_then(|h| decoder.logits(&h)).expect("a step")),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(decoder, benches);
criterion_main!(decoder);
