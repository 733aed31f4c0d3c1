//! Colours that people with colour-vision deficiency can tell apart, and a second channel for each.
//!
//! ```text
//! variant -> colour (Okabe–Ito), symbol, dash      no two variants share both colour and symbol; yellow is only ever a fill
//! ```
//! Source: measurement.md section 15; Okabe and Ito, colour universal design.

use crate::subject::variant_rank;

/// A colour: red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ink(pub u8, pub u8, pub u8);

impl Ink {
    /// `#rrggbb`.
    pub fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// Axes and text.
pub const DARK: Ink = Ink(0x22, 0x22, 0x22);
/// Ground.
pub(super) const WHITE: Ink = Ink(0xff, 0xff, 0xff);
/// Grid lines.
pub const GRID: Ink = Ink(0xdd, 0xdd, 0xdd);
/// Reference and front lines.
pub const GREY: Ink = Ink(0x77, 0x77, 0x77);

const BLACK: Ink = Ink(0x00, 0x00, 0x00);
const ORANGE: Ink = Ink(0xE6, 0x9F, 0x00);
const SKY: Ink = Ink(0x56, 0xB4, 0xE9);
const GREEN: Ink = Ink(0x00, 0x9E, 0x73);
/// Gains in maps, and one variant.
pub const BLUE: Ink = Ink(0x00, 0x72, 0xB2);
/// Budget lines and one variant.
pub const VERMILION: Ink = Ink(0xD5, 0x5E, 0x00);
const PURPLE: Ink = Ink(0xCC, 0x79, 0xA7);

/// Fill and opacity of stacked parts; neighbours differ in lightness, so they stay apart in grey.
pub(super) const PARTS: [(Ink, f64); 4] = [(BLUE, 1.0), (SKY, 0.75), (GREEN, 0.9), (ORANGE, 0.45)];

/// Symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Disc.
    Circle,
    /// Square.
    Square,
    /// Triangle on its base.
    Triangle,
    /// Triangle on its tip.
    TriangleDown,
    /// Square on its corner.
    Diamond,
    /// Cross.
    Plus,
}

/// How a variant looks in every figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Colour.
    pub ink: Ink,
    /// Symbol.
    pub shape: Shape,
    /// Dash of its lines; `None` is solid.
    pub dash: Option<(f64, f64)>,
}

/// The look of a variant.
pub fn look(variant: &str) -> Look {
    let (ink, shape, dash) = match variant_rank(variant) {
        0 => (BLACK, Shape::Circle, None),
        rank if rank < 1000 => (ORANGE, Shape::Square, Some((8.0, 3.0))),
        rank if rank < 2000 => (SKY, Shape::Square, Some((3.0, 3.0))),
        2001 => (BLUE, Shape::Triangle, Some((10.0, 4.0))),
        2002 => (GREEN, Shape::TriangleDown, Some((6.0, 3.0))),
        2003 => (PURPLE, Shape::Plus, Some((2.0, 3.0))),
        2004 => (VERMILION, Shape::Diamond, None),
        2005 => (SKY, Shape::Triangle, Some((12.0, 3.0))),
        2006 => (GREEN, Shape::Circle, Some((4.0, 2.0))),
        2007 => (BLUE, Shape::Diamond, None),
        _ => (GREY, Shape::Circle, Some((5.0, 5.0))),
    };
    Look { ink, shape, dash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_variants_share_colour_and_symbol() {
        let variants = ["plain", "naive+1", "wide+4", "rw", "lr", "pa", "rw+lr", "rw+pa", "lr+pa", "rw+lr+pa"];
        for (at, a) in variants.iter().enumerate() {
            for b in &variants[..at] {
                assert_ne!((look(a).ink, look(a).shape), (look(b).ink, look(b).shape), "{a} {b}");
            }
        }
    }
}
