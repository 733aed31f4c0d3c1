//! Subjects of one family on one metric, and contrasts of their paired seeds.
//!
//! ```text
//! q_s(seed)     the metric of subject s, turned so that larger is better
//! contrast      c(seed) = Σ w_s·q_s(seed)          mean, t interval and detectable size over the seeds common to all
//! "a beats b"   q_a − q_b > 0                       "a gains at least half of what b gains over plain"   q_a − ½·q_b − ½·q_plain > 0
//! ```
//! Pairing by seed removes what initial weights and data order share. Where a claim could be lost on any of m contrasts, the opposite
//! is shown only at 1 − 0.05/m (Bonferroni).
//!
//! Source: measurement.md section 9.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use records::{Better, RecordKind, Row, Source};

use super::{Finding, Standing};
use crate::error::ReportError;
use crate::number::{Scale, fixed};
use crate::study::{Group, Study};
use crate::subject::{Query, Subject, latest_by_seed, subjects};

/// Metrics of the row that a training run leaves when it stops: language models, image networks.
const STOPPED_RUN: [&str; 2] = ["val_loss", "acc1_final"];

/// Subjects of one family that have a metric.
pub(super) struct Arena<'a> {
    pub(super) study: &'a Study,
    pub(super) metric: &'a str,
    pub(super) better: Better,
    unit: String,
    members: Vec<Subject>,
}

/// One arena per family that has the metric.
pub(super) fn arenas<'a>(study: &'a Study, metric: &'a str) -> Vec<Arena<'a>> {
    let all = subjects(study, |group| group.shared.metric == metric && group.is_ok());
    let (better, unit) = study
        .of_metric(metric)
        .next()
        .map_or((Better::None, String::new()), |group| (group.shared.better, group.shared.unit.clone()));
    let mut families: Vec<&str> = all.iter().map(Subject::family).collect();
    families.dedup();
    let of = |family: &str| all.iter().filter(|subject| subject.family() == family).cloned().collect();
    families.into_iter().map(|family| Arena { study, metric, better, unit: unit.clone(), members: of(family) }).collect()
}

impl<'a> Arena<'a> {
    /// Name of the family.
    pub(super) fn family(&self) -> &str {
        self.members.first().map_or("", |subject| subject.family())
    }

    /// Whether the metric is a cost, compared by ratio.
    pub(super) fn is_cost(&self) -> bool {
        let metric = self.metric;
        metric.ends_with("_s") || metric.ends_with("_bytes") || metric.starts_with("params") || metric.starts_with("flops")
    }

    /// The subject of a variant (`naive` takes any naive+L). Where a sweep has several, the first by name, a control (scalars that do
    /// not learn) last; the evidence then says which one it was.
    pub(super) fn subject(&self, variant: &str) -> Option<&Subject> {
        let is_it =
            |subject: &&Subject| subject.variant == variant || (variant == "naive" && subject.variant.starts_with("naive"));
        let is_control = |subject: &Subject| self.setting(subject, "residual_gamma").as_deref() == Some("fixed");
        self.members.iter().filter(is_it).min_by_key(|subject| is_control(subject))
    }

    /// The subject of a variant at a value of a column (rank 16), if that is recorded.
    pub(super) fn subject_at(&self, variant: &str, column: &str, value: &str) -> Option<&Subject> {
        self.members.iter().find(|subject| subject.variant == variant && self.setting(subject, column).as_deref() == Some(value))
    }

    /// Subjects of a variant with their value of a column, sorted by value where it is a number.
    pub(super) fn sweep(&self, variant: &str, column: &str) -> Vec<(String, &Subject)> {
        let mut found: Vec<(String, &Subject)> = self
            .members
            .iter()
            .filter(|subject| subject.variant == variant)
            .filter_map(|subject| Some((self.setting(subject, column)?, subject)))
            .collect();
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        found.sort_by(|(a, _), (b, _)| number(a).cmp(&number(b)).then_with(|| a.cmp(b)));
        found.dedup_by(|(a, _), (b, _)| a == b);
        found
    }

    /// Reason of a training run of this family that stopped, of a subject and row that `is_it` takes.
    pub(super) fn failure(&self, is_it: impl Fn(&Subject, &Row) -> bool) -> Option<String> {
        let is_stopped = |group: &&Group| {
            let row = &group.shared;
            !group.is_ok() && row.source == Source::Measured && STOPPED_RUN.contains(&row.metric.as_str())
        };
        self.study.groups().filter(is_stopped).find_map(|group| {
            let subject = Subject::of(&group.shared)?;
            let is_found = subject.family() == self.family() && is_it(&subject, &group.shared);
            is_found.then(|| group.shared.reason.clone().unwrap_or_default())
        })
    }

    fn setting(&self, subject: &Subject, column: &str) -> Option<String> {
        self.groups(subject).find_map(|group| text_of(&group.shared, column))
    }

    /// Groups of a subject with values.
    pub(super) fn groups(&self, subject: &Subject) -> impl Iterator<Item = &'a Group> {
        self.query().groups(self.study, subject).filter(|group| group.is_ok())
    }

    /// The metric as a query.
    pub(super) fn query(&self) -> Query<'a> {
        Query { metric: self.metric, ..Query::default() }
    }

    /// The metric by seed, larger is better.
    fn oriented(&self, subject: &Subject) -> BTreeMap<i64, f64> {
        let sign = if self.better == Better::Lower { -1.0 } else { 1.0 };
        latest_by_seed(self.query().rows(self.study, subject, RecordKind::Sample))
            .into_iter()
            .filter_map(|(seed, row)| Some((seed, sign * row.own.value?)))
            .collect()
    }

    /// Mean over seeds, larger is better.
    pub(super) fn mean(&self, subject: &Subject) -> Option<f64> {
        let values = self.oriented(subject);
        (!values.is_empty()).then(|| values.values().sum::<f64>() / values.len() as f64)
    }

    /// The contrast of weighted subjects; `comparisons` are those of its claim.
    pub(super) fn contrast(&self, terms: &[(&Subject, f64)], comparisons: usize) -> Result<Contrast, ReportError> {
        let sides: Vec<(BTreeMap<i64, f64>, f64)> =
            terms.iter().map(|(subject, weight)| (self.oriented(subject), *weight)).collect();
        let values: Vec<f64> = sides.first().map_or_else(Vec::new, |(first, _)| {
            first
                .keys()
                .filter_map(|seed| sides.iter().map(|(side, weight)| Some(weight * side.get(seed)?)).sum::<Option<f64>>())
                .collect()
        });
        Contrast::of(&values, comparisons, &self.unit, self.metric)
    }

    /// "a beats b".
    pub(super) fn gain(&self, a: &Subject, b: &Subject, comparisons: usize) -> Result<Contrast, ReportError> {
        self.contrast(&[(a, 1.0), (b, -1.0)], comparisons)
    }
}

/// A column of a row as text; `None` where it is empty.
pub(super) fn text_of(row: &Row, column: &str) -> Option<String> {
    row.get(column).filter(|cell| *cell != records::CellRef::Null).map(records::ids::cell_text)
}

/// A paired contrast; positive is what the claim says.
#[derive(Clone, Debug, PartialEq)]
pub struct Contrast {
    /// Common seeds.
    pub n: usize,
    /// Mean over the seeds.
    pub mean: f64,
    /// Standard deviation over the seeds.
    pub sd: Option<f64>,
    /// 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Interval at 1 − 0.05/comparisons.
    corrected: Option<(f64, f64)>,
    unit: String,
}

impl Contrast {
    /// From the contrast of each seed.
    ///
    /// # Errors
    /// When an estimator refuses the values.
    pub fn of(values: &[f64], comparisons: usize, unit: &str, metric: &str) -> Result<Self, ReportError> {
        let n = values.len();
        let mean = if n == 0 { 0.0 } else { values.iter().sum::<f64>() / n as f64 };
        let mut found = Self { n, mean, sd: None, interval: None, corrected: None, unit: unit.to_owned() };
        // A spread of rounding only would claim certainty.
        if n < 2 || values.iter().all(|value| (value - mean).abs() <= 1e-12 * mean.abs().max(1e-3)) {
            return Ok(found);
        }
        let what = || format!("contrast of {metric} over seeds");
        let at = |level: f64| stats::interval::t_interval(values, level).map_err(ReportError::stats(what()));
        let ends = |interval: stats::interval::Interval| (interval.low, interval.high);
        found.interval = Some(ends(at(0.95)?));
        found.corrected = Some(ends(at(1.0 - 0.05 / comparisons.max(1) as f64)?));
        let sd = stats::describe::sample_sd(values).map_err(ReportError::stats(what()))?;
        found.sd = Some(sd);
        Ok(found)
    }

    /// Smallest difference shown with 80 % power.
    pub fn detectable(&self) -> Option<f64> {
        stats::power::minimal_detectable_difference(self.sd?, self.n, 0.05, 0.8).ok().map(|found| found.difference)
    }

    /// Whether it is shown to be positive.
    pub fn is_shown(&self) -> bool {
        self.interval.is_some_and(|(low, _)| low > 0.0)
    }

    /// Whether it is shown to be negative, corrected for the comparisons of its claim.
    pub fn is_opposite_shown(&self) -> bool {
        self.corrected.is_some_and(|(_, high)| high < 0.0)
    }

    /// Supported, not supported or unresolved.
    pub fn standing(&self) -> Standing {
        match (self.is_shown(), self.is_opposite_shown()) {
            (true, _) => Standing::Supported,
            (_, true) => Standing::NotSupported,
            _ => Standing::Unresolved,
        }
    }

    /// `label +0.0123 [0.001, 0.02], n = 3`, and what could have been seen where nothing was.
    pub(super) fn finding(&self, label: &str) -> Finding {
        Finding::new(self.standing(), format!("{label} {}", self.words()))
    }

    /// Value, interval, n; the reason where there is no interval.
    pub(super) fn words(&self) -> String {
        let scale = Scale::of(&self.unit, [self.mean]);
        let unit = match scale.unit {
            "%" if self.unit == "fraction" => " points",
            "" => "",
            other => &format!(" {other}"),
        };
        let Some((low, high)) = self.interval else {
            let why = match self.n {
                0 => "no common seeds",
                1 => "one common seed, no interval",
                _ => "no spread over the seeds, no interval",
            };
            return format!("{:+}{unit}, {why}", Signed(self.mean / scale.divisor, 4));
        };
        let decimals = crate::number::decimals_for((high - low) / 2.0 / scale.divisor, 2);
        let show = |x: f64| Signed(x / scale.divisor, decimals).to_string();
        let mut text = format!("{} [{}, {}]{unit}, n = {}", show(self.mean), show(low), show(high), self.n);
        if self.standing() == Standing::Unresolved
            && let Some(detectable) = self.detectable()
        {
            let _ = write!(text, ", detectable {}{unit}", fixed(detectable / scale.divisor, decimals));
        }
        text
    }
}

/// A number with its sign and a number of decimals.
struct Signed(f64, usize);

impl std::fmt::Display for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = fixed(self.0, self.1);
        let sign = if self.0 > 0.0 && text.chars().any(|c| ('1'..='9').contains(&c)) { "+" } else { "" };
        write!(f, "{sign}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contrast_says_what_it_shows_and_what_it_could_have_shown() {
        // mean 0.2, s = 0.1, t(2) = 4.303: 0.2 ± 0.248; detectable at n = 3 and 80 % power is 3.26 s.
        let found = Contrast::of(&[0.1, 0.2, 0.3], 1, "nat/tok", "val_loss").unwrap();
        assert_eq!((found.standing(), found.n), (Standing::Unresolved, 3));
        let (low, high) = found.interval.unwrap();
        assert!((low + 0.0484).abs() < 1e-4 && (high - 0.4484).abs() < 1e-4);
        assert!((found.detectable().unwrap() - 0.326).abs() < 2e-3, "{:?}", found.detectable());
        assert!(found.words().contains("detectable 0.33 nat/tok"), "{}", found.words());
        let clear = Contrast::of(&[0.19, 0.2, 0.21], 1, "nat/tok", "val_loss").unwrap();
        assert_eq!(clear.standing(), Standing::Supported);
    }

    #[test]
    fn one_seed_or_no_spread_has_no_interval_and_says_why() {
        let one = Contrast::of(&[0.1], 1, "fraction", "acc1").unwrap();
        assert_eq!(
            (one.standing(), one.words().as_str()),
            (Standing::Unresolved, "+10.0000 points, one common seed, no interval")
        );
        let flat = Contrast::of(&[0.1, 0.1], 1, "fraction", "acc1").unwrap();
        assert!(flat.words().ends_with("no spread over the seeds, no interval"));
        let none = Contrast::of(&[], 1, "fraction", "acc1").unwrap();
        assert!(none.words().ends_with("no common seeds"));
    }

    #[test]
    fn the_opposite_needs_the_corrected_interval() {
        // mean −0.2, s = 0.05: t(2) 95 %: ± 0.124; at 1 − 0.05/20 the quantile is 19.96: ± 0.576.
        let values = [-0.15, -0.2, -0.25];
        assert_eq!(Contrast::of(&values, 1, "1", "m").unwrap().standing(), Standing::NotSupported);
        assert_eq!(Contrast::of(&values, 20, "1", "m").unwrap().standing(), Standing::Unresolved);
    }
}
