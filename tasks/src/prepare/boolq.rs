//! BoolQ in SuperGLUE's layout (`question`, `passage`, `idx`, `label`) and in the authors' (`question`, `title`, `answer`, `passage`).
//!
//! SuperGLUE's passages begin `{title} -- `; the authors' files keep the title apart, and it is put in front here so that both give one prompt.

use serde_json::{Map, Value};

use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;

pub(crate) struct BoolQ;

impl Loader for BoolQ {
    fn candidates(&self, _leaf: &Leaf, role: Role) -> Vec<String> {
        let paths: &[&str] = match role {
            Role::Test => &["boolq/superglue/val.jsonl", "boolq/val.jsonl", "boolq/validation.jsonl", "boolq/dev.jsonl"],
            Role::Shots => &[
                "boolq/superglue/train.jsonl",
                "boolq/train.jsonl",
                "boolq/superglue/train_fewglue32.jsonl",
                "boolq/train_fewglue32.jsonl",
                "boolq/train_slice1886.jsonl",
            ],
        };
        paths.iter().map(|p| (*p).to_owned()).collect()
    }

    fn fields(
        &self,
        _leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        let question = record.filled_text("question")?;
        let mut passage = record.filled_text("passage")?.to_owned();
        let authors_layout = record.fields.contains_key("answer") && !record.fields.contains_key("label");
        let field = if authors_layout { "answer" } else { "label" };
        let label = match record.value(field, "true, false, 1 or 0")? {
            Value::Bool(yes) => usize::from(*yes),
            _ => record.index(field, 2)?,
        };
        if authors_layout {
            passage = format!("{} -- {passage}", record.text("title")?);
        }
        let mut fields = Map::new();
        fields.insert("question".into(), question.into());
        fields.insert("passage".into(), passage.into());
        fields.extend(record.only(&["idx"]));
        fields.insert("label".into(), label.into());
        Ok(Some(fields))
    }
}
