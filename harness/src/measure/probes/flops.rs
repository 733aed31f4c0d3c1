//! FLOPs in closed form, and counted over the matrices of the built network; the two must be equal.
//!
//! ```text
//! one multiply-add = 2 FLOP        train step = 3 × forward
//! counted   Σ over matrices used in products 2·elements·positions  +  4·B·T²·H·d per layer
//! ```
//! Counting goes by the live variables: every matrix but an input table (token or position embedding) is one product per position; a
//! tied table is the head's. That is measurement.md's cross-check 6·N + 12·L·H·d·T per token, made exact.
//!
//! Source: measurement.md section 4.

use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::WindowSpec;
use candle_core::DType;
use models::{Decoder, DecoderConfig, InputShape, ParamStore};
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
        let (sequences, length) = (subject.config.batch * subject.config.grad_accum, subject.config.data.sequence_length);
        let config = subject.decoder();
        let cost = config.cost(&InputShape::train(sequences, length));
        let tokens = (sequences * length) as f64;
        let store = ParamStore::new(DType::F32, &subject.device());
        Decoder::new(config, store.var_builder())?;
        let counted = 3 * counted_forward(&store, config, sequences, length);
        let exact = |metric: Metric, value: f64| Measurement {
            detail: Some(Detail { flops_convention: Some("2x-mac".to_owned()), ..Detail::default() }),
            ..Measurement::new(metric, Outcome::exact(value))
        };
        let mut step = exact(FLOPS_TRAIN_STEP, cost.flops_train() as f64);
        if counted != cost.flops_train() {
            let reason = format!("counted {counted} FLOP over the matrices, the closed form says {}", cost.flops_train());
            step.outcome = Outcome::Failed(Reason::new(reason));
        }
        Ok(vec![
            step,
            exact(counted_metric(), counted as f64),
            exact(FLOPS_FORWARD, cost.flops_forward() as f64),
            exact(FLOPS_PER_TOKEN, cost.flops_forward() as f64 / tokens),
            exact(FLOPS_LAUREL, cost.flops_laurel as f64 / tokens),
            exact(FLOPS_ELEMENTWISE, cost.flops_elementwise as f64),
            exact(FLOPS_ATTENTION_CAUSAL, cost.flops_attention_causal as f64),
        ])
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

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
