//! OpenBookQA in the authors' layout (`question.stem`, `question.choices`) and the hub's (`question_stem`, `choices{text,label}`).

use serde_json::{Map, Value, json};

use super::reader::{shown, texts_of};
use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;
use crate::metrics::text::strip;

pub(crate) struct OpenBookQa;

impl Loader for OpenBookQa {
    fn candidates(&self, _leaf: &Leaf, role: Role) -> Vec<String> {
        let split = if role == Role::Test { "test" } else { "train" };
        vec![
            format!("openbookqa/Data/Main/{split}.jsonl"),
            format!("openbookqa/{split}.jsonl"),
            format!("openbookqa/main/{split}.jsonl"),
        ]
    }

    fn fields(
        &self,
        _leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        let (stem, texts, labels) = if record.fields.contains_key("question_stem") {
            let choices = record.value("choices", "an object of `text` and `label`")?;
            let list = |name: &str| {
                choices
                    .get(name)
                    .and_then(texts_of)
                    .ok_or_else(|| record.error(&format!("choices.{name}"), "a list of texts", shown(choices)))
            };
            (record.filled_text("question_stem")?.to_owned(), list("text")?, list("label")?)
        } else {
            let question = record.value("question", "an object of `stem` and `choices`")?;
            let stem = question.get("stem").and_then(Value::as_str);
            let stem = stem.ok_or_else(|| record.error("question.stem", "a text", shown(question)))?;
            let choices = question.get("choices").and_then(Value::as_array);
            let choices =
                choices.ok_or_else(|| record.error("question.choices", "a list of `text` and `label`", shown(question)))?;
            let list = |name: &str| -> Result<Vec<String>, TaskError> {
                let part = |choice: &Value| choice.get(name).and_then(Value::as_str).map(str::to_owned);
                let found: Option<Vec<String>> = choices.iter().map(part).collect();
                found.ok_or_else(|| record.error(&format!("question.choices.{name}"), "a text in each choice", shown(question)))
            };
            (stem.to_owned(), list("text")?, list("label")?)
        };
        let key = record.text("answerKey")?;
        let gold = labels.iter().position(|label| label == strip(key));
        let gold = gold.ok_or_else(|| record.error("answerKey", format!("one of {}", labels.join(", ")), key))?;
        if texts.len() != labels.len() || texts.len() < 2 {
            return Err(record.error(
                "choices",
                "as many texts as labels, at least 2",
                format!("{} and {}", texts.len(), labels.len()),
            ));
        }
        let mut fields = record.only(&["id"]);
        fields.insert("question_stem".into(), stem.into());
        fields.insert("choices".into(), json!({ "text": texts, "label": labels }));
        fields.insert("answerKey".into(), key.into());
        fields.insert("options".into(), texts.into());
        fields.insert("gold".into(), gold.into());
        Ok(Some(fields))
    }
}
