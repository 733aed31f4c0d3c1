//! What a network costs, counted: parameters and FLOPs in closed form (definitions: measurement.md sections 3 and 4).
//!
//! One multiply-add is two FLOPs. Matrix products and attention make the headline number; element-wise work is counted
//! apart. A training step costs three forward passes.

use laurel::Cost;

use crate::decoder::{DecoderConfig, MlpKind, NormKind, Positions};

/// A network whose size and work are known before it runs.
pub trait Model {
    /// Elements of its distinct trainable tensors.
    fn num_params(&self) -> ParamCount;
    /// FLOPs of one forward pass over `shape`.
    fn cost(&self, shape: &InputShape) -> ForwardCost;
}

/// Trainable elements; tied tensors count once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamCount {
    /// `params_total`.
    pub total: usize,
    /// `params_embedding`: token and position tables (a tied head belongs to them).
    pub embedding: usize,
    /// `params_laurel`: owned by residual connections.
    pub laurel: usize,
}

impl ParamCount {
    /// `params_non_embedding`.
    pub fn non_embedding(&self) -> usize {
        self.total - self.embedding
    }
}

/// Size of the input of one forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputShape {
    /// Token sequences of equal length.
    Tokens {
        /// Sequences.
        batch: usize,
        /// New positions per sequence.
        new_tok: usize,
        /// Positions already in the key-value cache.
        past_tok: usize,
        /// Positions per sequence whose logits are computed.
        head_tok: usize,
    },
    /// Images of equal size.
    Images {
        /// Images.
        batch: usize,
        /// Pixels from top to bottom.
        height: usize,
        /// Pixels from left to right.
        width: usize,
    },
}

impl InputShape {
    /// Training or scoring: every position is predicted.
    pub fn train(batch: usize, sequence_length: usize) -> Self {
        Self::Tokens { batch, new_tok: sequence_length, past_tok: 0, head_tok: sequence_length }
    }

    /// Prefill of a prompt: only the last position is predicted.
    pub fn prefill(batch: usize, prompt_tok: usize) -> Self {
        Self::Tokens { batch, new_tok: prompt_tok, past_tok: 0, head_tok: 1 }
    }

    /// One generated token behind `past_tok` cached ones.
    pub fn decode(batch: usize, past_tok: usize) -> Self {
        Self::Tokens { batch, new_tok: 1, past_tok, head_tok: 1 }
    }
}

/// FLOPs of one forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ForwardCost {
    /// Products with weights, the residual's low-rank maps included.
    pub flops_matmul: u64,
    /// Attention scores and weighted sums, dense convention `4·B·H·T_q·T_k·d` per layer.
    pub flops_attention: u64,
    /// The same, counting only the pairs that causality allows: what a kernel that skips the rest computes.
    pub flops_attention_causal: u64,
    /// Norms, activations, softmax, rotary, residual additions.
    pub flops_elementwise: u64,
    /// The residual's share of `flops_matmul`.
    pub flops_laurel: u64,
}

impl ForwardCost {
    /// `flops_forward`, the headline: weight products and dense attention.
    pub fn flops_forward(&self) -> u64 {
        self.flops_matmul + self.flops_attention
    }

    /// `flops_train`: one forward and a backward of twice its work, without rematerialisation.
    pub fn flops_train(&self) -> u64 {
        3 * self.flops_forward()
    }
}

/// Element-wise FLOPs per value of an RMSNorm: square, sum, scale, weight.
const RMS_FLOPS: usize = 4;
/// Element-wise FLOPs per value of a LayerNorm: two sums, subtraction, square, scale, weight, bias.
const LAYER_NORM_FLOPS: usize = 7;
/// Element-wise FLOPs per hidden unit of SwiGLU: exponential, sum, division, two products.
const SWIGLU_FLOPS: usize = 5;
/// Element-wise FLOPs per hidden unit of GELU, the exponential-like function counted as one.
const GELU_FLOPS: usize = 8;
/// Element-wise FLOPs per value of a rotation: two products and a sum.
const ROTARY_FLOPS: usize = 3;
/// Element-wise FLOPs per score: scale, maximum, exponential, sum, division.
const SOFTMAX_FLOPS: usize = 5;

impl DecoderConfig {
    /// Elements of all parameters, in closed form; equal to what the built network counts.
    ///
    /// ```text
    /// per layer  D·H·d + 2·D·K·d + H·d·D  (+ biases)  +  m·D·F (+ biases)  +  2·norm  +  instances · LAuReL
    /// total      V·D (+ P·D)  +  N · layer  +  norm  (+ V·D untied head) (+ V head bias)
    /// ```
    /// where m is 3 for SwiGLU and 2 otherwise, P the learned positions, `norm` D (RMS) or 2D.
    pub fn num_params(&self) -> ParamCount {
        let (d, f, v) = (self.hidden_size, self.mlp_width(), self.vocab_size);
        let (q, kv) = (self.num_attention_heads * self.head_dim(), self.num_key_value_heads * self.head_dim());
        let norm = match self.norm {
            NormKind::Rms => d,
            NormKind::Layer => 2 * d,
        };
        let when = |flag: bool, count: usize| if flag { count } else { 0 };
        let extras = &self.extras;
        let attention = d * q + 2 * d * kv + q * d + when(self.attention_bias, q + 2 * kv) + when(self.attention_output_bias, d);
        let matrices = self.mlp.num_matrices();
        let mlp = matrices * d * f + when(self.mlp_bias, (matrices - 1) * f + d);
        let laurel = self.num_layers() * self.laurel_cost().params;
        let positions = when(self.positions == Positions::Learned {}, self.max_position_embeddings * d);
        let embedding = v * d + positions;
        let head = when(!self.tie_word_embeddings, v * d) + when(self.head_bias, v);
        let added = when(extras.qk_norm, 2 * self.head_dim()) + when(extras.post_norms, 2 * norm);
        let total = embedding + self.num_layers() * (attention + mlp + 2 * norm + added) + laurel + norm + head;
        match &extras.gemma3n {
            None => ParamCount { total, embedding, laurel },
            Some(gemma3n) => {
                // Layers that read another's keys and values have no maps and no key norm of their own.
                let unshared = gemma3n.kv_shared_layers * (2 * d * kv + when(self.attention_bias, 2 * kv) + self.head_dim());
                let cost = gemma3n.params(self);
                ParamCount {
                    total: total - unshared + cost.embedding + cost.other + cost.laurel,
                    embedding: embedding + cost.embedding,
                    laurel: laurel + cost.laurel,
                }
            }
        }
    }

    /// What the residual connections of one layer add, from `laurel`'s closed form.
    pub fn laurel_cost(&self) -> Cost {
        let one = self.residual.cost(self.hidden_size);
        (1..self.residual.placement.instances_per_layer()).fold(one, |sum, _| sum + one)
    }

    /// Key and value weights that [`Self::cost`] counts per layer and sharing layers lack.
    fn unshared_weights(&self) -> u64 {
        let shared = self.extras.gemma3n.as_ref().map_or(0, |gemma3n| gemma3n.kv_shared_layers);
        (shared * 2 * self.hidden_size * self.num_key_value_heads * self.head_dim()) as u64
    }

    /// FLOPs of one forward pass, in closed form; a window of local layers does not lower them.
    pub fn cost(&self, shape: &InputShape) -> ForwardCost {
        let InputShape::Tokens { batch, new_tok, past_tok, head_tok } = *shape else {
            return ForwardCost::default(); // a decoder reads no images
        };
        let (d, f, v, n) = (self.hidden_size, self.mlp_width(), self.vocab_size, self.num_layers());
        let (q, kv) = (self.num_attention_heads * self.head_dim(), self.num_key_value_heads * self.head_dim());
        let laurel = self.laurel_cost();
        let positions = (batch * new_tok) as u64;
        // Differs: of Gemma 3n's own parts the products count, the element-wise work on its streams does not.
        let (gemma3n, gemma3n_laurel) = self.extras.gemma3n.as_ref().map_or((0, 0), |gemma3n| gemma3n.matmul_weights(self));
        let layer_matmul = 2 * (2 * d * q + 2 * d * kv + self.mlp.num_matrices() * d * f) + laurel.matmul_flops;
        let head = 2 * (batch * head_tok) as u64 * (d * v) as u64;
        let pairs_dense = (batch * new_tok * (past_tok + new_tok)) as u64;
        let pairs_causal = (batch * (new_tok * past_tok + new_tok * (new_tok + 1) / 2)) as u64;
        let per_pair = (4 * n * q) as u64;
        let norm = d * match self.norm {
            NormKind::Rms => RMS_FLOPS,
            NormKind::Layer => LAYER_NORM_FLOPS,
        };
        let activation = f * match self.mlp {
            MlpKind::Swiglu => SWIGLU_FLOPS,
            MlpKind::GegluTanh => GELU_FLOPS + 1,
            MlpKind::GeluTanh | MlpKind::GeluErf => GELU_FLOPS,
        };
        let (rotary, learned) = match self.positions {
            Positions::Rotary { .. } => (ROTARY_FLOPS * (q + kv), 0),
            Positions::Learned {} => (0, d),
        };
        let layer_elementwise = 2 * norm + activation + rotary + 2 * d + laurel.elementwise_flops;
        let softmax = pairs_dense * (n * self.num_attention_heads * SOFTMAX_FLOPS) as u64;
        ForwardCost {
            flops_matmul: positions * ((n * layer_matmul) as u64 + 2 * gemma3n - 2 * self.unshared_weights()) + head,
            flops_attention: pairs_dense * per_pair,
            flops_attention_causal: pairs_causal * per_pair,
            flops_elementwise: positions * (n * layer_elementwise + norm + learned) as u64 + softmax,
            flops_laurel: positions * ((n * laurel.matmul_flops) as u64 + 2 * gemma3n_laurel),
        }
    }
}

#[cfg(test)]
mod tests {
    use laurel::ResidualConfig;

    use super::*;

    #[test]
    fn published_shapes_have_the_published_counts() {
        // paper.md sections 9.3 and 9.4.
        assert_eq!(DecoderConfig::table5(24).num_params().total, 157_197_056);
        assert_eq!(DecoderConfig::table5(28).num_params().total, 179_229_440);
        assert_eq!(DecoderConfig::llama_1b().num_params().total, 1_104_218_112);
        assert_eq!(DecoderConfig::llama_4b().num_params().total, 3_938_920_960);
    }

    #[test]
    fn naive_and_laurel_additions_have_the_published_counts() {
        let added = |config: DecoderConfig, reference: DecoderConfig| config.num_params().total - reference.num_params().total;
        let residual = |rank| ResidualConfig::preset("rw+lr", rank, 3).expect("a known preset");
        // paper.md section 9.4: N(2rD + 2).
        let one = DecoderConfig::llama_1b;
        assert_eq!(added(one().with_residual(residual(4)), one()), 262_176);
        assert_eq!(added(one().with_residual(residual(64)), one()), 4_194_336);
        let four = DecoderConfig::llama_4b;
        assert_eq!(added(four().with_residual(residual(64)), four()), 13_107_280);
        // paper.md section 9.3: 5,508,096 per layer, and section 12.2: r units of a two-matrix MLP are one low-rank pair.
        let table5 = || DecoderConfig::table5(24);
        assert_eq!(added(DecoderConfig { extra_layers: 1, ..table5() }, table5()), 5_508_096);
        let lr = ResidualConfig::preset("lr", 32, 3).expect("a known preset");
        assert_eq!(added(DecoderConfig { mlp_extra: 32, ..table5() }, table5()), added(table5().with_residual(lr), table5()));
    }

    #[test]
    fn forward_flops_match_a_hand_count() {
        // D = 4, F = 8, N = 1, H = 2, K = 1, d = 2, V = 10, SwiGLU, 3 tokens:
        // weights of a layer: 4·4 (q) + 2·4·2 (k, v) + 4·4 (o) + 3·4·8 (mlp) = 144; head 40; 2·3·(144 + 40) = 1104.
        // attention: 4·1·2·3·3·2 = 144 dense, and 6 of 9 pairs causal: 96.
        let mut config = DecoderConfig::llama_1b();
        (config.hidden_size, config.intermediate_size, config.num_hidden_layers) = (4, 8, 1);
        (config.num_attention_heads, config.num_key_value_heads, config.vocab_size) = (2, 1, 10);
        let cost = config.cost(&InputShape::train(1, 3));
        assert_eq!((cost.flops_matmul, cost.flops_attention, cost.flops_attention_causal), (1104, 144, 96));
        assert_eq!(cost.flops_train(), 3 * 1248);
    }

    #[test]
    fn training_flops_agree_with_six_n_plus_attention() {
        // measurement.md section 4: 6·N + 12·L·H·d·T per token, N = parameters in matrix products (a tied table once).
        let config = DecoderConfig::table5(24);
        let (tokens, t) = (512u64, 512u64);
        let vectors = (24 * 4 * 768 + 2 * 768 + 32_000 + 512 * 768) as u64;
        let n = config.num_params().total as u64 - vectors;
        let expected = tokens * (6 * n + 12 * 24 * 768 * t);
        assert_eq!(config.cost(&InputShape::train(1, 512)).flops_train(), expected);
    }

    #[test]
    fn decode_steps_sum_to_the_causal_prefill() {
        let config = DecoderConfig::llama_1b().with_residual(ResidualConfig::preset("rw+lr+pa", 4, 3).expect("a known preset"));
        let whole = config.cost(&InputShape::train(2, 5));
        let steps: Vec<_> = (0..5).map(|past| config.cost(&InputShape::decode(2, past))).collect();
        assert_eq!(steps.iter().map(|c| c.flops_matmul).sum::<u64>(), whole.flops_matmul);
        assert_eq!(steps.iter().map(|c| c.flops_attention).sum::<u64>(), whole.flops_attention_causal);
        assert_eq!(steps.iter().map(|c| c.flops_laurel).sum::<u64>(), whole.flops_laurel);
    }
}
