//! One transformer layer: what *f* is, and where its result joins the stream.
//!
//! Placement decides which of the two additions of a layer LAuReL replaces; the layer knows no variant by name.
//!
//! ```text
//! attention, mlp, both     x ← write(attention(norm(read(x))))      x ← write(mlp(norm(read(x))))      plain where not placed
//! layer                    a = attention(norm(x))    m = mlp(norm(x + a))    x ← write(c·a + m)        c = 1 unless folded
//! layer, parallel          a = attention(norm(x))    m = mlp(norm(x))        x ← write(a + m)
//! ```
//! With `layer`, *f* is the whole layer's increment: its inner addition stays plain, and one connection merges the
//! increment with the layer's input (what the paper's parameter counts imply, paper.md section 9.3).
//!
//! Every addition goes through the stream, the plain ones too: for PA a past activation is the output of a previous
//! residual connection, whichever connection that was.
//!
//! Source: LAuReL (arXiv:2411.07501) section 2; pre-norm layers as in GPT-2 and Llama.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use kernels::Numerics;
use laurel::{FeatureAxis, Needs, Placement, Residual, ResidualConfig, ResidualStream};

use super::attention::{Attention, Context};
use super::config::DecoderConfig;
use super::mlp::Mlp;
use crate::layers::Norm;

/// The residual connections of a layer.
#[derive(Debug)]
pub(crate) enum Sites {
    /// One around the whole layer.
    Layer {
        residual: Residual,
        /// c, the weight of the attention increment in the outgoing sum.
        attention_carry: f64,
    },
    /// One around each part.
    Parts { attention: Residual, mlp: Residual },
}

#[derive(Debug)]
pub(crate) struct Block {
    input_layernorm: Norm,
    self_attn: Attention,
    attention_output_norm: Option<Norm>,
    post_attention_layernorm: Norm,
    mlp: Mlp,
    mlp_output_norm: Option<Norm>,
    is_parallel: bool,
    sites: Sites,
}

impl Block {
    pub(crate) fn new(config: &DecoderConfig, layer: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let norm = |name: &str| Norm::new(config.norm, config.hidden_size, config.norm_eps, &vb.pp(name));
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::new(config, layer, &vb.pp("self_attn"))?,
            attention_output_norm: config.extras.post_norms.then(|| norm("attention_output_norm")).transpose()?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp::new(config, &vb.pp("mlp"))?,
            mlp_output_norm: config.extras.post_norms.then(|| norm("mlp_output_norm")).transpose()?,
            is_parallel: config.extras.parallel_residual,
            sites: Sites::new(config, layer, vb)?,
        })
    }

    pub(crate) fn forward(&self, stream: &mut ResidualStream, context: &mut Context<'_>) -> Result<()> {
        match &self.sites {
            Sites::Parts { attention, mlp } => {
                let a = self.attention(&stream.read(attention)?, Some(stream), context)?;
                stream.write(attention, &a)?;
                let m = self.mlp(&stream.read(mlp)?, Some(stream), context.numerics)?;
                stream.write(mlp, &m)
            }
            Sites::Layer { residual, attention_carry } => {
                let x = stream.read(residual)?;
                let a = self.attention(&x, Some(stream), context)?;
                let m = if self.is_parallel {
                    self.mlp(&x, None, context.numerics)?
                } else {
                    self.mlp(&kernels::add(&x, &a)?, None, context.numerics)?
                };
                let carried = if *attention_carry == 1.0 { a } else { (a * *attention_carry)? };
                stream.write_sum(residual, &carried, &m)
            }
        }
    }

    /// Pre-norm and attention; a stream that wants the normed input is told.
    fn attention(&self, x: &Tensor, stream: Option<&mut ResidualStream>, context: &mut Context<'_>) -> Result<Tensor> {
        let normed = self.input_layernorm.forward(x, context.numerics)?;
        self.observe(stream, x, &normed)?;
        let numerics = context.numerics;
        let out = self.self_attn.forward(&normed, context)?;
        after(self.attention_output_norm.as_ref(), out, numerics)
    }

    fn mlp(&self, x: &Tensor, stream: Option<&mut ResidualStream>, numerics: Numerics) -> Result<Tensor> {
        let normed = self.post_attention_layernorm.forward(x, numerics)?;
        self.observe(stream, x, &normed)?;
        after(self.mlp_output_norm.as_ref(), self.mlp.forward(&normed, numerics)?, numerics)
    }

    /// Tells a stream that wants it what the norm made of `x`, in the stream's dtype.
    fn observe(&self, stream: Option<&mut ResidualStream>, x: &Tensor, normed: &Tensor) -> Result<()> {
        if let Some(stream) = stream
            && self.sites.needs().normed
        {
            stream.observe(&kernels::cast(normed, x.dtype())?);
        }
        Ok(())
    }

    pub(crate) fn pack(&mut self) -> Result<()> {
        self.self_attn.pack()?;
        self.mlp.pack()
    }

    pub(crate) fn sites(&self) -> &Sites {
        &self.sites
    }

    pub(crate) fn init(&self, std: f64, output_std: f64, seed: u64) -> Result<()> {
        self.input_layernorm.init(seed)?;
        self.self_attn.init(std, output_std, seed)?;
        self.post_attention_layernorm.init(seed)?;
        for norm in self.attention_output_norm.iter().chain(&self.mlp_output_norm) {
            norm.init(seed)?;
        }
        self.mlp.init(std, output_std, seed)?;
        self.sites.residuals().into_iter().try_for_each(|residual| residual.init(seed))
    }
}

/// What a norm, if there is one, makes of a part's output.
fn after(norm: Option<&Norm>, x: Tensor, numerics: Numerics) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&x, numerics),
        None => Ok(x),
    }
}

impl Sites {
    fn new(config: &DecoderConfig, layer: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let learned = |name: &str| Residual::new(&config.residual, config.hidden_size, FeatureAxis::Last, vb.pp(name));
        let plain = || Residual::new(&ResidualConfig::default(), config.hidden_size, FeatureAxis::Last, vb.pp("residual"));
        Ok(match config.residual.placement {
            Placement::Layer => Self::Layer {
                residual: learned("residual")?,
                attention_carry: config.attention_carry.get(layer).copied().unwrap_or(1.0),
            },
            Placement::Attention => Self::Parts { attention: learned("residual")?, mlp: plain()? },
            Placement::Mlp => Self::Parts { attention: plain()?, mlp: learned("residual")? },
            Placement::Both => Self::Parts { attention: learned("attention_residual")?, mlp: learned("mlp_residual")? },
        })
    }

    /// In the order in which they write.
    pub(crate) fn residuals(&self) -> Vec<&Residual> {
        match self {
            Self::Layer { residual, .. } => vec![residual],
            Self::Parts { attention, mlp } => vec![attention, mlp],
        }
    }

    pub(crate) fn needs(&self) -> Needs {
        self.residuals().into_iter().map(Residual::needs).fold(Needs::default(), Needs::union)
    }
}
