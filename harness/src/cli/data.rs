//! `data`: what corpora and benchmark files are there, whether they are what a manifest says, and token streams made ahead.

use super::{Exit, Format, Global, output};
use crate::config::TrainConfig;
use crate::data::hub::{self, HubError, ModelId};
use crate::data::verify::{Check, DataManifest};
use crate::error::Hint as _;
use crate::train::Corpus;
use anyhow::{Context as _, anyhow};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arguments of `data`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness data list                                                 what the manifest names, and what of it is here
  harness data verify --manifest ../shared/data/MANIFEST.json       sha256 of every file (exit code 1 when one differs)
  harness data verify --manifest ../shared/data/MANIFEST.json gsm8k
  harness data fetch boolq mmlu --model org/name                    download ahead; then eval --data hub --offline
  harness data prepare --config configs/train/lm-tiny-plain.toml    tokenise ahead of training
  harness data images cifar10-train.tar.zst --size 32               classes, undecodable pictures, batches a second")]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What `data` does.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List the files of a manifest and whether they are here
    List(ManifestArgs),
    /// Compare files with the sizes and SHA-256 of a manifest
    Verify(ManifestArgs),
    /// Download data sets of tasks, and models, into the hub's cache
    Fetch(FetchArgs),
    /// Tokenise the corpus of a training config into the cache
    Prepare(PrepareArgs),
    /// Look at an image set: classes, pictures that cannot be decoded, batches a second
    Images(super::data_images::ImagesArgs),
}

/// Which files.
#[derive(Debug, clap::Args)]
pub struct ManifestArgs {
    /// The manifest; its files are relative to it
    #[arg(long, value_name = "FILE", default_value = "../shared/data/MANIFEST.json")]
    pub manifest: PathBuf,
    /// Only files whose path starts with one of these
    #[arg(value_name = "PREFIX")]
    pub prefixes: Vec<String>,
}

/// What to fetch.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    /// Tasks or groups (`boolq`, `mmlu`)
    #[arg(value_name = "TASK", required_unless_present = "model")]
    pub tasks: Vec<String>,
    /// Models, as `org/name[@revision]`; may be repeated
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
}

/// What to prepare.
#[derive(Debug, clap::Args)]
pub struct PrepareArgs {
    /// The training config
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Override a key, as `a.b=v`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    match &args.action {
        Action::List(args) => list(args, global),
        Action::Verify(args) => verify(args, global),
        Action::Fetch(args) => fetch(args, global),
        Action::Prepare(args) => prepare(args, global),
        Action::Images(args) => super::data_images::run(args, global),
    }
}

fn selected(args: &ManifestArgs) -> anyhow::Result<(PathBuf, DataManifest)> {
    let mut manifest = DataManifest::load(&args.manifest).hint("name the manifest of your data folder with --manifest")?;
    if !args.prefixes.is_empty() {
        manifest.files.retain(|file| args.prefixes.iter().any(|prefix| file.file.starts_with(prefix)));
        if manifest.files.is_empty() {
            return Err(anyhow!("no file of `{}` starts with `{}`", args.manifest.display(), args.prefixes.join("` or `")))
                .hint("`harness data list` shows every file");
        }
    }
    Ok((args.manifest.parent().unwrap_or(Path::new("")).to_owned(), manifest))
}

fn list(args: &ManifestArgs, global: &Global) -> anyhow::Result<Exit> {
    let (root, manifest) = selected(args)?;
    let mut rows = Vec::new();
    let mut json_rows = Vec::new();
    for file in &manifest.files {
        let is_here = root.join(&file.file).is_file();
        json_rows
            .push(json!({"file": file.file, "bytes": file.bytes, "task": file.task, "licence": file.licence, "here": is_here}));
        let here = if is_here { "here" } else { "missing" };
        let text = |field: &Option<String>| field.clone().unwrap_or_else(|| "—".to_owned());
        rows.push(vec![
            file.file.clone(),
            output::bytes(file.bytes as f64),
            here.to_owned(),
            text(&file.task),
            text(&file.licence),
        ]);
    }
    match global.format {
        Format::Json => output::json(&json_rows)?,
        Format::Text => output::data(&output::columns(&["file", "size", "state", "used by", "licence"], &rows))?,
    }
    Ok(Exit::Fine)
}

fn verify(args: &ManifestArgs, global: &Global) -> anyhow::Result<Exit> {
    let (root, manifest) = selected(args)?;
    let mut json_rows = Vec::new();
    let (mut good, mut missing, mut different) = (0, 0, 0);
    for file in &manifest.files {
        let check = file.check(&root)?;
        let line = match &check {
            Check::Good => {
                good += 1;
                None
            }
            Check::Missing => {
                missing += 1;
                Some(format!("{}: missing", file.file))
            }
            Check::Different { found } => {
                different += 1;
                Some(format!("{}: {found}", file.file))
            }
        };
        if let (Some(line), Format::Text) = (line, global.format) {
            output::line(&line)?;
        }
        json_rows.push(json!({"file": file.file, "check": check}));
    }
    match global.format {
        Format::Json => output::json(&json_rows)?,
        Format::Text => output::line(&format!("{good} files are as stated, {different} differ, {missing} are missing"))?,
    }
    Ok(if different + missing == 0 { Exit::Fine } else { Exit::Against })
}

fn fetch(args: &FetchArgs, global: &Global) -> anyhow::Result<Exit> {
    let hub = hub::open(global.is_offline()).map_err(HubError::explain)?;
    let names: Vec<&str> = args.tasks.iter().map(String::as_str).collect();
    let (mut rows, mut json_rows) = (Vec::new(), Vec::new());
    for name in tasks::expand(&names).hint("`harness list tasks` shows every name")? {
        let task = tasks::task(&name, tasks::Profile::Canonical)?;
        let context = || format!("cannot fetch the data of task `{name}`");
        let found = hub::fetch_rows(hub.as_ref(), &task.spec().dataset, true).with_context(context)?;
        let counts: Vec<String> = found.splits.iter().map(|(split, rows)| format!("{split} {}", rows.len())).collect();
        let splits: BTreeMap<&String, usize> = found.splits.iter().map(|(split, rows)| (split, rows.len())).collect();
        json_rows
            .push(json!({"task": name, "splits": splits, "files": found.files, "commit": found.commit, "sha256": found.sha256}));
        rows.push(vec![name, counts.join(", "), found.commit, found.sha256[..12].to_owned()]);
    }
    for model in &args.model {
        let id: ModelId = model.parse().map_err(|()| anyhow!("--model: expected `org/name[@revision]`, found `{model}`"))?;
        let folder = hub::fetch_model(hub.as_ref(), &id).with_context(|| format!("cannot fetch model `{id}`"))?;
        let commit = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        json_rows.push(json!({"model": model, "commit": commit, "folder": folder}));
        rows.push(vec![model.clone(), "model".to_owned(), commit, "—".to_owned()]);
    }
    match global.format {
        Format::Json => output::json(&json_rows)?,
        Format::Text => output::data(&output::columns(&["fetched", "rows", "commit", "sha256"], &rows))?,
    }
    Ok(Exit::Fine)
}

fn prepare(args: &PrepareArgs, global: &Global) -> anyhow::Result<Exit> {
    let config = TrainConfig::load(&args.config, &args.sets, None)?;
    let corpus = Corpus::load(&config, &global.runs_dir)?;
    let streams = [("train", &config.data.train, &corpus.train), ("valid", &config.data.valid, &corpus.valid)];
    match global.format {
        Format::Json => output::json(&streams.map(|(split, file, tokens)| {
            json!({"split": split, "file": file, "documents": tokens.documents, "text_bytes": tokens.text_bytes, "tokens": tokens.ids.len()})
        }))?,
        Format::Text => {
            let rows = streams.map(|(split, file, tokens)| {
                let per_token = tokens.text_bytes as f64 / tokens.ids.len() as f64;
                let counts = [tokens.documents.to_string(), tokens.text_bytes.to_string(), tokens.ids.len().to_string(), format!("{per_token:.2}")];
                [vec![split.to_owned(), file.display().to_string()], counts.to_vec()].concat()
            });
            output::data(&output::columns(&["split", "file", "documents", "bytes", "tokens", "bytes per token"], &rows))?;
        }
    }
    Ok(Exit::Fine)
}
