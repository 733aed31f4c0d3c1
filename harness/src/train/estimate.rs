//! What a run on images would take on this machine: one training step is done with random pictures and weights, timed and weighed.
//!
//! ```text
//! a step of a few pictures is measured at two sizes; memory is linear in the pictures of a micro-batch, time in the pictures of the run
//! train_s = seconds per picture · pictures        memory = peak(b₂) + (peak(b₂) − peak(b₁)) / (b₂ − b₁) · (batch − b₂)
//! ```
//! Small steps use the machine less well than large ones, so the time of a network that is measured on two pictures is on the high side.
//! Decoding, evaluation and the cache of decoded pictures come on top.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use models::{ImageModelConfig, Model as _, ParamStore, ResNet};
use stats::rng;

use super::images::train_step;
use super::optimizer::Optimizer;
use crate::config::ImageTrainConfig;
use crate::data::images::ImageBatch;
use crate::measure::allocator;

/// Work of the measured step: a second or two of a CPU core.
const STEP_FLOPS: u64 = 40_000_000_000;

/// Steps that are timed; the fastest counts, as whatever else runs only adds.
const TIMED_STEPS: usize = 3;

/// What a run would take.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// Seconds in training steps.
    pub train_s: f64,
    /// Bytes asked of the allocator at most: weights, gradients, optimizer, one micro-batch's activations.
    pub memory_bytes: u64,
}

/// Measures a step and extrapolates. Not to be called while anything else allocates.
///
/// # Errors
/// When the network refuses its own input.
pub fn estimate(config: &ImageTrainConfig) -> candle_core::Result<Estimate> {
    allocator::start();
    let per_picture = config.model.cost(&config.step_shape()).flops_train() / config.images_per_step();
    let large = ((STEP_FLOPS / per_picture.max(1)) as usize).clamp(2, config.batch.max(2));
    let small = large / 2;
    let (small_peak, _) = measure(config, small)?;
    let (large_peak, seconds) = measure(config, large)?;
    let pictures = config.max_steps * config.images_per_step();
    Ok(extrapolate([(small, small_peak), (large, large_peak)], seconds, config.batch, pictures))
}

/// From two measured steps to a run.
///
/// - `peaks`: pictures of a step, its peak bytes. `seconds`: of the larger step. `batch`: pictures of the run's micro-batches;
///   `pictures`: of all its steps.
fn extrapolate(peaks: [(usize, i64); 2], seconds: f64, batch: usize, pictures: u64) -> Estimate {
    let [(small, small_peak), (large, large_peak)] = peaks;
    let slope = (large_peak - small_peak).max(0) as f64 / (large - small) as f64;
    let more = slope * (batch as f64 - large as f64);
    Estimate { train_s: seconds / large as f64 * pictures as f64, memory_bytes: (large_peak as f64 + more).max(0.0) as u64 }
}

/// Peak bytes and seconds of a step of `count` pictures, after one that allocates the optimizer's state.
fn measure(config: &ImageTrainConfig, count: usize) -> candle_core::Result<(i64, f64)> {
    let before = allocator::read().live_bytes;
    let ImageModelConfig::Resnet(shape) = &config.model;
    let store = ParamStore::new(DType::F32, &Device::Cpu);
    let network = ResNet::new(shape, store.var_builder())?.with_numerics(config.kernel_numerics());
    network.init_weights(config.seed)?;
    let mut optimizer = Optimizer::new(&config.optimizer, &store);
    let size = config.data.transform.size;
    let mut pixels = vec![0.0; count * size * size * 3];
    rng::fill_normal(&mut rng::stream("estimate/pixels", 0, 0), 0.0, 1.0, &mut pixels);
    let images = Tensor::from_vec(pixels, (count, size, size, 3), &Device::Cpu)?;
    let batch = [ImageBatch { images, labels: vec![0; count], ids: vec![0; count] }];
    train_step(&network, &mut optimizer, &batch, config.label_smoothing, 1e-3)?;
    allocator::reset_peak();
    let mut seconds = f64::INFINITY;
    for _ in 0..TIMED_STEPS {
        let started = Instant::now();
        train_step(&network, &mut optimizer, &batch, config.label_smoothing, 1e-3)?;
        seconds = seconds.min(started.elapsed().as_secs_f64());
    }
    Ok((allocator::read().peak_bytes - before, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn time_is_linear_in_the_pictures_of_a_run_and_memory_in_those_of_a_batch() {
        // 50 bytes a picture beside 100; 3 s for 6 pictures.
        let of = |batch, pictures| extrapolate([(2, 200), (6, 400)], 3.0, batch, pictures);
        assert_eq!(of(6, 600), Estimate { train_s: 300.0, memory_bytes: 400 });
        assert_eq!(of(6, 1200), Estimate { train_s: 600.0, memory_bytes: 400 });
        assert_eq!(of(64, 600), Estimate { train_s: 300.0, memory_bytes: 3300 });
        // A larger step that happened to take less says nothing about memory a picture.
        assert_eq!(extrapolate([(2, 400), (6, 300)], 3.0, 64, 6).memory_bytes, 300);
    }

    #[test]
    fn larger_batches_take_more_memory() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/train/resnet20-cifar10-plain.toml");
        let of = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            estimate(&ImageTrainConfig::load(&file, &sets, None).unwrap()).unwrap()
        };
        let small = of(&["model.depths=[1]", "batch=2", "max_steps=390"]);
        let large = of(&["model.depths=[1]", "batch=40", "max_steps=390"]);
        // Each picture keeps the stem's and the block's outputs, 32·32·16 numbers of 4 bytes each, and more.
        assert!(large.memory_bytes > small.memory_bytes + 38 * 5 * 65_536, "{small:?} {large:?}");
        assert!(small.train_s > 0.0 && large.train_s > 0.0);
    }
}
