//! One plan on several machines, as far as one machine can show it: shards with the variables that Slurm and Kubernetes set, merged; and
//! rows that come from elsewhere.

use crate::support::{Project, harness, stderr, stdout, workspace};
use records::{Row, Source, Status, read_rows};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// What `measure` is asked in every test here: counted and allocated numbers, which repeat exactly.
const PLAN: [&str; 14] = [
    "--config",
    "configs/train/lm-tiny-plain.toml",
    "--residual",
    "rw",
    "--probe",
    "params,inference_memory",
    "--pairs",
    "4",
    "--prompt-length",
    "8",
    "--output-length",
    "2",
    "--threads",
    "1",
];

/// Everything about the rows but when and by which worker they were measured.
fn facts(file: &Path) -> BTreeSet<String> {
    let rows = read_rows(file).unwrap().rows;
    let facts: BTreeSet<String> = rows
        .iter()
        .map(|row| {
            // Resident sizes are samples; allocations and counts repeat.
            let value = row.value.filter(|_| !row.metric.contains("rss"));
            format!("{:?} {:?} {:?} {:?} {} {value:?} {}", row.subject, row.arm, row.pair, row.worker, row.metric, row.status)
        })
        .collect();
    assert_eq!(facts.len(), rows.len(), "a row is there twice");
    facts
}

fn unsharded(out: &Path) -> BTreeSet<String> {
    let mut command = harness(&["measure"]);
    command.current_dir(workspace()).args(PLAN).arg("--out").arg(out);
    stdout(command);
    facts(&out.join("records.jsonl"))
}

fn merged(records: &Path) -> BTreeSet<String> {
    let shards = (1..=3).map(|index| records.join(format!("shard-{index}")));
    let mut command = harness(&["merge"]);
    command.args(shards).arg("--out").arg(records.join("all"));
    stdout(command);
    facts(&records.join("all/records.jsonl"))
}

#[test]
fn a_slurm_array_measures_what_one_process_measures() {
    let folder = tempfile::tempdir().unwrap();
    for task in 5..=7 {
        let status = Command::new("bash")
            .arg(workspace().join("ci/recipes/slurm-array.sh"))
            .arg(folder.path())
            .args(PLAN)
            .current_dir(workspace())
            .env("HARNESS", env!("CARGO_BIN_EXE_harness"))
            // `sbatch --array=5-7`
            .env("SLURM_ARRAY_TASK_ID", task.to_string())
            .env("SLURM_ARRAY_TASK_MIN", "5")
            .env("SLURM_ARRAY_TASK_COUNT", "3")
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }
    assert_eq!(merged(folder.path()), unsharded(&folder.path().join("one")));
}

#[test]
fn a_kubernetes_indexed_job_measures_what_one_process_measures() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = std::fs::read_to_string(workspace().join("ci/recipes/kubernetes-indexed-job.yaml")).unwrap();
    // The folded block below `- >-`: its lines are joined by spaces.
    let lines: Vec<&str> = manifest
        .lines()
        .skip_while(|line| line.trim() != "- >-")
        .skip(1)
        .take_while(|line| line.starts_with("              "))
        .collect();
    let script = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let own = "--config configs/train/lm-tiny-plain.toml --residual rw,rw+lr";
    assert!(script.contains("JOB_COMPLETION_INDEX") && script.ends_with(own), "{script}");
    let script = script.replace(own, &PLAN.join(" "));
    for index in 0..3 {
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(workspace())
            .env("HARNESS", env!("CARGO_BIN_EXE_harness"))
            .env("JOB_COMPLETION_INDEX", index.to_string())
            .env("SHARDS", "3")
            .env("RECORDS", folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(merged(folder.path()), unsharded(&folder.path().join("one")));
}

#[test]
fn results_of_criterion_are_imported_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("criterion/merge/rw+lr/new");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("benchmark.json"), r#"{"group_id":"merge","full_id":"merge/rw+lr"}"#).unwrap();
    std::fs::write(run.join("estimates.json"), r#"{"median":{"point_estimate":1500.0,"standard_error":5.0}}"#).unwrap();
    std::fs::write(run.join("sample.json"), r#"{"iters":[1.0,2.0],"times":[1400.0,3200.0]}"#).unwrap();
    let out = folder.path().join("out");
    let import = || {
        let mut command = harness(&["measure", "--from-criterion"]);
        command.arg(folder.path().join("criterion")).arg("--out").arg(&out);
        stdout(command)
    };
    assert!(import().contains("1 of 1 rows are new"));
    assert!(import().contains("0 of 1 rows are new"));
    let rows = read_rows(&out.join("records.jsonl")).unwrap().rows;
    assert_eq!((rows.len(), rows[0].source, rows[0].value), (1, Source::Imported, Some(1500.0 * 1e-9)));
    let mut command = harness(&["measure", "--from-criterion"]);
    command.arg(folder.path().join("nothing"));
    assert!(stderr(command, 2).contains("cannot read"));
}

#[test]
fn time_to_a_loss_is_read_from_finished_runs_and_null_when_never_reached() {
    let project = Project::new();
    stdout(project.train(&["max_steps=30", "eval_every=10"]));
    let read = |target: &str, out: &str| -> Row {
        let config = ["--config", "configs/train/t.toml", "--prompt-length", "8", "--output-length", "2"];
        let mut command = project.harness(&["measure", "--target-val-loss", target, "--out", out]);
        command.args(config);
        stdout(command);
        read_rows(&project.path(out).join("records.jsonl")).unwrap().rows.remove(0)
    };
    // ln 1000 = 6.9 is the loss of guessing; 30 steps are enough to be below it, and none reaches 0.1.
    let easy = read("6.9", "easy");
    assert!(easy.metric == "time_to_quality_s" && easy.value.unwrap() > 0.0 && easy.eval_step.is_some(), "{easy:?}");
    let never = read("0.1", "never");
    assert_eq!((never.status, never.value), (Status::Skipped, None));
    assert!(never.reason.as_deref().unwrap().contains("never reached: best val_loss"), "{never:?}");
}
