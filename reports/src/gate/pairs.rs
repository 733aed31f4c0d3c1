//! From rows to pairs: which two workers stand side by side.
//!
//! ```text
//! arms        A and B rows with the same (run_id, trial, block, pair)            ABBA design, one comparison per (run_id, block)
//! one process rows of different subjects with the same (run_id, trial, worker)   interleaved subjects, one ratio per process
//! trial       0 or null: the batch that is looked at;  1: the independent batch that must confirm a failure
//! is_aa       rows of the A/A control, in the same design; they give the noise floor φ
//! ```
//! A pair is comparable when both rows agree on machine, dtype, numerics, threads, features and schema.
//!
//! Source: measurement.md sections 10 and 11.

use std::collections::BTreeMap;

use records::ids::cell_text;
use records::{Arm, Better, Row, Status};
use stats::gate::Pair;

/// Columns that must agree for times and resident sizes to be compared.
pub const NOISY_FIELDS: [&str; 7] =
    ["schema", "host_fingerprint", "dtype", "numerics", "threads", "cargo_features", "cargo_profile"];
/// Columns that must agree for counts and allocations, which any machine reproduces.
pub const EXACT_FIELDS: [&str; 4] = ["schema", "dtype", "numerics", "cargo_features"];

/// Two rows measured side by side: reference, candidate.
pub type RowPair<'a> = (&'a Row, &'a Row);

/// Key that brings two rows together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    run_id: &'a str,
    block: Option<u32>,
    place: u32,
}

fn key(row: &Row) -> Option<Key<'_>> {
    let (block, place) = match (row.pair, row.worker) {
        (Some(pair), _) => (row.block, pair),
        (None, Some(worker)) => (None, worker),
        (None, None) => return None,
    };
    Some(Key { run_id: &row.run_id, block, place })
}

/// Pairs of one batch among ok rows, in the order measured.
pub fn pair_rows<'a>(
    rows: &[&'a Row],
    batch: u32,
    is_reference: impl Fn(&Row) -> bool,
    is_candidate: impl Fn(&Row) -> bool,
) -> Vec<RowPair<'a>> {
    let in_batch = |row: &Row| row.trial.unwrap_or(0) == batch && row.status == Status::Ok && row.value.is_some();
    let index = |side: &dyn Fn(&Row) -> bool| -> BTreeMap<Key<'a>, &'a Row> {
        rows.iter().copied().filter(|row| in_batch(row) && side(row)).filter_map(|row| Some((key(row)?, row))).collect()
    };
    let references = index(&is_reference);
    index(&is_candidate).into_iter().filter_map(|(key, candidate)| Some((*references.get(&key)?, candidate))).collect()
}

/// Log cost ratios of pairs, positive meaning "candidate is worse", with their contention.
///
/// # Errors
/// When a value is not positive.
pub fn cost_pairs(pairs: &[RowPair<'_>], better: Better) -> Result<Vec<Pair>, stats::StatsError> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let value = |row: &Row| row.value.unwrap_or(f64::NAN);
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(a, b)| (value(a), value(b))).unzip();
    let direction = if better == Better::Higher { stats::Better::Higher } else { stats::Better::Lower };
    let differences = stats::gate::cost_differences(&a, &b, direction)?;
    let is_contended = |row: &Row| row.contended == Some(true);
    Ok(differences
        .into_iter()
        .zip(pairs)
        .map(|(difference, (a, b))| Pair { difference, is_contended: is_contended(a) || is_contended(b) })
        .collect())
}

/// Log ratios of the A/A control; values that are not positive are left out, as they have no ratio.
pub fn aa_differences(rows: &[&Row]) -> Vec<f64> {
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.is_aa).collect();
    pair_rows(&rows, 0, |row| row.arm == Arm::A, |row| row.arm == Arm::B)
        .iter()
        .filter_map(|(a, b)| Some((a.value?, b.value?)))
        .filter(|(a, b)| *a > 0.0 && *b > 0.0)
        .map(|(a, b)| (b / a).ln())
        .collect()
}

/// First column in which two rows differ, with both values.
pub fn differing_field(a: &Row, b: &Row, fields: &[&'static str]) -> Option<(&'static str, String, String)> {
    fields.iter().copied().find_map(|field| {
        let (left, right) = (a.get(field).map(cell_text)?, b.get(field).map(cell_text)?);
        (left != right).then_some((field, left, right))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(arm: Arm, pair: u32, value: f64) -> Row {
        Row { run_id: "m".into(), arm, block: Some(0), pair: Some(pair), value: Some(value), ..Row::default() }
    }

    #[test]
    fn arms_pair_by_block_and_pair_within_a_batch() {
        let rows = [row(Arm::A, 0, 1.0), row(Arm::B, 0, 2.0), row(Arm::B, 1, 3.0), Row { trial: Some(1), ..row(Arm::A, 1, 9.0) }];
        let all: Vec<&Row> = rows.iter().collect();
        let pairs = pair_rows(&all, 0, |row| row.arm == Arm::A, |row| row.arm == Arm::B);
        assert_eq!(pairs.iter().map(|(a, b)| (a.value, b.value)).collect::<Vec<_>>(), [(Some(1.0), Some(2.0))]);
    }

    #[test]
    fn rates_turn_round_so_that_positive_is_worse() {
        let (a, b) = (row(Arm::A, 0, 110.0), Row { contended: Some(true), ..row(Arm::B, 0, 100.0) });
        let pairs = cost_pairs(&[(&a, &b)], Better::Higher).unwrap();
        assert!((pairs[0].difference - 1.1f64.ln()).abs() < 1e-15 && pairs[0].is_contended);
    }

    #[test]
    fn the_differing_field_is_named_with_both_values() {
        let a = Row { threads: Some(1), dtype: Some("f32".into()), ..row(Arm::A, 0, 1.0) };
        let b = Row { threads: Some(2), ..a.clone() };
        assert_eq!(differing_field(&a, &b, &NOISY_FIELDS), Some(("threads", "1".into(), "2".into())));
        assert_eq!(differing_field(&a, &b, &EXACT_FIELDS), None);
    }
}
