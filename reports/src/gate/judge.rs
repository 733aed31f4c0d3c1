//! Verdicts as a pure function of rules, candidate rows and baseline rows.
//!
//! ```text
//! rule -> cells (subject, task, conditions) -> CellResult -> Holm over all noisy and quality cells -> quarantine -> RuleResult
//! ```
//! Times are never compared with a stored baseline: noisy and budget rules read pairs measured now. Stored baselines serve exact,
//! near-exact and (same documents or seeds) quality rules.
//!
//! Source: measurement.md section 11; the noisy decision is `stats::gate::decide`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use records::ids::{cell_text, hash_of_inputs};
use records::{Arm, Better, CellRef, RecordKind, Row, Source, Status};
use stats::gate::{Next, NoisyRule, decide, noise_floor, reported_change};

use super::pairs::{EXACT_FIELDS, NOISY_FIELDS, RowPair, aa_differences, cost_pairs, differing_field, pair_rows};
use super::{CellResult, GateReport, GateRules, Rule, RuleKind, RuleResult, Verdict};
use crate::error::ReportError;
use crate::frame::Records;
use crate::number::{quantity, ratio_pct};
use crate::provenance::Provenance;
use crate::study::Study;

/// Columns that tell the cells of one rule apart, beside subject and task.
const CONDITIONS: [&str; 6] = ["filter", "batch", "sequence_length", "prompt_length", "output_length", "num_fewshot"];
/// Metrics whose exactness holds at one thread only.
const ONE_THREAD: [&str; 2] = ["peak_alloc_bytes", "peak_alloc_delta_bytes"];

/// What a gate run looks at.
#[derive(Clone, Copy, Debug)]
pub struct GateInput<'a> {
    /// Records of the candidate, A/A control and reference arm included.
    pub candidate: &'a Records,
    /// Accepted rows of exact, near-exact and quality metrics.
    pub baseline: &'a Records,
    /// Today, `YYYY-MM-DD`, for quarantines.
    pub today: &'a str,
    /// Whether the undecided count against the candidate.
    pub is_strict: bool,
    /// Command that reproduces the run, for the provenance block.
    pub command: &'a str,
}

/// Judges every rule.
///
/// # Errors
/// When an estimator refuses the values, for example a time that is not positive.
pub fn judge(rules: &GateRules, input: GateInput<'_>) -> Result<GateReport, ReportError> {
    let mut results = Vec::new();
    for rule in &rules.rules {
        results.push(judge_rule(rule, input).map_err(ReportError::stats(format!("rule `{}`", rule.name)))?);
    }
    correct_family(&mut results, rules.alpha)?;
    for result in &mut results {
        quarantine(result, input.today);
        result.verdict = result.cells.iter().map(|cell| cell.verdict).max().unwrap_or(Verdict::Missing);
    }
    let verdict = results.iter().map(|result| result.verdict).max().unwrap_or(Verdict::Missing);
    Ok(GateReport {
        schema: 1,
        verdict,
        is_strict: input.is_strict,
        exit_code: u8::from(results.iter().any(|result| result.verdict.is_against(input.is_strict))),
        rules: results,
        provenance: Provenance::of(&Study::from(input.candidate), input.command),
    })
}

type Stat<T> = Result<T, stats::StatsError>;

fn judge_rule(rule: &Rule, input: GateInput<'_>) -> Stat<RuleResult> {
    // Published and imported numbers are others', never judged.
    let measured = |row: &&Row| row.source == Source::Measured && !row.is_aa && row.kind != RecordKind::Derived;
    // Side A of a pair may belong to another subject or variant, so those two filters apply to the candidate only.
    let relevant: Vec<&Row> =
        input.candidate.rows().iter().filter(measured).filter(|row| rule.selects(row, &["subject", "variant"])).collect();
    // Counted values of the reference are judged like any other; of compared ones it is only the other side.
    let is_reference_side = |row: &Row| match rule.kind {
        RuleKind::Exact | RuleKind::NearExact => false,
        RuleKind::Noisy | RuleKind::Quality => row.arm == Arm::A,
        RuleKind::Budget => row.arm == Arm::A || row.variant.as_deref() == Some(rule.reference_variant()),
    };
    let mut cells: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in relevant.iter().copied().filter(|row| rule.selects(row, &[]) && !is_reference_side(row)) {
        cells.entry(cell_label(row)).or_default().push(row);
    }
    let unit = relevant.first().map(|row| row.unit.clone()).unwrap_or_default();
    let mut results = Vec::new();
    for (cell, rows) in cells {
        results.push(judge_cell(rule, cell, &rows, &relevant, input)?);
    }
    if results.is_empty() {
        let reason = format!("no candidate rows of `{}` match the rule", rule.metric);
        results.push(undecided("—".to_owned(), Verdict::Missing, reason, &[]));
    }
    Ok(RuleResult { rule: rule.clone(), unit, verdict: Verdict::Missing, cells: results })
}

fn cell_label(row: &Row) -> String {
    let mut parts = vec![row.subject.clone().or_else(|| row.variant.clone()).unwrap_or_else(|| "—".to_owned())];
    parts.extend(row.task.clone());
    for column in CONDITIONS {
        match row.get(column) {
            None | Some(CellRef::Null) => {}
            Some(cell) => parts.push(format!("{column}={}", cell_text(cell))),
        }
    }
    parts.join(" ")
}

/// Label without the subject: what a reference row must share with a candidate row.
fn conditions_label(row: &Row) -> String {
    cell_label(&Row { subject: None, variant: None, ..row.clone() })
}

fn undecided(cell: String, verdict: Verdict, reason: String, rows: &[&Row]) -> CellResult {
    CellResult {
        cell,
        verdict,
        before_quarantine: None,
        reason,
        reference: None,
        candidate: None,
        change: None,
        interval: None,
        bounds: None,
        floor: None,
        n: 0,
        p_fail: None,
        decision: None,
        next: None,
        inputs: hash_of_inputs(rows.iter().map(|row| row.record_id.as_str())),
    }
}

fn judge_cell(rule: &Rule, cell: String, rows: &[&Row], relevant: &[&Row], input: GateInput<'_>) -> Stat<CellResult> {
    if let Some(failed) = rows.iter().find(|row| row.status != Status::Ok) {
        let reason = format!("candidate {}: {}", failed.status, failed.reason.as_deref().unwrap_or("no reason recorded"));
        return Ok(undecided(cell, Verdict::Missing, reason, rows));
    }
    let is_paired = rows.iter().any(|row| row.pair.is_some() || row.worker.is_some());
    match rule.kind {
        RuleKind::Exact | RuleKind::NearExact => {
            Ok(judge_stored(rule, cell, rows, &matching_rows(input.baseline, rule, rows[0])))
        }
        RuleKind::Noisy => judge_noisy(rule, cell, rows, relevant, input),
        RuleKind::Budget if is_paired => judge_noisy(rule, cell, rows, relevant, input),
        RuleKind::Budget => Ok(judge_stored(rule, cell, rows, &plain_rows(rule, rows[0], relevant))),
        RuleKind::Quality => {
            let stored = matching_rows(input.baseline, rule, rows[0]);
            let reference = if stored.is_empty() { plain_rows(rule, rows[0], relevant) } else { stored };
            judge_quality(rule, cell, rows, &reference)
        }
    }
}

fn matching_rows<'a>(baseline: &'a Records, rule: &Rule, like: &Row) -> Vec<&'a Row> {
    let label = cell_label(like);
    baseline
        .rows()
        .iter()
        .filter(|row| row.metric == rule.metric && row.status == Status::Ok && cell_label(row) == label)
        .collect()
}

fn plain_rows<'a>(rule: &Rule, like: &Row, relevant: &[&'a Row]) -> Vec<&'a Row> {
    let label = conditions_label(like);
    relevant
        .iter()
        .copied()
        .filter(|row| row.variant.as_deref() == Some(rule.reference_variant()))
        .filter(|row| row.status == Status::Ok && conditions_label(row) == label)
        .collect()
}

/// Exact, near-exact and unpaired budget rules: every candidate row against the reference value.
fn judge_stored(rule: &Rule, cell: String, rows: &[&Row], reference: &[&Row]) -> CellResult {
    let all: Vec<&Row> = rows.iter().chain(reference).copied().collect();
    let mut result = undecided(cell, Verdict::Pass, String::new(), &all);
    let unit = rows[0].unit.as_str();
    let limit = rule.limit();
    result.n = rows.len();
    let values: Vec<f64> = rows.iter().filter_map(|row| row.value).collect();
    // The worst of several workers or seeds is judged.
    let worst = |values: &[f64]| match rows[0].better {
        Better::Higher => values.iter().copied().fold(f64::INFINITY, f64::min),
        _ => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    };
    let candidate = worst(&values);
    result.candidate = Some(candidate);
    if let Some(max) = rule.max {
        result.verdict = if candidate <= max { Verdict::Pass } else { Verdict::Fail };
        result.reason = format!("{}, allowed at most {}", quantity(candidate, unit), quantity(max, unit));
        return result;
    }
    let Some(first) = reference.first() else {
        result.verdict = Verdict::Missing;
        let kind = if rule.kind == RuleKind::Budget { "reference" } else { "baseline" };
        result.reason = format!("no {kind} row of `{}` for this cell", rule.metric);
        return result;
    };
    if let Some((field, a, b)) = differing_field(first, rows[0], &EXACT_FIELDS) {
        result.verdict = Verdict::NotComparable;
        result.reason = format!("`{field}` differs: reference `{a}`, candidate `{b}`");
        return result;
    }
    if rule.kind == RuleKind::NearExact
        && ONE_THREAD.contains(&rule.metric.as_str())
        && let Some(row) = rows.iter().chain(reference).find(|row| row.threads.is_some_and(|threads| threads != 1))
    {
        result.verdict = Verdict::NotComparable;
        result.reason = format!("`threads`: expected 1, found {}", row.threads.unwrap_or_default());
        return result;
    }
    let references: Vec<f64> = reference.iter().filter_map(|row| row.value).collect();
    let expected = worst(&references);
    result.reference = Some(expected);
    if expected != 0.0 {
        result.change = Some(candidate / expected - 1.0);
    }
    let difference = candidate - expected;
    if rule.kind == RuleKind::Exact {
        let farthest = values.iter().copied().map(|value| (value - expected).abs()).fold(0.0, f64::max);
        result.verdict = if farthest <= limit { Verdict::Pass } else { Verdict::Fail };
        result.reason = if farthest == 0.0 {
            "equal".to_owned()
        } else {
            format!("differs by {difference} {unit} from {expected}, allowed {limit}")
        };
        return result;
    }
    let worsening = match (rows[0].better, expected == 0.0) {
        (_, true) if difference == 0.0 => 0.0,
        (_, true) => f64::INFINITY,
        (Better::Higher, false) => expected / candidate - 1.0,
        _ => candidate / expected - 1.0,
    };
    result.verdict = if worsening <= limit { Verdict::Pass } else { Verdict::Fail };
    let change = if expected == 0.0 { "from 0".to_owned() } else { ratio_pct(candidate / expected) };
    result.reason = format!("{change}, allowed {}", ratio_pct(1.0 + limit));
    if worsening < -limit {
        result.reason.push_str("; improved, `gate accept` keeps it");
    }
    result
}

/// Noisy rules, and budgets of sampled costs: the sequential decision over pairs measured now.
fn judge_noisy(rule: &Rule, cell: String, rows: &[&Row], relevant: &[&Row], input: GateInput<'_>) -> Stat<CellResult> {
    let label = conditions_label(rows[0]);
    let has_arms = rows.iter().any(|row| row.arm == Arm::B);
    let is_candidate = |row: &Row| rows.iter().any(|other| std::ptr::eq(*other, row));
    let is_reference = |row: &Row| {
        conditions_label(row) == label
            && if has_arms { row.arm == Arm::A } else { row.variant.as_deref() == Some(rule.reference_variant()) }
            && (rule.kind != RuleKind::Budget || row.variant.as_deref() == Some(rule.reference_variant()))
    };
    let main = pair_rows(relevant, 0, is_reference, is_candidate);
    let confirmation = pair_rows(relevant, 1, is_reference, is_candidate);
    let used: Vec<&Row> = main.iter().chain(&confirmation).flat_map(|(a, b)| [*a, *b]).collect();
    let mut result = undecided(cell, Verdict::Missing, String::new(), &used);
    result.n = main.len();
    if main.is_empty() {
        result.reason = String::from("no pairs measured side by side; a stored time is never a baseline");
        return Ok(result);
    }
    if let Some((field, a, b)) = main.iter().chain(&confirmation).find_map(|(a, b)| differing_field(a, b, &NOISY_FIELDS)) {
        result.verdict = Verdict::NotComparable;
        result.reason = format!("`{field}` differs: reference `{a}`, candidate `{b}`");
        return Ok(result);
    }
    // Pairs are pooled within one machine only: another one has another noise, and may have another ratio.
    if let Some((field, a, b)) =
        main.iter().chain(&confirmation).find_map(|(other, _)| differing_field(main[0].0, other, &["host_fingerprint"]))
    {
        result.verdict = Verdict::NotComparable;
        result.reason = format!("`{field}` differs between pairs: `{a}` and `{b}`; judge the records of one machine");
        return Ok(result);
    }
    let medians = median_sides(&main)?;
    (result.reference, result.candidate) = (Some(medians.0), Some(medians.1));
    result.change = Some(medians.1 / medians.0 - 1.0);
    let better = rows[0].better;
    let pairs = cost_pairs(&main, better)?;
    let ratios = cost_pairs(&main, Better::Lower)?;
    if ratios.len() >= 3 {
        let logs: Vec<f64> = ratios.iter().map(|pair| pair.difference).collect();
        let reported = reported_change(&logs, &stats::bootstrap::BootstrapPlan::default())?.interval;
        result.change = Some(reported.estimate);
        result.interval = Some((reported.low, reported.high));
    }
    let aa: Vec<&Row> = input.candidate.rows().iter().filter(|row| row.is_aa && row.metric == rule.metric).collect();
    let same_cell: Vec<&Row> = aa.iter().copied().filter(|row| conditions_label(row) == label).collect();
    let control = aa_differences(if same_cell.is_empty() { &aa } else { &same_cell });
    if control.len() < stats::gate::MIN_PAIRS {
        result.reason = format!("noise floor unknown: expected {} A/A pairs, found {}", stats::gate::MIN_PAIRS, control.len());
        return Ok(result);
    }
    let floor = noise_floor(&control)?.phi;
    result.floor = Some(floor);
    let mut noisy = NoisyRule { budget: rule.limit(), ..NoisyRule::default() };
    if let Some(looks) = &rule.looks {
        noisy.looks.clone_from(looks);
    }
    let decision = decide(&noisy, floor, &pairs, &cost_pairs(&confirmation, better)?)?;
    result.verdict = match decision.verdict {
        stats::gate::Verdict::Pass => Verdict::Pass,
        stats::gate::Verdict::Fail => Verdict::Fail,
        stats::gate::Verdict::Inconclusive => Verdict::Inconclusive,
        stats::gate::Verdict::TooNoisy => Verdict::TooNoisy,
    };
    let bounds = decision.looks.last().map(|look| (look.main.interval.low, look.main.interval.high));
    result.bounds = bounds;
    let budget = ratio_pct(1.0 + noisy.budget);
    let range = bounds.map_or_else(String::new, |(low, high)| {
        format!("worsening between {} and {} at one-sided bounds, ", ratio_pct(1.0 + low), ratio_pct(1.0 + high))
    });
    result.reason = match result.verdict {
        Verdict::Pass => format!("{range}within {budget}"),
        Verdict::Fail => format!("{range}over {budget} in two independent batches"),
        Verdict::TooNoisy => {
            format!("{range}noise floor ±{}; this machine can judge {}", pct(floor), ratio_pct(1.0 + decision.judgeable_budget))
        }
        _ => format!("{range}budget {budget} not decided{}", wanted(decision.next)),
    };
    result.p_fail = Some(decision.p_fail);
    result.next = Some(decision.next);
    result.decision = Some(decision);
    Ok(result)
}

/// What would decide it.
fn wanted(next: Next) -> String {
    match next {
        Next::Done => "; no look is left".to_owned(),
        Next::MorePairs(count) => format!("; needs {count} more pairs"),
        Next::Confirm(count) => format!("; over budget once, needs {count} fresh pairs to confirm"),
    }
}

fn pct(ratio: f64) -> String {
    format!("{:.2} %", 100.0 * ratio)
}

fn median_sides(pairs: &[RowPair<'_>]) -> Stat<(f64, f64)> {
    let side =
        |pick: fn(&RowPair<'_>) -> Option<f64>| stats::describe::median(&pairs.iter().filter_map(pick).collect::<Vec<_>>());
    Ok((side(|(a, _)| a.value)?, side(|(_, b)| b.value)?))
}

/// Quality: the one-sided bound of the paired gain against the margin, over documents or seeds.
fn judge_quality(rule: &Rule, cell: String, rows: &[&Row], reference: &[&Row]) -> Stat<CellResult> {
    let all: Vec<&Row> = rows.iter().chain(reference).copied().collect();
    let mut result = undecided(cell, Verdict::Missing, String::new(), &all);
    if reference.is_empty() {
        result.reason = format!("no baseline or `{}` row for this cell", rule.reference_variant());
        return Ok(result);
    }
    let version = ["schema", "task_version", "eval_profile", "num_fewshot", "limit"];
    if let Some((field, a, b)) = differing_field(reference[0], rows[0], &version) {
        result.verdict = Verdict::NotComparable;
        result.reason = format!("`{field}` differs: reference `{a}`, candidate `{b}`");
        return Ok(result);
    }
    let sign = if rows[0].better == Better::Lower { -1.0 } else { 1.0 };
    let documents = |rows: &[&Row]| rows.iter().any(|row| row.kind == RecordKind::Document);
    let by_document = documents(rows) && documents(reference);
    let index = |rows: &[&Row]| -> BTreeMap<String, (Vec<f64>, Option<String>)> {
        let mut found: BTreeMap<String, (Vec<f64>, Option<String>)> = BTreeMap::new();
        for row in rows.iter().filter(|row| (row.kind == RecordKind::Document) == by_document) {
            let key = if by_document { row.doc_id.clone() } else { row.seed.map(|seed| seed.to_string()) }.unwrap_or_default();
            found.entry(key).or_insert_with(|| (Vec::new(), row.cluster_id.clone())).0.extend(row.value);
        }
        found
    };
    let (a, b) = (index(reference), index(rows));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (mut gains, mut clusters, mut sums) = (Vec::new(), Vec::new(), (0.0, 0.0));
    for (key, (values, cluster)) in &a {
        if let Some((others, _)) = b.get(key) {
            let (before, after) = (mean(values), mean(others));
            gains.push(sign * (after - before));
            clusters.push(cluster.clone().unwrap_or_else(|| key.clone()));
            sums = (sums.0 + before, sums.1 + after);
        }
    }
    result.n = gains.len();
    let unit_of_n = if by_document { "documents" } else { "seeds" };
    if gains.len() < 2 {
        result.reason = format!("expected at least 2 common {unit_of_n}, found {}", gains.len());
        return Ok(result);
    }
    let n = gains.len() as f64;
    (result.reference, result.candidate) = (Some(sums.0 / n), Some(sums.1 / n));
    result.change = Some((sums.1 - sums.0) / n);
    let gain = stats::describe::mean(&gains)?;
    let stderr = stats::interval::clustered_stderr(&gains, &clusters)?.stderr;
    // Seeds are few: the t interval needs the n − 1 error; the clustered one over documents divides by n².
    let stderr = if by_document { stderr } else { stats::interval::mean_stderr(&gains)?.stderr };
    let margin = rule.limit();
    let test = stats::equivalence::non_inferiority_from(gain, stderr, n - 1.0, margin, 0.05)?;
    result.bounds = Some((-test.interval.high, -test.interval.low));
    let (low, high) = (test.interval.low, test.interval.high);
    result.interval = Some(if sign > 0.0 { (low, high) } else { (-high, -low) });
    result.p_fail = Some(1.0 - test.p_lower);
    result.verdict = match (low > -margin, high < -margin) {
        (true, _) => Verdict::Pass,
        (_, true) => Verdict::Fail,
        _ if stderr == 0.0 && gain >= -margin => Verdict::Pass,
        _ => Verdict::Inconclusive,
    };
    result.reason =
        format!("gain {gain:+.4}, 90 % interval {low:+.4} to {high:+.4} over {} {unit_of_n}, margin {margin}", gains.len());
    Ok(result)
}

/// Failures of noisy and quality cells must survive Holm's correction over all of them.
fn correct_family(results: &mut [RuleResult], alpha: f64) -> Result<(), ReportError> {
    let p_values: Vec<f64> = results.iter().flat_map(|rule| &rule.cells).filter_map(|cell| cell.p_fail).collect();
    if p_values.is_empty() {
        return Ok(());
    }
    let holm = stats::multiple::holm(&p_values, alpha).map_err(ReportError::stats("Holm's correction over the gate"))?;
    let mut rejected = holm.rejected.into_iter();
    for cell in results.iter_mut().flat_map(|rule| &mut rule.cells).filter(|cell| cell.p_fail.is_some()) {
        if rejected.next() == Some(false) && cell.verdict == Verdict::Fail {
            cell.verdict = Verdict::Inconclusive;
            cell.reason.push_str("; the failure does not survive Holm's correction over the gate");
        }
    }
    Ok(())
}

fn quarantine(result: &mut RuleResult, today: &str) {
    let Some(quarantine) = &result.rule.quarantine else { return };
    // ISO dates order as text.
    if today > quarantine.until.as_str() {
        for cell in result.cells.iter_mut().filter(|cell| cell.verdict != Verdict::Pass) {
            let _ = write!(cell.reason, "; its quarantine ended {}", quarantine.until);
        }
        return;
    }
    for cell in result.cells.iter_mut().filter(|cell| cell.verdict != Verdict::Pass) {
        cell.before_quarantine = Some(cell.verdict);
        cell.verdict = Verdict::Quarantined;
        let _ = write!(cell.reason, "; quarantined until {}: {}", quarantine.until, quarantine.reason);
    }
}
