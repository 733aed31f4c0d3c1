//! ANLS, average normalised Levenshtein similarity (DocVQA).
//!
//! ```text
//! t(x)  = lower-case, white space stripped and collapsed
//! NL    = levenshtein(t(a), t(p)) / max(|upper(a)|, |upper(p)|)       lengths in code points, of the texts as given; 0 when both are empty
//! s     = 1 − min over answers of NL;   score = s if s ≥ 0.5, else 0
//! ```
//! Unit: fraction; higher is better. A question without answers is an error.
//!
//! Differs from the paper, which zeroes NL ≥ 0.5: at NL = 0.5 exactly the reference implementation keeps 0.5, and so do we.
//!
//! Source: Biten et al. 2019 (arXiv:1905.13648) eq. 1; EvolvingLMMs-Lab/lmms-eval `anls`.

use super::{MetricError, text};

/// Similarities below this count as 0.
const THRESHOLD: f64 = 0.5;

/// Edits (insert, delete, replace) between two texts, in code points.
pub fn levenshtein(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect(); // row[j] = distance of the prefix of `a` seen so far and b[..j]
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// ANLS of one prediction.
///
/// # Errors
/// When there are no answers.
pub fn anls<S: AsRef<str>>(prediction: &str, answers: &[S]) -> Result<f64, MetricError> {
    if answers.is_empty() {
        return Err(MetricError::TooFew { metric: "anls", what: "answers", expected: 1, found: 0 });
    }
    let upper_len = |t: &str| t.to_uppercase().chars().count();
    let clean = |t: &str| text::collapse_spaces(&text::strip(t).to_lowercase());
    let predicted = clean(prediction);
    let mut nearest = f64::INFINITY;
    for answer in answers {
        let answer = answer.as_ref();
        let length = upper_len(answer).max(upper_len(prediction));
        let distance = levenshtein(&clean(answer), &predicted) as f64;
        nearest = nearest.min(if length == 0 { 0.0 } else { distance / length as f64 });
    }
    let similarity = 1.0 - nearest;
    Ok(if similarity < THRESHOLD { 0.0 } else { similarity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance() {
        assert_eq!(levenshtein("kitten", "sitting"), 3);
        assert_eq!(levenshtein("", "日本"), 2);
        assert_eq!(levenshtein("abc", "abc"), 0);
    }

    #[test]
    fn reference_values() {
        assert_eq!(anls("ITC Limited", &["itc limited"]).unwrap(), 1.0);
        assert!((anls("itc ltd", &["ITC Limited"]).unwrap() - 7.0 / 11.0).abs() < 1e-12); // 4 edits of 11
        assert_eq!(anls("abxy", &["abcd"]).unwrap(), 0.5); // the boundary is kept
        assert_eq!(anls("axyz", &["abcd"]).unwrap(), 0.0);
        assert!((anls(" 1988. ", &["1988", "in 1988"]).unwrap() - 6.0 / 7.0).abs() < 1e-12); // 1 edit of 7, spaces counted
        assert_eq!(anls("", &[""]).unwrap(), 1.0);
    }

    #[test]
    fn no_answer_is_an_error() {
        assert!(matches!(anls::<&str>("x", &[]), Err(MetricError::TooFew { .. })));
    }
}
