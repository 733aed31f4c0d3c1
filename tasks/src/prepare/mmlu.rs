//! MMLU: the authors' CSV files (question, four choices, letter; no header) and the hub's rows (`question`, `subject`, `choices`, `answer`).

use serde_json::{Map, Value};

use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;

pub(crate) struct Mmlu;

impl Loader for Mmlu {
    fn candidates(&self, leaf: &Leaf, role: Role) -> Vec<String> {
        let subject = leaf.parameter("subject");
        let split = if role == Role::Test { "test" } else { "dev" };
        let file = format!("{subject}_{split}.csv");
        vec![format!("mmlu/data/{split}/{file}"), format!("mmlu/{split}/{file}"), format!("mmlu/{file}")]
    }

    fn fields(
        &self,
        leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        let subject = leaf.parameter("subject");
        if record.fields.get("subject").is_some_and(|s| s != subject) {
            return Ok(None);
        }
        let (question, choices, answer) = if record.fields.contains_key("0") {
            if record.fields.len() != 6 {
                return Err(record.error(
                    "row",
                    "6 columns (question, four choices, letter)",
                    format!("{} columns", record.fields.len()),
                ));
            }
            let choices: Vec<String> =
                (1..5).map(|i| record.text(&i.to_string()).map(str::to_owned)).collect::<Result<_, _>>()?;
            let letter = record.text("5")?;
            let answer = ["A", "B", "C", "D"].iter().position(|l| *l == letter);
            (record.filled_text("0")?, choices, answer.ok_or_else(|| record.error("5", "A, B, C or D", letter))?)
        } else {
            let answer = record.index("answer", 4)?;
            (record.filled_text("question")?, record.texts("choices")?, answer)
        };
        if choices.len() != 4 {
            return Err(record.error("choices", "4 texts", format!("{} texts", choices.len())));
        }
        let mut fields = Map::new();
        fields.insert("question".into(), question.into());
        fields.insert("subject".into(), subject.into());
        fields.insert("choices".into(), choices.into());
        fields.insert("answer".into(), answer.into());
        Ok(Some(fields))
    }
}
