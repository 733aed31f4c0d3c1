//! Errors of this crate: what was attempted, on what, what was expected, what was found.
//!
//! Forward passes return [`candle_core::Result`] like any candle layer; everything that meets files or configs
//! returns [`ModelError`]. Messages are lower case without a final stop; a known cause adds a `hint:` line.

use std::path::{Path, PathBuf};

/// Result of this crate's file- and config-facing functions.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// One tensor whose shape in a file differs from the model's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeMismatch {
    /// Parameter name, as in the checkpoint.
    pub name: String,
    /// Shape the model has.
    pub expected: Vec<usize>,
    /// Shape the file has.
    pub found: Vec<usize>,
}

/// Everything that can go wrong before a forward pass.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A config value that no model can be built from.
    #[error("{key}: expected {expected}, found {found}{}", hint_line(hint))]
    Config {
        /// Key as written in the config, relative to the model table.
        key: String,
        /// What would be accepted.
        expected: String,
        /// What was there.
        found: String,
        /// Likely fix, empty when unknown.
        hint: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file is there but is not what it should be (truncated, corrupt, not JSON, …).
    #[error("cannot load {}: {problem}{}", path.display(), hint_line(hint))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Expected and found.
        problem: String,
        /// Likely fix, empty when unknown.
        hint: String,
    },
    /// Tensors of a checkpoint do not match the model; lists every one of them.
    #[error("{} does not fit the model:{}{}{}", path.display(), name_list("missing", missing), name_list("unexpected", unexpected), shape_list(wrong_shape))]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// Parameters of the model that the file lacks.
        missing: Vec<String>,
        /// Tensors of the file that the model lacks.
        unexpected: Vec<String>,
        /// Tensors with another shape.
        wrong_shape: Vec<ShapeMismatch>,
    },
    /// A published checkpoint of a family this crate does not have.
    #[error("{}: unsupported model_type: `{found}` (supported: {})", path.display(), supported.join(", "))]
    UnsupportedModel {
        /// The `config.json`.
        path: PathBuf,
        /// Its `model_type`.
        found: String,
        /// Every `model_type` that loads.
        supported: Vec<&'static str>,
    },
    /// A network that cannot be folded (see [`crate::fold()`]).
    #[error("cannot fold the residual weights of layer {layer}: {problem}")]
    Fold {
        /// Layer index, from 0.
        layer: usize,
        /// Why.
        problem: String,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl ModelError {
    pub(crate) fn config(key: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Config { key: key.into(), expected: expected.into(), found: found.to_string(), hint: String::new() }
    }

    /// Adds the likely fix; only config and corruption errors carry one.
    pub(crate) fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Config { hint, .. } | Self::Corrupt { hint, .. } = &mut self {
            *hint = text.into();
        }
        self
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn corrupt(path: &Path, problem: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), problem: problem.into(), hint: String::new() }
    }
}

fn hint_line(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("\nhint: {hint}") }
}

fn name_list(what: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("\n  {what} ({}): {}", names.len(), names.join(", ")) }
}

fn shape_list(shapes: &[ShapeMismatch]) -> String {
    if shapes.is_empty() {
        return String::new();
    }
    let each = shapes.iter().map(|s| format!("{}: expected {:?}, found {:?}", s.name, s.expected, s.found));
    format!("\n  wrong shape ({}): {}", shapes.len(), each.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_lists_every_tensor_and_empty_lists_are_silent() {
        let error = ModelError::Mismatch {
            path: "m.safetensors".into(),
            missing: vec!["a".into(), "b".into()],
            unexpected: vec![],
            wrong_shape: vec![ShapeMismatch { name: "c".into(), expected: vec![2, 3], found: vec![3, 2] }],
        };
        assert_eq!(
            error.to_string(),
            "m.safetensors does not fit the model:\n  missing (2): a, b\n  wrong shape (1): c: expected [2, 3], found [3, 2]"
        );
    }

    #[test]
    fn a_config_error_ends_in_its_hint() {
        let error = ModelError::config("rank", "1..=4", 9).with_hint("use 4");
        assert_eq!(error.to_string(), "rank: expected 1..=4, found 9\nhint: use 4");
    }
}
