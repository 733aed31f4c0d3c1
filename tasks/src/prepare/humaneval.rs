//! HumanEval: one file, the fields of the hub.

use serde_json::{Map, Value};

use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;

pub(crate) struct HumanEval;

impl Loader for HumanEval {
    fn candidates(&self, _leaf: &Leaf, _role: Role) -> Vec<String> {
        vec![
            "humaneval/HumanEval.jsonl".to_owned(),
            "humaneval/data/HumanEval.jsonl".to_owned(),
            "humaneval/test.jsonl".to_owned(),
        ]
    }

    fn fields(
        &self,
        _leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        const TEXTS: [&str; 3] = ["prompt", "test", "entry_point"];
        for name in TEXTS {
            record.filled_text(name)?;
        }
        Ok(Some(record.only(&["task_id", "prompt", "canonical_solution", "test", "entry_point"])))
    }
}
