//! JSON: everything there is about each cell, for programs.
//!
//! ```text
//! {"name", "title", "caption", "columns": [{key, title, group, align}],
//!  "rows": [{"group", "cells": {KEY: {"text", "value", "low", "high", "n", "n_of", "unit", "bold", "status", "footnotes"}}}],
//!  "footnotes": […], "provenance": {KEY: VALUE}}
//! ```
//! `value`, `low` and `high` are in the base unit; `status` is ok, missing or failed.
//!
//! Source: measurement.md section 15.

use serde_json::{Map, Value, json};

use crate::table::{Content, TableCell, TableData};

pub(super) fn render(table: &TableData) -> String {
    let mut text = serde_json::to_string_pretty(&value(table)).expect("a table holds only strings and numbers");
    text.push('\n');
    text
}

/// The table as a JSON value.
pub fn value(table: &TableData) -> Value {
    let rows: Vec<Value> = table
        .rows
        .iter()
        .map(|row| {
            let cells: Map<String, Value> =
                table.columns.iter().zip(&row.cells).map(|(column, content)| (column.key.clone(), cell(content))).collect();
            json!({ "group": row.group, "cells": cells })
        })
        .collect();
    let provenance: Map<String, Value> =
        table.provenance.lines.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
    json!({
        "name": table.name,
        "title": table.title,
        "caption": table.caption,
        "columns": table.columns,
        "rows": rows,
        "footnotes": table.footnotes,
        "provenance": provenance,
    })
}

fn cell(cell: &TableCell) -> Value {
    let mut object = Map::new();
    object.insert("text".to_owned(), json!(cell.text()));
    if let Some(value) = cell.value() {
        object.insert("value".to_owned(), json!(value));
    }
    if let Content::Number(number) = &cell.content {
        object.insert("unit".to_owned(), json!(number.unit));
        if let Some((low, high)) = number.interval {
            object.insert("low".to_owned(), json!(low));
            object.insert("high".to_owned(), json!(high));
        }
        if let Some((n, basis)) = number.n {
            object.insert("n".to_owned(), json!(n));
            object.insert("n_of".to_owned(), json!(basis.as_str()));
        }
    }
    let status = match &cell.content {
        Content::Missing => "missing",
        Content::Failed(_) => "failed",
        _ => "ok",
    };
    object.insert("status".to_owned(), json!(status));
    if cell.is_bold {
        object.insert("bold".to_owned(), json!(true));
    }
    if !cell.footnotes.is_empty() {
        object.insert("footnotes".to_owned(), json!(cell.footnotes));
    }
    Value::Object(object)
}
