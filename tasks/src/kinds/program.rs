//! Tasks whose score is a program's run: HumanEval, MBPP (the program ends without an exception), GSM8K-PAL (it prints the number).
//!
//! Nothing is run here: the program text goes out, a verdict comes back. A program that could not be run is an error, never a score of 0.

use crate::definition::{Leaf, ScorerSection};
use crate::doc::{Doc, DocScores, MetricValue};
use crate::error::TaskError;
use crate::metrics::text::strip;
use crate::request::{JudgedBy, Limits, Program, Verdict};

/// Largest difference of a printed number from the gold one (Gao et al. 2022).
const PRINTED_TOLERANCE: f64 = 1e-3;

/// The program of a document's completion.
pub(super) fn program(leaf: &Leaf, doc: &Doc, completion: &str) -> Result<Program, TaskError> {
    let (source, judged_by) = if let Some(ScorerSection::ProgramPrints { .. }) = &leaf.scorer {
        let body = strip(completion);
        let body = body.find("Q:").map_or(body, |end| &body[..end]);
        (format!("{body}\nprint(solution())"), JudgedBy::Output)
    } else {
        let mut with_completion = doc.clone();
        with_completion.fields.insert("completion".into(), completion.into());
        (leaf.templates.render("program", &with_completion)?, JudgedBy::Exit)
    };
    Ok(Program { source, limits: Limits::default(), judged_by })
}

/// The score of a verdict.
pub(super) fn score(leaf: &Leaf, doc: &Doc, verdict: &Verdict) -> Result<DocScores, TaskError> {
    if let Verdict::NotRun { reason } = verdict {
        return Err(TaskError::Executor { task: leaf.spec.name.clone(), doc_id: doc.doc_id, message: reason.clone() });
    }
    let mut scores = DocScores::new(doc);
    let right = match (&leaf.scorer, verdict) {
        (Some(ScorerSection::ProgramPrints { .. }), Verdict::Pass { stdout }) => {
            let printed = strip(stdout).lines().last().unwrap_or_default();
            scores.answers.insert("last-line".to_owned(), printed.to_owned());
            let gold = leaf.templates.render("reference", doc)?;
            let gold: f64 =
                gold.replace(',', "").parse().map_err(|_| leaf.response_error(doc, "gold answer", "a number", &gold))?;
            let value = printed_number(printed);
            scores.is_unparsed = value.is_none();
            value.is_some_and(|value| (value - gold).abs() < PRINTED_TOLERANCE)
        }
        (_, Verdict::Pass { .. }) => true,
        _ => false,
    };
    scores.verdict = Some(verdict.name().to_owned());
    for metric in &leaf.spec.metrics {
        scores.metrics.insert(metric.name.clone(), MetricValue::Number(f64::from(right)));
    }
    Ok(scores)
}

/// `float(text)` of Python for finite numbers: white space around it and single underscores between digits are allowed.
fn printed_number(text: &str) -> Option<f64> {
    let text = strip(text);
    let between_digits = |(i, _): (usize, char)| {
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        digit(text[..i].chars().next_back()) && digit(text[i + 1..].chars().next())
    };
    if !text.char_indices().filter(|(_, c)| *c == '_').all(between_digits) {
        return None;
    }
    text.replace('_', "").parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_numbers_follow_python() {
        assert_eq!(printed_number(" 1_000.5 "), Some(1000.5));
        assert_eq!(printed_number("1e3"), Some(1000.0));
        assert_eq!(printed_number("_1"), None);
        assert_eq!(printed_number("$5"), None);
        assert_eq!(printed_number("nan"), None);
    }
}
