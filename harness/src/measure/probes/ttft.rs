//! Time to first token: tokenizing, prefill and the choice of the first token, in this process: there is no queue and no network.
//!
//! `ttft_s = t3 − t0` ([`super::request`]); rows say `ttft_scope = "in-process"`.
//!
//! Source: measurement.md section 6.

use super::request::Engine;
use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::{self, WindowSpec};
use records::metric::TTFT_S;
use records::row::Detail;
use records::{Measurement, Metric};

/// The probe.
#[derive(Debug)]
pub struct Ttft;

impl Probe for Ttft {
    fn name(&self) -> &'static str {
        "ttft"
    }

    fn about(&self) -> &'static str {
        "time from prompt text to first token"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Prompt
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![TTFT_S]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let engine = Engine::with_text(subject)?;
        let timed = window::run(spec, || Ok((engine.answer(1)?.ttft_s(), ())))?;
        let detail = Detail { ttft_scope: Some("in-process".to_owned()), ..Detail::default() };
        Ok(vec![Measurement { detail: Some(detail), ..timed.median_of(TTFT_S, timed.samples.clone())? }])
    }
}
