//! Scores of task groups from the scores of their leaves (MMLU's subjects, Belebele's languages).
//!
//! ```text
//! score = Σ nᵢ·sᵢ / N        SE² = [Σ (nᵢ − 1)·nᵢ·SEᵢ²] / (N − k) / N        N = Σ nᵢ, k leaves
//! ```
//! Used only where the records hold leaves and no row of the group itself.
//!
//! Source: tasks.md section 6 (the reference harness's pooled error).

use std::collections::BTreeMap;

use records::{RecordKind, Row, Source};

use crate::error::ReportError;
use crate::paper::Paper;
use crate::study::{Record, Study};

/// The study with a row for every group of the paper's tables that is only there in leaves.
///
/// # Errors
/// When the pooled error cannot be computed.
pub fn with_groups(study: &Study, paper: &Paper) -> Result<Study, ReportError> {
    let mut rows = Vec::new();
    let mut groups: Vec<(&str, &str)> = paper
        .tables
        .iter()
        .flat_map(|table| &table.rows)
        .filter_map(|row| Some((row.tasks.first()?.as_str(), row.leaves.as_deref()?)))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    for (group, prefix) in groups {
        rows.extend(pooled(study, group, prefix)?);
    }
    Ok(if rows.is_empty() { study.clone() } else { study.with_rows(rows) })
}

fn pooled(study: &Study, name: &str, prefix: &str) -> Result<Vec<Row>, ReportError> {
    if study.groups().any(|group| group.shared.task.as_deref() == Some(name)) {
        return Ok(Vec::new());
    }
    let mut leaves: BTreeMap<_, Vec<Record<'_>>> = BTreeMap::new();
    for group in study.groups() {
        let shared = &group.shared;
        let is_leaf = shared.task.as_deref().is_some_and(|task| task.starts_with(prefix));
        if is_leaf && shared.kind == RecordKind::Sample && group.is_ok() && shared.source == Source::Measured {
            for own in &group.rows {
                let key = (shared.subject.clone(), own.seed, shared.metric.clone(), shared.filter.clone());
                leaves.entry(key).or_default().push(Record { shared, own });
            }
        }
    }
    let mut rows = Vec::new();
    for members in leaves.into_values() {
        let total: u64 = members.iter().filter_map(|row| row.own.inner_n).sum();
        if total == 0 {
            continue;
        }
        let score = members.iter().filter_map(|row| Some(row.own.inner_n? as f64 * row.own.value?)).sum::<f64>() / total as f64;
        let errors: Option<Vec<stats::interval::Leaf>> = members
            .iter()
            .map(|row| Some(stats::interval::Leaf { n: row.own.inner_n? as usize, stderr: row.own.stderr? }))
            .collect();
        let stderr = match errors {
            Some(errors) if total as usize > errors.len() => {
                let pooled = stats::interval::pooled_group_stderr(&errors);
                Some(pooled.map_err(ReportError::stats(format!("pooled error of `{name}`")))?.stderr)
            }
            _ => None,
        };
        rows.push(Row {
            task: Some(name.to_owned()),
            seed: members[0].own.seed,
            value: Some(score),
            inner_n: Some(total),
            stderr,
            ..members[0].shared.clone()
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_is_the_size_weighted_mean_with_the_pooled_error() {
        // tasks.md section 8: (0.05, n 100; 0.04, n 200) -> 0.0314508.
        let leaf = |task: &str, n: u64, value: f64, stderr: f64| Row {
            metric: "acc".into(),
            subject: Some("s".into()),
            task: Some(task.into()),
            inner_n: Some(n),
            value: Some(value),
            stderr: Some(stderr),
            ..Row::default()
        };
        let study = Study::new(vec![leaf("mmlu_a", 100, 0.5, 0.05), leaf("mmlu_b", 200, 0.8, 0.04)]);
        let rows = pooled(&study, "mmlu", "mmlu_").unwrap();
        assert_eq!((rows.len(), rows[0].inner_n, rows[0].value), (1, Some(300), Some(0.7)));
        assert!((rows[0].stderr.unwrap() - 0.031_450_8).abs() < 1e-7);
    }

    #[test]
    fn a_measured_group_is_left_alone() {
        let row = |task: &str| Row { task: Some(task.into()), value: Some(0.5), inner_n: Some(4), ..Row::default() };
        let study = Study::new(vec![row("mmlu"), row("mmlu_a")]);
        assert_eq!(pooled(&study, "mmlu", "mmlu_").unwrap(), Vec::new());
    }
}
