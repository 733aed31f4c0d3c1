//! LaTeX: one booktabs `tabular` per file, and a collection that compiles.
//!
//! ```text
//! tables/table5.tex       \begin{tabular} … \end{tabular}            for \input
//! tables/collection.tex   captions, notes and \input of each table   pdflatex collection.tex
//! ```
//! Source: measurement.md section 15.

use std::fmt::Write as _;

use crate::escape::latex as escape;
use crate::table::{Align, TableCell, TableData};

pub(super) fn render(table: &TableData) -> String {
    let mut out = String::new();
    for (key, value) in &table.provenance.lines {
        // A comment ends at the line end, so a line end in a value would leave it.
        let _ = writeln!(out, "% {key}: {}", value.replace(['\n', '\r'], " "));
    }
    let spec: String = table.columns.iter().map(|column| if column.align == Align::Right { 'r' } else { 'l' }).collect();
    let _ = writeln!(out, "\\begin{{tabular}}{{{spec}}}\n\\toprule");
    if table.columns.iter().any(|column| column.group.is_some()) {
        let mut rules = String::new();
        let mut cells = Vec::new();
        let mut at = 0;
        while at < table.columns.len() {
            let group = &table.columns[at].group;
            let span = table.columns[at..].iter().take_while(|column| column.group == *group).count();
            match group {
                Some(group) => {
                    cells.push(format!("\\multicolumn{{{span}}}{{c}}{{{}}}", escape(group)));
                    let _ = write!(rules, "\\cmidrule(lr){{{}-{}}}", at + 1, at + span);
                }
                None => cells.push(" & ".repeat(span - 1)),
            }
            at += span;
        }
        let _ = writeln!(out, "{} \\\\\n{rules}", cells.join(" & "));
    }
    let titles: Vec<String> = table.columns.iter().map(|column| escape(&column.title)).collect();
    let _ = writeln!(out, "{} \\\\\n\\midrule", titles.join(" & "));
    let mut group = None;
    for row in &table.rows {
        if row.group.is_some() && row.group != group {
            if group.is_some() {
                out.push_str("\\addlinespace\n");
            }
            group.clone_from(&row.group);
            let heading = escape(group.as_deref().unwrap_or_default());
            let _ = writeln!(out, "\\multicolumn{{{}}}{{l}}{{\\textit{{{heading}}}}} \\\\", table.columns.len());
        }
        let cells: Vec<String> = row.cells.iter().map(cell).collect();
        let _ = writeln!(out, "{} \\\\", cells.join(" & "));
    }
    out.push_str("\\bottomrule\n\\end{tabular}\n");
    out
}

fn cell(cell: &TableCell) -> String {
    let mut text = escape(&cell.text());
    if cell.is_bold {
        text = format!("\\textbf{{{text}}}");
    }
    if !cell.footnotes.is_empty() {
        let marks: Vec<String> = cell.footnotes.iter().map(ToString::to_string).collect();
        let _ = write!(text, "\\textsuperscript{{{}}}", marks.join(","));
    }
    text
}

/// A document that inputs every table by its name, with captions and notes.
pub fn collection(tables: &[TableData]) -> String {
    let mut out = String::from(
        "% Every table of the report; compile in this folder.\n\
         \\documentclass[10pt]{article}\n\
         \\usepackage[utf8]{inputenc}\n\\usepackage[T1]{fontenc}\n\
         \\usepackage[a4paper,landscape,margin=15mm]{geometry}\n\
         \\usepackage{booktabs,graphicx}\n\
         \\begin{document}\n",
    );
    for table in tables {
        let _ = writeln!(
            out,
            "\\begin{{table}}[p]\n\\centering\n\\caption{{{}. {}}}",
            escape(&table.title),
            escape(&table.caption.replace('`', ""))
        );
        let _ = writeln!(
            out,
            "\\resizebox{{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}}{{!}}{{\\input{{{}}}\\unskip}}",
            table.name
        );
        for (at, note) in table.footnotes.iter().enumerate() {
            let _ = writeln!(out, "\\par\\footnotesize\\textsuperscript{{{}}}~{}", at + 1, escape(note));
        }
        out.push_str("\\end{table}\n\\clearpage\n");
    }
    out.push_str("\\end{document}\n");
    out
}
