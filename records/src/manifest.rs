//! What a run says once: command, machine, program, inputs and how it ended (`manifest.json` of a run directory).
//!
//! ```text
//! rows of records.jsonl  --join on run_id-->  the same rows with their host, build and input columns filled in
//! ```
//! A row's own value wins: the manifest fills only what a row leaves empty.
//!
//! Source: architecture.md section 8, measurement.md section 14.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::column::{CellRef, CellValue};
use crate::error::RecordError;
use crate::ids::{cell_text, sha256_hex};
use crate::row::{Build, COLUMNS, Group, Host, Inputs, Row, SCHEMA};
use crate::store::write_atomic;

/// State of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Started; a manifest left in this state belongs to a run that was killed.
    #[default]
    Running,
    /// Ended as asked.
    Finished,
    /// Ended with an error.
    Failed,
}

/// A run's provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Schema of the rows beside it.
    pub schema: i32,
    /// The run.
    pub run_id: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// How far it got.
    pub status: RunStatus,
    /// Why it failed.
    pub reason: Option<String>,
    /// Start, UTC, RFC 3339.
    pub started_utc: String,
    /// End, UTC, RFC 3339.
    pub finished_utc: Option<String>,
    /// The machine.
    pub host: Host,
    /// The program; holds `git_commit` and `git_dirty`.
    pub build: Build,
    /// Config, data, tokenizer and weights.
    pub inputs: Inputs,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            run_id: String::new(),
            command: Vec::new(),
            status: RunStatus::Running,
            reason: None,
            started_utc: String::new(),
            finished_utc: None,
            host: Host::default(),
            build: Build::default(),
            inputs: Inputs::default(),
        }
    }
}

impl Manifest {
    /// Writes `manifest.json`, all or nothing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), RecordError> {
        let mut text = serde_json::to_string_pretty(self).expect("a manifest holds only strings and numbers");
        text.push('\n');
        write_atomic(path, text.as_bytes())
    }

    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// When the file cannot be read, does not parse, or is of a newer schema.
    pub fn load(path: &Path) -> Result<Self, RecordError> {
        let text = std::fs::read_to_string(path).map_err(|source| RecordError::Io {
            action: "read manifest",
            path: path.to_owned(),
            source,
        })?;
        let manifest: Self = serde_json::from_str(&text)
            .map_err(|error| RecordError::Manifest { path: path.to_owned(), found: error.to_string() })?;
        if manifest.schema > SCHEMA {
            return Err(RecordError::NewerSchema { path: path.to_owned(), line: 1, supported: SCHEMA, found: manifest.schema });
        }
        Ok(manifest)
    }

    /// Fills the empty host, build and input columns of a row of this run; rows of other runs are left alone.
    pub fn join(&self, row: &mut Row) {
        if row.run_id != self.run_id {
            return;
        }
        let mut source = Row::default();
        self.host.clone().apply(&mut source);
        self.build.clone().apply(&mut source);
        self.inputs.clone().apply(&mut source);
        for column in COLUMNS.iter().filter(|c| matches!(c.group, Group::Host | Group::Build | Group::Inputs)) {
            let empty = matches!(row.get(column.name), Some(CellRef::Null));
            match source.get(column.name) {
                Some(cell) if empty && cell != CellRef::Null => {
                    row.set(column.name, CellValue::from(cell)).expect("the cell comes from the same column");
                }
                _ => {}
            }
        }
    }
}

impl Host {
    /// The host with `host_fingerprint` filled in.
    #[must_use]
    pub fn with_fingerprint(mut self) -> Self {
        self.host_fingerprint = Some(self.fingerprint());
        self
    }

    /// Hash of every other host column, 16 hex digits: rows of different fingerprints are never compared for time.
    pub fn fingerprint(&self) -> String {
        let mut row = Row::default();
        Host { host_fingerprint: None, ..self.clone() }.apply(&mut row);
        let mut text = String::new();
        for column in COLUMNS.iter().filter(|column| column.group == Group::Host) {
            if let Some(cell) = row.get(column.name) {
                text.push_str(column.name);
                text.push('=');
                text.push_str(&cell_text(cell));
                text.push('\n');
            }
        }
        sha256_hex(text.as_bytes())[..16].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_fills_only_what_the_row_leaves_empty() {
        let manifest = Manifest {
            run_id: "r".into(),
            host: Host { threads: Some(2), cpu_model: Some("cpu".into()), ..Host::default() },
            build: Build { git_dirty: Some(false), ..Build::default() },
            ..Manifest::default()
        };
        let mut row = Row { run_id: "r".into(), threads: Some(1), ..Row::default() };
        manifest.join(&mut row);
        assert_eq!((row.threads, row.cpu_model.as_deref(), row.git_dirty), (Some(1), Some("cpu"), Some(false)));
        let mut other = Row { run_id: "q".into(), ..Row::default() };
        manifest.join(&mut other);
        assert_eq!(other.cpu_model, None);
    }

    #[test]
    fn fingerprint_sees_threads_and_not_itself() {
        let host = Host { threads: Some(1), ..Host::default() };
        assert_eq!(host.clone().with_fingerprint().fingerprint(), host.fingerprint());
        assert_ne!(Host { threads: Some(2), ..Host::default() }.fingerprint(), host.fingerprint());
    }
}
