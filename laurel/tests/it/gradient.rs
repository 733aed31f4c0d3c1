//! Every gradient against central differences in f64, also into past activations.

use candle_core::{Device, Tensor, Var};
use laurel::{AugmentConfig, DownInit, LagMap, MissingLag, MixConfig, MixKind, PRESETS, PostNorm, ResidualConfig};

use crate::support::Stack;

/// Of the five-point stencil, whose error is O(step⁴) plus rounding of 1e-16/step. Norms of nearly cancelling sums have third
/// derivatives of 1e4 and more, so the two-point stencil would not do.
const STEP: f64 = 2e-5;
const TOLERANCE: f64 = 1e-7;

fn check(config: &ResidualConfig, label: &str) {
    let stack = Stack::random(config, 4, 5).unwrap();
    let weight = Tensor::arange(0.0, 30.0, &Device::Cpu).unwrap().affine(0.07, -1.0).unwrap().reshape((2, 3, 5)).unwrap();
    let (_, gradients) = stack.loss(&weight).unwrap();
    for (name, variable) in &stack.vars {
        let analytic = gradients.get(variable).map(|g| g.flatten_all().unwrap().to_vec1::<f64>().unwrap());
        let numeric = central_differences(variable, || {
            (stack.forward().unwrap() * &weight).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
        });
        let analytic = analytic.unwrap_or_else(|| vec![0.0; numeric.len()]);
        for (i, (a, n)) in analytic.iter().zip(&numeric).enumerate() {
            assert!((a - n).abs() <= TOLERANCE * (1.0 + n.abs()), "{label}: {name}[{i}]: analytic {a}, numeric {n}");
        }
    }
}

fn central_differences(variable: &Var, loss: impl Fn() -> f64) -> Vec<f64> {
    let original = variable.as_tensor().copy().unwrap();
    let values = original.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let with = |i: usize, value: f64| {
        let mut moved = values.clone();
        moved[i] = value;
        variable.set(&Tensor::from_vec(moved, original.shape(), &Device::Cpu).unwrap()).unwrap();
        loss()
    };
    let slope = |i: usize| {
        let difference = |step: f64| with(i, values[i] + step) - with(i, values[i] - step);
        (8.0 * difference(STEP) - difference(2.0 * STEP)) / (12.0 * STEP)
    };
    let slopes = (0..values.len()).map(slope).collect();
    variable.set(&original).unwrap();
    slopes
}

#[test]
fn presets_match_finite_differences() {
    for name in PRESETS {
        check(&ResidualConfig::preset(name, 2, 3).unwrap(), name);
    }
}

#[test]
fn bounding_forms_match_finite_differences() {
    for kind in MixKind::LEARNED {
        for per_channel in [false, true] {
            let config = ResidualConfig { mix: MixConfig { kind, per_channel }, ..ResidualConfig::default() };
            check(&config, &format!("{kind:?} per channel {per_channel}"));
        }
    }
}

#[test]
fn norms_and_clamped_lags_match_finite_differences() {
    for map in [LagMap::Identity, LagMap::Shared, LagMap::PerLag] {
        let rank = (map != LagMap::Identity).then_some(2);
        let (init, missing, post_norm) = (DownInit::Xavier, MissingLag::Clamp, PostNorm::Rms);
        let augment = vec![AugmentConfig::Previous { lookback: 3, map, rank, init, missing, post_norm }];
        check(&ResidualConfig { augment, ..ResidualConfig::default() }, &format!("{map:?}, clamp, rms"));
    }
    let augment = vec![AugmentConfig::LowRank { rank: 2, init: DownInit::Gaussian, post_norm: PostNorm::Rms }];
    check(&ResidualConfig { augment, ..ResidualConfig::default() }, "low-rank, rms");
}
