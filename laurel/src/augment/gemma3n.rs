//! The LAuReL relative that ships in Gemma 3n E2B and E4B, as a term.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::Augment;
use crate::config::DownInit;
use crate::init;
use crate::residual::{FeatureAxis, Parameter};
use crate::stream::{Needs, ResidualStream};

/// The Gemma 3n block's term.
///
/// ```text
/// laurel(n) = n + rms((n · down) · up; norm)         n = the normed input of f
/// layer:  y = (x + attention(n) + laurel(n)) / √2    (mix `inverse-sqrt2`)
/// ```
/// - Differs from LR: it reads the *normed* input and adds it as a second skip, so it does not start as a plain residual.
/// - `2·r·D + D` parameters. The norm's scale starts at zero, `up` Xavier: a norm behind a zero product has slope `1/√ε`.
///
/// Source: the public Gemma 3n code (`laurel.linear_left`, `linear_right`, `post_laurel_norm`); paper.md section 11.
#[derive(Debug)]
pub struct Gemma3n {
    down: Parameter,
    up: Parameter,
    norm: Parameter,
    axis: FeatureAxis,
}

impl Gemma3n {
    pub(crate) fn new(rank: usize, features: usize, axis: FeatureAxis, vb: &VarBuilder) -> Result<Self> {
        let vb = vb.pp("gemma3n");
        let down = Parameter::new(&vb, (features, rank), "down")?;
        let up = Parameter::new(&vb, (rank, features), "up")?;
        Ok(Self { down, up, norm: Parameter::new(&vb, features, "norm")?, axis })
    }
}

impl Augment for Gemma3n {
    fn init(&self, seed: u64) -> Result<()> {
        init::down(&self.down, DownInit::Xavier, seed)?;
        init::xavier(&self.up, seed)?;
        init::constant(&self.norm, 0.0)
    }

    fn term(&self, stream: &ResidualStream) -> Result<Tensor> {
        let Some(normed) = stream.normed() else {
            bail!(
                "`{}`: the block must hand its normed input to the stream (`ResidualStream::observe`) before writing",
                self.norm.name
            )
        };
        let product = self.axis.low_rank(normed, &self.down.tensor, &self.up.tensor)?;
        normed + self.axis.rms_norm(&product, &self.norm.tensor)?
    }

    fn needs(&self) -> Needs {
        Needs { normed: true, ..Needs::default() }
    }

    fn parameters(&self) -> Vec<&Parameter> {
        vec![&self.down, &self.up, &self.norm]
    }
}
