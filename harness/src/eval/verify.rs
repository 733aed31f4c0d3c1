//! `eval --verify`: does this build, on this machine, answer as the reference harness does?
//!
//! A tiny random model and the bundled documents (both made for this project) were given to the reference, and its prompts, log-likelihoods,
//! texts and metrics stored (`fixtures/verify/`, with the script that made them). Here the same is asked of this engine in profile `compat`.
//!
//! Allowed: 1e-4 nats + 2e-6 of the value, for f32 sums in another order. Prompts, greedy flags, texts and metrics must be equal.

use anyhow::Context as _;
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tasks::{DataSource, Profile};

use super::runner::{AskOptions, TaskRequest, TaskResult, run_task};
use super::{AnswerOptions, Budget, Evaluator, LoadedModel, Softmax};

/// Files of the model's folder.
const MODEL: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../fixtures/verify/config.json")),
    ("model.safetensors", include_bytes!("../../fixtures/verify/model.safetensors")),
    ("tokenizer_config.json", include_bytes!("../../fixtures/verify/tokenizer_config.json")),
    ("tokenizer.json", include_bytes!("../../../configs/demo/tokenizer.json")),
];

/// The stored answers.
const EXPECTED: &str = include_str!("../../fixtures/verify/expected.json");

#[derive(Debug, Deserialize)]
struct Expected {
    reference: String,
    runs: Vec<ExpectedRun>,
}

#[derive(Debug, Deserialize)]
struct ExpectedRun {
    task: String,
    num_fewshot: usize,
    limit: usize,
    documents: Vec<ExpectedDocument>,
}

#[derive(Debug, Deserialize)]
struct ExpectedDocument {
    doc_id: usize,
    requests: Vec<ExpectedRequest>,
    metrics: std::collections::BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
struct ExpectedRequest {
    prompt_sha256: String,
    loglikelihood: Option<f64>,
    is_greedy: Option<bool>,
    text: Option<String>,
}

/// Everything that was stored, compared.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// What the answers were stored from.
    pub reference: String,
    /// One per task.
    pub checks: Vec<Check>,
}

/// One task, compared.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Task and number of shots.
    pub task: String,
    /// Documents compared.
    pub documents: usize,
    /// Largest difference of a log-likelihood, nats.
    pub largest_difference: f64,
    /// What differs by more than is allowed: document and cause.
    pub deviations: Vec<String>,
}

impl Check {
    /// Nothing deviates.
    pub fn holds(&self) -> bool {
        self.deviations.is_empty()
    }
}

/// Asks everything that was stored, with f32 weights.
///
/// # Errors
/// When the fixture cannot be unpacked or loaded.
pub fn run(device: &Device) -> anyhow::Result<Verification> {
    let (model, expected) = fixture(device)?;
    let checks = expected.runs.iter().map(|run| check(&model, run)).collect::<anyhow::Result<_>>()?;
    Ok(Verification { reference: expected.reference, checks })
}

/// The model, and what it should answer.
fn fixture(device: &Device) -> anyhow::Result<(LoadedModel, Expected)> {
    let folder = tempfile::tempdir().context("cannot unpack the fixture")?;
    for (name, bytes) in MODEL {
        std::fs::write(folder.path().join(name), bytes).context("cannot unpack the fixture")?;
    }
    Ok((LoadedModel::from_pretrained(folder.path(), DType::F32, device)?, serde_json::from_str(EXPECTED)?))
}

fn check(model: &LoadedModel, run: &ExpectedRun) -> anyhow::Result<Check> {
    let options = AnswerOptions { profile: Profile::Compat, budget: Budget::default(), softmax: Softmax::F32 };
    let request = TaskRequest {
        task: run.task.clone(),
        num_fewshot: Some(run.num_fewshot),
        limit: Some(run.limit),
        ..TaskRequest::default()
    };
    let mut evaluator = Evaluator::new(model, options);
    let outcome = run_task(&request, AskOptions::new(Profile::Compat), DataSource::Bundled, &mut evaluator, None)?;
    let mut check = Check {
        task: format!("{}, {}-shot", run.task, run.num_fewshot),
        documents: run.documents.len(),
        largest_difference: 0.0,
        deviations: Vec::new(),
    };
    match outcome {
        Ok(result) => check.compare(run, &result),
        Err(why) => check.deviations.push(format!("{}: {why}", check.task)),
    }
    Ok(check)
}

impl Check {
    fn compare(&mut self, run: &ExpectedRun, result: &TaskResult) {
        if result.samples.len() != run.documents.len() {
            let (expected, found) = (run.documents.len(), result.samples.len());
            self.deviations.push(format!("{}: expected {expected} documents, found {found}", self.task));
        }
        for (sample, document) in result.samples.iter().zip(&run.documents) {
            let mut differs = |what: String| self.deviations.push(format!("{}, document {}: {what}", self.task, document.doc_id));
            if sample.doc_id != document.doc_id || sample.requests.len() != document.requests.len() {
                differs(format!("expected {} requests, found {}", document.requests.len(), sample.requests.len()));
                continue;
            }
            if let Some(error) = &sample.error {
                differs(format!("expected a score, found: {error}"));
            }
            for (found, expected) in sample.requests.iter().zip(&document.requests) {
                if prompt_sha256(found) != expected.prompt_sha256 {
                    differs("the prompt is another".to_owned());
                }
                if let (Some(wanted), found) = (&expected.text, &found["text"])
                    && found.as_str() != Some(wanted.as_str())
                {
                    differs(format!("text: expected {wanted:?}, found {found}"));
                }
                if let Some(wanted) = expected.loglikelihood {
                    let value = found["loglikelihood"].as_f64().unwrap_or(f64::NAN);
                    let difference = (value - wanted).abs();
                    self.largest_difference = self.largest_difference.max(difference);
                    if difference.is_nan() || difference > 1e-4 + 2e-6 * wanted.abs() {
                        differs(format!("log-likelihood: expected {wanted}, found {value}"));
                    }
                }
                if let Some(wanted) = expected.is_greedy
                    && found["is_greedy"].as_bool() != Some(wanted)
                {
                    differs(format!("is_greedy: expected {wanted}, found {}", found["is_greedy"]));
                }
            }
            for (metric, &wanted) in &document.metrics {
                let found = sample.metrics.get(metric).and_then(tasks::MetricValue::number);
                if found != Some(wanted) {
                    differs(format!("{metric}: expected {wanted}, found {found:?}"));
                }
            }
        }
    }
}

/// Start of the SHA-256 of a request's texts, joined by U+001F.
fn prompt_sha256(request: &Value) -> String {
    let texts = ["context", "continuation"].iter().filter_map(|key| request[key].as_str());
    let texts: Vec<&str> =
        if request["context"].is_string() { texts.collect() } else { request["text"].as_str().into_iter().collect() };
    records::ids::sha256_hex(texts.join("\u{1f}").as_bytes())[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_answers_as_the_reference() {
        let checks = run(&Device::Cpu).unwrap().checks;
        assert!(checks.len() >= 8);
        for check in &checks {
            assert!(check.documents > 0 && check.holds(), "{:#?}", check.deviations);
        }
        let largest = checks.iter().map(|check| check.largest_difference).fold(0.0, f64::max);
        assert!(largest > 0.0, "nothing was compared");
    }

    #[test]
    fn a_deviation_is_named_with_its_document() {
        let (model, mut expected) = fixture(&Device::Cpu).unwrap();
        let run = expected.runs.iter_mut().find(|run| run.task == "boolq").unwrap();
        let request = &mut run.documents[1].requests[0];
        request.loglikelihood = request.loglikelihood.map(|value| value - 0.01);
        let check = check(&model, run).unwrap();
        assert_eq!(check.deviations.len(), 1);
        assert!(check.deviations[0].contains("document 1: log-likelihood: expected"), "{}", check.deviations[0]);
    }
}
