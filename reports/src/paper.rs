//! The published numbers of the paper, as printed, each with its locator and how sure we are of it.
//!
//! ```text
//! paper/table1.toml … table7.toml, figure3.toml, claims.toml   --include_str!-->   Paper
//! cell = "74.95 ± 0.01"   ->   text as printed, value, plus-minus, decimals, mark
//! ```
//! Marks: V read in arXiv v4, V3 in v3 only, D derived, C reference code, U unverified. The printed text is kept, so a table shows
//! what the paper shows; numbers in base units (fractions, bytes, seconds) come from the column's `scale`.
//!
//! Source: paper.md sections 7 and 10, measurement.md section 13.

use std::collections::BTreeMap;

use records::{Better, InnerStat, RecordKind, Row, Source, metric::Metric};
use serde::Deserialize;

use crate::error::ReportError;

const FILES: [(&str, &str); 8] = [
    ("table1.toml", include_str!("../paper/table1.toml")),
    ("table2.toml", include_str!("../paper/table2.toml")),
    ("table3.toml", include_str!("../paper/table3.toml")),
    ("table4.toml", include_str!("../paper/table4.toml")),
    ("table5.toml", include_str!("../paper/table5.toml")),
    ("table6.toml", include_str!("../paper/table6.toml")),
    ("table7.toml", include_str!("../paper/table7.toml")),
    ("figure3.toml", include_str!("../paper/figure3.toml")),
];
const CLAIMS: &str = include_str!("../paper/claims.toml");

/// How a published figure is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Mark {
    /// Read in the text of v4.
    #[default]
    V,
    /// Read in v3 only, or differs between v3 and v4.
    V3,
    /// Derived by arithmetic.
    D,
    /// Read in public reference code.
    C,
    /// Unverified.
    U,
}

impl Mark {
    /// The letter shown beside the number.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V => "V",
            Self::V3 => "V3",
            Self::D => "D",
            Self::C => "C",
            Self::U => "U",
        }
    }
}

/// A column of a published table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperColumn {
    /// Key in `cells`.
    pub key: String,
    /// As shown.
    pub title: String,
    /// Our metric of that name, if there is one.
    pub metric: Option<String>,
    /// Variant, where columns are variants.
    pub variant: Option<String>,
    /// Our unit.
    pub unit: Option<String>,
    /// Printed number × scale = number in our unit; absent for words.
    pub scale: Option<f64>,
}

/// A row of a published table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperRow {
    /// Group heading.
    pub group: Option<String>,
    /// As printed.
    pub label: String,
    /// Variant, where rows are variants.
    pub variant: Option<String>,
    /// Our tasks for it, in order of preference.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Prefix of the leaf tasks, when the task is a group.
    pub leaves: Option<String>,
    /// Our metrics for it, in order of preference.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// Our answer filter, where there are several.
    pub filter: Option<String>,
    /// Printed text by column key.
    pub cells: BTreeMap<String, String>,
    /// Marks that differ from the table's.
    #[serde(default)]
    pub marks: BTreeMap<String, Mark>,
    /// Notes by column key.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

/// A published table or figure.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperTable {
    /// `table1` … `figure3`.
    pub name: String,
    /// As shown.
    pub title: String,
    /// Where in the paper.
    pub locator: String,
    /// Conditions, in words.
    pub setting: String,
    /// How its numbers are known.
    pub mark: Mark,
    /// Columns in order.
    #[serde(rename = "column")]
    pub columns: Vec<PaperColumn>,
    /// Rows in order.
    #[serde(rename = "row")]
    pub rows: Vec<PaperRow>,
}

/// One published number.
#[derive(Clone, Debug, PartialEq)]
pub struct PaperValue {
    /// As printed.
    pub text: String,
    /// The printed number.
    pub value: f64,
    /// The printed ±.
    pub plus_minus: Option<f64>,
    /// Printed decimals.
    pub decimals: usize,
    /// How it is known.
    pub mark: Mark,
}

/// A claim of the paper.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// `C01` …
    pub id: String,
    /// In words.
    pub claim: String,
    /// The number it rests on.
    pub number: Option<String>,
    /// Where in the paper.
    pub locator: String,
    /// What a small-scale reproduction can check.
    pub check: String,
    /// Metrics to judge by, in order of preference.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// Variants it is about.
    #[serde(default)]
    pub variants: Vec<String>,
    /// Variant they are held against.
    pub against: Option<String>,
    /// How it is judged from records.
    pub expect: Expect,
    /// Largest deviation of a ratio, or of a difference in the metric's unit.
    pub margin: Option<f64>,
    /// Share of another gain.
    pub share: Option<f64>,
    /// Record column that a sweep varies, or a cost metric.
    pub column: Option<String>,
    /// Rank of the variant, where there are several.
    pub rank: Option<u64>,
    /// Values of the column that the claim is about.
    #[serde(default)]
    pub values: Vec<u64>,
    /// Values of the column that it calls best.
    #[serde(default)]
    pub best: Vec<u64>,
    /// Setting of the column that should win.
    pub setting: Option<String>,
    /// Setting that should lose.
    pub other: Option<String>,
    /// Stated cost of each variant, as a ratio − 1.
    #[serde(default)]
    pub costs: Vec<f64>,
    /// Published table whose rows it names.
    pub table: Option<String>,
    /// Rows it leaves out.
    #[serde(default)]
    pub except: Vec<String>,
}

/// What a claim says about its variants; see the head of `claims.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// Better in the metric's direction.
    Better,
    /// Worse in the metric's direction.
    Worse,
    /// Ratio within ± margin of 1.
    Within,
    /// Difference within ± margin of 0.
    Equal,
    /// Gains at least a share of what another gains.
    Share,
    /// Best at named values of a column.
    Peak,
    /// Named values gain little.
    Little,
    /// Larger values gain little more.
    Enough,
    /// Values of a column differ.
    Matters,
    /// One setting of a column beats another.
    Setting,
    /// Each variant beats the next.
    Order,
    /// On the Pareto front.
    Front,
    /// Ratios as stated, ± margin.
    Costs,
    /// The same number to the bit.
    Identical,
    /// No failed run, no larger spikes.
    Stable,
    /// Memory grows by one activation per step.
    Activations,
    /// Better on the rows of a table.
    Tasks,
    /// Counted parameters equal the closed form.
    ClosedForm,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "claim")]
    claims: Vec<Claim>,
}

/// Everything the paper publishes that this project looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Paper {
    /// Tables 1 to 7 and Figure 3.
    pub tables: Vec<PaperTable>,
    /// Claims C01 to C33.
    pub claims: Vec<Claim>,
}

impl Paper {
    /// Reads the files built into the program.
    ///
    /// # Errors
    /// When a file does not parse or a cell names no column; a test keeps that from shipping.
    pub fn load() -> Result<Self, ReportError> {
        let bad = |file: &str, what: String| ReportError::Definition { file: format!("reports/paper/{file}"), what };
        let mut tables = Vec::new();
        for (file, text) in FILES {
            let table: PaperTable = toml::from_str(text).map_err(|error| bad(file, error.to_string()))?;
            for row in &table.rows {
                for key in row.cells.keys().chain(row.marks.keys()).chain(row.notes.keys()) {
                    if !table.columns.iter().any(|column| column.key == *key) {
                        return Err(bad(file, format!("row `{}`: expected a column key, found `{key}`", row.label)));
                    }
                }
            }
            tables.push(table);
        }
        let claims: Claims = toml::from_str(CLAIMS).map_err(|error| bad("claims.toml", error.to_string()))?;
        Ok(Self { tables, claims: claims.claims })
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&PaperTable> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Every published number as a record row with `source = "paper"`, in our units.
    pub fn rows(&self) -> Vec<Row> {
        self.tables.iter().flat_map(PaperTable::records).collect()
    }
}

impl PaperTable {
    /// The number in a cell; `None` when the cell is empty or holds words.
    pub fn value(&self, row: &PaperRow, key: &str) -> Option<PaperValue> {
        let text = row.cells.get(key)?;
        let mark = row.marks.get(key).copied().unwrap_or(self.mark);
        let (number, plus_minus) = match text.split_once('±') {
            Some((number, plus_minus)) => (number.trim(), Some(plus_minus.trim().parse().ok()?)),
            None => (text.trim(), None),
        };
        let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        Some(PaperValue { text: text.clone(), value: number.parse().ok()?, plus_minus, decimals, mark })
    }

    /// The row of a variant.
    pub fn row_of_variant(&self, variant: &str) -> Option<&PaperRow> {
        self.rows.iter().find(|row| row.variant.as_deref() == Some(variant))
    }

    /// A column by key.
    pub fn column(&self, key: &str) -> Option<&PaperColumn> {
        self.columns.iter().find(|column| column.key == key)
    }

    fn records(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for row in &self.rows {
            for column in &self.columns {
                let Some(value) = self.value(row, &column.key) else { continue };
                let (Some(scale), Some(unit)) = (column.scale, column.unit.as_deref()) else { continue };
                let name = column.metric.clone().or_else(|| row.metrics.first().cloned()).unwrap_or_else(|| column.key.clone());
                let better = Metric::by_name(&name).map_or(Better::None, |metric| metric.better);
                rows.push(
                    Row {
                        run_id: format!("paper/{}", self.name),
                        source: Source::Paper,
                        kind: RecordKind::Sample,
                        suite: Some(self.name.clone()),
                        task: (!row.tasks.is_empty()).then(|| row.label.clone()),
                        subject: Some(if row.variant.is_some() { row.label.clone() } else { column.title.clone() }),
                        variant: column.variant.clone().or_else(|| row.variant.clone()),
                        metric: name,
                        unit: unit.to_owned(),
                        better,
                        value: Some(value.value * scale),
                        inner_stat: Some(InnerStat::Exact),
                        notes: Some(format!("{}; mark {}; printed {}", self.locator, value.mark.as_str(), value.text)),
                        ..Row::default()
                    }
                    .seal(),
                );
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_parses_and_cells_with_a_scale_are_numbers() {
        let paper = Paper::load().unwrap();
        assert_eq!((paper.tables.len(), paper.claims.len()), (8, 33));
        for table in &paper.tables {
            for row in &table.rows {
                for column in table.columns.iter().filter(|column| column.scale.is_some()) {
                    let printed = row.cells.contains_key(&column.key);
                    assert_eq!(table.value(row, &column.key).is_some(), printed, "{} {} {}", table.name, row.label, column.key);
                }
            }
        }
    }

    #[test]
    fn a_cell_keeps_text_value_spread_and_decimals() {
        let paper = Paper::load().unwrap();
        let table = paper.table("table1").unwrap();
        let value = table.value(table.row_of_variant("rw").unwrap(), "accuracy").unwrap();
        assert_eq!(
            value,
            PaperValue { text: "75.10 ± 0.10".into(), value: 75.10, plus_minus: Some(0.10), decimals: 2, mark: Mark::V }
        );
        let words = paper.table("figure3").unwrap();
        assert_eq!(words.value(&words.rows[0], "words"), None);
    }

    #[test]
    fn paper_rows_are_in_our_units() {
        let paper = Paper::load().unwrap();
        let rows = paper.rows();
        let row = rows.iter().find(|row| row.suite.as_deref() == Some("table5") && row.metric == "params_total").unwrap();
        assert_eq!((row.value, row.unit.as_str(), row.source), (Some(157.20e6), "params", Source::Paper));
        assert!(rows.iter().all(|row| row.check().is_ok()));
    }

    #[test]
    fn every_claim_says_what_its_check_needs() {
        for claim in Paper::load().unwrap().claims {
            let id = &claim.id;
            let needs = |is_there: bool, what: &str| assert!(is_there, "{id} lacks {what}");
            needs(claim.expect == Expect::Tasks || !claim.metrics.is_empty(), "metrics");
            needs(claim.expect == Expect::ClosedForm || !claim.variants.is_empty(), "variants");
            match claim.expect {
                Expect::Within | Expect::Equal | Expect::Stable => needs(claim.margin.is_some(), "margin"),
                Expect::Costs => needs(claim.costs.len() == claim.variants.len() && claim.margin.is_some(), "costs"),
                Expect::Share => needs(claim.share.is_some() && claim.against.is_some(), "share"),
                Expect::Peak => needs(!claim.best.is_empty() && claim.column.is_some(), "best"),
                Expect::Little => needs(!claim.best.is_empty() && !claim.values.is_empty(), "values"),
                Expect::Enough => needs(!claim.values.is_empty() && claim.share.is_some(), "values"),
                Expect::Setting => needs(claim.setting.is_some() && claim.other.is_some(), "setting"),
                Expect::Tasks => needs(claim.table.is_some(), "table"),
                Expect::Matters | Expect::Front | Expect::Activations => needs(claim.column.is_some(), "column"),
                _ => {}
            }
        }
    }
}
