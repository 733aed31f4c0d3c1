//! Answer filters: what is cut out of a generated text before it is compared.
//!
//! ```text
//! regex              all non-overlapping matches; the one at `group_select` (0 = first, -1 = last); of several groups the first that is not
//!                    empty; white space stripped; no match -> `[invalid]`
//! remove_whitespace  white space stripped at both ends
//! take_first         the first of the repeats
//! majority_vote      the most frequent of the repeats, the earliest among equals
//! ```
//! A [`FilterChain`] applies its steps to the repeats of one document and ends with one answer.
//!
//! Source: EleutherAI/lm-evaluation-harness 0.4.13, `lm_eval/filters/{extraction,selection}.py`.

use crate::metrics::{MetricError, pattern::Pattern, text};

/// What the regex filter answers when nothing matches.
pub const INVALID: &str = "[invalid]";

/// One step.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Extracts by pattern.
    Regex(RegexFilter),
    /// Strips both ends.
    RemoveWhitespace,
    /// Keeps the first repeat.
    TakeFirst,
    /// Keeps the most frequent repeat.
    MajorityVote,
}

/// The extracting step.
#[derive(Clone, Debug)]
pub struct RegexFilter {
    pattern: Pattern,
    group_select: isize,
    fallback: String,
}

impl RegexFilter {
    /// `group_select` is the index of the **match** (despite its name, which is the reference's); negative counts from the end.
    ///
    /// # Errors
    /// When the pattern does not compile.
    pub fn new(pattern: &str, group_select: isize) -> Result<Self, MetricError> {
        Ok(Self { pattern: Pattern::new("regex filter", pattern)?, group_select, fallback: INVALID.to_owned() })
    }

    /// Another answer than `[invalid]` when nothing matches.
    #[must_use]
    pub fn with_fallback(mut self, fallback: &str) -> Self {
        fallback.clone_into(&mut self.fallback);
        self
    }

    /// The extracted answer.
    ///
    /// # Errors
    /// When the engine gives up, or `group_select` points past the matches (the reference stops there too).
    pub fn apply(&self, response: &str) -> Result<String, MetricError> {
        let matches = self.pattern.find_all(response)?;
        if matches.is_empty() {
            return Ok(self.fallback.clone());
        }
        let from_end = self.group_select < 0;
        let distance = self.group_select.unsigned_abs();
        let index = if from_end { matches.len().checked_sub(distance) } else { Some(distance) };
        let Some(groups) = index.and_then(|i| matches.get(i)) else {
            let limit = if from_end { matches.len() } else { matches.len() - 1 };
            return Err(MetricError::OutOfRange { metric: "regex filter", what: "group_select", limit, found: distance });
        };
        let answer = match groups.as_slice() {
            [only] => only, // a single group may be empty
            several => match several.iter().find(|g| !g.is_empty()) {
                Some(group) => group,
                None => return Ok(text::strip(&self.fallback).to_owned()),
            },
        };
        Ok(text::strip(answer).to_owned())
    }
}

/// A named sequence of steps.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// Name shown beside the metric: `exact_match,strict-match`.
    pub name: String,
    /// Steps in order.
    pub steps: Vec<Filter>,
}

impl FilterChain {
    /// Runs all steps on the repeats of one document; of what is left, the first is the answer.
    ///
    /// # Errors
    /// When there is no response, or a step fails.
    pub fn apply<S: AsRef<str>>(&self, responses: &[S]) -> Result<String, MetricError> {
        let mut texts: Vec<String> = responses.iter().map(|r| r.as_ref().to_owned()).collect();
        for step in &self.steps {
            texts = match step {
                Filter::Regex(regex) => texts.iter().map(|t| regex.apply(t)).collect::<Result<_, _>>()?,
                Filter::RemoveWhitespace => texts.iter().map(|t| text::strip(t).to_owned()).collect(),
                Filter::TakeFirst => texts.into_iter().take(1).collect(),
                Filter::MajorityVote => majority(texts).into_iter().collect(),
            };
        }
        texts.into_iter().next().ok_or(MetricError::TooFew { metric: "filter", what: "responses", expected: 1, found: 0 })
    }
}

/// The most frequent text; the earliest wins ties.
fn majority(texts: Vec<String>) -> Option<String> {
    let mut best: Option<(usize, &String)> = None;
    for text in &texts {
        let count = texts.iter().filter(|other| *other == text).count();
        if best.is_none_or(|(most, _)| count > most) {
            best = Some((count, text));
        }
    }
    best.map(|(_, text)| text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(text: &str) -> String {
        RegexFilter::new(r"The answer is (\-?[0-9\.\,]+).", 0).unwrap().apply(text).unwrap()
    }

    fn flexible(text: &str) -> String {
        RegexFilter::new(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1).unwrap().apply(text).unwrap()
    }

    /// The strict pattern wants one more character after the number: quirks of the reference, values computed with it.
    #[test]
    fn strict_match_of_gsm8k() {
        assert_eq!(strict("The answer is 18"), "1");
        assert_eq!(strict("The answer is 6"), INVALID);
        assert_eq!(strict("The answer is 6."), "6");
        assert_eq!(strict("The answer is 1,000.\n"), "1,000");
        assert_eq!(strict("The answer is $5."), INVALID);
        assert_eq!(strict("The answer is 3.5 dollars"), "3.5");
    }

    #[test]
    fn flexible_extract_takes_the_last() {
        assert_eq!(flexible("so 3, 4."), "4.");
        assert_eq!(flexible("$29.00."), "$29.00.");
        assert_eq!(flexible("x=1-2"), "-2");
        assert_eq!(flexible("is 7"), "7");
        assert_eq!(flexible("none"), INVALID);
        let third = RegexFilter::new("[0-9]", -3).unwrap();
        assert_eq!(third.apply("1 2 3").unwrap(), "1");
        assert!(matches!(third.apply("1 2"), Err(MetricError::OutOfRange { limit: 2, found: 3, .. })));
    }

    #[test]
    fn chain_ends_with_one_answer() {
        let chain = FilterChain {
            name: "maj".to_owned(),
            steps: vec![Filter::RemoveWhitespace, Filter::MajorityVote, Filter::TakeFirst],
        };
        assert_eq!(chain.apply(&["b", " a", "a ", "b"]).unwrap(), "b"); // 2 to 2: the earliest
        assert!(matches!(chain.apply::<&str>(&[]), Err(MetricError::TooFew { .. })));
    }
}
