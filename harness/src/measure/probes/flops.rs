//! FLOPs in closed form, and counted over the matrices of the built network; the two must be equal.
//!
//! ```text
//! one multiply-add = 2 FLOP        train step = 3 × forward
//! counted   Σ over matrices used in products 2·elements·positions  +  4·B·T²·H·d per layer
//! ```
//! Counting goes by the live variables: every matrix but an input table (token or position embedding) is one product per position; a
//! tied table is the head's. That is measurement.md's cross-check 6·N + 12·L·H·d·T per token, made exact. Of a network on images every
//! matrix and convolution is one product per pixel of its output, whose side follows from the variable's name; it has no tokens, so the
//! metrics per token and of attention are left out.
//!
//! Source: measurement.md section 4.

use super::{Kind, Probe, Work};
use crate::config::RunConfig;
use crate::measure::subject::Subject;
use crate::measure::window::WindowSpec;
use anyhow::Context as _;
use models::resnet::{BlockKind, ResNetConfig, Stem};
use models::{DecoderConfig, ParamStore};
use records::metric::{
    FLOPS_ATTENTION_CAUSAL, FLOPS_ELEMENTWISE, FLOPS_FORWARD, FLOPS_LAUREL, FLOPS_PER_TOKEN, FLOPS_TRAIN_STEP,
};
use records::row::Detail;
use records::{Better, Measurement, Metric, Outcome, Reason};

/// The probe.
#[derive(Debug)]
pub struct Flops;

/// Training FLOPs counted over the live matrices.
fn counted_metric() -> Metric {
    Metric::new("flops_train_step_counted", "FLOP", Better::None).expect("name and unit agree")
}

impl Probe for Flops {
    fn name(&self) -> &'static str {
        "flops"
    }

    fn about(&self) -> &'static str {
        "FLOPs of a training step in closed form, checked against a count over the network's matrices"
    }

    fn kind(&self) -> Kind {
        Kind::Exact
    }

    fn work(&self) -> Work {
        Work::Training
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![
            FLOPS_TRAIN_STEP,
            counted_metric(),
            FLOPS_FORWARD,
            FLOPS_PER_TOKEN,
            FLOPS_LAUREL,
            FLOPS_ELEMENTWISE,
            FLOPS_ATTENTION_CAUSAL,
        ]
    }

    fn run(&self, subject: &mut Subject, _: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let (cost, store) = (subject.config.step_cost(), subject.shapes()?);
        let counted = 3 * match &subject.config {
            RunConfig::Language(config) => {
                let sequences = config.batch * config.grad_accum;
                counted_forward(&store, subject.decoder()?, sequences, config.data.sequence_length)
            }
            RunConfig::Images(config) => {
                config.images_per_step() * counted_picture(&store, subject.resnet()?, config.data.transform.size)?
            }
        };
        let exact = |metric: Metric, value: f64| Measurement {
            detail: Some(Detail { flops_convention: Some("2x-mac".to_owned()), ..Detail::default() }),
            ..Measurement::new(metric, Outcome::exact(value))
        };
        let mut step = exact(FLOPS_TRAIN_STEP, cost.flops_train() as f64);
        if counted != cost.flops_train() {
            let reason = format!("counted {counted} FLOP over the matrices, the closed form says {}", cost.flops_train());
            step.outcome = Outcome::Failed(Reason::new(reason));
        }
        let mut rows = vec![
            step,
            exact(counted_metric(), counted as f64),
            exact(FLOPS_FORWARD, cost.flops_forward() as f64),
            exact(FLOPS_ELEMENTWISE, cost.flops_elementwise as f64),
        ];
        if let RunConfig::Language(config) = &subject.config {
            let tokens = config.tokens_per_step() as f64;
            rows.extend([
                exact(FLOPS_PER_TOKEN, cost.flops_forward() as f64 / tokens),
                exact(FLOPS_LAUREL, cost.flops_laurel as f64 / tokens),
                exact(FLOPS_ATTENTION_CAUSAL, cost.flops_attention_causal as f64),
            ]);
        }
        Ok(rows)
    }
}

/// FLOPs of the matrix products of one forward pass in which every position is predicted, by the network's own variables.
fn counted_forward(store: &ParamStore, config: &DecoderConfig, sequences: usize, length: usize) -> u64 {
    let is_product = |name: &str| match name {
        "model.embed_positions.weight" => false,
        "model.embed_tokens.weight" => config.tie_word_embeddings,
        _ => true,
    };
    let elements: usize =
        store.vars().iter().filter(|(name, var)| var.rank() >= 2 && is_product(name)).map(|(_, var)| var.elem_count()).sum();
    let attention = 4 * sequences * length * length * config.num_attention_heads * config.head_dim() * config.num_layers();
    (2 * elements * sequences * length + attention) as u64
}

/// FLOPs of the products of one picture's forward pass, by the network's own variables.
fn counted_picture(store: &ParamStore, config: &ResNetConfig, size: usize) -> anyhow::Result<u64> {
    let mut flops = 0;
    for (name, var) in store.vars().iter().filter(|(_, var)| var.rank() >= 2) {
        let side = output_side(name, config, size).with_context(|| format!("no place of `{name}` in the network is known"))?;
        flops += 2 * var.elem_count() * side * side;
    }
    Ok(flops as u64)
}

/// Rows of the output of the product with a variable; `None` for a name of no ResNet.
fn output_side(name: &str, config: &ResNetConfig, size: usize) -> Option<usize> {
    // Every stride is 2, behind a window that keeps the size at stride 1.
    let halved = |times: usize| (0..times).fold(size, |side, _| side.div_ceil(2));
    let stem = match config.stem {
        Stem::Imagenet => 1,
        Stem::Cifar => 0,
    };
    match name.split('.').collect::<Vec<_>>()[..] {
        ["fc", ..] => Some(1),
        ["conv1", ..] => Some(halved(stem)),
        [stage, block, part, ..] => {
            // Behind an ImageNet stem a pooling halves once more; the stages behind the first halve in their first block.
            let stage = stage.strip_prefix("layer")?.parse::<usize>().ok()?;
            let is_before = stage > 1 && block == "0" && part == "conv1" && config.block == BlockKind::Bottleneck;
            Some(halved(2 * stem + stage - 1 - usize::from(is_before)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use laurel::ResidualConfig;
    use models::resnet::ShortcutKind;
    use models::{Decoder, ResNet};

    #[test]
    fn one_bottleneck_block_counts_as_by_hand() {
        // 9 pixels a side. Stem 3→4, 3×3: 108 elements at 81 pixels. Stage 1, no stride: 4→4 1×1, 4→4 3×3, 4→16 1×1, projection 4→16:
        // 16 + 144 + 64 + 64 = 288 at 81. Stage 2: 16→8 1×1 before the stride, 128 at 81; 8→8 3×3, 8→32 1×1, projection 16→32:
        // 576 + 256 + 512 = 1344 at 5·5. Head 32·5. Low-rank pairs of rank 1: 2·16 at 81 and 2·32 at 25.
        let plain = ResNetConfig {
            depths: vec![1, 1],
            width: 4,
            block: BlockKind::Bottleneck,
            shortcut: ShortcutKind::Projection,
            num_classes: 5,
            ..ResNetConfig::cifar(1)
        };
        let count = |config: &ResNetConfig| {
            let store = ParamStore::new(DType::F32, &Device::Cpu);
            ResNet::new(config, store.var_builder()).unwrap();
            counted_picture(&store, config, 9).unwrap()
        };
        assert_eq!(count(&plain), 2 * ((108 + 288 + 128) * 81 + 1344 * 25 + 160));
        let lr = plain.clone().with_residual(ResidualConfig::preset("lr", 1, 3).unwrap());
        assert_eq!(count(&lr) - count(&plain), 2 * (32 * 81 + 64 * 25));
        let imagenet = ResNetConfig { stem: Stem::Imagenet, ..plain };
        // Seven-by-seven stem, 588 elements at 5·5; pooled to 3·3; the second stage at 2·2.
        assert_eq!(count(&imagenet), 2 * (588 * 25 + (288 + 128) * 9 + 1344 * 4 + 160));
    }

    #[test]
    fn one_block_counts_as_by_hand() {
        // D = 4, F = 8, N = 1, H = 2, K = 1, d = 2, V = 10, SwiGLU, untied, 3 tokens of one sequence:
        // q 16, k 8, v 8, o 16, mlp 3·32 = 96, head 40: 184 elements, 2·3·184 = 1104; attention 4·3·3·2·2 = 144.
        let mut config = DecoderConfig::llama_1b();
        (config.hidden_size, config.intermediate_size, config.num_hidden_layers) = (4, 8, 1);
        (config.num_attention_heads, config.num_key_value_heads, config.vocab_size) = (2, 1, 10);
        let store = ParamStore::new(DType::F32, &Device::Cpu);
        Decoder::new(&config, store.var_builder()).unwrap();
        assert_eq!(counted_forward(&store, &config, 1, 3), 1104 + 144);
    }
}
