//! One table, many languages. Each renderer is a pure function `&TableData -> String`.
//!
//! ```text
//! md | latex | csv | json | html | text      fixed formats, so the same table gives the same bytes
//! ```
//! Source: measurement.md section 15.

pub mod csv;
pub mod html;
pub mod json;
pub mod latex;
pub mod md;
pub mod text;

use crate::error::ReportError;
use crate::table::TableData;

/// Output language of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Markdown, for repositories and comments.
    Md,
    /// LaTeX `tabular` with booktabs rules.
    Latex,
    /// Comma-separated values at full precision.
    Csv,
    /// Everything there is about each cell.
    Json,
    /// A fragment; the page is [`crate::page`]'s.
    Html,
    /// A terminal of 100 columns.
    Text,
}

impl Style {
    /// Every style.
    pub const ALL: [Self; 6] = [Self::Md, Self::Latex, Self::Csv, Self::Json, Self::Html, Self::Text];

    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md => "md",
            Self::Latex => "latex",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Html => "html",
            Self::Text => "text",
        }
    }

    /// Extension of its files.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Latex => "tex",
            Self::Text => "txt",
            other => other.name(),
        }
    }

    /// The style of a name.
    ///
    /// # Errors
    /// When there is none; the message lists them.
    pub fn parse(name: &str) -> Result<Self, ReportError> {
        Self::ALL.into_iter().find(|style| style.name() == name).ok_or_else(|| ReportError::Unknown {
            kind: "style",
            expected: Self::ALL.map(Self::name).join(", "),
            found: name.to_owned(),
        })
    }
}

/// A table in a style.
pub fn render(table: &TableData, style: Style) -> String {
    match style {
        Style::Md => md::render(table),
        Style::Latex => latex::render(table),
        Style::Csv => csv::render(table),
        Style::Json => json::render(table),
        Style::Html => html::render(table),
        Style::Text => text::render(table),
    }
}

/// `Paper: Test loss`: a column title that stands alone.
fn full_title(column: &crate::table::TableColumn) -> String {
    match &column.group {
        Some(group) if group != "Measured" => format!("{group}: {}", column.title),
        _ => column.title.clone(),
    }
}
