//! Matrix products of strided f32 operands, the one place where a product's implementation is chosen.
//!
//! ```text
//! C[m, n] = alpha · A[m, k] · B[k, n]            (or C += …)
//! ```
//! - `portable`: blocked loops in the base instruction set, for `--cpu-features portable`.
//! - otherwise the `gemm` crate, which detects AVX-512 and AVX2 itself.
//! - [`panel`]: a frozen operand that was brought into panels once.
//! - [`skinny`]: few rows against a row-major weight, which is bound by reading the weight once.
//!
//! Each element is a sum over k in an order that depends on the shape only, never on the number of threads.
pub(crate) mod bf16;
pub(crate) mod panel;
mod portable;
pub(crate) mod skinny;

use crate::cpu::{Level, level};

/// A matrix inside a slice: element `(i, j)` is at `i·row + j·col`.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    data: &'a [f32],
    row: usize,
    col: usize,
}

impl<'a> Operand<'a> {
    /// Rows of `data` are `row` apart and contiguous inside.
    pub(crate) fn rows(data: &'a [f32], row: usize) -> Self {
        Self { data, row, col: 1 }
    }

    /// The transposed matrix.
    pub(crate) fn t(self) -> Self {
        Self { data: self.data, row: self.col, col: self.row }
    }

    /// Panics unless a `rows` x `cols` matrix lies inside the slice.
    fn check(&self, rows: usize, cols: usize) {
        let last = if rows * cols == 0 { 0 } else { (rows - 1) * self.row + (cols - 1) * self.col + 1 };
        assert!(last <= self.data.len(), "{rows} x {cols} operand ends at {last} of {}", self.data.len());
    }
}

/// What happens to the destination's old content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// It is overwritten, without being read.
    Set,
    /// The product is added to it.
    Add,
}

/// Who computes the product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread: many products already run side by side.
    One,
    /// The whole pool.
    All,
}

/// Sizes and factor of a product.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// Rows of the result.
    pub(crate) m: usize,
    /// Columns of the result.
    pub(crate) n: usize,
    /// Length of the sums.
    pub(crate) k: usize,
    /// Factor of the product.
    pub(crate) alpha: f32,
    /// Old content of the result.
    pub(crate) write: Write,
    /// Threads to use.
    pub(crate) threads: Threads,
}

impl Product {
    /// A product with factor one that overwrites its destination on all threads.
    pub(crate) fn new(m: usize, n: usize, k: usize) -> Self {
        Self { m, n, k, alpha: 1., write: Write::Set, threads: Threads::All }
    }

    /// On the calling thread.
    pub(crate) fn one_thread(self) -> Self {
        Self { threads: Threads::One, ..self }
    }

    /// Adding to the destination.
    pub(crate) fn adding(self) -> Self {
        Self { write: Write::Add, ..self }
    }

    /// With a factor.
    pub(crate) fn scaled(self, alpha: f32) -> Self {
        Self { alpha, ..self }
    }

    /// Writes the product to `c`, whose rows are `row` apart.
    pub(crate) fn into(self, a: Operand, b: Operand, c: &mut [f32], row: usize) {
        let end = if self.m * self.n == 0 { 0 } else { (self.m - 1) * row + self.n };
        assert!(end <= c.len() && (self.m <= 1 || self.n <= row), "{} x {} result in {}", self.m, self.n, c.len());
        // SAFETY: the destination is exclusively borrowed and large enough by the assertion.
        unsafe { self.into_address(a, b, c.as_mut_ptr(), row) }
    }

    /// Writes the product to the address `c`, whose rows are `row` apart.
    ///
    /// # Safety
    /// The `m` rows of `n` elements from `c`, `row` apart, are valid for writes (and hold values when adding), do not overlap each
    /// other or the operands, and nothing else reads or writes them meanwhile.
    pub(crate) unsafe fn into_address(self, a: Operand, b: Operand, c: *mut f32, row: usize) {
        let Self { m, n, k, alpha, write, threads } = self;
        if m * n == 0 {
            return;
        }
        a.check(m, k);
        b.check(k, n);
        let all = threads == Threads::All && rayon::current_num_threads() > 1;
        if level() == Level::Portable {
            // SAFETY: the operands are in bounds by the checks, the destination by the caller's promise.
            unsafe { portable::product(self, a, b, c, row, all) };
            return;
        }
        let parallelism = if all { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
        // SAFETY: as above; the strides fit in isize because slices do.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c,
                1,
                row.cast_signed(),
                write == Write::Add,
                a.data.as_ptr(),
                a.col.cast_signed(),
                a.row.cast_signed(),
                b.data.as_ptr(),
                b.col.cast_signed(),
                b.row.cast_signed(),
                1.,
                alpha,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}
