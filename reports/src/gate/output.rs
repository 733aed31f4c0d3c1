//! A gate report for people and for programs: terminal text, Markdown for a pull-request comment, JSON.
//!
//! ```text
//! verdict first, then one line per cell: metric, cell, reference, candidate, change with interval, limit, floor, n, verdict
//! ```
//! Source: measurement.md section 11 ("Outputs").

use std::fmt::Write as _;

use super::{CellResult, GateReport, RuleKind, RuleResult, Verdict};
use crate::escape;
use crate::number::{MISSING, fixed, quantity, ratio_pct};

/// Widest text output, columns.
const WIDTH: usize = 100;

/// The whole report as one JSON object, pretty, with a final newline.
pub fn json(report: &GateReport) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report holds only strings, numbers and lists");
    text.push('\n');
    text
}

/// One line that says how it went.
pub fn headline(report: &GateReport) -> String {
    let mut counts = Vec::new();
    for verdict in [
        Verdict::Fail,
        Verdict::Missing,
        Verdict::NotComparable,
        Verdict::TooNoisy,
        Verdict::Inconclusive,
        Verdict::Quarantined,
        Verdict::Pass,
    ] {
        let count = report.count(verdict);
        if count > 0 {
            counts.push(format!("{count} {}", verdict.as_str().replace('_', " ")));
        }
    }
    format!("gate: {} ({} rules: {})", report.verdict.as_str().replace('_', " "), report.rules.len(), counts.join(", "))
}

/// Change as shown: a percentage for costs, points for fractions.
pub(super) fn change(rule: &RuleResult, cell: &CellResult) -> String {
    let Some(change) = cell.change else { return MISSING.to_owned() };
    if rule.rule.kind == RuleKind::Quality {
        let (scale, unit) = if rule.unit == "fraction" { (100.0, " points") } else { (1.0, "") };
        let show = |x: f64| format!("{}{}", if x > 0.0 { "+" } else { "" }, fixed(scale * x, 3));
        let range = cell.interval.map_or_else(String::new, |(low, high)| format!(" [{}, {}]", show(low), show(high)));
        return format!("{}{unit}{range}", show(change));
    }
    let range =
        cell.interval.map_or_else(String::new, |(low, high)| format!(" [{}, {}]", ratio_pct(1.0 + low), ratio_pct(1.0 + high)));
    format!("{}{range}", ratio_pct(1.0 + change))
}

/// Limit as shown, in the rule's own meaning.
pub(super) fn limit(rule: &RuleResult) -> String {
    match (rule.rule.kind, rule.rule.max) {
        (_, Some(max)) => format!("≤ {}", quantity(max, &rule.unit)),
        (RuleKind::Exact, _) if rule.rule.limit() == 0.0 => "equal".to_owned(),
        (RuleKind::Exact, _) => format!("± {}", quantity(rule.rule.limit(), &rule.unit)),
        (RuleKind::Quality, _) => format!("margin {}", quantity(rule.rule.limit(), &rule.unit)),
        _ => ratio_pct(1.0 + rule.rule.limit()),
    }
}

fn side(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| MISSING.to_owned(), |value| quantity(value, unit))
}

fn floor(cell: &CellResult) -> String {
    cell.floor.map_or_else(|| MISSING.to_owned(), |floor| format!("±{} %", fixed(100.0 * floor, 2)))
}

/// For a terminal; fits 100 columns, readable without colour.
pub fn text(report: &GateReport) -> String {
    let mut out = headline(report);
    out.push('\n');
    for rule in &report.rules {
        let _ = writeln!(out, "\n{:<14} {}  [{}, {}]", rule.verdict, rule.rule.name, rule.rule.kind.as_str(), rule.rule.metric);
        for cell in &rule.cells {
            let _ = writeln!(
                out,
                "  {}: {} -> {}  {}  limit {}  floor {}  n {}",
                cell.cell,
                side(cell.reference, &rule.unit),
                side(cell.candidate, &rule.unit),
                change(rule, cell),
                limit(rule),
                floor(cell),
                cell.n
            );
            for line in wrap(&format!("{}: {}", cell.verdict, cell.reason), WIDTH - 4) {
                let _ = writeln!(out, "    {line}");
            }
        }
    }
    out
}

/// Breaks at spaces so that no line is longer than `width` characters, unless a single word is.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// For a pull-request comment: verdict, table, details folded.
pub fn markdown(report: &GateReport) -> String {
    let mut out = format!("**{}**\n\n", escape::markdown(&headline(report)));
    out.push_str("| Metric | Cell | Reference | Candidate | Change [95 %] | Limit | Floor | n | Verdict |\n");
    out.push_str("|---|---|--:|--:|--:|--:|--:|--:|---|\n");
    for rule in &report.rules {
        for cell in &rule.cells {
            let columns = [
                rule.rule.metric.clone(),
                cell.cell.clone(),
                side(cell.reference, &rule.unit),
                side(cell.candidate, &rule.unit),
                change(rule, cell),
                limit(rule),
                floor(cell),
                cell.n.to_string(),
                cell.verdict.as_str().replace('_', " "),
            ];
            let shown: Vec<String> = columns.iter().map(|text| escape::markdown(text)).collect();
            let _ = writeln!(out, "| {} |", shown.join(" | "));
        }
    }
    out.push_str("\n<details><summary>Details</summary>\n\n");
    for rule in &report.rules {
        for cell in &rule.cells {
            let line = format!("{}, {}: {}", rule.rule.name, cell.cell, cell.reason);
            let _ = writeln!(out, "- {}", escape::markdown(&line));
        }
    }
    out.push('\n');
    for (key, value) in &report.provenance.lines {
        let _ = writeln!(out, "- {}: {}", escape::markdown(key), escape::markdown(value));
    }
    out.push_str("\n</details>\n");
    out
}
