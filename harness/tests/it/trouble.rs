//! What can go wrong while training, and what a person is told.

use crate::support::{Project, stderr, stdout};
use harness::config::TrainConfig;
use harness::run::RunDirectory;
use std::process::Command;

#[test]
fn an_empty_corpus_is_named() {
    let project = Project::new();
    std::fs::write(project.path("train.txt"), "").unwrap();
    let error = stderr(project.train(&[]), 2);
    assert!(error.contains("train.txt` is empty") && error.contains("hint:"), "{error}");
}

#[test]
fn a_corpus_shorter_than_a_window_is_named_with_both_numbers() {
    let project = Project::new();
    std::fs::write(project.path("train.txt"), "one two").unwrap();
    let error = stderr(project.train(&[]), 2);
    assert!(error.contains("too short: expected more than data.sequence_length (16) tokens, found"), "{error}");
}

#[test]
fn a_missing_corpus_is_named_before_anything_runs() {
    let project = Project::new();
    let error = stderr(project.train(&["data.train=none.txt"]), 2);
    assert!(error.contains("cannot read") && error.contains("none.txt"), "{error}");
    assert!(!project.path("runs/t").join("train.jsonl").exists());
}

#[test]
fn a_tokenizer_larger_than_the_model_is_refused() {
    let project = Project::new();
    let error = stderr(project.train(&["model.vocab_size=500"]), 2);
    assert!(error.contains("below model.vocab_size (500), found ids up to 999") && error.contains("at least 1000"), "{error}");
}

#[test]
fn a_file_that_is_no_tokenizer_is_refused_with_a_hint() {
    let project = Project::new();
    std::fs::write(project.path("bad.json"), "{}").unwrap();
    let error = stderr(project.train(&["tokenizer=bad.json"]), 2);
    assert!(error.contains("cannot load the tokenizer") && error.contains("hint: expected the `tokenizer.json`"), "{error}");
}

#[test]
fn an_invalid_value_is_refused_at_its_key_before_anything_is_written() {
    let project = Project::new();
    let error = stderr(project.train(&["model.residual.augment[0].rank=512"]), 2);
    assert!(error.contains("--set model.residual.augment[0].rank=512"), "{error}");
    assert!(error.contains("model.residual.augment[0].rank: expected 1..=32") && error.contains("found 512"), "{error}");
    assert!(error.contains("hint: the paper recommends ranks from 32 to 64"), "{error}");
    assert!(!project.path("runs").exists());
}

#[test]
fn two_processes_in_one_run_get_a_clear_error() {
    let project = Project::new();
    let config = TrainConfig::load(&project.config(), &[], None).unwrap();
    let lock = RunDirectory::of(&project.path("runs"), &config).lock().unwrap();
    let error = stderr(project.train(&[]), 2);
    assert!(error.contains("another process works in") && error.contains(&std::process::id().to_string()), "{error}");
    drop(lock);
    stdout(project.train(&[]));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_is_recorded() {
    let project = Project::new();
    let sets = ["optimizer.learning_rate=1e30", "checkpoint_every=1", "optimizer.warmup_steps=0", "optimizer.max_grad_norm=0"];
    let error = stderr(project.train(&sets), 2);
    assert!(error.contains("is not finite at step") && error.contains("last good checkpoint:"), "{error}");
    assert!(error.contains("hint: lower optimizer.learning_rate"), "{error}");
    let run = project.only_run("runs");
    let rows = records::read_rows(&run.join("records.jsonl")).unwrap().rows;
    assert_eq!((rows.len(), rows[0].status, rows[0].value), (1, records::Status::Failed, None));
    assert!(rows[0].reason.as_ref().unwrap().contains("not finite"));
    assert_eq!(records::Manifest::load(&run.join("manifest.json")).unwrap().status, records::RunStatus::Failed);
}

#[test]
fn changed_data_is_noticed_and_fresh_forgets() {
    let project = Project::new();
    stdout(project.train(&[]));
    let text = std::fs::read_to_string(project.path("train.txt")).unwrap();
    std::fs::write(project.path("train.txt"), text + "One sentence more.\n").unwrap();
    let error = stderr(project.train(&[]), 2);
    assert!(error.contains("the data files changed") && error.contains("--fresh"), "{error}");
    let mut fresh = project.train(&[]);
    fresh.arg("--fresh");
    assert!(!stdout(fresh).contains("was finished"));
}

#[test]
fn a_damaged_token_cache_is_rebuilt() {
    let project = Project::new();
    stdout(project.harness(&["data", "prepare", "--config", "configs/train/t.toml"]));
    for file in std::fs::read_dir(project.path("runs/_cache/tokens")).unwrap() {
        std::fs::write(file.unwrap().path(), "garbage").unwrap();
    }
    let mut command = project.harness(&["data", "prepare", "--config", "configs/train/t.toml"]);
    let output = command.assert().success().get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("damaged token cache"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("train.txt"));
}

/// A disk that is full at the first checkpoint: file sizes are limited for the child, and the signal that would kill it is ignored,
/// so that it sees the same failed write as on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_no_half_written_checkpoint() {
    let project = Project::new();
    stdout(project.harness(&["data", "prepare", "--config", "configs/train/t.toml"]));
    let script = "trap '' XFSZ; ulimit -f 200; exec \"$0\" train --config configs/train/t.toml --threads 1"; // 100 KiB, below the embedding
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(assert_cmd::cargo::cargo_bin!("harness"))
        .current_dir(project.path(""))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("cannot write checkpoint") && error.contains("hint: free some disk space"), "{error}");
    let run = project.only_run("runs");
    assert_eq!(std::fs::read_dir(run.join("checkpoints")).unwrap().count(), 0);
    let manifest = records::Manifest::load(&run.join("manifest.json")).unwrap();
    assert!(manifest.status == records::RunStatus::Failed && manifest.reason.unwrap().contains("cannot write checkpoint"));
    let summary = stdout(project.train(&[]));
    assert!(summary.contains("steps          60"), "{summary}");
    // What stopped the first attempt says nothing about the model, so it is no row.
    let rows = records::read_rows(&run.join("records.jsonl")).unwrap().rows;
    assert!(rows.iter().all(|row| row.status == records::Status::Ok));
    assert_eq!(records::Manifest::load(&run.join("manifest.json")).unwrap().status, records::RunStatus::Finished);
}
