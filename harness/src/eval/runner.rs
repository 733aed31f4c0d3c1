//! One task on one model: documents to requests to scores, failures counted and named, never scored as zero.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};
use tasks::{
    Aggregate, DataSource, DocScores, Executor, LanguageModel, PreparedDoc, Profile, Request, RequestError, Response, Task,
    TaskData, TaskError, TaskSpec,
};

use super::chat::{ChatOptions, ChatTemplate};

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskRequest {
    /// Leaf name.
    pub task: String,
    /// Examples in the prompt; the task's own default when absent.
    pub num_fewshot: Option<usize>,
    /// First documents only.
    pub limit: Option<usize>,
}

/// One document's line in the samples file.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Position in the split.
    pub doc_id: usize,
    /// Training seed of the model, for subjects with several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Each request with its answer.
    pub requests: Vec<Value>,
    /// Metric to value; absent metrics mean the document failed.
    pub metrics: BTreeMap<String, tasks::MetricValue>,
    /// Why the document has no score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A task's outcome on one model.
#[derive(Debug, Clone)]
pub struct TaskResult {
    /// The task's facts.
    pub spec: TaskSpec,
    /// Examples in the prompt.
    pub num_fewshot: usize,
    /// First documents only.
    pub limit: Option<usize>,
    /// Results per metric.
    pub aggregates: Vec<Aggregate>,
    /// Scores per document, in order; failed documents are left out.
    pub scores: Vec<DocScores>,
    /// Documents some of whose context was cut.
    pub truncated: usize,
    /// Documents with a token across the join of context and continuation.
    pub boundary: usize,
    /// Documents without a score.
    pub failed: usize,
    /// Lines of the samples file.
    pub samples: Vec<Sample>,
    /// Digest of the documents' files.
    pub dataset_sha256: String,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRun {
    /// Its files are not in the data folder.
    Missing(String),
    /// This model or build cannot do what it asks.
    Unsupported(String),
    /// It was asked, and not one document could be scored.
    Failed(String),
}

impl std::fmt::Display for NotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(reason) => write!(f, "missing: {reason}"),
            Self::Unsupported(reason) => write!(f, "unsupported: {reason}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// A task's outcome, or why there is none.
pub type Outcome = Result<Box<TaskResult>, NotRun>;

/// Asks one task.
///
/// # Errors
/// When the data is wrong (a missing field, an empty file).
pub fn run_task(
    request: &TaskRequest,
    profile: Profile,
    source: DataSource<'_>,
    model: &mut dyn LanguageModel,
    executor: Option<&mut (dyn Executor + '_)>,
    seed: Option<u64>,
    chat: Option<(&ChatTemplate, &ChatOptions)>,
) -> anyhow::Result<Outcome> {
    let task = tasks::task(&request.task, profile)?;
    let spec = task.spec().clone();
    if spec.needs_executor && executor.is_none() {
        let why = "scoring runs programs that the model wrote, and no sandbox was allowed".to_owned();
        return Ok(Err(NotRun::Unsupported(why)));
    }
    let data: TaskData = match tasks::load_docs(task.as_ref(), source) {
        Ok(data) => data,
        Err(error @ TaskError::Missing { .. }) => return Ok(Err(NotRun::Missing(error.to_string()))),
        Err(error) => return Err(error).with_context(|| format!("cannot load task `{}`", request.task)),
    };
    let mut prepared: Vec<PreparedDoc> = match tasks::prepare(task.as_ref(), &data, request.num_fewshot, request.limit) {
        Ok(prepared) => prepared,
        Err(error @ (TaskError::Missing { .. } | TaskError::Fewshot { .. })) => {
            return Ok(Err(NotRun::Missing(error.to_string())));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot prepare task `{}`", request.task)),
    };
    if let Some((template, options)) = chat {
        template.apply(options, task.as_ref(), &mut prepared)?;
    }
    let all: Vec<Request> = prepared.iter().flat_map(|doc| doc.requests.iter().cloned()).collect();
    let mut answers = model.answer(&all).into_iter();
    let num_fewshot = prepared.first().map_or(0, |doc| doc.shots.len());
    let mut result = TaskResult {
        num_fewshot,
        limit: request.limit,
        aggregates: Vec::new(),
        scores: Vec::new(),
        truncated: 0,
        boundary: 0,
        failed: 0,
        samples: Vec::new(),
        dataset_sha256: data.dataset_sha256.clone(),
        spec,
    };
    let mut executor = executor;
    for doc in &prepared {
        let responses: Vec<Result<Response, RequestError>> = answers.by_ref().take(doc.requests.len()).collect();
        result.add(task.as_ref(), doc, &responses, executor.as_deref_mut(), seed);
    }
    if result.scores.is_empty() {
        let first = result.samples.iter().find_map(|sample| sample.error.as_deref()).unwrap_or("no documents");
        return Ok(Err(NotRun::Failed(format!("none of {} documents could be scored: {first}", prepared.len()))));
    }
    result.aggregates = task.aggregate(&result.scores)?;
    Ok(Ok(Box::new(result)))
}

impl TaskResult {
    fn add(
        &mut self,
        task: &dyn Task,
        doc: &PreparedDoc,
        responses: &[Result<Response, RequestError>],
        executor: Option<&mut (dyn Executor + '_)>,
        seed: Option<u64>,
    ) {
        let answered: Result<Vec<Response>, &RequestError> = responses.iter().map(|r| r.as_ref().cloned()).collect();
        let (scores, error) = match answered {
            Err(error) => (None, Some(error.to_string())),
            Ok(responses) => {
                self.truncated += usize::from(responses.iter().any(|r| r.truncated_tokens() > 0));
                let spans = |r: &Response| matches!(r, Response::Loglikelihood { boundary: true, .. });
                self.boundary += usize::from(responses.iter().any(spans));
                let scored = match executor {
                    Some(executor) => task.score_with(&doc.doc, &responses, executor),
                    None => task.score(&doc.doc, &responses),
                };
                match scored {
                    Ok(scores) => (Some(scores), None),
                    // An answer that cannot be scored is this document's failure; anything else is a bug or bad data.
                    Err(error) => (None, Some(error.to_string())),
                }
            }
        };
        self.failed += usize::from(scores.is_none());
        let requests =
            doc.requests.iter().zip(responses).map(|(request, response)| sample_request(request, response, scores.as_ref()));
        self.samples.push(Sample {
            doc_id: doc.doc.doc_id,
            seed,
            requests: requests.collect(),
            metrics: scores.as_ref().map(|scores| scores.metrics.clone()).unwrap_or_default(),
            error,
        });
        self.scores.extend(scores);
    }
}

/// One request and its answer, in the form of the samples contract.
fn sample_request(request: &Request, response: &Result<Response, RequestError>, scores: Option<&DocScores>) -> Value {
    let mut value = match request {
        Request::Loglikelihood { context, continuation } => json!({ "context": context, "continuation": continuation }),
        Request::LoglikelihoodRolling { text } => json!({ "text": text }),
        Request::GenerateUntil { context, .. } => json!({ "context": context }),
    };
    match response {
        Ok(Response::Loglikelihood { loglikelihood, is_greedy, truncated_tokens, .. }) => {
            value["loglikelihood"] = json!(loglikelihood);
            value["is_greedy"] = json!(is_greedy);
            if *truncated_tokens > 0 {
                value["truncated_tokens"] = json!(truncated_tokens);
            }
        }
        Ok(Response::Rolling { loglikelihood }) => value["loglikelihood"] = json!(loglikelihood),
        Ok(Response::Text { text, truncated_tokens }) => {
            value["text"] = json!(text);
            value["answers"] = json!(scores.map(|scores| &scores.answers));
            if *truncated_tokens > 0 {
                value["truncated_tokens"] = json!(truncated_tokens);
            }
        }
        Err(error) => value["error"] = json!(error.to_string()),
    }
    value
}
