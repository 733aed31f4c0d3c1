//! Several tests at once: Holm's step-down correction.
//!
//! ```text
//! sorted p₁ ≤ p₂ ≤ … ≤ pₘ:   adjusted pᵢ = max over j ≤ i of min(1, (m − j + 1)·pⱼ)
//! ```
//! Keeps the chance of any false rejection at α whatever the dependence between the tests. Used over the tasks of a suite and the
//! rules of a gate.
//!
//! Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

use serde::Serialize;

use crate::error::{StatsError, check_open_unit, invalid};

/// Result of Holm's correction, in the order of the input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Holm {
    /// `holm`.
    pub method: &'static str,
    /// Error probability over the whole family.
    pub alpha: f64,
    /// Number of tests.
    pub n: usize,
    /// Adjusted p-values.
    pub adjusted: Vec<f64>,
    /// Whether each test is rejected: adjusted p at most α.
    pub rejected: Vec<bool>,
}

/// Holm's correction of `p_values` at family error `alpha`. An empty family is fine and rejects nothing.
///
/// # Errors
/// When a p-value is outside [0, 1] or NaN, or alpha outside (0, 1).
pub fn holm(p_values: &[f64], alpha: f64) -> Result<Holm, StatsError> {
    const ATTEMPT: &str = "correct p-values";
    check_open_unit(ATTEMPT, "alpha", alpha)?;
    if let Some(at) = p_values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(invalid(ATTEMPT, format!("p_values[{at}]"), "a probability from 0 to 1", p_values[at]));
    }
    let n = p_values.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; n];
    let mut running = 0.0f64;
    for (rank, &at) in order.iter().enumerate() {
        running = running.max(((n - rank) as f64 * p_values[at]).min(1.0));
        adjusted[at] = running;
    }
    let rejected = adjusted.iter().map(|p| *p <= alpha).collect();
    Ok(Holm { method: "holm", alpha, n, adjusted, rejected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_statsmodels_with_ties() {
        // statsmodels 0.15.0: multipletests([.01, .04, .03, .005, .03], method="holm")
        let result = holm(&[0.01, 0.04, 0.03, 0.005, 0.03], 0.05).unwrap();
        for (found, expected) in result.adjusted.iter().zip([0.04, 0.09, 0.09, 0.025, 0.09]) {
            assert!((found - expected).abs() < 1e-15);
        }
        assert_eq!(result.rejected, [true, false, false, true, false]);
    }

    #[test]
    fn edges() {
        assert_eq!(holm(&[0.03], 0.05).unwrap().adjusted, [0.03]); // one test: nothing to correct
        assert_eq!(holm(&[0.7, 0.7], 0.05).unwrap().adjusted, [1.0, 1.0]);
        assert_eq!(holm(&[0.0, 1.0], 0.05).unwrap().rejected, [true, false]);
        assert_eq!(holm(&[], 0.05).unwrap().n, 0);
        assert_eq!(holm(&[0.1, f64::NAN], 0.05).unwrap_err().argument, "p_values[1]");
        assert!(holm(&[-0.1], 0.05).is_err() && holm(&[0.1], 0.0).is_err());
    }
}
