//! What training on text and on images share around their loops: the locked folder, the manifest, how a run ends.

use super::checkpoint;
use crate::error::Hint as _;
use crate::provenance;
use crate::run::{CONFIG_FILE, RunDirectory, RunLock};
use anyhow::{Context as _, anyhow};
use records::{Inputs, Manifest, RecordWriter, Row, RunId, RunStatus};
use std::path::Path;

/// Advice for a run that diverged.
const DIVERGED_HINT: &str = "lower optimizer.learning_rate, lengthen optimizer.warmup_steps, or set optimizer.max_grad_norm";

/// What a run directory says about its run.
pub(super) struct Start<'a> {
    pub(super) run_id: RunId,
    /// The resolved config.
    pub(super) toml: String,
    /// Copied into the folder, so that it stands alone.
    pub(super) tokenizer: Option<&'a Path>,
    pub(super) inputs: Inputs,
    pub(super) threads: usize,
}

/// Takes the directory and clears what a killed process (or, if `fresh`, an earlier run) left.
pub(super) fn open(run: &RunDirectory, fresh: bool) -> anyhow::Result<RunLock> {
    let lock = run.lock()?;
    if fresh {
        forget(run)?;
    }
    checkpoint::remove_leftovers(&run.checkpoints())?;
    Ok(lock)
}

/// Writes config, tokenizer and manifest of a new run; checks that an old one had the same inputs.
pub(super) fn start_manifest(run: &RunDirectory, start: Start<'_>) -> anyhow::Result<Manifest> {
    if let Some(mut earlier) = run.manifest()? {
        for (name, old, new) in [
            ("data files", &earlier.inputs.dataset_sha256, &start.inputs.dataset_sha256),
            ("tokenizer", &earlier.inputs.tokenizer_sha256, &start.inputs.tokenizer_sha256),
        ] {
            if old != new {
                let show = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "nothing".to_owned());
                return Err(anyhow!(
                    "the {name} changed since `{}` was started: expected sha256 {}, found {}",
                    run.folder().display(),
                    show(old),
                    show(new)
                ))
                .hint("repeat with --fresh to forget the earlier run");
            }
        }
        if earlier.status == RunStatus::Finished {
            return Ok(earlier);
        }
        earlier.status = RunStatus::Running;
        earlier.reason = None;
        earlier.finished_utc = None;
        earlier.save(&run.manifest_path())?;
        return Ok(earlier);
    }
    let header = format!(
        "# Resolved config of run {}; written by `harness train`; a key that is missing has its default.\n",
        start.run_id
    );
    records::write_atomic(&run.folder().join(CONFIG_FILE), (header + &start.toml).as_bytes())?;
    if let Some(tokenizer) = start.tokenizer {
        records::write_atomic(&run.tokenizer(), &std::fs::read(tokenizer)?)?;
    }
    let manifest = Manifest {
        run_id: start.run_id.into(),
        command: provenance::command(),
        started_utc: provenance::utc_now(),
        host: provenance::host(start.threads),
        build: provenance::build(),
        inputs: start.inputs,
        ..Manifest::default()
    };
    manifest.save(&run.manifest_path())?;
    Ok(manifest)
}

/// Records how the steps ended. `failure` makes the row of a run that diverged.
pub(super) fn close<T>(
    run: &RunDirectory,
    mut manifest: Manifest,
    result: anyhow::Result<T>,
    failure: impl FnOnce(&Manifest) -> Row,
) -> anyhow::Result<T> {
    match result {
        Ok(summary) => {
            if manifest.status != RunStatus::Finished {
                manifest.status = RunStatus::Finished;
                manifest.finished_utc = Some(provenance::utc_now());
                manifest.save(&run.manifest_path())?;
            }
            Ok(summary)
        }
        Err(error) => {
            manifest.status = RunStatus::Failed;
            manifest.reason = Some(format!("{error:#}"));
            manifest.finished_utc = Some(provenance::utc_now());
            let diverged = error.downcast_ref::<NotFinite>().is_some();
            // Only what would happen again is a result; a full disk is not.
            let row = diverged.then(|| failure(&manifest));
            let noted = row.map_or(Ok(()), |row| RecordWriter::open(&run.records())?.append(&[row]).map(drop));
            // The first error is the one to report: a full disk, say, also stops these two.
            if let Err(second) = noted.and_then(|()| manifest.save(&run.manifest_path())) {
                tracing::warn!("the failure could not be recorded: {second}");
            }
            let error = error.context(format!("run `{}` stopped", manifest.run_id));
            Err(if diverged { error.hint(DIVERGED_HINT) } else { error })
        }
    }
}

/// A loss or gradient that no step can be made from.
#[derive(Debug, thiserror::Error)]
#[error("the {what} is not finite at step {step}: found {value}; last good checkpoint: {last}")]
pub(super) struct NotFinite {
    what: &'static str,
    step: u64,
    value: f64,
    last: String,
}

/// Fails when loss or gradient norm of a step are not finite.
pub(super) fn check_finite(run: &RunDirectory, step: u64, loss: f64, grad_norm: f64) -> anyhow::Result<()> {
    if loss.is_finite() && grad_norm.is_finite() {
        return Ok(());
    }
    let (what, value) = if loss.is_finite() { ("gradient norm", grad_norm) } else { ("loss", loss) };
    let last = run.newest_checkpoint()?.map_or_else(|| "none".to_owned(), |last| checkpoint::folder_name(last.state.step));
    Err(NotFinite { what, step, value, last }.into())
}

/// Whether something that happens every so many steps happens after `step`; 0 never.
pub(super) fn is_due(every: u64, step: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// Removes what an earlier run of the same config and seed left. The lock file stays: it is held.
fn forget(run: &RunDirectory) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(run.folder())? {
        let entry = entry?;
        if entry.file_name() == "lock" {
            continue;
        }
        let path = entry.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove `{}`", path.display()))?;
    }
    Ok(())
}
