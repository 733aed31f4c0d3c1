//! Gradient of a convolution's weight.
//!
//! ```text
//! dw[step, c, o] = Σ_windows scratch[place(window) + offset(step) + c] · g[window, o]
//! ```
//! Operands in bf16 are widened: products and sums are f32.
//!
//! The windows are those of the forward pass over the same scratch. A register tile of channels by output channels runs over all
//! windows of a part; the sums of [`chunks`] groups of parts are kept apart and added in order, so that threads do not change bits.
use crate::element::Element;
use crate::parallel::{self, Disjoint};
use crate::simd::{Isa, LANES, multiversion};

use super::window::{Part, Step, Window};

/// Most groups of parts, and so of threads at work on one weight's gradient (times panels of output channels).
const CHUNKS: usize = 16;
/// Numbers of all partial gradients together, beyond which there are fewer: 32 MiB.
const PARTIALS: usize = 8 * 1024 * 1024;

/// Groups of parts that are summed apart.
fn chunks(parts: usize, weight: usize) -> usize {
    (PARTIALS / weight.max(1)).clamp(1, CHUNKS).min(parts).max(1)
}

/// Computes the gradient of one group's weight and calls `store(lane, channel, tap, sum)` for each element.
///
/// `grad` is `[windows, pitch]`, whose numbers from `lane` on, a multiple of [`LANES`] in all, belong to the group.
pub(super) fn run<T: Element>(
    window: &Window,
    source: &[T],
    first: usize,
    (grad, pitch, lane): (&[T], usize, usize),
    lanes: usize,
    mut store: impl FnMut(usize, usize, usize, f32),
) {
    let cut = window.cut();
    let steps = window.steps();
    let padded = lanes.div_ceil(LANES) * LANES;
    let len = steps.len() * LANES * padded;
    let chunks = chunks(cut.parts, len);
    let per_chunk = cut.parts.div_ceil(chunks);
    // large weights have few chunks: their output channels are shared out instead
    let vectors = padded / LANES;
    let splits = (CHUNKS / chunks).clamp(1, vectors.div_ceil(2));
    let per_split = vectors.div_ceil(splits).next_multiple_of(2) * LANES;
    let mut partials = vec![0f32; chunks * len];
    let target = Disjoint::new(&mut partials);
    let work = window.batch * window.rows * window.cols * padded * steps.len();
    parallel::for_each(chunks * splits, work, |task| {
        let (chunk, split) = (task / splits, task % splits);
        let (from, to) = (split * per_split, padded.min((split + 1) * per_split));
        for index in chunk * per_chunk..cut.parts.min((chunk + 1) * per_chunk) {
            let part = window.part(cut, index);
            window.with_scratch::<T, f32, _>(source, first, part, |scratch| {
                if from < to {
                    let sizes = (window.rows, window.cols, window.row_step(), window.image_step(part));
                    accumulate(scratch, &steps, (grad, pitch, lane), part, sizes, (from, to, padded), &target, chunk * len);
                }
            });
        }
    });
    for (i, (channel, tap)) in window.weight_places().filter_map(|[place, _]| place).enumerate() {
        // places skip the channels that a last block lacks
        let row = place_row(&steps, i);
        for lane in 0..lanes {
            let sum: f32 = (0..chunks).map(|chunk| partials[chunk * len + row * padded + lane]).sum();
            store(lane, channel, tap, sum);
        }
    }
}

/// Row of a partial gradient, `[step, LANES]`, of weight place `i`.
fn place_row(steps: &[Step], i: usize) -> usize {
    // every block but the last is full
    let full: usize = steps.iter().filter(|step| step.count == LANES).count();
    if i < full * LANES {
        i
    } else {
        let count = steps[full].count;
        let rest = i - full * LANES;
        (full + rest / count) * LANES + rest % count
    }
}

multiversion! {
    #[allow(clippy::too_many_arguments, reason = "two operands and a result, each with its place")]
    fn accumulate<S, T: Element>(
        scratch: &[f32],
        steps: &[Step],
        grad: (&[T], usize, usize),
        part: Part,
        sizes: (usize, usize, usize, usize),
        lanes: (usize, usize, usize),
        target: &Disjoint<f32>,
        start: usize,
    ) {
        let (from, to, padded) = lanes;
        let (image_rows, cols, row_step, image_step) = sizes;
        let (grad, pitch, first_lane) = grad;
        let last = (part.images - 1) * image_step + (part.rows - 1) * row_step + (cols - 1) * LANES;
        let reach = steps.iter().map(|step| step.offset + LANES).max().unwrap_or(0);
        assert!(last + reach <= scratch.len(), "windows end at {} of {}", last + reach, scratch.len());
        let end = ((part.image + part.images - 1) * image_rows + part.row + part.rows) * cols * pitch;
        assert!(end <= grad.len() && first_lane + to <= pitch, "gradient ends at {end} of {}", grad.len());
        for (index, step) in steps.iter().enumerate() {
            let mut lane = from;
            while lane < to {
                let wide = to - lane >= 2 * LANES && S::ACCUMULATORS >= 16;
                let channels = if wide { 8 } else if S::ACCUMULATORS >= 16 { 16 } else { S::ACCUMULATORS.min(4) };
                let mut channel = 0;
                while channel < step.count {
                    let job = Tile {
                        scratch,
                        offset: step.offset + channel,
                        grad,
                        pitch,
                        lane: first_lane + lane,
                        part,
                        image_rows,
                        cols,
                        row_step,
                        image_step,
                        target,
                        start: start + (index * LANES + channel) * padded + lane,
                        padded,
                    };
                    match (wide, channels) {
                        (true, _) => job.run::<S, 8, 2>(),
                        (false, 16) => job.run::<S, 16, 1>(),
                        (false, 4) => job.run::<S, 4, 1>(),
                        _ => job.run::<S, 2, 1>(),
                    }
                    channel += channels;
                }
                lane += if wide { 2 * LANES } else { LANES };
            }
        }
    }
}

/// One register tile over all windows of a part.
struct Tile<'a, T> {
    scratch: &'a [f32],
    offset: usize,
    grad: &'a [T],
    pitch: usize,
    lane: usize,
    part: Part,
    image_rows: usize,
    cols: usize,
    row_step: usize,
    image_step: usize,
    target: &'a Disjoint<'a, f32>,
    start: usize,
    padded: usize,
}

impl<T: Element> Tile<'_, T> {
    #[inline(always)]
    fn run<S: Isa, const MC: usize, const NV: usize>(&self) {
        let mut sums = [[S::splat(0.); NV]; MC];
        for image in 0..self.part.images {
            for row in 0..self.part.rows {
                let window = ((self.part.image + image) * self.image_rows + self.part.row + row) * self.cols;
                // SAFETY: `accumulate` checked the farthest window of the scratch and of the gradient.
                let (mut x, mut g) = unsafe {
                    (
                        self.scratch.as_ptr().add(self.offset + image * self.image_step + row * self.row_step),
                        self.grad.as_ptr().add(window * self.pitch + self.lane),
                    )
                };
                for _ in 0..self.cols {
                    let mut grads = [S::splat(0.); NV];
                    for (v, grad) in grads.iter_mut().enumerate() {
                        // SAFETY: as above.
                        *grad = T::load::<S>(unsafe { &*g.add(v * LANES).cast() });
                    }
                    for (c, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: as above; a block holds LANES channels, of which those past the count are not used.
                        let x = S::splat(unsafe { *x.add(c) });
                        for (sum, &grad) in sums.iter_mut().zip(&grads) {
                            *sum = S::mul_add(x, grad, *sum);
                        }
                    }
                    // the last step may leave the operands, where nothing is read
                    x = x.wrapping_add(LANES);
                    g = g.wrapping_add(self.pitch);
                }
            }
        }
        for (c, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let start = self.start + c * self.padded + v * LANES;
                // SAFETY: a chunk's rows of these output channels belong to one task.
                let target = unsafe { self.target.range(start, start + LANES) };
                let lanes = S::lanes(sum);
                target.iter_mut().zip(lanes).for_each(|(target, sum)| *target += sum);
            }
        }
    }
}
