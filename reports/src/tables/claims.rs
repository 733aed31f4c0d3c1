//! The paper's claims beside what these records say.
//!
//! ```text
//! better / worse   every variant against the named one, paired; the interval must exclude equality
//! within           the whole 95 % interval of the ratio inside 1 ± margin
//! closed-form      counted LAuReL parameters equal the closed form, exactly
//! ```
//! Verdicts: `holds`, `does not hold`, `inconclusive`, `not measured`, `not checked here`. Scale differs from the paper's, so a verdict
//! is about these models.
//!
//! Source: paper.md section 10.

use records::Better;

use super::Table;
use crate::compare::{difference, ratio};
use crate::conditions::one_condition;
use crate::error::ReportError;
use crate::frame::Records;
use crate::number::{MISSING, ratio_pct, significant};
use crate::paper::{Claim, Expect, Paper};
use crate::provenance::Provenance;
use crate::subject::{Query, Subject, display_variant, subjects};
use crate::table::{TableCell, TableData, TableRow};

/// The table of claims.
pub struct Claims;

/// What records say about one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Shown for every variant.
    Holds,
    /// The opposite is shown for at least one variant.
    Fails,
    /// Neither.
    Inconclusive,
    /// Something it needs is missing.
    NotMeasured,
    /// No automatic check.
    NotChecked,
}

impl Standing {
    /// The words of the verdict column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "does not hold",
            Self::Inconclusive => "inconclusive",
            Self::NotMeasured => "not measured",
            Self::NotChecked => "not checked here",
        }
    }
}

impl Table for Claims {
    fn name(&self) -> &'static str {
        "claims"
    }

    fn build(&self, records: &Records, paper: &Paper) -> Result<TableData, ReportError> {
        let mut table = TableData::new("claims", "Claims of the paper", Provenance::default());
        for (key, title) in [
            ("id", "Id"),
            ("claim", "Claim"),
            ("number", "Paper"),
            ("locator", "Where"),
            ("check", "Check"),
            ("measured", "Measured"),
            ("verdict", "Verdict"),
        ] {
            table.text_column(key, title);
        }
        let records = &one_condition(records).records;
        for claim in &paper.claims {
            let (standing, evidence) = judge(records, claim)?;
            let texts = [
                claim.id.as_str(),
                &claim.claim,
                claim.number.as_deref().unwrap_or(MISSING),
                &claim.locator,
                &claim.check,
                if evidence.is_empty() { MISSING } else { &evidence },
                standing.as_str(),
            ];
            table.rows.push(TableRow { group: None, cells: texts.into_iter().map(TableCell::words).collect() });
        }
        table.caption = String::from(
            "A verdict is about the models measured here, at their scale. Brackets: 95 % interval of the paired ratio or \
                         difference. A claim holds when that is shown for every variant it names.",
        );
        Ok(table)
    }
}

/// What records say about a claim, and the evidence in words.
///
/// # Errors
/// When an estimator refuses the values.
pub fn judge(records: &Records, claim: &Claim) -> Result<(Standing, String), ReportError> {
    let Some(expect) = claim.expect else {
        return Ok((Standing::NotChecked, String::new()));
    };
    if expect == Expect::ClosedForm {
        return Ok(closed_form(records));
    }
    let mut best: Option<(Standing, String)> = None;
    for metric in &claim.metrics {
        let all = subjects(records, |row| row.metric == *metric);
        let mut standings = Vec::new();
        let mut words = Vec::new();
        for variant in &claim.variants {
            let found = judge_variant(records, claim, expect, metric, variant, &all)?;
            if let Some((standing, text)) = found {
                standings.push(standing);
                words.push(format!("{} {text}", display_variant(variant)));
            }
        }
        if standings.is_empty() {
            continue;
        }
        let is_complete = standings.len() == claim.variants.len();
        let standing = if standings.contains(&Standing::Fails) {
            Standing::Fails
        } else if standings.iter().all(|standing| *standing == Standing::Holds) && is_complete {
            Standing::Holds
        } else if is_complete || standings.contains(&Standing::Inconclusive) {
            Standing::Inconclusive
        } else {
            Standing::NotMeasured
        };
        best = Some((standing, format!("{metric}: {}", words.join(", "))));
        break;
    }
    Ok(best.unwrap_or((Standing::NotMeasured, String::new())))
}

fn judge_variant(
    records: &Records,
    claim: &Claim,
    expect: Expect,
    metric: &str,
    variant: &str,
    all: &[Subject],
) -> Result<Option<(Standing, String)>, ReportError> {
    let against = claim.against.as_deref().unwrap_or("plain");
    let is_against = |other: &Subject| other.variant == against || (against == "naive" && other.variant.starts_with("naive"));
    for candidate in all.iter().filter(|subject| subject.variant == variant) {
        let Some(reference) = all.iter().find(|other| is_against(other) && other.family() == candidate.family()) else {
            continue;
        };
        let query = Query { metric, ..Query::default() };
        let better = records.of_metric(metric).next().map_or(Better::None, |row| row.better);
        if is_cost(metric) {
            let Some(found) = ratio(records, reference, candidate, query)? else { continue };
            let (low, high) = found.interval.unwrap_or((found.ratio, found.ratio));
            // Equal counts have no interval; sampled costs without one are not judged.
            let is_judged = found.interval.is_some() || found.pairs.iter().all(|pair| *pair == found.pairs[0]);
            let range =
                found.interval.map_or_else(String::new, |(low, high)| format!(" [{}, {}]", ratio_pct(low), ratio_pct(high)));
            let text = format!("{}{range}", ratio_pct(found.ratio));
            let standing = if is_judged { stand(expect, better, (low, high), 1.0, claim.margin) } else { Standing::Inconclusive };
            return Ok(Some((standing, text)));
        }
        let Some(found) = difference(records, reference, candidate, query)? else { continue };
        let Some(interval) = found.interval else {
            return Ok(Some((Standing::Inconclusive, significant(found.difference))));
        };
        let text = format!("{} [{}, {}]", significant(found.difference), significant(interval.0), significant(interval.1));
        return Ok(Some((stand(expect, better, interval, 0.0, claim.margin), text)));
    }
    Ok(None)
}

fn is_cost(metric: &str) -> bool {
    metric.ends_with("_s") || metric.ends_with("_bytes") || metric.starts_with("params") || metric.starts_with("flops")
}

/// Where an interval stands against `equal`.
fn stand(expect: Expect, better: Better, (low, high): (f64, f64), equal: f64, margin: Option<f64>) -> Standing {
    if expect == Expect::Within {
        let margin = margin.unwrap_or(0.0);
        return if equal - margin <= low && high <= equal + margin {
            Standing::Holds
        } else if low > equal + margin || high < equal - margin {
            Standing::Fails
        } else {
            Standing::Inconclusive
        };
    }
    let (is_below, is_above) = (high < equal, low > equal);
    let (is_better, is_worse) = match better {
        Better::Lower => (is_below, is_above),
        Better::Higher => (is_above, is_below),
        Better::None => (false, false),
    };
    match (expect, is_better, is_worse) {
        (Expect::Better, true, _) | (Expect::Worse, _, true) => Standing::Holds,
        (Expect::Better, _, true) | (Expect::Worse, true, _) => Standing::Fails,
        _ => Standing::Inconclusive,
    }
}

fn closed_form(records: &Records) -> (Standing, String) {
    let mut compared = 0;
    let mut differing = Vec::new();
    for row in records.of_metric("params_laurel") {
        let twin =
            records.of_metric("params_closed_form").find(|other| other.subject == row.subject && other.run_id == row.run_id);
        if let (Some(twin), Some(subject)) = (twin, &row.subject) {
            compared += 1;
            if twin.value != row.value {
                differing.push(subject.clone());
            }
        }
    }
    differing.dedup();
    match (compared, differing.is_empty()) {
        (0, _) => (Standing::NotMeasured, String::new()),
        (_, true) => (Standing::Holds, format!("counted equals closed form in {compared} rows")),
        (_, false) => (Standing::Fails, format!("differs for {}", differing.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_stand_in_the_metrics_direction() {
        let lower = |range| stand(Expect::Better, Better::Lower, range, 0.0, None);
        assert_eq!(lower((-0.2, -0.1)), Standing::Holds);
        assert_eq!(lower((0.1, 0.2)), Standing::Fails);
        assert_eq!(lower((-0.1, 0.1)), Standing::Inconclusive);
        assert_eq!(stand(Expect::Worse, Better::Lower, (1.1, 1.2), 1.0, None), Standing::Holds);
        assert_eq!(stand(Expect::Within, Better::Lower, (0.99, 1.01), 1.0, Some(0.02)), Standing::Holds);
        assert_eq!(stand(Expect::Within, Better::Lower, (0.99, 1.03), 1.0, Some(0.02)), Standing::Inconclusive);
        assert_eq!(stand(Expect::Within, Better::Lower, (1.03, 1.05), 1.0, Some(0.02)), Standing::Fails);
    }

    #[test]
    fn every_claim_is_not_measured_or_not_checked_without_records() {
        let paper = Paper::load().unwrap();
        for claim in &paper.claims {
            let (standing, evidence) = judge(&Records::default(), claim).unwrap();
            let expected = if claim.expect.is_some() { Standing::NotMeasured } else { Standing::NotChecked };
            assert_eq!((standing, evidence.as_str()), (expected, ""), "{}", claim.id);
        }
    }
}
