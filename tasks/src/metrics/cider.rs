//! CIDEr of captions (the COCO tool's "CIDEr", which papers call CIDEr-D without stemming).
//!
//! ```text
//! entry      tf · (ln N − ln max(1, df))       tf = count of the n-gram, N = images, df = images with a reference that holds it
//! sim_n      Σ_{g in h} min(h_g, r_g)·r_g / (‖h‖_n ‖r‖_n) · exp(−(len_h − len_r)² / (2·6²)),   len = number of bigrams
//! image      10 · mean over n = 1..4 of mean over references;       score = mean over images
//! ```
//! Input: captions already tokenised ([`super::ptb`]), tokens apart by white space. Unit: 1, 0..10 (papers print it ×100); higher is better.
//! The weights come from the evaluated set, so a part of a set has other scores than the whole: not comparable. With one image every weight is 0,
//! so fewer than two images are an error, as is an image without reference.
//!
//! Source: Vedantam et al. 2015 (arXiv:1411.5726) §5–6; tylin/coco-caption `cider_scorer.py`.

use super::{MetricError, text};
use std::collections::{HashMap, HashSet};

/// Longest n-gram.
const MAX_ORDER: usize = 4;
/// σ of the length penalty, in bigrams.
const SIGMA: f64 = 6.0;
/// The scale that the authors chose.
const SCALE: f64 = 10.0;

/// Score of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionScore {
    /// Mean over images.
    pub score: f64,
    /// In image order.
    pub per_image: Vec<f64>,
}

/// Checks that every image has references; used by the three caption metrics.
pub(super) fn check_images<H, R>(
    metric: &'static str,
    least: usize,
    hypotheses: &[H],
    references: &[Vec<R>],
) -> Result<(), MetricError> {
    if hypotheses.len() != references.len() {
        let (expected, found) = (hypotheses.len(), references.len());
        return Err(MetricError::LengthMismatch { metric, what: "images with references", expected, found });
    }
    if hypotheses.len() < least {
        return Err(MetricError::TooFew { metric, what: "images", expected: least, found: hypotheses.len() });
    }
    if references.iter().any(Vec::is_empty) {
        return Err(MetricError::TooFew { metric, what: "references of each image", expected: 1, found: 0 });
    }
    Ok(())
}

/// n-grams as numbers, so that captions are compared without touching their text again.
#[derive(Default)]
struct Interner<'t> {
    words: HashMap<&'t str, u32>,
    ngrams: HashMap<(usize, [u32; MAX_ORDER]), usize>,
}

/// n-grams of one caption by order, each with its count, in order of first appearance.
type Counts = [Vec<(usize, f64)>; MAX_ORDER];

impl<'t> Interner<'t> {
    fn counts(&mut self, caption: &'t str) -> Counts {
        let words: Vec<u32> = text::split(caption)
            .map(|word| {
                let next = self.words.len() as u32;
                *self.words.entry(word).or_insert(next)
            })
            .collect();
        std::array::from_fn(|order| {
            let mut counts: Vec<(usize, f64)> = Vec::new();
            let mut place: HashMap<usize, usize> = HashMap::new();
            for window in words.windows(order + 1) {
                let mut key = [u32::MAX; MAX_ORDER];
                key[..=order].copy_from_slice(window);
                let next = self.ngrams.len();
                let id = *self.ngrams.entry((order, key)).or_insert(next);
                let at = *place.entry(id).or_insert(counts.len());
                if at == counts.len() {
                    counts.push((id, 0.0));
                }
                counts[at].1 += 1.0;
            }
            counts
        })
    }
}

/// A caption as one weighted vector per order.
struct Vectors {
    entries: Counts,
    norms: [f64; MAX_ORDER],
    length: f64,
}

impl Vectors {
    fn new(counts: &Counts, weights: &[f64]) -> Self {
        let length = counts[1].iter().map(|(_, count)| count).sum();
        let entries: Counts = std::array::from_fn(|n| counts[n].iter().map(|&(id, count)| (id, count * weights[id])).collect());
        let norms = std::array::from_fn(|n| entries[n].iter().map(|(_, w)| w * w).sum::<f64>().sqrt());
        Self { entries, norms, length }
    }

    /// Sum over orders of the similarity to a reference.
    fn similarity(&self, reference: &Self) -> f64 {
        let delta = self.length - reference.length;
        let penalty = (-(delta * delta) / (2.0 * SIGMA * SIGMA)).exp();
        (0..MAX_ORDER)
            .map(|n| {
                let other: HashMap<usize, f64> = reference.entries[n].iter().copied().collect();
                let overlap: f64 = self.entries[n].iter().filter_map(|(id, h)| other.get(id).map(|r| h.min(*r) * r)).sum();
                let norm = self.norms[n] * reference.norms[n];
                penalty * if norm == 0.0 { overlap } else { overlap / norm }
            })
            .sum()
    }
}

/// CIDEr of one hypothesis per image against its references.
///
/// # Errors
/// When there are fewer than two images, the lists differ in length, or an image has no reference.
pub fn cider<H: AsRef<str>, R: AsRef<str>>(hypotheses: &[H], references: &[Vec<R>]) -> Result<CaptionScore, MetricError> {
    check_images("cider", 2, hypotheses, references)?;
    let mut interner = Interner::default();
    let ref_counts: Vec<Vec<Counts>> =
        references.iter().map(|refs| refs.iter().map(|r| interner.counts(r.as_ref())).collect()).collect();
    let hyp_counts: Vec<Counts> = hypotheses.iter().map(|h| interner.counts(h.as_ref())).collect();

    let mut frequency = vec![0.0f64; interner.ngrams.len()]; // images that hold the n-gram in a reference
    for image in &ref_counts {
        let seen: HashSet<usize> = image.iter().flatten().flatten().map(|(id, _)| *id).collect();
        for id in seen {
            frequency[id] += 1.0;
        }
    }
    let log_images = (hypotheses.len() as f64).ln();
    let weights: Vec<f64> = frequency.iter().map(|df| log_images - df.max(1.0).ln()).collect();

    let per_image: Vec<f64> = hyp_counts
        .iter()
        .zip(&ref_counts)
        .map(|(hypothesis, references)| {
            let hypothesis = Vectors::new(hypothesis, &weights);
            let sum: f64 = references.iter().map(|r| hypothesis.similarity(&Vectors::new(r, &weights))).sum();
            SCALE * sum / MAX_ORDER as f64 / references.len() as f64
        })
        .collect();
    Ok(CaptionScore { score: per_image.iter().sum::<f64>() / per_image.len() as f64, per_image })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the COCO tool.
    #[test]
    fn three_images() {
        let hypotheses = ["a man riding a horse on a beach", "two dogs play in the snow", "a red bus"];
        let references = [
            vec!["a man rides a horse along the beach", "person riding a brown horse on a sandy beach"],
            vec!["two dogs playing in snow", "a pair of dogs run through the snow"],
            vec!["a red double decker bus on a city street", "a bus drives down the road"],
        ];
        let cider = cider(&hypotheses, &references).unwrap();
        for (found, expected) in cider.per_image.iter().zip([2.56165174, 1.89350025, 1.02353691]) {
            assert!((found - expected).abs() < 1e-8, "{found} {expected}");
        }
        assert!((cider.score - 1.82622963).abs() < 1e-8);
    }

    #[test]
    fn equal_rare_captions_score_ten() {
        let captions = ["a b c d e", "f g h i j"];
        let references = captions.map(|c| vec![c]);
        assert!((cider(&captions, &references).unwrap().score - 10.0).abs() < 1e-12);
    }

    #[test]
    fn one_image_has_no_weights() {
        assert!(matches!(cider(&["a"], &[vec!["a"]]), Err(MetricError::TooFew { what: "images", .. })));
        assert!(matches!(cider::<_, &str>(&["a", "b"], &[vec![], vec![]]), Err(MetricError::TooFew { .. })));
        assert!(matches!(cider(&["a", "b"], &[vec!["a"]]), Err(MetricError::LengthMismatch { .. })));
    }
}
