//! The product of the windows with the weight: register tiles of neighbouring windows and a panel of output channels.
//!
//! ```text
//! tile[m, n] = bias[n] + Σ_{step, c} scratch[place(m) + offset(step) + c] · panel[step, c, n]      m < MR, n < NV·16
//! ```
//! With a scratch of bf16 pairs `c` counts words, and a word's product is the sum of two.
//!
//! All sums of a tile stay in registers until they are done, then residual and ReLU are applied and the result is written once.
//! An element is a sum over steps and channels in a fixed order: how the output is cut does not change its bits.
use crate::gemm::bf16::has_dot_products;
use crate::parallel::{self, Disjoint};
use crate::simd::{Isa, LANES, multiversion};

use half::bf16;

use super::window::{Part, Scratch, Step, Window};
use crate::cpu::{Level, level};
use crate::element::Element;

/// Vectors of a panel: two where the registers hold enough tiles of that width.
fn panel_vectors() -> usize {
    if level() == Level::Avx512 { 2 } else { 1 }
}

/// Output channels of a panel.
fn panel_lanes() -> usize {
    panel_vectors() * LANES
}

/// Format of the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operands {
    /// f32.
    Single,
    /// Rounded to bf16 and multiplied as f32: the same products as those of pairs, summed in another order.
    Rounded,
    /// bf16 pairs.
    Pairs,
}

/// The weight of one group, arranged for [`run`]: panel by panel, each `[step, channel, lane]`.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    data: Vec<f32>,
    /// Words of one output element.
    depth: usize,
    /// Output channels.
    lanes: usize,
}

impl Packed {
    /// Takes `weight[place(lane, channel) + tap]` for every output channel `lane` and place of the window.
    pub(super) fn new(
        window: &Window,
        operands: Operands,
        weight: &[f32],
        lanes: usize,
        place: impl Fn(usize, usize) -> usize + Sync,
    ) -> Self {
        let places: Vec<_> = window.weight_places().collect();
        let width = panel_lanes();
        let depth = places.len();
        let panels = lanes.div_ceil(width);
        let mut data = vec![0f32; panels * depth * width];
        let target = Disjoint::new(&mut data);
        parallel::for_each(panels, weight.len(), |panel| {
            let (start, count) = (panel * width, width.min(lanes - panel * width));
            // the last panel may be one vector wide
            let row = count.div_ceil(LANES) * LANES;
            // SAFETY: each task has its own panel.
            let target = unsafe { target.range(panel * depth * width, (panel + 1) * depth * width) };
            for (target, &places) in target.chunks_exact_mut(row).zip(&places) {
                for (lane, target) in target[..count].iter_mut().enumerate() {
                    let number =
                        |at: Option<(usize, usize)>| at.map_or(0., |(channel, tap)| weight[place(start + lane, channel) + tap]);
                    *target = word(operands, places.map(number));
                }
            }
        });
        Self { data, depth, lanes }
    }
}

/// One word of a packed weight; the first channel is in the lower half of a pair.
fn word(operands: Operands, [low, high]: [f32; 2]) -> f32 {
    let bits = |x: f32| u32::from(<bf16 as Element>::narrow(x).to_bits());
    match operands {
        Operands::Single => low,
        Operands::Rounded => f32::from_bits(bits(low) << 16),
        Operands::Pairs => f32::from_bits(bits(low) | bits(high) << 16),
    }
}

/// Where the products go: pixel `(stride·i + row, stride·j + col)` of images with `pitch` channels, from channel `first` on.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) pitch: usize,
    pub(super) first: usize,
    pub(super) stride: usize,
    pub(super) row: usize,
    pub(super) col: usize,
}

/// What follows the product.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a, T> {
    /// One number per channel of the target.
    pub(super) bias: Option<&'a [f32]>,
    /// Added; laid out as the target.
    pub(super) residual: Option<&'a [T]>,
    /// Whether negative results become zero.
    pub(super) relu: bool,
}

impl<T> Epilogue<'_, T> {
    /// Nothing follows.
    pub(super) const NONE: Self = Self { bias: None, residual: None, relu: false };
}

/// Writes the product of the windows over `source` (channels from `first` on) with `packed` to `out`. The scratch is in format `E`.
pub(super) fn run<T: Element, E: Scratch<T>>(
    window: &Window,
    source: &[T],
    first: usize,
    packed: &Packed,
    epilogue: Epilogue<T>,
    target: Target,
    out: &Disjoint<T>,
) {
    if window.rows * window.cols == 0 {
        return;
    }
    let cut = window.cut();
    let width = panel_lanes();
    let panels = packed.lanes.div_ceil(width);
    // few parts: the panels are shared out too, and each task copies the source for its own
    let splits = (2 * rayon::current_num_threads()).div_ceil(cut.parts.max(1)).clamp(1, panels);
    let per_split = panels.div_ceil(splits);
    let work = window.batch * window.rows * window.cols * packed.depth;
    let steps = window.steps();
    parallel::for_each(cut.parts * splits, work, |task| {
        let part = window.part(cut, task / splits);
        let (from, to) = (task % splits * per_split, panels.min((task % splits + 1) * per_split));
        if from >= to {
            return;
        }
        window.with_scratch::<T, E, _>(source, first, part, |scratch| {
            for panel in from..to {
                let lanes = width.min(packed.lanes - panel * width);
                let channel = target.first + panel * width;
                let job = Job {
                    scratch,
                    steps: &steps,
                    panel: &packed.data[panel * packed.depth * width..][..packed.depth * lanes.div_ceil(LANES) * LANES],
                    bias: epilogue.bias.map(|bias| &bias[channel..channel + lanes]),
                    epilogue,
                    target,
                    out,
                    channel,
                    lanes,
                    part,
                    cols: window.cols,
                    row_step: window.row_step(),
                    image_step: window.image_step(part),
                };
                if E::PER_WORD == 2 { pair_product(&job) } else { product(&job) }
            }
        });
    });
}

/// One panel over one part.
struct Job<'a, T> {
    scratch: &'a [f32],
    steps: &'a [Step],
    panel: &'a [f32],
    bias: Option<&'a [f32]>,
    epilogue: Epilogue<'a, T>,
    target: Target,
    out: &'a Disjoint<'a, T>,
    /// First channel of the target.
    channel: usize,
    lanes: usize,
    part: Part,
    cols: usize,
    row_step: usize,
    image_step: usize,
}

impl<T> Job<'_, T> {
    /// Panics unless the reads of every tile lie in the scratch and the panel.
    fn check(&self) {
        let reach = self.steps.iter().map(|step| step.offset + step.count).max().unwrap_or(0);
        let last = (self.part.images - 1) * self.image_step + (self.part.rows - 1) * self.row_step + (self.cols - 1) * LANES;
        assert!(reach == 0 || last + reach <= self.scratch.len(), "windows end at {} of {}", last + reach, self.scratch.len());
        let depth: usize = self.steps.iter().map(|step| step.count).sum();
        assert!(depth * self.lanes.div_ceil(LANES) * LANES <= self.panel.len(), "panel of {} for {depth}", self.panel.len());
    }
}

/// Widths of a tile in windows, of which the best for a row is taken.
const WIDTHS: [usize; 8] = [16, 14, 8, 7, 6, 4, 2, 1];

/// The tile's width that needs the fewest instructions for rows of `cols` windows. The last tile of a row overlaps its neighbour.
fn tile_width(cols: usize, vectors: usize, registers: usize) -> usize {
    // fewer than eight independent sums wait for each other (two pipes of four cycles); a tile costs about one more
    let cost = |width: usize| cols.div_ceil(width) * ((width * vectors).max(8) + 1);
    let fitting = WIDTHS.into_iter().filter(|&width| width * vectors <= registers && width <= cols);
    fitting.min_by_key(|&width| cost(width)).unwrap_or(1)
}

/// How words are multiplied.
trait Arithmetic {
    type S: Isa;

    /// `sum + x·w`, over both halves of pairs.
    fn add_product(x: V<Self>, w: V<Self>, sum: V<Self>) -> V<Self>;
}

/// Sixteen words.
type V<A> = <<A as Arithmetic>::S as Isa>::V;

/// Words are f32.
struct Single<S>(std::marker::PhantomData<S>);

impl<S: Isa> Arithmetic for Single<S> {
    type S = S;

    #[inline(always)]
    fn add_product(x: S::V, w: S::V, sum: S::V) -> S::V {
        S::mul_add(x, w, sum)
    }
}

multiversion! {
    fn product<S, T: Element>(job: &Job<T>) {
        panel::<Single<S>, T>(job);
    }
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};

    use super::{Arithmetic, Job, panel};
    use crate::element::Element;
    use crate::simd::Avx512;

    /// Words are pairs of bf16.
    struct Pairs;

    impl Arithmetic for Pairs {
        type S = Avx512;

        #[inline(always)]
        fn add_product(x: __m512, w: __m512, sum: __m512) -> __m512 {
            // SAFETY: inlined into `product` only, which has the feature; both types are the same 64 bytes.
            unsafe {
                _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512, __m512bh>(x), std::mem::transmute::<__m512, __m512bh>(w))
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(super) fn product<T: Element>(job: &Job<T>) {
        panel::<Pairs, T>(job);
    }
}

/// [`product`] of pairs, which are made only where [`crate::gemm::bf16::has_dot_products`].
fn pair_product<T: Element>(job: &Job<T>) {
    assert!(has_dot_products(), "pairs on a processor without their product");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the processor has the features by the assertion.
    unsafe {
        pairs::product(job);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = job;
}

/// One panel over one part, in the tiles that suit.
#[inline(always)]
fn panel<A: Arithmetic, T: Element>(job: &Job<T>) {
    job.check();
    let (vectors, registers) = (job.lanes.div_ceil(LANES), A::S::ACCUMULATORS);
    macro_rules! widths {
        ($vectors:literal: $($width:literal)*) => {
            match tile_width(job.cols, vectors, registers) {
                $($width if $width * $vectors <= A::S::ACCUMULATORS => rows::<A, T, $width, $vectors>(job),)*
                width => unreachable!("no tile of {width} windows"),
            }
        };
    }
    match vectors {
        1 => widths!(1: 1 2 4 6 7 8 14 16),
        _ => widths!(2: 1 2 4 6 7 8 14),
    }
}

/// All rows of a part in tiles of `MR` windows.
#[inline(always)]
fn rows<A: Arithmetic, T: Element, const MR: usize, const NV: usize>(job: &Job<T>) {
    for image in 0..job.part.images {
        for row in 0..job.part.rows {
            let place = image * job.image_step + row * job.row_step;
            let mut col = 0;
            loop {
                let col_here = col.min(job.cols - MR);
                tile::<A, T, MR, NV>(job, place + col_here * LANES, (image, row, col_here));
                col += MR;
                if col >= job.cols {
                    break;
                }
            }
        }
    }
}

#[inline(always)]
fn tile<A: Arithmetic, T: Element, const MR: usize, const NV: usize>(
    job: &Job<T>,
    place: usize,
    (image, row, col): (usize, usize, usize),
) {
    let mut sums = [[A::S::splat(0.); NV]; MR];
    let mut w = job.panel.as_ptr();
    for step in job.steps {
        // SAFETY: `Job::check` covers the farthest window, step and channel.
        let mut x = unsafe { job.scratch.as_ptr().add(place + step.offset) };
        for _ in 0..step.count {
            let mut weights = [A::S::splat(0.); NV];
            for (v, weight) in weights.iter_mut().enumerate() {
                // SAFETY: the panel holds `NV` vectors for every channel of every step (`Job::check`).
                *weight = A::S::load(unsafe { &*w.add(v * LANES).cast() });
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as for `x` above; neighbouring windows are LANES apart.
                let x = A::S::splat(unsafe { *x.add(m * LANES) });
                for (sum, &weight) in sums.iter_mut().zip(&weights) {
                    *sum = A::add_product(x, weight, *sum);
                }
            }
            // SAFETY: at most one past the end of the operand.
            unsafe {
                w = w.add(NV * LANES);
                x = x.add(1);
            }
        }
    }
    // through memory once: sums that the longer loop below indexed would be kept there all along
    let mut done = [[[0f32; LANES]; NV]; MR];
    for m in 0..MR {
        for v in 0..NV {
            done[m][v] = A::S::lanes(sums[m][v]);
        }
    }
    let Target { height, width, pitch, stride, .. } = job.target;
    let line = (job.part.image + image) * height + (job.part.row + row) * stride + job.target.row;
    for (m, sums) in done.iter().enumerate() {
        let start = (line * width + (col + m) * stride + job.target.col) * pitch + job.channel;
        // SAFETY: a pixel's channels of a panel belong to one task; overlapping tiles of a row run one after the other.
        let out = unsafe { job.out.range(start, start + job.lanes) };
        for (v, sum) in sums.iter().enumerate() {
            let (from, to) = (v * LANES, job.lanes.min((v + 1) * LANES));
            let residual = job.epilogue.residual.map(|residual| &residual[start + from..start + to]);
            let bias = job.bias.map(|bias| &bias[from..to]);
            finish::<A::S, T>(A::S::load(sum), bias, residual, job.epilogue.relu, &mut out[from..to]);
        }
    }
}

/// Adds what follows the product and writes up to [`LANES`] results.
#[inline(always)]
fn finish<S: Isa, T: Element>(mut sum: S::V, bias: Option<&[f32]>, residual: Option<&[T]>, relu: bool, out: &mut [T]) {
    if let Some(bias) = bias {
        sum = S::add(sum, load_some::<S, f32>(bias));
    }
    if let Some(residual) = residual {
        sum = S::add(sum, load_some::<S, T>(residual));
    }
    if relu {
        // a NaN second operand would be dropped
        sum = S::max(sum, S::splat(0.));
    }
    let lanes = S::lanes(sum);
    // two loops, of which the first has a known length; `map` of an array is a call
    if let Some(out) = out.first_chunk_mut::<LANES>() {
        for i in 0..LANES {
            out[i] = T::narrow(lanes[i]);
        }
    } else {
        out.iter_mut().zip(lanes).for_each(|(out, sum)| *out = T::narrow(sum));
    }
}

/// Up to [`LANES`] numbers; zeros behind the end.
#[inline(always)]
fn load_some<S: Isa, T: Element>(x: &[T]) -> S::V {
    if let Some(x) = x.first_chunk() {
        return T::load::<S>(x);
    }
    let mut lanes = [T::narrow(0.); LANES];
    lanes[..x.len()].copy_from_slice(x);
    T::load::<S>(&lanes)
}
