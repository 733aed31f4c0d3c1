//! Multiple choice: one log-likelihood per option, the largest wins.
//!
//! ```text
//! acc       argmax_i LL_i = gold            acc_norm  argmax_i LL_i / code points of option i (without the delimiter)
//! acc_bytes the same with UTF-8 bytes       ties: the first option; a NaN is an error
//! ```
//! The continuation of option o is target_delimiter ++ o.

use serde_json::Value;

use crate::definition::{Choices, Leaf};
use crate::doc::{Doc, DocScores, MetricValue};
use crate::error::TaskError;
use crate::metrics::accuracy::{LengthNorm, choose};
use crate::request::{Request, Response};

/// The options' texts and the index of the gold one.
pub(super) fn options(leaf: &Leaf, doc: &Doc) -> Result<(Vec<String>, usize), TaskError> {
    let options: Vec<String> = match &leaf.choices {
        Some(Choices::Fixed(texts)) => texts.clone(),
        Some(Choices::Field(field)) => {
            let list = doc.fields.get(field).and_then(Value::as_array);
            let texts: Option<Vec<String>> = list.and_then(|list| list.iter().map(|v| v.as_str().map(str::to_owned)).collect());
            texts.ok_or_else(|| leaf.response_error(doc, field, "a list of texts", "none"))?
        }
        None => return Err(leaf.response_error(doc, "options", "options in the definition", "none")),
    };
    let gold = leaf.templates.render("gold", doc)?;
    let index = gold.parse().ok().filter(|index| *index < options.len());
    match index {
        Some(index) => Ok((options, index)),
        None => Err(leaf.response_error(doc, "gold option", format!("an index below {}", options.len()), gold)),
    }
}

pub(super) fn requests(leaf: &Leaf, doc: &Doc, shots: &[Doc]) -> Result<Vec<Request>, TaskError> {
    let context = leaf.context(doc, shots)?;
    let (options, _) = options(leaf, doc)?;
    let ask = |option: &String| Request::Loglikelihood {
        context: context.clone(),
        continuation: format!("{}{option}", leaf.target_delimiter),
    };
    Ok(options.iter().map(ask).collect())
}

pub(super) fn score(leaf: &Leaf, doc: &Doc, responses: &[Response]) -> Result<DocScores, TaskError> {
    let (options, gold) = options(leaf, doc)?;
    let mut loglikelihoods = Vec::with_capacity(options.len());
    for response in responses {
        match response {
            Response::Loglikelihood { loglikelihood, .. } => loglikelihoods.push(*loglikelihood),
            other => return Err(leaf.response_error(doc, "response", "a loglikelihood", format!("{other:?}"))),
        }
    }
    let mut scores = DocScores::new(doc);
    scores.gold = Some(gold);
    for metric in &leaf.spec.metrics {
        let norm = match metric.name.as_str() {
            "acc" => LengthNorm::None,
            "acc_norm" => LengthNorm::CodePoints,
            "acc_bytes" => LengthNorm::Bytes,
            other => return Err(leaf.response_error(doc, "metric", "acc, acc_norm or acc_bytes", other)),
        };
        let chosen = choose(&loglikelihoods, &options, norm).map_err(|e| leaf.metric_error(doc, &e))?;
        if metric.name == leaf.spec.primary_metric {
            scores.chosen = Some(chosen);
        }
        scores.metrics.insert(metric.name.clone(), MetricValue::Number(f64::from(chosen == gold)));
    }
    Ok(scores)
}
