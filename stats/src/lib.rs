//! Numbers in, numbers out: intervals, paired tests, bootstraps, Pareto fronts. No I/O, no clock, no domain words.
//!
//! | question | module |
//! |---|---|
//! | what does one sample look like? | [`describe`] |
//! | how sure is a mean or a proportion? | [`interval`], with [`distribution`] behind it; [`bootstrap`] for any statistic |
//! | do two arms on the same items differ? | [`paired`], [`signed_rank`]; [`bootstrap`] also has approximate randomisation |
//! | … several times over? | [`multiple`] |
//! | are they equal, or at least not worse? | [`equivalence`] |
//! | what could this sample have shown at all? | [`power`] |
//! | is a cost within its budget? | [`gate`]: noise floor, looks, confirmation, verdict |
//! | which variants are worth their cost? | [`pareto`], [`hypervolume`], [`budget_curve`] |
//! | where do random numbers come from? | [`rng`]: streams keyed by (purpose, seed, item), for the whole project |
//!
//! Functions take slices and return a struct that names its method, level and n, or a [`StatsError`] that names the argument.
//! NaN and infinities are refused with their index. Results depend on the arguments alone: resampling takes a seed.
//!
//! ```
//! use stats::{Better, gate, signed_rank::signed_rank};
//! let (plain, candidate) = ([1.00, 1.02, 0.99, 1.01, 1.00, 0.98], [1.06, 1.09, 1.04, 1.08, 1.05, 1.02]);
//! let differences = gate::cost_differences(&plain, &candidate, Better::Lower)?;
//! let slowdown = signed_rank(&differences, 0.05)?.interval.map(f64::exp_m1);
//! assert!(slowdown.low > 0.03 && slowdown.high < 0.08); // 3 to 8 % slower, each end with 95 % confidence
//! # Ok::<(), stats::StatsError>(())
//! ```

use serde::{Deserialize, Serialize};

pub mod bootstrap;
pub mod budget_curve;
pub mod describe;
pub mod distribution;
pub mod equivalence;
pub mod error;
pub mod gate;
pub mod hypervolume;
pub mod interval;
pub mod multiple;
pub mod normal;
pub mod paired;
pub mod pareto;
pub mod power;
mod resample;
pub mod rng;
pub mod signed_rank;

pub use error::StatsError;

/// Direction of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Larger is better: accuracy, tokens per second.
    Higher,
    /// Smaller is better: time, bytes, loss.
    Lower,
}
