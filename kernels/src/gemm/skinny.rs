//! Few rows against a row-major weight: one pass over the weight, a dot product per output, nothing packed.
//!
//! ```text
//! y[i, j] = Σₖ x[i, k] · w[j, k] (+ bias[j])          i below some tens
//! ```
//! Decoding is bound by reading the weight once; a packed matrix product reads it, writes it and reads it again, which for one to
//! some tens of rows costs more than the multiplications. A bf16 weight is half as much to read. Tiles of [`TILE`] x [`TILE`] dot products share their loads.
//!
//! An output is the same sum whatever the other rows are: sixteen partial sums in the order of k, added as a tree. The bits of a
//! row do not depend on the number of rows beside it.
use half::bf16;

use crate::element::Element;
use crate::parallel::{self, Disjoint};
use crate::simd::{At, Isa, LANES, add_lanes, multiversion, rest};

/// Whether this beats the packed product: measured with weights of 384 x 384, which packing hardly slows, and 4096 x 2048, where
/// 64 rows still take two thirds of the packed product's time.
pub(crate) fn is_faster(rows: usize, weights: usize) -> bool {
    rows <= if weights > 1 << 20 { 64 } else { 24 }
}

/// Rows of `x` and of `w` of one tile: 16 sums in registers, 8 loads for 16 multiply-adds.
pub(crate) const TILE: usize = 4;
/// Number format of a weight. Sums are f32 in either.
pub(crate) trait Weight: Element {
    /// [`dots_f32`] or [`dots_bf16`]. `is_streamed`: the weight comes from memory, not from a cache.
    fn dots(x: &[f32], w: &[Self], k: usize, is_streamed: bool, sums: &mut [[f32; OUTPUTS]; TILE]);
    /// The numbers of one step, which may be a shorter last one.
    fn load_at<S: Isa>(at: At, w: &[Self]) -> S::V;
}

impl Weight for f32 {
    fn dots(x: &[f32], w: &[f32], k: usize, is_streamed: bool, sums: &mut [[f32; OUTPUTS]; TILE]) {
        dots_f32(x, w, k, is_streamed, sums);
    }

    #[inline(always)]
    fn load_at<S: Isa>(at: At, w: &[f32]) -> S::V {
        at.load::<S>(w)
    }
}

impl Weight for bf16 {
    fn dots(x: &[f32], w: &[bf16], k: usize, is_streamed: bool, sums: &mut [[f32; OUTPUTS]; TILE]) {
        dots_bf16(x, w, k, is_streamed, sums);
    }

    #[inline(always)]
    fn load_at<S: Isa>(at: At, w: &[bf16]) -> S::V {
        at.load_bf16::<S>(w)
    }
}

/// Weights of a matrix that no second-level cache holds. One row of them at a time, in the order of memory, then reads a fifth more per second
/// than eight rows side by side; those have the shorter chains of additions where a cache holds the weight.
const STREAMED: usize = 1 << 20;
/// Bytes that a stream is asked for ahead of its use.
const STREAM: usize = 2048;

/// Outputs of one task.
pub(crate) const OUTPUTS: usize = 32;

/// `y[rows, out] = x[rows, k] · wᵀ + bias` with `w: [out, k]`, on all threads.
pub(crate) fn product<W: Weight>(x: &[f32], w: &[W], bias: Option<&[f32]>, y: &mut [f32], k: usize) {
    let (rows, out) = sizes(x, w, y, k);
    let target = Disjoint::new(y);
    parallel::for_each(out.div_ceil(OUTPUTS), w.len() * rows.div_ceil(TILE), |task| {
        let first = task * OUTPUTS;
        let last = (first + OUTPUTS).min(out);
        let bias = bias.map(|bias| &bias[first..last]);
        // SAFETY: each task writes columns `first..last` of every row and no others.
        let store = |row: usize| unsafe { target.range(row * out + first, row * out + last) };
        block(x, &w[first * k..last * k], k, w.len() > STREAMED, bias, rows, store);
    });
}

/// [`product`] without bias on the calling thread.
pub(crate) fn product_one_thread(x: &[f32], w: &[f32], y: &mut [f32], k: usize) {
    let (rows, out) = sizes(x, w, y, k);
    let target = Disjoint::new(y);
    for first in (0..out).step_by(OUTPUTS) {
        let last = (first + OUTPUTS).min(out);
        // SAFETY: nothing else holds a part of `y`, and a row's slice is dropped before the next is made.
        let store = |row: usize| unsafe { target.range(row * out + first, row * out + last) };
        block(x, &w[first * k..last * k], k, false, None, rows, store);
    }
}

/// Rows and outputs.
fn sizes<W>(x: &[f32], w: &[W], y: &[f32], k: usize) -> (usize, usize) {
    let (rows, out) = (x.len() / k, w.len() / k);
    assert!(x.len() == rows * k && w.len() == out * k && y.len() == rows * out, "skinny product: {rows} x {out} x {k}");
    (rows, out)
}

/// Every row of `x` against up to [`OUTPUTS`] rows of `w`; `store(row)` is where the outputs of a row go.
fn block<'a, W: Weight>(
    x: &[f32],
    w: &[W],
    k: usize,
    is_streamed: bool,
    bias: Option<&[f32]>,
    rows: usize,
    store: impl Fn(usize) -> &'a mut [f32],
) {
    for row in (0..rows).step_by(TILE) {
        let count = TILE.min(rows - row);
        let mut sums = [[0f32; OUTPUTS]; TILE];
        W::dots(&x[row * k..(row + count) * k], w, k, is_streamed, &mut sums);
        for (i, sums) in sums.iter().take(count).enumerate() {
            let y = store(row + i);
            match bias {
                Some(bias) => y.iter_mut().zip(sums).zip(bias).for_each(|((y, sum), bias)| *y = sum + bias),
                None => y.copy_from_slice(&sums[..y.len()]),
            }
        }
    }
}

multiversion! {
    /// Dot products of every row of `w` with the one to four rows of `x`.
    fn dots_f32<S>(x: &[f32], w: &[f32], k: usize, is_streamed: bool, sums: &mut [[f32; OUTPUTS]; TILE]) {
        dots::<S, f32>(x, w, k, is_streamed, sums);
    }
}

multiversion! {
    /// The same with a bf16 weight.
    fn dots_bf16<S>(x: &[f32], w: &[bf16], k: usize, is_streamed: bool, sums: &mut [[f32; OUTPUTS]; TILE]) {
        dots::<S, bf16>(x, w, k, is_streamed, sums);
    }
}

#[inline(always)]
fn dots<S: Isa, W: Weight>(x: &[f32], w: &[W], k: usize, is_streamed: bool, sums: &mut [[f32; OUTPUTS]; TILE]) {
    match x.len() / k {
        1 if is_streamed => dots_of::<S, W, 1, 1>(x, w, k, sums),
        1 => dots_of::<S, W, 1, 8>(x, w, k, sums),
        2 => dots_of::<S, W, 2, 4>(x, w, k, sums),
        3 => dots_of::<S, W, 3, 4>(x, w, k, sums),
        _ => dots_of::<S, W, 4, 4>(x, w, k, sums),
    }
}

/// [`dots`] for `R` rows of `x`, `J` rows of `w` at a time.
#[inline(always)]
fn dots_of<S: Isa, W: Weight, const R: usize, const J: usize>(x: &[f32], w: &[W], k: usize, sums: &mut [[f32; OUTPUTS]; TILE]) {
    let out = w.len() / k;
    let mut first = 0;
    while first + J <= out {
        tile::<S, W, R, J>(x, &w[first * k..(first + J) * k], k, first, sums);
        first += J;
    }
    while first < out {
        tile::<S, W, R, 1>(x, &w[first * k..(first + 1) * k], k, first, sums);
        first += 1;
    }
}

/// `R` x `J` dot products with their sums in registers.
#[inline(always)]
fn tile<S: Isa, W: Weight, const R: usize, const J: usize>(
    x: &[f32],
    w: &[W],
    k: usize,
    first: usize,
    sums: &mut [[f32; OUTPUTS]; TILE],
) {
    let mut acc = [[S::splat(0.); J]; R];
    let x: [&[f32]; R] = std::array::from_fn(|r| &x[r * k..(r + 1) * k]);
    let w: [&[W]; J] = std::array::from_fn(|j| &w[j * k..(j + 1) * k]);
    // whole steps apart from the last: a load that may be shorter goes through memory and takes the sums with it
    let (x_steps, w_steps) = (x.map(|x| x.as_chunks::<LANES>().0), w.map(|w| w.as_chunks::<LANES>().0));
    for step in 0..k / LANES {
        // loops, not `from_fn`: a closure is not always inlined, and then its intrinsics are calls
        let mut weights = [S::splat(0.); J];
        for j in 0..J {
            weights[j] = W::load::<S>(&w_steps[j][step]);
            let distance = if J == 1 { STREAM / size_of::<W>() } else { J * k };
            read_ahead(w_steps[j][step].as_ptr().wrapping_add(distance));
        }
        for r in 0..R {
            let x = S::load(&x_steps[r][step]);
            for j in 0..J {
                acc[r][j] = S::mul_add(x, weights[j], acc[r][j]);
            }
        }
    }
    if let Some(at) = rest(k) {
        let mut weights = [S::splat(0.); J];
        for j in 0..J {
            weights[j] = W::load_at::<S>(at, w[j]);
        }
        for r in 0..R {
            let x = at.load::<S>(x[r]);
            for j in 0..J {
                acc[r][j] = S::mul_add(x, weights[j], acc[r][j]);
            }
        }
    }
    for r in 0..R {
        for j in 0..J {
            sums[r][first + j] = add_lanes(S::lanes(acc[r][j]));
        }
    }
}

/// Asks for the line at an address: the same place of the next rows. A row is a page or so, where the processor's own reading ahead
/// starts anew each time.
#[inline(always)]
fn read_ahead<W>(address: *const W) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch of any address reads nothing and does not fault; the instruction is in the base set.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_exact_for_small_integers() {
        for (rows, out, k) in [(0, 3, 2), (1, 1, 1), (1, 65, 33), (2, 3, 31), (3, 130, 100), (4, 64, 64), (9, 37, 50)] {
            let x: Vec<f32> = (0..rows * k).map(|i| (i * 5 % 7) as f32 - 3.).collect();
            let w: Vec<f32> = (0..out * k).map(|i| (i * 3 % 7) as f32 - 3.).collect();
            let bias: Vec<f32> = (0..out).map(|i| i as f32).collect();
            let (mut with_bias, mut without) = (vec![f32::NAN; rows * out], vec![f32::NAN; rows * out]);
            product(&x, &w, Some(&bias), &mut with_bias, k);
            product_one_thread(&x, &w, &mut without, k);
            for i in 0..rows * out {
                let (r, j) = (i / out, i % out);
                let wanted: f32 = (0..k).map(|l| x[r * k + l] * w[j * k + l]).sum::<f32>();
                assert_eq!((without[i], with_bias[i]), (wanted, wanted + j as f32), "row {r} output {j} of {rows} {out} {k}");
            }
        }
    }

    #[test]
    fn a_bf16_weight_is_widened_exactly() {
        let (rows, out, k) = (5, 37, 45);
        let value = |i: usize| ((i * 7919) % 1000) as f32 / 999. - 0.5;
        let x: Vec<f32> = (0..rows * k).map(value).collect();
        let w: Vec<bf16> = (0..out * k).map(|i| bf16::from_f32(value(i + 13))).collect();
        let wide: Vec<f32> = w.iter().map(|w| w.to_f32()).collect();
        let (mut found, mut wanted) = (vec![0f32; rows * out], vec![0f32; rows * out]);
        product(&x, &w, None, &mut found, k);
        product(&x, &wide, None, &mut wanted, k);
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        let (rows, out, k) = (7, 40, 83);
        let value = |i: usize| ((i * 7919) % 1000) as f32 / 999. - 0.5;
        let x: Vec<f32> = (0..rows * k).map(value).collect();
        let w: Vec<f32> = (0..out * k).map(|i| value(i + 13)).collect();
        let mut together = vec![0f32; rows * out];
        product(&x, &w, None, &mut together, k);
        for (x, together) in x.chunks_exact(k).zip(together.chunks_exact(out)) {
            let mut alone = vec![0f32; out];
            product(x, &w, None, &mut alone, k);
            assert_eq!(alone, together);
        }
    }
}
