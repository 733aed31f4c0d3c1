//! What a task is, as data: the facts a report needs beside a score.
//!
//! A specification is read from `tasks/definitions/<task>/task.toml` ([`crate::definition`]); one definition with a parameter (MMLU's subject,
//! Belebele's and MGSM's language) gives one specification per leaf.

use serde::{Deserialize, Serialize};

use crate::request::Generation;

/// How closely the reference harness is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Request strings and metrics of the reference bit for bit, its quirks included.
    Compat,
    /// The same with the marked quirks repaired; the default for results.
    #[default]
    Canonical,
}

impl Profile {
    /// `compat` or `canonical`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compat => "compat",
            Self::Canonical => "canonical",
        }
    }
}

/// What a task asks of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// One log-likelihood per option.
    MultipleChoice,
    /// A generated text.
    GenerateUntil,
    /// The log-likelihood of whole texts.
    LoglikelihoodRolling,
}

/// One metric of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// `acc`, or `name,filter` where the task has filters.
    pub name: String,
    /// Direction.
    #[serde(default = "yes")]
    pub higher_is_better: bool,
}

fn yes() -> bool {
    true
}

/// Where the documents come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetFacts {
    /// Hub id (`Rowan/hellaswag`), or nothing for data that is not there.
    pub hub: Option<String>,
    /// Hub configuration (`main`, a subject, a language), or nothing.
    pub config: Option<String>,
    /// Revision the definition was checked against, when known.
    pub revision: Option<String>,
    /// Split that is evaluated.
    pub split: String,
    /// Split that few-shot examples come from, when there is one.
    pub fewshot_split: Option<String>,
    /// Licence of the documents.
    pub licence: String,
    /// Documents of the full split, when published.
    pub num_docs: Option<usize>,
}

/// A task's facts. Leaves of one definition differ in `name`, `dataset.config` and little else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Leaf name as in the reference harness (`mmlu_anatomy`).
    pub name: String,
    /// Folder under `tasks/definitions/`.
    pub definition: String,
    /// Group whose size-weighted (or plain) mean the leaf enters (`mmlu`).
    pub group: Option<String>,
    /// Part of the group it belongs to (`mmlu_stem`).
    pub subgroup: Option<String>,
    /// Version of prompt, split and metric together; scores of different versions are never mixed.
    pub version: String,
    /// What is asked.
    pub output: OutputKind,
    /// Shots when the user names no number.
    pub num_fewshot: usize,
    /// The number of shots is part of the task and cannot be changed (HumanEval: 0).
    pub num_fewshot_fixed: bool,
    /// Metrics, in the order of the tables.
    pub metrics: Vec<MetricSpec>,
    /// The metric that stands for the task.
    pub primary_metric: String,
    /// Score of guessing.
    pub chance: f64,
    /// Score of a trivial answerer on the primary metric (majority class, first option), when it is not `chance`.
    pub trivial: Option<f64>,
    /// Generation settings; nothing for other kinds.
    pub generation: Option<Generation>,
    /// The documents.
    pub dataset: DatasetFacts,
    /// Scoring runs programs that the model wrote.
    pub needs_executor: bool,
    /// Published set-up that the task matches, and where it does not.
    pub reference: String,
}

impl TaskSpec {
    /// The specification of a metric.
    pub fn metric(&self, name: &str) -> Option<&MetricSpec> {
        self.metrics.iter().find(|m| m.name == name)
    }
}

/// A group of leaves with a common mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Group name (`mmlu`).
    pub name: String,
    /// Leaves, in order.
    pub leaves: Vec<String>,
    /// Every leaf weighs by its documents (true: the micro average) or all leaves weigh the same.
    pub size_weighted: bool,
}
