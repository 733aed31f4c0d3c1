//! Inverse cosine transform of a block in integers: the accurate method of the IJG library, so that every value equals its.
//!
//! ```text
//! columns, then rows, of the 8-point transform of Loeffler, Ligtenberg and Moschytz (1989) with 13-bit constants;
//! 2 fraction bits are kept between the passes, each pass rounds half up, the result is shifted by 128 and clamped
//! ```

/// Fraction bits of the constants.
const CONSTANT_BITS: u32 = 13;
/// Fraction bits between the passes.
const PASS_BITS: u32 = 2;

/// √2·(cos and sin combinations) of the flow graph, times 2¹³, rounded.
const C0_298631336: i32 = 2446;
const C0_390180644: i32 = 3196;
const C0_541196100: i32 = 4433;
const C0_765366865: i32 = 6270;
const C0_899976223: i32 = 7373;
const C1_175875602: i32 = 9633;
const C1_501321110: i32 = 12299;
const C1_847759065: i32 = 15137;
const C1_961570560: i32 = 16069;
const C2_053119869: i32 = 16819;
const C2_562915447: i32 = 20995;
const C3_072711026: i32 = 25172;

/// The transform of eight values, without the final shift. Wrapping, because damaged files may hold any coefficient.
#[inline]
fn transform(x: [i32; 8]) -> [i32; 8] {
    let mul = |a: i32, b: i32| a.wrapping_mul(b);
    let add = |a: i32, b: i32| a.wrapping_add(b);
    let sub = |a: i32, b: i32| a.wrapping_sub(b);

    let z = mul(add(x[2], x[6]), C0_541196100);
    let even2 = sub(z, mul(x[6], C1_847759065));
    let even3 = add(z, mul(x[2], C0_765366865));
    let even0 = add(x[0], x[4]) << CONSTANT_BITS;
    let even1 = sub(x[0], x[4]) << CONSTANT_BITS;
    let (a, d) = (add(even0, even3), sub(even0, even3));
    let (b, c) = (add(even1, even2), sub(even1, even2));

    let z5 = mul(add(add(x[7], x[3]), add(x[5], x[1])), C1_175875602);
    let z1 = mul(add(x[7], x[1]), -C0_899976223);
    let z2 = mul(add(x[5], x[3]), -C2_562915447);
    let z3 = add(mul(add(x[7], x[3]), -C1_961570560), z5);
    let z4 = add(mul(add(x[5], x[1]), -C0_390180644), z5);
    let odd0 = add(mul(x[7], C0_298631336), add(z1, z3));
    let odd1 = add(mul(x[5], C2_053119869), add(z2, z4));
    let odd2 = add(mul(x[3], C3_072711026), add(z2, z3));
    let odd3 = add(mul(x[1], C1_501321110), add(z1, z4));
    [add(a, odd3), add(b, odd2), add(c, odd1), add(d, odd0), sub(d, odd0), sub(c, odd1), sub(b, odd2), sub(a, odd3)]
}

#[inline]
fn round(value: i32, bits: u32) -> i32 {
    value.wrapping_add(1 << (bits - 1)) >> bits
}

/// Writes the 8 × 8 samples of a block of dequantised coefficients (row-major) to `out`, whose rows are `stride` apart.
pub(super) fn inverse(coefficients: &[i32; 64], out: &mut [u8], stride: usize) {
    let mut middle = [0i32; 64];
    for column in 0..8 {
        let at = |row: usize| coefficients[8 * row + column];
        let x: [i32; 8] = std::array::from_fn(at);
        if x[1..].iter().all(|&value| value == 0) {
            // The same result as below, at a fraction of the work; most columns of a photograph are so.
            let value = x[0] << PASS_BITS;
            for row in 0..8 {
                middle[8 * row + column] = value;
            }
            continue;
        }
        for (row, value) in transform(x).into_iter().enumerate() {
            middle[8 * row + column] = round(value, CONSTANT_BITS - PASS_BITS);
        }
    }
    for (row, values) in middle.chunks_exact(8).enumerate() {
        let values: &[i32; 8] = values.try_into().expect("eight values");
        let samples = transform(*values);
        let out = &mut out[row * stride..row * stride + 8];
        for (out, value) in out.iter_mut().zip(samples) {
            *out = round(value, CONSTANT_BITS + PASS_BITS + 3).saturating_add(128).clamp(0, 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(coefficients: &[i32; 64]) -> [f64; 64] {
        let scale = |k: usize| if k == 0 { 0.5f64.sqrt() } else { 1.0 };
        let basis = |x: usize, k: usize| (std::f64::consts::PI * (2 * x + 1) as f64 * k as f64 / 16.0).cos() * scale(k) / 2.0;
        std::array::from_fn(|at| {
            let (y, x) = (at / 8, at % 8);
            let term = |k: usize| f64::from(coefficients[k]) * basis(y, k / 8) * basis(x, k % 8);
            (0..64).map(term).sum::<f64>() + 128.0
        })
    }

    #[test]
    fn samples_are_the_exact_transform_within_its_rounding() {
        let mut state = 1u32;
        let mut next = |bound: i32| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8).cast_signed() % (2 * bound + 1) - bound
        };
        for round in 0..200 {
            let mut block = [0i32; 64];
            block[0] = next(600);
            for _ in 0..round % 20 {
                block[(next(31) + 31) as usize] = next(200);
            }
            let mut out = [0u8; 64];
            inverse(&block, &mut out, 8);
            for (found, exact) in out.iter().zip(exact(&block)) {
                // Half a step of the last rounding, and the first pass's halves: eight of ½·√2 over 2⁵, together 0.177.
                let distance = (f64::from(*found) - exact.clamp(0.0, 255.0)).abs();
                assert!(distance < 0.678, "{found} for {exact}");
            }
        }
    }
}
