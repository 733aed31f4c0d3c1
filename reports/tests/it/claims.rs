//! Every kind of claim check: shown, refuted, and undecided data each give their verdict.

use records::{Arm, Row, Status};
use reports::claims::{Finding, Standing, judge};
use reports::{Paper, Study};

use crate::synthetic::SCATTER;

fn claim(id: &str, rows: Vec<Row>) -> Finding {
    let paper = Paper::load().unwrap();
    let claim = paper.claims.iter().find(|claim| claim.id == id).unwrap();
    judge(&Study::new(rows), claim, &paper).unwrap()
}

fn row(variant: &str, metric: &str, value: f64) -> Row {
    let (unit, better) = match records::Metric::by_name(metric) {
        Some(known) => (known.unit.to_string(), known.better),
        None => ("bytes".to_owned(), records::Better::Lower),
    };
    Row {
        subject: Some(format!("lm-{variant}")),
        variant: Some(variant.into()),
        metric: metric.into(),
        unit,
        better,
        value: Some(value),
        ..Row::default()
    }
}

/// A number in [−1, 1] that depends on everything that tells a cell from another, and on the seed.
fn scatter(row: &Row, seed: i64) -> f64 {
    let cell = Row { seed: Some(seed), ..row.clone() }.seal().record_id;
    u32::from_str_radix(&cell[..8], 16).unwrap() as f64 / f64::from(u32::MAX) * 2.0 - 1.0
}

/// Five seeds around a value; `noise` is the spread that pairing does not remove.
fn five(like: &Row, centre: f64, noise: f64) -> Vec<Row> {
    (0..5)
        .zip(SCATTER)
        .map(|(seed, shared)| {
            let value = centre + 0.05 * shared + noise * scatter(like, seed);
            Row { seed: Some(seed), value: Some(value), ..like.clone() }
        })
        .collect()
}

/// Losses of variants, five seeds each.
fn losses(values: &[(&str, f64)], noise: f64) -> Vec<Row> {
    values.iter().flat_map(|(variant, loss)| five(&row(variant, "val_loss", 0.0), *loss, noise)).collect()
}

fn swept(variant: &str, set: impl Fn(&mut Row), loss: f64, noise: f64) -> Vec<Row> {
    let mut like = row(variant, "val_loss", 0.0);
    set(&mut like);
    five(&like, loss, noise)
}

fn ranks(values: &[(u64, f64)], noise: f64) -> Vec<Row> {
    values.iter().flat_map(|(rank, loss)| swept("rw+lr", |row| row.residual_rank = Some(*rank), *loss, noise)).collect()
}

/// Twelve pairs of a cost against plain.
fn timed(metric: &str, ratios: &[(&str, f64)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (block, (variant, ratio)) in ratios.iter().enumerate() {
        for (pair, scatter) in SCATTER.iter().enumerate() {
            for (arm, who, ratio) in [(Arm::A, "plain", 1.0), (Arm::B, *variant, ratio * (1.0 + 0.002 * SCATTER[11 - pair]))] {
                let place = (Some(block as u32), Some(pair as u32));
                let value = 0.01 * ratio * (1.0 + 0.01 * scatter);
                rows.push(Row { run_id: "m".into(), arm, block: place.0, pair: place.1, ..row(who, metric, value) });
            }
        }
    }
    rows
}

fn standing(id: &str, rows: Vec<Row>) -> Standing {
    let found = claim(id, rows);
    eprintln!("{id}: {} — {}", found.standing.as_str(), found.evidence);
    found.standing
}

use Standing::{NotRun, NotSupported, Supported, Unresolved};

#[test]
fn better_worse_and_undecided() {
    let against_plain = |loss: f64, noise: f64| losses(&[("rw", loss), ("plain", 3.0)], noise);
    assert_eq!(standing("C01", against_plain(2.9, 0.001)), Supported);
    assert_eq!(standing("C01", against_plain(3.1, 0.001)), NotSupported);
    let open = claim("C01", against_plain(2.999, 0.02));
    assert_eq!(open.standing, Unresolved);
    assert!(open.evidence.contains("detectable"), "{}", open.evidence);
    assert_eq!(standing("C01", losses(&[("rw", 2.9)], 0.001)), NotRun);
}

#[test]
fn a_control_does_not_stand_for_its_variant_and_a_swept_reference_is_named() {
    let mut rows = swept("pa", |row| row.residual_gamma = Some("fixed".into()), 3.0, 0.001);
    rows.extend(swept("pa", |row| row.residual_gamma = Some("learned".into()), 2.9, 0.001));
    for (rate, loss) in [(1e-3, 3.1), (3e-3, 3.0)] {
        rows.extend(swept("plain", |row| row.learning_rate = Some(rate), loss, 0.001));
    }
    let found = claim("C13", rows);
    assert!(found.evidence.contains("PA gamma-learned against Baseline rate0.001 +0.20"), "{}", found.evidence);
}

#[test]
fn equality_needs_both_bounds_inside_the_margin() {
    let accuracies = |lr: f64, noise: f64| -> Vec<Row> {
        [("rw+lr", lr), ("naive+1", 0.75), ("plain", 0.74)]
            .iter()
            .flat_map(|(variant, centre)| five(&row(variant, "acc1_best", 0.0), *centre, noise))
            .collect()
    };
    assert_eq!(standing("C02", accuracies(0.7505, 0.0005)), Supported);
    assert_eq!(standing("C02", accuracies(0.77, 0.0005)), NotSupported);
    assert_eq!(standing("C02", accuracies(0.7505, 0.02)), Unresolved);
}

#[test]
fn most_of_a_gain_needs_a_gain() {
    let of = |rw: f64, naive: f64, noise: f64| losses(&[("plain", 3.0), ("naive+1", naive), ("rw", rw)], noise);
    assert_eq!(standing("C06", of(2.92, 2.9, 0.0005)), Supported);
    assert_eq!(standing("C06", of(2.99, 2.9, 0.0005)), NotSupported);
    let none = claim("C06", of(2.9, 3.0, 0.01));
    assert_eq!(none.standing, Unresolved);
    assert!(none.evidence.contains("no share of it can be judged"), "{}", none.evidence);
}

#[test]
fn the_best_rank_beats_the_others() {
    assert_eq!(standing("C07", ranks(&[(4, 3.0), (8, 2.99), (16, 2.9), (32, 2.91), (64, 2.95)], 0.001)), Supported);
    assert_eq!(standing("C07", ranks(&[(4, 2.8), (8, 2.99), (16, 2.9), (32, 2.91)], 0.001)), NotSupported);
    assert_eq!(standing("C07", ranks(&[(4, 2.9), (8, 2.9), (16, 2.9)], 0.01)), Unresolved);
    assert_eq!(standing("C07", ranks(&[(4, 2.9), (8, 2.9)], 0.01)), NotRun);
}

#[test]
fn small_ranks_add_little() {
    let with_rw = |small: f64, noise: f64| {
        let mut rows = ranks(&[(4, small), (8, small), (16, 2.9), (32, 2.905)], noise);
        rows.extend(losses(&[("rw", 3.0)], noise));
        rows
    };
    assert_eq!(standing("C08", with_rw(2.99, 0.0005)), Supported);
    assert_eq!(standing("C08", with_rw(2.91, 0.0005)), NotSupported);
    assert_eq!(standing("C08", with_rw(2.95, 0.02)), Unresolved);
}

#[test]
fn initialisation_matters_when_one_differs() {
    let of = |xavier: f64, noise: f64| {
        let mut rows = swept("lr", |row| row.residual_init = Some("column-orthogonal".into()), 2.9, noise);
        rows.extend(swept("lr", |row| row.residual_init = Some("xavier".into()), xavier, noise));
        rows
    };
    assert_eq!(standing("C09", of(2.95, 0.001)), Supported);
    assert_eq!(standing("C09", of(2.9, 0.01)), Unresolved);
}

#[test]
fn starting_as_plain_is_a_matter_of_bits() {
    let of = |nudge: f64| -> Vec<Row> {
        (0..2)
            .flat_map(|seed| {
                let value = 6.9 + 0.1 * seed as f64;
                [("plain", value), ("lr", value + nudge)]
                    .map(|(variant, value)| Row { seed: Some(seed), ..row(variant, "initial_loss", value) })
            })
            .collect()
    };
    assert_eq!(standing("C10", of(0.0)), Supported);
    assert_eq!(standing("C10", of(1e-15)), NotSupported);
}

#[test]
fn settings_of_one_variant_are_compared() {
    let mixed = |variant: &str, mix: &str, loss: f64, noise: f64| {
        swept(variant, |row| row.residual_mix = Some(mix.to_owned()), loss, noise)
    };
    let mixes = |free: f64, noise: f64| -> Vec<Row> {
        let of = |variant| [mixed(variant, "softmax2", 2.9, noise), mixed(variant, "free", free, noise)].concat();
        ["rw", "rw+lr"].into_iter().flat_map(of).collect()
    };
    assert_eq!(standing("C11", mixes(2.95, 0.001)), Supported);
    assert_eq!(standing("C11", mixes(2.85, 0.001)), NotSupported);
    assert_eq!(standing("C11", mixes(2.9, 0.01)), Unresolved);
    let gammas = |fixed: f64| -> Vec<Row> {
        let of = |variant, gamma: &str, loss| swept(variant, |row| row.residual_gamma = Some(gamma.to_owned()), loss, 0.001);
        ["pa", "rw+pa", "lr+pa"].into_iter().flat_map(|v| [of(v, "learned", 2.9), of(v, "fixed", fixed)].concat()).collect()
    };
    assert_eq!(standing("C32", gammas(2.95)), Supported);
    assert_eq!(standing("C32", gammas(2.85)), NotSupported);

    // A variant without both settings is missing, and one whose setting ended in failures is not what the claim says.
    let only_rw = [mixed("rw", "softmax2", 2.9, 0.001), mixed("rw", "free", 2.95, 0.001)].concat();
    let lacking = claim("C11", only_rw.clone());
    assert_eq!(lacking.standing, NotRun);
    assert!(lacking.evidence.contains("not measured: RW+LR softmax2 and free"), "{}", lacking.evidence);
    for (stopped, other, expected) in [("softmax2", "free", NotSupported), ("free", "softmax2", NotRun)] {
        let mut rows = [only_rw.clone(), mixed("rw+lr", other, 2.9, 0.001)].concat();
        rows.push(Row { residual_mix: Some(stopped.to_owned()), ..failed("rw+lr") });
        let found = claim("C11", rows);
        assert_eq!(found.standing, expected);
        assert!(found.evidence.contains(&format!("RW+LR {stopped}: a run failed (loss is NaN at step 7)")), "{}", found.evidence);
    }
}

#[test]
fn the_opposite_of_a_setting_needs_all_variants_of_the_claim_corrected_for() {
    // Gains −0.001, −0.002, −0.004, −0.0005, −0.004: mean −0.0023, standard error 0.000735, so t = 3.13. The quantile of t(4) is 2.78
    // at 95 % and 3.50 at 1 − 0.05/2: two variants are two chances to find the opposite.
    let mixed = |variant: &str, mix: &str, losses: [f64; 5]| -> Vec<Row> {
        let row = Row { residual_mix: Some(mix.to_owned()), ..row(variant, "val_loss", 0.0) };
        (0..5).zip(losses).map(|(seed, loss)| Row { seed: Some(seed), value: Some(loss), ..row.clone() }).collect()
    };
    let rows: Vec<Row> = ["rw", "rw+lr"]
        .into_iter()
        .flat_map(|variant| {
            let bounded = mixed(variant, "softmax2", [3.0; 5]);
            [bounded, mixed(variant, "free", [2.999, 2.998, 2.996, 2.9995, 2.996])].concat()
        })
        .collect();
    assert_eq!(standing("C11", rows), Unresolved);
}

fn failed(variant: &str) -> Row {
    let reason = Some("loss is NaN at step 7".to_owned());
    Row { status: Status::Failed, value: None, reason, ..row(variant, "val_loss", 0.0) }
}

#[test]
fn a_failed_run_or_a_spike_is_an_instability() {
    let without = |absent: &str, spike: f64| -> Vec<Row> {
        ["plain", "rw", "lr", "pa", "rw+lr", "rw+pa", "lr+pa", "rw+lr+pa"]
            .into_iter()
            .filter(|variant| *variant != absent)
            .map(|variant| row(variant, "grad_norm_spike_ratio", if variant == "rw" { spike } else { 3.0 }))
            .collect()
    };
    let of = |spike: f64| without("", spike);
    assert_eq!(standing("C12", of(3.5)), Supported);
    assert_eq!(standing("C12", of(9.0)), NotSupported);
    assert_eq!(standing("C12", without("pa", 3.0)), NotRun);
    // Some runs of a variant failed, all of its runs, and all runs of all variants.
    let all = vec![row("plain", "grad_norm_spike_ratio", 3.0)];
    for mut rows in [of(3.0), without("rw", 3.0), all] {
        rows.push(failed("rw"));
        let found = claim("C12", rows);
        assert_eq!(found.standing, NotSupported);
        assert!(found.evidence.contains("RW: a run failed (loss is NaN at step 7)"), "{}", found.evidence);
    }
}

#[test]
fn stated_costs_are_ratios_to_the_own_baseline() {
    assert_eq!(standing("C18", timed("train_step_s", &[("lr", 1.032), ("pa", 1.053), ("rw+lr+pa", 1.095)])), Supported);
    assert_eq!(standing("C18", timed("train_step_s", &[("lr", 1.032), ("pa", 1.20), ("rw+lr+pa", 1.095)])), NotSupported);
    assert_eq!(standing("C18", timed("train_step_s", &[("lr", 1.032), ("pa", 1.053)])), NotRun);
    let few: Vec<Row> = timed("train_step_s", &[("lr", 1.032), ("pa", 1.053), ("rw+lr+pa", 1.095)])
        .into_iter()
        .filter(|r| r.pair < Some(6))
        .collect();
    let found = claim("C18", few);
    assert_eq!(found.standing, Unresolved);
    assert!(found.evidence.contains("6 pairs of at least 10: shown, not judged"), "{}", found.evidence);
}

#[test]
fn a_cost_is_judged_at_the_rank_that_the_claim_states() {
    let mut rows = timed("prefill_s", &[("rw+lr", 1.0), ("rw+lr", 1.1)]);
    for row in rows.iter_mut().filter(|row| row.variant.as_deref() == Some("rw+lr")) {
        row.residual_rank = Some(if row.block == Some(0) { 4 } else { 64 });
    }
    assert_eq!(standing("C23", rows.clone()), Supported);
    assert_eq!(standing("C25", rows.clone()), NotSupported);
    rows.retain(|row| row.residual_rank != Some(64));
    let found = claim("C25", rows);
    assert_eq!(found.standing, NotRun);
    assert!(found.evidence.ends_with("not measured: RW+LR r64"), "{}", found.evidence);
}

#[test]
fn the_order_holds_when_every_neighbour_does() {
    let order =
        |pa: f64, noise: f64| losses(&[("rw+lr+pa", 2.90), ("pa", pa), ("rw+lr", 2.94), ("rw", 2.96), ("lr", 2.98)], noise);
    assert_eq!(standing("C19", order(2.92, 0.001)), Supported);
    assert_eq!(standing("C19", order(2.88, 0.001)), NotSupported);
    assert_eq!(standing("C19", order(2.92, 0.05)), Unresolved);
}

#[test]
fn the_order_of_trying_is_the_front() {
    let with_params = |lr: f64| {
        let values = [
            ("plain", 3.0, 0.0),
            ("rw", 2.98, 8.0),
            ("lr", lr, 100.0),
            ("rw+lr", 2.94, 108.0),
            ("pa", 2.92, 120.0),
            ("rw+lr+pa", 2.9, 300.0),
        ];
        let mut rows = Vec::new();
        for (variant, loss, added) in values {
            rows.extend(five(&row(variant, "val_loss", 0.0), loss, 0.001));
            rows.push(Row { seed: Some(0), ..row(variant, "params_added", added) });
        }
        rows
    };
    assert_eq!(standing("C21", with_params(2.96)), Supported);
    assert_eq!(standing("C21", with_params(2.99)), NotSupported);
}

#[test]
fn better_on_all_tasks_counts_every_row() {
    let paper = Paper::load().unwrap();
    let table = paper.table("table2").unwrap();
    let named: Vec<(&str, &str)> =
        table.rows.iter().filter(|row| row.label != "MBPP").map(|row| (row.tasks[0].as_str(), row.metrics[0].as_str())).collect();
    assert_eq!(named.len(), 8);
    let of = |worse: usize, noise: f64| -> Vec<Row> {
        named
            .iter()
            .enumerate()
            .flat_map(|(at, (task, metric))| {
                let gain = if at == worse { -0.05 } else { 0.05 };
                [("plain", 0.3), ("rw+lr", 0.3 + gain)].into_iter().flat_map(move |(variant, score)| {
                    five(
                        &Row { task: Some((*task).to_owned()), better: records::Better::Higher, ..row(variant, metric, 0.0) },
                        score,
                        noise,
                    )
                })
            })
            .collect()
    };
    assert_eq!(standing("C22", of(99, 0.001)), Supported);
    assert_eq!(standing("C22", of(2, 0.001)), NotSupported);
    assert_eq!(standing("C22", of(99, 0.2)), Unresolved);
    assert_eq!(
        standing("C22", of(99, 0.001).into_iter().filter(|row| row.task.as_deref() != Some(named[0].0)).collect()),
        NotRun
    );
}

#[test]
fn memory_grows_by_one_activation_per_remembered_one() {
    // B·T·D·4 bytes = 2·16·8·4 = 1024.
    let of = |step: f64| -> Vec<Row> {
        (1..4)
            .map(|k| Row {
                residual_lookback: Some(k),
                batch: Some(2),
                prompt_length: Some(16),
                hidden_size: Some(8),
                dtype: Some("f32".into()),
                worker: Some(0),
                run_id: format!("k{k}"),
                ..row("pa", "peak_alloc_prefill_bytes", 1e4 + step * k as f64)
            })
            .collect()
    };
    assert_eq!(standing("C30", of(1024.0)), Supported);
    assert_eq!(standing("C30", of(4096.0)), NotSupported);
}

#[test]
fn three_is_enough_when_more_adds_little() {
    let of = |six: f64, noise: f64| {
        let mut rows = losses(&[("plain", 3.0)], noise);
        for (k, loss) in [(1, 2.95), (3, 2.9), (6, six)] {
            rows.extend(swept("pa", |row| row.residual_lookback = Some(k), loss, noise));
        }
        rows
    };
    assert_eq!(standing("C31", of(2.899, 0.0005)), Supported);
    assert_eq!(standing("C31", of(2.8, 0.0005)), NotSupported);
    assert_eq!(standing("C31", of(2.88, 0.02)), Unresolved);
}
