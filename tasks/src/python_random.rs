//! CPython's `random.Random`, draw for draw: reference harnesses pick few-shot documents and bootstrap resamples with it,
//! so equal prompts and equal standard errors need the same stream.
//!
//! ```text
//! seed       init_by_array(|seed| in 32-bit words, least significant first)       MT19937
//! random()   (a·2²⁶ + b) / 2⁵³          a = next >> 5, b = next >> 6
//! bits(k)    next >> (32 − k)           one word per draw for k ≤ 32
//! below(n)   bits(len(n)) until < n     len = bit length of n itself, not of n − 1
//! ```
//! Source: Matsumoto and Nishimura, "Mersenne Twister" (1998), and CPython 3.12 `Modules/_randommodule.c`, `Lib/random.py`.

use std::collections::HashSet;

/// Words of state.
const N: usize = 624;
/// Offset of the recurrence.
const M: usize = 397;

/// The generator behind Python's `random.Random(seed)`.
///
/// ```
/// use tasks::python_random::PythonRandom;
/// assert_eq!(PythonRandom::new(1234).randbelow(1000), 989);
/// ```
#[derive(Clone, Debug)]
pub struct PythonRandom {
    state: Box<[u32; N]>,
    index: usize,
}

impl PythonRandom {
    /// `random.Random(seed)` for a non-negative integer seed.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key = if high == 0 { vec![low] } else { vec![low, high] };
        Self::from_key(&key)
    }

    /// `init_by_array` of the original C code.
    fn from_key(key: &[u32]) -> Self {
        let mut mt = Box::new([0u32; N]);
        mt[0] = 19650218;
        for i in 1..N {
            mt[i] = 1812433253u32.wrapping_mul(mt[i - 1] ^ (mt[i - 1] >> 30)).wrapping_add(i as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let mixed = (mt[i - 1] ^ (mt[i - 1] >> 30)).wrapping_mul(1664525);
            mt[i] = (mt[i] ^ mixed).wrapping_add(key[j]).wrapping_add(j as u32);
            i += 1;
            j += 1;
            if i >= N {
                mt[0] = mt[N - 1];
                i = 1;
            }
            if j >= key.len() {
                j = 0;
            }
        }
        for _ in 0..N - 1 {
            let mixed = (mt[i - 1] ^ (mt[i - 1] >> 30)).wrapping_mul(1566083941);
            mt[i] = (mt[i] ^ mixed).wrapping_sub(i as u32);
            i += 1;
            if i >= N {
                mt[0] = mt[N - 1];
                i = 1;
            }
        }
        mt[0] = 0x8000_0000;
        Self { state: mt, index: N }
    }

    fn refill(&mut self) {
        let mt = &mut self.state;
        for k in 0..N {
            let y = (mt[k] & 0x8000_0000) | (mt[(k + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            mt[k] = mt[(k + M) % N] ^ (y >> 1) ^ twist;
        }
        self.index = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.index >= N {
            self.refill();
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `getrandbits(bits)`.
    ///
    /// # Panics
    /// When `bits > 32`: one word is drawn.
    pub fn getrandbits(&mut self, bits: u32) -> u32 {
        assert!(bits <= 32, "getrandbits: expected at most 32 bits, found {bits}");
        if bits == 0 { 0 } else { self.next_u32() >> (32 - bits) }
    }

    /// `_randbelow(n)`: uniform in `0..n` by rejection, so the number of words used varies. This is also Python's `choice` of an index.
    ///
    /// # Panics
    /// When `n` is zero.
    pub fn randbelow(&mut self, n: usize) -> usize {
        assert!(n > 0, "randbelow: expected a positive bound, found 0");
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let draw = self.wide_bits(bits);
            if draw < n {
                return draw;
            }
        }
    }

    /// `getrandbits` up to 64 bits: words from least to most significant, the last one cut.
    fn wide_bits(&mut self, bits: u32) -> usize {
        if bits <= 32 {
            return self.getrandbits(bits) as usize;
        }
        let low = self.getrandbits(32) as usize;
        low | ((self.getrandbits(bits - 32) as usize) << 32)
    }

    /// `random()`: uniform in `[0, 1)` with 53 bits.
    pub fn random(&mut self) -> f64 {
        let a = (self.next_u32() >> 5) as f64;
        let b = (self.next_u32() >> 6) as f64;
        (a * 67108864.0 + b) * (1.0 / 9007199254740992.0)
    }

    /// `sample(range(n), k)`: `k` different indices in draw order.
    ///
    /// # Panics
    /// When `k > n`.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        assert!(k <= n, "sample: expected at most {n} items, found {k}");
        // CPython copies the population only when that is smaller than a set of k items; the two ways draw differently.
        let mut set_size = 21;
        if k > 5 {
            set_size += 4usize.pow(((k as f64 * 3.0).ln() / 4f64.ln()).ceil() as u32);
        }
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..k)
                .map(|i| {
                    let j = self.randbelow(n - i);
                    let picked = pool[j];
                    pool[j] = pool[n - i - 1]; // the last unpicked item fills the gap
                    picked
                })
                .collect();
        }
        let mut seen = HashSet::with_capacity(k);
        let mut picked = Vec::with_capacity(k);
        while picked.len() < k {
            let j = self.randbelow(n);
            if seen.insert(j) {
                picked.push(j);
            }
        }
        picked
    }

    /// `choices(range(n), k=k)`: `k` indices with replacement, each `floor(random() · n)`.
    ///
    /// # Panics
    /// When `n` is zero and `k` is not.
    pub fn choices(&mut self, n: usize, k: usize) -> Vec<usize> {
        assert!(n > 0 || k == 0, "choices: expected a non-empty population");
        (0..k).map(|_| (self.random() * n as f64).floor() as usize).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Literals printed by CPython 3.11; the rows for seed 1234 are also in the reference harness's own test data.
    #[test]
    fn words_match_cpython() {
        let mut rng = PythonRandom::new(1234);
        let words: Vec<u32> = (0..4).map(|_| rng.getrandbits(32)).collect();
        assert_eq!(words, [4150886329, 3342196574, 1892932127, 501869158]);
    }

    #[test]
    fn mixed_draws_match_cpython() {
        for (seed, first, unit, small, wide) in [
            (0, 3626764237u32, 0.890243920837131, 41, 1067347797602usize),
            (1234, 4150886329, 0.11685051774599753, 92, 75515092441),
            ((1u64 << 32) + 5, 675479763, 0.8899258643720599, 855, 777451458305), // a two-word key
        ] {
            let mut rng = PythonRandom::new(seed);
            assert_eq!(rng.getrandbits(32), first);
            rng.getrandbits(32);
            rng.getrandbits(32);
            assert_eq!(rng.random(), unit);
            assert_eq!(rng.randbelow(1000), small);
            assert_eq!(rng.randbelow(1 << 40), wide);
        }
    }

    #[test]
    fn sample_matches_cpython_over_a_large_pool() {
        let mut rng = PythonRandom::new(1234);
        for row in
            [[6374, 3610, 957, 61, 742], [7462, 6610, 4769, 286, 5501], [5677, 687, 806, 6279, 2905], [1939, 142, 252, 6461, 129]]
        {
            assert_eq!(rng.sample(7473, 5), row);
        }
    }

    #[test]
    fn sample_matches_cpython_when_both_ways_mix() {
        let mut rng = PythonRandom::new(1234);
        assert_eq!(rng.sample(30, 8), [24, 14, 3, 0, 2, 18, 1, 21]);
        assert_eq!(rng.sample(100, 5), [88, 10, 12, 98, 45]);
        assert_eq!(rng.sample(8, 8), [3, 0, 6, 5, 2, 7, 1, 4]);
        let mut rng = PythonRandom::new(1234);
        for row in [[28, 7, 0], [5, 2, 6], [22, 15, 1]] {
            assert_eq!(rng.sample(32, 3), row);
        }
    }

    #[test]
    fn choices_match_cpython() {
        let mut rng = PythonRandom::new(0);
        for row in [[4, 3, 2, 1, 2], [2, 3, 1, 2, 2], [4, 2, 1, 3, 3], [1, 4, 4, 4, 4], [1, 3, 4, 3, 2]] {
            assert_eq!(rng.choices(5, 5), row);
        }
    }

    #[test]
    fn choice_of_letters_matches_cpython() {
        let mut rng = PythonRandom::new(42);
        let letters: String = (0..12).map(|_| char::from(b'A' + rng.randbelow(4) as u8)).collect();
        assert_eq!(letters, "AACBBBAADAAA");
    }

    #[test]
    #[should_panic(expected = "expected at most 3 items, found 4")]
    fn sample_refuses_more_than_the_pool() {
        PythonRandom::new(0).sample(3, 4);
    }
}
