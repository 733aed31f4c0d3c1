//! Whole texts: WikiText by pages with its detokeniser, and any text file.
//!
//! ```text
//! wikitext     {page} per line, or the corpus file cut before each ` = Title = ` line      scored: detokenize(page); counted: page
//! perplexity   one document per text file, or per JSONL line (`text` or `page`)            scored and counted: the text
//! ```
//! Source of the detokeniser's rules: EleutherAI/lm-evaluation-harness 0.4.13, `lm_eval/tasks/wikitext/preprocess_wikitext.py`.

use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::{Map, Value};

use super::reader::records;
use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;

pub(crate) struct WikiText;

impl Loader for WikiText {
    fn candidates(&self, _leaf: &Leaf, _role: Role) -> Vec<String> {
        let paths = [
            "wikitext/pages.jsonl",
            "wikitext/wikitext-2-raw-v1/test.jsonl",
            "wikitext/test.jsonl",
            "rolling/pages.jsonl",
            "wikitext/wiki.test.raw",
            "wikitext-2-raw/wiki.test.raw",
            "corpora/wikitext2-test.txt",
        ];
        paths.iter().map(|p| (*p).to_owned()).collect()
    }

    fn records(&self, _leaf: &Leaf, _role: Role, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
        if is_jsonl(file) {
            return records(file, text);
        }
        Ok(pages(text).into_iter().enumerate().map(|(i, page)| one_field(file, i + 1, "page", page)).collect())
    }

    fn fields(
        &self,
        _leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        let page = record.text("page")?;
        Ok(Some(Map::from_iter([("page".into(), page.into()), ("text".into(), detokenize(page).into())])))
    }
}

pub(crate) struct Perplexity;

impl Loader for Perplexity {
    fn candidates(&self, _leaf: &Leaf, _role: Role) -> Vec<String> {
        ["perplexity", "rolling/pages.jsonl", "perplexity.jsonl", "perplexity.txt"].iter().map(|p| (*p).to_owned()).collect()
    }

    fn records(&self, _leaf: &Leaf, _role: Role, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
        if is_jsonl(file) {
            return records(file, text);
        }
        if text.is_empty() {
            return Err(TaskError::Empty { file: file.to_string() });
        }
        Ok(vec![one_field(file, 1, "text", text.to_owned())])
    }

    fn fields(
        &self,
        _leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        let field = if record.fields.contains_key("page") && !record.fields.contains_key("text") { "page" } else { "text" };
        let text = record.text(field)?;
        Ok(Some(Map::from_iter([("page".into(), text.into()), ("text".into(), text.into())])))
    }
}

fn is_jsonl(file: &str) -> bool {
    file.rsplit('.').next() == Some("jsonl")
}

fn one_field(file: &Arc<str>, line: usize, name: &str, text: String) -> Record {
    Record { file: Arc::clone(file), line, fields: Map::from_iter([(name.to_owned(), Value::from(text))]) }
}

/// The corpus file by pages: a page begins at the blank line before ` = Title = ` (one `=` a side; sections have more) and ends before the next.
fn pages(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let title_follows = line.trim().is_empty() && lines.peek().is_some_and(|next| is_title(next));
        let starts = title_follows || (found.is_empty() && !line.is_empty());
        match found.last_mut() {
            Some(page) if !starts => page.push_str(line),
            _ => found.push(line.to_owned()),
        }
    }
    found
}

/// ` = Title = ` and nothing else on the line.
fn is_title(line: &str) -> bool {
    let inside = line.trim().strip_prefix("= ").and_then(|rest| rest.strip_suffix(" ="));
    inside.is_some_and(|title| !title.starts_with('=') && !title.ends_with('='))
}

/// One step of the detokeniser.
enum Step {
    /// Every occurrence of a text.
    Text(&'static str, &'static str),
    /// Every match of a pattern, `${1}` being its group.
    Pattern(&'static str, &'static str),
}

/// The steps, in order. White space in a pattern is Python's. The pattern of the second step holds two slashes by mistake and hardly ever matches.
const STEPS: &[Step] = &[
    Step::Text("s '", "s'"),
    Step::Pattern(r"/' [0-9]/", r"/'[0-9]/"),
    Step::Text(" @-@ ", "-"),
    Step::Text(" @,@ ", ","),
    Step::Text(" @.@ ", "."),
    Step::Text(" : ", ": "),
    Step::Text(" ; ", "; "),
    Step::Text(" . ", ". "),
    Step::Text(" ! ", "! "),
    Step::Text(" ? ", "? "),
    Step::Text(" , ", ", "),
    Step::Pattern(r"\([\s\x1c-\x1f]*([^)]*?)[\s\x1c-\x1f]*\)", "(${1})"),
    Step::Pattern(r"\[[\s\x1c-\x1f]*([^\]]*?)[\s\x1c-\x1f]*\]", "[${1}]"),
    Step::Pattern(r"\{[\s\x1c-\x1f]*([^}]*?)[\s\x1c-\x1f]*\}", "{${1}}"),
    Step::Pattern(r#""[\s\x1c-\x1f]*([^"]*?)[\s\x1c-\x1f]*""#, r#""${1}""#),
    Step::Pattern(r"'[\s\x1c-\x1f]*([^']*?)[\s\x1c-\x1f]*'", "'${1}'"),
    Step::Text("= = = =", "===="),
    Step::Text("= = =", "==="),
    Step::Text("= =", "=="),
    Step::Text(" \u{b0} ", "\u{b0}"),
    Step::Text(" \n", "\n"),
    Step::Text("\n ", "\n"),
    Step::Text(" N ", " 1 "),
    Step::Text(" 's", "'s"),
];

/// Undoes WikiText's tokenisation as the reference does.
pub(crate) fn detokenize(page: &str) -> String {
    static PATTERNS: OnceLock<Vec<Option<Regex>>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let compile = |step: &Step| match step {
            Step::Text(..) => None,
            Step::Pattern(pattern, _) => Some(Regex::new(pattern).expect("the patterns above compile: detokeniser test")),
        };
        STEPS.iter().map(compile).collect()
    });
    let mut text = page.to_owned();
    for (step, pattern) in STEPS.iter().zip(patterns) {
        text = match (step, pattern) {
            (Step::Pattern(_, to), Some(pattern)) => pattern.replace_all(&text, *to).into_owned(),
            (Step::Text(from, to), _) | (Step::Pattern(from, to), None) => text.replace(from, to),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detokenize_joins_numbers_brackets_and_headings() {
        assert_eq!(detokenize(" = = T = = \n 1 @,@ 000 @.@ 5 ( a ) \n"), " == T ==\n1,000.5 (a)\n");
        assert_eq!(detokenize("/' 7/"), "/'[0-9]/"); // the slip of the second step
    }

    #[test]
    fn pages_are_cut_before_titles_and_not_before_sections() {
        let text = " \n = One = \n \n a \n = = Sec = = \n b \n \n = Two = \n c \n";
        let found = pages(text);
        assert_eq!(found, [" \n = One = \n \n a \n = = Sec = = \n b \n", " \n = Two = \n c \n"]);
        assert_eq!(found.concat(), text);
    }
}
