//! PA, the term of earlier activations, equations (4) and (6).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Augment, Branch, TermNorm};
use crate::config::{DownInit, LagMap, MissingLag, PostNorm};
use crate::init;
use crate::residual::{FeatureAxis, Parameter};
use crate::stream::{Needs, ResidualStream};

/// Term over the last `k` activations, the current one being lag 0.
///
/// ```text
/// term = Σ_{j<k} γ_j · h_j(x_{i-j})
/// identity   h_j(x) = x                              k parameters
/// shared     h_j(x) = (x · down) · up                2rD + k       computed as h(Σ γ_j x_{i-j}): h is linear
/// per-lag    h_j(x) = (x · down_j) · up_j            2rkD + k      lag 0 plays the LR part
/// ```
/// - Near the input fewer than `k` activations exist: missing lags are left out (`drop`) or read the first activation (`clamp`). All `k`
///   entries are allocated all the same; those of dropped lags get zero gradient.
/// - With the identity `γ` starts at 0; with low-rank maps `γ` starts at 1 and `up` at 0 (one zero factor, see [`crate::init`]).
///
/// Source: LAuReL (arXiv:2411.07501) §2.3 and equation (6).
#[derive(Debug)]
pub struct Previous {
    gamma: Parameter,
    pairs: Vec<(Parameter, Parameter)>,
    norm: TermNorm,
    shape: Shape,
    axis: FeatureAxis,
}

/// The choices of [`crate::AugmentConfig::Previous`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) lookback: usize,
    pub(crate) map: LagMap,
    pub(crate) rank: usize,
    pub(crate) init: DownInit,
    pub(crate) missing: MissingLag,
    pub(crate) post_norm: PostNorm,
}

impl Previous {
    pub(crate) fn new(shape: &Shape, features: usize, axis: FeatureAxis, vb: &VarBuilder) -> Result<Self> {
        let vb = vb.pp("previous");
        let gamma = Parameter::new(&vb, shape.lookback, "gamma")?;
        let pair = |suffix: String| {
            let down = Parameter::new(&vb, (features, shape.rank), &format!("down{suffix}"))?;
            Ok((down, Parameter::new(&vb, (shape.rank, features), &format!("up{suffix}"))?))
        };
        let pairs = match shape.map {
            LagMap::Identity => vec![],
            LagMap::Shared => vec![pair(String::new())?],
            LagMap::PerLag => (0..shape.lookback).map(|lag| pair(format!(".{lag}"))).collect::<Result<_>>()?,
        };
        Ok(Self { gamma, pairs, norm: TermNorm::new(shape.post_norm, features, axis, &vb)?, shape: *shape, axis })
    }

    /// The activation that lag `j` reads, if it reads one here.
    fn lag<'a>(&self, stream: &'a ResidualStream, j: usize) -> Option<&'a Tensor> {
        match self.shape.missing {
            MissingLag::Drop => stream.lag(j),
            MissingLag::Clamp => Some(stream.lag(j).unwrap_or_else(|| stream.oldest())),
        }
    }
}

impl Augment for Previous {
    fn init(&self, seed: u64) -> Result<()> {
        let gamma_is_last = self.pairs.is_empty() && !self.norm.is_some();
        init::constant(&self.gamma, if gamma_is_last { 0.0 } else { 1.0 })?;
        for (down, up) in &self.pairs {
            init::down(down, self.shape.init, seed)?;
            if self.norm.is_some() { init::xavier(up, seed)? } else { init::constant(up, 0.0)? }
        }
        self.norm.init()
    }

    fn term(&self, stream: &ResidualStream) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for j in 0..self.shape.lookback {
            let Some(x) = self.lag(stream, j) else { break };
            let mapped = match self.shape.map {
                LagMap::PerLag => self.axis.low_rank(x, &self.pairs[j].0.tensor, &self.pairs[j].1.tensor)?,
                LagMap::Identity | LagMap::Shared => x.clone(),
            };
            let weighted = mapped.broadcast_mul(&self.gamma.tensor.get(j)?.to_dtype(mapped.dtype())?)?;
            sum = Some(match sum {
                Some(sum) => (sum + weighted)?,
                None => weighted,
            });
        }
        let Some(mut sum) = sum else { candle_core::bail!("`{}` has no entries: lookback must be at least 1", self.gamma.name) };
        if self.shape.map == LagMap::Shared {
            sum = self.axis.low_rank(&sum, &self.pairs[0].0.tensor, &self.pairs[0].1.tensor)?;
        }
        self.norm.apply(sum)
    }

    fn branches<'a>(&'a self, stream: &'a ResidualStream) -> Result<Option<Vec<Branch<'a>>>> {
        if self.pairs.is_empty() || self.norm.is_some() {
            return Ok(None);
        }
        let mut branches = vec![];
        for j in 0..self.shape.lookback {
            let Some(source) = self.lag(stream, j) else { break };
            let (down, up) = &self.pairs[if self.shape.map == LagMap::Shared { 0 } else { j }];
            let up = up.tensor.broadcast_mul(&self.gamma.tensor.get(j)?)?;
            branches.push(Branch { source, down: &down.tensor, up });
        }
        Ok(Some(branches))
    }

    fn needs(&self) -> Needs {
        Needs { last: self.shape.lookback, ..Needs::default() }
    }

    fn parameters(&self) -> Vec<&Parameter> {
        let pairs = self.pairs.iter().flat_map(|(down, up)| [down, up]);
        std::iter::once(&self.gamma).chain(pairs).chain(&self.norm.scale).collect()
    }
}
