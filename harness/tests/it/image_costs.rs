//! The measuring side on networks that read images: the same protocol and rows, other shapes, and a reason for what cannot be asked.

use crate::image_learning::ImageProject;
use crate::measured::{config, image_config, image_variant, options, plan, value};
use crate::support::{harness, stdout};
use harness::config::{ImageTrainConfig, RunConfig};
use harness::measure::probes;
use harness::measure::subject::{InferenceDtype, Subject};
use harness::measure::{SubjectSpec, WindowSpec, Workload, measure, quality};
use laurel::PRESETS;
use models::resnet::{BlockKind, ShortcutKind, Stem};
use models::{ImageModelConfig, Mode};
use records::{Numerics, Row, Status};

fn run_here(probe: &str, config: ImageTrainConfig) -> Vec<Row> {
    let workload = Workload::default();
    let mut subject = Subject { config: config.into(), workload, checkpoint: None, reference: None };
    let measured = probes::by_name(probe).unwrap().run(&mut subject, &WindowSpec::short()).unwrap();
    measured.into_iter().map(Row::from).collect()
}

#[test]
fn counts_of_image_networks_equal_their_closed_forms_in_every_form() {
    let forms = [
        (BlockKind::Basic, Stem::Cifar, ShortcutKind::Padding, 16),
        (BlockKind::Basic, Stem::Imagenet, ShortcutKind::Projection, 33),
        (BlockKind::Bottleneck, Stem::Cifar, ShortcutKind::Projection, 15),
        (BlockKind::Bottleneck, Stem::Imagenet, ShortcutKind::Padding, 40),
    ];
    for preset in PRESETS.iter().filter(|preset| **preset != "gemma3n") {
        for (block, stem, shortcut, size) in forms {
            let mut config = image_variant(preset);
            config.data.transform.size = size;
            let ImageModelConfig::Resnet(model) = &mut config.model;
            (model.block, model.stem, model.shortcut) = (block, stem, shortcut);
            (model.depths, model.extra_blocks) = (vec![1, 2, 1], vec![0, 1]);
            for probe in ["params", "flops"] {
                for row in run_here(probe, config.clone()) {
                    assert_eq!(row.status, Status::Ok, "{preset} {block:?} {stem:?}: {}: {:?}", row.metric, row.reason);
                }
            }
        }
    }
}

#[test]
fn every_cost_of_an_image_network_has_a_row_that_states_its_shape() {
    let out = tempfile::tempdir().unwrap();
    let names = ["params", "flops", "train_step", "train_split", "utilisation", "image_latency", "image_throughput"];
    let names: Vec<&str> = names.into_iter().chain(["train_memory", "inference_memory"]).collect();
    let rows = measure(&plan(&[image_config(), image_variant("rw+lr")], &names, 1), &options(out.path())).unwrap();
    for row in &rows {
        row.check().unwrap();
        let is_optional = row.metric == "mfu" || row.metric.starts_with("peak_cgroup") || row.metric.starts_with("peak_rss");
        assert!(row.status == Status::Ok || (is_optional && row.reason.is_some()), "{}: {:?}", row.metric, row.reason);
        assert_eq!((row.image_size, row.sequence_length, row.prompt_length), (Some(16), None, None), "{}", row.metric);
        assert_eq!((row.vocab_size, row.model_family.as_deref()), (None, Some("resnet")), "{}", row.metric);
        // Counts do not depend on the inputs; whatever was run says what it was run on.
        let notes = row.notes.as_deref().unwrap_or_default();
        assert_eq!(notes.contains("pictures of seeded normal numbers"), row.task.is_some(), "{}: {notes}", row.metric);
    }
    let batch = |metric: &str| rows.iter().find(|row| row.metric == metric).unwrap().batch;
    assert_eq!((batch("image_latency_s"), batch("images_per_s"), batch("train_step_s")), (Some(1), Some(2), Some(2)));
    assert_eq!((batch("peak_alloc_image_forward_bytes"), batch("params_total")), (Some(2), None));
    for metric in
        ["image_latency_s", "images_per_s", "train_step_s", "train_step_bwd_s", "train_samples_per_s", "gemm_utilisation"]
    {
        assert!(value(&rows, metric) > 0.0, "{metric}");
    }
    assert!(
        !rows.iter().any(|row| row.metric.contains("token") || row.metric.contains("prefill") || row.metric.contains("decode"))
    );
    // SGD keeps one moment: 12 bytes a parameter, and 4 of every running statistic.
    let (params, buffers) = (value(&rows, "params_total"), value(&rows, "params_buffers"));
    assert!(buffers > 0.0 && value(&rows, "weights_bytes") == 4.0 * (params + buffers));
    assert_eq!(value(&rows, "train_state_bytes"), 12.0 * params + 4.0 * buffers);
    // Four steps of two pictures that begin one picture further on each: five pictures, and eight labels.
    let inputs = (5 * 16 * 16 * 3 * 4 + 8 * 4) as f64;
    let rest = value(&rows, "peak_alloc_bytes") - value(&rows, "train_state_bytes") - inputs;
    assert!(value(&rows, "activation_bytes_est") == rest && rest > 0.0);
    // RW+LR with r = 2 at 4 and 8 channels: 2·2·4 + 2 and 2·2·8 + 2.
    let added = rows.iter().find(|row| row.metric == "params_added" && row.variant.as_deref() == Some("rw+lr")).unwrap();
    assert_eq!((added.value, added.reference_variant.as_deref()), (Some(52.0), Some("plain")));
}

#[test]
fn steps_have_inputs_of_their_own_and_a_bf16_network_answers_like_the_f32_one() {
    let subject = |dtype| {
        let workload = Workload { inference_dtype: dtype, ..Workload::default() };
        Subject { config: image_variant("rw+lr").into(), workload, checkpoint: None, reference: None }
    };
    let mut training = subject(InferenceDtype::F32).training(2).unwrap();
    let losses = [0, 1, 2].map(|number| training.step(number, |_| Ok(())).unwrap().loss);
    // The third step has the inputs of the first again, after two small updates.
    assert!((losses[0] - losses[1]).abs() > 1e-3 && (losses[0] - losses[2]).abs() < 1e-2, "{losses:?}");
    let logits = |dtype| {
        let subject = subject(dtype);
        let pictures = subject.pictures(3).unwrap();
        subject.build_folded().unwrap().forward(&pictures, Mode::Eval).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let (wide, half) = (logits(InferenceDtype::F32), logits(InferenceDtype::Bf16));
    let largest = wide.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
    assert!(wide != half && wide.iter().zip(&half).all(|(a, b)| (a - b).abs() < 0.03 * largest), "{wide:?} {half:?}");
}

#[test]
fn the_format_of_an_image_inference_stands_in_its_rows() {
    let out = tempfile::tempdir().unwrap();
    let mut plan = plan(&[image_config()], &["image_latency", "inference_memory", "train_memory"], 1);
    plan.workload.inference_dtype = InferenceDtype::Bf16;
    let rows = measure(&plan, &options(out.path())).unwrap();
    let format = |metric: &str| {
        let row = rows.iter().find(|row| row.metric == metric).unwrap();
        (row.dtype.clone().unwrap(), row.numerics.unwrap())
    };
    let bf16 = ("bf16".to_owned(), Numerics::Bf16);
    assert_eq!((format("image_latency_s"), format("peak_alloc_image_forward_bytes")), (bf16.clone(), bf16));
    assert_eq!(format("peak_alloc_bytes"), ("f32".to_owned(), Numerics::F32));
}

/// The whole command used to end with an error when one config was of images.
#[test]
fn what_a_subject_cannot_be_asked_is_one_skipped_row_per_metric_with_the_reason() {
    let out = tempfile::tempdir().unwrap();
    let refused = ["predicted_memory", "prefill", "ttft", "decode", "request_energy"];
    let names: Vec<&str> = refused.into_iter().chain(["inference_memory"]).collect();
    let plan_of = || plan(&[image_config(), image_variant("rw")], &names, 3);
    let rows = measure(&plan_of(), &options(out.path())).unwrap();
    for name in refused {
        let of_probe: Vec<&Row> = rows.iter().filter(|row| row.task.as_deref() == Some(name)).collect();
        let metrics = probes::by_name(name).unwrap().metrics();
        assert_eq!(of_probe.len(), 2 * metrics.len(), "{name}: once per subject and metric, not per pair");
        for row in of_probe {
            assert_eq!((row.status, row.value, row.pair), (Status::Skipped, None, None), "{name}");
            assert!(row.reason.as_deref().unwrap().contains("network on images"), "{:?}", row.reason);
        }
    }
    assert_eq!(rows.iter().filter(|row| row.metric == "peak_alloc_image_forward_bytes" && row.value.is_some()).count(), 2 * 3);
    assert_eq!(measure(&plan_of(), &options(out.path())).unwrap().len(), rows.len(), "nothing is asked again");
    let other = tempfile::tempdir().unwrap();
    let rows = measure(&plan(&[config()], &["image_latency", "image_throughput"], 1), &options(other.path())).unwrap();
    let found: Vec<_> = rows.iter().map(|row| (row.metric.as_str(), row.status, row.reason.as_deref().unwrap())).collect();
    let reason = "a language model reads no pictures";
    assert_eq!(found, [("image_latency_s", Status::Skipped, reason), ("images_per_s", Status::Skipped, reason)]);
}

#[test]
fn networks_of_two_kinds_and_lengths_of_pictures_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let error = |plan: &harness::measure::Plan| measure(plan, &options(out.path())).unwrap_err().to_string();
    let subjects = [SubjectSpec::from(config()), SubjectSpec::from(image_config())];
    let found = error(&plan(&subjects, &["params"], 1));
    assert!(found.contains("expected a language model as `lm-tiny-plain`, found a network on images"), "{found}");
    let mut plan = plan(&[image_config()], &["params"], 1);
    plan.workload.sequence_length = Some(32);
    let found = error(&plan);
    assert!(found.contains("--sequence-length: expected none for `resnet20-cifar10-plain`"), "{found}");
}

/// One run on images below the runs folder ended the search for the runs of a language model.
#[test]
fn a_validation_loss_is_looked_for_beside_runs_on_images() {
    let runs = tempfile::tempdir().unwrap();
    let folder = runs.path().join("resnet/12345678-s0");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), image_config().to_toml()).unwrap();
    let error = |name: &str| format!("{:#}", quality::rows(runs.path(), &[name], 2.5).unwrap_err());
    assert!(error("lm-tiny-plain").contains("expected a run of lm-tiny-plain"), "{}", error("lm-tiny-plain"));
    assert!(error("resnet20-cifar10-plain").contains("found a network on images"), "{}", error("resnet20-cifar10-plain"));
}

#[test]
fn the_command_measures_variants_of_an_image_config_and_the_reports_show_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = harness(arguments);
        command.current_dir(folder.path()).args(["--threads", "1"]);
        stdout(command)
    };
    std::fs::create_dir_all(folder.path().join("configs/train")).unwrap();
    std::fs::write(folder.path().join("configs/train/t.toml"), image_config().to_toml()).unwrap();
    let measured =
        ["measure", "--config", "configs/train/t.toml", "--residual", "rw,rw+lr", "--rank", "2", "--pairs", "1", "--out", "m"];
    let memory = "params,flops,train_memory,inference_memory,predicted_memory";
    let table = run(&[&measured[..], &["--probe", memory]].concat());
    for subject in ["resnet20-cifar10-plain", "resnet20-cifar10-rw", "resnet20-cifar10-rw+lr"] {
        assert!(table.contains(subject), "{table}");
    }
    assert!(table.contains("latency") && !table.contains("prefill"), "{table}");
    // The plan without a choice has no probe that would only be skipped.
    let plan = run(&[&measured[..], &["--dry-run", "--allow-debug-assertions"]].concat());
    assert!(plan.contains("image_throughput") && !plan.contains("prefill") && !plan.contains("decode"), "{plan}");
    let report = run(&["report", "--from", "m", "--table", "efficiency", "--style", "csv"]);
    // RW adds 2 scalars in two blocks; RW+LR the maps of rank 2 beside them.
    let RunConfig::Images(config) = RunConfig::load(&folder.path().join("configs/train/t.toml"), &[], None).unwrap() else {
        panic!("a config of images");
    };
    let count = models::Model::num_params(&config.model).total;
    for params in [count, count + 4, count + 52] {
        assert!(report.contains(&params.to_string()), "{params}: {report}");
    }
}

#[test]
fn accuracy_of_runs_stands_against_the_measured_latency_of_their_configs() {
    let project = ImageProject::new();
    let plain = ["name=t-plain", "max_steps=8", "model.residual.mix={kind=\"none\"}", "model.residual.augment=[]"];
    let learned = ["name=t-rw+lr+pa", "max_steps=8"];
    for sets in [&plain[..], &learned] {
        stdout(project.train(&sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>()));
    }
    let subjects = [project.config(&plain), project.config(&learned)];
    measure(&plan(&subjects, &["params", "image_latency"], 1), &options(&project.path("runs/_suites/m"))).unwrap();
    let report = |table: &str| {
        let mut command = harness(&["report", "--from", "runs", "--table", table, "--style", "text"]);
        command.current_dir(project.path(""));
        stdout(command)
    };
    let (frontier, costs) = (report("frontier"), report("efficiency"));
    for words in ["image latency", "acc1_best", "Baseline", "RW+LR+PA"] {
        assert!(frontier.contains(words), "{words}: {frontier}");
    }
    assert!(costs.contains("Image latency"), "{costs}");
}
