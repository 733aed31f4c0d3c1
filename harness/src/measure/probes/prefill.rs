//! Prefill: the forward pass over the whole prompt, building the key-value cache; no tokenizer, no sampling.
//!
//! `prefill_s = t2 − t1`, `prefill_tokens_per_s = prompt tokens × batch / prefill_s` ([`super::request`]).
//!
//! Source: measurement.md section 6.

use super::request::Engine;
use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::{self, WindowSpec};
use records::metric::{PREFILL_S, PREFILL_TOKENS_PER_S};
use records::{Measurement, Metric};

/// The probe.
#[derive(Debug)]
pub struct Prefill;

impl Probe for Prefill {
    fn name(&self) -> &'static str {
        "prefill"
    }

    fn about(&self) -> &'static str {
        "time of the forward pass over a prompt"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Prompt
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![PREFILL_S, PREFILL_TOKENS_PER_S]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let engine = Engine::with_ids(subject)?;
        let (device, ids) = (subject.device(), engine.ids()?);
        let timed = window::run(spec, || {
            let (seconds, running) = window::time(&device, || engine.prefill(&ids, 1))?;
            engine.choose(&running)?; // outside the time: it refuses logits that are not numbers
            Ok((seconds, ()))
        })?;
        let tokens = (subject.workload.batch * subject.workload.prompt_length) as f64;
        let rates = timed.samples.iter().map(|seconds| tokens / seconds).collect();
        Ok(vec![timed.median_of(PREFILL_S, timed.samples.clone())?, timed.median_of(PREFILL_TOKENS_PER_S, rates)?])
    }
}
