//! The additive linear terms of the residual side, one file each; `build` is the one list of them.

mod gemma3n;
mod low_rank;
mod previous;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

pub use gemma3n::Gemma3n;
pub use low_rank::LowRank;
pub use previous::Previous;

#[cfg(doc)]
use crate::Residual;
use crate::config::{AugmentConfig, PostNorm};
use crate::init;
use crate::residual::{FeatureAxis, Parameter};
use crate::stream::{Needs, ResidualStream};

/// One additive term of g(x_i, x_{i-1}, …), linear in the activations unless a norm is asked for.
pub trait Augment: std::fmt::Debug + Send + Sync {
    /// Fills its parameters in place, keyed by (seed, name).
    fn init(&self, seed: u64) -> Result<()>;
    /// The term for the stream's current position in depth; shape and dtype of `x`.
    fn term(&self, stream: &ResidualStream) -> Result<Tensor>;
    /// The term as a sum of low-rank maps, where it is one: [`Residual::merge`] then does all of them in one pass.
    fn branches<'a>(&'a self, _stream: &'a ResidualStream) -> Result<Option<Vec<Branch<'a>>>> {
        Ok(None)
    }
    /// Activations it reads.
    fn needs(&self) -> Needs;
    /// Its parameters, in a fixed order.
    fn parameters(&self) -> Vec<&Parameter>;
}

/// `(source · down) · up`, one summand of a term.
#[derive(Debug)]
pub struct Branch<'a> {
    /// The activation that is read, `[.., D]`.
    pub source: &'a Tensor,
    /// `[D, r]`
    pub down: &'a Tensor,
    /// `[r, D]`, with the summand's weight in it.
    pub up: Tensor,
}

/// Builds a term; adding one means a file here, a variant of [`AugmentConfig`] and an arm below.
pub(crate) fn build(config: &AugmentConfig, features: usize, axis: FeatureAxis, vb: &VarBuilder) -> Result<Box<dyn Augment>> {
    Ok(match *config {
        AugmentConfig::LowRank { rank, init, post_norm } => Box::new(LowRank::new(rank, init, post_norm, features, axis, vb)?),
        AugmentConfig::Previous { lookback, map, rank, init, missing, post_norm } => {
            let rank = rank.unwrap_or(0); // validated: a low-rank map has one
            Box::new(Previous::new(&previous::Shape { lookback, map, rank, init, missing, post_norm }, features, axis, vb)?)
        }
        AugmentConfig::Gemma3n { rank } => Box::new(Gemma3n::new(rank, features, axis, vb)?),
    })
}

/// The optional norm behind a term; its scale starts at zero, so the term does.
#[derive(Debug)]
struct TermNorm {
    scale: Option<Parameter>,
    axis: FeatureAxis,
}

impl TermNorm {
    fn new(post_norm: PostNorm, features: usize, axis: FeatureAxis, vb: &VarBuilder) -> Result<Self> {
        let scale = (post_norm == PostNorm::Rms).then(|| Parameter::new(vb, features, "norm")).transpose()?;
        Ok(Self { scale, axis })
    }

    fn is_some(&self) -> bool {
        self.scale.is_some()
    }

    fn init(&self) -> Result<()> {
        self.scale.iter().try_for_each(|scale| init::constant(scale, 0.0))
    }

    fn apply(&self, term: Tensor) -> Result<Tensor> {
        match &self.scale {
            Some(scale) => self.axis.rms_norm(&term, &scale.tensor),
            None => Ok(term),
        }
    }
}
