//! One residual block: *f*, the shortcut, and where LAuReL joins them.
//!
//! ```text
//! plain    x_{i+1} = relu( f(x_i) + s(x_i) )                       s: identity, projection or padding
//! LAuReL   x_{i+1} = relu( α·f(x_i) + β·(s(x_i) + Σ terms) )       terms read s(x_i) and the stage's earlier activations
//! ```
//! The paper says nothing of blocks that change the shape, nor of the ReLU behind the addition. Here the formulas' x_i is the
//! shortcut's output where there is one, PA looks back within a stage only, and the ReLU stays behind the whole sum
//! (paper.md section 5).

use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;
use kernels::Numerics;
use laurel::{FeatureAxis, Residual, ResidualStream};

use super::Mode;
use super::config::{BlockShape, ResNetConfig, ShortcutKind};
use super::layers::ConvNorm;

/// What a block adds *f* to.
#[derive(Debug)]
enum Shortcut {
    Identity,
    Projection(ConvNorm),
    Padding { stride: usize, channels: usize },
}

/// One residual block.
#[derive(Debug)]
pub(crate) struct Block {
    convolutions: Vec<ConvNorm>,
    shortcut: Shortcut,
    residual: std::sync::Arc<Residual>,
}

impl Block {
    pub(crate) fn new(config: &ResNetConfig, shape: &BlockShape, vb: &VarBuilder<'_>) -> Result<Self> {
        let norm = (config.norm_eps, config.norm_momentum);
        let convolution = |(at, conv): (usize, [usize; 4])| {
            ConvNorm::new(conv, norm, &vb.pp(format!("conv{}", at + 1)), &vb.pp(format!("bn{}", at + 1)))
        };
        let convolutions = shape.convolutions(config.block).into_iter().enumerate().map(convolution).collect::<Result<_>>()?;
        let shortcut = match config.shortcut {
            _ if shape.is_identity() => Shortcut::Identity,
            ShortcutKind::Projection => {
                let conv = [shape.inputs, shape.outputs, 1, shape.stride];
                let vb = vb.pp("downsample");
                Shortcut::Projection(ConvNorm::new(conv, norm, &vb.pp("0"), &vb.pp("1"))?)
            }
            ShortcutKind::Padding => Shortcut::Padding { stride: shape.stride, channels: shape.outputs },
        };
        let residual = Residual::new(&config.residual_of(shape), shape.outputs, FeatureAxis::Last, vb.pp("residual"))?;
        Ok(Self { convolutions, shortcut, residual: residual.into() })
    }

    pub(crate) fn forward(&self, stream: &mut ResidualStream, mode: Mode, numerics: Numerics) -> Result<()> {
        let x = stream.read(&self.residual)?; // [B, Y, X, inputs]
        let Some((last, inner)) = self.convolutions.split_last() else { return Ok(()) };
        let operand = if numerics == Numerics::Bf16 { kernels::cast(&x, DType::BF16)? } else { x.clone() };
        let fx = inner.iter().try_fold(operand.clone(), |fx, convolution| convolution.forward(&fx, mode, true))?;
        if let Some(shortcut) = self.shortcut.forward(&x, &operand, mode)? {
            stream.restart(shortcut); // [B, Y', X', outputs]; history ends with the stage
        }
        // The merge takes a bf16 f(x) beside the f32 stream; the fused addition rounds both.
        let next = if self.residual.is_plain() && numerics != Numerics::Bf16 {
            last.forward_add_relu(&fx, stream.current(), mode)?
        } else {
            self.residual.merge_relu(&last.forward(&fx, mode, false)?, stream)?
        };
        stream.advance(next);
        Ok(())
    }

    pub(crate) fn residual(&self) -> &Residual {
        &self.residual
    }

    pub(crate) fn init(&self, seed: u64) -> Result<()> {
        self.convolutions.iter().try_for_each(|convolution| convolution.init(seed))?;
        if let Shortcut::Projection(projection) = &self.shortcut {
            projection.init(seed)?;
        }
        self.residual.init(seed)
    }

    /// The inference form with convolutions in `dtype`; the residual's parameters are shared.
    pub(crate) fn fold(&self, dtype: DType) -> Result<Self> {
        Ok(Self {
            convolutions: self.convolutions.iter().map(|convolution| convolution.fold(dtype)).collect::<Result<_>>()?,
            shortcut: match &self.shortcut {
                Shortcut::Identity => Shortcut::Identity,
                Shortcut::Projection(projection) => Shortcut::Projection(projection.fold(dtype)?),
                Shortcut::Padding { stride, channels } => Shortcut::Padding { stride: *stride, channels: *channels },
            },
            residual: self.residual.clone(),
        })
    }
}

impl Shortcut {
    /// `None` for the identity. `operand` is `x` as convolutions take it; the result has the dtype of `x`.
    fn forward(&self, x: &Tensor, operand: &Tensor, mode: Mode) -> Result<Option<Tensor>> {
        match self {
            Self::Identity => Ok(None),
            Self::Projection(projection) => kernels::cast(&projection.forward(operand, mode, false)?, x.dtype()).map(Some),
            Self::Padding { stride, channels } => pad_channels(&every_other(x, *stride)?, *channels).map(Some),
        }
    }
}

/// Pixels whose row and column are multiples of `stride`.
fn every_other(x: &Tensor, stride: usize) -> Result<Tensor> {
    if stride == 1 {
        return Ok(x.clone());
    }
    let (batch, height, width, channels) = x.dims4()?;
    if height % stride == 0 && width % stride == 0 {
        // Views instead of an index list: their backward is a copy.
        let (rows, columns) = (height / stride, width / stride);
        let x = x.reshape((batch, rows, stride, columns, stride, channels))?;
        return x.narrow(2, 0, 1)?.narrow(4, 0, 1)?.reshape((batch, rows, columns, channels));
    }
    let indices = |length: usize| Tensor::arange_step(0u32, length as u32, stride as u32, x.device());
    x.index_select(&indices(height)?, 1)?.index_select(&indices(width)?, 2)
}

/// Zeros on both sides of the channels, half of the new ones before.
fn pad_channels(x: &Tensor, channels: usize) -> Result<Tensor> {
    let new = channels - x.dim(D::Minus1)?;
    x.pad_with_zeros(D::Minus1, new / 2, new - new / 2)
}
