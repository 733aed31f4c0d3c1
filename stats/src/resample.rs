//! Medians of resamples without sorting each of them.
//!
//! ```text
//! n ≤ 256   count how often each rank is drawn, walk to the middle                  the same values as sorting every resample, O(n)
//! n > 256   draw the middle ranks themselves: U₍ₖ₎ of n uniforms ~ Beta(k, n + 1 − k), rank ⌊n·U₍ₖ₎⌋                          O(1)
//! ```
//! The k-th smallest of n draws with replacement from sorted values is the value at the k-th smallest of n uniform ranks, so the second
//! form has the distribution of the first. It spares a resample of ten thousand pairs its ten thousand draws.
//!
//! Sources: David and Nagaraja 2003, section 2.1 (order statistics of uniforms); Marsaglia and Tsang 2000 (gamma draws).

use crate::describe::{median_of_sorted, sorted};
use crate::rng::{RngCore, index, ln_portable, normal, uniform_open};

/// Most values whose resamples are drawn one by one.
const DRAWN: usize = 256;

/// Draws medians of resamples of fixed values.
#[derive(Debug, Clone)]
pub(crate) struct MedianResampler {
    sorted: Vec<f64>,
    /// Place of each value among the sorted; empty where ranks are drawn directly.
    places: Vec<usize>,
    counts: Vec<u32>,
}

impl MedianResampler {
    /// Of at least one finite value.
    pub(crate) fn new(values: &[f64]) -> Self {
        let n = values.len();
        let mut order: Vec<usize> = if n <= DRAWN { (0..n).collect() } else { Vec::new() };
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let mut places = vec![0; order.len()];
        for (place, at) in order.iter().enumerate() {
            places[*at] = place;
        }
        Self { sorted: sorted(values), counts: vec![0; places.len()], places }
    }

    /// Median of the values themselves.
    pub(crate) fn median(&self) -> f64 {
        median_of_sorted(&self.sorted)
    }

    /// Median of one resample.
    pub(crate) fn draw<R: RngCore + ?Sized>(&mut self, rng: &mut R) -> f64 {
        let n = self.sorted.len();
        let (low, high) = if self.places.is_empty() { direct(rng, n) } else { self.counted(rng) };
        if n % 2 == 1 { self.sorted[low] } else { median_of_sorted(&[self.sorted[low], self.sorted[high]]) }
    }

    /// Ranks of the middle pair of n draws; equal for odd n.
    fn counted<R: RngCore + ?Sized>(&mut self, rng: &mut R) -> (usize, usize) {
        let n = self.sorted.len();
        self.counts.fill(0);
        for _ in 0..n {
            self.counts[self.places[index(rng, n)]] += 1;
        }
        let (first, second) = ((n - 1) / 2, n / 2);
        let mut low = None;
        let mut seen = 0;
        for (rank, count) in self.counts.iter().enumerate() {
            seen += *count as usize;
            if low.is_none() && seen > first {
                low = Some(rank);
            }
            if seen > second {
                return (low.unwrap_or(rank), rank);
            }
        }
        unreachable!("n draws reach past the middle")
    }
}

/// The same, drawn directly.
fn direct<R: RngCore + ?Sized>(rng: &mut R, n: usize) -> (usize, usize) {
    let k = n.div_ceil(2);
    let (below, above) = (gamma(rng, k as f64), gamma(rng, (n + 1 - k) as f64));
    let first = below / (below + above);
    // The next of the n − k uniforms above it is their smallest.
    let next = first + (1.0 - first) * -(ln_portable(uniform_open(rng)) / (n - k) as f64).exp_m1();
    let rank = |u: f64| ((u * n as f64) as usize).min(n - 1);
    (rank(first), rank(next))
}

/// Gamma draw of shape at least 1 and scale 1.
fn gamma<R: RngCore + ?Sized>(rng: &mut R, shape: f64) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && ln_portable(uniform_open(rng)) < 0.5 * x * x + d - d * v + d * ln_portable(v) {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn counting_equals_sorting_every_resample() {
        for n in [1, 2, 3, 8, 41, 256] {
            let values: Vec<f64> = (0..n).map(|at| ((at * 37) % 11) as f64).collect();
            let mut resampler = MedianResampler::new(&values);
            for item in 0..50 {
                let mut rng = stream("test/resample", 0, item);
                let mut drawn: Vec<f64> = (0..n).map(|_| values[index(&mut rng, n)]).collect();
                drawn.sort_unstable_by(f64::total_cmp);
                assert_eq!(resampler.draw(&mut stream("test/resample", 0, item)), median_of_sorted(&drawn), "n = {n}");
            }
        }
    }

    #[test]
    fn drawn_ranks_have_the_mean_and_spread_of_order_statistics() {
        // U₍ₖ₎ ~ Beta(k, n + 1 − k): mean k/(n + 1), variance k(n + 1 − k)/((n + 1)²(n + 2)). Odd n = 1001, k = 501: 0.5, 0.0157799.
        // Even n = 1000: the middle pair has mean 0.5 in all and its gap 1/(n + 1).
        let draws = 20_000;
        for n in [1001_usize, 1000] {
            let values: Vec<f64> = (0..n).map(|rank| (rank as f64 + 0.5) / n as f64).collect();
            let mut resampler = MedianResampler::new(&values);
            let found: Vec<f64> = (0..draws).map(|item| resampler.draw(&mut stream("test/direct", 0, item))).collect();
            let mean = found.iter().sum::<f64>() / draws as f64;
            let sd = (found.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (draws - 1) as f64).sqrt();
            // Standard error of the mean 0.00011, of the sd 0.00008: four of each.
            assert!((mean - 0.5).abs() < 0.000_45, "n = {n}: mean {mean}");
            assert!((sd - 0.015_78).abs() < 0.000_32, "n = {n}: sd {sd}");
        }
        let gaps: f64 = (0..draws).map(|item| direct(&mut stream("test/gap", 0, item), 1000)).map(|(a, b)| (b - a) as f64).sum();
        // Gap of ranks: n/(n + 1) = 0.999 on average, its sd about 1.3: standard error 0.009.
        assert!((gaps / draws as f64 - 0.999).abs() < 0.04, "{}", gaps / draws as f64);
    }
}
