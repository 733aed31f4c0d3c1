//! Shape and options of a ResNet, their checks, and the published presets.
//!
//! One config covers torchvision's networks (seven-by-seven stem, four stages) and the CIFAR form of He et al. 2016 section
//! 4.2 (three-by-three stem, three stages of 16, 32, 64 channels); any depth and width in between is a matter of numbers.

use laurel::{AugmentConfig, Placement, ResidualConfig};
use serde::{Deserialize, Serialize};

use crate::error::{ModelError, Result};

/// What *f* of a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockKind {
    /// Two three-by-three convolutions; the block's output has the stage's width.
    Basic,
    /// One-by-one, three-by-three (which carries the stride), one-by-one; the output has four times the stage's width.
    Bottleneck,
}

impl BlockKind {
    /// Output channels per channel of the stage's width.
    pub fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// What stands before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A seven-by-seven convolution of stride 2, then a three-by-three maximum of stride 2.
    Imagenet,
    /// A three-by-three convolution of stride 1.
    Cifar,
}

/// The shortcut of a block whose output has another shape than its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShortcutKind {
    /// A one-by-one convolution and a batch norm (option B).
    Projection,
    /// Every other pixel, zeros in the new channels, nothing learned (option A).
    Padding,
}

/// Which blocks have the learned residual; the others add plainly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaurelBlocks {
    /// All. Where the shape changes, x of the formulas is the shortcut's output.
    #[default]
    All,
    /// Only those whose shortcut is the identity.
    Identity,
}

/// A residual network for images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Blocks of each stage; every stage but the first halves the image and doubles the width.
    pub depths: Vec<usize>,
    /// Width of the first stage, and channels of the stem.
    pub width: usize,
    /// Kind of every block.
    pub block: BlockKind,
    /// What stands before the first stage.
    pub stem: Stem,
    /// Shortcut where the shape changes.
    pub shortcut: ShortcutKind,
    /// Classes of the head.
    pub num_classes: usize,
    /// Added to the variance inside batch norms.
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
    /// Weight of a new batch in the running statistics.
    #[serde(default = "norm_momentum")]
    pub norm_momentum: f64,
    /// Naive scaling, the `naive+n` control: identity blocks added at the end of each stage; a shorter list ends in zeros.
    /// The paper's "+1 layer" is `[0, 0, 1]` (paper.md section 5).
    #[serde(default)]
    pub extra_blocks: Vec<usize>,
    /// Which blocks have the learned residual.
    #[serde(default)]
    pub laurel_blocks: LaurelBlocks,
    /// The residual connection. A rank above a stage's channels is cut to them there: a map of full rank needs no more.
    #[serde(default)]
    pub residual: ResidualConfig,
}

fn norm_eps() -> f64 {
    1e-5
}
fn norm_momentum() -> f64 {
    0.1
}

/// Where one block stands and what it changes, in forward order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockShape {
    pub(crate) stage: usize,
    /// Within the stage.
    pub(crate) index: usize,
    pub(crate) inputs: usize,
    pub(crate) width: usize,
    pub(crate) outputs: usize,
    pub(crate) stride: usize,
}

impl BlockShape {
    pub(crate) fn is_identity(&self) -> bool {
        self.stride == 1 && self.inputs == self.outputs
    }

    /// Convolutions of *f*: inputs, outputs, kernel, stride.
    pub(crate) fn convolutions(&self, kind: BlockKind) -> Vec<[usize; 4]> {
        let Self { inputs, width, outputs, stride, .. } = *self;
        match kind {
            BlockKind::Basic => vec![[inputs, width, 3, stride], [width, outputs, 3, 1]],
            BlockKind::Bottleneck => vec![[inputs, width, 1, 1], [width, width, 3, stride], [width, outputs, 1, 1]],
        }
    }
}

impl ResNetConfig {
    fn imagenet(block: BlockKind, depths: [usize; 4]) -> Self {
        Self {
            depths: depths.to_vec(),
            width: 64,
            block,
            stem: Stem::Imagenet,
            shortcut: ShortcutKind::Projection,
            num_classes: 1000,
            norm_eps: norm_eps(),
            norm_momentum: norm_momentum(),
            extra_blocks: Vec::new(),
            laurel_blocks: LaurelBlocks::default(),
            residual: ResidualConfig::default(),
        }
    }

    /// torchvision's `resnet18`.
    pub fn resnet18() -> Self {
        Self::imagenet(BlockKind::Basic, [2, 2, 2, 2])
    }

    /// torchvision's `resnet34`.
    pub fn resnet34() -> Self {
        Self::imagenet(BlockKind::Basic, [3, 4, 6, 3])
    }

    /// torchvision's `resnet50`.
    pub fn resnet50() -> Self {
        Self::imagenet(BlockKind::Bottleneck, [3, 4, 6, 3])
    }

    /// torchvision's `resnet101`.
    pub fn resnet101() -> Self {
        Self::imagenet(BlockKind::Bottleneck, [3, 4, 23, 3])
    }

    /// The CIFAR network of `6·blocks + 2` layers: 3 for ResNet-20, 5 for ResNet-32, 9 for ResNet-56.
    pub fn cifar(blocks: usize) -> Self {
        Self {
            depths: vec![blocks; 3],
            width: 16,
            stem: Stem::Cifar,
            shortcut: ShortcutKind::Padding,
            num_classes: 10,
            ..Self::imagenet(BlockKind::Basic, [0; 4])
        }
    }

    /// The same network with another residual connection.
    #[must_use]
    pub fn with_residual(self, residual: ResidualConfig) -> Self {
        Self { residual, ..self }
    }

    /// Blocks of a stage, added ones included.
    pub fn stage_depth(&self, stage: usize) -> usize {
        self.depths[stage] + self.extra_blocks.get(stage).copied().unwrap_or(0)
    }

    /// Channels of a stage's output.
    pub fn stage_channels(&self, stage: usize) -> usize {
        (self.width << stage) * self.block.expansion()
    }

    /// All blocks.
    pub fn num_blocks(&self) -> usize {
        (0..self.depths.len()).map(|stage| self.stage_depth(stage)).sum()
    }

    /// Layers with weights on the main path, the number in the network's name: ResNet-50 has 50.
    pub fn num_layers(&self) -> usize {
        let per_block = match self.block {
            BlockKind::Basic => 2,
            BlockKind::Bottleneck => 3,
        };
        per_block * self.num_blocks() + 2
    }

    /// Width of the features that the head reads.
    pub fn head_inputs(&self) -> usize {
        self.stage_channels(self.depths.len() - 1)
    }

    /// Every block in forward order.
    pub(crate) fn blocks(&self) -> Vec<BlockShape> {
        let mut inputs = self.width;
        let mut blocks = Vec::with_capacity(self.num_blocks());
        for stage in 0..self.depths.len() {
            for index in 0..self.stage_depth(stage) {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let outputs = self.stage_channels(stage);
                blocks.push(BlockShape { stage, index, inputs, width: self.width << stage, outputs, stride });
                inputs = outputs;
            }
        }
        blocks
    }

    /// The residual connection of one block.
    pub(crate) fn residual_of(&self, block: &BlockShape) -> ResidualConfig {
        if self.laurel_blocks == LaurelBlocks::Identity && !block.is_identity() {
            return ResidualConfig::default();
        }
        let mut residual = self.residual.clone();
        for term in &mut residual.augment {
            match term {
                AugmentConfig::LowRank { rank, .. } | AugmentConfig::Previous { rank: Some(rank), .. } => {
                    *rank = (*rank).min(block.outputs);
                }
                AugmentConfig::Previous { rank: None, .. } | AugmentConfig::Gemma3n { .. } => {}
            }
        }
        residual
    }

    /// The architecture choice as tables show it: `plain`, `rw+lr`, `naive+1`.
    pub fn variant(&self) -> String {
        let (residual, extra) = (self.residual.variant(), self.extra_blocks.iter().sum::<usize>());
        match extra {
            0 => residual,
            extra if residual == "plain" => format!("naive+{extra}"),
            extra => format!("naive+{extra}+{residual}"),
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first key that no network can be built from.
    pub fn validate(&self) -> Result<()> {
        if self.depths.is_empty() || self.depths.len() > 8 {
            return Err(ModelError::config("depths", "1 to 8 stages", self.depths.len()));
        }
        if let Some(stage) = self.depths.iter().position(|&depth| depth == 0) {
            return Err(ModelError::config(format!("depths[{stage}]"), "at least 1 block", 0));
        }
        for (key, value) in [("width", self.width), ("num_classes", self.num_classes)] {
            if value == 0 {
                return Err(ModelError::config(key, "at least 1", value));
            }
        }
        if self.extra_blocks.len() > self.depths.len() {
            let expected = format!("at most {} entries, one per stage", self.depths.len());
            return Err(ModelError::config("extra_blocks", expected, self.extra_blocks.len()));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return Err(ModelError::config("norm_eps", "a positive number", self.norm_eps));
        }
        if !(0.0..=1.0).contains(&self.norm_momentum) {
            return Err(ModelError::config("norm_momentum", "0..=1", self.norm_momentum));
        }
        if self.residual.placement != Placement::Layer {
            return Err(ModelError::config("residual.placement", "`layer` (a block of a ResNet)", "another placement"));
        }
        if let Some(at) = self.residual.augment.iter().position(|term| matches!(term, AugmentConfig::Gemma3n { .. })) {
            let key = format!("residual.augment[{at}].kind");
            return Err(ModelError::config(key, "`low-rank` or `previous`", "`gemma3n`")
                .with_hint("that term reads f's pre-norm, and a ResNet block has none"));
        }
        self.residual
            .validate(self.head_inputs())
            .map_err(|error| ModelError::config(format!("residual.{}", error.key), error.expected, error.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_layer_counts() {
        let configs = [ResNetConfig::resnet18(), ResNetConfig::resnet34(), ResNetConfig::resnet50(), ResNetConfig::resnet101()];
        assert_eq!(configs.map(|config| config.num_layers()), [18, 34, 50, 101]);
        assert_eq!([3, 5, 9].map(|blocks| ResNetConfig::cifar(blocks).num_layers()), [20, 32, 56]);
    }

    #[test]
    fn ranks_are_cut_to_a_stages_channels() {
        let config = ResNetConfig::cifar(3).with_residual(ResidualConfig::preset("rw+lr", 32, 3).unwrap());
        let ranks: Vec<usize> = config
            .blocks()
            .iter()
            .map(|block| match config.residual_of(block).augment[0] {
                AugmentConfig::LowRank { rank, .. } => rank,
                _ => panic!("the preset has a low-rank term"),
            })
            .collect();
        assert_eq!(ranks, [16, 16, 16, 32, 32, 32, 32, 32, 32]);
    }

    #[test]
    fn wrong_values_are_refused_with_their_key() {
        let key = |config: ResNetConfig| match config.validate().unwrap_err() {
            ModelError::Config { key, .. } => key,
            other => panic!("{other}"),
        };
        let base = || ResNetConfig::cifar(3);
        assert_eq!(key(ResNetConfig { depths: vec![2, 0], ..base() }), "depths[1]");
        assert_eq!(key(ResNetConfig { depths: vec![], ..base() }), "depths");
        assert_eq!(key(ResNetConfig { extra_blocks: vec![0, 0, 0, 1], ..base() }), "extra_blocks");
        assert_eq!(key(base().with_residual(ResidualConfig::preset("lr", 65, 3).unwrap())), "residual.augment[0].rank");
        assert_eq!(key(base().with_residual(ResidualConfig::preset("gemma3n", 4, 3).unwrap())), "residual.placement");
        base().with_residual(ResidualConfig::preset("lr", 64, 3).unwrap()).validate().unwrap();
    }

    #[test]
    fn a_config_survives_toml() {
        let config = ResNetConfig { extra_blocks: vec![0, 0, 1], ..ResNetConfig::resnet50() };
        assert_eq!(toml::from_str::<ResNetConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert_eq!(config.variant(), "naive+1");
    }
}
