//! The gate: rules about metrics, judged from records, with a verdict and its evidence for each.
//!
//! ```text
//! exact        equal to the stored baseline within an absolute limit, or at most `max`         across machines
//! near-exact   worse than the stored baseline by at most a relative limit (0.5 %)              across machines
//! noisy        pairs measured now: pass U < δ, fail L > max(δ, φ) twice, else undecided        one machine
//! quality      paired bound of the difference against a margin m                               same documents or seeds
//! budget       a variant against its own plain model, by the rule that fits the metric
//! ```
//! [`judge()`] is a pure function of rows: the same records give the same verdict. Several noisy and quality rules share one family error
//! by Holm's correction. A quarantined rule is judged and shown, and does not fail until its date.
//!
//! - `rules`: the rule file. `pairs`: rows to pairs. `judge`: verdicts. `output`: text, Markdown, JSON. `ci`: JUnit, SARIF, annotations.
//! - `accept`: new baseline files and `explain`.
//!
//! Source: measurement.md section 11.

pub mod accept;
pub mod ci;
pub mod judge;
pub mod output;
pub mod pairs;
pub mod rules;

use serde::Serialize;
use stats::gate::{Decision, Next};

use crate::provenance::Provenance;

pub use accept::{Accepted, accept, explain};
pub use ci::{annotations, junit, sarif};
pub use judge::{GateInput, judge};
pub use output::{json, markdown, text};
pub use rules::{GateRules, Quarantine, Rule, RuleKind};

/// Outcome of a rule; the order is from harmless to grave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Shown to hold.
    Pass,
    /// Would not pass, and is quarantined.
    Quarantined,
    /// Neither shown.
    Inconclusive,
    /// Neither shown, and the noise floor is too high for this budget.
    TooNoisy,
    /// Sides of different dtype, threads, features, schema or machine.
    NotComparable,
    /// A side was not measured, or failed.
    Missing,
    /// Shown not to hold.
    Fail,
}

impl Verdict {
    /// The word in records and outputs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Quarantined => "quarantined",
            Self::Inconclusive => "inconclusive",
            Self::TooNoisy => "too_noisy",
            Self::NotComparable => "not_comparable",
            Self::Missing => "missing",
            Self::Fail => "fail",
        }
    }

    /// Whether it counts against the candidate; `is_strict` adds the undecided.
    pub const fn is_against(self, is_strict: bool) -> bool {
        match self {
            Self::Pass | Self::Quarantined => false,
            Self::Inconclusive | Self::TooNoisy => is_strict,
            Self::NotComparable | Self::Missing | Self::Fail => true,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One cell judged by one rule, with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellResult {
    /// Subject, task and conditions.
    pub cell: String,
    /// Outcome.
    pub verdict: Verdict,
    /// Outcome before quarantine, where it differs.
    pub before_quarantine: Option<Verdict>,
    /// One sentence on why.
    pub reason: String,
    /// Value of the reference, base unit: a median where it was sampled.
    pub reference: Option<f64>,
    /// Value of the candidate, base unit.
    pub candidate: Option<f64>,
    /// Ratio − 1 of the two for costs (positive: candidate is larger), or the difference for quality.
    pub change: Option<f64>,
    /// 95 % interval of `change`.
    pub interval: Option<(f64, f64)>,
    /// One-sided bounds (L, U) that decided, positive meaning worse.
    pub bounds: Option<(f64, f64)>,
    /// Noise floor φ.
    pub floor: Option<f64>,
    /// Pairs, documents or seeds.
    pub n: usize,
    /// p-value of the failure before Holm's correction.
    pub p_fail: Option<f64>,
    /// The replayed looks of a noisy rule.
    pub decision: Option<Decision>,
    /// What to measure next, for a noisy rule that is open.
    pub next: Option<Next>,
    /// Hash over the record ids that entered.
    pub inputs: String,
}

/// One rule with all its cells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleResult {
    /// The rule.
    pub rule: Rule,
    /// Unit of the metric.
    pub unit: String,
    /// The gravest of its cells.
    pub verdict: Verdict,
    /// Its cells.
    pub cells: Vec<CellResult>,
}

/// Everything a gate run decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateReport {
    /// Version of this object.
    pub schema: i32,
    /// The gravest of the rules.
    pub verdict: Verdict,
    /// Whether the undecided count against the candidate.
    pub is_strict: bool,
    /// 0 fine, 1 a judgement went against the candidate.
    pub exit_code: u8,
    /// Rules in file order.
    pub rules: Vec<RuleResult>,
    /// Where the numbers come from.
    pub provenance: Provenance,
}

impl GateReport {
    /// How many rules have a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rules.iter().filter(|rule| rule.verdict == verdict).count()
    }

    /// Most pairs that any open noisy rule still wants: (main batch, confirmation batch).
    pub fn wanted_pairs(&self) -> (usize, usize) {
        let mut wanted = (0, 0);
        for next in self.rules.iter().flat_map(|rule| &rule.cells).filter_map(|cell| cell.next) {
            match next {
                Next::MorePairs(count) => wanted.0 = wanted.0.max(count),
                Next::Confirm(count) => wanted.1 = wanted.1.max(count),
                Next::Done => {}
            }
        }
        wanted
    }
}
