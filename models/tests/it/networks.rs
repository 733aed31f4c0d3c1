//! Small networks that the other modules share: both forms, every preset, every placement, repeatable values.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use laurel::init::ParameterRng;
use laurel::{PRESETS, Placement, ResidualConfig};
use models::{Decoder, DecoderConfig, MlpKind, NormKind, ParamStore, Positions};

/// Three layers, so that a lookback of 3 finds all its lags in the last one.
pub(crate) const LAYERS: usize = 3;

pub(crate) fn llama_form() -> DecoderConfig {
    DecoderConfig {
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: LAYERS,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: Some(6), // not hidden_size / heads, so that a confusion of the two shows
        vocab_size: 31,
        max_position_embeddings: 24,
        ..DecoderConfig::llama_1b()
    }
}

pub(crate) fn gpt_form() -> DecoderConfig {
    DecoderConfig {
        num_key_value_heads: 4,
        head_dim: None,
        norm: NormKind::Layer,
        positions: Positions::Learned {},
        mlp: MlpKind::GeluTanh,
        tie_word_embeddings: true,
        head_bias: true,
        attention_bias: true,
        attention_output_bias: true,
        mlp_bias: true,
        ..llama_form()
    }
}

/// Every preset at every placement in both forms, with a name for messages.
pub(crate) fn every_variant() -> Vec<(String, DecoderConfig)> {
    let mut variants = Vec::new();
    for (form, config) in [("llama", llama_form()), ("gpt", gpt_form())] {
        for preset in PRESETS {
            for placement in Placement::ALL {
                let residual = ResidualConfig { placement, ..ResidualConfig::preset(preset, 3, 3).unwrap() };
                variants.push((format!("{form} {preset} {placement:?}"), config.clone().with_residual(residual)));
            }
        }
    }
    variants
}

/// A trainable network whose every parameter, the zero-initialised ones included, has a value that matters.
pub(crate) fn build(config: &DecoderConfig, dtype: DType) -> (Decoder, ParamStore) {
    let params = ParamStore::new(dtype, &Device::Cpu);
    let decoder = Decoder::new(config, params.var_builder()).unwrap();
    decoder.init_weights(11).unwrap();
    for (name, var) in params.vars() {
        let mut rng = ParameterRng::new(3, &name);
        let start = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        let values: Vec<f64> = (0..var.elem_count()).map(|_| start + 0.25 * rng.normal()).collect();
        params.set(&name, &Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
    }
    (decoder, params)
}

/// Repeatable token ids `[batch, length]`.
pub(crate) fn ids(config: &DecoderConfig, batch: usize, length: usize) -> Tensor {
    let vocab = config.vocab_size as u32;
    let ids: Vec<u32> = (0..(batch * length) as u32).map(|i| (i * 7 + i * i * 3 + 5) % vocab).collect();
    Tensor::from_vec(ids, (batch, length), &Device::Cpu).unwrap()
}

/// Values of any tensor, row-major.
pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Largest absolute difference of two tensors of equal shape.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let difference = values(a).into_iter().zip(values(b)).map(|(x, y)| (x - y).abs());
    difference.fold(0.0, |largest, d| if d > largest || d.is_nan() { d } else { largest })
}

/// The folder of reference packs, or `None` with a message.
pub(crate) fn parity_dir(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PARITY_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/parity")), PathBuf::from);
    present(root.join(part))
}

/// The folder of benchmark files beside the reference packs, or `None` with a message.
pub(crate) fn data_dir(part: &str) -> Option<PathBuf> {
    let root = parity_dir(".")?;
    let beside = root.canonicalize().ok()?.parent()?.join("data");
    present(beside.join(part))
}

fn present(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} does not exist (set PARITY_DIR)", path.display());
    None
}

/// Our tiny checkpoints of published families.
pub(crate) fn fixtures() -> Vec<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pretrained"));
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    folders
}
