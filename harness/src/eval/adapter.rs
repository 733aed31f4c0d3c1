//! A decoder and its tokenizer as a [`LanguageModel`]: encode, look into the cache, batch the rest, answer in order.

use rayon::prelude::*;
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
}

/// Texts to tokens, on any thread.
#[derive(Clone, Copy)]
struct Encoder<'a> {
    model: &'a LoadedModel,
    options: AnswerOptions,
}

/// A request as tokens.
enum Encoded {
    Pairs { windows: Vec<EncodedPair>, is_rolling: bool },
    Prompt { prompt: Prompt, truncated_tokens: usize },
}

impl Encoder<'_> {
    /// Every request with the key of its answer. Requests that stand side by side with one context, as a question's options do, encode it once.
    fn encode_all(self, requests: &[Request]) -> Vec<(Result<Encoded, RequestError>, String)> {
        let questions: Vec<&[Request]> = requests.chunk_by(|a, b| a.context() == b.context()).collect();
        let encode = |question: &&[Request]| {
            let mut context = None;
            question.iter().map(|request| self.encode(request, &mut context)).collect::<Vec<_>>()
        };
        questions.par_iter().flat_map_iter(encode).collect()
    }

    /// Hash of everything that an answer depends on.
    fn key(self, kind: &str, ids: &[&[u32]], settings: &str) -> String {
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

    fn encode(self, request: &Request, alone: &mut Option<Vec<u32>>) -> (Result<Encoded, RequestError>, String) {
        let (codec, max_length, profile) = (&self.model.codec, self.model.max_length, self.options.profile);
        let encoded = match request {
            Request::Loglikelihood { context, continuation } => codec
                .pair(context, continuation, max_length, profile, alone)
                .map(|pair| Encoded::Pairs { windows: vec![pair], is_rolling: false }),
            Request::LoglikelihoodRolling { text } => {
                codec.rolling(text, max_length, profile).map(|windows| Encoded::Pairs { windows, is_rolling: true })
            }
            Request::GenerateUntil { context, options } => codec
                .prompt(context, options.max_gen_toks, max_length)
                .map(|(ids, cut)| Encoded::Prompt { prompt: Prompt { ids, options: options.clone() }, truncated_tokens: cut }),
        };
        let key = match &encoded {
            Ok(Encoded::Pairs { windows, is_rolling }) => {
                let ids: Vec<&[u32]> = windows.iter().flat_map(|pair| [pair.input.as_slice(), pair.targets.as_slice()]).collect();
                self.key(if *is_rolling { "rolling" } else { "loglikelihood" }, &ids, "")
            }
            Ok(Encoded::Prompt { prompt, .. }) => self.key("generate", &[&prompt.ids], &settings(&prompt.options)),
            Err(_) => String::new(),
        };
        (encoded, key)
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
        for (encoded, key) in (Encoder { model: self.model, options: self.options }).encode_all(requests) {
            let stored = self.cache.as_ref().and_then(|cache| cache.get(&key));
            let item = match (stored, encoded) {
                (Some(response), _) => Work::Answered(Ok(response.clone())),
                (None, Err(error)) => Work::Answered(Err(error)),
                (None, Ok(Encoded::Pairs { windows, is_rolling })) => {
                    let (first, count) = (pairs.len(), windows.len());
                    pairs.extend(windows);
                    Work::Pairs { first, count, is_rolling }
                }
                (None, Ok(Encoded::Prompt { prompt, truncated_tokens })) => {
                    prompts.push(prompt);
                    Work::Prompt { index: prompts.len() - 1, truncated_tokens }
                }
            };
            work.push((item, key));
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
