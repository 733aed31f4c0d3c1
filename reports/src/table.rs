//! `TableData`: a table before it is Markdown, LaTeX, CSV, JSON, HTML or text.
//!
//! ```text
//! column   key, title, group above it, alignment          cell   text | number (base unit, interval, n) | missing | failed
//! ```
//! A cell keeps the number at full precision beside its rounded text: people read `65.12 ± 0.81`, machines read the value. Missing is
//! `—` with a footnote, failed says so, bold is set only by the rule that the caption states.
//!
//! Source: measurement.md sections 13 and 15, style.md section 7.

use serde::Serialize;

use crate::number::{self, MISSING, Scale};
use crate::provenance::Provenance;
use crate::subject::{Basis, Estimate, Found};

/// Sentence of every caption whose table uses bold.
pub const BOLD_RULE: &str =
    "Bold: better than the reference, the 95 % interval of the paired difference excluding 0 after Holm's correction.";

/// Horizontal alignment of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Align {
    /// Text.
    #[default]
    Left,
    /// Numbers.
    Right,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableColumn {
    /// Machine name, unique in the table.
    pub key: String,
    /// As shown, with the unit.
    pub title: String,
    /// Heading over neighbouring columns.
    pub group: Option<String>,
    /// Alignment.
    pub align: Align,
}

/// What a cell says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Words.
    Text(String),
    /// A measured or derived number.
    Number(NumberCell),
    /// A published figure, as printed.
    Printed {
        /// As printed.
        text: String,
        /// In our unit.
        value: f64,
    },
    /// Nothing to show; a footnote says why.
    Missing,
    /// Measured and failed.
    Failed(String),
}

/// A number in its base unit and how to show it.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberCell {
    /// The number.
    pub value: f64,
    /// Ends of its interval.
    pub interval: Option<(f64, f64)>,
    /// Of how many, and what.
    pub n: Option<(usize, Basis)>,
    /// Base unit.
    pub unit: String,
    /// How the column shows the unit.
    pub scale: Scale,
    /// Shown text, when it is not value ± half-width.
    pub text: Option<String>,
}

impl NumberCell {
    /// As shown.
    pub fn text(&self) -> String {
        if let Some(text) = &self.text {
            return text.clone();
        }
        if matches!(self.n, Some((_, Basis::Exact))) {
            return number::exact(self.value / self.scale.divisor, self.scale.divisor > 1.0);
        }
        let half = self.interval.map(|(low, high)| (self.value - low).max(high - self.value));
        number::estimate(self.value / self.scale.divisor, half.map(|half| half / self.scale.divisor))
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub struct TableCell {
    /// What it says.
    pub content: Content,
    /// Set in bold, by the caption's rule.
    pub is_bold: bool,
    /// Numbers of its footnotes, from 1.
    pub footnotes: Vec<usize>,
}

impl From<Content> for TableCell {
    fn from(content: Content) -> Self {
        Self { content, is_bold: false, footnotes: Vec::new() }
    }
}

impl TableCell {
    /// A cell of words.
    pub fn words(text: impl Into<String>) -> Self {
        Content::Text(text.into()).into()
    }

    /// A missing cell with its footnote.
    pub fn missing(footnote: usize) -> Self {
        Self { footnotes: vec![footnote], ..Content::Missing.into() }
    }

    /// A number without an interval.
    pub fn number(value: f64, unit: &str, scale: Scale) -> Self {
        Content::Number(NumberCell { value, interval: None, n: None, unit: unit.to_owned(), scale, text: None }).into()
    }

    /// An estimate, shown in the column's scale.
    pub fn estimate(estimate: &Estimate, scale: Scale) -> Self {
        Content::Number(NumberCell {
            value: estimate.value,
            interval: estimate.interval,
            n: Some((estimate.n, estimate.basis)),
            unit: estimate.unit.clone(),
            scale,
            text: None,
        })
        .into()
    }

    /// As shown, without footnote marks.
    pub fn text(&self) -> String {
        match &self.content {
            Content::Text(text) | Content::Printed { text, .. } => text.clone(),
            Content::Number(number) => number.text(),
            Content::Missing => MISSING.to_owned(),
            Content::Failed(_) => "failed".to_owned(),
        }
    }

    /// The number behind the cell, base unit.
    pub fn value(&self) -> Option<f64> {
        match &self.content {
            Content::Number(number) => Some(number.value),
            Content::Printed { value, .. } => Some(*value),
            _ => None,
        }
    }
}

/// A row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableRow {
    /// Heading above it; repeated for the rows of one group.
    pub group: Option<String>,
    /// One cell per column.
    pub cells: Vec<TableCell>,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableData {
    /// Machine name: file stem and anchor.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What is shown, what ± means, n, the bold rule.
    pub caption: String,
    /// Columns.
    pub columns: Vec<TableColumn>,
    /// Rows.
    pub rows: Vec<TableRow>,
    /// Footnotes, numbered from 1.
    pub footnotes: Vec<String>,
    /// Where the numbers come from.
    pub provenance: Provenance,
}

impl TableData {
    /// An empty table.
    pub fn new(name: &str, title: &str, provenance: Provenance) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            caption: String::new(),
            columns: Vec::new(),
            rows: Vec::new(),
            footnotes: Vec::new(),
            provenance,
        }
    }

    /// Adds a column of words.
    pub fn text_column(&mut self, key: &str, title: &str) {
        self.column(key, title, None, Align::Left);
    }

    /// Adds a column of numbers.
    pub fn number_column(&mut self, key: &str, title: &str, group: Option<&str>) {
        self.column(key, title, group, Align::Right);
    }

    fn column(&mut self, key: &str, title: &str, group: Option<&str>, align: Align) {
        let (key, title, group) = (key.to_owned(), title.to_owned(), group.map(str::to_owned));
        self.columns.push(TableColumn { key, title, group, align });
    }

    /// Number of a footnote; the same words are noted once.
    pub fn footnote(&mut self, words: impl Into<String>) -> usize {
        let words = words.into();
        if let Some(at) = self.footnotes.iter().position(|note| *note == words) {
            return at + 1;
        }
        self.footnotes.push(words);
        self.footnotes.len()
    }

    /// The cell for a finding: number, failure with its reason, or missing.
    pub fn found(&mut self, found: &Found, scale: Scale) -> TableCell {
        match found {
            Found::Number(estimate) => {
                let mut cell = TableCell::estimate(estimate, scale);
                if estimate.contended > 0 {
                    let (contended, n) = (estimate.contended, estimate.n);
                    cell.footnotes.push(self.footnote(format!("{contended} of {n} samples contended")));
                }
                cell
            }
            Found::Failed(reason) => {
                let note = self.footnote(reason.clone());
                TableCell { footnotes: vec![note], ..Content::Failed(reason.clone()).into() }
            }
            Found::Nothing => TableCell::missing(self.footnote("not measured")),
        }
    }

    /// Whether any cell is bold, and so whether the caption must state the rule.
    pub fn uses_bold(&self) -> bool {
        self.rows.iter().flat_map(|row| &row.cells).any(|cell| cell.is_bold)
    }

    /// Whether no cell holds a measured number.
    pub fn is_empty_of_measurements(&self) -> bool {
        !self.rows.iter().flat_map(|row| &row.cells).any(|cell| matches!(cell.content, Content::Number(_)))
    }

    /// `2 seeds`, `200 documents`: the distinct n of a column's numbers, joined.
    pub fn describe_n(&self) -> String {
        let mut found: Vec<(Basis, usize)> = self
            .rows
            .iter()
            .flat_map(|row| &row.cells)
            .filter_map(|cell| match &cell.content {
                Content::Number(NumberCell { n: Some((n, basis)), .. }) if *basis != Basis::Exact => Some((*basis, *n)),
                _ => None,
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        let mut parts = Vec::new();
        for basis in [Basis::Seeds, Basis::Documents, Basis::Workers] {
            let counts: Vec<usize> = found.iter().filter(|(b, _)| *b == basis).map(|(_, n)| *n).collect();
            match (counts.first(), counts.last()) {
                (Some(low), Some(high)) if low == high => parts.push(format!("{low} {}", basis.as_str())),
                (Some(low), Some(high)) => parts.push(format!("{low} to {high} {}", basis.as_str())),
                _ => {}
            }
        }
        parts.join(", ")
    }

    /// Caption sentence on what ± means, from the cells actually there; empty without intervals.
    pub fn describe_intervals(&self) -> String {
        let has = |basis: Basis| {
            self.rows.iter().flat_map(|row| &row.cells).any(|cell| {
                matches!(&cell.content, Content::Number(NumberCell { interval: Some(_), n: Some((_, b)), .. }) if *b == basis)
            })
        };
        let mut parts = Vec::new();
        if has(Basis::Seeds) {
            parts.push("over seeds (t)");
        }
        if has(Basis::Documents) {
            parts.push("over documents of one seed (1.96 standard errors, clustered where clusters exist)");
        }
        if has(Basis::Workers) {
            parts.push("of the median over measuring processes (order statistics)");
        }
        if parts.is_empty() {
            return String::new();
        }
        format!("± is the half-width of the 95 % interval {}; n: {}.", parts.join(", or "), self.describe_n())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_footnote_is_numbered_once() {
        let mut table = TableData::new("t", "T", Provenance::default());
        assert_eq!((table.footnote("a"), table.footnote("b"), table.footnote("a")), (1, 2, 1));
    }

    #[test]
    fn a_number_shows_value_and_half_width_in_the_columns_scale() {
        let estimate = Estimate {
            value: 0.012_34,
            interval: Some((0.012_14, 0.012_54)),
            n: 12,
            basis: Basis::Workers,
            unit: "s".into(),
            contended: 0,
        };
        let cell = TableCell::estimate(&estimate, Scale::of("s", [0.012_34]));
        assert_eq!((cell.text().as_str(), cell.value()), ("12.34 ± 0.20", Some(0.012_34)));
    }

    #[test]
    fn missing_and_failed_are_words_with_a_reason() {
        let mut table = TableData::new("t", "T", Provenance::default());
        let failed = table.found(&Found::Failed("oom: killed".into()), Scale::NONE);
        let missing = table.found(&Found::Nothing, Scale::NONE);
        assert_eq!((failed.text().as_str(), missing.text().as_str()), ("failed", "—"));
        assert_eq!(table.footnotes, ["oom: killed", "not measured"]);
    }
}
