//! A model of the reader's own, measured by the example program and judged by the gate.

use crate::support::{harness, workspace};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The example's program: cargo builds examples with the tests, two folders above them.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().unwrap().parent().unwrap().join("examples/gate_own_model");
    assert!(built.is_file(), "expected the example at `{}`: it is built with the tests of this package", built.display());
    built
}

fn measured(out: &Path, hidden: &str) {
    let output = Command::new(example())
        .args(["measure", "--pairs", "10", "--short", "--hidden", hidden, "--out"])
        .arg(out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Times of this machine decide nothing here: the rule allows four times the time, which a quarter more work cannot reach.
#[test]
fn an_own_models_parameters_and_times_are_judged_from_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    measured(&at("same"), "128");
    measured(&at("wider"), "160");
    let rules = at("gate.toml");
    let text = "[[rule]]\nname = \"parameters\"\nmetric = \"params_total\"\nkind = \"exact\"\n\
                [[rule]]\nname = \"forward time\"\nmetric = \"prefill_s\"\nkind = \"noisy\"\nlimit = 3.0\n";
    std::fs::write(&rules, text).unwrap();
    let verdicts = |candidate: &Path| {
        let mut command = harness(&["gate", "--format", "json"]);
        command.current_dir(workspace()).arg("--rules").arg(&rules).arg("--baseline").arg(at("same"));
        command.arg("--candidate").arg(candidate).arg("--out").arg(at("out"));
        let report: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        let of = |at: usize| report["rules"][at]["verdict"].as_str().unwrap().to_owned();
        (of(0), of(1))
    };
    assert_eq!(verdicts(&at("same")), ("pass".to_owned(), "pass".to_owned()));
    assert_eq!(verdicts(&at("wider")), ("fail".to_owned(), "pass".to_owned()));
}
