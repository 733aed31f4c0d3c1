//! The HTML page of a report: one file, nothing loaded from elsewhere, complete without scripts.
//!
//! ```text
//! content-security policy: default-src 'none'; the inline style and script are allowed by their hash, nothing else runs
//! ```
//! Light and dark, printable, keyboard-sortable tables, each figure with title, description and its data as a table. Every word that
//! comes from records is escaped, by the template engine or by [`crate::escape::html`].
//!
//! Source: measurement.md section 15.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use records::ids::sha256_hex;
use serde::Serialize;

use crate::error::ReportError;
use crate::lint::LintNote;
use crate::plots::Figure;
use crate::provenance::Provenance;
use crate::render::{Style, render};
use crate::table::TableData;

const TEMPLATE: &str = include_str!("../templates/page.html");
const STYLE: &str = include_str!("../templates/page.css");
const SCRIPT: &str = include_str!("../templates/page.js");

/// What a page shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Heading.
    pub title: &'a str,
    /// Sentences under the heading.
    pub summary: &'a [String],
    /// Figures in order.
    pub figures: &'a [Figure],
    /// Tables in order.
    pub tables: &'a [TableData],
    /// Arithmetic notes on published numbers.
    pub notes: &'a [LintNote],
    /// Where the numbers come from.
    pub provenance: &'a Provenance,
    /// What was odd about the records.
    pub warnings: &'a [String],
}

#[derive(Serialize)]
struct Entry {
    anchor: String,
    title: String,
}

#[derive(Serialize)]
struct FigureEntry {
    anchor: String,
    title: String,
    description: String,
    svg: String,
    data: String,
}

#[derive(Serialize)]
struct TableEntry {
    anchor: String,
    title: String,
    html: String,
}

#[derive(Serialize)]
struct NoteEntry<'a> {
    place: &'a str,
    stated: &'a str,
    recomputed: &'a str,
}

/// Names of the template.
#[derive(Serialize)]
struct Content<'a> {
    title: &'a str,
    summary: &'a [String],
    contents: Vec<Entry>,
    figures: Vec<FigureEntry>,
    tables: Vec<TableEntry>,
    notes: Vec<NoteEntry<'a>>,
    provenance: &'a [(String, String)],
    warnings: &'a [String],
    style: &'static str,
    script: &'static str,
    style_hash: String,
    script_hash: String,
}

/// The page as one HTML document.
///
/// # Errors
/// When a figure cannot be drawn or the template fails.
pub fn page(content: &Page<'_>) -> Result<String, ReportError> {
    let mut contents = Vec::new();
    let mut figures = Vec::new();
    for figure in content.figures {
        let anchor = format!("figure-{}", figure.name);
        contents.push(Entry { anchor: anchor.clone(), title: figure.title.clone() });
        figures.push(FigureEntry {
            anchor,
            title: figure.title.clone(),
            description: figure.description.clone(),
            svg: figure.svg()?,
            data: render(&figure.data, Style::Html),
        });
    }
    let mut tables = Vec::new();
    for table in content.tables {
        let anchor = format!("table-{}", table.name);
        contents.push(Entry { anchor: anchor.clone(), title: table.title.clone() });
        tables.push(TableEntry { anchor, title: table.title.clone(), html: render(table, Style::Html) });
    }
    contents.push(Entry { anchor: "arithmetic".to_owned(), title: "Arithmetic of the published numbers".to_owned() });
    contents.push(Entry { anchor: "provenance".to_owned(), title: "Provenance".to_owned() });
    let notes: Vec<NoteEntry<'_>> = content
        .notes
        .iter()
        .map(|note| NoteEntry { place: &note.place, stated: &note.stated, recomputed: &note.recomputed })
        .collect();
    let fail = |source| ReportError::Render { what: content.title.to_owned(), source };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("page.html", TEMPLATE).map_err(fail)?;
    let template = environment.get_template("page.html").map_err(fail)?;
    let mut html = template
        .render(Serde(Content {
            title: content.title,
            summary: content.summary,
            contents,
            figures,
            tables,
            notes,
            provenance: &content.provenance.lines,
            warnings: content.warnings,
            style: STYLE,
            script: SCRIPT,
            style_hash: source_hash(STYLE),
            script_hash: source_hash(SCRIPT),
        }))
        .map_err(fail)?;
    html.push('\n');
    Ok(html)
}

/// `sha256-…` of an inline element, as a content-security policy wants it.
fn source_hash(text: &str) -> String {
    let hex = sha256_hex(text.as_bytes());
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).filter_map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect();
    format!("sha256-{}", base64(&bytes))
}

/// Base 64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            if at <= chunk.len() {
                out.push(char::from(ALPHABET[(word >> (18 - 6 * at)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_rfcs_test_vectors() {
        // RFC 4648 section 10.
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn source_hash_of_the_policys_own_example() {
        // Content Security Policy Level 2, section 7.15.2: alert('Hello, world.');
        assert_eq!(source_hash("alert('Hello, world.');"), "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
    }

    #[test]
    fn words_from_outside_are_escaped() {
        let provenance = Provenance { lines: vec![("command".into(), "<script>x</script>".into())] };
        let html = page(&Page {
            title: "A & <b>",
            summary: &[],
            figures: &[],
            tables: &[],
            notes: &[],
            provenance: &provenance,
            warnings: &["<img src=x>".to_owned()],
        })
        .unwrap();
        assert!(html.contains("<h1>A &amp; &lt;b&gt;</h1>"));
        assert!(!html.contains("<img") && html.matches("<script>").count() == 1);
    }
}
