//! `config.json` of published checkpoints to a [`DecoderConfig`].
//!
//! Two layouts are in circulation: transformers 4 writes `rope_theta`, `rope_scaling` and `torch_dtype`, transformers 5
//! writes `rope_parameters` (with `rope_theta` and `rope_type` inside) and `dtype`. Both are read. The stored type is
//! taken from the tensors themselves, so `dtype` is not needed.

use std::path::Path;

use laurel::ResidualConfig;
use serde_json::Value;

use super::gemma;
use super::keys::{Keys, read_object};

use crate::decoder::{DecoderConfig, Extras, Local, MlpKind, NormKind, Positions, RotaryScaling};
use crate::error::{ModelError, Result};

/// Values of `model_type` that load.
pub const SUPPORTED_MODEL_TYPES: [&str; 11] =
    ["gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"];

/// What the published files say.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) config: DecoderConfig,
    /// That of the text network where a file holds more.
    pub(super) model_type: String,
    /// Whether the files hold networks for other inputs beside the text network.
    pub(super) is_multimodal: bool,
    pub(super) bos_token_id: Option<u32>,
    pub(super) eos_token_ids: Vec<u32>,
}

pub(super) fn read(folder: &Path) -> Result<Published> {
    let path = folder.join("config.json");
    let whole = Keys { values: read_object(&path)?, path };
    let whole_type = whole.text("model_type")?.ok_or_else(|| whole.problem("model_type", "a string", "nothing"))?.to_owned();
    let is_multimodal = matches!(whole_type.as_str(), "gemma3" | "gemma3n");
    let (keys, model_type) = if is_multimodal {
        let text = whole.table("text_config")?.ok_or_else(|| whole.problem("text_config", "a table", "nothing"))?;
        (text, format!("{whole_type}_text"))
    } else {
        (whole.clone(), whole_type)
    };
    let config = match model_type.as_str() {
        "llama" | "mistral" | "qwen2" | "qwen3" => llama_form(&keys, &model_type)?,
        "gpt2" => gpt2(&keys)?,
        "gpt_neox" => gpt_neox(&keys)?,
        "gemma2" => gemma::gemma2(&keys)?,
        "gemma3_text" => gemma::gemma3(&keys)?,
        "gemma3n_text" => gemma::gemma3n(&keys)?,
        _ => {
            return Err(ModelError::UnsupportedModel {
                path: keys.path,
                found: model_type,
                supported: SUPPORTED_MODEL_TYPES.to_vec(),
            });
        }
    };
    config.validate().map_err(|error| ModelError::corrupt(&keys.path, error.to_string()))?;
    let either = |key: &str| [&keys, &whole].into_iter().find_map(|keys| keys.values.get(key).filter(|value| !value.is_null()));
    let bos_token_id = token_ids(either("bos_token_id")).first().copied();
    let mut eos_token_ids = Vec::new();
    let generation = folder.join("generation_config.json");
    if generation.is_file() {
        eos_token_ids = token_ids(read_object(&generation)?.get("eos_token_id"));
    }
    for id in token_ids(either("eos_token_id")) {
        if !eos_token_ids.contains(&id) {
            eos_token_ids.push(id);
        }
    }
    Ok(Published { config, model_type, is_multimodal, bos_token_id, eos_token_ids })
}

fn llama_form(keys: &Keys, model_type: &str) -> Result<DecoderConfig> {
    if let Some(found) = keys.text("hidden_act")?.filter(|act| *act != "silu") {
        return Err(keys.problem("hidden_act", "`silu`", &format!("`{found}`")));
    }
    let num_hidden_layers = keys.required("num_hidden_layers")?;
    let local = match model_type {
        // Every layer sees the window.
        "mistral" => local_layers(keys, keys.number("sliding_window")?, |_| Ok(true), num_hidden_layers)?,
        "qwen2" | "qwen3" if keys.flag("use_sliding_window")? == Some(true) => {
            let first = keys.number("max_window_layers")?.unwrap_or(0);
            local_layers(keys, keys.number("sliding_window")?, |layer| Ok(layer >= first), num_hidden_layers)?
        }
        _ => None,
    };
    let num_attention_heads = keys.required("num_attention_heads")?;
    let is_qwen2 = model_type == "qwen2";
    let positions = rotary(keys, 10_000.0)?;
    let attention_bias = if is_qwen2 { true } else { keys.flag("attention_bias")?.unwrap_or(false) };
    Ok(DecoderConfig {
        hidden_size: keys.required("hidden_size")?,
        intermediate_size: keys.required("intermediate_size")?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: keys.number("num_key_value_heads")?.unwrap_or(num_attention_heads),
        head_dim: keys.number("head_dim")?,
        vocab_size: keys.required("vocab_size")?,
        max_position_embeddings: keys.required("max_position_embeddings")?,
        norm: NormKind::Rms,
        norm_eps: keys.float("rms_norm_eps")?.unwrap_or(1e-6),
        positions,
        mlp: MlpKind::Swiglu,
        tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        head_bias: false,
        attention_bias,
        attention_output_bias: attention_bias && !is_qwen2,
        mlp_bias: keys.flag("mlp_bias")?.unwrap_or(false),
        extra_layers: 0,
        mlp_extra: 0,
        residual: ResidualConfig::default(),
        attention_carry: Vec::new(),
        extras: Extras { qk_norm: model_type == "qwen3", local, ..Extras::default() },
    })
}

/// Local layers by `layer_types`, or by the family's rule where the config does not list them; none without a window.
pub(super) fn local_layers(
    keys: &Keys,
    window: Option<usize>,
    rule: impl Fn(usize) -> Result<bool>,
    num_layers: usize,
) -> Result<Option<Local>> {
    let Some(window) = window else { return Ok(None) };
    let listed = match keys.values.get("layer_types") {
        None | Some(Value::Null) => None,
        Some(Value::Array(types)) => Some(types),
        Some(other) => return Err(keys.problem("layer_types", "a list or null", &other.to_string())),
    };
    let layers = match listed {
        None => (0..num_layers).map(rule).collect::<Result<Vec<_>>>()?,
        Some(types) => {
            let one = |value: &Value| match value.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => Err(keys.problem("layer_types", "`sliding_attention` or `full_attention`", &value.to_string())),
            };
            types.iter().map(one).collect::<Result<Vec<_>>>()?
        }
    };
    Ok(layers.contains(&true).then_some(Local { window, layers, theta: None }))
}

fn gpt_neox(keys: &Keys) -> Result<DecoderConfig> {
    let mlp = match keys.text("hidden_act")?.unwrap_or("gelu") {
        "gelu" => MlpKind::GeluErf,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => MlpKind::GeluTanh,
        other => {
            return Err(keys.problem(
                "hidden_act",
                "`gelu`, `gelu_new`, `gelu_fast` or `gelu_pytorch_tanh`",
                &format!("`{other}`"),
            ));
        }
    };
    let hidden_size = keys.required("hidden_size")?;
    let num_attention_heads = keys.required("num_attention_heads")?;
    let attention_bias = keys.flag("attention_bias")?.unwrap_or(true);
    let parameters = keys.table("rope_parameters")?;
    let share = match &parameters {
        Some(parameters) => parameters.float("partial_rotary_factor")?,
        None => None,
    };
    let share = share.or(keys.float("rotary_pct")?).unwrap_or(0.25);
    let head_dim = hidden_size / num_attention_heads.max(1);
    // The reference truncates the product.
    let rotary_dim = (head_dim as f64 * share) as usize;
    let is_parallel = keys.flag("use_parallel_residual")?.unwrap_or(true);
    Ok(DecoderConfig {
        hidden_size,
        intermediate_size: keys.required("intermediate_size")?,
        num_hidden_layers: keys.required("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_dim: None,
        vocab_size: keys.required("vocab_size")?,
        max_position_embeddings: keys.required("max_position_embeddings")?,
        norm: NormKind::Layer,
        norm_eps: keys.float("layer_norm_eps")?.unwrap_or(1e-5),
        positions: rotary(keys, keys.float("rotary_emb_base")?.unwrap_or(10_000.0))?,
        mlp,
        tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        head_bias: false,
        attention_bias,
        attention_output_bias: attention_bias,
        mlp_bias: true,
        extra_layers: 0,
        mlp_extra: 0,
        residual: ResidualConfig::default(),
        attention_carry: Vec::new(),
        extras: Extras { parallel_residual: is_parallel, rotary_dim: Some(rotary_dim), ..Extras::default() },
    })
}

fn gpt2(keys: &Keys) -> Result<DecoderConfig> {
    for (key, expected) in
        [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false), ("add_cross_attention", false)]
    {
        if let Some(found) = keys.flag(key)?.filter(|found| *found != expected) {
            return Err(keys.problem(key, &expected.to_string(), &found.to_string()));
        }
    }
    let mlp = match keys.text("activation_function")?.unwrap_or("gelu_new") {
        "gelu_new" | "gelu_pytorch_tanh" => MlpKind::GeluTanh,
        "gelu" => MlpKind::GeluErf,
        other => {
            return Err(keys.problem("activation_function", "`gelu_new`, `gelu_pytorch_tanh` or `gelu`", &format!("`{other}`")));
        }
    };
    let hidden_size = keys.required("n_embd")?;
    let num_attention_heads = keys.required("n_head")?;
    Ok(DecoderConfig {
        hidden_size,
        intermediate_size: keys.number("n_inner")?.unwrap_or(4 * hidden_size),
        num_hidden_layers: keys.required("n_layer")?,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_dim: None,
        vocab_size: keys.required("vocab_size")?,
        max_position_embeddings: keys.required("n_positions")?,
        norm: NormKind::Layer,
        norm_eps: keys.float("layer_norm_epsilon")?.unwrap_or(1e-5),
        positions: Positions::Learned {},
        mlp,
        tie_word_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(true),
        head_bias: false,
        attention_bias: true,
        attention_output_bias: true,
        mlp_bias: true,
        extra_layers: 0,
        mlp_extra: 0,
        residual: ResidualConfig::default(),
        attention_carry: Vec::new(),
        extras: Extras::default(),
    })
}

/// Rotary base and scaling from either layout; `theta` where the config names no base.
pub(super) fn rotary(keys: &Keys, theta: f64) -> Result<Positions> {
    let parameters = match keys.table("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => keys.table("rope_scaling")?,
    };
    rotary_of(keys, parameters.as_ref(), theta)
}

/// The same from the table of one kind of layers.
pub(super) fn rotary_of(keys: &Keys, parameters: Option<&Keys>, theta: f64) -> Result<Positions> {
    let own = match parameters {
        Some(parameters) => parameters.float("rope_theta")?,
        None => None,
    };
    let theta = own.or(keys.float("rope_theta")?).unwrap_or(theta);
    let scaling = parameters.map(|parameters| scaling(keys, parameters)).transpose()?.flatten();
    Ok(Positions::Rotary { theta, scaling })
}

fn scaling(keys: &Keys, parameters: &Keys) -> Result<Option<RotaryScaling>> {
    // transformers 4.x before 4.43 wrote `type`
    let kind = match parameters.text("rope_type")? {
        Some(kind) => kind,
        None => parameters.text("type")?.unwrap_or("default"),
    };
    let float = |key: &str| parameters.float(key)?.ok_or_else(|| parameters.problem(key, "a number", "nothing"));
    match kind {
        "default" => Ok(None),
        "linear" => Ok(Some(RotaryScaling::Linear { factor: float("factor")? })),
        "llama3" => Ok(Some(RotaryScaling::Llama3 {
            factor: float("factor")?,
            low_freq_factor: float("low_freq_factor")?,
            high_freq_factor: float("high_freq_factor")?,
            original_max_position_embeddings: parameters.required("original_max_position_embeddings")?,
        })),
        "yarn" => yarn(keys, parameters).map(Some),
        other => Err(parameters.problem("rope_type", "`default`, `linear`, `llama3` or `yarn`", &format!("`{other}`"))),
    }
}

fn yarn(keys: &Keys, parameters: &Keys) -> Result<RotaryScaling> {
    for key in ["mscale", "mscale_all_dim"] {
        if let Some(found) = parameters.float(key)? {
            return Err(parameters.problem(key, "nothing", &found.to_string()));
        }
    }
    if parameters.flag("truncate")? == Some(false) {
        return Err(parameters.problem("truncate", "true", "false"));
    }
    let original = match parameters.number("original_max_position_embeddings")? {
        Some(original) => original,
        None => keys.required("max_position_embeddings")?,
    };
    let factor = parameters.float("factor")?.ok_or_else(|| parameters.problem("factor", "a number", "nothing"))?;
    let attention_factor = parameters.float("attention_factor")?.unwrap_or_else(|| 0.1 * factor.max(1.0).ln() + 1.0);
    Ok(RotaryScaling::Yarn {
        factor,
        original_max_position_embeddings: original,
        beta_fast: parameters.float("beta_fast")?.unwrap_or(32.0),
        beta_slow: parameters.float("beta_slow")?.unwrap_or(1.0),
        attention_factor,
    })
}

/// One id, a list of them, or nothing.
fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}
