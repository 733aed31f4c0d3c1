//! Bootstrap intervals and approximate randomisation, seeded.
//!
//! ```text
//! percentile interval = quantiles (1 ∓ level)/2 of the statistic over resamples of the *units*: pairs, documents, clusters
//! randomisation p     = (1 + #{|δ*| > |δ|}) / (1 + R),   δ* after swapping the arms of each unit with probability ½
//! ```
//! Replicate r draws from the stream `("stats/…", seed, r)`, so results depend on neither order nor thread count. The quantile rule
//! is linear (Hyndman–Fan 7). Statistics take indices, so any of them works: a ratio of sums, a corpus score, a median.
//!
//! Sources: Efron 1979; Koehn 2004 (paired bootstrap); Noreen 1989 (approximate randomisation); Agarwal et al. 2021 (stratified).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::describe::{QuantileRule, interquartile_mean_of_sorted, mean_of, quantile_of_sorted, sorted, squared_deviations};
use crate::error::{StatsError, check_finite, check_open_unit, check_sample, invalid};
use crate::interval::Interval;
use crate::resample::MedianResampler;
use crate::rng::{RngCore, Stream, coin, index, stream};

/// How many resamples, at which level, from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BootstrapPlan {
    /// Number of resamples; at least 100.
    pub resamples: usize,
    /// Confidence level.
    pub level: f64,
    /// Seed of the resampling streams.
    pub seed: u64,
}

impl Default for BootstrapPlan {
    /// 10 000 resamples at 95 %, seed 0.
    fn default() -> Self {
        Self { resamples: 10_000, level: 0.95, seed: 0 }
    }
}

/// Bootstrap estimate with its percentile interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BootstrapEstimate {
    /// Statistic of the data and its percentile interval; `n` counts units.
    pub interval: Interval,
    /// Standard deviation (n − 1) of the replicates.
    pub stderr: f64,
    /// Number of resamples.
    pub resamples: usize,
    /// Seed of the resampling streams.
    pub seed: u64,
}

impl BootstrapPlan {
    fn check(&self, attempt: &'static str) -> Result<(), StatsError> {
        check_open_unit(attempt, "level", self.level)?;
        if self.resamples < 100 {
            return Err(invalid(attempt, "resamples", "at least 100", self.resamples));
        }
        Ok(())
    }

    /// Percentile interval from the statistic of the data and its replicates. `method` names the scheme, `n` counts units.
    ///
    /// # Errors
    /// When the estimate or a replicate is not finite; the replicate's number is named.
    pub fn summarise(
        &self,
        method: &'static str,
        estimate: f64,
        n: usize,
        replicates: &[f64],
    ) -> Result<BootstrapEstimate, StatsError> {
        const ATTEMPT: &str = "summarise bootstrap replicates";
        check_finite(ATTEMPT, "estimate", &[estimate])?;
        check_sample(ATTEMPT, "replicates", replicates, 2)?;
        let order = sorted(replicates);
        let tail = 0.5 - 0.5 * self.level;
        let mean = mean_of(replicates);
        Ok(BootstrapEstimate {
            interval: Interval {
                method,
                estimate,
                low: quantile_of_sorted(&order, tail, QuantileRule::Linear),
                high: quantile_of_sorted(&order, 1.0 - tail, QuantileRule::Linear),
                level: self.level,
                n,
            },
            stderr: (squared_deviations(replicates, mean) / (replicates.len() - 1) as f64).sqrt(),
            resamples: replicates.len(),
            seed: self.seed,
        })
    }
}

/// Statistic on each resample of `n` units: `statistic` gets n indices drawn with replacement.
///
/// # Errors
/// When n is 0 or the plan has fewer than 100 resamples or a bad level.
pub fn bootstrap_replicates(
    n: usize,
    plan: &BootstrapPlan,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Result<Vec<f64>, StatsError> {
    const ATTEMPT: &str = "bootstrap";
    plan.check(ATTEMPT)?;
    if n == 0 {
        return Err(invalid(ATTEMPT, "n", "at least 1 unit", n));
    }
    let mut indices = vec![0; n];
    Ok((0..plan.resamples)
        .map(|replicate| {
            let mut rng = replicate_stream("stats/bootstrap", plan.seed, replicate);
            indices.fill_with(|| index(&mut rng, n));
            statistic(&indices)
        })
        .collect())
}

fn replicate_stream(purpose: &str, seed: u64, replicate: usize) -> Stream {
    stream(purpose, seed, replicate as u64)
}

/// Percentile bootstrap of any statistic over `n` units (pairs, documents). The estimate is the statistic of `0..n`.
pub fn bootstrap(
    n: usize,
    plan: &BootstrapPlan,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Result<BootstrapEstimate, StatsError> {
    let all: Vec<usize> = (0..n).collect();
    let replicates = bootstrap_replicates(n, plan, &mut statistic)?;
    plan.summarise("percentile bootstrap", statistic(&all), n, &replicates)
}

/// Percentile bootstrap of the mean.
pub fn bootstrap_mean(values: &[f64], plan: &BootstrapPlan) -> Result<BootstrapEstimate, StatsError> {
    check_sample("bootstrap the mean", "values", values, 1)?;
    let mut drawn = vec![0.0; values.len()];
    let estimate = bootstrap(values.len(), plan, |indices| {
        gather(values, indices, &mut drawn);
        mean_of(&drawn)
    })?;
    Ok(named(estimate, "percentile bootstrap of the mean"))
}

/// Percentile bootstrap of the median.
pub fn bootstrap_median(values: &[f64], plan: &BootstrapPlan) -> Result<BootstrapEstimate, StatsError> {
    const ATTEMPT: &str = "bootstrap the median";
    check_sample(ATTEMPT, "values", values, 1)?;
    plan.check(ATTEMPT)?;
    let mut resampler = MedianResampler::new(values);
    let replicates: Vec<f64> = (0..plan.resamples)
        .map(|replicate| resampler.draw(&mut replicate_stream("stats/bootstrap", plan.seed, replicate)))
        .collect();
    let estimate = plan.summarise("percentile bootstrap", resampler.median(), values.len(), &replicates)?;
    Ok(named(estimate, "percentile bootstrap of the median"))
}

fn gather(values: &[f64], indices: &[usize], out: &mut [f64]) {
    for (slot, &at) in out.iter_mut().zip(indices) {
        *slot = values[at];
    }
}

fn named(estimate: BootstrapEstimate, method: &'static str) -> BootstrapEstimate {
    BootstrapEstimate { interval: Interval { method, ..estimate.interval }, ..estimate }
}

/// Percentile bootstrap over clusters: whole clusters are drawn, `statistic` gets the indices of all their items.
///
/// `clusters[i]` is the cluster of item i; `n` of the result counts clusters.
pub fn bootstrap_clusters<K: Ord>(
    clusters: &[K],
    plan: &BootstrapPlan,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Result<BootstrapEstimate, StatsError> {
    let mut members: BTreeMap<&K, Vec<usize>> = BTreeMap::new();
    for (at, cluster) in clusters.iter().enumerate() {
        members.entry(cluster).or_default().push(at);
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    let all: Vec<usize> = (0..clusters.len()).collect();
    let mut items = Vec::with_capacity(clusters.len());
    let replicates = bootstrap_replicates(members.len(), plan, |drawn| {
        items.clear();
        items.extend(drawn.iter().flat_map(|&cluster| &members[cluster]).copied());
        statistic(&items)
    })?;
    plan.summarise("percentile bootstrap of clusters", statistic(&all), members.len(), &replicates)
}

/// Percentile bootstrap stratified by task: runs are drawn within each stratum, and `statistic` sees all drawn values together,
/// stratum after stratum. `n` of the result counts values.
///
/// # Errors
/// When there is no stratum, one is empty, or a value is not finite.
pub fn bootstrap_stratified(
    strata: &[Vec<f64>],
    plan: &BootstrapPlan,
    mut statistic: impl FnMut(&[f64]) -> f64,
) -> Result<BootstrapEstimate, StatsError> {
    const ATTEMPT: &str = "bootstrap by stratum";
    plan.check(ATTEMPT)?;
    if strata.is_empty() {
        return Err(invalid(ATTEMPT, "strata", "at least 1 stratum", 0));
    }
    for (at, stratum) in strata.iter().enumerate() {
        check_sample(ATTEMPT, &format!("strata[{at}]"), stratum, 1)?;
    }
    let all = strata.concat();
    let mut drawn = Vec::with_capacity(all.len());
    let replicates: Vec<f64> = (0..plan.resamples)
        .map(|replicate| {
            let mut rng = replicate_stream("stats/bootstrap", plan.seed, replicate);
            drawn.clear();
            for stratum in strata {
                drawn.extend((0..stratum.len()).map(|_| stratum[index(&mut rng, stratum.len())]));
            }
            statistic(&drawn)
        })
        .collect();
    plan.summarise("stratified percentile bootstrap", statistic(&all), all.len(), &replicates)
}

/// Interquartile mean over many tasks and seeds, with its bootstrap stratified by task (`scores[task][seed]`, already on one scale).
pub fn stratified_interquartile_mean(scores: &[Vec<f64>], plan: &BootstrapPlan) -> Result<BootstrapEstimate, StatsError> {
    let estimate = bootstrap_stratified(scores, plan, |values| interquartile_mean_of_sorted(&sorted(values)))?;
    Ok(named(estimate, "stratified percentile bootstrap of the interquartile mean"))
}

/// Approximate randomisation test of a paired difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Randomisation {
    /// `approximate randomisation`.
    pub method: &'static str,
    /// Difference of the arms as observed.
    pub difference: f64,
    /// Two-sided p-value.
    pub p: f64,
    /// Number of random swaps R.
    pub rounds: usize,
    /// Number of units.
    pub n: usize,
    /// Seed of the swaps.
    pub seed: u64,
}

/// Approximate randomisation over `n` units. `difference` gets one flag per unit, `true` where the arms are swapped; all `false` is
/// the observed data.
///
/// # Errors
/// When n or `rounds` is 0, or a difference is not finite.
pub fn approximate_randomisation(
    n: usize,
    rounds: usize,
    seed: u64,
    mut difference: impl FnMut(&[bool]) -> f64,
) -> Result<Randomisation, StatsError> {
    const ATTEMPT: &str = "compute approximate randomisation";
    for (name, count) in [("n", n), ("rounds", rounds)] {
        if count == 0 {
            return Err(invalid(ATTEMPT, name, "at least 1", count));
        }
    }
    let mut swaps = vec![false; n];
    let observed = difference(&swaps);
    check_finite(ATTEMPT, "difference", &[observed])?;
    let mut beyond = 0usize;
    for round in 0..rounds {
        let mut rng = replicate_stream("stats/randomisation", seed, round);
        fill_coins(&mut rng, &mut swaps);
        let swapped = difference(&swaps);
        if !swapped.is_finite() {
            return Err(invalid(ATTEMPT, format!("difference in round {round}"), "a finite number", swapped));
        }
        beyond += usize::from(swapped.abs() > observed.abs());
    }
    let p = (1 + beyond) as f64 / (1 + rounds) as f64;
    Ok(Randomisation { method: "approximate randomisation", difference: observed, p, rounds, n, seed })
}

fn fill_coins(rng: &mut (impl RngCore + ?Sized), swaps: &mut [bool]) {
    swaps.fill_with(|| coin(rng));
}

/// Approximate randomisation of a mean difference: a swap changes the sign of `differences[i]`.
pub fn randomisation_of_differences(differences: &[f64], rounds: usize, seed: u64) -> Result<Randomisation, StatsError> {
    check_sample("compute approximate randomisation", "differences", differences, 1)?;
    let n = differences.len() as f64;
    approximate_randomisation(differences.len(), rounds, seed, |swaps| {
        differences.iter().zip(swaps).map(|(d, swap)| if *swap { -d } else { *d }).sum::<f64>() / n
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f64; 7] = [3.1, 2.4, 5.9, 4.4, 4.4, 1.2, 7.7];

    #[test]
    fn three_values_give_the_enumerated_percentiles() {
        // all 27 resamples of 1, 2, 6: means 1 (1/27), 4/3 (3/27), 5/3 (3/27), 2, … 13/3, 14/3 (3/27), 6 (1/27).
        // 2.5 % and 97.5 % fall on 1 and 6; 5 % and 95 % on 4/3 and 14/3
        let wide = bootstrap_mean(&[1.0, 2.0, 6.0], &BootstrapPlan::default()).unwrap();
        assert_eq!((wide.interval.low, wide.interval.estimate, wide.interval.high), (1.0, 3.0, 6.0));
        let narrow = bootstrap_mean(&[1.0, 2.0, 6.0], &BootstrapPlan { level: 0.9, ..BootstrapPlan::default() }).unwrap();
        assert!((narrow.interval.low - 4.0 / 3.0).abs() < 1e-12 && (narrow.interval.high - 14.0 / 3.0).abs() < 1e-12);
        // bootstrap variance of a mean is Σ(x − x̄)²/n² = 14/9; 10 000 replicates know it to 2 %
        assert!((wide.stderr - (14.0f64 / 9.0).sqrt()).abs() < 0.03);
    }

    #[test]
    fn percentiles_match_scipy() {
        // scipy 1.17.1: stats.bootstrap((x,), np.mean | np.median, n_resamples=200000, method="percentile", rng=1)
        let mean = bootstrap_mean(&VALUES, &BootstrapPlan { resamples: 100_000, ..BootstrapPlan::default() }).unwrap();
        assert!((mean.interval.low - 2.7286).abs() < 0.03 && (mean.interval.high - 5.7286).abs() < 0.03, "{mean:?}");
        let median = bootstrap_median(&VALUES, &BootstrapPlan::default()).unwrap();
        assert_eq!((median.interval.low, median.interval.estimate, median.interval.high), (2.4, 4.4, 5.9));
    }

    #[test]
    fn seed_decides_the_result() {
        let plan = BootstrapPlan { resamples: 500, ..BootstrapPlan::default() };
        assert_eq!(bootstrap_mean(&VALUES, &plan).unwrap(), bootstrap_mean(&VALUES, &plan).unwrap());
        let other = bootstrap_mean(&VALUES, &BootstrapPlan { seed: 1, ..plan }).unwrap();
        assert_ne!(bootstrap_mean(&VALUES, &plan).unwrap().stderr, other.stderr);
    }

    #[test]
    fn clusters_move_together() {
        // two clusters, each constant: the mean of a resample is 0, ½ or 1 with weights ¼, ½, ¼, so its sd is √⅛
        let values = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let clusters = ["a", "a", "a", "b", "b", "b"];
        let mean = |items: &[usize]| items.iter().map(|&i| values[i]).sum::<f64>() / items.len() as f64;
        let clustered = bootstrap_clusters(&clusters, &BootstrapPlan::default(), mean).unwrap();
        assert!((clustered.stderr - 0.125f64.sqrt()).abs() < 0.01);
        assert_eq!((clustered.interval.n, clustered.interval.low, clustered.interval.high), (2, 0.0, 1.0));
        let naive = bootstrap(6, &BootstrapPlan::default(), mean).unwrap();
        assert!(naive.stderr < 0.75 * clustered.stderr);
    }

    #[test]
    fn strata_keep_their_share() {
        // runs inside a task are equal, so drawing within tasks changes nothing
        let scores = vec![vec![1.0; 3], vec![2.0; 3], vec![9.0; 2]];
        let result = stratified_interquartile_mean(&scores, &BootstrapPlan::default()).unwrap();
        // sorted 1 1 1 2 2 2 9 9, two cut at each end: (1 + 2 + 2 + 2)/4
        assert_eq!((result.interval.low, result.interval.estimate, result.interval.high, result.stderr), (1.75, 1.75, 1.75, 0.0));
        assert!(bootstrap_stratified(&[], &BootstrapPlan::default(), mean_of).is_err());
        let error = bootstrap_stratified(&[vec![1.0], vec![1.0, f64::NAN]], &BootstrapPlan::default(), mean_of).unwrap_err();
        assert_eq!(error.argument, "strata[1][1]");
    }

    #[test]
    fn randomisation_by_hand() {
        // d = 1, 2, 3, 10: |sum| exceeds 16 never, so p is the smallest, 1/(1 + R)
        let surest = randomisation_of_differences(&[1.0, 2.0, 3.0, 10.0], 999, 0).unwrap();
        assert_eq!((surest.p, surest.difference), (0.001, 4.0));
        // d = 3, −1, −1: δ = ⅓; of 8 patterns |sum| > 1 for all but ±(3−1−1): 6/8
        let unsure = randomisation_of_differences(&[3.0, -1.0, -1.0], 20_000, 0).unwrap();
        assert!((unsure.p - 0.75).abs() < 0.013, "{}", unsure.p); // 4 sd of a share over 20 000
        let nothing = randomisation_of_differences(&[0.0; 5], 99, 0).unwrap();
        assert_eq!(nothing.p, 0.01); // the published rule counts strict excess only
    }

    #[test]
    fn edges() {
        let one = bootstrap_mean(&[2.0], &BootstrapPlan::default()).unwrap();
        assert_eq!((one.interval.low, one.interval.high, one.stderr), (2.0, 2.0, 0.0));
        let constant = bootstrap_median(&[0.1; 5], &BootstrapPlan::default()).unwrap();
        assert_eq!((constant.interval.low, constant.interval.high), (0.1, 0.1));
        assert_eq!(bootstrap_mean(&[1.0, f64::NAN], &BootstrapPlan::default()).unwrap_err().argument, "values[1]");
        assert!(bootstrap_mean(&[], &BootstrapPlan::default()).is_err());
        assert!(bootstrap_mean(&VALUES, &BootstrapPlan { resamples: 0, ..BootstrapPlan::default() }).is_err());
        assert!(bootstrap_mean(&VALUES, &BootstrapPlan { level: 1.0, ..BootstrapPlan::default() }).is_err());
        // a statistic that breaks on some resample is an error, not a silent gap
        assert!(
            bootstrap(3, &BootstrapPlan::default(), |i| if i[0] == 2 { f64::NAN } else { 1.0 })
                .unwrap_err()
                .argument
                .starts_with("replicates[")
        );
        assert!(
            randomisation_of_differences(&[1.0, f64::NAN], 10, 0).is_err() && randomisation_of_differences(&[1.0], 0, 0).is_err()
        );
    }
}
