//! HTML fragment of a table: caption, header groups, cells with machine values for sorting, notes.
//!
//! ```text
//! <td class="num" data-value="0.651">65.1 ± 0.8</td>        complete without scripts; the page's script sorts and filters
//! ```
//! Source: measurement.md section 15.

use std::fmt::Write as _;

use crate::escape::html as escape;
use crate::table::{Align, Content, TableCell, TableData};

pub(super) fn render(table: &TableData) -> String {
    let mut out = String::new();
    let name = escape(&table.name);
    let _ = writeln!(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">", escape(&table.title));
    let _ = writeln!(
        out,
        "<table id=\"t-{name}\" class=\"data\">\n<caption>{}</caption>\n<thead>",
        escape(&table.caption.replace('`', ""))
    );
    if table.columns.iter().any(|column| column.group.is_some()) {
        out.push_str("<tr class=\"groups\">");
        let mut at = 0;
        while at < table.columns.len() {
            let group = &table.columns[at].group;
            let span = table.columns[at..].iter().take_while(|column| column.group == *group).count();
            let _ = match group {
                Some(group) => write!(out, "<th colspan=\"{span}\" scope=\"colgroup\">{}</th>", escape(group)),
                None => write!(out, "<td colspan=\"{span}\"></td>"),
            };
            at += span;
        }
        out.push_str("</tr>\n");
    }
    out.push_str("<tr>");
    for column in &table.columns {
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(column.align), escape(&column.title));
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    let mut group = None;
    for row in &table.rows {
        if row.group.is_some() && row.group != group {
            group.clone_from(&row.group);
            let heading = escape(group.as_deref().unwrap_or_default());
            let _ = writeln!(
                out,
                "<tr class=\"group\"><th colspan=\"{}\" scope=\"rowgroup\">{heading}</th></tr>",
                table.columns.len()
            );
        }
        out.push_str("<tr>");
        for (at, (cell, column)) in row.cells.iter().zip(&table.columns).enumerate() {
            out.push_str(&render_cell(cell, column.align, at == 0));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    if !table.footnotes.is_empty() {
        out.push_str("<ol class=\"notes\">\n");
        for note in &table.footnotes {
            let _ = writeln!(out, "<li>{}</li>", escape(note));
        }
        out.push_str("</ol>\n");
    }
    out
}

fn class(align: Align) -> &'static str {
    if align == Align::Right { " class=\"num\"" } else { "" }
}

fn render_cell(cell: &TableCell, align: Align, is_header: bool) -> String {
    let mut text = escape(&cell.text());
    if cell.is_bold {
        text = format!("<strong>{text}</strong>");
    }
    if !cell.footnotes.is_empty() {
        let marks: Vec<String> = cell.footnotes.iter().map(ToString::to_string).collect();
        let _ = write!(text, "<sup>{}</sup>", marks.join(","));
    }
    let value = cell.value().map_or_else(String::new, |value| format!(" data-value=\"{value}\""));
    let title = match &cell.content {
        Content::Number(number) => match (number.n, number.interval) {
            (Some((n, basis)), Some((low, high))) => {
                format!(" title=\"{} [{low}, {high}] {}, n = {n} {}\"", number.value, escape(&number.unit), basis.as_str())
            }
            _ => String::new(),
        },
        Content::Failed(reason) => format!(" title=\"{}\"", escape(reason)),
        _ => String::new(),
    };
    if is_header {
        format!("<th scope=\"row\"{value}{title}>{text}</th>")
    } else {
        format!("<td{}{value}{title}>{text}</td>", class(align))
    }
}
