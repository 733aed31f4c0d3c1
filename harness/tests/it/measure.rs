//! The measuring side end to end: readings that can be trusted, rows for every ending, resuming without repeating.
//!
//! Numbers in brackets are the acceptance checks of measurement.md section 16. Windows are a few iterations long: what is checked is
//! the path of a number, not the number.

use crate::measured::{config, options, plan, value, variant, workload};
use harness::config::TrainConfig;
use harness::measure::probes::request::Engine;
use harness::measure::probes::{self, Probe};
use harness::measure::subject::Subject;
use harness::measure::{MeasureOptions, PairRequest, SubjectSpec, WindowSpec, Workload, measure, measure_pairs};
use laurel::{PRESETS, Placement};
use models::ModelConfig;
use records::{Row, Status};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MIB: f64 = 1024.0 * 1024.0;

fn subject(config: TrainConfig, workload: Workload) -> Subject {
    Subject { config: workload.apply(&config.into()), workload, checkpoint: None, reference: None }
}

fn run_here(probe: &str, config: &TrainConfig, workload: Workload) -> Vec<Row> {
    let probe: &dyn Probe = probes::by_name(probe).unwrap();
    let measured = probe.run(&mut subject(config.clone(), workload), &WindowSpec::short()).unwrap();
    measured.into_iter().map(Row::from).collect()
}

/// A program that runs shell lines before it becomes the harness.
fn wrapped(folder: &Path, lines: &str) -> PathBuf {
    let path = folder.join("wrapped.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_harness"))).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// [1], [2]
#[test]
fn resident_size_shows_what_was_touched_and_not_what_the_parent_holds() {
    let read = || {
        let out = tempfile::tempdir().unwrap();
        let rows = measure(&plan(&[config()], &["ballast"], 1), &options(out.path())).unwrap();
        ["base_rss", "peak_rss", "reset_rss", "peak_alloc"].map(|name| value(&rows, &format!("ballast_{name}_bytes")) / MIB)
    };
    let [base, peak, reset, alloc] = read();
    assert!((peak - base - 256.0).abs() < 2.0, "base {base} MiB, peak {peak} MiB");
    assert!(reset - base < 16.0 && reset - base > 6.0, "base {base} MiB, after the reset {reset} MiB");
    assert!((alloc - 256.0).abs() < 1.0, "{alloc} MiB allocated");
    let mut held = vec![0u8; 512 << 20];
    held.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    let [_, with_parent, ..] = read();
    std::hint::black_box(held);
    assert!((with_parent - peak).abs() < 2.0, "{peak} MiB, from a parent holding 512 MiB {with_parent} MiB");
}

/// [3]
#[test]
fn allocation_of_training_repeats_to_the_byte_at_one_thread() {
    let out = tempfile::tempdir().unwrap();
    let rows = measure(&plan(&[variant("rw+lr+pa")], &["train_memory"], 5), &options(out.path())).unwrap();
    for metric in ["peak_alloc_bytes", "peak_alloc_steady_bytes", "peak_alloc_delta_bytes"] {
        let values: Vec<f64> = rows.iter().filter(|row| row.metric == metric).map(|row| row.value.unwrap()).collect();
        assert!(values.len() == 5 && values.iter().all(|value| *value == values[0]), "{metric}: {values:?}");
    }
    let state = value(&rows, "train_state_bytes");
    assert_eq!(state, 4.0 * value(&rows, "weights_bytes"));
    assert!(value(&rows, "peak_alloc_bytes") > state && value(&rows, "peak_rss_bytes") > state);
    assert_eq!(value(&rows, "activation_bytes_est"), value(&rows, "peak_alloc_bytes") - state - (2 * 4 * 2 * 32) as f64);
    // Gradients and graph come with the first step, so loading needs less than it.
    assert!(value(&rows, "peak_alloc_train_load_bytes") < value(&rows, "peak_alloc_first_step_bytes"));
}

/// [4], [5]
#[test]
fn counts_equal_their_closed_forms_for_every_preset_depth_and_placement() {
    for preset in PRESETS {
        for layers in [1, 2, 6] {
            for placement in [Placement::Layer, Placement::Both] {
                let mut config = variant(preset);
                let ModelConfig::Decoder(model) = &mut config.model;
                model.num_hidden_layers = layers;
                model.residual.placement = placement;
                for probe in ["params", "flops"] {
                    for row in run_here(probe, &config, workload()) {
                        assert_eq!(
                            row.status,
                            Status::Ok,
                            "{preset}, {layers} layers, {placement:?}: {}: {:?}",
                            row.metric,
                            row.reason
                        );
                    }
                }
            }
        }
    }
}

/// [4]: RW+LR over N layers adds N·(2rD + 2); here N = 2, r = 4, D = 128.
#[test]
fn added_parameters_are_counted_against_the_reference() {
    let out = tempfile::tempdir().unwrap();
    let rows = measure(&plan(&[config(), variant("rw+lr")], &["params"], 1), &options(out.path())).unwrap();
    let of = |metric: &str| {
        let row = rows.iter().find(|row| row.metric == metric && row.subject.as_deref() == Some("lm-rw+lr")).unwrap();
        assert_eq!(row.reference_variant.as_deref(), Some("plain"));
        row.value.unwrap()
    };
    assert_eq!(of("params_added"), 2.0 * (2.0 * 4.0 * 128.0 + 2.0));
    assert_eq!((of("params_laurel"), of("params_closed_form")), (2052.0, 2052.0));
    assert_eq!(of("params_added_pct"), 100.0 * 2052.0 / (of("params_total") - 2052.0));
}

/// [5]: with 8 tokens every activation is far below D × D, so a block of that size could only be the product of the two maps.
#[test]
fn low_rank_maps_are_never_multiplied_out() {
    let mut config = variant("lr");
    let ModelConfig::Decoder(model) = &mut config.model;
    (model.hidden_size, model.num_attention_heads, model.num_key_value_heads, model.head_dim) = (512, 8, 8, Some(64));
    let out = tempfile::tempdir().unwrap();
    let mut plan = plan(&[config], &["inference_memory"], 1);
    plan.workload.prompt_length = 8;
    let rows = measure(&plan, &options(out.path())).unwrap();
    let largest = value(&rows, "largest_alloc_prefill_bytes");
    assert!(largest > 0.0 && largest < (512 * 512 * 4) as f64, "{largest}");
}

/// [6]
#[test]
fn every_request_satisfies_the_latency_identities() {
    let workload = Workload { batch: 2, ..workload() };
    let engine = Engine::with_text(&subject(variant("rw+lr+pa"), workload)).unwrap();
    for length in [1, 2, 9] {
        let request = engine.answer(length).unwrap(); // checks the identities itself
        request.check().unwrap();
        assert_eq!((request.tokens.len(), request.itl_s().len()), (length, length - 1));
        assert_eq!(request.tpot_s().is_some(), length > 1);
        assert!(request.ttft_s() >= request.prefill_s() && request.prefill_s() > 0.0);
    }
}

/// [6]
#[test]
fn timing_rows_carry_their_window_and_one_token_has_no_tpot() {
    let out = tempfile::tempdir().unwrap();
    let mut timed = plan(&[config()], &["train_step", "prefill", "ttft", "decode"], 1);
    timed.workload.output_length = 1;
    let mut options = options(out.path());
    options.window.keep_raw = true;
    let rows = measure(&timed, &options).unwrap();
    for metric in ["train_step_s", "prefill_s", "ttft_s", "e2e_s"] {
        let row = rows.iter().find(|row| row.metric == metric).unwrap();
        assert!(row.value.unwrap() > 0.0 && row.contended.is_some() && row.timed_iters >= Some(3), "{row:?}");
        assert_eq!(row.raw_samples.as_ref().map(Vec::len), row.timed_iters.map(|iters| iters as usize));
        assert_eq!((row.cargo_profile.is_some(), row.host_fingerprint.is_some(), row.threads), (true, true, Some(1)));
    }
    let tpot = rows.iter().find(|row| row.metric == "tpot_s").unwrap();
    assert_eq!((tpot.status, tpot.value, tpot.reason.as_deref()), (Status::Skipped, None, Some("one output token has no gap")));
    let shape = |metric: &str| {
        rows.iter()
            .find(|row| row.metric == metric)
            .map(|row| (row.sequence_length, row.prompt_length, row.output_length))
            .unwrap()
    };
    assert_eq!(shape("train_step_s"), (Some(32), None, None));
    assert_eq!((shape("ttft_s"), shape("e2e_s")), ((None, Some(16), None), (None, Some(16), Some(1))));
}

#[test]
fn a_worker_over_its_time_gives_timeout_rows_for_every_metric() {
    let out = tempfile::tempdir().unwrap();
    let program = wrapped(out.path(), "sleep 2");
    let slow = MeasureOptions { program: Some(program), timeout: Duration::from_millis(200), ..options(out.path()) };
    let started = Instant::now();
    let rows = measure(&plan(&[config()], &["prefill"], 1), &slow).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    let found: Vec<_> = rows.iter().map(|row| (row.metric.as_str(), row.status, row.reason.as_deref().unwrap())).collect();
    assert_eq!(
        found,
        [("prefill_s", Status::Timeout, "killed after 0.2 s"), ("prefill_tokens_per_s", Status::Timeout, "killed after 0.2 s")]
    );
}

#[test]
fn workers_that_die_fail_or_lack_memory_give_rows_with_reasons() {
    let ending = |lines: &str, ballast_bytes: u64| {
        let out = tempfile::tempdir().unwrap();
        let mut plan = plan(&[config()], &["ballast"], 1);
        plan.workload.ballast_bytes = ballast_bytes;
        let program = wrapped(out.path(), lines);
        let rows = measure(&plan, &MeasureOptions { program: Some(program), ..options(out.path()) }).unwrap();
        (rows[0].status, rows[0].reason.clone().unwrap_or_default())
    };
    assert_eq!(ending("", 1 << 20).0, Status::Ok);
    assert!(matches!(ending("kill -9 $$", 1), (Status::Oom, reason) if reason.contains("signal: 9")));
    assert!(matches!(ending("echo broken >&2; exit 3", 1), (Status::Failed, reason) if reason == "exit status: 3: broken"));
    assert!(matches!(ending("exit 0", 1), (Status::Failed, reason) if reason.contains("expected at least one row")));
    let limited = ending("ulimit -v 400000", 512 << 20);
    assert!(limited.0 == Status::Oom && limited.1.contains("memory allocation of"), "{limited:?}");
    let impossible = ending("", 1 << 50);
    assert!(
        impossible.0 == Status::Skipped && impossible.1.starts_with("needs at least 1125899906842624 bytes"),
        "{impossible:?}"
    );
}

#[test]
fn repeating_a_plan_measures_only_what_is_missing() {
    let out = tempfile::tempdir().unwrap();
    let subjects = [config(), variant("rw")];
    let ids = |pairs: u32, fresh: bool| -> BTreeSet<String> {
        let options = MeasureOptions { fresh, ..options(out.path()) };
        measure(&plan(&subjects, &["params", "prefill"], pairs), &options).unwrap().into_iter().map(|row| row.record_id).collect()
    };
    let lines = || std::fs::read_to_string(out.path().join("records.jsonl")).unwrap().lines().count();
    let first = ids(2, false);
    let count = lines();
    assert_eq!(count, first.len());
    assert_eq!((ids(2, false), lines()), (first.clone(), count));
    let more = ids(3, false);
    // One more round of two subjects with two metrics each.
    assert!(more.is_superset(&first) && more.len() == first.len() + 4 && lines() == count + 4);
    let fresh = ids(2, true);
    assert_eq!(lines(), count);
    // Times differ, counts do not carry a time, so exactly the timed rows are new.
    assert_eq!(fresh.difference(&first).count(), 8);
}

#[test]
fn records_of_another_program_are_not_mixed_in() {
    let out = tempfile::tempdir().unwrap();
    let plan = plan(&[config()], &["params"], 1);
    measure(&plan, &options(out.path())).unwrap();
    let other = MeasureOptions { program: Some(wrapped(out.path(), "")), ..options(out.path()) };
    let error = harness::error::render(&measure(&plan, &other).unwrap_err());
    assert!(error.contains("holds measurements of another build") && error.contains("hint: --fresh forgets them"), "{error}");
}

#[test]
fn a_killed_parent_loses_at_most_the_running_worker() {
    let out = tempfile::tempdir().unwrap();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(root).args([
            "measure",
            "--config",
            "configs/train/lm-tiny-plain.toml",
            "--residual",
            "rw",
            "--batch",
            "1",
        ]);
        command.args([
            "--probe",
            "inference_memory",
            "--pairs",
            "4",
            "--prompt-length",
            "8",
            "--output-length",
            "2",
            "--threads",
            "1",
        ]);
        command.arg("--out").arg(out.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let file = out.path().join("records.jsonl");
    let finished = || if file.is_file() { records::read_rows(&file).unwrap().rows } else { Vec::new() };
    let mut before = Vec::new();
    // Moments from the first instant to well into the plan, each attempt going on from what the last one left; then one that waits for
    // a first finished worker, so that there is something to lose.
    for kill_after_ms in [1, 30, 120, 350, 700] {
        let mut parent = command().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(kill_after_ms));
        parent.kill().unwrap();
        parent.wait().unwrap();
        let now = finished();
        assert!(now[..before.len()] == before[..], "killed after {kill_after_ms} ms: a finished worker was lost");
        before = now;
    }
    let mut parent = command().spawn().unwrap();
    let started = Instant::now();
    while finished().is_empty() && started.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
    let before = finished();
    assert!(command().status().unwrap().success());
    let after = records::read_rows(&file).unwrap().rows;
    assert!(!before.is_empty() && after[..before.len()] == before[..]);
    let keys: Vec<_> = after.iter().map(|row| (row.subject.clone(), row.pair, row.arm, row.metric.clone())).collect();
    let distinct: BTreeSet<_> = keys.iter().cloned().collect();
    assert_eq!(distinct.len(), keys.len());
    // Four rounds of two subjects, with six phase readings, the largest block and the control group each.
    assert_eq!(keys.len(), 4 * 2 * 8);
}

#[test]
fn pairs_are_measured_side_by_side_and_added_to_later() {
    let out = tempfile::tempdir().unwrap();
    let (reference, candidate) = (SubjectSpec::from(config()), SubjectSpec::from(variant("rw")));
    let workload = workload();
    let request = PairRequest {
        reference: &reference,
        candidate: Some(&candidate),
        metric: "peak_alloc_decode_bytes",
        workload: &workload,
        pairs: 0..2,
        trial: 0,
    };
    let options = options(out.path());
    let first = measure_pairs(&request, &options).unwrap();
    assert_eq!(first.len(), 2);
    // RW adds two scalars per layer and nothing else that lives: 0 < ln(b/a) < 1 %.
    assert!(first.iter().all(|pair| pair.difference.abs() < 0.01 && pair.difference == first[0].difference));
    assert_eq!(measure_pairs(&PairRequest { pairs: 0..3, ..request.clone() }, &options).unwrap().len(), 3);
    assert_eq!(measure_pairs(&PairRequest { trial: 1, ..request.clone() }, &options).unwrap().len(), 2);
    let control = measure_pairs(&PairRequest { candidate: None, ..request.clone() }, &options).unwrap();
    assert_eq!(control.iter().map(|pair| pair.difference).collect::<Vec<_>>(), [0.0, 0.0]);
    let error = measure_pairs(&PairRequest { metric: "params_total", ..request }, &options).unwrap_err();
    assert_eq!(error.to_string(), "no probe samples the metric `params_total`");
}

#[test]
fn times_are_refused_in_a_build_with_debug_assertions() {
    let out = tempfile::tempdir().unwrap();
    let strict = MeasureOptions { allow_debug_assertions: false, ..options(out.path()) };
    let timed = measure(&plan(&[config()], &["params", "prefill"], 1), &strict);
    if cfg!(debug_assertions) {
        let error = harness::error::render(&timed.unwrap_err());
        assert!(error.contains("cannot time in a build with debug assertions: `prefill`"), "{error}");
        assert!(
            error.contains("cargo run --release -p harness -- measure") && error.contains("--allow-debug-assertions"),
            "{error}"
        );
        assert!(!out.path().join("records.jsonl").exists());
    } else {
        assert!(timed.is_ok());
    }
    assert!(measure(&plan(&[config()], &["params", "inference_memory"], 1), &strict).is_ok());
}

#[test]
fn weights_of_a_checkpoint_are_used_and_named_and_damaged_ones_fail() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("model.safetensors");
    let (store, _) = subject(config(), workload()).build().unwrap();
    store.save(&weights).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut plan = plan(&[config()], &["prefill"], 1);
    plan.subjects[0].checkpoint = Some(weights.clone());
    let rows = measure(&plan, &options(out.path())).unwrap();
    assert!(rows.iter().all(|row| row.status == Status::Ok && row.checkpoint_sha256.as_ref().is_some_and(|sha| sha.len() == 64)));
    std::fs::write(&weights, b"damaged").unwrap();
    let failed = measure(&plan, &MeasureOptions { fresh: true, ..options(out.path()) }).unwrap();
    assert!(
        failed.iter().all(|row| row.status == Status::Failed && row.reason.as_ref().unwrap().contains("cannot load the weights"))
    );
}
