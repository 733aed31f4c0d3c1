//! Two subjects on the same documents, seeds or workers: paired differences and ratios, never two separate errors.
//!
//! ```text
//! quality   dᵢ = s_B,i − s_A,i          over seeds (≥ 2): paired t        over documents: SE of d, clustered; exact McNemar if binary
//! cost      dᵢ = ln(bᵢ/aᵢ)              ratio = exp(median d), 95 % bootstrap interval of pairs; Hodges–Lehmann bounds to decide
//! pairs     (run, block, pair) where a row has a pair; else (run, worker); else the seed
//! ```
//! p-values of one comparison table are Holm-corrected together. A difference is also given in percent of the reference, and with the
//! smallest difference the design could have shown (80 % power), so that silence is not read as equality.
//!
//! Source: measurement.md sections 9 and 10.

use std::collections::{BTreeMap, BTreeSet};

use records::ids::cell_text;
use records::{Better, CellRef, RecordKind, Row};
use stats::bootstrap::BootstrapPlan;

use crate::conditions::depends_on_machine;
use crate::error::ReportError;
use crate::gate::pairs::NOISY_FIELDS;
use crate::study::{Group, Record, Study};
use crate::subject::{Basis, Query, Subject, latest_by_seed, scores_by_document};

/// Resamples of pairs behind a reported ratio.
const RESAMPLES: usize = 10_000;
/// Seed of those resamples; recorded here so that two renders agree.
const BOOTSTRAP_SEED: u64 = 0;

/// A paired difference candidate − reference, in the metric's unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Reference subject, side A.
    pub reference: String,
    /// Candidate subject, side B.
    pub candidate: String,
    /// Task, if the metric belongs to one.
    pub task: Option<String>,
    /// Metric name.
    pub metric: String,
    /// Answer filter.
    pub filter: Option<String>,
    /// Unit of the difference.
    pub unit: String,
    /// Direction of improvement.
    pub better: Better,
    /// What was paired.
    pub basis: Basis,
    /// Number of pairs.
    pub n: usize,
    /// Mean of the reference over the pairs.
    pub reference_mean: f64,
    /// Mean of the candidate over the pairs.
    pub candidate_mean: f64,
    /// Mean difference.
    pub difference: f64,
    /// 95 % interval of the difference.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p-value.
    pub p: Option<f64>,
    /// The same after Holm's correction over the table.
    pub p_holm: Option<f64>,
    /// Discordant documents (only reference right, only candidate right), for scores of 0 and 1.
    pub discordant: Option<(usize, usize)>,
    /// Standard deviation of one paired difference (of the clustered error's equivalent, over documents).
    pub sd: Option<f64>,
    /// Why there is no interval, where there is none.
    pub reason: Option<String>,
}

impl Difference {
    /// Relative change in percent of the reference.
    pub fn relative_pct(&self) -> Option<f64> {
        (self.reference_mean != 0.0).then(|| 100.0 * (self.candidate_mean / self.reference_mean - 1.0))
    }

    /// Whether the interval excludes 0 after correction.
    pub fn is_shown(&self) -> bool {
        self.p_holm.or(self.p).is_some_and(|p| p < 0.05)
    }

    /// `better`, `worse` or `inconclusive`.
    pub fn word(&self) -> &'static str {
        let improves = match self.better {
            Better::Higher => self.difference > 0.0,
            Better::Lower => self.difference < 0.0,
            Better::None => return "no direction",
        };
        match (self.is_shown(), improves) {
            (false, _) => "inconclusive",
            (true, true) => "better",
            (true, false) => "worse",
        }
    }
}

/// The paired difference of two subjects for one query; `None` without common seeds or documents.
/// Seeds decide when there are at least two; a single seed is compared over its documents.
///
/// # Errors
/// When an estimator refuses the values.
pub fn difference(
    study: &Study,
    reference: &Subject,
    candidate: &Subject,
    query: Query<'_>,
) -> Result<Option<Difference>, ReportError> {
    let over_seeds = over_seeds(study, reference, candidate, query)?;
    match over_seeds {
        Some(found) if found.n >= 2 => Ok(Some(found)),
        fallback => Ok(over_documents(study, reference, candidate, query)?.or(fallback)),
    }
}

/// Every (task, metric, filter) that both subjects have, Holm-corrected together; sorted.
///
/// # Errors
/// When an estimator refuses the values.
pub fn compare(study: &Study, reference: &Subject, candidate: &Subject) -> Result<Vec<Difference>, ReportError> {
    let is_of = |group: &&Group| {
        let name = group.shared.subject.as_deref().or(group.shared.variant.as_deref());
        group.is_ok() && group.shared.better != Better::None && !group.is_by_worker && name == Some(candidate.name.as_str())
    };
    let keys: BTreeSet<(Option<&str>, &str, Option<&str>)> = study
        .groups()
        .filter(is_of)
        .map(|group| (group.shared.task.as_deref(), group.shared.metric.as_str(), group.shared.filter.as_deref()))
        .collect();
    let mut found = Vec::new();
    for (task, metric, filter) in keys {
        found.extend(difference(study, reference, candidate, Query { metric, task, filter })?);
    }
    correct(&mut found)?;
    Ok(found)
}

/// Fills in `p_holm` over the given differences.
///
/// # Errors
/// When a p-value is not one.
pub fn correct(differences: &mut [Difference]) -> Result<(), ReportError> {
    let p_values: Vec<f64> = differences.iter().filter_map(|difference| difference.p).collect();
    if p_values.is_empty() {
        return Ok(());
    }
    let holm = stats::multiple::holm(&p_values, 0.05).map_err(ReportError::stats("Holm's correction"))?;
    let mut adjusted = holm.adjusted.into_iter();
    for difference in differences.iter_mut().filter(|difference| difference.p.is_some()) {
        difference.p_holm = adjusted.next();
    }
    Ok(())
}

fn empty(reference: &Subject, candidate: &Subject, query: Query<'_>, row: &Row, basis: Basis) -> Difference {
    Difference {
        reference: reference.name.clone(),
        candidate: candidate.name.clone(),
        task: row.task.clone(),
        metric: query.metric.to_owned(),
        filter: row.filter.clone(),
        unit: row.unit.clone(),
        better: row.better,
        basis,
        n: 0,
        reference_mean: 0.0,
        candidate_mean: 0.0,
        difference: 0.0,
        interval: None,
        p: None,
        p_holm: None,
        discordant: None,
        sd: None,
        reason: None,
    }
}

/// Whether values differ by rounding only: such a spread is none, and a t interval over it would claim certainty.
fn is_constant(values: &[f64]) -> bool {
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    high - low <= 1e-12 * low.abs().max(high.abs()).max(1e-3)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn over_seeds(
    study: &Study,
    reference: &Subject,
    candidate: &Subject,
    query: Query<'_>,
) -> Result<Option<Difference>, ReportError> {
    let (a, b) = (
        latest_by_seed(query.rows(study, reference, RecordKind::Sample)),
        latest_by_seed(query.rows(study, candidate, RecordKind::Sample)),
    );
    let pairs: Vec<(Record<'_>, f64, f64)> =
        a.iter().filter_map(|(seed, row)| Some((*row, row.own.value?, b.get(seed)?.own.value?))).collect();
    let Some((first, ..)) = pairs.first() else { return Ok(None) };
    let (left, right): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(_, a, b)| (*a, *b)).unzip();
    let mut found = empty(reference, candidate, query, first.shared, Basis::Seeds);
    found.n = pairs.len();
    (found.reference_mean, found.candidate_mean) = (mean(&left), mean(&right));
    found.difference = found.candidate_mean - found.reference_mean;
    if pairs.len() < 2 {
        found.reason = Some("one common seed: no interval".to_owned());
        return Ok(Some(found));
    }
    let differences: Vec<f64> = left.iter().zip(&right).map(|(a, b)| b - a).collect();
    if is_constant(&differences) {
        found.reason = Some(format!("the same difference in all {} seeds: no spread, no interval", pairs.len()));
        return Ok(Some(found));
    }
    let what = format!("paired t of {} over seeds", query.metric);
    let t = stats::paired::paired_t(&left, &right, 0.95).map_err(ReportError::stats(what))?;
    found.interval = Some((t.interval.low, t.interval.high));
    found.p = Some(t.p_two_sided);
    found.sd = Some(t.sd);
    Ok(Some(found))
}

fn over_documents(
    study: &Study,
    reference: &Subject,
    candidate: &Subject,
    query: Query<'_>,
) -> Result<Option<Difference>, ReportError> {
    let Some(first) = query.rows(study, reference, RecordKind::Document).next() else { return Ok(None) };
    let a = scores_by_document(query.rows(study, reference, RecordKind::Document));
    let b = scores_by_document(query.rows(study, candidate, RecordKind::Document));
    let mut clusters = Vec::new();
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for (doc, score, cluster) in &a {
        if let Ok(at) = b.binary_search_by_key(doc, |(doc, ..)| *doc) {
            left.push(*score);
            right.push(b[at].1);
            clusters.push(*cluster);
        }
    }
    if left.len() < 2 {
        return Ok(None);
    }
    let differences: Vec<f64> = left.iter().zip(&right).map(|(a, b)| b - a).collect();
    let what = || format!("paired difference of {} over documents", query.metric);
    let mut found = empty(reference, candidate, query, first.shared, Basis::Documents);
    found.n = left.len();
    (found.reference_mean, found.candidate_mean) = (mean(&left), mean(&right));
    found.difference = mean(&differences);
    let stderr = stats::interval::clustered_stderr(&differences, &clusters).map_err(ReportError::stats(what()))?.stderr;
    let interval =
        stats::interval::normal_interval_from(found.difference, stderr, found.n, 0.95).map_err(ReportError::stats(what()))?;
    found.interval = Some((interval.low, interval.high));
    found.sd = Some(stderr * (found.n as f64).sqrt());
    let is_binary = left.iter().chain(&right).all(|score| *score == 0.0 || *score == 1.0);
    let is_clustered = clusters.iter().collect::<BTreeSet<_>>().len() < clusters.len();
    if is_binary {
        let only = |x: &[f64], y: &[f64]| x.iter().zip(y).filter(|(x, y)| **x == 1.0 && **y == 0.0).count();
        let (b_count, c_count) = (only(&left, &right), only(&right, &left));
        found.discordant = Some((b_count, c_count));
        if !is_clustered {
            found.p = Some(stats::paired::mcnemar_exact(b_count, c_count).p_two_sided);
        }
    }
    if found.p.is_none() {
        let z = if stderr > 0.0 { found.difference / stderr } else { 0.0 };
        found.p = Some((2.0 * stats::distribution::normal_survival(z.abs())).min(1.0));
    }
    Ok(Some(found))
}

/// A cost ratio candidate ÷ reference from paired samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Median of the paired ratios.
    pub ratio: f64,
    /// 95 % percentile bootstrap interval of it.
    pub interval: Option<(f64, f64)>,
    /// Pairs.
    pub n: usize,
    /// What was paired.
    pub basis: Basis,
    /// The paired samples (reference, candidate), in order.
    pub pairs: Vec<(f64, f64)>,
}

/// Key that brings two samples together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PairKey<'a> {
    Pair(&'a str, Option<u32>, u32),
    Worker(&'a str, u32),
    Seed(i64),
}

impl<'a> PairKey<'a> {
    fn of(row: Record<'a>) -> Self {
        match (row.own.pair, row.own.worker) {
            (Some(pair), _) => Self::Pair(&row.shared.run_id, row.own.block, pair),
            (None, Some(worker)) => Self::Worker(&row.shared.run_id, worker),
            (None, None) => Self::Seed(row.own.seed.unwrap_or(0)),
        }
    }
}

/// First column in which two rows differ that must agree before a cost is compared, with both values.
fn differing(a: &Row, b: &Row) -> Option<(&'static str, String, String)> {
    if !depends_on_machine(a) {
        return None;
    }
    let known = |row: &Row, field: &str| row.get(field).filter(|cell| *cell != CellRef::Null).map(cell_text);
    NOISY_FIELDS.iter().copied().find_map(|field| {
        let (left, right) = (known(a, field)?, known(b, field)?);
        (left != right).then_some((field, left, right))
    })
}

/// Paired samples (reference, candidate) of a metric, in key order, and what pairs them. Two samples of different machines, builds,
/// schemas, types or thread counts are no pair.
fn paired_samples(study: &Study, reference: &Subject, candidate: &Subject, query: Query<'_>) -> (Vec<(f64, f64)>, Basis) {
    let side = |subject: &Subject| -> BTreeMap<PairKey<'_>, Record<'_>> {
        query.rows(study, subject, RecordKind::Sample).map(|row| (PairKey::of(row), row)).collect()
    };
    let (a, b) = (side(reference), side(candidate));
    let pairs: Vec<(f64, f64)> = a
        .iter()
        .filter_map(|(key, left)| {
            let right = b.get(key)?;
            let is_comparable = differing(left.shared, right.shared).is_none();
            is_comparable.then_some((left.own.value?, right.own.value?))
        })
        .collect();
    let basis = if a.keys().any(|key| matches!(key, PairKey::Seed(_))) { Basis::Seeds } else { Basis::Workers };
    (pairs, basis)
}

/// Why two subjects have no ratio: what is missing, or the field that keeps them from being compared.
pub fn why_no_ratio(study: &Study, reference: &Subject, candidate: &Subject, query: Query<'_>) -> String {
    let first = |subject: &Subject| query.rows(study, subject, RecordKind::Sample).next();
    let failed = [reference, candidate].into_iter().find_map(|subject| {
        let group = query.groups(study, subject).find(|group| !group.is_ok())?;
        Some(format!("{}: {}", group.shared.status, group.shared.reason.as_deref().unwrap_or_default()))
    });
    if let Some(failed) = failed.filter(|_| first(reference).is_none() || first(candidate).is_none()) {
        return failed;
    }
    match (first(reference), first(candidate)) {
        (None, _) => format!("`{}` of the reference was not measured", query.metric),
        (_, None) => format!("`{}` was not measured", query.metric),
        (Some(a), Some(b)) => match differing(a.shared, b.shared) {
            Some((field, left, right)) => format!("not comparable: `{field}` differs: reference `{left}`, candidate `{right}`"),
            None => "no common pairs with the reference".to_owned(),
        },
    }
}

/// The cost ratio of two subjects; `None` without common pairs or with a value that is not positive.
///
/// # Errors
/// When an estimator refuses the values.
pub fn ratio(study: &Study, reference: &Subject, candidate: &Subject, query: Query<'_>) -> Result<Option<Ratio>, ReportError> {
    let (pairs, basis) = paired_samples(study, reference, candidate, query);
    if pairs.is_empty() || pairs.iter().any(|(a, b)| *a <= 0.0 || *b <= 0.0) {
        return Ok(None);
    }
    let logs: Vec<f64> = pairs.iter().map(|(a, b)| (b / a).ln()).collect();
    let what = || format!("ratio of {}", query.metric);
    let median = stats::describe::median(&logs).map_err(ReportError::stats(what()))?;
    let interval = if logs.len() < 3 || is_constant(&logs) {
        None
    } else {
        let plan = BootstrapPlan { resamples: RESAMPLES, level: 0.95, seed: BOOTSTRAP_SEED };
        let found = stats::bootstrap::bootstrap_median(&logs, &plan).map_err(ReportError::stats(what()))?.interval;
        Some((found.low.exp(), found.high.exp()))
    };
    Ok(Some(Ratio { ratio: median.exp(), interval, n: logs.len(), basis, pairs }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::subjects;

    fn base(variant: &str, metric: &str, value: f64) -> Row {
        Row {
            run_id: "m".into(),
            metric: metric.into(),
            unit: "s".into(),
            better: Better::Lower,
            variant: Some(variant.into()),
            subject: Some(format!("lm-{variant}")),
            value: Some(value),
            ..Row::default()
        }
    }

    fn two(study: &Study) -> (Subject, Subject) {
        let all = subjects(study, |_| true);
        (all[0].clone(), all[1].clone())
    }

    #[test]
    fn seeds_are_paired_and_the_interval_is_that_of_the_differences() {
        // Differences −0.1, −0.2, −0.3: mean −0.2, s = 0.1, t(2) = 4.303, half-width 4.303·0.1/√3 = 0.2484.
        let mut rows = Vec::new();
        for (seed, a, b) in [(0, 3.0, 2.9), (1, 4.0, 3.8), (2, 5.0, 4.7)] {
            rows.push(Row { seed: Some(seed), ..base("plain", "val_loss", a) });
            rows.push(Row { seed: Some(seed), ..base("rw", "val_loss", b) });
        }
        rows.push(Row { seed: Some(9), ..base("rw", "val_loss", 100.0) });
        let study = Study::new(rows);
        let (a, b) = two(&study);
        let found = difference(&study, &a, &b, Query { metric: "val_loss", ..Query::default() }).unwrap().unwrap();
        assert_eq!((found.n, found.basis), (3, Basis::Seeds));
        assert!((found.difference + 0.2).abs() < 1e-12);
        let (low, high) = found.interval.unwrap();
        assert!((low + 0.4484).abs() < 1e-4 && (high - 0.0484).abs() < 1e-4, "{low} {high}");
        assert_eq!(found.word(), "inconclusive");
    }

    #[test]
    fn binary_documents_use_exact_mcnemar() {
        // 8 documents only the candidate gets right, 1 only the reference: p = 2·(1 + 9)/2⁹ = 0.0390625.
        let mut rows = Vec::new();
        for at in 0..20 {
            let (a, b) = match at {
                0..8 => (0.0, 1.0),
                8 => (1.0, 0.0),
                _ => (1.0, 1.0),
            };
            for (variant, value) in [("plain", a), ("rw", b)] {
                rows.push(Row {
                    kind: RecordKind::Document,
                    doc_id: Some(at.to_string()),
                    better: Better::Higher,
                    ..base(variant, "acc", value)
                });
            }
        }
        let study = Study::new(rows);
        let (a, b) = two(&study);
        let found = &compare(&study, &a, &b).unwrap()[0];
        assert_eq!((found.discordant, found.n), (Some((1, 8)), 20));
        assert!((found.p.unwrap() - 0.0390625).abs() < 1e-12);
        assert_eq!((found.word(), found.p_holm), ("better", found.p));
    }

    #[test]
    fn workers_pair_within_a_block_whatever_their_own_index() {
        let mut rows = Vec::new();
        for pair in 0..4 {
            let drift = 1.0 + f64::from(pair);
            rows.push(Row { block: Some(0), pair: Some(pair), worker: Some(2 * pair), ..base("plain", "train_step_s", drift) });
            rows.push(Row {
                block: Some(0),
                pair: Some(pair),
                worker: Some(2 * pair + 1),
                ..base("rw", "train_step_s", 1.5 * drift)
            });
        }
        let study = Study::new(rows);
        let (a, b) = two(&study);
        let found = ratio(&study, &a, &b, Query { metric: "train_step_s", ..Query::default() }).unwrap().unwrap();
        assert_eq!((found.n, found.basis), (4, Basis::Workers));
        assert!((found.ratio - 1.5).abs() < 1e-12);
    }
}
