//! Files to records: `.jsonl`, `.json`, `.csv`, `.tsv` and plain text, each also as `.gz` and `.zst`.
//!
//! A record keeps the file's name and its own number, so that an error can say where it stands. Nothing is guessed: a field written twice in
//! one object, a line that is not an object, an empty file are errors.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use super::DataFile;
use crate::error::TaskError;

/// Endings of compressed copies, in the order tried.
const COMPRESSIONS: [&str; 3] = ["", ".gz", ".zst"];

/// One record of a file.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// File name, relative to the data folder.
    pub(crate) file: Arc<str>,
    /// One-based number in the file.
    pub(crate) line: usize,
    /// The record.
    pub(crate) fields: Map<String, Value>,
}

impl Record {
    /// An error about a field of this record.
    pub(crate) fn error(&self, field: &str, expected: impl Into<String>, found: impl Into<String>) -> TaskError {
        TaskError::Field {
            file: self.file.to_string(),
            line: self.line,
            field: field.to_owned(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn missing(&self, field: &str, expected: &str) -> TaskError {
        let names: Vec<&str> = self.fields.keys().map(String::as_str).collect();
        self.error(field, expected, format!("no such field among: {}", names.join(", ")))
    }

    /// A field that must be there and not null.
    pub(crate) fn value(&self, field: &str, expected: &str) -> Result<&Value, TaskError> {
        match self.fields.get(field) {
            Some(Value::Null) => Err(self.error(field, expected, "null")),
            Some(value) => Ok(value),
            None => Err(self.missing(field, expected)),
        }
    }

    /// A text field.
    pub(crate) fn text(&self, field: &str) -> Result<&str, TaskError> {
        let value = self.value(field, "a text")?;
        value.as_str().ok_or_else(|| self.error(field, "a text", shown(value)))
    }

    /// A text field that holds more than white space.
    pub(crate) fn filled_text(&self, field: &str) -> Result<&str, TaskError> {
        let text = self.text(field)?;
        if text.trim().is_empty() { Err(self.error(field, "a text that is not blank", shown(&text.into()))) } else { Ok(text) }
    }

    /// A whole number, or its decimal text (`"3"`), below `bound`.
    pub(crate) fn index(&self, field: &str, bound: usize) -> Result<usize, TaskError> {
        let expected = format!("a whole number below {bound}");
        let value = self.value(field, &expected)?;
        let number = match value {
            Value::Number(n) => n.as_u64().map(|n| n as usize),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.filter(|n| *n < bound).ok_or_else(|| self.error(field, expected, shown(value)))
    }

    /// A list of texts.
    pub(crate) fn texts(&self, field: &str) -> Result<Vec<String>, TaskError> {
        let value = self.value(field, "a list of texts")?;
        texts_of(value).ok_or_else(|| self.error(field, "a list of texts", shown(value)))
    }

    /// The record as fields of a document, without one-off names such as `split`.
    pub(crate) fn only(&self, names: &[&str]) -> Map<String, Value> {
        names.iter().filter_map(|name| self.fields.get(*name).map(|v| ((*name).to_owned(), v.clone()))).collect()
    }
}

/// A list of texts, when the value is one.
pub(crate) fn texts_of(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
}

/// A value as an error shows it: its kind and its first characters.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    let short: String = text.chars().take(60).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    let kind = match value {
        Value::Null => return "null".to_owned(),
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    format!("{kind} {short}{dots}")
}

/// A file found in a data folder.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its name relative to the folder.
    pub(crate) name: String,
}

/// The first candidate that exists, plain or compressed; folders are searched in order.
pub(crate) fn find(folders: &[PathBuf], candidates: &[String]) -> Option<Found> {
    for folder in folders {
        for candidate in candidates {
            for ending in COMPRESSIONS {
                let name = format!("{candidate}{ending}");
                let path = folder.join(&name);
                if path.exists() {
                    return Some(Found { path, name });
                }
            }
        }
    }
    None
}

/// Reads a file, or every file of a folder in natural order, as text; notes what was read.
pub(crate) fn read_texts(found: &Found, files: &mut Vec<DataFile>) -> Result<Vec<(Arc<str>, String)>, TaskError> {
    let io = |name: &str, source| TaskError::Io { file: name.to_owned(), source };
    if !found.path.is_dir() {
        return Ok(vec![(Arc::from(plain_name(&found.name)), read_text(&found.path, &found.name, files)?)]);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&found.path).map_err(|e| io(&found.name, e))? {
        let entry = entry.map_err(|e| io(&found.name, e))?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    // 2.json before 10.json, as the benchmarks that keep one file per item number them
    names.sort_by_key(|name| (name.split('.').next().and_then(|stem| stem.parse::<u64>().ok()), name.clone()));
    if names.is_empty() {
        return Err(TaskError::Empty { file: found.name.clone() });
    }
    names
        .iter()
        .map(|name| {
            let whole = format!("{}/{name}", found.name);
            Ok((Arc::from(plain_name(&whole)), read_text(&found.path.join(name), &whole, files)?))
        })
        .collect()
}

/// The name without the ending of a compressed copy.
fn plain_name(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

fn read_text(path: &Path, name: &str, files: &mut Vec<DataFile>) -> Result<String, TaskError> {
    let io = |source| TaskError::Io { file: name.to_owned(), source };
    let stored = std::fs::read(path).map_err(io)?;
    let sha256 = hex(&Sha256::digest(&stored));
    if !files.iter().any(|f| f.path == name) {
        files.push(DataFile { path: name.to_owned(), sha256 });
    }
    let ending = name.rsplit('.').next();
    let bytes = if ending == Some("gz") {
        let mut bytes = Vec::new();
        flate2::read::MultiGzDecoder::new(stored.as_slice()).read_to_end(&mut bytes).map_err(io)?;
        bytes
    } else if ending == Some("zst") {
        zstd::decode_all(stored.as_slice()).map_err(io)?
    } else {
        stored
    };
    let text = String::from_utf8(bytes).map_err(|e| TaskError::Parse {
        file: name.to_owned(),
        line: 0,
        message: format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to()),
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// Records of a text by its file's ending: JSON lines, a JSON list (or one object), comma- or tab-separated columns `0`, `1`, ….
pub(crate) fn records(file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
    let ending = file.rsplit('.').next().unwrap_or_default();
    let found = match ending {
        "json" => json_records(file, text)?,
        "csv" => csv_records(file, text)?,
        "tsv" => tsv_records(file, text),
        _ => jsonl_records(file, text)?,
    };
    if found.is_empty() { Err(TaskError::Empty { file: file.to_string() }) } else { Ok(found) }
}

fn jsonl_records(file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
    let mut found = Vec::new();
    for (i, line) in text.split('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let line_number = i + 1;
        match parse_json(line) {
            Ok(Value::Object(fields)) => found.push(Record { file: Arc::clone(file), line: line_number, fields }),
            Ok(other) => return Err(parse_error(file, line_number, format!("expected an object, found {}", shown(&other)))),
            Err(e) => return Err(parse_error(file, line_number, e.to_string())),
        }
    }
    Ok(found)
}

fn json_records(file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
    let value = parse_json(text).map_err(|e| parse_error(file, 0, e.to_string()))?;
    let items = match value {
        Value::Array(items) => items,
        object @ Value::Object(_) => vec![object],
        other => return Err(parse_error(file, 0, format!("expected a list or an object, found {}", shown(&other)))),
    };
    let mut found = Vec::with_capacity(items.len());
    for (i, item) in items.into_iter().enumerate() {
        match item {
            Value::Object(fields) => found.push(Record { file: Arc::clone(file), line: i + 1, fields }),
            other => return Err(parse_error(file, i + 1, format!("expected an object, found {}", shown(&other)))),
        }
    }
    Ok(found)
}

/// The columns of a row as fields `0`, `1`, ….
fn columns<'a>(values: impl Iterator<Item = &'a str>) -> Map<String, Value> {
    values.enumerate().map(|(i, v)| (i.to_string(), Value::from(v))).collect()
}

fn csv_records(file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut found = Vec::new();
    for (i, row) in reader.records().enumerate() {
        let row = row.map_err(|e| parse_error(file, i + 1, e.to_string()))?;
        found.push(Record { file: Arc::clone(file), line: i + 1, fields: columns(row.iter()) });
    }
    Ok(found)
}

/// Tab-separated without quoting: a quotation mark is a character of the text.
fn tsv_records(file: &Arc<str>, text: &str) -> Vec<Record> {
    let rows = text.split('\n').map(|row| row.strip_suffix('\r').unwrap_or(row)).enumerate();
    rows.filter(|(_, row)| !row.is_empty())
        .map(|(i, row)| Record { file: Arc::clone(file), line: i + 1, fields: columns(row.split('\t')) })
        .collect()
}

pub(crate) fn parse_error(file: &str, line: usize, message: impl Into<String>) -> TaskError {
    TaskError::Parse { file: file.to_owned(), line, message: message.into() }
}

/// JSON text to a value; a key written twice in one object is an error (the usual reader silently keeps the last).
pub(crate) fn parse_json(text: &str) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Builds a [`Value`] and refuses repeated keys.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Strict)?;
            if fields.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("field `{key}` stands twice in one object")));
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jsonl(text: &str) -> Result<Vec<Record>, TaskError> {
        records(&Arc::from("a/b.jsonl"), text)
    }

    #[test]
    fn a_key_written_twice_is_an_error() {
        let error = jsonl("{\"a\": 1}\n{\"a\": {\"b\": 1, \"b\": 2}}").unwrap_err().to_string();
        assert!(error.contains("record 2") && error.contains("`b` stands twice"), "{error}");
    }

    #[test]
    fn an_empty_file_is_an_error() {
        assert!(matches!(jsonl(" \n\n"), Err(TaskError::Empty { .. })));
    }

    #[test]
    fn a_renamed_field_names_place_and_neighbours() {
        let record = &jsonl("{\"passage\": \"p\", \"qustion\": \"q\"}").unwrap()[0];
        let error = record.text("question").unwrap_err().to_string();
        assert_eq!(error, "a/b.jsonl: record 1: field `question`: expected a text, found no such field among: passage, qustion");
    }

    #[test]
    fn quotation_marks_are_text_in_tsv_and_quotes_in_csv() {
        let tsv = records(&Arc::from("x.tsv"), "say \"hi\"\t3\r\n").unwrap();
        assert_eq!(tsv[0].text("0").unwrap(), "say \"hi\"");
        assert_eq!(tsv[0].text("1").unwrap(), "3");
        let csv = records(&Arc::from("x.csv"), "\"say \"\"hi\"\",\nthen\",3\n").unwrap();
        assert_eq!(csv[0].text("0").unwrap(), "say \"hi\",\nthen");
        assert_eq!(csv[0].text("1").unwrap(), "3");
    }
}
