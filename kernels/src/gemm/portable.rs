//! Matrix product in the base instruction set: the same bits on every machine of the target.
//!
//! Columns of B are packed in panels of [`NR`], rows of A are read in place, and a [`MR`] x [`NR`] tile of C stays in registers while
//! k advances. No blocking of k beyond [`KC`], which keeps a panel in the first-level cache.
use super::{Operand, Product, Write};
use crate::parallel::{self, Disjoint};

/// Rows of a register tile.
const MR: usize = 4;
/// Columns of a register tile: two 128-bit registers per row.
const NR: usize = 8;
/// Length of k per pass over C.
const KC: usize = 256;
/// Rows of C per task.
const MC: usize = 64;

/// # Safety
/// As [`Product::into_address`], with operands already checked.
pub(super) unsafe fn product(p: Product, a: Operand, b: Operand, c: *mut f32, row: usize, all_threads: bool) {
    let Product { m, n, k, .. } = p;
    let panels = n.div_ceil(NR);
    let mut packed = vec![0f32; panels * KC * NR];
    // SAFETY: rows are written by their own task only; the length covers the last element of the last row.
    let out = Disjoint::new(unsafe { std::slice::from_raw_parts_mut(c, (m - 1) * row + n) });
    let mut k0 = 0;
    loop {
        let kc = KC.min(k - k0);
        let read = p.write == Write::Add || k0 > 0;
        pack(b, k0, kc, n, &mut packed);
        let task = |i: usize| {
            for i0 in (i * MC..((i + 1) * MC).min(m)).step_by(MR) {
                for panel in 0..panels {
                    tile(p, a, (i0, k0, kc), &packed[panel * kc * NR..(panel + 1) * kc * NR], panel * NR, &out, row, read);
                }
            }
        };
        let work = if all_threads { m * n * kc / 16 } else { 0 };
        parallel::for_each(m.div_ceil(MC), work, task);
        k0 += kc;
        if k0 >= k {
            break;
        }
    }
}

/// Panels of `NR` columns, k-major, padded with zeros.
fn pack(b: Operand, k0: usize, kc: usize, n: usize, packed: &mut [f32]) {
    for (panel, target) in packed.chunks_exact_mut((kc * NR).max(1)).take(n.div_ceil(NR)).enumerate() {
        for (step, row) in target.chunks_exact_mut(NR).enumerate() {
            for (j, value) in row.iter_mut().enumerate() {
                let col = panel * NR + j;
                *value = if col < n { b.data[(k0 + step) * b.row + col * b.col] } else { 0. };
            }
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "a tile is placed in three matrices")]
fn tile(
    p: Product,
    a: Operand,
    (i0, k0, kc): (usize, usize, usize),
    panel: &[f32],
    j0: usize,
    out: &Disjoint<f32>,
    row: usize,
    read: bool,
) {
    let rows = MR.min(p.m - i0);
    let cols = NR.min(p.n - j0);
    let mut acc = [[0f32; NR]; MR];
    for (step, b) in panel.chunks_exact(NR).take(kc).enumerate() {
        for (i, acc) in acc.iter_mut().enumerate() {
            // rows past the end repeat the last one; their sums are not stored
            let x = a.data[(i0 + i.min(rows - 1)) * a.row + (k0 + step) * a.col];
            for (sum, &y) in acc.iter_mut().zip(b) {
                *sum += x * y;
            }
        }
    }
    for (i, acc) in acc.iter().take(rows).enumerate() {
        let start = (i0 + i) * row + j0;
        // SAFETY: row `i0 + i` belongs to this task, and tiles of a task run one after the other.
        let target = unsafe { out.range(start, start + cols) };
        for (target, &sum) in target.iter_mut().zip(acc) {
            *target = if read { *target + p.alpha * sum } else { p.alpha * sum };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Σ over k in f64.
    fn exact(a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
        (0..m * n).map(|i| (0..k).map(|l| f64::from(a[i / n * k + l]) * f64::from(b[l * n + i % n])).sum()).collect()
    }

    #[test]
    fn products_of_every_edge_size_are_exact_for_small_integers() {
        // entries in −3..=3 and k ≤ 300 keep every partial sum an integer below 2²⁴, so f32 is exact
        for (m, n, k) in [(1, 1, 0), (1, 1, 1), (5, 9, 3), (4, 8, 256), (67, 17, 300), (3, 1, 257)] {
            let x: Vec<f32> = (0..m * k).map(|i| (i * 5 % 7) as f32 - 3.).collect();
            let y: Vec<f32> = (0..k * n).map(|i| (i * 3 % 7) as f32 - 3.).collect();
            let (a, b) = (Operand::rows(&x, k), Operand::rows(&y, n));
            let wanted = exact(&x, &y, (m, n, k));
            let mut c = vec![1f32; m * n];
            let p = Product::new(m, n, k);
            // SAFETY: `c` holds m rows of n elements and is exclusively borrowed.
            unsafe { product(p, a, b, c.as_mut_ptr(), n, false) };
            assert!(c.iter().zip(&wanted).all(|(&c, &w)| f64::from(c) == w), "{m} {n} {k}");
            // SAFETY: as above.
            unsafe { product(p.adding().scaled(2.), a, b, c.as_mut_ptr(), n, true) };
            assert!(c.iter().zip(&wanted).all(|(&c, &w)| f64::from(c) == 3. * w), "{m} {n} {k}");
        }
    }
}
