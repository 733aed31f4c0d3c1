//! What can go wrong between a task's name and its score.
//!
//! Every variant says what was attempted, on which file, field or document, what was expected and what was found. A missing data file, a
//! renamed field or an answer that cannot be scored is an error of its own kind: none of them is ever a score of zero.

use std::path::PathBuf;

/// An error of the `tasks` crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// No task, group or leaf of that name.
    #[error("unknown task: `{name}`{}", suggestion.as_ref().map(|s| format!(" (did you mean `{s}`?)")).unwrap_or_default())]
    UnknownTask {
        /// The name as given.
        name: String,
        /// The nearest known name, when one is near.
        suggestion: Option<String>,
    },
    /// The benchmark files of a task are not in the folder: the task is reported as `missing`, not as 0.
    #[error("data of task `{task}` is missing: {what}: looked in `{}` for {}", folder.display(), tried.join(", "))]
    Missing {
        /// The leaf task.
        task: String,
        /// What the missing file would hold, and where it can be had.
        what: String,
        /// The folder searched.
        folder: PathBuf,
        /// The candidate paths, relative to the folder, in the order tried.
        tried: Vec<String>,
    },
    /// A record lacks a field, or the field has another type than expected.
    #[error("{file}: record {line}: field `{field}`: expected {expected}, found {found}")]
    Field {
        /// File name.
        file: String,
        /// One-based number of the record in the file (the line, for JSONL and TSV).
        line: usize,
        /// The field's name.
        field: String,
        /// What the field should be.
        expected: String,
        /// What is there: the value's type, or the fields the record does have.
        found: String,
    },
    /// A file holds no record at all, or the split that is needed has none.
    #[error("{file}: expected at least one record, found none")]
    Empty {
        /// File (and split) name.
        file: String,
    },
    /// A file's text cannot be read as its format.
    #[error("{file}: record {line}: cannot parse: {message}")]
    Parse {
        /// File name.
        file: String,
        /// One-based record number, 0 when the whole file is meant.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// A file cannot be opened or read.
    #[error("cannot read `{file}`: {source}")]
    Io {
        /// File name.
        file: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A `task.toml` is wrong.
    #[error("task definition `{definition}`: {message}")]
    Definition {
        /// Folder name under `tasks/definitions/`.
        definition: String,
        /// What is wrong with it.
        message: String,
    },
    /// A template cannot be rendered for a document.
    #[error("task `{task}`, document {doc_id}: cannot render `{template}`: {message}")]
    Prompt {
        /// The leaf task.
        task: String,
        /// The document.
        doc_id: usize,
        /// Which template of the definition.
        template: String,
        /// The template engine's message.
        message: String,
    },
    /// More shots asked for than the pool has.
    #[error("task `{task}`: expected at least {wanted} documents to draw few-shot examples from, found {found}{}", hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())]
    Fewshot {
        /// The leaf task.
        task: String,
        /// Shots wanted (with the one drawn to spare, where the reference's rule draws one).
        wanted: usize,
        /// Documents in the pool.
        found: usize,
        /// Why the pool may be short.
        hint: Option<String>,
    },
    /// Responses of the wrong number or kind, or a score that is not a number.
    #[error("task `{task}`, document {doc_id}: {what}: expected {expected}, found {found}")]
    Response {
        /// The leaf task.
        task: String,
        /// The document.
        doc_id: usize,
        /// What was looked at.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The task runs generated programs and no executor was given: it is reported as not run, never as 0.
    #[error(
        "task `{task}` runs programs that the model wrote, and running them is off (hint: allow it with --allow-code-execution; the task is reported as not run, not as 0)"
    )]
    NeedsExecutor {
        /// The leaf task.
        task: String,
    },
    /// The executor could not run a program at all (no interpreter, no sandbox): not a verdict on the program.
    #[error("task `{task}`, document {doc_id}: the program could not be run: {message}")]
    Executor {
        /// The leaf task.
        task: String,
        /// The document.
        doc_id: usize,
        /// The executor's message.
        message: String,
    },
    /// Scores that cannot be aggregated.
    #[error("task `{task}`: cannot aggregate `{metric}`: {message}")]
    Aggregate {
        /// The task or group.
        task: String,
        /// The metric.
        metric: String,
        /// What is wrong.
        message: String,
    },
}
