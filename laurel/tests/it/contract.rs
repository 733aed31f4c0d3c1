//! What holds for every variant: shape, counted parameters, plain start, exact history, algebraic identities, dense oracle.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use laurel::init::ParameterRng;
use laurel::{
    AugmentConfig, DownInit, FeatureAxis, LagMap, MissingLag, MixConfig, MixKind, PRESETS, PostNorm, Residual, ResidualConfig,
    ResidualStream,
};
use proptest::prelude::*;

fn random(name: &str, dims: &[usize], dtype: DType) -> Tensor {
    let mut rng = ParameterRng::new(3, name);
    let values: Vec<f64> = (0..dims.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn built(config: &ResidualConfig, features: usize, axis: FeatureAxis, dtype: DType) -> (VarMap, Residual) {
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, dtype, &Device::Cpu);
    let residual = Residual::new(config, features, axis, vb.pp("residual")).unwrap();
    residual.init(5).unwrap();
    (variables, residual)
}

/// A merge after `earlier` further writes of random activations.
fn merge_with_history(residual: &Residual, x: &Tensor, fx: &Tensor, earlier: usize) -> Result<Tensor> {
    residual.merge(fx, None, &stream_with_history(residual, x, earlier)?)
}

/// A stream at `x` after `earlier` further writes.
fn stream_with_history(residual: &Residual, x: &Tensor, earlier: usize) -> Result<ResidualStream> {
    let plain = built(&ResidualConfig::default(), 1, FeatureAxis::Last, x.dtype()).1;
    let mut stream = ResidualStream::start(if earlier == 0 { x.clone() } else { (x * 0.3)? }, residual.needs());
    for i in 1..=earlier {
        let target = if i == earlier { x.clone() } else { (x * (0.3 + i as f64))? };
        let step = (target - stream.read(&plain)?)?;
        stream.write(&plain, &step)?;
    }
    stream.observe(&(x * 0.5)?);
    Ok(stream)
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    difference.to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap()
}

#[test]
fn counted_parameters_equal_the_closed_form() {
    let norms = [PostNorm::None, PostNorm::Rms];
    let mut configs: Vec<ResidualConfig> = PRESETS.iter().map(|name| ResidualConfig::preset(name, 3, 4).unwrap()).collect();
    for kind in MixKind::LEARNED {
        configs.extend(
            [false, true].map(|per_channel| ResidualConfig { mix: MixConfig { kind, per_channel }, ..Default::default() }),
        );
    }
    for post_norm in norms {
        for map in [LagMap::Identity, LagMap::Shared, LagMap::PerLag] {
            let rank = (map != LagMap::Identity).then_some(2);
            let (init, missing) = (DownInit::default(), MissingLag::Drop);
            let augment = vec![
                AugmentConfig::LowRank { rank: 2, init, post_norm },
                AugmentConfig::Previous { lookback: 3, map, rank, init, missing, post_norm },
            ];
            configs.push(ResidualConfig { augment, ..Default::default() });
        }
    }
    for config in configs {
        let (variables, residual) = built(&config, 6, FeatureAxis::Last, DType::F32);
        let registered: usize = variables.all_vars().iter().map(|var| var.elem_count()).sum();
        let listed: usize = residual.parameters().iter().map(|parameter| parameter.tensor.elem_count()).sum();
        assert_eq!(registered, config.cost(6).params, "{config:?}");
        assert_eq!(listed, registered, "{config:?}");
    }
}

#[test]
fn shapes_and_dtypes_are_those_of_x() {
    for name in PRESETS {
        let config = ResidualConfig::preset(name, 2, 3).unwrap();
        for dtype in [DType::F32, DType::F64] {
            for (axis, dims) in [(FeatureAxis::Last, vec![2, 3, 6]), (FeatureAxis::Channels, vec![2, 6, 3, 4])] {
                let (_variables, residual) = built(&config, 6, axis, dtype);
                let (x, fx) = (random("x", &dims, dtype), random("fx", &dims, dtype));
                let out = merge_with_history(&residual, &x, &fx, 2).unwrap();
                assert_eq!((out.dims(), out.dtype()), (&dims[..], dtype), "{name}");
            }
        }
    }
}

#[test]
fn a_fresh_block_is_plain_exactly_where_claimed() {
    for name in PRESETS {
        let config = ResidualConfig::preset(name, 2, 3).unwrap();
        let (_variables, residual) = built(&config, 6, FeatureAxis::Last, DType::F32);
        let (x, fx) = (random("x", &[2, 3, 6], DType::F32), random("fx", &[2, 3, 6], DType::F32));
        let out = merge_with_history(&residual, &x, &fx, 2).unwrap();
        let plain = (fx + x).unwrap();
        assert_eq!(difference(&out, &plain) == 0.0, config.starts_as_plain(), "{name}");
    }
}

#[test]
fn alpha_and_beta_are_not_swapped() {
    // α = 2·softmax(a, b)₁ with a − b = 1: 2/(1 + e⁻¹) = 1.4621171572600098; β = 2 − α.
    let config = ResidualConfig::preset("rw", 1, 1).unwrap();
    let tensors = HashMap::from([
        ("mix.a".to_string(), Tensor::new(1.5f64, &Device::Cpu).unwrap()),
        ("mix.b".to_string(), Tensor::new(0.5f64, &Device::Cpu).unwrap()),
    ]);
    let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
    let residual = Residual::new(&config, 1, FeatureAxis::Last, vb).unwrap();
    let (x, fx) = (Tensor::new(&[[10f64]], &Device::Cpu).unwrap(), Tensor::new(&[[1f64]], &Device::Cpu).unwrap());
    let out = merge_with_history(&residual, &x, &fx, 0).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert!((out[0] - (1.462_117_157_260_009_8 + 10.0 * 0.537_882_842_739_990_2)).abs() < 1e-14, "{out:?}");
}

#[test]
fn the_gemma_block_equals_a_hand_computed_case() {
    // D = 4, r = 2, n = (2, 0, 1, 0); down = [[1,0],[0,1],[1,0],[0,1]] gives n·down = (3, 0); up = [[1,0,0,2],[0,1,1,0]] gives
    // (3, 0, 0, 6); mean square 45/4 = 11.25, root 3.3541019662496847 (ε = 1e-6 shifts it by 1.5e-7); norm scale (1, 1, 1, 0.5):
    // rms = (0.8944271910, 0, 0, 0.8944271910). laurel(n) = (2.8944271910, 0, 1, 0.8944271910).
    // With x = 2n = (4, 0, 2, 0) and fx = (1, 1, 1, 1): y = (fx + x + laurel)/√2.
    let cpu = &Device::Cpu;
    let tensors = HashMap::from([
        ("gemma3n.down".to_string(), Tensor::new(&[[1f64, 0.], [0., 1.], [1., 0.], [0., 1.]], cpu).unwrap()),
        ("gemma3n.up".to_string(), Tensor::new(&[[1f64, 0., 0., 2.], [0., 1., 1., 0.]], cpu).unwrap()),
        ("gemma3n.norm".to_string(), Tensor::new(&[1f64, 1., 1., 0.5], cpu).unwrap()),
    ]);
    let vb = VarBuilder::from_tensors(tensors, DType::F64, cpu);
    let residual = Residual::new(&ResidualConfig::preset("gemma3n", 2, 1).unwrap(), 4, FeatureAxis::Last, vb).unwrap();
    let x = Tensor::new(&[[[4f64, 0., 2., 0.]]], cpu).unwrap();
    let out = merge_with_history(&residual, &x, &x.ones_like().unwrap(), 0).unwrap();
    let root = (11.25f64 + 1e-6).sqrt();
    let term = [2.0 + 3.0 / root, 0.0, 1.0, 0.5 * 6.0 / root];
    let expected: Vec<f64> =
        [4., 0., 2., 0.].iter().zip(term).map(|(x, t): (&f64, f64)| (1.0 + x + t) / std::f64::consts::SQRT_2).collect();
    for (a, e) in out.flatten_all().unwrap().to_vec1::<f64>().unwrap().iter().zip(expected) {
        assert!((a - e).abs() < 1e-14, "{a} {e}");
    }
}

#[test]
fn history_is_exactly_what_is_needed() {
    let config = ResidualConfig::preset("pa", 1, 3).unwrap();
    let (_variables, residual) = built(&config, 2, FeatureAxis::Last, DType::F64);
    let mut stream = ResidualStream::start(Tensor::zeros((1, 2), DType::F64, &Device::Cpu).unwrap(), residual.needs());
    let mut lengths = vec![stream.history_len()];
    for step in 1..=4 {
        let fx = Tensor::ones((1, 2), DType::F64, &Device::Cpu).unwrap();
        stream.write(&residual, &fx).unwrap();
        lengths.push(stream.history_len());
        // γ starts at 0, so x_i = i: lag j reads i − j, the ring having moved on.
        for j in 0..=step.min(2) {
            let value = stream.lag(j).unwrap().to_vec2::<f64>().unwrap()[0][0];
            assert_eq!(value, (step - j) as f64);
        }
    }
    assert_eq!(lengths, [0, 1, 2, 2, 2]);
    assert!(stream.lag(3).is_none());
    stream.restart(Tensor::zeros((1, 1), DType::F64, &Device::Cpu).unwrap());
    assert_eq!(stream.history_len(), 0);
}

#[test]
fn plain_networks_keep_no_history() {
    let (_variables, residual) = built(&ResidualConfig::default(), 2, FeatureAxis::Last, DType::F64);
    let mut stream = ResidualStream::start(Tensor::zeros((1, 2), DType::F64, &Device::Cpu).unwrap(), residual.needs());
    stream.write(&residual, &Tensor::ones((1, 2), DType::F64, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(stream.history_len(), 0);
}

#[test]
fn initialisation_does_not_depend_on_other_parameters() {
    let values = |name: &str| {
        let (_variables, residual) = built(&ResidualConfig::preset(name, 2, 3).unwrap(), 8, FeatureAxis::Last, DType::F32);
        let down = residual.parameters().into_iter().find(|p| p.name == "residual.low_rank.down").unwrap().tensor.clone();
        down.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(values("lr"), values("rw+lr"));
}

#[test]
fn a_shape_mismatch_is_said() {
    let (_variables, residual) = built(&ResidualConfig::default(), 2, FeatureAxis::Last, DType::F64);
    let x = Tensor::zeros((1, 2), DType::F64, &Device::Cpu).unwrap();
    let error = merge_with_history(&residual, &x, &Tensor::zeros((1, 3), DType::F64, &Device::Cpu).unwrap(), 0).unwrap_err();
    assert!(error.to_string().contains("expected that of x, [1, 2]"), "{error}");
}

/// Random logits and factors, so that nothing is at its start value.
fn randomised(config: &ResidualConfig, features: usize, axis: FeatureAxis) -> (VarMap, Residual) {
    let (variables, residual) = built(config, features, axis, DType::F64);
    for parameter in residual.parameters() {
        let values = random(&parameter.name, parameter.tensor.dims(), DType::F64).flatten_all().unwrap().to_vec1().unwrap();
        laurel::init::fill(&parameter.name, &parameter.tensor, values).unwrap();
    }
    (variables, residual)
}

#[test]
fn a_second_part_and_a_relu_are_those_of_the_plain_merge() {
    for name in PRESETS {
        let config = ResidualConfig::preset(name, 2, 3).unwrap();
        for (axis, dims) in [(FeatureAxis::Last, vec![2, 3, 6]), (FeatureAxis::Channels, vec![2, 6, 3, 4])] {
            let (_variables, residual) = randomised(&config, 6, axis);
            let [x, fx, fx2] = ["x", "fx", "fx2"].map(|name| random(name, &dims, DType::F64));
            let mut stream = stream_with_history(&residual, &x, 2).unwrap();
            let sum = residual.merge(&(&fx + &fx2).unwrap(), None, &stream).unwrap();
            assert!(difference(&residual.merge(&fx, Some(&fx2), &stream).unwrap(), &sum) < 1e-12, "{name} {axis:?}");
            let merged = residual.merge(&fx, None, &stream).unwrap();
            let clipped = merged.maximum(0.0).unwrap();
            assert!(difference(&merged, &clipped) > 0.1, "{name} {axis:?}: nothing to clip");
            assert!(difference(&residual.merge_relu(&fx, &stream).unwrap(), &clipped) < 1e-12, "{name} {axis:?}");
            stream.write_sum(&residual, &fx, &fx2).unwrap();
            assert!(difference(stream.current(), &sum) < 1e-12, "{name} {axis:?}");
        }
    }
}

#[test]
fn the_relu_behind_a_merge_keeps_nan_and_passes_no_gradient_at_zero() {
    for axis in [FeatureAxis::Last, FeatureAxis::Channels] {
        let (_variables, residual) = built(&ResidualConfig::default(), 2, axis, DType::F32);
        // sums −1, 0, 1 and NaN; two features on either axis
        let fx = Var::from_vec(vec![-1f32, 0., 1., f32::NAN], &[1, 2, 1, 2], &Device::Cpu).unwrap();
        let stream = ResidualStream::start(fx.as_tensor().zeros_like().unwrap(), residual.needs());
        let y = residual.merge_relu(&fx, &stream).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let found = numbers(&y);
        assert!(found[..3] == [0., 0., 1.] && found[3].is_nan(), "{axis:?}: {found:?}");
        assert_eq!(numbers(grads.get(&fx).unwrap()), [0., 0., 1., 1.], "{axis:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// LR equals the dense (I + down·up), on either axis.
    #[test]
    fn low_rank_equals_its_dense_oracle(features in 1usize..9, rank in 1usize..9, rows in 1usize..5) {
        let rank = rank.min(features);
        let config = ResidualConfig::preset("lr", rank, 1).unwrap();
        let (variables, residual) = randomised(&config, features, FeatureAxis::Last);
        let x = random("x", &[rows, features], DType::F64);
        let fx = random("fx", &[rows, features], DType::F64);
        let data = variables.data().lock().unwrap();
        let dense = data["residual.low_rank.down"].matmul(&data["residual.low_rank.up"]).unwrap();
        let expected = ((&fx + &x).unwrap() + x.matmul(&dense).unwrap()).unwrap();
        prop_assert!(difference(&merge_with_history(&residual, &x, &fx, 0).unwrap(), &expected) < 1e-12);

        let (_channels_variables, channels) = randomised(&config, features, FeatureAxis::Channels);
        let as_image = |t: &Tensor| t.t().unwrap().reshape((1, features, rows, 1)).unwrap();
        let image = merge_with_history(&channels, &as_image(&x), &as_image(&fx), 0).unwrap();
        prop_assert!(difference(&image, &as_image(&expected)) < 1e-12);
    }

    /// g is linear in its arguments: scaling every activation scales the residual side.
    #[test]
    fn the_residual_side_is_linear(preset in 0usize..10, scale in -2.0f64..2.0) {
        let config = ResidualConfig::preset(PRESETS[preset], 2, 3).unwrap();
        let (_variables, residual) = randomised(&config, 4, FeatureAxis::Last);
        let x = random("x", &[2, 4], DType::F64);
        let zero = x.zeros_like().unwrap();
        let scaled = merge_with_history(&residual, &(&x * scale).unwrap(), &zero, 2).unwrap();
        let expected = (merge_with_history(&residual, &x, &zero, 2).unwrap() * scale).unwrap();
        prop_assert!(difference(&scaled, &expected) < 1e-12);
    }

    /// RW+LR+PA with k = 1 and γ₀ = 1 is RW+LR; PA with one shared pair and k = 1 is LR scaled by γ₀.
    #[test]
    fn one_lag_reduces_to_low_rank(gamma in -2.0f64..2.0) {
        let x = random("x", &[2, 4], DType::F64);
        let fx = random("fx", &[2, 4], DType::F64);
        let tensors: HashMap<String, Tensor> = [("down", vec![4, 2]), ("up", vec![2, 4])]
            .into_iter()
            .flat_map(|(name, dims)| {
                let value = random(name, &dims, DType::F64);
                ["low_rank.NAME", "previous.NAME", "previous.NAME.0"].map(|key| (key.replace("NAME", name), value.clone()))
            })
            .chain([("a", 0.3), ("b", -0.2)].map(|(name, v)| (format!("mix.{name}"), Tensor::new(v, &Device::Cpu).unwrap())))
            .chain([("previous.gamma".to_string(), Tensor::new(&[gamma], &Device::Cpu).unwrap())])
            .collect();
        let out = |name: &str, scale_up: f64| {
            let mut tensors = tensors.clone();
            let up = (&tensors["low_rank.up"] * scale_up).unwrap();
            tensors.insert("low_rank.up".into(), up);
            let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
            let residual = Residual::new(&ResidualConfig::preset(name, 2, 1).unwrap(), 4, FeatureAxis::Last, vb).unwrap();
            merge_with_history(&residual, &x, &fx, 0).unwrap()
        };
        prop_assert!(difference(&out("rw+lr+pa", 1.0), &out("rw+lr", gamma)) < 1e-12);
        prop_assert!(difference(&out("pa-shared", 1.0), &out("lr", gamma)) < 1e-12);
    }
}
