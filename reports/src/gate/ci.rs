//! A gate report for continuous integration: JUnit XML, SARIF 2.1.0 and annotation lines.
//!
//! ```text
//! JUnit        one test case per rule; fail, missing, not comparable = failure; undecided, quarantined = skipped
//! SARIF        one result per cell that did not pass, level error, warning or note
//! annotations  ::error title=…::message      ::warning …      ::notice …
//! ```
//! Source: measurement.md section 11; the JUnit XML schema in common use; SARIF 2.1.0.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{GateReport, RuleResult, Verdict};
use crate::escape;

fn reasons(rule: &RuleResult) -> String {
    let graver: Vec<String> = rule
        .cells
        .iter()
        .filter(|cell| cell.verdict != Verdict::Pass)
        .map(|cell| format!("{}: {}: {}", cell.cell, cell.verdict, cell.reason))
        .collect();
    graver.join("\n")
}

/// JUnit XML: one test case per rule.
pub fn junit(report: &GateReport) -> String {
    let against = report.rules.iter().filter(|rule| rule.verdict.is_against(report.is_strict)).count();
    let passed = report.count(Verdict::Pass);
    let skipped = report.rules.len() - passed - against;
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"gate\" tests=\"{0}\" failures=\"{against}\" errors=\"0\" skipped=\"{skipped}\">\n  \
         <testsuite name=\"gate\" tests=\"{0}\" failures=\"{against}\" errors=\"0\" skipped=\"{skipped}\">",
        report.rules.len()
    );
    for rule in &report.rules {
        let name = escape::html(&rule.rule.name);
        let class = escape::html(&format!("gate.{}.{}", rule.rule.kind.as_str(), rule.rule.metric));
        let (verdict, message) = (rule.verdict.as_str(), escape::html(&reasons(rule)));
        let first = escape::html(reasons(rule).lines().next().unwrap_or_default());
        let _ = if rule.verdict == Verdict::Pass {
            writeln!(out, "    <testcase classname=\"{class}\" name=\"{name}\"/>")
        } else if rule.verdict.is_against(report.is_strict) {
            writeln!(
                out,
                "    <testcase classname=\"{class}\" name=\"{name}\">\n      <failure type=\"{verdict}\" message=\"{first}\">{message}</failure>\n    </testcase>"
            )
        } else {
            writeln!(
                out,
                "    <testcase classname=\"{class}\" name=\"{name}\">\n      <skipped message=\"{verdict}: {first}\"/>\n    </testcase>"
            )
        };
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn level(verdict: Verdict, is_strict: bool) -> &'static str {
    match verdict {
        v if v.is_against(is_strict) => "error",
        Verdict::Inconclusive | Verdict::TooNoisy => "warning",
        _ => "note",
    }
}

/// SARIF 2.1.0; `rules_file` is the path results point to, relative to the repository.
pub fn sarif(report: &GateReport, rules_file: &str) -> String {
    let rules: Vec<Value> = report
        .rules
        .iter()
        .map(|rule| {
            let words = rule.rule.why.clone().unwrap_or_else(|| {
                format!("{} rule on {}, limit {}", rule.rule.kind.as_str(), rule.rule.metric, super::output::limit(rule))
            });
            json!({ "id": rule.rule.name, "shortDescription": { "text": words } })
        })
        .collect();
    let mut results = Vec::new();
    for (at, rule) in report.rules.iter().enumerate() {
        for cell in rule.cells.iter().filter(|cell| cell.verdict != Verdict::Pass) {
            results.push(json!({
                "ruleId": rule.rule.name,
                "ruleIndex": at,
                "level": level(cell.verdict, report.is_strict),
                "message": { "text": format!("{}: {}: {}", cell.cell, cell.verdict, cell.reason) },
                "locations": [{ "physicalLocation": { "artifactLocation": { "uri": rules_file } } }],
                "properties": { "verdict": cell.verdict.as_str(), "inputs": cell.inputs },
            }));
        }
    }
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{ "tool": { "driver": { "name": "laurel-gate", "rules": rules } }, "results": results }],
    });
    let mut text = serde_json::to_string_pretty(&log).expect("a log holds only strings, numbers and lists");
    text.push('\n');
    text
}

/// Annotation lines for hosted continuous integration, one per cell that did not pass.
pub fn annotations(report: &GateReport) -> String {
    // The command format reserves % and line ends in messages, and : and , in properties.
    let message = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| message(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for rule in &report.rules {
        for cell in rule.cells.iter().filter(|cell| cell.verdict != Verdict::Pass) {
            let kind = match level(cell.verdict, report.is_strict) {
                "note" => "notice",
                other => other,
            };
            let title = property(&format!("gate: {}", rule.rule.name));
            let _ = writeln!(
                out,
                "::{kind} title={title}::{}",
                message(&format!("{}: {}: {}", cell.cell, cell.verdict, cell.reason))
            );
        }
    }
    out
}
