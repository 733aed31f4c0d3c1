//! What a residual connection is made of, as plain data: bounding of α and β, additive terms, where it sits.
//!
//! The same keys stand in TOML configs, in records and in the documentation:
//!
//! ```toml
//! placement = "layer"
//! mix = { kind = "softmax2" }
//! augment = [{ kind = "low-rank", rank = 32, init = "column-orthogonal" }]
//! ```

use serde::{Deserialize, Serialize};

/// Which part of a transformer layer *f* is, that is, which addition LAuReL replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// *f* is the whole layer's increment; its two inner additions stay plain. One instance per layer: what the paper's counts imply.
    #[default]
    Layer,
    /// Around attention only; the MLP's addition stays plain.
    Attention,
    /// Around the MLP only; attention's addition stays plain.
    Mlp,
    /// Around both, one instance each.
    Both,
}

impl Placement {
    /// Every placement, in documentation order.
    pub const ALL: [Self; 4] = [Self::Layer, Self::Attention, Self::Mlp, Self::Both];

    /// LAuReL instances in one transformer layer.
    pub fn instances_per_layer(self) -> usize {
        if self == Self::Both { 2 } else { 1 }
    }
}

/// How α and β are computed from the learned logits `a` and `b`.
///
/// The paper asks that they stay bounded and names softmax and sigmoid, without temperature or start (§2.1); `free` is the control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixKind {
    /// α = β = 1, nothing learned.
    #[default]
    None,
    /// α = a, β = b, start 1 and 1.
    Free,
    /// (α, β) = softmax(a, b): convex, starts at ½ and ½, so not as a plain residual.
    Softmax,
    /// (α, β) = 2·softmax(a, b): starts at 1 and 1.
    Softmax2,
    /// α = σ(a), β = 1 − σ(a): one parameter, starts at ½ and ½.
    Sigmoid1,
    /// α = 2σ(a), β = 2σ(b): starts at 1 and 1.
    Sigmoid2x,
    /// α = β = 1/√2, nothing learned: the rescaling of the Gemma 3n block.
    InverseSqrt2,
}

impl MixKind {
    /// The five forms with learned weights, in documentation order.
    pub const LEARNED: [Self; 5] = [Self::Free, Self::Softmax, Self::Softmax2, Self::Sigmoid1, Self::Sigmoid2x];

    /// Learned logits per channel or instance: 0, 1 or 2.
    pub fn logits(self) -> usize {
        match self {
            Self::None | Self::InverseSqrt2 => 0,
            Self::Sigmoid1 => 1,
            Self::Free | Self::Softmax | Self::Softmax2 | Self::Sigmoid2x => 2,
        }
    }

    /// Whether α = β = 1 at the start.
    pub fn starts_as_plain(self) -> bool {
        matches!(self, Self::None | Self::Free | Self::Softmax2 | Self::Sigmoid2x)
    }
}

/// RW: the weights of the two sides of the addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixConfig {
    /// Bounding form.
    pub kind: MixKind,
    /// One pair per channel (2D parameters) instead of one pair per instance.
    #[serde(default)]
    pub per_channel: bool,
}

/// Start of the first factor of a low-rank pair. The second, `up`, starts at zero unless a norm follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DownInit {
    /// `down[i][j] = 1/√(rD)` where `i mod r = j`, else 0: the paper's choice for language models (§3.3).
    #[default]
    ColumnOrthogonal,
    /// Uniform within `±√(6/(D + r))`: the paper's choice for ResNet.
    Xavier,
    /// Normal with standard deviation 0.02: a control (claim C09).
    Gaussian,
    /// Zero; with `up = 0` neither factor ever gets a gradient: the dead control (claim C09).
    Zero,
}

/// A norm on a term before it is added. The paper's equations show none; its parameter counts hint at one (paper table 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostNorm {
    /// The equations as they stand.
    #[default]
    None,
    /// RMS norm over the features with a learned scale of D entries, which starts at zero.
    Rms,
}

/// The map `h` that PA applies to an earlier activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LagMap {
    /// `h(x) = x`.
    #[default]
    Identity,
    /// One low-rank pair for all lags.
    Shared,
    /// A low-rank pair per lag, equation (6).
    PerLag,
}

/// What PA reads where fewer than `lookback` activations exist. The paper is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingLag {
    /// The sum runs over the lags there are; entries of missing lags get zero gradient.
    #[default]
    Drop,
    /// The index stops at the first activation.
    Clamp,
}

/// One additive term of the residual side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AugmentConfig {
    /// LR: `(x · down) · up`.
    LowRank {
        /// r, from 1 to the number of features.
        rank: usize,
        /// Start of `down`.
        #[serde(default)]
        init: DownInit,
        /// Norm on the term.
        #[serde(default)]
        post_norm: PostNorm,
    },
    /// PA: `Σ_{j<k} γ_j · h(x_{i-j})`, lag 0 being the current activation.
    Previous {
        /// k: activations read, the current one included.
        lookback: usize,
        /// `h`.
        #[serde(default)]
        map: LagMap,
        /// r of the low-rank maps; absent for the identity.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rank: Option<usize>,
        /// Start of `down`.
        #[serde(default)]
        init: DownInit,
        /// Near the input.
        #[serde(default)]
        missing: MissingLag,
        /// Norm on the term.
        #[serde(default)]
        post_norm: PostNorm,
    },
    /// The Gemma 3n block: `n + rms((n · down) · up)`, where n is the normed input of *f*.
    Gemma3n {
        /// r, from 1 to the number of features.
        rank: usize,
    },
}

impl AugmentConfig {
    /// The key of its `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LowRank { .. } => "low-rank",
            Self::Previous { .. } => "previous",
            Self::Gemma3n { .. } => "gemma3n",
        }
    }
}

/// A residual connection. [`ResidualConfig::default`] is the plain one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualConfig {
    /// Which addition of a layer it replaces.
    #[serde(default)]
    pub placement: Placement,
    /// α and β.
    #[serde(default)]
    pub mix: MixConfig,
    /// Terms beside `x`.
    #[serde(default)]
    pub augment: Vec<AugmentConfig>,
}

/// Names [`ResidualConfig::preset`] knows, in the order of the crate's table.
pub const PRESETS: [&str; 11] =
    ["plain", "rw", "rw-vec", "lr", "pa", "pa-shared", "lr+pa", "rw+lr", "rw+pa", "rw+lr+pa", "gemma3n"];

/// A configuration that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: expected {expected}, found {found}")]
pub struct ConfigError {
    /// Path of the key below the residual's table, such as `augment[0].rank`.
    pub key: String,
    /// What would be accepted.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl ResidualConfig {
    /// A named variant with placement `layer`; `None` for an unknown name. `rank` and `lookback` are used by the variants that have them.
    ///
    /// Mixing presets use `softmax2`: the paper's softmax, scaled so that the block starts as a plain residual (paper.md section 4).
    pub fn preset(name: &str, rank: usize, lookback: usize) -> Option<Self> {
        let mix = |per_channel| MixConfig { kind: MixKind::Softmax2, per_channel };
        let low_rank = AugmentConfig::LowRank { rank, init: DownInit::default(), post_norm: PostNorm::None };
        let previous = |map| AugmentConfig::Previous {
            lookback,
            map,
            rank: (map != LagMap::Identity).then_some(rank),
            init: DownInit::default(),
            missing: MissingLag::default(),
            post_norm: PostNorm::None,
        };
        let (mix, augment) = match name {
            "plain" => (MixConfig::default(), vec![]),
            "rw" => (mix(false), vec![]),
            "rw-vec" => (mix(true), vec![]),
            "lr" => (MixConfig::default(), vec![low_rank]),
            "pa" => (MixConfig::default(), vec![previous(LagMap::Identity)]),
            "pa-shared" => (MixConfig::default(), vec![previous(LagMap::Shared)]),
            "lr+pa" => (MixConfig::default(), vec![previous(LagMap::PerLag)]),
            "rw+lr" => (mix(false), vec![low_rank]),
            "rw+pa" => (mix(false), vec![previous(LagMap::Identity)]),
            "rw+lr+pa" => (mix(false), vec![previous(LagMap::PerLag)]),
            "gemma3n" => {
                let mix = MixConfig { kind: MixKind::InverseSqrt2, per_channel: false };
                return Some(Self { placement: Placement::Attention, mix, augment: vec![AugmentConfig::Gemma3n { rank }] });
            }
            _ => return None,
        };
        Some(Self { placement: Placement::Layer, mix, augment })
    }

    /// Whether this is the plain residual.
    pub fn is_plain(&self) -> bool {
        self.mix.kind == MixKind::None && self.augment.is_empty()
    }

    /// Whether the freshly initialised block computes exactly `f(x) + x`.
    pub fn starts_as_plain(&self) -> bool {
        self.mix.kind.starts_as_plain() && !self.augment.iter().any(|term| matches!(term, AugmentConfig::Gemma3n { .. }))
    }

    /// A short name for tables: the preset's where one fits, else its parts.
    pub fn variant(&self) -> String {
        let mut parts = Vec::new();
        match (self.mix.kind, self.mix.per_channel) {
            (MixKind::None, _) => {}
            (MixKind::InverseSqrt2, _) => return "gemma3n".to_string(),
            (_, true) => parts.push("rw-vec"),
            (_, false) => parts.push("rw"),
        }
        for term in &self.augment {
            parts.push(match term {
                AugmentConfig::LowRank { .. } => "lr",
                AugmentConfig::Previous { map: LagMap::Identity, .. } => "pa",
                AugmentConfig::Previous { map: LagMap::Shared, .. } => "pa-shared",
                AugmentConfig::Previous { map: LagMap::PerLag, .. } => "lr+pa",
                AugmentConfig::Gemma3n { .. } => "gemma3n",
            });
        }
        if parts.is_empty() { "plain".to_string() } else { parts.join("+") }
    }

    /// Checks every value against a width of `features`.
    ///
    /// # Errors
    /// The first key that cannot be built, with what it may be.
    pub fn validate(&self, features: usize) -> Result<(), ConfigError> {
        let fail = |key: String, expected: String, found: String| Err(ConfigError { key, expected, found });
        if self.mix.per_channel && self.mix.kind.logits() == 0 {
            return fail("mix.per_channel".into(), "false for a mix that learns nothing".into(), "true".into());
        }
        for (i, term) in self.augment.iter().enumerate() {
            if self.augment[..i].iter().any(|earlier| earlier.kind() == term.kind()) {
                return fail(format!("augment[{i}].kind"), "each kind once".into(), format!("a second `{}`", term.kind()));
            }
            let check_rank = |rank: usize| {
                if (1..=features).contains(&rank) {
                    return Ok(());
                }
                fail(format!("augment[{i}].rank"), format!("1..={features} (the residual's width)"), rank.to_string())
            };
            match *term {
                AugmentConfig::LowRank { rank, .. } | AugmentConfig::Gemma3n { rank } => check_rank(rank)?,
                AugmentConfig::Previous { lookback, map, rank, .. } => {
                    if lookback == 0 {
                        return fail(format!("augment[{i}].lookback"), "at least 1 (the current activation)".into(), "0".into());
                    }
                    match (map, rank) {
                        (LagMap::Identity, Some(rank)) => {
                            return fail(
                                format!("augment[{i}].rank"),
                                "no rank with map = \"identity\"".into(),
                                rank.to_string(),
                            );
                        }
                        (LagMap::Identity, None) => {}
                        (_, None) => {
                            return fail(format!("augment[{i}].rank"), "a rank for a low-rank map".into(), "none".into());
                        }
                        (_, Some(rank)) => check_rank(rank)?,
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_named_after_what_they_hold() {
        for name in PRESETS {
            let config = ResidualConfig::preset(name, 4, 3).unwrap();
            let expected = if name == "rw+lr+pa" { "rw+lr+pa" } else { name };
            assert_eq!(config.variant(), expected);
            config.validate(8).unwrap();
        }
        assert_eq!(ResidualConfig::preset("wr", 4, 3), None);
    }

    #[test]
    fn a_rank_above_the_width_is_refused_with_its_key() {
        let error = ResidualConfig::preset("lr", 512, 3).unwrap().validate(256).unwrap_err();
        assert_eq!(error.to_string(), "augment[0].rank: expected 1..=256 (the residual's width), found 512");
    }

    #[test]
    fn a_lookback_of_zero_and_a_missing_rank_are_refused() {
        assert_eq!(ResidualConfig::preset("pa", 1, 0).unwrap().validate(8).unwrap_err().key, "augment[0].lookback");
        let text = "augment = [{ kind = \"previous\", lookback = 2, map = \"shared\" }]";
        let config: ResidualConfig = toml::from_str(text).unwrap();
        assert_eq!(config.validate(8).unwrap_err().key, "augment[0].rank");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<ResidualConfig>("mix = { kind = \"softmax2\", perchannel = true }").unwrap_err();
        assert!(error.to_string().contains("perchannel"), "{error}");
    }

    #[test]
    fn a_config_survives_toml() {
        for name in PRESETS {
            let config = ResidualConfig::preset(name, 4, 3).unwrap();
            assert_eq!(toml::from_str::<ResidualConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        }
    }
}
