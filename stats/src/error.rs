//! The one error of this crate: what was attempted, which argument, what was expected, what was found.
//!
//! ```text
//! cannot compute mean: `values[3]`: expected a finite number, found: NaN
//! ```
//! Every estimator checks its input through the helpers here, so that a NaN is refused with its index and never averaged.

use std::fmt::Display;

/// An argument that an estimator refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {attempt}: `{argument}`: expected {expected}, found: {found}{}", hint_line(.hint.as_deref()))]
pub struct StatsError {
    /// What was attempted, as a verb phrase: `compute mean`.
    pub attempt: &'static str,
    /// Argument, with its index where it is an element: `values[3]`.
    pub argument: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// Likely fix, where the cause is known.
    pub hint: Option<String>,
}

impl StatsError {
    /// Adds the likely fix, shown on a line of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

fn hint_line(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |hint| format!("\nhint: {hint}"))
}

/// Builds an error; shortest form for the call sites.
pub(crate) fn invalid(
    attempt: &'static str,
    argument: impl Into<String>,
    expected: impl Into<String>,
    found: impl Display,
) -> StatsError {
    StatsError { attempt, argument: argument.into(), expected: expected.into(), found: found.to_string(), hint: None }
}

/// Refuses NaN and infinities, naming the first index.
pub(crate) fn check_finite(attempt: &'static str, name: &str, values: &[f64]) -> Result<(), StatsError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(invalid(attempt, format!("{name}[{at}]"), "a finite number", values[at])),
    }
}

/// Refuses fewer than `least` values, then NaN and infinities.
pub(crate) fn check_sample(attempt: &'static str, name: &str, values: &[f64], least: usize) -> Result<(), StatsError> {
    if values.len() < least {
        return Err(invalid(attempt, name, format!("at least {least} value(s)"), values.len()));
    }
    check_finite(attempt, name, values)
}

/// Refuses arms of different length, fewer than `least` pairs, NaN and infinities.
pub(crate) fn check_pairs(attempt: &'static str, a: &[f64], b: &[f64], least: usize) -> Result<(), StatsError> {
    if a.len() != b.len() {
        return Err(invalid(attempt, "b", format!("{} values, as in `a`", a.len()), b.len())
            .with_hint("pair by worker, seed or document first"));
    }
    check_sample(attempt, "a", a, least)?;
    check_sample(attempt, "b", b, least)
}

/// Refuses a probability outside the open interval (0, 1).
pub(crate) fn check_open_unit(attempt: &'static str, name: &'static str, value: f64) -> Result<(), StatsError> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(invalid(attempt, name, "a number strictly between 0 and 1", value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_attempt_argument_expectation_and_find() {
        let error = check_finite("compute mean", "values", &[1.0, f64::NAN]).unwrap_err().with_hint("drop the failed run");
        assert_eq!(
            error.to_string(),
            "cannot compute mean: `values[1]`: expected a finite number, found: NaN\nhint: drop the failed run"
        );
    }

    #[test]
    fn unequal_arms_are_refused() {
        assert!(
            check_pairs("compare", &[1.0, 2.0], &[1.0], 1)
                .unwrap_err()
                .to_string()
                .contains("expected 2 values, as in `a`, found: 1")
        );
    }
}
