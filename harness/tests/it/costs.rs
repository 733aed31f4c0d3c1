//! Further costs of a subject end to end: parts and utilisation of a step, energy, control groups, predictions, half-width inference.
//!
//! What is checked is the path of a number and the relations between numbers, never how fast this machine is.

use crate::measured::{config, options, plan, value, variant};
use crate::support::{harness, stderr, stdout, workspace};
use harness::measure::measure;
use harness::measure::subject::{InferenceDtype, Peak};
use models::ModelConfig;
use records::Status;

#[test]
fn the_parts_of_a_step_are_read_in_one_worker_and_add_up_to_a_step() {
    let out = tempfile::tempdir().unwrap();
    let mut options = options(out.path());
    options.window.keep_raw = true;
    let rows = measure(&plan(&[variant("rw+lr+pa")], &["train_split", "train_step"], 1), &options).unwrap();
    let parts = ["train_step_fwd_s", "train_step_bwd_s", "train_step_opt_s"].map(|metric| value(&rows, metric));
    assert!(parts.iter().all(|part| *part > 0.0), "{parts:?}");
    // The parts cover the step: iteration by iteration their sum is below the time of the whole window.
    let raw = |metric: &str| rows.iter().find(|row| row.metric == metric).unwrap().raw_samples.clone().unwrap();
    let window_s = rows.iter().find(|row| row.metric == "train_step_fwd_s").unwrap().timed_s.unwrap();
    let sum: f64 = ["train_step_fwd_s", "train_step_bwd_s", "train_step_opt_s"].iter().flat_map(|metric| raw(metric)).sum();
    assert!(sum <= window_s && sum > 0.5 * window_s, "parts {sum} s, window {window_s} s");
}

#[test]
fn utilisation_is_a_share_of_a_measured_roof_and_mfu_needs_a_named_peak() {
    let out = tempfile::tempdir().unwrap();
    let mut plan = plan(&[config()], &["utilisation", "flops"], 1);
    let rows = measure(&plan, &options(out.path())).unwrap();
    let (share, roof) = (value(&rows, "gemm_utilisation"), value(&rows, "gemm_flops_per_s"));
    assert!(share > 0.0 && roof > 1e8 && value(&rows, "memory_read_bytes_per_s") > 1e7);
    let mfu = rows.iter().find(|row| row.metric == "mfu").unwrap();
    assert_eq!((mfu.status, mfu.value), (Status::Skipped, None));
    assert!(mfu.reason.as_deref().unwrap().contains("no peak configured"));

    // With the measured roof as the peak of another run, both shares are of the same size; the name stays with the number.
    plan.workload.peak = Some(Peak { name: "this test".to_owned(), flops_per_s: roof });
    let again = tempfile::tempdir().unwrap();
    let rows = measure(&plan, &options(again.path())).unwrap();
    let mfu = rows.iter().find(|row| row.metric == "mfu").unwrap();
    assert!(mfu.value.unwrap() > 0.0 && mfu.notes.as_deref().unwrap().contains("this test"));
}

#[test]
fn counters_a_machine_lacks_give_skipped_rows_with_the_reason() {
    let out = tempfile::tempdir().unwrap();
    let rows = measure(&plan(&[config()], &["train_energy", "request_energy", "train_memory"], 1), &options(out.path())).unwrap();
    for metric in ["energy_step_j", "energy_token_j", "peak_cgroup_bytes"] {
        let row = rows.iter().find(|row| row.metric == metric).unwrap();
        match row.status {
            Status::Ok => assert!(row.value.unwrap() > 0.0, "{row:?}"),
            Status::Skipped => {
                assert!(row.value.is_none() && row.reason.as_ref().is_some_and(|reason| reason.len() > 10), "{row:?}");
            }
            other => panic!("{metric}: {other}: {:?}", row.reason),
        }
    }
}

/// Six layers predicted from one and two (three and four with a lookback of three), against six layers measured: few tokens, where
/// the state decides, and many, where activations do; one micro-batch and several.
#[test]
fn predicted_training_memory_is_close_to_the_measured() {
    for (preset, batch, grad_accum) in
        [("plain", 2, 1), ("plain", 16, 1), ("rw+lr", 16, 3), ("rw+lr+pa", 2, 1), ("rw+lr+pa", 16, 1)]
    {
        let mut config = variant(preset);
        (config.batch, config.grad_accum) = (batch, grad_accum);
        let ModelConfig::Decoder(model) = &mut config.model;
        model.num_hidden_layers = 6;
        let out = tempfile::tempdir().unwrap();
        let rows = measure(&plan(&[config], &["predicted_memory", "train_memory"], 1), &options(out.path())).unwrap();
        let (predicted, measured) = (value(&rows, "peak_alloc_predicted_bytes"), value(&rows, "peak_alloc_steady_bytes"));
        assert!(
            (predicted / measured - 1.0).abs() < 0.01,
            "{preset}, batch {batch} × {grad_accum}: predicted {predicted}, measured {measured}"
        );
        let row = rows.iter().find(|row| row.metric == "peak_alloc_predicted_bytes").unwrap();
        assert!(row.notes.as_deref().unwrap().starts_with("predicted"));
    }
}

#[test]
fn bf16_inference_halves_the_weights_and_says_so_in_its_rows() {
    let peak = |dtype: InferenceDtype| {
        let out = tempfile::tempdir().unwrap();
        let mut plan = plan(&[variant("rw+lr+pa")], &["inference_memory", "prefill", "decode"], 1);
        plan.workload.inference_dtype = dtype;
        let rows = measure(&plan, &options(out.path())).unwrap();
        assert!(rows.iter().all(|row| row.dtype.as_deref() == Some(dtype.as_str())));
        assert!(value(&rows, "prefill_s") > 0.0 && value(&rows, "tpot_s") > 0.0);
        value(&rows, "peak_alloc_decode_bytes")
    };
    let (wide, narrow) = (peak(InferenceDtype::F32), peak(InferenceDtype::Bf16));
    // Weights dominate: 0.5 M parameters beside 16 positions.
    assert!(narrow < 0.7 * wide && narrow > 0.4 * wide, "f32 {wide}, bf16 {narrow}");
}

#[test]
fn the_command_line_takes_half_width_for_inference_and_refuses_others() {
    let measure = |dtype: &str| {
        let mut command = harness(&["measure", "--config", "configs/train/llm-1b-plain.toml", "--probe", "prefill", "--dry-run"]);
        command.current_dir(workspace()).args(["--dtype", dtype]);
        command
    };
    assert!(stdout(measure("bf16")).contains("llm-1b-plain"));
    let error = stderr(measure("f16"), 2);
    assert!(error.contains("--dtype: expected `f32` or `bf16` for inference, found F16"), "{error}");
}
