//! Convolution over images stored channels last, with the weight stored as published checkpoints store it, `[O, I/groups, kY, kX]`.
//!
//! ```text
//! y[b, i, j, o]  = bias[o] + Σ_{c, ky, kx} x[b, s·i + ky − p, s·j + kx − p, c]·w[o, c, ky, kx]      zeros outside the image
//! dx[b, y, x, c] = Σ_{o, ky, kx} g[b, (y + p − ky)/s, (x + p − kx)/s, o]·w[o, c, ky, kx]            where s divides
//! dw[o, c, ky, kx] = Σ_{b, i, j} g[b, i, j, o]·x[b, s·i + ky − p, s·j + kx − p, c]                  dbias[o] = Σ g
//! ```
//! `window` arranges a part of the source, `product` forms the first two, `weight_grad` the third. No im2col matrix is formed.
//!
//! With activations in bf16 the weight is rounded to bf16 for the first two, all sums are f32, and `y` and `dx` are rounded once.
mod product;
mod weight_grad;
mod window;

use candle_core::{CpuStorage, DType, Layout, Result, Shape, Tensor};
use half::bf16;

use self::product::{Epilogue, Operands, Packed, Target};
use self::window::{Scratch, Window};
use super::cast;
use super::linear::bias_gradient;
use crate::access::F32Ref;
use crate::check::{self, ConvSizes};
use crate::element::{Element, Lock, elements, in_f32, is_element, output, tensor, with_element};
use crate::gemm::bf16::has_dot_products;
use crate::parallel::Disjoint;
use crate::plain;
use crate::simd::LANES;
use crate::tape::{Gradients, Layer, apply_layer};

/// Settings of a convolution, equal for both image axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Distance of neighbouring windows, in pixels.
    pub stride: usize,
    /// Zeros added at each border, in pixels.
    pub padding: usize,
    /// Channels are cut into this many groups that do not see each other.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: 1, padding: 0, groups: 1 }
    }
}

/// `y[b, i, j, o] = bias[o] + Σ_{c, ky, kx} x[b, s·i + ky − p, s·j + kx − p, c]·w[o, c, ky, kx]`, zeros outside the image.
///
/// - Shape: `x` is `[B, Y, X, I]`, `weight` is `[O, I/groups, kY, kX]`, `bias` is `[O]`; the output is `[B, Y', X', O]` with
///   `Y' = ⌊(Y + 2·padding − kY)/stride⌋ + 1`.
/// - Cost: `2·B·Y'·X'·O·(I/groups)·kY·kX` FLOPs forward, the same again for each of the gradients of `x` and `weight`.
/// - The output has the dtype of `x`, f32 or bf16; the weight and bias are f32 or bf16 and their gradients are summed in f32.
/// - An argument that needs no gradient gets none, and nothing is computed for it.
///
/// # Errors
/// When the shapes do not fit.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: &Conv2dConfig) -> Result<Tensor> {
    if ![x, weight, bias.unwrap_or(x)].into_iter().all(is_element) {
        return plain::conv2d(x, weight, bias, config);
    }
    let op = Conv { sizes: check::conv2d(x, weight, bias, config)?, config: *config, operands: operands(x.dtype()) };
    apply_layer(x, weight, bias, op)
}

/// How products of activations of a dtype are formed here.
fn operands(dtype: DType) -> Operands {
    match dtype {
        DType::BF16 if has_dot_products() => Operands::Pairs,
        DType::BF16 => Operands::Rounded,
        _ => Operands::Single,
    }
}

/// Runs `$body` with `$t` naming the format of the activations and `$e` that of the scratch.
macro_rules! with_operands {
    ($operands:expr, $t:ident, $e:ident => $body:expr) => {
        match $operands {
            Operands::Single => {
                type $t = f32;
                type $e = f32;
                $body
            }
            Operands::Rounded => {
                type $t = bf16;
                type $e = f32;
                $body
            }
            Operands::Pairs => {
                type $t = bf16;
                type $e = bf16;
                $body
            }
        }
    };
}

/// [`conv2d`], then `+ residual` and ReLU where asked for, in one pass over the output; no gradients.
///
/// # Errors
/// When the shapes do not fit.
pub fn conv2d_inference(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    relu: bool,
    config: &Conv2dConfig,
) -> Result<Tensor> {
    PackedConv2d::new(weight, bias, config)?.forward(x, residual, relu)
}

/// A convolution whose weight is arranged once for many forward passes; no gradients. It computes in the dtype of its weight.
#[derive(Clone, Debug)]
pub struct PackedConv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    config: Conv2dConfig,
    /// One per group; empty where the reference computes.
    packed: Vec<Packed>,
}

impl PackedConv2d {
    /// Arranges `weight` `[O, I/groups, kY, kX]`; `bias` is `[O]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, config: &Conv2dConfig) -> Result<Self> {
        let (weight, mut bias) = (weight.detach().contiguous()?, bias.map(Tensor::detach));
        let mut packed = Vec::new();
        if is_element(&weight) && bias.as_ref().is_none_or(is_element) {
            // the arrangement depends on the weight and settings only: any image that fits will do
            let (_, channels, ky, kx) = weight.dims4()?;
            let image = Tensor::zeros((0, ky, kx, channels * config.groups), weight.dtype(), weight.device())?;
            let sizes = check::conv2d(&image, &weight, bias.as_ref(), config)?;
            let conv = Conv { sizes, config: *config, operands: operands(weight.dtype()) };
            packed = conv.pack_forward(&conv.window(), &F32Ref::new(&in_f32(&weight)?)?);
            bias = bias.map(|bias| in_f32(&bias)).transpose()?;
        }
        Ok(Self { weight, bias, config: *config, packed })
    }

    /// `conv2d(x) + residual`, then ReLU if `relu`; `x` is `[B, Y, X, I]`, the output and `residual` are `[B, Y', X', O]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        let prepare = |x: &Tensor| cast(&x.detach(), self.weight.dtype())?.contiguous();
        let (x, residual) = (prepare(x)?, residual.map(prepare).transpose()?);
        if self.packed.is_empty() || !is_element(&x) {
            return plain::conv2d_inference(&x, &self.weight, self.bias.as_ref(), residual.as_ref(), relu, &self.config);
        }
        let sizes = check::conv2d(&x, &self.weight, self.bias.as_ref(), &self.config)?;
        let conv = Conv { sizes, config: self.config, operands: operands(self.weight.dtype()) };
        if let Some(residual) = &residual
            && residual.dims() != conv.out_dims()
        {
            let (expected, found) = (conv.out_dims(), residual.dims());
            candle_core::bail!("conv2d_inference: argument `residual`: expected shape {expected:?}, found {found:?}");
        }
        let bias = self.bias.as_ref().map(F32Ref::new).transpose()?;
        let (x, residual) = (Lock::new(&x), residual.as_ref().map(Lock::new));
        with_operands!(conv.operands, T, E => {
            let residual = residual.as_ref().map(Lock::elements::<T>).transpose()?;
            let epilogue = Epilogue { bias: bias.as_deref(), residual, relu };
            tensor(conv.product::<T, E>(x.elements()?, &conv.window(), &self.packed, epilogue), &conv.out_dims())
        })
    }
}

struct Conv {
    sizes: ConvSizes,
    config: Conv2dConfig,
    operands: Operands,
}

impl Conv {
    /// The window with the scratch format of the products.
    fn window(&self) -> Window {
        self.formatted(self.plain_window())
    }

    /// The window with a scratch of f32.
    fn plain_window(&self) -> Window {
        Window::of_convolution(&self.sizes, self.config.stride, self.config.padding, self.config.groups)
    }

    fn formatted(&self, window: Window) -> Window {
        if self.operands == Operands::Pairs { window.in_pairs() } else { window }
    }

    fn out_dims(&self) -> [usize; 4] {
        let s = &self.sizes;
        [s.batch, s.out_height, s.out_width, s.out_channels]
    }

    /// Input and output channels of a group.
    fn group(&self) -> (usize, usize) {
        (self.sizes.channels / self.config.groups, self.sizes.out_channels / self.config.groups)
    }

    /// Elements of the window.
    fn taps(&self) -> usize {
        self.sizes.kernel_height * self.sizes.kernel_width
    }

    fn pack_forward(&self, window: &Window, weight: &[f32]) -> Vec<Packed> {
        let ((inputs, outputs), taps) = (self.group(), self.taps());
        weight
            .chunks_exact(outputs * inputs * taps)
            .map(|weight| Packed::new(window, self.operands, weight, outputs, |lane, channel| (lane * inputs + channel) * taps))
            .collect()
    }

    fn product<T: Element, E: Scratch<T>>(&self, x: &[T], window: &Window, packed: &[Packed], epilogue: Epilogue<T>) -> Vec<T> {
        let s = &self.sizes;
        let (inputs, outputs) = self.group();
        let mut y = output(self.out_dims().iter().product());
        let out = Disjoint::new(&mut y);
        for (group, packed) in packed.iter().enumerate() {
            let target = Target {
                height: s.out_height,
                width: s.out_width,
                pitch: s.out_channels,
                first: group * outputs,
                stride: 1,
                row: 0,
                col: 0,
            };
            product::run::<T, E>(window, x, group * inputs, packed, epilogue, target, &out);
        }
        y
    }

    fn input_gradient<T: Element, E: Scratch<T>>(&self, weight: &[f32], grad: &[T]) -> Vec<T> {
        let s = &self.sizes;
        let Conv2dConfig { stride, padding, groups } = self.config;
        let ((inputs, outputs), taps) = (self.group(), self.taps());
        let mut dx = output(s.batch * s.height * s.width * s.channels);
        let out = Disjoint::new(&mut dx);
        for (row, col) in (0..stride).flat_map(|row| (0..stride).map(move |col| (row, col))) {
            let window = self.formatted(Window::of_input_gradient(s, stride, padding, groups, (row, col)));
            for (group, weight) in weight.chunks_exact(outputs * inputs * taps).enumerate() {
                let packed =
                    Packed::new(&window, self.operands, weight, inputs, |lane, channel| (channel * inputs + lane) * taps);
                let target =
                    Target { height: s.height, width: s.width, pitch: s.channels, first: group * inputs, stride, row, col };
                product::run::<T, E>(&window, grad, group * outputs, &packed, Epilogue::NONE, target, &out);
            }
        }
        dx
    }

    fn weight_gradient<T: Element>(&self, x: &[T], grad: &[T]) -> Vec<f32> {
        let window = self.plain_window();
        let ((inputs, outputs), taps) = (self.group(), self.taps());
        let mut dw = output(self.sizes.out_channels * inputs * taps);
        let padded = outputs.next_multiple_of(LANES);
        let copy = if padded == outputs { Vec::new() } else { pad_groups(grad, outputs, padded) };
        let grad = if padded == outputs { grad } else { &copy };
        for (group, dw) in dw.chunks_exact_mut(outputs * inputs * taps).enumerate() {
            let grad = (grad, padded * self.config.groups, group * padded);
            weight_grad::run(&window, x, group * inputs, grad, outputs, |lane, channel, tap, sum| {
                dw[(lane * inputs + channel) * taps + tap] = sum;
            });
        }
        dw
    }
}

/// Groups of `from` numbers, each with zeros behind it up to `to`.
fn pad_groups<T: Element>(x: &[T], from: usize, to: usize) -> Vec<T> {
    let mut padded = vec![T::narrow(0.); x.len() / from * to];
    padded.chunks_exact_mut(to).zip(x.chunks_exact(from)).for_each(|(padded, x)| padded[..from].copy_from_slice(x));
    padded
}

impl Layer for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn forward(
        &self,
        x: &CpuStorage,
        l: &Layout,
        weight: &[f32],
        _: &Shape,
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let window = self.window();
        let packed = self.pack_forward(&window, weight);
        let y = with_operands!(self.operands, T, E => {
            T::storage(self.product::<T, E>(elements(x, l)?, &window, &packed, Epilogue { bias, ..Epilogue::NONE }))
        });
        Ok((y, self.out_dims().to_vec().into()))
    }

    fn backward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, grad: &Tensor) -> Result<Gradients> {
        let grad = cast(grad, x.dtype())?.contiguous()?;
        let g = Lock::new(&grad);
        let dx = if x.track_op() {
            let weight = F32Ref::new(weight)?;
            Some(with_operands!(self.operands, T, E => {
                tensor(self.input_gradient::<T, E>(&weight, g.elements()?), x.dims())?
            }))
        } else {
            None
        };
        with_element!(x.dtype(), T => {
            let dw = if weight.track_op() {
                Some(tensor(self.weight_gradient::<T>(Lock::new(x).elements()?, g.elements()?), weight.dims())?)
            } else {
                None
            };
            Ok((dx, dw, bias_gradient::<T>(g.elements()?, bias)?))
        })
    }
}
