//! Exact match of generated answers, after optional clean-up of both sides.
//!
//! ```text
//! both sides, in order: each ignore-regex -> "", lower-case, ASCII punctuation -> "", ASCII digits -> ""; then 1 if equal, else 0
//! ```
//! Unit: fraction; higher is better. Only a pattern that cannot be compiled or run is an error. Removing punctuation also removes
//! minus signs and decimal points.
//!
//! The reference keeps texts in fixed-width arrays: trailing NULs are lost at every step, and a lower-casing that makes a text longer is cut to
//! its old length. Both are kept here.
//!
//! Source: EleutherAI/lm-evaluation-harness 0.4.13, `exact_match_hf_evaluate`.

use super::{MetricError, pattern::Pattern};

/// Clean-up before the comparison. Field names are the reference's.
#[derive(Clone, Debug, Default)]
pub struct ExactMatch {
    regexes_to_ignore: Vec<Pattern>,
    ignore_case: bool,
    ignore_punctuation: bool,
    ignore_numbers: bool,
}

impl ExactMatch {
    /// Plain comparison.
    pub fn new() -> Self {
        Self::default()
    }

    /// Deletes every match of these patterns, in order, first.
    ///
    /// # Errors
    /// When a pattern does not compile.
    pub fn ignore_regexes<S: AsRef<str>>(mut self, patterns: &[S]) -> Result<Self, MetricError> {
        for pattern in patterns {
            self.regexes_to_ignore.push(Pattern::new("exact_match", pattern.as_ref())?);
        }
        Ok(self)
    }

    /// Compares in lower case.
    #[must_use]
    pub fn ignore_case(mut self) -> Self {
        self.ignore_case = true;
        self
    }

    /// Deletes the 32 ASCII punctuation characters.
    #[must_use]
    pub fn ignore_punctuation(mut self) -> Self {
        self.ignore_punctuation = true;
        self
    }

    /// Deletes ASCII digits.
    #[must_use]
    pub fn ignore_numbers(mut self) -> Self {
        self.ignore_numbers = true;
        self
    }

    /// A text after clean-up.
    ///
    /// # Errors
    /// When a pattern cannot be run on this text.
    pub fn clean(&self, text: &str) -> Result<String, MetricError> {
        let mut text = text.to_owned();
        for pattern in &self.regexes_to_ignore {
            text = pattern.delete_all(drop_nul(&text))?;
        }
        text.truncate(drop_nul(&text).len());
        if self.ignore_case {
            let width = text.chars().count();
            text = text.to_lowercase().chars().take(width).collect();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        text.truncate(drop_nul(&text).len());
        Ok(text)
    }

    /// 1 when the cleaned texts are equal, else 0.
    ///
    /// # Errors
    /// As [`ExactMatch::clean`].
    pub fn score(&self, prediction: &str, reference: &str) -> Result<f64, MetricError> {
        Ok(f64::from(self.clean(prediction)? == self.clean(reference)?))
    }
}

fn drop_nul(text: &str) -> &str {
    text.trim_end_matches('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_apply_to_both_sides_in_order() {
        let gsm8k = ExactMatch::new().ignore_case().ignore_regexes(&[",", r"\$", "(?s).*#### ", r"\.$"]).unwrap();
        assert_eq!(gsm8k.clean("Work.\n#### $1,000.").unwrap(), "1000");
        assert_eq!(gsm8k.score("1000", "Work.\n#### $1,000.").unwrap(), 1.0);
        assert_eq!(gsm8k.score("1001", "#### 1000").unwrap(), 0.0);
    }

    #[test]
    fn punctuation_takes_signs_and_points_along() {
        let mgsm = ExactMatch::new().ignore_case().ignore_punctuation();
        assert_eq!(mgsm.score("-5", "5").unwrap(), 1.0);
        assert_eq!(mgsm.score("3.0", "30").unwrap(), 1.0);
        assert_eq!(ExactMatch::new().ignore_numbers().score("a1b2", "ab").unwrap(), 1.0);
    }

    #[test]
    fn fixed_width_arrays_lose_nul_and_growth() {
        assert_eq!(ExactMatch::new().score("x\0", "x").unwrap(), 1.0);
        // lower("İ") is two code points; one is kept
        assert_eq!(ExactMatch::new().ignore_case().score("İ", "i").unwrap(), 1.0);
        assert_eq!(ExactMatch::new().ignore_case().score("İ", "i\u{307}").unwrap(), 0.0);
    }
}
