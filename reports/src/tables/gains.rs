//! Gains: every subject against its reference, paired, with the interval, Holm-corrected p and the size the design could have shown.
//!
//! ```text
//! subject | task | metric | reference | difference [95 %] | relative % | p (Holm) | detectable | n | word
//! ```
//! The word is `better`, `worse` or `inconclusive`, never a blank; a score difference below three resolution steps is marked.
//!
//! Source: measurement.md section 9.

use std::collections::BTreeMap;

use super::Table;
use super::groups::with_groups;
use crate::compare::{Difference, compare, correct};
use crate::error::ReportError;
use crate::number::{MISSING, Scale, fixed, quantity};
use crate::paper::Paper;
use crate::provenance::Provenance;
use crate::study::Study;
use crate::subject::{Basis, reference_of, subjects, titles};
use crate::table::{Content, NumberCell, TableCell, TableData, TableRow};

/// The table of paired differences.
pub(super) struct Gains;

impl Table for Gains {
    fn name(&self) -> &'static str {
        "gains"
    }

    fn build(&self, study: &Study, paper: &Paper) -> Result<TableData, ReportError> {
        let study = &with_groups(study, paper)?;
        let all = subjects(study, |group| !group.is_by_worker);
        let names = titles(&all);
        let mut found: Vec<(usize, Difference)> = Vec::new();
        for (at, subject) in all.iter().enumerate() {
            let Some(reference) = reference_of(subject, &all).filter(|reference| *reference != subject) else { continue };
            found.extend(compare(study, reference, subject)?.into_iter().filter(is_quality).map(|gain| (at, gain)));
        }
        let mut gains: Vec<Difference> = found.iter().map(|(_, gain)| gain.clone()).collect();
        correct(&mut gains)?;
        let mut table = TableData::new("gains", "Gains over the reference, paired", Provenance::default());
        table.text_column("subject", "Subject");
        table.text_column("task", "Task");
        table.text_column("metric", "Metric");
        for (key, title) in [
            ("reference", "Reference"),
            ("difference", "Difference"),
            ("relative_pct", "Relative, %"),
            ("p_holm", "p (Holm)"),
            ("detectable", "Detectable"),
        ] {
            table.number_column(key, title, None);
        }
        table.text_column("n", "n");
        table.text_column("verdict", "Verdict");
        // The noncentral t distribution is slow, and for a given n the detectable size is proportional to the spread.
        let mut standardised: BTreeMap<usize, Option<f64>> = BTreeMap::new();
        for ((at, _), gain) in found.iter().zip(&gains) {
            let unit_size = *standardised.entry(gain.n).or_insert_with(|| {
                stats::power::minimal_detectable_difference(1.0, gain.n, 0.05, 0.8).ok().map(|found| found.difference)
            });
            let detectable = gain.sd.zip(unit_size).map(|(sd, size)| sd * size);
            let row = row_of(&mut table, &names[*at], gain, detectable);
            table.rows.push(row);
        }
        table.caption = String::from(
            "Difference is candidate minus reference on the same seeds (paired t) or, with one seed, the same documents \
                         (clustered standard error); ± is the half-width of its 95 % interval. p is Holm-corrected over this table; \
                         single binary scores use the exact McNemar test. Detectable: smallest difference the design shows with 80 % power.",
        );
        Ok(table)
    }
}

/// Costs have their own table; gains are about scores and losses.
fn is_quality(gain: &Difference) -> bool {
    !(gain.metric.ends_with("_s")
        || gain.metric.ends_with("_bytes")
        || gain.metric.contains("params")
        || gain.metric.contains("flops"))
        || gain.metric == "acc_bytes"
}

fn row_of(table: &mut TableData, subject: &str, gain: &Difference, detectable: Option<f64>) -> TableRow {
    let scale = Scale::of(&gain.unit, [gain.reference_mean, gain.candidate_mean]);
    let unit = if gain.unit == "fraction" { "points" } else { scale.unit };
    let number = |value: f64, interval: Option<(f64, f64)>| NumberCell {
        value,
        interval,
        n: Some((gain.n, gain.basis)),
        unit: gain.unit.clone(),
        scale,
        text: None,
    };
    let mut difference = number(gain.difference, gain.interval);
    let sign = if gain.difference > 0.0 { "+" } else { "" };
    difference.text = Some(format!("{sign}{} {unit}", difference.text()).trim_end().to_owned());
    let mut cell: TableCell = Content::Number(difference).into();
    // Only accuracies move in steps of one document.
    let is_counted = gain.basis == Basis::Documents && gain.discordant.is_some();
    if is_counted && stats::power::is_below_resolution(100.0 * gain.difference.abs(), gain.n) {
        let step = stats::power::resolution_points(gain.n);
        cell.footnotes.push(table.footnote(format!("below three steps of {} points (one document)", fixed(step, 2))));
    }
    if let Some(reason) = &gain.reason {
        cell.footnotes.push(table.footnote(reason.clone()));
    }
    if let Some((b, c)) = gain.discordant {
        cell.footnotes.push(table.footnote(format!("discordant documents: {b} only the reference, {c} only the candidate")));
    }
    let plain = |text: String| TableCell::words(text);
    let metric = gain.filter.as_ref().map_or_else(|| gain.metric.clone(), |filter| format!("{}, {filter}", gain.metric));
    let p = gain.p_holm.map_or_else(|| MISSING.to_owned(), |p| if p < 0.001 { "< 0.001".to_owned() } else { fixed(p, 3) });
    TableRow {
        group: None,
        cells: vec![
            plain(subject.to_owned()),
            plain(gain.task.clone().unwrap_or_else(|| MISSING.to_owned())),
            plain(metric),
            plain(quantity(gain.reference_mean, &gain.unit)),
            cell,
            plain(gain.relative_pct().map_or_else(|| MISSING.to_owned(), |pct| fixed(pct, 2))),
            plain(p),
            plain(detectable.map_or_else(
                || MISSING.to_owned(),
                |size| format!("{} {unit}", crate::number::significant(size / scale.divisor)).trim_end().to_owned(),
            )),
            plain(format!("{} {}", gain.n, gain.basis.as_str())),
            plain(gain.word().to_owned()),
        ],
    }
}
