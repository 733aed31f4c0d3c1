//! Tests and bounds for paired data: paired t, exact McNemar, sign test. Signed ranks are in [`crate::signed_rank`].
//!
//! ```text
//! dᵢ = bᵢ − aᵢ                     t = d̄ / (s_d/√n), n − 1 degrees of freedom
//! McNemar   p = min(1, 2·P(K ≤ min(b, c))),  K ~ Binomial(b + c, ½)
//! sign      p = P(K ≥ positives),  K ~ Binomial(positives + negatives, ½); zeros are dropped and counted
//! ```
//! Two models on the same documents, two variants on the same seeds and two arms run back to back are pairs: the unpaired
//! comparison throws the shared variation into the error and is not offered.
//!
//! Sources: McNemar 1947; Dietterich 1998; Gibbons and Chakraborti, Nonparametric Statistical Inference.

use serde::Serialize;

use crate::describe::{mean_of, sorted, squared_deviations};
use crate::distribution::{Tails, binomial_tails, student_t_tails};
use crate::error::{StatsError, check_open_unit, check_pairs, check_sample, invalid};
use crate::interval::{Interval, t_interval_from};

pub use crate::signed_rank::{SignedRank, signed_rank};

/// Differences `b[i] − a[i]`.
///
/// # Errors
/// When lengths differ, there is no pair, or a value is not finite.
pub fn paired_differences(a: &[f64], b: &[f64]) -> Result<Vec<f64>, StatsError> {
    check_pairs("pair values", a, b, 1)?;
    Ok(a.iter().zip(b).map(|(a, b)| b - a).collect())
}

/// Paired t test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedT {
    /// `paired t`.
    pub method: &'static str,
    /// Mean difference b − a with its t interval.
    pub interval: Interval,
    /// Sample standard deviation of the differences.
    pub sd: f64,
    /// Test statistic; ±∞ for equal non-zero differences, 0 when all differences are 0.
    pub t: f64,
    /// Degrees of freedom, n − 1.
    pub df: usize,
    /// Two-sided p-value of "mean difference is 0".
    pub p_two_sided: f64,
    /// One-sided p-value against "mean difference is greater than 0".
    pub p_greater: f64,
}

/// Paired t test of `b` against `a`, with the interval of the mean difference at `level`; needs two pairs.
pub fn paired_t(a: &[f64], b: &[f64], level: f64) -> Result<PairedT, StatsError> {
    check_pairs("compute paired t test", a, b, 2)?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    let n = differences.len();
    let mean = mean_of(&differences);
    let sd = (squared_deviations(&differences, mean) / (n - 1) as f64).sqrt();
    let stderr = sd / (n as f64).sqrt();
    let t = if mean == 0.0 { 0.0 } else { mean / stderr };
    let Tails { lower, upper } = student_t_tails(t, (n - 1) as f64)?;
    Ok(PairedT {
        method: "paired t",
        interval: Interval { n, ..t_interval_from(mean, stderr, (n - 1) as f64, level)? },
        sd,
        t,
        df: n - 1,
        p_two_sided: 2.0 * lower.min(upper),
        p_greater: upper,
    })
}

/// Exact McNemar test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// `exact mcnemar`.
    pub method: &'static str,
    /// Documents that only the reference answers.
    pub b: usize,
    /// Documents that only the candidate answers.
    pub c: usize,
    /// Documents in all, where known; agreeing pairs do not enter the test.
    pub n: Option<usize>,
    /// Two-sided exact p-value; 1 when nothing disagrees.
    pub p_two_sided: f64,
}

/// Exact two-sided McNemar test from the discordant counts: `b` right for the reference only, `c` for the candidate only.
pub fn mcnemar_exact(b: usize, c: usize) -> McNemar {
    let discordant = b + c;
    // arguments are in range by construction
    let tail = binomial_tails(b.min(c) as u64, discordant as u64, 0.5).map_or(1.0, |tails| tails.lower);
    McNemar { method: "exact mcnemar", b, c, n: None, p_two_sided: (2.0 * tail).min(1.0) }
}

/// Exact McNemar test from per-document outcomes of the reference and the candidate.
///
/// # Errors
/// When lengths differ or there is no document.
pub fn mcnemar_from_outcomes(reference: &[bool], candidate: &[bool]) -> Result<McNemar, StatsError> {
    if reference.len() != candidate.len() || reference.is_empty() {
        let expected = format!("{} outcomes, as in `reference`, and at least 1", reference.len());
        return Err(invalid("compute McNemar test", "candidate", expected, candidate.len()));
    }
    let b = reference.iter().zip(candidate).filter(|(r, c)| **r && !**c).count();
    let c = reference.iter().zip(candidate).filter(|(r, c)| !**r && **c).count();
    Ok(McNemar { n: Some(reference.len()), ..mcnemar_exact(b, c) })
}

/// Sign test with its bounds of the median.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SignTest {
    /// `sign test`.
    pub method: &'static str,
    /// Median with the bounds that invert the test: each end holds with probability 1 − α.
    pub interval: Interval,
    /// Error probability of each end.
    pub alpha_per_side: f64,
    /// Differences above 0.
    pub positive: usize,
    /// Differences below 0.
    pub negative: usize,
    /// Differences of exactly 0, left out of the p-values.
    pub zeros: usize,
    /// Two-sided p-value of "median is 0".
    pub p_two_sided: f64,
    /// One-sided p-value against "median is greater than 0".
    pub p_greater: f64,
}

/// Sign test of differences; `alpha` is the error of each one-sided bound of the median.
///
/// Bounds are order statistics: the largest k with P(K < k) ≤ α gives the k-th smallest and the k-th largest difference, and
/// −∞, +∞ when even k = 1 is too daring (n < 5 at 5 %).
pub fn sign_test(differences: &[f64], alpha: f64) -> Result<SignTest, StatsError> {
    const ATTEMPT: &str = "compute sign test";
    check_sample(ATTEMPT, "differences", differences, 1)?;
    check_open_unit(ATTEMPT, "alpha", alpha)?;
    let order = sorted(differences);
    let n = order.len();
    let mut k = 0;
    while k < n && binomial_tails(k as u64, n as u64, 0.5)?.lower <= alpha {
        k += 1;
    }
    let (low, high) = if k == 0 { (f64::NEG_INFINITY, f64::INFINITY) } else { (order[k - 1], order[n - k]) };
    let positive = order.iter().filter(|d| **d > 0.0).count();
    let negative = order.iter().filter(|d| **d < 0.0).count();
    let trials = (positive + negative) as u64;
    let p_greater = if positive == 0 { 1.0 } else { binomial_tails(positive as u64 - 1, trials, 0.5)?.upper };
    let smaller = binomial_tails(positive.min(negative) as u64, trials, 0.5)?.lower;
    let estimate = crate::describe::median_of_sorted(&order);
    Ok(SignTest {
        method: "sign test",
        interval: Interval { method: "sign test", estimate, low, high, level: 1.0 - 2.0 * alpha, n },
        alpha_per_side: alpha,
        positive,
        negative,
        zeros: n - positive - negative,
        p_two_sided: (2.0 * smaller).min(1.0),
        p_greater,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-3), "found {found}, expected {expected}");
    }

    #[test]
    fn paired_t_matches_scipy() {
        let a = [12.1, 11.8, 12.6, 12.0, 11.9, 12.4, 12.2, 12.3, 11.7, 12.5];
        let b = [12.4, 11.9, 12.9, 12.0, 12.3, 12.3, 12.7, 12.8, 11.9, 12.7];
        // scipy 1.17.1: stats.ttest_rel(b, a), .confidence_interval(.95), alternative="greater"
        let test = paired_t(&a, &b, 0.95).unwrap();
        close(test.t, 3.7738254121989088);
        close(test.p_two_sided, 0.004390528968597367);
        close(test.p_greater, 0.0021952644842986833);
        close(test.interval.low, 0.09613597350937733);
        close(test.interval.high, 0.3838640264906231);
        assert_eq!((test.df, test.interval.n), (9, 10));
    }

    #[test]
    fn paired_t_by_hand() {
        // d = 1, 2, 3: mean 2, sd 1, t = 2√3; df = 2 has P(T > t) = ½(1 − t/√(2 + t²)) = ½(1 − √(12/14))
        let test = paired_t(&[0.0; 3], &[1.0, 2.0, 3.0], 0.9).unwrap();
        close(test.t, 12f64.sqrt());
        close(test.p_greater, 0.5 * (1.0 - (12.0f64 / 14.0).sqrt()));
        assert_eq!(test.sd, 1.0);
    }

    #[test]
    fn constant_differences_are_certain_and_zero_ones_say_nothing() {
        let sure = paired_t(&[1.0, 2.0], &[2.0, 3.0], 0.95).unwrap();
        assert_eq!((sure.t, sure.p_two_sided, sure.interval.low, sure.interval.high), (f64::INFINITY, 0.0, 1.0, 1.0));
        let none = paired_t(&[1.0, 2.0], &[1.0, 2.0], 0.95).unwrap();
        assert_eq!((none.t, none.p_two_sided, none.p_greater), (0.0, 1.0, 0.5));
    }

    #[test]
    fn bad_pairs_are_refused() {
        assert!(paired_t(&[1.0], &[2.0], 0.95).is_err());
        assert_eq!(paired_t(&[1.0, 2.0], &[1.0, f64::NAN], 0.95).unwrap_err().argument, "b[1]");
        assert_eq!(paired_differences(&[1.0, 2.0], &[1.0]).unwrap_err().argument, "b");
        assert_eq!(paired_differences(&[1.0], &[3.5]).unwrap(), [2.5]);
        assert!(paired_differences(&[], &[]).is_err());
    }

    #[test]
    fn mcnemar_matches_scipy_and_statsmodels() {
        // statsmodels 0.15.0: mcnemar([[50, 10], [3, 40]], exact=True) = 0.09228515625; scipy 1.17.1: binomtest(min, b + c, .5)
        for (b, c, p) in [(10, 3, 0.09228515625), (0, 5, 0.0625), (6, 6, 1.0), (0, 0, 1.0), (120, 90, 0.045114087864840696)] {
            close(mcnemar_exact(b, c).p_two_sided, p);
            close(mcnemar_exact(c, b).p_two_sided, p);
        }
        close(mcnemar_exact(0, 1).p_two_sided, 1.0); // one disagreement proves nothing: 2·½
        let test = mcnemar_from_outcomes(&[true, true, false, true], &[true, false, true, false]).unwrap();
        assert_eq!((test.b, test.c, test.n), (2, 1, Some(4)));
        assert!(mcnemar_from_outcomes(&[true], &[]).is_err() && mcnemar_from_outcomes(&[], &[]).is_err());
    }

    #[test]
    fn sign_test_by_hand() {
        // six differences, five above 0, one below: P(K ≥ 5 of 6) = 7/64; bounds at 5 %: P(K < 1) = 1/64, P(K < 2) = 7/64, so k = 1
        let test = sign_test(&[0.4, 1.0, -0.2, 2.0, 0.7, 0.9], 0.05).unwrap();
        close(test.p_greater, 7.0 / 64.0);
        close(test.p_two_sided, 14.0 / 64.0);
        assert_eq!((test.interval.low, test.interval.high), (-0.2, 2.0));
        close(test.interval.estimate, 0.8);
        assert_eq!((test.positive, test.negative, test.zeros), (5, 1, 0));
    }

    #[test]
    fn sign_test_edges() {
        let four = sign_test(&[1.0, 2.0, 3.0, 4.0], 0.05).unwrap(); // 1/16 > 5 %: no bound
        assert_eq!((four.interval.low, four.interval.high), (f64::NEG_INFINITY, f64::INFINITY));
        let zeros = sign_test(&[0.0; 8], 0.05).unwrap();
        assert_eq!((zeros.zeros, zeros.p_two_sided, zeros.p_greater, zeros.interval.low), (8, 1.0, 1.0, 0.0));
        close(sign_test(&[3.0], 0.05).unwrap().p_greater, 0.5);
        assert!(sign_test(&[], 0.05).is_err() && sign_test(&[f64::NAN], 0.05).is_err() && sign_test(&[1.0], 0.0).is_err());
    }
}
