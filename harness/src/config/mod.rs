//! What an experiment is: one TOML file, resolved to a struct, hashed to the run's name.
//!
//! ```text
//! configs/train/<name>.toml --extends, --set--> TrainConfig --sha256 without seed, 8 hex--> runs/<name>/<hash>-s<seed>/
//! ```
//! - [`mod@load`]: files, overrides, positions, suggestions.
//! - [`train`]: a training run, [`TrainConfig`]. - [`image_train`]: one on images. - [`run`]: either of the two, [`RunConfig`].
//! - [`suite`]: subjects × seeds × tasks. - [`sweep`]: a grid of settings.
//!
//! Paths in configs are relative to the project: the folder that holds the `configs/` folder the file lies in. For a file that
//! lies in none they are relative to the current directory.

pub mod image_train;
pub mod load;
pub mod position;
pub mod run;
pub mod suite;
pub mod sweep;
pub mod train;

pub use image_train::{ImageDataConfig, ImageTrainConfig};
pub use load::{Loaded, load, nearest};
pub use run::RunConfig;
pub use suite::{OnMissing, Requires, SuiteConfig, SuiteTask};
pub use sweep::SweepConfig;
pub use train::{DataConfig, DataFormat, OptimizerConfig, Schedule, TrainConfig, UpdateRule};

use serde::Serialize;
use std::path::{Path, PathBuf};

/// A value no experiment can run with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: expected {expected}, found {found}")]
pub struct Invalid {
    /// Full dotted key.
    pub key: String,
    /// What would be accepted.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Likely fix.
    pub hint: Option<String>,
}

impl Invalid {
    /// A problem at a key.
    pub fn new(key: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Self { key: key.into(), expected: expected.into(), found: found.to_string(), hint: None }
    }

    /// The sentence after the key.
    pub fn message(&self) -> String {
        format!("expected {}, found {}", self.expected, self.found)
    }
}

/// The folder that paths of a config are relative to; empty for the current directory.
pub fn project_root(config: &Path) -> PathBuf {
    let folder = config.parent().unwrap_or(Path::new(""));
    folder
        .ancestors()
        .find(|ancestor| ancestor.file_name().is_some_and(|name| name == "configs"))
        .and_then(Path::parent)
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// SHA-256 of a config as JSON with sorted keys, without the top-level keys listed, as 64 hex digits.
pub fn hash<T: Serialize>(config: &T, without: &[&str]) -> String {
    let mut value = serde_json::to_value(config).expect("configs hold only strings, numbers, lists and tables");
    if let serde_json::Value::Object(fields) = &mut value {
        fields.retain(|key, _| !without.contains(&key.as_str()));
    }
    value.sort_all_objects();
    records::ids::sha256_hex(value.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_root_is_above_configs() {
        assert_eq!(project_root(Path::new("configs/train/a.toml")), Path::new(""));
        assert_eq!(project_root(Path::new("/x/y/configs/train/a.toml")), Path::new("/x/y"));
        assert_eq!(project_root(Path::new("elsewhere/a.toml")), Path::new(""));
    }

    #[test]
    fn hash_ignores_key_order_and_the_keys_left_out() {
        let a = serde_json::json!({"a": 1, "b": {"d": 2, "c": 3}, "seed": 1});
        let b = serde_json::json!({"seed": 2, "b": {"c": 3, "d": 2}, "a": 1});
        assert_eq!(hash(&a, &["seed"]), hash(&b, &["seed"]));
        assert_ne!(hash(&a, &[]), hash(&b, &[]));
    }
}
