//! Direct labels that overlap neither each other nor the points.
//!
//! ```text
//! for each point in order: try places around it at growing distance; take the first that is free and inside; a far one gets a line
//! ```
//! Greedy and deterministic. Labels beside the marks spare the reader a legend and a second look at the colours.

use super::axis::PlotArea;
use super::palette::GREY;
use super::scene::{Anchor, Mark, RADIUS, text_width};
use crate::error::ReportError;

/// Height of label text, pixels.
pub(super) const SIZE: f64 = 15.0;

/// Something to label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Label {
    /// The point it belongs to.
    pub(super) at: (f64, f64),
    /// Words.
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rect {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Rect {
    fn overlap(&self, other: &Self) -> f64 {
        let width = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let height = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        width * height
    }

    fn outside(&self, area: PlotArea) -> f64 {
        (area.left - self.left).max(0.0)
            + (self.right - area.right).max(0.0)
            + (area.top - self.top).max(0.0)
            + (self.bottom - area.bottom).max(0.0)
    }
}

/// Places labels inside `area`; `busy` are further rectangles to keep free (left, top, right, bottom).
///
/// # Errors
/// When a text cannot be measured.
pub(super) fn place(labels: &[Label], area: PlotArea, busy: &[(f64, f64, f64, f64)]) -> Result<Vec<Mark>, ReportError> {
    let margin = RADIUS + 2.0;
    let mut taken: Vec<Rect> = labels
        .iter()
        .map(|label| Rect {
            left: label.at.0 - margin,
            right: label.at.0 + margin,
            top: label.at.1 - margin,
            bottom: label.at.1 + margin,
        })
        .collect();
    taken.extend(busy.iter().map(|(left, top, right, bottom)| Rect { left: *left, right: *right, top: *top, bottom: *bottom }));
    let mut marks = Vec::new();
    for label in labels {
        let width = text_width(&label.text, SIZE)?;
        let mut best: Option<(f64, f64, Rect)> = None;
        for candidate in candidates(label.at, width) {
            let rect = candidate.1;
            let cost = taken.iter().map(|other| rect.overlap(other)).sum::<f64>() + 1e3 * rect.outside(area);
            if best.is_none_or(|(least, ..)| cost < least - 1e-9) {
                best = Some((cost, candidate.0, rect));
            }
            if cost == 0.0 {
                break;
            }
        }
        let Some((_, distance, rect)) = best else { continue };
        taken.push(rect);
        let middle = 0.5 * (rect.top + rect.bottom);
        if distance > 14.0 {
            let x = label.at.0.clamp(rect.left, rect.right);
            let y = if middle < label.at.1 { rect.bottom } else { rect.top };
            let points = vec![label.at, (x, if (rect.top..=rect.bottom).contains(&label.at.1) { middle } else { y })];
            marks.push(Mark::Path { points, ink: GREY, width: 1, dash: None });
        }
        marks.push(Mark::Text {
            at: (rect.left + 1.0, middle),
            text: label.text.clone(),
            size: SIZE,
            anchor: Anchor::Start,
            is_upright: false,
        });
    }
    Ok(marks)
}

/// Places around a point, near ones first: distance and rectangle.
fn candidates((x, y): (f64, f64), width: f64) -> Vec<(f64, Rect)> {
    let height = SIZE;
    let mut out = Vec::new();
    for distance in [10.0, 13.0, 20.0, 30.0, 42.0, 56.0, 72.0, 90.0] {
        let rect = |left: f64, middle: f64| Rect {
            left,
            right: left + width + 2.0,
            top: middle - 0.5 * height,
            bottom: middle + 0.5 * height,
        };
        let diagonal = 0.75 * distance;
        out.extend(
            [
                rect(x + distance, y),
                rect(x - distance - width, y),
                rect(x - 0.5 * width, y - distance - 0.5 * height),
                rect(x - 0.5 * width, y + distance + 0.5 * height),
                rect(x + diagonal, y - diagonal - 0.3 * height),
                rect(x + diagonal, y + diagonal + 0.3 * height),
                rect(x - diagonal - width, y - diagonal - 0.3 * height),
                rect(x - diagonal - width, y + diagonal + 0.3 * height),
            ]
            .map(|rect| (distance, rect)),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowded_labels_do_not_overlap() {
        let area = PlotArea { left: 0.0, right: 600.0, top: 0.0, bottom: 400.0 };
        let labels: Vec<Label> = (0..8)
            .map(|at| Label { at: (300.0 + f64::from(at % 3), 200.0 + 4.0 * f64::from(at)), text: format!("RW+LR+PA {at}") })
            .collect();
        let marks = place(&labels, area, &[]).unwrap();
        let boxes: Vec<Rect> = marks
            .iter()
            .filter_map(|mark| match mark {
                Mark::Text { at, text, .. } => {
                    let width = text_width(text, SIZE).unwrap();
                    let (left, top) = (at.0 - 1.0, at.1 - 0.5 * SIZE);
                    Some(Rect { left, right: left + width, top, bottom: top + SIZE })
                }
                _ => None,
            })
            .collect();
        assert_eq!(boxes.len(), 8);
        for (at, a) in boxes.iter().enumerate() {
            assert_eq!(a.outside(area), 0.0);
            for b in &boxes[..at] {
                assert_eq!(a.overlap(b), 0.0, "{a:?} {b:?}");
            }
        }
    }
}
