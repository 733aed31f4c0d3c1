//! The token stream of a corpus file, computed once and cached under the runs directory.
//!
//! ```text
//! runs/_cache/tokens/<key>.tok      key = sha256(file sha, tokenizer sha, format, text field, end of document), 32 hex digits
//! file = "LAURELT1" | documents u64 | text bytes u64 | tokens u64 | ids u32… | sha256 of all before, 32 bytes      little-endian
//! ```
//! The file is written under a temporary name and renamed. One that is truncated or altered fails its hash and is rebuilt.

use super::{Tokenizer, source};
use crate::config::{DataConfig, DataFormat};
use crate::error::Hint as _;
use anyhow::{Context as _, anyhow};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"LAURELT1";
const HEADER_BYTES: usize = 32;
const HASH_BYTES: usize = 32;

/// Documents tokenised in parallel at a time.
const DOCUMENTS_PER_BATCH: usize = 1024;

/// A corpus as one stream of ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The ids, documents one after another.
    pub ids: Vec<u32>,
    /// UTF-8 bytes of the text, end-of-document tokens not counted.
    pub text_bytes: u64,
    /// Documents.
    pub documents: u64,
    /// SHA-256 of the corpus file.
    pub file_sha256: String,
}

impl Tokens {
    /// Converts a loss in nats per token to bits per byte of text: `nats / ln 2 · tokens / bytes`, with the whole file's ratio.
    pub fn bits_per_byte(&self, nats_per_token: f64) -> f64 {
        nats_per_token / std::f64::consts::LN_2 * self.ids.len() as f64 / self.text_bytes as f64
    }
}

/// Tokens of a corpus file, from the cache when it has them.
///
/// - `cache`: the cache folder, mostly `<runs>/_cache/tokens`; created when missing.
///
/// # Errors
/// Missing or unreadable file, empty corpus, unknown end-of-document token. A cache that cannot be written is an error too: the next
/// run would silently pay again.
pub fn load_tokens(path: &Path, data: &DataConfig, tokenizer: &Tokenizer, cache: &Path) -> anyhow::Result<Tokens> {
    let file_sha256 = source::sha256(path)
        .context("cannot load the corpus")
        .hint("paths in a config are relative to the folder that holds `configs/`; `harness data list` shows what is there")?;
    let cached = cache_path(cache, &file_sha256, data, tokenizer);
    match std::fs::read(&cached) {
        Ok(bytes) => {
            if let Some(tokens) = parse(&bytes, &file_sha256) {
                tracing::debug!("tokens of {} read from {}", path.display(), cached.display());
                return Ok(tokens);
            }
            tracing::warn!("{}: damaged token cache, tokenising again", cached.display());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot read the token cache `{}`", cached.display())));
        }
    }
    let tokens = tokenise(path, data, tokenizer, file_sha256)?;
    std::fs::create_dir_all(cache).with_context(|| format!("cannot create `{}`", cache.display()))?;
    records::write_atomic(&cached, &serialise(&tokens))?;
    Ok(tokens)
}

fn cache_path(cache: &Path, file_sha256: &str, data: &DataConfig, tokenizer: &Tokenizer) -> PathBuf {
    let format = match data.format {
        DataFormat::Text => String::from("text"),
        DataFormat::Jsonl => format!("jsonl:{}", data.text_field),
    };
    let key = format!("{file_sha256}\n{}\n{format}\n{}", tokenizer.sha256(), data.end_of_document);
    cache.join(format!("{}.tok", &records::ids::sha256_hex(key.as_bytes())[..32]))
}

fn tokenise(path: &Path, data: &DataConfig, tokenizer: &Tokenizer, file_sha256: String) -> anyhow::Result<Tokens> {
    let end = match data.end_of_document.as_str() {
        "" => None,
        name => Some(tokenizer.token_id(name).with_context(|| {
            format!("data.end_of_document: expected a token of `{}`, found `{name}`", tokenizer.path().display())
        })?),
    };
    let mut tokens = Tokens { ids: Vec::new(), text_bytes: 0, documents: 0, file_sha256 };
    let mut waiting: Vec<(String, bool)> = Vec::new();
    let flush = |waiting: &mut Vec<(String, bool)>, tokens: &mut Tokens| -> anyhow::Result<()> {
        let encoded: Vec<_> = waiting.par_iter().map(|(text, _)| tokenizer.encode(text)).collect::<anyhow::Result<_>>()?;
        for ((text, is_last), ids) in waiting.drain(..).zip(encoded) {
            tokens.ids.extend(ids);
            tokens.text_bytes += text.len() as u64;
            if is_last {
                tokens.documents += 1;
                tokens.ids.extend(end);
            }
        }
        Ok(())
    };
    let mut waiting_bytes = 0;
    source::for_each_document(path, data.format, &data.text_field, |text, is_last| {
        waiting_bytes += text.len();
        waiting.push((text, is_last));
        if waiting.len() < DOCUMENTS_PER_BATCH && waiting_bytes < 4 * source::PIECE_BYTES {
            return Ok(());
        }
        waiting_bytes = 0;
        flush(&mut waiting, &mut tokens)
    })?;
    flush(&mut waiting, &mut tokens)?;
    if tokens.text_bytes == 0 || tokens.ids.is_empty() {
        return Err(anyhow!(
            "the corpus `{}` is empty: expected text, found {} documents without any",
            path.display(),
            tokens.documents
        ))
        .hint("check data.train, data.valid and data.format");
    }
    Ok(tokens)
}

fn serialise(tokens: &Tokens) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 4 * tokens.ids.len() + HASH_BYTES);
    bytes.extend_from_slice(MAGIC);
    for number in [tokens.documents, tokens.text_bytes, tokens.ids.len() as u64] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for id in &tokens.ids {
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    let hash = Sha256::digest(&bytes);
    bytes.extend_from_slice(&hash);
    bytes
}

fn parse(bytes: &[u8], file_sha256: &str) -> Option<Tokens> {
    let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH_BYTES)?)?;
    if body.len() < HEADER_BYTES || !body.starts_with(MAGIC) || Sha256::digest(body).as_slice() != hash {
        return None;
    }
    let number = |index: usize| u64::from_le_bytes(body[8 + 8 * index..16 + 8 * index].try_into().expect("eight bytes"));
    let ids: Vec<u32> =
        body[HEADER_BYTES..].chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().expect("four bytes"))).collect();
    (ids.len() as u64 == number(2)).then(|| Tokens {
        ids,
        documents: number(0),
        text_bytes: number(1),
        file_sha256: file_sha256.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens { ids: vec![3, 1, 4, 1, 5], text_bytes: 10, documents: 2, file_sha256: "abc".into() }
    }

    #[test]
    fn cache_file_round_trips() {
        assert_eq!(parse(&serialise(&tokens()), "abc"), Some(tokens()));
    }

    #[test]
    fn damaged_cache_files_are_refused() {
        let good = serialise(&tokens());
        assert_eq!(parse(&good[..good.len() - 1], "abc"), None);
        assert_eq!(parse(&[], "abc"), None);
        let mut flipped = good.clone();
        flipped[HEADER_BYTES] ^= 1;
        assert_eq!(parse(&flipped, "abc"), None);
    }

    #[test]
    fn bits_per_byte_uses_the_token_to_byte_ratio() {
        // ln 2 nats per token are one bit per token; 5 tokens over 10 bytes: half a bit per byte.
        assert!((tokens().bits_per_byte(std::f64::consts::LN_2) - 0.5).abs() < 1e-15);
    }
}
