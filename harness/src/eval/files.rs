//! Writes an evaluation's folder: records, manifest, samples, `results.json`.

use std::path::Path;

use anyhow::Context as _;
use records::store::{MANIFEST_FILE, RECORDS_FILE};
use records::{Manifest, RecordWriter, Row, RunStatus, write_atomic};
use serde_json::{Value, json};

use super::results::Evaluation;
use crate::measure::parent::forget;
use crate::provenance;

/// Writes everything below `out`; returns `results.json` as a value. What an earlier evaluation left there goes first, its samples too.
///
/// # Errors
/// When scores cannot be put together (nothing is touched then) or a file cannot be written; a half-written one is never left behind.
pub fn write(evaluation: &Evaluation, out: &Path, started_utc: &str, threads: usize) -> anyhow::Result<Value> {
    let run_id = format!("_suites/{}", evaluation.suite.as_deref().unwrap_or("tasks"));
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
    let samples = out.join("samples");
    // Only where an evaluation wrote before: a folder of this name may be anyone's.
    if samples.is_dir() && out.join(MANIFEST_FILE).is_file() {
        std::fs::remove_dir_all(&samples).with_context(|| format!("cannot replace `{}`", samples.display()))?;
    }
    forget(out)?;
    RecordWriter::open(&out.join(RECORDS_FILE))?.append(&rows)?;
    manifest.save(&out.join(MANIFEST_FILE))?;
    evaluation.write_samples(out)?;
    write_atomic(&out.join("results.json"), (serde_json::to_string_pretty(&results)? + "\n").as_bytes())?;
    Ok(results)
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
