//! What training promises: a batch is memorised, the same seed gives the same curve, and stopping changes nothing.

use crate::support::{Project, stdout};
use candle_core::{DType, Device};
use harness::config::TrainConfig;
use harness::data::windows::Batch;
use harness::run::RunDirectory;
use harness::train::log::{self, Line};
use harness::train::{TrainOptions, optimizer::Optimizer, step};
use models::{Decoder, ModelConfig, ParamStore};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn config(project: &Project, sets: &[&str]) -> TrainConfig {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    TrainConfig::load(&project.config(), &sets, None).unwrap()
}

/// The log without the one field that depends on the clock.
fn curve(run: &Path) -> Vec<Line> {
    let mut lines = log::read(&run.join(log::TRAIN_LOG)).unwrap();
    for line in &mut lines {
        if let Line::Step { tokens_per_s, .. } = line {
            *tokens_per_s = 0.0;
        }
    }
    lines
}

fn final_weights(run: &Path) -> Vec<u8> {
    let checkpoint = RunDirectory::open(run).unwrap().newest_checkpoint().unwrap().unwrap();
    std::fs::read(checkpoint.model_file()).unwrap()
}

#[test]
fn one_batch_is_memorised() {
    let project = Project::new();
    for residual in ["plain", "rw", "lr", "pa", "rw+lr", "rw+lr+pa"] {
        let mut config = config(&project, &["optimizer.learning_rate=1e-2"]);
        config.model.set_residual(laurel::ResidualConfig::preset(residual, 2, 3).unwrap());
        let ModelConfig::Decoder(shape) = &config.model;
        let store = ParamStore::new(DType::F32, &Device::Cpu);
        let model = Decoder::new(shape, store.var_builder()).unwrap();
        model.init_weights(0).unwrap();
        let mut optimizer = Optimizer::new(&config.optimizer, &store);
        // Two sequences whose next token is a function of the current one.
        let inputs: Vec<u32> = (0..32).map(|i| (i * 37 + 11) % 1000).collect();
        let targets: Vec<u32> = (0..32).map(|i| (i * 53 + 5) % 1000).collect();
        let batch = Batch { inputs, targets, rows: 2 };
        let first = step::train_step(&model, &mut optimizer, std::slice::from_ref(&batch), 1.0).unwrap().loss;
        // An untrained model knows nothing: ln 1000 = 6.9 nats.
        assert!((first - 1000f64.ln()).abs() < 0.2, "{residual}: {first}");
        let mut last = first;
        for _ in 0..150 {
            last = step::train_step(&model, &mut optimizer, std::slice::from_ref(&batch), 1.0).unwrap().loss;
        }
        assert!(last < 0.05, "{residual}: {last}");
    }
}

#[test]
fn gradient_accumulation_equals_one_large_batch() {
    let project = Project::new();
    let weights = |batches: &[Batch]| {
        let config = config(&project, &[]);
        let ModelConfig::Decoder(shape) = &config.model;
        let store = ParamStore::new(DType::F32, &Device::Cpu);
        let model = Decoder::new(shape, store.var_builder()).unwrap();
        model.init_weights(0).unwrap();
        let mut optimizer = Optimizer::new(&config.optimizer, &store);
        let report = step::train_step(&model, &mut optimizer, batches, 1.0).unwrap();
        (report, store)
    };
    let ids: Vec<u32> = (0..64).map(|i| (i * 37 + 11) % 1000).collect();
    let part = |range: std::ops::Range<usize>| Batch {
        inputs: ids[range.clone()].to_vec(),
        targets: ids[range.clone()].to_vec(),
        rows: range.len() / 16,
    };
    let (whole, _) = weights(&[part(0..64)]);
    let (parts, _) = weights(&[part(0..32), part(32..64)]);
    // Sums of the same f32 terms in another order: a few units in the last place of numbers near 7 and 1.
    assert!((whole.loss - parts.loss).abs() < 1e-5, "{whole:?} {parts:?}");
    assert!((whole.grad_norm - parts.grad_norm).abs() < 1e-5 * whole.grad_norm, "{whole:?} {parts:?}");
}

#[test]
fn same_seed_gives_the_same_curve_and_another_seed_another() {
    let project = Project::new();
    for (runs_dir, seed) in [("a", "0"), ("b", "0"), ("c", "1")] {
        let mut command = project.train(&[]);
        command.args(["--runs-dir", runs_dir, "--seed", seed]);
        stdout(command);
    }
    let [a, b, c] = ["a", "b", "c"].map(|runs_dir| project.only_run(runs_dir));
    assert_eq!(curve(&a), curve(&b));
    assert_eq!(final_weights(&a), final_weights(&b));
    assert_ne!(curve(&a), curve(&c));
    // 60 steps, validations after 25, 50 and the last.
    assert_eq!(curve(&a).len(), 63);
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let project = Project::new();
    let sets = ["max_steps=400", "checkpoint_every=30", "eval_every=100"];
    let mut whole = project.train(&sets);
    whole.args(["--runs-dir", "whole"]);
    stdout(whole);

    // Killed twice, at whatever moment the log has grown past the mark.
    let mut kills = 0;
    for mark in [45, 130] {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("harness"))
            .args(["train", "--config", "configs/train/t.toml", "--threads", "1", "--runs-dir", "killed"])
            .args(sets.iter().flat_map(|set| ["--set", set]))
            .current_dir(project.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_mins(2);
        let log_lines = || {
            let run = std::fs::read_dir(project.path("killed/t")).ok()?.next()?.ok()?.path();
            Some(std::fs::read_to_string(run.join(log::TRAIN_LOG)).ok()?.lines().count())
        };
        while log_lines().unwrap_or(0) < mark && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the run did not reach step {mark}");
            std::thread::sleep(Duration::from_millis(2));
        }
        kills += usize::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert_eq!(kills, 2, "the run ended before it could be killed: make it longer");

    let mut rest = project.train(&sets);
    rest.args(["--runs-dir", "killed", "--format", "json"]);
    let summary: serde_json::Value = serde_json::from_str(&stdout(rest)).unwrap();
    assert!(summary["resumed_from"].as_u64().unwrap() >= 120, "{summary}");
    let (whole, killed) = (project.only_run("whole"), project.only_run("killed"));
    assert_eq!(curve(&whole), curve(&killed));
    assert_eq!(final_weights(&whole), final_weights(&killed));
    let leftovers: Vec<_> = std::fs::read_dir(killed.join("checkpoints"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn a_finished_run_is_skipped_and_its_records_stay() {
    let project = Project::new();
    let first = stdout(project.train(&[]));
    let run = project.only_run("runs");
    let records = std::fs::read_to_string(run.join("records.jsonl")).unwrap();
    let second = stdout(project.train(&[]));
    assert!(second.contains("(was finished)"), "{second}");
    assert_eq!(first.lines().last(), second.lines().last());
    assert_eq!(std::fs::read_to_string(run.join("records.jsonl")).unwrap(), records);
}

#[test]
fn a_run_leaves_rows_with_exact_counts_and_the_validation_curve() {
    let project = Project::new();
    stdout(project.train(&[]));
    let run = project.only_run("runs");
    let rows = records::read_rows(&run.join("records.jsonl")).unwrap().rows;
    let value = |metric: &str| {
        rows.iter().find(|row| row.metric == metric && row.kind == records::RecordKind::Sample).and_then(|row| row.value)
    };
    // Embedding 1000·32; per layer: attention 2·(32·32) + 2·(32·16), MLP 3·(32·64), norms 2·32, LR 2·2·32, RW 2; final norm 32.
    let per_layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32 + 2 * 2 * 32 + 2;
    assert_eq!(value("params_total"), Some(f64::from(1000 * 32 + 2 * per_layer + 32)));
    assert_eq!(value("params_laurel"), Some(f64::from(2 * (2 * 2 * 32 + 2))));
    assert_eq!(value("train_tok"), Some(60.0 * 2.0 * 16.0));
    let curve: Vec<u64> = rows
        .iter()
        .filter(|row| row.metric == "val_loss" && row.kind == records::RecordKind::Step)
        .filter_map(|row| row.eval_step)
        .collect();
    assert_eq!(curve, [25, 50, 60]);
    for row in &rows {
        row.check().unwrap();
        assert_eq!((row.subject.as_deref(), row.variant.as_deref(), row.seed), (Some("t"), Some("rw+lr"), Some(0)));
    }
    let manifest = records::Manifest::load(&run.join("manifest.json")).unwrap();
    assert_eq!(manifest.status, records::RunStatus::Finished);
    assert!(manifest.inputs.tokenizer_sha256.is_some() && manifest.build.binary_sha256.is_some());
    // The resolved config stands alone and is the same experiment.
    let again = RunDirectory::open(&run).unwrap().config().unwrap();
    assert_eq!(again.sha256(), config(&project, &[]).sha256());
}

#[test]
fn training_lowers_the_validation_loss() {
    let project = Project::new();
    let config = config(&project, &["max_steps=150", "batch=8"]);
    let options = TrainOptions { runs_dir: project.path("runs"), threads: 1, fresh: false };
    let summary = harness::train::train(&config, &options).unwrap();
    // ln 1000 = 6.9 nats at the start; the demo text is highly regular.
    assert!(summary.val_loss < 5.5, "{summary:?}");
    assert!((summary.bits_per_byte / summary.val_loss - 0.5).abs() < 0.2, "{summary:?}");
}

#[test]
fn a_runs_numerics_are_in_its_name_and_its_rows_and_keep_the_curve() {
    let project = Project::new();
    let mut losses = Vec::new();
    for numerics in ["f32", "f32-split", "bf16"] {
        let mut command = project.train(&["max_steps=20"]);
        command.args(["--numerics", numerics, "--runs-dir", numerics]);
        stdout(command);
        let run = project.only_run(numerics);
        let rows = records::read_rows(&run.join("records.jsonl")).unwrap().rows;
        assert!(!rows.is_empty());
        assert!(rows.iter().all(|row| row.numerics.is_some_and(|found| found.as_str() == numerics)), "{numerics}");
        let val_loss = curve(&run).iter().rev().find_map(|line| match line {
            Line::Validation { val_loss, .. } => Some(*val_loss),
            _ => None,
        });
        losses.push((run.file_name().unwrap().to_owned(), val_loss.unwrap()));
    }
    assert!(losses[0].0 != losses[1].0 && losses[1].0 != losses[2].0 && losses[0].0 != losses[2].0, "{losses:?}");
    for (_, loss) in &losses[1..] {
        // after 20 steps the loss has fallen by whole nats; roundings move it by thousandths
        assert!((loss - losses[0].1).abs() < 0.03, "{losses:?}");
    }
    let scores = project.harness(&["eval", "--suite", "llm", "--numerics", "bf16", "--dry-run"]);
    assert!(crate::support::stderr(scores, 2).contains("--numerics: expected `f32` for scores"));
}
