//! Tables as rows: parquet (structs and lists included) and JSON Lines, each row a JSON object under the column names.

use std::fs::File;
use std::io::BufRead as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use polars::prelude::AnyValue;
use polars_io::prelude::{ParquetReader, SerReader as _};
use serde_json::{Map, Value};

use crate::data::source;
use crate::error::Hint as _;

/// Rows of one file, by the ending of `name`: `.parquet`, or `.jsonl` / `.json` (one object a line), also `.gz` and `.zst`.
///
/// # Errors
/// When the file is no table of that format.
pub fn read_rows(path: &Path, name: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    if name.ends_with(".parquet") { parquet_rows(path) } else { json_rows(path) }.with_context(|| format!("cannot read `{name}`"))
}

fn json_rows(path: &Path) -> anyhow::Result<Vec<Map<String, Value>>> {
    let mut rows = Vec::new();
    for (index, line) in source::open(path)?.lines().enumerate() {
        let line = line.with_context(|| format!("line {}: cannot read", index + 1))?;
        if !line.trim().is_empty() {
            rows.push(serde_json::from_str(&line).with_context(|| format!("line {}: expected a JSON object", index + 1))?);
        }
    }
    Ok(rows)
}

/// Rows of a parquet file.
///
/// # Errors
/// When the file is damaged, or a column has a type without a JSON form (bytes, times).
pub fn parquet_rows(path: &Path) -> anyhow::Result<Vec<Map<String, Value>>> {
    let frame = ParquetReader::new(File::open(path)?)
        .finish()
        .map_err(|error| anyhow!("{error}"))
        .hint("the file may be damaged: remove it from the cache and fetch it again")?;
    let mut rows = vec![Map::new(); frame.height()];
    for column in frame.columns() {
        let series = column.as_materialized_series();
        for (row, cell) in rows.iter_mut().zip(series.iter()) {
            let value = json(&cell).with_context(|| format!("column `{}`", column.name()))?;
            row.insert(column.name().to_string(), value);
        }
    }
    Ok(rows)
}

/// A cell as JSON; numbers that JSON lacks become null.
fn json(cell: &AnyValue<'_>) -> anyhow::Result<Value> {
    if let Some(text) = cell.get_str() {
        return Ok(text.into());
    }
    Ok(match cell {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(value) => (*value).into(),
        AnyValue::UInt8(value) => (*value).into(),
        AnyValue::UInt16(value) => (*value).into(),
        AnyValue::UInt32(value) => (*value).into(),
        AnyValue::UInt64(value) => (*value).into(),
        AnyValue::Int8(value) => (*value).into(),
        AnyValue::Int16(value) => (*value).into(),
        AnyValue::Int32(value) => (*value).into(),
        AnyValue::Int64(value) => (*value).into(),
        AnyValue::Float32(value) => f64::from(*value).into(),
        AnyValue::Float64(value) => (*value).into(),
        AnyValue::List(series) => series.iter().map(|cell| json(&cell)).collect::<anyhow::Result<Vec<_>>>()?.into(),
        AnyValue::Struct(_, _, fields) => {
            let named = fields.iter().zip(cell._iter_struct_av());
            named.map(|(field, cell)| Ok((field.name().to_string(), json(&cell)?))).collect::<anyhow::Result<Map<_, _>>>()?.into()
        }
        AnyValue::StructOwned(parts) => {
            let named = parts.1.iter().zip(&parts.0);
            named.map(|(field, cell)| Ok((field.name().to_string(), json(cell)?))).collect::<anyhow::Result<Map<_, _>>>()?.into()
        }
        other => bail!("expected text, numbers, lists or structs, found {}", other.dtype()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::{DataFrame, IntoColumn as _, IntoSeries as _, NamedFrom as _, Series, StructChunked};
    use serde_json::json;

    #[test]
    fn structs_of_lists_and_nulls_become_json() {
        let texts = Series::new("text".into(), [Series::new("".into(), ["sun", "sea"]), Series::new("".into(), ["a"])]);
        let labels = Series::new("label".into(), [Series::new("".into(), ["A", "B"]), Series::new("".into(), ["A"])]);
        let choices = StructChunked::from_series("choices".into(), 2, [texts, labels].iter()).unwrap().into_series();
        let columns = vec![
            Series::new("stem".into(), [Some("What?"), None]).into_column(),
            Series::new("n".into(), [1i32, -2]).into_column(),
            Series::new("share".into(), [0.5f64, f64::NAN]).into_column(),
            choices.into_column(),
        ];
        let mut frame = DataFrame::new(2, columns).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        polars_io::prelude::ParquetWriter::new(File::create(&path).unwrap()).finish(&mut frame).unwrap();
        let rows: Vec<Value> = read_rows(&path, "t.parquet").unwrap().into_iter().map(Value::Object).collect();
        assert_eq!(
            rows,
            [
                json!({"stem": "What?", "n": 1, "share": 0.5, "choices": {"text": ["sun", "sea"], "label": ["A", "B"]}}),
                json!({"stem": null, "n": -2, "share": null, "choices": {"text": ["a"], "label": ["A"]}}),
            ]
        );
    }

    #[test]
    fn a_damaged_table_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        std::fs::write(&path, "PAR1 not a table").unwrap();
        let error = format!("{:#}", read_rows(&path, "data/t.parquet").unwrap_err());
        assert!(error.starts_with("cannot read `data/t.parquet`"), "{error}");
        std::fs::write(&path, "{\"a\": 1}\n[2]\n").unwrap();
        let error = format!("{:#}", read_rows(&path, "t.jsonl").unwrap_err());
        assert!(error.contains("line 2: expected a JSON object"), "{error}");
    }
}
