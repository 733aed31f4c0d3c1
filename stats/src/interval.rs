//! Confidence intervals and standard errors of means and proportions.
//!
//! ```text
//! SE       = √(Σ(sᵢ − s̄)² / (n(n−1)))                        SE_c² = (1/n²) Σ_clusters (Σ_in cluster (sᵢ − s̄))²
//! t        = s̄ ± t_{n−1}·SE                                  pooled SE = √( Σ(nᵢ−1)·nᵢ·SEᵢ² / (N−k) / N )
//! Wilson   = (p̂ + z²/2n ± z·√(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n)
//! ```
//! Every result names its method, level and n. Quantiles come from [`crate::distribution`].
//!
//! Sources: Wilson 1927; Clopper and Pearson 1934; Welch 1947; Miller 2024 (arXiv:2411.00640) for clustered errors.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::describe::{mean_of, squared_deviations, sum};
use crate::distribution::{beta_quantile, normal_quantile, student_t_quantile};
use crate::error::{StatsError, check_open_unit, check_sample, invalid};

/// Two-sided confidence interval of one quantity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// How it was computed, for footnotes: `t`, `normal`, `wilson`, …
    pub method: &'static str,
    /// Point estimate.
    pub estimate: f64,
    /// Lower end; −∞ when the sample cannot bound it at this level.
    pub low: f64,
    /// Upper end; +∞ when the sample cannot bound it at this level.
    pub high: f64,
    /// Confidence level of both sides together, such as 0.95.
    pub level: f64,
    /// Number of independent values (pairs, workers, seeds, documents).
    pub n: usize,
}

impl Interval {
    /// Half the width.
    pub fn half_width(&self) -> f64 {
        0.5 * (self.high - self.low)
    }

    /// Whether `value` lies inside, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// The interval under an increasing transformation, such as `f64::exp_m1` for log ratios.
    #[must_use]
    pub fn map(&self, increasing: impl Fn(f64) -> f64) -> Self {
        Self { estimate: increasing(self.estimate), low: increasing(self.low), high: increasing(self.high), ..*self }
    }
}

/// Mean with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StandardError {
    /// How it was computed: `mean`, `clustered`, `pooled group` or `unweighted group`.
    pub method: &'static str,
    /// Mean, where the values were given (groups receive errors only).
    pub mean: Option<f64>,
    /// Standard error.
    pub stderr: f64,
    /// Number of values.
    pub n: usize,
    /// Number of clusters or groups, where there are any.
    pub clusters: Option<usize>,
}

/// Standard error of the mean of independent values; needs two.
pub fn mean_stderr(values: &[f64]) -> Result<StandardError, StatsError> {
    check_sample("compute standard error", "values", values, 2)?;
    let (n, mean) = (values.len(), mean_of(values));
    let stderr = (squared_deviations(values, mean) / (n as f64 * (n - 1) as f64)).sqrt();
    Ok(StandardError { method: "mean", mean: Some(mean), stderr, n, clusters: None })
}

/// Cluster-robust standard error of the mean: items of one cluster may move together.
///
/// `clusters[i]` is the cluster of `values[i]`. Not corrected for the number of clusters, which is reported. With one item per
/// cluster it is the plain error times √((n−1)/n).
///
/// # Errors
/// When lengths differ, there are fewer than two clusters, or a value is not finite.
pub fn clustered_stderr<K: Ord>(values: &[f64], clusters: &[K]) -> Result<StandardError, StatsError> {
    const ATTEMPT: &str = "compute clustered standard error";
    check_sample(ATTEMPT, "values", values, 2)?;
    if clusters.len() != values.len() {
        return Err(invalid(ATTEMPT, "clusters", format!("{} ids, one per value", values.len()), clusters.len()));
    }
    let (n, mean) = (values.len(), mean_of(values));
    let mut sums: BTreeMap<&K, f64> = BTreeMap::new();
    for (value, cluster) in values.iter().zip(clusters) {
        *sums.entry(cluster).or_insert(0.0) += value - mean;
    }
    if sums.len() < 2 {
        return Err(invalid(ATTEMPT, "clusters", "at least 2 clusters", sums.len()));
    }
    let stderr = sum(sums.values().map(|s| s * s)).sqrt() / n as f64;
    Ok(StandardError { method: "clustered", mean: Some(mean), stderr, n, clusters: Some(sums.len()) })
}

/// Size and standard error of one leaf of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leaf {
    /// Number of values behind the leaf's mean; at least 1.
    pub n: usize,
    /// Standard error of the leaf's mean.
    pub stderr: f64,
}

/// Standard error of a size-weighted group mean, from its leaves: their variances pooled about their own means.
///
/// Leaves with one value add to N and k but have no variance of their own; their `stderr` is ignored.
pub fn pooled_group_stderr(leaves: &[Leaf]) -> Result<StandardError, StatsError> {
    const ATTEMPT: &str = "pool standard errors";
    check_leaves(ATTEMPT, leaves)?;
    let (n, k) = (leaves.iter().map(|leaf| leaf.n).sum::<usize>(), leaves.len());
    if n <= k {
        return Err(invalid(ATTEMPT, "leaves", "more values than leaves", format!("{n} values in {k} leaves")));
    }
    let squares = sum(leaves.iter().filter(|leaf| leaf.n > 1).map(|l| (l.n - 1) as f64 * l.n as f64 * l.stderr * l.stderr));
    let stderr = (squares / (n - k) as f64 / n as f64).sqrt();
    Ok(StandardError { method: "pooled group", mean: None, stderr, n, clusters: Some(k) })
}

/// Standard error of an unweighted mean of k groups: √(Σ SE²)/k.
pub fn unweighted_group_stderr(leaves: &[Leaf]) -> Result<StandardError, StatsError> {
    check_leaves("combine standard errors", leaves)?;
    let k = leaves.len();
    let stderr = sum(leaves.iter().map(|leaf| leaf.stderr * leaf.stderr)).sqrt() / k as f64;
    let n = leaves.iter().map(|leaf| leaf.n).sum();
    Ok(StandardError { method: "unweighted group", mean: None, stderr, n, clusters: Some(k) })
}

fn check_leaves(attempt: &'static str, leaves: &[Leaf]) -> Result<(), StatsError> {
    if leaves.is_empty() {
        return Err(invalid(attempt, "leaves", "at least one leaf", 0));
    }
    for (at, leaf) in leaves.iter().enumerate() {
        if leaf.n == 0 {
            return Err(invalid(attempt, format!("leaves[{at}].n"), "at least 1 value", 0));
        }
        if leaf.n > 1 && !(leaf.stderr >= 0.0 && leaf.stderr.is_finite()) {
            return Err(invalid(attempt, format!("leaves[{at}].stderr"), "a finite number >= 0", leaf.stderr));
        }
    }
    Ok(())
}

/// Student t interval of the mean; needs two values.
pub fn t_interval(values: &[f64], level: f64) -> Result<Interval, StatsError> {
    let error = mean_stderr(values)?;
    t_interval_from(mean_of(values), error.stderr, (values.len() - 1) as f64, level).map(|i| Interval { n: values.len(), ..i })
}

/// Student t interval from an estimate, its standard error and degrees of freedom. `n` is set to ⌊df⌋ + 1.
pub fn t_interval_from(estimate: f64, stderr: f64, df: f64, level: f64) -> Result<Interval, StatsError> {
    const ATTEMPT: &str = "compute t interval";
    check_estimate(ATTEMPT, estimate, stderr)?;
    check_open_unit(ATTEMPT, "level", level)?;
    let half = student_t_quantile(0.5 + 0.5 * level, df)? * stderr;
    Ok(Interval { method: "t", estimate, low: estimate - half, high: estimate + half, level, n: df.floor() as usize + 1 })
}

/// Normal interval of the mean; needs two values. Prefer [`t_interval`] below some hundred values.
pub fn normal_interval(values: &[f64], level: f64) -> Result<Interval, StatsError> {
    let error = mean_stderr(values)?;
    normal_interval_from(mean_of(values), error.stderr, values.len(), level)
}

/// Normal interval from an estimate and its standard error.
pub fn normal_interval_from(estimate: f64, stderr: f64, n: usize, level: f64) -> Result<Interval, StatsError> {
    const ATTEMPT: &str = "compute normal interval";
    check_estimate(ATTEMPT, estimate, stderr)?;
    check_open_unit(ATTEMPT, "level", level)?;
    let half = normal_quantile(0.5 + 0.5 * level) * stderr;
    Ok(Interval { method: "normal", estimate, low: estimate - half, high: estimate + half, level, n })
}

fn check_estimate(attempt: &'static str, estimate: f64, stderr: f64) -> Result<(), StatsError> {
    if !estimate.is_finite() {
        return Err(invalid(attempt, "estimate", "a finite number", estimate));
    }
    if !(stderr >= 0.0 && stderr.is_finite()) {
        return Err(invalid(attempt, "stderr", "a finite number >= 0", stderr));
    }
    Ok(())
}

/// Summary of one unpaired arm, as printed in a paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arm {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation (n − 1).
    pub sd: f64,
    /// Number of values; at least 2.
    pub n: usize,
}

/// Welch interval of mean(b) − mean(a) for arms that cannot be paired, from published summaries.
pub fn welch_interval(a: Arm, b: Arm, level: f64) -> Result<Interval, StatsError> {
    const ATTEMPT: &str = "compute Welch interval";
    for (name, arm) in [("a", a), ("b", b)] {
        if arm.n < 2 {
            return Err(invalid(ATTEMPT, format!("{name}.n"), "at least 2", arm.n));
        }
        check_estimate(ATTEMPT, arm.mean, arm.sd)?;
    }
    let (va, vb) = (a.sd * a.sd / a.n as f64, b.sd * b.sd / b.n as f64);
    let spread = va * va / (a.n - 1) as f64 + vb * vb / (b.n - 1) as f64;
    // two constant arms: any degrees of freedom give the same, empty, width
    let df = if spread > 0.0 { (va + vb) * (va + vb) / spread } else { (a.n + b.n - 2) as f64 };
    let interval = t_interval_from(b.mean - a.mean, (va + vb).sqrt(), df, level)?;
    Ok(Interval { method: "welch t", n: a.n + b.n, ..interval })
}

/// Wilson score interval of a proportion; the one for accuracy at small n.
pub fn wilson_interval(successes: usize, n: usize, level: f64) -> Result<Interval, StatsError> {
    check_proportion("compute Wilson interval", successes, n, level)?;
    let (count, share) = (n as f64, successes as f64 / n as f64);
    let z = normal_quantile(0.5 + 0.5 * level);
    let z2n = z * z / count;
    let centre = (share + 0.5 * z2n) / (1.0 + z2n);
    let half = z * (share * (1.0 - share) / count + 0.25 * z2n / count).sqrt() / (1.0 + z2n);
    // the ends at 0 and n are exactly 0 and 1; rounding must not move them
    let low = if successes == 0 { 0.0 } else { centre - half };
    let high = if successes == n { 1.0 } else { centre + half };
    Ok(Interval { method: "wilson", estimate: share, low, high, level, n })
}

/// Clopper–Pearson interval of a proportion: coverage never below `level`.
pub fn clopper_pearson_interval(successes: usize, n: usize, level: f64) -> Result<Interval, StatsError> {
    check_proportion("compute Clopper-Pearson interval", successes, n, level)?;
    let (k, count, tail) = (successes as f64, n as f64, 0.5 - 0.5 * level);
    let low = if successes == 0 { 0.0 } else { beta_quantile(tail, k, count - k + 1.0)? };
    let high = if successes == n { 1.0 } else { beta_quantile(1.0 - tail, k + 1.0, count - k)? };
    Ok(Interval { method: "clopper-pearson", estimate: k / count, low, high, level, n })
}

fn check_proportion(attempt: &'static str, successes: usize, n: usize, level: f64) -> Result<(), StatsError> {
    if n == 0 {
        return Err(invalid(attempt, "n", "at least 1", n));
    }
    if successes > n {
        return Err(invalid(attempt, "successes", format!("at most n = {n}"), successes));
    }
    check_open_unit(attempt, "level", level)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f64; 7] = [3.1, 2.4, 5.9, 4.4, 4.4, 1.2, 7.7];

    fn ends(interval: Interval, low: f64, high: f64) {
        let close = |found: f64, expected: f64| (found - expected).abs() <= 1e-12 * expected.abs().max(1.0);
        assert!(close(interval.low, low) && close(interval.high, high), "{interval:?}, expected {low} to {high}");
    }

    #[test]
    fn t_and_normal_intervals_match_scipy() {
        // scipy 1.17.1: stats.t.interval(.95, 6, loc=np.mean(x), scale=stats.sem(x)); stats.norm.interval(.95, …)
        let t = t_interval(&VALUES, 0.95).unwrap();
        ends(t, 2.135938975958005, 6.1783467383277095);
        assert_eq!((t.method, t.n, t.level), ("t", 7, 0.95));
        ends(normal_interval(&VALUES, 0.95).unwrap(), 2.538168797786696, 5.776116916499019);
    }

    #[test]
    fn five_seeds_use_the_factor_2_776() {
        // s of 1..5 is √2.5: half-width 2.7764451·√2.5/√5 = 2.7764451·√0.5
        let interval = t_interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).unwrap();
        assert!((interval.half_width() - 2.7764451051977934 * 0.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn one_value_is_refused_and_constant_input_has_no_width() {
        assert!(t_interval(&[1.0], 0.95).is_err() && mean_stderr(&[1.0]).is_err());
        let interval = t_interval(&[0.3; 4], 0.95).unwrap();
        assert_eq!((interval.low, interval.estimate, interval.high), (0.3, 0.3, 0.3));
        assert_eq!(t_interval(&[1.0, f64::NAN], 0.95).unwrap_err().argument, "values[1]");
        assert_eq!(t_interval(&VALUES, 1.0).unwrap_err().argument, "level");
    }

    #[test]
    fn proportions_match_statsmodels() {
        // statsmodels 0.15.0: proportion_confint(k, n, .05, "wilson") and "beta"
        for (k, n, wilson, exact) in [
            (0, 10, (0.0, 0.27753279986288926), (0.0, 0.30849710781876083)),
            (7, 10, (0.39677814746114537, 0.8922087325936989), (0.3475471499400027, 0.9332604888222655)),
            (82, 164, (0.42435704738802893, 0.5756429526119711), (0.42104285322214535, 0.5789571467778547)),
            (10, 10, (0.7224672001371106, 1.0), (0.6915028921812392, 1.0)),
        ] {
            ends(wilson_interval(k, n, 0.95).unwrap(), wilson.0, wilson.1);
            ends(clopper_pearson_interval(k, n, 0.95).unwrap(), exact.0, exact.1);
        }
        assert!(wilson_interval(0, 0, 0.95).is_err() && wilson_interval(3, 2, 0.95).is_err());
    }

    #[test]
    fn clustered_error_matches_hand_count_and_statsmodels() {
        // s̄ = 0.6; sums of deviations: {1,0,1} 0.2, {1,0} −0.2, {1} 0.4, {1,0,0} −0.8, {1} 0.4; Σ² = 1.04, SE = √1.04/10
        let scores = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0];
        let clusters = [0, 0, 0, 1, 1, 2, 3, 3, 3, 4];
        let clustered = clustered_stderr(&scores, &clusters).unwrap();
        // statsmodels 0.15.0: OLS(s, 1).fit(cov_type="cluster", use_correction=False).bse = 0.10198039
        assert!((clustered.stderr - 1.04f64.sqrt() / 10.0).abs() < 1e-15);
        assert_eq!((clustered.clusters, clustered.n, clustered.mean), (Some(5), 10, Some(0.6)));
        let naive = mean_stderr(&scores).unwrap();
        assert!((naive.stderr - 0.16329931618554522).abs() < 1e-15); // numpy 2.4.6: s.std(ddof=1)/√10
        let singles = clustered_stderr(&scores, &(0..10).collect::<Vec<_>>()).unwrap();
        assert!((singles.stderr - naive.stderr * 0.9f64.sqrt()).abs() < 1e-15);
        assert!(clustered_stderr(&scores, &[0; 10]).is_err() && clustered_stderr(&scores, &[0; 9]).is_err());
        assert!(clustered_stderr(&[1.0, f64::NAN], &[0, 1]).is_err());
    }

    #[test]
    fn groups_pool_their_leaves() {
        // Leaves {0,1} (SE ½) and {0,0,1,1} (SE √(1/12)): squares 1·2·¼ + 3·4/12 = 1.5; N = 6, k = 2 -> √(1.5/4/6) = ¼
        let leaves = [Leaf { n: 2, stderr: 0.5 }, Leaf { n: 4, stderr: (1.0f64 / 12.0).sqrt() }];
        let pooled = pooled_group_stderr(&leaves).unwrap();
        assert!((pooled.stderr - 0.25).abs() < 1e-15);
        assert_eq!((pooled.n, pooled.clusters), (6, Some(2)));
        // √(¼ + 1/12)/2 = √(1/3)/2
        assert!((unweighted_group_stderr(&leaves).unwrap().stderr - (1.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-15);
        // one leaf is its own group
        assert!((pooled_group_stderr(&leaves[..1]).unwrap().stderr - 0.5).abs() < 1e-15);
        assert!(pooled_group_stderr(&[Leaf { n: 1, stderr: 0.0 }]).is_err() && pooled_group_stderr(&[]).is_err());
        assert!(pooled_group_stderr(&[Leaf { n: 2, stderr: f64::NAN }]).is_err());
    }

    #[test]
    fn welch_gives_the_spread_of_the_published_tie() {
        // 75.20 ± 0.07 against 75.20 ± 0.12 over 5 trials each; scipy 1.17.1: df 6.43973, t.ppf(.975, df)·SE = 0.14954271884838
        let a = Arm { mean: 75.20, sd: 0.12, n: 5 };
        let b = Arm { mean: 75.20, sd: 0.07, n: 5 };
        let interval = welch_interval(a, b, 0.95).unwrap();
        assert!((interval.half_width() - 0.14954271884838).abs() < 1e-12);
        assert_eq!((interval.estimate, interval.n), (0.0, 10));
        let constant = welch_interval(Arm { sd: 0.0, ..a }, Arm { sd: 0.0, ..b }, 0.95).unwrap();
        assert_eq!(constant.half_width(), 0.0);
        assert!(
            welch_interval(Arm { n: 1, ..a }, b, 0.95).is_err() && welch_interval(Arm { sd: f64::NAN, ..a }, b, 0.95).is_err()
        );
    }
}
