//! One task on one model: documents to requests to scores, failures counted and named, never scored as zero.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasks::{
    Aggregate, DataSource, DocScores, Executor, LanguageModel, PreparedDoc, Profile, Program, Request, RequestError, Response,
    Task, TaskData, TaskError, TaskSpec, Verdict,
};

use super::chat::{ChatOptions, ChatTemplate};
use crate::plan::Shard;

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskRequest {
    /// Leaf name.
    pub task: String,
    /// Examples in the prompt; the task's own default when absent.
    pub num_fewshot: Option<usize>,
    /// First documents only.
    pub limit: Option<usize>,
    /// Why no model here can be asked: the task then is a row that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsupported: Option<String>,
}

/// How a task is asked.
#[derive(Debug, Clone, Copy)]
pub struct AskOptions<'a> {
    /// Conventions of prompts and metrics.
    pub profile: Profile,
    /// Documents that this process takes.
    pub shard: Shard,
    /// Training seed of the model, for subjects with several.
    pub seed: Option<u64>,
    /// Ask in turns, by this template.
    pub chat: Option<(&'a ChatTemplate, &'a ChatOptions)>,
}

impl AskOptions<'_> {
    /// All documents, no seed, no template.
    pub fn new(profile: Profile) -> Self {
        Self { profile, shard: Shard::ALL, seed: None, chat: None }
    }
}

/// One document's line in the samples file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Position in the split.
    pub doc_id: usize,
    /// Training seed of the model, for subjects with several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Each request with its answer.
    pub requests: Vec<Value>,
    /// Metric to value; absent metrics mean the document failed.
    pub metrics: BTreeMap<String, tasks::MetricValue>,
    /// How the generated program ended, for code tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Why the document has no score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A task's outcome on one model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskResult {
    /// The task's facts.
    pub spec: TaskSpec,
    /// Examples in the prompt.
    pub num_fewshot: usize,
    /// What the examples are, when they are not the published ones.
    pub fewshot_note: Option<String>,
    /// First documents only.
    pub limit: Option<usize>,
    /// Results per metric; empty until [`TaskResult::conclude`].
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRun {
    /// Its files are not in the data folder.
    Missing(String),
    /// This model or build cannot do what it asks.
    Unsupported(String),
    /// It was asked, and not one document could be scored.
    Failed {
        /// What went wrong first.
        reason: String,
        /// Lines of the samples file: what went wrong with each document.
        samples: Vec<Sample>,
    },
}

impl NotRun {
    /// The cause alone.
    pub fn reason(&self) -> &str {
        match self {
            Self::Missing(reason) | Self::Unsupported(reason) | Self::Failed { reason, .. } => reason,
        }
    }

    /// `missing`, `unsupported` or `failed`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Unsupported(_) => "unsupported",
            Self::Failed { .. } => "failed",
        }
    }
}

impl std::fmt::Display for NotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status(), self.reason())
    }
}

/// A task's outcome, or why there is none.
pub type Outcome = Result<Box<TaskResult>, NotRun>;

/// Asks one task: the documents of a shard, not yet aggregated.
///
/// # Errors
/// When the data is wrong (a missing field, an empty file).
pub fn run_task(
    request: &TaskRequest,
    options: AskOptions<'_>,
    source: DataSource<'_>,
    model: &mut dyn LanguageModel,
    executor: Option<&mut (dyn Executor + '_)>,
) -> anyhow::Result<Outcome> {
    if let Some(why) = &request.unsupported {
        return Ok(Err(NotRun::Unsupported(why.clone())));
    }
    let task = tasks::task(&request.task, options.profile)?;
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
    let prepared: Vec<PreparedDoc> = match tasks::prepare(task.as_ref(), &data, request.num_fewshot, request.limit) {
        Ok(prepared) => prepared,
        Err(error @ (TaskError::Missing { .. } | TaskError::Fewshot { .. })) => {
            return Ok(Err(NotRun::Missing(error.to_string())));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot prepare task `{}`", request.task)),
    };
    let num_fewshot = prepared.first().map_or(0, |doc| doc.shots.len());
    // Shots are drawn for all documents first: in `compat` a document's draw depends on those before it.
    let mut prepared = options.shard.select(prepared);
    if let Some((template, chat)) = options.chat {
        template.apply(chat, task.as_ref(), &mut prepared)?;
    }
    let all: Vec<Request> = prepared.iter().flat_map(|doc| doc.requests.iter().cloned()).collect();
    let mut answers = model.answer(&all).into_iter();
    let mut result = TaskResult {
        num_fewshot,
        fewshot_note: data.fewshot_note.filter(|_| num_fewshot > 0),
        limit: request.limit,
        ..TaskResult::new(spec, data.dataset_sha256.clone())
    };
    let answered: Vec<Answered<'_>> =
        prepared.iter().map(|doc| Answered { doc, responses: answers.by_ref().take(doc.requests.len()).collect() }).collect();
    let mut verdicts = verdicts(task.as_ref(), &answered, executor);
    for (answered, programs) in answered.iter().zip(verdicts.drain(..)) {
        result.add(task.as_ref(), answered, programs, options.seed);
    }
    Ok(Ok(Box::new(result)))
}

/// A document and what the model answered.
struct Answered<'a> {
    doc: &'a PreparedDoc,
    responses: Vec<Result<Response, RequestError>>,
}

impl Answered<'_> {
    /// All responses, or the first failure.
    fn all(&self) -> Result<Vec<Response>, String> {
        self.responses.iter().map(|response| response.as_ref().cloned().map_err(ToString::to_string)).collect()
    }
}

/// The verdicts on every document's programs, all of them run in one batch; why a document has no programs although it needs them.
fn verdicts(
    task: &dyn Task,
    answered: &[Answered<'_>],
    executor: Option<&mut (dyn Executor + '_)>,
) -> Vec<Result<Vec<Verdict>, String>> {
    let programs =
        |answered: &Answered<'_>| task.programs(&answered.doc.doc, &answered.all()?).map_err(|error| error.to_string());
    let Some(executor) = executor.filter(|_| task.spec().needs_executor) else {
        return answered.iter().map(|_| Ok(Vec::new())).collect();
    };
    let programs: Vec<Result<Vec<Program>, String>> = answered.iter().map(programs).collect();
    let batch: Vec<Program> = programs.iter().flatten().flatten().cloned().collect();
    let mut verdicts = executor.run_all(&batch).into_iter();
    programs.into_iter().map(|programs| programs.map(|programs| verdicts.by_ref().take(programs.len()).collect())).collect()
}

impl TaskResult {
    /// A task without examples and without documents so far.
    pub fn new(spec: TaskSpec, dataset_sha256: String) -> Self {
        Self {
            spec,
            num_fewshot: 0,
            fewshot_note: None,
            limit: None,
            aggregates: Vec::new(),
            scores: Vec::new(),
            truncated: 0,
            boundary: 0,
            failed: 0,
            samples: Vec::new(),
            dataset_sha256,
        }
    }

    fn add(&mut self, task: &dyn Task, answered: &Answered<'_>, verdicts: Result<Vec<Verdict>, String>, seed: Option<u64>) {
        let Answered { doc, responses } = answered;
        let scored = answered.all().and_then(|responses| {
            self.truncated += usize::from(responses.iter().any(|r| r.truncated_tokens() > 0));
            let spans = |r: &Response| matches!(r, Response::Loglikelihood { boundary: true, .. });
            self.boundary += usize::from(responses.iter().any(spans));
            // An answer that cannot be scored is this document's failure; anything else is a bug or bad data.
            task.score_verdicts(&doc.doc, &responses, &verdicts?).map_err(|error| error.to_string())
        });
        let (scores, error) = match scored {
            Ok(scores) => (Some(scores), None),
            Err(error) => (None, Some(error)),
        };
        self.failed += usize::from(scores.is_none());
        let requests =
            doc.requests.iter().zip(responses).map(|(request, response)| sample_request(request, response, scores.as_ref()));
        self.samples.push(Sample {
            doc_id: doc.doc.doc_id,
            seed,
            requests: requests.collect(),
            metrics: scores.as_ref().map(|scores| scores.metrics.clone()).unwrap_or_default(),
            verdict: scores.as_ref().and_then(|scores| scores.verdict.clone()),
            error,
        });
        self.scores.extend(scores);
    }

    /// Aggregates the documents' scores; a task none of whose documents could be scored failed.
    ///
    /// # Errors
    /// When scores cannot be aggregated.
    pub fn conclude(mut self: Box<Self>, profile: Profile) -> anyhow::Result<Outcome> {
        if self.scores.is_empty() {
            let first = self.samples.iter().find_map(|sample| sample.error.as_deref()).unwrap_or("no documents");
            let reason = format!("none of {} documents could be scored: {first}", self.samples.len());
            return Ok(Err(NotRun::Failed { reason, samples: self.samples }));
        }
        self.aggregates = tasks::task(&self.spec.name, profile)?.aggregate(&self.scores)?;
        Ok(Ok(self))
    }

    /// Takes in the documents of another shard.
    pub fn join(&mut self, other: Self) {
        self.scores.extend(other.scores);
        self.samples.extend(other.samples);
        self.scores.sort_by_key(|scores| scores.doc_id);
        self.samples.sort_by_key(|sample| sample.doc_id);
        self.truncated += other.truncated;
        self.boundary += other.boundary;
        self.failed += other.failed;
    }

    /// Documents in whose text the primary metric found no answer.
    pub fn unparsed(&self) -> usize {
        self.scores.iter().filter(|scores| scores.is_unparsed).count()
    }

    /// How the generated programs ended, counted; empty for other tasks.
    pub fn verdicts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for verdict in self.scores.iter().filter_map(|scores| scores.verdict.as_deref()) {
            *counts.entry(verdict).or_default() += 1;
        }
        counts
    }

    /// Share of documents per index of the gold option and of the chosen one; nothing for tasks without options.
    pub fn option_shares(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        let count = self.scores.iter().filter_map(|s| s.gold.max(s.chosen)).max()? + 1;
        let shares = |index: fn(&DocScores) -> Option<usize>| {
            let of = |option| self.scores.iter().filter(|scores| index(scores) == Some(option)).count();
            (0..count).map(|option| of(option) as f64 / self.scores.len() as f64).collect()
        };
        Some((shares(|s| s.gold), shares(|s| s.chosen)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::{Limits, RequestErrorKind};

    /// Keeps the programs; the first passes, the others fail their tests.
    #[derive(Default)]
    struct Recorder(Vec<String>);

    impl Executor for Recorder {
        fn run(&mut self, program: &str, _limits: &Limits) -> Verdict {
            self.0.push(program.to_owned());
            if self.0.len() == 1 { Verdict::Pass { stdout: String::new() } } else { Verdict::Assertion }
        }
    }

    #[test]
    fn verdicts_return_to_the_documents_whose_programs_they_judge() {
        let task = tasks::task("humaneval", Profile::Canonical).unwrap();
        let data = tasks::load_docs(task.as_ref(), DataSource::Bundled).unwrap();
        let docs = tasks::prepare(task.as_ref(), &data, None, Some(3)).unwrap();
        let answer = |text: &str| Ok(Response::Text { text: text.to_owned(), truncated_tokens: 0 });
        let failed = RequestError { kind: RequestErrorKind::TooLong, message: "no room".to_owned() };
        let responses = [answer("    return 'first'\n"), Err(failed), answer("    return 'third'\n")];
        let answered: Vec<Answered<'_>> =
            docs.iter().zip(responses).map(|(doc, response)| Answered { doc, responses: vec![response] }).collect();
        let mut recorder = Recorder::default();
        let found = verdicts(task.as_ref(), &answered, Some(&mut recorder));
        assert_eq!(found[0], Ok(vec![Verdict::Pass { stdout: String::new() }]));
        assert!(found[1].as_ref().unwrap_err().contains("no room"));
        assert_eq!(found[2], Ok(vec![Verdict::Assertion]));
        assert!(recorder.0.len() == 2 && recorder.0[0].contains("'first'") && recorder.0[1].contains("'third'"));
        // A task that runs nothing leaves the executor alone.
        let other = tasks::task("boolq", Profile::Canonical).unwrap();
        assert!(verdicts(other.as_ref(), &answered, Some(&mut recorder)).iter().all(|verdicts| *verdicts == Ok(Vec::new())));
        assert_eq!(recorder.0.len(), 2);
    }
}
