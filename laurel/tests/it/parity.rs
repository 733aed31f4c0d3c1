//! Outputs and all gradients against the reference pack `laurel.safetensors` (torch, float64, autograd).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use laurel::{AugmentConfig, DownInit, LagMap, MissingLag, MixConfig, MixKind, PostNorm, ResidualConfig};

use crate::support::{Stack, relative_difference};

/// Both sides compute the same f64 expressions in another order of summation.
const TOLERANCE: f64 = 1e-10;

fn pack() -> Option<HashMap<String, Tensor>> {
    let folder = std::env::var_os("PARITY_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/parity")), PathBuf::from);
    let file = folder.join("laurel.safetensors");
    if !file.exists() {
        eprintln!("skipped: no reference pack at {}", file.display());
        return None;
    }
    Some(candle_core::safetensors::load(file, &Device::Cpu).expect("the pack is a safetensors file"))
}

/// The configuration of a pack's variant; sizes come from its tensors.
fn config(variant: &str, bound: &str, layer0: &dyn Fn(&str) -> Option<Vec<usize>>) -> ResidualConfig {
    let per_channel = variant.split('+').any(|part| part == "rw_vec");
    let kind = if variant.split('+').any(|part| part.starts_with("rw")) {
        match bound {
            "free" => MixKind::Free,
            "softmax" => MixKind::Softmax,
            "softmax2" => MixKind::Softmax2,
            "sigmoid1" => MixKind::Sigmoid1,
            "sigmoid2x" => MixKind::Sigmoid2x,
            other => panic!("unknown bound `{other}`"),
        }
    } else {
        MixKind::None
    };
    let (init, post_norm, missing) = (DownInit::default(), PostNorm::None, MissingLag::Drop);
    let shared = layer0("down").map(|dims| dims[1]);
    let per_lag = layer0("down0").map(|dims| dims[1]);
    let augment = match layer0("gamma").map(|dims| dims[0]) {
        Some(lookback) => {
            let (map, rank) = match (shared, per_lag) {
                (None, None) => (LagMap::Identity, None),
                (Some(rank), None) => (LagMap::Shared, Some(rank)),
                (_, Some(rank)) => (LagMap::PerLag, Some(rank)),
            };
            vec![AugmentConfig::Previous { lookback, map, rank, init, missing, post_norm }]
        }
        None => shared.map(|rank| AugmentConfig::LowRank { rank, init, post_norm }).into_iter().collect(),
    };
    ResidualConfig { mix: MixConfig { kind, per_channel }, augment, ..ResidualConfig::default() }
}

/// Our name of a pack's parameter.
fn our_name(parameter: &str, has_gamma: bool) -> String {
    let term = if has_gamma { "previous" } else { "low_rank" };
    match parameter {
        "f" => "f".into(),
        "a" | "b" => format!("mix.{parameter}"),
        "gamma" => "previous.gamma".into(),
        "down" | "up" => format!("{term}.{parameter}"),
        _ => {
            let digits = parameter.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            format!("{term}.{}.{digits}", &parameter[..parameter.len() - digits.len()])
        }
    }
}

#[test]
fn outputs_and_all_gradients_equal_the_reference() {
    let Some(pack) = pack() else { return };
    let cases: BTreeSet<(String, String)> = pack
        .keys()
        .filter_map(|key| key.strip_suffix("/x0").filter(|key| !key.ends_with("/grad")))
        .map(|key| key.split_once('/').map(|(variant, bound)| (variant.to_string(), bound.to_string())).expect("variant/bound"))
        .collect();
    assert!(!cases.is_empty(), "the pack holds no variant");
    let mut worst = (0.0f64, String::new());
    for (variant, bound) in &cases {
        let prefix = format!("{variant}/{bound}/");
        let parameters: Vec<(&str, &str)> =
            pack.keys().filter_map(|key| key.strip_prefix(&prefix)?.strip_prefix("layer")?.split_once('/')).collect();
        let layers = parameters.iter().map(|(layer, _)| layer.parse::<usize>().unwrap() + 1).max().unwrap();
        let dims = |name: &str| pack.get(&format!("{prefix}layer0/{name}")).map(|tensor| tensor.dims().to_vec());
        let has_gamma = dims("gamma").is_some();
        let mut values = BTreeMap::from([("x0".to_string(), pack[&format!("{prefix}x0")].clone())]);
        for (layer, parameter) in &parameters {
            let value = pack[&format!("{prefix}layer{layer}/{parameter}")].clone();
            values.insert(format!("layer{layer}.{}", our_name(parameter, has_gamma)), value);
        }
        let stack = Stack::new(&config(variant, bound, &dims), layers, values).unwrap();

        let mut check = |what: String, actual: &Tensor, expected: &Tensor| {
            let difference = relative_difference(actual, expected).unwrap();
            assert!(difference <= TOLERANCE, "{prefix}{what}: relative difference {difference:e}");
            if difference > worst.0 {
                worst = (difference, format!("{prefix}{what}"));
            }
        };
        check("out".into(), &stack.forward().unwrap(), &pack[&format!("{prefix}out")]);
        let (_, gradients) = stack.loss(&pack[&format!("{prefix}loss_weight")]).unwrap();
        check("grad/x0".into(), gradients.get(&stack.vars["x0"]).unwrap(), &pack[&format!("{prefix}grad/x0")]);
        for (layer, parameter) in &parameters {
            let expected = &pack[&format!("{prefix}grad/layer{layer}/{parameter}")];
            let variable = &stack.vars[&format!("layer{layer}.{}", our_name(parameter, has_gamma))];
            let what = format!("grad/layer{layer}/{parameter}");
            match gradients.get(variable) {
                Some(gradient) => check(what, gradient, expected),
                // A lag that is missing near the input takes no part: no gradient here, a zero one there.
                None => assert_eq!(expected.abs().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap(), 0.0, "{prefix}{what}"),
            }
        }
    }
    eprintln!("{} variants; largest relative difference {:e} at {}", cases.len(), worst.0, worst.1);
}
