//! Shards of an evaluation: what one of n processes leaves, and how all of them become the result that one process would have given.
//!
//! ```text
//! eval --shard 1/3 --out A    A/shard.json   documents 1, 4, 7 … of every task: requests, answers, scores, nothing aggregated
//! merge A B C --out DIR       every document once, in order ──> aggregated and written by the code of an unsharded run
//! ```
//! Few-shot examples are drawn before the documents are dealt out, so the merged files are the unsharded ones, but for times, commands and
//! hosts in the provenance: byte for byte where no answer depends on what is asked beside it, which `selfcheck` shows of a model.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use records::{Build, write_atomic};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::results::{Evaluation, RunOutcome};
use crate::error::Hint as _;
use crate::plan::Shard;
use crate::provenance;

/// File name of a shard's documents.
pub const SHARD_FILE: &str = "shard.json";

/// Form of the file.
const SCHEMA: u32 = 2;

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
    /// Version of the program.
    pub harness_version: Option<String>,
    /// Commit of the program, where its sources are there.
    pub git_commit: Option<String>,
    /// The documents.
    pub evaluation: Evaluation,
}

impl ShardFile {
    /// An evaluation of a part of the documents.
    pub fn new(shard: Shard, started_utc: String, threads: usize, evaluation: Evaluation) -> Self {
        let (shard, of) = shard.numbers();
        let Build { harness_version, git_commit, .. } = provenance::build();
        Self { schema: SCHEMA, shard, of, started_utc, threads, harness_version, git_commit, evaluation }
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

    /// Removes the file of an earlier part from a folder that gets the result of a whole: `merge` would take the folder for a part.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn forget(folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(SHARD_FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(anyhow::Error::new(error).context(format!("cannot remove `{}`", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a program of another version or commit than the parts': the merged files name the program that writes them.
    ///
    /// # Errors
    /// When either differs; a commit that one of them does not know is not compared.
    pub fn check_build(&self, build: &Build) -> anyhow::Result<()> {
        same_build(
            [self.harness_version.as_ref(), self.git_commit.as_ref()],
            [build.harness_version.as_ref(), build.git_commit.as_ref()],
        )
        .context("cannot merge parts of another program")
        .hint("merge with the program that evaluated the parts")
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
        if shard.schema != SCHEMA {
            bail!("shard `{}`: schema: expected {SCHEMA}, found {}", path.display(), shard.schema);
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
        add(&mut joined, shard).with_context(|| format!("shard `{}` does not belong to the first", path.display()))?;
    }
    joined.evaluation.conclude()?;
    Ok(joined)
}

fn same(what: &str, expected: String, found: String) -> anyhow::Result<()> {
    if expected == found { Ok(()) } else { Err(anyhow!("{what}: expected {expected}, found {found}")) }
}

fn text(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "none".to_owned())
}

/// Compares version and commit.
fn same_build(expected: [Option<&String>; 2], found: [Option<&String>; 2]) -> anyhow::Result<()> {
    same("harness version", text(expected[0]), text(found[0]))?;
    match (expected[1], found[1]) {
        (Some(expected), Some(found)) => same("commit", expected.clone(), found.clone()),
        // A machine without the sources knows no commit.
        _ => Ok(()),
    }
}

fn add(joined: &mut ShardFile, other: ShardFile) -> anyhow::Result<()> {
    let json = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    same_build(
        [joined.harness_version.as_ref(), joined.git_commit.as_ref()],
        [other.harness_version.as_ref(), other.git_commit.as_ref()],
    )?;
    joined.git_commit = joined.git_commit.take().or(other.git_commit);
    let (joined, other) = (&mut joined.evaluation, other.evaluation);
    same("suite", text(joined.suite.as_ref()), text(other.suite.as_ref()))?;
    same("profile", joined.profile.name().to_owned(), other.profile.name().to_owned())?;
    for key in joined.settings.keys().chain(other.settings.keys()) {
        same(key, json(joined.settings.get(key)), json(other.settings.get(key)))?;
    }
    same("groups", format!("{:?}", joined.groups), format!("{:?}", other.groups))?;
    same("sandbox", text(joined.sandbox.as_ref()), text(other.sandbox.as_ref()))?;
    same("models", joined.models.len().to_string(), other.models.len().to_string())?;
    for (model, other) in joined.models.iter_mut().zip(other.models) {
        same("model", model.name.clone(), other.name)?;
        same("seeds", model.runs.len().to_string(), other.runs.len().to_string())?;
        for (run, other) in model.runs.iter_mut().zip(other.runs) {
            same("seed", format!("{:?}", run.seed), format!("{:?}", other.seed))?;
            same("weights", run.weights_digest.clone(), other.weights_digest.clone())?;
            same("tokenizer", run.tokenizer_sha256.clone(), other.tokenizer_sha256.clone())?;
            same("chat", json(run.chat.as_ref()), json(other.chat.as_ref()))?;
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
                if facts(result) != facts(&other) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::results::ModelOutcome;
    use crate::eval::runner::{NotRun, TaskResult};
    use serde_json::json;
    use tasks::{GroupSpec, Profile};

    /// Shard of two: one model, one task, none of whose documents fell to this part.
    fn shard(number: usize) -> ShardFile {
        let spec = tasks::task("boolq", Profile::Canonical).unwrap().spec().clone();
        let run = RunOutcome::of(vec![("boolq".to_owned(), Ok(Box::new(TaskResult::new(spec, "d".to_owned()))))]);
        let evaluation = Evaluation {
            suite: None,
            profile: Profile::Canonical,
            settings: [("data".to_owned(), json!("bundled"))].into_iter().collect(),
            groups: Vec::new(),
            sandbox: None,
            models: vec![ModelOutcome { name: "m".to_owned(), runs: vec![run] }],
        };
        ShardFile {
            schema: SCHEMA,
            shard: number,
            of: 2,
            started_utc: String::new(),
            threads: 1,
            harness_version: Some("1".to_owned()),
            git_commit: None,
            evaluation,
        }
    }

    fn join_with(change: impl Fn(&mut ShardFile)) -> anyhow::Result<ShardFile> {
        let mut second = shard(2);
        change(&mut second);
        join(vec![("a".into(), shard(1)), ("b".into(), second)])
    }

    #[test]
    fn shards_that_differ_in_anything_but_documents_are_refused() {
        let joined = join_with(|_| {}).unwrap();
        assert!(matches!(joined.evaluation.models[0].runs[0].tasks[0].1, Err(NotRun::Failed { .. })), "no documents");
        let group = GroupSpec { name: "mmlu".to_owned(), leaves: Vec::new(), size_weighted: true };
        let result = |shard: &mut ShardFile, change: fn(&mut TaskResult)| {
            change(shard.evaluation.models[0].runs[0].tasks[0].1.as_mut().unwrap());
        };
        type Change = Box<dyn Fn(&mut ShardFile)>;
        let changes: [(&str, Change); 8] = [
            ("harness version: expected 1, found 2", Box::new(|s| s.harness_version = Some("2".into()))),
            ("sandbox: ", Box::new(|s| s.evaluation.sandbox = Some("Python 3".into()))),
            ("groups: ", Box::new(move |s| s.evaluation.groups.push(group.clone()))),
            (
                "data_note: expected nothing, found null",
                Box::new(|s| drop(s.evaluation.settings.insert("data_note".into(), Value::Null))),
            ),
            ("chat: expected nothing, found {", Box::new(|s| s.evaluation.models[0].runs[0].chat = Some(json!({"system": "x"})))),
            ("seed: ", Box::new(|s| s.evaluation.models[0].runs[0].seed = Some(1))),
            ("task `boolq`: expected the same", Box::new(move |s| result(s, |r| r.num_fewshot = 5))),
            ("task `boolq`: expected the same", Box::new(move |s| result(s, |r| r.dataset_sha256 = "e".into()))),
        ];
        for (expected, change) in changes {
            let error = format!("{:#}", join_with(change).unwrap_err());
            assert!(error.contains(expected) && error.contains("shard `b` does not belong to the first"), "{expected}: {error}");
        }
    }

    #[test]
    fn commits_are_compared_where_both_are_known() {
        let commits = |commits: [Option<&str>; 3]| {
            let with = |(at, commit): (usize, Option<&str>)| {
                let git_commit = commit.map(str::to_owned);
                (PathBuf::from("part"), ShardFile { git_commit, of: 3, ..shard(at + 1) })
            };
            join(commits.into_iter().enumerate().map(with).collect())
        };
        assert!(commits([Some("1"), None, Some("1")]).is_ok());
        for different in [[Some("1"), Some("2"), None], [None, Some("1"), Some("2")]] {
            assert!(format!("{:#}", commits(different).unwrap_err()).contains("commit: expected 1, found 2"));
        }
    }

    #[test]
    fn parts_are_merged_by_the_program_that_evaluated_them() {
        let parts = ShardFile { git_commit: Some("1".to_owned()), ..shard(1) };
        let merged_by = |version: &str, commit: Option<&str>| {
            let git_commit = commit.map(str::to_owned);
            let build = Build { harness_version: Some(version.to_owned()), git_commit, ..Build::default() };
            parts.check_build(&build).map_err(|error| format!("{error:#}"))
        };
        assert_eq!([merged_by("1", Some("1")), merged_by("1", None)], [Ok(()), Ok(())]);
        assert!(merged_by("2", Some("1")).unwrap_err().contains("harness version: expected 1, found 2"));
        assert!(merged_by("1", Some("2")).unwrap_err().contains("another program: commit: expected 1, found 2"));
    }
}
