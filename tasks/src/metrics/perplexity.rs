//! Perplexity per word and per byte, and bits per byte, of whole pages.
//!
//! ```text
//! word_ppl = exp(−ΣLL / Σwords)    byte_ppl = exp(−ΣLL / Σbytes)    bits_per_byte = −ΣLL / (Σbytes · ln 2)
//! ```
//! with LL the loglikelihood of a page in nats. Always the ratio of sums: the mean of per-page ratios is another, page-length dependent number.
//! Words = pieces between runs of white space, where white space at either end adds an empty piece that counts; bytes = UTF-8; both of the page
//! before detokenisation. Lower is better. No units at all, or a loglikelihood that is not finite, is an error. No standard error.
//!
//! Source: EleutherAI/lm-evaluation-harness 0.4.13, `wikitext` and `weighted_perplexity`.

use super::{MetricError, text};

/// One page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageScore {
    /// Loglikelihood of the whole page in nats.
    pub loglikelihood: f64,
    /// [`word_count`] of the page.
    pub words: usize,
    /// UTF-8 bytes of the page.
    pub bytes: usize,
}

/// The three corpus values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// Per word.
    pub word_ppl: f64,
    /// Per UTF-8 byte.
    pub byte_ppl: f64,
    /// Code length, bit per byte.
    pub bits_per_byte: f64,
}

/// `len(re.split(r"\s+", page))`: at least 1.
pub fn word_count(page: &str) -> usize {
    let inner = text::split(page).count();
    if inner == 0 {
        return if page.is_empty() { 1 } else { 2 }; // one run of white space between two empty pieces
    }
    inner + usize::from(page.starts_with(text::is_space)) + usize::from(page.ends_with(text::is_space))
}

/// `exp(−Σ loglikelihood / Σ units)`.
///
/// # Errors
/// When there are no units, or a loglikelihood is not finite.
pub fn weighted_perplexity(items: &[(f64, usize)]) -> Result<f64, MetricError> {
    Ok(nats_per_unit("perplexity", items)?.exp())
}

/// `−Σ loglikelihood / (Σ bytes · ln 2)`.
///
/// # Errors
/// When there are no bytes, or a loglikelihood is not finite.
pub fn bits_per_byte(items: &[(f64, usize)]) -> Result<f64, MetricError> {
    Ok(nats_per_unit("bits_per_byte", items)? / std::f64::consts::LN_2)
}

fn nats_per_unit(metric: &'static str, items: &[(f64, usize)]) -> Result<f64, MetricError> {
    if let Some(index) = items.iter().position(|(ll, _)| !ll.is_finite()) {
        return Err(MetricError::NotFinite { metric, index, value: items[index].0 });
    }
    let units: usize = items.iter().map(|(_, n)| n).sum();
    if units == 0 {
        return Err(MetricError::TooFew { metric, what: "units of text", expected: 1, found: 0 });
    }
    Ok(-items.iter().map(|(ll, _)| ll).sum::<f64>() / units as f64)
}

/// The three values of a set of pages.
///
/// # Errors
/// When there is no text, or a loglikelihood is not finite.
pub fn perplexity(pages: &[PageScore]) -> Result<Perplexity, MetricError> {
    let words: Vec<_> = pages.iter().map(|p| (p.loglikelihood, p.words)).collect();
    let bytes: Vec<_> = pages.iter().map(|p| (p.loglikelihood, p.bytes)).collect();
    Ok(Perplexity {
        word_ppl: weighted_perplexity(&words)?,
        byte_ppl: weighted_perplexity(&bytes)?,
        bits_per_byte: bits_per_byte(&bytes)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_of_sums_not_mean_of_ratios() {
        // 8 bits over 2 bytes and 1 bit over 1 byte: 9/3 = 3 bits per byte; the mean of ratios would be 2.5
        let ln2 = std::f64::consts::LN_2;
        let pages =
            [PageScore { loglikelihood: -8.0 * ln2, words: 1, bytes: 2 }, PageScore { loglikelihood: -ln2, words: 2, bytes: 1 }];
        let p = perplexity(&pages).unwrap();
        assert!((p.bits_per_byte - 3.0).abs() < 1e-12);
        assert!((p.byte_ppl - 8.0).abs() < 1e-12);
        assert!((p.word_ppl - 8.0).abs() < 1e-12);
    }

    #[test]
    fn empty_pieces_at_the_ends_are_words() {
        assert_eq!(["", "a", " a", "a ", " a  b ", "  "].map(word_count), [1, 1, 2, 2, 4, 2]);
    }

    #[test]
    fn no_text_and_no_number_are_errors() {
        assert!(matches!(bits_per_byte(&[(-1.0, 0)]), Err(MetricError::TooFew { .. })));
        assert!(matches!(weighted_perplexity(&[(f64::NEG_INFINITY, 3)]), Err(MetricError::NotFinite { .. })));
    }
}
