//! `VDPBF16PS` on packed panels: the register tile, its stores, and packing. x86-64 with AVX-512 and its bf16 extension.
//!
//! ```text
//! A panel: [pairs][ROWS] u32       row i of pair p: a[i, 2p] | a[i, 2p + 1] << 16
//! B panel: [pairs][COLUMNS] u32    column j of pair p: b[2p, j] | b[2p + 1, j] << 16     (the pair layout that matrix tiles read too)
//! ```
//! The instruction adds two products to an f32 sum; it flushes denormals to zero and rounds to nearest even (Intel SDM vol. 2,
//! `VDPBF16PS`). Every function here is compiled with the features named in its attribute and called only after
//! [`super::has_dot_products`] found them: that is the safety argument of the calls between them.
use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_mask_storeu_epi16, _mm256_maskz_loadu_epi16,
    _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_dpbf16_ps,
    _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi32, _mm512_mask_storeu_ps, _mm512_maskz_loadu_epi16,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_sub_ps, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::{Numbers, Target};

/// Bytes that packing reads ahead: too many lines at once for the processor to see each as a stream.
const AHEAD: usize = 256;
/// Rows of a register tile: with two vectors of columns 24 sums, enough to hide the latency of the instruction.
pub(super) const ROWS: usize = 12;
/// Columns of a register tile: two vectors.
pub(super) const COLUMNS: usize = 32;

/// Where a tile's sums go.
#[derive(Clone, Copy)]
pub(super) struct Store {
    /// First element of the tile's row 0.
    pub(super) start: Target,
    /// Elements between rows.
    pub(super) row: usize,
    pub(super) alpha: f32,
    /// Whether the old content is added (f32 only).
    pub(super) adds: bool,
    /// Bias of the tile's columns, or null.
    pub(super) bias: *const f32,
}

/// The lowest `n` of sixteen lanes.
fn lanes(n: usize) -> u16 {
    if n >= 16 { u16::MAX } else { (1 << n) - 1 }
}

/// One tile: the sum over the panels of each pair of addresses, stored for `rows` x `cols` of it.
///
/// # Safety
/// The processor has the features. Each A address holds `pairs · ROWS` u32, each B address `pairs · COLUMNS`; the store's rows are
/// writable and nobody else's.
pub(super) unsafe fn tile(sums: &[(*const u32, *const u32)], pairs: usize, store: Store, rows: usize, cols: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        match rows {
            0 => {}
            1..=4 => tile_of::<4>(sums, pairs, store, rows, cols),
            5..=8 => tile_of::<8>(sums, pairs, store, rows, cols),
            _ => tile_of::<ROWS>(sums, pairs, store, rows, cols),
        }
    }
}

/// [`tile`] computing the first `R` rows.
///
/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn tile_of<const R: usize>(sums: &[(*const u32, *const u32)], pairs: usize, store: Store, rows: usize, cols: usize) {
    // SAFETY: addresses by the caller's promise; the vector types are the same 64 bytes.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); 2]; R];
        for &(mut a, mut b) in sums {
            for _ in 0..pairs {
                let b0: __m512bh = transmute(_mm512_loadu_si512(b.cast()));
                let b1: __m512bh = transmute(_mm512_loadu_si512(b.add(16).cast()));
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x: __m512bh = transmute(_mm512_set1_epi32((*a.add(r)).cast_signed()));
                    acc[0] = _mm512_dpbf16_ps(acc[0], x, b0);
                    acc[1] = _mm512_dpbf16_ps(acc[1], x, b1);
                }
                a = a.add(ROWS);
                b = b.add(COLUMNS);
            }
        }
        let masks = [lanes(cols), lanes(cols.saturating_sub(16))];
        let alpha = _mm512_set1_ps(store.alpha);
        for (r, acc) in acc.iter().enumerate().take(rows) {
            for (half, (&sum, &mask)) in acc.iter().zip(&masks).enumerate() {
                if mask == 0 {
                    continue;
                }
                let offset = r * store.row + half * 16;
                let mut y = if store.bias.is_null() {
                    _mm512_mul_ps(sum, alpha)
                } else {
                    _mm512_fmadd_ps(sum, alpha, _mm512_maskz_loadu_ps(mask, store.bias.add(half * 16)))
                };
                match store.start {
                    Target::Bf16(start) => {
                        let y = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(y));
                        _mm256_mask_storeu_epi16(start.add(offset).cast(), mask, y);
                    }
                    Target::F32(start) => {
                        let target = start.add(offset);
                        if store.adds {
                            y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, target));
                        }
                        _mm512_mask_storeu_ps(target, mask, y);
                    }
                }
            }
        }
    }
}

/// One operand panel to pack: `width` of its lines (rows of A, columns of B) over all of k.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub(super) numbers: Numbers<'a>,
    /// Offset of the panel's first line at k = 0.
    pub(super) start: usize,
    /// Elements between two lines.
    pub(super) line: usize,
    /// Elements between two steps of k; this or `line` is one.
    pub(super) step: usize,
    /// Lines that exist; the others are filled with zeros.
    pub(super) count: usize,
    pub(super) k: usize,
    /// Whether the rest that bf16 drops is packed, instead of the bf16 value.
    pub(super) rest: bool,
}

/// Packs a panel of `W` lines to `target: [⌈k/2⌉][W]`.
///
/// # Safety
/// The processor has the features, and the panel's elements lie inside its numbers.
pub(super) unsafe fn pack<const W: usize>(panel: Panel<'_>, target: &mut [u32]) {
    debug_assert!(panel.count <= W && target.len() == panel.k.div_ceil(2) * W);
    // SAFETY: the caller's promises.
    unsafe {
        match (panel.step == 1, panel.numbers) {
            (true, Numbers::F32(x)) => pack_steps::<W, true>(panel, x.as_ptr().cast(), target.as_mut_ptr()),
            (true, Numbers::Bf16(x)) => pack_steps::<W, false>(panel, x.as_ptr().cast(), target.as_mut_ptr()),
            (false, Numbers::F32(x)) => pack_lines::<W, true>(panel, x.as_ptr().cast(), target.as_mut_ptr()),
            (false, Numbers::Bf16(x)) => pack_lines::<W, false>(panel, x.as_ptr().cast(), target.as_mut_ptr()),
        }
    }
}

/// What bf16 rounding leaves of `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn rest_of(x: __m512) -> __m512 {
    // SAFETY: both types are 32 bytes of plain numbers.
    let bits = _mm512_cvtepu16_epi32(unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) });
    _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)))
}

/// Sixteen neighbouring pairs of one line, of which the first `valid` numbers exist.
///
/// # Safety
/// `valid` numbers are readable at the address.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
#[allow(clippy::cast_ptr_alignment, reason = "the address is that of an f32 where the format is f32")]
unsafe fn pairs_of<const F32: bool>(at: *const u8, valid: usize, rest: bool) -> __m512i {
    // SAFETY: masked lanes are not read; the vector types are the same 64 bytes.
    unsafe {
        if F32 {
            let at = at.cast::<f32>();
            let mut low = _mm512_maskz_loadu_ps(lanes(valid), at);
            let mut high = if valid > 16 { _mm512_maskz_loadu_ps(lanes(valid - 16), at.add(16)) } else { _mm512_setzero_ps() };
            if rest {
                (low, high) = (rest_of(low), rest_of(high));
            }
            transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        } else if rest {
            _mm512_setzero_si512()
        } else {
            let mask = if valid >= 32 { u32::MAX } else { (1 << valid) - 1 };
            _mm512_maskz_loadu_epi16(mask, at.cast())
        }
    }
}

/// [`pack`] of lines that are contiguous along k: blocks of 16 lines by 16 pairs are transposed in registers.
///
/// # Safety
/// As [`pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_steps<const W: usize, const F32: bool>(p: Panel<'_>, numbers: *const u8, target: *mut u32) {
    let size = if F32 { 4 } else { 2 };
    for first in (0..W).step_by(16) {
        let mask = lanes(W - first);
        for k0 in (0..p.k).step_by(32) {
            let valid = (p.k - k0).min(32);
            let mut rows = [_mm512_setzero_si512(); 16];
            for (i, row) in rows.iter_mut().enumerate().take(p.count.saturating_sub(first)) {
                // SAFETY: line `first + i` exists and holds `valid` numbers from k0; a prefetch reads nothing.
                unsafe {
                    let at = numbers.add((p.start + (first + i) * p.line + k0) * size);
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                    *row = pairs_of::<F32>(at, valid, p.rest);
                }
            }
            let columns = transpose(&rows);
            for (c, column) in columns.iter().enumerate().take(valid.div_ceil(2)) {
                // SAFETY: pair k0/2 + c exists; the mask ends at the panel's width.
                unsafe { _mm512_mask_storeu_epi32(target.add((k0 / 2 + c) * W + first).cast(), mask, *column) };
            }
        }
    }
}

/// Sixteen neighbouring lines of one step of k, as bf16 bits in the low halves.
///
/// # Safety
/// The lanes of `mask` are readable at the address.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn lines_of<const F32: bool>(at: *const u8, mask: u16, rest: bool) -> __m512i {
    // SAFETY: masked lanes are not read; the types of equal size hold plain numbers.
    unsafe {
        if F32 {
            let x = _mm512_maskz_loadu_ps(mask, at.cast());
            _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(if rest { rest_of(x) } else { x })))
        } else if rest {
            _mm512_setzero_si512()
        } else {
            _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, at.cast()))
        }
    }
}

/// [`pack`] of lines that are neighbours in memory: two steps of k are interleaved.
///
/// # Safety
/// As [`pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_lines<const W: usize, const F32: bool>(p: Panel<'_>, numbers: *const u8, target: *mut u32) {
    let size = if F32 { 4 } else { 2 };
    for first in (0..W).step_by(16) {
        let (mask, load) = (lanes(W - first), lanes(p.count.saturating_sub(first)));
        for pair in 0..p.k.div_ceil(2) {
            // behind the last line the address may lie outside the numbers: nothing is read there
            let at = numbers.wrapping_add((p.start + 2 * pair * p.step + first) * size);
            // SAFETY: the masked lines of steps 2·pair and, where it exists, 2·pair + 1 lie inside the numbers; the target has W
            // columns per pair.
            unsafe {
                let mut bits = lines_of::<F32>(at, load, p.rest);
                if 2 * pair + 1 < p.k {
                    let second = lines_of::<F32>(at.wrapping_add(p.step * size), load, p.rest);
                    bits = _mm512_or_si512(bits, _mm512_slli_epi32::<16>(second));
                }
                _mm512_mask_storeu_epi32(target.add(pair * W + first).cast(), mask, bits);
            }
        }
    }
}

/// 16 x 16 transposition of 32-bit numbers: pairs, then quads, then 128-bit lanes change places.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn transpose(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut quads = [_mm512_setzero_si512(); 16]; // lane L of quads[4i + j]: column 4L + j of rows 4i..4i + 4
    for i in 0..4 {
        let r = &rows[4 * i..4 * i + 4];
        let (a, b) = (_mm512_unpacklo_epi32(r[0], r[1]), _mm512_unpacklo_epi32(r[2], r[3]));
        let (c, d) = (_mm512_unpackhi_epi32(r[0], r[1]), _mm512_unpackhi_epi32(r[2], r[3]));
        quads[4 * i] = _mm512_unpacklo_epi64(a, b);
        quads[4 * i + 1] = _mm512_unpackhi_epi64(a, b);
        quads[4 * i + 2] = _mm512_unpacklo_epi64(c, d);
        quads[4 * i + 3] = _mm512_unpackhi_epi64(c, d);
    }
    let mut columns = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let (a, b, c, d) = (quads[j], quads[4 + j], quads[8 + j], quads[12 + j]);
        let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (even2, odd2) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        columns[j] = _mm512_shuffle_i32x4::<0x88>(even, even2);
        columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd, odd2);
        columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even, even2);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd, odd2);
    }
    columns
}
