//! One optimizer step: forward, backward, clip and update over all micro-batches, by the training loop's own function.
//!
//! ```text
//! train_step_s          wall time of a step (the paper's "average step time"), loss read
//! train_steps_per_s     timed steps / length of the whole window, not the mean of reciprocals
//! ```
//! Inputs differ from step to step and the rate is a thousandth of the config's: the work is that of a real step, while a model that
//! fits one batch perfectly would run into denormal gradients, which are slower.
//!
//! Source: measurement.md section 5.

use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::{self, WindowSpec};
use crate::train::step::train_step;
use anyhow::ensure;
use records::metric::{FIRST_STEP_S, TRAIN_SAMPLES_PER_S, TRAIN_STEP_S, TRAIN_STEPS_PER_S, TRAIN_TOKENS_PER_S};
use records::{InnerStat, Measurement, Metric};

/// Share of the peak learning rates.
pub(super) const RATE_FRACTION: f64 = 1e-3;
/// Different steps' inputs that are used in turn.
pub(super) const DISTINCT_STEPS: u64 = 16;

/// The probe.
#[derive(Debug)]
pub struct TrainStep;

impl Probe for TrainStep {
    fn name(&self) -> &'static str {
        "train_step"
    }

    fn about(&self) -> &'static str {
        "time of an optimizer step: forward, backward, update"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Training
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![TRAIN_STEP_S, TRAIN_STEPS_PER_S, TRAIN_TOKENS_PER_S, TRAIN_SAMPLES_PER_S, FIRST_STEP_S]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        // As the training loop does; it moves the times of all variants alike.
        kernels::cpu::keep_freed_memory();
        let mut training = subject.training(DISTINCT_STEPS)?;
        let device = subject.device();
        let mut inputs = training.steps.iter().cycle();
        let timed = window::run(spec, || {
            let batches = inputs.next().expect("a cycle of at least one step");
            let (seconds, report) =
                window::time(&device, || Ok(train_step(&training.model, &mut training.optimizer, batches, RATE_FRACTION)?))?;
            ensure!(report.loss.is_finite() && report.grad_norm.is_finite(), "the step's loss is not finite: {report:?}");
            Ok((seconds, ()))
        })?;
        let steps_per_s = timed.samples.len() as f64 / timed.window_s;
        let count = timed.samples.len();
        let sequences = (subject.config.batch * subject.config.grad_accum) as f64;
        Ok(vec![
            timed.median_of(TRAIN_STEP_S, timed.samples.clone())?,
            timed.one(TRAIN_STEPS_PER_S, steps_per_s, InnerStat::Total, count),
            timed.one(TRAIN_TOKENS_PER_S, steps_per_s * subject.config.tokens_per_step() as f64, InnerStat::Total, count),
            timed.one(TRAIN_SAMPLES_PER_S, steps_per_s * sequences, InnerStat::Total, count),
            timed.one(FIRST_STEP_S, timed.first_s, InnerStat::Exact, 1),
        ])
    }
}
