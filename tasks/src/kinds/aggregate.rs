//! From documents to a task's result, and from leaves to a group's.
//!
//! ```text
//! mean     value = Σ x / n                 stderr = s / √n          clustered: Σ over clusters of squared sums of deviations
//! ratio    word_ppl = exp(−ΣLL / Σwords)   byte_ppl, bits_per_byte likewise; no standard error
//! corpus   chrF, BLEU of summed counts (0 to 100)                   stderr by bootstrap over segments
//! group    Σ n_i m_i / N, se² = [Σ (n_i − 1) n_i se_i²] / (N − k) / N        or the plain mean of leaves, se = √(Σ se_i²) / k
//! ```

use std::ops::AddAssign;

use crate::definition::Leaf;
use crate::doc::{Aggregate, DocScores, MetricValue};
use crate::error::TaskError;
use crate::metrics::bleu::{self, BleuTokenizer};
use crate::metrics::chrf::{self, ChrfKind};
use crate::metrics::{MetricError, perplexity, stderr};
use crate::spec::{GroupSpec, Profile};

/// Bootstrap resamples of a corpus metric in the reference, which caps them.
const COMPAT_RESAMPLES: usize = 100;
/// Ours.
const CANONICAL_RESAMPLES: usize = 1000;

/// The result of a task, one entry per metric of its specification.
pub(super) fn task(leaf: &Leaf, scores: &[DocScores]) -> Result<Vec<Aggregate>, TaskError> {
    leaf.spec
        .metrics
        .iter()
        .map(|metric| {
            let error =
                |message: String| TaskError::Aggregate { task: leaf.spec.name.clone(), metric: metric.name.clone(), message };
            let values: Vec<&MetricValue> = scores.iter().filter_map(|s| s.metrics.get(&metric.name)).collect();
            if values.is_empty() || values.len() != scores.len() {
                return Err(error(format!("expected a value for each of {} documents, found {}", scores.len(), values.len())));
            }
            let (value, stderr, clustered) = one_metric(leaf, &metric.name, scores, &values).map_err(|e| error(e.to_string()))?;
            Ok(Aggregate {
                metric: metric.name.clone(),
                value,
                stderr,
                stderr_clustered: clustered,
                n: scores.len(),
                higher_is_better: metric.higher_is_better,
            })
        })
        .collect()
}

type Estimated = (f64, Option<f64>, Option<f64>);

fn one_metric(leaf: &Leaf, name: &str, scores: &[DocScores], values: &[&MetricValue]) -> Result<Estimated, MetricError> {
    match values[0] {
        MetricValue::Number(_) => {
            let numbers: Vec<f64> = values.iter().filter_map(|v| v.number()).collect();
            let estimate = stderr::mean_stderr(&numbers)?;
            let clusters: Vec<&String> = scores.iter().filter_map(|s| s.cluster_id.as_ref()).collect();
            let clustered =
                if clusters.len() == numbers.len() { stderr::clustered_stderr(&numbers, &clusters)?.stderr } else { None };
            Ok((estimate.value, estimate.stderr, clustered))
        }
        MetricValue::Ratio(..) => {
            let pairs: Vec<(f64, usize)> = values
                .iter()
                .filter_map(|v| if let MetricValue::Ratio(ll, units) = v { Some((*ll, *units as usize)) } else { None })
                .collect();
            let value = if name == "bits_per_byte" {
                perplexity::bits_per_byte(&pairs)?
            } else {
                perplexity::weighted_perplexity(&pairs)?
            };
            Ok((value, None, None))
        }
        MetricValue::Texts { .. } => {
            let segments: Vec<(&String, &Vec<String>)> = values
                .iter()
                .filter_map(|v| {
                    if let MetricValue::Texts { hypothesis, references } = v { Some((hypothesis, references)) } else { None }
                })
                .collect();
            if name == "bleu" {
                let tokenizer = if leaf.parameters.get("target").is_some_and(|t| t == "zh") {
                    BleuTokenizer::Zh
                } else {
                    BleuTokenizer::V13a
                };
                let stats = segments.iter().map(|(h, r)| bleu::segment_stats(tokenizer, h, r)).collect::<Result<Vec<_>, _>>()?;
                corpus(leaf, name, &stats, |sum: &bleu::BleuStats| sum.score().score / 100.0)
            } else {
                let stats =
                    segments.iter().map(|(h, r)| chrf::segment_stats(ChrfKind::Chrf, h, r)).collect::<Result<Vec<_>, _>>()?;
                corpus(leaf, name, &stats, |sum: &chrf::ChrfStats| sum.score() / 100.0)
            }
        }
    }
}

/// A corpus metric and its bootstrap error, from the segments' counts. A task's scores are fractions; the metric functions keep the 0 to 100
/// that sacreBLEU prints.
fn corpus<S: Copy + Default + AddAssign>(
    leaf: &Leaf,
    name: &str,
    stats: &[S],
    score: impl Fn(&S) -> f64,
) -> Result<Estimated, MetricError> {
    let total = |indices: &mut dyn Iterator<Item = usize>| {
        let mut sum = S::default();
        indices.for_each(|i| sum += stats[i]);
        score(&sum)
    };
    let value = total(&mut (0..stats.len()));
    if stats.len() < 2 {
        return Ok((value, None, None));
    }
    let error = match leaf.profile {
        Profile::Compat => {
            stderr::bootstrap_stderr(stats.len(), COMPAT_RESAMPLES, |drawn| Ok(total(&mut drawn.iter().copied())))?
        }
        Profile::Canonical => {
            let purpose = format!("tasks/bootstrap/{}/{name}", leaf.spec.name);
            let replicates: Vec<f64> = (0..CANONICAL_RESAMPLES)
                .map(|replicate| {
                    let mut rng = stats::rng::stream(&purpose, 0, replicate as u64);
                    let drawn = stats::rng::resample_indices(&mut rng, stats.len(), stats.len());
                    total(&mut drawn.into_iter())
                })
                .collect();
            let n = replicates.len() as f64;
            // the error of a mean times √n is the standard deviation
            stderr::mean_stderr(&replicates)?.stderr.unwrap_or_default() * n.sqrt()
        }
    };
    Ok((value, Some(error), None))
}

/// A group's result: each metric that all leaves have, and for a size-weighted group the plain mean beside it as `<metric>_unweighted`.
pub(crate) fn group(group: &GroupSpec, leaves: &[(String, Vec<Aggregate>)]) -> Result<Vec<Aggregate>, TaskError> {
    let error =
        |metric: &str, message: String| TaskError::Aggregate { task: group.name.clone(), metric: metric.to_owned(), message };
    let Some((_, first)) = leaves.first() else {
        return Err(error("", "expected at least one leaf, found none".to_owned()));
    };
    let mut results = Vec::new();
    for metric in first {
        let parts: Vec<&Aggregate> =
            leaves.iter().filter_map(|(_, all)| all.iter().find(|a| a.metric == metric.metric)).collect();
        if parts.len() != leaves.len() {
            continue; // a metric that one leaf does not have (BLEU into Japanese) has no group value
        }
        let result = |name: String, parts: &[&Aggregate], size_weighted: bool| {
            combine(name, parts, size_weighted, metric.higher_is_better).map_err(|e| error(&metric.metric, e.to_string()))
        };
        let (name, suffix) =
            metric.metric.split_once(',').map_or((metric.metric.as_str(), String::new()), |(n, f)| (n, format!(",{f}")));
        if group.name == "tydiqa" {
            // the benchmark's own average leaves English out; the other covers all nine
            let foreign: Vec<&Aggregate> =
                leaves.iter().zip(&parts).filter(|((l, _), _)| l != "tydiqa_english").map(|(_, a)| *a).collect();
            if !foreign.is_empty() {
                results.push(result(format!("{name}_goldp"), &foreign, false)?);
            }
            results.push(result(format!("{name}_all9"), &parts, false)?);
            continue;
        }
        results.push(result(metric.metric.clone(), &parts, group.size_weighted)?);
        if group.size_weighted && parts.len() > 1 {
            results.push(result(format!("{name}_unweighted{suffix}"), &parts, false)?);
        }
    }
    Ok(results)
}

fn combine(metric: String, parts: &[&Aggregate], size_weighted: bool, higher_is_better: bool) -> Result<Aggregate, MetricError> {
    let values: Vec<f64> = parts.iter().map(|a| a.value).collect();
    let sizes: Vec<usize> = parts.iter().map(|a| a.n).collect();
    let pool = |errors: Vec<f64>| -> Result<Option<f64>, MetricError> {
        if errors.len() != parts.len() || parts.is_empty() {
            return Ok(None);
        }
        if size_weighted {
            stderr::pooled_stderr(&errors, &sizes).map(Some)
        } else {
            stderr::unweighted_stderr(&errors).map(Some)
        }
    };
    // clusters do not cross leaves, so the error of a size-weighted mean is exact: √Σ (n_i se_i)² / N
    let clustered: Vec<f64> = parts.iter().zip(&sizes).filter_map(|(a, n)| Some(a.stderr_clustered? * *n as f64)).collect();
    let total: usize = sizes.iter().sum();
    let stderr_clustered = (size_weighted && clustered.len() == parts.len())
        .then(|| clustered.iter().map(|x| x * x).sum::<f64>().sqrt() / total as f64);
    Ok(Aggregate {
        metric,
        value: if size_weighted { stderr::weighted_mean(&values, &sizes)? } else { stderr::unweighted_mean(&values)? },
        stderr: pool(parts.iter().filter_map(|a| a.stderr).collect())?,
        stderr_clustered,
        n: total,
        higher_is_better,
    })
}
