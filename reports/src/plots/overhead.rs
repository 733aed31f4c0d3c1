//! Overhead: cost ratios to the reference with intervals, as a forest plot with a budget line. One figure per cost.
//!
//! ```text
//! subject ├────●────┤   +3.4 % [+2.1 %, +4.8 %], n = 20        line at 0 = the reference; dashed line = the budget
//! ```
//! Source: measurement.md sections 10 and 13 ("Own figures").

use super::axis::{Axis, PlotArea, frame};
use super::labels::SIZE;
use super::palette::{DARK, VERMILION, look};
use super::scene::{Anchor, Mark, Scene, text_width};
use super::{Figure, PlotOptions};
use crate::compare::{Ratio, ratio};
use crate::conditions::one_condition;
use crate::error::ReportError;
use crate::number::{Scale, ratio_pct};
use crate::paper::Paper;
use crate::provenance::Provenance;
use crate::study::Study;
use crate::subject::{Query, Subject, reference_of, subjects, titles};
use crate::table::{Content, NumberCell, TableCell, TableData, TableRow};

const COSTS: [(&str, &str); 8] = [
    ("train_step_s", "training step time"),
    ("prefill_s", "prefill time"),
    ("ttft_s", "time to first token"),
    ("tpot_s", "time per output token"),
    ("decode_tokens_per_s", "decode rate"),
    ("peak_alloc_bytes", "peak allocated memory"),
    ("peak_rss_bytes", "peak resident memory"),
    ("flops_forward", "forward FLOPs"),
];
const WIDTH: u32 = 760;
/// Height of one line.
const LINE: f64 = 34.0;

pub(super) fn draw(study: &Study, _: &Paper, options: PlotOptions) -> Result<Vec<Figure>, ReportError> {
    let study = &one_condition(study).study;
    let mut figures = Vec::new();
    for (metric, words) in COSTS {
        let all = subjects(study, |group| group.shared.metric == metric);
        let mut found: Vec<(Subject, String, Ratio)> = Vec::new();
        for (subject, title) in all.iter().zip(titles(&all)) {
            let Some(reference) = reference_of(subject, &all).filter(|reference| *reference != subject) else { continue };
            if let Some(ratio) = ratio(study, reference, subject, Query { metric, ..Query::default() })? {
                found.push((subject.clone(), title, ratio));
            }
        }
        if !found.is_empty() {
            figures.push(figure(metric, words, &found, options)?);
        }
    }
    Ok(figures)
}

fn figure(metric: &str, words: &str, found: &[(Subject, String, Ratio)], options: PlotOptions) -> Result<Figure, ReportError> {
    let texts: Vec<String> = found.iter().map(|(_, _, ratio)| shown(ratio)).collect();
    let mut left = 60.0_f64;
    let mut right = 60.0_f64;
    for ((_, title, _), text) in found.iter().zip(&texts) {
        left = left.max(text_width(title, SIZE)?);
        right = right.max(text_width(text, SIZE)?);
    }
    let height = 16.0 + LINE * found.len() as f64 + 62.0;
    let area = PlotArea { left: left + 24.0, right: f64::from(WIDTH) - right - 24.0, top: 16.0, bottom: height - 62.0 };
    // A rate is worse when it falls, so its budget lies on the other side.
    let budget = if metric.ends_with("_per_s") { 1.0 / (1.0 + options.budget) - 1.0 } else { options.budget };
    let ends = found.iter().flat_map(|(_, _, ratio)| {
        let (low, high) = ratio.interval.unwrap_or((ratio.ratio, ratio.ratio));
        [low - 1.0, high - 1.0]
    });
    let x = Axis::linear(ends.chain([0.0, budget]), (area.left, area.right), Scale { divisor: 0.01, unit: "%" });
    let mut y = Axis::linear([0.0, 1.0], (area.bottom, area.top), Scale::NONE);
    y.ticks.clear();
    let mut scene = Scene::new(WIDTH, height as u32);
    scene.frame =
        frame(area, &x, &y, &format!("{words} against the reference, %; dashed: budget {}", ratio_pct(1.0 + budget)), "");
    let upright = |value: f64| vec![(x.px(value), area.top), (x.px(value), area.bottom)];
    scene.frame.push(Mark::Path { points: upright(0.0), ink: DARK, width: 1, dash: None });
    let title = format!("budget {}", ratio_pct(1.0 + budget));
    scene.tag(Mark::Path { points: upright(budget), ink: VERMILION, width: 2, dash: Some((6.0, 4.0)) }, title);
    for (at, ((subject, title, ratio), text)) in found.iter().zip(&texts).enumerate() {
        let style = look(&subject.variant);
        let middle = area.top + LINE * (at as f64 + 0.5);
        let label =
            |at: (f64, f64), text: &str, anchor| Mark::Text { at, text: text.to_owned(), size: SIZE, anchor, is_upright: false };
        scene.add(label((area.left - 8.0, middle), title, Anchor::End));
        scene.add(label((area.right + 10.0, middle), text, Anchor::Start));
        let place = (x.px(ratio.ratio - 1.0), middle);
        scene.tag(Mark::Symbol { at: place, shape: style.shape, ink: style.ink, opacity: 1.0 }, format!("{title}: {text}"));
        if let Some((low, high)) = ratio.interval {
            let (low, high) = (x.px(low - 1.0), x.px(high - 1.0));
            for points in [
                vec![(low, middle), (high, middle)],
                vec![(low, middle - 9.0), (low, middle + 9.0)],
                vec![(high, middle - 9.0), (high, middle + 9.0)],
            ] {
                scene.add(Mark::Path { points, ink: style.ink, width: 2, dash: None });
            }
        }
    }
    Ok(Figure {
        name: format!("overhead_{metric}"),
        title: format!("Overhead: {words}"),
        description: format!(
            "Median paired ratio of {words} to the reference with its 95 % bootstrap interval for {} subjects; dashed line: budget {}.",
            found.len(),
            ratio_pct(1.0 + budget)
        ),
        scene,
        data: data_table(metric, words, found, &texts),
    })
}

fn shown(ratio: &Ratio) -> String {
    let range = ratio.interval.map_or_else(String::new, |(low, high)| format!(" [{}, {}]", ratio_pct(low), ratio_pct(high)));
    format!("{}{range}, n = {}", ratio_pct(ratio.ratio), ratio.n)
}

fn data_table(metric: &str, words: &str, found: &[(Subject, String, Ratio)], texts: &[String]) -> TableData {
    let mut table = TableData::new(&format!("overhead_{metric}-data"), &format!("Overhead: {words}"), Provenance::default());
    table.text_column("subject", "Subject");
    table.number_column("ratio", "Change against the reference", None);
    for ((_, title, ratio), text) in found.iter().zip(texts) {
        let number = NumberCell {
            value: ratio.ratio - 1.0,
            interval: ratio.interval.map(|(low, high)| (low - 1.0, high - 1.0)),
            n: Some((ratio.n, ratio.basis)),
            unit: "1".to_owned(),
            scale: Scale::NONE,
            text: Some(text.clone()),
        };
        table.rows.push(TableRow { group: None, cells: vec![TableCell::words(title), Content::Number(number).into()] });
    }
    table
}
