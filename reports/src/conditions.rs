//! One measuring condition per metric, so that no table pools prompt lengths, batches or thread counts.
//!
//! ```text
//! condition = batch, sequence, prompt and output length, threads, dtype, numerics      of rows measured by workers
//! kept      = the condition with the most subjects, then the most rows, then the largest
//! ```
//! Tables, overhead and Pareto figures show the kept condition and name it; the latency figures show them all.
//!
//! Source: measurement.md sections 1 (cell) and 6 (grid).

use std::collections::{BTreeMap, BTreeSet};

use records::ids::cell_text;
use records::{CellRef, Row};

use crate::frame::Records;

const COLUMNS: [&str; 7] = ["batch", "sequence_length", "prompt_length", "output_length", "threads", "dtype", "numerics"];

/// Records in which every metric measured by workers has one condition, and what was left out.
#[derive(Clone, Debug)]
pub struct OneCondition {
    /// The kept rows, and every row that no worker measured.
    pub records: Records,
    /// Metric and its kept condition in words, for the metrics that had several.
    pub chosen: BTreeMap<String, String>,
}

/// Numbers order as numbers, words as words, missing first.
type Key = Vec<(Option<i64>, String)>;

fn key(row: &Row) -> Key {
    COLUMNS
        .iter()
        .map(|column| match row.get(column) {
            Some(CellRef::Int(value)) => (Some(value), String::new()),
            Some(cell) => (None, cell_text(cell)),
            None => (None, String::new()),
        })
        .collect()
}

fn is_measured_by_worker(row: &Row) -> bool {
    row.worker.is_some() || row.pair.is_some()
}

/// Keeps one condition per metric.
pub fn one_condition(records: &Records) -> OneCondition {
    let mut found: BTreeMap<&str, BTreeMap<Key, (BTreeSet<&str>, usize)>> = BTreeMap::new();
    for row in records.rows().iter().filter(|row| is_measured_by_worker(row) && !row.is_aa) {
        let entry = found.entry(&row.metric).or_default().entry(key(row)).or_default();
        entry.0.extend(row.subject.as_deref());
        entry.1 += 1;
    }
    let mut kept: BTreeMap<&str, Key> = BTreeMap::new();
    let mut chosen = BTreeMap::new();
    for (metric, conditions) in found {
        if conditions.len() < 2 {
            continue;
        }
        let best = conditions.into_iter().max_by(|(a, x), (b, y)| (x.0.len(), x.1, a).cmp(&(y.0.len(), y.1, b)));
        if let Some((condition, _)) = best {
            chosen.insert(metric.to_owned(), words(&condition));
            kept.insert(metric, condition);
        }
    }
    if kept.is_empty() {
        return OneCondition { records: records.clone(), chosen };
    }
    let is_kept = |row: &&Row| {
        row.is_aa || !is_measured_by_worker(row) || kept.get(row.metric.as_str()).is_none_or(|condition| *condition == key(row))
    };
    OneCondition { records: Records::new(records.rows().iter().filter(is_kept).cloned().collect()), chosen }
}

fn words(condition: &Key) -> String {
    let parts: Vec<String> = COLUMNS
        .iter()
        .zip(condition)
        .filter_map(|(column, (number, text))| match number {
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
        let narrowed = one_condition(&Records::new(rows));
        assert!(narrowed.records.rows().iter().all(|row| row.prompt_length == Some(64)));
        assert_eq!(narrowed.chosen["prefill_s"], "prompt_length 64");
    }

    #[test]
    fn ties_go_to_the_largest_and_single_conditions_are_left_alone() {
        let narrowed = one_condition(&Records::new(vec![row("a", 64, 0), row("a", 512, 0)]));
        assert_eq!(narrowed.chosen["prefill_s"], "prompt_length 512");
        let single = one_condition(&Records::new(vec![row("a", 64, 0), row("b", 64, 0)]));
        assert_eq!((single.records.rows().len(), single.chosen.len()), (2, 0));
    }
}
