//! Wilcoxon signed ranks: p-values, and bounds of the Hodges–Lehmann estimate.
//!
//! ```text
//! HL        = median of the Walsh averages (dᵢ + dⱼ)/2, i ≤ j;   M = n(n+1)/2 of them
//! bounds    = W₍ₖ₎ and W₍M+1−k₎,  k the largest with P(T⁺ ≤ k − 1) ≤ α
//! ```
//! The null distribution of T⁺ is exact for n ≤ 50 and normal with continuity correction above. P-values drop zeros and use
//! mid-ranks; their exact distribution is the one over sign flips of those mid-ranks, so ties cost no exactness.
//! Order statistics of the Walsh averages are found by counting, O(n) memory and about 64 passes of two pointers.
//!
//! Holds its promised error on Gaussian and on spiky differences alike, which is why cost comparisons decide with it.
//!
//! Sources: Wilcoxon 1945; Hodges and Lehmann 1963; Tukey 1949 for the Walsh-average bounds.

use serde::Serialize;

use crate::describe::sorted;
use crate::distribution::{normal_quantile, normal_survival};
use crate::error::{StatsError, check_open_unit, check_sample};
use crate::interval::Interval;

/// Largest n with the exact null distribution; above, the normal approximation errs by less than 0.001.
pub const EXACT_LIMIT: usize = 50;

/// Signed-rank bounds and test of a set of differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SignedRank {
    /// `signed-rank exact` or `signed-rank normal`.
    pub method: &'static str,
    /// Hodges–Lehmann estimate; each end is a one-sided bound of error `alpha_per_side`.
    pub interval: Interval,
    /// Error probability of each end; the level of both together is 1 − 2·α.
    pub alpha_per_side: f64,
    /// Sum of the ranks of the positive differences, zeros dropped, mid-ranks for ties.
    pub t_plus: f64,
    /// Two-sided p-value of "symmetric about 0".
    pub p_two_sided: f64,
    /// One-sided p-value against "shifted above 0".
    pub p_greater: f64,
    /// One-sided p-value against "shifted below 0".
    pub p_less: f64,
}

/// Signed-rank bounds and test of `differences`; `alpha` is the error of each one-sided bound.
///
/// An end is −∞ or +∞ when n is too small for `alpha`: the smallest one-sided level is 2⁻ⁿ.
///
/// # Errors
/// When there is no difference, one is not finite, or alpha is outside (0, 1).
pub fn signed_rank(differences: &[f64], alpha: f64) -> Result<SignedRank, StatsError> {
    const ATTEMPT: &str = "compute signed-rank bounds";
    check_sample(ATTEMPT, "differences", differences, 1)?;
    check_open_unit(ATTEMPT, "alpha", alpha)?;
    let order = sorted(differences);
    let n = order.len();
    let averages = n * (n + 1) / 2;
    let k = if n <= EXACT_LIMIT { exact_depth(n, alpha) } else { normal_depth(n, alpha) };
    let (low, high) = if k == 0 {
        (f64::NEG_INFINITY, f64::INFINITY)
    } else {
        (walsh_order_statistic(&order, k), walsh_order_statistic(&order, averages + 1 - k))
    };
    let method = if n <= EXACT_LIMIT { "signed-rank exact" } else { "signed-rank normal" };
    let test = rank_test(differences);
    Ok(SignedRank {
        method,
        interval: Interval { method, estimate: hodges_lehmann_of_sorted(&order), low, high, level: 1.0 - 2.0 * alpha, n },
        alpha_per_side: alpha,
        t_plus: test.t_plus,
        p_two_sided: (2.0 * test.p_greater.min(test.p_less)).min(1.0),
        p_greater: test.p_greater,
        p_less: test.p_less,
    })
}

/// Hodges–Lehmann estimate: median of all pairwise means, each value with itself included.
pub fn hodges_lehmann(values: &[f64]) -> Result<f64, StatsError> {
    check_sample("compute Hodges-Lehmann estimate", "values", values, 1)?;
    Ok(hodges_lehmann_of_sorted(&sorted(values)))
}

fn hodges_lehmann_of_sorted(order: &[f64]) -> f64 {
    let averages = order.len() * (order.len() + 1) / 2;
    let middle = walsh_order_statistic(order, averages / 2 + 1);
    if averages % 2 == 1 {
        return middle;
    }
    0.5 * walsh_order_statistic(order, averages / 2) + 0.5 * middle
}

/// Largest k with P(T⁺ ≤ k − 1) ≤ α under the exact null distribution of n distinct ranks.
fn exact_depth(n: usize, alpha: f64) -> usize {
    let ranks: Vec<usize> = (1..=n).collect();
    let shares = flip_distribution(&ranks);
    let mut below = 0.0;
    shares
        .iter()
        .take_while(|share| {
            below += **share;
            below <= alpha
        })
        .count()
}

/// As [`exact_depth`] by the normal approximation: (k − ½ − mean)/sd ≤ −z.
fn normal_depth(n: usize, alpha: f64) -> usize {
    let count = n as f64;
    let mean = count * (count + 1.0) / 4.0;
    let sd = (count * (count + 1.0) * (2.0 * count + 1.0) / 24.0).sqrt();
    (mean + 0.5 + normal_quantile(alpha) * sd).floor().max(0.0) as usize
}

/// Probability of each sum when every rank counts with probability ½: index is the sum. Each entry is a binary fraction, exact to n = 50.
fn flip_distribution(ranks: &[usize]) -> Vec<f64> {
    let mut shares = vec![0.0; ranks.iter().sum::<usize>() + 1];
    shares[0] = 1.0;
    let mut reach = 0;
    for &rank in ranks {
        reach += rank;
        for at in (0..=reach).rev() {
            let with = if at >= rank { shares[at - rank] } else { 0.0 };
            shares[at] = 0.5 * (shares[at] + with);
        }
    }
    shares
}

struct RankTest {
    t_plus: f64,
    p_greater: f64,
    p_less: f64,
}

fn rank_test(differences: &[f64]) -> RankTest {
    let mut nonzero: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    nonzero.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = nonzero.len();
    if n == 0 {
        return RankTest { t_plus: 0.0, p_greater: 1.0, p_less: 1.0 };
    }
    // twice the mid-rank of a run of ties at positions start..end is start + end + 1, an integer
    let mut doubled = vec![0usize; n];
    let mut tie_correction = 0.0;
    let mut start = 0;
    while start < n {
        let end = start + nonzero[start..].iter().take_while(|d| d.abs() == nonzero[start].abs()).count();
        doubled[start..end].fill(start + end + 1);
        let ties = (end - start) as f64;
        tie_correction += ties * ties * ties - ties;
        start = end;
    }
    let observed: usize = nonzero.iter().zip(&doubled).filter(|(d, _)| **d > 0.0).map(|(_, rank)| rank).sum();
    let t_plus = 0.5 * observed as f64;
    if n <= EXACT_LIMIT {
        let shares = flip_distribution(&doubled);
        let p_greater = shares[observed..].iter().sum::<f64>().min(1.0);
        let p_less = shares[..=observed].iter().sum::<f64>().min(1.0);
        return RankTest { t_plus, p_greater, p_less };
    }
    let count = n as f64;
    let mean = count * (count + 1.0) / 4.0;
    let sd = (count * (count + 1.0) * (2.0 * count + 1.0) / 24.0 - tie_correction / 48.0).sqrt();
    RankTest {
        t_plus,
        p_greater: normal_survival((t_plus - mean - 0.5) / sd),
        p_less: normal_survival((mean - t_plus - 0.5) / sd),
    }
}

/// k-th smallest Walsh average (k from 1) of an ascending sample, exact to the bit.
///
/// Bisects the ordered bit patterns of floats; the answer is the smallest float with at least k averages at or below it.
fn walsh_order_statistic(order: &[f64], k: usize) -> f64 {
    let (mut low, mut high) = (float_to_order(order[0]), float_to_order(order[order.len() - 1]));
    while low < high {
        let middle = low + (high - low) / 2;
        if walsh_count_at_most(order, order_to_float(middle)) >= k {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    order_to_float(low)
}

/// Number of pairs i ≤ j with average at most `limit`.
fn walsh_count_at_most(order: &[f64], limit: f64) -> usize {
    let (mut count, mut j) = (0, order.len());
    for (i, x) in order.iter().enumerate() {
        while j > i && 0.5 * x + 0.5 * order[j - 1] > limit {
            j -= 1;
        }
        if j <= i {
            break;
        }
        count += j - i;
    }
    count
}

/// Maps floats to integers of the same order (−0 just below +0).
fn float_to_order(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn order_to_float(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFFERENCES: [f64; 11] = [0.8, -0.3, 1.7, 2.6, -1.1, 0.5, 3.2, 1.4, -0.6, 2.1, 0.9];

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-3), "found {found}, expected {expected}");
    }

    #[test]
    fn exact_test_matches_scipy() {
        // scipy 1.17.1: stats.wilcoxon(d, alternative=…, method="exact")
        let result = signed_rank(&DIFFERENCES, 0.05).unwrap();
        assert_eq!(result.t_plus, 56.0);
        close(result.p_greater, 0.02099609375);
        close(result.p_less, 0.98388671875);
        close(result.p_two_sided, 0.0419921875);
    }

    #[test]
    fn exact_bounds_match_sorted_walsh_averages() {
        // n = 11: P(T ≤ 13) = 0.0415, P(T ≤ 14) = 0.0508, so k = 14 of 66. numpy 2.4.6, sorted averages: 14th 0.15, 53rd 1.85, median 1.025
        let result = signed_rank(&DIFFERENCES, 0.05).unwrap();
        close(result.interval.low, 0.15);
        close(result.interval.high, 1.85);
        close(result.interval.estimate, 1.025);
        assert_eq!((result.method, result.interval.n, result.interval.level), ("signed-rank exact", 11, 0.9));
    }

    #[test]
    fn bounds_by_hand() {
        // d = 1, 2, 4, 8, 16 at α = 1/32: P(T ≤ 0) = 1/32, so k = 1: smallest and largest. Averages sorted:
        // 1 1.5 2 2.5 3 4 4.5 5 6 8 8.5 9 10 12 16, median 5
        let result = signed_rank(&[8.0, 1.0, 16.0, 2.0, 4.0], 1.0 / 32.0).unwrap();
        assert_eq!((result.interval.low, result.interval.estimate, result.interval.high), (1.0, 5.0, 16.0));
        assert_eq!(result.p_greater, 1.0 / 32.0);
        // just below the smallest level there is no bound
        let none = signed_rank(&[8.0, 1.0, 16.0, 2.0, 4.0], 0.031).unwrap();
        assert_eq!((none.interval.low, none.interval.high), (f64::NEG_INFINITY, f64::INFINITY));
        // even number of averages: 1, 1.5, 2 for n = 2 is odd; n = 3 has 6: 1 1.5 2 2.5 3 4, median 2.25
        assert_eq!(hodges_lehmann(&[1.0, 2.0, 4.0]).unwrap(), 2.25);
    }

    #[test]
    fn ties_keep_the_test_exact() {
        // counted over all 256 sign patterns of the mid-ranks 1.5 1.5 3.5 3.5 5 6.5 6.5 8 (numpy 2.4.6, stats.rankdata)
        let result = signed_rank(&[1.0, -1.0, 2.0, 2.0, -3.0, 4.0, 4.0, 5.0], 0.05).unwrap();
        assert_eq!((result.t_plus, result.p_greater, result.p_less), (29.5, 0.06640625, 0.95703125));
        // scipy 1.17.1: stats.wilcoxon(d, method=PermutationMethod(n_resamples=inf)).pvalue
        assert_eq!(result.p_two_sided, 0.1328125);
        // zeros add nothing to the test but pull the bounds
        let with_zeros = signed_rank(&[1.0, -1.0, 2.0, 2.0, -3.0, 4.0, 4.0, 5.0, 0.0, 0.0], 0.05).unwrap();
        assert_eq!(with_zeros.p_greater, 0.06640625);
        assert!(with_zeros.interval.estimate < result.interval.estimate);
    }

    #[test]
    fn large_samples_use_the_normal_approximation() {
        let values: Vec<f64> = (0..60)
            .map(|i| (f64::from((i * 37) % 61 - 25) / 10.0 + f64::from(i) * 0.013) * 1000.0)
            .map(|d| d.round() / 1000.0)
            .collect();
        let result = signed_rank(&values, 0.05).unwrap();
        // scipy 1.17.1: stats.wilcoxon(d, alternative="greater", method="approx", correction=True)
        assert_eq!((result.method, result.t_plus), ("signed-rank normal", 1381.0));
        assert!((result.p_greater - 0.00030533990027233515).abs() < 1e-12, "{}", result.p_greater);
        close(result.interval.estimate, 0.946); // numpy 2.4.6: median of the 1830 averages
    }

    #[test]
    fn approximation_joins_the_exact_distribution() {
        // at n = 50 the exact error P(T ≤ k − 1) of the approximate depth is known; one step of k is worth up to 0.0015 there
        let shares = flip_distribution(&(1..=50).collect::<Vec<_>>());
        for alpha in [0.05, 0.025, 0.05 / 3.0, 0.005] {
            let error: f64 = shares[..normal_depth(50, alpha)].iter().sum();
            assert!((error - alpha).abs() < 1e-3, "{alpha}: {error}");
        }
        // published one-sided 5 % critical value for n = 20 is T ≤ 60 (Wilcoxon's table), so k = 61
        assert_eq!(exact_depth(20, 0.05), 61);
        assert_eq!(exact_depth(10, 0.05), 11); // T ≤ 10
    }

    #[test]
    fn counting_equals_sorting() {
        let mut order = DIFFERENCES.to_vec();
        order.sort_by(f64::total_cmp);
        let mut averages: Vec<f64> =
            (0..11).flat_map(|i| (i..11).map(move |j| (i, j))).map(|(i, j)| 0.5 * order[i] + 0.5 * order[j]).collect();
        averages.sort_by(f64::total_cmp);
        for (at, average) in averages.iter().enumerate() {
            assert_eq!(walsh_order_statistic(&order, at + 1), *average);
        }
    }

    #[test]
    fn edges() {
        let one = signed_rank(&[2.0], 0.05).unwrap();
        assert_eq!((one.interval.estimate, one.p_greater, one.p_two_sided), (2.0, 0.5, 1.0));
        let constant = signed_rank(&[0.5; 12], 0.05).unwrap();
        assert_eq!((constant.interval.low, constant.interval.estimate, constant.interval.high), (0.5, 0.5, 0.5));
        let zeros = signed_rank(&[0.0; 12], 0.05).unwrap();
        assert_eq!((zeros.p_two_sided, zeros.p_greater, zeros.interval.high), (1.0, 1.0, 0.0));
        assert!(signed_rank(&[], 0.05).is_err() && signed_rank(&[1.0], 1.0).is_err());
        assert_eq!(signed_rank(&[1.0, f64::INFINITY], 0.05).unwrap_err().argument, "differences[1]");
    }
}
