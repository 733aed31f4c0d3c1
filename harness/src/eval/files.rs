//! Writes an evaluation's folder: records, manifest, samples, `results.json`.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use records::store::{MANIFEST_FILE, RECORDS_FILE};
use records::{Manifest, RecordWriter, Row, RunStatus, write_atomic};
use serde_json::{Value, json};

use super::results::Evaluation;
use crate::error::Hint as _;
use crate::measure::parent::forget;
use crate::provenance;

/// File name of the results.
const RESULTS_FILE: &str = "results.json";

/// What the run ids of evaluations begin with.
const RUN_IDS: &str = "_suites/";

/// Refuses a folder whose records another command wrote: an evaluation replaces what is there.
///
/// # Errors
/// Records or a manifest of another command, or a manifest that cannot be read.
pub fn refuse_others(out: &Path) -> anyhow::Result<()> {
    let path = out.join(MANIFEST_FILE);
    let found = if path.is_file() {
        let manifest = Manifest::load(&path)?;
        if manifest.run_id.starts_with(RUN_IDS) {
            return Ok(());
        }
        format!("run `{}`", manifest.run_id)
    } else if out.join(RECORDS_FILE).is_file() {
        "records without a manifest".to_owned()
    } else {
        return Ok(());
    };
    Err(anyhow!("cannot write an evaluation into `{}`: expected an earlier one or nothing, found {found}", out.display()))
        .hint("--out DIR writes elsewhere")
}

/// Writes everything below `out`; returns `results.json` as a value. What an earlier evaluation left there goes first, its samples too.
///
/// # Errors
/// As [`refuse_others`], and when scores cannot be put together (nothing is touched then); when a file cannot be written. A half-written one
/// is never left behind.
pub fn write(evaluation: &Evaluation, out: &Path, started_utc: &str, threads: usize) -> anyhow::Result<Value> {
    refuse_others(out)?;
    let run_id = format!("{RUN_IDS}{}", evaluation.suite.as_deref().unwrap_or("tasks"));
    let manifest = Manifest {
        run_id: run_id.clone(),
        command: provenance::command(),
        started_utc: started_utc.to_owned(),
        finished_utc: Some(provenance::utc_now()),
        status: RunStatus::Finished,
        host: provenance::host(threads),
        build: provenance::build(),
        ..Manifest::default()
    };
    let results = evaluation.to_json(provenance_json(evaluation, &manifest, threads))?;
    let rows: Vec<Row> = evaluation.rows().into_iter().map(|row| Row { run_id: run_id.clone(), ..row }.seal()).collect();

    std::fs::create_dir_all(out).with_context(|| format!("cannot create `{}`", out.display()))?;
    forget_samples(out)?;
    forget(out)?;
    // First, so that records never stand without it: they would be taken for another command's.
    manifest.save(&out.join(MANIFEST_FILE))?;
    RecordWriter::open(&out.join(RECORDS_FILE))?.append(&rows)?;
    evaluation.write_samples(out)?;
    write_atomic(&out.join(RESULTS_FILE), (serde_json::to_string_pretty(&results)? + "\n").as_bytes())?;
    Ok(results)
}

/// Removes the samples of the models of the evaluation that wrote here before; others in that folder are not ours.
fn forget_samples(out: &Path) -> anyhow::Result<()> {
    let path = out.join(RESULTS_FILE);
    if !path.is_file() || !out.join(MANIFEST_FILE).is_file() {
        return Ok(());
    }
    let context = || format!("cannot replace the evaluation of `{}`", path.display());
    let earlier: Value = serde_json::from_slice(&std::fs::read(&path).with_context(context)?).with_context(context)?;
    let names = earlier["models"].as_object().into_iter().flat_map(|models| models.keys());
    // A file that came from elsewhere must not lead out of the folder.
    for name in names.filter(|name| Path::new(name).file_name() == Some(OsStr::new(name))) {
        let samples = out.join("samples").join(name);
        if samples.is_dir() {
            std::fs::remove_dir_all(&samples).with_context(|| format!("cannot replace `{}`", samples.display()))?;
        }
    }
    Ok(())
}

fn provenance_json(evaluation: &Evaluation, manifest: &Manifest, threads: usize) -> Value {
    let build = &manifest.build;
    let mut provenance = json!({
        "suite": evaluation.suite,
        "profile": evaluation.profile.name(),
        "command": manifest.command,
        "started_utc": manifest.started_utc,
        "finished_utc": manifest.finished_utc,
        "harness_version": build.harness_version,
        "git_commit": build.git_commit,
        "git_dirty": build.git_dirty,
        "threads": threads,
        "code_execution": evaluation.sandbox,
        "host_fingerprint": manifest.host.host_fingerprint,
    });
    for (key, value) in &evaluation.settings {
        provenance[key] = value.clone();
    }
    provenance
}
