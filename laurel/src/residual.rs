//! One residual connection: `α·f(x) + β·(x + Σ terms)`.

use candle_core::{D, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;

use crate::augment::{self, Augment};
use crate::config::{MixKind, ResidualConfig};
use crate::mix::Mix;
use crate::stream::{Needs, ResidualStream};

/// Where the features of an activation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureAxis {
    /// `[…, D]`: language models.
    Last,
    /// `[B, C, Y, X]`: images; maps act as 1×1 convolutions.
    Channels,
}

impl FeatureAxis {
    /// The axis' size in `x`.
    ///
    /// # Errors
    /// When `x` has no such axis.
    pub fn size(self, x: &Tensor) -> Result<usize> {
        match self {
            Self::Last => x.dim(D::Minus1),
            Self::Channels => x.dim(1),
        }
    }

    /// A scalar or per-feature tensor, shaped to broadcast against `x`.
    pub(crate) fn broadcastable(self, weight: &Tensor, x: &Tensor) -> Result<Tensor> {
        match (self, weight.rank()) {
            (Self::Channels, 1) => weight.reshape(
                std::iter::once(weight.elem_count())
                    .chain(std::iter::repeat_n(1, x.rank().saturating_sub(2)))
                    .collect::<Vec<_>>(),
            ),
            _ => Ok(weight.clone()),
        }
    }

    /// `(x · down) · up` over the features; the D×D product is never formed.
    pub(crate) fn low_rank(self, x: &Tensor, down: &Tensor, up: &Tensor) -> Result<Tensor> {
        match self {
            #[cfg(feature = "kernels")]
            Self::Last => kernels::low_rank(x, down, up),
            #[cfg(not(feature = "kernels"))]
            Self::Last => {
                let features = x.dim(D::Minus1)?;
                let rows = x.reshape(((), features))?; // [N, D]
                rows.matmul(down)?.matmul(up)?.reshape(x.shape())
            }
            Self::Channels => {
                let (batch, channels, height, width) = x.dims4()?;
                let pixels = x.reshape((batch, channels, height * width))?; // [B, C, YX]
                let reduced = down.t()?.contiguous()?.broadcast_matmul(&pixels)?; // [B, r, YX]
                up.t()?.contiguous()?.broadcast_matmul(&reduced)?.reshape(x.shape())
            }
        }
    }

    /// `v / √(mean(v²) + 1e-6) · scale` over the features, the form of the Gemma 3n block.
    pub(crate) fn rms_norm(self, v: &Tensor, scale: &Tensor) -> Result<Tensor> {
        let axis = match self {
            Self::Last => v.rank() - 1,
            Self::Channels => 1,
        };
        let mean_square = v.sqr()?.mean_keepdim(axis)?;
        v.broadcast_div(&(mean_square + 1e-6)?.sqrt()?)?.broadcast_mul(&self.broadcastable(scale, v)?.to_dtype(v.dtype())?)
    }
}

/// A named tensor of the connection.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Full name, as in a checkpoint.
    pub name: String,
    /// Its values; a variable while training.
    pub tensor: Tensor,
}

impl Parameter {
    pub(crate) fn new<S: Into<Shape>>(vb: &VarBuilder, shape: S, name: &str) -> Result<Self> {
        let full = if vb.prefix().is_empty() { name.to_string() } else { format!("{}.{name}", vb.prefix()) };
        Ok(Self { name: full, tensor: vb.get_with_hints(shape, name, candle_nn::Init::Const(0.0))? })
    }
}

/// Whether a parameter name is one of LAuReL's few-valued weights (α, β logits and γ): no weight decay, own learning rate.
pub fn is_scalar_parameter(name: &str) -> bool {
    name.ends_with(".mix.a") || name.ends_with(".mix.b") || name.ends_with(".previous.gamma")
}

/// One residual connection.
///
/// ```text
/// x_{i+1} = α · f(x_i) + β · (x_i + Σ terms(x_i, x_{i-1}, …))
/// ```
/// - Shape: `[B, T, D]` (features last) or `[B, D, Y, X]` (channels); the output has the shape and dtype of `x`.
/// - *f* includes its pre-norm; the terms see the raw stream (only the Gemma 3n term reads the normed input).
///
/// Source: LAuReL (arXiv:2411.07501) equations (2)–(6).
#[derive(Debug)]
pub struct Residual {
    mix: Mix,
    terms: Vec<Box<dyn Augment>>,
}

impl Residual {
    /// Registers names and shapes below `vb`; values come from [`Residual::init`] or a checkpoint.
    ///
    /// # Errors
    /// When the configuration does not fit `features`, or a checkpoint behind `vb` lacks a tensor.
    pub fn new(config: &ResidualConfig, features: usize, axis: FeatureAxis, vb: VarBuilder) -> Result<Self> {
        if let Err(error) = config.validate(features) {
            bail!("residual `{}`: {error}", vb.prefix());
        }
        let mix = Mix::new(config.mix, features, axis, &vb)?;
        let terms = config.augment.iter().map(|term| augment::build(term, features, axis, &vb)).collect::<Result<_>>()?;
        Ok(Self { mix, terms })
    }

    /// Fills every parameter in place, keyed by (seed, its name).
    pub fn init(&self, seed: u64) -> Result<()> {
        self.mix.init()?;
        self.terms.iter().try_for_each(|term| term.init(seed))
    }

    /// `α·(fx + fx2) + β·(x + Σ terms)` for the stream's current `x`; `fx2` is a second part of *f*'s output, if it has one.
    ///
    /// # Errors
    /// When `fx` or `fx2` has another shape than `x`.
    pub fn merge(&self, fx: &Tensor, fx2: Option<&Tensor>, stream: &ResidualStream) -> Result<Tensor> {
        self.join(fx, fx2, false, stream)
    }

    /// `max(merge, 0)`: the end of a ResNet block.
    ///
    /// # Errors
    /// As [`Residual::merge`].
    pub fn merge_relu(&self, fx: &Tensor, stream: &ResidualStream) -> Result<Tensor> {
        self.join(fx, None, true, stream)
    }

    fn join(&self, fx: &Tensor, fx2: Option<&Tensor>, relu: bool, stream: &ResidualStream) -> Result<Tensor> {
        let x = stream.current();
        if let Some(part) = std::iter::once(fx).chain(fx2).find(|part| part.shape() != x.shape()) {
            bail!("residual merge: f(x) has shape {:?}, expected that of x, {:?}", part.dims(), x.dims());
        }
        #[cfg(feature = "kernels")]
        if self.mix.axis() == FeatureAxis::Last {
            return self.join_fused(fx, fx2, relu, stream);
        }
        let residual = self.terms.iter().try_fold(x.clone(), |sum, term| sum + term.term(stream)?)?;
        let merged = match fx2 {
            Some(fx2) => self.mix.merge(&(fx + fx2)?, &residual)?,
            None => self.mix.merge(fx, &residual)?,
        };
        // candle's own relu turns NaN into 0 and passes the gradient at 0, the fused merge does neither
        if relu { merged.le(0.)?.where_cond(&merged.zeros_like()?, &merged) } else { Ok(merged) }
    }

    /// The same in one pass: a map of `x` itself inside it, the first halves of other maps before it.
    #[cfg(feature = "kernels")]
    fn join_fused(&self, fx: &Tensor, fx2: Option<&Tensor>, relu: bool, stream: &ResidualStream) -> Result<Tensor> {
        let current = stream.current();
        let (mut x, mut low_rank) = (current.clone(), vec![]);
        for term in &self.terms {
            match term.branches(stream)? {
                Some(branches) => low_rank.extend(branches),
                None => x = (x + term.term(stream)?)?,
            }
        }
        let (mut map, mut branches) = (None, vec![]);
        for branch in low_rank {
            if map.is_none() && branch.source.id() == x.id() {
                map = Some((branch.down, branch.up));
            } else {
                branches.push((kernels::linear(branch.source, &branch.down.t()?.contiguous()?, None)?, branch.up));
            }
        }
        let map = map.as_ref().map(|(down, up)| (*down, up));
        let ab = self.mix.stacked(current)?;
        kernels::merge(&kernels::Merge { fx, fx2, x: &x, ab: ab.as_ref(), map, branches: &branches, relu })
    }

    /// History this connection reads.
    pub fn needs(&self) -> Needs {
        self.terms.iter().map(|term| term.needs()).fold(Needs::default(), Needs::union)
    }

    /// Whether it is the plain addition.
    pub fn is_plain(&self) -> bool {
        self.mix.kind() == MixKind::None && self.terms.is_empty()
    }

    /// α and β.
    pub fn mix(&self) -> &Mix {
        &self.mix
    }

    /// Every parameter, in a fixed order.
    pub fn parameters(&self) -> Vec<&Parameter> {
        self.mix.parameters().chain(self.terms.iter().flat_map(|term| term.parameters())).collect()
    }
}
