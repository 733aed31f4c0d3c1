//! `config.json` of Gemma 2, Gemma 3 (text) and Gemma 3n (text).
//!
//! Files of Gemma leave out what equals the library's defaults; those are the constants here. Per kind of layer,
//! transformers 5 writes `rope_parameters.{full,sliding}_attention`, transformers 4 `rope_theta`, `rope_scaling` (of full layers)
//! and `rope_local_base_freq`.

use laurel::ResidualConfig;
use serde_json::Value;

use super::config::{local_layers, rotary, rotary_of};
use super::keys::Keys;
use crate::decoder::{DecoderConfig, Extras, MlpKind, NormKind, Positions};
use crate::error::Result;
use crate::gemma3n::Gemma3nConfig;

pub(super) fn gemma2(keys: &Keys) -> Result<DecoderConfig> {
    let mut config = common(keys)?;
    config.positions = rotary(keys, 10_000.0)?;
    // Layers 0, 2, 4, … are local.
    config.extras.local = local_layers(keys, window(keys, 4096)?, |layer| Ok(layer % 2 == 0), config.num_hidden_layers)?;
    Ok(config)
}

pub(super) fn gemma3(keys: &Keys) -> Result<DecoderConfig> {
    if keys.flag("use_bidirectional_attention")? == Some(true) {
        return Err(keys.problem("use_bidirectional_attention", "false", "true"));
    }
    let pattern = keys.number("sliding_window_pattern")?.unwrap_or(6).max(1);
    with_local_positions(keys, pattern, 4096)
}

/// The window of local layers: the library's own where the file leaves the key out; none where it says `null`.
fn window(keys: &Keys, default: usize) -> Result<Option<usize>> {
    if keys.values.contains_key("sliding_window") { keys.number("sliding_window") } else { Ok(Some(default)) }
}

/// Full layers and local ones with a base of their own; every `pattern`-th layer is full.
fn with_local_positions(keys: &Keys, pattern: usize, default_window: usize) -> Result<DecoderConfig> {
    let mut config = common(keys)?;
    config.extras.qk_norm = true;
    config.extras.local =
        local_layers(keys, window(keys, default_window)?, |layer| Ok((layer + 1) % pattern != 0), config.num_hidden_layers)?;
    let by_kind = keys.table("rope_parameters")?;
    let of_kind = |kind: &str| by_kind.as_ref().map_or(Ok(None), |by_kind| by_kind.table(kind));
    let (full, sliding) = (of_kind("full_attention")?, of_kind("sliding_attention")?);
    config.positions = if let Some(full) = &full {
        rotary_of(keys, Some(full), 1_000_000.0)?
    } else {
        rotary_of(keys, keys.table("rope_scaling")?.as_ref(), 1_000_000.0)?
    };
    let base = match &sliding {
        Some(sliding) => {
            if let Some(kind) = sliding.text("rope_type")?.filter(|kind| *kind != "default") {
                return Err(keys.problem("rope_parameters.sliding_attention.rope_type", "`default`", &format!("`{kind}`")));
            }
            sliding.float("rope_theta")?
        }
        None => keys.float("rope_local_base_freq")?,
    };
    if let Some(local) = &mut config.extras.local {
        local.theta = Some(base.unwrap_or(10_000.0));
    }
    Ok(config)
}

pub(super) fn gemma3n(keys: &Keys) -> Result<DecoderConfig> {
    let mut config = with_local_positions(keys, 5, 512)?;
    let layers = config.num_hidden_layers;
    // Queries and keys are normed, and their scores not scaled.
    config.extras.query_scale = Some(1.0);
    let sparsity = match keys.values.get("activation_sparsity_pattern") {
        None | Some(Value::Null) => vec![0.0; layers],
        Some(Value::Array(shares)) => {
            let one = |share: &Value| {
                share.as_f64().ok_or_else(|| keys.problem("activation_sparsity_pattern", "numbers", &share.to_string()))
            };
            shares.iter().map(one).collect::<Result<_>>()?
        }
        Some(share) => vec![share.as_f64().unwrap_or(f64::NAN); layers],
    };
    config.extras.gemma3n = Some(Gemma3nConfig {
        per_layer_size: keys.required("hidden_size_per_layer_input")?,
        per_layer_vocab: keys.required("vocab_size_per_layer_input")?,
        altup_inputs: keys.required("altup_num_inputs")?,
        altup_active: keys.number("altup_active_idx")?.unwrap_or(0),
        altup_correct_scale: keys.flag("altup_correct_scale")?.unwrap_or(true),
        laurel_rank: keys.required("laurel_rank")?,
        kv_shared_layers: keys.number("num_kv_shared_layers")?.unwrap_or(0),
        sparsity,
    });
    Ok(config)
}

/// What the three have in common.
fn common(keys: &Keys) -> Result<DecoderConfig> {
    for key in ["hidden_activation", "hidden_act"] {
        if let Some(found) = keys.text(key)?.filter(|act| !["gelu_pytorch_tanh", "gelu_new", "gelu"].contains(act)) {
            return Err(keys.problem(key, "`gelu_pytorch_tanh`", &format!("`{found}`")));
        }
    }
    if keys.text("hidden_activation")? == Some("gelu") {
        return Err(keys.problem("hidden_activation", "`gelu_pytorch_tanh`", "`gelu`"));
    }
    let hidden_size = keys.required("hidden_size")?;
    let head_dim = keys.number("head_dim")?.unwrap_or(256);
    let attention_bias = keys.flag("attention_bias")?.unwrap_or(false);
    Ok(DecoderConfig {
        hidden_size,
        intermediate_size: equal_widths(keys)?,
        num_hidden_layers: keys.required("num_hidden_layers")?,
        num_attention_heads: keys.number("num_attention_heads")?.unwrap_or(8),
        num_key_value_heads: keys.number("num_key_value_heads")?.unwrap_or(4),
        head_dim: Some(head_dim),
        vocab_size: keys.number("vocab_size")?.unwrap_or(262_208),
        max_position_embeddings: keys.number("max_position_embeddings")?.unwrap_or(131_072),
        norm: NormKind::Rms,
        norm_eps: keys.float("rms_norm_eps")?.unwrap_or(1e-6),
        positions: Positions::Rotary { theta: 10_000.0, scaling: None },
        mlp: MlpKind::GegluTanh,
        tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(true),
        head_bias: false,
        attention_bias,
        attention_output_bias: attention_bias,
        mlp_bias: false,
        extra_layers: 0,
        mlp_extra: 0,
        residual: ResidualConfig::default(),
        attention_carry: Vec::new(),
        extras: Extras {
            post_norms: true,
            // Rounded to f32 as in the reference.
            embedding_scale: Some(f64::from((hidden_size as f64).sqrt() as f32)),
            query_scale: Some(keys.float("query_pre_attn_scalar")?.unwrap_or(256.0).powf(-0.5)),
            attention_softcap: keys.float("attn_logit_softcapping")?,
            logit_softcap: keys.float("final_logit_softcapping")?,
            ..Extras::default()
        },
    })
}

/// `intermediate_size`, a number or a list with one per layer.
fn equal_widths(keys: &Keys) -> Result<usize> {
    let Some(Value::Array(widths)) = keys.values.get("intermediate_size") else { return keys.required("intermediate_size") };
    let first = widths.first().and_then(Value::as_u64).and_then(|width| usize::try_from(width).ok());
    match first {
        Some(width) if widths.iter().all(|other| other == &widths[0]) => Ok(width),
        _ => Err(keys.problem("intermediate_size", "the same width in every layer", &Value::from(widths.clone()).to_string())),
    }
}
