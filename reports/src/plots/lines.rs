//! Line figures: one series per subject, direct labels at the line ends, intervals where there are some.
//!
//! Used by learning curves, rank sweeps and latency against prompt length.

use super::Figure;
use super::axis::{Axis, PlotArea, frame};
use super::labels::SIZE;
use super::palette::{GREY, Look, look};
use super::scene::{Anchor, Mark, Scene, text_width};
use crate::error::ReportError;
use crate::number::{Scale, estimate as shown};
use crate::provenance::Provenance;
use crate::subject::Subject;
use crate::table::{Content, NumberCell, TableCell, TableData, TableRow};

/// Most points drawn per line; more are thinned evenly.
const MOST_POINTS: usize = 400;
/// Width and height of a figure.
const SIZE_PX: (u32, u32) = (760, 460);

/// Distance of two series at the same x, pixels.
const DODGE: f64 = 6.0;

/// One value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
    pub interval: Option<(f64, f64)>,
    pub n: usize,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub subject: Subject,
    /// As labelled.
    pub title: String,
    /// What tells it from other lines of the subject.
    pub detail: String,
    pub points: Vec<Point>,
    pub has_symbols: bool,
    /// Whether the end carries the title; one line per subject does.
    pub is_labelled: bool,
}

/// What a line figure is about.
#[derive(Clone, Debug)]
pub(super) struct LineFigure<'a> {
    pub name: String,
    pub title: String,
    pub description: String,
    pub x_title: &'a str,
    pub y_title: String,
    pub unit: &'a str,
    pub is_log_x: bool,
    /// Horizontal band.
    pub band: Option<Band>,
}

/// A value that does not depend on x.
#[derive(Clone, Debug)]
pub(super) struct Band {
    pub subject: Subject,
    pub title: String,
    pub value: f64,
    pub interval: Option<(f64, f64)>,
}

/// Draws the series.
pub(super) fn draw(figure: LineFigure<'_>, series: &[Series]) -> Result<Figure, ReportError> {
    let points = || series.iter().flat_map(|series| &series.points);
    let scale = Scale::of(figure.unit, points().map(|point| point.y));
    let mut widest = 0.0_f64;
    for title in series.iter().filter(|s| s.is_labelled).map(|s| &s.title).chain(figure.band.iter().map(|band| &band.title)) {
        widest = widest.max(text_width(title, SIZE)?);
    }
    let area =
        PlotArea { left: 80.0, right: f64::from(SIZE_PX.0) - widest - 40.0, top: 16.0, bottom: f64::from(SIZE_PX.1) - 56.0 };
    let xs = points().map(|point| point.x);
    let x = if figure.is_log_x {
        let mut axis = Axis::log(xs.clone(), (area.left, area.right), "1");
        // A sweep is read at the values that were swept.
        let mut swept: Vec<f64> = xs.collect();
        swept.sort_unstable_by(f64::total_cmp);
        swept.dedup();
        if swept.len() <= 12 {
            axis.ticks = swept.into_iter().map(|value| (value, crate::number::significant(value))).collect();
        }
        axis
    } else {
        Axis::linear(xs, (area.left, area.right), Scale::NONE)
    };
    let ends = |interval: Option<(f64, f64)>| interval.map(|(low, high)| [low, high]).into_iter().flatten();
    let ys = points().flat_map(|point| ends(point.interval).chain([point.y]));
    let band_ys = figure.band.iter().flat_map(|band| ends(band.interval).chain([band.value]));
    let y = Axis::linear(ys.chain(band_ys), (area.bottom, area.top), scale);
    let mut scene = Scene::new(SIZE_PX.0, SIZE_PX.1);
    let unit = if scale.unit.is_empty() { String::new() } else { format!(", {}", scale.unit) };
    scene.frame = frame(area, &x, &y, figure.x_title, &format!("{}{unit}", figure.y_title));
    let mut labels: Vec<EndLabel> = Vec::new();
    let count = series.len();
    if let Some(Band { subject, title, value, interval }) = &figure.band {
        let ink = look(&subject.variant).ink;
        let words = format!("{title}: {}", words(*value, *interval, scale));
        if let Some((low, high)) = interval {
            let (from, to) = ((area.left, y.px(*high)), (area.right, y.px(*low)));
            scene.tag(Mark::Band { from, to, ink, opacity: 0.15 }, words.clone());
        }
        let points = vec![(area.left, y.px(*value)), (area.right, y.px(*value))];
        scene.tag(Mark::Path { points, ink, width: 2, dash: look(&subject.variant).dash }, words);
        labels.push(EndLabel { x: area.right, y: y.px(*value), text: title.clone(), style: look(&subject.variant) });
    }
    for (at, series) in series.iter().enumerate() {
        let style = look(&series.subject.variant);
        // Intervals at the same x stand side by side.
        let dodge = if series.has_symbols { DODGE * (at as f64 - 0.5 * (count - 1) as f64) } else { 0.0 };
        draw_series(&mut scene, series, style, &x.moved(dodge), &y, scale);
        if let Some(last) = series.points.last().filter(|_| series.is_labelled) {
            labels.push(EndLabel { x: x.moved(dodge).px(last.x), y: y.px(last.y), text: series.title.clone(), style });
        }
    }
    for (placed, label) in spread(labels, area) {
        // A line from the curve's end to its symbol, where the label had to move.
        let points = vec![(label.x + 2.0, label.y), (area.right + 10.0, placed)];
        scene.add(Mark::Path { points, ink: GREY, width: 1, dash: Some((2.0, 2.0)) });
        let at = (area.right + 18.0, placed);
        scene.add(Mark::Symbol { at, shape: label.style.shape, ink: label.style.ink, opacity: 0.85 });
        let at = (area.right + 30.0, placed);
        scene.add(Mark::Text { at, text: label.text, size: SIZE, anchor: Anchor::Start, is_upright: false });
    }
    let data = data_table(&figure, series, scale);
    Ok(Figure { name: figure.name, title: figure.title, description: figure.description, scene, data })
}

fn words(value: f64, interval: Option<(f64, f64)>, scale: Scale) -> String {
    let half = interval.map(|(low, high)| 0.5 * (high - low) / scale.divisor);
    format!("{} {}", shown(value / scale.divisor, half), scale.unit).trim_end().to_owned()
}

fn draw_series(scene: &mut Scene, series: &Series, style: Look, x: &Axis, y: &Axis, scale: Scale) {
    let stride = series.points.len().div_ceil(MOST_POINTS).max(1);
    let last = series.points.len().saturating_sub(1);
    let kept: Vec<&Point> =
        series.points.iter().enumerate().filter(|(at, _)| at % stride == 0 || *at == last).map(|(_, point)| point).collect();
    let points = kept.iter().map(|point| (x.px(point.x), y.px(point.y))).collect();
    let name = format!("{} {}", series.title, series.detail);
    scene.tag(Mark::Path { points, ink: style.ink, width: 2, dash: style.dash }, name.trim_end());
    if !series.has_symbols {
        return;
    }
    for point in kept {
        if let Some((low, high)) = point.interval {
            let at = x.px(point.x);
            scene.add(Mark::Path { points: vec![(at, y.px(low)), (at, y.px(high))], ink: style.ink, width: 1, dash: None });
        }
        let title = format!("{} at {}: {}, n = {}", series.title, point.x, words(point.y, point.interval, scale), point.n);
        let at = (x.px(point.x), y.px(point.y));
        scene.tag(Mark::Symbol { at, shape: style.shape, ink: style.ink, opacity: 0.85 }, title);
    }
}

/// A label at the end of a line.
#[derive(Clone, Debug, PartialEq)]
struct EndLabel {
    x: f64,
    y: f64,
    text: String,
    style: Look,
}

/// Heights of the labels along the right edge: near their lines, apart from each other, in the lines' order.
fn spread(mut labels: Vec<EndLabel>, area: PlotArea) -> Vec<(f64, EndLabel)> {
    let gap = SIZE + 2.0;
    labels.sort_by(|a, b| a.y.total_cmp(&b.y).then_with(|| a.text.cmp(&b.text)));
    let mut places: Vec<f64> = labels.iter().map(|label| label.y).collect();
    for at in 1..places.len() {
        places[at] = places[at].max(places[at - 1] + gap);
    }
    // Pushed below the plot: push back up from the bottom.
    let mut limit = area.bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - gap;
    }
    places.into_iter().zip(labels).collect()
}

fn data_table(figure: &LineFigure<'_>, series: &[Series], scale: Scale) -> TableData {
    let mut table = TableData::new(&format!("{}-data", figure.name), &figure.title, Provenance::default());
    table.text_column("series", "Series");
    table.number_column("x", figure.x_title, None);
    table.number_column("y", &figure.y_title, None);
    for series in series {
        let stride = series.points.len().div_ceil(20).max(1);
        let last = series.points.len().saturating_sub(1);
        for (_, point) in series.points.iter().enumerate().filter(|(at, _)| at % stride == 0 || *at == last) {
            let number = NumberCell {
                value: point.y,
                interval: point.interval,
                n: None,
                unit: figure.unit.to_owned(),
                scale,
                text: Some(words(point.y, point.interval, scale)),
            };
            let name = format!("{} {}", series.title, series.detail);
            let cells = vec![
                TableCell::words(name.trim_end()),
                TableCell::number(point.x, "1", Scale::NONE),
                Content::Number(number).into(),
            ];
            table.rows.push(TableRow { group: None, cells });
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_labels_keep_their_distance_and_their_order() {
        let area = PlotArea { left: 0.0, right: 100.0, top: 0.0, bottom: 100.0 };
        let label = |y: f64, text: &str| EndLabel { x: 90.0, y, text: text.to_owned(), style: look("rw") };
        let placed = spread(vec![label(98.0, "b"), label(97.0, "a"), label(99.0, "c")], area);
        assert_eq!(placed.iter().map(|(_, label)| label.text.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(placed.windows(2).all(|pair| pair[1].0 - pair[0].0 >= SIZE));
        assert!(placed.last().unwrap().0 <= 100.0);
    }
}
