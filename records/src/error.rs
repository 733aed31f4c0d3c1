//! Errors of this crate: what was attempted, on which file and line, what was expected and what was found.

use std::path::PathBuf;

/// Anything that goes wrong between a measured number and its line on disk.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The operating system refused a file operation.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another process holds the record file.
    #[error("cannot write `{}`: another process is writing to it\nhint: wait for it, or give this run its own directory", path.display())]
    Locked {
        /// The record file.
        path: PathBuf,
    },
    /// A complete line that is not a row.
    #[error("{}:{line}: expected one row of schema 1, found {found}", path.display())]
    BadLine {
        /// The record file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What the parser said.
        found: String,
    },
    /// A file written by a later version of the schema.
    #[error("{}:{line}: expected schema up to {supported}, found {found}\nhint: read this file with the version that wrote it, or a later one", path.display())]
    NewerSchema {
        /// The record file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Newest schema this build reads.
        supported: i32,
        /// Schema of the row.
        found: i32,
    },
    /// A number that is not finite reached a record.
    #[error("cannot record `{metric}`: column `{column}` expected a finite number, found {found}")]
    NotFinite {
        /// Metric of the row.
        metric: String,
        /// Column that holds the number.
        column: &'static str,
        /// The value.
        found: f64,
    },
    /// A row that contradicts itself.
    #[error("inconsistent row of metric `{metric}`: {what}")]
    Inconsistent {
        /// Metric of the row.
        metric: String,
        /// The contradiction.
        what: String,
    },
    /// A column was given a value of another type, or does not exist.
    #[error("column `{column}`: expected {expected}, found {found}")]
    Column {
        /// Column name.
        column: String,
        /// What it holds.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A metric whose name and unit disagree.
    #[error("metric `{name}`: expected {expected}, found unit `{found}`")]
    Unit {
        /// Metric name.
        name: String,
        /// The rule the name implies.
        expected: String,
        /// The unit given.
        found: String,
    },
    /// A manifest that does not parse.
    #[error("cannot read manifest `{}`: {found}", path.display())]
    Manifest {
        /// The manifest file.
        path: PathBuf,
        /// What the parser said.
        found: String,
    },
}
