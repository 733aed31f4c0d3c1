//! The one error of this module: inputs on which a metric has no value. A metric never turns them into 0, NaN or infinity.

use thiserror::Error;

/// Why a metric has no value.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum MetricError {
    /// NaN (or an infinity where none can be) among the inputs.
    #[error("{metric}: expected a finite number at index {index}, found: {value}")]
    NotFinite {
        /// Metric name.
        metric: &'static str,
        /// Position of the value.
        index: usize,
        /// The value.
        value: f64,
    },
    /// An answer option without characters cannot be normalised by its length.
    #[error("{metric}: option {index} is empty, its length cannot divide a loglikelihood")]
    EmptyOption {
        /// Metric name.
        metric: &'static str,
        /// Position of the option.
        index: usize,
    },
    /// Too few items.
    #[error("{metric}: expected at least {expected} {what}, found: {found}")]
    TooFew {
        /// Metric name.
        metric: &'static str,
        /// What is counted.
        what: &'static str,
        /// Smallest usable count.
        expected: usize,
        /// Count given.
        found: usize,
    },
    /// Two lists that must go together differ in length.
    #[error("{metric}: expected {expected} {what}, found: {found}")]
    LengthMismatch {
        /// Metric name.
        metric: &'static str,
        /// What is counted.
        what: &'static str,
        /// Length of the other list.
        expected: usize,
        /// Length given.
        found: usize,
    },
    /// A count outside its range.
    #[error("{metric}: expected {what} <= {limit}, found: {found}")]
    OutOfRange {
        /// Metric name.
        metric: &'static str,
        /// Which number.
        what: &'static str,
        /// Largest usable value.
        limit: usize,
        /// Value given.
        found: usize,
    },
    /// A pattern that does not compile, or cannot be run on a text.
    #[error("{what}: invalid pattern `{pattern}`: {reason}")]
    Pattern {
        /// Where the pattern is used.
        what: &'static str,
        /// The pattern.
        pattern: String,
        /// The engine's message.
        reason: String,
    },
    /// A solution without a usable `\boxed{…}`.
    #[error("math: no boxed answer in the solution: {reason}")]
    NoBoxedAnswer {
        /// What is wrong.
        reason: &'static str,
    },
}
