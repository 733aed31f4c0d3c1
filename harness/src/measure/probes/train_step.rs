//! One optimizer step: forward, backward, clip and update over all micro-batches, by the training loop's own function.
//!
//! ```text
//! train_step_s          wall time of a step (the paper's "average step time"), loss read
//! train_steps_per_s     timed steps / length of the whole window, not the mean of reciprocals
//! train_samples_per_s   sequences or pictures per step · train_steps_per_s
//! ```
//! Inputs differ from step to step and the rate is a thousandth of the config's: the work is that of a real step, while a model that
//! fits one batch perfectly would run into denormal gradients, which are slower.
//!
//! Source: measurement.md section 5.

use super::{Kind, Probe, Work};
use crate::config::RunConfig;
use crate::measure::subject::{Subject, Training};
use crate::measure::window::{self, Timed, WindowSpec};
use candle_core::Device;
use records::metric::{FIRST_STEP_S, TRAIN_SAMPLES_PER_S, TRAIN_STEP_S, TRAIN_STEPS_PER_S, TRAIN_TOKENS_PER_S};
use records::{InnerStat, Measurement, Metric};

/// Different steps' inputs that are used in turn.
pub(super) const DISTINCT_STEPS: usize = 16;

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
        let timed = timed_steps(&mut training, &subject.device(), spec)?;
        let steps_per_s = timed.samples.len() as f64 / timed.window_s;
        let count = timed.samples.len();
        let rate = |metric: Metric, per_step: u64| timed.one(metric, steps_per_s * per_step as f64, InnerStat::Total, count);
        let mut rows = vec![
            timed.median_of(TRAIN_STEP_S, timed.samples.clone())?,
            timed.one(TRAIN_STEPS_PER_S, steps_per_s, InnerStat::Total, count),
            timed.one(FIRST_STEP_S, timed.first_s, InnerStat::Exact, 1),
        ];
        match &subject.config {
            RunConfig::Language(config) => rows.extend([
                rate(TRAIN_TOKENS_PER_S, config.tokens_per_step()),
                rate(TRAIN_SAMPLES_PER_S, (config.batch * config.grad_accum) as u64),
            ]),
            RunConfig::Images(config) => rows.push(rate(TRAIN_SAMPLES_PER_S, config.images_per_step())),
        }
        Ok(rows)
    }
}

/// Times steps on the inputs of each in turn.
pub(super) fn timed_steps(training: &mut Training, device: &Device, spec: &WindowSpec) -> anyhow::Result<Timed<()>> {
    let mut number = 0;
    window::run(spec, || {
        let (seconds, _) = window::time(device, || training.step(number, |_| Ok(())))?;
        number += 1;
        Ok((seconds, ()))
    })
}
