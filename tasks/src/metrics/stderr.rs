//! Means, standard errors and group aggregation as the reference computes them.
//!
//! ```text
//! mean         se = s / √n,  s² = Σ (x − mean)² / (n − 1)                     n = 1: not available
//! clustered    se² = (1/n²) Σ_clusters (Σ_{i in cluster} (x_i − mean))²
//! weighted     mean = Σ n_i m_i / Σ n_i,  se² = [Σ (n_i − 1) n_i se_i²] / (N − k) / N
//! unweighted   mean = Σ m_i / k,          se  = √(Σ se_i²) / k
//! bootstrap    s of the statistic over resamples; chunk c of 1000 draws indices with CPython's Random(c).choices
//! ```
//! Errors carry the unit of the values. NaN is an error.
//!
//! Source: EleutherAI/lm-evaluation-harness 0.4.13, `lm_eval/api/metrics.py`; Miller 2024 (arXiv:2411.00640) §2.2 for the clustered form.

use super::MetricError;
use crate::python_random::PythonRandom;
use std::collections::BTreeMap;

const METRIC: &str = "stderr";

/// Resamples per generator.
const CHUNK: usize = 1000;

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Its standard error; none for one item.
    pub stderr: Option<f64>,
}

fn check(values: &[f64]) -> Result<(), MetricError> {
    if values.is_empty() {
        return Err(MetricError::TooFew { metric: METRIC, what: "values", expected: 1, found: 0 });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(MetricError::NotFinite { metric: METRIC, index, value: values[index] }),
        None => Ok(()),
    }
}

fn same_length(what: &'static str, expected: usize, found: usize) -> Result<(), MetricError> {
    if expected == found { Ok(()) } else { Err(MetricError::LengthMismatch { metric: METRIC, what, expected, found }) }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample standard deviation; the caller has checked that there are two values.
fn sample_sd(values: &[f64]) -> f64 {
    let center = mean(values);
    (values.iter().map(|v| (v - center).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// Mean of per-document values with its naive standard error.
///
/// # Errors
/// When there are no values, or one is not finite.
pub fn mean_stderr(values: &[f64]) -> Result<Estimate, MetricError> {
    check(values)?;
    let stderr = (values.len() > 1).then(|| sample_sd(values) / (values.len() as f64).sqrt());
    Ok(Estimate { value: mean(values), stderr })
}

/// Mean with a standard error that allows documents of one cluster (a shared passage, image, subject) to depend on each other.
/// None for a single cluster.
///
/// # Errors
/// When there are no values, one is not finite, or the lists differ in length.
pub fn clustered_stderr<K: Ord>(values: &[f64], clusters: &[K]) -> Result<Estimate, MetricError> {
    check(values)?;
    same_length("clusters", values.len(), clusters.len())?;
    let center = mean(values);
    let mut sums: BTreeMap<&K, f64> = BTreeMap::new();
    for (value, cluster) in values.iter().zip(clusters) {
        *sums.entry(cluster).or_default() += value - center;
    }
    let stderr = (sums.len() > 1).then(|| sums.values().map(|s| s * s).sum::<f64>().sqrt() / values.len() as f64);
    Ok(Estimate { value: center, stderr })
}

/// Mean of leaf scores, weighted by size.
///
/// # Errors
/// When there are no leaves or documents, a score is not finite, or the lists differ in length.
pub fn weighted_mean(scores: &[f64], sizes: &[usize]) -> Result<f64, MetricError> {
    check(scores)?;
    same_length("sizes", scores.len(), sizes.len())?;
    let total: usize = sizes.iter().sum();
    if total == 0 {
        return Err(MetricError::TooFew { metric: METRIC, what: "documents", expected: 1, found: 0 });
    }
    Ok(scores.iter().zip(sizes).map(|(score, &size)| score * size as f64).sum::<f64>() / total as f64)
}

/// Plain mean of leaf scores.
///
/// # Errors
/// When there are no leaves, or a score is not finite.
pub fn unweighted_mean(scores: &[f64]) -> Result<f64, MetricError> {
    check(scores)?;
    Ok(mean(scores))
}

/// Standard error of a size-weighted group mean.
///
/// # Errors
/// When there are no leaves, a value is not finite, the lists differ in length, or no leaf has two documents.
pub fn pooled_stderr(stderrs: &[f64], sizes: &[usize]) -> Result<f64, MetricError> {
    check(stderrs)?;
    same_length("sizes", stderrs.len(), sizes.len())?;
    let total: usize = sizes.iter().sum();
    if total <= sizes.len() || sizes.contains(&0) {
        return Err(MetricError::TooFew {
            metric: METRIC,
            what: "documents over all leaves",
            expected: sizes.len() + 1,
            found: total,
        });
    }
    let sum: f64 = stderrs.iter().zip(sizes).map(|(se, &n)| (n - 1) as f64 * se.powi(2) * n as f64).sum();
    Ok((sum / (total - sizes.len()) as f64 / total as f64).sqrt())
}

/// Standard error of an unweighted group mean.
///
/// # Errors
/// When there are no leaves, or a value is not finite.
pub fn unweighted_stderr(stderrs: &[f64]) -> Result<f64, MetricError> {
    check(stderrs)?;
    Ok(stderrs.iter().map(|se| se.powi(2)).sum::<f64>().sqrt() / stderrs.len() as f64)
}

/// Standard deviation of `statistic` over resamples of `0..n` with replacement, as the reference draws them: whole chunks of at most 1000, so
/// `resamples` is rounded down to a multiple of that. The statistic is given the drawn indices.
///
/// # Errors
/// When there is nothing to resample, fewer than two resamples are asked for, or the statistic fails or is not finite.
pub fn bootstrap_stderr<F>(n: usize, resamples: usize, mut statistic: F) -> Result<f64, MetricError>
where
    F: FnMut(&[usize]) -> Result<f64, MetricError>,
{
    for (what, expected, found) in [("values", 1, n), ("resamples", 2, resamples)] {
        if found < expected {
            return Err(MetricError::TooFew { metric: METRIC, what, expected, found });
        }
    }
    let chunk = resamples.min(CHUNK);
    let mut replicates = Vec::with_capacity(resamples);
    for seed in 0..resamples / chunk {
        let mut rng = PythonRandom::new(seed as u64);
        for _ in 0..chunk {
            replicates.push(statistic(&rng.choices(n, n))?);
        }
    }
    check(&replicates)?;
    Ok(sample_sd(&replicates))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(ones: usize, n: usize) -> Vec<f64> {
        (0..n).map(|i| f64::from(i < ones)).collect()
    }

    #[test]
    fn stderr_of_a_fraction() {
        // s² = n p (1 − p) / (n − 1): √(0.3·0.7/9) and √(p(1−p)/1318), p = 328/1319
        assert!((mean_stderr(&binary(3, 10)).unwrap().stderr.unwrap() - 0.1527525).abs() < 1e-7);
        assert!((mean_stderr(&binary(328, 1319)).unwrap().stderr.unwrap() - 0.0119061).abs() < 1e-7);
    }

    #[test]
    fn one_value_has_no_error_and_nan_no_mean() {
        assert_eq!(mean_stderr(&[0.5]).unwrap(), Estimate { value: 0.5, stderr: None });
        assert_eq!(mean_stderr(&[0.5, 0.5]).unwrap(), Estimate { value: 0.5, stderr: Some(0.0) });
        assert!(matches!(mean_stderr(&[1.0, f64::NAN]), Err(MetricError::NotFinite { index: 1, .. })));
        assert!(matches!(mean_stderr(&[]), Err(MetricError::TooFew { .. })));
    }

    #[test]
    fn clusters_of_copies_count_once() {
        // 4 documents twice: se² = (1/64) Σ (2 d)² = (4/64) Σ d², Σ d² = 1 for 1,1,0,0 -> se = 1/4
        let values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let estimate = clustered_stderr(&values, &[1, 1, 2, 2, 3, 3, 4, 4]).unwrap();
        assert!((estimate.stderr.unwrap() - 0.25).abs() < 1e-12);
        assert_eq!(clustered_stderr(&values, &[1; 8]).unwrap().stderr, None);
    }

    #[test]
    fn pooled_group_error() {
        assert!((pooled_stderr(&[0.05, 0.04], &[100, 200]).unwrap() - 0.0314508).abs() < 1e-7);
        assert!((unweighted_stderr(&[0.3, 0.4]).unwrap() - 0.25).abs() < 1e-12);
        assert!((weighted_mean(&[0.0, 1.0], &[1, 3]).unwrap() - 0.75).abs() < 1e-12);
        assert!(matches!(pooled_stderr(&[0.1], &[1]), Err(MetricError::TooFew { .. })));
    }

    #[test]
    fn bootstrap_of_a_constant_is_zero_and_chunks_are_whole() {
        let mut calls = 0;
        let se = bootstrap_stderr(3, 2500, |_| {
            calls += 1;
            Ok(1.0)
        });
        assert_eq!((se.unwrap(), calls), (0.0, 2000));
        assert!(matches!(bootstrap_stderr(3, 10, |_| Ok(f64::NAN)), Err(MetricError::NotFinite { .. })));
    }
}
