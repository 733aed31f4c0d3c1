//! Folding residual weights away leaves the logits alone, for every placement.

use candle_core::DType;
use laurel::{AugmentConfig, DownInit, LagMap, MissingLag, MixConfig, MixKind, Placement, PostNorm, ResidualConfig};
use models::{Decoder, DecoderConfig, ParamStore, fold};

use crate::networks::{build, distance, gpt_form, ids, llama_form};

/// The norms' epsilon is all that separates the two networks; with 1e-14 beside mean squares of order 0.01 to 1 they
/// differ by about 1e-12, and the sums of f64 by less.
const TOLERANCE: f64 = 1e-9;

fn with_small_epsilon(config: DecoderConfig) -> DecoderConfig {
    DecoderConfig { norm_eps: 1e-14, ..config }
}

fn check(config: &DecoderConfig, name: &str) {
    check_network(config, &build(config, DType::F64), name);
}

fn check_network(config: &DecoderConfig, (decoder, params): &(Decoder, ParamStore), name: &str) {
    let before = params.digest().unwrap();
    let folded = fold(config, params).unwrap();
    let plain_adds = Decoder::new(&folded.config, folded.params.freeze()).unwrap();
    let inputs = ids(config, 2, 7);
    let apart = distance(&plain_adds.forward(&inputs).unwrap(), &decoder.forward(&inputs).unwrap());
    assert!(apart < TOLERANCE, "{name}: {apart}");
    assert_eq!(folded.config.residual.mix.kind, MixKind::None, "{name}");
    assert_eq!(folded.params.num_params_where(|n| n.contains(".mix.")), 0, "{name}");
    assert_eq!(params.digest().unwrap(), before, "{name}: the original changed");
}

#[test]
fn every_bounding_form_folds_at_every_placement() {
    for (form, base) in [("llama", llama_form()), ("gpt", gpt_form())] {
        for placement in Placement::ALL {
            for kind in MixKind::LEARNED.into_iter().filter(|kind| *kind != MixKind::Free) {
                let residual = ResidualConfig { placement, mix: MixConfig { kind, per_channel: false }, augment: vec![] };
                check(&with_small_epsilon(base.clone().with_residual(residual)), &format!("{form} {placement:?} {kind:?}"));
            }
        }
    }
}

#[test]
fn terms_fold_with_the_weights() {
    for preset in ["rw+lr", "rw+pa", "rw+lr+pa", "lr+pa"] {
        for placement in Placement::ALL {
            let residual = ResidualConfig { placement, ..ResidualConfig::preset(preset, 3, 3).unwrap() };
            check(&with_small_epsilon(llama_form().with_residual(residual)), &format!("{preset} {placement:?}"));
        }
    }
}

fn previous(missing: MissingLag, post_norm: PostNorm) -> AugmentConfig {
    AugmentConfig::Previous { lookback: 4, map: LagMap::PerLag, rank: Some(2), init: DownInit::Xavier, missing, post_norm }
}

fn low_rank(post_norm: PostNorm) -> AugmentConfig {
    AugmentConfig::LowRank { rank: 2, init: DownInit::Xavier, post_norm }
}

fn softmax_with(placement: Placement, augment: Vec<AugmentConfig>) -> DecoderConfig {
    let mix = MixConfig { kind: MixKind::Softmax, per_channel: false };
    with_small_epsilon(llama_form().with_residual(ResidualConfig { placement, mix, augment }))
}

#[test]
fn clamped_lags_and_two_terms_fold_too() {
    for placement in Placement::ALL {
        let augment = vec![low_rank(PostNorm::None), previous(MissingLag::Clamp, PostNorm::None)];
        check(&softmax_with(placement, augment), &format!("{placement:?}"));
    }
}

#[test]
fn norms_behind_terms_fold_too() {
    for placement in Placement::ALL {
        let augment = vec![low_rank(PostNorm::Rms), previous(MissingLag::Drop, PostNorm::Rms)];
        let config = softmax_with(placement, augment);
        let network = build(&config, DType::F64);
        // Their epsilon is fixed at 1e-6; products around 1e4 put it as far away as the other norms'.
        let (_, params) = &network;
        for (name, var) in params.vars() {
            if name.split('.').any(|part| part == "up") {
                params.set(&name, &(var.as_detached_tensor() * 1e5).unwrap()).unwrap();
            }
        }
        check_network(&config, &network, &format!("{placement:?}"));
    }
}

#[test]
fn the_layer_form_keeps_the_ratio_of_the_weights() {
    let residual = ResidualConfig::preset("rw", 3, 3).unwrap();
    let config = llama_form().with_residual(residual);
    let (decoder, params) = build(&config, DType::F64);
    let folded = fold(&config, &params).unwrap();
    assert_eq!(folded.config.attention_carry.len(), config.num_layers());
    for (c, residual) in folded.config.attention_carry.iter().zip(decoder.residuals()) {
        let (alpha, beta) = residual.mix().weights().unwrap().unwrap();
        let ratio = alpha.to_scalar::<f64>().unwrap() / beta.to_scalar::<f64>().unwrap();
        assert!((c - ratio).abs() < 1e-15, "expected {ratio}, found {c}");
    }
    // What was folded can be folded again: nothing is left to do.
    let again = fold(&folded.config, &folded.params).unwrap();
    assert_eq!(again.config, folded.config);
    assert_eq!(again.params.digest().unwrap(), folded.params.digest().unwrap());
}

#[test]
fn what_cannot_be_folded_is_refused_with_the_reason() {
    for (preset, reason) in [("rw-vec", "per channel"), ("gemma3n", "Gemma 3n")] {
        let config = llama_form().with_residual(ResidualConfig::preset(preset, 3, 3).unwrap());
        let (_, params) = build(&config, DType::F64);
        let error = fold(&config, &params).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let mix = MixConfig { kind: MixKind::Free, per_channel: false };
    let config = llama_form().with_residual(ResidualConfig { mix, ..ResidualConfig::default() });
    let (_, params) = build(&config, DType::F64);
    let beta = candle_core::Tensor::new(-0.5, params.device()).unwrap();
    params.set("model.layers.1.residual.mix.b", &beta).unwrap();
    params.set("model.layers.0.residual.mix.b", &beta.abs().unwrap()).unwrap();
    let error = fold(&config, &params).unwrap_err().to_string();
    assert_eq!(error, "cannot fold the residual weights of layer 1: expected a positive weight of the residual side, found -0.5");
}
