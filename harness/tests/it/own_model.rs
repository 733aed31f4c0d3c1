//! A model of the reader's own, measured by the example program and judged by the gate.

use crate::support::{harness, workspace};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The example's program: cargo builds examples with the tests, two folders above them. `None` in a run of this test binary alone.
fn example() -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap();
    Some(own.parent()?.parent()?.join("examples/gate_own_model")).filter(|built| built.is_file())
}

fn measured(example: &Path, out: &Path, sizes: &[&str]) {
    let output =
        Command::new(example).args(["measure", "--pairs", "10", "--short"]).args(sizes).arg("--out").arg(out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Times of this machine decide nothing here: that the pairs and the control were found and judged is what is checked.
#[test]
fn an_own_models_parameters_and_times_are_judged_from_its_records() {
    let Some(example) = example() else {
        eprintln!("skipped: the example was not built (`cargo test -p harness` builds it)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    measured(&example, &at("same"), &["--hidden", "128"]);
    measured(&example, &at("wider"), &["--hidden", "160"]);
    // The reference's parameters are not the candidate's: only the latter are held against the baseline.
    measured(&example, &at("narrower than its reference"), &["--hidden", "128", "--reference-hidden", "160"]);
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
    for (name, parameters) in [("same", "pass"), ("wider", "fail"), ("narrower than its reference", "pass")] {
        let (exact, noisy) = verdicts(&at(name));
        assert_eq!(exact, parameters, "{name}");
        assert!(["pass", "inconclusive", "too_noisy"].contains(&noisy.as_str()), "{name}: {noisy}");
    }
}
