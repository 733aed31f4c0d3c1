//! Convolution with batch norm, the part that every block is made of, in its two forms.
//!
//! ```text
//! trained   y = relu?( γ·(conv(x) − mean)/√(var + ε) + β )         mean, var of the batch (training) or running (evaluation)
//! folded    y = relu?( conv'(x) + bias )       conv' = conv · γ/√(var + ε)      bias = β − mean·γ/√(var + ε)
//! running ← (1 − m)·running + m·batch                              the variance unbiased, as torch keeps it
//! ```
//! Source: Ioffe and Szegedy 2015 (arXiv:1502.03167).

use candle_core::{DType, Result, Tensor, Var, bail};
use candle_nn::VarBuilder;
use kernels::{Conv2dConfig, PackedConv2d};

use super::Mode;
use crate::init::Distribution;
use crate::layers::Param;

/// Batch norm over channels, with running statistics.
#[derive(Debug)]
pub(crate) struct BatchNorm {
    weight: Param,
    bias: Param,
    running_mean: Param,
    running_var: Param,
    eps: f64,
    momentum: f64,
}

impl BatchNorm {
    fn new(channels: usize, eps: f64, momentum: f64, vb: &VarBuilder<'_>) -> Result<Self> {
        let vector = |name: &str| Param::new(channels, name, vb);
        Ok(Self {
            weight: vector("weight")?,
            bias: vector("bias")?,
            running_mean: vector("running_mean")?,
            running_var: vector("running_var")?,
            eps,
            momentum,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode, relu: bool) -> Result<Tensor> {
        let norm = kernels::BatchNorm { gamma: self.weight.tensor(), beta: self.bias.tensor(), eps: self.eps, relu };
        match mode {
            Mode::Train => {
                let (y, mean, variance) = kernels::batch_norm_train(x, &norm)?;
                self.average(&self.running_mean, &mean)?;
                self.average(&self.running_var, &variance)?;
                Ok(y)
            }
            Mode::Eval => {
                let (mean, variance) = (self.running_mean.tensor().detach(), self.running_var.tensor().detach());
                kernels::batch_norm_eval(x, &norm, &mean, &variance)
            }
        }
    }

    fn average(&self, running: &Param, batch: &Tensor) -> Result<()> {
        if !running.tensor().is_variable() {
            bail!("training mode: expected a trainable network, found frozen tensors");
        }
        let old = running.tensor().detach();
        let new = ((old * (1.0 - self.momentum))? + (batch.detach() * self.momentum)?)?;
        // A variable built from a variable shares its storage, so this writes the network's own statistics.
        Var::from_tensor(running.tensor())?.set(&new)
    }

    fn init(&self, seed: u64) -> Result<()> {
        for (param, start) in [(&self.weight, 1.0), (&self.bias, 0.0), (&self.running_mean, 0.0), (&self.running_var, 1.0)] {
            param.init(Distribution::Constant(start), seed)?;
        }
        Ok(())
    }

    /// γ/√(var + ε) and β − mean·γ/√(var + ε), in f64 until the last rounding: folding loses nothing that matters.
    fn scale_and_shift(&self) -> Result<(Tensor, Tensor)> {
        let double = |param: &Param| param.tensor().detach().to_dtype(DType::F64);
        let scale = (double(&self.weight)? / (double(&self.running_var)? + self.eps)?.sqrt()?)?;
        let shift = (double(&self.bias)? - (double(&self.running_mean)? * &scale)?)?;
        Ok((scale, shift))
    }
}

/// A convolution without bias and what normalises it.
#[derive(Debug)]
pub(crate) struct ConvNorm {
    form: Form,
    config: Conv2dConfig,
}

#[derive(Debug)]
enum Form {
    Trained { weight: Param, norm: BatchNorm },
    Folded(PackedConv2d),
}

/// Inputs, outputs, kernel, stride; the padding keeps the image's size at stride 1.
pub(crate) type ConvShape = [usize; 4];

impl ConvNorm {
    pub(crate) fn new(
        [inputs, outputs, kernel, stride]: ConvShape,
        (eps, momentum): (f64, f64),
        conv: &VarBuilder<'_>,
        norm: &VarBuilder<'_>,
    ) -> Result<Self> {
        let weight = Param::new((outputs, inputs, kernel, kernel), "weight", conv)?;
        let form = Form::Trained { weight, norm: BatchNorm::new(outputs, eps, momentum, norm)? };
        Ok(Self { form, config: Conv2dConfig { stride, padding: kernel / 2, groups: 1 } })
    }

    /// `[B, Y, X, inputs]` to `[B, Y', X', outputs]`.
    pub(crate) fn forward(&self, x: &Tensor, mode: Mode, relu: bool) -> Result<Tensor> {
        match &self.form {
            Form::Trained { weight, norm } => norm.forward(&kernels::conv2d(x, weight.tensor(), None, &self.config)?, mode, relu),
            Form::Folded(packed) => {
                check_folded(mode)?;
                packed.forward(x, None, relu)
            }
        }
    }

    /// `max(forward(x) + residual, 0)`, in one pass where the norm is folded.
    pub(crate) fn forward_add_relu(&self, x: &Tensor, residual: &Tensor, mode: Mode) -> Result<Tensor> {
        match &self.form {
            Form::Trained { .. } => kernels::add_relu(&self.forward(x, mode, false)?, residual),
            Form::Folded(packed) => {
                check_folded(mode)?;
                packed.forward(x, Some(residual), true)
            }
        }
    }

    /// Normal with variance `2/(outputs·kernel²)` (He et al. 2015, fan out).
    pub(crate) fn init(&self, seed: u64) -> Result<()> {
        let Form::Trained { weight, norm } = &self.form else { bail!("cannot initialise a folded network") };
        let (outputs, _, height, width) = weight.tensor().dims4()?;
        weight.init(Distribution::Normal { std: (2.0 / (outputs * height * width) as f64).sqrt() }, seed)?;
        norm.init(seed)
    }

    /// The inference form with the running statistics of now, its weight rounded to `dtype` once.
    pub(crate) fn fold(&self, dtype: DType) -> Result<Self> {
        let form = match &self.form {
            Form::Trained { weight, norm } => {
                let weight = weight.tensor().detach();
                let (scale, shift) = norm.scale_and_shift()?;
                let scale = scale.reshape((scale.elem_count(), 1, 1, 1))?;
                let folded = weight.to_dtype(scale.dtype())?.broadcast_mul(&scale)?.to_dtype(dtype)?;
                Form::Folded(PackedConv2d::new(&folded, Some(&shift.to_dtype(weight.dtype())?), &self.config)?)
            }
            Form::Folded(packed) => Form::Folded(packed.clone()),
        };
        Ok(Self { form, config: self.config })
    }
}

fn check_folded(mode: Mode) -> Result<()> {
    if mode == Mode::Train {
        bail!("training mode: expected a network with batch norms, found a folded one");
    }
    Ok(())
}
