//! Rank × variant: what each rank of each variant gains over the plain model, one cell each.
//!
//! ```text
//! row   variant            column   rank r; "none" where a variant has no low-rank pair
//! cell  gain, paired over seeds, ± half-width of its 95 % interval; blue is better, orange is worse, in brackets where not shown
//! ```
//! Source: measurement.md section 13 ("Own figures": rank × variant heat map).

use std::collections::BTreeMap;

use super::axis::TEXT;
use super::labels::SIZE;
use super::palette::{BLUE, GREY, VERMILION};
use super::scene::{Anchor, Mark, Scene, text_width};
use super::{Figure, PlotOptions};
use crate::compare::{Difference, difference};
use crate::error::ReportError;
use crate::number::{MISSING, Scale, decimals_for, fixed};
use crate::paper::Paper;
use crate::provenance::Provenance;
use crate::study::Study;
use crate::subject::{Query, Subject, display_variant, reference_of, subjects, variant_rank};
use crate::table::{Content, NumberCell, TableCell, TableData, TableRow};
use records::Better;

/// Opacity of the largest gain or loss: dark text on it keeps a contrast above 4.5.
const DEEPEST: f64 = 0.45;
/// Height of a cell.
const CELL: f64 = 46.0;

/// Variant and rank, and what was found there.
type Cells = BTreeMap<(usize, String), BTreeMap<Option<u64>, Difference>>;

pub(super) fn draw(study: &Study, _: &Paper, _: PlotOptions) -> Result<Vec<Figure>, ReportError> {
    for metric in ["acc1_best", "acc1", "val_loss"] {
        let all = subjects(study, |group| group.shared.metric == metric && group.is_ok());
        let mut families: Vec<&str> = all.iter().map(Subject::family).collect();
        families.dedup();
        let mut figures = Vec::new();
        for family in &families {
            let mut cells: Cells = BTreeMap::new();
            for subject in all.iter().filter(|subject| subject.family() == *family && !subject.is_plain()) {
                let Some(reference) = reference_of(subject, &all).filter(|reference| reference.is_plain()) else { continue };
                if let Some(found) = difference(study, reference, subject, Query { metric, ..Query::default() })? {
                    let row = (variant_rank(&subject.variant), display_variant(&subject.variant));
                    cells.entry(row).or_default().entry(rank_of(study, subject, metric)).or_insert(found);
                }
            }
            let ranks: std::collections::BTreeSet<u64> = cells.values().flat_map(|row| row.keys()).filter_map(|r| *r).collect();
            if ranks.len() < 2 {
                continue;
            }
            let name = if families.len() == 1 || family.is_empty() { "heat".to_owned() } else { format!("heat_{family}") };
            figures.push(figure(&name, metric, &cells, &ranks.into_iter().collect::<Vec<_>>())?);
        }
        if !figures.is_empty() {
            return Ok(figures);
        }
    }
    Ok(Vec::new())
}

fn rank_of(study: &Study, subject: &Subject, metric: &str) -> Option<u64> {
    study.of_subject(&subject.name, metric).find_map(|group| group.shared.residual_rank)
}

/// Gain in the metric's direction.
fn gain(found: &Difference) -> f64 {
    if found.better == Better::Lower { -found.difference } else { found.difference }
}

/// Value, and the half-width of its interval.
fn parts(found: &Difference, scale: Scale) -> (String, Option<String>) {
    let value = gain(found) / scale.divisor;
    let half = found.interval.map(|(low, high)| 0.5 * (high - low) / scale.divisor);
    let decimals = half.map_or_else(|| decimals_for(value, 2), |half| decimals_for(half, 2));
    let sign = if value > 0.0 { "+" } else { "" };
    let text = format!("{sign}{}", fixed(value, decimals));
    let is_shown = found.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0);
    (if is_shown { text } else { format!("({text})") }, half.map(|half| format!("± {}", fixed(half, decimals))))
}

fn words(found: &Difference, scale: Scale) -> String {
    let (value, half) = parts(found, scale);
    half.map_or_else(|| value.clone(), |half| format!("{value} {half}"))
}

fn figure(name: &str, metric: &str, cells: &Cells, ranks: &[u64]) -> Result<Figure, ReportError> {
    let mut columns: Vec<Option<u64>> = ranks.iter().map(|rank| Some(*rank)).collect();
    if cells.values().any(|row| row.contains_key(&None)) {
        columns.insert(0, None);
    }
    let all = || cells.values().flat_map(BTreeMap::values);
    let unit = all().next().map_or("", |found| found.unit.as_str());
    let scale = Scale::of(unit, all().map(gain));
    let shown_unit = if unit == "fraction" { "points" } else { scale.unit };
    let largest = all().map(|found| gain(found).abs()).fold(0.0, f64::max);
    let mut left = 0.0_f64;
    for (_, variant) in cells.keys() {
        left = left.max(text_width(variant, SIZE)?);
    }
    let mut width = 70.0_f64;
    for found in all() {
        let (value, half) = parts(found, scale);
        width = width.max(text_width(&value, SIZE)? + 14.0).max(text_width(&half.unwrap_or_default(), SIZE)? + 14.0);
    }
    let (start, top) = (left + 28.0, 12.0);
    let bottom = top + CELL * cells.len() as f64;
    let mut scene = Scene::new((start + width * columns.len() as f64 + 12.0) as u32, (bottom + 52.0) as u32);
    let text =
        |at: (f64, f64), text: &str, size, anchor| Mark::Text { at, text: text.to_owned(), size, anchor, is_upright: false };
    for (row, ((_, variant), found)) in cells.iter().enumerate() {
        let (from, middle) = (top + CELL * row as f64, top + CELL * (row as f64 + 0.5));
        scene.add(text((start - 10.0, middle), variant, SIZE, Anchor::End));
        for (column, rank) in columns.iter().enumerate() {
            let (x, centre) = (start + width * column as f64, start + width * (column as f64 + 0.5));
            let Some(cell) = found.get(rank) else {
                scene.add(text((centre, middle), MISSING, SIZE, Anchor::Middle));
                continue;
            };
            let ink = if gain(cell) >= 0.0 { BLUE } else { VERMILION };
            let opacity = if largest > 0.0 { DEEPEST * gain(cell).abs() / largest } else { 0.0 };
            let place = rank.map_or_else(String::new, |rank| format!(" at rank {rank}"));
            let title = format!("{variant}{place}: {} {shown_unit}, n = {} {}", words(cell, scale), cell.n, cell.basis.as_str());
            scene.tag(Mark::Band { from: (x + 1.0, from + 1.0), to: (x + width - 1.0, from + CELL - 1.0), ink, opacity }, title);
            let corners = [
                (x + 1.0, from + 1.0),
                (x + width - 1.0, from + 1.0),
                (x + width - 1.0, from + CELL - 1.0),
                (x + 1.0, from + CELL - 1.0),
                (x + 1.0, from + 1.0),
            ];
            scene.add(Mark::Path { points: corners.to_vec(), ink: GREY, width: 1, dash: None });
            let (value, half) = parts(cell, scale);
            let shift = if half.is_some() { 9.0 } else { 0.0 };
            scene.add(text((centre, middle - shift), &value, SIZE, Anchor::Middle));
            if let Some(half) = half {
                scene.add(text((centre, middle + shift), &half, SIZE, Anchor::Middle));
            }
        }
    }
    for (column, rank) in columns.iter().enumerate() {
        let label = rank.map_or_else(|| "no rank".to_owned(), |rank| rank.to_string());
        scene.add(text((start + width * (column as f64 + 0.5), bottom + 14.0), &label, TEXT, Anchor::Middle));
    }
    let middle = start + 0.5 * width * columns.len() as f64;
    let x_title = if shown_unit.is_empty() { "rank r".to_owned() } else { format!("rank r; gain over plain in {shown_unit}") };
    scene.add(text((middle, bottom + 36.0), &x_title, TEXT, Anchor::Middle));
    Ok(Figure {
        name: name.to_owned(),
        title: format!("Rank and variant: gain in {metric} over plain"),
        description: format!(
            "Paired gain in {metric} of {} variants at up to {} ranks, positive is better, with the half-width of its 95 % interval; \
             blue is a gain, orange a loss, and a value in brackets is not shown to differ from 0 (uncorrected).",
            cells.len(),
            ranks.len()
        ),
        scene,
        data: data_table(name, metric, cells, scale),
    })
}

fn data_table(name: &str, metric: &str, cells: &Cells, scale: Scale) -> TableData {
    let title = format!("Gain in {metric} over plain");
    let mut table = TableData::new(&format!("{name}-data"), &title, Provenance::default());
    table.text_column("variant", "Variant");
    table.number_column("rank", "Rank", None);
    table.number_column("gain", "Gain", None);
    for ((_, variant), row) in cells {
        for (rank, found) in row {
            let turned = |(low, high): (f64, f64)| if found.better == Better::Lower { (-high, -low) } else { (low, high) };
            let number = NumberCell {
                value: gain(found),
                interval: found.interval.map(turned),
                n: Some((found.n, found.basis)),
                unit: found.unit.clone(),
                scale,
                text: Some(words(found, scale)),
            };
            let rank = rank.map_or_else(|| Content::Missing.into(), |rank| TableCell::number(rank as f64, "1", Scale::NONE));
            table
                .rows
                .push(TableRow { group: None, cells: vec![TableCell::words(variant), rank, Content::Number(number).into()] });
        }
    }
    table
}
