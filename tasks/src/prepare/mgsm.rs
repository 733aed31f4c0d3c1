//! MGSM: tab-separated test questions with their numbers, eight exemplars a language.
//!
//! The exemplar file is the authors' `exemplars.py` as JSON: `MGSM_EXEMPLARS[language]["1".."8"]{q, a}` with `EXEMPLAR_NUMBER_ANSWERS` and
//! `EXEMPLAR_EQUATION_SOLUTIONS` common to all languages. An exemplar's question and answer carry their labels; a test question has none and
//! its `answer` is null, as on the hub.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::reader::{parse_error, parse_json, records, shown};
use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;

pub(crate) struct Mgsm;

impl Loader for Mgsm {
    fn candidates(&self, leaf: &Leaf, role: Role) -> Vec<String> {
        let language = leaf.parameter("language");
        match role {
            Role::Test => vec![format!("mgsm/mgsm_{language}.tsv"), format!("mgsm/{language}/test.jsonl")],
            Role::Shots => vec!["mgsm/mgsm_exemplars.json".to_owned(), format!("mgsm/{language}/train.jsonl")],
        }
    }

    fn records(&self, leaf: &Leaf, _role: Role, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
        if file.ends_with("exemplars.json") { exemplars(leaf.parameter("language"), file, text) } else { records(file, text) }
    }

    fn fields(&self, leaf: &Leaf, role: Role, _origin: Origin, record: &Record) -> Result<Option<Map<String, Value>>, TaskError> {
        let language = leaf.parameter("language");
        let other = record.fields.get("language").and_then(Value::as_str).is_some_and(|l| l != language);
        // a sample without the field is English
        let unmarked = record.file.starts_with("bundled:") && !record.fields.contains_key("language") && language != "en";
        if other || unmarked {
            return Ok(None);
        }
        let tsv = record.fields.contains_key("0");
        let (question, number) = if tsv { ("0", "1") } else { ("question", "answer_number") };
        let question = record.filled_text(question)?;
        let number = match record.value(number, "a whole number")? {
            Value::Number(n) => n.as_i64(),
            Value::String(text) => text.replace(',', "").parse().ok(), // "2,125"
            _ => None,
        }
        .ok_or_else(|| record.error(number, "a whole number", shown(&record.fields[number])))?;
        let answer = if role == Role::Shots { Value::from(record.filled_text("answer")?) } else { Value::Null };
        let mut fields = Map::new();
        fields.insert("question".into(), question.into());
        fields.insert("answer".into(), answer);
        fields.insert("answer_number".into(), number.into());
        fields.insert("equation_solution".into(), record.fields.get("equation_solution").cloned().unwrap_or(Value::Null));
        Ok(Some(fields))
    }
}

/// The exemplars of one language, `"1"` to `"8"` in order.
fn exemplars(language: &str, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
    let value = parse_json(text).map_err(|e| parse_error(file, 0, e.to_string()))?;
    let pairs = value.get("MGSM_EXEMPLARS").and_then(|all| all.get(language)).and_then(Value::as_object);
    let pairs = pairs.ok_or_else(|| parse_error(file, 0, format!("expected `MGSM_EXEMPLARS.{language}`, found none")))?;
    let listed = |name: &str, i: usize| value.get(name).and_then(|list| list.get(i)).cloned();
    let mut found = Vec::with_capacity(pairs.len());
    for i in 0..pairs.len() {
        let key = (i + 1).to_string();
        let pair = pairs
            .get(&key)
            .ok_or_else(|| parse_error(file, i + 1, format!("expected exemplar `{key}` of `{language}`, found none")))?;
        let mut fields = Map::new();
        for (from, to) in [("q", "question"), ("a", "answer")] {
            let part = pair.get(from).cloned();
            fields.insert(
                to.into(),
                part.ok_or_else(|| parse_error(file, i + 1, format!("expected field `{from}`, found {}", shown(pair))))?,
            );
        }
        let number = listed("EXEMPLAR_NUMBER_ANSWERS", i);
        fields.insert(
            "answer_number".into(),
            number.ok_or_else(|| parse_error(file, i + 1, "expected a number in EXEMPLAR_NUMBER_ANSWERS"))?,
        );
        fields.insert("equation_solution".into(), listed("EXEMPLAR_EQUATION_SOLUTIONS", i).unwrap_or(Value::Null));
        found.push(Record { file: Arc::clone(file), line: i + 1, fields });
    }
    Ok(found)
}
