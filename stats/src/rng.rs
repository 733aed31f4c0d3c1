//! Counter-based random numbers: every draw of the project comes from a stream named by what it is for.
//!
//! ```text
//! key(purpose, seed, item) = FNV-1a-128(purpose) ‖ seed (LE, 8 bytes) ‖ item (LE, 8 bytes)     32 bytes
//! stream                   = ChaCha8(key), counter 0
//! ```
//! Two streams of one purpose never share a key, and streams of different purposes only if 128-bit hashes collide. Since a
//! stream depends on its three names alone, results do not change with thread count, batch order or resumption: resuming at
//! step `s` means asking for item `s`. Helpers below use integer and exactly rounded IEEE operations only (own logarithm
//! included), so values are bit-identical across platforms.
//!
//! Sources: ChaCha (Bernstein 2008); FNV-1a (Fowler, Noll, Vo); normal quantile AS 241 (Wichura 1988);
//! bounded integers (Lemire 2019); partial shuffle (Fisher and Yates; Durstenfeld 1964).

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use rand::{Rng, RngCore};

use crate::error::{StatsError, invalid};
use crate::normal::quantile_with;

/// Random stream of one (purpose, seed, item); implements [`Rng`]. Position and key are the whole state.
pub type Stream = ChaCha8Rng;

/// Random stream for one use.
///
/// - `purpose`: what the numbers are for, a constant path such as `"train/order"` or `"init/model.layers.3.mlp.up"`.
/// - `seed`: the run's seed.
/// - `item`: counter within the purpose (step, document, replicate, tensor index).
pub fn stream(purpose: &str, seed: u64, item: u64) -> Stream {
    let mut key = [0u8; 32];
    key[..16].copy_from_slice(&fnv1a_128(purpose.as_bytes()).to_le_bytes());
    key[16..24].copy_from_slice(&seed.to_le_bytes());
    key[24..].copy_from_slice(&item.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// Seed derived from a named stream: its first 64 bits. For interfaces that take a seed of their own.
pub fn derive_seed(purpose: &str, seed: u64, item: u64) -> u64 {
    stream(purpose, seed, item).next_u64()
}

/// FNV-1a, 128 bits.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = (1 << 88) + 0x13b;
    bytes.iter().fold(OFFSET, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// Uniform on [0, 1), 53 bits.
pub fn uniform<R: RngCore + ?Sized>(rng: &mut R) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Uniform on the open interval (0, 1), 52 bits; for use under a logarithm or a quantile function.
pub fn uniform_open<R: RngCore + ?Sized>(rng: &mut R) -> f64 {
    ((rng.next_u64() >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

/// Uniform on [low, high). `low == high` gives `low`.
pub fn uniform_range<R: RngCore + ?Sized>(rng: &mut R, low: f64, high: f64) -> f64 {
    low + (high - low) * uniform(rng)
}

/// Uniform integer in `0..bound`, without modulo bias. `bound` 0 or 1 gives 0.
pub fn below<R: RngCore + ?Sized>(rng: &mut R, bound: u64) -> u64 {
    if bound < 2 {
        return 0;
    }
    // Lemire's multiply-shift: reject the low part that would favour some values.
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        if product as u64 >= threshold {
            return (product >> 64) as u64;
        }
    }
}

/// Index uniform in `0..len`. `len` 0 or 1 gives 0.
pub fn index<R: RngCore + ?Sized>(rng: &mut R, len: usize) -> usize {
    below(rng, len as u64) as usize
}

/// `true` with probability one half.
pub fn coin<R: RngCore + ?Sized>(rng: &mut R) -> bool {
    rng.next_u32() & 1 == 1
}

/// Standard normal draw by inversion: one 64-bit word per draw, largest |value| about 8.2.
pub fn normal<R: RngCore + ?Sized>(rng: &mut R) -> f64 {
    quantile_with(uniform_open(rng), ln_portable)
}

/// Fills `out` with normal draws of mean `mean` and standard deviation `sd`, rounded to f32.
pub fn fill_normal<R: RngCore + ?Sized>(rng: &mut R, mean: f64, sd: f64, out: &mut [f32]) {
    for value in out {
        *value = (mean + sd * normal(rng)) as f32;
    }
}

/// Fills `out` with draws uniform on [low, high), rounded to f32.
pub fn fill_uniform<R: RngCore + ?Sized>(rng: &mut R, low: f64, high: f64, out: &mut [f32]) {
    for value in out {
        *value = uniform_range(rng, low, high) as f32;
    }
}

/// Index drawn with probability proportional to `weights`, by inversion of the running sum.
///
/// # Errors
/// When a weight is negative, NaN or infinite, or when no weight is positive.
pub fn categorical<R: RngCore + ?Sized>(rng: &mut R, weights: &[f64]) -> Result<usize, StatsError> {
    if let Some(at) = weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        return Err(invalid("draw by weight", format!("weights[{at}]"), "a finite number >= 0", weights[at]));
    }
    let total: f64 = weights.iter().sum();
    let Some(last) = weights.iter().rposition(|w| *w > 0.0) else {
        return Err(invalid("draw by weight", "weights", "at least one positive weight", total));
    };
    let mut rest = uniform(rng) * total;
    for (at, weight) in weights.iter().enumerate() {
        rest -= weight;
        if rest < 0.0 {
            return Ok(at);
        }
    }
    // rounding left a sliver after the last positive weight
    Ok(last)
}

/// Shuffles in place (Fisher–Yates from the end).
pub fn shuffle<T, R: RngCore + ?Sized>(rng: &mut R, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, index(rng, last + 1));
    }
}

/// Random permutation of `0..len`.
pub fn permutation<R: RngCore + ?Sized>(rng: &mut R, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    shuffle(rng, &mut order);
    order
}

/// `count` distinct indices of `0..len` in random order; all of them when `count >= len`.
pub fn sample_indices<R: RngCore + ?Sized>(rng: &mut R, len: usize, count: usize) -> Vec<usize> {
    let count = count.min(len);
    let mut order: Vec<usize> = (0..len).collect();
    for at in 0..count {
        let other = at + index(rng, len - at);
        order.swap(at, other);
    }
    order.truncate(count);
    order
}

/// `count` indices of `0..len` drawn with replacement: one bootstrap resample. Empty when `len` is 0.
pub fn resample_indices<R: RngCore + ?Sized>(rng: &mut R, len: usize, count: usize) -> Vec<usize> {
    if len == 0 {
        return Vec::new();
    }
    (0..count).map(|_| index(rng, len)).collect()
}

/// Natural logarithm of a positive normal number by exactly rounded operations only.
///
/// ```text
/// x = m·2^e,  √½ ≤ m < √2,  s = (m−1)/(m+1),  ln x = e·ln 2 + 2·(s + s³/3 + s⁵/5 + …)
/// ```
/// Relative error below 1e-15. Platform libraries round `ln` differently, which would make draws depend on the machine.
pub(crate) fn ln_portable(x: f64) -> f64 {
    use std::f64::consts::{LN_2, SQRT_2};
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if mantissa >= SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let s2 = s * s;
    // |s| <= 0.1716, so the term of s²⁵ is below 1e-19
    let series = (0..12).rev().fold(0.0, |sum, k| sum * s2 + 1.0 / f64::from(2 * k + 1));
    exponent * LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_gives_published_vectors() {
        // FNV reference test vectors (draft-eastlake-fnv, FNV-1a 128-bit): "", "a", "foobar"
        assert_eq!(fnv1a_128(b""), 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(fnv1a_128(b"a"), 0xd228cb696f1a8caf78912b704e4a8964);
        assert_eq!(fnv1a_128(b"foobar"), 0x343e1662793c64bf6f0d3597ba446f18);
    }

    #[test]
    fn stream_gives_known_answers() {
        // computed by an independent ChaCha (8 rounds, 64-bit counter, zero nonce) in Python over the documented key of
        // ("train/order", 42, 7); normals by scipy 1.17.1 stats.norm.ppf of the same words
        let words = |count| {
            let mut rng = stream("train/order", 42, 7);
            (0..count).map(|_| rng.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(words(4), [0x0dcf3d2bf34726de, 0x11c8d3a34d92499e, 0x2e5f9e939e1a08f5, 0xbeb1505b596cfc6b]);
        let mut rng = stream("train/order", 42, 7);
        for expected in [0.053943465452246375, 0.06947062241449331, 0.18114653686470927] {
            assert_eq!(uniform(&mut rng), expected);
        }
        let mut rng = stream("train/order", 42, 7);
        for expected in [-1.6077637480319855, -1.4797452497833532, -0.9110043650837201, 0.6585048067045365] {
            assert!((normal(&mut rng) - expected).abs() < 1e-15);
        }
        assert_eq!(permutation(&mut stream("train/order", 42, 7), 8), [2, 6, 5, 4, 3, 1, 7, 0]);
    }

    #[test]
    fn normals_keep_their_bits() {
        // frozen on first release: initial weights of every stored run depend on these bits
        let mut rng = stream("train/order", 42, 7);
        let bits: Vec<u64> = (0..3).map(|_| normal(&mut rng).to_bits()).collect();
        assert_eq!(bits, [13833291580243959361, 13832715036182950290, 13829752854238300098]);
    }

    #[test]
    fn streams_differ_by_purpose_seed_and_item() {
        let first = derive_seed("a", 1, 2);
        assert_eq!(first, derive_seed("a", 1, 2));
        for other in [derive_seed("b", 1, 2), derive_seed("a", 2, 2), derive_seed("a", 1, 3), derive_seed("a", 2, 1)] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn below_stays_in_range_and_is_even() {
        let mut rng = stream("test/below", 0, 0);
        let mut counts = [0usize; 3];
        for _ in 0..30_000 {
            counts[index(&mut rng, 3)] += 1;
        }
        // sd of each count is √(30000·⅓·⅔) = 82; five of them
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 410), "{counts:?}");
        assert_eq!((below(&mut rng, 0), below(&mut rng, 1)), (0, 0));
    }

    #[test]
    fn permutation_is_a_permutation_and_sample_is_distinct() {
        let mut rng = stream("test/permutation", 3, 0);
        let mut order = permutation(&mut rng, 50);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
        let mut some = sample_indices(&mut rng, 50, 20);
        some.sort_unstable();
        some.dedup();
        assert_eq!(some.len(), 20);
        assert_eq!(sample_indices(&mut rng, 3, 9).len(), 3);
    }

    #[test]
    fn portable_logarithm_agrees_with_the_library() {
        for x in [1e-300, 2.2e-16, 0.1, 0.5, 0.7, 0.999_999, 1.0, 1.5, std::f64::consts::E, 7e10] {
            let expected = x.ln();
            assert!((ln_portable(x) - expected).abs() <= 4e-16 * expected.abs().max(1.0), "{x}");
        }
    }

    #[test]
    fn normal_has_unit_moments() {
        let mut rng = stream("test/normal", 11, 0);
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
        let moment = |k: i32| draws.iter().map(|z| z.powi(k)).sum::<f64>() / n as f64;
        // sd of the sample moments: √(1/n), √(2/n), √(15/n), √(96/n); four of each
        let scale = 4.0 / (n as f64).sqrt();
        assert!(moment(1).abs() < scale);
        assert!((moment(2) - 1.0).abs() < 2f64.sqrt() * scale);
        assert!(moment(3).abs() < 15f64.sqrt() * scale);
        assert!((moment(4) - 3.0).abs() < 96f64.sqrt() * scale);
    }

    #[test]
    fn categorical_follows_weights_and_refuses_bad_ones() {
        let mut rng = stream("test/categorical", 0, 0);
        let hits = (0..10_000).filter(|_| categorical(&mut rng, &[1.0, 0.0, 3.0]).unwrap() == 2).count();
        // 7500 expected, sd 43; five of them
        assert!(hits.abs_diff(7_500) < 217, "{hits}");
        assert!(categorical(&mut rng, &[0.0, 0.0]).is_err());
        assert!(categorical(&mut rng, &[1.0, f64::NAN]).is_err());
        assert!(categorical(&mut rng, &[]).is_err());
    }
}
