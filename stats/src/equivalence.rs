//! Claims of "matches" and "not worse": two one-sided tests and non-inferiority.
//!
//! ```text
//! equivalent       (1 − 2α) interval of the difference inside (−m, +m)          α = 5 %: the 90 % interval
//! not worse        lower one-sided (1 − α) bound of the difference above −m
//! ```
//! The difference is oriented so that positive means "candidate is better". No significance is not equality: both claims need a
//! margin m stated beforehand, and a sample too small for it gives "not shown".
//!
//! Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach".

use serde::Serialize;

use crate::describe::mean_of;
use crate::distribution::student_t_tails;
use crate::error::{StatsError, check_open_unit, invalid};
use crate::interval::{Interval, mean_stderr, t_interval_from};

/// Outcome of an equivalence or non-inferiority test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Equivalence {
    /// `tost` or `non-inferiority`.
    pub method: &'static str,
    /// Margin m, in the unit of the difference.
    pub margin: f64,
    /// Error probability of the claim.
    pub alpha: f64,
    /// Mean difference with its two-sided 1 − 2α interval; the lower end is the one-sided 1 − α bound.
    pub interval: Interval,
    /// p-value of "difference ≤ −m".
    pub p_lower: f64,
    /// p-value of "difference ≥ +m"; `None` for non-inferiority.
    pub p_upper: Option<f64>,
    /// p-value of the claim: the larger of the two.
    pub p: f64,
    /// Whether the claim is shown at `alpha`.
    pub is_shown: bool,
}

/// Equivalence of paired arms by two one-sided t tests; needs two differences.
pub fn tost(differences: &[f64], margin: f64, alpha: f64) -> Result<Equivalence, StatsError> {
    let error = mean_stderr(differences)?;
    let result = tost_from(mean_of(differences), error.stderr, (differences.len() - 1) as f64, margin, alpha)?;
    Ok(Equivalence { interval: Interval { n: differences.len(), ..result.interval }, ..result })
}

/// Equivalence from an estimate, its standard error (clustered, say) and degrees of freedom.
pub fn tost_from(estimate: f64, stderr: f64, df: f64, margin: f64, alpha: f64) -> Result<Equivalence, StatsError> {
    let lower = non_inferiority_from(estimate, stderr, df, margin, alpha)?;
    let p_upper = one_sided_p(margin - estimate, stderr, df)?;
    let p = lower.p_lower.max(p_upper);
    let is_shown = lower.interval.low > -margin && lower.interval.high < margin;
    Ok(Equivalence { method: "tost", p_upper: Some(p_upper), p, is_shown, ..lower })
}

/// Non-inferiority of paired arms by a one-sided t test; needs two differences.
pub fn non_inferiority(differences: &[f64], margin: f64, alpha: f64) -> Result<Equivalence, StatsError> {
    let error = mean_stderr(differences)?;
    let result = non_inferiority_from(mean_of(differences), error.stderr, (differences.len() - 1) as f64, margin, alpha)?;
    Ok(Equivalence { interval: Interval { n: differences.len(), ..result.interval }, ..result })
}

/// Non-inferiority from an estimate, its standard error and degrees of freedom. A margin of 0 asks for superiority.
pub fn non_inferiority_from(estimate: f64, stderr: f64, df: f64, margin: f64, alpha: f64) -> Result<Equivalence, StatsError> {
    const ATTEMPT: &str = "test non-inferiority";
    if !(margin >= 0.0 && margin.is_finite()) {
        return Err(invalid(ATTEMPT, "margin", "a finite number >= 0", margin));
    }
    check_open_unit(ATTEMPT, "alpha", alpha)?;
    if alpha >= 0.5 {
        return Err(invalid(ATTEMPT, "alpha", "a number below 0.5", alpha));
    }
    let interval = t_interval_from(estimate, stderr, df, 1.0 - 2.0 * alpha)?;
    let p_lower = one_sided_p(estimate + margin, stderr, df)?;
    let is_shown = interval.low > -margin;
    Ok(Equivalence { method: "non-inferiority", margin, alpha, interval, p_lower, p_upper: None, p: p_lower, is_shown })
}

/// P(T ≥ distance/stderr). Distance 0 without spread gives ½: it lies on the margin, which shows nothing.
fn one_sided_p(distance: f64, stderr: f64, df: f64) -> Result<f64, StatsError> {
    let t = if distance == 0.0 { 0.0 } else { distance / stderr };
    Ok(student_t_tails(t, df)?.upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFFERENCES: [f64; 11] = [0.8, -0.3, 1.7, 2.6, -1.1, 0.5, 3.2, 1.4, -0.6, 2.1, 0.9];

    #[test]
    fn tost_matches_statsmodels() {
        // statsmodels 0.15.0: DescrStatsW(d).ttost_mean(-2, 2)
        let result = tost(&DIFFERENCES, 2.0, 0.05).unwrap();
        assert!((result.p_lower - 1.1353799357509268e-05).abs() < 1e-15);
        assert!((result.p_upper.unwrap() - 0.018258402849323455).abs() < 1e-13);
        assert_eq!(result.p, result.p_upper.unwrap());
        assert!(result.is_shown);
        assert!((result.interval.level - 0.9).abs() < 1e-15);
        assert_eq!(result.interval.n, 11);
        // a tighter margin is not shown, and the interval says why
        let tight = tost(&DIFFERENCES, 1.5, 0.05).unwrap();
        assert!(!tight.is_shown && tight.interval.high > 1.5 && tight.p > 0.05);
    }

    #[test]
    fn interval_and_p_value_agree() {
        for margin in [0.1, 0.5, 1.0, 1.5, 1.7, 1.75, 1.8, 2.0, 3.0] {
            let result = tost(&DIFFERENCES, margin, 0.05).unwrap();
            assert_eq!(result.is_shown, result.p < 0.05, "{margin}");
            let one = non_inferiority(&DIFFERENCES, margin, 0.05).unwrap();
            assert_eq!(one.is_shown, one.p < 0.05, "{margin}");
        }
    }

    #[test]
    fn non_inferiority_by_hand() {
        // d = 1, 2, 3 and margin 0: t = 2√3, df = 2, p = ½(1 − √(12/14)) = 0.0371
        let result = non_inferiority(&[1.0, 2.0, 3.0], 0.0, 0.05).unwrap();
        assert!((result.p - 0.5 * (1.0 - (12.0f64 / 14.0).sqrt())).abs() < 1e-14);
        assert!(result.is_shown);
        // the same downwards is worse, and a margin of 10 forgives it
        assert!(!non_inferiority(&[-1.0, -2.0, -3.0], 0.0, 0.05).unwrap().is_shown);
        assert!(non_inferiority(&[-1.0, -2.0, -3.0], 10.0, 0.05).unwrap().is_shown);
    }

    #[test]
    fn edges() {
        let equal = tost(&[0.0; 5], 0.1, 0.05).unwrap();
        assert_eq!((equal.is_shown, equal.p), (true, 0.0));
        // exactly on the margin is not inside it
        assert!(!tost(&[0.1; 5], 0.1, 0.05).unwrap().is_shown);
        assert!(!non_inferiority(&[0.0; 5], 0.0, 0.05).unwrap().is_shown);
        assert!(tost(&[1.0], 1.0, 0.05).is_err() && tost(&DIFFERENCES, -1.0, 0.05).is_err());
        assert!(tost(&[1.0, f64::NAN], 1.0, 0.05).is_err() && tost(&DIFFERENCES, 1.0, 0.6).is_err());
    }
}
