//! Scores of task groups from the scores of their leaves (MMLU's subjects, Belebele's languages).
//!
//! ```text
//! score = Σ nᵢ·sᵢ / N        SE² = [Σ (nᵢ − 1)·nᵢ·SEᵢ²] / (N − k) / N        N = Σ nᵢ, k leaves
//! ```
//! Used only where the records hold leaves and no row of the group itself.
//!
//! Source: tasks.md section 6 (the reference harness's pooled error).

use std::collections::BTreeMap;

use records::ids::hash_of_inputs;
use records::{RecordKind, Row, Source, Status};

use crate::error::ReportError;
use crate::frame::Records;
use crate::paper::Paper;

/// The records with a row for every group of the paper's tables that is only there in leaves.
///
/// # Errors
/// When the pooled error cannot be computed.
pub fn with_groups(records: &Records, paper: &Paper) -> Result<Records, ReportError> {
    let mut rows = records.rows().to_vec();
    let mut groups: Vec<(&str, &str)> = paper
        .tables
        .iter()
        .flat_map(|table| &table.rows)
        .filter_map(|row| Some((row.tasks.first()?.as_str(), row.leaves.as_deref()?)))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    for (group, prefix) in groups {
        rows.extend(pooled(records, group, prefix)?);
    }
    Ok(Records::new(rows))
}

fn pooled(records: &Records, group: &str, prefix: &str) -> Result<Vec<Row>, ReportError> {
    if records.rows().iter().any(|row| row.task.as_deref() == Some(group)) {
        return Ok(Vec::new());
    }
    let mut leaves: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in records.rows() {
        let is_leaf = row.task.as_deref().is_some_and(|task| task.starts_with(prefix));
        if is_leaf && row.kind == RecordKind::Sample && row.status == Status::Ok && row.source == Source::Measured {
            leaves.entry((row.subject.clone(), row.seed, row.metric.clone(), row.filter.clone())).or_default().push(row);
        }
    }
    let mut rows = Vec::new();
    for members in leaves.into_values() {
        let total: u64 = members.iter().filter_map(|row| row.inner_n).sum();
        if total == 0 {
            continue;
        }
        let score = members.iter().filter_map(|row| Some(row.inner_n? as f64 * row.value?)).sum::<f64>() / total as f64;
        let errors: Option<Vec<stats::interval::Leaf>> =
            members.iter().map(|row| Some(stats::interval::Leaf { n: row.inner_n? as usize, stderr: row.stderr? })).collect();
        let stderr = match errors {
            Some(errors) if total as usize > errors.len() => {
                let pooled = stats::interval::pooled_group_stderr(&errors);
                Some(pooled.map_err(ReportError::stats(format!("pooled error of `{group}`")))?.stderr)
            }
            _ => None,
        };
        let inputs = hash_of_inputs(members.iter().map(|row| row.record_id.as_str()));
        let row = Row {
            record_id: String::new(),
            task: Some(group.to_owned()),
            value: Some(score),
            inner_n: Some(total),
            stderr,
            stderr_clustered: None,
            derived_from: Some(inputs),
            notes: Some(format!("size-weighted mean of {} leaves", members.len())),
            ..members[0].clone()
        };
        rows.push(row.seal());
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
        let records = Records::new(vec![leaf("mmlu_a", 100, 0.5, 0.05), leaf("mmlu_b", 200, 0.8, 0.04)]);
        let rows = pooled(&records, "mmlu", "mmlu_").unwrap();
        assert_eq!((rows.len(), rows[0].inner_n, rows[0].value), (1, Some(300), Some(0.7)));
        assert!((rows[0].stderr.unwrap() - 0.031_450_8).abs() < 1e-7);
    }

    #[test]
    fn a_measured_group_is_left_alone() {
        let row = |task: &str| Row { task: Some(task.into()), value: Some(0.5), inner_n: Some(4), ..Row::default() };
        let records = Records::new(vec![row("mmlu"), row("mmlu_a")]);
        assert_eq!(pooled(&records, "mmlu", "mmlu_").unwrap(), Vec::new());
    }
}
