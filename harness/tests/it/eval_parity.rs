//! The evaluation engine against the reference harness: every stored document and every awkward single request of the parity pack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use harness::eval::encode::SpecialTokens;
use harness::eval::runner::{AskOptions, TaskRequest, TaskResult, run_task};
use harness::eval::{AnswerOptions, Budget, Evaluator, LoadedModel, Softmax};
use serde_json::Value;
use tasks::{DataSource, Generation, LanguageModel as _, Profile, Request, Response};

/// f32 sums in another order: 1e-4 nats, and 2e-6 of the value.
fn is_close(actual: f64, expected: f64) -> bool {
    (actual - expected).abs() <= 1e-4 + 2e-6 * expected.abs()
}

/// The `lm_eval` pack and the benchmark folder beside the packs.
fn pack() -> Option<(PathBuf, PathBuf)> {
    let packs = std::env::var_os("PARITY_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/parity")), PathBuf::from);
    let pack = packs.join("lm_eval");
    if !pack.join("model/model.safetensors").is_file() {
        eprintln!("skipped: no reference pack at {}", pack.display());
        return None;
    }
    Some((pack, packs.join("../data")))
}

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn load(pack: &Path, special: SpecialTokens) -> LoadedModel {
    LoadedModel::from_pretrained_with(&pack.join("model"), DType::F32, &Device::Cpu, special).unwrap()
}

fn compat(budget: Budget) -> AnswerOptions {
    AnswerOptions { profile: Profile::Compat, budget, softmax: Softmax::F32 }
}

/// Runs of the pack whose documents need no program execution: (file stem, task, shots).
fn runs(pack: &Path) -> Vec<(String, String, Option<usize>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(pack.join("expected")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".jsonl").filter(|stem| !stem.starts_with("api_")) else { continue };
        let (task, shots) = match stem.rsplit_once('.') {
            Some((task, shots)) => (task.to_owned(), shots.strip_suffix("shot").map(|shots| shots.parse().unwrap())),
            None => (stem.to_owned(), None),
        };
        found.push((stem.to_owned(), task, shots));
    }
    found.sort();
    found
}

/// What a pack's data folder lacks is in the benchmark folder (few-shot pools).
fn ask(model: &LoadedModel, budget: Budget, pack: &Path, data: &Path, task: &str, shots: Option<usize>) -> TaskResult {
    let folders = [pack.join("data"), data.to_owned()];
    let request = TaskRequest { task: task.to_owned(), num_fewshot: shots, ..TaskRequest::default() };
    let mut evaluator = Evaluator::new(model, compat(budget));
    let asked = run_task(&request, AskOptions::new(Profile::Compat), DataSource::Dirs(&folders), &mut evaluator, None).unwrap();
    let outcome = asked.and_then(|result| result.conclude(Profile::Compat).unwrap());
    *outcome.unwrap_or_else(|why| panic!("{task}: not run: {why:?}"))
}

#[test]
fn multiple_choice_and_rolling_equal_the_reference() {
    let Some((pack, data)) = pack() else { return };
    let model = load(&pack, SpecialTokens::default());
    let results: Value = serde_json::from_str(&std::fs::read_to_string(pack.join("expected/results.json")).unwrap()).unwrap();
    let (mut documents, mut requests) = (0, 0);
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    for (stem, task, shots) in runs(&pack) {
        let expected = rows(&pack.join(format!("expected/{stem}.jsonl")));
        let is_choice = expected[0].get("choices").is_some();
        if !is_choice && expected[0].get("text").is_none() {
            continue; // generations have their own test
        }
        let result = ask(&model, Budget::default(), &pack, &data, &task, shots);
        assert_eq!((result.samples.len(), result.failed), (expected.len(), 0), "{stem}");
        for (sample, row) in result.samples.iter().zip(&expected) {
            let what = format!("{stem}, document {}", row["doc_id"]);
            let answers: Vec<(&Value, &Value)> = if is_choice {
                sample.requests.iter().zip(row["choices"].as_array().unwrap()).collect()
            } else {
                vec![(&sample.requests[0], row)]
            };
            for (answer, reference) in answers {
                let text = if is_choice { ("context", row) } else { ("text", row) };
                assert_eq!(answer[text.0], text.1[text.0], "{what}");
                let (actual, value) = (answer["loglikelihood"].as_f64().unwrap(), reference["logprob"].as_f64().unwrap());
                assert!(is_close(actual, value), "{what}: log-likelihood {actual}, reference {value}");
                if is_choice {
                    assert_eq!(answer["continuation"], reference["continuation"], "{what}");
                    assert_eq!(answer["is_greedy"], reference["is_greedy"], "{what}");
                }
                let entry = worst.entry(task.split_once('_').map_or(task.as_str(), |(head, _)| head).to_owned()).or_default();
                *entry = entry.max((actual - value).abs());
                requests += 1;
            }
            if is_choice {
                for (metric, value) in row["metrics"]["none"].as_object().unwrap() {
                    assert_eq!(sample.metrics[metric].number(), value.as_f64(), "{what}: {metric}");
                }
            }
            documents += 1;
        }
        for aggregate in &result.aggregates {
            // Perplexities have this project's names here (style.md section 3).
            let key = format!("{},none", aggregate.metric.replace("_ppl", "_perplexity"));
            let Some(value) = results[&stem]["results"][&key].as_f64() else { panic!("{stem}: no reference value for {key}") };
            let tolerance = if is_choice { 0.0 } else { 1e-4 * value };
            assert!((aggregate.value - value).abs() <= tolerance, "{stem}: {key}: {} and {value}", aggregate.value);
        }
    }
    eprintln!("{documents} documents, {requests} requests; largest |difference| in nats per task: {worst:?}");
}

#[test]
fn batching_and_prefix_sharing_change_no_score() {
    let Some((pack, data)) = pack() else { return };
    let model = load(&pack, SpecialTokens::default());
    let budgets = [
        Budget { batch_tokens: usize::MAX, cache_tokens: 1, decode_rows: 1, share_prefixes: false }, // one request at a time
        Budget { share_prefixes: false, ..Budget::default() },
        Budget { batch_tokens: 300, cache_tokens: 4000, decode_rows: 3, share_prefixes: true },
    ];
    for task in ["hellaswag", "mmlu_global_facts", "belebele_eng_Latn"] {
        let shots = (task == "mmlu_global_facts").then_some(5);
        let reference = ask(&model, Budget::default(), &pack, &data, task, shots);
        for budget in budgets {
            let other = ask(&model, budget, &pack, &data, task, shots);
            for (a, b) in reference.samples.iter().zip(&other.samples) {
                assert_eq!(a.metrics, b.metrics, "{task}, document {}, {budget:?}", a.doc_id);
                for (x, y) in a.requests.iter().zip(&b.requests) {
                    let difference = (x["loglikelihood"].as_f64().unwrap() - y["loglikelihood"].as_f64().unwrap()).abs();
                    // Not even a bit: every sum has one order, whatever stands beside it.
                    assert!(difference == 0.0, "{task}, document {}, {budget:?}: {difference:e}", a.doc_id);
                }
            }
        }
    }
}

#[test]
fn single_requests_equal_the_reference() {
    let Some((pack, _)) = pack() else { return };
    let mut models: BTreeMap<String, LoadedModel> = BTreeMap::new();
    let mut worst = 0.0f64;
    for (file, is_rolling) in [("api_loglikelihood", false), ("api_loglikelihood_rolling", true)] {
        for row in rows(&pack.join(format!("expected/{file}.jsonl"))) {
            let case = row["case"].as_str().unwrap();
            let settings = format!("{} {} {}", row["add_bos_token"], row["max_length"], row["prefix_token_id"]);
            let model = models.entry(settings).or_insert_with(|| {
                let special = SpecialTokens {
                    add_bos: row["add_bos_token"].as_bool(),
                    prefix: row["prefix_token_id"].as_u64().map(|id| id as u32),
                    ..SpecialTokens::default()
                };
                let mut model = load(&pack, special);
                model.max_length = row["max_length"].as_u64().map_or(model.max_length, |length| length as usize);
                model
            });
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            let request = if is_rolling {
                Request::LoglikelihoodRolling { text: text("text") }
            } else {
                Request::Loglikelihood { context: text("context"), continuation: text("continuation") }
            };
            let answer = Evaluator::new(model, compat(Budget::default())).answer(std::slice::from_ref(&request)).remove(0);
            let Some(expected) = row["logprob"].as_f64() else {
                assert!(answer.is_err(), "{case}: the reference gives an error, ours {answer:?}");
                continue;
            };
            let (actual, greedy, truncated) = match answer.unwrap_or_else(|error| panic!("{case}: {error}")) {
                Response::Loglikelihood { loglikelihood, is_greedy, truncated_tokens, .. } => {
                    (loglikelihood, Some(is_greedy), Some(truncated_tokens as u64))
                }
                Response::Rolling { loglikelihood } => (loglikelihood, None, None),
                Response::Text { .. } => unreachable!("no text was asked for"),
            };
            assert!(is_close(actual, expected), "{case}: {actual}, reference {expected}");
            assert_eq!((greedy, truncated), (row["is_greedy"].as_bool(), row["truncated_tokens"].as_u64()), "{case}");
            worst = worst.max((actual - expected).abs() / (1e-4 + 2e-6 * expected.abs()));
        }
    }
    eprintln!("largest difference: {worst:.3} of the tolerance");
}

#[test]
fn generations_equal_the_reference() {
    let Some((pack, data)) = pack() else { return };
    let model = load(&pack, SpecialTokens::default());
    let (mut equal, mut near_ties) = (0, 0);
    let mut check = |what: String, text: &str, row: &Value| {
        if text == row["generation"].as_str().unwrap() {
            equal += 1;
        } else {
            // A choice between two logits closer than f32 resolves may fall the other way, and then the rest may differ.
            let ties = row["near_ties"].as_array().is_some_and(|ties| !ties.is_empty());
            assert!(ties, "{what}:\n  ours      {text:?}\n  reference {}", row["generation"]);
            near_ties += 1;
        }
    };
    for row in rows(&pack.join("expected/api_generate_until.jsonl")) {
        let case = row["case"].as_str().unwrap();
        let settings = &row["gen_kwargs"];
        let mut options = Generation::default();
        match &settings["until"] {
            Value::String(stop) => options.until = vec![stop.clone()],
            Value::Array(stops) => options.until = stops.iter().map(|stop| stop.as_str().unwrap().to_owned()).collect(),
            _ => options.until = Vec::new(), // a bare request has no few-shot delimiter
        }
        let tokens = settings["max_gen_toks"].as_u64().or(settings["max_new_tokens"].as_u64());
        options.max_gen_toks = tokens.map_or(options.max_gen_toks, |tokens| tokens as usize);
        let request = Request::GenerateUntil { context: row["context"].as_str().unwrap().to_owned(), options };
        let answer = Evaluator::new(&model, compat(Budget::default())).answer(std::slice::from_ref(&request)).remove(0);
        match (answer, row.get("error")) {
            (Ok(Response::Text { text, .. }), None) => check(case.to_owned(), &text, &row),
            (Err(_), Some(_)) => {}
            (answer, error) => panic!("{case}: ours {answer:?}, reference error {error:?}"),
        }
    }
    for (stem, task, shots) in runs(&pack) {
        let expected = rows(&pack.join(format!("expected/{stem}.jsonl")));
        let needs_programs = tasks::task(&task, Profile::Compat).unwrap().spec().needs_executor;
        if expected[0].get("generation").is_none() || needs_programs {
            continue;
        }
        let result = ask(&model, Budget::default(), &pack, &data, &task, shots);
        for (sample, row) in result.samples.iter().zip(&expected) {
            let what = format!("{stem}, document {}", row["doc_id"]);
            assert_eq!(sample.requests[0]["context"], row["context"], "{what}");
            check(what, sample.requests[0]["text"].as_str().unwrap(), row);
        }
    }
    eprintln!("{equal} texts equal, {near_ties} differ after a near tie");
}
