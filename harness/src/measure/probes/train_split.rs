//! Where the time of an optimizer step goes: forward, backward, update.
//!
//! ```text
//! train_step_fwd_s + train_step_bwd_s + train_step_opt_s ≈ train_step_s        sums over micro-batches, median over steps
//! ```
//! A worker of its own: synchronising between the parts disturbs the total, so `train_step_s` is never read here. Whatever lies between
//! two parts, such as making the inputs, belongs to the later one.
//!
//! Source: measurement.md section 5.

use super::train_step::{DISTINCT_STEPS, RATE_FRACTION};
use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::{self, WindowSpec};
use crate::train::step::{Part, train_step_in_parts};
use anyhow::ensure;
use records::metric::{TRAIN_STEP_BWD_S, TRAIN_STEP_FWD_S, TRAIN_STEP_OPT_S};
use records::{Measurement, Metric};
use std::time::Instant;

/// The probe.
#[derive(Debug)]
pub struct TrainSplit;

impl Probe for TrainSplit {
    fn name(&self) -> &'static str {
        "train_split"
    }

    fn about(&self) -> &'static str {
        "forward, backward and update parts of an optimizer step"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Training
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![TRAIN_STEP_FWD_S, TRAIN_STEP_BWD_S, TRAIN_STEP_OPT_S]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        kernels::cpu::keep_freed_memory();
        let mut training = subject.training(DISTINCT_STEPS)?;
        let device = subject.device();
        let mut inputs = training.steps.iter().cycle();
        let timed = window::run(spec, || {
            let batches = inputs.next().expect("a cycle of at least one step");
            let mut parts_s = [0.0; 3];
            let (seconds, report) = window::time(&device, || {
                let mut last = Instant::now();
                let report = train_step_in_parts(&training.model, &mut training.optimizer, batches, RATE_FRACTION, |part| {
                    device.synchronize()?;
                    let now = Instant::now();
                    parts_s[part as usize] += now.duration_since(last).as_secs_f64();
                    last = now;
                    Ok(())
                })?;
                Ok(report)
            })?;
            ensure!(report.loss.is_finite() && report.grad_norm.is_finite(), "the step's loss is not finite: {report:?}");
            Ok((seconds, parts_s))
        })?;
        let part = |metric: Metric, part: Part| {
            timed.median_of(metric, timed.results.iter().map(|parts_s| parts_s[part as usize]).collect())
        };
        Ok(vec![
            part(TRAIN_STEP_FWD_S, Part::Forward)?,
            part(TRAIN_STEP_BWD_S, Part::Backward)?,
            part(TRAIN_STEP_OPT_S, Part::Update)?,
        ])
    }
}
