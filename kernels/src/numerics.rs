//! How matrix products are computed: a property of a model, carried by it and recorded with every result.
//!
//! ```text
//! f32         f32 operands, f32 sums                                         error about 2e-7
//! f32-split   each f32 operand as hi + lo, two bf16; hi·hi + hi·lo + lo·hi   typically 5e-6, at most 3·2⁻¹⁶     or as f32
//! bf16        operands rounded to bf16, f32 sums                             typically 2e-3, at most 2⁻⁷
//! ```
//! Errors are of a product relative to `Σ|a·b|`. `f32-split` is as `f32` on processors without matrix tiles (and below the level of
//! AVX-512), where that is faster and closer. In `bf16` the activations between products are bf16 tensors too; the residual
//! stream, parameters, their gradients and optimizer state stay f32, and norms, softmax and losses are reduced in f32.
use std::fmt;
use std::str::FromStr;

/// Numerics of a model's matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Numerics {
    /// f32 operands and sums.
    #[default]
    F32,
    /// Three bf16 products of f32 operands split in two, f32 sums; f32 products on processors without matrix tiles.
    F32Split,
    /// bf16 operands, f32 sums.
    Bf16,
}

impl Numerics {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::F32, Self::F32Split, Self::Bf16];

    /// Name in configs, on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F32Split => "f32-split",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Numerics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Numerics {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|numerics| numerics.name() == text)
            .ok_or_else(|| format!("numerics: expected `f32`, `f32-split` or `bf16`, found `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for numerics in Numerics::ALL {
            assert_eq!(numerics.to_string().parse(), Ok(numerics));
        }
        assert!("fp16".parse::<Numerics>().unwrap_err().contains("fp16"));
    }
}
