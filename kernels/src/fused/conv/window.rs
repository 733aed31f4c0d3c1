//! Windows sliding over images, and the arrangement of a part of the source that makes them cheap to read.
//!
//! ```text
//! out[b, i, j, o] = Σ_{tap, c} source[b, s·i + row(tap), s·j + col(tap), c] · w[tap, c, o]        zeros outside the image
//! ```
//! A convolution is one such product; the gradient of its input is one per phase of the stride, each with the taps that meet it.
//! A task copies the source rows of its output rows to a scratch buffer: channels in blocks of [`LANES`], columns sorted by their
//! phase `col mod s`, borders as zeros. In the copy neighbouring windows are [`LANES`] numbers apart for every stride, so that the
//! inner loops know all distances, and each source number is copied once per task instead of once per tap.
//!
//! A scratch is made of 32-bit words: one f32, or two neighbouring channels in bf16 for instructions that multiply pairs.
//!
//! Few channels (an image's three) would leave most of a block empty: then the columns of the window are folded into the channels.
use std::cell::RefCell;

use half::bf16;

use crate::check::ConvSizes;
use crate::element::Element;
use crate::simd::{LANES, multiversion};

/// Output pixels of a task: enough to use a panel of weights many times while it is in the second-level cache.
const PIXELS: usize = 256;
/// Words of a task's scratch buffer, beyond which it takes fewer rows: 256 KiB.
const SCRATCH: usize = 64 * 1024;
/// Channels up to which the window's columns are folded into them.
const FOLDED_CHANNELS: usize = 8;

/// A format that numbers of format `T` are copied to a scratch in.
pub(super) trait Scratch<T>: Element {
    /// Numbers of a word.
    const PER_WORD: usize;

    fn convert(x: T) -> Self;
}

impl<T: Element> Scratch<T> for f32 {
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn convert(x: T) -> Self {
        x.wide()
    }
}

impl Scratch<bf16> for bf16 {
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn convert(x: bf16) -> Self {
        x
    }
}

/// One element of the window: its place relative to the window's origin, and in the weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    /// Rows down from `s·i`.
    pub(super) row: isize,
    /// Columns right of `s·j`.
    pub(super) col: isize,
    /// Offset in the weight's `[kY, kX]`; the first of the folded ones.
    pub(super) weight: usize,
}

/// A window sliding over the channels of one group.
pub(super) struct Window {
    pub(super) batch: usize,
    height: usize,
    width: usize,
    /// Channels of the source, all groups.
    pitch: usize,
    /// Channels of a group before folding.
    pub(super) channels: usize,
    /// Columns folded into the channels, 1 for none.
    pub(super) fold: usize,
    stride: usize,
    pub(super) taps: Vec<Tap>,
    /// Rows of windows.
    pub(super) rows: usize,
    /// Columns of windows.
    pub(super) cols: usize,
    top: isize,
    left: isize,
    /// Rows from the first tap's to the last's.
    span: usize,
    /// Scratch columns of one phase.
    phase_cols: usize,
    row_used: Vec<bool>,
    col_used: Vec<bool>,
    /// Channels of a word of the scratch.
    per_word: usize,
}

/// Words of the scratch that one step of the product reads per window, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Offset from the window's place in the scratch.
    pub(super) offset: usize,
    /// Words, at most [`LANES`].
    pub(super) count: usize,
}

/// The output rows of a task: several whole images, or rows of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) image: usize,
    pub(super) images: usize,
    pub(super) row: usize,
    pub(super) rows: usize,
}

/// How the output is cut into parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    images: usize,
    rows: usize,
    row_parts: usize,
    /// Number of parts.
    pub(super) parts: usize,
}

impl Window {
    /// The window of a convolution.
    pub(super) fn of_convolution(s: &ConvSizes, stride: usize, padding: usize, groups: usize) -> Self {
        let channels = s.channels / groups;
        let fold = if channels <= FOLDED_CHANNELS { s.kernel_width } else { 1 };
        let place = |k: usize| k.cast_signed() - padding.cast_signed();
        let taps = (0..s.kernel_height)
            .flat_map(|ky| (0..s.kernel_width).step_by(fold).map(move |kx| (ky, kx)))
            .map(|(ky, kx)| Tap { row: place(ky), col: place(kx), weight: ky * s.kernel_width + kx })
            .collect();
        let window = (s.batch, s.height, s.width, s.channels);
        if s.kernel_height * s.kernel_width == 1 && stride == 1 && padding == 0 {
            // rows of all images follow each other, and a part may take any of them
            return Self::new(
                (1, s.batch * s.height, s.width, s.channels),
                channels,
                fold,
                1,
                taps,
                (s.batch * s.height, s.width),
            );
        }
        Self::new(window, channels, fold, stride, taps, (s.out_height, s.out_width))
    }

    /// The windows over the output's gradient that meet the input pixels `(stride·i + phase.0, stride·j + phase.1)`.
    pub(super) fn of_input_gradient(s: &ConvSizes, stride: usize, padding: usize, groups: usize, phase: (usize, usize)) -> Self {
        // y = stride·i − padding + k, so pixel y = stride·i' + phase sees output i = i' + (phase + padding − k)/stride
        let places = |kernel: usize, phase: usize| {
            (0..kernel).filter_map(move |k| {
                let distance = (phase + padding).cast_signed() - k.cast_signed();
                let stride = stride.cast_signed();
                (distance.rem_euclid(stride) == 0).then_some((k, distance.div_euclid(stride)))
            })
        };
        let taps = places(s.kernel_height, phase.0)
            .flat_map(|(ky, row)| places(s.kernel_width, phase.1).map(move |(kx, col)| (ky, row, kx, col)))
            .map(|(ky, row, kx, col)| Tap { row, col, weight: ky * s.kernel_width + kx })
            .collect();
        let count = |size: usize, phase: usize| size.saturating_sub(phase).div_ceil(stride);
        let (rows, cols) = (count(s.height, phase.0), count(s.width, phase.1));
        let channels = s.out_channels / groups;
        if s.kernel_height * s.kernel_width == 1 && stride == 1 && padding == 0 {
            let rows = s.batch * rows;
            return Self::new((1, s.batch * s.out_height, s.out_width, s.out_channels), channels, 1, 1, taps, (rows, cols));
        }
        Self::new((s.batch, s.out_height, s.out_width, s.out_channels), channels, 1, 1, taps, (rows, cols))
    }

    fn new(
        (batch, height, width, pitch): (usize, usize, usize, usize),
        channels: usize,
        fold: usize,
        stride: usize,
        taps: Vec<Tap>,
        (rows, cols): (usize, usize),
    ) -> Self {
        let first = |f: fn(&Tap) -> isize| taps.iter().map(f).min().unwrap_or(0);
        let last = |f: fn(&Tap) -> isize| taps.iter().map(f).max().unwrap_or(0);
        let (top, left) = (first(|t| t.row), first(|t| t.col));
        let span = last(|t| t.row).abs_diff(top);
        // folded columns are copied window by window: one phase
        let width_span = if fold > 1 { 0 } else { last(|t| t.col).abs_diff(left) };
        let phase_cols = if fold > 1 { cols } else { (cols.max(1) - 1) + width_span / stride + 1 };
        let used = |f: fn(&Tap) -> isize, first: isize| {
            (0..stride).map(|phase| taps.iter().any(|tap| f(tap).abs_diff(first) % stride == phase)).collect()
        };
        let (row_used, col_used) = (used(|t| t.row, top), used(|t| t.col, left));
        Self {
            batch,
            height,
            width,
            pitch,
            channels,
            fold,
            stride,
            taps,
            rows,
            cols,
            top,
            left,
            span,
            phase_cols,
            row_used,
            col_used,
            per_word: 1,
        }
    }

    /// With two channels in a word of the scratch.
    pub(super) fn in_pairs(self) -> Self {
        Self { per_word: 2, ..self }
    }

    /// Channels of a block.
    fn block(&self) -> usize {
        LANES * self.per_word
    }

    /// Channels after folding.
    fn folded(&self) -> usize {
        self.channels * self.fold
    }

    /// Phases of the columns in the scratch.
    fn phases(&self) -> usize {
        if self.fold > 1 { 1 } else { self.stride }
    }

    /// Words of one block of channels in a scratch row.
    fn block_pitch(&self) -> usize {
        self.phases() * self.phase_cols * LANES
    }

    /// Words of a scratch row.
    fn row_pitch(&self) -> usize {
        self.folded().div_ceil(self.block()) * self.block_pitch()
    }

    /// Scratch rows of one image for `rows` rows of windows.
    fn source_rows(&self, rows: usize) -> usize {
        (rows.max(1) - 1) * self.stride + self.span + 1
    }

    /// Words between the scratch places of vertical neighbours.
    pub(super) fn row_step(&self) -> usize {
        self.stride * self.row_pitch()
    }

    /// Words between the scratch places of images.
    pub(super) fn image_step(&self, part: Part) -> usize {
        self.source_rows(part.rows) * self.row_pitch()
    }

    /// Words of the scratch of a part.
    fn scratch_len(&self, part: Part) -> usize {
        part.images * self.image_step(part)
    }

    /// The steps of the product, block by block of channels, tap by tap.
    pub(super) fn steps(&self) -> Vec<Step> {
        let words = self.folded().div_ceil(self.per_word);
        let phases = self.phases();
        (0..words.div_ceil(LANES))
            .flat_map(|block| self.taps.iter().map(move |tap| (block, tap)))
            .map(|(block, tap)| {
                let (row, col) = (tap.row.abs_diff(self.top), tap.col.abs_diff(self.left));
                let place = (col % phases) * self.phase_cols + col / phases;
                Step {
                    offset: row * self.row_pitch() + block * self.block_pitch() + place * LANES,
                    count: LANES.min(words - block * LANES),
                }
            })
            .collect()
    }

    /// For each word of each step: the channels of the group in it, each with its offset in `[kY, kX]`.
    pub(super) fn weight_places(&self) -> impl Iterator<Item = [Option<(usize, usize)>; 2]> + '_ {
        let (folded, block) = (self.folded(), self.block());
        (0..folded.div_ceil(block)).flat_map(move |index| {
            self.taps.iter().flat_map(move |tap| {
                let place = move |i: usize| (i < folded).then(|| (i % self.channels, tap.weight + i / self.channels));
                let words = (index * block..folded.min((index + 1) * block)).step_by(self.per_word);
                words.map(move |i| [place(i), if self.per_word == 2 { place(i + 1) } else { None }])
            })
        })
    }

    /// Cuts the output rows into parts by the sizes alone.
    pub(super) fn cut(&self) -> Cut {
        let mut rows = (PIXELS / self.cols.max(1)).clamp(1, self.rows.max(1));
        while rows > 1 && self.source_rows(rows) * self.row_pitch() > SCRATCH {
            rows = rows.div_ceil(2);
        }
        let images =
            if rows == self.rows { (PIXELS / 2).div_ceil(rows * self.cols.max(1)).clamp(1, self.batch.max(1)) } else { 1 };
        let row_parts = self.rows.div_ceil(rows);
        Cut { images, rows, row_parts, parts: self.batch.div_ceil(images) * row_parts }
    }

    /// Part number `index` of a cut.
    pub(super) fn part(&self, cut: Cut, index: usize) -> Part {
        let (image, row) = (index / cut.row_parts * cut.images, index % cut.row_parts * cut.rows);
        Part { image, images: cut.images.min(self.batch - image), row, rows: cut.rows.min(self.rows - row) }
    }

    /// Copies the source of `part`, channels from `first` on, to this thread's scratch in format `E` and hands it to `f`.
    pub(super) fn with_scratch<T: Element, E: Scratch<T>, R>(
        &self,
        source: &[T],
        first: usize,
        part: Part,
        f: impl FnOnce(&[f32]) -> R,
    ) -> R {
        thread_local! {
            /// Kept between tasks: a fresh buffer per task costs a page fault for every 4 KiB of it.
            static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        assert_eq!(self.per_word, E::PER_WORD, "the scratch's format is the window's");
        SCRATCH.with_borrow_mut(|scratch| {
            let len = self.scratch_len(part);
            if scratch.len() < len {
                scratch.resize(len, 0.);
            }
            // SAFETY: a word holds PER_WORD numbers of `E`, all bit patterns of both are valid, and the alignment of `E` is no larger.
            let numbers = unsafe { std::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast::<E>(), len * E::PER_WORD) };
            fill::<T, E>(self, source, first, part, numbers);
            f(&scratch[..len])
        })
    }
}

multiversion! {
    fn fill<S, T: Element, E: Scratch<T>>(window: &Window, source: &[T], first: usize, part: Part, scratch: &mut [E]) {
        let row_pitch = window.row_pitch() * E::PER_WORD;
        let image_step = window.image_step(part) * E::PER_WORD;
        for image in 0..part.images {
            let pixels = (part.image + image) * window.height;
            for v in 0..window.source_rows(part.rows) {
                if !window.row_used[v % window.stride] {
                    continue;
                }
                let row = &mut scratch[image * image_step + v * row_pitch..][..row_pitch];
                let y = (part.row * window.stride + v).cast_signed() + window.top;
                if y < 0 || y >= window.height.cast_signed() {
                    row.fill(E::narrow(0.));
                    continue;
                }
                let line = &source[(pixels + y.cast_unsigned()) * window.width * window.pitch..][..window.width * window.pitch];
                if window.fold > 1 {
                    fill_folded(window, line, first, row);
                } else {
                    fill_row(window, line, first, row);
                }
            }
        }
    }
}

/// One row of the scratch, blocks of channels apart.
#[inline(always)]
fn fill_row<T: Element, E: Scratch<T>>(window: &Window, line: &[T], first: usize, row: &mut [E]) {
    let (stride, pitch, block) = (window.stride, window.pitch, LANES * E::PER_WORD);
    for (phase, _) in window.col_used.iter().enumerate().filter(|(_, used)| **used) {
        // column q of the phase is source column q·stride + start: those from `inside.start` to `inside.end` exist
        let start = phase.cast_signed() + window.left;
        let before = (-start).max(0).cast_unsigned().div_ceil(stride).min(window.phase_cols);
        let exist = (window.width.cast_signed() - start).max(0).cast_unsigned().div_ceil(stride).min(window.phase_cols);
        let inside = before..exist.max(before);
        for (index, row) in row.chunks_exact_mut(window.block_pitch() * E::PER_WORD).enumerate() {
            let row = &mut row[phase * window.phase_cols * block..][..window.phase_cols * block];
            let count = block.min(window.channels - index * block);
            row[..inside.start * block].fill(E::narrow(0.));
            row[inside.end * block..].fill(E::narrow(0.));
            let targets = row[inside.start * block..inside.end * block].chunks_exact_mut(block);
            let mut place =
                ((inside.start * stride).cast_signed() + start).max(0).cast_unsigned() * pitch + first + index * block;
            for target in targets {
                let pixel = &line[place..place + count];
                if count == block {
                    // as arrays: a copy of known length is two instructions, any other a call
                    for (target, pixel) in target.as_chunks_mut::<LANES>().0.iter_mut().zip(pixel.as_chunks::<LANES>().0) {
                        for i in 0..LANES {
                            target[i] = E::convert(pixel[i]);
                        }
                    }
                } else {
                    target.iter_mut().zip(pixel).for_each(|(target, &x)| *target = E::convert(x));
                    // the other half of the last word is multiplied by a zero weight and must not be NaN
                    target[count..count.next_multiple_of(E::PER_WORD)].fill(E::narrow(0.));
                }
                place += stride * pitch;
            }
        }
    }
}

/// One row of the scratch with the window's columns among the channels.
#[inline(always)]
fn fill_folded<T: Element, E: Scratch<T>>(window: &Window, line: &[T], first: usize, row: &mut [E]) {
    let (channels, block) = (window.channels, LANES * E::PER_WORD);
    let block_pitch = window.block_pitch() * E::PER_WORD;
    let place = |q: usize, i: usize| i / block * block_pitch + q * block + i % block;
    for q in 0..window.cols {
        let left = (q * window.stride).cast_signed() + window.left;
        for tap in 0..window.fold {
            let x = left + tap.cast_signed();
            let inside = x >= 0 && x < window.width.cast_signed();
            for c in 0..channels {
                let value = if inside { line[x.cast_unsigned() * window.pitch + first + c] } else { T::narrow(0.) };
                row[place(q, tap * channels + c)] = E::convert(value);
            }
        }
        for i in window.folded()..window.folded().next_multiple_of(E::PER_WORD) {
            row[place(q, i)] = E::narrow(0.);
        }
    }
}
