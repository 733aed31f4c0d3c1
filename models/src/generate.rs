//! Greedy and sampled continuation of a batch of prompts of different lengths, with a key-value cache.
//!
//! A row leaves the batch when its stop callback says so, when it has its tokens, or when the model's positions are
//! used up; the others go on. Each row samples from a generator of its own, so what a row gets does not depend on the
//! rows beside it.

use candle_core::{DType, Result, Tensor, bail};
use candle_transformers::generation::{LogitsProcessor, Sampling as Rule};

use crate::decoder::{Decoder, KvCache};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The token with the largest logit; of equal ones the first.
    Greedy,
    /// A draw from `softmax(logits / temperature)`, restricted first to the `top_k` likeliest tokens and then to the
    /// smallest set of them whose probability reaches `top_p` (Holtzman et al. 2020).
    Random {
        /// Above 0.
        temperature: f64,
        /// Candidates kept; `None` keeps all.
        top_k: Option<usize>,
        /// Probability kept, in (0, 1]; `None` keeps all.
        top_p: Option<f64>,
        /// Row b draws from a generator seeded with `seed + b`.
        seed: u64,
    },
}

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens per row.
    pub max_new_tokens: usize,
    /// Choice of the next token.
    pub sampling: Sampling,
}

/// Chooses the next token of one row.
pub struct Chooser(Option<LogitsProcessor>);

impl std::fmt::Debug for Chooser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Chooser(random)" } else { "Chooser(greedy)" })
    }
}

impl Chooser {
    /// For row `row` of a batch.
    ///
    /// # Errors
    /// When a sampling option is out of its range.
    pub fn new(sampling: Sampling, row: usize) -> Result<Self> {
        let Sampling::Random { temperature, top_k, top_p, seed } = sampling else { return Ok(Self(None)) };
        if !(temperature.is_finite() && temperature > 0.0) {
            bail!("sampling: temperature: expected a finite number above 0 (or greedy), found {temperature}");
        }
        if top_k == Some(0) {
            bail!("sampling: top_k: expected at least 1, found 0");
        }
        if let Some(p) = top_p
            && !(p > 0.0 && p <= 1.0)
        {
            bail!("sampling: top_p: expected a number above 0 and at most 1, found {p}");
        }
        let rule = match (top_k, top_p) {
            (None, None) => Rule::All { temperature },
            (Some(k), None) => Rule::TopK { k, temperature },
            (None, Some(p)) => Rule::TopP { p, temperature },
            (Some(k), Some(p)) => Rule::TopKThenTopP { k, p, temperature },
        };
        Ok(Self(Some(LogitsProcessor::from_sampling(seed.wrapping_add(row as u64), rule))))
    }

    /// The next token from logits `[V]`.
    ///
    /// # Errors
    /// When a logit is not a number: choosing anyway would hide a broken model.
    pub fn choose(&mut self, logits: &Tensor) -> Result<u32> {
        let values = logits.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        if let Some(token) = values.iter().position(|value| value.is_nan()) {
            bail!("cannot choose a token: the logit of token {token} is not a number");
        }
        match &mut self.0 {
            Some(processor) => processor.sample(logits),
            None => argmax(&values).map_or_else(|| bail!("cannot choose a token from no logits"), |token| Ok(token as u32)),
        }
    }
}

/// Index of the largest value, the first of equal ones.
fn argmax(values: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    (!values.is_empty()).then_some(best)
}

/// Continues every prompt; returns the new tokens of each row, in the order of the prompts.
///
/// `stop(row, generated)` is asked after each token of a row and ends it by returning true; the token stays in the
/// result. A row also ends at `max_new_tokens` and when the model has no position left.
///
/// # Errors
/// When a prompt is empty or longer than `max_position_embeddings`, or a sampling option is out of range.
pub fn generate(
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    mut stop: impl FnMut(usize, &[u32]) -> bool,
) -> Result<Vec<Vec<u32>>> {
    let limit = decoder.config().max_position_embeddings;
    for (row, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() || prompt.len() > limit {
            bail!("generate: prompt {row}: expected 1..={limit} tokens (max_position_embeddings), found {}", prompt.len());
        }
    }
    let mut generated = vec![Vec::new(); prompts.len()];
    if prompts.is_empty() || options.max_new_tokens == 0 {
        return Ok(generated);
    }
    let mut choosers = (0..prompts.len()).map(|row| Chooser::new(options.sampling, row)).collect::<Result<Vec<_>>>()?;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let mut cache = KvCache::new(decoder.config(), prompts.len(), longest + options.max_new_tokens);
    let mut last = last_hidden(decoder, prompts, &mut cache)?; // [rows, D]
    let mut active: Vec<usize> = (0..prompts.len()).collect();
    loop {
        let logits = decoder.logits(&last)?; // [rows, V]
        let mut kept = Vec::new();
        for (at, &row) in active.iter().enumerate() {
            let token = choosers[row].choose(&logits.get(at)?)?;
            generated[row].push(token);
            let is_full = generated[row].len() == options.max_new_tokens || cache.lengths()[at] == limit;
            if !stop(row, &generated[row]) && !is_full {
                kept.push(at);
            }
        }
        if kept.is_empty() {
            return Ok(generated);
        }
        if kept.len() < active.len() {
            cache.select_rows(&kept)?;
            active = kept.iter().map(|&at| active[at]).collect();
        }
        let tokens: Vec<Vec<u32>> = active.iter().filter_map(|&row| generated[row].last().map(|&token| vec![token])).collect();
        last = last_hidden(decoder, &tokens, &mut cache)?;
    }
}

/// Runs each row's new tokens and returns the activation of its last one, `[rows, D]`.
fn last_hidden(decoder: &Decoder, tokens: &[Vec<u32>], cache: &mut KvCache) -> Result<Tensor> {
    let (ids, lens) = pad_right(tokens, decoder)?;
    let hidden = decoder.forward_cached(&ids, &lens, cache)?; // [rows, T, D]
    let rows = lens.iter().enumerate().map(|(row, len)| hidden.get(row)?.get(len - 1)).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&rows, 0)
}

/// Rows of different lengths as one `[B, T]` of ids, filled up with 0, and their lengths.
fn pad_right(tokens: &[Vec<u32>], decoder: &Decoder) -> Result<(Tensor, Vec<usize>)> {
    let lens: Vec<usize> = tokens.iter().map(Vec::len).collect();
    let width = lens.iter().copied().max().unwrap_or(0);
    let ids = tokens.iter().flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0, width - row.len()))).collect();
    Ok((Tensor::from_vec(ids, (tokens.len(), width), decoder.device())?, lens))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn argmax_takes_the_first_of_equal_values() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, -2.0]), Some(1));
        assert_eq!(argmax(&[f32::NEG_INFINITY, f32::NEG_INFINITY]), Some(0));
        assert_eq!(argmax(&[]), None);
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let random = |temperature, top_k, top_p| Sampling::Random { temperature, top_k, top_p, seed: 0 };
        for (sampling, key) in [
            (random(0.0, None, None), "temperature"),
            (random(f64::NAN, None, None), "temperature"),
            (random(1.0, Some(0), None), "top_k"),
            (random(1.0, None, Some(1.5)), "top_p"),
        ] {
            let error = Chooser::new(sampling, 0).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_logit_that_is_not_a_number_is_refused() {
        let logits = Tensor::new(&[0.0f32, f32::NAN], &Device::Cpu).unwrap();
        assert!(Chooser::new(Sampling::Greedy, 0).unwrap().choose(&logits).is_err());
    }

    #[test]
    fn draws_follow_the_restricted_distribution() {
        // Probabilities 0.5, 0.3, 0.15, 0.05: top_p = 0.6 keeps the first two, as 0.5 / 0.8 and 0.3 / 0.8.
        let logits: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        let logits = Tensor::new(logits.as_slice(), &Device::Cpu).unwrap();
        let draws = |top_k, top_p| {
            let sampling = Sampling::Random { temperature: 1.0, top_k, top_p, seed: 5 };
            let mut chooser = Chooser::new(sampling, 0).unwrap();
            let mut counts = [0usize; 4];
            (0..4000).for_each(|_| counts[chooser.choose(&logits).unwrap() as usize] += 1);
            counts
        };
        // Five standard errors of a share near 0.6 over 4000 draws: 0.039.
        let share = |counts: [usize; 4]| counts[0] as f64 / 4000.0;
        let nucleus = draws(None, Some(0.6));
        assert_eq!(nucleus[2..], [0, 0]);
        assert!((share(nucleus) - 0.625).abs() < 0.039, "{nucleus:?}");
        let top = draws(Some(2), None);
        assert_eq!(top[2..], [0, 0]);
        let all = draws(None, None);
        assert!((share(all) - 0.5).abs() < 0.04 && all[3] > 0, "{all:?}");
    }
}
