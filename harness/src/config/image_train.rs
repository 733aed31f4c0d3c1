//! A training run on images as data. The keys of `configs/train/resnet*.toml`, in the same order.

use super::run::{self, full_tier, invalid_model, is_default, one, two, validate_name, validate_positive, validate_seed};
use super::{Invalid, OptimizerConfig};
use crate::data::images::{ImageTransform, OnBadImage, OpenOptions, set::DEFAULT_CACHE_BYTES};
use models::{ImageModelConfig, InputShape};
use records::{Numerics, RunId, Tier};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One training run on images. `configs/train/resnet20-cifar10-plain.toml` lists every field with a comment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTrainConfig {
    /// The subject: folder name below the runs directory, label in tables.
    pub name: String,
    /// `demo` rows never stand in a table of full-size results.
    #[serde(default = "full_tier")]
    pub tier: Tier,
    /// Fixes initial weights, data order and augmentation. Not part of the config hash.
    #[serde(default)]
    pub seed: u64,
    /// Optimizer steps.
    pub max_steps: u64,
    /// Images per micro-batch; batch norms see one micro-batch.
    pub batch: usize,
    /// Micro-batches per optimizer step.
    #[serde(default = "one")]
    pub grad_accum: usize,
    /// Steps between evaluations; 0 evaluates at the end only. The number of evaluation points must be equal for all variants.
    #[serde(default)]
    pub eval_every: u64,
    /// Steps between checkpoints; 0 writes one at the end only.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// How convolutions are computed in training steps, `f32` or `bf16`; evaluation is always `f32`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub numerics: Numerics,
    /// Newest checkpoints kept.
    #[serde(default = "two")]
    pub keep_checkpoints: usize,
    /// Share of the target that is spread over all classes, s.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Decay of the moving average of the weights that evaluations use, per step; 0 evaluates the weights themselves.
    #[serde(default)]
    pub average_decay: f64,
    /// Image sets.
    pub data: ImageDataConfig,
    /// Network.
    pub model: ImageModelConfig,
    /// Update rule.
    pub optimizer: OptimizerConfig,
    /// The folder that the paths above are relative to; set by [`ImageTrainConfig::load`], not a key.
    #[serde(skip)]
    pub root: PathBuf,
}

/// The image sets of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDataConfig {
    /// Training set: ImageFolder tree, tar of one (`.gz` and `.zst` read as they are) or CIFAR's binary files.
    pub train: PathBuf,
    /// Split of the training set, where it has several; empty for none.
    #[serde(default)]
    pub train_split: String,
    /// Evaluation set.
    pub valid: PathBuf,
    /// Split of the evaluation set; empty for none.
    #[serde(default)]
    pub valid_split: String,
    /// Images evaluated, from the start; 0 for all. Folders and tars are in the order of their classes, so a number sees the first
    /// classes only: for trying a config out.
    #[serde(default)]
    pub valid_images: usize,
    /// What happens when an image cannot be decoded.
    #[serde(default)]
    pub on_bad_image: OnBadImage,
    /// Memory for decoded images, bytes per set.
    #[serde(default = "cache_bytes")]
    pub cache_bytes: usize,
    /// Threads that make batches beside the training step.
    #[serde(default = "one")]
    pub workers: usize,
    /// From a picture to the network's input.
    pub transform: ImageTransform,
}

fn cache_bytes() -> usize {
    DEFAULT_CACHE_BYTES
}

impl ImageDataConfig {
    /// How a set is opened.
    pub fn open_options(&self, split: &str) -> OpenOptions {
        OpenOptions {
            split: Some(split.to_owned()).filter(|split| !split.is_empty()),
            on_bad_image: self.on_bad_image,
            cache_bytes: self.cache_bytes,
            ..OpenOptions::default()
        }
    }
}

impl ImageTrainConfig {
    /// Reads, resolves and validates a config file. The seed of the command line, if any, replaces the file's.
    ///
    /// # Errors
    /// As [`super::load()`], and every value that no run can be built from, with its line.
    pub fn load(path: &Path, sets: &[String], seed: Option<u64>) -> anyhow::Result<Self> {
        run::load(path, sets, seed, |config| (&mut config.seed, &mut config.root), Self::validate)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first problem, with its key.
    pub fn validate(&self) -> Result<(), Invalid> {
        validate_name(&self.name)?;
        validate_seed(self.seed)?;
        validate_positive(&[
            ("max_steps", self.max_steps),
            ("batch", self.batch as u64),
            ("grad_accum", self.grad_accum as u64),
            ("keep_checkpoints", self.keep_checkpoints as u64),
            ("data.workers", self.data.workers as u64),
        ])?;
        if self.numerics == Numerics::F32Split {
            let hint = Some("convolutions have no split products".to_owned());
            return Err(Invalid { hint, ..Invalid::new("numerics", "`f32` or `bf16` for a network on images", "`f32-split`") });
        }
        for (key, value) in [("label_smoothing", self.label_smoothing), ("average_decay", self.average_decay)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Invalid::new(key, "a number from 0 up to but not 1", value));
            }
        }
        if let Some((key, expected, found)) = self.data.transform.invalid() {
            return Err(Invalid::new(format!("data.transform.{key}"), expected, found));
        }
        self.optimizer.validate(self.max_steps)?;
        self.model.validate().map_err(invalid_model)
    }

    /// SHA-256 of everything but the seed; the same wherever the project lies, as paths count as written.
    pub fn sha256(&self) -> String {
        super::hash(self, &["seed"])
    }

    /// The numerics of training steps, as the network takes it.
    pub fn kernel_numerics(&self) -> kernels::Numerics {
        run::kernel_numerics(self.numerics)
    }

    /// The run's name: `<name>/<8 hex of the hash>-s<seed>`.
    pub fn run_id(&self) -> RunId {
        run::id(&self.name, &self.sha256(), self.seed)
    }

    /// The architecture choice as tables show it: `plain`, `rw+lr`, `naive+1`.
    pub fn variant(&self) -> String {
        let ImageModelConfig::Resnet(model) = &self.model;
        model.variant()
    }

    /// A file of the config, resolved against the project.
    pub fn file(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Images of one optimizer step.
    pub fn images_per_step(&self) -> u64 {
        (self.batch * self.grad_accum) as u64
    }

    /// The input of one optimizer step.
    pub fn step_shape(&self) -> InputShape {
        let size = self.data.transform.size;
        InputShape::Images { batch: self.batch * self.grad_accum, height: size, width: size }
    }

    /// The resolved config as TOML: every default written out but those of keys that came later, which are left out so that a config
    /// keeps its hash.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("configs hold only strings, numbers, lists and tables")
    }
}
