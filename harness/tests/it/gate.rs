//! The gate end to end, on this project's own rules: an unchanged candidate passes, planted regressions do not.

use crate::support::{harness, stderr, stdout, workspace};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn gate(arguments: &[&str], runs: &Path) -> assert_cmd::Command {
    let mut command = harness(&["gate"]);
    command.current_dir(workspace()).args(arguments).arg("--runs-dir").arg(runs);
    command
}

/// The measured rows of a gate run, one file, with one metric multiplied.
fn planted(gate_folder: &Path, to: &Path, metric: &str, factor: f64) -> PathBuf {
    let mut lines = String::new();
    for part in ["exact", "memory"] {
        for line in std::fs::read_to_string(gate_folder.join(part).join("records.jsonl")).unwrap().lines() {
            let mut row: Value = serde_json::from_str(line).unwrap();
            if row["metric"] == metric {
                row["value"] = (row["value"].as_f64().unwrap() * factor).into();
            }
            row.as_object_mut().unwrap().remove("record_id");
            lines += &(row.to_string() + "\n");
        }
    }
    let folder = to.join(format!("{metric}-{factor}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("records.jsonl"), lines).unwrap();
    folder
}

#[test]
fn an_unchanged_candidate_passes_and_planted_regressions_fail() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path();
    // The candidate of now is its own baseline: other machines may allocate a little differently from the stored one.
    let baseline = runs.join("baseline");
    let accept = ["accept", "--reason", "test", "--baseline", baseline.to_str().unwrap()];
    let diff = stdout(gate(&accept, runs));
    assert!(diff.contains("params_total lm-tiny-plain: none -> "), "{diff}");

    let measured = runs.join("_gate");
    let judge = |candidate: &Path| {
        let arguments =
            ["--candidate", candidate.to_str().unwrap(), "--baseline", baseline.to_str().unwrap(), "--format", "json"];
        let output = gate(&arguments, runs).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), report["verdict"].as_str().unwrap().to_owned())
    };
    assert_eq!(judge(&planted(&measured, runs, "params_total", 1.0)), (0, "pass".to_owned()));
    for (metric, factor) in [("params_total", 1.01), ("flops_train_step", 1.2), ("peak_alloc_bytes", 1.1)] {
        assert_eq!(judge(&planted(&measured, runs, metric, factor)), (1, "fail".to_owned()), "{metric}");
    }
    for file in ["gate.json", "gate.md", "gate.xml", "gate.sarif"] {
        assert!(measured.join(file).is_file(), "{file}");
    }
}

#[test]
fn counts_equal_the_stored_baseline() {
    // The project's own gate without its memory rule, which another allocator or processor may move.
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("gate.toml");
    let all = std::fs::read_to_string(workspace().join("ci/gate.toml")).unwrap();
    std::fs::write(&rules, all.split("[[rule]]\nname = \"peak").next().unwrap()).unwrap();
    stdout(gate(&["--rules", rules.to_str().unwrap()], folder.path()));
}

#[test]
fn a_missing_baseline_counts_against_the_candidate() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("none");
    let mut command = gate(&["--baseline", nothing.to_str().unwrap()], folder.path());
    let output = command.assert().code(1).get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    assert!(text.starts_with("gate: missing"), "{text}");
}

#[test]
fn rules_are_explained_and_wrong_ones_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(gate(&["explain", "parameters"], folder.path()));
    assert!(text.contains("exact rule on `params_total`"), "{text}");
    let error = stderr(gate(&["explain", "nothing"], folder.path()), 2);
    assert!(error.contains("expected one of parameters"), "{error}");
    let error = stderr(gate(&["--rules", "no.toml"], folder.path()), 2);
    assert!(error.contains("cannot read rule file `no.toml`"), "{error}");
    let error = stderr(gate(&["accept", "--reason", " "], folder.path()), 2);
    assert!(error.contains("--reason"), "{error}");
}
