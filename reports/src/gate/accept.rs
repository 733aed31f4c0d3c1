//! Accepting new baselines, with the reason on record, and explaining a rule in words.
//!
//! ```text
//! accepted rows = ok candidate rows of exact, near-exact and quality rules, notes = reason;   other baseline rows stay
//! diff line     = metric, cell, old -> new
//! ```
//! Times and resident sizes are never accepted: another day on a shared machine is another machine.
//!
//! Source: measurement.md section 11 ("Baselines").

use std::collections::BTreeMap;
use std::fmt::Write as _;

use records::{RecordKind, Row, Source, Status};

use super::{GateRules, Rule, RuleKind};
use crate::frame::Records;
use crate::number::ratio_pct;

/// New baseline rows, and what changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// Rows of the new baseline file, sorted.
    pub rows: Vec<Row>,
    /// One line per value that is new or changed: `params_total lm-tiny-rw: 160 -> 192`.
    pub diff: Vec<String>,
}

/// The new baseline: candidate values of the rules that use one replace theirs, everything else stays.
pub fn accept(rules: &GateRules, candidate: &Records, baseline: &Records, reason: &str) -> Accepted {
    let is_stored =
        |rule: &&Rule| matches!(rule.kind, RuleKind::Exact | RuleKind::NearExact | RuleKind::Quality) && rule.max.is_none();
    let stored: Vec<&Rule> = rules.rules.iter().filter(is_stored).collect();
    let fresh: Vec<&Row> = candidate
        .rows()
        .iter()
        .filter(|row| row.source == Source::Measured && row.status == Status::Ok && !row.is_aa && row.kind != RecordKind::Derived)
        .filter(|row| stored.iter().any(|rule| rule.selects(row, &[])))
        .collect();
    let key = |row: &Row| {
        let place = (row.subject.clone(), row.task.clone(), row.filter.clone(), row.doc_id.clone(), row.seed);
        (row.metric.clone(), place, row.batch, row.sequence_length, row.prompt_length, row.output_length)
    };
    let mut rows: BTreeMap<_, Row> = baseline.rows().iter().map(|row| (key(row), row.clone())).collect();
    let mut diff = Vec::new();
    for row in fresh {
        let old = rows.get(&key(row)).and_then(|old| old.value);
        if old == row.value {
            continue;
        }
        let who = [row.subject.as_deref(), row.task.as_deref(), row.doc_id.as_deref()];
        let cell = who.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let new = row.value.unwrap_or_default();
        let mut line = format!("{} {cell}: {} -> {new}", row.metric, old.map_or("none".to_owned(), |old| old.to_string()));
        if let Some(old) = old.filter(|old| *old != 0.0) {
            let _ = write!(line, " ({})", ratio_pct(new / old));
        }
        diff.push(line);
        let accepted = Row { notes: Some(format!("accepted: {reason}")), record_id: String::new(), ..row.clone() };
        rows.insert(key(row), accepted.seal());
    }
    let rows = Records::new(rows.into_values().collect()).rows().to_vec();
    Accepted { rows, diff }
}

/// A rule in words: what it compares, when it passes and fails, and what to do about each verdict.
pub fn explain(rule: &Rule) -> String {
    let limit = ratio_pct(1.0 + rule.limit());
    let mut out = format!("{}: {} rule on `{}`\n", rule.name, rule.kind.as_str(), rule.metric);
    if let Some(why) = &rule.why {
        let _ = writeln!(out, "  why: {why}");
    }
    for (column, value) in &rule.filter {
        let _ = writeln!(out, "  where {column} = {value}");
    }
    let words = match rule.kind {
        RuleKind::Exact => match rule.max {
            Some(max) => format!("Passes when no value is above {max}. Needs no baseline."),
            None => format!(
                "Passes when every value is within {} of the stored baseline. Any machine gives the same value, so there are no \
                 statistics. An intended change is kept with `gate accept --reason`.",
                rule.limit()
            ),
        },
        RuleKind::NearExact => format!(
            "Passes when the value is worse than the stored baseline by at most {limit}. Allocation peaks are compared at one thread only."
        ),
        RuleKind::Noisy => format!(
            "Both arms are measured now, on this machine, in ABBA blocks. Passes when the one-sided bound of the worsening is below \
             {limit}; fails when the other bound is above {limit} and the noise floor, in two independent batches; otherwise more pairs \
             are measured. The floor comes from an A/A control of the same run."
        ),
        RuleKind::Quality => format!(
            "Compares the same documents or seeds. Passes when the one-sided 95 % bound of the gain is above -{}; fails when the whole \
             90 % interval is below it.",
            rule.limit()
        ),
        RuleKind::Budget => format!(
            "Compares a variant with its own `{}` model. Sampled costs follow the noisy rule with budget {limit}; counted ones must not \
             exceed the reference by more than {limit}.",
            rule.reference_variant()
        ),
    };
    let _ = writeln!(out, "  {words}");
    if let Some(quarantine) = &rule.quarantine {
        let _ = writeln!(out, "  quarantined until {}: {}", quarantine.until, quarantine.reason);
    }
    out
}
