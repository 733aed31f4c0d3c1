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
/// Parts that the panels of a weight are cut into, so that a few rows keep all threads busy.
const PARTS: usize = 8;

/// Rows of `a`, `stride` apart and `k` wide, as blocks `[k, 12]` with zeros behind the last row.
pub(crate) fn blocks(a: &[f32], stride: usize, rows: usize, k: usize, packed: &mut Vec<f32>) {
    packed.clear();
    packed.resize(rows.div_ceil(ROWS) * ROWS * k, 0.);
    for (block, to) in packed.chunks_exact_mut((ROWS * k).max(1)).enumerate() {
        for r in 0..ROWS.min(rows - block * ROWS) {
            let from = &a[(block * ROWS + r) * stride..][..k];
            to.iter_mut().skip(r).step_by(ROWS).zip(from).for_each(|(to, from)| *to = *from);
        }
    }
}

/// One block of `rows` rows (at most 12) against `width` columns (a multiple of 16, at most 32) of `b`, whose rows are `b_stride` apart.
/// Rows of `c` are `c_stride` apart; all `width` columns are written, or added to.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) k: usize,
    pub(crate) b_stride: usize,
    pub(crate) c_stride: usize,
    pub(crate) adding: bool,
}

multiversion! {
    /// `c (+)= aᵀ·b` for one tile.
    pub(crate) fn multiply<S>(tile: Tile, a: &[f32], b: &[f32], c: &mut [f32]) {
        let most = if fits::<S>() { ROWS } else { 4 };
        let mut row = 0;
        while row < tile.rows {
            let (left, a) = ((tile.rows - row).min(most), &a[row..]);
            let c = &mut c[row * tile.c_stride..];
            row += match left {
                12 => sized::<S, 12>(tile, a, b, c),
                8.. => sized::<S, 8>(tile, a, b, c),
                4.. => sized::<S, 4>(tile, a, b, c),
                2.. => sized::<S, 2>(tile, a, b, c),
                _ => sized::<S, 1>(tile, a, b, c),
            };
        }
    }
}

/// Whether the registers hold the sums of a whole tile; else tiles are smaller.
#[inline(always)]
fn fits<S: Isa>() -> bool {
    S::ACCUMULATORS >= ROWS * COLUMNS / LANES
}

/// `R` rows; says so.
#[inline(always)]
fn sized<S: Isa, const R: usize>(tile: Tile, a: &[f32], b: &[f32], c: &mut [f32]) -> usize {
    if tile.width == COLUMNS && fits::<S>() {
        chains::<S, R, 2>(tile, a, b, c);
    } else {
        for column in (0..tile.width).step_by(LANES) {
            chains::<S, R, 1>(tile, a, &b[column..], &mut c[column..]);
        }
    }
    R
}

/// The sums of `R` rows and `V` vectors of columns, in registers.
#[inline(always)]
fn chains<S: Isa, const R: usize, const V: usize>(tile: Tile, a: &[f32], b: &[f32], c: &mut [f32]) {
    let mut sums = [[S::splat(0.); V]; R];
    if tile.adding {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = S::load(lanes(&c[r * tile.c_stride + v * LANES..]));
            }
        }
    }
    for l in 0..tile.k {
        let a = &a[l * ROWS..l * ROWS + R];
        let b = &b[l * tile.b_stride..l * tile.b_stride + V * LANES];
        let mut columns = [S::splat(0.); V];
        for v in 0..V {
            columns[v] = S::load(lanes(&b[v * LANES..]));
        }
        for r in 0..R {
            let x = S::splat(a[r]);
            for v in 0..V {
                sums[r][v] = S::mul_add(x, columns[v], sums[r][v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, sum) in sums.iter().enumerate() {
            c[r * tile.c_stride + v * LANES..][..LANES].copy_from_slice(&S::lanes(*sum));
        }
    }
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
    parallel::for_each(parts * groups, w.data.len() * groups, |task| {
        let (first, count) = (task / parts * ROWS * BLOCKS, (ROWS * BLOCKS).min(rows - task / parts * ROWS * BLOCKS));
        let mut packed = Vec::new();
        blocks(&x[first * k..(first + count) * k], k, count, k, &mut packed);
        let mut sums = [0f32; ROWS * COLUMNS];
        for panel in task % parts * part..(task % parts * part + part).min(panels) {
            let b = &w.data[panel * COLUMNS * k..(panel + 1) * COLUMNS * k];
            let columns = panel * COLUMNS..((panel + 1) * COLUMNS).min(out);
            for (block, a) in packed.chunks_exact(ROWS * k).enumerate() {
                let rows = ROWS.min(count - block * ROWS);
                let tile = Tile { rows, width: COLUMNS, k, b_stride: COLUMNS, c_stride: COLUMNS, adding: false };
                multiply(tile, a, b, &mut sums);
                for (row, sums) in sums.chunks_exact(COLUMNS).take(rows).enumerate() {
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
