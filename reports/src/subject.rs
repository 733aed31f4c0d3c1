//! Who is compared with whom: subjects in their fixed order, and the values a subject has for a metric.
//!
//! ```text
//! order      plain, naive+L, wide+r, rw, lr, pa, rw+lr, rw+pa, lr+pa, rw+lr+pa, then by name
//! family     the subject's name without its variant: lm-tiny-rw+lr -> lm-tiny; the reference is the family's `plain`
//! estimate   ≥ 2 seeds    mean of the seeds, 95 % t interval over seeds
//!            1 seed       the score, ± 1.96 standard errors over documents (clustered where clusters exist)
//!            workers      median, exact 95 % interval of the median from order statistics (n ≥ 6)
//!            exact        the number, no interval
//! ```
//! Source: measurement.md sections 1, 9 and 10; the paper's order of variants is Table 5's.

use std::collections::BTreeMap;

use records::{InnerStat, RecordKind, Row, Source};

use crate::error::ReportError;
use crate::study::{Group, Record, Study, Word};

/// Two-sided 95 % quantile of the normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// A named training config whose results are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    family: String,
    rank: usize,
    detail: String,
    /// Architecture choice.
    pub variant: String,
    /// Name, as in the `subject` column; the variant where a row has no subject.
    pub name: String,
}

impl Subject {
    /// The subject of a row, if it names one.
    pub fn of(row: &Row) -> Option<Self> {
        let variant = row.variant.clone().or_else(|| row.subject.clone())?;
        let name = row.subject.clone().unwrap_or_else(|| variant.clone());
        let (family, detail) = split_name(&name, &variant);
        Some(Self { family, rank: variant_rank(&variant), detail, variant, name })
    }

    /// As shown beside subjects of other families: `lm-tiny RW+LR`, `lm-tiny Baseline`.
    pub fn title(&self) -> String {
        if self.family.is_empty() { self.short_title() } else { format!("{} {}", self.family, self.short_title()) }
    }

    /// As shown within its family: `RW+LR`, `RW+LR r4`, `Baseline`.
    pub fn short_title(&self) -> String {
        let variant = display_variant(&self.variant);
        if self.detail.is_empty() { variant } else { format!("{variant} {}", self.detail) }
    }

    /// The name without the variant.
    pub fn family(&self) -> &str {
        &self.family
    }

    /// Whether this is the plain residual.
    pub fn is_plain(&self) -> bool {
        self.variant == "plain"
    }
}

/// `llm-1b-rw+lr-r4` with variant `rw+lr` -> family `llm-1b`, detail `r4`; a name without its variant is a detail.
fn split_name(name: &str, variant: &str) -> (String, String) {
    if name == variant {
        return (String::new(), String::new());
    }
    let marker = format!("-{variant}");
    for (at, _) in name.match_indices(&marker) {
        let rest = &name[at + marker.len()..];
        if rest.is_empty() || rest.starts_with('-') {
            return (name[..at].to_owned(), rest.trim_start_matches('-').to_owned());
        }
    }
    (String::new(), format!("({name})"))
}

/// Titles of subjects shown together: the family is left out when it is the same for all.
pub fn titles(subjects: &[Subject]) -> Vec<String> {
    let is_one_family = subjects.iter().all(|subject| subject.family == subjects[0].family);
    subjects.iter().map(|subject| if is_one_family { subject.short_title() } else { subject.title() }).collect()
}

/// Place of a variant in every table and plot.
pub fn variant_rank(variant: &str) -> usize {
    const ORDER: [&str; 8] = ["plain", "rw", "lr", "pa", "rw+lr", "rw+pa", "lr+pa", "rw+lr+pa"];
    let base = variant.split_once("-r").map_or(variant, |(base, _)| base);
    match ORDER.iter().position(|name| *name == base) {
        Some(0) => 0,
        Some(at) => 2000 + at,
        None if variant.starts_with("naive") => 1 + trailing_number(variant),
        None if variant.starts_with("wide") => 1000 + trailing_number(variant),
        None => 3000,
    }
}

fn trailing_number(variant: &str) -> usize {
    variant.rsplit('+').next().and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0).min(900)
}

/// `plain` is shown as "Baseline", the others in the paper's capitals.
pub fn display_variant(variant: &str) -> String {
    match variant {
        "plain" => "Baseline".to_owned(),
        other if other.starts_with("naive") || other.starts_with("wide") => other.to_owned(),
        other => other.to_uppercase(),
    }
}

/// Every subject that has measured groups passing `keep`, in order.
pub fn subjects(study: &Study, keep: impl Fn(&Group) -> bool) -> Vec<Subject> {
    let is_measured = |group: &&Group| group.shared.source == Source::Measured && keep(group);
    let mut found: Vec<Subject> = study.groups().filter(is_measured).filter_map(|group| Subject::of(&group.shared)).collect();
    found.sort();
    found.dedup();
    found
}

/// The subject that others are held against: the plain one of the same family, else any plain one, else the first.
pub fn reference_of<'a>(subject: &Subject, all: &'a [Subject]) -> Option<&'a Subject> {
    all.iter()
        .find(|other| other.is_plain() && other.family == subject.family)
        .or_else(|| all.iter().find(|other| other.is_plain()))
        .or_else(|| all.first())
}

/// What an interval is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// Trained seeds.
    Seeds,
    /// Documents of one trained model.
    Documents,
    /// Measuring processes.
    Workers,
    /// Counted.
    Exact,
}

impl Basis {
    /// The word beside n.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seeds => "seeds",
            Self::Documents => "documents",
            Self::Workers => "workers",
            Self::Exact => "exact",
        }
    }
}

/// A number with its 95 % interval and what that interval is over; base units.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Ends of the 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Of how many.
    pub n: usize,
    /// What n counts.
    pub basis: Basis,
    /// Unit, as in the records.
    pub unit: String,
    /// Whether any sample was contended.
    pub contended: usize,
}

impl Estimate {
    /// Larger distance of an interval end from the value.
    pub fn half_width(&self) -> Option<f64> {
        self.interval.map(|(low, high)| (self.value - low).max(high - self.value))
    }
}

/// What a subject has for a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A number.
    Number(Estimate),
    /// Only failures; the first reason.
    Failed(String),
    /// Nothing.
    Nothing,
}

/// A question put to the records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// Metric name.
    pub metric: &'a str,
    /// Task; `None` takes rows of any.
    pub task: Option<&'a str>,
    /// Answer filter; `None` takes rows of any.
    pub filter: Option<&'a str>,
}

impl Query<'_> {
    /// Groups of a subject that answer it, the A/A control left out.
    pub fn groups<'s>(self, study: &'s Study, subject: &Subject) -> impl Iterator<Item = &'s Group> {
        study.of_subject(&subject.name, self.metric).filter(move |group| {
            let row = &group.shared;
            row.source == Source::Measured
                && !row.is_aa
                && self.task.is_none_or(|task| row.task.as_deref() == Some(task))
                && self.filter.is_none_or(|filter| row.filter.as_deref() == Some(filter))
        })
    }

    /// Rows of a kind that answer it with a value.
    pub fn rows<'s>(self, study: &'s Study, subject: &Subject, kind: RecordKind) -> impl Iterator<Item = Record<'s>> {
        self.groups(study, subject)
            .filter(move |group| group.is_ok() && group.shared.kind == kind)
            .flat_map(|group| group.rows.iter().map(|own| Record { shared: &group.shared, own }))
    }
}

/// The estimate of a subject for a query.
///
/// # Errors
/// When an estimator refuses the values.
pub fn estimate(study: &Study, subject: &Subject, query: Query<'_>) -> Result<Found, ReportError> {
    let what = || format!("{} of {}", query.metric, subject.name);
    let samples: Vec<Record<'_>> = query.rows(study, subject, RecordKind::Sample).collect();
    let Some(first) = samples.first() else {
        let documents: Vec<Record<'_>> = query.rows(study, subject, RecordKind::Document).collect();
        if documents.is_empty() {
            let failure = query.groups(study, subject).find(|group| !group.is_ok());
            return Ok(failure.map_or(Found::Nothing, |group| {
                Found::Failed(format!("{}: {}", group.shared.status, group.shared.reason.clone().unwrap_or_default()))
            }));
        }
        return Ok(Found::Number(over_documents(&documents).map_err(ReportError::stats(what()))?));
    };
    let unit = first.shared.unit.clone();
    let contended = samples.iter().filter(|row| row.own.contended == Some(true)).count();
    if samples.iter().any(|row| row.own.is_by_worker()) {
        let values: Vec<f64> = samples.iter().filter_map(|row| row.own.value).collect();
        // Counts come out of every worker alike; a spread of zero is no interval.
        if values.iter().all(|value| *value == values[0]) {
            let (value, n) = (values[0], values.len());
            return Ok(Found::Number(Estimate { value, interval: None, n, basis: Basis::Exact, unit, contended }));
        }
        let value = stats::describe::median(&values).map_err(ReportError::stats(what()))?;
        let interval = median_interval(&values).map_err(ReportError::stats(what()))?;
        return Ok(Found::Number(Estimate { value, interval, n: values.len(), basis: Basis::Workers, unit, contended }));
    }
    let by_seed = latest_by_seed(samples.iter().copied());
    let values: Vec<f64> = by_seed.values().filter_map(|row| row.own.value).collect();
    if values.len() >= 2 && values.iter().any(|value| *value != values[0]) {
        let interval = stats::interval::t_interval(&values, 0.95).map_err(ReportError::stats(what()))?;
        return Ok(Found::Number(Estimate {
            value: interval.estimate,
            interval: Some((interval.low, interval.high)),
            n: values.len(),
            basis: Basis::Seeds,
            unit,
            contended,
        }));
    }
    let row = by_seed.values().next().unwrap_or(first);
    let value = row.own.value.unwrap_or_default();
    let (interval, n, basis) = match row.own.stderr_clustered.or(row.own.stderr) {
        Some(stderr) => {
            let n = row.own.inner_n.unwrap_or(0) as usize;
            let interval = if stderr > 0.0 {
                Some((value - Z95 * stderr, value + Z95 * stderr))
            } else {
                all_or_nothing(value, n, &unit).map_err(ReportError::stats(what()))?
            };
            (interval, n, Basis::Documents)
        }
        None if row.shared.inner_stat == Some(InnerStat::Exact) => (None, 1, Basis::Exact),
        None => (None, values.len(), Basis::Seeds),
    };
    Ok(Found::Number(Estimate { value, interval, n, basis, unit, contended }))
}

/// Wilson's interval of a share that is 0 or 1: a spread of zero over a few documents is no certainty. `None` for other constants.
fn all_or_nothing(value: f64, n: usize, unit: &str) -> Result<Option<(f64, f64)>, stats::StatsError> {
    if unit != "fraction" || n == 0 || (value != 0.0 && value != 1.0) {
        return Ok(None);
    }
    let hits = if value == 1.0 { n } else { 0 };
    let interval = stats::interval::wilson_interval(hits, n, 0.95)?;
    Ok(Some((interval.low, interval.high)))
}

/// Of several rows per seed (evaluation points), the last.
pub fn latest_by_seed<'a>(rows: impl IntoIterator<Item = Record<'a>>) -> BTreeMap<i64, Record<'a>> {
    let mut latest: BTreeMap<i64, Record<'a>> = BTreeMap::new();
    for row in rows {
        let seed = row.own.seed.unwrap_or(0);
        if latest.get(&seed).is_none_or(|other| other.own.eval_step <= row.own.eval_step) {
            latest.insert(seed, row);
        }
    }
    latest
}

/// Exact 95 % interval of the median; `None` below six values, where order statistics cannot reach the level.
pub fn median_interval(values: &[f64]) -> Result<Option<(f64, f64)>, stats::StatsError> {
    if values.len() < 6 {
        return Ok(None);
    }
    let interval = stats::paired::sign_test(values, 0.025)?.interval;
    Ok((interval.low.is_finite() && interval.high.is_finite()).then_some((interval.low, interval.high)))
}

/// Score of each document, by its id: the mean over seeds, and its cluster.
pub(crate) fn scores_by_document<'a>(rows: impl IntoIterator<Item = Record<'a>>) -> Vec<(Option<Word>, f64, Option<Word>)> {
    let mut scores: Vec<(Option<Word>, f64, Option<Word>)> =
        rows.into_iter().filter_map(|row| Some((row.own.doc, row.own.value?, row.own.cluster.or(row.own.doc)))).collect();
    scores.sort_by_key(|(doc, ..)| *doc);
    scores
        .chunk_by(|a, b| a.0 == b.0)
        .map(|same| (same[0].0, same.iter().map(|(_, value, _)| value).sum::<f64>() / same.len() as f64, same[0].2))
        .collect()
}

fn over_documents(rows: &[Record<'_>]) -> Result<Estimate, stats::StatsError> {
    let scores = scores_by_document(rows.iter().copied());
    let values: Vec<f64> = scores.iter().map(|(_, value, _)| *value).collect();
    let clusters: Vec<Option<Word>> = scores.iter().map(|(.., cluster)| *cluster).collect();
    let value = stats::describe::mean(&values)?;
    let interval = if values.len() < 2 {
        None
    } else {
        let stderr = stats::interval::clustered_stderr(&values, &clusters)?.stderr;
        Some((value - Z95 * stderr, value + Z95 * stderr))
    };
    let unit = rows[0].shared.unit.clone();
    Ok(Estimate { value, interval, n: values.len(), basis: Basis::Documents, unit, contended: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::Status;

    fn sample(variant: &str, seed: i64, value: f64) -> Row {
        Row {
            metric: "acc".into(),
            unit: "fraction".into(),
            variant: Some(variant.into()),
            subject: Some(format!("lm-{variant}")),
            task: Some("boolq".into()),
            seed: Some(seed),
            value: Some(value),
            ..Row::default()
        }
    }

    #[test]
    fn subjects_follow_the_papers_order() {
        let names = ["rw+lr+pa", "rw", "naive+4", "plain", "naive+1", "lr", "wide+4"];
        let study = Study::new(names.iter().map(|name| sample(name, 0, 0.5)).collect());
        let order: Vec<String> = subjects(&study, |_| true).into_iter().map(|subject| subject.variant).collect();
        assert_eq!(order, ["plain", "naive+1", "naive+4", "wide+4", "rw", "lr", "rw+lr+pa"]);
    }

    #[test]
    fn family_and_reference_come_from_the_name() {
        let all: Vec<Subject> = [sample("plain", 0, 0.5), sample("rw+lr", 0, 0.5)].iter().filter_map(Subject::of).collect();
        assert_eq!((all[1].family(), all[1].title().as_str()), ("lm", "lm RW+LR"));
        assert_eq!(titles(&all), ["Baseline", "RW+LR"]);
        assert_eq!(reference_of(&all[1], &all).unwrap().name, "lm-plain");
        assert_eq!(split_name("llm-1b-rw+lr-r4", "rw+lr"), ("llm-1b".into(), "r4".into()));
        assert_eq!(split_name("my-model", "rw"), (String::new(), "(my-model)".into()));
    }

    #[test]
    fn five_seeds_give_the_t_interval() {
        // mean 3, s = sqrt(2.5), half-width 2.776·s/√5 = 1.963 (measurement.md section 9).
        let study = Study::new((0..5).map(|seed| sample("rw", seed, seed as f64 + 1.0)).collect());
        let subject = &subjects(&study, |_| true)[0];
        let Found::Number(found) = estimate(&study, subject, Query { metric: "acc", ..Query::default() }).unwrap() else {
            panic!("expected a number");
        };
        assert_eq!((found.value, found.n, found.basis), (3.0, 5, Basis::Seeds));
        assert!((found.half_width().unwrap() - 1.963).abs() < 1e-3);
    }

    #[test]
    fn one_seed_uses_the_clustered_error_over_documents() {
        let row = Row { stderr: Some(0.01), stderr_clustered: Some(0.02), inner_n: Some(100), ..sample("rw", 0, 0.5) };
        let study = Study::new(vec![row]);
        let subject = &subjects(&study, |_| true)[0];
        let Found::Number(found) = estimate(&study, subject, Query { metric: "acc", ..Query::default() }).unwrap() else {
            panic!("expected a number");
        };
        assert_eq!((found.n, found.basis), (100, Basis::Documents));
        assert!((found.half_width().unwrap() - 0.0392).abs() < 1e-4);
    }

    #[test]
    fn only_failures_are_a_failure_with_its_reason() {
        let row = Row { status: Status::Oom, value: None, reason: Some("killed".into()), ..sample("rw", 0, 0.5) };
        let study = Study::new(vec![row]);
        let subject = &subjects(&study, |_| true)[0];
        let found = estimate(&study, subject, Query { metric: "acc", ..Query::default() }).unwrap();
        assert_eq!(found, Found::Failed("oom: killed".into()));
    }

    #[test]
    fn document_rows_stand_in_for_a_missing_aggregate() {
        let document =
            |id: &str, value: f64| Row { kind: RecordKind::Document, doc_id: Some(id.into()), ..sample("rw", 0, value) };
        let study = Study::new(vec![document("a", 1.0), document("b", 0.0), document("c", 1.0), document("d", 0.0)]);
        let subject = &subjects(&study, |_| true)[0];
        let Found::Number(found) = estimate(&study, subject, Query { metric: "acc", ..Query::default() }).unwrap() else {
            panic!("expected a number");
        };
        assert_eq!((found.value, found.n, found.basis), (0.5, 4, Basis::Documents));
    }

    #[test]
    fn nothing_right_out_of_twenty_is_no_certainty() {
        // Wilson, 95 %, 0 of 20: high = z²/(n + z²) = 3.841459/23.841459 = 0.161125.
        let (low, high) = all_or_nothing(0.0, 20, "fraction").unwrap().unwrap();
        assert!(low.abs() < 1e-12 && (high - 0.161_125).abs() < 1e-6, "{low} {high}");
        assert_eq!(all_or_nothing(0.25, 20, "fraction").unwrap(), None);
        assert_eq!(all_or_nothing(0.0, 20, "nat/tok").unwrap(), None);
    }
}
