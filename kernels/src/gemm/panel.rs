//! Products with an operand that was brought into panels once: frozen weights, cached keys and values. Forward only.
//!
//! ```text
//! b: [panels, k, 32]      a: blocks of 12 rows as [k, 12]      c[r, j] = Σₗ a[l, r]·b[l, j], l ascending
//! ```
//! A tile holds 12 x 32 sums in registers: two loads of `b` and twelve broadcasts feed 24 multiply-adds of sixteen lanes. Nothing is packed
//! per call but `a`, which is small. Every element is one chain of multiply-adds in the order of l: its bits depend neither on the rows beside
//! it nor on where a longer sum was cut, so batches, shards and shared prefixes change nothing at all.
use candle_core::{DType, Device, Result, Tensor, bail};

use crate::access::F32Ref;
use crate::element::{output, tensor};
use crate::parallel::{self, Disjoint};
use crate::simd::{Isa, LANES, multiversion};

/// Columns of a panel.
pub(crate) const COLUMNS: usize = 2 * LANES;
/// Rows of a block.
pub(crate) const ROWS: usize = 12;
/// Blocks that read a panel while it is in the second-level cache.
const BLOCKS: usize = 8;
/// Panels that a block takes one after the other, or at once when it has few rows.
const TOGETHER: usize = 4;
/// Parts that the panels of a weight are cut into, so that a few rows keep all threads busy.
const PARTS: usize = 8;

/// Rows of `a`, `stride` apart and `k` wide, as blocks `[k, 12]` with zeros behind the last row.
pub(crate) fn blocks(a: &[f32], stride: usize, rows: usize, k: usize, packed: &mut Vec<f32>) {
    packed.resize(rows.div_ceil(ROWS) * ROWS * k, 0.);
    for (block, to) in packed.chunks_exact_mut((ROWS * k).max(1)).enumerate() {
        for r in 0..ROWS {
            let row = block * ROWS + r;
            if row < rows {
                scatter(&a[row * stride..][..k], r, to);
            } else {
                to.iter_mut().skip(r).step_by(ROWS).for_each(|to| *to = 0.);
            }
        }
    }
}

/// Writes a row to place `r` of each step of a block; sixteen steps at a time, whose places are known at compile time.
#[inline(always)]
fn scatter(row: &[f32], r: usize, block: &mut [f32]) {
    let (from, rest) = row.as_chunks::<LANES>();
    let (to, to_rest) = block.split_at_mut(from.len() * LANES * ROWS);
    for (from, to) in from.iter().zip(to.as_chunks_mut::<{ LANES * ROWS }>().0) {
        for (step, x) in to.as_chunks_mut::<ROWS>().0.iter_mut().zip(from) {
            step[r] = *x;
        }
    }
    to_rest.iter_mut().skip(r).step_by(ROWS).zip(rest).for_each(|(to, from)| *to = *from);
}

/// One block of `rows` rows (at most 12) against `width` columns (a multiple of 16) of `b`: panels of 32 columns `panel` apart, whose rows are
/// `b_stride` apart. Rows of `c` are `c_stride` apart; all `width` columns are written, or added to.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) k: usize,
    pub(crate) panel: usize,
    pub(crate) b_stride: usize,
    pub(crate) c_stride: usize,
    pub(crate) adding: bool,
}

multiversion! {
    /// `c (+)= aᵀ·b` for one block.
    pub(crate) fn multiply<S>(tile: Tile, a: &[f32], b: &[f32], c: &mut [f32]) {
        let most = if fits::<S>() { ROWS } else { 4 };
        let mut row = 0;
        while row < tile.rows {
            let (left, a) = ((tile.rows - row).min(most), &a[row..]);
            let c = &mut c[row * tile.c_stride..];
            row += match left {
                12 => columns::<S, 12>(tile, a, b, c),
                8.. => columns::<S, 8>(tile, a, b, c),
                4.. => columns::<S, 4>(tile, a, b, c),
                2.. => columns::<S, 2>(tile, a, b, c),
                _ => columns::<S, 1>(tile, a, b, c),
            };
        }
    }
}

/// Whether the registers hold the sums of a whole tile; else tiles are smaller.
#[inline(always)]
fn fits<S: Isa>() -> bool {
    S::ACCUMULATORS >= ROWS * COLUMNS / LANES
}

/// All columns for `R` rows; gives `R`. Few rows take more columns at once: a multiply-add takes four cycles, and only independent ones overlap.
#[inline(always)]
fn columns<S: Isa, const R: usize>(tile: Tile, a: &[f32], b: &[f32], c: &mut [f32]) -> usize {
    let mut column = 0;
    while column < tile.width {
        let left = tile.width - column;
        let b = &b[column / COLUMNS * tile.panel + column % COLUMNS..];
        let c = &mut c[column..];
        column += if !fits::<S>() || left < COLUMNS {
            chains::<S, R, 1, 1>(tile, a, b, c)
        } else if R <= 2 && left >= 4 * COLUMNS {
            chains::<S, R, 4, 2>(tile, a, b, c)
        } else if R <= 4 && left >= 2 * COLUMNS {
            chains::<S, R, 2, 2>(tile, a, b, c)
        } else {
            chains::<S, R, 1, 2>(tile, a, b, c)
        };
    }
    R
}

/// The sums of `R` rows and `V` vectors of columns of `P` panels, in registers; gives the number of columns.
#[inline(always)]
fn chains<S: Isa, const R: usize, const P: usize, const V: usize>(tile: Tile, a: &[f32], b: &[f32], c: &mut [f32]) -> usize {
    let Tile { k, panel, b_stride, c_stride, adding, .. } = tile;
    // Checked once here. A check inside the loop that can panic, and the dev profile adds its own, would keep the sums in memory instead of registers.
    let needed = (P - 1) * panel + k.saturating_sub(1) * b_stride + V * LANES;
    assert!(k == 0 || ((k - 1) * ROWS + R <= a.len() && needed <= b.len()), "{k} steps do not fit");
    let mut sums = [[[S::splat(0.); V]; P]; R];
    if adding {
        for r in 0..R {
            for p in 0..P {
                for v in 0..V {
                    sums[r][p][v] = S::load(lanes(&c[r * c_stride + (p * V + v) * LANES..]));
                }
            }
        }
    }
    let mut panels = [b; P];
    for p in 0..P {
        panels[p] = &b[p * panel..];
    }
    let mut at = 0usize;
    for a in a.chunks(ROWS).take(k) {
        let Some(a) = a.first_chunk::<R>() else { break };
        let mut columns = [[S::splat(0.); V]; P];
        for p in 0..P {
            let Some(b) = panels[p].get(at..).and_then(|b| b.as_chunks::<LANES>().0.first_chunk::<V>()) else { break };
            for v in 0..V {
                columns[p][v] = S::load(&b[v]);
            }
        }
        at = at.wrapping_add(b_stride);
        for r in 0..R {
            let x = S::splat(a[r]);
            for p in 0..P {
                for v in 0..V {
                    sums[r][p][v] = S::mul_add(x, columns[p][v], sums[r][p][v]);
                }
            }
        }
    }
    for r in 0..R {
        for p in 0..P {
            for v in 0..V {
                c[r * c_stride + (p * V + v) * LANES..][..LANES].copy_from_slice(&S::lanes(sums[r][p][v]));
            }
        }
    }
    P * V * LANES
}

#[inline(always)]
fn lanes(x: &[f32]) -> &[f32; LANES] {
    x.first_chunk().expect("callers hand over whole vectors")
}

/// A frozen weight `[out, in]` in panels, `[⌈out / 32⌉, in, 32]` f32.
#[derive(Clone, Debug)]
pub struct PackedWeight {
    data: Vec<f32>,
    out: usize,
    k: usize,
}

impl PackedWeight {
    /// Packs a f32 weight of the CPU; nothing for another dtype or device, or one that is trained.
    ///
    /// # Errors
    /// When it is not a matrix.
    pub fn new(w: &Tensor) -> Result<Option<Self>> {
        let (out, k) = w.dims2()?;
        if w.dtype() != DType::F32 || !matches!(w.device(), Device::Cpu) || w.track_op() || out * k == 0 {
            return Ok(None);
        }
        let w = w.contiguous()?;
        let w = F32Ref::new(&w)?;
        let mut data = vec![0.; out.div_ceil(COLUMNS) * COLUMNS * k];
        for (panel, rows) in data.chunks_exact_mut(COLUMNS * k).zip(w.chunks(COLUMNS * k)) {
            for (column, row) in rows.chunks_exact(k).enumerate() {
                panel.iter_mut().skip(column).step_by(COLUMNS).zip(row).for_each(|(to, from)| *to = *from);
            }
        }
        Ok(Some(Self { data, out, k }))
    }

    /// Rows and columns, `[out, in]`.
    pub fn dims(&self) -> (usize, usize) {
        (self.out, self.k)
    }
}

/// `x·wᵀ + bias` with a packed weight; no backward.
///
/// - Shape: `x` is `[.., in]`, `bias` is `[out]`; the output is `[.., out]` f32.
/// - The bits of a row do not depend on the rows beside it.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear_packed(x: &Tensor, w: &PackedWeight, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let (out, k) = w.dims();
    if dims.last() != Some(&k) || bias.is_some_and(|bias| bias.dims() != [out]) {
        bail!("linear_packed: expected x [.., {k}] and a bias [{out}], found {dims:?} and {:?}", bias.map(Tensor::dims));
    }
    let x = x.detach().to_dtype(DType::F32)?.contiguous()?;
    let x = F32Ref::new(&x)?;
    let bias = bias.map(crate::access::to_f32).transpose()?;
    let rows = x.len() / k;
    let mut y = output(rows * out);
    let target = Disjoint::new(&mut y);
    let panels = out.div_ceil(COLUMNS);
    let part = panels.div_ceil(PARTS);
    let (parts, groups) = (panels.div_ceil(part), rows.div_ceil(ROWS * BLOCKS));
    let group = |at: usize| (at * ROWS * BLOCKS, (ROWS * BLOCKS).min(rows - at * ROWS * BLOCKS));
    // Every group's rows are packed once, then read by all parts of the weight.
    let packed = parallel::map(groups, x.len(), |at| {
        let (first, count) = group(at);
        let mut packed = Vec::new();
        blocks(&x[first * k..(first + count) * k], k, count, k, &mut packed);
        packed
    });
    parallel::for_each(parts * groups, w.data.len() * groups, |task| {
        let ((first, count), packed) = (group(task / parts), &packed[task / parts]);
        let mut sums = [0f32; ROWS * TOGETHER * COLUMNS];
        let (from, to) = (task % parts * part, (task % parts * part + part).min(panels));
        for panel in (from..to).step_by(TOGETHER) {
            let b = &w.data[panel * COLUMNS * k..];
            let width = TOGETHER.min(to - panel) * COLUMNS;
            let columns = panel * COLUMNS..(panel * COLUMNS + width).min(out);
            for (block, a) in packed.chunks_exact(ROWS * k).enumerate() {
                let rows = ROWS.min(count - block * ROWS);
                let tile = Tile { rows, width, k, panel: COLUMNS * k, b_stride: COLUMNS, c_stride: width, adding: false };
                multiply(tile, a, b, &mut sums);
                for (row, sums) in sums.chunks_exact(width).take(rows).enumerate() {
                    let at = (first + block * ROWS + row) * out;
                    // SAFETY: these columns of these rows belong to this task, and each slice is dropped before the next is made.
                    let y = unsafe { target.range(at + columns.start, at + columns.end) };
                    match &bias {
                        Some(bias) => y.iter_mut().zip(sums).zip(&bias[columns.clone()]).for_each(|((y, sum), b)| *y = sum + b),
                        None => y.copy_from_slice(&sums[..y.len()]),
                    }
                }
            }
        }
    });
    let last = dims.len() - 1;
    dims[last] = out;
    tensor(y, &dims)
}
