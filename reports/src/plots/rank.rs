//! Rank against quality for RW+LR, with RW as a horizontal band: our version of the paper's Figure 3.
//!
//! ```text
//! x = rank r (logarithmic)     y = quality, mean over seeds with its 95 % interval     band = RW
//! ```
//! The paper's y-values are known in words only, except r = 16; nothing is drawn for them.
//!
//! Source: measurement.md section 13 ("Figure 3"), paper.md section 7.

use super::lines::{Band, LineFigure, Point, Series, draw as draw_lines};
use super::{Figure, PlotOptions};
use crate::error::ReportError;
use crate::paper::Paper;
use crate::study::{Group, Study};
use crate::subject::{Found, Query, Subject, display_variant, estimate, subjects};

pub(super) fn draw(study: &Study, _: &Paper, _: PlotOptions) -> Result<Vec<Figure>, ReportError> {
    for metric in ["acc1_best", "acc1", "val_loss"] {
        let query = Query { metric, ..Query::default() };
        let mut points: Vec<(Subject, Point)> = Vec::new();
        for subject in subjects(study, |group| group.shared.metric == metric && group.shared.residual_rank.is_some()) {
            if subject.variant != "rw+lr" {
                continue;
            }
            if let (Some(rank), Found::Number(found)) = (rank_of(study, &subject), estimate(study, &subject, query)?) {
                let point = Point { x: rank as f64, y: found.value, interval: found.interval, n: found.n };
                points.push((subject, point));
            }
        }
        points.sort_by(|a, b| a.1.x.total_cmp(&b.1.x));
        points.dedup_by(|a, b| a.1.x == b.1.x);
        if points.len() < 2 {
            continue;
        }
        let subject = points[0].0.clone();
        let band = match subjects(study, |group| group.shared.metric == metric).into_iter().find(|other| other.variant == "rw") {
            Some(rw) => match estimate(study, &rw, query)? {
                Found::Number(found) => {
                    Some(Band { subject: rw, title: "RW".to_owned(), value: found.value, interval: found.interval })
                }
                _ => None,
            },
            None => None,
        };
        let unit = study.of_metric(metric).next().map_or("", |group| group.shared.unit.as_str()).to_owned();
        let title = display_variant(&subject.variant);
        let series = Series {
            subject,
            title: title.clone(),
            detail: String::new(),
            points: points.iter().map(|(_, point)| *point).collect(),
            has_symbols: true,
            is_labelled: true,
        };
        let figure = LineFigure {
            name: "rank".to_owned(),
            title: format!("Rank against {metric}, {title}"),
            description: format!(
                "{metric} of {title} at ranks {} with 95 % intervals{}.",
                points.iter().map(|(_, point)| point.x.to_string()).collect::<Vec<_>>().join(", "),
                if band.is_some() { "; RW is a horizontal band" } else { "" }
            ),
            x_title: "rank r",
            y_title: metric.to_owned(),
            unit: &unit,
            is_log_x: true,
            band,
        };
        return Ok(vec![draw_lines(figure, &[series])?]);
    }
    Ok(Vec::new())
}

fn rank_of(study: &Study, subject: &Subject) -> Option<u64> {
    let is_of = |group: &&Group| group.shared.subject.as_deref() == Some(subject.name.as_str());
    study.groups().filter(is_of).find_map(|group| group.shared.residual_rank)
}
