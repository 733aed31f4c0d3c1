//! WMT23 general translation: plain-text sources and references line by line, five published shots a direction.
//!
//! References as sacreBLEU chooses them: `refA`, but `refB` for the two directions with Hebrew.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::reader::{Found, find, read_texts, records};
use super::{DataFile, Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::doc::Doc;
use crate::error::TaskError;

pub(crate) struct Wmt23;

/// Folders the release stands in.
const FOLDERS: [&str; 2] = ["wmt23", "wmt23-news-systems"];

impl Loader for Wmt23 {
    fn candidates(&self, leaf: &Leaf, role: Role) -> Vec<String> {
        let pair = leaf.parameter("pair");
        match role {
            Role::Test => {
                let file = format!("generaltest2023.{pair}.src.{}", leaf.parameter("source"));
                FOLDERS.iter().map(|folder| format!("{folder}/txt/sources/{file}")).collect()
            }
            Role::Shots => {
                let folders =
                    ["wmt23/shots", "wmt23/tools/LLM-prompt/data-shots", "wmt23-news-systems/tools/LLM-prompt/data-shots"];
                folders.iter().map(|folder| format!("{folder}/shots.{pair}.json")).collect()
            }
        }
    }

    fn records(&self, _leaf: &Leaf, role: Role, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
        if role == Role::Shots || file.ends_with(".jsonl") {
            return records(file, text);
        }
        let lines = lines(text).into_iter().enumerate();
        Ok(lines
            .map(|(i, source)| Record {
                file: Arc::clone(file),
                line: i + 1,
                fields: Map::from_iter([("source".into(), source.into())]),
            })
            .collect())
    }

    fn fields(
        &self,
        leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        let pair = leaf.parameter("pair");
        if record.fields.get("pair").or_else(|| record.fields.get("direction")).and_then(Value::as_str).is_some_and(|p| p != pair)
        {
            return Ok(None);
        }
        let mut fields = Map::new();
        fields.insert("source_text".into(), record.text("source")?.into());
        // references of the plain-text release stand in a file of their own: `finish`
        if record.fields.len() > 1 {
            let field = if record.fields.contains_key("reference") { "reference" } else { "target" };
            fields.insert("target_text".into(), record.text(field)?.into());
        }
        Ok(Some(fields))
    }

    fn finish(
        &self,
        leaf: &Leaf,
        role: Role,
        folders: &[PathBuf],
        mut docs: Vec<Doc>,
        files: &mut Vec<DataFile>,
    ) -> Result<Vec<Doc>, TaskError> {
        if role == Role::Shots || docs.iter().all(|doc| doc.fields.contains_key("target_text")) {
            return Ok(docs);
        }
        let (pair, set, target) = (leaf.parameter("pair"), leaf.parameter("reference_set"), leaf.parameter("target"));
        let name = format!("generaltest2023.{pair}.ref.{set}.{target}");
        let candidates: Vec<String> = FOLDERS.iter().map(|folder| format!("{folder}/txt/references/{name}")).collect();
        let found: Found = find(folders, &candidates).ok_or_else(|| TaskError::Missing {
            task: leaf.spec.name.clone(),
            what: format!("reference {set} of {pair}"),
            folder: folders.first().cloned().unwrap_or_default(),
            tried: candidates,
        })?;
        let text: String = read_texts(&found, files)?.into_iter().map(|(_, text)| text).collect();
        let references = lines(&text);
        if references.len() != docs.len() {
            return Err(TaskError::Field {
                file: found.name,
                line: references.len().min(docs.len()) + 1,
                field: "line".to_owned(),
                expected: format!("{} references, one a source line", docs.len()),
                found: references.len().to_string(),
            });
        }
        for (doc, reference) in docs.iter_mut().zip(references) {
            doc.fields.insert("target_text".into(), reference.into());
        }
        Ok(docs)
    }
}

/// Lines ended by a newline alone: other separators are characters of the text.
fn lines(text: &str) -> Vec<&str> {
    text.strip_suffix('\n').unwrap_or(text).split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect()
}
