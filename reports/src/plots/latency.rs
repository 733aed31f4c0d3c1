//! Prefill, time to first token and time per output token against prompt length, one line per subject.
//!
//! All at one batch, output length, thread count and machine. A figure needs at least two prompt lengths; points are medians over workers with their exact 95 % intervals.
//!
//! Source: measurement.md sections 6 and 13 ("Own figures").

use super::lines::{LineFigure, Point, Series, draw as draw_lines};
use super::{Figure, PlotOptions};
use crate::conditions::one_condition_but;
use crate::error::ReportError;
use crate::paper::Paper;
use crate::study::Study;
use crate::subject::{Found, Query, estimate, subjects, titles};

pub(super) fn draw(study: &Study, _: &Paper, _: PlotOptions) -> Result<Vec<Figure>, ReportError> {
    let study = &one_condition_but(study, "prompt_length").study;
    let mut figures = Vec::new();
    for (metric, words) in [("prefill_s", "prefill"), ("ttft_s", "time to first token"), ("tpot_s", "time per output token")] {
        let mut lengths: Vec<u64> = study.of_metric(metric).filter_map(|group| group.shared.prompt_length).collect();
        lengths.sort_unstable();
        lengths.dedup();
        if lengths.len() < 2 {
            continue;
        }
        let all = subjects(study, |group| group.shared.metric == metric);
        let mut series = Vec::new();
        for (subject, title) in all.iter().zip(titles(&all)) {
            let mut points = Vec::new();
            for length in &lengths {
                let at = study.filter(|group| group.shared.metric == metric && group.shared.prompt_length == Some(*length));
                if let Found::Number(found) = estimate(&at, subject, Query { metric, ..Query::default() })? {
                    points.push(Point { x: *length as f64, y: found.value, interval: found.interval, n: found.n });
                }
            }
            if points.len() >= 2 {
                let subject = subject.clone();
                series.push(Series { subject, title, detail: String::new(), points, has_symbols: true, is_labelled: true });
            }
        }
        if series.is_empty() {
            continue;
        }
        let figure = LineFigure {
            name: format!("latency_{metric}"),
            title: format!("{metric} against prompt length"),
            description: format!("Median {words} of {} subjects at {} prompt lengths.", series.len(), lengths.len()),
            x_title: "prompt length, tokens",
            y_title: words.to_owned(),
            unit: "s",
            is_log_x: true,
            band: None,
        };
        figures.push(draw_lines(figure, &series)?);
    }
    Ok(figures)
}
