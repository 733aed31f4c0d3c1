//! "Better on all tasks but …": each row of a published table, paired over seeds or documents, Holm-corrected together.
//!
//! ```text
//! supported       every named row is shown better          not supported   some named row is shown worse
//! unresolved      neither: how many rows point which way   not run         fewer rows measured than the claim names
//! ```
//! Source: paper.md section 10 (C22, C24), section 7 for the tables.

use super::{Finding, Standing};
use crate::compare::{correct, difference};
use crate::error::ReportError;
use crate::paper::{Claim, Paper};
use crate::study::Study;
use crate::subject::subjects;
use crate::tables::{primary_query, with_groups};

pub(super) fn judge(study: &Study, claim: &Claim, paper: &Paper) -> Result<Finding, ReportError> {
    let study = &with_groups(study, paper)?;
    let Some(table) = claim.table.as_deref().and_then(|name| paper.table(name)) else {
        return Ok(Finding::not_run("needs a published table"));
    };
    let all = subjects(study, |group| group.shared.task.is_some());
    let against = claim.against.as_deref().unwrap_or("plain");
    let pair = all.iter().filter(|subject| claim.variants.contains(&subject.variant)).find_map(|candidate| {
        let reference = all.iter().find(|other| other.variant == against && other.family() == candidate.family())?;
        Some((reference, candidate))
    });
    let rows: Vec<_> = table.rows.iter().filter(|row| !claim.except.contains(&row.label)).collect();
    let Some((reference, candidate)) = pair else {
        return Ok(Finding::not_run(format!(
            "needs scores of {} and {against} on {} tasks",
            claim.variants.join(", "),
            rows.len()
        )));
    };
    let mut found = Vec::new();
    for row in &rows {
        found.extend(difference(study, reference, candidate, primary_query(study, row))?);
    }
    if found.is_empty() {
        return Ok(Finding::not_run(format!(
            "needs scores of {} and {against} on {} tasks",
            claim.variants.join(", "),
            rows.len()
        )));
    }
    correct(&mut found)?;
    let count = |word: &str| found.iter().filter(|difference| difference.word() == word).count();
    let sign = |test: fn(f64) -> bool| found.iter().filter(|difference| test(difference.difference)).count();
    let words = format!(
        "{} of {} tasks measured: {} higher, {} lower, {} equal; shown better {}, shown worse {}",
        found.len(),
        rows.len(),
        sign(|d| d > 0.0),
        sign(|d| d < 0.0),
        sign(|d| d == 0.0),
        count("better"),
        count("worse")
    );
    let standing = if count("worse") > 0 {
        Standing::NotSupported
    } else if found.len() < rows.len() {
        Standing::NotRun
    } else if count("better") == rows.len() {
        Standing::Supported
    } else {
        Standing::Unresolved
    };
    let missing = if found.len() < rows.len() { "; needs all of them" } else { "" };
    Ok(Finding::new(standing, format!("{words}{missing}")))
}
