//! Pareto fronts: quality against every cost, with the probability of each variant to be on the front.
//!
//! ```text
//! point = estimate with intervals     opacity and number = p_front over 2000 bootstrap draws     dashed line = front of the estimates
//! ```
//! Draws resample seeds (paired across variants) for quality and workers for cost; ties within the A/A noise floor of a cost count as
//! equal. Parameters and FLOPs have a logarithmic axis with a lane of its own for 0. One figure per cost and family.
//!
//! Source: measurement.md section 12; the numbers are those of the frontier table.

use super::axis::{Axis, PlotArea, frame};
use super::labels::{Label, place};
use super::palette::{GREY, look};
use super::scene::{Mark, Scene};
use super::{Figure, PlotOptions};
use crate::error::ReportError;
use crate::front::{Candidate, fronts};
use crate::number::{Scale, estimate as shown, fixed};
use crate::paper::Paper;
use crate::provenance::Provenance;
use crate::study::Study;
use crate::subject::Estimate;
use crate::table::{Content, NumberCell, TableCell, TableData, TableRow};

const SIZE_PX: (u32, u32) = (760, 480);
/// Opacity of a point that is never on the front.
const FAINT: f64 = 0.2;

pub(super) fn draw(study: &Study, _: &Paper, _: PlotOptions) -> Result<Vec<Figure>, ReportError> {
    fronts(study)?
        .iter()
        .map(|front| {
            let name = format!("pareto_{}", front.name);
            figure(&name, (front.cost, front.words, front.is_log), front.quality, &front.candidates)
        })
        .collect()
}

fn figure(
    name: &str,
    (cost, words, is_log): (&str, &str, bool),
    quality: &str,
    found: &[Candidate],
) -> Result<Figure, ReportError> {
    let area = PlotArea { left: 84.0, right: f64::from(SIZE_PX.0) - 20.0, top: 16.0, bottom: f64::from(SIZE_PX.1) - 56.0 };
    let reach = |e: &Estimate| {
        let (low, high) = e.interval.unwrap_or((e.value, e.value));
        [low, e.value, high]
    };
    let cost_scale = Scale::of(&found[0].cost.unit, found.iter().map(|c| c.cost.value));
    let quality_scale = Scale::of(&found[0].quality.unit, found.iter().map(|c| c.quality.value));
    let costs = found.iter().flat_map(|c| reach(&c.cost));
    let x = if is_log {
        Axis::log(costs, (area.left, area.right), &found[0].cost.unit)
    } else {
        Axis::linear(costs, (area.left, area.right), cost_scale)
    };
    let y = Axis::linear(found.iter().flat_map(|c| reach(&c.quality)), (area.bottom, area.top), quality_scale);
    let mut scene = Scene::new(SIZE_PX.0, SIZE_PX.1);
    let titled = |words: &str, scale: Scale| {
        if scale.unit.is_empty() { words.to_owned() } else { format!("{words}, {}", scale.unit) }
    };
    let x_title = if is_log { words.to_owned() } else { titled(words, cost_scale) };
    scene.frame = frame(area, &x, &y, &x_title, &titled(quality, quality_scale));
    let mut front: Vec<(f64, f64)> =
        found.iter().filter(|c| c.is_on_front).map(|c| (x.px(c.cost.value), y.px(c.quality.value))).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut busy: Vec<(f64, f64, f64, f64)> = front.windows(2).flat_map(|ends| along(ends[0], ends[1])).collect();
    busy.extend(x.lane_edge().map(|edge| (edge - 2.0, area.top, edge + 2.0, area.bottom)));
    if front.len() > 1 {
        scene.tag(Mark::Path { points: front, ink: GREY, width: 1, dash: Some((5.0, 4.0)) }, "front of the estimates");
    }
    let mut labels = Vec::new();
    for candidate in found {
        let style = look(&candidate.subject.variant);
        let at = (x.px(candidate.cost.value), y.px(candidate.quality.value));
        let mut bar = |from: (f64, f64), to: (f64, f64)| {
            busy.push((from.0.min(to.0) - 2.0, from.1.min(to.1) - 2.0, from.0.max(to.0) + 2.0, from.1.max(to.1) + 2.0));
            scene.add(Mark::Path { points: vec![from, to], ink: style.ink, width: 1, dash: None });
        };
        if let Some((low, high)) = candidate.cost.interval {
            bar((x.px(low), at.1), (x.px(high), at.1));
        }
        if let Some((low, high)) = candidate.quality.interval {
            bar((at.0, y.px(low)), (at.0, y.px(high)));
        }
        let p = candidate.p_front.unwrap_or(if candidate.is_on_front { 1.0 } else { 0.0 });
        let title = format!(
            "{}: {quality} {}, {words} {}, n = {} {}{}",
            candidate.title,
            text(&candidate.quality, quality_scale),
            text(&candidate.cost, cost_scale),
            candidate.quality.n,
            candidate.quality.basis.as_str(),
            candidate.p_front.map_or_else(String::new, |p| format!(", p_front {}", fixed(p, 2)))
        );
        let opacity = FAINT + (1.0 - FAINT) * p;
        scene.tag(Mark::Symbol { at, shape: style.shape, ink: style.ink, opacity }, title);
        let p_text = candidate.p_front.map_or_else(String::new, |p| format!(" ({})", fixed(p, 2)));
        labels.push(Label { at, text: format!("{}{p_text}", candidate.title) });
    }
    for mark in place(&labels, area, &busy)? {
        scene.add(mark);
    }
    let has_p = found.iter().any(|candidate| candidate.p_front.is_some());
    let on_front: Vec<&str> = found.iter().filter(|c| c.is_on_front).map(|c| c.title.as_str()).collect();
    Ok(Figure {
        name: name.to_owned(),
        title: format!("{quality} against {words}"),
        description: format!(
            "{} subjects; on the front of the estimates: {}. {}",
            found.len(),
            on_front.join(", "),
            if has_p {
                "Opacity and the number in brackets are the share of bootstrap draws in which a subject is on the front."
            } else {
                "Fewer than two common seeds: no front probability."
            }
        ),
        scene,
        data: data_table(name, (cost, words), quality, found, cost_scale, quality_scale),
    })
}

/// Small rectangles along a line, for labels to keep off.
fn along(from: (f64, f64), to: (f64, f64)) -> Vec<(f64, f64, f64, f64)> {
    let steps = ((to.0 - from.0).hypot(to.1 - from.1) / 6.0).ceil().max(1.0) as usize;
    (0..=steps)
        .map(|at| {
            let share = at as f64 / steps as f64;
            let (x, y) = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            (x - 2.0, y - 2.0, x + 2.0, y + 2.0)
        })
        .collect()
}

fn text(estimate: &Estimate, scale: Scale) -> String {
    let half = estimate.half_width().map(|half| half / scale.divisor);
    format!("{} {}", shown(estimate.value / scale.divisor, half), scale.unit).trim_end().to_owned()
}

fn data_table(
    name: &str,
    (cost, words): (&str, &str),
    quality: &str,
    found: &[Candidate],
    cost_scale: Scale,
    quality_scale: Scale,
) -> TableData {
    let mut table = TableData::new(&format!("{name}-data"), &format!("{quality} against {words}"), Provenance::default());
    table.text_column("subject", "Subject");
    table.number_column(cost, words, None);
    table.number_column(quality, quality, None);
    table.number_column("p_front", "p_front", None);
    table.text_column("on_front", "On the front");
    for candidate in found {
        let number = |estimate: &Estimate, scale: Scale| -> TableCell {
            Content::Number(NumberCell {
                value: estimate.value,
                interval: estimate.interval,
                n: Some((estimate.n, estimate.basis)),
                unit: estimate.unit.clone(),
                scale,
                text: Some(text(estimate, scale)),
            })
            .into()
        };
        let p = match candidate.p_front {
            Some(p) => Content::Number(NumberCell {
                value: p,
                interval: None,
                n: None,
                unit: "1".to_owned(),
                scale: Scale::NONE,
                text: Some(fixed(p, 2)),
            }),
            None => Content::Missing,
        };
        table.rows.push(TableRow {
            group: None,
            cells: vec![
                TableCell::words(&candidate.title),
                number(&candidate.cost, cost_scale),
                number(&candidate.quality, quality_scale),
                p.into(),
                TableCell::words(if candidate.is_on_front { "yes" } else { "no" }),
            ],
        });
    }
    table
}
