//! What a ResNet costs, in closed form (definitions: measurement.md sections 3 and 4).
//!
//! ```text
//! convolution   k²·I·O parameters        2·k²·I·O FLOPs per output pixel
//! batch norm    2·C parameters           NORM_FLOPS per value
//! head          (I + 1)·classes          2·I·classes FLOPs per image
//! residual      laurel's closed form     per pixel of the block's output
//! ```

use super::config::{ResNetConfig, ShortcutKind, Stem};
use crate::cost::{ForwardCost, InputShape, Model, ParamCount};

/// Element-wise FLOPs per value of a batch norm in training: two sums, subtraction, square, scale, weight, bias.
const NORM_FLOPS: usize = 7;
/// Comparisons per output value of the stem's three-by-three maximum.
const POOL_FLOPS: usize = 9;

/// One convolution with its norm at its place: inputs, outputs, kernel, output pixels, whether ReLU follows the norm.
struct Layer {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    pixels: usize,
    relu: bool,
}

/// Rows or columns behind a window of `kernel` that keeps the size at stride 1.
fn shrink(length: usize, kernel: usize, stride: usize) -> usize {
    (length + 2 * (kernel / 2)).saturating_sub(kernel) / stride + 1
}

impl ResNetConfig {
    /// Every convolution, and per block the pixels and channels of its output. `image` is height and width.
    fn layers(&self, image: [usize; 2]) -> (Vec<Layer>, Vec<[usize; 2]>) {
        let stem = match self.stem {
            Stem::Imagenet => [3, self.width, 7, 2],
            Stem::Cifar => [3, self.width, 3, 1],
        };
        let mut layers = Vec::new();
        let mut apply = |size: [usize; 2], [inputs, outputs, kernel, stride]: [usize; 4], relu: bool| {
            let size = size.map(|length| shrink(length, kernel, stride));
            layers.push(Layer { inputs, outputs, kernel, pixels: size[0] * size[1], relu });
            size
        };
        let mut size = apply(image, stem, true);
        if self.stem == Stem::Imagenet {
            size = size.map(|length| shrink(length, 3, 2));
        }
        let mut outputs = Vec::new();
        for block in self.blocks() {
            let before = size;
            let convolutions = block.convolutions(self.block);
            for (at, &convolution) in convolutions.iter().enumerate() {
                size = apply(size, convolution, at + 1 < convolutions.len());
            }
            if !block.is_identity() && self.shortcut == ShortcutKind::Projection {
                apply(before, [block.inputs, block.outputs, 1, block.stride], false);
            }
            outputs.push([size[0] * size[1], block.outputs]);
        }
        (layers, outputs)
    }

    /// What LAuReL adds, parameters.
    fn laurel_params(&self) -> usize {
        self.blocks().iter().map(|block| self.residual_of(block).cost(block.outputs).params).sum()
    }
}

impl Model for ResNetConfig {
    /// Elements of all parameters; the running statistics are none.
    fn num_params(&self) -> ParamCount {
        let (layers, _) = self.layers([1, 1]);
        let body: usize = layers.iter().map(|l| l.kernel * l.kernel * l.inputs * l.outputs + 2 * l.outputs).sum();
        let head = (self.head_inputs() + 1) * self.num_classes;
        let laurel = self.laurel_params();
        ParamCount { total: body + head + laurel, embedding: 0, laurel }
    }

    /// FLOPs of one forward pass over images; nothing for tokens, which no ResNet reads.
    fn cost(&self, shape: &InputShape) -> ForwardCost {
        let InputShape::Images { batch, height, width } = *shape else { return ForwardCost::default() };
        let (layers, outputs) = self.layers([height, width]);
        let mut cost = ForwardCost::default();
        for Layer { inputs, outputs, kernel, pixels, relu } in layers {
            cost.flops_matmul += (2 * kernel * kernel * inputs * outputs * pixels) as u64;
            cost.flops_elementwise += ((NORM_FLOPS + usize::from(relu)) * outputs * pixels) as u64;
        }
        if self.stem == Stem::Imagenet {
            let pixels: usize = [height, width].map(|length| shrink(shrink(length, 7, 2), 3, 2)).iter().product();
            cost.flops_elementwise += (POOL_FLOPS * pixels * self.width) as u64;
        }
        for (block, &[pixels, channels]) in self.blocks().iter().zip(&outputs) {
            let laurel = self.residual_of(block).cost(channels);
            cost.flops_laurel += (laurel.matmul_flops * pixels) as u64;
            // the plain addition and the ReLU behind it
            cost.flops_elementwise += ((2 * channels + laurel.elementwise_flops) * pixels) as u64;
        }
        cost.flops_matmul += cost.flops_laurel + (2 * self.head_inputs() * self.num_classes) as u64;
        let [pixels, channels] = outputs.last().copied().unwrap_or_default();
        cost.flops_elementwise += (pixels * channels) as u64; // the mean over the image
        let batch = batch as u64;
        cost.flops_matmul *= batch;
        cost.flops_elementwise *= batch;
        cost.flops_laurel *= batch;
        cost
    }
}

#[cfg(test)]
mod tests {
    use laurel::ResidualConfig;

    use super::*;
    use crate::resnet::LaurelBlocks;

    #[test]
    fn published_networks_have_the_published_counts() {
        // torchvision's documented `num_params`; the CIFAR counts are those of the published files.
        let configs = [ResNetConfig::resnet18(), ResNetConfig::resnet34(), ResNetConfig::resnet50(), ResNetConfig::resnet101()];
        assert_eq!(configs.map(|c| c.num_params().total), [11_689_512, 21_797_672, 25_557_032, 44_549_160]);
        assert_eq!([3, 5, 9].map(|blocks| ResNetConfig::cifar(blocks).num_params().total), [269_722, 464_154, 853_018]);
    }

    #[test]
    fn published_networks_have_the_published_work() {
        // torchvision documents 1.814, 3.664, 4.089 and 7.801 billion multiply-adds at 224 pixels.
        let configs = [ResNetConfig::resnet18(), ResNetConfig::resnet34(), ResNetConfig::resnet50(), ResNetConfig::resnet101()];
        let billions = configs.map(|config| {
            let cost = config.cost(&InputShape::Images { batch: 1, height: 224, width: 224 });
            (cost.flops_matmul as f64 / 2e6).round() / 1e3
        });
        assert_eq!(billions, [1.814, 3.664, 4.089, 7.801]);
    }

    #[test]
    fn naive_and_laurel_additions_have_the_papers_counts() {
        let added = |config: ResNetConfig| config.num_params().total - 25_557_032;
        let base = ResNetConfig::resnet50;
        let residual = |name| ResidualConfig::preset(name, 16, 3).unwrap();
        // paper.md section 5: one more identity bottleneck in the third stage.
        assert_eq!(added(ResNetConfig { extra_blocks: vec![0, 0, 1], ..base() }), 1_117_184);
        // paper.md section 9.2: r = 16 at all sixteen blocks' output width, and at the identity blocks only.
        assert_eq!(added(base().with_residual(residual("lr"))), 483_328);
        let identity = ResNetConfig { laurel_blocks: LaurelBlocks::Identity, ..base() };
        assert_eq!(added(identity.with_residual(residual("lr"))), 360_448);
        // two scalars in each of sixteen blocks; three pairs, three γ and two scalars.
        assert_eq!(added(base().with_residual(residual("rw"))), 32);
        assert_eq!(added(base().with_residual(residual("rw+lr+pa"))), 3 * 483_328 + 16 * 5);
    }

    #[test]
    fn laurel_flops_are_those_of_its_maps() {
        // One stage of one block at 4 channels, rank 2, 5×3 pixels, batch 2: 4·r·C per pixel.
        let config = ResNetConfig { depths: vec![1], width: 4, ..ResNetConfig::cifar(1) };
        let shape = InputShape::Images { batch: 2, height: 5, width: 3 };
        let plain = config.cost(&shape);
        let lr = config.with_residual(ResidualConfig::preset("lr", 2, 3).unwrap()).cost(&shape);
        assert_eq!(lr.flops_laurel, 2 * 15 * 4 * 2 * 4);
        assert_eq!(lr.flops_matmul - plain.flops_matmul, lr.flops_laurel);
        // stem 3→4 and two 4→4 three-by-three convolutions, head 4→10.
        assert_eq!(plain.flops_matmul, 2 * (15 * 2 * 9 * (12 + 16 + 16) + 2 * 40));
    }
}
