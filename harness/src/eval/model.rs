//! `--model`: a folder of ours or of Hugging Face, loaded with its tokenizer and named by digests.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use candle_core::{DType, Device};
use models::{Decoder, DecoderConfig, ParamStore};
use serde_json::Value;
use tokenizers::Tokenizer;

use super::encode::{Codec, SpecialTokens};
use crate::error::Hint as _;

/// A model ready to be asked.
#[derive(Debug)]
pub struct LoadedModel {
    /// Name in results: the subject's, the folder's, or the hub id with `/` as `__`.
    pub name: String,
    /// The network on detached tensors.
    pub decoder: Decoder,
    /// Its tokenizer.
    pub codec: Codec,
    /// Positions it takes.
    pub max_length: usize,
    /// Trainable values, tied ones once.
    pub params_total: usize,
    /// Digest of the weights as loaded.
    pub weights_digest: String,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_sha256: String,
    /// The folder of a published model, where its chat template is.
    pub folder: Option<PathBuf>,
}

impl LoadedModel {
    /// Puts a network and a tokenizer file together.
    ///
    /// # Errors
    /// When the tokenizer cannot be read or has more ids than the model's vocabulary.
    pub fn new(
        name: String,
        config: &DecoderConfig,
        params: ParamStore,
        tokenizer: &Path,
        special: SpecialTokens,
    ) -> anyhow::Result<Self> {
        let (params_total, weights_digest) = (params.num_params(), params.digest()?);
        let frozen = params.freeze();
        drop(params); // packing then frees one matrix after the other
        let decoder = Decoder::new(config, frozen).and_then(Decoder::packed);
        let decoder = decoder.with_context(|| format!("cannot build model `{name}`"))?;
        let (tokenizer, tokenizer_sha256) = read_tokenizer(tokenizer)?;
        let needed = tokenizer.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        if needed > config.vocab_size {
            bail!(
                "model `{name}`: vocabulary: expected at least {needed} entries (the tokenizer's), found {}",
                config.vocab_size
            );
        }
        Ok(Self {
            name,
            decoder,
            codec: Codec::new(tokenizer, special),
            max_length: config.max_position_embeddings,
            params_total,
            weights_digest,
            tokenizer_sha256,
            folder: None,
        })
    }

    /// Loads a Hugging Face folder: `config.json`, `*.safetensors`, `tokenizer.json`.
    ///
    /// # Errors
    /// When a file is missing or corrupt, or the architecture is not supported.
    pub fn from_pretrained(folder: &Path, dtype: DType, device: &Device) -> anyhow::Result<Self> {
        Self::from_pretrained_with(folder, dtype, device, SpecialTokens::default())
    }

    /// The same with special tokens that win over the folder's.
    ///
    /// # Errors
    /// As [`LoadedModel::from_pretrained`].
    pub fn from_pretrained_with(folder: &Path, dtype: DType, device: &Device, asked: SpecialTokens) -> anyhow::Result<Self> {
        let name = folder_name(folder)?;
        let pretrained = models::load_pretrained(folder, dtype, device)
            .with_context(|| format!("cannot load model `{}`", folder.display()))?;
        let tokenizer = folder.join("tokenizer.json");
        let mut special = special_tokens(folder, &tokenizer)?;
        special.bos = special.bos.or(pretrained.bos_token_id);
        for id in pretrained.eos_token_ids {
            if !special.eos.contains(&id) {
                special.eos.push(id);
            }
        }
        special.bos = asked.bos.or(special.bos);
        special.eos = if asked.eos.is_empty() { special.eos } else { asked.eos };
        let special = SpecialTokens { add_bos: asked.add_bos, prefix: asked.prefix, ..special };
        let model = Self::new(name, &pretrained.config, pretrained.params, &tokenizer, special)?;
        Ok(Self { folder: Some(folder.to_owned()), ..model })
    }
}

/// The last part of a folder's path, as a name for results.
///
/// # Errors
/// When the folder does not exist.
pub fn folder_name(folder: &Path) -> anyhow::Result<String> {
    let folder: PathBuf = folder.canonicalize().with_context(|| format!("cannot open model folder `{}`", folder.display()))?;
    Ok(folder.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned()))
}

/// Reads a `tokenizer.json` and its digest.
///
/// # Errors
/// When the file is missing or no tokenizer.
pub fn read_tokenizer(path: &Path) -> anyhow::Result<(Tokenizer, String)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read tokenizer `{}`", path.display())).hint(
        "a model folder needs a `tokenizer.json`; convert other tokenizer files with the `tokenizers` or `transformers` package",
    )?;
    let digest = records::ids::sha256_hex(&bytes);
    match Tokenizer::from_bytes(&bytes) {
        Ok(tokenizer) => Ok((tokenizer, digest)),
        Err(error) => bail!("`{}` is not a tokenizer: {error}", path.display()),
    }
}

/// BOS and EOS as `tokenizer_config.json` names them; empty where the file or the key is absent.
fn special_tokens(folder: &Path, tokenizer: &Path) -> anyhow::Result<SpecialTokens> {
    let config = tokenizer_config(folder)?;
    if config.is_null() {
        return Ok(SpecialTokens::default());
    }
    let (tokenizer, _) = read_tokenizer(tokenizer)?;
    let id = |key: &str| token_text(&config, key).and_then(|text| tokenizer.token_to_id(text));
    Ok(SpecialTokens { bos: id("bos_token"), eos: id("eos_token").into_iter().collect(), ..SpecialTokens::default() })
}

/// File that names special tokens and, in older folders, the chat template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// `tokenizer_config.json` of a folder; null where there is none.
///
/// # Errors
/// When it cannot be read or is not JSON.
pub fn tokenizer_config(folder: &Path) -> anyhow::Result<Value> {
    let path = folder.join(TOKENIZER_CONFIG);
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` is not JSON", path.display()))
}

/// Text of a token of the config: written as it is, or under `content` of an object.
pub fn token_text<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    config[key].as_str().or_else(|| config[key]["content"].as_str())
}
