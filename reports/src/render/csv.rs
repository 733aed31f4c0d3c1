//! CSV (RFC 4180): one line per row, numbers at full precision in base units, intervals and n in columns of their own.
//!
//! ```text
//! group,task,metric,lm-tiny-plain,lm-tiny-plain_low,lm-tiny-plain_high,lm-tiny-plain_n,…,provenance
//! ```
//! A failed cell is the word `failed`, a missing one is empty. `provenance` is filled in the first line only.
//!
//! Source: measurement.md section 15.

use crate::table::{Align, Content, TableData};

pub(super) fn render(table: &TableData) -> String {
    let has_groups = table.rows.iter().any(|row| row.group.is_some());
    // A column has interval and n columns only if a cell has them.
    let has = |at: usize, test: fn(&crate::table::NumberCell) -> bool| {
        table.rows.iter().any(|row| matches!(&row.cells[at].content, Content::Number(number) if test(number)))
    };
    let parts: Vec<(bool, bool)> = (0..table.columns.len())
        .map(|at| (has(at, |number| number.interval.is_some()), has(at, |number| number.n.is_some())))
        .collect();
    let mut header = Vec::new();
    if has_groups {
        header.push("group".to_owned());
    }
    for (column, (interval, n)) in table.columns.iter().zip(&parts) {
        header.push(column.key.clone());
        if *interval {
            header.extend([format!("{}_low", column.key), format!("{}_high", column.key)]);
        }
        if *n {
            header.push(format!("{}_n", column.key));
        }
    }
    header.push("provenance".to_owned());
    let mut out = line(&header);
    let provenance: Vec<String> = table.provenance.lines.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    for (at, row) in table.rows.iter().enumerate() {
        let mut fields = Vec::new();
        if has_groups {
            fields.push(row.group.clone().unwrap_or_default());
        }
        for ((cell, column), (interval, n)) in row.cells.iter().zip(&table.columns).zip(&parts) {
            fields.push(match &cell.content {
                Content::Number(number) => number.value.to_string(),
                Content::Printed { value, .. } if column.align == Align::Right => value.to_string(),
                Content::Missing => String::new(),
                _ => cell.text(),
            });
            let number = if let Content::Number(number) = &cell.content { Some(number) } else { None };
            if *interval {
                let ends = number.and_then(|number| number.interval);
                fields.push(ends.map_or_else(String::new, |(low, _)| low.to_string()));
                fields.push(ends.map_or_else(String::new, |(_, high)| high.to_string()));
            }
            if *n {
                fields.push(number.and_then(|number| number.n).map_or_else(String::new, |(n, _)| n.to_string()));
            }
        }
        fields.push(if at == 0 { provenance.join("; ") } else { String::new() });
        out.push_str(&line(&fields));
    }
    out
}

fn line(fields: &[String]) -> String {
    let quoted: Vec<String> =
        fields
            .iter()
            .map(|field| {
                if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.clone() }
            })
            .collect();
    format!("{}\r\n", quoted.join(","))
}
