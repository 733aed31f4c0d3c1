//! pass@k: the chance that at least one of k programs drawn from n samples passes, c of them being correct.
//!
//! ```text
//! pass@k = 1 − C(n−c, k) / C(n, k) = 1 − ∏_{i=n−c+1..n} (1 − k/i)          1 when n − c < k
//! ```
//! Unit: fraction; higher is better; the score is the mean over problems. `k > n` and `c > n` are errors.
//!
//! Source: Chen et al. 2021 (arXiv:2107.03374) eq. 1 and figure 3.

use super::MetricError;

/// Unbiased estimate of pass@k from `n` samples with `c` correct.
///
/// # Errors
/// When `c > n`, `k > n`, or `k` is zero.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> Result<f64, MetricError> {
    const METRIC: &str = "pass_at_k";
    if k == 0 {
        return Err(MetricError::TooFew { metric: METRIC, what: "draws (k)", expected: 1, found: 0 });
    }
    for (what, found) in [("correct samples", c), ("k", k)] {
        if found > n {
            return Err(MetricError::OutOfRange { metric: METRIC, what, limit: n, found });
        }
    }
    if n - c < k {
        return Ok(1.0);
    }
    let none_passes: f64 = (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Ok(1.0 - none_passes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_code_values() {
        for (n, c, k, expected) in
            [(10, 3, 1, 0.3), (10, 3, 5, 0.9166666667), (200, 17, 10, 0.5974489016), (200, 17, 100, 0.9999963677), (5, 4, 2, 1.0)]
        {
            assert!((pass_at_k(n, c, k).unwrap() - expected).abs() < 1e-9, "{n} {c} {k}");
        }
    }

    #[test]
    fn first_draw_is_the_share_of_correct_samples() {
        for c in 0..=7 {
            assert!((pass_at_k(7, c, 1).unwrap() - c as f64 / 7.0).abs() < 1e-12);
        }
    }

    #[test]
    fn impossible_counts_are_refused() {
        assert!(matches!(pass_at_k(5, 1, 6), Err(MetricError::OutOfRange { what: "k", .. })));
        assert!(matches!(pass_at_k(5, 6, 1), Err(MetricError::OutOfRange { .. })));
        assert!(matches!(pass_at_k(5, 1, 0), Err(MetricError::TooFew { .. })));
    }
}
