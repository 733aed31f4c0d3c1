//! Corpus BLEU, equal to sacreBLEU 2.6.0.
//!
//! ```text
//! BLEU = BP · exp( ¼ Σ_{n=1..4} ln p_n ),   p_n = 100 · matches_n / total_n over the whole corpus
//! BP   = exp(1 − r/c) when c < r, else 1        c, r = summed hypothesis and closest reference lengths
//! ```
//! Exponential smoothing: the k-th order without a match counts as p_n = 100 / (2^k · total_n). No match at any order gives 0, and so does a corpus
//! whose hypotheses are too short to hold a 4-gram. Unit: percent, 0..100; higher is better. A corpus metric: never averaged over segments; its
//! error is a bootstrap of [`BleuStats`]. Segments without reference, and an empty corpus, are errors. Report the [`signature`] with every score.
//!
//! Source: Papineni et al. 2002; Post 2018 (arXiv:1804.08771), sacreBLEU 2.6.0 `metrics/bleu.py`, `tokenizers/`; smoothing 3 of Chen and Cherry 2014.

use super::{MetricError, text};
use regex::Regex;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::LazyLock;

/// Longest n-gram.
pub const MAX_ORDER: usize = 4;

/// What the reference's logarithm gives for 0.
const LOG_ZERO: f64 = -9999999999.0;

/// How a segment is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BleuTokenizer {
    /// mteval-v13a, for languages with spaces.
    V13a,
    /// Chinese: characters apart, the rest as 13a without its entities.
    Zh,
    /// Characters.
    Char,
}

impl BleuTokenizer {
    /// Name in signatures.
    pub fn name(self) -> &'static str {
        match self {
            Self::V13a => "13a",
            Self::Zh => "zh",
            Self::Char => "char",
        }
    }

    /// The tokenizer of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::V13a, Self::Zh, Self::Char].into_iter().find(|t| t.name() == name)
    }

    /// Tokens joined by single spaces.
    pub fn tokenize(self, line: &str) -> String {
        match self {
            Self::V13a => tokenize_13a(line),
            Self::Zh => tokenize_zh(line),
            Self::Char => {
                let mut out = String::with_capacity(2 * line.len());
                for (i, c) in line.chars().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    out.push(c);
                }
                out
            }
        }
    }
}

/// Punctuation apart, but for periods, commas and dashes beside digits.
static WESTERN: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    [
        (r"([\{-~\[-` -\&\(-\+:-@/])", " ${1} "),
        (r"([^0-9])([\.,])", "${1} ${2} "),
        (r"([\.,])([^0-9])", " ${1} ${2}"),
        (r"([0-9])(-)", "${1} ${2} "),
    ]
    .map(|(pattern, with)| (Regex::new(pattern).expect("pattern is a literal"), with))
});

fn split_western(line: &str) -> String {
    let mut line = Cow::Borrowed(line);
    for (regex, with) in WESTERN.iter() {
        line = Cow::Owned(regex.replace_all(&line, *with).into_owned());
    }
    text::collapse_spaces(&line)
}

fn tokenize_13a(line: &str) -> String {
    let mut line = line.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if line.contains('&') {
        line = line.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    }
    split_western(&format!(" {line} "))
}

fn tokenize_zh(line: &str) -> String {
    let mut spaced = String::with_capacity(2 * line.len());
    for c in text::strip(line).chars() {
        if is_chinese(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    split_western(&spaced)
}

/// Characters that stand alone. The reference writes its two ranges beyond the basic plane with four hex digits plus a stray one, which as text
/// comparisons cover U+2001..U+2A6D and U+2F81..U+2FA1 instead: general punctuation, arrows and box drawing are cut, extension B is not. Kept.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{2001}'..='\u{2a6d}' | '\u{2e80}'..='\u{2eff}' | '\u{2f00}'..='\u{2fdf}' | '\u{2ff0}'..='\u{303f}' | '\u{3100}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}' | '\u{31c0}'..='\u{31ef}' | '\u{3200}'..='\u{33ff}' | '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fbb}'
        | '\u{f900}'..='\u{fa2d}' | '\u{fa30}'..='\u{fa6a}' | '\u{fa70}'..='\u{fad9}' | '\u{fe10}'..='\u{fe1f}' | '\u{fe30}'..='\u{fe4f}'
        | '\u{ff00}'..='\u{ffef}')
}

/// Sufficient statistics of one segment, or of many by addition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuStats {
    /// Tokens of the hypothesis.
    pub hyp_len: u64,
    /// Tokens of the closest reference.
    pub ref_len: u64,
    /// Clipped n-gram matches, orders 1..=4.
    pub matches: [u64; MAX_ORDER],
    /// n-grams of the hypothesis, orders 1..=4.
    pub totals: [u64; MAX_ORDER],
}

impl AddAssign for BleuStats {
    fn add_assign(&mut self, other: Self) {
        self.hyp_len += other.hyp_len;
        self.ref_len += other.ref_len;
        for n in 0..MAX_ORDER {
            self.matches[n] += other.matches[n];
            self.totals[n] += other.totals[n];
        }
    }
}

/// A score with what it is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BleuScore {
    /// Percent.
    pub score: f64,
    /// Smoothed precisions in percent.
    pub precisions: [f64; MAX_ORDER],
    /// BP.
    pub brevity_penalty: f64,
    /// The counts.
    pub stats: BleuStats,
}

impl BleuStats {
    /// BLEU of the summed statistics.
    pub fn score(&self) -> BleuScore {
        let (hyp_len, ref_len) = (self.hyp_len as f64, self.ref_len as f64);
        let brevity_penalty = match (self.hyp_len, self.hyp_len < self.ref_len) {
            (_, false) => 1.0,
            (0, true) => 0.0,
            (_, true) => (1.0 - ref_len / hyp_len).exp(),
        };
        let mut precisions = [0.0; MAX_ORDER];
        if self.matches.iter().all(|&m| m == 0) {
            return BleuScore { score: 0.0, precisions, brevity_penalty, stats: *self };
        }
        let mut smoothing = 1.0;
        for (n, precision) in precisions.iter_mut().enumerate() {
            let total = self.totals[n] as f64;
            if self.totals[n] == 0 {
                break;
            }
            *precision = if self.matches[n] == 0 {
                smoothing *= 2.0;
                100.0 / (smoothing * total)
            } else {
                100.0 * self.matches[n] as f64 / total
            };
        }
        let logs: f64 = precisions.iter().map(|&p| if p == 0.0 { LOG_ZERO } else { p.ln() }).sum();
        BleuScore { score: brevity_penalty * (logs / MAX_ORDER as f64).exp(), precisions, brevity_penalty, stats: *self }
    }
}

/// n-grams of orders 1..=4 with their counts.
fn count_ngrams<'t>(tokens: &[&'t str]) -> HashMap<Vec<&'t str>, u64> {
    let mut counts = HashMap::new();
    for n in 1..=MAX_ORDER {
        for ngram in tokens.windows(n) {
            *counts.entry(ngram.to_vec()).or_default() += 1;
        }
    }
    counts
}

/// Statistics of one segment. Trailing white space is ignored.
///
/// # Errors
/// When there are no references.
pub fn segment_stats<S: AsRef<str>>(
    tokenizer: BleuTokenizer,
    hypothesis: &str,
    references: &[S],
) -> Result<BleuStats, MetricError> {
    if references.is_empty() {
        return Err(MetricError::TooFew { metric: "bleu", what: "references", expected: 1, found: 0 });
    }
    let hypothesis = tokenizer.tokenize(text::strip_end(hypothesis));
    let hyp_tokens: Vec<&str> = text::split(&hypothesis).collect();
    let references: Vec<String> = references.iter().map(|r| tokenizer.tokenize(text::strip_end(r.as_ref()))).collect();

    let mut ref_counts: HashMap<Vec<&str>, u64> = HashMap::new(); // maximum over the references
    let mut ref_len = usize::MAX;
    for reference in &references {
        let tokens: Vec<&str> = text::split(reference).collect();
        let (distance, best) = (tokens.len().abs_diff(hyp_tokens.len()), ref_len.abs_diff(hyp_tokens.len()));
        if ref_len == usize::MAX || (distance, tokens.len()) < (best, ref_len) {
            ref_len = tokens.len(); // closest, the shorter of two
        }
        for (ngram, count) in count_ngrams(&tokens) {
            let most = ref_counts.entry(ngram).or_default();
            *most = count.max(*most);
        }
    }
    let mut stats = BleuStats { hyp_len: hyp_tokens.len() as u64, ref_len: ref_len as u64, ..BleuStats::default() };
    for (ngram, count) in count_ngrams(&hyp_tokens) {
        stats.totals[ngram.len() - 1] += count;
        stats.matches[ngram.len() - 1] += count.min(ref_counts.get(&ngram).copied().unwrap_or(0));
    }
    Ok(stats)
}

/// BLEU of a corpus; `references[i]` are the references of segment i.
///
/// # Errors
/// When there are no segments, the lists differ in length, or a segment has no reference.
pub fn corpus_bleu<H: AsRef<str>, R: AsRef<str>>(
    tokenizer: BleuTokenizer,
    hypotheses: &[H],
    references: &[Vec<R>],
) -> Result<BleuScore, MetricError> {
    if hypotheses.is_empty() {
        return Err(MetricError::TooFew { metric: "bleu", what: "segments", expected: 1, found: 0 });
    }
    if hypotheses.len() != references.len() {
        let (expected, found) = (hypotheses.len(), references.len());
        return Err(MetricError::LengthMismatch { metric: "bleu", what: "segments with references", expected, found });
    }
    let mut stats = BleuStats::default();
    for (hypothesis, references) in hypotheses.iter().zip(references) {
        stats += segment_stats(tokenizer, hypothesis.as_ref(), references)?;
    }
    Ok(stats.score())
}

/// The string to print beside a score, in sacreBLEU's form.
pub fn signature(tokenizer: BleuTokenizer, num_references: usize) -> String {
    format!("nrefs:{num_references}|case:mixed|eff:no|tok:{}|smooth:exp|version:2.6.0", tokenizer.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYPOTHESES: [&str; 2] = ["The cat sat on the mat.", "Hello, world! It's 3.5 degrees."];

    fn references() -> Vec<Vec<&'static str>> {
        vec![vec!["The cat is on the mat."], vec!["Hello world! It is 3.5 degrees."]]
    }

    #[test]
    fn published_tool_value() {
        let bleu = corpus_bleu(BleuTokenizer::V13a, &HYPOTHESES, &references()).unwrap();
        assert!((bleu.score - 33.80).abs() < 0.005, "{}", bleu.score);
        assert_eq!((bleu.stats.hyp_len, bleu.stats.ref_len), (15, 15));
        // 12/15, 7/13, 3/11, 1/9
        assert_eq!(bleu.stats.matches, [12, 7, 3, 1]);
        assert_eq!(bleu.stats.totals, [15, 13, 11, 9]);
        assert_eq!(signature(BleuTokenizer::V13a, 1), "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0");
    }

    #[test]
    fn tokenizers() {
        assert_eq!(BleuTokenizer::V13a.tokenize(HYPOTHESES[1]), "Hello , world ! It's 3.5 degrees .");
        assert_eq!(BleuTokenizer::V13a.tokenize("&quot;a&amp;b&quot; 1-2, x-y 1,000"), "\" a & b \" 1 - 2 , x-y 1,000");
        assert_eq!(BleuTokenizer::Zh.tokenize("我有2.5元。ok"), "我 有 2.5 元 。 ok");
        assert_eq!(BleuTokenizer::Zh.tokenize("a…b"), "a … b"); // caught by the misspelt range
        assert_eq!(BleuTokenizer::Char.tokenize("a b"), "a   b");
    }

    #[test]
    fn no_match_is_zero_and_short_text_is_zero() {
        assert_eq!(corpus_bleu(BleuTokenizer::V13a, &["x"], &[vec!["y"]]).unwrap().score, 0.0);
        assert_eq!(corpus_bleu(BleuTokenizer::V13a, &["a b"], &[vec!["a b"]]).unwrap().score, 0.0); // no trigram
        assert_eq!(corpus_bleu(BleuTokenizer::V13a, &[""], &[vec!["a"]]).unwrap().brevity_penalty, 0.0);
    }

    #[test]
    fn closest_reference_length_prefers_the_shorter() {
        let stats = segment_stats(BleuTokenizer::V13a, "a b c", &["a b c d", "a b"]).unwrap();
        assert_eq!(stats.ref_len, 2);
        assert_eq!(stats.matches, [3, 2, 1, 0]);
    }

    #[test]
    fn missing_references_are_an_error() {
        assert!(matches!(segment_stats::<&str>(BleuTokenizer::V13a, "a", &[]), Err(MetricError::TooFew { .. })));
        assert!(matches!(corpus_bleu(BleuTokenizer::V13a, &["a", "b"], &[vec!["a"]]), Err(MetricError::LengthMismatch { .. })));
        assert!(matches!(corpus_bleu::<&str, &str>(BleuTokenizer::V13a, &[], &[]), Err(MetricError::TooFew { .. })));
    }
}
