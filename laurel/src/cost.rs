//! Closed forms: what one LAuReL instance adds over a plain residual addition.
//!
//! Counted values of a live model must equal these (a test does so for every preset). One multiply-add is two FLOPs; matrix products
//! and element-wise work are kept apart, as in the records (`flops_forward`, `flops_elementwise`).
//!
//! | part | parameters | matrix FLOPs per position | element-wise FLOPs per position | kept for backward, values per position |
//! |---|---|---|---|---|
//! | mix, scalar or per channel | 0, 1, 2; × D per channel | 0 | 2D | D (f's output) + D if there are terms |
//! | low-rank | 2rD | 4rD | D | r |
//! | previous, identity | k | 0 | 2kD | 0 |
//! | previous, shared | k + 2rD | 4rD | 2kD + D | D + r |
//! | previous, per lag | k + 2rkD | 4rkD | 2kD | kr + kD |
//! | post-norm | D | 0 | 4D | D |
//!
//! Differs: the paper's Table 4 bounds the latency of LR by O(rD²); two thin products cost 2rD multiply-adds.
//! The activations x_{i-j} themselves are kept by the pre-norms' backward anyway, so PA is charged nothing for them (paper.md 12.4).

use crate::config::{AugmentConfig, LagMap, MixKind, PostNorm, ResidualConfig};

/// Cost of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Trainable values.
    pub params: usize,
    /// FLOPs of matrix products in a forward pass, per position.
    pub matmul_flops: usize,
    /// Element-wise FLOPs in a forward pass beyond the plain addition, per position.
    pub elementwise_flops: usize,
    /// Values per position that the backward pass keeps beyond a plain residual.
    pub kept_values: usize,
    /// Earlier activations alive at once, in total and not per instance: `k − 1`.
    pub history: usize,
}

impl std::ops::Add for Cost {
    type Output = Self;

    /// Sums what is per instance; history is shared, so the longer one counts.
    fn add(self, other: Self) -> Self {
        Self {
            params: self.params + other.params,
            matmul_flops: self.matmul_flops + other.matmul_flops,
            elementwise_flops: self.elementwise_flops + other.elementwise_flops,
            kept_values: self.kept_values + other.kept_values,
            history: self.history.max(other.history),
        }
    }
}

impl ResidualConfig {
    /// Closed-form cost of one instance at width `features`.
    pub fn cost(&self, features: usize) -> Cost {
        let d = features;
        let mix = match self.mix.kind {
            MixKind::None => Cost::default(),
            MixKind::InverseSqrt2 => Cost { elementwise_flops: d, ..Cost::default() },
            kind => Cost {
                params: kind.logits() * if self.mix.per_channel { d } else { 1 },
                elementwise_flops: 2 * d,
                kept_values: if self.augment.is_empty() { d } else { 2 * d },
                ..Cost::default()
            },
        };
        self.augment.iter().fold(mix, |sum, term| sum + term.cost(d))
    }
}

impl AugmentConfig {
    fn cost(&self, d: usize) -> Cost {
        let norm = |post_norm| match post_norm {
            PostNorm::None => Cost::default(),
            PostNorm::Rms => Cost { params: d, elementwise_flops: 4 * d, kept_values: d, ..Cost::default() },
        };
        match *self {
            Self::LowRank { rank: r, post_norm, .. } => {
                Cost { params: 2 * r * d, matmul_flops: 4 * r * d, elementwise_flops: d, kept_values: r, history: 0 }
                    + norm(post_norm)
            }
            Self::Previous { lookback: k, map, rank, post_norm, .. } => {
                let r = rank.unwrap_or(0);
                let base = Cost { params: k, elementwise_flops: 2 * k * d, history: k.saturating_sub(1), ..Cost::default() };
                let maps = match map {
                    LagMap::Identity => Cost::default(),
                    LagMap::Shared => {
                        Cost { params: 2 * r * d, matmul_flops: 4 * r * d, elementwise_flops: d, kept_values: d + r, history: 0 }
                    }
                    LagMap::PerLag => {
                        Cost { params: 2 * r * k * d, matmul_flops: 4 * r * k * d, kept_values: k * (r + d), ..Cost::default() }
                    }
                };
                base + maps + norm(post_norm)
            }
            Self::Gemma3n { rank: r } => {
                Cost { params: 2 * r * d, matmul_flops: 4 * r * d, elementwise_flops: 2 * d, kept_values: r, history: 0 }
                    + norm(PostNorm::Rms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(name: &str, rank: usize, lookback: usize, d: usize) -> usize {
        ResidualConfig::preset(name, rank, lookback).unwrap().cost(d).params
    }

    #[test]
    fn counts_follow_the_papers_formulas() {
        // paper.md 9.1: 20 layers of RW+LR with r = 4, D = 1000 have 2·20·(4·1000 + 1) = 160,040 parameters.
        assert_eq!(20 * params("rw+lr", 4, 3, 1000), 160_040);
        // paper.md 9.4: 16 · (2·4·2048 + 2) and 40 · (2·64·2560 + 2).
        assert_eq!(16 * params("rw+lr", 4, 3, 2048), 262_176);
        assert_eq!(40 * params("rw+lr", 64, 3, 2560), 13_107_280);
        assert_eq!(params("pa", 32, 3, 768), 3);
        assert_eq!(params("rw+lr+pa", 32, 3, 768), 2 * 32 * 3 * 768 + 3 + 2);
        // paper.md 11: 264,192 per Gemma 3n layer.
        assert_eq!(params("gemma3n", 64, 3, 2048), 264_192);
    }

    #[test]
    fn low_rank_flops_are_four_r_d() {
        let cost = ResidualConfig::preset("lr", 4, 3).unwrap().cost(2048);
        assert_eq!((cost.matmul_flops, cost.elementwise_flops), (4 * 4 * 2048, 2048));
    }
}
