//! Start values of the network's own parameters, from generators keyed by (seed, parameter name).
//!
//! ```text
//! value(seed, name, i) = draw (i mod 65536) of ParameterRng(seed, "name#⌊i / 65536⌋")
//! ```
//! A parameter's values depend on nothing but seed, name and position, so two networks that share a name share its
//! values: `plain` and variant are paired for free, and adding a parameter reshuffles nothing. Blocks have generators
//! of their own, so large tensors are filled in parallel with the same result for any number of threads. The generator
//! is `laurel`'s ([`laurel::init::ParameterRng`]), which fills the residual's parameters by the same rule.

use candle_core::{Result, Tensor};
use laurel::init::ParameterRng;
use rayon::prelude::*;

/// Elements drawn from one generator.
const BLOCK: usize = 65_536;

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Distribution {
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform within `±limit`.
    Uniform {
        /// Largest absolute value.
        limit: f64,
    },
    /// The same value everywhere.
    Constant(f64),
}

/// Fills a variable in place.
///
/// # Errors
/// When `tensor` is not a variable: filling a frozen copy would change nothing.
pub(crate) fn fill(tensor: &Tensor, name: &str, distribution: Distribution, seed: u64) -> Result<()> {
    let values = match distribution {
        Distribution::Constant(value) => vec![value; tensor.elem_count()],
        Distribution::Normal { std } => drawn(seed, name, tensor.elem_count(), |rng| std * rng.normal()),
        Distribution::Uniform { limit } => drawn(seed, name, tensor.elem_count(), |rng| limit * (2.0 * rng.uniform() - 1.0)),
    };
    laurel::init::fill(name, tensor, values)
}

fn drawn(seed: u64, name: &str, count: usize, draw: impl Fn(&mut ParameterRng) -> f64 + Sync) -> Vec<f64> {
    let mut values = vec![0.0; count];
    values.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
        let mut generator = ParameterRng::new(seed, &format!("{name}#{block}"));
        for value in values {
            *value = draw(&mut generator);
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(seed: u64, name: &str, std: f64, count: usize) -> Vec<f64> {
        drawn(seed, name, count, |rng| std * rng.normal())
    }

    #[test]
    fn values_depend_on_seed_name_and_position_only() {
        let long = normal(7, "a.weight", 1.0, BLOCK + 10);
        assert_eq!(normal(7, "a.weight", 1.0, 10), long[..10]);
        assert_ne!(normal(8, "a.weight", 1.0, 10), long[..10]);
        assert_ne!(normal(7, "b.weight", 1.0, 10), long[..10]);
        assert_ne!(long[..10], long[BLOCK..], "blocks repeat");
    }

    #[test]
    fn normal_values_have_the_asked_moments() {
        let n = 200_000;
        let values = normal(1, "w", 0.02, n);
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        // Five standard errors of a sample mean (σ/√n) and of a sample variance (σ²·√(2/n)).
        assert!(mean.abs() < 5.0 * 0.02 / (n as f64).sqrt(), "mean {mean}");
        assert!((variance / 0.0004 - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt(), "variance {variance}");
        let beyond_two = values.iter().filter(|v| v.abs() > 0.04).count() as f64 / n as f64;
        assert!((beyond_two - 0.0455).abs() < 0.003, "P(|z| > 2): expected 0.0455, found {beyond_two}");
    }
}
