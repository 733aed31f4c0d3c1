//! LR, the low-rank term of equation (3).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Augment, Branch, TermNorm};
use crate::config::{DownInit, PostNorm};
use crate::init;
use crate::residual::{FeatureAxis, Parameter};
use crate::stream::{Needs, ResidualStream};

/// Low-rank term of the residual side.
///
/// ```text
/// term(x) = (x · down) · up          down: [D, r]    up: [r, D]
/// ```
/// - Shape: `[B, T, D]` (features last) or `[B, D, Y, X]` (channels); the output has the shape and dtype of `x`.
/// - Cost: `2·r·D` parameters, `4·r·D` FLOPs per position, no history. The D×D product is never formed.
/// - `up` starts at zero: until the first update the block equals a plain residual, and `down` has zero gradient. With a norm behind
///   it, the norm's scale is the factor that starts at zero instead, and `up` is Xavier.
///
/// Differs: the paper writes A and B in more than one order; `down` is its non-zero factor and `up` its zero one, as in LoRA.
///
/// Source: LAuReL (arXiv:2411.07501) §2.2 for the form, §3.3 for the initialisation.
#[derive(Debug)]
pub struct LowRank {
    down: Parameter,
    up: Parameter,
    norm: TermNorm,
    init: DownInit,
    axis: FeatureAxis,
}

impl LowRank {
    pub(crate) fn new(
        rank: usize,
        init: DownInit,
        post_norm: PostNorm,
        features: usize,
        axis: FeatureAxis,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let vb = vb.pp("low_rank");
        let down = Parameter::new(&vb, (features, rank), "down")?;
        let up = Parameter::new(&vb, (rank, features), "up")?;
        Ok(Self { down, up, norm: TermNorm::new(post_norm, features, axis, &vb)?, init, axis })
    }
}

impl Augment for LowRank {
    fn init(&self, seed: u64) -> Result<()> {
        init::down(&self.down, self.init, seed)?;
        if self.norm.is_some() {
            init::xavier(&self.up, seed)?;
        } else {
            init::constant(&self.up, 0.0)?;
        }
        self.norm.init()
    }

    fn term(&self, stream: &ResidualStream) -> Result<Tensor> {
        self.norm.apply(self.axis.low_rank(stream.current(), &self.down.tensor, &self.up.tensor)?)
    }

    fn branches<'a>(&'a self, stream: &'a ResidualStream) -> Result<Option<Vec<Branch<'a>>>> {
        let branch = || Branch { source: stream.current(), down: &self.down.tensor, up: self.up.tensor.clone() };
        Ok((!self.norm.is_some()).then(|| vec![branch()]))
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn parameters(&self) -> Vec<&Parameter> {
        [&self.down, &self.up].into_iter().chain(&self.norm.scale).collect()
    }
}
