//! Warm-up and timed window: how many iterations of a worker count, and what is recorded about them.
//!
//! ```text
//! warm-up   ≥ 3 iterations, ≥ 1 s, median of the last 3 within 2 % of the median of the 3 before; cap 50 iterations or 30 s
//! window    ≥ 10 iterations, ≥ 1 s; the sample is the median iteration
//! ```
//! An iteration times itself with [`time`] and returns its seconds, so that set-up inside it stays outside the number.
//!
//! Source: measurement.md section 2.

use super::process::Evidence;
use crate::provenance;
use anyhow::ensure;
use candle_core::Device;
use records::{Contention, Inner, InnerStat, Measurement, Metric, Outcome, Window};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::time::Instant;

/// Largest relative change between the two medians at the end of the warm-up.
const CONVERGED_WITHIN: f64 = 0.02;

/// How long to warm up and to time. The default is the protocol's; tests use shorter ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// Fewest warm-up iterations.
    pub warmup_min_iters: usize,
    /// Shortest warm-up, seconds.
    pub warmup_min_s: f64,
    /// Iterations after which a warm-up ends unconverged.
    pub warmup_max_iters: usize,
    /// Seconds after which a warm-up ends unconverged.
    pub warmup_max_s: f64,
    /// Fewest timed iterations.
    pub timed_min_iters: usize,
    /// Shortest window, seconds.
    pub timed_min_s: f64,
    /// Keep every iteration in `raw_samples`.
    pub keep_raw: bool,
}

impl Default for WindowSpec {
    fn default() -> Self {
        Self {
            warmup_min_iters: 3,
            warmup_min_s: 1.0,
            warmup_max_iters: 50,
            warmup_max_s: 30.0,
            timed_min_iters: 10,
            timed_min_s: 1.0,
            keep_raw: false,
        }
    }
}

impl WindowSpec {
    /// A window of a few iterations, for tests: same rules, no minimum time.
    pub fn short() -> Self {
        Self {
            warmup_min_s: 0.0,
            warmup_max_iters: 6,
            warmup_max_s: 5.0,
            timed_min_iters: 3,
            timed_min_s: 0.0,
            ..Self::default()
        }
    }

    /// Whether the warm-up may end, and if so whether it converged.
    ///
    /// Differs: the iteration cap waits for the shortest warm-up, as otherwise no iteration below 20 ms could ever converge.
    fn warmup_end(&self, samples: &[f64], elapsed_s: f64) -> Option<bool> {
        let is_long_enough = samples.len() >= self.warmup_min_iters && elapsed_s >= self.warmup_min_s;
        if is_long_enough && is_settled(samples) {
            return Some(true);
        }
        let is_capped =
            elapsed_s >= self.warmup_max_s || (samples.len() >= self.warmup_max_iters && elapsed_s >= self.warmup_min_s);
        is_capped.then_some(false)
    }

    fn is_timed(&self, iters: usize, elapsed_s: f64) -> bool {
        iters >= self.timed_min_iters && elapsed_s >= self.timed_min_s
    }
}

fn is_settled(samples: &[f64]) -> bool {
    let Some(start) = samples.len().checked_sub(6) else { return false };
    let (before, last) = (median3(&samples[start..start + 3]), median3(&samples[start + 3..]));
    (last - before).abs() <= CONVERGED_WITHIN * before
}

fn median3(values: &[f64]) -> f64 {
    values[0].max(values[1]).min(values[0].min(values[1]).max(values[2]))
}

/// The one timer: seconds of `work`, the device synchronised at both ends, the result kept from the optimiser.
///
/// # Errors
/// When the work or the synchronisation fails.
pub fn time<T>(device: &Device, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(f64, T)> {
    device.synchronize()?;
    let start = Instant::now();
    let result = black_box(work()?);
    device.synchronize()?;
    Ok((start.elapsed().as_secs_f64(), result))
}

/// What a window found.
#[derive(Debug, Clone)]
pub struct Timed<T> {
    /// The cold iteration, seconds; it belongs to the warm-up.
    pub first_s: f64,
    /// Seconds of each timed iteration.
    pub samples: Vec<f64>,
    /// What each timed iteration returned.
    pub results: Vec<T>,
    /// Seconds from the start of the first timed iteration to the end of the last.
    pub window_s: f64,
    window: Window,
    contention: Contention,
    keep_raw: bool,
}

/// Warms up and times `iteration`, which returns its own seconds and a result.
///
/// # Errors
/// The first error of an iteration; a time that is not positive.
pub fn run<T>(spec: &WindowSpec, mut iteration: impl FnMut() -> anyhow::Result<(f64, T)>) -> anyhow::Result<Timed<T>> {
    let mut iteration = || {
        let (seconds, result) = iteration()?;
        // A clock that stands still or goes back (a suspended or migrated machine) must not become a number that looks fine.
        ensure!(seconds.is_finite() && seconds > 0.0, "the clock did not advance: expected a positive time, found {seconds} s");
        Ok((seconds, result))
    };
    let warmup = Instant::now();
    let mut warm = Vec::new();
    let converged = loop {
        warm.push(iteration()?.0);
        if let Some(converged) = spec.warmup_end(&warm, warmup.elapsed().as_secs_f64()) {
            break converged;
        }
    };
    let warmup_s = warmup.elapsed().as_secs_f64();
    let (mut samples, mut results) = (Vec::new(), Vec::new());
    let start_utc = provenance::utc_now();
    let before = Evidence::read();
    let start = Instant::now();
    let window_s = loop {
        let (seconds, result) = iteration()?;
        samples.push(seconds);
        results.push(result);
        let elapsed = start.elapsed().as_secs_f64();
        if spec.is_timed(samples.len(), elapsed) {
            break elapsed;
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let contention = before.until(&Evidence::read(), cores);
    let window = Window {
        warmup_iters: Some(warm.len() as u64),
        warmup_s: Some(warmup_s),
        warmup_converged: Some(converged),
        timed_iters: Some(samples.len() as u64),
        timed_s: Some(window_s),
        start_utc: Some(start_utc),
    };
    Ok(Timed { first_s: warm[0], samples, results, window_s, window, contention, keep_raw: spec.keep_raw })
}

impl<T> Timed<T> {
    /// The sample: median of `values`, one per iteration, in the metric's unit.
    ///
    /// # Errors
    /// When a value is not finite.
    pub fn median_of(&self, metric: Metric, values: Vec<f64>) -> anyhow::Result<Measurement> {
        let value = stats::describe::median(&values)?;
        let inner = Inner {
            stat: Some(InnerStat::Median),
            n: Some(values.len() as u64),
            cv: stats::describe::coefficient_of_variation(&values).ok(),
            raw: self.keep_raw.then_some(values),
            ..Inner::default()
        };
        Ok(self.with(metric, Outcome::Ok { value, inner }))
    }

    /// A number of the whole window or of one moment of it.
    pub fn one(&self, metric: Metric, value: f64, stat: InnerStat, n: usize) -> Measurement {
        self.with(metric, Outcome::of(value, stat, n as u64))
    }

    /// Any outcome with this window's conditions.
    pub fn with(&self, metric: Metric, outcome: Outcome) -> Measurement {
        Measurement {
            window: Some(self.window.clone()),
            contention: Some(self.contention.clone()),
            ..Measurement::new(metric, outcome)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_three_in_any_order() {
        for values in [[1.0, 2.0, 3.0], [3.0, 1.0, 2.0], [2.0, 3.0, 1.0]] {
            assert_eq!(median3(&values), 2.0);
        }
    }

    #[test]
    fn warm_up_ends_when_two_medians_agree_or_at_a_cap() {
        let spec = WindowSpec::default();
        assert_eq!(spec.warmup_end(&[0.4, 0.4, 0.4], 1.2), None); // no six iterations to compare
        assert_eq!(spec.warmup_end(&[0.9, 0.4, 0.4, 0.4, 0.4, 0.41], 2.9), Some(true));
        assert_eq!(spec.warmup_end(&[0.1; 6], 0.6), None); // settled, but below a second
        assert_eq!(spec.warmup_end(&[0.5, 0.5, 0.5, 0.4, 0.4, 0.4], 2.7), None); // 20 % apart
        assert_eq!(spec.warmup_end(&[9.0, 5.0, 9.0, 8.0], 31.0), Some(false));
        let falling: Vec<f64> = (0..50).map(|at| 0.1 * 0.9f64.powi(at)).collect();
        assert_eq!(spec.warmup_end(&falling, 0.99), None);
        assert_eq!(spec.warmup_end(&falling, 1.01), Some(false));
    }

    #[test]
    fn window_counts_iterations_after_the_warm_up_and_takes_their_median() {
        let mut calls = 0;
        let spec = WindowSpec { keep_raw: true, ..WindowSpec::short() };
        let timed = run(&spec, || {
            calls += 1;
            Ok((if calls == 1 { 9.0 } else { 1.0 }, calls))
        })
        .unwrap();
        assert_eq!((timed.first_s, timed.samples.len(), calls), (9.0, 3, 6 + 3));
        assert_eq!(timed.results, [7, 8, 9]);
        let measured = timed.median_of(records::metric::TRAIN_STEP_S, vec![3.0, 1.0, 2.0]).unwrap();
        let Outcome::Ok { value, inner } = &measured.outcome else { panic!("{measured:?}") };
        assert_eq!(
            (*value, inner.n, inner.cv, inner.raw.as_deref()),
            (2.0, Some(3), Some(0.5), Some([3.0, 1.0, 2.0].as_slice()))
        );
        assert_eq!(measured.window.unwrap().warmup_iters, Some(6));
    }

    #[test]
    fn a_clock_that_does_not_advance_is_refused() {
        for seconds in [0.0, -1e-3, f64::NAN, f64::INFINITY] {
            let error = run(&WindowSpec::short(), || Ok((seconds, ()))).unwrap_err().to_string();
            assert!(error.starts_with("the clock did not advance"), "{error}");
        }
    }

    #[test]
    fn an_error_in_an_iteration_ends_the_window() {
        assert!(run::<()>(&WindowSpec::short(), || anyhow::bail!("broken")).is_err());
    }
}
