//! Shards of an evaluation: what one of n processes leaves, and how all of them become the result that one process would have given.
//!
//! ```text
//! eval --shard 1/3 --out A    A/shard.json   documents 1, 4, 7 … of every task: requests, answers, scores, nothing aggregated
//! merge A B C --out DIR       every document once, in order ──> aggregated and written by the code of an unsharded run
//! ```
//! Few-shot examples are drawn before the documents are dealt out, and no answer depends on what is asked beside it, so the merged files
//! equal the unsharded ones byte for byte, but for times, commands and hosts in the provenance.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use records::write_atomic;
use serde::{Deserialize, Serialize};

use super::results::{Evaluation, RunOutcome};
use crate::error::Hint as _;
use crate::plan::Shard;

/// File name of a shard's documents.
pub const SHARD_FILE: &str = "shard.json";

/// What one process leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShardFile {
    schema: u32,
    /// Number of the part, from 1.
    pub shard: usize,
    /// Parts.
    pub of: usize,
    /// When the process started, UTC.
    pub started_utc: String,
    /// CPU threads it used.
    pub threads: usize,
    /// The documents.
    pub evaluation: Evaluation,
}

impl ShardFile {
    /// An evaluation of a part of the documents.
    pub fn new(shard: Shard, started_utc: String, threads: usize, evaluation: Evaluation) -> Self {
        let (shard, of) = shard.numbers();
        Self { schema: 1, shard, of, started_utc, threads, evaluation }
    }

    /// Writes the file into a folder, as a whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        write_atomic(&folder.join(SHARD_FILE), &serde_json::to_vec(self)?)?;
        Ok(())
    }

    /// Reads the file of a folder.
    ///
    /// # Errors
    /// When it is missing or of another form.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(SHARD_FILE);
        let context = || format!("cannot read shard `{}`", path.display());
        let text = std::fs::read_to_string(&path).with_context(context)?;
        let shard: Self = serde_json::from_str(&text).with_context(context)?;
        if shard.schema != 1 {
            bail!("shard `{}`: schema: expected 1, found {}", path.display(), shard.schema);
        }
        Ok(shard)
    }
}

/// Joins all shards of one evaluation and aggregates.
///
/// # Errors
/// A shard is missing, there twice, or of another evaluation (settings, models, tasks, documents).
pub fn join(mut shards: Vec<(PathBuf, ShardFile)>) -> anyhow::Result<ShardFile> {
    shards.sort_by_key(|(_, shard)| shard.shard);
    let of = shards.first().map_or(0, |(_, shard)| shard.of);
    for (path, shard) in &shards {
        if shard.of != of {
            bail!("shard `{}`: expected one of {of} shards, found one of {}", path.display(), shard.of);
        }
    }
    if let Some(pair) = shards.windows(2).find(|pair| pair[0].1.shard == pair[1].1.shard) {
        bail!("shard {}/{of} is there twice: `{}` and `{}`", pair[0].1.shard, pair[0].0.display(), pair[1].0.display());
    }
    if let Some(missing) = (1..=of).find(|number| shards.iter().all(|(_, shard)| shard.shard != *number)) {
        return Err(anyhow!("expected {of} shards, found {}: {missing}/{of} is missing", shards.len()))
            .hint(format!("run the same command with --shard {missing}/{of}"));
    }
    let mut rest = shards.into_iter();
    let Some((_, mut joined)) = rest.next() else { bail!("expected shards, found none") };
    for (path, shard) in rest {
        joined.started_utc = joined.started_utc.min(shard.started_utc.clone());
        add(&mut joined.evaluation, shard.evaluation)
            .with_context(|| format!("shard `{}` does not belong to the first", path.display()))?;
    }
    joined.evaluation.conclude()?;
    Ok(joined)
}

fn add(joined: &mut Evaluation, other: Evaluation) -> anyhow::Result<()> {
    let same = |what: &str, a: String, b: String| if a == b { Ok(()) } else { Err(anyhow!("{what}: expected {a}, found {b}")) };
    same("suite", format!("{:?}", joined.suite), format!("{:?}", other.suite))?;
    same("profile", joined.profile.name().to_owned(), other.profile.name().to_owned())?;
    for (key, value) in &joined.settings {
        same(key, value.to_string(), other.settings.get(key).map_or_else(|| "nothing".to_owned(), ToString::to_string))?;
    }
    same("models", joined.models.len().to_string(), other.models.len().to_string())?;
    for (model, other) in joined.models.iter_mut().zip(other.models) {
        same("model", model.name.clone(), other.name)?;
        same("seeds", model.runs.len().to_string(), other.runs.len().to_string())?;
        for (run, other) in model.runs.iter_mut().zip(other.runs) {
            same("weights", run.weights_digest.clone(), other.weights_digest.clone())?;
            same("tokenizer", run.tokenizer_sha256.clone(), other.tokenizer_sha256.clone())?;
            add_run(run, other)?;
        }
    }
    Ok(())
}

fn add_run(run: &mut RunOutcome, other: RunOutcome) -> anyhow::Result<()> {
    if run.tasks.len() != other.tasks.len() {
        bail!("tasks: expected {}, found {}", run.tasks.len(), other.tasks.len());
    }
    for ((name, outcome), (other_name, other)) in run.tasks.iter_mut().zip(other.tasks) {
        match (outcome, other) {
            _ if *name != other_name => bail!("tasks: expected `{name}`, found `{other_name}`"),
            (Ok(result), Ok(other)) => {
                let facts = |r: &super::runner::TaskResult| (r.spec.clone(), r.num_fewshot, r.limit, r.dataset_sha256.clone());
                if facts(result) != facts(&other) && !other.samples.is_empty() && !result.samples.is_empty() {
                    bail!("task `{name}`: expected the same version, shots, limit and documents in every shard");
                }
                result.join(*other);
            }
            (Err(why), Err(other)) if *why == other => {}
            (Ok(_), Err(why)) => bail!("task `{name}` ran in one shard and not in another: {why}"),
            (Err(why), Ok(_)) => bail!("task `{name}` ran in one shard and not in another: {why}"),
            (Err(why), Err(other)) => bail!("task `{name}` did not run, for different reasons: {why}; {other}"),
        }
    }
    Ok(())
}
