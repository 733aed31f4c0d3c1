//! Every file in `configs/` parses, validates and builds; the published sizes come out to the digit.

use crate::support::workspace;
use candle_core::{DType, Device};
use harness::config::{ImageTrainConfig, RunConfig, SuiteConfig, SweepConfig, TrainConfig};
use harness::eval::vision;
use models::{Decoder, ImageModelConfig, Model as _, ModelConfig, ParamStore, ResNet};
use std::path::{Path, PathBuf};

/// Models up to this size are really built.
const BUILT_PARAMS: usize = 20_000_000;

fn files(folder: &str) -> Vec<PathBuf> {
    let files = harness::cli::list::config_files(&workspace().join("configs").join(folder)).unwrap();
    assert!(!files.is_empty(), "no configs in {folder}");
    files
}

#[test]
fn every_training_config_builds_with_its_closed_form_count() {
    for file in files("train") {
        let config = RunConfig::load(&file, &[], None).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(Some(config.name()), file.file_stem().and_then(|stem| stem.to_str()), "name and file name");
        let count = config.num_params().total;
        if count <= BUILT_PARAMS {
            let store = ParamStore::new(DType::F32, &Device::Cpu);
            match &config {
                RunConfig::Language(config) => {
                    let ModelConfig::Decoder(shape) = &config.model;
                    Decoder::new(shape, store.var_builder()).unwrap();
                }
                RunConfig::Images(config) => {
                    let ImageModelConfig::Resnet(shape) = &config.model;
                    ResNet::new(shape, store.var_builder()).unwrap();
                }
            }
            assert_eq!(store.num_params(), count, "{}", file.display());
        }
    }
}

#[test]
fn published_and_stated_sizes_come_out_to_the_digit() {
    // paper.md 9.3 and 9.4: table 5 baselines as printed; LR adds 2rDN, PA kN, RW 2N with r = 32, D = 768, N = 24, k = 3.
    let expected = [
        ("table5-plain", 157_197_056),
        ("table5-naive+4", 179_229_440),
        ("table5-rw", 157_197_056 + 2 * 24),
        ("table5-lr", 157_197_056 + 2 * 32 * 768 * 24),
        ("table5-pa", 157_197_056 + 3 * 24),
        ("table5-rw+lr", 157_197_056 + (2 * 32 * 768 + 2) * 24),
        ("table5-rw+lr+pa", 157_197_056 + (3 * 2 * 32 * 768 + 3 + 2) * 24),
        ("llm-1b-plain", 1_104_218_112),
        ("llm-1b-rw+lr-r4", 1_104_218_112 + 262_176),
        ("llm-1b-rw+lr-r64", 1_104_218_112 + 4_194_336),
        ("llm-4b-plain", 3_938_920_960),
        ("llm-4b-rw+lr-r4", 3_938_920_960 + 819_280),
        ("llm-4b-rw+lr-r64", 3_938_920_960 + 13_107_280),
    ];
    for (name, params) in expected {
        let config = TrainConfig::load(&workspace().join(format!("configs/train/{name}.toml")), &[], None).unwrap();
        assert_eq!(config.model.num_params().total, params, "{name}");
    }
    // paper.md section 5 (+1 layer) and 9.2 (r = 16 at all sixteen blocks: 483,328; two scalars each).
    let expected = [
        ("resnet50-imagenet-plain", 25_557_032),
        ("resnet50-imagenet-naive+1", 25_557_032 + 1_117_184),
        ("resnet50-imagenet-rw", 25_557_032 + 32),
        ("resnet50-imagenet-rw+lr", 25_557_032 + 483_328 + 32),
        ("resnet50-imagenet-rw+lr+pa", 25_557_032 + 3 * 483_328 + 5 * 16),
        ("resnet20-cifar10-plain", 269_722),
        ("resnet20-cifar10-naive+1", 269_722 + 18_560),
    ];
    for (name, params) in expected {
        let config = RunConfig::load(&workspace().join(format!("configs/train/{name}.toml")), &[], None).unwrap();
        assert_eq!(config.num_params().total, params, "{name}");
    }
}

#[test]
fn image_variants_differ_from_plain_in_what_they_say_only() {
    for family in ["resnet20-cifar10", "resnet18-imagenette", "resnet50-imagenet"] {
        let load = |variant: &str| {
            ImageTrainConfig::load(&workspace().join(format!("configs/train/{family}-{variant}.toml")), &[], None).unwrap()
        };
        let plain = load("plain");
        for variant in ["naive+1", "rw", "rw+lr", "rw+lr+pa"] {
            let config = load(variant);
            assert_eq!(config.variant(), variant, "{family}");
            let (ImageModelConfig::Resnet(shape), ImageModelConfig::Resnet(plain_shape)) = (&config.model, &plain.model);
            let shape = models::ResNetConfig {
                residual: plain_shape.residual.clone(),
                extra_blocks: plain_shape.extra_blocks.clone(),
                ..shape.clone()
            };
            let same = ImageTrainConfig { name: plain.name.clone(), model: ImageModelConfig::Resnet(shape), ..config };
            assert_eq!(same, plain, "{family}-{variant}");
        }
    }
}

#[test]
fn every_config_opens_with_its_path_purpose_and_command() {
    for folder in ["train", "suites", "sweeps"] {
        for file in files(folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
            let relative = file.strip_prefix(workspace()).unwrap().display().to_string();
            assert!(header[0].starts_with(&format!("# {relative} — ")), "{relative}: {}", header[0]);
            let joined = header.join("\n");
            assert!(
                joined.contains("cargo h ") && joined.contains(&*file.file_stem().unwrap().to_string_lossy()),
                "{relative}: no command"
            );
        }
    }
}

#[test]
fn variants_differ_from_plain_in_what_they_say_only() {
    for family in ["lm-tiny", "lm-small", "table5", "llm-1b", "llm-4b"] {
        let load = |name: &str| TrainConfig::load(&workspace().join(format!("configs/train/{name}.toml")), &[], None).unwrap();
        let plain = load(&format!("{family}-plain"));
        for file in files("train") {
            if !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{family}-"))) {
                continue;
            }
            let config = TrainConfig::load(&file, &[], None).unwrap();
            let ModelConfig::Decoder(plain_shape) = &plain.model;
            let mut same = config.clone();
            let ModelConfig::Decoder(shape) = &mut same.model;
            shape.residual = plain_shape.residual.clone();
            shape.extra_layers = plain_shape.extra_layers;
            same.name = plain.name.clone();
            assert_eq!(same, plain, "{}", config.name);
            assert!(
                config.name.ends_with(&config.variant()) || config.name.contains(&format!("-{}-r", config.variant())),
                "{}",
                config.name
            );
        }
    }
}

#[test]
fn the_reference_configs_name_every_field() {
    let resolved = |file: &Path| match RunConfig::load(file, &[], None).unwrap() {
        RunConfig::Language(config) => config.to_toml(),
        RunConfig::Images(config) => config.to_toml(),
    };
    fn missing(resolved: &toml::Table, written: &toml::Table, prefix: &str, out: &mut Vec<String>) {
        for (key, value) in resolved {
            match (value, written.get(key)) {
                (_, None) => out.push(format!("{prefix}{key}")),
                (toml::Value::Table(inner), Some(toml::Value::Table(there))) => {
                    missing(inner, there, &format!("{prefix}{key}."), out);
                }
                _ => {}
            }
        }
    }
    for name in ["lm-tiny-plain", "resnet20-cifar10-plain"] {
        let file = workspace().join(format!("configs/train/{name}.toml"));
        let written: toml::Table = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let mut out = Vec::new();
        missing(&toml::from_str(&resolved(&file)).unwrap(), &written, "", &mut out);
        assert!(out.is_empty(), "fields without a line in {name}: {out:?}");
    }
}

#[test]
fn every_suite_and_sweep_loads_and_names_what_exists() {
    for file in files("suites") {
        let suite = SuiteConfig::load(&file, &[]).unwrap_or_else(|error| panic!("{error:#}"));
        for task in suite.tasks.iter().filter(|task| task.requires.is_none()) {
            let expanded = tasks::expand(&[&task.name]);
            let is_known = vision::is_task(&task.name) || expanded.is_ok_and(|leaves| !leaves.is_empty());
            assert!(is_known, "{}: task `{}`", file.display(), task.name);
        }
    }
    for file in files("sweeps") {
        let sweep = SweepConfig::load(&file, &[]).unwrap_or_else(|error| panic!("{error:#}"));
        let plan = harness::sweep::plan(&sweep).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(plan.len() >= sweep.seeds.len(), "{}", file.display());
    }
}

#[test]
fn the_run_id_depends_on_values_and_not_on_seed_or_place() {
    let file = workspace().join("configs/train/lm-tiny-rw+lr.toml");
    let base = TrainConfig::load(&file, &[], None).unwrap();
    let seeded = TrainConfig::load(&file, &[], Some(3)).unwrap();
    assert_eq!(base.sha256(), seeded.sha256());
    assert_eq!(seeded.run_id().as_str(), format!("lm-tiny-rw+lr/{}-s3", &base.sha256()[..8]));
    let other = TrainConfig::load(&file, &["optimizer.eps=1e-9".to_owned()], None).unwrap();
    assert_ne!(base.sha256(), other.sha256());
    // The same files somewhere else are the same experiment.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(elsewhere.path().join("configs/train")).unwrap();
    for name in ["lm-tiny-rw+lr.toml", "lm-tiny-plain.toml"] {
        std::fs::copy(file.with_file_name(name), elsewhere.path().join("configs/train").join(name)).unwrap();
    }
    let moved = TrainConfig::load(&elsewhere.path().join("configs/train/lm-tiny-rw+lr.toml"), &[], None).unwrap();
    assert_eq!(base.sha256(), moved.sha256());
}
