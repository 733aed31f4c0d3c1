//! What every variant promises, for every preset, placement and form: shapes, counts, gradients, checkpoints, its start.

use candle_core::{DType, Device};
use laurel::{Placement, ResidualConfig};
use models::pretrained::load_config;
use models::{Decoder, DecoderConfig, Model, ParamStore};

use crate::networks::{build, distance, every_variant, fixtures, gpt_form, ids, llama_form, values};

fn fresh(config: &DecoderConfig, seed: u64) -> (Decoder, ParamStore) {
    let params = ParamStore::new(DType::F32, &Device::Cpu);
    let decoder = Decoder::new(config, params.var_builder()).unwrap();
    decoder.init_weights(seed).unwrap();
    (decoder, params)
}

#[test]
fn logits_have_a_score_for_every_token_at_every_position() {
    for (name, config) in every_variant() {
        let (decoder, _) = build(&config, DType::F32);
        let logits = decoder.forward(&ids(&config, 2, 7)).unwrap();
        assert_eq!((logits.dims(), logits.dtype()), (&[2, 7, config.vocab_size][..], DType::F32), "{name}");
        assert!(values(&logits).iter().all(|v| v.is_finite()), "{name}");
    }
}

#[test]
fn counted_parameters_equal_the_closed_form() {
    let mut variants = every_variant();
    variants.push(("naive+1".into(), DecoderConfig { extra_layers: 1, ..gpt_form() }));
    variants.push(("wide+3".into(), DecoderConfig { mlp_extra: 3, ..llama_form() }));
    variants.push(("biased".into(), DecoderConfig { mlp_bias: true, head_bias: true, attention_bias: true, ..llama_form() }));
    for (name, config) in variants {
        let (decoder, params) = fresh(&config, 0);
        let closed = decoder.num_params();
        assert_eq!(params.num_params(), closed.total, "{name}: total");
        assert_eq!(params.num_params_where(|n| n.contains("residual.")), closed.laurel, "{name}: laurel");
        assert_eq!(params.num_params_where(|n| n.contains("embed_")), closed.embedding, "{name}: embedding");
        assert_eq!(params.weights_bytes(), 4 * closed.total, "{name}: bytes");
    }
}

/// Whether PA finds lag `j` at the residual connection that owns `name`; connections count in the order they write.
fn is_missing_lag(config: &DecoderConfig, name: &str) -> bool {
    let Some((path, pair)) = name.split_once(".previous.") else { return false };
    let Some(lag) = pair.rsplit('.').next().and_then(|lag| lag.parse::<usize>().ok()) else { return false };
    let layer: usize = path.split('.').nth(2).unwrap().parse().unwrap();
    let site = match config.residual.placement {
        Placement::Layer => layer,
        Placement::Attention => 2 * layer,
        Placement::Mlp => 2 * layer + 1,
        Placement::Both => 2 * layer + usize::from(path.contains("mlp_residual")),
    };
    lag > site
}

#[test]
fn gradients_reach_every_trainable_parameter() {
    for (name, config) in every_variant() {
        let (decoder, params) = build(&config, DType::F32);
        let loss = decoder.loss(&ids(&config, 2, 7), &ids(&config, 2, 7)).unwrap();
        let gradients = loss.backward().unwrap();
        let mut reached = 0;
        for (parameter, var) in params.vars() {
            if is_missing_lag(&config, &parameter) {
                continue; // a pair whose activation does not exist takes no part
            }
            let gradient = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}: no gradient for {parameter}"));
            assert_eq!(gradient.dims(), var.dims(), "{name}: {parameter}");
            let is_key_bias = parameter.ends_with("k_proj.bias"); // softmax does not see it: zero up to rounding
            assert!(is_key_bias || values(gradient).iter().any(|g| *g != 0.0), "{name}: zero gradient for {parameter}");
            reached += 1;
        }
        assert!(reached >= 9 * config.num_layers(), "{name}: only {reached} parameters");
    }
}

#[test]
fn loss_is_the_mean_cross_entropy_of_the_logits() {
    for config in [llama_form(), gpt_form()] {
        let (decoder, _) = build(&config, DType::F64);
        let (inputs, targets) = (ids(&config, 2, 5), ids(&config, 2, 5).affine(1.0, 0.0).unwrap());
        let logits = decoder.forward(&inputs).unwrap().reshape(((), config.vocab_size)).unwrap().to_vec2::<f64>().unwrap();
        let targets_flat = targets.flatten_all().unwrap().to_vec1::<u32>().unwrap();
        let nll = |(row, target): (&Vec<f64>, &u32)| row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[*target as usize];
        let expected = logits.iter().zip(&targets_flat).map(nll).sum::<f64>() / 10.0;
        let found = decoder.loss(&inputs, &targets).unwrap().to_scalar::<f64>().unwrap();
        // f64 sums of ten terms near 3.
        assert!((found - expected).abs() < 1e-12, "expected {expected}, found {found}");
    }
}

#[test]
fn checkpoints_come_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (i, (name, config)) in every_variant().into_iter().enumerate() {
        let (decoder, params) = build(&config, DType::F32);
        let path = folder.path().join(format!("{i}.safetensors"));
        params.save(&path).unwrap();
        let (loaded, loaded_params) = fresh(&config, 99);
        assert_ne!(loaded_params.digest().unwrap(), params.digest().unwrap(), "{name}");
        loaded_params.load(&path).unwrap();
        assert_eq!(loaded_params.digest().unwrap(), params.digest().unwrap(), "{name}");
        let inputs = ids(&config, 1, 6);
        assert_eq!(values(&loaded.forward(&inputs).unwrap()), values(&decoder.forward(&inputs).unwrap()), "{name}");
    }
}

#[test]
fn variants_start_as_plain_where_claimed_and_only_there() {
    for (name, config) in every_variant() {
        let residual = ResidualConfig { placement: config.residual.placement, ..ResidualConfig::default() };
        let (plain, _) = fresh(&config.clone().with_residual(residual), 4);
        let (variant, _) = fresh(&config, 4);
        let inputs = ids(&config, 2, 6);
        let apart = distance(&plain.forward(&inputs).unwrap(), &variant.forward(&inputs).unwrap());
        if config.residual.starts_as_plain() {
            assert_eq!(apart, 0.0, "{name}");
        } else {
            assert!(apart > 1e-3, "{name}: {apart}");
        }
    }
}

#[test]
fn the_same_seed_gives_plain_and_variant_the_same_common_weights() {
    for (name, config) in every_variant() {
        let (_, plain) = fresh(&config.clone().with_residual(ResidualConfig::default()), 4);
        let (_, variant) = fresh(&config, 4);
        let (_, reseeded) = fresh(&config, 5);
        for (parameter, var) in plain.vars() {
            let other = variant.get(&parameter).unwrap_or_else(|| panic!("{name}: {parameter}"));
            assert_eq!(values(&other), values(&var), "{name}: {parameter}");
        }
        let table = |params: &ParamStore| values(&params.get("model.embed_tokens.weight").unwrap());
        assert_ne!(table(&plain), table(&reseeded), "{name}: the seed has no effect");
    }
}

#[test]
fn naive_scaling_keeps_the_common_layers() {
    let (_, plain) = fresh(&gpt_form(), 4);
    let (_, deeper) = fresh(&DecoderConfig { extra_layers: 1, ..gpt_form() }, 4);
    for (parameter, var) in plain.vars() {
        assert_eq!(values(&deeper.get(&parameter).unwrap()), values(&var), "{parameter}");
    }
}

#[test]
fn initial_weights_have_the_documented_scale() {
    let config =
        DecoderConfig { hidden_size: 128, intermediate_size: 512, num_attention_heads: 4, head_dim: None, ..llama_form() };
    let (_, params) = fresh(&config, 0);
    let std = |name: &str| {
        let v = values(&params.get(name).unwrap());
        (v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64).sqrt()
    };
    // 128·512 values: a standard error of 0.28 %; 2·3 additions to the stream.
    assert!((std("model.layers.0.mlp.up_proj.weight") / 0.02 - 1.0).abs() < 0.02);
    assert!((std("model.layers.2.mlp.down_proj.weight") / (0.02 / 6f64.sqrt()) - 1.0).abs() < 0.02);
    assert!((std("model.layers.1.self_attn.o_proj.weight") / (0.02 / 6f64.sqrt()) - 1.0).abs() < 0.03);
    assert!(values(&params.get("model.norm.weight").unwrap()).iter().all(|&w| w == 1.0));
}

#[test]
fn a_frozen_network_agrees_and_records_no_graph() {
    let config = llama_form().with_residual(ResidualConfig::preset("rw+lr+pa", 3, 3).unwrap());
    let (decoder, params) = build(&config, DType::F32);
    let frozen = Decoder::new(&config, params.freeze()).unwrap();
    let inputs = ids(&config, 1, 6);
    let logits = frozen.forward(&inputs).unwrap();
    assert_eq!(values(&logits), values(&decoder.forward(&inputs).unwrap()));
    assert!(!logits.track_op(), "evaluation must not record a graph");
    assert!(frozen.init_weights(0).unwrap_err().to_string().contains("frozen"));
}

#[test]
fn sequences_longer_than_the_positions_are_refused() {
    for config in [llama_form(), gpt_form()] {
        let (decoder, _) = build(&config, DType::F32);
        let error = decoder.forward(&ids(&config, 1, 25)).unwrap_err().to_string();
        assert!(error.contains("24") && error.contains("25"), "{error}");
    }
}

#[test]
fn published_families_count_and_learn_like_ours() {
    let folders = fixtures();
    assert!(folders.len() >= 9);
    for folder in folders {
        let config = load_config(&folder).unwrap();
        let name = folder.display();
        let (decoder, params) = build(&config, DType::F32);
        let closed = decoder.num_params();
        assert_eq!(params.num_params(), closed.total, "{name}: total");
        assert_eq!(params.num_params_where(|n| n.contains("embed_tokens")), closed.embedding, "{name}: embedding");
        assert_eq!(params.num_params_where(|n| n.contains(".laurel.")), closed.laurel, "{name}: laurel");
        let loss = decoder.loss(&ids(&config, 2, 12), &ids(&config, 2, 12)).unwrap();
        let gradients = loss.backward().unwrap();
        for (parameter, var) in params.vars() {
            let gradient = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("{name}: no gradient for {parameter}"));
            let is_key_bias = parameter.ends_with("k_proj.bias"); // softmax does not see it: zero up to rounding
            assert!(is_key_bias || values(gradient).iter().any(|g| *g != 0.0), "{name}: zero gradient for {parameter}");
        }
    }
}
