//! Energy per optimizer step and per output token, where the machine counts it.
//!
//! ```text
//! energy_step_j      joules of the timed window / its steps              energy_token_j   joules of the timed requests / their tokens
//! idle_power_w       joules of one sleeping second: what the machine draws without the work, never subtracted
//! ```
//! The whole machine is counted, so the numbers mean something on an otherwise quiet one; rows carry the contention evidence. Without a
//! counter, as in most virtual machines, every row is skipped with the reason.
//!
//! Source: measurement.md section 8.

use super::request::Engine;
use super::train_step::DISTINCT_STEPS;
use super::{Kind, Probe, Work};
use crate::measure::energy::{Counters, POWERCAP};
use crate::measure::subject::Subject;
use crate::measure::window::{self, Timed, WindowSpec};
use records::metric::{ENERGY_STEP_J, ENERGY_TOKEN_J, IDLE_POWER_W};
use records::{InnerStat, Measurement, Metric, Outcome, Reason};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long power at rest is read.
const IDLE: Duration = Duration::from_secs(1);

/// Energy of training.
#[derive(Debug)]
pub struct TrainEnergy;

impl Probe for TrainEnergy {
    fn name(&self) -> &'static str {
        "train_energy"
    }

    fn about(&self) -> &'static str {
        "joules per optimizer step, where the machine has a counter"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Training
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![ENERGY_STEP_J, IDLE_POWER_W]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let counters = match Counters::find(Path::new(POWERCAP)) {
            Ok(counters) => counters,
            Err(reason) => return Ok(skipped(self.metrics(), &reason)),
        };
        let idle = idle_power(&counters);
        kernels::cpu::keep_freed_memory();
        let mut training = subject.training(DISTINCT_STEPS)?;
        let device = subject.device();
        let mut number = 0;
        let timed = counted(&counters, spec, || {
            number += 1;
            window::time(&device, || training.step(number, |_| Ok(())))
        })?;
        Ok(vec![per_unit(&counters, &timed, ENERGY_STEP_J, 1), Measurement::new(IDLE_POWER_W, outcome(idle, 1))])
    }
}

/// Energy of decoding.
#[derive(Debug)]
pub struct RequestEnergy;

impl Probe for RequestEnergy {
    fn name(&self) -> &'static str {
        "request_energy"
    }

    fn about(&self) -> &'static str {
        "joules per output token of whole requests, where the machine has a counter"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Request
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![ENERGY_TOKEN_J]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let counters = match Counters::find(Path::new(POWERCAP)) {
            Ok(counters) => counters,
            Err(reason) => return Ok(skipped(self.metrics(), &reason)),
        };
        let engine = Engine::with_ids(subject)?;
        let length = subject.workload.output_length;
        let timed = counted(&counters, spec, || {
            let request = engine.answer(length)?;
            Ok((request.e2e_s(), request))
        })?;
        Ok(vec![per_unit(&counters, &timed, ENERGY_TOKEN_J, length * subject.workload.batch)])
    }
}

fn skipped(metrics: Vec<Metric>, reason: &str) -> Vec<Measurement> {
    metrics.into_iter().map(|metric| Measurement::new(metric, Outcome::Skipped(Reason::new(reason)))).collect()
}

fn outcome(value: Result<f64, String>, n: usize) -> Outcome {
    match value {
        Ok(value) => Outcome::of(value, InnerStat::Mean, n as u64),
        Err(reason) => Outcome::Skipped(Reason::new(reason)),
    }
}

/// Counts at the end of an iteration, and when that was.
type Mark = (Instant, Result<crate::measure::energy::Reading, String>);

/// A window whose iterations note the counters at their end.
fn counted<T>(
    counters: &Counters,
    spec: &WindowSpec,
    mut work: impl FnMut() -> anyhow::Result<(f64, T)>,
) -> anyhow::Result<Timed<Mark>> {
    window::run(spec, || {
        let (seconds, _) = work()?;
        Ok((seconds, (Instant::now(), counters.read())))
    })
}

/// Joules between the end of the first and of the last timed iteration, per iteration and per one of its `units`.
fn per_unit(counters: &Counters, timed: &Timed<Mark>, metric: Metric, units: usize) -> Measurement {
    let iterations = timed.results.len() - 1;
    let joules = || -> Result<f64, String> {
        let ((start, before), (end, after)) = (&timed.results[0], &timed.results[iterations]);
        counters.joules(
            before.as_ref().map_err(Clone::clone)?,
            after.as_ref().map_err(Clone::clone)?,
            end.duration_since(*start).as_secs_f64(),
        )
    };
    timed.with(metric, outcome(joules().map(|joules| joules / (iterations * units) as f64), iterations))
}

fn idle_power(counters: &Counters) -> Result<f64, String> {
    let (before, started) = (counters.read()?, Instant::now());
    std::thread::sleep(IDLE);
    let seconds = started.elapsed().as_secs_f64();
    Ok(counters.joules(&before, &counters.read()?, seconds)? / seconds)
}
