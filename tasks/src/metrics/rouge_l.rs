//! ROUGE-L of captions, as the COCO tool computes it.
//!
//! ```text
//! P = max over references of LCS / |h|,  R = max over references of LCS / |r|;   F = (1 + β²) P R / (R + β² P),  β = 1.2;   0 when P or R is 0
//! ```
//! LCS = longest common subsequence in tokens. P and R may come from different references. Tokens are apart by single spaces, so an empty caption is
//! one empty token. Unit: fraction; higher is better; the score is the mean over images. No images, and an image without reference, are errors.
//!
//! Source: Lin 2004; tylin/coco-caption `rouge.py`.

use super::MetricError;
use super::cider::{CaptionScore, check_images};

/// Recall counts more than precision.
const BETA: f64 = 1.2;

fn common_subsequence(a: &[&str], b: &[&str]) -> usize {
    let mut row = vec![0; b.len() + 1]; // row[j] = length for the prefix of `a` seen so far and b[..j]
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

/// ROUGE-L of one hypothesis per image against its references.
///
/// # Errors
/// When there are no images, the lists differ in length, or an image has no reference.
pub fn rouge_l<H: AsRef<str>, R: AsRef<str>>(hypotheses: &[H], references: &[Vec<R>]) -> Result<CaptionScore, MetricError> {
    check_images("rouge_l", 1, hypotheses, references)?;
    let per_image: Vec<f64> = hypotheses
        .iter()
        .zip(references)
        .map(|(hypothesis, references)| {
            let hypothesis: Vec<&str> = hypothesis.as_ref().split(' ').collect();
            let (mut precision, mut recall) = (0f64, 0f64);
            for reference in references {
                let reference: Vec<&str> = reference.as_ref().split(' ').collect();
                let common = common_subsequence(&hypothesis, &reference) as f64;
                precision = precision.max(common / hypothesis.len() as f64);
                recall = recall.max(common / reference.len() as f64);
            }
            if precision == 0.0 || recall == 0.0 {
                return 0.0;
            }
            (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
        })
        .collect();
    Ok(CaptionScore { score: per_image.iter().sum::<f64>() / per_image.len() as f64, per_image })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsequences_need_not_be_adjacent() {
        assert_eq!(common_subsequence(&["a", "b", "c", "d"], &["a", "x", "c", "d", "b"]), 3);
        assert_eq!(common_subsequence(&[], &["a"]), 0);
    }

    #[test]
    fn precision_and_recall_are_maxima_of_their_own() {
        // `a b` against `a b c d`: P 1, R 1/2; against `a`: P 1/2, R 1 -> P = R = 1
        assert!((rouge_l(&["a b"], &[vec!["a b c d", "a"]]).unwrap().score - 1.0).abs() < 1e-12);
        // P = 1, R = 1/2: 2.44·0.5 / (0.5 + 1.44) = 0.628865…
        assert!((rouge_l(&["a b"], &[vec!["a b c d"]]).unwrap().score - 1.22 / 1.94).abs() < 1e-12);
        assert_eq!(rouge_l(&["x"], &[vec!["a"]]).unwrap().score, 0.0);
        assert!(matches!(rouge_l::<&str, &str>(&[], &[]), Err(MetricError::TooFew { .. })));
    }
}
