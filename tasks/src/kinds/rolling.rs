//! Perplexity of whole texts: numerators and denominators per document, so that the aggregate is a ratio of sums.
//!
//! Words and bytes are of `page`, the text before any detokeniser.

use crate::definition::Leaf;
use crate::doc::{Doc, DocScores, MetricValue};
use crate::error::TaskError;
use crate::metrics::perplexity::word_count;
use crate::request::Response;

pub(super) fn score(leaf: &Leaf, doc: &Doc, responses: &[Response]) -> Result<DocScores, TaskError> {
    let [Response::Rolling { loglikelihood }] = responses else {
        return Err(leaf.response_error(doc, "responses", "1 rolling loglikelihood", format!("{} responses", responses.len())));
    };
    if !loglikelihood.is_finite() {
        return Err(leaf.response_error(doc, "loglikelihood", "a finite number", loglikelihood));
    }
    let page = doc.text("page").ok_or_else(|| leaf.response_error(doc, "page", "a text", "none"))?;
    let mut scores = DocScores::new(doc);
    for metric in &leaf.spec.metrics {
        let units = if metric.name == "word_ppl" { word_count(page) } else { page.len() };
        scores.metrics.insert(metric.name.clone(), MetricValue::Ratio(*loglikelihood, units as f64));
    }
    Ok(scores)
}
