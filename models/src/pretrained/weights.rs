//! Tensors of published checkpoints to our parameters.
//!
//! Llama-form files use our names. GPT-2's differ in three ways: a prefix `transformer.` (absent in the oldest files),
//! other words, and matrices stored `[in, out]` with queries, keys and values side by side:
//!
//! ```text
//! h.{i}.attn.c_attn.weight [D, 3D]  ->  self_attn.{q,k,v}_proj.weight, each [D, D]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde_json::Value;

use super::config::Published;
use crate::error::{ModelError, Result, ShapeMismatch};
use crate::params::ParamStore;
use crate::tensor_file::TensorFile;

/// Buffers that older files carry and nothing needs: rotary tables, causal masks.
const IGNORED_SUFFIXES: [&str; 4] = [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".rotary_emb.cos_cached"];

/// Where one of our parameters comes from.
struct Source {
    tensor: String,
    /// Stored `[in, out]`: turn it.
    transposed: bool,
    /// Which third of the last axis of a fused tensor.
    third: Option<usize>,
}

pub(super) fn load(folder: &Path, published: &Published, params: &ParamStore) -> Result<()> {
    let mut shards = open_shards(folder)?;
    let by_name: BTreeMap<String, usize> =
        shards.iter().enumerate().flat_map(|(i, shard)| shard.names().map(move |name| (name.to_owned(), i))).collect();
    let is_gpt2 = published.model_type == "gpt2";
    let prefix = if is_gpt2 && by_name.contains_key("transformer.wte.weight") { "transformer." } else { "" };
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut missing = Vec::new();
    let mut wrong_shape = Vec::new();
    for (name, var) in params.vars() {
        let source = if is_gpt2 { gpt2_source(&name, prefix) } else { same_name(&name) };
        let Some(&shard) = by_name.get(&source.tensor) else {
            missing.push(source.tensor);
            continue;
        };
        let stored = shards[shard].shape(&source.tensor).map(<[usize]>::to_vec).unwrap_or_default();
        used.insert(source.tensor.clone());
        let expected = stored_shape(&source, var.dims());
        if stored != expected {
            wrong_shape.push(ShapeMismatch { name: source.tensor, expected, found: stored });
            continue;
        }
        let tensor = shards[shard].read(&source.tensor, params.dtype(), params.device())?;
        params.set(&name, &shape_as_ours(&source, &tensor, var.dims())?)?;
    }
    let is_tied = published.config.tie_word_embeddings;
    let unexpected: Vec<String> = by_name
        .into_keys()
        .filter(|name| !used.contains(name) && !IGNORED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)))
        .filter(|name| !(is_tied && name == "lm_head.weight")) // a copy of the tied table
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

fn same_name(name: &str) -> Source {
    Source { tensor: name.to_owned(), transposed: false, third: None }
}

fn gpt2_source(name: &str, prefix: &str) -> Source {
    let plain = |tensor: String| Source { tensor, transposed: false, third: None };
    match name {
        "model.embed_tokens.weight" => return plain(format!("{prefix}wte.weight")),
        "model.embed_positions.weight" => return plain(format!("{prefix}wpe.weight")),
        _ => {}
    }
    if let Some(end) = name.strip_prefix("model.norm.") {
        return plain(format!("{prefix}ln_f.{end}"));
    }
    let words = name.strip_prefix("model.layers.").map(|rest| rest.split('.').collect::<Vec<_>>()).unwrap_or_default();
    let (layer, parts) = words.split_first().map_or(("", &[][..]), |(layer, parts)| (*layer, parts));
    let (module, end, third) = match parts {
        ["input_layernorm", end] => ("ln_1", *end, None),
        ["post_attention_layernorm", end] => ("ln_2", *end, None),
        ["self_attn", "q_proj", end] => ("attn.c_attn", *end, Some(0)),
        ["self_attn", "k_proj", end] => ("attn.c_attn", *end, Some(1)),
        ["self_attn", "v_proj", end] => ("attn.c_attn", *end, Some(2)),
        ["self_attn", "o_proj", end] => ("attn.c_proj", *end, None),
        ["mlp", "up_proj", end] => ("mlp.c_fc", *end, None),
        ["mlp", "down_proj", end] => ("mlp.c_proj", *end, None),
        _ => return plain(name.to_owned()), // lm_head.weight of an untied file
    };
    let transposed = end == "weight" && !module.starts_with("ln_");
    Source { tensor: format!("{prefix}h.{layer}.{module}.{end}"), transposed, third }
}

/// Shape in the file of a parameter that has shape `ours`.
fn stored_shape(source: &Source, ours: &[usize]) -> Vec<usize> {
    let mut shape = ours.to_vec();
    if source.transposed {
        shape.reverse();
    }
    if let (Some(_), Some(last)) = (source.third, shape.last_mut()) {
        *last *= 3;
    }
    shape
}

fn shape_as_ours(source: &Source, tensor: &Tensor, ours: &[usize]) -> candle_core::Result<Tensor> {
    let tensor = match source.third {
        Some(third) => {
            let axis = tensor.rank() - 1;
            let width = tensor.dim(axis)? / 3;
            tensor.narrow(axis, third * width, width)?
        }
        None => tensor.clone(),
    };
    let tensor = if source.transposed { tensor.t()? } else { tensor };
    debug_assert_eq!(tensor.dims(), ours);
    tensor.contiguous()
}
