//! HellaSwag (`activity_label`, `ctx_a`, `ctx_b`, `endings`, `label`), and the cleaning of its texts.
//!
//! ```text
//! query   = clean(activity_label ++ ": " ++ ctx_a ++ " " ++ capitalise(ctx_b))      choices = clean(ending)
//! clean   = strip; " [title]" → ". "; delete shortest [...] spans; two spaces → one, one pass
//! ```
//! The strip comes before the deletions, so a space at the start can reappear; capitalise lowers everything after the first character.
//! Source: EleutherAI/lm-evaluation-harness 0.4.13, `lm_eval/tasks/hellaswag/utils.py`.

use serde_json::{Map, Value};

use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;
use crate::metrics::text::{capitalize, strip};

pub(crate) struct HellaSwag;

impl Loader for HellaSwag {
    fn candidates(&self, _leaf: &Leaf, role: Role) -> Vec<String> {
        let paths: &[&str] = match role {
            Role::Test => &[
                "hellaswag/hellaswag_val.jsonl",
                "hellaswag/data/hellaswag_val.jsonl",
                "hellaswag/validation.jsonl",
                "hellaswag/hellaswag_val_sample1000.jsonl",
            ],
            Role::Shots => &[
                "hellaswag/hellaswag_train.jsonl",
                "hellaswag/data/hellaswag_train.jsonl",
                "hellaswag/train.jsonl",
                "hellaswag/hellaswag_train_first2000.jsonl",
            ],
        };
        paths.iter().map(|p| (*p).to_owned()).collect()
    }

    fn fields(
        &self,
        _leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        let endings = record.texts("endings")?;
        if endings.len() != 4 {
            return Err(record.error("endings", "4 texts", format!("{} texts", endings.len())));
        }
        let label = record.index("label", endings.len())?;
        let (activity, ctx_a, ctx_b) = (record.text("activity_label")?, record.text("ctx_a")?, record.text("ctx_b")?);
        let query = clean(&format!("{activity}: {ctx_a} {}", capitalize(ctx_b)));
        let choices: Vec<String> = endings.iter().map(|ending| clean(ending)).collect();
        let mut fields = record.only(&["ind", "activity_label", "ctx_a", "ctx_b", "ctx", "endings", "source_id", "split_type"]);
        fields.insert("label".into(), label.to_string().into());
        fields.insert("query".into(), query.into());
        fields.insert("choices".into(), choices.into());
        fields.insert("gold".into(), label.into());
        Ok(Some(fields))
    }

    fn cluster(&self, fields: &Map<String, Value>) -> Option<String> {
        // a WikiHow article or an ActivityNet video gives several documents
        fields.get("source_id").and_then(Value::as_str).map(str::to_owned)
    }
}

/// The reference's cleaning.
pub(crate) fn clean(text: &str) -> String {
    delete_brackets(&strip(text).replace(" [title]", ". ")).replace("  ", " ")
}

/// Deletes each shortest `[...]` that lies within one line, left to right.
fn delete_brackets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let inside = &rest[open + 1..];
        match inside.find([']', '\n']) {
            Some(close) if inside.as_bytes()[close] == b']' => {
                out.push_str(&rest[..open]);
                rest = &inside[close + 1..];
            }
            _ => {
                out.push_str(&rest[..=open]);
                rest = inside;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_comes_before_the_deletions() {
        assert_eq!(clean(" [step] Go on.  "), " Go on.");
        assert_eq!(clean("A [title] B [step] c"), "A. B c"); // ". " and the space that followed become one
        assert_eq!(clean("a    b"), "a  b"); // one pass
    }

    #[test]
    fn a_span_ends_at_its_first_bracket_and_never_crosses_a_line() {
        assert_eq!(clean("a [b [c] d] e"), "a d] e");
        assert_eq!(clean("a [b\nc] [d] e"), "a [b\nc] e");
    }
}
