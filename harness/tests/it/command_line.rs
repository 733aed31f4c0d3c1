//! The program as people and scripts meet it: exit codes, helpful errors, stdout that can be read by programs.

use crate::support::{Project, harness, stderr, stdout, workspace};
use clap::CommandFactory as _;
use harness::cli::Cli;
use serde_json::Value;

fn in_workspace(arguments: &[&str]) -> assert_cmd::Command {
    let mut command = harness(arguments);
    command.current_dir(workspace());
    command
}

fn json(command: assert_cmd::Command) -> Value {
    serde_json::from_str(&stdout(command)).unwrap()
}

#[test]
fn every_command_teaches_by_example() {
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(
            help.contains("harness ") && command.get_about().is_some(),
            "`{}` has no example in its help",
            command.get_name()
        );
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    stderr(harness(&["trian"]), 2);
    stderr(harness(&["list", "nothing"]), 2);
    stderr(harness(&["list", "variants", "--threads", "0"]), 2);
    let error = stderr(harness(&["list", "variants", "--runs-dir"]), 2);
    assert!(error.contains("--runs-dir"), "{error}");
}

#[test]
fn an_unknown_key_is_answered_with_line_and_suggestion() {
    let project = Project::new();
    let text = std::fs::read_to_string(project.config()).unwrap().replace("warmup_steps", "warmup_step");
    let line = text.lines().position(|line| line.starts_with("warmup_step ")).unwrap() + 1;
    std::fs::write(project.config(), text).unwrap();
    let error = stderr(project.train(&[]), 2);
    assert_eq!(
        error,
        format!("error: configs/train/t.toml:{line}:1: optimizer.warmup_step: unknown key\nhint: did you mean `warmup_steps`?\n")
    );
    assert!(!project.path("runs").exists());
}

#[test]
fn a_misspelt_config_is_answered_with_the_nearest_file() {
    let error = stderr(in_workspace(&["train", "--config", "configs/train/lm-tiny-plian.toml"]), 2);
    assert!(error.contains("did you mean `configs/train/lm-tiny-plain.toml`?"), "{error}");
}

#[test]
fn training_refuses_flags_it_cannot_honour() {
    let project = Project::new();
    let mut command = project.train(&[]);
    command.args(["--dtype", "bf16"]);
    assert!(stderr(command, 2).contains("master weights"));
    let mut command = project.train(&[]);
    command.args(["--device", "tpu"]);
    assert!(stderr(command, 2).contains("found `tpu`"));
}

#[test]
fn flags_of_measuring_are_refused_where_nothing_is_measured() {
    for read in [["--from-criterion", "target/criterion"], ["--target-val-loss", "2.5"]] {
        for flags in [&["--dry-run"] as &[&str], &["--shard", "1/2"], &["--probe", "params"], &["--trained"]] {
            let error = stderr(in_workspace(&[&["measure"], flags, &read].concat()), 2);
            assert!(error.contains("cannot be used with") && error.contains(flags[0]), "{error}");
        }
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let program = assert_cmd::cargo::cargo_bin!("harness");
    let output = std::process::Command::new("sh")
        .args(["-c", "\"$0\" list tasks --format json | head -n 1"])
        .arg(program)
        .current_dir(workspace())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn dry_run_counts_and_checks_inputs_without_training() {
    let project = Project::new();
    let mut command = project.train(&[]);
    command.args(["--dry-run", "--format", "json"]);
    let plan = json(command);
    assert_eq!(
        (plan["steps"].as_u64(), plan["tokens"].as_u64(), plan["state"].as_str()),
        (Some(60), Some(60 * 32), Some("would start"))
    );
    assert!(!project.path("runs/t").exists());
    std::fs::remove_file(project.path("valid.txt")).unwrap();
    let mut command = project.train(&[]);
    command.arg("--dry-run");
    assert!(stderr(command, 2).contains("valid.txt"));
}

#[test]
fn lists_are_complete_and_exact() {
    let models = json(in_workspace(&["list", "models", "--format", "json"]));
    let count =
        |name: &str| models.as_array().unwrap().iter().find(|model| model["name"] == name).unwrap()["params_total"].as_u64();
    assert_eq!(count("table5-plain"), Some(157_197_056));
    assert_eq!(count("llm-4b-plain"), Some(3_938_920_960));
    for kind in ["tasks", "suites", "variants", "tables"] {
        assert!(!json(in_workspace(&["list", kind, "--format", "json"])).as_array().unwrap().is_empty(), "{kind}");
        assert!(stdout(in_workspace(&["list", kind])).lines().count() > 1, "{kind}");
    }
    let probes = stdout(in_workspace(&["list", "probes"]));
    for probe in harness::measure::probes() {
        assert!(probes.lines().any(|line| line.starts_with(probe.name()) && line.contains(probe.about())), "{}", probe.name());
    }
}

#[test]
fn doctor_finds_this_machine_fit() {
    let findings = json(in_workspace(&[
        "doctor",
        "--format",
        "json",
        "--runs-dir",
        &std::env::temp_dir().join("laurel-doctor").display().to_string(),
    ]));
    let of = |check: &str| findings.as_array().unwrap().iter().find(|finding| finding["check"] == check).unwrap().clone();
    assert_eq!(of("demo inputs")["state"], "good");
    assert!(of("cpu")["found"].as_str().unwrap().contains("level="));
    let _ = std::fs::remove_dir_all(std::env::temp_dir().join("laurel-doctor"));
}

#[test]
fn doctor_says_what_would_fail() {
    let project = Project::new();
    let text = stdout_of_failed(project.harness(&["doctor", "--config", "configs/train/none.toml"]));
    assert!(text.contains("BAD") && text.contains("none.toml"), "{text}");
}

fn stdout_of_failed(mut command: assert_cmd::Command) -> String {
    String::from_utf8(command.assert().code(1).get_output().stdout.clone()).unwrap()
}

#[test]
fn a_sweep_is_the_product_and_repeating_it_skips() {
    let project = Project::new();
    std::fs::create_dir_all(project.path("configs/sweeps")).unwrap();
    let text = "name = \"s\"\nconfigs = [\"configs/train/t.toml\"]\nseeds = [0, 1]\n[grid]\nmax_steps = [6, 7]\n";
    std::fs::write(project.path("configs/sweeps/s.toml"), text).unwrap();
    // A cell that cannot run stops the sweep before any run.
    let mut command = project.harness(&["sweep", "--config", "configs/sweeps/s.toml"]);
    command.args(["--set", "grid.nothing=[1]"]);
    assert!(stderr(command, 2).contains("nothing: unknown key"));
    assert!(!project.path("runs/t").exists());
    let sweep = |more: &[&str]| {
        let mut command = project.harness(&["sweep", "--config", "configs/sweeps/s.toml", "--format", "json"]);
        command.args(more);
        json(command)
    };
    let states =
        |plan: Value| plan.as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(states(sweep(&["--dry-run"])), ["new"; 4]);
    assert_eq!(sweep(&["--shard", "2/3"]).as_array().unwrap().len(), 1);
    assert_eq!(states(sweep(&["--dry-run"])), ["new", "finished", "new", "new"]);
    let first = sweep(&["--jobs", "2"]);
    assert!(first.as_array().unwrap().iter().all(|run| run["status"] == "ok"), "{first}");
    assert_eq!(sweep(&[]), first);
    assert_eq!(states(sweep(&["--dry-run"])), ["finished"; 4]);
}

#[test]
fn merging_joins_shards_once_and_fills_in_the_manifest() {
    let project = Project::new();
    for seed in ["0", "1"] {
        let mut command = project.train(&[]);
        command.args(["--seed", seed]);
        stdout(command);
    }
    let merge = || json(project.harness(&["merge", "runs", "--out", "merged", "--format", "json"]));
    let first = merge();
    assert_eq!((first["files"].as_u64(), first["kept"].as_u64(), first["repeated"].as_u64()), (Some(2), Some(0), Some(0)));
    let again = merge();
    assert_eq!((again["added"].as_u64(), again["kept"].as_u64()), (Some(0), first["added"].as_u64()));
    let rows = records::read_rows(&project.path("merged/records.jsonl")).unwrap().rows;
    assert!(rows.iter().all(|row| row.config_sha256.is_some() && row.rustc.is_some()));
    let error = stderr(project.harness(&["merge", "configs", "--out", "merged"]), 2);
    assert!(error.contains("expected `records.jsonl`"), "{error}");
}

#[test]
fn data_files_are_verified_against_a_manifest() {
    let project = Project::new();
    // sha256("abc"): FIPS 180-2 appendix B.1
    let manifest = r#"{"files": [{"file": "abc.txt", "bytes": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]}"#;
    std::fs::write(project.path("MANIFEST.json"), manifest).unwrap();
    std::fs::write(project.path("abc.txt"), "abc").unwrap();
    let verify = || project.harness(&["data", "verify", "--manifest", "MANIFEST.json"]);
    assert_eq!(stdout(verify()), "1 files are as stated, 0 differ, 0 are missing\n");
    assert!(stdout(project.harness(&["data", "list", "--manifest", "MANIFEST.json"])).contains("here"));
    std::fs::write(project.path("abc.txt"), "abd").unwrap();
    assert!(stdout_of_failed(verify()).contains("abc.txt: expected sha256"));
}

#[test]
fn completions_are_written_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(harness(&["completions", shell])).contains("harness"), "{shell}");
    }
}
