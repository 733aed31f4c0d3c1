//! A training run as data: model, data, optimizer, budget. The keys of `configs/train/*.toml`, in the same order.

use super::Invalid;
use super::run::{self, full_tier, invalid_model, is_default, one, two, validate_name, validate_positive, validate_seed};
use models::ModelConfig;
use records::{Numerics, RunId, Tier};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One training run. `configs/train/lm-tiny-plain.toml` lists every field with a comment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The subject: folder name below the runs directory, label in tables.
    pub name: String,
    /// `demo` rows never stand in a table of full-size results.
    #[serde(default = "full_tier")]
    pub tier: Tier,
    /// Fixes initial weights and data order. Not part of the config hash.
    #[serde(default)]
    pub seed: u64,
    /// A `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// Optimizer steps.
    pub max_steps: u64,
    /// Sequences per micro-batch.
    pub batch: usize,
    /// Micro-batches per optimizer step.
    #[serde(default = "one")]
    pub grad_accum: usize,
    /// Steps between validations; 0 validates at the end only.
    #[serde(default)]
    pub eval_every: u64,
    /// Steps between checkpoints; 0 writes one at the end only.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// How matrix products are computed in training steps; validation is always `f32`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub numerics: Numerics,
    /// Newest checkpoints kept.
    #[serde(default = "two")]
    pub keep_checkpoints: usize,
    /// Corpus.
    pub data: DataConfig,
    /// Network.
    pub model: ModelConfig,
    /// Update rule.
    pub optimizer: OptimizerConfig,
    /// The folder that the paths above are relative to; set by [`TrainConfig::load`], not a key.
    #[serde(skip)]
    pub root: PathBuf,
}

/// The corpus of a language-model run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Training file; `.gz` and `.zst` are read as they are.
    pub train: PathBuf,
    /// Validation file, disjoint from the training file.
    pub valid: PathBuf,
    /// How documents are stored.
    #[serde(default)]
    pub format: DataFormat,
    /// JSONL: the field that holds the text.
    #[serde(default = "text")]
    pub text_field: String,
    /// A token written after every document, by its name in the tokenizer; empty for none.
    #[serde(default)]
    pub end_of_document: String,
    /// Tokens per sequence, T.
    pub sequence_length: usize,
    /// Validation windows used, from the start of the file; 0 for all.
    #[serde(default)]
    pub valid_windows: usize,
}

/// How documents are stored in a corpus file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataFormat {
    /// The file is one document of plain text.
    #[default]
    Text,
    /// One JSON object per line.
    Jsonl,
}

/// The update rule, with rates of two groups of parameters and a schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// AdamW, or SGD with momentum.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: UpdateRule,
    /// Peak rate of every parameter but the residual scalars.
    pub learning_rate: f64,
    /// Peak rate of α, β and γ.
    pub scalar_learning_rate: f64,
    /// AdamW: decay of the two moments.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// AdamW: added to the root of the second moment.
    #[serde(default = "eps")]
    pub eps: f64,
    /// SGD: decay of the momentum.
    #[serde(default, skip_serializing_if = "is_default")]
    pub momentum: f64,
    /// SGD: whether the step looks ahead along the momentum (Nesterov).
    #[serde(default, skip_serializing_if = "is_default")]
    pub nesterov: bool,
    /// On weights of rank two and more only. AdamW: decoupled, as a fraction of the learning rate. SGD: added to the gradient.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Steps of linear growth to the peak.
    #[serde(default)]
    pub warmup_steps: u64,
    /// What follows the warm-up.
    #[serde(default)]
    pub schedule: Schedule,
    /// Last rate as a fraction of the peak.
    #[serde(default = "min_ratio")]
    pub min_learning_rate_ratio: f64,
    /// Largest norm of the whole gradient; 0 for no clipping.
    #[serde(default = "max_grad_norm")]
    pub max_grad_norm: f64,
}

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateRule {
    /// Adam with decoupled decay.
    #[default]
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

impl UpdateRule {
    /// Its config word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adamw => "adamw",
            Self::Sgd => "sgd",
        }
    }
}

/// Shape of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Half a cosine from the peak to the last rate.
    #[default]
    Cosine,
    /// A straight line from the peak to the last rate.
    Linear,
    /// The peak throughout.
    Constant,
}

fn text() -> String {
    "text".to_owned()
}
fn betas() -> [f64; 2] {
    [0.9, 0.95]
}
fn eps() -> f64 {
    1e-8
}
fn weight_decay() -> f64 {
    0.1
}
fn min_ratio() -> f64 {
    0.1
}
fn max_grad_norm() -> f64 {
    1.0
}

impl TrainConfig {
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
        ])?;
        if self.data.sequence_length < 2 {
            return Err(Invalid::new("data.sequence_length", "at least 2 tokens", self.data.sequence_length));
        }
        self.optimizer.validate(self.max_steps)?;
        let ModelConfig::Decoder(model) = &self.model;
        model.validate().map_err(invalid_model)?;
        if self.data.sequence_length > model.max_position_embeddings {
            return Err(Invalid::new(
                "data.sequence_length",
                format!("at most model.max_position_embeddings ({})", model.max_position_embeddings),
                self.data.sequence_length,
            ));
        }
        Ok(())
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

    /// The architecture choice as tables show it: `plain`, `rw+lr`, `naive+1`, `wide+8`.
    pub fn variant(&self) -> String {
        let ModelConfig::Decoder(model) = &self.model;
        model.variant()
    }

    /// A file of the config, resolved against the project.
    pub fn file(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Tokens of one optimizer step.
    pub fn tokens_per_step(&self) -> u64 {
        (self.batch * self.grad_accum * self.data.sequence_length) as u64
    }

    /// The resolved config as TOML: every default written out but those of keys that came later, which are left out so that a config
    /// keeps its hash.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("configs hold only strings, numbers, lists and tables")
    }
}

impl OptimizerConfig {
    pub(super) fn validate(&self, max_steps: u64) -> Result<(), Invalid> {
        let at = |key: &str| format!("optimizer.{key}");
        // A rate of 0 keeps α, β and γ where they start: the control of claim C32.
        if !(self.scalar_learning_rate.is_finite() && self.scalar_learning_rate >= 0.0) {
            return Err(Invalid::new(at("scalar_learning_rate"), "0 or a positive number", self.scalar_learning_rate));
        }
        for (key, value) in [("learning_rate", self.learning_rate), ("eps", self.eps)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Invalid::new(at(key), "a positive number", value));
            }
        }
        if let Some(index) = self.betas.iter().position(|beta| !(0.0..1.0).contains(beta)) {
            return Err(Invalid::new(at(&format!("betas[{index}]")), "a number from 0 up to but not 1", self.betas[index]));
        }
        for (key, value) in [("weight_decay", self.weight_decay), ("max_grad_norm", self.max_grad_norm)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Invalid::new(at(key), "0 or a positive number", value));
            }
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Invalid::new(at("momentum"), "a number from 0 up to but not 1", self.momentum));
        }
        let sgd_only = [("momentum", self.momentum != 0.0), ("nesterov", self.nesterov)];
        if let (UpdateRule::Adamw, Some((key, _))) = (self.kind, sgd_only.iter().find(|(_, is_set)| *is_set)) {
            return Err(Invalid::new(at(key), "no value with kind = \"adamw\"", "one"));
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(Invalid::new(at("momentum"), "a positive number with nesterov = true", 0));
        }
        if !(0.0..=1.0).contains(&self.min_learning_rate_ratio) {
            return Err(Invalid::new(at("min_learning_rate_ratio"), "0..=1", self.min_learning_rate_ratio));
        }
        if self.warmup_steps > max_steps {
            return Err(Invalid::new(at("warmup_steps"), format!("at most max_steps ({max_steps})"), self.warmup_steps));
        }
        Ok(())
    }
}
