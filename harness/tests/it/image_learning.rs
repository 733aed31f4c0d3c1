//! What training on images promises: a batch is memorised by every variant, the same seed gives the same curve, stopping changes nothing.

use crate::support::{harness, stderr, stdout};
use assert_cmd::Command;
use candle_core::{DType, Device, Tensor};
use harness::config::ImageTrainConfig;
use harness::data::images::ImageBatch;
use harness::run::RunDirectory;
use harness::train::images::train_step;
use harness::train::log::{self, Line};
use harness::train::optimizer::Optimizer;
use models::{ImageModelConfig, ParamStore, ResNet};
use std::path::{Path, PathBuf};

/// Classes of the made-up set.
const CLASSES: usize = 4;

/// A folder with a tiny ResNet's config and a set in CIFAR's binary form whose classes are colours under noise.
pub(crate) struct ImageProject(tempfile::TempDir);

impl ImageProject {
    pub(crate) fn new() -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(project.path("configs/train")).unwrap();
        std::fs::create_dir_all(project.path("set")).unwrap();
        std::fs::write(
            project.path("configs/train/t.toml"),
            r#"name = "t"
tier = "demo"
max_steps = 24
batch = 8
eval_every = 10
checkpoint_every = 7
keep_checkpoints = 4
label_smoothing = 0.1
[data]
train = "set"
train_split = "train"
valid = "set"
valid_split = "test"
[data.transform]
size = 16
crop = { kind = "pad-crop", padding = 2 }
flip = true
resize = 16
[model]
family = "resnet"
depths = [2, 2]
width = 4
block = "basic"
stem = "cifar"
shortcut = "projection"
num_classes = 4
[model.residual]
mix = { kind = "softmax2" }
augment = [{ kind = "previous", lookback = 2, map = "per-lag", rank = 2, init = "xavier" }]
[optimizer]
kind = "sgd"
learning_rate = 0.05
scalar_learning_rate = 0.01
momentum = 0.9
nesterov = true
weight_decay = 5e-4
warmup_steps = 3
max_grad_norm = 0
"#,
        )
        .unwrap();
        std::fs::write(project.path("set/batches.meta.txt"), "red\ngreen\nblue\ngrey\n").unwrap();
        std::fs::write(project.path("set/data_batch_1.bin"), records(44, 1)).unwrap(); // five whole batches and a half
        std::fs::write(project.path("set/test_batch.bin"), records(12, 2)).unwrap();
        project
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join(relative)
    }

    pub(crate) fn config(&self, sets: &[&str]) -> ImageTrainConfig {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        ImageTrainConfig::load(&self.path("configs/train/t.toml"), &sets, None).unwrap()
    }

    pub(crate) fn train(&self, arguments: &[&str]) -> Command {
        let mut command = harness(&["train", "--config", "configs/train/t.toml", "--threads", "1"]);
        command.current_dir(self.0.path()).args(arguments);
        command
    }

    fn only_run(&self, runs_dir: &str) -> PathBuf {
        let runs: Vec<_> = std::fs::read_dir(self.path(runs_dir).join("t")).unwrap().collect();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs[0].as_ref().unwrap().path()
    }
}

/// Records of CIFAR's binary form: the label's channel is bright, the rest is noise of a linear congruential generator.
fn records(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 25) as u8 // 0 to 127
    };
    let mut bytes = Vec::new();
    for at in 0..count {
        let label = at % CLASSES;
        bytes.push(label as u8);
        for channel in 0..3 {
            let bright = if label == channel || label == 3 { 100 } else { 0 };
            bytes.extend((0..1024).map(|_| noise() + bright));
        }
    }
    bytes
}

/// The log without the one field that depends on the clock.
fn curve(run: &Path) -> Vec<Line> {
    let mut lines = log::read(&run.join(log::TRAIN_LOG)).unwrap();
    for line in &mut lines {
        if let Line::ImageStep { images_per_s, .. } = line {
            *images_per_s = 0.0;
        }
    }
    lines
}

fn final_weights(run: &Path) -> [Vec<u8>; 2] {
    let checkpoint = RunDirectory::open(run).unwrap().newest_checkpoint().unwrap().unwrap();
    [checkpoint.model_file(), checkpoint.evaluated_file()].map(|file| std::fs::read(file).unwrap())
}

#[test]
fn one_batch_of_images_is_memorised() {
    let project = ImageProject::new();
    for residual in ["plain", "rw", "rw-vec", "lr", "pa", "rw+lr", "rw+lr+pa"] {
        let mut config = project.config(&[]);
        config.model.set_residual(laurel::ResidualConfig::preset(residual, 2, 3).unwrap());
        let ImageModelConfig::Resnet(shape) = &config.model;
        let store = ParamStore::new(DType::F32, &Device::Cpu);
        let network = ResNet::new(shape, store.var_builder()).unwrap();
        network.init_weights(0).unwrap();
        let mut optimizer = Optimizer::new(&config.optimizer, &store);
        // Eight images of noise with labels that nothing in them explains.
        let mut rng = laurel::init::ParameterRng::new(1, "noise");
        let pixels: Vec<f32> = (0..8 * 16 * 16 * 3).map(|_| rng.normal() as f32).collect();
        let images = Tensor::from_vec(pixels, (8, 16, 16, 3), &Device::Cpu).unwrap();
        let batch = ImageBatch { images, labels: vec![0, 3, 1, 1, 2, 0, 3, 2], ids: (0..8).collect() };
        let mut loss = f64::NAN;
        for _ in 0..80 {
            loss = train_step(&network, &mut optimizer, std::slice::from_ref(&batch), 0.0, 1.0).unwrap().loss;
        }
        // ln 4 = 1.39 nats for a network that knows nothing.
        assert!(loss < 0.1, "{residual}: {loss}");
    }
}

#[test]
fn the_same_seed_gives_the_same_curve_of_images_and_another_seed_another() {
    let project = ImageProject::new();
    for (runs_dir, seed) in [("a", "0"), ("b", "0"), ("c", "1")] {
        stdout(project.train(&["--runs-dir", runs_dir, "--seed", seed]));
    }
    let [a, b, c] = ["a", "b", "c"].map(|runs_dir| project.only_run(runs_dir));
    assert_eq!(curve(&a), curve(&b));
    assert_eq!(final_weights(&a), final_weights(&b));
    assert_ne!(curve(&a), curve(&c));
    assert_eq!(curve(&a).len(), 24 + 3, "24 steps, evaluations after 10, 20 and the last");
}

#[test]
fn a_run_on_images_that_stopped_resumes_to_the_same_bits() {
    for sets in [["--set", "average_decay=0.9"], ["--set", "grad_accum=2"], ["--numerics", "bf16"]] {
        let project = ImageProject::new();
        let run = |runs_dir: &str| {
            let mut command = project.train(&sets);
            command.args(["--runs-dir", runs_dir, "--format", "json"]);
            serde_json::from_str::<serde_json::Value>(&stdout(command)).unwrap()
        };
        run("whole");
        run("stopped");
        let stopped = project.only_run("stopped");
        // As a kill after step 17 leaves it: the newest checkpoint is of step 14, the log goes further, the manifest says running.
        let lines: String =
            std::fs::read_to_string(stopped.join(log::TRAIN_LOG)).unwrap().split_inclusive('\n').take(18).collect();
        std::fs::write(stopped.join(log::TRAIN_LOG), lines).unwrap();
        let mut manifest = records::Manifest::load(&stopped.join("manifest.json")).unwrap();
        manifest.status = records::RunStatus::Running;
        manifest.save(&stopped.join("manifest.json")).unwrap();
        std::fs::remove_file(stopped.join("records.jsonl")).unwrap();
        for step in [21, 24] {
            let _ = std::fs::remove_dir_all(stopped.join(format!("checkpoints/step-{step:06}")));
        }
        let summary = run("stopped");
        assert_eq!(summary["resumed_from"].as_u64(), Some(14), "{summary}");
        let whole = project.only_run("whole");
        assert_eq!(curve(&whole), curve(&stopped));
        assert_eq!(final_weights(&whole), final_weights(&stopped));
    }
}

#[test]
fn a_run_on_images_leaves_rows_with_best_and_last_accuracy() {
    let project = ImageProject::new();
    stdout(project.train(&[]));
    let run = project.only_run("runs");
    let rows = records::read_rows(&run.join("records.jsonl")).unwrap().rows;
    let value = |metric: &str| {
        rows.iter().find(|row| row.metric == metric && row.kind == records::RecordKind::Sample).and_then(|row| row.value)
    };
    let points: Vec<(u64, f64)> = rows
        .iter()
        .filter(|row| row.metric == "acc1" && row.kind == records::RecordKind::Step)
        .map(|row| (row.eval_step.unwrap(), row.value.unwrap()))
        .collect();
    assert_eq!(points.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [10, 20, 24]);
    let best = points.iter().map(|(_, acc1)| *acc1).fold(0.0, f64::max);
    assert_eq!((value("acc1_best"), value("acc1_final")), (Some(best), Some(points[2].1)));
    assert_eq!(value("acc5"), Some(1.0), "there are four classes");
    assert_eq!((value("train_images"), value("evaluation_points")), (Some(24.0 * 8.0), Some(3.0)));
    for row in &rows {
        row.check().unwrap();
        assert_eq!((row.subject.as_deref(), row.variant.as_deref(), row.seed), (Some("t"), Some("rw+lr+pa"), Some(0)));
        assert_eq!((row.optimizer.as_deref(), row.image_size), (Some("sgd"), Some(16)));
        assert_eq!((row.learning_rate, row.residual_gamma.as_deref()), (Some(0.05), Some("learned")));
        assert_eq!(row.residual_init.as_deref(), Some("xavier"));
    }
    let again = ImageTrainConfig::load(&run.join("config.toml"), &[], None).unwrap();
    assert_eq!(again.sha256(), project.config(&[]).sha256());
    assert!(stdout(project.train(&[])).contains("(was finished)"));
}

/// The classes' names were left out in silence when their file could not be read, and the set's own order taken for the network's.
#[test]
fn a_run_is_evaluated_by_its_own_classes_and_with_its_own_tier() {
    let project = ImageProject::new();
    stdout(project.train(&[]));
    let run = project.only_run("runs");
    let eval = || {
        let mut command = harness(&["eval", "--task", "cifar10", "--split", "test", "--data", "set", "--out", "o"]);
        command.current_dir(project.path("")).arg("--model").arg(&run);
        command
    };
    stdout(eval());
    let results: serde_json::Value = serde_json::from_slice(&std::fs::read(project.path("o/results.json")).unwrap()).unwrap();
    assert_eq!((&results["provenance"]["tier"], &results["models"]["t"]["tasks"]["set"]["n"]), (&"demo".into(), &12.into()));
    std::fs::remove_file(run.join("classes.json")).unwrap();
    let error = stderr(eval(), 2);
    assert!(error.contains("cannot load run") && error.contains("classes.json"), "{error}");
}

#[test]
fn colours_are_learned() {
    let project = ImageProject::new();
    let mut command = project.train(&["--max-steps", "120", "--format", "json"]);
    command.args(["--set", "average_decay=0.9"]);
    let summary: serde_json::Value = serde_json::from_str(&stdout(command)).unwrap();
    // Chance is 0.25; the mean of a channel tells the class.
    assert!(summary["acc1_best"].as_f64().unwrap() >= 0.9, "{summary}");
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_trained() {
    let project = ImageProject::new();
    let failed = |sets: &[&str]| {
        let mut command = project.train(&[]);
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        stderr(command, 2)
    };
    let error = failed(&["model.num_classes=7"]);
    assert!(error.contains("model.num_classes: expected 4 (classes of `set`), found 7"), "{error}");
    let error = failed(&["data.train=nowhere"]);
    assert!(error.contains("nowhere"), "{error}");
    let error = failed(&["data.train_split=holdout"]);
    assert!(error.contains("unknown split: `holdout`"), "{error}");
    let error = failed(&["model.residual.augment[0].rank=99"]);
    assert!(error.contains("model.residual.augment[0].rank") && error.contains("99"), "{error}");
    let error = failed(&["optimizer.momentum=1.5"]);
    assert!(error.contains("optimizer.momentum"), "{error}");
    let error = failed(&["numerics=f32-split"]);
    assert!(error.contains("numerics: expected `f32` or `bf16` for a network on images, found `f32-split`"), "{error}");
    let error = failed(&["optimizer.learning_rate=1e30"]);
    assert!(error.contains("not finite") && error.contains("lower optimizer.learning_rate"), "{error}");
}

/// Roundings of 2⁻⁹ move a loss of about one nat by a few percent over two dozen steps; another order of pictures moves it more.
#[test]
fn bf16_training_follows_f32_in_a_run_of_its_own() {
    let project = ImageProject::new();
    let losses = |numerics: &str| {
        let mut command = project.train(&["--runs-dir", numerics, "--numerics", numerics]);
        command.args(["--set", "optimizer.learning_rate=0.02"]);
        stdout(command);
        let run = project.only_run(numerics);
        for row in records::read_rows(&run.join("records.jsonl")).unwrap().rows {
            assert_eq!(row.numerics.map(|found| found.to_string()).as_deref(), Some(numerics), "{}", row.metric);
            assert_eq!(row.dtype.as_deref(), Some("f32"), "{}: master weights", row.metric);
        }
        let losses = |line: &Line| if let Line::ImageStep { loss, .. } = line { Some(*loss) } else { None };
        (run.file_name().unwrap().to_owned(), curve(&run).iter().filter_map(losses).collect::<Vec<_>>())
    };
    let ((f32_run, f32_losses), (bf16_run, bf16_losses)) = (losses("f32"), losses("bf16"));
    assert_ne!(f32_run, bf16_run, "numerics are part of a run's name");
    assert_ne!(f32_losses, bf16_losses);
    let distances: Vec<f64> = f32_losses.iter().zip(&bf16_losses).map(|(a, b)| (a - b).abs()).collect();
    assert!(distances[0] < 0.02 && distances.iter().all(|distance| *distance < 0.1), "{distances:?}");
    assert!(bf16_losses.last() < bf16_losses.first(), "{bf16_losses:?}");
}

/// The cells of a learning-rate sweep had one id, so its table averaged over the rates. The second run stops at its first step.
#[test]
fn cells_of_a_learning_rate_sweep_can_be_told_apart() {
    let project = ImageProject::new();
    stdout(project.train(&["--runs-dir", "a"]));
    stderr(project.train(&["--runs-dir", "b", "--set", "optimizer.learning_rate=1e30"]), 2);
    let row = |runs_dir: &str| {
        let rows = records::read_rows(&project.only_run(runs_dir).join("records.jsonl")).unwrap().rows;
        rows.into_iter().find(|row| row.metric == "acc1_final").unwrap()
    };
    let (finished, failed) = (row("a"), row("b"));
    assert_eq!((finished.learning_rate, failed.learning_rate), (Some(0.05), Some(1e30)));
    assert_ne!(finished.cell_id, failed.cell_id);
}

/// Logits that are not numbers counted as right answers of every picture.
#[test]
fn an_evaluation_of_a_network_that_diverged_is_an_error_and_no_accuracy() {
    let project = ImageProject::new();
    let mut command = project.train(&["--max-steps", "1", "--set", "optimizer.warmup_steps=0"]);
    command.args(["--set", "optimizer.learning_rate=1e41"]);
    let error = stderr(command, 2);
    assert!(error.contains("picture `test_batch.bin:00000`") && error.contains("expected finite logits, found NaN"), "{error}");
    assert!(!project.only_run("runs").join("records.jsonl").exists());
}

#[test]
fn evaluating_a_run_repeats_its_last_accuracy() {
    let project = ImageProject::new();
    let trained: serde_json::Value = serde_json::from_str(&stdout(project.train(&["--format", "json"]))).unwrap();
    let run = project.only_run("runs");
    let classes: Vec<String> = serde_json::from_str(&std::fs::read_to_string(run.join("classes.json")).unwrap()).unwrap();
    assert_eq!(classes, ["red", "green", "blue", "grey"]);
    let suite = crate::support::workspace().join("configs/suites/vision.toml");
    let mut command =
        harness(&["eval", "--data", "set", "--split", "test", "--batch-size", "5", "--out", "out", "--threads", "1"]);
    command.current_dir(project.path("")).arg("--suite").arg(suite).arg("--model").arg(&run);
    command.assert().success();
    let results: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(project.path("out/results.json")).unwrap()).unwrap();
    let task = &results["models"]["t"]["tasks"]["set"];
    assert_eq!(task["metrics"]["acc1"]["value"], trained["acc1_final"]);
    let difference = task["metrics"]["cross_entropy"]["value"].as_f64().unwrap() - trained["cross_entropy"].as_f64().unwrap();
    assert!(difference.abs() < 1e-6, "{difference}");
}
