//! Tensors of published checkpoints to our parameters.
//!
//! Which stored tensor a parameter comes from, and what is done to it, is said in [`super::names`]; here the files are opened, shapes
//! compared, and everything that does not fit is listed in one error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::Published;
use super::names::{HEADS, Names};
use crate::error::{ModelError, Result, ShapeMismatch};
use crate::params::ParamStore;
use crate::tensor_file::TensorFile;

/// Buffers that older files carry and nothing needs: rotary tables, causal masks.
const IGNORED_SUFFIXES: [&str; 6] = [
    ".rotary_emb.inv_freq",
    ".rotary_emb.cos_cached",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
];

pub(super) fn load(folder: &Path, published: &Published, params: &ParamStore) -> Result<()> {
    let mut shards = open_shards(folder)?;
    let by_name: BTreeMap<String, usize> =
        shards.iter().enumerate().flat_map(|(i, shard)| shard.names().map(move |name| (name.to_owned(), i))).collect();
    let names = Names::new(published, &|name| by_name.contains_key(name));
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut missing = Vec::new();
    let mut wrong_shape = Vec::new();
    for (name, var) in params.vars() {
        let source = names.source(&name);
        let Some(&shard) = by_name.get(&source.tensor) else {
            missing.push(source.tensor);
            continue;
        };
        let stored = shards[shard].shape(&source.tensor).map(<[usize]>::to_vec).unwrap_or_default();
        used.insert(source.tensor.clone());
        let expected = source.stored_shape(var.dims());
        if stored != expected {
            wrong_shape.push(ShapeMismatch { name: source.tensor, expected, found: stored });
            continue;
        }
        let tensor = shards[shard].read(&source.tensor, params.dtype(), params.device())?;
        params.set(&name, &source.as_ours(&tensor, var.dims())?)?;
    }
    let is_tied = published.config.tie_word_embeddings;
    let unexpected: Vec<String> = by_name
        .into_keys()
        .filter(|name| {
            !used.contains(name) && !IGNORED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) && !names.is_ignored(name)
        })
        .filter(|name| !(is_tied && HEADS.contains(&name.as_str()))) // a copy of the tied table
        .collect();
    if missing.is_empty() && unexpected.is_empty() && wrong_shape.is_empty() {
        Ok(())
    } else {
        Err(ModelError::Mismatch { path: folder.to_path_buf(), missing, unexpected, wrong_shape })
    }
}

fn open_shards(folder: &Path) -> Result<Vec<TensorFile>> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![TensorFile::open(&single)?]);
    }
    let index = folder.join("model.safetensors.index.json");
    if !index.is_file() {
        return Err(ModelError::corrupt(folder, "expected model.safetensors or model.safetensors.index.json, found neither"));
    }
    let text = fs::read_to_string(&index).map_err(ModelError::io("read", &index))?;
    let parsed: Value = serde_json::from_str(&text).map_err(|error| ModelError::corrupt(&index, format!("not JSON: {error}")))?;
    let map = parsed
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| ModelError::corrupt(&index, "weight_map: expected a table of tensor to file, found none"))?;
    let files: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    files.into_iter().map(|file| TensorFile::open(&shard_path(folder, &index, file)?)).collect()
}

/// A shard lies in the folder itself: an index must not lead elsewhere.
fn shard_path(folder: &Path, index: &Path, file: &str) -> Result<PathBuf> {
    if Path::new(file).file_name().is_some_and(|name| name == file) {
        Ok(folder.join(file))
    } else {
        Err(ModelError::corrupt(index, format!("weight_map: expected file names without folders, found `{file}`")))
    }
}
