//! The rule file of the gate (`ci/gate.toml`).
//!
//! ```toml
//! [[rule]]
//! name = "rw+lr step time"
//! why = "the paper claims about 4 % (Table 5)"
//! metric = "train_step_s"
//! kind = "budget"                        # exact | near-exact | noisy | quality | budget
//! limit = 0.05                           # meaning by kind, see `Rule::limit`
//! where = { subject = "lm-smoke-rw+lr" } # column = value; a final * matches any rest
//! quarantine = { reason = "flaky host", until = "2026-01-31" }
//! ```
//! Source: measurement.md section 11.

use std::collections::BTreeMap;

use records::ids::cell_text;
use records::{COLUMNS, Row};
use serde::{Deserialize, Serialize};

use crate::error::ReportError;

/// Relative limit of near-exact rules that state none.
pub const NEAR_EXACT_LIMIT: f64 = 0.005;
/// Allowed slowdown of noisy and budget rules that state none.
pub const NOISY_LIMIT: f64 = 0.05;

/// How a rule judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleKind {
    /// Counted: equal within an absolute limit.
    Exact,
    /// Repeatable: relative limit.
    NearExact,
    /// Sampled: pairs measured now.
    Noisy,
    /// Scored: paired bound against a margin.
    Quality,
    /// A variant against its plain model.
    Budget,
}

impl RuleKind {
    /// The word in the rule file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::NearExact => "near-exact",
            Self::Noisy => "noisy",
            Self::Quality => "quality",
            Self::Budget => "budget",
        }
    }
}

/// A rule that is measured and shown, and does not fail until its date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Why.
    pub reason: String,
    /// Last day, `YYYY-MM-DD`.
    pub until: String,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique name.
    pub name: String,
    /// Why the rule exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Metric name.
    pub metric: String,
    /// How it judges.
    pub kind: RuleKind,
    /// exact: absolute difference; near-exact, noisy, budget: relative worsening; quality: margin in the metric's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// exact: largest value allowed, no baseline needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Columns a row must have.
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, toml::Value>,
    /// budget, quality without a baseline: variant of side A; `plain` unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// noisy: numbers of pairs at which to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks: Option<Vec<usize>>,
    /// Shown, not failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
}

impl Rule {
    /// The limit, or the kind's default.
    pub fn limit(&self) -> f64 {
        self.limit.unwrap_or(match self.kind {
            RuleKind::Exact | RuleKind::Quality => 0.0,
            RuleKind::NearExact => NEAR_EXACT_LIMIT,
            RuleKind::Noisy | RuleKind::Budget => NOISY_LIMIT,
        })
    }

    /// Variant of side A where it is a variant.
    pub fn reference_variant(&self) -> &str {
        self.reference.as_deref().unwrap_or("plain")
    }

    /// Whether a row is about the rule's metric and has the columns it asks for, apart from those in `ignored`.
    pub fn selects(&self, row: &Row, ignored: &[&str]) -> bool {
        row.metric == self.metric
            && self.filter.iter().all(|(column, wanted)| {
                ignored.contains(&column.as_str()) || row.get(column).is_some_and(|cell| matches(wanted, &cell_text(cell)))
            })
    }
}

fn matches(wanted: &toml::Value, found: &str) -> bool {
    let wanted = match wanted {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    wanted.strip_suffix('*').map_or(wanted == found, |prefix| found.starts_with(prefix))
}

/// A rule file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateRules {
    /// Error probability shared by all noisy and quality rules.
    #[serde(default = "family_alpha")]
    pub alpha: f64,
    /// Rules in order.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

fn family_alpha() -> f64 {
    0.05
}

impl GateRules {
    /// Parses and checks a rule file; `file` is for messages.
    ///
    /// # Errors
    /// When it does not parse, a name repeats, a filter names no column, or a number makes no sense.
    pub fn parse(text: &str, file: &str) -> Result<Self, ReportError> {
        let bad = |what: String| ReportError::Definition { file: file.to_owned(), what };
        let rules: Self = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
        if rules.rules.is_empty() {
            return Err(bad("expected at least one [[rule]], found none".to_owned()));
        }
        if !(rules.alpha > 0.0 && rules.alpha < 0.5) {
            return Err(bad(format!("alpha: expected a number between 0 and 0.5, found {}", rules.alpha)));
        }
        for (at, rule) in rules.rules.iter().enumerate() {
            let bad = |what: String| bad(format!("rule `{}`: {what}", rule.name));
            if rules.rules[..at].iter().any(|other| other.name == rule.name) {
                return Err(bad("expected a unique name, found it twice".to_owned()));
            }
            if let Some(column) = rule.filter.keys().find(|name| !COLUMNS.iter().any(|column| column.name == **name)) {
                return Err(bad(format!("where: expected a record column, found `{column}`")));
            }
            if !(rule.limit().is_finite() && rule.limit() >= 0.0) {
                return Err(bad(format!("limit: expected a number of 0 or more, found {}", rule.limit())));
            }
            if rule.max.is_some() && rule.kind != RuleKind::Exact {
                return Err(bad(format!("max: expected kind `exact`, found `{}`", rule.kind.as_str())));
            }
            if let Some(quarantine) = &rule.quarantine
                && !is_date(&quarantine.until)
            {
                return Err(bad(format!("quarantine.until: expected YYYY-MM-DD, found `{}`", quarantine.until)));
            }
        }
        Ok(rules)
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GateRules, ReportError> {
        GateRules::parse(text, "gate.toml")
    }

    #[test]
    fn defaults_depend_on_the_kind() {
        let rules = parse("[[rule]]\nname='a'\nmetric='peak_alloc_bytes'\nkind='near-exact'\n").unwrap();
        assert_eq!((rules.alpha, rules.rules[0].limit(), rules.rules[0].reference_variant()), (0.05, 0.005, "plain"));
    }

    #[test]
    fn filters_match_whole_values_and_prefixes() {
        let rules = parse("[[rule]]\nname='a'\nmetric='acc'\nkind='exact'\nwhere={subject='lm-*', batch=8}\n").unwrap();
        let row = Row { metric: "acc".into(), subject: Some("lm-rw".into()), batch: Some(8), ..Row::default() };
        assert!(rules.rules[0].selects(&row, &[]));
        assert!(!rules.rules[0].selects(&Row { batch: Some(80), ..row.clone() }, &[]));
        assert!(!rules.rules[0].selects(&Row { subject: Some("rn-rw".into()), ..row.clone() }, &[]));
        assert!(!rules.rules[0].selects(&Row { metric: "f1".into(), ..row }, &[]));
    }

    #[test]
    fn mistakes_are_named_with_rule_and_finding() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        let twice = "[[rule]]\nname='a'\nmetric='m'\nkind='exact'\n[[rule]]\nname='a'\nmetric='m'\nkind='exact'\n";
        assert_eq!(message(twice), "gate.toml: rule `a`: expected a unique name, found it twice");
        let column = "[[rule]]\nname='a'\nmetric='m'\nkind='exact'\nwhere={latency=1}\n";
        assert_eq!(message(column), "gate.toml: rule `a`: where: expected a record column, found `latency`");
        let date = "[[rule]]\nname='a'\nmetric='m'\nkind='exact'\nquarantine={reason='r', until='soon'}\n";
        assert_eq!(message(date), "gate.toml: rule `a`: quarantine.until: expected YYYY-MM-DD, found `soon`");
        assert!(message("[[rule]]\nname='a'\nmetric='m'\nkind='exact'\nlimt=1\n").contains("unknown field `limt`"));
        assert!(message("rule = []\n").contains("at least one"));
    }
}
