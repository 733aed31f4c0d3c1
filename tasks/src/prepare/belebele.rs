//! Belebele, one JSONL file a language, the same fields everywhere.

use serde_json::{Map, Value};

use super::{Loader, Origin, Record, Role, cluster_of};
use crate::definition::Leaf;
use crate::error::TaskError;

pub(crate) struct Belebele;

impl Loader for Belebele {
    fn candidates(&self, leaf: &Leaf, _role: Role) -> Vec<String> {
        let code = leaf.parameter("code");
        vec![format!("belebele/{code}.jsonl"), format!("belebele/data/{code}.jsonl")]
    }

    fn fields(
        &self,
        leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        const TEXTS: [&str; 6] = ["flores_passage", "question", "mc_answer1", "mc_answer2", "mc_answer3", "mc_answer4"];
        if record.fields.get("dialect").is_some_and(|d| d != leaf.parameter("code")) {
            return Ok(None);
        }
        for name in TEXTS {
            record.filled_text(name)?;
        }
        let number = record.index("correct_answer_num", 5)?;
        let gold = number.checked_sub(1).ok_or_else(|| record.error("correct_answer_num", "1 to 4", "0"))?;
        let mut fields = record.only(&["link", "question_number"]);
        fields.extend(record.only(&TEXTS));
        fields.insert("correct_answer_num".into(), number.to_string().into());
        fields.insert("dialect".into(), leaf.parameter("code").into());
        fields.insert("gold".into(), gold.into());
        Ok(Some(fields))
    }

    fn cluster(&self, fields: &Map<String, Value>) -> Option<String> {
        fields.get("flores_passage").and_then(Value::as_str).map(cluster_of)
    }
}
