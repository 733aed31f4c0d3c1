//! One request from prompt text to last token, with the moments the latency metrics are made of.
//!
//! ```text
//! t0 prompt handed over   t1 ids on the device   t2 logits of the last prompt position   t3 first token known   …   tn last token known
//!
//! prefill = t2 − t1     ttft = t3 − t0     tpot = (tn − t3)/(n − 1)     itl = gaps between tokens     e2e = tn − t0
//! ttft ≥ prefill        e2e = ttft + (n − 1)·tpot                       Σ itl = tn − t3
//! ```
//! t3 and tn are read, never derived by subtracting a mean prefill. The number of tokens is fixed and no token ends a request early, so
//! that two variants do the same work. Tokens are chosen greedily.
//!
//! Source: measurement.md section 6.

use crate::data::Tokenizer;
use crate::measure::subject::Subject;
use anyhow::{bail, ensure};
use candle_core::{Device, Tensor};
use models::generate::Chooser;
use models::{Decoder, KvCache, ParamStore, Sampling};
use std::time::Instant;

/// Purpose of the random stream that draws prompt tokens.
const TOKENS: &str = "measure/prompt";
/// Largest rounding error of an identity between sums of a few hundred intervals, seconds: the clock's resolution.
const CLOCK_S: f64 = 1e-7;

/// What is handed over at t0.
#[derive(Debug)]
enum Prompt {
    /// A text, tokenised within the request.
    Text(Box<Tokenizer>, String),
    /// Ids: nothing to tokenise.
    Ids(Vec<u32>),
}

/// A model that answers the workload's request.
#[derive(Debug)]
pub struct Engine {
    model: Decoder,
    device: Device,
    prompt: Prompt,
    batch: usize,
    prompt_length: usize,
    // Owns the weights that the frozen model shares.
    _store: ParamStore,
}

/// Keys and values of a request, and the logits its next tokens are chosen from.
#[derive(Debug)]
pub struct Running {
    cache: KvCache,
    logits: Tensor, // [B, V]
}

/// Moments of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Prompt handed over.
    pub t0: Instant,
    /// Token ids on the device.
    pub t1: Instant,
    /// Logits of the last prompt position ready.
    pub t2: Instant,
    /// Each output token known; the first is t3, the last tn.
    pub tokens: Vec<Instant>,
    /// Rows answered together.
    pub batch: usize,
}

impl Engine {
    /// For requests that begin with a text.
    ///
    /// # Errors
    /// When the model or the tokenizer cannot be loaded.
    pub fn with_text(subject: &Subject) -> anyhow::Result<Self> {
        let tokenizer = subject.tokenizer()?;
        let text = subject.prompt_text(&tokenizer)?;
        Self::new(subject, Prompt::Text(Box::new(tokenizer), text))
    }

    /// For requests that begin with ids: needs no tokenizer.
    ///
    /// # Errors
    /// When the model cannot be loaded.
    pub fn with_ids(subject: &Subject) -> anyhow::Result<Self> {
        let mut stream = stats::rng::stream(TOKENS, subject.config.seed(), 0);
        let vocab = subject.decoder()?.vocab_size;
        let ids = (0..subject.workload.prompt_length).map(|_| stats::rng::index(&mut stream, vocab) as u32).collect();
        Self::new(subject, Prompt::Ids(ids))
    }

    fn new(subject: &Subject, prompt: Prompt) -> anyhow::Result<Self> {
        let (store, model) = subject.build_frozen()?;
        let (batch, prompt_length) = (subject.workload.batch, subject.workload.prompt_length);
        Ok(Self { model, device: subject.device(), prompt, batch, prompt_length, _store: store })
    }

    /// Ids of the prompt, the same in every row: u32 `[B, P]` on the device.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn ids(&self) -> anyhow::Result<Tensor> {
        let row = match &self.prompt {
            Prompt::Text(tokenizer, text) => {
                let mut ids = tokenizer.encode(text)?;
                ids.truncate(self.prompt_length);
                ids
            }
            Prompt::Ids(ids) => ids.clone(),
        };
        ensure!(row.len() == self.prompt_length, "prompt: expected {} tokens, found {}", self.prompt_length, row.len());
        Ok(Tensor::from_vec(row.repeat(self.batch), (self.batch, self.prompt_length), &self.device)?)
    }

    /// Runs the whole prompt and builds the cache, with room for `output_length` further tokens.
    ///
    /// # Errors
    /// When the model refuses the ids.
    pub fn prefill(&self, ids: &Tensor, output_length: usize) -> anyhow::Result<Running> {
        let mut cache = KvCache::new(self.model.config(), self.batch, self.prompt_length + output_length);
        let hidden = self.model.forward_cached(ids, &vec![self.prompt_length; self.batch], &mut cache)?; // [B, P, D]
        let last = hidden.narrow(1, self.prompt_length - 1, 1)?.squeeze(1)?.contiguous()?; // [B, D]
        let logits = self.model.logits(&last)?;
        self.device.synchronize()?;
        Ok(Running { cache, logits })
    }

    /// The next token of every row; logits that are not numbers are an error.
    ///
    /// # Errors
    /// When a logit is not a number.
    pub fn choose(&self, running: &Running) -> anyhow::Result<Vec<u32>> {
        let mut chooser = Chooser::new(Sampling::Greedy, 0)?;
        (0..self.batch).map(|row| Ok(chooser.choose(&running.logits.get(row)?)?)).collect()
    }

    /// Runs one token per row behind the cache.
    ///
    /// # Errors
    /// When the model has no position left.
    pub fn advance(&self, running: &mut Running, tokens: Vec<u32>) -> anyhow::Result<()> {
        let ids = Tensor::from_vec(tokens, (self.batch, 1), &self.device)?;
        let hidden = self.model.forward_cached(&ids, &vec![1; self.batch], &mut running.cache)?; // [B, 1, D]
        running.logits = self.model.logits(&hidden.squeeze(1)?.contiguous()?)?;
        self.device.synchronize()?;
        Ok(())
    }

    /// Answers one request with exactly `output_length` tokens per row.
    ///
    /// # Errors
    /// When a step fails or the timeline contradicts itself.
    pub fn answer(&self, output_length: usize) -> anyhow::Result<Timeline> {
        let t0 = Instant::now();
        let ids = self.ids()?;
        self.device.synchronize()?;
        let t1 = Instant::now();
        let mut running = self.prefill(&ids, output_length)?;
        let t2 = Instant::now();
        let mut chosen = self.choose(&running)?;
        let mut tokens = vec![Instant::now()];
        while tokens.len() < output_length {
            self.advance(&mut running, chosen)?;
            chosen = self.choose(&running)?;
            tokens.push(Instant::now());
        }
        std::hint::black_box(chosen);
        let timeline = Timeline { t0, t1, t2, tokens, batch: self.batch };
        timeline.check()?;
        Ok(timeline)
    }
}

impl Timeline {
    /// `prefill_s`.
    pub fn prefill_s(&self) -> f64 {
        self.t2.duration_since(self.t1).as_secs_f64()
    }

    /// `ttft_s`.
    pub fn ttft_s(&self) -> f64 {
        self.tokens[0].duration_since(self.t0).as_secs_f64()
    }

    /// `e2e_s`.
    pub fn e2e_s(&self) -> f64 {
        self.last().duration_since(self.t0).as_secs_f64()
    }

    /// `tpot_s`; `None` for a single token, which has no gap.
    pub fn tpot_s(&self) -> Option<f64> {
        let gaps = self.tokens.len() - 1;
        (gaps > 0).then(|| self.decode_s() / gaps as f64)
    }

    /// The `itl_s` gaps: the delay of the first token is none of them.
    pub fn itl_s(&self) -> Vec<f64> {
        self.tokens.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64()).collect()
    }

    /// `decode_tokens_per_s`; `None` for a single token.
    pub fn decode_tokens_per_s(&self) -> Option<f64> {
        let gaps = self.tokens.len() - 1;
        (gaps > 0).then(|| (self.batch * gaps) as f64 / self.decode_s())
    }

    /// `request_tokens_per_s`.
    pub fn request_tokens_per_s(&self) -> f64 {
        (self.batch * self.tokens.len()) as f64 / self.e2e_s()
    }

    fn last(&self) -> Instant {
        *self.tokens.last().expect("a request has at least one token")
    }

    fn decode_s(&self) -> f64 {
        self.last().duration_since(self.tokens[0]).as_secs_f64()
    }

    /// The identities that every request satisfies.
    ///
    /// # Errors
    /// The identity that does not hold, with both sides.
    pub fn check(&self) -> anyhow::Result<()> {
        let (prefill, ttft, e2e) = (self.prefill_s(), self.ttft_s(), self.e2e_s());
        ensure!(ttft >= prefill, "expected ttft_s of at least prefill_s ({prefill} s), found {ttft} s");
        let gaps = self.tokens.len() - 1;
        let (Some(tpot), Some(rate)) = (self.tpot_s(), self.decode_tokens_per_s()) else {
            ensure!(gaps == 0, "expected a tpot_s for {} tokens, found none", gaps + 1);
            return Ok(());
        };
        let identities = [
            ("e2e_s = ttft_s + (n - 1)·tpot_s", e2e, ttft + gaps as f64 * tpot),
            ("Σ itl_s = tn - t3", self.itl_s().iter().sum(), self.decode_s()),
            ("batch / decode_tokens_per_s = tpot_s", self.batch as f64 / rate, tpot),
        ];
        for (name, left, right) in identities {
            if (left - right).abs() > CLOCK_S {
                bail!("expected {name}, found {left} s and {right} s");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn timeline(token_ms: &[u64]) -> Timeline {
        let t0 = Instant::now();
        let at = |ms: u64| t0 + Duration::from_millis(ms);
        Timeline { t0, t1: at(1), t2: at(11), tokens: token_ms.iter().map(|&ms| at(ms)).collect(), batch: 2 }
    }

    #[test]
    fn metrics_of_a_hand_made_request() {
        // Tokens at 12, 20 and 32 ms: two gaps of 8 and 12 ms, so 10 ms per token and 2 rows / 10 ms = 200 tokens per second.
        let request = timeline(&[12, 20, 32]);
        request.check().unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(request.prefill_s(), 0.010) && close(request.ttft_s(), 0.012) && close(request.e2e_s(), 0.032));
        assert!(close(request.tpot_s().unwrap(), 0.010) && (request.decode_tokens_per_s().unwrap() - 200.0).abs() < 1e-6);
        assert_eq!(request.itl_s().len(), 2);
        assert!((request.request_tokens_per_s() - 6.0 / 0.032).abs() < 1e-6);
    }

    #[test]
    fn one_token_has_no_time_per_output_token() {
        let request = timeline(&[12]);
        request.check().unwrap();
        assert_eq!((request.tpot_s(), request.decode_tokens_per_s(), request.itl_s().len()), (None, None, 0));
        assert_eq!(request.e2e_s(), request.ttft_s());
    }

    #[test]
    fn a_first_token_before_the_prefill_ended_is_refused() {
        // duration_since saturates at zero, so such a timeline shows as ttft < prefill.
        let mut request = timeline(&[12, 20]);
        request.t1 = request.t0;
        request.t2 = request.t0 + Duration::from_millis(15);
        assert!(request.check().unwrap_err().to_string().contains("ttft_s of at least prefill_s"));
    }
}
