//! BLEU-1..4 of captions, as the COCO tool computes them; not sacreBLEU ([`super::bleu`]).
//!
//! ```text
//! BLEU-n = (∏_{k=1..n} (matches_k + 1e-15) / (total_k + 1e-9))^(1/n) · exp(1 − 1/ratio) when ratio < 1
//! ratio  = (hyp_len + 1e-15) / (ref_len + 1e-9)        ref_len: the closest reference of each image, the shorter of two
//! ```
//! Input: captions already tokenised, tokens apart by white space. Unit: fraction; higher is better. No smoothing but the two tiny constants. A corpus
//! metric. Fewer than one image, and an image without reference, are errors.
//!
//! Source: tylin/coco-caption `bleu_scorer.py`, option `closest`.

use super::cider::check_images;
use super::{MetricError, text};
use std::collections::HashMap;

/// Longest n-gram.
const MAX_ORDER: usize = 4;
/// Keeps empty counts from dividing by zero.
const SMALL: f64 = 1e-9;
/// Keeps the score of a caption without match just above 0.
const TINY: f64 = 1e-15;

fn count_ngrams<'t>(tokens: &[&'t str]) -> HashMap<Vec<&'t str>, usize> {
    let mut counts = HashMap::new();
    for n in 1..=MAX_ORDER {
        for ngram in tokens.windows(n) {
            *counts.entry(ngram.to_vec()).or_default() += 1;
        }
    }
    counts
}

/// BLEU-1, -2, -3 and -4 of a set of images.
///
/// # Errors
/// When there are no images, the lists differ in length, or an image has no reference.
pub fn coco_bleu<H: AsRef<str>, R: AsRef<str>>(hypotheses: &[H], references: &[Vec<R>]) -> Result<[f64; MAX_ORDER], MetricError> {
    check_images("bleu", 1, hypotheses, references)?;
    let (mut hyp_len, mut ref_len) = (0, 0);
    let (mut matches, mut totals) = ([0; MAX_ORDER], [0; MAX_ORDER]);
    for (hypothesis, references) in hypotheses.iter().zip(references) {
        let tokens: Vec<&str> = text::split(hypothesis.as_ref()).collect();
        let references: Vec<Vec<&str>> = references.iter().map(|r| text::split(r.as_ref()).collect()).collect();
        let mut most: HashMap<Vec<&str>, usize> = HashMap::new();
        for (ngram, count) in references.iter().flat_map(|r| count_ngrams(r)) {
            let entry = most.entry(ngram).or_default();
            *entry = count.max(*entry);
        }
        for (ngram, count) in count_ngrams(&tokens) {
            matches[ngram.len() - 1] += count.min(most.get(&ngram).copied().unwrap_or(0));
        }
        for (n, total) in totals.iter_mut().enumerate() {
            *total += tokens.len().saturating_sub(n);
        }
        let closest = references.iter().map(|r| (r.len().abs_diff(tokens.len()), r.len())).min();
        ref_len += closest.map_or(0, |(_, length)| length);
        hyp_len += tokens.len();
    }
    let ratio = (hyp_len as f64 + TINY) / (ref_len as f64 + SMALL);
    let penalty = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
    let mut product = 1.0;
    Ok(std::array::from_fn(|n| {
        product *= (matches[n] as f64 + TINY) / (totals[n] as f64 + SMALL);
        product.powf(1.0 / (n + 1) as f64) * penalty
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_worked_counts() {
        // unigrams 3/4, bigrams 1/3, no trigram; lengths 4 and 4
        let bleu = coco_bleu(&["a b x c"], &[vec!["a b c d"]]).unwrap();
        assert!((bleu[0] - 0.75).abs() < 1e-8);
        assert!((bleu[1] - (0.75f64 / 3.0).sqrt()).abs() < 1e-8);
        assert!(bleu[2] > 0.0 && bleu[2] < 1e-4);
    }

    #[test]
    fn brevity_looks_at_the_closest_reference() {
        let bleu = coco_bleu(&["a b"], &[vec!["a b c", "a b c d e"]]).unwrap();
        assert!((bleu[0] - (1.0f64 - 1.5).exp()).abs() < 1e-8);
        assert!(matches!(coco_bleu::<&str, &str>(&[], &[]), Err(MetricError::TooFew { .. })));
    }
}
