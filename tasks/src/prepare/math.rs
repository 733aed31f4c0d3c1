//! MATH: `problem`, `level`, `type`, `solution`. One file of all subjects, one a subject, or the authors' folder of one JSON file per problem.
//!
//! `type` tells the subjects apart; the answer is the content of the last box of the solution.

use serde_json::{Map, Value};

use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;
use crate::metrics::math::gold_answer;

pub(crate) struct Math;

impl Loader for Math {
    fn candidates(&self, leaf: &Leaf, role: Role) -> Vec<String> {
        candidates(leaf, role)
    }

    fn fields(
        &self,
        leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        document(leaf, record)
    }
}

/// Where the problems of a leaf stand.
pub(crate) fn candidates(leaf: &Leaf, role: Role) -> Vec<String> {
    let split = if role == Role::Test { "test" } else { "train" };
    let config = leaf.parameter("config");
    vec![
        format!("math/{split}.jsonl"),
        format!("math/{split}_{config}.jsonl"),
        format!("math/{config}/{split}.jsonl"),
        format!("math/{split}/{config}"),
        format!("MATH/{split}/{config}"),
    ]
}

/// A record as a document, nothing when it is of another subject.
pub(crate) fn document(leaf: &Leaf, record: &Record) -> Result<Option<Map<String, Value>>, TaskError> {
    if record.text("type")? != leaf.parameter("type_text") {
        return Ok(None);
    }
    record.filled_text("problem")?;
    let solution = record.filled_text("solution")?;
    let answer =
        gold_answer(solution).map_err(|e| record.error("solution", "a box (`\\boxed{…}`) with the answer", e.to_string()))?;
    let mut fields = record.only(&["problem", "level", "type", "solution"]);
    fields.insert("answer".into(), answer.into());
    Ok(Some(fields))
}
