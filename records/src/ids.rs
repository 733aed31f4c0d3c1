//! Identifiers that are functions of content: run, cell, set of inputs.
//!
//! ```text
//! run id    = <name>/<config hash, 8 hex>-s<seed>       the run directory below `runs/`
//! cell id   = first 16 hex of sha256 over `column=value` lines of the cell columns
//! inputs    = sha256 over the sorted record ids, one per line
//! ```
//! The same config and seed give the same run id, so repeating a command resumes instead of duplicating.
//!
//! Source: architecture.md section 8, measurement.md sections 1 and 14.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::column::{CellRef, CellValue};
use crate::row::{COLUMNS, Group, Row};

/// Columns outside the shape group that tell two cells apart.
const CELL_COLUMNS: [&str; 9] =
    ["task", "subject", "variant", "task_version", "eval_profile", "num_fewshot", "limit", "threads", "gpu_model"];

/// Identifies a run: config × seed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// `<name>/<first 8 hex of the config hash>-s<seed>`.
    pub fn new(name: &str, config_sha256: &str, seed: i64) -> Self {
        let hash: String = config_sha256.chars().take(8).collect();
        Self(format!("{name}/{hash}-s{seed}"))
    }

    /// The id as text; also the path below the runs directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

/// Identifies a cell: subject or variant × task × shape × conditions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CellId(String);

impl CellId {
    /// Hash of the shape group and the conditions of a row; missing columns do not count, so adding a column keeps old ids.
    pub fn of(row: &Row) -> Self {
        let mut text = String::new();
        for column in COLUMNS {
            if column.group == Group::Shape || CELL_COLUMNS.contains(&column.name) {
                match row.get(column.name) {
                    None | Some(CellRef::Null) => {}
                    Some(cell) => {
                        let _ = writeln!(text, "{}={}", column.name, cell_text(cell));
                    }
                }
            }
        }
        Self(sha256_hex(text.as_bytes())[..16].to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for CellId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl From<CellId> for String {
    fn from(id: CellId) -> Self {
        id.0
    }
}

/// Hash that a derived row carries in `derived_from`: independent of the order in which the inputs are listed.
pub fn hash_of_inputs<'a>(record_ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut ids: Vec<&str> = record_ids.into_iter().collect();
    ids.sort_unstable();
    sha256_hex(ids.join("\n").as_bytes())
}

/// SHA-256 as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// A cell as the text used in hashes and messages.
pub fn cell_text(cell: CellRef<'_>) -> String {
    match cell {
        CellRef::Null => String::new(),
        CellRef::Str(text) => text.to_owned(),
        CellRef::Int(value) => value.to_string(),
        CellRef::Float(value) => value.to_string(),
        CellRef::Bool(value) => value.to_string(),
        CellRef::Floats(values) => format!("{values:?}"),
    }
}

impl From<CellRef<'_>> for CellValue {
    fn from(cell: CellRef<'_>) -> Self {
        match cell {
            CellRef::Null => Self::Null,
            CellRef::Str(text) => Self::Str(text.to_owned()),
            CellRef::Int(value) => Self::Int(value),
            CellRef::Float(value) => Self::Float(value),
            CellRef::Bool(value) => Self::Bool(value),
            CellRef::Floats(values) => Self::Floats(values.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc_is_the_published_digest() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn run_id_is_the_run_directory() {
        assert_eq!(RunId::new("lm-tiny-rw", "0123456789abcdef", 2).as_str(), "lm-tiny-rw/01234567-s2");
    }

    #[test]
    fn cell_id_ignores_the_design_and_sees_the_conditions() {
        let row = Row { subject: Some("lm-tiny-rw".into()), hidden_size: Some(64), ..Row::default() };
        let other_seed = Row { seed: Some(4), pair: Some(2), ..row.clone() };
        let other_threads = Row { threads: Some(2), ..row.clone() };
        assert_eq!(CellId::of(&row), CellId::of(&other_seed));
        assert_ne!(CellId::of(&row), CellId::of(&other_threads));
    }

    #[test]
    fn hash_of_inputs_does_not_depend_on_order() {
        assert_eq!(hash_of_inputs(["b", "a"]), hash_of_inputs(["a", "b"]));
        assert_ne!(hash_of_inputs(["a"]), hash_of_inputs(["a", "b"]));
    }
}
