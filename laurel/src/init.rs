//! Start values, each drawn from a generator keyed by (seed, parameter name).
//!
//! Because the name is the key, a variant and its plain baseline share the values of everything they share, and adding a parameter
//! reshuffles nothing. Candle's own CPU generator cannot be seeded.
//!
//! | what | start |
//! |---|---|
//! | `mix.a`, `mix.b` | 1 (`free`), else 0 |
//! | `down` | column-orthogonal, Xavier, normal or zero ([`DownInit`]) |
//! | the last factor of a term | zero: the norm's scale if there is a norm, else `up` if there is one, else `γ` |
//! | earlier factors | `γ` 1, `up` Xavier |
//!
//! Exactly one factor of a term starts at zero: the term starts at zero, and that factor gets a gradient at once. Two zeros would be
//! a dead start (paper.md section 4).

use candle_core::{Result, Tensor, Var, bail};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::DownInit;
use crate::residual::Parameter;

/// Standard deviation of [`DownInit::Gaussian`], the usual one for language models.
const GAUSSIAN_STD: f64 = 0.02;

/// The generator of one parameter's start values.
#[derive(Debug)]
pub struct ParameterRng(ChaCha8Rng);

impl ParameterRng {
    /// Keyed by the run's seed and the parameter's full name.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&fnv1a(0xcbf2_9ce4_8422_2325, name).to_le_bytes());
        // A second hash from another offset: names that collide in one 64-bit hash do not in both.
        key[16..24].copy_from_slice(&fnv1a(0x6c62_272e_07bb_0142, name).to_le_bytes());
        key[24..].copy_from_slice(b"init-v1\0");
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in `[0, 1)` with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by Box–Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// FNV-1a over the bytes of `name`, from a chosen offset basis.
fn fnv1a(basis: u64, name: &str) -> u64 {
    name.bytes().fold(basis, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Writes `values` (row-major) into a variable, in place and in its dtype.
///
/// # Errors
/// When the tensor is not a variable (a frozen model) or the count differs.
pub fn fill(name: &str, tensor: &Tensor, values: Vec<f64>) -> Result<()> {
    if !tensor.is_variable() {
        bail!("cannot initialise `{name}`: expected a variable, found a frozen tensor");
    }
    let values = Tensor::from_vec(values, tensor.shape(), &candle_core::Device::Cpu)?;
    // A variable built from a variable shares its storage, so this writes the model's own parameter.
    Var::from_tensor(tensor)?.set(&values.to_dtype(tensor.dtype())?.to_device(tensor.device())?)
}

/// Every entry `value`.
pub(crate) fn constant(parameter: &Parameter, value: f64) -> Result<()> {
    fill(&parameter.name, &parameter.tensor, vec![value; parameter.tensor.elem_count()])
}

/// Xavier-uniform for a matrix `[fan_in, fan_out]`: within `±√(6/(fan_in + fan_out))`.
pub(crate) fn xavier(parameter: &Parameter, seed: u64) -> Result<()> {
    let (rows, columns) = parameter.tensor.dims2()?;
    let limit = (6.0 / (rows + columns) as f64).sqrt();
    let mut rng = ParameterRng::new(seed, &parameter.name);
    fill(&parameter.name, &parameter.tensor, (0..rows * columns).map(|_| limit * (2.0 * rng.uniform() - 1.0)).collect())
}

/// The first factor, `down: [D, r]`.
pub(crate) fn down(parameter: &Parameter, kind: DownInit, seed: u64) -> Result<()> {
    let (features, rank) = parameter.tensor.dims2()?;
    match kind {
        DownInit::Zero => constant(parameter, 0.0),
        DownInit::Xavier => xavier(parameter, seed),
        DownInit::Gaussian => {
            let mut rng = ParameterRng::new(seed, &parameter.name);
            let values = (0..features * rank).map(|_| GAUSSIAN_STD * rng.normal()).collect();
            fill(&parameter.name, &parameter.tensor, values)
        }
        DownInit::ColumnOrthogonal => fill(&parameter.name, &parameter.tensor, column_orthogonal(features, rank)),
    }
}

/// `[D, r]` with entry (i, j) = `1/√(rD)` where `i mod r = j`, else 0 (paper §3.3). Columns have norm 1/r when r divides D.
fn column_orthogonal(features: usize, rank: usize) -> Vec<f64> {
    let value = 1.0 / ((rank * features) as f64).sqrt();
    (0..features * rank).map(|at| if (at / rank) % rank == at % rank { value } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_orthogonal_has_the_papers_entries() {
        // D = 4, r = 2: rows 0 and 2 feed column 0, rows 1 and 3 column 1, each with 1/√8.
        let v = 1.0 / 8f64.sqrt();
        assert_eq!(column_orthogonal(4, 2), vec![v, 0.0, 0.0, v, v, 0.0, 0.0, v]);
    }

    #[test]
    fn values_depend_on_seed_and_name_only() {
        let draw = |seed, name: &str| ParameterRng::new(seed, name).uniform();
        assert_eq!(draw(1, "a.b"), draw(1, "a.b"));
        assert_ne!(draw(1, "a.b"), draw(2, "a.b"));
        assert_ne!(draw(1, "a.b"), draw(1, "a.c"));
    }

    #[test]
    fn normal_draws_have_mean_zero_and_unit_variance() {
        let mut rng = ParameterRng::new(7, "w");
        let draws: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        // Standard errors are 0.007 and 0.01: four of each.
        assert!(mean.abs() < 0.028 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }
}
