//! What a model is asked and how answers are scored.
//!
//! ```text
//! definition (task.toml) ─┐
//! benchmark files ── load_docs ─> documents ── prepare ─> requests ──> LanguageModel ─> responses ── Task::score ─> DocScores ── Task::aggregate ─> Aggregate
//! ```
//! No tensors, tokenizers, network, processes or clocks: a model is a [`LanguageModel`], a sandbox for generated programs an [`Executor`], both
//! implemented elsewhere. Prompts and metrics follow EleutherAI/lm-evaluation-harness 0.4.13 and the other references that each definition names.

mod definition;
mod dialogue;
mod doc;
mod error;
mod fewshot;
pub mod filters;
mod kinds;
pub mod metrics;
pub mod prepare;
mod prompt;
pub mod python_random;
mod registry;
mod request;
mod spec;
mod task;

pub use dialogue::Dialogue;
pub use doc::{Aggregate, Doc, DocScores, MetricValue};
pub use error::TaskError;
pub use fewshot::{PreparedDoc, fewshot, prepare};
pub use prepare::{DataFile, DataSource, TaskData, load_docs};
pub use registry::{aggregate_group, expand, groups, list, task};
pub use request::{
    Executor, Generation, JudgedBy, LanguageModel, Limits, Program, Request, RequestError, RequestErrorKind, Response, Verdict,
};
pub use spec::{DatasetFacts, GroupSpec, MetricSpec, OutputKind, Profile, TaskSpec};
pub use task::Task;
