//! Pooling over images stored channels last.
//!
//! ```text
//! max:  y[b, i, j, c] = max over the window at (s·i − p, s·j − p)       dx: g to the first largest element of its window
//! mean: y[b, c] = Σ_{y, x} x[b, y, x, c] / (Y·X)                        dx: g / (Y·X) everywhere
//! ```
//! The place of a largest element is searched again in the backward pass: nothing is kept but `x`.
use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::cast;
use super::linear::add_rows;
use crate::check::{self, ConvSizes};
use crate::element::{Element, Lock, elements, in_f32, is_element, output, tensor, with_element};
use crate::parallel::{self, Disjoint};
use crate::plain;
use crate::simd::multiversion;
use crate::tape::apply1;

/// Largest element of each `kernel` x `kernel` window; the border of `padding` pixels never wins.
///
/// - Shape: `x` is `[B, Y, X, C]`, the output is `[B, Y', X', C]` with `Y' = ⌊(Y + 2·padding − kernel)/stride⌋ + 1`.
/// - The gradient goes to the first of equal elements, row by row. NaN wins.
///
/// # Errors
/// When `x` is no image, the window is larger than the padded image, or the padding more than half the window.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    if !is_element(x) {
        return plain::max_pool2d(x, kernel, stride, padding);
    }
    let sizes = check::pool("max_pool2d", x, kernel, stride, padding)?;
    apply1(&x.contiguous()?, MaxPool { sizes, stride, padding })
}

/// Mean over the image: `[B, Y, X, C]` to `[B, C]`.
///
/// # Errors
/// When `x` is no image or has no pixel.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    if !is_element(x) {
        return plain::global_avg_pool(x);
    }
    check::image("global_avg_pool", "x", x)?;
    apply1(&x.contiguous()?, MeanPool)
}

struct MaxPool {
    sizes: ConvSizes,
    stride: usize,
    padding: usize,
}

impl MaxPool {
    /// Source places that window `i` of an axis of `size` sees.
    fn seen(&self, i: usize, size: usize) -> Range<usize> {
        let start = i * self.stride;
        start.saturating_sub(self.padding)..size.min(start + self.sizes.kernel_height - self.padding)
    }

    fn image_len(&self) -> usize {
        self.sizes.height * self.sizes.width * self.sizes.channels
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool2d"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = with_element!(s.dtype(), T => self.forward::<T>(elements(s, l)?));
        let s = &self.sizes;
        Ok((y, (s.batch, s.out_height, s.out_width, s.channels).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = cast(grad, x.dtype())?.contiguous()?;
        let (x_lock, g_lock) = (Lock::new(x), Lock::new(&grad));
        with_element!(x.dtype(), T => Ok(Some(tensor(self.gradient::<T>(x_lock.elements()?, g_lock.elements()?), x.dims())?)))
    }
}

impl MaxPool {
    fn forward<T: Element>(&self, x: &[T]) -> CpuStorage {
        let s = &self.sizes;
        let row = s.out_width * s.channels;
        let mut y = output::<T>(s.batch * s.out_height * row);
        let target = Disjoint::new(&mut y);
        parallel::for_each(s.batch * s.out_height, x.len(), |task| {
            let (image, i) = (task / s.out_height, task % s.out_height);
            let x = &x[image * self.image_len()..][..self.image_len()];
            // SAFETY: each task has its own row.
            let y = unsafe { target.range(task * row, (task + 1) * row) };
            max_row(self, x, i, y);
        });
        T::storage(y)
    }

    fn gradient<T: Element>(&self, x: &[T], g: &[T]) -> Vec<T> {
        let s = &self.sizes;
        let (image_len, out_len) = (self.image_len(), s.out_height * s.out_width * s.channels);
        let mut dx = output::<T>(x.len());
        let target = Disjoint::new(&mut dx);
        parallel::for_each(s.batch, x.len(), |image| {
            // SAFETY: each task has its own image.
            let dx = unsafe { target.range(image * image_len, (image + 1) * image_len) };
            max_gradient(self, &x[image * image_len..][..image_len], &g[image * out_len..][..out_len], dx);
        });
        dx
    }
}

multiversion! {
    fn max_row<S, T: Element>(pool: &MaxPool, x: &[T], i: usize, y: &mut [T]) {
        let (width, channels) = (pool.sizes.width, pool.sizes.channels);
        for (j, y) in y.chunks_exact_mut(channels).enumerate() {
            y.fill(T::narrow(f32::NEG_INFINITY));
            for row in pool.seen(i, pool.sizes.height) {
                for col in pool.seen(j, width) {
                    let x = &x[(row * width + col) * channels..][..channels];
                    for (y, &x) in y.iter_mut().zip(x) {
                        // a comparison with NaN is false either way
                        *y = if x.wide() > y.wide() || x.wide().is_nan() { x } else { *y };
                    }
                }
            }
        }
    }
}

multiversion! {
    fn max_gradient<S, T: Element>(pool: &MaxPool, x: &[T], g: &[T], dx: &mut [T]) {
        let ConvSizes { height, width, channels, out_width, .. } = pool.sizes;
        let (mut top, mut place) = (vec![T::narrow(0.); channels], vec![0u32; channels]);
        dx.fill(T::narrow(0.));
        for (window, g) in g.chunks_exact(channels).enumerate() {
            let (i, j) = (window / out_width, window % out_width);
            let (rows, cols) = (pool.seen(i, height), pool.seen(j, width));
            // the first element starts as the largest, also where it is −∞
            let first = rows.start * width + cols.start;
            top.copy_from_slice(&x[first * channels..][..channels]);
            place.fill(first as u32);
            for row in rows {
                for col in cols.clone() {
                    let pixel = row * width + col;
                    let x = &x[pixel * channels..][..channels];
                    for ((top, place), &x) in top.iter_mut().zip(&mut place).zip(x) {
                        let wins = x.wide() > top.wide() || x.wide().is_nan();
                        *top = if wins { x } else { *top };
                        *place = if wins { pixel as u32 } else { *place };
                    }
                }
            }
            for ((c, &place), &g) in place.iter().enumerate().zip(g) {
                let dx = &mut dx[place as usize * channels + c];
                *dx = T::narrow(dx.wide() + g.wide());
            }
        }
    }
}

struct MeanPool;

impl CustomOp1 for MeanPool {
    fn name(&self) -> &'static str {
        "global-avg-pool"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, height, width, channels) = l.shape().dims4()?;
        let y = with_element!(s.dtype(), T => means::<T>(elements(s, l)?, batch, height * width, channels));
        Ok((y, (batch, channels).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (batch, height, width, channels) = x.dims4()?;
        let grad = cast(&(in_f32(grad)? / (height * width) as f64)?, x.dtype())?;
        let lock = Lock::new(&grad);
        with_element!(x.dtype(), T => {
            let (g, len) = (lock.elements::<T>()?, height * width * channels);
            let mut dx = output::<T>(batch * len);
            let target = Disjoint::new(&mut dx);
            parallel::for_each(batch, batch * len, |image| {
                let g = &g[image * channels..][..channels];
                // SAFETY: each task has its own image.
                let dx = unsafe { target.range(image * len, (image + 1) * len) };
                dx.chunks_exact_mut(channels).for_each(|dx| dx.copy_from_slice(g));
            });
            Ok(Some(tensor(dx, x.dims())?))
        })
    }
}

/// The mean of each image and channel.
fn means<T: Element>(x: &[T], batch: usize, pixels: usize, channels: usize) -> CpuStorage {
    let mut y = output::<T>(batch * channels);
    let target = Disjoint::new(&mut y);
    parallel::for_each(batch, x.len(), |image| {
        let mut sums = vec![0f32; channels];
        add_rows(&x[image * pixels * channels..][..pixels * channels], &mut sums);
        // SAFETY: each task has its own image.
        let y = unsafe { target.range(image * channels, (image + 1) * channels) };
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = T::narrow(sum / pixels as f32));
    });
    T::storage(y)
}
