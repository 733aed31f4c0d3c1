//! What training configs of both kinds share: how one is read, checked and named; and [`RunConfig`], which is either of the two.

use super::{ImageTrainConfig, Invalid, Loaded, OptimizerConfig, TrainConfig, project_root};
use crate::error::Hint as _;
use anyhow::anyhow;
use laurel::ResidualConfig;
use models::{ForwardCost, InputShape, Model as _, ParamCount};
use records::{Numerics, RunId, Tier};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::{Path, PathBuf};

/// A training run of either kind; the model's family decides. In JSON it is the config itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RunConfig {
    /// A language model on text.
    Language(Box<TrainConfig>),
    /// A network on images.
    Images(Box<ImageTrainConfig>),
}

impl RunConfig {
    /// Reads, resolves and validates a config file.
    ///
    /// # Errors
    /// As [`TrainConfig::load`].
    pub fn load(path: &Path, sets: &[String], seed: Option<u64>) -> anyhow::Result<Self> {
        let table = super::load::<toml::Table>(path, sets)?.value;
        if reads_images(table.get("model").and_then(|model| model.get("family")).and_then(toml::Value::as_str)) {
            return Ok(Self::Images(Box::new(ImageTrainConfig::load(path, sets, seed)?)));
        }
        Ok(Self::Language(Box::new(TrainConfig::load(path, sets, seed)?)))
    }

    /// The subject.
    pub fn name(&self) -> &str {
        match self {
            Self::Language(config) => &config.name,
            Self::Images(config) => &config.name,
        }
    }

    /// What it trains, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Language(_) => "a language model",
            Self::Images(_) => "a network on images",
        }
    }

    /// What fixes initial weights and inputs.
    pub fn seed(&self) -> u64 {
        match self {
            Self::Language(config) => config.seed,
            Self::Images(config) => config.seed,
        }
    }

    /// The folder that the config's paths are relative to.
    pub fn root(&self) -> &Path {
        match self {
            Self::Language(config) => &config.root,
            Self::Images(config) => &config.root,
        }
    }

    /// The same config with its paths relative to another folder.
    #[must_use]
    pub fn with_root(mut self, root: PathBuf) -> Self {
        match &mut self {
            Self::Language(config) => config.root = root,
            Self::Images(config) => config.root = root,
        }
        self
    }

    /// SHA-256 of everything but the seed.
    pub fn sha256(&self) -> String {
        match self {
            Self::Language(config) => config.sha256(),
            Self::Images(config) => config.sha256(),
        }
    }

    /// The run's name.
    pub fn run_id(&self) -> RunId {
        match self {
            Self::Language(config) => config.run_id(),
            Self::Images(config) => config.run_id(),
        }
    }

    /// The architecture choice as tables show it.
    pub fn variant(&self) -> String {
        match self {
            Self::Language(config) => config.variant(),
            Self::Images(config) => config.variant(),
        }
    }

    /// Optimizer steps.
    pub fn max_steps(&self) -> u64 {
        match self {
            Self::Language(config) => config.max_steps,
            Self::Images(config) => config.max_steps,
        }
    }

    /// Trainable elements.
    pub fn num_params(&self) -> ParamCount {
        match self {
            Self::Language(config) => config.model.num_params(),
            Self::Images(config) => config.model.num_params(),
        }
    }

    /// FLOPs of the forward pass of one optimizer step.
    pub fn step_cost(&self) -> ForwardCost {
        match self {
            Self::Language(config) => {
                config.model.cost(&InputShape::train(config.batch * config.grad_accum, config.data.sequence_length))
            }
            Self::Images(config) => config.model.cost(&config.step_shape()),
        }
    }

    /// The same config with another residual connection and name.
    ///
    /// # Errors
    /// When the network cannot have it.
    pub fn with_residual(&self, residual: ResidualConfig, name: String) -> Result<Self, Invalid> {
        let mut config = self.clone();
        match &mut config {
            Self::Language(config) => {
                config.model.set_residual(residual);
                config.name = name;
                config.validate()?;
            }
            Self::Images(config) => {
                config.model.set_residual(residual);
                config.name = name;
                config.validate()?;
            }
        }
        Ok(config)
    }

    /// Whether both train the same network.
    pub fn has_model_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Language(a), Self::Language(b)) => a.model == b.model,
            (Self::Images(a), Self::Images(b)) => a.model == b.model,
            _ => false,
        }
    }

    /// How parameters are updated.
    pub fn optimizer(&self) -> &OptimizerConfig {
        match self {
            Self::Language(config) => &config.optimizer,
            Self::Images(config) => &config.optimizer,
        }
    }
}

impl From<TrainConfig> for RunConfig {
    fn from(config: TrainConfig) -> Self {
        Self::Language(Box::new(config))
    }
}

impl From<ImageTrainConfig> for RunConfig {
    fn from(config: ImageTrainConfig) -> Self {
        Self::Images(Box::new(config))
    }
}

impl<'de> Deserialize<'de> for RunConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let config = if reads_images(value["model"]["family"].as_str()) {
            serde_json::from_value(value).map(Self::Images)
        } else {
            serde_json::from_value(value).map(Self::Language)
        };
        config.map_err(D::Error::custom)
    }
}

/// Whether a family's networks read images. One of neither kind goes to the language models, whose reader says which there are.
fn reads_images(family: Option<&str>) -> bool {
    family == Some("resnet")
}

/// Reads, resolves and validates a training config. The seed of the command line, if any, replaces the file's.
///
/// - `own`: the config's seed and root.
pub(super) fn load<T: DeserializeOwned>(
    path: &Path,
    sets: &[String],
    seed: Option<u64>,
    own: impl FnOnce(&mut T) -> (&mut u64, &mut PathBuf),
    validate: impl Fn(&T) -> Result<(), Invalid>,
) -> anyhow::Result<T> {
    let mut loaded = super::load::<T>(path, sets)?;
    let (own_seed, root) = own(&mut loaded.value);
    *own_seed = seed.unwrap_or(*own_seed);
    *root = project_root(path);
    match validate(&loaded.value) {
        Ok(()) => Ok(loaded.value),
        Err(invalid) if seed.is_some() && invalid.key == "seed" => Err(anyhow!("--seed: {}", invalid.message())),
        Err(invalid) => Err(located(&loaded, &invalid)),
    }
}

/// The name of a run: `<name>/<8 hex of the hash>-s<seed>`.
pub(super) fn id(name: &str, sha256: &str, seed: u64) -> RunId {
    RunId::new(name, sha256, i64::try_from(seed).expect("validated"))
}

pub(super) fn full_tier() -> Tier {
    Tier::Full
}
pub(super) fn one() -> usize {
    1
}
pub(super) fn two() -> usize {
    2
}

/// A numerics as networks take it.
pub(super) fn kernel_numerics(numerics: Numerics) -> kernels::Numerics {
    match numerics {
        Numerics::F32 => kernels::Numerics::F32,
        Numerics::F32Split => kernels::Numerics::F32Split,
        Numerics::Bf16 => kernels::Numerics::Bf16,
    }
}

/// A key that came later is left out at its default, so that a config names the same runs as before there was a choice.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A run's name is a folder's.
pub(super) fn validate_name(name: &str) -> Result<(), Invalid> {
    let is_file_name =
        !name.is_empty() && !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_+.".contains(c));
    if is_file_name { Ok(()) } else { Err(Invalid::new("name", "letters, digits, `-`, `_`, `+` and `.`", format!("`{name}`"))) }
}

/// Rows keep a seed as a signed number.
pub(super) fn validate_seed(seed: u64) -> Result<(), Invalid> {
    if i64::try_from(seed).is_ok() { Ok(()) } else { Err(Invalid::new("seed", "at most 9223372036854775807", seed)) }
}

/// Numbers by key of which none may be zero.
pub(super) fn validate_positive(values: &[(&str, u64)]) -> Result<(), Invalid> {
    match values.iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(Invalid::new(*key, "at least 1", 0)),
        None => Ok(()),
    }
}

/// A model's complaint with its key below `model`.
pub(super) fn invalid_model(error: models::ModelError) -> Invalid {
    match error {
        models::ModelError::Config { key, expected, found, hint } => {
            Invalid { key: format!("model.{key}"), expected, found, hint: Some(hint).filter(|hint| !hint.is_empty()) }
        }
        other => Invalid::new("model", "a model that can be built", other),
    }
}

fn located<T>(loaded: &Loaded<T>, invalid: &Invalid) -> anyhow::Error {
    let error = loaded.error_at(&invalid.key, &invalid.message());
    match &invalid.hint {
        Some(hint) => error.hint(hint.clone()),
        None if invalid.key.rsplit('.').next() == Some("rank") => {
            error.hint("the paper recommends ranks from 32 to 64 for language models")
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seed of the command line replaced the file's after the check, and a run's name could not be made of it.
    #[test]
    fn a_seed_that_rows_cannot_hold_is_refused_wherever_it_comes_from() {
        for name in ["lm-tiny-plain", "resnet20-cifar10-plain"] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/train").join(format!("{name}.toml"));
            assert_eq!(RunConfig::load(&file, &[], Some(7)).unwrap().run_id().as_str().rsplit_once("-s").unwrap().1, "7");
            let error = RunConfig::load(&file, &[], Some(1 << 63)).unwrap_err().to_string();
            assert_eq!(error, "--seed: expected at most 9223372036854775807, found 9223372036854775808");
        }
    }

    /// A worker reads its subject from JSON; an older build that serves as the reference knows the bare config only.
    #[test]
    fn either_kind_survives_json_as_the_config_itself() {
        for name in ["lm-tiny-rw+lr", "resnet20-cifar10-rw+lr"] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/train").join(format!("{name}.toml"));
            let config = RunConfig::load(&file, &[], Some(7)).unwrap();
            let value = serde_json::to_value(&config).unwrap();
            assert_eq!((value["name"].as_str(), value["seed"].as_u64()), (Some(name), Some(7)));
            let again: RunConfig = serde_json::from_value(value).unwrap();
            assert_eq!(again.with_root(config.root().to_owned()), config);
        }
    }
}
