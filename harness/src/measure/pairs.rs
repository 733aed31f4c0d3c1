//! Pairs of workers as log cost ratios, for tables and for the gate.
//!
//! ```text
//! dᵢ = ln(bᵢ/aᵢ) lower is better, ln(aᵢ/bᵢ) higher is better; positive = candidate is worse
//! ```
//! Pairing itself is the gate's ([`reports::gate::pairs`]), so that a stored run gives the same pairs as a live one.
//!
//! Source: measurement.md section 10.

use super::parent::{MeasureOptions, measure};
use super::plan::{Plan, SubjectSpec};
use super::probes;
use super::subject::Workload;
use crate::error::Hint as _;
use anyhow::anyhow;
use records::{Arm, Row, Status};
use reports::gate::pairs::{cost_pairs, pair_rows};
use stats::gate::Pair;
use std::ops::Range;

/// A batch of pairs to measure.
#[derive(Debug, Clone)]
pub struct PairRequest<'a> {
    /// Side A.
    pub reference: &'a SubjectSpec,
    /// Side B; `None` measures the reference against itself, as the A/A control.
    pub candidate: Option<&'a SubjectSpec>,
    /// The metric; its probe is what runs.
    pub metric: &'a str,
    /// Sizes of the work.
    pub workload: &'a Workload,
    /// Pair numbers: a later range adds fresh pairs to an earlier one.
    pub pairs: Range<u32>,
    /// 0: pairs that are looked at; 1: the independent batch that must confirm a failure.
    pub trial: u32,
}

/// Measures two subjects, or one against itself, side by side. Every worker's rows, failures too, are appended to the records in
/// `options.out`; pairs that are there already are not measured again. A pair with a failed side is left out.
///
/// # Errors
/// When no probe reports the metric, the metric has no direction, or the records cannot be written.
pub fn measure_pairs(request: &PairRequest<'_>, options: &MeasureOptions) -> anyhow::Result<Vec<Pair>> {
    let probe = probes::for_metric(request.metric).filter(|probe| !probe.is_exact()).ok_or_else(|| {
        anyhow!("no probe samples the metric `{}`", request.metric).hint("`harness list probes` shows what can be measured")
    })?;
    let subjects = std::iter::once(request.reference).chain(request.candidate).cloned().collect();
    let plan = Plan {
        pairs: request.pairs.clone(),
        memory_rounds: u32::MAX,
        with_aa: request.candidate.is_none(),
        trial: request.trial,
        ..Plan::new(subjects, vec![probe], request.workload.clone(), 0)
    };
    let rows = measure(&plan, options)?;
    match request.candidate {
        Some(candidate) => subject_pairs(&rows, request.metric, candidate.config.name(), request.trial),
        None => aa_pairs(&rows, request.metric, request.trial),
    }
}

/// Pairs of a candidate against the reference (arm A) in one batch, in the order measured.
///
/// # Errors
/// When a value is not positive.
pub fn subject_pairs(rows: &[Row], metric: &str, candidate: &str, trial: u32) -> anyhow::Result<Vec<Pair>> {
    let is_candidate = |row: &Row| row.arm == Arm::B && row.subject.as_deref() == Some(candidate);
    pairs_of(rows.iter().filter(|row| !row.is_aa && row.metric == metric).collect(), trial, is_candidate)
}

/// Pairs of the A/A control in one batch, in the order measured.
///
/// # Errors
/// When a value is not positive.
pub fn aa_pairs(rows: &[Row], metric: &str, trial: u32) -> anyhow::Result<Vec<Pair>> {
    pairs_of(rows.iter().filter(|row| row.is_aa && row.metric == metric).collect(), trial, |row| row.arm == Arm::B)
}

fn pairs_of(rows: Vec<&Row>, trial: u32, is_candidate: impl Fn(&Row) -> bool) -> anyhow::Result<Vec<Pair>> {
    for row in rows.iter().filter(|row| row.status != Status::Ok) {
        let (subject, reason) = (row.subject.as_deref().unwrap_or("?"), row.reason.as_deref().unwrap_or("no reason recorded"));
        tracing::warn!("`{}` of `{subject}`, pair {:?}: {}: {reason}", row.metric, row.pair, row.status);
    }
    let better = rows.first().map(|row| row.better).unwrap_or_default();
    let paired = pair_rows(&rows, trial, |row| row.arm == Arm::A, is_candidate);
    Ok(cost_pairs(&paired, better)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::Better;

    fn row(subject: &str, arm: Arm, pair: u32, value: f64, is_aa: bool) -> Row {
        Row {
            metric: "prefill_s".into(),
            better: Better::Lower,
            subject: Some(subject.into()),
            arm,
            block: Some(pair / 2),
            pair: Some(pair),
            value: Some(value),
            is_aa,
            ..Row::default()
        }
    }

    #[test]
    fn each_candidate_pairs_with_the_reference_of_its_round() {
        let rows = [
            row("a", Arm::A, 0, 1.0, false),
            row("b", Arm::B, 0, 2.0, false),
            row("c", Arm::B, 0, 4.0, false),
            row("a", Arm::A, 0, 5.0, true),
            row("a", Arm::B, 0, 5.0, true),
            Row { contended: Some(true), ..row("c", Arm::B, 1, 1.0, false) },
            row("a", Arm::A, 1, 2.0, false),
        ];
        let c = subject_pairs(&rows, "prefill_s", "c", 0).unwrap();
        assert_eq!(c.len(), 2);
        assert!((c[0].difference - 4f64.ln()).abs() < 1e-15 && !c[0].is_contended);
        assert!((c[1].difference - 0.5f64.ln()).abs() < 1e-15 && c[1].is_contended);
        assert_eq!(subject_pairs(&rows, "prefill_s", "b", 0).unwrap().len(), 1);
        assert_eq!(aa_pairs(&rows, "prefill_s", 0).unwrap(), [Pair::clean(0.0)]);
        assert!(subject_pairs(&rows, "prefill_s", "b", 1).unwrap().is_empty());
    }

    #[test]
    fn a_failed_side_leaves_its_pair_out() {
        let failed = Row { value: None, status: Status::Timeout, reason: Some("60 s".into()), ..row("b", Arm::B, 0, 0.0, false) };
        assert!(subject_pairs(&[row("a", Arm::A, 0, 1.0, false), failed], "prefill_s", "b", 0).unwrap().is_empty());
    }
}
