//! Models of the hub as folders: `org/name[@revision]` to a snapshot that holds what the folder loader reads.
//!
//! Fetched: `config.json`, the tokenizer's files and the weights: `model.safetensors.index.json` with the parts it names, else
//! `model.safetensors`, else every safetensors file at the top.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, anyhow};
use serde_json::Value;

use super::{Hub, HubError, Repository};
use crate::error::Hint as _;

/// Files beside the weights; all but the first are taken only where they exist.
const BESIDE_WEIGHTS: [&str; 5] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"];

/// The index of weights in several files.
const INDEX: &str = "model.safetensors.index.json";

/// `org/name[@revision]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelId {
    /// `org/name`.
    pub repository: String,
    /// Branch, tag or commit; `main` when absent.
    pub revision: Option<String>,
}

impl ModelId {
    /// Name in results: the id with `/` as `__`.
    pub fn result_name(&self) -> String {
        self.to_string().replace('/', "__")
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.revision.as_ref().map(|revision| format!("@{revision}")).unwrap_or_default();
        write!(f, "{}{revision}", self.repository)
    }
}

impl FromStr for ModelId {
    type Err = ();

    /// Only texts of that form: two parts of letters, digits, `-`, `_` and `.`, neither beginning with a dot.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, revision) = text.split_once('@').map_or((text, None), |(id, revision)| (id, Some(revision)));
        let is_part = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
        };
        let is_id = id.split_once('/').is_some_and(|(org, name)| is_part(org) && is_part(name));
        // A revision names a path in the cache.
        let is_revision = revision.is_none_or(|revision| revision.split('/').all(is_part));
        if is_id && is_revision { Ok(Self { repository: id.to_owned(), revision: revision.map(str::to_owned) }) } else { Err(()) }
    }
}

/// Downloads what is missing and gives the snapshot folder.
///
/// # Errors
/// [`HubError`] when a needed file cannot be had; a damaged index.
pub fn fetch_model(hub: &dyn Hub, id: &ModelId) -> anyhow::Result<PathBuf> {
    let repository = Repository::model(&id.repository);
    let revision = id.revision.as_deref().unwrap_or("main");
    let listing = hub.list(&repository, revision).map_err(HubError::explain)?;
    let has = |file: &str| listing.files.iter().any(|listed| listed == file);
    let get = |file: &str| hub.get(&repository, revision, file).map_err(HubError::explain);
    let config = get(BESIDE_WEIGHTS[0])?;
    for file in BESIDE_WEIGHTS[1..].iter().filter(|file| has(file)) {
        get(file)?;
    }
    for file in weight_files(&listing.files, || get(INDEX))? {
        get(&file)?;
    }
    Ok(config.parent().unwrap_or(Path::new("")).to_owned())
}

fn weight_files(files: &[String], index: impl Fn() -> anyhow::Result<PathBuf>) -> anyhow::Result<BTreeSet<String>> {
    let has = |name: &str| files.iter().any(|file| file == name);
    if has(INDEX) {
        let text = std::fs::read_to_string(index()?).with_context(|| format!("cannot read `{INDEX}`"))?;
        let index: Value = serde_json::from_str(&text).with_context(|| format!("`{INDEX}` is not JSON"))?;
        let map =
            index["weight_map"].as_object().ok_or_else(|| anyhow!("`{INDEX}`: expected an object `weight_map`, found none"))?;
        return Ok(map.values().filter_map(Value::as_str).map(str::to_owned).collect());
    }
    if has("model.safetensors") {
        return Ok(BTreeSet::from(["model.safetensors".to_owned()]));
    }
    let at_top = |file: &&String| file.ends_with(".safetensors") && !file.contains('/');
    let found: BTreeSet<String> = files.iter().filter(at_top).cloned().collect();
    if found.is_empty() {
        return Err(anyhow!("expected weights as `*.safetensors`, found none"))
            .hint("convert other weights to safetensors first");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_part_names_are_hub_ids() {
        let id: ModelId = "org/name-1.5B@v1.0".parse().unwrap();
        assert_eq!((id.repository.as_str(), id.revision.as_deref()), ("org/name-1.5B", Some("v1.0")));
        assert_eq!(id.result_name(), "org__name-1.5B@v1.0");
        assert_eq!("org/name".parse::<ModelId>().unwrap().result_name(), "org__name");
        for other in
            ["name", "no/such/folder/here", "./name", "../name", "/name", "org/", "org/na me", "org/name@", "org/name@../x"]
        {
            assert!(other.parse::<ModelId>().is_err(), "{other}");
        }
    }

    #[test]
    fn weights_are_the_index_and_its_parts_or_the_single_file() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index");
        std::fs::write(&index, r#"{"weight_map": {"a": "p1.safetensors", "b": "p2.safetensors", "c": "p1.safetensors"}}"#)
            .unwrap();
        let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let of = |names: &[&str]| weight_files(&files(names), || Ok(index.clone())).map(Vec::from_iter);
        assert_eq!(of(&[INDEX, "p1.safetensors", "p2.safetensors"]).unwrap(), ["p1.safetensors", "p2.safetensors"]);
        assert_eq!(of(&["consolidated.safetensors", "model.safetensors"]).unwrap(), ["model.safetensors"]);
        assert_eq!(of(&["weights.safetensors", "onnx/w.safetensors"]).unwrap(), ["weights.safetensors"]);
        assert!(of(&["pytorch_model.bin"]).is_err());
    }
}
