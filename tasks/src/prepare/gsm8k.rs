//! GSM8K: `question` and `answer`, where the number stands after `####` and the worked steps carry `<<expression=value>>` notes.

use serde_json::{Map, Value};

use super::{Loader, Origin, Record, Role};
use crate::definition::Leaf;
use crate::error::TaskError;
use crate::metrics::text::strip;

pub(crate) struct Gsm8k;

impl Loader for Gsm8k {
    fn candidates(&self, _leaf: &Leaf, role: Role) -> Vec<String> {
        let split = if role == Role::Test { "test" } else { "train" };
        let folders = ["gsm8k", "gsm8k/main", "gsm8k/grade_school_math/data"];
        folders.iter().map(|folder| format!("{folder}/{split}.jsonl")).collect()
    }

    fn fields(
        &self,
        _leaf: &Leaf,
        _role: Role,
        _origin: Origin,
        record: &Record,
    ) -> Result<Option<Map<String, Value>>, TaskError> {
        document(record).map(Some)
    }
}

/// A record as a document, with the number apart as `answer_number`.
pub(crate) fn document(record: &Record) -> Result<Map<String, Value>, TaskError> {
    record.filled_text("question")?;
    let answer = record.filled_text("answer")?;
    let number = answer.rsplit("####").next().filter(|_| answer.contains("####")).map(strip);
    let Some(number) = number.filter(|n| !n.is_empty()) else {
        return Err(record.error("answer", "a number after `####`", answer.lines().last().unwrap_or_default()));
    };
    let mut fields = record.only(&["question", "answer"]);
    fields.insert("answer_number".into(), number.into());
    Ok(fields)
}

/// The worked steps without the `####` line and the `<<…>>` notes.
pub(crate) fn steps(answer: &str) -> String {
    let worked = answer.rsplit_once("####").map_or(answer, |(worked, _)| worked);
    let mut text = String::with_capacity(worked.len());
    let mut rest = worked;
    while let Some((before, after)) = rest.split_once("<<") {
        text.push_str(before);
        rest = after.split_once(">>").map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    strip(&text).to_owned()
}

/// The expressions of the `<<expression=value>>` notes, in order; without notes those written out (`4 * 3 = 12`).
pub(crate) fn expressions(answer: &str) -> Vec<String> {
    let notes = answer.split("<<").skip(1).filter_map(|note| note.split_once(">>"));
    let noted: Vec<String> =
        notes.filter_map(|(note, _)| note.rsplit_once('=')).map(|(expression, _)| expression.to_owned()).collect();
    if !noted.is_empty() {
        return noted;
    }
    let worked = answer.rsplit_once("####").map_or(answer, |(worked, _)| worked);
    let mut found = Vec::new();
    for (at, _) in worked.match_indices('=') {
        let arithmetic = |c: char| c.is_ascii_digit() || " +-*/().".contains(c);
        let left = &worked[..at];
        let start = left.rfind(|c| !arithmetic(c)).map_or(0, |i| i + left[i..].chars().next().map_or(1, char::len_utf8));
        // a number that ends the sentence before is no part of the sum
        let run = &left[start..];
        let expression = run.rsplit_once(". ").map_or(run, |(_, last)| last).trim();
        if expression.contains(['+', '-', '*', '/']) {
            found.push(expression.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_expressions_of_a_worked_answer() {
        let answer = "He buys 2*3=<<2*3=6>>6 eggs.\nThat is 6+1=<<6+1=7>>7.\n#### 7";
        assert_eq!(steps(answer), "He buys 2*3=6 eggs.\nThat is 6+1=7.");
        assert_eq!(expressions(answer), ["2*3", "6+1"]);
        assert_eq!(expressions("There are 4 bags of 3. 4 * 3 = 12. Then 12 - 2 = 10.\n#### 10"), ["4 * 3", "12 - 2"]);
    }
}
