//! Peak memory of training and of inference, by phase, in three readings: what was asked for, what was resident, what the kernel charged.
//!
//! ```text
//! training    load │ first step │ steps 2 … 4        peak_alloc_bytes, peak_rss_bytes: the largest of the phases
//! inference   load │ prefill │ decode                 of a network on images   load │ image_forward
//!
//! peak_alloc_delta_bytes = peak_alloc_bytes − live bytes after load
//! train_state_bytes      = weights + gradients + two moments (SGD: one), all f32: 16 (12) bytes per parameter; running statistics, 4 each
//! activation_bytes_est   = peak_alloc_bytes − train_state_bytes − inputs
//! ```
//! A third reading is the control group's (`peak_cgroup_*`), where the worker can have one: it also counts page cache and children.
//! Allocation is exact and repeats to the byte at one thread. Resident size is a sample, ± 1 MiB; between phases the heap is trimmed
//! and the high-water mark reset, and where the kernel refuses that, phases are not told apart and their rows say so.
//!
//! Source: measurement.md section 7.

use super::image_inference::Pictures;
use super::request::Engine;
use super::{Kind, Probe, Work};
use crate::config::RunConfig;
use crate::measure::allocator::{self, Allocated};
use crate::measure::cgroup::{CGROUP, WorkerGroup};
use crate::measure::process::{self, Resident};
use crate::measure::subject::Subject;
use crate::measure::window::WindowSpec;
use records::metric::{
    ACTIVATION_BYTES_EST, PEAK_ALLOC_BYTES, PEAK_ALLOC_DELTA_BYTES, PEAK_CGROUP_BYTES, PEAK_RSS_BYTES, TRAIN_STATE_BYTES,
    WEIGHTS_BYTES,
};
use records::row::Detail;
use records::{Better, Inner, InnerStat, Measurement, Metric, Outcome, Reason};
use std::path::Path;

/// Steps of a training worker; optimizer state exists from the end of the first, so later ones are the steady state.
const STEPS: usize = 4;

/// Peaks of one phase.
#[derive(Debug, Clone, Copy)]
struct Phase {
    allocated: Allocated,
    /// `None` where `/proc` has no reading.
    resident: Option<Resident>,
}

/// Readings of a worker, phase by phase.
#[derive(Debug)]
struct Phases {
    /// Whether the resident mark fell at each reset so far.
    are_separate: bool,
    /// The worker's own control group, or why it has none.
    group: Result<WorkerGroup, String>,
}

impl Phases {
    /// The first phase is running since the worker started.
    fn start() -> Self {
        let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self { are_separate: true, group: WorkerGroup::enter(Path::new(CGROUP), &membership) }
    }

    /// The mark of the control group, over all phases: it cannot be reset.
    fn group_row(&self, metric: Metric) -> Measurement {
        let peak = self.group.as_ref().map_err(Clone::clone).and_then(WorkerGroup::peak_bytes);
        let outcome = match peak {
            Ok(peak) => bytes(peak as f64, InnerStat::Max),
            Err(reason) => Outcome::Skipped(Reason::new(reason)),
        };
        let detail = Detail { memory_reading: Some("cgroup memory.peak".to_owned()), ..Detail::default() };
        Measurement { detail: Some(detail), ..Measurement::new(metric, outcome) }
    }

    /// Ends the running phase and begins the next.
    fn end(&mut self) -> Phase {
        let phase = Phase { allocated: allocator::read(), resident: process::resident() };
        self.are_separate &= process::reset_resident_peak();
        allocator::reset_peak();
        phase
    }

    /// A row per reading of one phase.
    fn rows(&self, name: &str, phase: &Phase) -> [Measurement; 2] {
        let resident = match phase.resident {
            Some(_) if !self.are_separate => Outcome::Skipped(Reason::new("the kernel did not reset the high-water mark")),
            found => resident_outcome(found),
        };
        [
            alloc_row(phase_metric("alloc", name), phase.allocated.peak_bytes),
            rss_row(phase_metric("rss", name), phase.resident, resident),
        ]
    }
}

/// Phase of a network on images.
const IMAGE_FORWARD: &str = "image_forward";

fn phase_metric(reading: &str, phase: &str) -> Metric {
    Metric::new(&format!("peak_{reading}_{phase}_bytes"), "bytes", Better::Lower).expect("name and unit agree")
}

/// Largest single block of a phase: shows that a low-rank map is never formed as D × D.
fn largest_metric(phase: &str) -> Metric {
    Metric::new(&format!("largest_alloc_{phase}_bytes"), "bytes", Better::Lower).expect("name and unit agree")
}

/// [`PEAK_CGROUP_BYTES`] of an inference worker.
fn inference_group_metric() -> Metric {
    Metric::new("peak_cgroup_inference_bytes", "bytes", Better::Lower).expect("name and unit agree")
}

fn phase_metrics<const N: usize>(phases: [&str; N]) -> impl Iterator<Item = Metric> {
    phases.into_iter().flat_map(|phase| [phase_metric("alloc", phase), phase_metric("rss", phase)])
}

fn resident_outcome(resident: Option<Resident>) -> Outcome {
    match resident {
        Some(resident) => bytes(resident.peak_bytes as f64, InnerStat::Max),
        None => Outcome::Skipped(Reason::new("`/proc/self/status` has no VmHWM")),
    }
}

fn bytes(value: f64, stat: InnerStat) -> Outcome {
    Outcome::Ok { value, inner: Inner { stat: Some(stat), n: Some(1), ..Inner::default() } }
}

pub(super) fn alloc_row(metric: Metric, value: i64) -> Measurement {
    let detail = Detail { allocator: Some(allocator::describe()), memory_reading: Some("alloc".to_owned()), ..Detail::default() };
    Measurement { detail: Some(detail), ..Measurement::new(metric, bytes(value as f64, InnerStat::Max)) }
}

pub(super) fn rss_row(metric: Metric, resident: Option<Resident>, outcome: Outcome) -> Measurement {
    let detail = Detail {
        allocator: Some(allocator::describe()),
        memory_reading: Some("vmhwm".to_owned()),
        rss_anon_bytes: resident.and_then(|resident| resident.anon_bytes),
        rss_file_bytes: resident.and_then(|resident| resident.file_bytes),
        ..Detail::default()
    };
    Measurement { detail: Some(detail), ..Measurement::new(metric, outcome) }
}

/// The reading with the larger mark.
fn larger(a: Option<Resident>, b: Option<Resident>) -> Option<Resident> {
    [a, b].into_iter().flatten().max_by_key(|resident| resident.peak_bytes)
}

/// Peak memory of training.
#[derive(Debug)]
pub struct TrainMemory;

impl Probe for TrainMemory {
    fn name(&self) -> &'static str {
        "train_memory"
    }

    fn about(&self) -> &'static str {
        "peak allocated and resident bytes of loading, the first and later training steps"
    }

    fn kind(&self) -> Kind {
        Kind::Memory
    }

    fn work(&self) -> Work {
        Work::Training
    }

    fn metrics(&self) -> Vec<Metric> {
        let whole = [
            PEAK_ALLOC_BYTES,
            PEAK_RSS_BYTES,
            PEAK_CGROUP_BYTES,
            PEAK_ALLOC_DELTA_BYTES,
            WEIGHTS_BYTES,
            TRAIN_STATE_BYTES,
            ACTIVATION_BYTES_EST,
        ];
        whole.into_iter().chain(phase_metrics(["train_load", "first_step", "steady"])).collect()
    }

    fn run(&self, subject: &mut Subject, _: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let mut phases = Phases::start();
        let mut training = subject.training(STEPS)?;
        let load = phases.end();
        training.step(0, |_| Ok(()))?;
        let first = phases.end();
        for number in 1..STEPS {
            training.step(number, |_| Ok(()))?;
        }
        let steady = phases.end();

        let peak = [load, first, steady].iter().map(|phase| phase.allocated.peak_bytes).max().unwrap_or(0);
        let resident = larger(load.resident, larger(first.resident, steady.resident));
        let weights = training.store.weights_bytes();
        let state = training.state_bytes(subject.config.optimizer().kind);
        let rest = peak - (state + training.input_bytes()).cast_signed() as i64;
        let exact = |metric: Metric, value: usize| Measurement::new(metric, Outcome::exact(value as f64));
        let mut rows = vec![
            alloc_row(PEAK_ALLOC_BYTES, peak),
            rss_row(PEAK_RSS_BYTES, resident, resident_outcome(resident)),
            phases.group_row(PEAK_CGROUP_BYTES),
            alloc_row(PEAK_ALLOC_DELTA_BYTES, peak - load.allocated.live_bytes),
            exact(WEIGHTS_BYTES, weights),
            exact(TRAIN_STATE_BYTES, state),
            alloc_row(ACTIVATION_BYTES_EST, rest),
        ];
        for (name, phase) in [("train_load", load), ("first_step", first), ("steady", steady)] {
            rows.extend(phases.rows(name, &phase));
        }
        Ok(rows)
    }
}

/// Peak memory of inference.
#[derive(Debug)]
pub struct InferenceMemory;

impl Probe for InferenceMemory {
    fn name(&self) -> &'static str {
        "inference_memory"
    }

    fn about(&self) -> &'static str {
        "peak allocated and resident bytes of loading, prefill and decoding; of pictures, of loading and the forward pass"
    }

    fn kind(&self) -> Kind {
        Kind::Memory
    }

    fn work(&self) -> Work {
        Work::Inference
    }

    fn metrics(&self) -> Vec<Metric> {
        let all = phase_metrics(["prefill", "decode", "inference_load", IMAGE_FORWARD]);
        all.chain([largest_metric("prefill"), largest_metric(IMAGE_FORWARD), inference_group_metric()]).collect()
    }

    fn metrics_of(&self, config: &RunConfig) -> Vec<Metric> {
        let has = |metric: &Metric, phase: &str| metric.name.as_str().contains(phase);
        let is_own = |metric: &Metric| match config {
            RunConfig::Language(_) => !has(metric, IMAGE_FORWARD),
            RunConfig::Images(_) => !has(metric, "prefill") && !has(metric, "decode"),
        };
        self.metrics().into_iter().filter(is_own).collect()
    }

    fn run(&self, subject: &mut Subject, _: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        match &subject.config {
            RunConfig::Language(_) => language_inference(subject),
            RunConfig::Images(config) => image_inference(subject, config.batch),
        }
    }
}

fn language_inference(subject: &Subject) -> anyhow::Result<Vec<Measurement>> {
    let mut phases = Phases::start();
    let engine = Engine::with_ids(subject)?;
    let ids = engine.ids()?;
    let load = phases.end();
    let length = subject.workload.output_length;
    let mut running = engine.prefill(&ids, length)?;
    let prefill = phases.end();
    for _ in 1..length {
        let tokens = engine.choose(&running)?;
        engine.advance(&mut running, tokens)?;
    }
    engine.choose(&running)?;
    let decode = phases.end();
    let mut rows = Vec::new();
    for (name, phase) in [("prefill", prefill), ("decode", decode), ("inference_load", load)] {
        rows.extend(phases.rows(name, &phase));
    }
    rows.push(alloc_row(largest_metric("prefill"), prefill.allocated.largest_bytes));
    rows.push(phases.group_row(inference_group_metric()));
    Ok(rows)
}

fn image_inference(subject: &Subject, batch: usize) -> anyhow::Result<Vec<Measurement>> {
    let mut phases = Phases::start();
    let pictures = Pictures::new(subject, batch)?;
    let load = phases.end();
    Pictures::check(&pictures.forward()?)?;
    let forward = phases.end();
    let mut rows = phases.rows(IMAGE_FORWARD, &forward).to_vec();
    rows.extend(phases.rows("inference_load", &load));
    rows.push(alloc_row(largest_metric(IMAGE_FORWARD), forward.allocated.largest_bytes));
    rows.push(phases.group_row(inference_group_metric()));
    Ok(rows)
}
