//! The trait every task implements.

use crate::dialogue::Dialogue;
use crate::doc::{Aggregate, Doc, DocScores};
use crate::error::TaskError;
use crate::request::{Program, Request, Response, Verdict};
use crate::spec::{Profile, TaskSpec};

/// A task: turns documents into requests, responses into scores and scores into a result.
pub trait Task: Send + Sync {
    /// The task's facts.
    fn spec(&self) -> &TaskSpec;

    /// The profile the task was made for.
    fn profile(&self) -> Profile;

    /// The requests of one document after these shots, in an order that [`Task::score`] expects back.
    fn requests(&self, doc: &Doc, shots: &[Doc]) -> Result<Vec<Request>, TaskError>;

    /// The parts of the prompt of [`Task::requests`]; none for a text that is scored as a whole.
    fn dialogue(&self, doc: &Doc, shots: &[Doc]) -> Result<Option<Dialogue>, TaskError>;

    /// Scores one document from the responses to its requests.
    ///
    /// # Errors
    /// [`TaskError::NeedsExecutor`] for a task that runs programs: those go through [`Task::programs`] and [`Task::score_verdicts`].
    fn score(&self, doc: &Doc, responses: &[Response]) -> Result<DocScores, TaskError>;

    /// The programs that decide a document's score; empty for tasks that run none.
    fn programs(&self, _doc: &Doc, _responses: &[Response]) -> Result<Vec<Program>, TaskError> {
        Ok(Vec::new())
    }

    /// Scores one document from the verdicts on its programs, in their order.
    fn score_verdicts(&self, doc: &Doc, responses: &[Response], _verdicts: &[Verdict]) -> Result<DocScores, TaskError> {
        self.score(doc, responses)
    }

    /// The task's result from the scores of its documents, in document order, one entry per metric of the specification.
    fn aggregate(&self, scores: &[DocScores]) -> Result<Vec<Aggregate>, TaskError>;
}
