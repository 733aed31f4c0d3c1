//! Decoding: whole requests of a fixed number of tokens, end-of-sequence ignored, one after the other.
//!
//! ```text
//! tpot_s, decode_tokens_per_s, request_tokens_per_s, e2e_s     median over requests
//! itl_p50_s, itl_p90_s, itl_p99_s                              quantiles over the gaps of all timed requests
//! ```
//! A quantile needs enough gaps: p90 from 100, p99 from 1000; with fewer the row says so and has no value. One output token has no gap,
//! so its request has no `tpot_s`. Every request's identities are checked ([`super::request`]).
//!
//! Source: measurement.md section 6.

use super::request::{Engine, Timeline};
use super::{Kind, Probe, Work};
use crate::measure::subject::Subject;
use crate::measure::window::{self, Timed, WindowSpec};
use records::metric::{
    DECODE_TOKENS_PER_S, E2E_S, FIRST_REQUEST_S, ITL_P50_S, ITL_P90_S, ITL_P99_S, REQUEST_TOKENS_PER_S, TPOT_S,
};
use records::{InnerStat, Measurement, Metric, Outcome, Reason};
use stats::describe::{QuantileRule, quantile};

/// Gaps that each reported quantile needs.
const QUANTILES: [(Metric, f64, usize); 3] = [(ITL_P50_S, 0.5, 1), (ITL_P90_S, 0.9, 100), (ITL_P99_S, 0.99, 1000)];

/// The probe.
#[derive(Debug)]
pub struct Decode;

impl Probe for Decode {
    fn name(&self) -> &'static str {
        "decode"
    }

    fn about(&self) -> &'static str {
        "time per generated token, generation rate, whole requests"
    }

    fn kind(&self) -> Kind {
        Kind::Timing
    }

    fn work(&self) -> Work {
        Work::Request
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![DECODE_TOKENS_PER_S, TPOT_S, ITL_P50_S, ITL_P90_S, ITL_P99_S, REQUEST_TOKENS_PER_S, E2E_S, FIRST_REQUEST_S]
    }

    fn run(&self, subject: &mut Subject, spec: &WindowSpec) -> anyhow::Result<Vec<Measurement>> {
        let engine = Engine::with_text(subject)?;
        let length = subject.workload.output_length;
        let timed = window::run(spec, || {
            let request = engine.answer(length)?;
            Ok((request.e2e_s(), request))
        })?;
        let each = |metric: Metric, value: fn(&Timeline) -> Option<f64>| -> anyhow::Result<Measurement> {
            match timed.results.iter().map(value).collect::<Option<Vec<f64>>>() {
                Some(values) => timed.median_of(metric, values),
                None => Ok(timed.with(metric, Outcome::Skipped(Reason::new("one output token has no gap")))),
            }
        };
        let mut rows = vec![
            each(DECODE_TOKENS_PER_S, Timeline::decode_tokens_per_s)?,
            each(TPOT_S, Timeline::tpot_s)?,
            each(REQUEST_TOKENS_PER_S, |request| Some(request.request_tokens_per_s()))?,
            each(E2E_S, |request| Some(request.e2e_s()))?,
            timed.one(FIRST_REQUEST_S, timed.first_s, InnerStat::Exact, 1),
        ];
        rows.extend(gap_quantiles(&timed)?);
        Ok(rows)
    }
}

fn gap_quantiles(timed: &Timed<Timeline>) -> anyhow::Result<Vec<Measurement>> {
    let gaps: Vec<f64> = timed.results.iter().flat_map(Timeline::itl_s).collect();
    let rows = QUANTILES.into_iter().map(|(metric, p, needed)| {
        if gaps.len() < needed {
            let reason = format!("n too small: expected {needed} gaps, found {}", gaps.len());
            return Ok(timed.with(metric, Outcome::Skipped(Reason::new(reason))));
        }
        let value = quantile(&gaps, p, QuantileRule::Linear)?;
        // There is no word for a quantile in `inner_stat`; the metric's name says which it is.
        Ok(timed.with(
            metric,
            Outcome::Ok { value, inner: records::Inner { n: Some(gaps.len() as u64), ..records::Inner::default() } },
        ))
    });
    rows.collect()
}
