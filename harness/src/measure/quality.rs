//! Time to a named validation loss, from the logs of training runs that are there.
//!
//! ```text
//! time_to_quality_s   Σ wall time of the training steps up to the first validation with val_loss ≤ target
//! step's wall time    its tokens / tokens_per_s of its log line
//! ```
//! Validation passes and checkpoint writes are left out, so how often a run validates does not change its time; a run that never gets
//! there has no number but the reason. The times are those of the run: they compare on one machine, one run at a time.
//!
//! Source: measurement.md section 5.

use crate::config::{RunConfig, TrainConfig};
use crate::run::{CONFIG_FILE, RunDirectory};
use crate::train::log::{self, Line, TRAIN_LOG};
use crate::train::rows::base_row;
use anyhow::{Context as _, bail};
use records::metric::TIME_TO_QUALITY_S;
use records::{CellId, InnerStat, Row, Status};
use std::path::Path;

/// When a log first reaches a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reached {
    /// After this many seconds of training, at this step.
    After(f64, u64),
    /// Never; the best loss there was.
    Never(f64),
}

/// Looks a target up in the lines of a log.
///
/// # Errors
/// When there is no validation, or a loss or a rate is not a number.
pub fn reached(lines: &[Line], target: f64) -> anyhow::Result<Reached> {
    let (mut seconds, mut before, mut best) = (0.0, 0, f64::INFINITY);
    for line in lines {
        match line {
            Line::Step { step, tokens: done, tokens_per_s: rate, .. }
            | Line::ImageStep { step, images: done, images_per_s: rate, .. } => {
                if !(rate.is_finite() && *rate > 0.0) {
                    bail!("step {step}: rate: expected a positive number, found {rate}");
                }
                let Some(new) = done.checked_sub(before) else {
                    bail!("step {step}: work done: expected at least {before}, found {done}");
                };
                seconds += new as f64 / rate;
                before = *done;
            }
            Line::Evaluation { .. } => {} // an image run is judged by accuracy, which its rows hold
            Line::Validation { step, val_loss, .. } => {
                if !val_loss.is_finite() {
                    bail!("step {step}: val_loss: expected a number, found {val_loss}");
                }
                if *val_loss <= target {
                    return Ok(Reached::After(seconds, *step));
                }
                best = best.min(*val_loss);
            }
        }
    }
    if best.is_infinite() {
        bail!("the log has no validation");
    }
    Ok(Reached::Never(best))
}

/// A row per run below `runs_dir` whose subject is one of `subjects`, with every seed there is.
///
/// # Errors
/// When the folder or a log cannot be read, or no subject has a run.
pub fn rows(runs_dir: &Path, subjects: &[&str], target: f64) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for run in crate::run::all_runs(runs_dir)? {
        let config = RunConfig::load(&run.folder().join(CONFIG_FILE), &[], None)?;
        if subjects.contains(&config.name()) {
            let read = || match &config {
                RunConfig::Language(config) => row(&run, config, target),
                RunConfig::Images(_) => bail!("expected a language model, found {}: it has no val_loss", config.kind()),
            };
            rows.push(read().with_context(|| format!("cannot read a time from `{}`", run.folder().display()))?);
        }
    }
    if rows.is_empty() {
        bail!("expected a run of {} below `{}`, found none", subjects.join(", "), runs_dir.display());
    }
    Ok(rows)
}

fn row(run: &RunDirectory, config: &TrainConfig, target: f64) -> anyhow::Result<Row> {
    let manifest = run.manifest()?.unwrap_or_default();
    let threads = manifest.host.threads.unwrap_or(1) as usize;
    let base = Row {
        run_id: config.run_id().to_string(),
        host_fingerprint: manifest.host.host_fingerprint.clone(),
        cargo_profile: manifest.build.cargo_profile.clone(),
        binary_sha256: manifest.build.binary_sha256.clone(),
        config_sha256: Some(config.sha256()),
        task: Some(format!("val_loss<={target}")),
        split: Some("valid".to_owned()),
        metric: TIME_TO_QUALITY_S.name.into(),
        unit: TIME_TO_QUALITY_S.unit.into(),
        better: TIME_TO_QUALITY_S.better,
        ..base_row(config, threads)
    };
    let row = match reached(&log::read(&run.folder().join(TRAIN_LOG))?, target)? {
        Reached::After(seconds, step) => {
            Row { value: Some(seconds), inner_stat: Some(InnerStat::Total), inner_n: Some(step), eval_step: Some(step), ..base }
        }
        Reached::Never(best) => {
            Row { status: Status::Skipped, reason: Some(format!("never reached: best val_loss {best}, target {target}")), ..base }
        }
    };
    Ok(Row { cell_id: Some(CellId::of(&row).into()), ..row }.seal())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, tokens: u64, tokens_per_s: f64) -> Line {
        Line::Step { step, tokens, loss: 3.0, learning_rate: 1e-3, grad_norm: 1.0, tokens_per_s }
    }

    fn validation(step: u64, val_loss: f64) -> Line {
        Line::Validation { step, tokens: 0, val_loss, bits_per_byte: 1.0 }
    }

    #[test]
    fn step_times_add_up_to_the_first_validation_below_the_target() {
        // 100 tokens at 50/s are 2 s, 100 at 100/s 1 s, 100 at 200/s 0.5 s.
        let log = [
            step(1, 100, 50.0),
            validation(1, 3.0),
            step(2, 200, 100.0),
            validation(2, 2.5),
            step(3, 300, 200.0),
            validation(3, 2.0),
        ];
        assert_eq!(reached(&log, 2.5).unwrap(), Reached::After(3.0, 2));
        assert_eq!(reached(&log, 2.1).unwrap(), Reached::After(3.5, 3));
        assert_eq!(reached(&log, 1.0).unwrap(), Reached::Never(2.0));
    }

    #[test]
    fn rates_and_losses_that_are_none_are_refused() {
        let message = |lines: &[Line]| reached(lines, 2.0).unwrap_err().to_string();
        assert_eq!(message(&[step(1, 100, 0.0)]), "step 1: rate: expected a positive number, found 0");
        assert_eq!(message(&[step(1, 100, 1.0), step(2, 50, 1.0)]), "step 2: work done: expected at least 100, found 50");
        assert_eq!(message(&[validation(1, f64::NAN)]), "step 1: val_loss: expected a number, found NaN");
        assert_eq!(message(&[step(1, 100, 1.0)]), "the log has no validation");
    }
}
