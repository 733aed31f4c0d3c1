//! The paper's claims beside what these records say; judged by [`crate::claims`].
//!
//! ```text
//! id | claim | paper's number | where | check | measured | verdict: supported, not supported, unresolved, not run
//! ```
//! Source: paper.md section 10.

use super::Table;
use crate::claims::judge;
use crate::conditions::one_condition;
use crate::error::ReportError;
use crate::number::MISSING;
use crate::paper::Paper;
use crate::provenance::Provenance;
use crate::study::Study;
use crate::table::{TableCell, TableData, TableRow};

/// The table of claims.
pub struct Claims;

impl Table for Claims {
    fn name(&self) -> &'static str {
        "claims"
    }

    fn build(&self, study: &Study, paper: &Paper) -> Result<TableData, ReportError> {
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
        let study = &one_condition(study).study;
        for claim in &paper.claims {
            let found = judge(study, claim, paper)?;
            let texts = [
                claim.id.as_str(),
                &claim.claim,
                claim.number.as_deref().unwrap_or(MISSING),
                &claim.locator,
                &claim.check,
                &found.evidence,
                found.standing.as_str(),
            ];
            table.rows.push(TableRow { group: None, cells: texts.into_iter().map(TableCell::words).collect() });
        }
        table.caption = String::from(
            "A verdict is about the models measured here, at their scale. Differences are turned so that positive is what the claim \
             says; brackets: 95 % interval over paired seeds, or of the paired ratio. A claim is supported when that is shown for \
             everything it names, and not supported when the opposite is shown, corrected for the number of comparisons. Detectable: \
             the smallest difference this design shows with 80 % power.",
        );
        Ok(table)
    }
}
