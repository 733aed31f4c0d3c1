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
    for file in ["gate.json", "gate.md", "gate.xml", "gate.sarif", "gate.annotations"] {
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

/// A project whose subject `it` is the demo's plain one, with other settings.
fn project(folder: &Path, sets: &[(&str, &str)]) -> PathBuf {
    let root = workspace();
    let mut text = std::fs::read_to_string(root.join("configs/train/lm-tiny-plain.toml")).unwrap();
    text = text.replace("\"lm-tiny-plain\"", "\"it\"");
    text =
        text.replace("\"configs/demo/tokenizer.json\"", &format!("\"{}\"", root.join("configs/demo/tokenizer.json").display()));
    for (old, new) in sets {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    for part in ["train", "suites"] {
        std::fs::create_dir_all(folder.join("configs").join(part)).unwrap();
    }
    std::fs::write(folder.join("configs/train/it.toml"), text).unwrap();
    let suite = folder.join("configs/suites/p.toml");
    std::fs::write(&suite, "name = \"p\"\nsubjects = [\"it\"]\n[[task]]\nname = \"boolq\"\n").unwrap();
    suite
}

/// Real subjects that need more under the same name: a wider network, a deeper one. Nothing in the records is touched.
#[test]
fn subjects_with_more_parameters_or_memory_fail() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = project(&at("base"), &[]);
    // 3 layers · 3 matrices · 128 · 7 units = 8064 more of some 730 k parameters: 1.1 %.
    let wide = project(&at("wide"), &[("intermediate_size = 352", "intermediate_size = 359")]);
    let deep = project(&at("deep"), &[("num_hidden_layers = 3", "num_hidden_layers = 4")]);
    let rules = |metric: &str, kind: &str, limit: &str| {
        let path = at(&format!("{metric}.toml"));
        std::fs::write(&path, format!("[[rule]]\nname = \"r\"\nmetric = \"{metric}\"\nkind = \"{kind}\"\nlimit = {limit}\n"))
            .unwrap();
        path
    };
    for (rules, regression) in
        [(rules("params_total", "exact", "0"), &wide), (rules("peak_alloc_bytes", "near-exact", "0.02"), &deep)]
    {
        let baseline = rules.with_extension("baseline");
        let common = ["--rules", rules.to_str().unwrap(), "--baseline", baseline.to_str().unwrap(), "--suite"];
        let accept = [&["accept", "--reason", "test"], common.as_slice(), &[base.to_str().unwrap()]].concat();
        stdout(gate(&accept, folder.path()));
        for (suite, code, headline) in [(&base, 0, "gate: pass"), (regression, 1, "gate: fail")] {
            let arguments = [common.as_slice(), &[suite.to_str().unwrap()]].concat();
            let output = gate(&arguments, folder.path()).assert().code(code).get_output().stdout.clone();
            let text = String::from_utf8(output).unwrap();
            assert!(text.starts_with(headline), "{text}");
        }
    }
}

/// Rows of a candidate beside its reference, as `measure` writes them, with a time that is `slowdown` longer.
fn timed_rows(to: &Path, slowdown: f64, host_b: &str) {
    let mut lines = String::new();
    // Two per thousand of scatter, without a pattern over pairs: multiples of 7 modulo 11.
    let wobble = |at: u32| 1.0 + 2e-3 * f64::from((7 * at) % 11) / 11.0;
    for (trial, is_aa) in [(0, false), (0, true), (1, false)] {
        for pair in 0..20u32 {
            for arm in ["A", "B"] {
                let is_candidate = arm == "B" && !is_aa;
                let value =
                    0.01 * wobble(if arm == "A" { pair } else { pair + 5 }) * if is_candidate { 1.0 + slowdown } else { 1.0 };
                let host = if is_candidate { host_b } else { "host-1" };
                let row = serde_json::json!({
                    "schema": 1, "record_id": "", "run_id": "r", "source": "measured", "kind": "sample", "subject": "s", "variant": "rw",
                    "task": "train_step", "metric": "train_step_s", "value": value, "unit": "s", "better": "lower", "arm": arm,
                    "trial": trial, "block": pair / 2, "pair": pair, "is_aa": is_aa, "status": "ok", "threads": 1, "host_fingerprint": host,
                });
                lines += &(row.to_string() + "\n");
            }
        }
    }
    std::fs::create_dir_all(to).unwrap();
    std::fs::write(to.join("records.jsonl"), lines).unwrap();
}

#[test]
fn a_fifth_more_time_fails_equal_times_pass_and_two_machines_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let judge = |name: &str, slowdown: f64, host: &str| {
        let rows = folder.path().join(name);
        timed_rows(&rows, slowdown, host);
        let rules = workspace().join("ci/gate-time.toml");
        let text = std::fs::read_to_string(rules).unwrap().replace("lm-tiny-rw+lr", "s");
        let rules = folder.path().join("time.toml");
        std::fs::write(&rules, text).unwrap();
        let output =
            gate(&["--rules", rules.to_str().unwrap(), "--candidate", rows.to_str().unwrap()], folder.path()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    for (slowdown, host, code, headline) in
        [(0.0, "host-1", 0, "gate: pass"), (0.2, "host-1", 1, "gate: fail"), (0.0, "host-2", 1, "gate: not")]
    {
        let (found, text) = judge(&format!("{slowdown}-{host}"), slowdown, host);
        assert!(found == code && text.starts_with(headline), "{slowdown} {host}: exit {found}: {text}");
    }
}

#[test]
fn ten_of_a_thousand_documents_lost_fail_and_none_pass() {
    let folder = tempfile::tempdir().unwrap();
    let documents = |name: &str, lost: usize| {
        let lines: String = (0..1000)
            .map(|at| {
                let value = f64::from(u8::from(at % 3 != 0 && at >= lost));
                let row = serde_json::json!({
                    "schema": 1, "record_id": "", "run_id": name, "source": "measured", "kind": "document", "subject": "s", "variant": "plain",
                    "task": "boolq", "doc_id": at.to_string(), "seed": 0, "metric": "acc", "value": value, "unit": "fraction",
                    "better": "higher", "status": "ok",
                });
                row.to_string() + "\n"
            })
            .collect();
        let to = folder.path().join(name);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::write(to.join("records.jsonl"), lines).unwrap();
        to
    };
    let rules = folder.path().join("acc.toml");
    std::fs::write(&rules, "[[rule]]\nname = \"r\"\nmetric = \"acc\"\nkind = \"quality\"\nlimit = 0.002\n").unwrap();
    // Of documents 0 to 14 ten were right: one point of a thousand documents.
    let (before, after) = (documents("before", 0), documents("after", 15));
    for (candidate, code, headline) in [(&before, 0, "gate: pass"), (&after, 1, "gate: fail")] {
        let arguments = [
            "--rules",
            rules.to_str().unwrap(),
            "--candidate",
            candidate.to_str().unwrap(),
            "--baseline",
            before.to_str().unwrap(),
        ];
        let output = gate(&arguments, folder.path()).assert().code(code).get_output().stdout.clone();
        let text = String::from_utf8(output).unwrap();
        assert!(text.starts_with(headline), "{text}");
    }
}

#[test]
fn a_reference_program_needs_noisy_rules_and_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("budget.toml");
    std::fs::write(&rules, "[[rule]]\nname = \"r\"\nmetric = \"train_step_s\"\nkind = \"budget\"\n").unwrap();
    let own = env!("CARGO_BIN_EXE_harness");
    let error = stderr(gate(&["--rules", rules.to_str().unwrap(), "--reference-program", own], folder.path()), 2);
    assert!(error.contains("expected no timed budget rule") && error.contains("hint: a budget compares variants"), "{error}");
    let error = stderr(gate(&["--rules", "ci/gate-time.toml", "--reference-program", "no/such"], folder.path()), 2);
    assert!(error.contains("expected a program, found none at `no/such`"), "{error}");
    let error = stderr(gate(&["--reference-program", own], folder.path()), 2);
    assert!(error.contains("expected a timed noisy rule in `ci/gate.toml`, found none"), "{error}");
}

/// A rule on parameters, and a subject for it.
fn parameters(folder: &Path) -> (PathBuf, PathBuf) {
    let rules = folder.join("params.toml");
    std::fs::write(&rules, "[[rule]]\nname = \"r\"\nmetric = \"params_total\"\nkind = \"exact\"\nmax = 1e9\n").unwrap();
    (rules, project(&folder.join("project"), &[]))
}

/// Gate runs with and without a reference program share a default folder: the pairs of the one were judged with the other's.
#[test]
fn what_an_earlier_run_left_in_the_folder_is_not_judged() {
    let folder = tempfile::tempdir().unwrap();
    let (rules, suite) = parameters(folder.path());
    let arguments = ["--rules", rules.to_str().unwrap(), "--suite", suite.to_str().unwrap()];
    for earlier in ["pairs", "revision/it"] {
        let row = serde_json::json!({
            "schema": 1, "record_id": "", "run_id": "r", "source": "measured", "kind": "sample", "subject": "gone", "variant": "plain",
            "metric": "params_total", "value": 2e9, "unit": "params", "better": "none", "status": "ok",
        });
        let left = folder.path().join("_gate").join(earlier);
        std::fs::create_dir_all(&left).unwrap();
        std::fs::write(left.join("records.jsonl"), row.to_string() + "\n").unwrap();
    }
    let text = stdout(gate(&arguments, folder.path()));
    assert!(text.starts_with("gate: pass") && !text.contains("gone"), "{text}");
}

#[test]
fn workers_of_the_gate_compute_as_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let (rules, suite) = parameters(folder.path());
    let first = |out: &str, flags: &[&str]| -> Value {
        let out = folder.path().join(out);
        let arguments = ["--rules", rules.to_str().unwrap(), "--suite", suite.to_str().unwrap(), "--out", out.to_str().unwrap()];
        stdout(gate(&[&arguments, flags].concat(), folder.path()));
        let rows = std::fs::read_to_string(out.join("exact/records.jsonl")).unwrap();
        serde_json::from_str(rows.lines().next().unwrap()).unwrap()
    };
    let plain = first("plain", &[]);
    assert_eq!(first("bf16", &["--numerics", "bf16"])["numerics"], "bf16");
    // The run's name says which flags its workers had.
    assert_ne!(first("portable", &["--cpu-features", "portable"])["run_id"], plain["run_id"]);
    let scores = folder.path().join("acc.toml");
    std::fs::write(&scores, "[[rule]]\nname = \"r\"\nmetric = \"acc\"\nkind = \"quality\"\n").unwrap();
    let arguments = ["--rules", scores.to_str().unwrap(), "--suite", suite.to_str().unwrap(), "--numerics", "bf16"];
    let error = stderr(gate(&arguments, folder.path()), 2);
    assert!(error.contains("--numerics: expected `f32` for scores, found `bf16`"), "{error}");
}

#[test]
fn accepting_takes_no_flags_of_judging() {
    let folder = tempfile::tempdir().unwrap();
    for flags in [&["--strict"] as &[&str], &["--time-budget-s", "1"], &["--reference-program", "p"]] {
        let error = stderr(gate(&[&["accept", "--reason", "test"], flags].concat(), folder.path()), 2);
        assert!(error.contains(&format!("unexpected argument '{}'", flags[0])), "{error}");
    }
}

/// The action's script with the variables its action.yml sets, outside any hosted service.
#[test]
fn the_action_writes_annotations_summary_and_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows");
    timed_rows(&rows, 0.2, "host-1");
    let rules = folder.path().join("time.toml");
    std::fs::write(&rules, "[[rule]]\nname = \"step, time\"\nmetric = \"train_step_s\"\nkind = \"noisy\"\n").unwrap();
    let (summary, outputs) = (folder.path().join("summary"), folder.path().join("outputs"));
    let output = std::process::Command::new("bash")
        .arg(workspace().join("ci/action/gate.sh"))
        .envs([("HARNESS", env!("CARGO_BIN_EXE_harness")), ("BASELINE", "none"), ("STRICT", "false"), ("REFERENCE_PROGRAM", "")])
        .env("RULES", &rules)
        .env("CANDIDATE", &rows)
        .env("OUT", folder.path().join("out"))
        .env("GITHUB_STEP_SUMMARY", &summary)
        .env("GITHUB_OUTPUT", &outputs)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("::error title=gate%3A step%2C time::"), "{text}");
    assert_eq!(std::fs::read_to_string(&outputs).unwrap(), "verdict=fail\n");
    assert!(std::fs::read_to_string(&summary).unwrap().contains("step, time"));
}
