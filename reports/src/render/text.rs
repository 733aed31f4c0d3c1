//! Terminal text: at most 100 columns wide, readable without colour.
//!
//! ```text
//! Too many columns for one block are split into blocks that repeat the first column; long cells are wrapped, never cut.
//! ```
//! Source: style.md section 7.

use std::fmt::Write as _;

use super::full_title;
use crate::gate::output::wrap;
use crate::table::{Align, TableCell, TableData};

/// Widest line, characters.
const WIDTH: usize = 100;
/// Widest column before its cells wrap.
const COLUMN: usize = 34;
/// Space between columns.
const GAP: usize = 2;

pub(super) fn render(table: &TableData) -> String {
    let mut out = format!("{}\n", table.title);
    let titles: Vec<String> = table.columns.iter().map(full_title).collect();
    let cells: Vec<Vec<String>> = table.rows.iter().map(|row| row.cells.iter().map(shown).collect()).collect();
    let widths: Vec<usize> = (0..titles.len())
        .map(|at| {
            let longest = cells.iter().map(|row| length(&row[at])).chain([word_length(&titles[at])]).max().unwrap_or(0);
            longest.clamp(1, COLUMN)
        })
        .collect();
    for block in blocks(&widths) {
        out.push('\n');
        write_line(&mut out, table, &block, &widths, &titles);
        let rule: usize = block.iter().map(|at| widths[*at]).sum::<usize>() + GAP * (block.len() - 1);
        let _ = writeln!(out, "{}", "-".repeat(rule));
        let mut group = &None;
        for (row, texts) in table.rows.iter().zip(&cells) {
            if row.group.is_some() && row.group != *group {
                group = &row.group;
                for line in wrap(&format!("[{}]", group.as_deref().unwrap_or_default()), WIDTH) {
                    let _ = writeln!(out, "{line}");
                }
            }
            write_line(&mut out, table, &block, &widths, texts);
        }
    }
    out.push('\n');
    for (at, note) in table.footnotes.iter().enumerate() {
        for line in wrap(&format!("[{}] {note}", at + 1), WIDTH) {
            let _ = writeln!(out, "{line}");
        }
    }
    for line in wrap(&table.caption, WIDTH).iter().filter(|line| !line.is_empty()) {
        let _ = writeln!(out, "{line}");
    }
    out
}

fn shown(cell: &TableCell) -> String {
    let mut text = cell.text();
    if cell.is_bold {
        text = format!("*{text}*");
    }
    for note in &cell.footnotes {
        let _ = write!(text, " [{note}]");
    }
    text
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Titles wrap at spaces, so only their longest word needs room.
fn word_length(text: &str) -> usize {
    text.split(' ').map(length).max().unwrap_or(0)
}

/// Columns of each block: the first column and as many others as fit.
fn blocks(widths: &[usize]) -> Vec<Vec<usize>> {
    let mut blocks = Vec::new();
    let mut block = vec![0];
    let mut used = widths.first().copied().unwrap_or(0);
    for (at, width) in widths.iter().enumerate().skip(1) {
        if used + GAP + width > WIDTH && block.len() > 1 {
            blocks.push(std::mem::replace(&mut block, vec![0]));
            used = widths[0];
        }
        block.push(at);
        used += GAP + width;
    }
    blocks.push(block);
    blocks
}

fn write_line(out: &mut String, table: &TableData, block: &[usize], widths: &[usize], texts: &[String]) {
    let wrapped: Vec<Vec<String>> = block.iter().map(|at| wrap(&texts[*at], widths[*at])).collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let mut text = String::new();
        for (lines, at) in wrapped.iter().zip(block) {
            let part = lines.get(line).map_or("", String::as_str);
            let width = widths[*at];
            if table.columns[*at].align == Align::Right {
                let _ = write!(text, "{part:>width$}");
            } else {
                let _ = write!(text, "{part:<width$}");
            }
            text.push_str(&" ".repeat(GAP));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
}
