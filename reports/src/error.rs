//! Errors of this crate: what was attempted, on which file, table or rule, what was expected and what was found.

use std::path::PathBuf;

/// Anything that goes wrong between records and a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Reading or writing records.
    #[error(transparent)]
    Records(#[from] records::RecordError),
    /// An estimator refused its input.
    #[error("{what}: {source}")]
    Stats {
        /// Table, plot or rule that asked.
        what: String,
        /// What the estimator said.
        source: Box<stats::StatsError>,
    },
    /// The data frame refused an operation.
    #[error("cannot {action}: {source}")]
    Frame {
        /// What was attempted, with the file if there is one.
        action: String,
        /// What the data frame said.
        source: polars::prelude::PolarsError,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A path without records.
    #[error("no records below `{}`: expected records*.jsonl or records*.parquet, found none\nhint: `measure`, `eval` and `train` write records.jsonl", path.display())]
    NoRecords {
        /// The path.
        path: PathBuf,
    },
    /// A definition file (published numbers, gate rules) that does not hold together.
    #[error("{file}: {what}")]
    Definition {
        /// The file.
        file: String,
        /// What is wrong, expected and found.
        what: String,
    },
    /// A name that does not exist.
    #[error("unknown {kind}: `{found}` (expected one of: {expected})")]
    Unknown {
        /// Table, plot, style, …
        kind: &'static str,
        /// The names there are.
        expected: String,
        /// The name given.
        found: String,
    },
    /// A figure could not be drawn.
    #[error("cannot draw `{plot}`: {reason}")]
    Draw {
        /// Name of the plot.
        plot: String,
        /// What the drawing library said.
        reason: String,
    },
    /// A template could not be rendered.
    #[error("cannot render `{what}`: {source}")]
    Render {
        /// Name of the page.
        what: String,
        /// What the template engine said.
        source: minijinja::Error,
    },
}

impl ReportError {
    /// For `map_err` on estimators.
    pub(crate) fn stats(what: impl Into<String>) -> impl FnOnce(stats::StatsError) -> Self {
        let what = what.into();
        move |source| Self::Stats { what, source: Box::new(source) }
    }
}
