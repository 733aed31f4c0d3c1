//! Gate verdicts per kind, and every output of a gate run.

use records::{Arm, RecordKind, Row, Source, Status};
use reports::Records;
use reports::gate::{
    GateInput, GateReport, GateRules, Verdict, accept, annotations, explain, json, judge, junit, markdown, sarif, text,
};

use crate::synthetic::{SCATTER, records};

fn row(metric: &str, value: f64) -> Row {
    let known = records::Metric::by_name(metric).unwrap();
    Row {
        run_id: "gate".into(),
        subject: Some("s-rw".into()),
        variant: Some("rw".into()),
        metric: metric.into(),
        unit: known.unit.as_str().into(),
        better: known.better,
        value: Some(value),
        dtype: Some("f32".into()),
        threads: Some(1),
        ..Row::default()
    }
}

fn run(rules: &str, candidate: Vec<Row>, baseline: Vec<Row>) -> GateReport {
    let rules = GateRules::parse(rules, "gate.toml").unwrap();
    let (candidate, baseline) = (Records::new(candidate), Records::new(baseline));
    let input =
        GateInput { candidate: &candidate, baseline: &baseline, today: "2025-06-15", is_strict: false, command: "harness gate" };
    judge(&rules, input).unwrap()
}

fn verdict(rules: &str, candidate: Vec<Row>, baseline: Vec<Row>) -> Verdict {
    run(rules, candidate, baseline).verdict
}

/// Pairs of both arms with the candidate slower by `slowdown`, and an A/A control of spread `noise`.
fn timed(slowdown: f64, pairs: usize, confirmation: usize, noise: f64) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut pair = |arm: Arm, trial: u32, at: usize, value: f64, is_aa: bool| {
        rows.push(Row {
            arm,
            trial: Some(trial),
            block: Some(if is_aa { 9 } else { 0 }),
            pair: Some(at as u32),
            is_aa,
            variant: Some(if arm == Arm::A { "plain" } else { "rw" }.into()),
            subject: Some(if arm == Arm::A { "s-plain" } else { "s-rw" }.into()),
            ..row("train_step_s", value)
        });
    };
    for (trial, count) in [(0, pairs), (1, confirmation)] {
        for at in 0..count {
            let drift = 1.0 + 0.05 * SCATTER[at % 12];
            // 41 and 12 share no factor, so no two pairs repeat.
            let wobble = 1.0 + 0.002 * SCATTER[(5 * at + 3) % 12] + 1e-5 * at as f64;
            pair(Arm::A, trial, at, 0.01 * drift, false);
            pair(Arm::B, trial, at, 0.01 * drift * wobble * (1.0 + slowdown), false);
        }
    }
    for (at, scatter) in SCATTER.iter().enumerate() {
        pair(Arm::A, 0, at, 0.01, true);
        pair(Arm::B, 0, at, 0.01 * (1.0 + noise * scatter), true);
    }
    rows
}

const EXACT: &str = "[[rule]]\nname='params'\nmetric='params_total'\nkind='exact'\n";
const NOISY: &str = "[[rule]]\nname='step'\nmetric='train_step_s'\nkind='noisy'\nlimit=0.05\nlooks=[10]\n";

#[test]
fn exact_rules_want_equality_within_the_limit() {
    let base = || vec![row("params_total", 100.0)];
    assert_eq!(verdict(EXACT, vec![row("params_total", 100.0)], base()), Verdict::Pass);
    assert_eq!(verdict(EXACT, vec![row("params_total", 101.0)], base()), Verdict::Fail);
    assert_eq!(verdict(EXACT, vec![row("params_total", 99.0)], base()), Verdict::Fail);
    let loose = format!("{EXACT}limit=1\n");
    assert_eq!(verdict(&loose, vec![row("params_total", 99.0)], base()), Verdict::Pass);
    assert_eq!(verdict(EXACT, vec![row("params_total", 100.0)], vec![]), Verdict::Missing);
    assert_eq!(verdict(EXACT, vec![], base()), Verdict::Missing);
}

#[test]
fn imported_rows_are_not_judged() {
    let row = Row { source: Source::Imported, ..row("params_total", 2.0) };
    assert_eq!(verdict(&format!("{EXACT}max=1\n"), vec![row], vec![]), Verdict::Missing);
}

#[test]
fn counted_values_of_the_reference_arm_are_judged_too() {
    let plain = |value: f64| Row { arm: Arm::A, subject: Some("s-plain".into()), ..row("params_total", value) };
    assert_eq!(verdict(EXACT, vec![plain(101.0)], vec![plain(100.0)]), Verdict::Fail);
    assert_eq!(verdict(EXACT, vec![plain(100.0)], vec![plain(100.0)]), Verdict::Pass);
}

#[test]
fn the_projects_own_rules_parse() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/gate.toml");
    let rules = GateRules::parse(&std::fs::read_to_string(file).unwrap(), file).unwrap();
    for rule in &rules.rules {
        assert!(records::Metric::by_name(&rule.metric).is_some(), "rule `{}` names an unknown metric", rule.name);
    }
}

#[test]
fn exact_max_needs_no_baseline() {
    let rules = "[[rule]]\nname='added'\nmetric='params_added_pct'\nkind='exact'\nmax=0.1\n";
    assert_eq!(verdict(rules, vec![row("params_added_pct", 0.1)], vec![]), Verdict::Pass);
    assert_eq!(verdict(rules, vec![row("params_added_pct", 0.11)], vec![]), Verdict::Fail);
}

#[test]
fn a_differing_field_is_not_comparable_and_named() {
    let other = Row { dtype: Some("bf16".into()), ..row("params_total", 100.0) };
    let report = run(EXACT, vec![row("params_total", 100.0)], vec![other]);
    assert_eq!(report.verdict, Verdict::NotComparable);
    assert_eq!(report.rules[0].cells[0].reason, "`dtype` differs: reference `bf16`, candidate `f32`");
    assert_eq!(report.exit_code, 1);
}

#[test]
fn near_exact_rules_allow_a_relative_worsening() {
    let rules = "[[rule]]\nname='alloc'\nmetric='peak_alloc_bytes'\nkind='near-exact'\n";
    let base = || vec![row("peak_alloc_bytes", 1000.0)];
    assert_eq!(verdict(rules, vec![row("peak_alloc_bytes", 1005.0)], base()), Verdict::Pass);
    assert_eq!(verdict(rules, vec![row("peak_alloc_bytes", 1006.0)], base()), Verdict::Fail);
    assert_eq!(verdict(rules, vec![row("peak_alloc_bytes", 900.0)], base()), Verdict::Pass);
    let threaded = Row { threads: Some(4), ..row("peak_alloc_bytes", 1000.0) };
    assert_eq!(verdict(rules, vec![threaded.clone()], vec![threaded]), Verdict::NotComparable);
}

#[test]
fn a_planted_slowdown_fails_only_after_confirmation() {
    let unconfirmed = run(NOISY, timed(0.2, 10, 0, 0.001), vec![]);
    assert_eq!((unconfirmed.verdict, unconfirmed.wanted_pairs()), (Verdict::Inconclusive, (0, 10)));
    let confirmed = run(NOISY, timed(0.2, 10, 10, 0.001), vec![]);
    assert_eq!((confirmed.verdict, confirmed.exit_code), (Verdict::Fail, 1));
    let cell = &confirmed.rules[0].cells[0];
    assert!((cell.change.unwrap() - 0.2).abs() < 0.01 && cell.bounds.unwrap().0 > 0.19, "{cell:?}");
}

#[test]
fn equal_arms_pass_and_few_pairs_stay_open() {
    assert_eq!(verdict(NOISY, timed(0.0, 10, 0, 0.001), vec![]), Verdict::Pass);
    let report = run(NOISY, timed(0.0, 6, 0, 0.001), vec![]);
    assert_eq!((report.verdict, report.wanted_pairs(), report.exit_code), (Verdict::Inconclusive, (4, 0), 0));
}

#[test]
fn a_noisy_machine_says_what_it_could_judge() {
    let report = run(NOISY, timed(0.05, 10, 0, 0.08), vec![]);
    assert_eq!(report.verdict, Verdict::TooNoisy);
    assert!(report.rules[0].cells[0].reason.contains("this machine can judge"), "{}", report.rules[0].cells[0].reason);
}

#[test]
fn times_are_never_held_against_a_stored_baseline() {
    let candidate = vec![row("train_step_s", 0.01)];
    let report = run(NOISY, candidate.clone(), candidate);
    assert_eq!(report.verdict, Verdict::Missing);
}

#[test]
fn an_unknown_noise_floor_is_missing() {
    let rows = timed(0.0, 10, 0, 0.001).into_iter().filter(|row| !row.is_aa).collect();
    let report = run(NOISY, rows, vec![]);
    assert_eq!(report.verdict, Verdict::Missing);
    assert_eq!(report.rules[0].cells[0].reason, "noise floor unknown: expected 10 A/A pairs, found 0");
}

#[test]
fn another_machine_on_one_side_is_not_comparable() {
    let mut rows = timed(0.0, 10, 0, 0.001);
    for row in rows.iter_mut().filter(|row| row.arm == Arm::B && !row.is_aa) {
        row.host_fingerprint = Some("other".into());
    }
    for row in rows.iter_mut().filter(|row| row.arm == Arm::A && !row.is_aa) {
        row.host_fingerprint = Some("this".into());
    }
    let report = run(NOISY, rows, vec![]);
    assert_eq!(report.verdict, Verdict::NotComparable);
    assert!(report.rules[0].cells[0].reason.starts_with("`host_fingerprint` differs"));
}

#[test]
fn pairs_of_two_machines_are_not_pooled() {
    let mut rows = timed(0.0, 20, 0, 0.001);
    for row in &mut rows {
        row.host_fingerprint = Some(if row.pair >= Some(10) { "m2" } else { "m1" }.into());
    }
    let report = run("[[rule]]\nname='a'\nmetric='train_step_s'\nkind='noisy'\n", rows, Vec::new());
    assert_eq!(report.verdict, Verdict::NotComparable);
    assert!(
        report.rules[0].cells[0].reason.contains("differs between pairs: `m1` and `m2`"),
        "{}",
        report.rules[0].cells[0].reason
    );
}

#[test]
fn budgets_hold_a_variant_against_its_own_plain_model() {
    let rules = "[[rule]]\nname='b'\nmetric='train_step_s'\nkind='budget'\nlimit=0.05\nlooks=[10]\nwhere={subject='s-*'}\n";
    assert_eq!(verdict(rules, timed(0.0, 10, 0, 0.001), vec![]), Verdict::Pass);
    assert_eq!(verdict(rules, timed(0.2, 10, 10, 0.001), vec![]), Verdict::Fail);
    let counted = "[[rule]]\nname='p'\nmetric='params_total'\nkind='budget'\nlimit=0.001\n";
    let plain = Row { subject: Some("s-plain".into()), variant: Some("plain".into()), ..row("params_total", 1000.0) };
    assert_eq!(verdict(counted, vec![row("params_total", 1001.0), plain.clone()], vec![]), Verdict::Pass);
    assert_eq!(verdict(counted, vec![row("params_total", 1002.0), plain], vec![]), Verdict::Fail);
}

fn documents(variant: &str, right: impl Fn(usize) -> bool) -> Vec<Row> {
    (0..200)
        .map(|at| Row {
            kind: RecordKind::Document,
            variant: Some(variant.into()),
            subject: Some(format!("s-{variant}")),
            task: Some("boolq".into()),
            doc_id: Some(format!("{at:03}")),
            ..row("acc", f64::from(u8::from(right(at))))
        })
        .collect()
}

#[test]
fn quality_rules_read_the_paired_bound_against_the_margin() {
    let rules = "[[rule]]\nname='q'\nmetric='acc'\nkind='quality'\nlimit=0.02\nwhere={variant='rw'}\n";
    let both = |right: fn(usize) -> bool| {
        let mut rows = documents("plain", |at| at % 2 == 0);
        rows.extend(documents("rw", right));
        rows
    };
    assert_eq!(verdict(rules, both(|at| at % 2 == 0), vec![]), Verdict::Pass);
    // 40 of 200 documents lost: −20 points, far below the margin.
    assert_eq!(verdict(rules, both(|at| at % 2 == 0 && at >= 80), vec![]), Verdict::Fail);
    // 3 documents lost: −1.5 points with an interval across −2 points.
    assert_eq!(verdict(rules, both(|at| at % 2 == 0 && at >= 6), vec![]), Verdict::Inconclusive);
}

#[test]
fn a_failed_measurement_is_missing_with_its_reason() {
    let failed = Row { status: Status::Oom, value: None, reason: Some("killed".into()), ..row("params_total", 1.0) };
    let report = run(EXACT, vec![failed], vec![row("params_total", 1.0)]);
    assert_eq!((report.verdict, report.rules[0].cells[0].reason.as_str()), (Verdict::Missing, "candidate oom: killed"));
}

#[test]
fn quarantine_holds_until_its_date() {
    let rule = |until: &str| format!("{EXACT}quarantine={{reason='flaky', until='{until}'}}\n");
    let sides = || (vec![row("params_total", 2.0)], vec![row("params_total", 1.0)]);
    let (candidate, baseline) = sides();
    let report = run(&rule("2025-06-15"), candidate, baseline);
    assert_eq!((report.verdict, report.exit_code), (Verdict::Quarantined, 0));
    assert_eq!(report.rules[0].cells[0].before_quarantine, Some(Verdict::Fail));
    let (candidate, baseline) = sides();
    assert_eq!(verdict(&rule("2025-06-14"), candidate, baseline), Verdict::Fail);
}

#[test]
fn strict_counts_the_undecided() {
    let rules = GateRules::parse(NOISY, "gate.toml").unwrap();
    let (candidate, baseline) = (Records::new(timed(0.0, 6, 0, 0.001)), Records::default());
    let input = GateInput { candidate: &candidate, baseline: &baseline, today: "2025-06-15", is_strict: true, command: "" };
    assert_eq!(judge(&rules, input).unwrap().exit_code, 1);
}

#[test]
fn accept_replaces_changed_values_and_says_which() {
    let rules = GateRules::parse(&format!("{EXACT}{NOISY}"), "gate.toml").unwrap();
    let baseline = Records::new(vec![row("params_total", 100.0), row("weights_bytes", 400.0)]);
    let mut rows = timed(0.0, 10, 0, 0.001);
    rows.push(row("params_total", 110.0));
    // What `gate` does not judge is no baseline either.
    rows.push(Row { source: Source::Imported, subject: Some("s-imported".into()), ..row("params_total", 120.0) });
    let accepted = accept(&rules, &Records::new(rows), &baseline, "one more norm");
    assert_eq!(accepted.diff, ["params_total s-rw: 100 -> 110 (+10.0 %)"]);
    let kept: Vec<(&str, f64)> = accepted.rows.iter().map(|row| (row.metric.as_str(), row.value.unwrap())).collect();
    assert_eq!(kept, [("params_total", 110.0), ("weights_bytes", 400.0)]);
    assert_eq!(accepted.rows[0].notes.as_deref(), Some("accepted: one more norm"));
}

fn mixed() -> GateReport {
    let rules = format!(
        "{EXACT}\n[[rule]]\nname='alloc <peak>'\nmetric='peak_alloc_bytes'\nkind='near-exact'\nwhy='allocations repeat'\n{NOISY}"
    );
    let mut candidate = timed(0.0, 6, 0, 0.001);
    candidate.extend([row("params_total", 101.0), row("peak_alloc_bytes", 1000.0)]);
    run(&rules, candidate, vec![row("params_total", 100.0), row("peak_alloc_bytes", 1000.0)])
}

#[test]
fn text_output() {
    insta::assert_snapshot!(text(&mixed()));
}

#[test]
fn markdown_output() {
    insta::assert_snapshot!(markdown(&mixed()));
}

#[test]
fn junit_output() {
    insta::assert_snapshot!(junit(&mixed()));
}

#[test]
fn annotation_output() {
    insta::assert_snapshot!(annotations(&mixed()));
}

#[test]
fn json_holds_every_rules_verdict_bounds_and_inputs() {
    let value: serde_json::Value = serde_json::from_str(&json(&mixed())).unwrap();
    assert_eq!(value["verdict"], "fail");
    assert_eq!(value["exit_code"], 1);
    let verdicts: Vec<&str> = value["rules"].as_array().unwrap().iter().map(|rule| rule["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["fail", "pass", "inconclusive"]);
    let cell = &value["rules"][2]["cells"][0];
    assert_eq!(cell["inputs"].as_str().unwrap().len(), 64);
    assert!(cell["floor"].as_f64().unwrap() > 0.0);
    assert_eq!(cell["next"]["more_pairs"], 4);
}

#[test]
fn sarif_names_rule_level_and_place() {
    let value: serde_json::Value = serde_json::from_str(&sarif(&mixed(), "ci/gate.toml")).unwrap();
    assert_eq!(value["version"], "2.1.0");
    let results = value["runs"][0]["results"].as_array().unwrap();
    let levels: Vec<&str> = results.iter().map(|result| result["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["error", "warning"]);
    assert_eq!(results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "ci/gate.toml");
}

#[test]
fn explain_says_when_a_rule_passes() {
    let rules = GateRules::parse(NOISY, "gate.toml").unwrap();
    let words = explain(&rules.rules[0]);
    assert!(words.contains("Passes when the one-sided bound of the worsening is below +5.0 %"), "{words}");
}

#[test]
fn the_study_passes_its_own_budget() {
    let rules = GateRules::parse(
        "[[rule]]\nname='rw step'\nmetric='train_step_s'\nkind='budget'\nlimit=0.05\nlooks=[12]\nwhere={variant='rw'}\n",
        "gate.toml",
    )
    .unwrap();
    let (candidate, baseline) = (records(), Records::default());
    let input = GateInput { candidate: &candidate, baseline: &baseline, today: "2025-06-15", is_strict: true, command: "" };
    let report = judge(&rules, input).unwrap();
    assert_eq!((report.verdict, report.rules[0].cells[0].n), (Verdict::Pass, 12), "{report:?}");
}
