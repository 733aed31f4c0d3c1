//! The hidden `worker`: one job in, its rows out, one measurement in between.
//!
//! The parent may be killed at any moment and the worker too: rows are written in one piece at the end, so half a measurement is never
//! read as a whole one.

use super::allocator;
use super::job::Job;
use super::probes::Kind;
use anyhow::Context as _;
use std::fmt::Write as _;
use std::io::Read;

/// Reads a job, measures, and returns its rows as JSON lines.
///
/// # Errors
/// When the job cannot be read or the measurement fails; the parent turns the message into rows.
pub fn serve(input: impl Read) -> anyhow::Result<String> {
    let job: Job = serde_json::from_reader(input).context("cannot read the job on stdin (`worker` is started by `measure`)")?;
    let probe = job.probe()?;
    let mut subject = job.subject();
    if probe.kind() == Kind::Memory {
        // The pool's threads allocate when they first run; waiting for all of them keeps that out of the numbers, on one side or the
        // other of the start by chance otherwise. Nothing of the job's own text is counted either.
        rayon::broadcast(|_| ());
        allocator::start();
    }
    let measured = probe
        .run(&mut subject, &job.window)
        .with_context(|| format!("probe `{}` of subject `{}`", probe.name(), subject.config.name()))?;
    let mut lines = String::new();
    for measurement in measured {
        let row = job.row(measurement)?;
        row.check()?;
        writeln!(lines, "{}", serde_json::to_string(&row)?)?;
    }
    Ok(lines)
}
