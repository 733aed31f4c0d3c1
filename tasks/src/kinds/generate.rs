//! Generated answers: filters, then a comparison with the gold answer.
//!
//! ```text
//! answer_f = filter_f(text)         exact_match,f = clean(answer_f) == clean(reference)
//! numeric  = last number after the last `answer is`, else the last number; compared as exact decimals (canonical only)
//! ```
//! MATH, SQuAD and translation have scorers of their own and no filters.

use serde_json::Value;

use crate::definition::{FilterSection, Leaf, ScorerSection};
use crate::doc::{Doc, DocScores, MetricValue};
use crate::error::TaskError;
use crate::filters::{Filter, FilterChain, INVALID, RegexFilter};
use crate::metrics::exact_match::ExactMatch;
use crate::metrics::{MetricError, math, squad};

/// A compiled `[scorer]` with its filters.
#[derive(Debug)]
pub(super) enum Scorer {
    ExactMatch {
        filters: Vec<NamedFilter>,
        compare: ExactMatch,
    },
    HendrycksMath,
    MinervaMath,
    Squad,
    Translation,
    /// The score needs a verdict: `program.rs`.
    Program,
}

/// A filter and how its answer is compared.
#[derive(Debug)]
pub(super) struct NamedFilter {
    extract: Extract,
    decimal: bool,
    name: String,
}

#[derive(Debug)]
enum Extract {
    Chain(FilterChain),
    LastNumber,
}

impl NamedFilter {
    fn new(section: &FilterSection) -> Result<Self, MetricError> {
        let extract = match (&section.regex, section.strip_left, section.last_number) {
            (Some(pattern), false, false) => {
                Extract::Chain(chain(section, Filter::Regex(RegexFilter::new(pattern, section.group_select as isize)?)))
            }
            (None, true, false) => Extract::Chain(chain(section, Filter::RemoveWhitespace)),
            (None, false, true) => Extract::LastNumber,
            _ => {
                let reason = "expected exactly one of regex, strip_left, last_number".to_owned();
                return Err(MetricError::Pattern { what: "filter", pattern: section.name.clone(), reason });
            }
        };
        Ok(Self { extract, decimal: section.decimal, name: section.name.clone() })
    }

    fn answer(&self, text: &str) -> Result<String, MetricError> {
        match &self.extract {
            Extract::Chain(chain) => chain.apply(&[text]),
            Extract::LastNumber => Ok(last_number(text).unwrap_or_else(|| INVALID.to_owned())),
        }
    }
}

fn chain(section: &FilterSection, step: Filter) -> FilterChain {
    FilterChain { name: section.name.clone(), steps: vec![step, Filter::TakeFirst] }
}

impl Scorer {
    pub(super) fn new(leaf: &Leaf, section: &ScorerSection) -> Result<Self, TaskError> {
        let definition =
            |e: MetricError| TaskError::Definition { definition: leaf.spec.definition.clone(), message: e.to_string() };
        match section {
            ScorerSection::ExactMatch { ignore_case, ignore_punctuation, ignore_regexes, .. } => {
                let mut compare = ExactMatch::new().ignore_regexes(ignore_regexes).map_err(definition)?;
                if *ignore_case {
                    compare = compare.ignore_case();
                }
                if *ignore_punctuation {
                    compare = compare.ignore_punctuation();
                }
                let filters = leaf.filters.iter().map(NamedFilter::new).collect::<Result<_, _>>().map_err(definition)?;
                Ok(Self::ExactMatch { filters, compare })
            }
            ScorerSection::HendrycksMath => Ok(Self::HendrycksMath),
            ScorerSection::MinervaMath => Ok(Self::MinervaMath),
            ScorerSection::Squad => Ok(Self::Squad),
            ScorerSection::Translation => Ok(Self::Translation),
            ScorerSection::ProgramPasses { .. } | ScorerSection::ProgramPrints { .. } => Ok(Self::Program),
        }
    }

    pub(super) fn score(&self, leaf: &Leaf, doc: &Doc, text: &str) -> Result<DocScores, TaskError> {
        let mut scores = DocScores::new(doc);
        let number = |right: bool| MetricValue::Number(f64::from(right));
        match self {
            Self::ExactMatch { filters, compare } => {
                let reference = leaf.templates.render("reference", doc)?;
                for filter in filters {
                    let answer = filter.answer(text).map_err(|e| leaf.metric_error(doc, &e))?;
                    let value = if filter.decimal {
                        let gold = last_number(&reference).and_then(|n| decimal(&n));
                        let gold = gold.ok_or_else(|| leaf.response_error(doc, "gold answer", "a decimal number", &reference))?;
                        number(decimal(&answer).is_some_and(|answer| answer == gold))
                    } else {
                        MetricValue::Number(compare.score(&answer, &reference).map_err(|e| leaf.metric_error(doc, &e))?)
                    };
                    scores.metrics.insert(format!("exact_match,{}", filter.name), value);
                    let is_primary = leaf.spec.primary_metric == format!("exact_match,{}", filter.name);
                    scores.is_unparsed |= is_primary && answer == INVALID;
                    scores.answers.insert(filter.name.clone(), answer);
                }
            }
            Self::HendrycksMath => {
                let gold = text_field(leaf, doc, "answer")?;
                let answer = math::hendrycks::extract_answer(text).to_owned();
                scores.metrics.insert("exact_match".to_owned(), number(math::hendrycks::is_equiv(&answer, gold)));
                scores.answers.insert("math".to_owned(), answer);
            }
            Self::MinervaMath => {
                let gold = math::minerva::normalize(text_field(leaf, doc, "answer")?);
                let extracted = math::minerva::extract_answer(text);
                scores.is_unparsed = extracted == math::minerva::INVALID;
                let answer = math::minerva::normalize(&extracted);
                scores.metrics.insert("math_exact".to_owned(), number(math::math_exact(&answer, &gold)));
                scores.metrics.insert("math_equiv".to_owned(), number(math::math_equiv(&answer, &gold)));
                scores.answers.insert("math".to_owned(), answer);
            }
            Self::Squad => {
                let list = doc.fields.get("answers").and_then(|a| a.get("text")).and_then(Value::as_array);
                let answers: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
                let found = squad::score(text, &answers).map_err(|e| leaf.metric_error(doc, &e))?;
                scores.metrics.insert("exact_match".to_owned(), MetricValue::Number(found.exact_match));
                scores.metrics.insert("f1".to_owned(), MetricValue::Number(found.f1));
            }
            Self::Translation => {
                let one_line = leaf.parameters.get("paragraphs").is_some_and(|p| p == "yes");
                let tidy = |t: &str| if one_line { t.trim().replace('\n', " ") } else { t.trim().to_owned() };
                let reference = tidy(text_field(leaf, doc, "target_text")?);
                for metric in &leaf.spec.metrics {
                    let texts = MetricValue::Texts { hypothesis: tidy(text), references: vec![reference.clone()] };
                    scores.metrics.insert(metric.name.clone(), texts);
                }
            }
            Self::Program => return Err(TaskError::NeedsExecutor { task: leaf.spec.name.clone() }),
        }
        Ok(scores)
    }
}

fn text_field<'d>(leaf: &Leaf, doc: &'d Doc, field: &str) -> Result<&'d str, TaskError> {
    doc.text(field).ok_or_else(|| leaf.response_error(doc, field, "a text", "none"))
}

/// The last number after the last `answer is` (any case), else the last number of the text, without thousands commas.
fn last_number(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase(); // ASCII only: byte positions stay those of `text`
    let tail = lower.rfind("answer is").map(|at| &text[at..]);
    tail.and_then(last_number_of).or_else(|| last_number_of(text))
}

/// The last maximal run `-?digits[,digits]*[.digits]`. A minus sign counts when no digit or letter stands before it.
fn last_number_of(text: &str) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = None;
    let mut i = 0;
    while i < chars.len() {
        let starts = chars[i].is_ascii_digit() || (chars[i] == '.' && chars.get(i + 1).is_some_and(char::is_ascii_digit));
        if !starts {
            i += 1;
            continue;
        }
        let start = i;
        let mut dotted = false;
        while i < chars.len() {
            let digit_follows = chars.get(i + 1).is_some_and(char::is_ascii_digit);
            match chars[i] {
                '0'..='9' => {}
                ',' if !dotted && digit_follows => {}
                '.' if !dotted && digit_follows => dotted = true,
                _ => break,
            }
            i += 1;
        }
        // `$` may stand between sign and number
        let mut before = start;
        if before > 0 && chars[before - 1] == '$' {
            before -= 1;
        }
        let minus =
            before > 0 && matches!(chars[before - 1], '-' | '\u{2212}') && !(before > 1 && chars[before - 2].is_alphanumeric());
        let digits: String = chars[start..i].iter().filter(|c| **c != ',').collect();
        found = Some(if minus { format!("-{digits}") } else { digits });
    }
    found
}

/// A number's one decimal spelling: no commas, no zeros at either end, no final point, no `-0`.
fn decimal(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches('$');
    let (minus, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start_matches('$')),
        None => (false, text),
    };
    let digits = digits.replace(',', "");
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let fraction = fraction.trim_end_matches('.');
    if (whole.is_empty() && fraction.is_empty()) || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let zero = whole.is_empty() && fraction.is_empty();
    let sign = if minus && !zero { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_after_the_answer_phrase_wins() {
        assert_eq!(last_number("I have 5. The answer is $1,200. Or so").as_deref(), Some("1200"));
        assert_eq!(last_number("The answer is 18").as_deref(), Some("18"));
        assert_eq!(last_number("3 apples and -2.50 left").as_deref(), Some("-2.50"));
        assert_eq!(last_number("10-4").as_deref(), Some("4")); // a difference, not a negative number
        assert_eq!(last_number("5 in all. The answer is unknown").as_deref(), Some("5"));
        assert_eq!(last_number("none"), None);
    }

    #[test]
    fn decimals_have_one_spelling() {
        for (text, expected) in
            [("3.0", "3"), ("03.50", "3.5"), (".5", "0.5"), ("-0.0", "0"), ("1,000.", "1000"), ("$29.00.", "29")]
        {
            assert_eq!(decimal(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", ".", "-", "..", "1.2.3", "x"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }
}
