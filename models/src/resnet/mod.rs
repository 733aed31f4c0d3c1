//! Residual networks for images, with LAuReL at the block additions.
//!
//! - [`config`](ResNetConfig): shape and options, presets, checks
//! - `layers`: convolution with batch norm, trained or folded; `block`: one residual block, read this one first
//! - `cost`: parameters and FLOPs in closed form
//! - [`weights`]: published files, torchvision's and the CIFAR networks', in safetensors or torch's own formats
//!
//! Activations are channels last, `[B, Y, X, C]`; weights and names are torchvision's:
//!
//! ```text
//! conv1.weight [O, I, kY, kX]     bn1.{weight,bias,running_mean,running_var}
//! layer{stage}.{block}.conv{n}.weight    layer{stage}.{block}.bn{n}.*     stages from 1, blocks from 0
//! layer{stage}.{block}.downsample.0.weight   layer{stage}.{block}.downsample.1.*      projection shortcuts
//! layer{stage}.{block}.residual.*            LAuReL
//! fc.{weight,bias}
//! ```

mod block;
mod config;
mod cost;
mod layers;
pub mod weights;

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::VarBuilder;
use kernels::Numerics;
use laurel::{Needs, Residual, ResidualStream};

use self::block::Block;
pub use self::config::{BlockKind, LaurelBlocks, ResNetConfig, ShortcutKind, Stem};
use self::layers::ConvNorm;
pub use self::weights::{LoadedResNet, load_resnet};
use crate::cost::{ForwardCost, InputShape, Model, ParamCount};
use crate::init::Distribution;
use crate::layers::Linear;

/// Which statistics batch norms use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Those of the batch, which also enter the running ones.
    Train,
    /// The running ones.
    Eval,
}

/// A residual network for images; see the module for its parts and names.
#[derive(Debug)]
pub struct ResNet {
    config: ResNetConfig,
    stem: ConvNorm,
    blocks: Vec<Block>,
    head: Linear,
    needs: Needs,
    numerics: Numerics,
}

impl ResNet {
    /// Builds names and shapes; values come from [`Self::init_weights`] or a checkpoint.
    ///
    /// # Errors
    /// When the config is invalid, or a tensor behind `vb` is missing or of another shape.
    pub fn new(config: &ResNetConfig, vb: VarBuilder<'_>) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let norm = (config.norm_eps, config.norm_momentum);
        let stem = match config.stem {
            Stem::Imagenet => [3, config.width, 7, 2],
            Stem::Cifar => [3, config.width, 3, 1],
        };
        let stem = ConvNorm::new(stem, norm, &vb.pp("conv1"), &vb.pp("bn1"))?;
        let blocks = config
            .blocks()
            .iter()
            .map(|shape| Block::new(config, shape, &vb.pp(format!("layer{}.{}", shape.stage + 1, shape.index))))
            .collect::<Result<Vec<_>>>()?;
        let head = Linear::new(config.head_inputs(), config.num_classes, true, &vb.pp("fc"))?;
        let needs = blocks.iter().map(|block| block.residual().needs()).fold(Needs::default(), Needs::union);
        Ok(Self { config: config.clone(), stem, blocks, head, needs, numerics: Numerics::F32 })
    }

    /// The same network with convolutions in the given numerics; a new one computes in f32.
    ///
    /// With [`Numerics::Bf16`] images and activations between convolutions are bf16, while the residual stream (with LAuReL's maps on it),
    /// statistics and the head are f32. [`Numerics::F32Split`] computes in f32: convolutions have no split form.
    #[must_use]
    pub fn with_numerics(self, numerics: Numerics) -> Self {
        Self { numerics, ..self }
    }

    /// How convolutions are computed.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// Fills every parameter in place from generators keyed by (seed, parameter name), and resets the running statistics.
    ///
    /// | parameters | start |
    /// |---|---|
    /// | convolutions | normal, variance 2 / (O·kY·kX) |
    /// | `fc.weight`, `fc.bias` | uniform within ±1/√inputs |
    /// | batch norms' weight, bias, running mean, running variance | 1, 0, 0, 1 |
    /// | residual parameters | [`laurel::init`] |
    ///
    /// The same seed gives `plain` and every variant the same values for the parameters they share. Source: He et al. 2015
    /// (arXiv:1502.01852) with fan out, and torch's default for linear maps, as torchvision has them.
    ///
    /// # Errors
    /// When the network was built on frozen tensors or folded.
    pub fn init_weights(&self, seed: u64) -> Result<()> {
        self.stem.init(seed)?;
        self.blocks.iter().try_for_each(|block| block.init(seed))?;
        let limit = 1.0 / (self.config.head_inputs() as f64).sqrt();
        self.head.init_with(Distribution::Uniform { limit }, Distribution::Uniform { limit }, seed)
    }

    /// The config it was built from.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Every residual connection in forward order, plain ones included.
    pub fn residuals(&self) -> Vec<&Residual> {
        self.blocks.iter().map(Block::residual).collect()
    }

    /// Type of the parameters and of the residual stream.
    pub fn dtype(&self) -> DType {
        self.head.parts().0.dtype()
    }

    /// Device of the parameters.
    pub fn device(&self) -> &Device {
        self.head.parts().0.device()
    }

    /// Standardised images `[B, Y, X, 3]` to logits `[B, num_classes]`; differentiable unless folded.
    ///
    /// # Errors
    /// When the images have another shape, or [`Mode::Train`] is asked of a frozen or folded network.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.head.forward(&self.features(images, mode)?, Numerics::F32)
    }

    /// Standardised images `[B, Y, X, 3]` to what the head reads, `[B, head_inputs]`.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn features(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        if images.rank() != 4 || images.dims()[3] != 3 {
            bail!("resnet: expected images of shape [B, Y, X, 3], found {:?}", images.dims());
        }
        let is_bf16 = self.numerics == Numerics::Bf16;
        let operand = if is_bf16 { kernels::cast(images, DType::BF16)? } else { images.clone() };
        let mut x = self.stem.forward(&operand, mode, true)?;
        if self.config.stem == Stem::Imagenet {
            x = kernels::max_pool2d(&x, 3, 2, 1)?;
        }
        if is_bf16 {
            x = kernels::cast(&x, DType::F32)?; // the stream
        }
        let mut stream = ResidualStream::start(x, self.needs);
        self.blocks.iter().try_for_each(|block| block.forward(&mut stream, mode, self.numerics))?;
        kernels::global_avg_pool(&stream.finish()?)
    }

    /// Mean training loss over a batch, nats per image, a scalar; differentiable. Updates the running statistics.
    ///
    /// ```text
    /// loss = (1 − s)·CE(label) + s·mean over classes of CE(class) = CE(label) + s·(logit of the label − mean logit)
    /// ```
    /// - `labels`: u32 `[B]`. `s`: label smoothing (Szegedy et al. 2015), 0 for none.
    ///
    /// # Errors
    /// As [`Self::forward`], and when a label is not below `num_classes`.
    pub fn loss(&self, images: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor> {
        let logits = self.forward(images, Mode::Train)?;
        let plain = kernels::cross_entropy(&logits, labels)?;
        if label_smoothing == 0.0 {
            return Ok(plain);
        }
        let labelled = logits.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?;
        plain + ((labelled - logits.mean_all()?)? * label_smoothing)?
    }

    /// The inference form: batch norms folded into the convolutions, weights packed. It shares the head and the residual's
    /// parameters, and answers [`Mode::Eval`] only. Build it on [`crate::ParamStore::freeze`] to record no graph. Under
    /// [`Numerics::Bf16`] the packed weights are bf16.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn fold(&self) -> Result<Self> {
        let dtype = if self.numerics == Numerics::Bf16 { DType::BF16 } else { self.dtype() };
        Ok(Self {
            config: self.config.clone(),
            stem: self.stem.fold(dtype)?,
            blocks: self.blocks.iter().map(|block| block.fold(dtype)).collect::<Result<_>>()?,
            head: self.head.clone(),
            needs: self.needs,
            numerics: self.numerics,
        })
    }
}

impl Model for ResNet {
    fn num_params(&self) -> ParamCount {
        self.config.num_params()
    }

    fn cost(&self, shape: &InputShape) -> ForwardCost {
        self.config.cost(shape)
    }
}
