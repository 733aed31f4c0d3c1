//! Vector arithmetic written once and compiled for every instruction level.
//!
//! A kernel is an ordinary loop over `f32` slices, declared with [`multiversion!`]. The macro compiles its body three times (for
//! the features of AVX-512, of AVX2 with FMA, and for the target's base) and picks one by [`crate::cpu::level`]; the compiler
//! vectorises each. Sums go through [`LANES`] fixed partial sums that are added as a tree, so the order of additions is the same
//! at every level and for every number of threads.
//!
//! `exp`: Cephes' degree-5 polynomial after reduction by ln 2 in two parts (Moshier, Cephes `expf.c`).
use half::bf16;

/// Partial sums of a reduction: one AVX-512 register, two AVX2 ones.
pub(crate) const LANES: usize = 16;
/// Vectors of partial sums of a plain reduction, enough to hide the latency of an addition (4 cycles).
const UNROLL: usize = 4;

/// Arithmetic of an instruction level: a scalar multiply-add for loops that the compiler vectorises by itself, and vectors of
/// [`LANES`] numbers for reductions, which it may not reorder.
pub(crate) trait Isa {
    /// [`LANES`] numbers.
    type V: Copy;
    /// Vectors of sums that fit in the registers beside two operands and a factor.
    const ACCUMULATORS: usize;

    /// `a·b + c`, rounded once where the level has the instruction.
    fn fma(a: f32, b: f32, c: f32) -> f32;
    /// The same number in every lane.
    fn splat(x: f32) -> Self::V;
    /// Sixteen numbers of memory.
    fn load(x: &[f32; LANES]) -> Self::V;
    /// Sixteen bf16 numbers of memory, widened exactly: they are the upper halves of f32.
    fn load_bf16(x: &[bf16; LANES]) -> Self::V;
    /// The lanes as an array.
    fn lanes(v: Self::V) -> [f32; LANES];
    /// `a + b`
    fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a·b`
    fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a·b + c`
    fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `b` where it is greater, else `a` (also where `b` is NaN).
    fn max(a: Self::V, b: Self::V) -> Self::V;
}

/// The target's base instruction set. No fused multiply-add: `f32::mul_add` would call the C library's emulation.
pub(crate) struct Base;

impl Isa for Base {
    type V = [f32; LANES];
    const ACCUMULATORS: usize = 2;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        [x; LANES]
    }

    #[inline(always)]
    fn load(x: &[f32; LANES]) -> Self::V {
        *x
    }

    #[inline(always)]
    fn load_bf16(x: &[bf16; LANES]) -> Self::V {
        std::array::from_fn(|i| f32::from_bits(u32::from(x[i].to_bits()) << 16))
    }

    #[inline(always)]
    fn lanes(v: Self::V) -> [f32; LANES] {
        v
    }

    #[inline(always)]
    fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if b[i] > a[i] { b[i] } else { a[i] })
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// The levels of `x86_64` in intrinsics.
///
/// The methods are inlined into kernels that [`multiversion!`] compiles with the level's features and calls only after
/// [`crate::cpu::level`] found them: that is the safety argument of every block below.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm_loadu_si128, _mm256_add_ps, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps,
        _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_fmadd_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_ps,
        _mm512_slli_epi32,
    };

    use half::bf16;

    use super::{Isa, LANES};

    /// 256-bit vectors with fused multiply-add.
    pub(crate) struct Avx2;
    /// 512-bit vectors with fused multiply-add.
    pub(crate) struct Avx512;

    impl Isa for Avx512 {
        type V = __m512;
        const ACCUMULATORS: usize = 28;

        #[inline(always)]
        fn fma(a: f32, b: f32, c: f32) -> f32 {
            a.mul_add(b, c)
        }

        #[inline(always)]
        fn splat(x: f32) -> __m512 {
            // SAFETY: the level has AVX-512 F (module's argument).
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        fn load(x: &[f32; LANES]) -> __m512 {
            // Not the intrinsic: in the dev profile it checks its pointer, and a loop that can panic keeps its sums in memory.
            // SAFETY: both are sixteen f32.
            unsafe { std::mem::transmute::<[f32; LANES], __m512>(*x) }
        }

        #[inline(always)]
        fn load_bf16(x: &[bf16; LANES]) -> __m512 {
            // SAFETY: the array holds the 32 bytes that are read; unaligned loads are allowed; the level has AVX-512 F.
            unsafe {
                let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
            }
        }

        #[inline(always)]
        fn lanes(v: __m512) -> [f32; LANES] {
            // SAFETY: both are sixteen f32.
            unsafe { std::mem::transmute::<__m512, [f32; LANES]>(v) }
        }

        #[inline(always)]
        fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the level has AVX-512 F.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        fn mul(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the level has AVX-512 F.
            unsafe { _mm512_mul_ps(a, b) }
        }

        #[inline(always)]
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the level has AVX-512 F.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn max(a: __m512, b: __m512) -> __m512 {
            // MAXPS returns its second operand when either is NaN
            // SAFETY: the level has AVX-512 F.
            unsafe { _mm512_max_ps(b, a) }
        }
    }

    impl Isa for Avx2 {
        type V = [__m256; 2];
        const ACCUMULATORS: usize = 6;

        #[inline(always)]
        fn fma(a: f32, b: f32, c: f32) -> f32 {
            a.mul_add(b, c)
        }

        #[inline(always)]
        fn splat(x: f32) -> [__m256; 2] {
            // SAFETY: the level has AVX (module's argument).
            unsafe { [_mm256_set1_ps(x); 2] }
        }

        #[inline(always)]
        fn load(x: &[f32; LANES]) -> [__m256; 2] {
            // SAFETY: the array holds the two times 8 numbers that are read; unaligned loads are allowed.
            unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
        }

        #[inline(always)]
        fn load_bf16(x: &[bf16; LANES]) -> [__m256; 2] {
            // SAFETY: the array holds the two times 16 bytes that are read; unaligned loads are allowed; the level has AVX2.
            unsafe {
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().add(8).cast()));
                [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high))]
            }
        }

        #[inline(always)]
        fn lanes(v: [__m256; 2]) -> [f32; LANES] {
            let mut lanes = [0.; LANES];
            // SAFETY: the array has room for the two times 8 numbers that are written.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), v[0]);
                _mm256_storeu_ps(lanes.as_mut_ptr().add(8), v[1]);
            }
            lanes
        }

        #[inline(always)]
        fn add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the level has AVX.
            unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        }

        #[inline(always)]
        fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the level has AVX.
            unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        }

        #[inline(always)]
        fn mul_add(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the level has FMA.
            unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        }

        #[inline(always)]
        fn max(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // MAXPS returns its second operand when either is NaN
            // SAFETY: the level has AVX.
            unsafe { [_mm256_max_ps(b[0], a[0]), _mm256_max_ps(b[1], a[1])] }
        }
    }
}

/// Compiles a kernel for every instruction level. The first parameter in angle brackets is the level's [`Isa`]; type parameters with
/// one bound may follow.
macro_rules! multiversion {
    (
        $(#[$meta:meta])* $vis:vis fn $name:ident<$isa:ident $(, $t:ident: $bound:path)*>($($arg:ident: $ty:ty),* $(,)?)
        $(-> $ret:ty)? $body:block
    ) => {
        $(#[$meta])*
        $vis fn $name<$($t: $bound),*>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<$isa: $crate::simd::Isa $(, $t: $bound)*>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512<$($t: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::simd::Avx512 $(, $t)*>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2<$($t: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::simd::Avx2 $(, $t)*>($($arg),*)
                }
                match $crate::cpu::level() {
                    // SAFETY: `level` never exceeds the features that the processor reports.
                    $crate::cpu::Level::Avx512 => return unsafe { avx512::<$($t),*>($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::Level::Avx2 => return unsafe { avx2::<$($t),*>($($arg),*) },
                    $crate::cpu::Level::Portable => {}
                }
            }
            body::<$crate::simd::Base $(, $t)*>($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// The lanes added as a binary tree.
#[inline(always)]
pub(crate) fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Where a step of a reduction reads: [`LANES`] elements from `start`, or the last few.
#[derive(Clone, Copy)]
pub(crate) struct At {
    start: usize,
    count: usize,
}

impl At {
    /// The elements of `x` here; `fill` behind the end.
    #[inline(always)]
    pub(crate) fn load_or<S: Isa>(self, x: &[f32], fill: f32) -> S::V {
        let x = &x[self.start..self.start + self.count];
        if let Some(x) = x.first_chunk() {
            return S::load(x);
        }
        let mut lanes = [fill; LANES];
        lanes[..self.count].copy_from_slice(x);
        S::load(&lanes)
    }

    /// The elements of `x` here; zeros behind the end.
    #[inline(always)]
    pub(crate) fn load<S: Isa>(self, x: &[f32]) -> S::V {
        self.load_or::<S>(x, 0.)
    }

    /// The elements of `x` here, widened; zeros behind the end.
    #[inline(always)]
    pub(crate) fn load_bf16<S: Isa>(self, x: &[bf16]) -> S::V {
        let x = &x[self.start..self.start + self.count];
        if let Some(x) = x.first_chunk() {
            return S::load_bf16(x);
        }
        let mut lanes = [bf16::ZERO; LANES];
        lanes[..self.count].copy_from_slice(x);
        S::load_bf16(&lanes)
    }
}

/// The steps of a reduction over `0..n`, a shorter one last.
#[inline(always)]
pub(crate) fn steps(n: usize) -> impl Iterator<Item = At> {
    (0..n).step_by(LANES).map(move |start| At { start, count: LANES.min(n - start) })
}

/// The last step of a reduction over `0..n`, where it is shorter than the others.
#[inline(always)]
pub(crate) fn rest(n: usize) -> Option<At> {
    let count = n % LANES;
    (count > 0).then_some(At { start: n - count, count })
}

/// Σ of what `f` adds to the partial sums at each step over `0..n`; behind the end `f` must add nothing.
#[inline(always)]
pub(crate) fn sum_of<S: Isa>(n: usize, f: impl Fn(At, S::V) -> S::V) -> f32 {
    let mut sums = [S::splat(0.); UNROLL];
    let mut start = 0;
    // one place that calls `f`: a closure called from several is not always inlined, and then its intrinsics are calls
    while start < n {
        for sum in &mut sums {
            if start < n {
                *sum = f(At { start, count: LANES.min(n - start) }, *sum);
                start += LANES;
            }
        }
    }
    add_lanes(S::lanes(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3]))))
}

/// Σ xᵢ
#[inline(always)]
pub(crate) fn sum<S: Isa>(x: &[f32]) -> f32 {
    sum_of::<S>(x.len(), |at, acc| S::add(acc, at.load::<S>(x)))
}

/// Σ xᵢ·yᵢ
#[inline(always)]
pub(crate) fn dot<S: Isa>(x: &[f32], y: &[f32]) -> f32 {
    sum_of::<S>(x.len(), |at, acc| S::mul_add(at.load::<S>(x), at.load::<S>(y), acc))
}

/// Largest element; NaN elements are skipped (they surface in the sum of exponentials), −∞ for an empty slice.
#[inline(always)]
pub(crate) fn max<S: Isa>(x: &[f32]) -> f32 {
    let mut tops = [S::splat(f32::NEG_INFINITY); UNROLL];
    for (i, at) in steps(x.len()).enumerate() {
        tops[i % UNROLL] = S::max(tops[i % UNROLL], at.load_or::<S>(x, f32::NEG_INFINITY));
    }
    let top = S::max(S::max(tops[0], tops[1]), S::max(tops[2], tops[3]));
    S::lanes(top).iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// Adding and subtracting this rounds to the nearest integer and leaves that integer in the low mantissa bits: 1.5·2²³.
const ROUND: f32 = 12_582_912.;
/// Below this, eˣ is under the smallest normal number and the result is 0.
const EXP_LOW: f32 = -87.336_54;
/// Above this, the scale 2ⁿ of the result would not fit and the result is ∞: 127.5·ln 2, a little under the true limit of 88.72.
const EXP_HIGH: f32 = 88.376_26;

/// eˣ within 2 ulp on `[-87.33, 88.37]`; 0 below, ∞ above, NaN for NaN.
#[inline(always)]
pub(crate) fn exp<S: Isa>(x: f32) -> f32 {
    let shifted = S::fma(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first exact in few bits so that n times it is exact
    let r = S::fma(n, -0.693_359_4, x);
    let r = S::fma(n, 2.121_944_4e-4, r);
    let p = S::fma(1.987_569_2e-4, r, 1.398_199_9e-3);
    let p = S::fma(p, r, 8.333_452e-3);
    let p = S::fma(p, r, 4.166_579_6e-2);
    let p = S::fma(p, r, 1.666_666_5e-1);
    let p = S::fma(p, r, 0.5);
    let p = S::fma(p * r, r, r) + 1.;
    // the low bits of `shifted` hold n; adding them to the exponent field multiplies by 2ⁿ
    let scaled = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    let scaled = if x < EXP_LOW { 0. } else { scaled };
    let scaled = if x > EXP_HIGH { f32::INFINITY } else { scaled };
    if x.is_nan() { x } else { scaled }
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
pub(crate) fn sigmoid<S: Isa>(x: f32) -> f32 {
    1. / (1. + exp::<S>(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    multiversion! {
        fn exp_all<S>(x: &mut [f32]) {
            for value in x {
                *value = exp::<S>(*value);
            }
        }
    }
    multiversion! {
        fn sum_and_dot<S>(x: &[f32]) -> (f32, f32, f32) {
            (sum::<S>(x), dot::<S>(x, x), max::<S>(x))
        }
    }

    /// Distance in units in the last place of the exact value.
    fn ulps(found: f32, exact: f64) -> f64 {
        let spacing = f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
        (f64::from(found) - exact).abs() / spacing
    }

    #[test]
    fn exp_is_within_two_ulps() {
        let mut x: Vec<f32> = (-87_330..88_370).map(|i| i as f32 * 1e-3).collect();
        let inputs = x.clone();
        exp_all(&mut x);
        let mut portable = inputs.clone();
        for value in &mut portable {
            *value = exp::<Base>(*value);
        }
        let worst = |found: &[f32]| inputs.iter().zip(found).map(|(&x, &y)| ulps(y, f64::from(x).exp())).fold(0., f64::max);
        assert!(worst(&x) <= 2., "{}", worst(&x));
        assert!(worst(&portable) <= 2., "{}", worst(&portable));
    }

    #[test]
    fn exp_keeps_the_special_values() {
        let mut x = [0., f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -1e30, 89., -0.];
        exp_all(&mut x);
        assert_eq!((x[0], x[1], x[2], x[4], x[5], x[6]), (1., 0., f32::INFINITY, 0., f32::INFINITY, 1.));
        assert!(x[3].is_nan());
    }

    #[test]
    fn reductions_cover_every_length() {
        // integers up to 200 and their squares sum exactly in f32: n(n+1)/2 and n(n+1)(2n+1)/6
        for n in 0..200usize {
            let x: Vec<f32> = (1..=n).map(|i| i as f32).collect();
            let (sum, dot, max) = sum_and_dot(&x);
            assert_eq!(sum, (n * (n + 1) / 2) as f32);
            assert_eq!(dot, (n * (n + 1) * (2 * n + 1) / 6) as f32);
            assert_eq!(max, if n == 0 { f32::NEG_INFINITY } else { n as f32 });
        }
    }
}
