//! A decoder and its tokenizer as a [`LanguageModel`]: encode, look into the cache, batch the rest, answer in order.

use tasks::{Generation, LanguageModel, Profile, Request, RequestError, RequestErrorKind, Response};

use super::cache::{self, ResponseCache};
use super::encode::EncodedPair;
use super::generation::{Prompt, generate_texts};
use super::model::LoadedModel;
use super::score::{Budget, PairScore, Softmax, score_pairs};

/// How requests are answered. Nothing here may change a score beyond rounding, except `profile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerOptions {
    /// Whose quirks are followed.
    pub profile: Profile,
    /// Bounds of a batch.
    pub budget: Budget,
    /// What log-softmax is rounded to.
    pub softmax: Softmax,
}

/// Hears how many requests of a call are answered and how many there are.
pub type Progress<'a> = Box<dyn FnMut(usize, usize) + 'a>;

/// Answers requests with one model.
pub struct Evaluator<'a> {
    model: &'a LoadedModel,
    options: AnswerOptions,
    cache: Option<&'a mut ResponseCache>,
    progress: Option<Progress<'a>>,
    max_tok: usize,
    /// First failure to store answers; the answers themselves are not lost by it.
    pub cache_error: Option<anyhow::Error>,
    /// Positions of a request beyond the bound of [`Evaluator::with_max_tok`]: nothing was then asked.
    pub too_long: Option<usize>,
}

/// A request after encoding.
enum Work {
    /// Indices into the list of pairs; several for a rolling request.
    Pairs {
        first: usize,
        count: usize,
        is_rolling: bool,
    },
    /// Index into the list of prompts.
    Prompt {
        index: usize,
        truncated_tokens: usize,
    },
    Answered(Result<Response, RequestError>),
}

impl<'a> Evaluator<'a> {
    /// An evaluator without cache and progress.
    pub fn new(model: &'a LoadedModel, options: AnswerOptions) -> Self {
        Self { model, options, cache: None, progress: None, max_tok: usize::MAX, cache_error: None, too_long: None }
    }

    /// Uses a response cache.
    #[must_use]
    pub fn with_cache(mut self, cache: &'a mut ResponseCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Holds at most that many cached positions, shared ones once.
    #[must_use]
    pub fn with_max_tok(mut self, max_tok: usize) -> Self {
        self.max_tok = max_tok;
        self
    }

    /// Reports progress.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress<'a>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Hash of everything that an answer depends on.
    fn key(&self, kind: &str, ids: &[&[u32]], settings: &str) -> String {
        let model = self.model;
        let facts = format!(
            "{kind}|{settings}|{:?}|{:?}|{}|{}|{:?}",
            self.options.profile,
            self.options.softmax,
            model.max_length,
            model.codec.policy(),
            model.decoder.dtype(),
        );
        let ids = ids.iter().map(|ids| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
        let parts: Vec<Vec<u8>> =
            [facts.into_bytes(), model.weights_digest.clone().into_bytes(), model.tokenizer_sha256.clone().into_bytes()]
                .into_iter()
                .chain(ids)
                .collect();
        cache::hex(&parts)
    }

    fn encode(&self, request: &Request, pairs: &mut Vec<EncodedPair>, prompts: &mut Vec<Prompt>) -> (Work, String) {
        let (model, profile) = (self.model, self.options.profile);
        let (codec, max_length) = (&model.codec, model.max_length);
        let failed = |error| (Work::Answered(Err(error)), String::new());
        let (windows, is_rolling) = match request {
            Request::Loglikelihood { context, continuation } => {
                (codec.pair(context, continuation, max_length, profile).map(|pair| vec![pair]), false)
            }
            Request::LoglikelihoodRolling { text } => (codec.rolling(text, max_length, profile), true),
            Request::GenerateUntil { context, options } => {
                return match codec.prompt(context, options.max_gen_toks, max_length) {
                    Ok((ids, truncated_tokens)) => {
                        let key = self.key("generate", &[&ids], &settings(options));
                        prompts.push(Prompt { ids, options: options.clone() });
                        (Work::Prompt { index: prompts.len() - 1, truncated_tokens }, key)
                    }
                    Err(error) => failed(error),
                };
            }
        };
        match windows {
            Ok(windows) => {
                let kind = if is_rolling { "rolling" } else { "loglikelihood" };
                let ids: Vec<&[u32]> = windows.iter().flat_map(|pair| [pair.input.as_slice(), pair.targets.as_slice()]).collect();
                let key = self.key(kind, &ids, "");
                let (first, count) = (pairs.len(), windows.len());
                pairs.extend(windows);
                (Work::Pairs { first, count, is_rolling }, key)
            }
            Err(error) => failed(error),
        }
    }
}

/// Generation settings as part of a key.
fn settings(options: &Generation) -> String {
    serde_json::to_string(options).unwrap_or_default()
}

impl LanguageModel for Evaluator<'_> {
    fn answer(&mut self, requests: &[Request]) -> Vec<Result<Response, RequestError>> {
        let (mut pairs, mut prompts) = (Vec::new(), Vec::new());
        let mut work = Vec::with_capacity(requests.len());
        for request in requests {
            let (lengths, prompt_count) = (pairs.len(), prompts.len());
            let (item, key) = self.encode(request, &mut pairs, &mut prompts);
            match self.cache.as_ref().and_then(|cache| cache.get(&key)) {
                Some(response) => {
                    pairs.truncate(lengths);
                    prompts.truncate(prompt_count);
                    work.push((Work::Answered(Ok(response.clone())), key));
                }
                None => work.push((item, key)),
            }
        }

        let scored = pairs.iter().map(|pair| pair.input.len());
        let longest =
            scored.chain(prompts.iter().map(|prompt| prompt.ids.len() + prompt.options.max_gen_toks)).max().unwrap_or(0);
        if longest > self.max_tok {
            self.too_long = Some(longest);
            let message = format!("expected at most {} positions within the bound of memory, found {longest}", self.max_tok);
            return vec![Err(RequestError { kind: RequestErrorKind::TooLong, message }); requests.len()];
        }
        // One sequence may always go on, whatever is held beside it.
        let cache_tokens = self.options.budget.cache_tokens.min(self.max_tok - longest);
        let budget = Budget { cache_tokens, ..self.options.budget };

        let mut sink = Sink::new(&work, pairs.len(), prompts.len(), requests.len());
        let (cache, progress, cache_error) = (&mut self.cache, &mut self.progress, &mut self.cache_error);
        let mut store = |sink: &mut Sink| {
            if let (Some(cache), true) = (cache.as_mut(), cache_error.is_none()) {
                *cache_error = cache.put(std::mem::take(&mut sink.fresh)).err();
            }
            if let Some(progress) = progress {
                progress(sink.answered, requests.len());
            }
        };
        store(&mut sink);
        let scored = score_pairs(&self.model.decoder, &pairs, budget, self.options.softmax, &mut |finished| {
            for &(pair, score) in finished {
                sink.pair(&pairs, pair, score);
            }
            store(&mut sink);
        });
        let generated = scored.and_then(|()| {
            let model = self.model;
            generate_texts(&model.decoder, &model.codec, &prompts, self.options.profile, budget, &mut |texts| {
                for (prompt, text) in texts {
                    sink.text(prompt, text);
                }
                store(&mut sink);
            })
        });
        let failure = generated.err().map(|error| error.to_string());
        sink.responses
            .into_iter()
            .map(|response| {
                response.unwrap_or_else(|| {
                    let message = failure.clone().unwrap_or_else(|| "the request was not answered".to_owned());
                    Err(RequestError { kind: RequestErrorKind::Model, message })
                })
            })
            .collect()
    }
}

/// Collects finished pairs and texts into responses.
struct Sink {
    responses: Vec<Option<Result<Response, RequestError>>>,
    /// Answers not yet stored.
    fresh: Vec<(String, Response)>,
    answered: usize,
    /// Request of each pair and of each prompt.
    pair_owner: Vec<usize>,
    prompt_owner: Vec<usize>,
    items: Vec<Item>,
}

/// Progress of one request.
struct Item {
    key: String,
    first: usize,
    is_rolling: bool,
    truncated_tokens: usize,
    scores: Vec<Option<PairScore>>,
}

impl Sink {
    fn new(work: &[(Work, String)], pairs: usize, prompts: usize, requests: usize) -> Self {
        let mut sink = Self {
            responses: vec![None; requests],
            fresh: Vec::new(),
            answered: 0,
            pair_owner: vec![0; pairs],
            prompt_owner: vec![0; prompts],
            items: Vec::with_capacity(requests),
        };
        for (request, (work, key)) in work.iter().enumerate() {
            let mut item = Item { key: key.clone(), first: 0, is_rolling: false, truncated_tokens: 0, scores: Vec::new() };
            match work {
                Work::Pairs { first, count, is_rolling } => {
                    sink.pair_owner[*first..first + count].fill(request);
                    (item.first, item.is_rolling, item.scores) = (*first, *is_rolling, vec![None; *count]);
                    if *count == 0 {
                        sink.responses[request] = Some(Ok(Response::Rolling { loglikelihood: 0.0 })); // an empty text
                        sink.answered += 1;
                    }
                }
                Work::Prompt { index, truncated_tokens } => {
                    sink.prompt_owner[*index] = request;
                    item.truncated_tokens = *truncated_tokens;
                }
                Work::Answered(answer) => {
                    sink.responses[request] = Some(answer.clone());
                    sink.answered += 1;
                }
            }
            sink.items.push(item);
        }
        sink
    }

    fn pair(&mut self, pairs: &[EncodedPair], pair: usize, score: PairScore) {
        let request = self.pair_owner[pair];
        let item = &mut self.items[request];
        item.scores[pair - item.first] = Some(score);
        let Some(scores) = item.scores.iter().copied().collect::<Option<Vec<_>>>() else { return };
        let loglikelihood: f64 = scores.iter().map(|score| score.loglikelihood).sum();
        let response = if !loglikelihood.is_finite() {
            let message =
                format!("log-likelihood: expected a finite number, found {loglikelihood}: the model's logits are broken");
            Err(RequestError { kind: RequestErrorKind::NotFinite, message })
        } else if item.is_rolling {
            Ok(Response::Rolling { loglikelihood })
        } else {
            let EncodedPair { truncated_tokens, boundary, .. } = pairs[pair];
            Ok(Response::Loglikelihood {
                loglikelihood,
                is_greedy: scores.iter().all(|score| score.is_greedy),
                truncated_tokens,
                boundary,
            })
        };
        self.finish(request, response);
    }

    fn text(&mut self, prompt: usize, text: Result<String, RequestError>) {
        let request = self.prompt_owner[prompt];
        let truncated_tokens = self.items[request].truncated_tokens;
        self.finish(request, text.map(|text| Response::Text { text, truncated_tokens }));
    }

    fn finish(&mut self, request: usize, response: Result<Response, RequestError>) {
        if let Ok(response) = &response {
            self.fresh.push((self.items[request].key.clone(), response.clone()));
        }
        self.responses[request] = Some(response);
        self.answered += 1;
    }
}
