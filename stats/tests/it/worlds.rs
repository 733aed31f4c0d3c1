//! Synthetic worlds of the measuring contract (measurement.md section 10): noise of one worker, on the log of its cost.
//!
//! Gaussian: N(0, 2 %). Spiky: the same, plus Exp(mean 15 %) for 10 % of workers.

use stats::rng::{Stream, normal, uniform, uniform_open};

/// Kind of noise.
#[derive(Debug, Clone, Copy)]
pub(crate) enum World {
    /// 2 % Gaussian.
    Gaussian,
    /// 2 % Gaussian with spikes.
    Spiky,
}

impl World {
    /// Log cost that one worker reports for a true cost of 1.
    pub(crate) fn worker(self, rng: &mut Stream) -> f64 {
        let gaussian = 0.02 * normal(rng);
        match self {
            World::Spiky if uniform(rng) < 0.1 => gaussian - 0.15 * uniform_open(rng).ln(),
            World::Gaussian | World::Spiky => gaussian,
        }
    }

    /// Log cost ratios of `n` pairs; the candidate's true log cost is higher by `shift`.
    pub(crate) fn differences(self, rng: &mut Stream, shift: f64, n: usize) -> Vec<f64> {
        (0..n)
            .map(|_| {
                let reference = self.worker(rng);
                self.worker(rng) + shift - reference
            })
            .collect()
    }
}
