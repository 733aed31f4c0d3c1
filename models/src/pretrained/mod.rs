//! Published checkpoint folders in the Hugging Face layout.
//!
//! ```text
//! config.json                        of transformers 4 (rope_theta, torch_dtype) or 5 (rope_parameters, dtype)
//! model.safetensors                  or model.safetensors.index.json and its shards
//! generation_config.json             optional: end-of-sequence ids
//! ```
//! | `model_type` | form |
//! |---|---|
//! | `llama` | Llama form |
//! | `mistral` | Llama form; every layer sees a window where the config names one |
//! | `qwen2` | Llama form with query, key and value biases |
//! | `qwen3` | Llama form with norms of query and key heads |
//! | `gpt_neox` | GPT-NeoX, Pythia: parallel residual, rotation of part of a head, fused query, key and value rows |
//! | `gemma2`, `gemma3_text`, `gemma3n_text` | see [`crate::decoder::Extras`] and [`crate::gemma3n`] |
//! | `gemma3`, `gemma3n` | the text network of a multimodal checkpoint; the rest is left unread |
//! | `gpt2` | GPT form; its fused, transposed matrices are split and turned |
//!
//! Weights of any stored float type are widened to the asked one. A config that would compute something else than the
//! published model is refused, naming the key.

mod config;
mod gemma;
mod keys;
mod names;
mod weights;

use std::path::Path;

use candle_core::{DType, Device};

pub use self::config::SUPPORTED_MODEL_TYPES;
use crate::decoder::{Decoder, DecoderConfig};
use crate::error::Result;
use crate::params::ParamStore;

/// A published network, loaded.
#[derive(Debug, Clone)]
pub struct Pretrained {
    /// Our config of it.
    pub config: DecoderConfig,
    /// Its `model_type`.
    pub model_type: String,
    /// Its parameters under our names.
    pub params: ParamStore,
    /// Beginning-of-sequence id, if the config names one.
    pub bos_token_id: Option<u32>,
    /// End-of-sequence ids, those of `generation_config.json` first; empty if neither file names any.
    pub eos_token_ids: Vec<u32>,
}

impl Pretrained {
    /// The network on detached tensors, for evaluation.
    pub fn decoder(&self) -> Result<Decoder> {
        Ok(Decoder::new(&self.config, self.params.freeze())?)
    }
}

/// Reads the config of a checkpoint folder.
///
/// # Errors
/// When there is none, its `model_type` is unsupported, or a key asks for something this crate does not compute.
pub fn load_config(folder: &Path) -> Result<DecoderConfig> {
    Ok(config::read(folder)?.config)
}

/// Loads a checkpoint folder; `dtype` is the type of the parameters in memory, normally f32.
///
/// # Errors
/// As [`load_config`]; also when files are missing, truncated or corrupt, or tensors do not fit the config (all are
/// listed in one error).
pub fn load_pretrained(folder: &Path, dtype: DType, device: &Device) -> Result<Pretrained> {
    let published = config::read(folder)?;
    let params = ParamStore::new(dtype, device);
    let _names = Decoder::new(&published.config, params.var_builder())?;
    weights::load(folder, &published, &params)?;
    Ok(Pretrained {
        config: published.config,
        model_type: published.model_type,
        params,
        bos_token_id: published.bos_token_id,
        eos_token_ids: published.eos_token_ids,
    })
}
