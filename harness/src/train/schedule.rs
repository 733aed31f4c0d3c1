//! The learning rate as a pure function of the step.
//!
//! ```text
//! warm-up  s < W:   (s + 1) / W                                                       of the peak
//! cosine            m + (1 - m) · (1 + cos(π·p)) / 2      p = (s - W) / (S - 1 - W)     m = min_learning_rate_ratio
//! linear            1 - (1 - m) · p                       constant   1
//! ```
//! `s` counts from 0; the last step of the run has p = 1. Cosine: Loshchilov and Hutter 2017.

use crate::config::{OptimizerConfig, Schedule};

/// Fraction of the peak rate at step `step` (from 0) of `max_steps`.
pub fn rate_fraction(config: &OptimizerConfig, step: u64, max_steps: u64) -> f64 {
    if step < config.warmup_steps {
        return (step + 1) as f64 / config.warmup_steps as f64;
    }
    let span = max_steps.saturating_sub(1 + config.warmup_steps);
    let progress = if span == 0 { 1.0 } else { ((step - config.warmup_steps) as f64 / span as f64).min(1.0) };
    let least = config.min_learning_rate_ratio;
    match config.schedule {
        Schedule::Cosine => least + (1.0 - least) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0,
        Schedule::Linear => 1.0 - (1.0 - least) * progress,
        Schedule::Constant => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(schedule: Schedule) -> OptimizerConfig {
        let mut config: OptimizerConfig =
            toml::from_str("learning_rate = 1e-3\nscalar_learning_rate = 1e-2\nwarmup_steps = 4").unwrap();
        config.schedule = schedule;
        config
    }

    #[test]
    fn warm_up_ends_at_the_peak_and_the_run_at_the_least_rate() {
        for (schedule, last) in [(Schedule::Cosine, 0.1), (Schedule::Linear, 0.1), (Schedule::Constant, 1.0)] {
            let config = config(schedule);
            assert_eq!(rate_fraction(&config, 0, 105), 0.25);
            assert_eq!(rate_fraction(&config, 3, 105), 1.0);
            assert_eq!(rate_fraction(&config, 4, 105), 1.0);
            assert!((rate_fraction(&config, 104, 105) - last).abs() < 1e-15, "{schedule:?}");
        }
    }

    #[test]
    fn half_way_is_half_way_down() {
        // p = 50 / 100; cosine and line meet there: 0.1 + 0.9 / 2
        for schedule in [Schedule::Cosine, Schedule::Linear] {
            assert!((rate_fraction(&config(schedule), 54, 105) - 0.55).abs() < 1e-12);
        }
    }

    #[test]
    fn a_run_that_is_all_warm_up_never_divides_by_zero() {
        let config = config(Schedule::Cosine);
        assert_eq!(rate_fraction(&config, 3, 4), 1.0);
        assert!(rate_fraction(&config, 4, 5).is_finite());
    }
}
