//! What is asked of a model, what comes back, and the two traits this crate needs from outside.
//!
//! Text only: tokens, batches, caches and truncation belong to the adapter that implements [`LanguageModel`]; processes, time limits and
//! isolation belong to the sandbox that implements [`Executor`]. Semantics of the requests: the reference harness's
//! (EleutherAI/lm-evaluation-harness 0.4.13, `lm_eval/api/model.py`).

use serde::{Deserialize, Serialize};

/// One question to a language model. A multiple-choice document is one `Loglikelihood` per option with a shared context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Log-probability of `continuation` after `context`, in nats, and whether greedy decoding gives it. The delimiter belongs to the continuation.
    Loglikelihood {
        /// Conditioning text; may be empty.
        context: String,
        /// Text to be scored.
        continuation: String,
    },
    /// Log-probability of a whole text, in windows that score every token exactly once.
    LoglikelihoodRolling {
        /// Text to be scored.
        text: String,
    },
    /// Greedy or sampled text after `context`, up to a stop string.
    GenerateUntil {
        /// Conditioning text, used as it is.
        context: String,
        /// How to generate.
        options: Generation,
    },
}

impl Request {
    /// The conditioning text; for a rolling request the text itself.
    pub fn context(&self) -> &str {
        match self {
            Self::Loglikelihood { context, .. } | Self::GenerateUntil { context, .. } => context,
            Self::LoglikelihoodRolling { text } => text,
        }
    }
}

/// Settings of one generation. The model's end-of-text string is a stop string whatever `until` holds; the adapter adds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Generation {
    /// Stop strings in the order in which the text is cut. An empty list stays empty (only the end-of-text string then stops).
    pub until: Vec<String>,
    /// Longest answer, in tokens.
    pub max_gen_toks: usize,
    /// Sample instead of taking the most probable token.
    pub do_sample: bool,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f64,
}

impl Default for Generation {
    /// Greedy, 256 tokens, stop at a blank line (the few-shot delimiter).
    fn default() -> Self {
        Self { until: vec!["\n\n".to_owned()], max_gen_toks: 256, do_sample: false, temperature: 0.0 }
    }
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Response {
    /// Answer to [`Request::Loglikelihood`].
    Loglikelihood {
        /// Sum of the natural-log token probabilities of the continuation, nats.
        loglikelihood: f64,
        /// Every token of the continuation is the most probable one.
        is_greedy: bool,
        /// Tokens of the context that the left truncation dropped.
        truncated_tokens: usize,
        /// A token spans the join of context and continuation.
        boundary: bool,
    },
    /// Answer to [`Request::LoglikelihoodRolling`].
    Rolling {
        /// Sum over all tokens, nats.
        loglikelihood: f64,
    },
    /// Answer to [`Request::GenerateUntil`].
    Text {
        /// Generated text, cut at the first stop string; without the prompt and the stop string.
        text: String,
        /// Tokens of the context that the left truncation dropped.
        truncated_tokens: usize,
    },
}

impl Response {
    /// Tokens of the context that were dropped, 0 for rolling answers.
    pub fn truncated_tokens(&self) -> usize {
        match self {
            Self::Loglikelihood { truncated_tokens, .. } | Self::Text { truncated_tokens, .. } => *truncated_tokens,
            Self::Rolling { .. } => 0,
        }
    }
}

/// Why one request has no answer. The run goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{kind}: {message}")]
pub struct RequestError {
    /// What kind of failure.
    pub kind: RequestErrorKind,
    /// What was expected and what was found.
    pub message: String,
}

/// Kinds of [`RequestError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RequestErrorKind {
    /// The context is empty and the tokenizer has no prefix token for it.
    EmptyContext,
    /// A token across the join leaves the continuation without a token.
    EmptyContinuation,
    /// The continuation, or the room asked for generation, does not fit the model's length.
    TooLong,
    /// The model gave a NaN or an infinity.
    NotFinite,
    /// The model cannot take this kind of request.
    Unsupported,
    /// The forward pass failed.
    Model,
}

impl std::fmt::Display for RequestErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EmptyContext => "empty context",
            Self::EmptyContinuation => "empty continuation",
            Self::TooLong => "too long",
            Self::NotFinite => "not finite",
            Self::Unsupported => "unsupported",
            Self::Model => "model",
        })
    }
}

/// Something that answers requests.
pub trait LanguageModel {
    /// Answers in the order of the requests, one failure per request. Batching, caching and sorting must not change an answer.
    fn answer(&mut self, requests: &[Request]) -> Vec<Result<Response, RequestError>>;
}

/// A program that a model wrote, completed by the task with what checks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Python source text.
    pub source: String,
    /// Limits it runs under.
    pub limits: Limits,
    /// What decides: an exit without exception, or the last line of standard output.
    pub judged_by: JudgedBy,
}

/// What the task reads from a program's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgedBy {
    /// The program ran to its end without an exception.
    Exit,
    /// Its last line of standard output (GSM8K-PAL).
    Output,
}

/// Limits of one program.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall time, seconds.
    pub timeout_s: f64,
    /// Address space, bytes.
    pub memory_bytes: u64,
    /// Captured standard output, bytes.
    pub output_bytes: u64,
}

impl Default for Limits {
    /// 3 s of wall time as in the references, 1 GiB, 64 KiB of output.
    fn default() -> Self {
        Self { timeout_s: 3.0, memory_bytes: 1 << 30, output_bytes: 64 << 10 }
    }
}

/// How a program's run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Ran to its end without an exception, proven by the exit protocol of the sandbox.
    Pass {
        /// Captured standard output.
        stdout: String,
    },
    /// An `AssertionError`.
    Assertion,
    /// Another exception.
    Exception,
    /// Not a Python program.
    SyntaxError,
    /// Wall time over the limit.
    Timeout,
    /// Memory over the limit.
    Memory,
    /// Ended by a signal, by itself before the last check, or by the output limit.
    Killed,
    /// The sandbox or interpreter did not work: says nothing about the program, and the document is not scored.
    NotRun {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// The verdict's name as reported: `pass`, `assertion`, `exception`, `syntax_error`, `timeout`, `memory`, `killed`, `not_run`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass { .. } => "pass",
            Self::Assertion => "assertion",
            Self::Exception => "exception",
            Self::SyntaxError => "syntax_error",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Killed => "killed",
            Self::NotRun { .. } => "not_run",
        }
    }
}

/// Something that runs generated programs, isolated from the machine.
pub trait Executor {
    /// Runs one program under its limits.
    fn run(&mut self, program: &str, limits: &Limits) -> Verdict;

    /// Runs many programs, side by side where the executor can; verdicts in their order.
    fn run_all(&mut self, programs: &[Program]) -> Vec<Verdict> {
        programs.iter().map(|program| self.run(&program.source, &program.limits)).collect()
    }
}
