//! What a training run on images is given, as a file that another framework can train on: initial weights, batches, evaluation set.
//!
//! ```text
//! cargo run --release -p harness --example image_batches -- CONFIG STEPS OUT.safetensors [SEED]
//! ```
//! The file holds `init.NAME` (state-dict names), `images` `[STEPS·B, H, W, 3]` f32 normalised and augmented, `labels` `[STEPS·B]` u32,
//! `valid.images` and `valid.labels`. `ci/peers/torch_resnet_curve.py` trains PyTorch on it, step for step as `train` does.

use anyhow::{Context as _, bail};
use candle_core::{DType, Device, Tensor};
use harness::config::ImageTrainConfig;
use harness::data::images::{ImageSet, Loader};
use models::{ImageModelConfig, ParamStore, ResNet};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, steps, out, seed @ ..] = &args[..] else { bail!("usage: image_batches CONFIG STEPS OUT.safetensors [SEED]") };
    let number = |text: &String| text.parse::<u64>().with_context(|| format!("expected a number, found `{text}`"));
    let (steps, seed) = (number(steps)?, seed.first().map(number).transpose()?);
    let config = ImageTrainConfig::load(Path::new(config), &[], seed)?;
    let ImageModelConfig::Resnet(shape) = &config.model;
    let mut tensors = HashMap::new();

    let store = ParamStore::new(DType::F32, &Device::Cpu);
    ResNet::new(shape, store.var_builder())?.init_weights(config.seed)?;
    for (name, var) in store.vars().into_iter().chain(store.buffers()) {
        tensors.insert(format!("init.{name}"), var.as_tensor().clone());
    }

    let data = &config.data;
    let train = ImageSet::open(&config.file(&data.train), data.open_options(&data.train_split))?;
    let mut valid = ImageSet::open(&config.file(&data.valid), data.open_options(&data.valid_split))?;
    valid.align(train.classes())?;
    let (transform, device) = (&data.transform, Device::Cpu);
    let mut loader = Loader::train(Arc::new(train), transform, config.seed, config.batch, 0, data.workers, &device)?;
    collect(&mut loader, steps, "", &mut tensors)?;
    let mut loader = Loader::evaluate(Arc::new(valid), transform, config.batch, None, data.workers, &device)?;
    collect(&mut loader, u64::MAX, "valid.", &mut tensors)?;
    candle_core::safetensors::save(&tensors, out).with_context(|| format!("cannot write `{out}`"))
}

/// Up to `count` batches, joined.
fn collect(loader: &mut Loader, count: u64, prefix: &str, tensors: &mut HashMap<String, Tensor>) -> anyhow::Result<()> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let Some(batch) = loader.next_batch()? else { break };
        labels.extend(batch.labels);
        images.push(batch.images);
    }
    let total = labels.len();
    tensors.insert(format!("{prefix}images"), Tensor::cat(&images, 0)?);
    tensors.insert(format!("{prefix}labels"), Tensor::from_vec(labels, total, &Device::Cpu)?);
    Ok(())
}
