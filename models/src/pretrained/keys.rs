//! A JSON object whose values are asked for by type, with errors that name file and key.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{ModelError, Result};

/// A JSON object that remembers its file. A key with `null` counts as absent.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) values: Map<String, Value>,
    pub(super) path: PathBuf,
}

impl Keys {
    pub(super) fn problem(&self, key: &str, expected: &str, found: &str) -> ModelError {
        ModelError::corrupt(&self.path, format!("{key}: expected {expected}, found {found}"))
    }

    pub(super) fn table(&self, key: &str) -> Result<Option<Self>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(values)) => Ok(Some(Self { values: values.clone(), path: self.path.clone() })),
            Some(other) => Err(self.problem(key, "a table or null", &other.to_string())),
        }
    }

    fn get<T>(&self, key: &str, expected: &str, convert: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert(value).map(Some).ok_or_else(|| self.problem(key, expected, &value.to_string())),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number", |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    pub(super) fn required(&self, key: &str) -> Result<usize> {
        self.number(key)?.ok_or_else(|| self.problem(key, "a whole number", "nothing"))
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.problem(key, "a string", &value.to_string())),
        }
    }
}

pub(super) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = fs::read_to_string(path).map_err(ModelError::io("read", path))?;
    serde_json::from_str(&text).map_err(|error| ModelError::corrupt(path, format!("not a JSON object: {error}")))
}
