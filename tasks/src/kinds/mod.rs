//! The kinds of tasks: what is asked and how answers become numbers. One file per kind; a definition names its kind with `output` and `[scorer]`.

use crate::definition::{Leaf, ScorerSection};
use crate::dialogue::Dialogue;
use crate::doc::{Aggregate, Doc, DocScores};
use crate::error::TaskError;
use crate::metrics::MetricError;
use crate::request::{Program, Request, Response, Verdict};
use crate::spec::{OutputKind, Profile, TaskSpec};
use crate::task::Task;

mod aggregate;
mod generate;
mod multiple_choice;
mod program;
mod rolling;

pub(crate) use aggregate::group as aggregate_leaves;

/// A task from a definition.
#[derive(Debug)]
pub(crate) struct LeafTask {
    leaf: Leaf,
    generate: Option<generate::Scorer>,
}

impl LeafTask {
    /// Compiles the leaf's patterns.
    pub(crate) fn new(leaf: Leaf) -> Result<Self, TaskError> {
        let generate = leaf.scorer.as_ref().map(|scorer| generate::Scorer::new(&leaf, scorer)).transpose()?;
        Ok(Self { leaf, generate })
    }
}

impl Leaf {
    /// The text before the continuation: description, shots, question.
    fn context(&self, doc: &Doc, shots: &[Doc]) -> Result<String, TaskError> {
        let parts = self.dialogue(doc, shots)?;
        Ok(parts.description.clone() + &parts.joined())
    }

    /// The same in parts.
    fn dialogue(&self, doc: &Doc, shots: &[Doc]) -> Result<Dialogue, TaskError> {
        let shot = |shot| Ok((self.templates.render("question", shot)?, self.shot_target(shot)?));
        Ok(Dialogue {
            description: self.description.clone(),
            shots: shots.iter().map(shot).collect::<Result<_, TaskError>>()?,
            question: self.templates.render("question", doc)?,
            target_delimiter: self.target_delimiter.clone(),
            fewshot_delimiter: self.fewshot_delimiter.clone(),
        })
    }

    /// What a shot answers: its gold option, or the rendered target.
    fn shot_target(&self, shot: &Doc) -> Result<String, TaskError> {
        if self.choices.is_some() {
            let (options, gold) = multiple_choice::options(self, shot)?;
            return Ok(options[gold].clone());
        }
        self.templates.render("target", shot)
    }

    /// An error about a document's responses.
    fn response_error(&self, doc: &Doc, what: &str, expected: impl ToString, found: impl ToString) -> TaskError {
        TaskError::Response {
            task: self.spec.name.clone(),
            doc_id: doc.doc_id,
            what: what.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// A metric's error, placed at a document.
    fn metric_error(&self, doc: &Doc, error: &MetricError) -> TaskError {
        self.response_error(doc, "metric", "inputs that can be scored", error)
    }

    /// The text of the only response of a generation task.
    fn only_text<'r>(&self, doc: &Doc, responses: &'r [Response]) -> Result<&'r str, TaskError> {
        match responses {
            [Response::Text { text, .. }] => Ok(text),
            _ => Err(self.response_error(doc, "responses", "1 generated text", format!("{} responses", responses.len()))),
        }
    }
}

impl Task for LeafTask {
    fn spec(&self) -> &TaskSpec {
        &self.leaf.spec
    }

    fn profile(&self) -> Profile {
        self.leaf.profile
    }

    fn requests(&self, doc: &Doc, shots: &[Doc]) -> Result<Vec<Request>, TaskError> {
        match self.leaf.spec.output {
            OutputKind::MultipleChoice => multiple_choice::requests(&self.leaf, doc, shots),
            OutputKind::LoglikelihoodRolling => Ok(vec![Request::LoglikelihoodRolling { text: self.leaf.context(doc, shots)? }]),
            OutputKind::GenerateUntil => {
                let options = self.leaf.spec.generation.clone().unwrap_or_default();
                Ok(vec![Request::GenerateUntil { context: self.leaf.context(doc, shots)?, options }])
            }
        }
    }

    fn dialogue(&self, doc: &Doc, shots: &[Doc]) -> Result<Option<Dialogue>, TaskError> {
        match self.leaf.spec.output {
            OutputKind::LoglikelihoodRolling => Ok(None),
            OutputKind::MultipleChoice | OutputKind::GenerateUntil => self.leaf.dialogue(doc, shots).map(Some),
        }
    }

    fn score(&self, doc: &Doc, responses: &[Response]) -> Result<DocScores, TaskError> {
        match (self.leaf.spec.output, &self.generate) {
            (OutputKind::MultipleChoice, _) => multiple_choice::score(&self.leaf, doc, responses),
            (OutputKind::LoglikelihoodRolling, _) => rolling::score(&self.leaf, doc, responses),
            (OutputKind::GenerateUntil, Some(scorer)) => scorer.score(&self.leaf, doc, self.leaf.only_text(doc, responses)?),
            (OutputKind::GenerateUntil, None) => Err(TaskError::NeedsExecutor { task: self.leaf.spec.name.clone() }),
        }
    }

    fn programs(&self, doc: &Doc, responses: &[Response]) -> Result<Vec<Program>, TaskError> {
        match &self.leaf.scorer {
            Some(ScorerSection::ProgramPasses { .. } | ScorerSection::ProgramPrints { .. }) => {
                Ok(vec![program::program(&self.leaf, doc, self.leaf.only_text(doc, responses)?)?])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn score_verdicts(&self, doc: &Doc, responses: &[Response], verdicts: &[Verdict]) -> Result<DocScores, TaskError> {
        if !self.leaf.spec.needs_executor {
            return self.score(doc, responses);
        }
        match verdicts {
            [verdict] => program::score(&self.leaf, doc, verdict),
            _ => Err(self.leaf.response_error(doc, "verdicts", "1 verdict", format!("{} verdicts", verdicts.len()))),
        }
    }

    fn aggregate(&self, scores: &[DocScores]) -> Result<Vec<Aggregate>, TaskError> {
        aggregate::task(&self.leaf, scores)
    }
}
