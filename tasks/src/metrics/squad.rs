//! SQuAD exact match and token F1 (also TyDi QA GoldP).
//!
//! ```text
//! normal(t) = lower-case, ASCII punctuation deleted, whole words a/an/the -> space, white space collapsed
//! EM = 1 if normal(p) = normal(a)
//! F1 = 2·P·R / (P + R),   P = |p ∩ a| / |p|,   R = |p ∩ a| / |a|     over the multisets of tokens of the normal forms; 0 when p ∩ a is empty
//! ```
//! Each is the maximum over the answers. Unit: fraction; higher is better. A question without answers is an error.
//!
//! Source: Rajpurkar et al. 2016, the SQuAD 1.1 evaluation script, as in huggingface/evaluate.

use super::{MetricError, text};
use std::collections::HashMap;

/// Scores of one question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SquadScore {
    /// 0 or 1.
    pub exact_match: f64,
    /// 0..=1.
    pub f1: f64,
}

/// The normal form.
pub fn normalize(answer: &str) -> String {
    let mut answer = answer.to_lowercase();
    answer.retain(|c| !c.is_ascii_punctuation());
    text::collapse_spaces(&text::replace_word(&answer, &["a", "an", "the"], " ", |_| false))
}

/// Token F1 of two texts.
pub fn token_f1(prediction: &str, answer: &str) -> f64 {
    let (prediction, answer) = (normalize(prediction), normalize(answer));
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for token in text::split(&answer) {
        *counts.entry(token).or_default() += 1;
    }
    let mut common = 0;
    let mut predicted = 0;
    for token in text::split(&prediction) {
        predicted += 1;
        if let Some(left) = counts.get_mut(token).filter(|left| **left > 0) {
            *left -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return 0.0;
    }
    let precision = common as f64 / predicted as f64;
    let recall = common as f64 / text::split(&answer).count() as f64;
    (2.0 * precision * recall) / (precision + recall)
}

/// Maximum over the answers.
///
/// # Errors
/// When there are no answers.
pub fn score<S: AsRef<str>>(prediction: &str, answers: &[S]) -> Result<SquadScore, MetricError> {
    if answers.is_empty() {
        return Err(MetricError::TooFew { metric: "f1", what: "answers", expected: 1, found: 0 });
    }
    let normal = normalize(prediction);
    let exact = answers.iter().any(|a| normalize(a.as_ref()) == normal);
    let f1 = answers.iter().map(|a| token_f1(prediction, a.as_ref())).fold(0.0, f64::max);
    Ok(SquadScore { exact_match: f64::from(exact), f1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_worked_f1() {
        // normal forms `eiffel tower` and `eiffel tower paris`: P = 1, R = 2/3
        assert!((token_f1("the Eiffel Tower", "Eiffel tower, Paris") - 0.8).abs() < 1e-12);
        // P = 1/2, R = 1
        assert!((token_f1("in 1889", "1889") - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(token_f1("", "x"), 0.0);
        assert_eq!(token_f1("x x", "x"), 2.0 / 3.0); // multiset: one of the two counts
    }

    #[test]
    fn two_empty_normal_forms_match_but_share_no_token() {
        assert_eq!(score("The.", &["a"]).unwrap(), SquadScore { exact_match: 1.0, f1: 0.0 });
    }

    #[test]
    fn best_answer_counts() {
        assert_eq!(score("An answer!", &["other", "answer"]).unwrap(), SquadScore { exact_match: 1.0, f1: 1.0 });
        assert!(matches!(score::<&str>("x", &[]), Err(MetricError::TooFew { .. })));
    }
}
