//! Tables: functions of records and published numbers. One file per table or layout; the list below is the only registry.
//!
//! ```text
//! quality layout   task × subjects: value ± interval, n, paper beside ours, setting      table2 table3 table7 quality
//! variant layout   variant × costs: value ± interval, relative to the reference          table1 table4 table5 table6 efficiency
//! gains            paired differences with Holm's correction and the detectable size
//! frontier         who is on the front of each cost, with its probability and hypervolume
//! equal_budget     gain over naive scaling of the same cost, and the saving factor
//! claims           what the paper claims, and what these records say
//! ```
//! Paper and measured values come from different scale and hardware and are never subtracted; the setting column says so in words.
//!
//! Source: measurement.md section 13.

pub mod claims;
mod equal_budget;
mod frontier;
mod gains;
pub mod groups;
mod quality;
pub mod variants;

pub(crate) use groups::with_groups;
pub(crate) use quality::primary_query;

use crate::error::ReportError;
use crate::paper::Paper;
use crate::study::Study;
use crate::table::TableData;

/// A table that can be asked for by name.
pub trait Table {
    /// Name on the command line, file stem and anchor.
    fn name(&self) -> &'static str;

    /// Builds it; a table without measured rows shows the published numbers alone.
    ///
    /// # Errors
    /// When an estimator refuses the values.
    fn build(&self, study: &Study, paper: &Paper) -> Result<TableData, ReportError>;
}

/// Every table, in the order of a report.
pub fn all() -> Vec<Box<dyn Table>> {
    vec![
        Box::new(quality::Quality),
        Box::new(gains::Gains),
        Box::new(variants::EFFICIENCY),
        Box::new(frontier::Frontier),
        Box::new(equal_budget::EqualBudgetTable),
        Box::new(variants::TABLE1),
        Box::new(quality::PaperQuality::TABLE2),
        Box::new(quality::PaperQuality::TABLE3),
        Box::new(variants::TABLE4),
        Box::new(variants::TABLE5),
        Box::new(variants::TABLE6),
        Box::new(quality::PaperQuality::TABLE7),
        Box::new(claims::Claims),
    ]
}

/// A table by name.
///
/// # Errors
/// When there is none of that name; the message lists them.
pub fn by_name(name: &str) -> Result<Box<dyn Table>, ReportError> {
    all().into_iter().find(|table| table.name() == name).ok_or_else(|| ReportError::Unknown {
        kind: "table",
        expected: all().iter().map(|table| table.name()).collect::<Vec<_>>().join(", "),
        found: name.to_owned(),
    })
}

/// `demo; 5-shot; limit 60; task version 1`: the setting of a row, in words.
pub(crate) fn setting(row: &records::Row) -> String {
    let mut parts = Vec::new();
    parts.extend(row.tier.map(|tier| tier.as_str().to_owned()));
    parts.extend(row.num_fewshot.map(|shots| format!("{shots}-shot")));
    parts.extend(row.limit.map(|limit| format!("limit {limit}")));
    parts.extend(row.task_version.as_ref().map(|version| format!("version {version}")));
    parts.extend(row.eval_profile.filter(|profile| *profile == records::EvalProfile::Compat).map(|_| "compat".to_owned()));
    parts.join("; ")
}
