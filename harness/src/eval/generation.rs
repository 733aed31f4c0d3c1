//! Greedy and sampled texts of many prompts: batches by length, stop strings on decoded text, the reference's final cut.
//!
//! ```text
//! prompts, longest first ──batches within the cache budget──> ids ──decode──> text ──cut at each stop string in list order──> answer
//! ```
//! An item leaves its batch as soon as its decoded text holds a stop string; what it had generated after that point is cut away.

use candle_core::Result;
use models::{Decoder, GenerateOptions, Sampling, generate};
use tasks::{Generation, Profile, RequestError};

use super::encode::Codec;
use super::score::Budget;

/// One prompt to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Token ids, already cut to fit.
    pub ids: Vec<u32>,
    /// Settings.
    pub options: Generation,
}

/// Hears the texts of finished prompts, by index.
pub type Written<'a> = dyn FnMut(Vec<(usize, std::result::Result<String, RequestError>)>) + 'a;

/// Prompt ids decoded in front of the answer in the canonical profile, so that the decoder keeps the answer's leading space.
const DECODE_CONTEXT_TOK: usize = 4;

/// Continues every prompt; `done` hears of each finished batch.
///
/// # Errors
/// When a forward pass fails.
pub fn generate_texts(
    decoder: &Decoder,
    codec: &Codec,
    prompts: &[Prompt],
    profile: Profile,
    budget: Budget,
    done: &mut Written<'_>,
) -> Result<()> {
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    // Settings in one batch must agree; within them the longest prompts go first.
    let settings =
        |i: usize| (prompts[i].options.max_gen_toks, prompts[i].options.temperature.to_bits(), prompts[i].options.do_sample);
    order.sort_by(|&a, &b| settings(a).cmp(&settings(b)).then(prompts[b].ids.len().cmp(&prompts[a].ids.len())).then(a.cmp(&b)));
    let mut rest = order.as_slice();
    while let Some(&first) = rest.first() {
        let length = prompts[first].ids.len() + prompts[first].options.max_gen_toks;
        let rows = (budget.cache_tokens / length).min(budget.batch_tokens / prompts[first].ids.len()).max(1);
        let count = rest.iter().take(rows).take_while(|&&i| settings(i) == settings(first)).count();
        let (batch, others) = rest.split_at(count);
        rest = others;
        let ids: Vec<Vec<u32>> = batch.iter().map(|&i| prompts[i].ids.clone()).collect();
        let options = &prompts[first].options;
        let sampling = if options.do_sample && options.temperature > 0.0 {
            Sampling::Random { temperature: options.temperature, top_k: None, top_p: None, seed: 0 }
        } else {
            Sampling::Greedy
        };
        let generate_options = GenerateOptions { max_new_tokens: options.max_gen_toks, sampling };
        let stop = |row: usize, generated: &[u32]| {
            let until = &prompts[batch[row]].options.until;
            let ended = generated.last().is_some_and(|id| codec.end_ids().contains(id));
            let text = || codec.decode(generated).unwrap_or_default();
            ended || stops(until, profile, text)
        };
        let generated = generate(decoder, &ids, &generate_options, stop)?;
        let texts = batch.iter().zip(&generated).map(|(&i, ids)| (i, finish(codec, &prompts[i], ids, profile))).collect();
        done(texts);
    }
    Ok(())
}

/// Whether decoding may end: some stop string is in the text. An empty one is in every text (`compat`), or ignored.
fn stops(until: &[String], profile: Profile, text: impl FnOnce() -> String) -> bool {
    if until.iter().any(String::is_empty) && profile == Profile::Compat {
        return true;
    }
    if until.iter().all(String::is_empty) {
        return false;
    }
    let text = text();
    until.iter().filter(|stop| !stop.is_empty()).any(|stop| text.contains(stop.as_str()))
}

/// The answer's text, cut at the first occurrence of each stop string in list order, the end-of-text string last.
fn finish(codec: &Codec, prompt: &Prompt, generated: &[u32], profile: Profile) -> std::result::Result<String, RequestError> {
    let mut text = match profile {
        Profile::Compat => codec.decode(generated)?,
        Profile::Canonical => {
            let tail = &prompt.ids[prompt.ids.len().saturating_sub(DECODE_CONTEXT_TOK)..];
            let before = codec.decode(tail)?;
            let whole = codec.decode(&[tail, generated].concat())?;
            match whole.strip_prefix(&before) {
                Some(text) => text.to_owned(),
                None => codec.decode(generated)?, // a character that spans the join: decode the answer alone
            }
        }
    };
    for stop in prompt.options.until.iter().map(String::as_str).chain(codec.end_text()).filter(|stop| !stop.is_empty()) {
        if let Some(at) = text.find(stop) {
            text.truncate(at);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_stop_string_ends_at_once_in_compat_only() {
        let until = vec![String::new()];
        assert!(stops(&until, Profile::Compat, || "x".into()));
        assert!(!stops(&until, Profile::Canonical, || "x".into()));
        assert!(stops(&["Q:".to_owned()], Profile::Canonical, || "a\nQ: b".into()));
    }
}
