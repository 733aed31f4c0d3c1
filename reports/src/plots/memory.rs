//! Where memory goes: peak allocated bytes of each phase, split by the accounting into weights, gradients, optimizer state and the rest.
//!
//! ```text
//! training    load │ first step │ steady          inference   load │ prefill │ decode
//! weights     weights_bytes, in the peak's dtype    gradients   as many, from the first step on
//! optimizer   train_state_bytes − 2·weights_bytes, in the steady phase: it exists from the end of the first step
//! rest        measured peak − the above: activations, inputs, scratch
//! ```
//! The length of a bar is measured, its split is computed; a peak below the accounted parts is drawn whole.
//!
//! Source: measurement.md sections 7 and 13 ("Own figures").

use super::axis::{Axis, PlotArea, frame};
use super::labels::SIZE;
use super::palette::{DARK, PARTS, WHITE};
use super::scene::{Anchor, Mark, Scene, text_width};
use super::{Figure, PlotOptions};
use crate::conditions::one_condition;
use crate::error::ReportError;
use crate::number::{Scale, quantity};
use crate::paper::Paper;
use crate::provenance::Provenance;
use crate::study::Study;
use crate::subject::{Found, Query, Subject, estimate, subjects, titles};
use crate::table::{Content, TableCell, TableData, TableRow};

const WIDTH: u32 = 760;
/// Height of a bar with its air.
const LINE: f64 = 22.0;
/// Air between subjects.
const GAP: f64 = 12.0;
/// Words of the parts, in stacking order.
const NAMES: [&str; 4] = ["weights", "gradients", "optimizer state", "rest: activations, inputs, scratch"];

/// A phase: words, metric, and which parts the accounting knows in it.
type Phase = (&'static str, &'static str, [bool; 3]);

const FIGURES: [(&str, &str, [Phase; 3]); 2] = [
    (
        "memory_training",
        "Peak memory of training, by phase",
        [
            ("load", "peak_alloc_train_load_bytes", [true, false, false]),
            ("first step", "peak_alloc_first_step_bytes", [true, true, false]),
            ("steady", "peak_alloc_steady_bytes", [true, true, true]),
        ],
    ),
    (
        "memory_inference",
        "Peak memory of inference, by phase",
        [
            ("load", "peak_alloc_inference_load_bytes", [true, false, false]),
            ("prefill", "peak_alloc_prefill_bytes", [true, false, false]),
            ("decode", "peak_alloc_decode_bytes", [true, false, false]),
        ],
    ),
];

/// One bar: its phase, its measured peak and the parts in stacking order.
struct Bar {
    phase: &'static str,
    peak: f64,
    parts: [f64; 4],
}

pub(super) fn draw(study: &Study, _: &Paper, _: PlotOptions) -> Result<Vec<Figure>, ReportError> {
    let study = &one_condition(study).study;
    let mut figures = Vec::new();
    for (name, title, phases) in FIGURES {
        let all = subjects(study, |group| phases.iter().any(|(_, metric, _)| group.shared.metric == *metric));
        let mut found = Vec::new();
        for (subject, title) in all.iter().zip(titles(&all)) {
            let bars = bars_of(study, subject, &phases)?;
            if !bars.is_empty() {
                found.push((title, bars));
            }
        }
        if !found.is_empty() {
            figures.push(figure(name, title, &found)?);
        }
    }
    Ok(figures)
}

fn value(study: &Study, subject: &Subject, metric: &str) -> Result<Option<f64>, ReportError> {
    Ok(match estimate(study, subject, Query { metric, ..Query::default() })? {
        Found::Number(found) => Some(found.value),
        _ => None,
    })
}

/// Bytes of a value in the dtype of a metric's rows: weights are counted in f32, and inference may hold them in another one.
fn bytes_per_value(study: &Study, subject: &Subject, metric: &str) -> f64 {
    let group = Query { metric, ..Query::default() }.groups(study, subject).find(|group| group.is_ok());
    match group.and_then(|group| group.shared.dtype.as_deref()) {
        Some("bf16" | "f16") => 2.0,
        Some("f64") => 8.0,
        _ => 4.0,
    }
}

fn bars_of(study: &Study, subject: &Subject, phases: &[Phase]) -> Result<Vec<Bar>, ReportError> {
    let weights = value(study, subject, "weights_bytes")?.unwrap_or(0.0);
    let state = value(study, subject, "train_state_bytes")?.unwrap_or(2.0 * weights);
    let counted = bytes_per_value(study, subject, "weights_bytes");
    let mut bars = Vec::new();
    for (phase, metric, known) in phases {
        let Some(peak) = value(study, subject, metric)? else { continue };
        let held = weights * bytes_per_value(study, subject, metric) / counted;
        let accounted = [held, weights, (state - 2.0 * weights).max(0.0)];
        let mut parts = [0.0; 4];
        for at in 0..3 {
            parts[at] = if known[at] { accounted[at] } else { 0.0 };
        }
        let sum: f64 = parts.iter().sum();
        parts[3] = peak - sum;
        if parts[3] < 0.0 {
            parts = [0.0, 0.0, 0.0, peak];
        }
        bars.push(Bar { phase, peak, parts });
    }
    Ok(bars)
}

fn figure(name: &str, title: &str, found: &[(String, Vec<Bar>)]) -> Result<Figure, ReportError> {
    let bars = || found.iter().flat_map(|(_, bars)| bars);
    let scale = Scale::of("bytes", bars().map(|bar| bar.peak));
    let mut left = 0.0_f64;
    let mut phase_width = 0.0_f64;
    for (title, bars) in found {
        left = left.max(text_width(title, SIZE)?);
        for bar in bars {
            phase_width = phase_width.max(text_width(bar.phase, SIZE)?);
        }
    }
    let top = 44.0;
    let height = top + bars().count() as f64 * LINE + found.len() as f64 * GAP + 58.0;
    let start = left + phase_width + 40.0;
    let area = PlotArea { left: start, right: f64::from(WIDTH) - 96.0, top, bottom: height - 58.0 };
    let mut x = Axis::linear(bars().map(|bar| bar.peak).chain([0.0]), (area.left, area.right), scale);
    x.start_at_zero();
    let mut y = Axis::linear([0.0, 1.0], (area.bottom, area.top), Scale::NONE);
    y.ticks.clear();
    let mut scene = Scene::new(WIDTH, height as u32);
    scene.frame = frame(area, &x, &y, &format!("peak allocated memory, {}", scale.unit), "");
    legend(&mut scene, bars().fold([false; 4], |used, bar| std::array::from_fn(|at| used[at] || bar.parts[at] > 0.0)))?;
    let text =
        |at: (f64, f64), text: &str, anchor| Mark::Text { at, text: text.to_owned(), size: SIZE, anchor, is_upright: false };
    let mut at = area.top + 0.5 * GAP;
    for (title, bars) in found {
        scene.add(text((left + 12.0, at + 0.5 * LINE * bars.len() as f64), title, Anchor::End));
        for bar in bars {
            let middle = at + 0.5 * LINE;
            scene.add(text((area.left - 8.0, middle), bar.phase, Anchor::End));
            let mut from = 0.0;
            for ((part, (ink, opacity)), words) in bar.parts.iter().zip(PARTS).zip(NAMES) {
                if *part > 0.0 {
                    let (start, end) = (x.px(from), x.px(from + part));
                    let title = format!("{title}, {}: {words} {}", bar.phase, quantity(*part, "bytes"));
                    // White below, or the grid would show through a light fill.
                    let (from, to) = ((start, at + 3.0), (end, at + LINE - 3.0));
                    scene.add(Mark::Band { from, to, ink: WHITE, opacity: 1.0 });
                    scene.tag(Mark::Band { from: (start, at + 3.0), to: (end, at + LINE - 3.0), ink, opacity }, title);
                    // The edge keeps neighbours apart without colour.
                    scene.add(outline((start, at + 3.0), (end, at + LINE - 3.0)));
                }
                from += part;
            }
            scene.add(text((x.px(bar.peak) + 8.0, middle), &quantity(bar.peak, "bytes"), Anchor::Start));
            at += LINE;
        }
        at += GAP;
    }
    Ok(Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        description: format!(
            "Peak allocated bytes of {} subjects in {} phases. The length of a bar is measured; weights, gradients and optimizer state \
             are accounted from their counts, and the rest is what remains.",
            found.len(),
            found.first().map_or(0, |(_, bars)| bars.len())
        ),
        scene,
        data: data_table(name, title, found),
    })
}

fn outline(from: (f64, f64), to: (f64, f64)) -> Mark {
    let points = vec![from, (to.0, from.1), to, (from.0, to.1), from];
    Mark::Path { points, ink: DARK, width: 1, dash: None }
}

/// Swatches and words of the parts that occur, above the bars in stacking order.
fn legend(scene: &mut Scene, used: [bool; 4]) -> Result<(), ReportError> {
    let mut at = 12.0;
    for ((name, (ink, opacity)), _) in NAMES.into_iter().zip(PARTS).zip(used).filter(|(_, used)| *used) {
        let (from, to) = ((at, 12.0), (at + 20.0, 26.0));
        scene.add(Mark::Band { from, to, ink, opacity });
        scene.add(outline(from, to));
        let anchor = Anchor::Start;
        scene.add(Mark::Text { at: (at + 26.0, 19.0), text: name.to_owned(), size: SIZE, anchor, is_upright: false });
        at += 26.0 + text_width(name, SIZE)? + 18.0;
    }
    Ok(())
}

fn data_table(name: &str, title: &str, found: &[(String, Vec<Bar>)]) -> TableData {
    let mut table = TableData::new(&format!("{name}-data"), title, Provenance::default());
    table.text_column("subject", "Subject");
    table.text_column("phase", "Phase");
    table.number_column("peak", "Peak", None);
    for (key, name) in ["weights", "gradients", "optimizer", "rest"].into_iter().zip(NAMES) {
        table.number_column(key, name, None);
    }
    for (title, bars) in found {
        for bar in bars {
            let number = |bytes: f64| {
                let cell = crate::table::NumberCell {
                    value: bytes,
                    interval: None,
                    n: None,
                    unit: "bytes".to_owned(),
                    scale: Scale::NONE,
                    text: Some(quantity(bytes, "bytes")),
                };
                TableCell::from(Content::Number(cell))
            };
            let mut cells = vec![TableCell::words(title), TableCell::words(bar.phase), number(bar.peak)];
            cells.extend(bar.parts.iter().map(|part| number(*part)));
            table.rows.push(TableRow { group: None, cells });
        }
    }
    table
}
