//! Bootstrap draws of (cost, quality) points, shared by the Pareto figures and the equal-budget table.
//!
//! ```text
//! quality   seeds, drawn once for all subjects (paired)          cost   workers of each subject, drawn apart; counts stay as they are
//! ```
//! Source: measurement.md section 12; `stats::pareto::draw_points`.

use std::collections::BTreeMap;

use records::{Better, RecordKind};
use stats::pareto::{AxisSamples, Centre, DEFAULT_DRAWS, Draws, Units, draw_points};

use crate::error::ReportError;
use crate::study::Study;
use crate::subject::{Query, Subject, latest_by_seed};

/// Quality metrics, the first that was measured counts.
pub(crate) const QUALITIES: [&str; 5] = ["val_loss", "acc1_best", "acc1", "bits_per_byte", "acc"];
/// Seed of the draws; recorded here so that two renders agree.
const SEED: u64 = 0;

/// Direction of a metric for the estimators; a metric without one counts as a cost.
pub(crate) fn direction(study: &Study, metric: &str) -> stats::Better {
    match study.of_metric(metric).next().map(|group| group.shared.better) {
        Some(Better::Higher) => stats::Better::Higher,
        _ => stats::Better::Lower,
    }
}

/// Draws of all subjects, axis 0 the cost and axis 1 the quality; `None` with fewer than two seeds common to all, or without costs.
///
/// # Errors
/// When the estimator refuses the values.
pub(crate) fn draws(study: &Study, subjects: &[Subject], cost: &str, quality: &str) -> Result<Option<Draws>, ReportError> {
    let by_seed: Vec<BTreeMap<i64, f64>> = subjects.iter().map(|subject| seeds_of(study, subject, quality)).collect();
    let Some(first) = by_seed.first() else { return Ok(None) };
    let common: Vec<i64> = first.keys().copied().filter(|seed| by_seed.iter().all(|seeds| seeds.contains_key(seed))).collect();
    let costs: Vec<Vec<f64>> = subjects.iter().map(|subject| cost_samples(study, subject, cost)).collect();
    if common.len() < 2 || costs.iter().any(Vec::is_empty) {
        return Ok(None);
    }
    let qualities = by_seed.iter().map(|seeds| common.iter().map(|seed| seeds[seed]).collect()).collect();
    let axes = [
        AxisSamples { samples: costs, centre: Centre::Median, units: Units::Independent },
        AxisSamples { samples: qualities, centre: Centre::Mean, units: Units::Paired { group: 0 } },
    ];
    let what = format!("draws of {quality} against {cost}");
    Ok(Some(draw_points(&axes, DEFAULT_DRAWS, SEED).map_err(ReportError::stats(what))?))
}

fn seeds_of(study: &Study, subject: &Subject, metric: &str) -> BTreeMap<i64, f64> {
    latest_by_seed(Query { metric, ..Query::default() }.rows(study, subject, RecordKind::Sample))
        .into_iter()
        .filter_map(|(seed, row)| Some((seed, row.own.value?)))
        .collect()
}

fn cost_samples(study: &Study, subject: &Subject, metric: &str) -> Vec<f64> {
    Query { metric, ..Query::default() }.rows(study, subject, RecordKind::Sample).filter_map(|row| row.own.value).collect()
}
