//! The rounded products against sums in f64, at every edge size and in every layout.
use super::*;

/// Numbers in −1..1 from a counter, of 24 random bits.
fn value(i: usize) -> f32 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f32 / (1u64 << 23) as f32 - 1.
}

fn rounded(x: f32) -> f64 {
    f64::from(<bf16 as Element>::narrow(x).wide())
}

/// `m x k` numbers and the matrix over them, stored by rows or transposed, with a gap between lines.
fn operand(m: usize, k: usize, transposed: bool, seed: usize) -> (Vec<f32>, usize) {
    let (lines, width) = if transposed { (k, m) } else { (m, k) };
    let row = width + 3;
    ((0..lines * row).map(|i| value(i + seed)).collect(), row)
}

fn at(x: &[f32], row: usize, transposed: bool, i: usize, j: usize) -> f32 {
    if transposed { x[j * row + i] } else { x[i * row + j] }
}

/// Each element's error, relative to Σ|a·b|; `exact` gives a factor's value in the reference.
fn check(rounding: Rounding, bf16_operands: bool, exact: fn(f32) -> f64, bound: f64) {
    for (m, n, k) in [(1, 1, 0), (1, 1, 1), (5, 9, 3), (12, 32, 64), (13, 33, 65), (67, 17, 300), (3, 100, 31), (300, 40, 34)] {
        for layout in 0..4 {
            let (ta, tb) = (layout & 1 == 1, layout & 2 == 2);
            let ((x, x_row), (y, y_row)) = (operand(m, k, ta, 0), operand(k, n, tb, 77));
            let (xb, yb): (Vec<bf16>, Vec<bf16>) =
                (x.iter().map(|&x| bf16::from_f32(x)).collect(), y.iter().map(|&y| bf16::from_f32(y)).collect());
            let (a, b) = if bf16_operands {
                (Matrix::rows(&xb[..], x_row), Matrix::rows(&yb[..], y_row))
            } else {
                (Matrix::rows(&x[..], x_row), Matrix::rows(&y[..], y_row))
            };
            let (a, b) = (if ta { a.t() } else { a }, if tb { b.t() } else { b });
            let bias: Vec<f32> = (0..n).map(|j| j as f32).collect();
            let row = n + 1;
            let mut c = vec![0.5f32; m * row];
            let mut narrow = vec![bf16::ZERO; m * row];
            let p = Product::new(m, n, k);
            p.rounded(rounding, a, b, Some(&bias), &mut c, row);
            p.rounded(rounding, a, b, None, &mut narrow, row);
            let mut one = c.clone();
            p.one_thread().rounded(rounding, a, b, Some(&bias), &mut one, row);
            assert_eq!(c, one, "threads change the bits");
            let mut twice = c.clone();
            p.adding().scaled(2.).rounded(rounding, a, b, None, &mut twice, row);
            for i in 0..m {
                for j in 0..n {
                    let products = || (0..k).map(|l| exact(at(&x, x_row, ta, i, l)) * exact(at(&y, y_row, tb, l, j)));
                    let (sum, size) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
                    let limit = bound * size + 1e-6 * j as f64; // the bias is added in f32
                    let error = |found: f32, wanted: f64| (f64::from(found) - wanted).abs();
                    assert!(error(c[i * row + j], sum + j as f64) <= limit, "{m} {n} {k} {layout}");
                    assert!(error(twice[i * row + j], 3. * sum + j as f64) <= 3. * limit, "{m} {n} {k} {layout}");
                    // a bf16 result is rounded once more: half of 2⁻⁷
                    assert!(error(narrow[i * row + j].to_f32(), sum) <= limit + sum.abs() / 256.);
                }
                if i + 1 < m {
                    assert_eq!(c[i * row + n], 0.5, "the gap between rows is untouched");
                }
            }
        }
    }
}

/// f32 sums of up to 300 products.
const SUMS: f64 = 2e-6;

#[test]
fn operands_are_rounded_to_bf16_and_summed_in_f32() {
    check(Rounding::Once, false, rounded, SUMS);
    check(Rounding::Once, true, rounded, SUMS);
}

#[test]
fn bf16_products_keep_their_stated_bound() {
    check(Rounding::Once, false, f64::from, 1.01 / 128. + SUMS);
}

#[test]
fn operands_are_split_on_processors_with_tiles_only_and_never_below_the_level_of_dot_products() {
    assert!(Rounding::on(Numerics::F32Split, true) == Some(Rounding::Split));
    assert!(Rounding::on(Numerics::F32Split, false).is_none());
    assert!(has_dot_products() || Rounding::of(Numerics::F32Split).is_none());
    for splits in [false, true] {
        assert!(Rounding::on(Numerics::F32, splits).is_none());
        assert!(Rounding::on(Numerics::Bf16, splits) == Some(Rounding::Once));
    }
}

#[test]
fn split_products_keep_their_stated_bound() {
    check(Rounding::Split, false, f64::from, 3.01 / 65_536. + SUMS);
    check(Rounding::Split, true, rounded, SUMS);
}

#[test]
fn split_products_are_typically_within_five_millionths() {
    // the relative error of a whole matrix, root mean square, as it is quoted
    let (m, n, k) = (64, 64, 512);
    let (x, y): (Vec<f32>, Vec<f32>) = ((0..m * k).map(value).collect(), (0..k * n).map(|i| value(i + 1_000_000)).collect());
    let mut c = vec![0f32; m * n];
    Product::new(m, n, k).rounded(Rounding::Split, Matrix::rows(&x[..], k), Matrix::rows(&y[..], n), None, &mut c, n);
    let (mut error, mut size) = (0f64, 0f64);
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(y[l * n + j])).sum();
            error += (f64::from(c[i * n + j]) - sum).powi(2);
            size += sum * sum;
        }
    }
    assert!((error / size).sqrt() < 5e-6, "{}", (error / size).sqrt());
}

#[test]
fn the_path_without_the_instruction_agrees() {
    let (m, n, k) = (7, 11, 50);
    let (x, y): (Vec<f32>, Vec<f32>) = ((0..m * k).map(value).collect(), (0..k * n).map(|i| value(i + 5)).collect());
    let (a, b) = (Matrix::rows(&x[..], k), Matrix::rows(&y[..], n));
    let bias = vec![0.25f32; n];
    for rounding in [Rounding::Once, Rounding::Split] {
        let (mut found, mut other) = (vec![1f32; m * n], vec![1f32; m * n]);
        let p = Product::new(m, n, k).adding();
        p.rounded(rounding, a, b, Some(&bias), &mut found, n);
        // SAFETY: `other` holds m rows of n elements and is exclusively borrowed.
        unsafe { widened(p, rounding, a, b, Some(&bias), Target::F32(other.as_mut_ptr()), n) };
        let worst = found.iter().zip(&other).map(|(x, y)| (x - y).abs()).fold(0., f32::max);
        assert!(worst < 5e-4, "{worst}"); // sums of 50 products of size one, each within 3·2⁻¹⁶
    }
}
