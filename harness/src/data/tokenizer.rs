//! Any `tokenizer.json`, with the checks that catch a tokenizer of another model.

use super::source;
use crate::error::Hint as _;
use anyhow::{Context as _, anyhow};
use std::path::{Path, PathBuf};

/// A tokenizer and the hash of the file it came from.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    sha256: String,
    largest_id: u32,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Truncation and padding that the file may ask for are switched off: the caller decides on lengths.
    ///
    /// # Errors
    /// When the file is missing or not a tokenizer.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let sha256 = source::sha256(path).context("cannot load the tokenizer")?;
        let mut inner = tokenizers::Tokenizer::from_file(path)
            .map_err(|error| anyhow!("cannot load the tokenizer `{}`: {error}", path.display()))
            .hint("expected the `tokenizer.json` of the tokenizers library, not `tokenizer.model` or `tokenizer_config.json`")?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| anyhow!("cannot load the tokenizer `{}`: {error}", path.display()))?;
        let largest_id = inner.get_vocab(true).into_values().max().unwrap_or(0);
        Ok(Self { inner, path: path.to_owned(), sha256, largest_id })
    }

    /// Ids of a text, without any token the tokenizer would add around it.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| anyhow!("cannot tokenise with `{}`: {error}", self.path.display()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of ids, special tokens included.
    ///
    /// # Errors
    /// When an id is unknown to the decoder.
    pub fn decode(&self, ids: &[u32]) -> anyhow::Result<String> {
        self.inner.decode(ids, false).map_err(|error| anyhow!("cannot decode with `{}`: {error}", self.path.display()))
    }

    /// Id of a token by its name.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Largest id it can produce.
    pub fn largest_id(&self) -> u32 {
        self.largest_id
    }

    /// SHA-256 of the file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokenizer itself, for what this wrapper does not cover.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// Checks that every id fits a model's vocabulary.
    ///
    /// # Errors
    /// When an id would index past the embedding table.
    pub fn check_fits(&self, vocab_size: usize) -> anyhow::Result<()> {
        if (self.largest_id as usize) < vocab_size {
            return Ok(());
        }
        Err(anyhow!(
            "the tokenizer `{}` does not fit the model: expected ids below model.vocab_size ({vocab_size}), found ids up to {}",
            self.path.display(),
            self.largest_id
        ))
        .hint(format!("set model.vocab_size to at least {}, or name the tokenizer this model was made for", self.largest_id + 1))
    }
}
