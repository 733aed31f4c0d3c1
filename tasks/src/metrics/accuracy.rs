//! Multiple-choice accuracy: the option with the highest score is the answer.
//!
//! ```text
//! acc        1 if argmax_i score_i = gold
//! acc_norm   the same with score_i / (Unicode code points of option i)
//! acc_bytes  the same with score_i / (UTF-8 bytes of option i)
//! ```
//! where `score_i` is the loglikelihood in nats of delimiter and option, and the length is that of the option **without** the delimiter. The
//! first index wins ties. Unit: fraction; higher is better. A NaN score and an empty option (under a length norm) are errors.
//!
//! Source: EleutherAI/lm-evaluation-harness `process_results` of multiple choice; its `acc_norm` counts characters, not bytes.

use super::MetricError;

/// What a loglikelihood is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthNorm {
    /// Nothing: `acc`.
    None,
    /// Unicode code points of the option: `acc_norm`.
    CodePoints,
    /// UTF-8 bytes of the option: `acc_bytes`.
    Bytes,
}

impl LengthNorm {
    /// The metric's name.
    pub fn metric(self) -> &'static str {
        match self {
            Self::None => "acc",
            Self::CodePoints => "acc_norm",
            Self::Bytes => "acc_bytes",
        }
    }
}

/// Index of the largest score; the first wins ties. Minus infinity is a score like any other.
///
/// # Errors
/// When `scores` is empty or holds a NaN.
pub fn argmax(scores: &[f64]) -> Result<usize, MetricError> {
    argmax_of("acc", scores)
}

fn argmax_of(metric: &'static str, scores: &[f64]) -> Result<usize, MetricError> {
    if scores.is_empty() {
        return Err(MetricError::TooFew { metric, what: "scores", expected: 1, found: 0 });
    }
    let mut best = 0;
    for (index, &value) in scores.iter().enumerate() {
        if value.is_nan() {
            return Err(MetricError::NotFinite { metric, index, value });
        }
        if value > scores[best] {
            best = index;
        }
    }
    Ok(best)
}

/// The option chosen under a length norm.
///
/// # Errors
/// When there are no options, the lists differ in length, a score is NaN, or an option is empty under a length norm.
pub fn choose<S: AsRef<str>>(scores: &[f64], options: &[S], norm: LengthNorm) -> Result<usize, MetricError> {
    let metric = norm.metric();
    if scores.len() != options.len() {
        return Err(MetricError::LengthMismatch { metric, what: "scores", expected: options.len(), found: scores.len() });
    }
    let mut normed = Vec::with_capacity(scores.len());
    for (index, (&score, option)) in scores.iter().zip(options).enumerate() {
        let length = match norm {
            LengthNorm::None => 1,
            LengthNorm::CodePoints => option.as_ref().chars().count(),
            LengthNorm::Bytes => option.as_ref().len(),
        };
        if length == 0 {
            return Err(MetricError::EmptyOption { metric, index });
        }
        normed.push(score / length as f64);
    }
    argmax_of(metric, &normed)
}

/// 1 when the chosen option is `gold`, else 0.
///
/// # Errors
/// As [`choose`], and when `gold` is not an option.
pub fn accuracy<S: AsRef<str>>(scores: &[f64], options: &[S], gold: usize, norm: LengthNorm) -> Result<f64, MetricError> {
    if gold >= options.len() {
        let limit = options.len().saturating_sub(1);
        return Err(MetricError::OutOfRange { metric: norm.metric(), what: "gold index", limit, found: gold });
    }
    Ok(f64::from(choose(scores, options, norm)? == gold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_index_wins_ties() {
        assert_eq!(argmax(&[-2.0, -1.0, -1.0]), Ok(1));
        assert_eq!(argmax(&[-1.0]), Ok(0));
        assert_eq!(argmax(&[f64::NEG_INFINITY, f64::NEG_INFINITY]), Ok(0));
    }

    #[test]
    fn nan_never_wins_silently() {
        assert!(matches!(argmax(&[-1.0, f64::NAN]), Err(MetricError::NotFinite { index: 1, .. })));
        assert!(matches!(argmax(&[]), Err(MetricError::TooFew { .. })));
    }

    #[test]
    fn norms_count_code_points_and_bytes() {
        // raw: -6 > -6.3; per code point: -6/3 = -2 < -6.3/4 = -1.575; per byte: -6/9 = -0.667 > -1.575
        let (scores, options) = ([-6.0, -6.3], ["日本語", "word"]);
        assert_eq!(choose(&scores, &options, LengthNorm::None), Ok(0));
        assert_eq!(choose(&scores, &options, LengthNorm::CodePoints), Ok(1));
        assert_eq!(choose(&scores, &options, LengthNorm::Bytes), Ok(0));
        assert_eq!(accuracy(&scores, &options, 1, LengthNorm::CodePoints), Ok(1.0));
        assert_eq!(accuracy(&scores, &options, 1, LengthNorm::Bytes), Ok(0.0));
    }

    #[test]
    fn empty_option_is_an_error_only_under_a_norm() {
        let (scores, options) = ([-1.0, -2.0], ["", "b"]);
        assert_eq!(choose(&scores, &options, LengthNorm::None), Ok(0));
        assert_eq!(
            choose(&scores, &options, LengthNorm::CodePoints),
            Err(MetricError::EmptyOption { metric: "acc_norm", index: 0 })
        );
        assert!(matches!(accuracy(&scores, &options, 2, LengthNorm::None), Err(MetricError::OutOfRange { .. })));
    }
}
