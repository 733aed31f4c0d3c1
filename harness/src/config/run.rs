//! What training configs of both kinds share: how one is read, checked and named; and [`RunConfig`], which is either of the two.

use super::{ImageTrainConfig, Invalid, Loaded, TrainConfig, project_root};
use crate::error::Hint as _;
use anyhow::anyhow;
use models::{Model as _, ParamCount};
use records::{RunId, Tier};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// A training run of either kind; the model's family decides.
#[derive(Debug, Clone, PartialEq)]
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
        let family = table.get("model").and_then(|model| model.get("family")).and_then(toml::Value::as_str);
        // A family of neither kind goes to the language models, whose reader says which families there are.
        if family == Some("resnet") {
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
}
