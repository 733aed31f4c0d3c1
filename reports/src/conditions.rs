//! One measuring condition per metric, so that no table pools prompt lengths, batches or thread counts.
//!
//! ```text
//! condition = batch, sequence, prompt and output length, threads, dtype, numerics, machine, build profile, schema      of rows measured by workers
//! kept      = the condition with the most subjects, then the most rows, then the largest
//! ```
//! Tables, overhead and Pareto figures show the kept condition and name it; the latency figures show them all.
//!
//! Source: measurement.md sections 1 (cell) and 6 (grid).

use std::collections::{BTreeMap, BTreeSet};

use records::ids::cell_text;
use records::{CellRef, Row};

use crate::study::{Group, Study};

const COLUMNS: [&str; 10] = [
    "batch",
    "sequence_length",
    "prompt_length",
    "output_length",
    "threads",
    "dtype",
    "numerics",
    "host_fingerprint",
    "cargo_profile",
    "schema",
];

/// Records in which every metric measured by workers has one condition, and what was left out.
#[derive(Clone, Debug)]
pub struct OneCondition {
    /// The kept rows, and every row that no worker measured.
    pub study: Study,
    /// Metric and its kept condition in words, for the metrics that had several.
    pub chosen: BTreeMap<String, String>,
}

/// Numbers order as numbers, words as words, missing first.
type Key = Vec<(Option<i64>, String)>;

/// Whether a number depends on machine, build and schema, so that it is compared within one of each only; counts do not.
pub(crate) fn depends_on_machine(row: &Row) -> bool {
    row.unit == "s" || row.unit.ends_with("/s") || row.metric.starts_with("peak_")
}

fn key(row: &Row, free: &str) -> Key {
    COLUMNS
        .iter()
        .map(|column| match row.get(column).filter(|_| *column != free && (depends_on_machine(row) || is_shape(column))) {
            Some(CellRef::Int(value)) => (Some(value), String::new()),
            Some(cell) => (None, cell_text(cell)),
            None => (None, String::new()),
        })
        .collect()
}

/// Keeps one condition per metric.
pub fn one_condition(study: &Study) -> OneCondition {
    one_condition_but(study, "")
}

/// The same, with one column left free, for a figure along it.
pub fn one_condition_but(study: &Study, free: &str) -> OneCondition {
    let key = |row: &Row| key(row, free);
    let mut found: BTreeMap<&str, BTreeMap<Key, (BTreeSet<&str>, usize)>> = BTreeMap::new();
    for group in study.groups().filter(|group| group.is_by_worker && !group.shared.is_aa) {
        let entry = found.entry(&group.shared.metric).or_default().entry(key(&group.shared)).or_default();
        entry.0.extend(group.shared.subject.as_deref());
        entry.1 += group.rows.len();
    }
    let mut kept: BTreeMap<&str, Key> = BTreeMap::new();
    let mut chosen = BTreeMap::new();
    for (metric, conditions) in found {
        if conditions.len() < 2 {
            continue;
        }
        let differs: Vec<bool> =
            (0..COLUMNS.len()).map(|at| conditions.keys().map(|key| &key[at]).collect::<BTreeSet<_>>().len() > 1).collect();
        let best = conditions.into_iter().max_by(|(a, x), (b, y)| (x.0.len(), x.1, a).cmp(&(y.0.len(), y.1, b)));
        if let Some((condition, _)) = best {
            chosen.insert(metric.to_owned(), words(&condition, &differs));
            kept.insert(metric, condition);
        }
    }
    if kept.is_empty() {
        return OneCondition { study: study.clone(), chosen };
    }
    let is_kept = |group: &Group| {
        let row = &group.shared;
        row.is_aa || !group.is_by_worker || kept.get(row.metric.as_str()).is_none_or(|condition| *condition == key(row))
    };
    OneCondition { study: study.filter(is_kept), chosen }
}

/// Whether a column is about the work, and not about where it was done.
fn is_shape(column: &str) -> bool {
    !matches!(column, "host_fingerprint" | "cargo_profile" | "schema")
}

/// The columns about the work, and the others where they differ.
fn words(condition: &Key, differs: &[bool]) -> String {
    let parts: Vec<String> = COLUMNS
        .iter()
        .zip(condition)
        .zip(differs)
        .filter(|((column, _), differs)| **differs || is_shape(column))
        .filter_map(|((column, (number, text)), _)| match number {
            Some(number) => Some(format!("{column} {number}")),
            None if !text.is_empty() => Some(format!("{column} {text}")),
            None => None,
        })
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: &str, prompt: u64, worker: u32) -> Row {
        Row {
            metric: "prefill_s".into(),
            subject: Some(subject.into()),
            prompt_length: Some(prompt),
            worker: Some(worker),
            value: Some(1.0),
            ..Row::default()
        }
    }

    #[test]
    fn the_condition_that_most_subjects_share_is_kept() {
        let rows = vec![row("a", 64, 0), row("b", 64, 0), row("a", 512, 0), row("a", 512, 1), row("a", 512, 2)];
        let narrowed = one_condition(&Study::new(rows));
        assert!(narrowed.study.groups().all(|group| group.shared.prompt_length == Some(64)));
        assert_eq!(narrowed.chosen["prefill_s"], "prompt_length 64");
    }

    #[test]
    fn ties_go_to_the_largest_and_single_conditions_are_left_alone() {
        let narrowed = one_condition(&Study::new(vec![row("a", 64, 0), row("a", 512, 0)]));
        assert_eq!(narrowed.chosen["prefill_s"], "prompt_length 512");
        let single = one_condition(&Study::new(vec![row("a", 64, 0), row("b", 64, 0)]));
        assert_eq!((single.study.len(), single.chosen.len()), (2, 0));
    }
}
