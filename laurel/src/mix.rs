//! α and β: the weights of *f*'s output and of the residual side (LAuReL-RW).
//!
//! ```text
//! free       α = a               β = b              start 1, 1
//! softmax    (α, β) = softmax(a, b)                 start ½, ½
//! softmax2   (α, β) = 2·softmax(a, b)               start 1, 1
//! sigmoid1   α = σ(a)            β = 1 − σ(a)       start ½, ½
//! sigmoid2x  α = 2σ(a)           β = 2σ(b)          start 1, 1
//! ```
//!
//! The softmax of two numbers is a sigmoid of their difference, which is how it is computed: exactly ½ at the start, and stable.

use candle_core::{Result, Tensor, bail};
use candle_nn::{VarBuilder, ops::sigmoid};

use crate::config::{MixConfig, MixKind};
use crate::init;
use crate::residual::{FeatureAxis, Parameter};

/// The two weights of a connection, as learned.
#[derive(Debug)]
pub struct Mix {
    kind: MixKind,
    axis: FeatureAxis,
    a: Option<Parameter>,
    b: Option<Parameter>,
}

impl Mix {
    /// Registers the logits `mix.a` and `mix.b`, shape `[]` or `[features]`.
    pub(crate) fn new(config: MixConfig, features: usize, axis: FeatureAxis, vb: &VarBuilder) -> Result<Self> {
        let vb = vb.pp("mix");
        let logit = |name: &str| {
            if config.per_channel { Parameter::new(&vb, features, name) } else { Parameter::new(&vb, (), name) }
        };
        let a = (config.kind.logits() >= 1).then(|| logit("a")).transpose()?;
        let b = (config.kind.logits() == 2).then(|| logit("b")).transpose()?;
        Ok(Self { kind: config.kind, axis, a, b })
    }

    pub(crate) fn init(&self) -> Result<()> {
        let start = if self.kind == MixKind::Free { 1.0 } else { 0.0 };
        self.parameters().try_for_each(|logit| init::constant(logit, start))
    }

    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.a.iter().chain(self.b.iter())
    }

    /// The bounding form.
    pub fn kind(&self) -> MixKind {
        self.kind
    }

    /// Where the features are.
    #[cfg(feature = "kernels")]
    pub(crate) fn axis(&self) -> FeatureAxis {
        self.axis
    }

    /// α and β, shape `[]` or `[features]`; `None` when both are 1.
    pub fn weights(&self) -> Result<Option<(Tensor, Tensor)>> {
        let (a, b) = (self.a.as_ref().map(|p| &p.tensor), self.b.as_ref().map(|p| &p.tensor));
        let pair = match (self.kind, a, b) {
            (MixKind::None | MixKind::InverseSqrt2, _, _) => return Ok(None),
            (MixKind::Free, Some(a), Some(b)) => (a.clone(), b.clone()),
            (MixKind::Softmax, Some(a), Some(b)) => (sigmoid(&(a - b)?)?, sigmoid(&(b - a)?)?),
            (MixKind::Softmax2, Some(a), Some(b)) => ((sigmoid(&(a - b)?)? * 2.0)?, (sigmoid(&(b - a)?)? * 2.0)?),
            (MixKind::Sigmoid1, Some(a), None) => {
                let alpha = sigmoid(a)?;
                let beta = (1.0 - &alpha)?;
                (alpha, beta)
            }
            (MixKind::Sigmoid2x, Some(a), Some(b)) => ((sigmoid(a)? * 2.0)?, (sigmoid(b)? * 2.0)?),
            (kind, ..) => bail!("mix `{kind:?}` was built without its logits"),
        };
        Ok(Some(pair))
    }

    /// (α, β) as the fused merge takes them, `[2]` or `[2, features]`; `None` when both are 1.
    #[cfg(feature = "kernels")]
    pub(crate) fn stacked(&self, like: &Tensor) -> Result<Option<Tensor>> {
        if self.kind == MixKind::InverseSqrt2 {
            return Tensor::new(&[std::f64::consts::FRAC_1_SQRT_2; 2], like.device())?.to_dtype(like.dtype()).map(Some);
        }
        self.weights()?.map(|(alpha, beta)| Tensor::stack(&[alpha, beta], 0)).transpose()
    }

    /// `α·fx + β·residual`.
    pub(crate) fn merge(&self, fx: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let Some((alpha, beta)) = self.weights()? else {
            let sum = (fx + residual)?;
            return if self.kind == MixKind::InverseSqrt2 { sum * std::f64::consts::FRAC_1_SQRT_2 } else { Ok(sum) };
        };
        let (alpha, beta) = (self.axis.broadcastable(&alpha, fx)?, self.axis.broadcastable(&beta, fx)?);
        fx.broadcast_mul(&alpha)? + residual.broadcast_mul(&beta)?
    }
}
