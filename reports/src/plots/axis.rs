//! Axes: from values to pixels, with round ticks.
//!
//! ```text
//! linear   ticks at 1, 2 or 5 · 10^k
//! log      ticks at 10^k and, over few decades, 2 and 5 · 10^k; a separate lane at the low end holds the value 0
//! ```
//! Added parameters span five decades and include 0, so a plain logarithm would lose the reference.
//!
//! Source: measurement.md section 12, last line but one.

use crate::number::{Scale, decimals_for, fixed, quantity};

use super::palette::{DARK, GRID};
use super::scene::{Anchor, Mark};

/// Height of axis text, pixels.
pub(super) const TEXT: f64 = 15.0;
/// Width of the lane of zeros, pixels.
const LANE: f64 = 46.0;

/// A mapped value range along pixels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    from_px: f64,
    to_px: f64,
    is_log: bool,
    has_lane: bool,
    /// Where ticks stand, and their text.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis around the values with some air, shown in a scale.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>, (from_px, to_px): (f64, f64), scale: Scale) -> Self {
        let (mut low, mut high) = range(values);
        let air = if high > low { 0.08 * (high - low) } else { 0.05 * low.abs().max(1e-12) };
        (low, high) = (low - air, high + air);
        let step = nice_step((high - low) / scale.divisor, (to_px - from_px).abs()) * scale.divisor;
        let decimals = decimals_for(step / scale.divisor, 1);
        let first = (low / step).ceil() as i64;
        let last = (high / step).floor() as i64;
        let ticks = (first..=last)
            .map(|at| {
                let value = at as f64 * step;
                (value, fixed(value / scale.divisor, decimals))
            })
            .collect();
        Self { low, high, from_px, to_px, is_log: false, has_lane: false, ticks }
    }

    /// The same axis, some pixels further.
    pub(super) fn moved(&self, by_px: f64) -> Self {
        Self { from_px: self.from_px + by_px, to_px: self.to_px + by_px, ..self.clone() }
    }

    /// Begins at 0, for bars; the axis must be linear and its values not negative.
    pub(super) fn start_at_zero(&mut self) {
        self.low = 0.0;
        self.ticks.retain(|(value, _)| *value >= 0.0);
    }

    /// A logarithmic axis around the positive values; 0 gets a lane of its own at the low end.
    pub(super) fn log(values: impl IntoIterator<Item = f64>, (from_px, to_px): (f64, f64), unit: &str) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        let has_lane = values.iter().any(|value| *value <= 0.0);
        let (low, high) = range(values.into_iter().filter(|value| *value > 0.0).map(f64::log10));
        let air = if high > low { 0.08 * (high - low) } else { 0.3 };
        let (low, high) = (low - air, high + air);
        let mut ticks = Vec::new();
        if has_lane {
            ticks.push((0.0, "0".to_owned()));
        }
        let decades = high - low;
        let steps: &[f64] = if decades < 1.6 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let stride = ((decades / 6.0).ceil() as i32).max(1);
        for decade in low.floor() as i32..=high.ceil() as i32 {
            for step in steps {
                let value = step * 10f64.powi(decade);
                if (low..=high).contains(&value.log10()) && decade % stride == 0 {
                    ticks.push((value, quantity(value, unit)));
                }
            }
        }
        Self { low, high, from_px, to_px, is_log: true, has_lane, ticks }
    }

    /// Pixel of a value.
    pub(super) fn px(&self, value: f64) -> f64 {
        let direction = (self.to_px - self.from_px).signum();
        let start = if self.has_lane { self.from_px + direction * LANE } else { self.from_px };
        if self.is_log && value <= 0.0 {
            return self.from_px + direction * 0.5 * LANE;
        }
        let value = if self.is_log { value.log10() } else { value };
        start + (value - self.low) / (self.high - self.low) * (self.to_px - start)
    }

    /// Pixel that divides the lane of zeros from the rest.
    pub(super) fn lane_edge(&self) -> Option<f64> {
        self.has_lane.then(|| self.from_px + (self.to_px - self.from_px).signum() * LANE)
    }
}

fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// 1, 2 or 5 · 10^k, such that ticks stand about 80 pixels apart.
fn nice_step(span: f64, pixels: f64) -> f64 {
    let rough = span / (pixels / 80.0).max(2.0);
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * magnitude >= rough).unwrap_or(10.0);
    step * magnitude
}

/// Rectangle of a plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PlotArea {
    /// Left edge.
    pub(super) left: f64,
    /// Right edge.
    pub(super) right: f64,
    /// Upper edge.
    pub(super) top: f64,
    /// Lower edge.
    pub(super) bottom: f64,
}

/// Grid, ticks and titles of both axes.
pub(super) fn frame(area: PlotArea, x: &Axis, y: &Axis, x_title: &str, y_title: &str) -> Vec<Mark> {
    let line = |from: (f64, f64), to: (f64, f64), ink, dash| Mark::Path { points: vec![from, to], ink, width: 1, dash };
    let text =
        |at: (f64, f64), text: &str, anchor, is_upright| Mark::Text { at, text: text.to_owned(), size: TEXT, anchor, is_upright };
    let mut marks = Vec::new();
    for (value, label) in &x.ticks {
        let at = x.px(*value);
        marks.push(line((at, area.top), (at, area.bottom), GRID, None));
        marks.push(text((at, area.bottom + 14.0), label, Anchor::Middle, false));
    }
    for (value, label) in &y.ticks {
        let at = y.px(*value);
        marks.push(line((area.left, at), (area.right, at), GRID, None));
        marks.push(text((area.left - 8.0, at), label, Anchor::End, false));
    }
    if let Some(edge) = x.lane_edge() {
        marks.push(line((edge, area.top), (edge, area.bottom), DARK, Some((2.0, 4.0))));
    }
    marks.push(line((area.left, area.bottom), (area.right, area.bottom), DARK, None));
    marks.push(line((area.left, area.top), (area.left, area.bottom), DARK, None));
    marks.push(text((0.5 * (area.left + area.right), area.bottom + 36.0), x_title, Anchor::Middle, false));
    if !y_title.is_empty() {
        marks.push(text((16.0, 0.5 * (area.top + area.bottom)), y_title, Anchor::Middle, true));
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_and_inside() {
        let axis = Axis::linear([2.95, 3.02], (0.0, 400.0), Scale::NONE);
        let texts: Vec<&str> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["2.96", "2.98", "3.00", "3.02"]);
        assert!(axis.px(2.95) > 0.0 && axis.px(3.02) < 400.0);
    }

    #[test]
    fn zero_has_its_own_lane_on_a_log_axis() {
        let axis = Axis::log([0.0, 48.0, 1.2e6], (100.0, 500.0), "params");
        let edge = axis.lane_edge().unwrap();
        assert!(axis.px(0.0) < edge && edge < axis.px(48.0));
        let texts: Vec<&str> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["0", "100", "1 k", "10 k", "100 k", "1 M"]);
        assert!(axis.px(1.2e6) < 500.0);
    }

    #[test]
    fn equal_values_still_make_an_axis() {
        let axis = Axis::linear([3.0, 3.0], (0.0, 100.0), Scale::NONE);
        assert!((axis.px(3.0) - 50.0).abs() < 1e-9);
        assert!(!axis.ticks.is_empty());
    }
}
