//! TyDi QA GoldP: SQuAD-style files a language (`data[].paragraphs[]{context, qas[]}`) and the hub's rows (`id`, `context`, `question`, `answers`).
//!
//! Development files with blanked answers circulate: a split whose answers are all empty is refused, since an empty output would score 1 on it.
//! Shots are restricted to passages of at most [`SHOT_CODE_POINTS`] code points.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::reader::{parse_error, parse_json, records, shown, texts_of};
use super::{DataFile, Loader, Origin, Record, Role, cluster_of};
use crate::definition::Leaf;
use crate::doc::Doc;
use crate::error::TaskError;

/// Longest passage of a shot, in code points.
pub(crate) const SHOT_CODE_POINTS: usize = 300;

pub(crate) struct TydiQa;

impl Loader for TydiQa {
    fn candidates(&self, leaf: &Leaf, role: Role) -> Vec<String> {
        let code = leaf.parameter("code");
        let version = "tydiqa-goldp-v1.1";
        match role {
            Role::Test => ["dev-answers", "dev"]
                .iter()
                .flat_map(|split| {
                    let file = format!("{version}-{split}/tydiqa.goldp.{code}.dev.json");
                    [format!("tydiqa_goldp/{file}"), format!("tydiqa/{file}")]
                })
                .chain(["tydiqa/secondary_task/validation.jsonl".to_owned(), "tydiqa/validation.jsonl".to_owned()])
                .collect(),
            Role::Shots => {
                let file = format!("{version}-train/tydiqa.goldp.{code}.train.json");
                let hub = ["tydiqa/secondary_task/train.jsonl".to_owned(), "tydiqa/train.jsonl".to_owned()];
                [format!("tydiqa_goldp/{file}"), format!("tydiqa/{file}")].into_iter().chain(hub).collect()
            }
        }
    }

    fn records(&self, leaf: &Leaf, _role: Role, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
        if file.ends_with(".json") { squad_records(leaf.parameter("language"), file, text) } else { records(file, text) }
    }

    fn fields(&self, leaf: &Leaf, role: Role, _origin: Origin, record: &Record) -> Result<Option<Map<String, Value>>, TaskError> {
        let language = leaf.parameter("language");
        let id = record.text("id")?;
        // the hub's ids begin with the language
        let named = record.fields.get("language").and_then(Value::as_str);
        if named.map_or_else(
            || id.split_once('-').is_some_and(|(l, _)| l != language),
            |l| l != language && l != leaf.parameter("code"),
        ) {
            return Ok(None);
        }
        let context = record.filled_text("context")?;
        record.filled_text("question")?;
        let answers = record.value("answers", "an object of `text` and `answer_start`")?;
        let texts = answers
            .get("text")
            .and_then(texts_of)
            .ok_or_else(|| record.error("answers.text", "a list of texts", shown(answers)))?;
        let blank = texts.iter().all(|t| t.trim().is_empty());
        if role == Role::Shots && (blank || context.chars().count() > SHOT_CODE_POINTS) {
            return Ok(None);
        }
        Ok(Some(record.only(&["id", "title", "context", "question", "answers"])))
    }

    fn cluster(&self, fields: &Map<String, Value>) -> Option<String> {
        fields.get("context").and_then(Value::as_str).map(cluster_of)
    }

    fn finish(
        &self,
        leaf: &Leaf,
        role: Role,
        _folders: &[PathBuf],
        docs: Vec<Doc>,
        files: &mut Vec<DataFile>,
    ) -> Result<Vec<Doc>, TaskError> {
        let blank = |doc: &&Doc| {
            let texts = doc.fields.get("answers").and_then(|a| a.get("text")).and_then(texts_of);
            texts.is_none_or(|texts| texts.iter().all(|t| t.trim().is_empty()))
        };
        let blanks = docs.iter().filter(blank).count();
        if role == Role::Test && blanks > 0 {
            let file = files.last().map_or_else(|| leaf.spec.name.clone(), |f| f.path.clone());
            let first = docs.iter().find(blank).map_or(0, |doc| doc.doc_id + 1);
            return Err(TaskError::Field {
                file,
                line: first,
                field: "answers.text".to_owned(),
                expected: "at least one answer that is not blank".to_owned(),
                found: format!(
                    "only blank answers in {blanks} of {} documents (a copy without its gold answers cannot be scored)",
                    docs.len()
                ),
            });
        }
        Ok(docs)
    }
}

/// The questions of a SQuAD-style file in file order.
fn squad_records(language: &str, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
    let value = parse_json(text).map_err(|e| parse_error(file, 0, e.to_string()))?;
    let articles = value.get("data").and_then(Value::as_array);
    let articles = articles.ok_or_else(|| parse_error(file, 0, "expected a list `data` of articles, found none"))?;
    let mut found: Vec<Record> = Vec::new();
    for article in articles {
        for paragraph in article.get("paragraphs").and_then(Value::as_array).into_iter().flatten() {
            for question in paragraph.get("qas").and_then(Value::as_array).into_iter().flatten() {
                let line = found.len() + 1;
                let answers = question.get("answers").and_then(Value::as_array);
                let answers = answers
                    .ok_or_else(|| parse_error(file, line, format!("expected a list `answers`, found {}", shown(question))))?;
                let column = |name: &str| answers.iter().map(|a| a.get(name).cloned().unwrap_or(Value::Null)).collect::<Vec<_>>();
                let mut fields = Map::new();
                fields.insert("id".into(), question.get("id").cloned().unwrap_or(Value::Null));
                fields.insert("language".into(), language.into());
                for (name, holder) in [("title", article), ("context", paragraph), ("question", question)] {
                    if let Some(part) = holder.get(name) {
                        fields.insert(name.into(), part.clone());
                    }
                }
                fields.insert("answers".into(), json!({ "text": column("text"), "answer_start": column("answer_start") }));
                found.push(Record { file: Arc::clone(file), line, fields });
            }
        }
    }
    if found.is_empty() { Err(TaskError::Empty { file: file.to_string() }) } else { Ok(found) }
}
