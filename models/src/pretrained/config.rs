//! `config.json` of published checkpoints to a [`DecoderConfig`].
//!
//! Two layouts are in circulation: transformers 4 writes `rope_theta`, `rope_scaling` and `torch_dtype`, transformers 5
//! writes `rope_parameters` (with `rope_theta` and `rope_type` inside) and `dtype`. Both are read. The stored type is
//! taken from the tensors themselves, so `dtype` is not needed.

use std::fs;
use std::path::{Path, PathBuf};

use laurel::ResidualConfig;
use serde_json::{Map, Value};

use crate::decoder::{DecoderConfig, MlpKind, NormKind, Positions, RotaryScaling};
use crate::error::{ModelError, Result};

/// Values of `model_type` that load.
pub const SUPPORTED_MODEL_TYPES: [&str; 4] = ["gpt2", "llama", "mistral", "qwen2"];

/// What the published files say.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) config: DecoderConfig,
    pub(super) model_type: String,
    pub(super) bos_token_id: Option<u32>,
    pub(super) eos_token_ids: Vec<u32>,
}

pub(super) fn read(folder: &Path) -> Result<Published> {
    let path = folder.join("config.json");
    let keys = Keys { values: read_object(&path)?, path };
    let model_type = keys.text("model_type")?.ok_or_else(|| keys.problem("model_type", "a string", "nothing"))?.to_owned();
    let config = match model_type.as_str() {
        "llama" | "mistral" | "qwen2" => llama_form(&keys, &model_type)?,
        "gpt2" => gpt2(&keys)?,
        _ => {
            return Err(ModelError::UnsupportedModel {
                path: keys.path,
                found: model_type,
                supported: SUPPORTED_MODEL_TYPES.to_vec(),
            });
        }
    };
    config.validate().map_err(|error| ModelError::corrupt(&keys.path, error.to_string()))?;
    let bos_token_id = token_ids(keys.values.get("bos_token_id")).first().copied();
    let mut eos_token_ids = Vec::new();
    let generation = folder.join("generation_config.json");
    if generation.is_file() {
        eos_token_ids = token_ids(read_object(&generation)?.get("eos_token_id"));
    }
    for id in token_ids(keys.values.get("eos_token_id")) {
        if !eos_token_ids.contains(&id) {
            eos_token_ids.push(id);
        }
    }
    Ok(Published { config, model_type, bos_token_id, eos_token_ids })
}

fn llama_form(keys: &Keys, model_type: &str) -> Result<DecoderConfig> {
    if let Some(found) = keys.text("hidden_act")?.filter(|act| *act != "silu") {
        return Err(keys.problem("hidden_act", "`silu`", &format!("`{found}`")));
    }
    let mut max_position_embeddings = keys.required("max_position_embeddings")?;
    // Differs: no sliding window here. Up to the window's length the published model attends to everything, as we do,
    // so a shorter context gives the published numbers, and longer inputs are refused instead of computed differently.
    let has_window = model_type == "mistral" || keys.flag("use_sliding_window")? == Some(true);
    if let Some(window) = keys.number("sliding_window")?.filter(|_| has_window) {
        max_position_embeddings = max_position_embeddings.min(window);
    }
    let num_attention_heads = keys.required("num_attention_heads")?;
    let is_qwen2 = model_type == "qwen2";
    let attention_bias = if is_qwen2 { true } else { keys.flag("attention_bias")?.unwrap_or(false) };
    Ok(DecoderConfig {
        hidden_size: keys.required("hidden_size")?,
        intermediate_size: keys.required("intermediate_size")?,
        num_hidden_layers: keys.required("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: keys.number("num_key_value_heads")?.unwrap_or(num_attention_heads),
        head_dim: keys.number("head_dim")?,
        vocab_size: keys.required("vocab_size")?,
        max_position_embeddings,
        norm: NormKind::Rms,
        norm_eps: keys.float("rms_norm_eps")?.unwrap_or(1e-6),
        positions: rotary(keys)?,
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
    })
}

/// Rotary base and scaling from either layout.
fn rotary(keys: &Keys) -> Result<Positions> {
    let inner = |key: &str| match keys.values.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(values)) => Ok(Some(Keys { values: values.clone(), path: keys.path.clone() })),
        Some(other) => Err(keys.problem(key, "a table or null", &other.to_string())),
    };
    let parameters = match inner("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => inner("rope_scaling")?,
    };
    let theta = match &parameters {
        Some(parameters) => parameters.float("rope_theta")?,
        None => None,
    };
    let theta = match theta {
        Some(theta) => theta,
        None => keys.float("rope_theta")?.unwrap_or(10_000.0),
    };
    let scaling = parameters.as_ref().map(scaling).transpose()?.flatten();
    Ok(Positions::Rotary { theta, scaling })
}

fn scaling(parameters: &Keys) -> Result<Option<RotaryScaling>> {
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
        other => Err(parameters.problem("rope_type", "`default`, `linear` or `llama3`", &format!("`{other}`"))),
    }
}

/// A JSON object that remembers its file. A key with `null` counts as absent.
struct Keys {
    values: Map<String, Value>,
    path: PathBuf,
}

impl Keys {
    fn problem(&self, key: &str, expected: &str, found: &str) -> ModelError {
        ModelError::corrupt(&self.path, format!("{key}: expected {expected}, found {found}"))
    }

    fn get<T>(&self, key: &str, expected: &str, convert: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert(value).map(Some).ok_or_else(|| self.problem(key, expected, &value.to_string())),
        }
    }

    fn number(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number", |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.number(key)?.ok_or_else(|| self.problem(key, "a whole number", "nothing"))
    }

    fn float(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", Value::as_bool)
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.problem(key, "a string", &value.to_string())),
        }
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = fs::read_to_string(path).map_err(ModelError::io("read", path))?;
    serde_json::from_str(&text).map_err(|error| ModelError::corrupt(path, format!("not a JSON object: {error}")))
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
