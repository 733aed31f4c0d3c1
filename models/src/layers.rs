//! Linear map, norm and embedding: the small parts every network here is made of.
//!
//! They differ from candle's own layers in two ways. They call `kernels`, whose norms have a backward pass (candle's
//! fused norms drop gradients silently, architecture.md section 9). And each keeps the names of its parameters, so that
//! `init` can fill them from streams keyed by (seed, name).

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;
use kernels::{Numerics, PackedWeight};

use crate::decoder::NormKind;
use crate::init::{Distribution, fill};

/// A parameter and its full name.
#[derive(Debug, Clone)]
pub(crate) struct Param {
    name: String,
    tensor: Tensor,
}

impl Param {
    pub(crate) fn new<S: Into<candle_core::Shape>>(shape: S, name: &str, vb: &VarBuilder<'_>) -> Result<Self> {
        let tensor = vb.get(shape, name)?;
        let prefix = vb.prefix();
        let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        Ok(Self { name, tensor })
    }

    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    pub(crate) fn init(&self, distribution: Distribution, seed: u64) -> Result<()> {
        fill(&self.tensor, &self.name, distribution, seed)
    }
}

/// `y = x · weightᵀ + bias` with `weight: [out, in]`, the layout of published checkpoints.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    weight: Param,
    bias: Option<Param>,
    /// The weight in the order in which products read it; `weight` is then empty.
    packed: Option<PackedWeight>,
}

impl Linear {
    pub(crate) fn new(inputs: usize, outputs: usize, with_bias: bool, vb: &VarBuilder<'_>) -> Result<Self> {
        let weight = Param::new((outputs, inputs), "weight", vb)?;
        let bias = if with_bias { Some(Param::new(outputs, "bias", vb)?) } else { None };
        Ok(Self { weight, bias, packed: None })
    }

    /// Brings a frozen f32 weight into panels, in its place: inference only, one after the other so that memory holds one of them twice.
    pub(crate) fn pack(&mut self) -> Result<()> {
        if self.packed.is_none() {
            self.packed = PackedWeight::new(self.weight.tensor())?;
        }
        if let Some(packed) = &self.packed {
            let empty = (0, packed.dims().1);
            self.weight.tensor = Tensor::zeros(empty, self.weight.tensor.dtype(), self.weight.tensor.device())?;
        }
        Ok(())
    }

    /// `[.., in] -> [.., out]`.
    pub(crate) fn forward(&self, x: &Tensor, numerics: Numerics) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::tensor);
        match &self.packed {
            Some(packed) => kernels::linear_packed(x, packed, bias),
            None => kernels::linear_in(numerics, x, self.weight.tensor(), bias),
        }
    }

    /// Weight and bias, for operations that fuse what follows.
    pub(crate) fn parts(&self) -> (&Tensor, Option<&Tensor>) {
        (self.weight.tensor(), self.bias.as_ref().map(Param::tensor))
    }

    pub(crate) fn init(&self, std: f64, seed: u64) -> Result<()> {
        self.init_with(Distribution::Normal { std }, Distribution::Constant(0.0), seed)
    }

    pub(crate) fn init_with(&self, weight: Distribution, bias: Distribution, seed: u64) -> Result<()> {
        self.weight.init(weight, seed)?;
        self.bias.as_ref().map_or(Ok(()), |param| param.init(bias, seed))
    }
}

/// RMSNorm or LayerNorm over the last axis.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    weight: Param,
    bias: Option<Param>,
    eps: f64,
}

impl Norm {
    pub(crate) fn new(kind: NormKind, features: usize, eps: f64, vb: &VarBuilder<'_>) -> Result<Self> {
        let weight = Param::new(features, "weight", vb)?;
        let bias = match kind {
            NormKind::Rms => None,
            NormKind::Layer => Some(Param::new(features, "bias", vb)?),
        };
        Ok(Self { weight, bias, eps })
    }

    /// `[.., D] -> [.., D]`, what the products behind it read: bf16 in that numerics, else the dtype of `x`.
    pub(crate) fn forward(&self, x: &Tensor, numerics: Numerics) -> Result<Tensor> {
        let dtype = if numerics == Numerics::Bf16 { DType::BF16 } else { x.dtype() };
        match &self.bias {
            None => kernels::rms_norm_as(x, self.weight.tensor(), self.eps, dtype),
            Some(bias) => kernels::layer_norm_as(x, self.weight.tensor(), Some(bias.tensor()), self.eps, dtype),
        }
    }

    pub(crate) fn init(&self, seed: u64) -> Result<()> {
        self.weight.init(Distribution::Constant(1.0), seed)?;
        self.bias.as_ref().map_or(Ok(()), |bias| bias.init(Distribution::Constant(0.0), seed))
    }
}

/// Rows of a table by index.
#[derive(Debug, Clone)]
pub(crate) struct Embedding {
    table: Param,
}

impl Embedding {
    pub(crate) fn new(entries: usize, features: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { table: Param::new((entries, features), "weight", vb)? })
    }

    /// u32 indices `[..] -> [.., D]`.
    pub(crate) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        kernels::embedding(self.table.tensor(), ids)
    }

    pub(crate) fn table(&self) -> &Tensor {
        self.table.tensor()
    }

    pub(crate) fn init(&self, std: f64, seed: u64) -> Result<()> {
        self.table.init(Distribution::Normal { std }, seed)
    }
}
