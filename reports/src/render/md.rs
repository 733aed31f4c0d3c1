//! Markdown: heading, caption, pipe table, notes, folded provenance.
//!
//! ```text
//! | Task | Baseline | RW+LR |       groups of rows are rows of their own in bold; footnotes are superscript numbers
//! ```
//! Source: measurement.md section 15; the table extension of GitHub Flavored Markdown.

use std::fmt::Write as _;

use super::full_title;
use crate::escape::markdown as escape;
use crate::table::{Align, TableCell, TableData};

pub(super) fn render(table: &TableData) -> String {
    let mut out = format!("## {}\n\n", escape(&table.title));
    if !table.caption.is_empty() {
        // Captions are ours and use code spans; only cells come from records.
        let _ = writeln!(out, "{}\n", table.caption.replace('<', "\\<"));
    }
    let titles: Vec<String> = table.columns.iter().map(|column| escape(&full_title(column))).collect();
    let _ = writeln!(out, "| {} |", titles.join(" | "));
    let rules: Vec<&str> = table.columns.iter().map(|column| if column.align == Align::Right { "--:" } else { "---" }).collect();
    let _ = writeln!(out, "|{}|", rules.join("|"));
    let mut group = None;
    for row in &table.rows {
        if row.group.is_some() && row.group != group {
            group.clone_from(&row.group);
            let blank = " |".repeat(table.columns.len().saturating_sub(1));
            let _ = writeln!(out, "| **{}** |{blank}", escape(group.as_deref().unwrap_or_default()));
        }
        let cells: Vec<String> = row.cells.iter().map(cell).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    if !table.footnotes.is_empty() {
        out.push('\n');
        for (at, note) in table.footnotes.iter().enumerate() {
            let _ = writeln!(out, "{}. {}", at + 1, escape(note));
        }
    }
    if !table.provenance.lines.is_empty() {
        out.push_str("\n<details><summary>Provenance</summary>\n\n");
        for (key, value) in &table.provenance.lines {
            let _ = writeln!(out, "- {}: {}", escape(key), escape(value));
        }
        out.push_str("\n</details>\n");
    }
    out
}

fn cell(cell: &TableCell) -> String {
    let mut text = escape(&cell.text());
    if cell.is_bold {
        text = format!("**{text}**");
    }
    if !cell.footnotes.is_empty() {
        let marks: Vec<String> = cell.footnotes.iter().map(ToString::to_string).collect();
        let _ = write!(text, " <sup>{}</sup>", marks.join(","));
    }
    text
}
