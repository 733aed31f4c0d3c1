//! Rotary position tables, halves layout (Su et al. 2021, arXiv 2104.09864; layout of published Llama checkpoints).
//!
//! ```text
//! ω_i = theta^(−2i/d)      cos[p, i] = cos(p·ω_i)      sin[p, i] = sin(p·ω_i)      i < d/2
//! ```
//! Built once in f64 for every position a model may see, then rounded to the network's type.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Result, Tensor};

use super::config::{DecoderConfig, Positions, RotaryScaling};

/// `cos` and `sin`, each `[max_position_embeddings, d/2]`.
#[derive(Debug, Clone)]
pub(crate) struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// `None` for a network with learned positions.
    pub(crate) fn new(config: &DecoderConfig, dtype: DType, device: &Device) -> Result<Option<Self>> {
        let Positions::Rotary { theta, scaling } = &config.positions else { return Ok(None) };
        let frequencies = frequencies(*theta, scaling.as_ref(), config);
        Self::tables(&frequencies, scaling.as_ref().map_or(1.0, RotaryScaling::magnitude), config, dtype, device).map(Some)
    }

    /// The tables of local layers, where their base is another.
    pub(crate) fn local(config: &DecoderConfig, dtype: DType, device: &Device) -> Result<Option<Self>> {
        let Some(theta) = config.extras.local.as_ref().and_then(|local| local.theta) else { return Ok(None) };
        Self::tables(&frequencies(theta, None, config), 1.0, config, dtype, device).map(Some)
    }

    fn tables(frequencies: &[f64], magnitude: f64, config: &DecoderConfig, dtype: DType, device: &Device) -> Result<Self> {
        let positions = config.max_position_embeddings;
        let angles = |p: usize| frequencies.iter().map(move |w| p as f64 * w);
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f64> = (0..positions).flat_map(|p| angles(p).map(|angle| f(angle) * magnitude)).collect();
            Tensor::from_vec(values, (positions, frequencies.len()), device)?.to_dtype(dtype)
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Rows for positions `past[b]..past[b] + new_tok`: `[T, d/2]` when all rows of the batch agree, else `[B, T, d/2]`.
    /// Positions past the table (padding of a batch) get its last row.
    pub(crate) fn at(&self, past: &[usize], new_tok: usize) -> Result<(Tensor, Tensor)> {
        let table_len = self.cos.dim(0)?;
        let first = past.first().copied().unwrap_or(0);
        if past.iter().all(|&p| p == first) && first + new_tok <= table_len {
            return Ok((self.cos.narrow(0, first, new_tok)?, self.sin.narrow(0, first, new_tok)?));
        }
        let ids = position_ids(past, new_tok, table_len, self.cos.device())?;
        let shape = (past.len(), new_tok, self.cos.dim(1)?);
        let rows = |table: &Tensor| table.index_select(&ids.flatten_all()?, 0)?.reshape(shape);
        Ok((rows(&self.cos)?, rows(&self.sin)?))
    }

    /// Rows for the given positions, `[N, d/2]`.
    pub(crate) fn rows(&self, positions: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.cos.index_select(positions, 0)?, self.sin.index_select(positions, 0)?))
    }
}

/// Positions `[B, T]` of the new tokens, stopped at the last of `table_len` entries.
pub(crate) fn position_ids(past: &[usize], new_tok: usize, table_len: usize, device: &Device) -> Result<Tensor> {
    let last = table_len.saturating_sub(1);
    let ids: Vec<u32> = past.iter().flat_map(|&p| (p..p + new_tok).map(move |at| at.min(last) as u32)).collect();
    Tensor::from_vec(ids, (past.len(), new_tok), device)
}

/// Frequencies of all pairs of a head; those that do not turn have 0. With fewer than d turning dimensions the turning pairs are
/// the first: checkpoints of such networks have their query and key rows put in that order when loaded.
fn frequencies(theta: f64, scaling: Option<&RotaryScaling>, config: &DecoderConfig) -> Vec<f64> {
    let turning = config.extras.rotary_dim.unwrap_or(config.head_dim());
    let mut all = turning_frequencies(theta, scaling, turning);
    all.resize(config.head_dim() / 2, 0.0);
    all
}

fn turning_frequencies(theta: f64, scaling: Option<&RotaryScaling>, head_dim: usize) -> Vec<f64> {
    let base = (0..head_dim / 2).map(|i| theta.powf(-((2 * i) as f64) / head_dim as f64));
    match scaling {
        None => base.collect(),
        Some(RotaryScaling::Linear { factor }) => base.map(|w| w / factor).collect(),
        Some(RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }) => {
            let original = *original_max_position_embeddings as f64;
            base.map(|w| {
                let wave_length = TAU / w;
                if wave_length < original / high_freq_factor {
                    w
                } else if wave_length > original / low_freq_factor {
                    w / factor
                } else {
                    let blend = (original / wave_length - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - blend) * w / factor + blend * w
                }
            })
            .collect()
        }
        Some(RotaryScaling::Yarn { factor, original_max_position_embeddings, beta_fast, beta_slow, .. }) => {
            let original = *original_max_position_embeddings as f64;
            let last = head_dim as f64 - 1.0;
            // The pair that turns `rotations` times over the original context.
            let pair = |rotations: f64| head_dim as f64 * (original / (rotations * TAU)).ln() / (2.0 * theta.ln());
            let (low, high) = (pair(*beta_fast).floor().max(0.0), pair(*beta_slow).ceil().min(last));
            let width = if high > low { high - low } else { 1e-3 };
            let blend = |i: usize| ((i as f64 - low) / width).clamp(0.0, 1.0);
            base.enumerate().map(|(i, w)| blend(i) * w / factor + (1.0 - blend(i)) * w).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_the_geometric_series() {
        // theta = 10⁴, d = 4: 1 and 10⁴^(−1/2) = 0.01.
        let found = turning_frequencies(1e4, None, 4);
        assert!((found[0] - 1.0).abs() < 1e-15 && (found[1] - 0.01).abs() < 1e-15, "{found:?}");
        let halved = turning_frequencies(1e4, Some(&RotaryScaling::Linear { factor: 2.0 }), 4);
        assert!((halved[0] - 0.5).abs() < 1e-15 && (halved[1] - 0.005).abs() < 1e-15, "{halved:?}");
    }

    #[test]
    fn llama3_keeps_high_divides_low_and_blends_between() {
        let scaling = RotaryScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let plain = turning_frequencies(500_000.0, None, 128);
        let scaled = turning_frequencies(500_000.0, Some(&scaling), 128);
        assert_eq!(scaled[0], plain[0]); // wave length 6.3 < 8192/4
        assert_eq!(scaled[63], plain[63] / 8.0); // wave length 2.6 million > 8192
        let between: Vec<usize> = (0..64).filter(|&i| (8192.0 / 4.0..8192.0).contains(&(TAU / plain[i]))).collect();
        assert!(!between.is_empty());
        for i in between {
            assert!(scaled[i] < plain[i] && scaled[i] > plain[i] / 8.0, "{i}");
        }
    }
}
