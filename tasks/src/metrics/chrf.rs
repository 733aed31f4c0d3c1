//! chrF and chrF++, equal to sacreBLEU 2.6.0.
//!
//! ```text
//! chrF = 100 · (1 + β²) · P · R / (β² · P + R),   β = 2
//! P, R = means over orders of matches/hyp and matches/ref, over the orders that both sides have
//! ```
//! Orders: character n-grams 1..6 of the text without white space; chrF++ adds word n-grams 1..2, a punctuation mark at the end (else at the start)
//! of a word being a word of its own. Counts are summed over the corpus; hypothesis n-grams of an order that the reference lacks are not counted;
//! of several references the one with the best segment score is used. Unit: percent, 0..100; higher is better. Segments without reference,
//! and an empty corpus, are errors. Report the [`signature`] with every score.
//!
//! Source: Popović 2015 (chrF), 2017 (chrF++); sacreBLEU 2.6.0 `metrics/chrf.py`.

use super::{MetricError, text};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::AddAssign;

/// Longest character n-gram.
const CHAR_ORDER: usize = 6;
/// Most orders: characters and, in chrF++, words.
const MAX_ORDERS: usize = CHAR_ORDER + 2;
/// β²: recall counts four times as much as precision.
const BETA_SQUARED: f64 = 4.0;

/// Which n-grams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChrfKind {
    /// Characters.
    Chrf,
    /// Characters and words.
    ChrfPlusPlus,
}

impl ChrfKind {
    /// Longest word n-gram.
    pub fn word_order(self) -> usize {
        match self {
            Self::Chrf => 0,
            Self::ChrfPlusPlus => 2,
        }
    }

    /// The metric's name.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Chrf => "chrf",
            Self::ChrfPlusPlus => "chrf++",
        }
    }
}

/// n-gram counts per order: characters 1..=6, then words 1..=2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChrfStats {
    /// Of the hypothesis.
    pub hyp: [u64; MAX_ORDERS],
    /// Of the reference.
    pub reference: [u64; MAX_ORDERS],
    /// In common.
    pub matches: [u64; MAX_ORDERS],
}

impl AddAssign for ChrfStats {
    fn add_assign(&mut self, other: Self) {
        for order in 0..MAX_ORDERS {
            self.hyp[order] += other.hyp[order];
            self.reference[order] += other.reference[order];
            self.matches[order] += other.matches[order];
        }
    }
}

impl ChrfStats {
    /// The score in percent; 0 when no order is on both sides. Orders that are not counted are zero and drop out.
    pub fn score(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
        for order in 0..MAX_ORDERS {
            if self.hyp[order] > 0 && self.reference[order] > 0 {
                precision += self.matches[order] as f64 / self.hyp[order] as f64;
                recall += self.matches[order] as f64 / self.reference[order] as f64;
                orders += 1.0;
            }
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        precision /= orders;
        recall /= orders;
        100.0 * ((1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall))
    }

    fn count<T: Eq + Hash>(&mut self, order: usize, hypothesis: &[T], reference: &[T], n: usize) {
        let mut left: HashMap<&[T], u64> = HashMap::new();
        for ngram in reference.windows(n) {
            *left.entry(ngram).or_default() += 1;
            self.reference[order] += 1;
        }
        if left.is_empty() {
            return; // the hypothesis is not charged for an order that the reference lacks
        }
        for ngram in hypothesis.windows(n) {
            self.hyp[order] += 1;
            if let Some(count) = left.get_mut(ngram).filter(|count| **count > 0) {
                *count -= 1;
                self.matches[order] += 1;
            }
        }
    }
}

/// Words with one punctuation mark split off: the last one, else the first.
fn words(sentence: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in text::split(sentence) {
        let (first, last) = (word.chars().next(), word.chars().last());
        if word.chars().count() == 1 {
            words.push(word);
        } else if last.is_some_and(|c| c.is_ascii_punctuation()) {
            words.extend([&word[..word.len() - 1], &word[word.len() - 1..]]);
        } else if first.is_some_and(|c| c.is_ascii_punctuation()) {
            words.extend([&word[..1], &word[1..]]);
        } else {
            words.push(word);
        }
    }
    words
}

/// Statistics of one segment against its best reference (the first of equals).
///
/// # Errors
/// When there are no references.
pub fn segment_stats<S: AsRef<str>>(kind: ChrfKind, hypothesis: &str, references: &[S]) -> Result<ChrfStats, MetricError> {
    let chars = |t: &str| -> Vec<char> { t.chars().filter(|c| !text::is_space(*c)).collect() };
    let (hyp_chars, hyp_words) = (chars(hypothesis), words(hypothesis));
    let mut best: Option<(f64, ChrfStats)> = None;
    for reference in references {
        let reference = reference.as_ref();
        let (ref_chars, ref_words) = (chars(reference), words(reference));
        let mut stats = ChrfStats::default();
        for n in 1..=CHAR_ORDER {
            stats.count(n - 1, &hyp_chars, &ref_chars, n);
        }
        for n in 1..=kind.word_order() {
            stats.count(CHAR_ORDER + n - 1, &hyp_words, &ref_words, n);
        }
        let score = stats.score();
        if best.is_none_or(|(highest, _)| score > highest) {
            best = Some((score, stats));
        }
    }
    best.map(|(_, stats)| stats).ok_or(MetricError::TooFew { metric: kind.metric(), what: "references", expected: 1, found: 0 })
}

/// Score of a corpus in percent; `references[i]` are the references of segment i.
///
/// # Errors
/// When there are no segments, the lists differ in length, or a segment has no reference.
pub fn corpus_chrf<H: AsRef<str>, R: AsRef<str>>(
    kind: ChrfKind,
    hypotheses: &[H],
    references: &[Vec<R>],
) -> Result<f64, MetricError> {
    let metric = kind.metric();
    if hypotheses.is_empty() {
        return Err(MetricError::TooFew { metric, what: "segments", expected: 1, found: 0 });
    }
    if hypotheses.len() != references.len() {
        let (expected, found) = (hypotheses.len(), references.len());
        return Err(MetricError::LengthMismatch { metric, what: "segments with references", expected, found });
    }
    let mut stats = ChrfStats::default();
    for (hypothesis, references) in hypotheses.iter().zip(references) {
        stats += segment_stats(kind, hypothesis.as_ref(), references)?;
    }
    Ok(stats.score())
}

/// The string to print beside a score, in sacreBLEU's form.
pub fn signature(kind: ChrfKind, num_references: usize) -> String {
    format!("nrefs:{num_references}|case:mixed|eff:yes|nc:{CHAR_ORDER}|nw:{}|space:no|version:2.6.0", kind.word_order())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_tool_values() {
        let hypotheses = ["The cat sat on the mat.", "Hello, world! It's 3.5 degrees."];
        let references = [vec!["The cat is on the mat."], vec!["Hello world! It is 3.5 degrees."]];
        assert!((corpus_chrf(ChrfKind::Chrf, &hypotheses, &references).unwrap() - 70.5678055).abs() < 1e-7);
        assert!((corpus_chrf(ChrfKind::ChrfPlusPlus, &hypotheses, &references).unwrap() - 69.6619534).abs() < 1e-7);
        assert_eq!(signature(ChrfKind::Chrf, 1), "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0");
    }

    #[test]
    fn one_mark_is_split_off_a_word() {
        assert_eq!(words("(hi) \"a ! b., ü"), ["(hi", ")", "\"", "a", "!", "b.", ",", "ü"]);
    }

    #[test]
    fn equal_text_is_100_and_disjoint_text_0() {
        assert!((corpus_chrf(ChrfKind::ChrfPlusPlus, &["a bc"], &[vec!["a bc"]]).unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(corpus_chrf(ChrfKind::Chrf, &["xyz"], &[vec!["abc"]]).unwrap(), 0.0);
        assert_eq!(corpus_chrf(ChrfKind::Chrf, &[""], &[vec![""]]).unwrap(), 0.0);
    }

    #[test]
    fn hypothesis_orders_beyond_the_reference_are_not_charged() {
        // reference `ab`: orders 1 and 2 only. hyp `abc`: P = (2/3 + 1/2)/2 = 7/12, R = 1 -> 5·P/(4·P + 1) = 0.875
        assert!((corpus_chrf(ChrfKind::Chrf, &["abc"], &[vec!["ab"]]).unwrap() - 87.5).abs() < 1e-9);
    }

    #[test]
    fn missing_references_are_an_error() {
        assert!(matches!(segment_stats::<&str>(ChrfKind::Chrf, "a", &[]), Err(MetricError::TooFew { .. })));
    }
}
