//! What every ResNet variant promises: shapes, counts, gradients, running statistics, folding, checkpoints.

use candle_core::{DType, Device, Tensor};
use kernels::{Numerics, Tape};
use laurel::init::ParameterRng;
use laurel::{PRESETS, ResidualConfig};
use models::resnet::{BlockKind, LaurelBlocks, ResNetConfig, ShortcutKind, Stem};
use models::{Mode, Model, ParamStore, ResNet};

use crate::networks::{distance, values};

/// Three blocks in the second stage, so that a lookback of 3 finds all its lags in the last one.
fn tiny(block: BlockKind, stem: Stem, shortcut: ShortcutKind) -> ResNetConfig {
    let cifar = ResNetConfig::cifar(1);
    ResNetConfig { depths: vec![1, 3], width: 4, block, stem, shortcut, num_classes: 5, ..cifar }
}

fn forms() -> Vec<(&'static str, ResNetConfig)> {
    let (basic, bottleneck) = (BlockKind::Basic, BlockKind::Bottleneck);
    let identity = tiny(basic, Stem::Cifar, ShortcutKind::Projection);
    vec![
        ("basic cifar padding", tiny(basic, Stem::Cifar, ShortcutKind::Padding)),
        ("basic imagenet projection", tiny(basic, Stem::Imagenet, ShortcutKind::Projection)),
        ("bottleneck cifar projection", tiny(bottleneck, Stem::Cifar, ShortcutKind::Projection)),
        ("bottleneck imagenet padding", tiny(bottleneck, Stem::Imagenet, ShortcutKind::Padding)),
        ("identity blocks only", ResNetConfig { laurel_blocks: LaurelBlocks::Identity, ..identity }),
    ]
}

/// Every preset that a ResNet can have, in every form.
fn every_variant() -> Vec<(String, ResNetConfig)> {
    let mut variants = Vec::new();
    for (form, config) in forms() {
        for preset in PRESETS.iter().filter(|preset| **preset != "gemma3n") {
            let residual = ResidualConfig::preset(preset, 3, 3).unwrap();
            variants.push((format!("{form} {preset}"), config.clone().with_residual(residual)));
        }
    }
    variants
}

fn fresh(config: &ResNetConfig, seed: u64) -> (ResNet, ParamStore) {
    let store = ParamStore::new(DType::F32, &Device::Cpu);
    let network = ResNet::new(config, store.var_builder()).unwrap();
    network.init_weights(seed).unwrap();
    (network, store)
}

/// A network whose every parameter and statistic has a value that matters.
fn build(config: &ResNetConfig, dtype: DType) -> (ResNet, ParamStore) {
    let store = ParamStore::new(dtype, &Device::Cpu);
    let network = ResNet::new(config, store.var_builder()).unwrap();
    network.init_weights(11).unwrap();
    for (name, var) in store.vars().into_iter().chain(store.buffers()) {
        let mut rng = ParameterRng::new(3, &name);
        let is_scale = name.contains("bn") && name.ends_with("weight") || name.contains("downsample.1.weight");
        let start = if is_scale || name.ends_with("running_var") { 1.0 } else { 0.0 };
        let values: Vec<f64> = (0..var.elem_count()).map(|_| start + 0.4 * (rng.uniform() - 0.5)).collect();
        store.set(&name, &Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
    }
    (network, store)
}

fn images(batch: usize, size: usize, dtype: DType) -> Tensor {
    let mut rng = ParameterRng::new(5, "images");
    let values: Vec<f64> = (0..batch * size * size * 3).map(|_| rng.normal()).collect();
    Tensor::from_vec(values, (batch, size, size, 3), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn labels(batch: usize, classes: u32) -> Tensor {
    Tensor::from_vec((0..batch as u32).map(|at| at * 3 % classes).collect(), batch, &Device::Cpu).unwrap()
}

/// Whether PA finds lag `j` at the residual that owns `name`; blocks count within their stage.
fn is_missing_lag(name: &str) -> bool {
    let Some((path, pair)) = name.split_once(".previous.") else { return false };
    let Some(lag) = pair.rsplit('.').next().and_then(|lag| lag.parse::<usize>().ok()) else { return false };
    let block: usize = path.split('.').nth(1).unwrap().parse().unwrap();
    lag > block
}

#[test]
fn logits_have_a_score_for_every_class() {
    for (name, config) in every_variant() {
        let (network, _) = build(&config, DType::F32);
        for mode in [Mode::Train, Mode::Eval] {
            let logits = network.forward(&images(2, 9, DType::F32), mode).unwrap(); // odd, so that halves round
            assert_eq!(logits.dims(), [2, 5], "{name}");
            assert!(values(&logits).iter().all(|v| v.is_finite()), "{name}");
        }
    }
}

#[test]
fn counted_parameters_equal_the_closed_form() {
    let mut variants = every_variant();
    let base = tiny(BlockKind::Bottleneck, Stem::Cifar, ShortcutKind::Projection);
    variants.push(("naive+3".into(), ResNetConfig { extra_blocks: vec![2, 1], ..base }));
    for (name, config) in variants {
        let (network, store) = fresh(&config, 0);
        let closed = network.num_params();
        assert_eq!(store.num_params(), closed.total, "{name}: total");
        assert_eq!(store.num_params_where(|n| n.contains(".residual.")), closed.laurel, "{name}: laurel");
        let statistics: usize = store.buffers().iter().map(|(_, var)| var.elem_count()).sum();
        let norms = store.num_params_where(|n| n.contains("bn") || n.contains("downsample.1"));
        assert_eq!(statistics, norms, "{name}: a mean and a variance for every scale and shift");
        assert_eq!(store.weights_bytes(), 4 * (closed.total + statistics), "{name}: bytes");
    }
}

/// A gradient through norms over few pixels and flipped ReLUs is not close to the exact one in every form; how far rounding the pictures
/// alone moves it is the measure.
#[test]
fn bf16_convolutions_follow_f32_forward_backward_and_folded() {
    for (name, config) in every_variant() {
        let (images, labels) = (images(16, 32, DType::F32), labels(16, 5));
        let step = |numerics: Numerics, images: &Tensor| {
            let (network, store) = fresh(&config, 11);
            let tape = Tape::start();
            let loss = network.with_numerics(numerics).loss(images, &labels, 0.1).unwrap();
            let gradients = tape.backward(&loss).unwrap();
            let of_each = store.vars().into_iter().map(|(parameter, var)| {
                let gradient = gradients.get(var.as_tensor()).cloned();
                assert!(gradient.as_ref().is_none_or(|gradient| gradient.dtype() == DType::F32), "{name}: {parameter}");
                assert_eq!(gradient.is_none(), is_missing_lag(&parameter), "{name}: {parameter}");
                gradient.as_ref().map_or_else(Vec::new, values)
            });
            (f64::from(loss.to_scalar::<f32>().unwrap()), of_each.flatten().collect::<Vec<f64>>())
        };
        let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let (wanted, exact) = step(Numerics::F32, &images);
        let (found, gradient) = step(Numerics::Bf16, &images);
        assert!(found != wanted && (found - wanted).abs() < 0.01, "{name}: {found} {wanted}");
        let rounded = images.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
        let (difference, yardstick) = (apart(&exact, &gradient), apart(&exact, &step(Numerics::F32, &rounded).1));
        assert!(difference < 3.0 * yardstick, "{name}: gradients are off by {difference}, with rounded pictures by {yardstick}");

        let (network, store) = fresh(&config, 11);
        let folded = ResNet::new(&config, store.freeze()).unwrap().with_numerics(Numerics::Bf16).fold().unwrap();
        let (a, b) = (network.forward(&images, Mode::Eval).unwrap(), folded.forward(&images, Mode::Eval).unwrap());
        assert_eq!(b.dtype(), DType::F32, "{name}");
        let largest = values(&a).iter().fold(0.0, |largest: f64, logit| largest.max(logit.abs()));
        assert!(distance(&a, &b) > 0.0 && distance(&a, &b) < 0.03 * largest, "{name}: {} of {largest}", distance(&a, &b));
    }
}

#[test]
fn gradients_reach_every_parameter_and_no_statistic() {
    for (name, config) in every_variant() {
        let (network, store) = build(&config, DType::F32);
        let loss = network.loss(&images(3, 8, DType::F32), &labels(3, 5), 0.1).unwrap();
        let gradients = loss.backward().unwrap();
        for (parameter, var) in store.vars() {
            if is_missing_lag(&parameter) {
                continue; // a pair whose activation does not exist takes no part
            }
            let gradient = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}: no gradient for {parameter}"));
            assert_eq!(gradient.dims(), var.dims(), "{name}: {parameter}");
            assert!(values(gradient).iter().any(|g| *g != 0.0), "{name}: zero gradient for {parameter}");
        }
        for (buffer, var) in store.buffers() {
            assert!(gradients.get(var.as_tensor()).is_none(), "{name}: {buffer} is no parameter");
        }
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    // f64; step 1e-6, so an error of about h² from curvature and 1e-16/h from rounding. A ReLU that flips within the step would
    // show as a difference of the order of the gradient; the values are fixed, and none does.
    const STEP: f64 = 1e-6;
    for (form, config) in forms() {
        let config = config.with_residual(ResidualConfig::preset("rw+lr+pa", 3, 3).unwrap());
        let (network, store) = build(&config, DType::F64);
        let (images, labels) = (images(2, 8, DType::F64), labels(2, 5));
        let loss = || network.loss(&images, &labels, 0.1).unwrap();
        let gradients = loss().backward().unwrap();
        for (name, var) in store.vars().into_iter().filter(|(name, _)| !is_missing_lag(name)) {
            let analytic = values(gradients.get(var.as_tensor()).unwrap());
            let start = values(&var);
            let at = start.len() / 2;
            let moved = |step: f64| {
                let mut changed = start.clone();
                changed[at] += step;
                store.set(&name, &Tensor::from_vec(changed, var.dims(), var.device()).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            moved(0.0);
            let tolerance = 1e-8 + 1e-5 * numeric.abs();
            assert!(
                (analytic[at] - numeric).abs() < tolerance,
                "{form}: {name}[{at}]: expected {numeric}, found {}",
                analytic[at]
            );
        }
    }
}

#[test]
fn smoothed_loss_is_the_mix_of_cross_entropies() {
    let (network, _) = build(&forms()[0].1, DType::F64);
    let (images, labels) = (images(4, 8, DType::F64), labels(4, 5));
    let logits = network.forward(&images, Mode::Train).unwrap().to_vec2::<f64>().unwrap();
    let targets = labels.to_vec1::<u32>().unwrap();
    let mut expected = 0.0;
    for (row, &target) in logits.iter().zip(&targets) {
        let log_sum = row.iter().map(|l| l.exp()).sum::<f64>().ln();
        let uniform = row.iter().map(|l| log_sum - l).sum::<f64>() / 5.0;
        expected += (0.9 * (log_sum - row[target as usize]) + 0.1 * uniform) / 4.0;
    }
    let found = network.loss(&images, &labels, 0.1).unwrap().to_scalar::<f64>().unwrap();
    assert!((found - expected).abs() < 1e-12, "expected {expected}, found {found}");
}

#[test]
fn running_statistics_average_batches_with_the_unbiased_variance() {
    // The stem of one channel-wise identity convolution sees the image itself: its first statistics are the pixels'.
    let config = ResNetConfig { width: 3, ..tiny(BlockKind::Basic, Stem::Cifar, ShortcutKind::Padding) };
    let (network, store) = fresh(&config, 0);
    let mut identity = vec![0f64; 3 * 3 * 9];
    (0..3).for_each(|channel| identity[channel * 27 + channel * 9 + 4] = 1.0);
    store.set("conv1.weight", &Tensor::from_vec(identity, (3, 3, 3, 3), &Device::Cpu).unwrap()).unwrap();
    let images = images(2, 4, DType::F32);
    network.forward(&images, Mode::Train).unwrap();
    let pixels = values(&images);
    for channel in 0..3 {
        let x: Vec<f64> = pixels.iter().skip(channel).step_by(3).copied().collect();
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let running = |name: &str| values(&store.get(name).unwrap())[channel];
        // From 0 and 1 with momentum 0.1; f32 sums of 32 values.
        assert!((running("bn1.running_mean") - 0.1 * mean).abs() < 1e-6);
        assert!((running("bn1.running_var") - (0.9 + 0.1 * variance)).abs() < 1e-6);
    }
    // A network rebuilt on the frozen store sees them, evaluation leaves them alone, and training on it is refused.
    let frozen = ResNet::new(&config, store.freeze()).unwrap();
    let before = store.digest().unwrap();
    let logits = frozen.forward(&images, Mode::Eval).unwrap();
    assert!(!logits.track_op(), "evaluation must not record a graph");
    assert_eq!(values(&logits), values(&network.forward(&images, Mode::Eval).unwrap()));
    assert_eq!(store.digest().unwrap(), before);
    assert!(frozen.forward(&images, Mode::Train).unwrap_err().to_string().contains("frozen"));
}

#[test]
fn folding_changes_no_logit() {
    for (name, config) in every_variant() {
        let (network, store) = build(&config, DType::F64);
        let images = images(2, 9, DType::F64);
        let plain = network.forward(&images, Mode::Eval).unwrap();
        let folded = ResNet::new(&config, store.freeze()).unwrap().fold().unwrap();
        // The same numbers in another order of multiplication, f64.
        let apart = distance(&folded.forward(&images, Mode::Eval).unwrap(), &plain);
        assert!(apart < 1e-12, "{name}: {apart}");
        assert!(folded.forward(&images, Mode::Train).unwrap_err().to_string().contains("folded"), "{name}");
    }
}

#[test]
fn variants_start_as_plain_and_share_its_weights() {
    for (name, config) in every_variant() {
        let (plain, plain_store) = fresh(&config.clone().with_residual(ResidualConfig::default()), 4);
        let (variant, store) = fresh(&config, 4);
        assert!(config.residual.starts_as_plain(), "{name}");
        let images = images(2, 8, DType::F32);
        let apart = distance(&plain.forward(&images, Mode::Train).unwrap(), &variant.forward(&images, Mode::Train).unwrap());
        // α = β = 1 exactly, but a fused multiply-add may round once where the plain sum rounds once too: a unit in the last place.
        assert!(apart <= 1e-6, "{name}: {apart}");
        for (parameter, var) in plain_store.vars() {
            assert_eq!(values(&store.get(&parameter).unwrap()), values(&var), "{name}: {parameter}");
        }
    }
}

#[test]
fn pa_looks_back_within_a_stage_only() {
    // The first block of a stage has no history, so its entries beyond lag 0 cannot change anything.
    let config = forms()[1].1.clone().with_residual(ResidualConfig::preset("lr+pa", 3, 3).unwrap());
    let (network, store) = build(&config, DType::F32);
    let images = images(2, 16, DType::F32);
    let before = network.forward(&images, Mode::Eval).unwrap();
    let change = |name: &str| {
        let var = store.get(name).unwrap();
        store.set(name, &(var.as_tensor() * 3.0).unwrap()).unwrap();
        distance(&network.forward(&images, Mode::Eval).unwrap(), &before)
    };
    assert_eq!(change("layer2.0.residual.previous.up.1"), 0.0);
    assert_eq!(change("layer2.1.residual.previous.up.2"), 0.0);
    assert!(change("layer2.1.residual.previous.up.1") > 0.0);
    assert!(change("layer2.2.residual.previous.up.2") > 0.0);
}

#[test]
fn checkpoints_come_back_bit_for_bit_with_their_statistics() {
    let folder = tempfile::tempdir().unwrap();
    for (at, (name, config)) in every_variant().into_iter().enumerate() {
        let (network, store) = build(&config, DType::F32);
        let path = folder.path().join(format!("{at}.safetensors"));
        store.save(&path).unwrap();
        let (loaded, loaded_store) = fresh(&config, 99);
        loaded_store.load(&path).unwrap();
        assert_eq!(loaded_store.digest().unwrap(), store.digest().unwrap(), "{name}");
        let images = images(1, 8, DType::F32);
        let logits = |network: &ResNet| values(&network.forward(&images, Mode::Eval).unwrap());
        assert_eq!(logits(&loaded), logits(&network), "{name}");
    }
}

#[test]
fn images_of_another_shape_are_refused() {
    let (network, _) = fresh(&forms()[0].1, 0);
    let channels_first = Tensor::zeros((2, 3, 8, 8), DType::F32, &Device::Cpu).unwrap();
    let error = network.forward(&channels_first, Mode::Eval).unwrap_err().to_string();
    assert!(error.contains("[B, Y, X, 3]") && error.contains("[2, 3, 8, 8]"), "{error}");
}
