//! Descriptive statistics of one sample: mean, spread, median, quantiles, interquartile mean.
//!
//! ```text
//! mean = Σxᵢ/n      sd = √(Σ(xᵢ − mean)² / (n − 1))      cv = sd/|mean|
//! IQM  = mean of the sorted values without the ⌊n/4⌋ smallest and ⌊n/4⌋ largest
//! ```
//! Sums are compensated and the mean is corrected once, so a constant sample has exactly its value as mean and 0 as spread.
//! An even-length median averages the middle pair. NaN and infinities are refused with their index.
//!
//! Sources: Hyndman and Fan 1996 for the quantile rules; Agarwal et al. 2021 (rliable) for the interquartile mean.

use serde::Serialize;

use crate::error::{StatsError, check_open_unit, check_sample, invalid};

/// How a quantile between two order statistics is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuantileRule {
    /// Hyndman–Fan type 7: linear between order statistics at (n − 1)·p; the default of NumPy and R.
    #[default]
    Linear,
    /// Hyndman–Fan type 5: linear at n·p − ½, ends held (Hazen).
    Hazen,
    /// Hyndman–Fan type 1: smallest value with at least a share p of the sample at or below it.
    InvertedCdf,
}

/// Five-number summary with mean and spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Number of values.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (n − 1); `None` when n = 1.
    pub sd: Option<f64>,
    /// Smallest value.
    pub min: f64,
    /// Lower quartile, linear rule.
    pub q25: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile, linear rule.
    pub q75: f64,
    /// Largest value.
    pub max: f64,
}

/// Neumaier's compensated sum.
pub(crate) fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut total, mut lost) = (0.0f64, 0.0f64);
    for value in values {
        let next = total + value;
        lost += if total.abs() >= value.abs() { (total - next) + value } else { (value - next) + total };
        total = next;
    }
    total + lost
}

/// Mean of a checked, non-empty sample.
pub(crate) fn mean_of(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = sum(values.iter().copied()) / n;
    mean + sum(values.iter().map(|x| x - mean)) / n
}

/// Sum of squared deviations of a checked sample from `centre`.
pub(crate) fn squared_deviations(values: &[f64], centre: f64) -> f64 {
    sum(values.iter().map(|x| (x - centre) * (x - centre)))
}

/// Copy of a checked sample in ascending order.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut order = values.to_vec();
    order.sort_unstable_by(f64::total_cmp);
    order
}

/// Median of an ascending, non-empty sample.
pub(crate) fn median_of_sorted(order: &[f64]) -> f64 {
    let n = order.len();
    if n % 2 == 1 { order[n / 2] } else { 0.5 * order[n / 2 - 1] + 0.5 * order[n / 2] }
}

/// Quantile of an ascending, non-empty sample; p in [0, 1].
pub(crate) fn quantile_of_sorted(order: &[f64], p: f64, rule: QuantileRule) -> f64 {
    let n = order.len() as f64;
    let position = match rule {
        QuantileRule::Linear => (n - 1.0) * p,
        QuantileRule::Hazen => (n * p - 0.5).clamp(0.0, n - 1.0),
        QuantileRule::InvertedCdf => ((n * p).ceil() - 1.0).max(0.0),
    };
    let below = position.floor() as usize;
    let fraction = position - position.floor();
    if fraction == 0.0 || below + 1 == order.len() {
        return order[below];
    }
    order[below] + fraction * (order[below + 1] - order[below])
}

/// Interquartile mean of an ascending, non-empty sample.
pub(crate) fn interquartile_mean_of_sorted(order: &[f64]) -> f64 {
    let cut = order.len() / 4;
    mean_of(&order[cut..order.len() - cut])
}

/// Arithmetic mean.
pub fn mean(values: &[f64]) -> Result<f64, StatsError> {
    check_sample("compute mean", "values", values, 1)?;
    Ok(mean_of(values))
}

/// Sample variance, divisor n − 1; needs two values.
pub fn sample_variance(values: &[f64]) -> Result<f64, StatsError> {
    check_sample("compute sample variance", "values", values, 2)?;
    Ok(squared_deviations(values, mean_of(values)) / (values.len() - 1) as f64)
}

/// Sample standard deviation, divisor n − 1; needs two values.
pub fn sample_sd(values: &[f64]) -> Result<f64, StatsError> {
    Ok(sample_variance(values)?.sqrt())
}

/// Median; the middle pair is averaged when n is even.
pub fn median(values: &[f64]) -> Result<f64, StatsError> {
    check_sample("compute median", "values", values, 1)?;
    Ok(median_of_sorted(&sorted(values)))
}

/// Quantile at `p`, from 0 (minimum) to 1 (maximum), by the named rule.
pub fn quantile(values: &[f64], p: f64, rule: QuantileRule) -> Result<f64, StatsError> {
    check_sample("compute quantile", "values", values, 1)?;
    if p != 0.0 && p != 1.0 {
        check_open_unit("compute quantile", "p", p)?;
    }
    Ok(quantile_of_sorted(&sorted(values), p, rule))
}

/// Coefficient of variation sd/|mean|, as a ratio.
///
/// # Errors
/// As [`sample_sd`], and when the mean is 0.
pub fn coefficient_of_variation(values: &[f64]) -> Result<f64, StatsError> {
    let sd = sample_sd(values)?;
    let mean = mean_of(values);
    if mean == 0.0 {
        return Err(invalid("compute coefficient of variation", "values", "a mean other than 0", mean));
    }
    Ok(sd / mean.abs())
}

/// Interquartile mean: mean of the middle half, ⌊n/4⌋ values cut from each end.
pub fn interquartile_mean(values: &[f64]) -> Result<f64, StatsError> {
    check_sample("compute interquartile mean", "values", values, 1)?;
    Ok(interquartile_mean_of_sorted(&sorted(values)))
}

/// Geometric mean exp(mean of ln xᵢ), for ratios.
///
/// # Errors
/// As [`mean`], and when a value is not positive.
pub fn geometric_mean(values: &[f64]) -> Result<f64, StatsError> {
    check_sample("compute geometric mean", "values", values, 1)?;
    if let Some(at) = values.iter().position(|x| *x <= 0.0) {
        return Err(invalid("compute geometric mean", format!("values[{at}]"), "a number > 0", values[at]));
    }
    let logs: Vec<f64> = values.iter().map(|x| x.ln()).collect();
    Ok(mean_of(&logs).exp())
}

/// Mean, spread and quartiles of one sample.
pub fn summary(values: &[f64]) -> Result<Summary, StatsError> {
    check_sample("summarise", "values", values, 1)?;
    let order = sorted(values);
    let n = order.len();
    Ok(Summary {
        n,
        mean: mean_of(values),
        sd: (n > 1).then(|| (squared_deviations(values, mean_of(values)) / (n - 1) as f64).sqrt()),
        min: order[0],
        q25: quantile_of_sorted(&order, 0.25, QuantileRule::Linear),
        median: median_of_sorted(&order),
        q75: quantile_of_sorted(&order, 0.75, QuantileRule::Linear),
        max: order[n - 1],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seven values with one tie; order 1.2 2.4 3.1 4.4 4.4 5.9 7.7.
    const ODD: [f64; 7] = [3.1, 2.4, 5.9, 4.4, 4.4, 1.2, 7.7];
    const EVEN: [f64; 8] = [3.1, 2.4, 5.9, 4.4, 4.4, 1.2, 7.7, 9.0];

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 4e-15 * expected.abs(), "found {found}, expected {expected}");
    }

    #[test]
    fn odd_sample_matches_numpy_and_scipy() {
        close(mean(&ODD).unwrap(), 29.1 / 7.0);
        close(sample_sd(&ODD).unwrap(), 2.1854497194377354); // numpy 2.4.6: np.std(x, ddof=1)
        assert_eq!(median(&ODD).unwrap(), 4.4);
        close(coefficient_of_variation(&ODD).unwrap(), 0.5257095545039225); // scipy 1.17.1: stats.variation(x, ddof=1)
        close(interquartile_mean(&ODD).unwrap(), 4.04); // one cut at each end: (2.4 + 3.1 + 4.4 + 4.4 + 5.9)/5
        close(geometric_mean(&ODD).unwrap(), 3.6010478805474757); // scipy 1.17.1: stats.gmean(x)
    }

    #[test]
    fn even_sample_averages_the_middle_pair() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]).unwrap(), 2.5);
        close(interquartile_mean(&EVEN).unwrap(), 4.45); // two cut at each end: (3.1 + 4.4 + 4.4 + 5.9)/4
    }

    #[test]
    fn quantile_rules_match_numpy() {
        // numpy 2.4.6: np.quantile(x, p, method="linear" | "hazen" | "inverted_cdf")
        for (p, linear, hazen, inverted) in
            [(0.025, 1.38, 1.2, 1.2), (0.1, 1.92, 1.44, 1.2), (0.25, 2.75, 2.575, 2.4), (0.9, 6.62, 7.34, 7.7)]
        {
            close(quantile(&ODD, p, QuantileRule::Linear).unwrap(), linear);
            close(quantile(&ODD, p, QuantileRule::Hazen).unwrap(), hazen);
            close(quantile(&ODD, p, QuantileRule::InvertedCdf).unwrap(), inverted);
        }
        for rule in [QuantileRule::Linear, QuantileRule::Hazen, QuantileRule::InvertedCdf] {
            assert_eq!((quantile(&ODD, 0.0, rule).unwrap(), quantile(&ODD, 1.0, rule).unwrap()), (1.2, 7.7));
        }
        assert!(quantile(&ODD, 1.1, QuantileRule::Linear).is_err() && quantile(&ODD, f64::NAN, QuantileRule::Linear).is_err());
    }

    #[test]
    fn constant_sample_has_no_spread() {
        let values = [0.1; 3]; // 0.1 + 0.1 + 0.1 is not 3·0.1 in floats
        assert_eq!(mean(&values).unwrap(), 0.1);
        assert_eq!(sample_sd(&values).unwrap(), 0.0);
        assert_eq!((median(&values).unwrap(), interquartile_mean(&values).unwrap()), (0.1, 0.1));
    }

    #[test]
    fn one_value_has_a_mean_but_no_spread() {
        assert_eq!((mean(&[2.5]).unwrap(), median(&[2.5]).unwrap(), interquartile_mean(&[2.5]).unwrap()), (2.5, 2.5, 2.5));
        assert_eq!(
            sample_sd(&[2.5]).unwrap_err().to_string(),
            "cannot compute sample variance: `values`: expected at least 2 value(s), found: 1"
        );
        let one = summary(&[2.5]).unwrap();
        assert_eq!((one.n, one.sd, one.min, one.q25, one.max), (1, None, 2.5, 2.5, 2.5));
    }

    #[test]
    fn large_offsets_do_not_swamp_the_spread() {
        // NIST StRD NumAcc4: 10000000.2 and pairs 10000000.1, 10000000.3; certified mean 10000000.2, sd 0.1
        let values: Vec<f64> =
            std::iter::once(10000000.2).chain((0..1000).map(|i| if i % 2 == 0 { 10000000.1 } else { 10000000.3 })).collect();
        assert_eq!(mean(&values).unwrap(), 10000000.2);
        assert!((sample_sd(&values).unwrap() - 0.1).abs() < 1e-9); // the data themselves are rounded at 1e-9
    }

    #[test]
    fn nan_infinite_and_empty_are_refused_with_their_place() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let values = [1.0, 2.0, bad];
            for error in [
                mean(&values).unwrap_err(),
                sample_sd(&values).unwrap_err(),
                median(&values).unwrap_err(),
                interquartile_mean(&values).unwrap_err(),
                geometric_mean(&values).unwrap_err(),
                summary(&values).unwrap_err(),
                quantile(&values, 0.5, QuantileRule::Linear).unwrap_err(),
                coefficient_of_variation(&values).unwrap_err(),
            ] {
                assert_eq!(error.argument, "values[2]");
            }
        }
        assert!(mean(&[]).is_err() && median(&[]).is_err());
        assert!(coefficient_of_variation(&[-1.0, 1.0]).is_err() && geometric_mean(&[1.0, 0.0]).is_err());
    }
}
