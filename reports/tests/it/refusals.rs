//! Bad input is refused or downgraded with its reason in the output; it never becomes a number that looks fine.

use records::{Arm, Better, RecordKind, Row};
use reports::tables::by_name;
use reports::{Paper, Study, Style, render};

use crate::synthetic::SCATTER;

fn row(variant: &str, metric: &str, value: f64) -> Row {
    let known = records::Metric::by_name(metric).unwrap();
    Row {
        run_id: format!("lm-{variant}/0a0a0a0a-s0"),
        subject: Some(format!("lm-{variant}")),
        variant: Some(variant.into()),
        metric: metric.into(),
        unit: known.unit.as_str().into(),
        better: known.better,
        value: Some(value),
        ..Row::default()
    }
}

/// Ten pairs of step times, both arms as `change` leaves them.
fn pairs(change: impl Fn(&mut Row)) -> Vec<Row> {
    let mut rows = Vec::new();
    for (pair, scatter) in SCATTER.iter().take(10).enumerate() {
        for (arm, variant, time, at) in [(Arm::A, "plain", 0.010, 5), (Arm::B, "rw", 0.009, 3)] {
            let mut row = Row {
                run_id: "m".into(),
                arm,
                block: Some(0),
                pair: Some(pair as u32),
                threads: Some(1),
                schema: 1,
                ..row(variant, "train_step_s", time * (1.0 + 0.01 * scatter) * (1.0 + 0.001 * SCATTER[(pair + at) % 12]))
            };
            change(&mut row);
            rows.push(row);
        }
    }
    rows
}

fn text(table: &str, rows: Vec<Row>) -> String {
    let study = Study::new(rows);
    let table = by_name(table).unwrap().build(&study, &Paper::load().unwrap()).unwrap();
    let words: String = render(&table, Style::Text).split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{words}\n{}", study.warnings().join("\n"))
}

fn seeds(variant: &str, values: &[f64]) -> Vec<Row> {
    values.iter().zip(0..).map(|(value, seed)| Row { seed: Some(seed), ..row(variant, "val_loss", *value) }).collect()
}

#[test]
fn comparable_pairs_are_judged() {
    // The control of every test below: the same pairs, untouched, give a ratio in bold.
    let shown = text("efficiency", pairs(|_| {}));
    assert!(shown.contains("*-10.0 % [-10."), "{shown}");
}

#[test]
fn not_a_number_is_a_failed_row_with_its_reason() {
    for (value, words) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let mut rows = seeds("plain", &[3.0, 3.1]);
        rows.extend(seeds("rw", &[value]));
        let shown = text("table5", rows);
        assert!(shown.contains("failed"), "{shown}");
        assert!(shown.contains(&format!("refused: not a finite number: {words}")), "{shown}");
        assert!(
            shown.contains("val_loss: refused: not a finite number") && shown.contains("1 rows are shown as failed"),
            "{shown}"
        );
    }
}

#[test]
fn a_clock_that_went_backwards_is_refused() {
    let shown = text(
        "efficiency",
        pairs(|row| {
            if row.arm == Arm::B {
                row.value = row.value.map(|value| -value);
            }
        }),
    );
    assert!(shown.contains("a negative duration, the clock went backwards"), "{shown}");
    assert!(!shown.contains('*'), "nothing is bold: {shown}");
}

#[test]
fn an_ok_row_without_a_value_is_refused() {
    let rows = vec![Row { value: None, seed: Some(0), ..row("plain", "val_loss", 0.0) }];
    let shown = text("table5", rows);
    assert!(shown.contains("refused: status ok without a value"), "{shown}");
}

#[test]
fn a_missing_metric_is_a_dash_with_a_footnote() {
    let mut rows = seeds("plain", &[3.0, 3.1, 3.05]);
    rows.extend(seeds("rw", &[2.9, 3.02, 2.97]));
    rows.push(Row { seed: Some(0), ..row("plain", "params_total", 1000.0) });
    let shown = text("table5", rows);
    assert!(shown.contains("—") && shown.contains("not measured"), "{shown}");
    assert!(shown.contains("`params_total` was not measured"), "{shown}");
}

#[test]
fn one_seed_shows_the_difference_and_no_verdict() {
    let mut rows = seeds("plain", &[3.0]);
    rows.extend(seeds("rw", &[2.0]));
    let shown = text("gains", rows);
    assert!(shown.contains("inconclusive") && shown.contains("one common seed: no interval"), "{shown}");
    assert!(!shown.contains("better"), "{shown}");
}

#[test]
fn zero_variance_is_no_certainty() {
    let mut rows = seeds("plain", &[3.0, 3.1, 3.2]);
    rows.extend(seeds("rw", &[2.0, 2.1, 2.2]));
    let shown = text("gains", rows);
    assert!(shown.contains("inconclusive") && shown.contains("no spread, no interval"), "{shown}");
}

#[test]
fn few_pairs_are_shown_and_not_judged() {
    let rows = pairs(|_| {}).into_iter().filter(|row| row.pair < Some(6)).collect();
    let shown = text("efficiency", rows);
    assert!(shown.contains("6 pairs: shown, not judged (at least 10)") && !shown.contains('*'), "{shown}");
}

#[test]
fn two_machines_are_never_compared_or_pooled() {
    let shown = text(
        "efficiency",
        pairs(|row| {
            row.host_fingerprint = Some(if row.arm == Arm::A { "aaaa" } else { "bbbb" }.into());
        }),
    );
    assert!(!shown.contains("-10."), "no ratio across machines: {shown}");
    assert!(shown.contains("host_fingerprint bbbb; other conditions were measured and are not pooled"), "{shown}");
    // Directly asked for, the field is named.
    let study = Study::new(pairs(|row| row.host_fingerprint = Some(if row.arm == Arm::A { "aaaa" } else { "bbbb" }.into())));
    let all = reports::subject::subjects(&study, |_| true);
    let query = reports::subject::Query { metric: "train_step_s", ..Default::default() };
    assert!(reports::compare::ratio(&study, &all[0], &all[1], query).unwrap().is_none());
    assert_eq!(
        reports::compare::why_no_ratio(&study, &all[0], &all[1], query),
        "not comparable: `host_fingerprint` differs: reference `aaaa`, candidate `bbbb`"
    );
}

#[test]
fn two_schemas_are_not_pooled_and_the_reader_is_told() {
    let shown = text("efficiency", pairs(|row| row.schema = i32::from(row.arm != Arm::A)));
    assert!(!shown.contains("-10."), "{shown}");
    assert!(shown.contains("rows of schemas 0, 1 in one report"), "{shown}");
}

#[test]
fn a_debug_build_is_not_pooled_with_an_optimised_one() {
    let shown = text(
        "efficiency",
        pairs(|row| {
            row.cargo_profile = Some(if row.arm == Arm::A { "release" } else { "debug" }.into());
        }),
    );
    assert!(!shown.contains("-10.") && shown.contains("cargo_profile"), "{shown}");
}

#[test]
fn times_of_a_build_with_debug_assertions_are_marked() {
    let shown = text("efficiency", pairs(|row| row.cargo_profile = Some("debug".into())));
    assert!(shown.contains("times of a build with debug assertions (profile `debug`): shown, not judged"), "{shown}");
    assert!(!shown.contains('*'), "{shown}");
}

#[test]
fn configurations_under_one_name_are_told_apart() {
    let mut rows = Vec::new();
    for (rank, loss) in [(4, 3.0), (16, 2.0)] {
        for seed in 0..3 {
            let value = loss + 0.01 * SCATTER[seed as usize];
            rows.push(Row { residual_rank: Some(rank), seed: Some(seed), ..row("rw+lr", "val_loss", value) });
        }
    }
    // Two learning rates that no column tells apart, only the hash in the run id.
    for (hash, loss) in [("11111111", 3.0), ("22222222", 2.0)] {
        for seed in 0..2 {
            let run_id = format!("lm-rw/{hash}-s{seed}");
            rows.push(Row { run_id, seed: Some(seed), ..row("rw", "val_loss", loss + 0.01 * SCATTER[seed as usize]) });
        }
    }
    let study = Study::new(rows);
    let names: Vec<String> = reports::subject::subjects(&study, |_| true).into_iter().map(|subject| subject.name).collect();
    assert_eq!(names, ["lm-rw-config 11111111", "lm-rw-config 22222222", "lm-rw+lr-r16", "lm-rw+lr-r4"]);
}

/// The run of `measure` was taken for a training run of another config: quality and cost of a subject stood under two names.
#[test]
fn counts_that_measure_took_belong_to_the_trained_subject() {
    let trained = Row { run_id: "lm-rw/11111111-s0".into(), seed: Some(0), ..row("rw", "val_loss", 3.0) };
    let suite = Some("efficiency".into());
    let counted = Row { run_id: "efficiency/22222222-s0".into(), suite, seed: Some(0), ..row("rw", "params_added", 2.0) };
    let study = Study::new(vec![trained, counted]);
    let names: Vec<String> = reports::subject::subjects(&study, |_| true).into_iter().map(|subject| subject.name).collect();
    assert_eq!(names, ["lm-rw"]);
}

#[test]
fn documents_are_never_pooled_with_aggregates() {
    // An aggregate and its documents stand side by side in real folders; the aggregate counts, once.
    let mut rows = vec![Row { seed: Some(0), better: Better::Higher, task: Some("t".into()), ..row("plain", "acc", 0.75) }];
    for (doc, score) in [("a", 1.0), ("b", 0.0)] {
        rows.push(Row { kind: RecordKind::Document, doc_id: Some(doc.into()), ..rows[0].clone() });
        rows.last_mut().unwrap().value = Some(score);
    }
    let shown = text("quality", rows);
    assert!(shown.contains("75") && !shown.contains("50 "), "{shown}");
}
