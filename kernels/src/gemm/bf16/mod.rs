//! Products of operands rounded to bf16, with f32 sums, and of f32 operands split in two bf16 numbers.
//!
//! ```text
//! bf16     C = Σ bf16(a)·bf16(b)                                              |error| ≤ 2⁻⁷·Σ|a·b|, besides that of an f32 sum
//! split    a = a₁ + a₂ + ε     a₁ = bf16(a), a₂ = bf16(a − a₁), |ε| ≤ 2⁻¹⁶·|a|
//!          C = Σ a₁·b₁ + a₁·b₂ + a₂·b₁                                          |error| ≤ 3·2⁻¹⁶·Σ|a·b|, likewise
//!              (a₂·b₂ ≤ 2⁻¹⁶·|a·b| is left out)
//! ```
//! Operands are f32 or bf16, in any layout with one contiguous axis; rounding happens while they are packed. A (the rows) is packed
//! once; a task packs a group of columns of B that stays in the second-level cache and goes through all rows with it.
//!
//! No library has this: the `gemm` crate's bf16 product widens to f32, and the C libraries that use the instruction are outside the
//! rule of pure Rust (dependencies.md). Where the processor lacks the instruction the operands are rounded the same way, widened,
//! and handed to the f32 product: the same result but for the order of the sums.
#[cfg(target_arch = "x86_64")]
mod kernel;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use half::bf16;

use super::{Operand, Product, Threads, Write};
use crate::Numerics;
use crate::cpu::{CpuFeatures, Level, level};
use crate::element::Element;

/// Elements of an operand.
#[derive(Clone, Copy)]
pub(crate) enum Numbers<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl Numbers<'_> {
    /// Some of them.
    pub(crate) fn range(self, start: usize, end: usize) -> Self {
        match self {
            Self::F32(x) => Self::F32(&x[start..end]),
            Self::Bf16(x) => Self::Bf16(&x[start..end]),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }
}

impl<'a> From<&'a [f32]> for Numbers<'a> {
    fn from(x: &'a [f32]) -> Self {
        Self::F32(x)
    }
}

impl<'a> From<&'a [bf16]> for Numbers<'a> {
    fn from(x: &'a [bf16]) -> Self {
        Self::Bf16(x)
    }
}

/// A matrix inside a slice: element `(i, j)` is at `i·row + j·col`, where `row` or `col` is one.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    numbers: Numbers<'a>,
    row: usize,
    col: usize,
}

impl<'a> Matrix<'a> {
    /// Rows `row` apart and contiguous inside.
    pub(crate) fn rows(numbers: impl Into<Numbers<'a>>, row: usize) -> Self {
        Self { numbers: numbers.into(), row, col: 1 }
    }

    /// The transposed matrix.
    pub(crate) fn t(self) -> Self {
        Self { numbers: self.numbers, row: self.col, col: self.row }
    }

    /// Panics unless a `rows` x `cols` matrix lies inside the slice.
    fn check(&self, rows: usize, cols: usize) {
        let last = if rows * cols == 0 { 0 } else { (rows - 1) * self.row + (cols - 1) * self.col + 1 };
        assert!(last <= self.numbers.len(), "{rows} x {cols} operand ends at {last} of {}", self.numbers.len());
    }
}

/// Where a product goes: rows `row` apart from an address.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    F32(*mut f32),
    Bf16(*mut bf16),
}

/// How operands become bf16.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Rounded to bf16.
    Once,
    /// Split in two bf16 numbers.
    Split,
}

impl Rounding {
    /// What a model's numerics ask for on this processor; `None` for products of f32.
    ///
    /// Split products are for processors where bf16 is more than three times as fast as f32: those with matrix tiles, at a level that
    /// has the dot products. Elsewhere an f32 product is both faster (1.8 times in a training step on Zen 5) and closer, and keeps the
    /// bound of the split.
    pub(crate) fn of(numerics: Numerics) -> Option<Self> {
        static TILES: OnceLock<bool> = OnceLock::new();
        Self::on(numerics, has_dot_products() && *TILES.get_or_init(|| CpuFeatures::detect().amx_bf16))
    }

    fn on(numerics: Numerics, splits: bool) -> Option<Self> {
        match numerics {
            Numerics::F32 => None,
            Numerics::F32Split => splits.then_some(Self::Split),
            Numerics::Bf16 => Some(Self::Once),
        }
    }
}

/// Whether the processor and the level have bf16 dot products.
pub(crate) fn has_dot_products() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| level() == Level::Avx512 && CpuFeatures::detect().avx512_bf16)
}

/// A format that a product can be written in.
pub(crate) trait Output: Element {
    fn target(start: *mut Self) -> Target;
}

impl Output for f32 {
    fn target(start: *mut Self) -> Target {
        Target::F32(start)
    }
}

impl Output for bf16 {
    fn target(start: *mut Self) -> Target {
        Target::Bf16(start)
    }
}

impl Product {
    /// Writes the product of rounded operands to `c`, whose rows are `row` apart, with `bias` added to each row.
    pub(crate) fn rounded<T: Output>(
        self,
        rounding: Rounding,
        a: Matrix<'_>,
        b: Matrix<'_>,
        bias: Option<&[f32]>,
        c: &mut [T],
        row: usize,
    ) {
        let end = if self.m * self.n == 0 { 0 } else { (self.m - 1) * row + self.n };
        assert!(end <= c.len() && (self.m <= 1 || self.n <= row), "{} x {} result in {}", self.m, self.n, c.len());
        // SAFETY: the destination is exclusively borrowed and large enough by the assertion.
        unsafe { self.rounded_to(rounding, a, b, bias, T::target(c.as_mut_ptr()), row) }
    }

    /// [`Product::rounded`] to an address.
    ///
    /// # Safety
    /// As [`Product::into_address`].
    pub(crate) unsafe fn rounded_to(
        self,
        rounding: Rounding,
        a: Matrix<'_>,
        b: Matrix<'_>,
        bias: Option<&[f32]>,
        c: Target,
        row: usize,
    ) {
        if self.m * self.n == 0 {
            return;
        }
        a.check(self.m, self.k);
        b.check(self.k, self.n);
        assert!(bias.is_none_or(|bias| bias.len() == self.n), "a bias of {} columns", self.n);
        assert!(matches!(c, Target::F32(_)) || self.write == Write::Set, "a bf16 result is not added to");
        #[cfg(target_arch = "x86_64")]
        if has_dot_products() {
            // SAFETY: operands are inside their slices by the checks, the destination by the caller's promise, and the processor
            // has the instruction.
            unsafe { packed::product(self, rounding, a, b, bias, c, row) };
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { widened(self, rounding, a, b, bias, c, row) };
    }
}

/// The product by way of f32: operands rounded and widened again.
///
/// # Safety
/// As [`Product::into_address`].
unsafe fn widened(p: Product, rounding: Rounding, a: Matrix<'_>, b: Matrix<'_>, bias: Option<&[f32]>, c: Target, row: usize) {
    let (wide_a, wide_b) = (wide(a, p.m, p.k, rounding), wide(b, p.k, p.n, rounding));
    let (a, b) = (Operand::rows(&wide_a, p.k), Operand::rows(&wide_b, p.n));
    let mut sums = vec![0f32; p.m * p.n];
    Product { write: Write::Set, ..p }.into(a, b, &mut sums, p.n);
    for (i, sums) in sums.chunks_exact_mut(p.n).enumerate() {
        if let Some(bias) = bias {
            sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
        }
        // SAFETY: row i of the destination, which the caller lends.
        unsafe {
            match c {
                Target::F32(start) => {
                    let target = std::slice::from_raw_parts_mut(start.add(i * row), p.n);
                    let adds = p.write == Write::Add;
                    for (target, &sum) in target.iter_mut().zip(&*sums) {
                        *target = if adds { *target + sum } else { sum };
                    }
                }
                Target::Bf16(start) => {
                    let target = std::slice::from_raw_parts_mut(start.add(i * row), p.n);
                    target.iter_mut().zip(&*sums).for_each(|(target, &sum)| *target = Element::narrow(sum));
                }
            }
        }
    }
}

/// A contiguous copy in f32, rounded to bf16 unless the operand is to be split (f32 then keeps more than the split would).
fn wide(x: Matrix<'_>, rows: usize, cols: usize, rounding: Rounding) -> Vec<f32> {
    let at = |i: usize, j: usize| match x.numbers {
        Numbers::F32(data) if rounding == Rounding::Split => data[i * x.row + j * x.col],
        Numbers::F32(data) => <bf16 as Element>::narrow(data[i * x.row + j * x.col]).wide(),
        Numbers::Bf16(data) => data[i * x.row + j * x.col].wide(),
    };
    (0..rows).flat_map(|i| (0..cols).map(move |j| at(i, j))).collect()
}

#[cfg(target_arch = "x86_64")]
mod packed {
    //! The packed product: cuts, scratch memory and tasks around [`kernel`].
    use std::cell::RefCell;

    use super::kernel::{self, COLUMNS, Panel, ROWS, Store};
    use super::{Matrix, Product, Rounding, Target, Threads, Write};
    use crate::parallel::{self, Disjoint};

    /// Bytes of packed columns that a task keeps, a quarter of a usual second-level cache.
    const GROUP_BYTES: usize = 256 * 1024;
    /// Rows below which packing the columns again for another part of the rows does not pay.
    const PART_ROWS: usize = 256;

    /// A cache line of packed pairs.
    #[derive(Clone, Copy)]
    #[repr(align(64))]
    struct Line(#[expect(dead_code, reason = "read and written through addresses")] [u32; 16]);

    thread_local! {
        /// Packed operands, kept between products: fresh memory would cost a page fault per 4 KiB.
        static ROWS_SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
        static COLUMNS_SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    }

    /// Runs `f` on scratch memory of `count` pairs with arbitrary content.
    fn with_scratch<R>(
        cell: &'static std::thread::LocalKey<RefCell<Vec<Line>>>,
        count: usize,
        f: impl FnOnce(&mut [u32]) -> R,
    ) -> R {
        // taken out, so that another product on this thread meanwhile finds an empty vector
        let mut lines = cell.with(|cell| std::mem::take(&mut *cell.borrow_mut()));
        let needed = count.div_ceil(16);
        if lines.len() < needed {
            lines.resize(needed, Line([0; 16]));
        }
        // SAFETY: the lines are `16 · len` u32 without padding.
        let pairs = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<u32>(), count) };
        let result = f(pairs);
        cell.with(|cell| *cell.borrow_mut() = lines);
        result
    }

    /// Which parts of the operands are multiplied: the small ones first.
    fn parts(rounding: Rounding) -> &'static [(usize, usize)] {
        match rounding {
            Rounding::Once => &[(0, 0)],
            Rounding::Split => &[(1, 0), (0, 1), (0, 0)],
        }
    }

    /// # Safety
    /// As [`Product::rounded_to`], with operands already checked, on a processor with the instruction.
    #[allow(clippy::too_many_arguments, reason = "two operands, a destination and how")]
    pub(super) unsafe fn product(
        p: Product,
        rounding: Rounding,
        a: Matrix<'_>,
        b: Matrix<'_>,
        bias: Option<&[f32]>,
        c: Target,
        row: usize,
    ) {
        let copies = if rounding == Rounding::Split { 2 } else { 1 };
        let (row_panels, column_panels, pairs) = (p.m.div_ceil(ROWS), p.n.div_ceil(COLUMNS), p.k.div_ceil(2));
        let (row_size, column_size) = (pairs * ROWS, pairs * COLUMNS);
        let threads = if p.threads == Threads::All { rayon::current_num_threads() } else { 1 };
        let work = if threads > 1 { p.m * p.n * p.k / 16 } else { 0 };
        let group = (GROUP_BYTES / (copies * column_size * 4).max(1)).clamp(1, column_panels.div_ceil(threads));
        let groups = column_panels.div_ceil(group);
        let row_parts = if threads == 1 { 1 } else { (4 * threads).div_ceil(groups).clamp(1, (p.m / PART_ROWS).max(1)) };
        let part = row_panels.div_ceil(row_parts);
        let sums = parts(rounding);
        let out = Address(c);
        with_scratch(&ROWS_SCRATCH, row_panels * copies * row_size, |rows| {
            let target = Disjoint::new(rows);
            parallel::for_each(row_panels, if threads > 1 { p.m * p.k } else { 0 }, |i| {
                let panel = Panel {
                    numbers: a.numbers,
                    start: i * ROWS * a.row,
                    line: a.row,
                    step: a.col,
                    count: ROWS.min(p.m - i * ROWS),
                    k: p.k,
                    rest: false,
                };
                for copy in 0..copies {
                    let at = (i * copies + copy) * row_size;
                    // SAFETY: each panel belongs to one task; its lines lie inside the checked operand.
                    unsafe { kernel::pack::<ROWS>(Panel { rest: copy == 1, ..panel }, target.range(at, at + row_size)) };
                }
            });
            let rows = &*rows;
            parallel::for_each(groups * row_parts, work, |task| {
                let (first_panel, first_row) = (task / row_parts * group, task % row_parts * part);
                let (last_panel, last_row) = ((first_panel + group).min(column_panels), (first_row + part).min(row_panels));
                with_scratch(&COLUMNS_SCRATCH, group * copies * column_size, |columns| {
                    for j in first_panel..last_panel {
                        let panel = Panel {
                            numbers: b.numbers,
                            start: j * COLUMNS * b.col,
                            line: b.col,
                            step: b.row,
                            count: COLUMNS.min(p.n - j * COLUMNS),
                            k: p.k,
                            rest: false,
                        };
                        for copy in 0..copies {
                            let at = ((j - first_panel) * copies + copy) * column_size;
                            // SAFETY: the panel's lines lie inside the checked operand.
                            unsafe {
                                kernel::pack::<COLUMNS>(Panel { rest: copy == 1, ..panel }, &mut columns[at..at + column_size]);
                            };
                        }
                    }
                    for i in first_row..last_row {
                        for j in first_panel..last_panel {
                            let mut addresses = [(std::ptr::null(), std::ptr::null()); 3];
                            for (address, &(of_a, of_b)) in addresses.iter_mut().zip(sums) {
                                *address = (
                                    rows[(i * copies + of_a) * row_size..].as_ptr(),
                                    columns[((j - first_panel) * copies + of_b) * column_size..].as_ptr(),
                                );
                            }
                            let (i0, j0) = (i * ROWS, j * COLUMNS);
                            let start = out.at(i0 * row + j0);
                            let store = Store {
                                start,
                                row,
                                alpha: p.alpha,
                                adds: p.write == Write::Add,
                                bias: bias.map_or(std::ptr::null(), |bias| bias[j0..].as_ptr()),
                            };
                            // SAFETY: packed panels of these sizes; each tile of the destination is written by one task.
                            unsafe {
                                kernel::tile(&addresses[..sums.len()], pairs, store, ROWS.min(p.m - i0), COLUMNS.min(p.n - j0));
                            };
                        }
                    }
                });
            });
        });
    }

    /// The destination's address, shared by the tasks.
    struct Address(Target);

    // SAFETY: tasks write disjoint tiles.
    unsafe impl Send for Address {}
    // SAFETY: as above.
    unsafe impl Sync for Address {}

    impl Address {
        /// Address of an element.
        fn at(&self, offset: usize) -> Target {
            match self.0 {
                Target::F32(start) => Target::F32(start.wrapping_add(offset)),
                Target::Bf16(start) => Target::Bf16(start.wrapping_add(offset)),
            }
        }
    }
}
