//! Documents of a dataset, what a document scored, and what a task scored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One item of a dataset under the field names of the hub's copy, whatever file it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Doc {
    /// Position in the split, stable across runs.
    pub doc_id: usize,
    /// The fields.
    pub fields: Map<String, Value>,
    /// What documents that are not independent share (passage, image): the unit of the cluster-robust standard error.
    pub cluster_id: Option<String>,
}

impl Doc {
    /// A document without a cluster.
    pub fn new(doc_id: usize, fields: Map<String, Value>) -> Self {
        Self { doc_id, fields, cluster_id: None }
    }

    /// A text field, or nothing when it is absent or of another type.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(Value::as_str)
    }
}

/// Value of a metric for one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MetricValue {
    /// A number; the aggregate is the mean.
    Number(f64),
    /// Numerator and denominator of a ratio of sums (log-likelihood in nats, words or bytes); the aggregate is a function of the two sums.
    Ratio(f64, f64),
    /// Hypothesis and references of a corpus metric (BLEU, chrF); the aggregate needs all of them.
    Texts {
        /// What the model wrote.
        hypothesis: String,
        /// What it should have written.
        references: Vec<String>,
    },
}

impl MetricValue {
    /// The number, when it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(x) => Some(*x),
            _ => None,
        }
    }
}

/// What one document scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DocScores {
    /// The document.
    pub doc_id: usize,
    /// Metric name (`acc`, `exact_match,strict-match`) to value. Fractions, not percent.
    pub metrics: BTreeMap<String, MetricValue>,
    /// Filter name to the answer it extracted; empty for tasks without filters.
    pub answers: BTreeMap<String, String>,
    /// Index of the gold option, or nothing when there are no options.
    pub gold: Option<usize>,
    /// Index of the option chosen, or nothing when there are no options.
    pub chosen: Option<usize>,
    /// How a generated program ended, for code tasks.
    pub verdict: Option<String>,
    /// The primary metric found no answer in the text (`[invalid]`, no number printed): scored as wrong, and counted.
    #[serde(default)]
    pub is_unparsed: bool,
    /// Cluster of the document.
    pub cluster_id: Option<String>,
}

impl DocScores {
    /// Scores without any metric yet.
    pub fn new(doc: &Doc) -> Self {
        Self {
            doc_id: doc.doc_id,
            metrics: BTreeMap::new(),
            answers: BTreeMap::new(),
            gold: None,
            chosen: None,
            verdict: None,
            is_unparsed: false,
            cluster_id: doc.cluster_id.clone(),
        }
    }
}

/// What a task or a group scored on one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// `acc`, or `name,filter` where a task has filters (`exact_match,strict-match`).
    pub metric: String,
    /// The value; a fraction, or the metric's own unit.
    pub value: f64,
    /// Standard error over documents, nothing where it is not defined (one document; perplexities).
    pub stderr: Option<f64>,
    /// Cluster-robust standard error, where documents carry clusters.
    pub stderr_clustered: Option<f64>,
    /// Documents.
    pub n: usize,
    /// Direction.
    pub higher_is_better: bool,
}
