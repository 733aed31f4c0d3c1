//! Where the time of an optimizer step goes: forward, backward, update.
//!
//! ```text
//! train_step_fwd_s + train_step_bwd_s + train_step_opt_s ≈ train_step_s        sums over micro-batches, median over steps
//! ```
//! A worker of its own: synchronising between the parts disturbs the total, so `train_step_s` is never read here. Whatever lies between
//! two parts, such as making the inputs, belongs to the later one.
//!
//! Source: measurement.md section 5.

use super::train_step::DISTINCT_STEPS;
use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::{self, WindowSpec};
use crate::train::step::Part;
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
        let mut number = 0;
        let timed = window::run(spec, || {
            let mut parts_s = [0.0; 3];
            let (seconds, _) = window::time(&device, || {
                let mut last = Instant::now();
                training.step(number, |part| {
                    device.synchronize()?;
                    let now = Instant::now();
                    parts_s[part as usize] += now.duration_since(last).as_secs_f64();
                    last = now;
                    Ok(())
                })
            })?;
            number += 1;
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
