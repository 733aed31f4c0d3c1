//! A prompt in parts, for models that are asked in turns.

use crate::request::Request;

/// What [`crate::Task::requests`] joins into one text: description, shots, question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialogue {
    /// Stands before everything; may be empty.
    pub description: String,
    /// Question and answer of each shot.
    pub shots: Vec<(String, String)>,
    /// What is asked.
    pub question: String,
    /// Between a question and its answer.
    pub target_delimiter: String,
    /// Between shots.
    pub fewshot_delimiter: String,
}

impl Dialogue {
    /// Shots and question as one text, without the description.
    pub fn joined(&self) -> String {
        let mut text = String::new();
        for (question, answer) in &self.shots {
            for part in [question, &self.target_delimiter, answer, &self.fewshot_delimiter] {
                text.push_str(part);
            }
        }
        text + &self.question
    }

    /// The requests of a document with `prompt` as their context. An option begins the model's turn: it is scored without the delimiter
    /// that sets it apart from the question in a plain prompt.
    pub fn with_prompt(&self, requests: Vec<Request>, prompt: &str) -> Vec<Request> {
        let one = |request| match request {
            Request::Loglikelihood { continuation, .. } => Request::Loglikelihood {
                context: prompt.to_owned(),
                continuation: continuation.strip_prefix(&self.target_delimiter).map(str::to_owned).unwrap_or(continuation),
            },
            Request::GenerateUntil { options, .. } => Request::GenerateUntil { context: prompt.to_owned(), options },
            Request::LoglikelihoodRolling { text } => Request::LoglikelihoodRolling { text },
        };
        requests.into_iter().map(one).collect()
    }
}
