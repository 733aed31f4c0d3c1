//! Fixed synthetic records: five subjects, three seeds, three tasks, twelve pairs of workers. No clock, no randomness: the "noise" is a
//! fixed list, so every expected figure can be worked out by hand.

use records::{Arm, Better, InnerStat, RecordKind, Row, Tier};
use reports::{Records, Study};

/// Deterministic scatter in [−1, 1].
pub(crate) const SCATTER: [f64; 12] = [0.1, -0.4, 0.7, -0.9, 0.3, -0.2, 0.9, -0.6, 0.5, -0.1, -0.7, 0.4];

/// Subjects of the study: variant, added parameters, loss at seed 0, step time in ms.
pub(crate) const SUBJECTS: [(&str, f64, f64, f64); 5] = [
    ("plain", 0.0, 3.00, 10.0),
    ("naive+1", 198_272.0, 2.97, 11.5),
    ("rw", 8.0, 2.96, 10.05),
    ("rw+lr", 4_104.0, 2.94, 10.4),
    ("rw+lr+pa", 12_316.0, 2.935, 11.2),
];

/// Parameters of the plain model.
pub(crate) const PLAIN_PARAMS: f64 = 1_000_000.0;

fn base(variant: &str) -> Row {
    Row {
        run_id: format!("lm-tiny-{variant}/00000000-s0"),
        suite: Some("llm".into()),
        subject: Some(format!("lm-tiny-{variant}")),
        variant: Some(variant.into()),
        reference_variant: Some("plain".into()),
        tier: Some(Tier::Demo),
        model_family: Some("decoder".into()),
        num_hidden_layers: Some(4),
        hidden_size: Some(128),
        dtype: Some("f32".into()),
        threads: Some(1),
        cpu_model: Some("Synthetic CPU".into()),
        host_fingerprint: Some("feedface00000000".into()),
        git_commit: Some("0123456789abcdef0123456789abcdef01234567".into()),
        ..Row::default()
    }
}

fn metric(row: Row, name: &str, value: f64) -> Row {
    let known = records::Metric::by_name(name).expect("a metric of records::metric");
    Row { metric: name.into(), unit: known.unit.as_str().into(), better: known.better, value: Some(value), ..row }
}

/// Loss, learning curve and parameters per seed.
fn training(variant: &str, at: usize, added: f64, loss: f64) -> Vec<Row> {
    let mut rows = Vec::new();
    for seed in 0..3_i64 {
        let row = Row { seed: Some(seed), run_id: format!("lm-tiny-{variant}/00000000-s{seed}"), ..base(variant) };
        let shift = 0.004 * SCATTER[seed as usize] + 0.0005 * SCATTER[seed as usize + at + 3];
        rows.push(metric(row.clone(), "val_loss", loss + shift));
        for step in 1..=20_u64 {
            let value = loss + shift + 3.0 * (-(step as f64) / 5.0).exp();
            let at = Row { kind: RecordKind::Step, eval_step: Some(25 * step), ..row.clone() };
            rows.push(metric(at, "val_loss", value));
        }
        for (name, value) in [
            ("params_total", PLAIN_PARAMS + added),
            ("params_added", added),
            ("params_added_pct", 100.0 * added / PLAIN_PARAMS),
            ("params_laurel", if variant.starts_with("naive") { 0.0 } else { added }),
            ("params_closed_form", if variant.starts_with("naive") { 0.0 } else { added }),
            ("flops_forward", 2.0 * (PLAIN_PARAMS + added)),
        ] {
            rows.push(Row { inner_stat: Some(InnerStat::Exact), ..metric(row.clone(), name, value) });
        }
    }
    rows
}

/// Aggregate scores per seed and documents of seed 0.
fn scores(variant: &str, at: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for (task, name, filter, score, n) in [
        ("boolq", "acc", None, 0.55, 60_u64),
        ("hellaswag", "acc_norm", None, 0.30, 60),
        ("gsm8k_cot", "exact_match", Some("strict-match"), 0.05, 30),
    ] {
        let value = |seed: usize| score + 0.03 * at as f64 + 0.01 * SCATTER[seed + at];
        for (seed, number) in [0, 1, 2].into_iter().enumerate() {
            let row = Row {
                seed: Some(number),
                task: Some(task.into()),
                filter: filter.map(str::to_owned),
                inner_stat: Some(InnerStat::Mean),
                inner_n: Some(n),
                stderr: Some((score * (1.0 - score) / n as f64).sqrt()),
                num_fewshot: Some(0),
                limit: Some(n),
                task_version: Some("1".into()),
                ..base(variant)
            };
            rows.push(metric(row, name, value(seed)));
        }
    }
    rows
}

/// Twelve pairs of step times against plain, in blocks of their own.
fn timings(variant: &str, block: u32, plain_ms: f64, ms: f64) -> Vec<Row> {
    let mut rows = Vec::new();
    for (pair, scatter) in SCATTER.iter().enumerate() {
        for (arm, who, time) in [(Arm::A, "plain", plain_ms), (Arm::B, variant, ms * (1.0 + 0.004 * SCATTER[11 - pair]))] {
            let row = Row {
                run_id: "llm-measure".into(),
                arm,
                block: Some(block),
                pair: Some(pair as u32),
                inner_stat: Some(InnerStat::Median),
                contended: Some(pair == 3),
                ..base(who)
            };
            rows.push(metric(row, "train_step_s", 1e-3 * time * (1.0 + 0.01 * scatter)));
        }
    }
    rows
}

/// Twelve A/A pairs of step times.
fn control() -> Vec<Row> {
    let mut rows = Vec::new();
    for (pair, scatter) in SCATTER.iter().enumerate() {
        for (arm, wobble) in [(Arm::A, 0.0), (Arm::B, 0.004 * SCATTER[11 - pair])] {
            let row = Row {
                run_id: "llm-measure".into(),
                arm,
                block: Some(99),
                pair: Some(pair as u32),
                is_aa: true,
                inner_stat: Some(InnerStat::Median),
                ..base("plain")
            };
            rows.push(metric(row, "train_step_s", 1e-2 * (1.0 + 0.01 * scatter) * (1.0 + wobble)));
        }
    }
    rows
}

/// The whole study.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let plain_ms = SUBJECTS[0].3;
    for (at, (variant, added, loss, ms)) in SUBJECTS.into_iter().enumerate() {
        rows.extend(training(variant, at, added, loss));
        rows.extend(scores(variant, at));
        if at > 0 {
            rows.extend(timings(variant, at as u32, plain_ms, ms));
        }
    }
    rows.extend(control());
    rows.push(Row {
        better: Better::Lower,
        status: records::Status::Oom,
        value: None,
        reason: Some("killed at 2 GiB".into()),
        ..metric(Row { seed: Some(0), ..base("rw+lr+pa") }, "peak_alloc_bytes", 0.0)
    });
    for (variant, bytes) in [("plain", 40_000_000.0), ("rw", 40_100_000.0), ("rw+lr", 41_000_000.0)] {
        let row = Row { worker: Some(0), run_id: "llm-measure".into(), ..base(variant) };
        rows.push(metric(row, "peak_alloc_bytes", bytes));
    }
    rows
}

/// The study as records, for the gate.
pub(crate) fn records() -> Records {
    Records::new(rows())
}

/// The study as a report reads it.
pub(crate) fn study() -> Study {
    Study::new(rows())
}

/// A rank sweep of LR and RW+LR with RW as its band, prefill times at three prompt lengths, and peaks of the phases.
pub(crate) fn sweep() -> Study {
    Study::new(sweep_rows())
}

/// The rows of the sweep. As in a real one, every cell of a variant has the same subject name and its rank in a column.
pub(crate) fn sweep_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (variant, shift) in [("lr", 0.006), ("rw+lr", 0.0)] {
        for (at, (rank, loss)) in [(4, 2.958), (8, 2.951), (16, 2.943), (32, 2.944), (64, 2.953)].into_iter().enumerate() {
            for (seed, number) in [0, 1, 2].into_iter().enumerate() {
                let row = Row { residual_rank: Some(rank), seed: Some(number), ..base(variant) };
                rows.push(metric(row, "val_loss", loss + shift + 0.002 * SCATTER[seed + at]));
            }
        }
    }
    for (variant, loss) in [("plain", 3.0), ("rw", 2.96)] {
        for (seed, scatter) in [0, 1, 2].into_iter().zip(SCATTER) {
            rows.push(metric(Row { seed: Some(seed), ..base(variant) }, "val_loss", loss + 0.002 * scatter));
        }
    }
    for (variant, factor) in [("plain", 1.0), ("rw", 1.01), ("rw+lr", 1.04)] {
        for length in [64_u64, 256, 512] {
            for (worker, scatter) in SCATTER.iter().enumerate() {
                let row = Row { worker: Some(worker as u32), prompt_length: Some(length), ..base(variant) };
                let prefill_s = 1e-5 * length as f64 * factor * (1.0 + 0.02 * scatter);
                rows.push(metric(row.clone(), "prefill_s", prefill_s));
                rows.push(metric(row.clone(), "ttft_s", prefill_s + 1e-4));
                rows.push(metric(row, "tpot_s", 2e-4 * factor * (1.0 + 1e-4 * length as f64) * (1.0 + 0.02 * scatter)));
            }
        }
        for (name, bytes) in [
            ("weights_bytes", 4e6),
            ("train_state_bytes", 16e6),
            ("peak_alloc_train_load_bytes", 4.2e6),
            ("peak_alloc_first_step_bytes", 19e6 * factor),
            ("peak_alloc_steady_bytes", 27e6 * factor),
            ("peak_alloc_inference_load_bytes", 4.1e6),
            ("peak_alloc_prefill_bytes", 9e6 * factor),
            ("peak_alloc_decode_bytes", 5e6 * factor),
        ] {
            let row = Row { worker: Some(0), batch: Some(4), ..base(variant) };
            rows.push(Row { metric: name.into(), unit: "bytes".into(), better: Better::Lower, value: Some(bytes), ..row });
        }
    }
    rows
}
