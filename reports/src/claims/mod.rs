//! The paper's claims, judged from records: what each needs, what was found, and what could have been found.
//!
//! ```text
//! supported       shown for everything the claim names                not supported   the opposite is shown
//! unresolved      neither; with the smallest difference that this design shows with 80 % power
//! not run         something the claim needs is missing; which
//! ```
//! Scale differs from the paper's, so a verdict is about the models measured here. Quality claims are contrasts of paired seeds
//! (`arena`); cost claims are ratios to the own baseline (`costs`).
//!
//! Source: paper.md section 10, measurement.md sections 9, 10 and 13.

mod arena;
mod costs;
mod quality;
mod tasks;

use crate::error::ReportError;
use crate::paper::{Claim, Expect, Paper};
use crate::study::Study;

pub use arena::Contrast;

/// What records say about one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Shown for everything it names.
    Supported,
    /// The opposite is shown.
    NotSupported,
    /// Neither.
    Unresolved,
    /// Something it needs is missing.
    NotRun,
}

impl Standing {
    /// The words of the verdict column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::NotSupported => "not supported",
            Self::Unresolved => "unresolved",
            Self::NotRun => "not run",
        }
    }
}

/// A standing and the evidence for it, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Verdict.
    pub standing: Standing,
    /// What was found, or what is missing.
    pub evidence: String,
}

impl Finding {
    pub(crate) fn new(standing: Standing, evidence: impl Into<String>) -> Self {
        Self { standing, evidence: evidence.into() }
    }

    pub(crate) fn not_run(missing: impl Into<String>) -> Self {
        Self::new(Standing::NotRun, missing)
    }
}

/// One finding of several that must all hold; `missing` names what could not be judged.
pub(crate) fn all_of(findings: Vec<Finding>, missing: &[String]) -> Finding {
    let has = |standing: Standing| findings.iter().any(|finding| finding.standing == standing);
    let mut words: Vec<String> = findings.iter().map(|finding| finding.evidence.clone()).collect();
    if !missing.is_empty() {
        words.push(format!("not measured: {}", missing.join(", ")));
    }
    let standing = if has(Standing::NotSupported) {
        Standing::NotSupported
    } else if findings.is_empty() || !missing.is_empty() || has(Standing::NotRun) {
        Standing::NotRun
    } else if has(Standing::Unresolved) {
        Standing::Unresolved
    } else {
        Standing::Supported
    };
    Finding::new(standing, words.join("; "))
}

/// What records say about a claim.
///
/// # Errors
/// When an estimator refuses the values.
pub fn judge(study: &Study, claim: &Claim, paper: &Paper) -> Result<Finding, ReportError> {
    match claim.expect {
        Expect::ClosedForm => return Ok(costs::closed_form(study)),
        Expect::Tasks => return tasks::judge(study, claim, paper),
        _ => {}
    }
    // The first metric that any of the claim's variants has; then each family of models on its own.
    for metric in &claim.metrics {
        let mut findings = Vec::new();
        for arena in arena::arenas(study, metric) {
            let has_failed = |variant: &String| arena.failure(|subject, _| subject.variant == *variant).is_some();
            let is_named =
                |variant: &String| arena.subject(variant).is_some() || (claim.expect == Expect::Stable && has_failed(variant));
            if !claim.variants.iter().any(is_named) {
                continue;
            }
            let found = match claim.expect {
                Expect::Better | Expect::Worse if arena.is_cost() => costs::one_sided(&arena, claim)?,
                Expect::Better => quality::better(&arena, claim)?,
                Expect::Worse => quality::worse(&arena, claim)?,
                Expect::Within | Expect::Costs => costs::within(&arena, claim)?,
                Expect::Equal => quality::equal(&arena, claim)?,
                Expect::Share => quality::share(&arena, claim)?,
                Expect::Peak => quality::peak(&arena, claim)?,
                Expect::Little => quality::little(&arena, claim)?,
                Expect::Enough => quality::enough(&arena, claim)?,
                Expect::Matters => quality::matters(&arena, claim)?,
                Expect::Setting => quality::setting(&arena, claim)?,
                Expect::Order => quality::order(&arena, claim)?,
                Expect::Front => quality::front(&arena, claim)?,
                Expect::Identical => costs::identical(&arena, claim),
                Expect::Stable => costs::stable(&arena, claim),
                Expect::Activations => costs::activations(&arena, claim),
                Expect::ClosedForm | Expect::Tasks => unreachable!("returned above"),
            };
            let evidence =
                if arena.family().is_empty() { found.evidence } else { format!("{}: {}", arena.family(), found.evidence) };
            findings.push(Finding { evidence, ..found });
        }
        // A family that lacks what the claim needs does not hide one that has it.
        let is_run = |finding: &Finding| finding.standing != Standing::NotRun;
        if findings.iter().any(is_run) {
            findings.retain(is_run);
        }
        if !findings.is_empty() {
            let found = all_of(findings, &[]);
            return Ok(Finding { evidence: format!("{metric}: {}", found.evidence), ..found });
        }
    }
    Ok(Finding::not_run(format!("needs {} of {}", claim.metrics.join(" or "), claim.variants.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_records_every_claim_is_not_run_and_says_what_it_needs() {
        let paper = Paper::load().unwrap();
        for claim in &paper.claims {
            let found = judge(&Study::default(), claim, &paper).unwrap();
            assert_eq!(found.standing, Standing::NotRun, "{}", claim.id);
            assert!(found.evidence.contains("needs "), "{}: {}", claim.id, found.evidence);
        }
    }

    #[test]
    fn all_must_hold_and_one_against_decides() {
        let found = |standing| Finding::new(standing, "x");
        let standing = |list: &[Standing]| all_of(list.iter().map(|s| found(*s)).collect(), &[]).standing;
        assert_eq!(standing(&[Standing::Supported, Standing::Supported]), Standing::Supported);
        assert_eq!(standing(&[Standing::Supported, Standing::Unresolved]), Standing::Unresolved);
        assert_eq!(standing(&[Standing::Unresolved, Standing::NotSupported]), Standing::NotSupported);
        assert_eq!(all_of(vec![found(Standing::Supported)], &["LR".to_owned()]).standing, Standing::NotRun);
        assert_eq!(standing(&[]), Standing::NotRun);
    }
}
