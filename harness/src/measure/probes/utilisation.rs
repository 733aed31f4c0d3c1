//! How much of the machine a training step uses: its FLOP/s beside the best rates this worker can reach.
//!
//! ```text
//! gemm_flops_per_s        best of several 2·n³ / t, n = 1024, f32, all threads        read_bytes/s: best of several sums over 64 MiB
//! gemm_utilisation        training FLOPs / (step time · gemm_flops_per_s)              may pass 1 where the step uses faster products
//! mfu                     training FLOPs / (step time · peak)                          only with a configured, named peak
//! ```
//! Both roofs are measured in the same process, just before and after the steps; the larger reading counts, as a roof can only be read
//! too low. `mfu` refers to a peak of the data sheet, so without one there is a reason instead of a number.
//!
//! Source: measurement.md section 4 (the classic error is a wrong or hard-coded peak).

use super::train_step::{DISTINCT_STEPS, timed_steps};
use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::{self, WindowSpec};
use anyhow::ensure;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use records::metric::{GEMM_FLOPS_PER_S, GEMM_UTILISATION, MEMORY_READ_BYTES_PER_S, MFU};
use records::{InnerStat, Measurement, Metric, Outcome, Reason};

/// Side of the square product: 12 MiB of operands, far more work than traffic.
const SIDE: usize = 1024;
/// Repetitions of each roof; the best counts.
const REPEATS: usize = 5;
/// Values of the array that is read: 64 MiB, beyond the caches of the machines this runs on.
const READ_VALUES: usize = 16 << 20;
/// Values that one task adds up.
const READ_CHUNK: usize = 1 << 18;

/// The probe.
#[derive(Debug)]
pub struct Utilisation;

impl Probe for Utilisation {
    fn name(&self) -> &'static str {
        "utilisation"
    }

    fn about(&self) -> &'static str {
        "FLOP/s of a training step beside the best matrix product and the memory rate of this machine"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Training
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![GEMM_UTILISATION, MFU, GEMM_FLOPS_PER_S, MEMORY_READ_BYTES_PER_S]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        kernels::cpu::keep_freed_memory();
        let device = subject.device();
        let before = gemm_flops_per_s(&device)?;
        let mut training = subject.training(DISTINCT_STEPS)?;
        let timed = timed_steps(&mut training, &device, spec)?;
        let roof = before.max(gemm_flops_per_s(&device)?);
        let flops = subject.config.step_cost().flops_train() as f64;
        let rates: Vec<f64> = timed.samples.iter().map(|seconds| flops / seconds).collect();
        let share = |of: f64| rates.iter().map(|rate| rate / of).collect::<Vec<_>>();
        let mfu = match &subject.workload.peak {
            Some(peak) => Measurement {
                notes: Some(format!("peak: {} = {:e} FLOP/s", peak.name, peak.flops_per_s)),
                ..timed.median_of(MFU, share(peak.flops_per_s))?
            },
            None => {
                timed.with(MFU, Outcome::Skipped(Reason::new("no peak configured: --peak NAME=FLOP/s of this device and dtype")))
            }
        };
        Ok(vec![
            timed.median_of(GEMM_UTILISATION, share(roof))?,
            mfu,
            timed.one(GEMM_FLOPS_PER_S, roof, InnerStat::Max, 2 * REPEATS),
            timed.one(MEMORY_READ_BYTES_PER_S, memory_read_bytes_per_s(&device)?, InnerStat::Max, REPEATS),
        ])
    }
}

/// Best rate of a large f32 product, FLOP/s.
fn gemm_flops_per_s(device: &Device) -> anyhow::Result<f64> {
    let values = (0..SIDE * SIDE).map(|at| (at % 7) as f32 * 0.125 - 0.375).collect::<Vec<_>>();
    let a = Tensor::from_vec(values, (SIDE, SIDE), device)?;
    let mut best_s = f64::INFINITY;
    for _ in 0..REPEATS {
        let (seconds, product) = window::time(device, || Ok(kernels::linear(&a, &a, None)?))?;
        ensure!(product.get(0)?.get(0)?.to_scalar::<f32>()?.is_finite(), "the product is not finite");
        best_s = best_s.min(seconds);
    }
    Ok(2.0 * (SIDE * SIDE * SIDE) as f64 / best_s)
}

/// Best rate of reading memory with all threads, bytes per second.
fn memory_read_bytes_per_s(device: &Device) -> anyhow::Result<f64> {
    let values = vec![1.0f32; READ_VALUES];
    let mut best_s = f64::INFINITY;
    for _ in 0..REPEATS {
        let (seconds, sum) = window::time(device, || Ok(values.par_chunks(READ_CHUNK).map(sum_in_lanes).sum::<f32>()))?;
        ensure!(sum == READ_VALUES as f32, "expected a sum of {READ_VALUES}, found {sum}");
        best_s = best_s.min(seconds);
    }
    Ok(size_of_val(values.as_slice()) as f64 / best_s)
}

/// The sum in independent lanes, which a compiler may vectorise: one chain of additions would be slower than memory.
fn sum_in_lanes(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 64];
    for chunk in values.chunks_exact(lanes.len()) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().sum()
}
