//! Frontier: for every cost, the probability of each subject to be on the front and the hypervolume it adds.
//!
//! ```text
//! cost | subject | cost value | quality | p_front | hypervolume added [95 %] | most often dominated by (share of draws)
//! ```
//! Source: measurement.md section 12.

use super::Table;
use crate::error::ReportError;
use crate::front::{Front, Ranged, fronts};
use crate::number::{Scale, fixed, significant};
use crate::paper::Paper;
use crate::provenance::Provenance;
use crate::study::Study;
use crate::table::{Content, NumberCell, TableCell, TableData, TableRow};

/// The table of fronts.
pub(super) struct Frontier;

impl Table for Frontier {
    fn name(&self) -> &'static str {
        "frontier"
    }

    fn build(&self, study: &Study, _: &Paper) -> Result<TableData, ReportError> {
        let mut table = TableData::new("frontier", "Frontier: quality against every cost", Provenance::default());
        table.text_column("subject", "Subject");
        table.number_column("cost", "Cost", None);
        table.number_column("quality", "Quality", None);
        table.number_column("p_front", "p_front", None);
        table.number_column("contribution", "Hypervolume added", None);
        table.text_column("dominated_by", "Most often dominated by");
        for front in fronts(study)? {
            rows_of(&mut table, &front);
        }
        table.caption = if table.rows.is_empty() {
            "Nothing was measured.".to_owned()
        } else {
            format!(
                "p_front: share of 2000 bootstrap draws (seeds paired across subjects, workers per subject) in which no other subject \
                 is as good on both axes and better on one; ties within the A/A floor of a cost count as equal. Hypervolume in axes \
                 scaled to a reference point 5 % beyond the worst value of each; brackets: 95 % percentile interval. {}",
                table.describe_intervals()
            )
            .trim_end()
            .to_owned()
        };
        Ok(table)
    }
}

fn rows_of(table: &mut TableData, front: &Front) {
    let cost_scale = Scale::of(
        front.candidates.first().map_or("", |candidate| candidate.cost.unit.as_str()),
        front.candidates.iter().map(|candidate| candidate.cost.value),
    );
    let quality_scale = Scale::of(
        front.candidates.first().map_or("", |candidate| candidate.quality.unit.as_str()),
        front.candidates.iter().map(|candidate| candidate.quality.value),
    );
    let unit = |scale: Scale| if scale.unit.is_empty() { String::new() } else { format!(", {}", scale.unit) };
    let family = front.candidates.first().map_or("", |candidate| candidate.subject.family());
    let family = if family.is_empty() { String::new() } else { format!("{family}: ") };
    let volume = front.volume.map_or_else(String::new, |volume| format!("; hypervolume {}", ranged(volume)));
    let group = format!("{family}{}{} against {}{}{volume}", front.words, unit(cost_scale), front.quality, unit(quality_scale));
    for candidate in &front.candidates {
        let p = match candidate.p_front {
            Some(p) => number(p, None, fixed(p, 2)),
            None => TableCell::missing(table.footnote("fewer than two seeds common to all subjects: no draws")),
        };
        let contribution =
            candidate.contribution.map_or_else(|| Content::Missing.into(), |found| number(found.0, Some(found.1), ranged(found)));
        let rival = candidate
            .dominated_by
            .as_ref()
            .map_or_else(|| "none".to_owned(), |(title, share)| format!("{title} ({})", fixed(*share, 2)));
        let rival = if candidate.p_front.is_some() { TableCell::words(rival) } else { Content::Missing.into() };
        table.rows.push(TableRow {
            group: Some(group.clone()),
            cells: vec![
                TableCell::words(&candidate.title),
                TableCell::estimate(&candidate.cost, cost_scale),
                TableCell::estimate(&candidate.quality, quality_scale),
                p,
                contribution,
                rival,
            ],
        });
    }
}

fn ranged((value, (low, high)): Ranged) -> String {
    format!("{} [{}, {}]", significant(value), significant(low), significant(high))
}

fn number(value: f64, interval: Option<(f64, f64)>, text: String) -> TableCell {
    let scale = Scale::NONE;
    Content::Number(NumberCell { value, interval, n: None, unit: "1".to_owned(), scale, text: Some(text) }).into()
}
