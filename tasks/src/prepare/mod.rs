//! Benchmark files to documents.
//!
//! Every task has a loader: which files hold its splits (a short list of candidates, tried in order, each also as `.gz` and `.zst`), and how a
//! record of any known layout becomes a document under the hub's field names. Derived texts (HellaSwag's cleaned options, a page without
//! WikiText's tokenisation) are added as further fields. One loader file per dataset; `loader` is the one list.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::definition::{Leaf, sample};
use crate::doc::Doc;
use crate::error::TaskError;
use crate::task::Task;
use reader::{Found, Record, hex};

mod belebele;
mod boolq;
mod fixed_shots;
mod gsm8k;
mod hellaswag;
mod humaneval;
mod math;
mod mbpp;
mod mgsm;
mod mmlu;
mod openbookqa;
mod pages;
pub(crate) mod reader;
mod tydiqa;
mod wmt23;

/// Where a task's documents are read from.
#[derive(Debug, Clone, Copy)]
pub enum DataSource<'a> {
    /// A folder with the benchmark files in their authors' layout or the hub's JSONL layout; `.gz` and `.zst` read as they are.
    Dir(&'a Path),
    /// Several such folders, searched in order.
    Dirs(&'a [PathBuf]),
    /// The samples of `tasks/definitions/`, written for the project.
    Bundled,
    /// Rows under the hub's field names, already read by someone who reads parquet.
    Rows {
        /// Split name to its rows.
        splits: &'a BTreeMap<String, Vec<Map<String, Value>>>,
        /// Digest of the files they came from.
        sha256: &'a str,
    },
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Path relative to the data folder; `bundled:<task>/sample.jsonl` for samples.
    pub path: String,
    /// SHA-256 of the file as it is stored, lower-case hexadecimal.
    pub sha256: String,
}

/// A task's documents.
#[derive(Debug, Clone)]
pub struct TaskData {
    /// Documents of the evaluated split, in file order.
    pub docs: Vec<Doc>,
    /// Documents that few-shot examples are drawn from; empty when the task has none or they were not found.
    pub fewshot_pool: Vec<Doc>,
    /// Why the pool is empty although the task has one; an error only when shots are asked for.
    pub fewshot_missing: Option<String>,
    /// What the shots are when they are not the published ones.
    pub fewshot_note: Option<String>,
    /// SHA-256 over the lines `<sha256>  <path>\n` of the files, sorted by path.
    pub dataset_sha256: String,
    /// The files.
    pub files: Vec<DataFile>,
}

/// What a split is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Evaluated.
    Test,
    /// Drawn from for shots.
    Shots,
}

/// Where a record comes from, as far as a loader must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file of a data folder.
    File,
    /// The bundled sample.
    Bundled,
    /// Rows of the hub.
    Hub,
}

/// Reads one dataset.
pub(crate) trait Loader: Sync {
    /// Paths to try for a split, relative to the data folder, without the ending of a compressed copy. Empty: the split has no file of its own.
    fn candidates(&self, leaf: &Leaf, role: Role) -> Vec<String>;

    /// Records of one file; the default goes by the file's ending.
    fn records(&self, _leaf: &Leaf, _role: Role, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
        reader::records(file, text)
    }

    /// A record as the fields of a document; nothing when the record belongs to another leaf or split.
    fn fields(&self, leaf: &Leaf, role: Role, origin: Origin, record: &Record) -> Result<Option<Map<String, Value>>, TaskError>;

    /// What documents that are not independent share.
    fn cluster(&self, _fields: &Map<String, Value>) -> Option<String> {
        None
    }

    /// A check of, or an addition to, the whole split.
    fn finish(
        &self,
        _leaf: &Leaf,
        _role: Role,
        _folders: &[PathBuf],
        docs: Vec<Doc>,
        _files: &mut Vec<DataFile>,
    ) -> Result<Vec<Doc>, TaskError> {
        Ok(docs)
    }

    /// What the shots of this file are, when they are not the published ones.
    fn shots_note(&self, _leaf: &Leaf, _file: &str) -> Option<String> {
        None
    }

    /// What the split's file holds and where it is published, for the error that it is missing.
    fn whereabouts(&self, leaf: &Leaf, role: Role) -> String {
        let dataset = &leaf.spec.dataset;
        let split = match role {
            Role::Test => &dataset.split,
            Role::Shots => dataset.fewshot_split.as_ref().unwrap_or(&dataset.split),
        };
        match (&dataset.hub, &dataset.config) {
            (Some(hub), Some(config)) => format!("split `{split}` of {hub}, config {config}"),
            (Some(hub), None) => format!("split `{split}` of {hub}"),
            _ => format!("split `{split}`"),
        }
    }
}

/// The loaders by the name that definitions use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoaderKind {
    Belebele,
    Boolq,
    Gsm8k,
    Gsm8kCot,
    Gsm8kPal,
    Hellaswag,
    Humaneval,
    Math,
    MinervaMath,
    Mbpp,
    Mgsm,
    Mmlu,
    Openbookqa,
    Perplexity,
    Tydiqa,
    Wikitext,
    Wmt23,
}

/// The loader of that name.
fn loader(kind: LoaderKind) -> &'static dyn Loader {
    match kind {
        LoaderKind::Belebele => &belebele::Belebele,
        LoaderKind::Boolq => &boolq::BoolQ,
        LoaderKind::Gsm8k => &gsm8k::Gsm8k,
        LoaderKind::Gsm8kCot => &fixed_shots::Gsm8kCot,
        LoaderKind::Gsm8kPal => &fixed_shots::Gsm8kPal,
        LoaderKind::Hellaswag => &hellaswag::HellaSwag,
        LoaderKind::Humaneval => &humaneval::HumanEval,
        LoaderKind::Math => &math::Math,
        LoaderKind::MinervaMath => &fixed_shots::MinervaMath,
        LoaderKind::Mbpp => &mbpp::Mbpp,
        LoaderKind::Mgsm => &mgsm::Mgsm,
        LoaderKind::Mmlu => &mmlu::Mmlu,
        LoaderKind::Openbookqa => &openbookqa::OpenBookQa,
        LoaderKind::Perplexity => &pages::Perplexity,
        LoaderKind::Tydiqa => &tydiqa::TydiQa,
        LoaderKind::Wikitext => &pages::WikiText,
        LoaderKind::Wmt23 => &wmt23::Wmt23,
    }
}

/// Reads a task's documents.
///
/// # Errors
/// [`TaskError::Missing`] when the evaluated split is not there (a missing pool only fills `fewshot_missing`); field, format and emptiness
/// errors of either split.
pub fn load_docs(task: &dyn Task, source: DataSource<'_>) -> Result<TaskData, TaskError> {
    let leaf = crate::registry::leaf(&task.spec().name, task.profile())?;
    load_leaf(&leaf, source)
}

fn load_leaf(leaf: &Leaf, source: DataSource<'_>) -> Result<TaskData, TaskError> {
    let mut files = Vec::new();
    let docs = load_split(leaf, Role::Test, source, &mut files)?;
    let (fewshot_pool, fewshot_missing) = if leaf.fewshot.pool_is_test {
        (docs.clone(), None)
    } else if leaf.spec.dataset.fewshot_split.is_none() {
        (Vec::new(), None)
    } else {
        match load_split(leaf, Role::Shots, source, &mut files) {
            Ok(pool) => (pool, None),
            Err(error @ TaskError::Missing { .. }) => (Vec::new(), Some(error.to_string())),
            Err(error) => return Err(error),
        }
    };
    let fewshot_note = files.iter().find_map(|file| loader(leaf.loader).shots_note(leaf, &file.path));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut digest = Sha256::new();
    for file in &files {
        digest.update(format!("{}  {}\n", file.sha256, file.path));
    }
    Ok(TaskData { docs, fewshot_pool, fewshot_missing, fewshot_note, dataset_sha256: hex(&digest.finalize()), files })
}

fn load_split(leaf: &Leaf, role: Role, source: DataSource<'_>, files: &mut Vec<DataFile>) -> Result<Vec<Doc>, TaskError> {
    let loader = loader(leaf.loader);
    let one_folder;
    let (folders, origin): (&[PathBuf], Origin) = match source {
        DataSource::Dir(folder) => {
            one_folder = [folder.to_path_buf()];
            (&one_folder, Origin::File)
        }
        DataSource::Dirs(folders) => (folders, Origin::File),
        DataSource::Bundled => (&[], Origin::Bundled),
        DataSource::Rows { .. } => (&[], Origin::Hub),
    };
    let missing = |folder: PathBuf, tried: Vec<String>, where_else: &str| TaskError::Missing {
        task: leaf.spec.name.clone(),
        what: format!("{}{where_else}", loader.whereabouts(leaf, role)),
        folder,
        tried,
    };
    let (records, name) = match source {
        DataSource::Dir(_) | DataSource::Dirs(_) => {
            let mut candidates = loader.candidates(leaf, role);
            candidates.extend(hub_candidates(leaf, role));
            let found = reader::find(folders, &candidates).or_else(|| text_file(folders, leaf));
            let Some(found) = found else {
                return Err(missing(folders.first().cloned().unwrap_or_default(), candidates, ""));
            };
            let mut records = Vec::new();
            for (file, text) in reader::read_texts(&found, files)? {
                records.extend(loader.records(leaf, role, &file, &text)?);
            }
            (records, found.name)
        }
        DataSource::Bundled => {
            let path = format!("bundled:{}/sample.jsonl", leaf.sample_folder);
            let Some(text) = sample(&leaf.sample_folder) else {
                return Err(missing(
                    PathBuf::from("bundled"),
                    vec![format!("{}/sample.jsonl", leaf.sample_folder)],
                    " (no sample is bundled)",
                ));
            };
            if !files.iter().any(|f| f.path == path) {
                files.push(DataFile { path: path.clone(), sha256: hex(&Sha256::digest(text)) });
            }
            let mut records = reader::records(&Arc::from(path.as_str()), text)?;
            records.retain(|record| match record.fields.get("split").and_then(Value::as_str) {
                Some(split) => matches!(split, "test" | "validation") == (role == Role::Test),
                None => role == Role::Test,
            });
            (records, path)
        }
        DataSource::Rows { splits, sha256 } => {
            let dataset = &leaf.spec.dataset;
            let split = if role == Role::Test { Some(&dataset.split) } else { dataset.fewshot_split.as_ref() };
            let found = split.and_then(|split| splits.get(split).map(|rows| (split, rows)));
            let Some((split, rows)) = found else {
                let tried = splits.keys().cloned().collect();
                return Err(missing(PathBuf::from("hub"), tried, " (not among the splits given)"));
            };
            let path =
                format!("hub:{}/{}", dataset.hub.as_deref().unwrap_or_default(), dataset.config.as_deref().unwrap_or("default"));
            if !files.iter().any(|f| f.path == path) {
                files.push(DataFile { path: path.clone(), sha256: sha256.to_owned() });
            }
            let file: Arc<str> = Arc::from(format!("{path}/{split}"));
            let records = rows
                .iter()
                .enumerate()
                .map(|(i, row)| Record { file: Arc::clone(&file), line: i + 1, fields: row.clone() })
                .collect();
            (records, path)
        }
    };
    let mut docs = Vec::with_capacity(records.len());
    for record in &records {
        if let Some(fields) = loader.fields(leaf, role, origin, record)? {
            let cluster_id = loader.cluster(&fields);
            docs.push(Doc { doc_id: docs.len(), fields, cluster_id });
        }
    }
    let docs = loader.finish(leaf, role, folders, docs, files)?;
    match (docs.is_empty(), origin) {
        (false, _) => Ok(docs),
        (true, Origin::Bundled) => Err(missing(PathBuf::from("bundled"), vec![name], " (the sample has no such documents)")),
        (true, _) => Err(TaskError::Empty { file: format!("{name} ({})", loader.whereabouts(leaf, role)) }),
    }
}

/// Paths of the hub's JSONL layout: `<definition>/<config>/<split>.jsonl`, `<definition>/<split>.jsonl`.
fn hub_candidates(leaf: &Leaf, role: Role) -> Vec<String> {
    let dataset = &leaf.spec.dataset;
    let split = match role {
        Role::Test => Some(&dataset.split),
        Role::Shots => dataset.fewshot_split.as_ref(),
    };
    let folders = [Some(leaf.spec.definition.as_str()), dataset.hub.as_deref().and_then(|hub| hub.rsplit('/').next())];
    let mut paths = Vec::new();
    let Some(split) = split else { return paths };
    for folder in folders.into_iter().flatten() {
        match &dataset.config {
            Some(config) => paths.push(format!("{folder}/{config}/{split}.jsonl")),
            None => paths.push(format!("{folder}/{split}.jsonl")),
        }
    }
    paths.dedup();
    paths
}

/// A data source that is one file instead of a folder, which only `perplexity` and `wikitext` take.
fn text_file(folders: &[PathBuf], leaf: &Leaf) -> Option<Found> {
    let file = folders.iter().find(|path| path.is_file())?;
    let takes = matches!(leaf.loader, LoaderKind::Perplexity | LoaderKind::Wikitext);
    let name = file.file_name()?.to_string_lossy().into_owned();
    takes.then(|| Found { path: file.clone(), name })
}

/// A short digest of a text, to name the cluster of the documents that share it.
fn cluster_of(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}
