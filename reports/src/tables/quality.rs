//! Quality tables: one row per task, one column per subject, the paper's numbers beside ours.
//!
//! ```text
//! task | metric | subject … (value ± 95 % half-width) | n | paper … (as printed) | setting
//! ```
//! `table2`, `table3`, `table7` follow the paper's rows; `quality` lists every task, metric and filter that was measured.
//!
//! Source: measurement.md sections 9 and 13.

use std::collections::BTreeSet;

use records::{RecordKind, Source};

use super::groups::with_groups;
use super::{Table, setting};
use crate::compare::{Difference, correct, difference};
use crate::error::ReportError;
use crate::number::Scale;
use crate::paper::{Paper, PaperRow, PaperTable};
use crate::provenance::Provenance;
use crate::study::{Group, Study};
use crate::subject::{Found, Query, Subject, estimate, reference_of, subjects, titles};
use crate::table::{BOLD_RULE, Content, TableCell, TableData, TableRow};

/// A table of the paper with our scores beside it.
pub(super) struct PaperQuality(&'static str);

impl PaperQuality {
    pub(super) const TABLE2: Self = Self("table2");
    pub(super) const TABLE3: Self = Self("table3");
    pub(super) const TABLE7: Self = Self("table7");
}

/// One line of a quality table, before its cells.
struct Line<'a> {
    group: Option<String>,
    label: String,
    query: Query<'a>,
    paper: Option<&'a PaperRow>,
}

impl Table for PaperQuality {
    fn name(&self) -> &'static str {
        self.0
    }

    fn build(&self, study: &Study, paper: &Paper) -> Result<TableData, ReportError> {
        let study = &with_groups(study, paper)?;
        let source = paper.table(self.0).ok_or_else(|| ReportError::Definition {
            file: format!("reports/paper/{}.toml", self.0),
            what: "expected a table, found none".to_owned(),
        })?;
        let lines = source
            .rows
            .iter()
            .map(|row| Line {
                group: row.group.clone(),
                label: row.label.clone(),
                query: primary_query(study, row),
                paper: Some(row),
            })
            .collect();
        build(study, self.0, &source.title, lines, Some(source))
    }
}

/// Every measured task, metric and filter.
pub(super) struct Quality;

impl Table for Quality {
    fn name(&self) -> &'static str {
        "quality"
    }

    fn build(&self, study: &Study, paper: &Paper) -> Result<TableData, ReportError> {
        let study = &with_groups(study, paper)?;
        let keys: BTreeSet<(&str, &str, Option<&str>)> = study
            .groups()
            .filter(|group| is_score(group))
            .filter_map(|group| {
                Some((group.shared.task.as_deref()?, group.shared.metric.as_str(), group.shared.filter.as_deref()))
            })
            .collect();
        let lines = keys
            .into_iter()
            .map(|(task, metric, filter)| Line {
                group: None,
                label: task.to_owned(),
                query: Query { metric, task: Some(task), filter },
                paper: None,
            })
            .collect();
        build(study, "quality", "Quality: every measured task and metric", lines, None)
    }
}

/// Whether rows are scores of a model on a task.
pub(super) fn is_score(group: &Group) -> bool {
    let row = &group.shared;
    row.task.is_some()
        && row.source == Source::Measured
        && !group.is_by_worker
        && matches!(row.kind, RecordKind::Sample | RecordKind::Document)
}

/// Our task, metric and filter for a row of the paper: the first of its preferences that was measured.
pub(crate) fn primary_query<'a>(study: &'a Study, row: &'a PaperRow) -> Query<'a> {
    for task in &row.tasks {
        for metric in &row.metrics {
            let is_wanted = |group: &&Group| {
                group.shared.task.as_deref() == Some(task.as_str()) && group.shared.metric == *metric && is_score(group)
            };
            let found: BTreeSet<Option<&str>> =
                study.groups().filter(is_wanted).map(|group| group.shared.filter.as_deref()).collect();
            let Some(first) = found.first() else { continue };
            let wanted = row.filter.as_deref().filter(|filter| found.contains(&Some(filter)));
            return Query { metric, task: Some(task), filter: wanted.or(*first) };
        }
    }
    let metric = row.metrics.first().map_or("", String::as_str);
    Query { metric, task: Some(row.tasks.first().map_or("", String::as_str)), filter: None }
}

fn build(
    study: &Study,
    name: &str,
    title: &str,
    lines: Vec<Line<'_>>,
    paper: Option<&PaperTable>,
) -> Result<TableData, ReportError> {
    let tasks: Vec<&str> = lines.iter().filter_map(|line| line.query.task).collect();
    let all = subjects(study, |group| is_score(group) && group.shared.task.as_deref().is_some_and(|task| tasks.contains(&task)));
    let mut table = TableData::new(name, title, Provenance::default());
    table.text_column("task", "Task");
    table.text_column("metric", "Metric");
    for (subject, title) in all.iter().zip(titles(&all)) {
        table.number_column(&subject.name, &title, Some("Measured"));
    }
    if !all.is_empty() {
        table.number_column("n", "n", Some("Measured"));
    }
    for column in paper.iter().flat_map(|paper| &paper.columns) {
        table.number_column(&format!("paper_{}", column.key), &column.title, Some("Paper"));
    }
    if !all.is_empty() {
        table.text_column("setting", "Our setting");
    }
    let gains = gains_of(study, &all, &lines)?;
    for line in &lines {
        let row = row_of(&mut table, study, &all, line, &gains, paper)?;
        table.rows.push(row);
    }
    table.caption = caption(&table, paper, &all);
    Ok(table)
}

/// Holm-corrected paired differences of every line and subject against its reference.
fn gains_of(study: &Study, all: &[Subject], lines: &[Line<'_>]) -> Result<Vec<Difference>, ReportError> {
    let mut gains = Vec::new();
    for line in lines {
        for subject in all {
            if let Some(reference) = reference_of(subject, all).filter(|reference| *reference != subject) {
                gains.extend(difference(study, reference, subject, line.query)?);
            }
        }
    }
    correct(&mut gains)?;
    Ok(gains)
}

fn row_of(
    table: &mut TableData,
    study: &Study,
    all: &[Subject],
    line: &Line<'_>,
    gains: &[Difference],
    paper: Option<&PaperTable>,
) -> Result<TableRow, ReportError> {
    let shown_metric = match line.query.filter {
        Some(filter) => format!("{}, {filter}", line.query.metric),
        None => line.query.metric.to_owned(),
    };
    let mut cells = vec![TableCell::words(&line.label), TableCell::words(shown_metric)];
    let mut counts: Vec<String> = Vec::new();
    for subject in all {
        let found = estimate(study, subject, line.query)?;
        let scale = match &found {
            Found::Number(estimate) => Scale::of(&estimate.unit, [estimate.value]),
            _ => Scale::NONE,
        };
        let mut cell = table.found(&found, scale);
        if let Found::Number(estimate) = &found {
            counts.push(format!("{} {}", estimate.n, estimate.basis.as_str()));
        }
        cell.is_bold = gains.iter().any(|gain| {
            gain.candidate == subject.name
                && gain.metric == line.query.metric
                && gain.task.as_deref() == line.query.task
                && (line.query.filter.is_none() || gain.filter.as_deref() == line.query.filter)
                && gain.word() == "better"
        });
        cells.push(cell);
    }
    if !all.is_empty() {
        counts.dedup();
        cells.push(if counts.is_empty() { Content::Missing.into() } else { TableCell::words(counts.join(", ")) });
    }
    if let (Some(paper), Some(row)) = (paper, line.paper) {
        for column in &paper.columns {
            cells.push(paper_cell(table, paper, row, &column.key));
        }
    }
    if !all.is_empty() {
        let like =
            all.iter().flat_map(|subject| line.query.groups(study, subject)).find(|group| is_score(group) && group.is_ok());
        cells.push(like.map_or_else(|| Content::Missing.into(), |group| TableCell::words(setting(&group.shared))));
    }
    Ok(TableRow { group: line.group.clone(), cells })
}

/// A published cell as printed, with its note and, unless it was read in v4, its mark.
pub(super) fn paper_cell(table: &mut TableData, paper: &PaperTable, row: &PaperRow, key: &str) -> TableCell {
    let Some(text) = row.cells.get(key) else {
        return Content::Missing.into();
    };
    let scale = paper.column(key).and_then(|column| column.scale);
    let mut cell: TableCell = match (paper.value(row, key), scale) {
        (Some(value), Some(scale)) => Content::Printed { text: text.clone(), value: value.value * scale }.into(),
        _ => TableCell::words(text),
    };
    if let Some(note) = row.notes.get(key) {
        cell.footnotes.push(table.footnote(format!("paper: {note}")));
    }
    let mark = row.marks.get(key).copied().unwrap_or(paper.mark);
    if mark != crate::paper::Mark::V {
        let words = match mark {
            crate::paper::Mark::V3 => "read in v3 only",
            crate::paper::Mark::D => "derived, not stated by the paper",
            crate::paper::Mark::C => "read in reference code",
            _ => "unverified",
        };
        cell.footnotes.push(table.footnote(format!("paper: {words}")));
    }
    cell
}

fn caption(table: &TableData, paper: Option<&PaperTable>, all: &[Subject]) -> String {
    let mut parts = Vec::new();
    if !all.is_empty() {
        parts.push("Scores in percent where the metric is a fraction.".to_owned());
    }
    parts.push(table.describe_intervals());
    if table.uses_bold() {
        parts.push(BOLD_RULE.to_owned());
    }
    if let Some(paper) = paper {
        parts.push(format!("Paper: {}; {}.", paper.locator, paper.setting));
        if all.is_empty() {
            parts.push("Nothing was measured; the published numbers stand alone.".to_owned());
        } else {
            parts.push("Paper and measured values come from different models and data and are not to be subtracted.".to_owned());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}
