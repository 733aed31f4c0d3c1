//! Learning curves: loss against training step, one line per subject and seed.
//!
//! Validation loss where it was logged, else training loss. The label stands at the first seed's end; further seeds share colour and dash.
//!
//! Source: measurement.md section 13 ("Own figures").

use std::collections::BTreeMap;

use records::{RecordKind, Source};

use super::lines::{LineFigure, Point, Series, draw as draw_lines};
use super::{Figure, PlotOptions};
use crate::error::ReportError;
use crate::paper::Paper;
use crate::study::Study;
use crate::subject::{Subject, titles};

/// Share of the steps that is left out at the start.
const START: f64 = 0.2;

pub(super) fn draw(study: &Study, _: &Paper, _: PlotOptions) -> Result<Vec<Figure>, ReportError> {
    for metric in ["val_loss", "train_loss", "acc1"] {
        let mut curves: BTreeMap<(Subject, i64), Vec<Point>> = BTreeMap::new();
        for group in study.of_metric(metric) {
            let row = &group.shared;
            if row.kind != RecordKind::Step || row.source != Source::Measured {
                continue;
            }
            let Some(subject) = Subject::of(row) else { continue };
            for own in &group.rows {
                if let (Some(step), Some(y)) = (own.eval_step, own.value) {
                    let point = Point { x: step as f64, y, interval: None, n: 1 };
                    curves.entry((subject.clone(), own.seed.unwrap_or(0))).or_default().push(point);
                }
            }
        }
        curves.retain(|_, points| points.len() >= 2);
        if curves.is_empty() {
            continue;
        }
        let unit = study.of_metric(metric).next().map_or("", |group| group.shared.unit.as_str()).to_owned();
        let mut subjects: Vec<Subject> = curves.keys().map(|(subject, _)| subject.clone()).collect();
        subjects.dedup();
        let names = titles(&subjects);
        let mut series = Vec::new();
        for ((subject, seed), mut points) in curves {
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            // The steep start would squeeze the ends, where variants differ, into a few pixels.
            let last = points.last().map_or(0.0, |point| point.x);
            points.retain(|point| point.x >= START * last);
            let at = subjects.iter().position(|other| *other == subject).unwrap_or_default();
            let is_labelled = !series.iter().any(|other: &Series| other.subject == subject);
            let detail = format!("seed {seed}");
            series.push(Series { subject, title: names[at].clone(), detail, points, has_symbols: false, is_labelled });
        }
        let figure = LineFigure {
            name: "curves".to_owned(),
            title: format!("Learning curves: {metric}"),
            description: format!(
                "{metric} against training step for {} subjects, {} runs in all; one line per run. The first fifth of the steps is left out.",
                subjects.len(),
                series.len()
            ),
            x_title: "training step",
            y_title: metric.to_owned(),
            unit: &unit,
            is_log_x: false,
            band: None,
        };
        return Ok(vec![draw_lines(figure, &series)?]);
    }
    Ok(Vec::new())
}
