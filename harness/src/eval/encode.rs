//! Texts to token ids, as the reference harness cuts them: which tokens condition, which are scored, what is dropped on the left.
//!
//! ```text
//! context "The answer is "  continuation "42"
//!   trailing white space moves right      context "The answer is"   continuation " 42"
//!   W = encode(context ++ continuation)   C = encode(context)
//!   context tokens = C                    continuation tokens = W[|C|..]
//! model input = last L + 1 of (context ++ continuation), without the final one
//! ```
//! Source: EleutherAI/lm-evaluation-harness 0.4.13, `lm_eval/api/model.py` and `lm_eval/models/huggingface.py` (read as behaviour, pinned by
//! the parity pack); quirks marked in [`Profile::Compat`].

use tasks::{Profile, RequestError, RequestErrorKind};
use tokenizers::Tokenizer;

/// A tokenizer with the facts about special tokens that its model folder states.
#[derive(Debug, Clone)]
pub struct Codec {
    tokenizer: Tokenizer,
    bos: Option<u32>,
    /// Token that stands before a text without context: the configured one, else BOS, else EOS.
    prefix: Option<u32>,
    /// Ids that end a generation.
    end_ids: Vec<u32>,
    /// Text of the end-of-text token, a stop string of every generation.
    end_text: Option<String>,
    /// Forces special tokens on or off; nothing leaves it to the tokenizer's own configuration.
    add_bos: Option<bool>,
}

/// Special tokens of a model folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of text.
    pub bos: Option<u32>,
    /// Ends of text; the first is *the* EOS.
    pub eos: Vec<u32>,
    /// Forces special tokens on or off.
    pub add_bos: Option<bool>,
    /// Token before a text without context, instead of BOS.
    pub prefix: Option<u32>,
}

/// A text to be scored after a context, as tokens, cut to the model's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPair {
    /// What the model is given.
    pub input: Vec<u32>,
    /// What it should predict at the last `targets.len()` positions of `input`.
    pub targets: Vec<u32>,
    /// Tokens dropped on the left.
    pub truncated_tokens: usize,
    /// A token spans the join of context and continuation.
    pub boundary: bool,
}

impl Codec {
    /// Wraps a tokenizer; its own padding and truncation are switched off.
    pub fn new(mut tokenizer: Tokenizer, special: SpecialTokens) -> Self {
        tokenizer.with_padding(None);
        // Only a stride above the length can be refused, and there is no length.
        let _ = tokenizer.with_truncation(None);
        let end_text = special.eos.first().and_then(|&id| tokenizer.id_to_token(id));
        let prefix = special.prefix.or(special.bos).or_else(|| special.eos.first().copied());
        Self { tokenizer, bos: special.bos, prefix, end_ids: special.eos, end_text, add_bos: special.add_bos }
    }

    /// Ids that end a generation.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// Text of the end-of-text token.
    pub fn end_text(&self) -> Option<&str> {
        self.end_text.as_deref()
    }

    /// The special-token policy in words, for cache keys and records.
    pub fn policy(&self) -> String {
        format!("add_bos={:?} prefix={:?} end={:?}", self.add_bos, self.prefix, self.end_ids)
    }

    /// Ids of a text under the special-token policy; a text that begins with the prefix token's text gets none added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        let begins_with_prefix =
            self.prefix.and_then(|id| self.tokenizer.id_to_token(id)).is_some_and(|prefix| text.starts_with(&prefix));
        let mut ids = self.encode_with(text, !begins_with_prefix && self.add_bos.unwrap_or(true))?;
        // Asked for by the user of a tokenizer whose own configuration adds none.
        if let (Some(true), Some(bos), false) = (self.add_bos, self.bos, begins_with_prefix)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, RequestError> {
        match self.tokenizer.encode_fast(text, add_special_tokens) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(fail(RequestErrorKind::Model, format!("tokenizer: {error}"))),
        }
    }

    /// Text of ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String, RequestError> {
        self.tokenizer.decode(ids, true).map_err(|error| fail(RequestErrorKind::Model, format!("tokenizer: {error}")))
    }

    /// Encodes a pair and cuts it to `max_length` positions. `alone` keeps the ids of the context alone for the next pair with the same context.
    ///
    /// # Errors
    /// No context token and no prefix token; no continuation token left (`compat`, a token across the join); continuation longer than the model.
    pub fn pair(
        &self,
        context: &str,
        continuation: &str,
        max_length: usize,
        profile: Profile,
        alone: &mut Option<Vec<u32>>,
    ) -> Result<EncodedPair, RequestError> {
        let kept = context.trim_end_matches(is_python_space);
        let moved = format!("{}{continuation}", &context[kept.len()..]);
        if context.is_empty() || (kept.is_empty() && profile == Profile::Canonical) {
            let (context, continuation) = self.after_prefix(self.encode_with(&moved, false)?)?;
            return window(&context, &continuation, max_length, false);
        }
        let whole = self.encode(&format!("{kept}{moved}"))?;
        let alone = match alone {
            Some(ids) => ids,
            None => alone.insert(self.encode(kept)?),
        };
        let common = whole.iter().zip(&*alone).take_while(|(a, b)| a == b).count();
        let boundary = common < alone.len();
        if boundary && profile == Profile::Canonical {
            if common == 0 {
                let (context, continuation) = self.after_prefix(whole)?;
                return window(&context, &continuation, max_length, true);
            }
            return window(&whole[..common], &whole[common..], max_length, true);
        }
        let continuation = whole.get(alone.len()..).unwrap_or(&[]);
        if continuation.is_empty() {
            let message =
                format!("a token spans the join, none is left to score: context ends `{}`, continuation `{moved}`", tail(kept));
            return Err(fail(RequestErrorKind::EmptyContinuation, message));
        }
        if alone.is_empty() {
            let message = "the context is white space only and the tokenizer adds no special token".to_owned();
            return Err(fail(RequestErrorKind::EmptyContext, message));
        }
        window(alone, continuation, max_length, boundary)
    }

    /// A text without context: the prefix token conditions, and is neither scored nor doubled.
    fn after_prefix(&self, ids: Vec<u32>) -> Result<(Vec<u32>, Vec<u32>), RequestError> {
        let Some(prefix) = self.prefix else {
            let message = "the context is empty and the tokenizer has neither BOS nor EOS".to_owned();
            return Err(fail(RequestErrorKind::EmptyContext, message));
        };
        let ids = if ids.first() == Some(&prefix) { ids[1..].to_vec() } else { ids };
        if ids.is_empty() {
            return Err(fail(RequestErrorKind::EmptyContinuation, "context and continuation are both empty".to_owned()));
        }
        Ok((vec![prefix], ids))
    }

    /// Windows of a whole text: every token is a target exactly once, later windows keep as much context as fits.
    ///
    /// # Errors
    /// When the tokenizer has no prefix token.
    pub fn rolling(&self, text: &str, max_length: usize, profile: Profile) -> Result<Vec<EncodedPair>, RequestError> {
        let ids = match profile {
            // The reference adds BOS like anywhere else, and so feeds it twice and scores it once.
            Profile::Compat => self.encode(text)?,
            Profile::Canonical => self.encode_with(text, false)?,
        };
        let Some(prefix) = self.prefix else {
            let message = "rolling log-likelihood needs a prefix token, and the tokenizer has neither BOS nor EOS".to_owned();
            return Err(fail(RequestErrorKind::EmptyContext, message));
        };
        let mut windows = Vec::new();
        let first = ids.len().min(max_length);
        if first > 0 {
            let input = std::iter::once(prefix).chain(ids[..first - 1].iter().copied()).collect();
            windows.push(EncodedPair { input, targets: ids[..first].to_vec(), truncated_tokens: 0, boundary: false });
        }
        let mut done = first;
        while done < ids.len() {
            let predicted = (ids.len() - done).min(max_length);
            let end = done + predicted;
            let input = ids[end - 1 - max_length..end - 1].to_vec();
            windows.push(EncodedPair { input, targets: ids[done..end].to_vec(), truncated_tokens: 0, boundary: false });
            done = end;
        }
        Ok(windows)
    }

    /// Prompt of a generation, cut on the left so that `max_new` tokens fit. Returns the ids and how many were dropped.
    ///
    /// # Errors
    /// No room for a prompt, or an empty prompt.
    pub fn prompt(&self, context: &str, max_new: usize, max_length: usize) -> Result<(Vec<u32>, usize), RequestError> {
        if max_new == 0 || max_new >= max_length {
            let message =
                format!("max_gen_toks: expected at least 1 and less than the model's {max_length} positions, found {max_new}");
            return Err(fail(RequestErrorKind::TooLong, message));
        }
        let ids = self.encode(context)?;
        if ids.is_empty() {
            let message = "generation needs at least one token of context, and the tokenizer adds none".to_owned();
            return Err(fail(RequestErrorKind::EmptyContext, message));
        }
        let dropped = ids.len().saturating_sub(max_length - max_new);
        Ok((ids[dropped..].to_vec(), dropped))
    }
}

/// Cuts `context ++ continuation` to the model's length.
fn window(context: &[u32], continuation: &[u32], max_length: usize, boundary: bool) -> Result<EncodedPair, RequestError> {
    if continuation.len() > max_length {
        let message =
            format!("continuation: expected at most {max_length} tokens (the model's length), found {}", continuation.len());
        return Err(fail(RequestErrorKind::TooLong, message));
    }
    let all: Vec<u32> = context.iter().chain(continuation).copied().collect();
    let truncated_tokens = all.len().saturating_sub(max_length + 1);
    let input = all[truncated_tokens..all.len() - 1].to_vec();
    Ok(EncodedPair { input, targets: continuation.to_vec(), truncated_tokens, boundary })
}

/// White space as Python's `str.rstrip` sees it: Unicode's plus the separators U+001C to U+001F.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn fail(kind: RequestErrorKind, message: String) -> RequestError {
    RequestError { kind, message }
}

/// The last characters of a text, for messages.
fn tail(text: &str) -> String {
    let start = text.char_indices().rev().nth(19).map_or(0, |(at, _)| at);
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_drop_the_oldest_tokens_first() {
        // L = 4: at most 4 positions are fed, so 5 of the 7 tokens stay and the last is never fed.
        let pair = window(&[1, 2, 3, 4, 5], &[6, 7], 4, false).unwrap();
        assert_eq!(pair, EncodedPair { input: vec![3, 4, 5, 6], targets: vec![6, 7], truncated_tokens: 2, boundary: false });
    }

    #[test]
    fn a_continuation_as_long_as_the_model_is_scored_and_a_longer_one_refused() {
        assert_eq!(window(&[1], &[2, 3, 4], 3, false).unwrap().input, [1, 2, 3]);
        assert_eq!(window(&[1], &[2, 3, 4, 5], 3, false).unwrap_err().kind, RequestErrorKind::TooLong);
    }

    #[test]
    fn python_white_space_includes_the_separators() {
        assert!(is_python_space('\u{1c}') && is_python_space('\u{3000}') && !is_python_space('\u{200b}'));
    }
}
