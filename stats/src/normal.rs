//! Standard normal distribution: density, distribution function and quantile.
//!
//! ```text
//! Φ(x) = ½·erfc(−x/√2)          Φ⁻¹ by rational approximation, AS 241 (PPND16)
//! ```
//! Stated accuracy: relative error of `cdf` and `survival` below 1e-13 for |x| ≤ 37, of `quantile` below 1e-15 times
//! max(1, |x|) over (1e-300, 1 − 1e-16). Used by intervals, tests, power figures and the random normals.
//!
//! Sources: Wichura 1988, "Algorithm AS 241", Applied Statistics 37(3); Abramowitz and Stegun 7.1.6, 7.1.14.

#![expect(clippy::excessive_precision, reason = "published constants stay as published")]

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Density of the standard normal.
pub fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// P(Z ≤ x) of the standard normal.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x * FRAC_1_SQRT_2)
}

/// P(Z > x) of the standard normal, without cancellation for large x.
pub fn normal_survival(x: f64) -> f64 {
    0.5 * erfc(x * FRAC_1_SQRT_2)
}

/// Complementary error function.
///
/// ```text
/// |x| < 1.5   1 − 2/√π · e^(−x²) · Σ 2^k·x^(2k+1)/(2k+1)!!         all terms of one sign
/// x ≥ 1.5     e^(−x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/…))) evaluated from the inside
/// ```
pub fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x <= -1.5 {
        return 2.0 - erfc(-x);
    }
    if x < 1.5 {
        let (mut term, mut sum, mut k) = (x, x, 1.0);
        while term.abs() > 1e-17 * sum.abs() {
            term *= 2.0 * x * x / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        return 1.0 - 2.0 / PI.sqrt() * (-x * x).exp() * sum;
    }
    // 120 levels reach full precision at the switch point, where convergence is slowest
    let fraction = (1..=120).rev().fold(x, |inner, k| x + 0.5 * f64::from(k) / inner);
    (-x * x).exp() / (PI.sqrt() * fraction)
}

/// Quantile of the standard normal; −∞ at 0, +∞ at 1, NaN outside [0, 1].
pub fn normal_quantile(p: f64) -> f64 {
    if p == 0.0 {
        f64::NEG_INFINITY
    } else if p == 1.0 {
        f64::INFINITY
    } else if p > 0.0 && p < 1.0 {
        quantile_with(p, f64::ln)
    } else {
        f64::NAN
    }
}

/// AS 241 for p in (0, 1), with the logarithm as an argument so that random draws can use a portable one.
pub(crate) fn quantile_with(p: f64, ln: impl Fn(f64) -> f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * ratio(r, &CENTRE_NUMERATOR, &CENTRE_DENOMINATOR);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-ln(tail)).sqrt();
    let x = if r <= 5.0 {
        ratio(r - 1.6, &MIDDLE_NUMERATOR, &MIDDLE_DENOMINATOR)
    } else {
        ratio(r - 5.0, &FAR_NUMERATOR, &FAR_DENOMINATOR)
    };
    if q < 0.0 { -x } else { x }
}

fn ratio(x: f64, numerator: &[f64; 8], denominator: &[f64; 8]) -> f64 {
    let horner = |c: &[f64; 8]| c.iter().rev().fold(0.0, |sum, k| sum * x + k);
    horner(numerator) / horner(denominator)
}

// Coefficients of AS 241, ascending powers.
const CENTRE_NUMERATOR: [f64; 8] = [
    3.3871328727963666080,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
];
const CENTRE_DENOMINATOR: [f64; 8] = [
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
];
const MIDDLE_NUMERATOR: [f64; 8] = [
    1.42343711074968357734,
    4.63033784615654529590,
    5.76949722146069140550,
    3.64784832476320460504,
    1.27045825245236838258,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
];
const MIDDLE_DENOMINATOR: [f64; 8] = [
    1.0,
    2.05319162663775882187,
    1.67638483018380384940,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
];
const FAR_NUMERATOR: [f64; 8] = [
    6.65790464350110377720,
    5.46378491116411436990,
    1.78482653991729133580,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2,
    1.24266094738807843860e-3,
    2.71155556874348757815e-5,
    2.01033439929228813265e-7,
];
const FAR_DENOMINATOR: [f64; 8] = [
    1.0,
    5.99832206555887937690e-1,
    1.36929880922735805310e-1,
    1.48753612908506148525e-2,
    7.86869131145613259100e-4,
    1.84631831751005468180e-5,
    1.42151175831644588870e-7,
    2.04426310338993978564e-15,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distribution_function_matches_scipy() {
        // scipy 1.17.1: stats.norm.cdf(x)
        for (x, expected) in [
            (0.0, 0.5),
            (0.1, 0.539827837277029),
            (1.0, 0.8413447460685429),
            (1.5, 0.9331927987311419),
            (2.0, 0.9772498680518208),
            (5.0, 0.9999997133484281),
            (-3.0, 0.0013498980316300933),
            (-8.0, 6.22096057427174e-16),
            (-20.0, 2.7536241186061556e-89),
            (-37.0, 5.7255712225239266e-300),
        ] {
            assert!((normal_cdf(x) - expected).abs() <= 1e-13 * expected, "{x}: {:e}", normal_cdf(x));
            assert_eq!(normal_survival(-x), normal_cdf(x));
        }
        assert_eq!((normal_cdf(f64::INFINITY), normal_cdf(f64::NEG_INFINITY)), (1.0, 0.0));
        assert!(normal_cdf(f64::NAN).is_nan());
    }

    #[test]
    fn density_is_the_slope_of_the_distribution_function() {
        for x in [-2.3, 0.0, 0.7, 3.1] {
            let h = 1e-5;
            let slope = (normal_cdf(x + h) - normal_cdf(x - h)) / (2.0 * h);
            assert!((slope - normal_density(x)).abs() < 1e-10, "{x}"); // central difference: error about h²
        }
    }

    #[test]
    fn quantile_matches_the_paper() {
        // AS 241 test values: p = 0.25, 0.001, 1e-20
        for (p, x) in [(0.25, -0.6744897501960817), (0.001, -3.090232306167814), (1e-20, -9.262340089798408)] {
            assert!((normal_quantile(p) - x).abs() < 1e-15 * x.abs().max(1.0) * 2.0, "{p}");
        }
        assert_eq!(normal_quantile(0.5), 0.0);
        assert!(normal_quantile(f64::NAN).is_nan() && normal_quantile(1.5).is_nan());
    }
}
