//! A figure as a list of marks in pixels, drawn the same way to SVG and to PNG.
//!
//! ```text
//! frame   axes, grid, ticks: plotters, in both          data   marks, intervals, labels: our own SVG elements with <title>, plotters in PNG
//! ```
//! plotters does not tag its SVG elements (plotters-rs/plotters#494), so everything a reader may ask about is written here, over
//! the plotted axes: a point carries variant, value, interval and n. PNG is drawn at twice the size.
//!
//! Source: measurement.md section 15 ("Accessible").

use std::sync::OnceLock;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::palette::{Ink, Shape};
use crate::error::ReportError;
use crate::escape;

/// Pixels of the bitmap per pixel of the scene.
const PNG_SCALE: i32 = 2;
/// Family under which the built-in font is registered.
const FONT: &str = "sans-serif";

/// Where a text's reference point lies, horizontally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// At its start.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// One mark, coordinates in scene pixels.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// Connected line; `dash` is on and off length, solid when `None`.
    Path {
        /// Corners.
        points: Vec<(f64, f64)>,
        /// Colour.
        ink: Ink,
        /// Width.
        width: u32,
        /// On and off length.
        dash: Option<(f64, f64)>,
    },
    /// Filled rectangle.
    Band {
        /// Top left.
        from: (f64, f64),
        /// Bottom right.
        to: (f64, f64),
        /// Colour.
        ink: Ink,
        /// 0 to 1.
        opacity: f64,
    },
    /// Symbol with a dark outline.
    Symbol {
        /// Centre.
        at: (f64, f64),
        /// Second channel beside the colour.
        shape: Shape,
        /// Colour.
        ink: Ink,
        /// Of the fill, 0 to 1.
        opacity: f64,
    },
    /// Text, vertically centred on its point.
    Text {
        /// Reference point.
        at: (f64, f64),
        /// Words.
        text: String,
        /// Height, pixels.
        size: f64,
        /// Horizontal anchor.
        anchor: Anchor,
        /// Turned by 90° against the clock.
        is_upright: bool,
    },
}

/// A mark with what it says when asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagged {
    /// The mark.
    pub mark: Mark,
    /// Its `<title>`.
    pub title: Option<String>,
}

/// A figure in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// Axes and grid.
    pub frame: Vec<Mark>,
    /// Data.
    pub data: Vec<Tagged>,
}

/// Outline of a symbol of radius `r` around the origin; empty for a circle.
fn outline(shape: Shape, r: f64) -> Vec<(f64, f64)> {
    match shape {
        Shape::Circle => Vec::new(),
        Shape::Square => vec![(-r, -r), (r, -r), (r, r), (-r, r)],
        Shape::Triangle => vec![(0.0, -1.2 * r), (1.15 * r, 0.9 * r), (-1.15 * r, 0.9 * r)],
        Shape::TriangleDown => vec![(0.0, 1.2 * r), (1.15 * r, -0.9 * r), (-1.15 * r, -0.9 * r)],
        Shape::Diamond => vec![(0.0, -1.35 * r), (1.35 * r, 0.0), (0.0, 1.35 * r), (-1.35 * r, 0.0)],
        Shape::Plus => {
            let w = 0.45 * r;
            let l = 1.3 * r;
            vec![(-w, -l), (w, -l), (w, -w), (l, -w), (l, w), (w, w), (w, l), (-w, l), (-w, w), (-l, w), (-l, -w), (-w, -w)]
        }
    }
}

/// Radius of a symbol, pixels.
pub const RADIUS: f64 = 5.5;

fn register_font() -> Result<(), ReportError> {
    static DONE: OnceLock<bool> = OnceLock::new();
    let is_done =
        *DONE.get_or_init(|| plotters::style::register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok());
    if is_done {
        Ok(())
    } else {
        Err(ReportError::Draw { plot: "font".to_owned(), reason: "the built-in font was refused".to_owned() })
    }
}

/// Width of a text in scene pixels.
///
/// # Errors
/// When the font is refused.
pub fn text_width(text: &str, size: f64) -> Result<f64, ReportError> {
    register_font()?;
    let found = (FONT, size).into_font().box_size(text);
    let (width, _) = found.map_err(|error| ReportError::Draw { plot: text.to_owned(), reason: error.to_string() })?;
    // Viewers lay the text out with their own font, a little wider than ours.
    Ok(1.08 * f64::from(width))
}

impl Scene {
    /// An empty white scene.
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height, frame: Vec::new(), data: Vec::new() }
    }

    /// Adds a data mark with its title.
    pub fn tag(&mut self, mark: Mark, title: impl Into<String>) {
        self.data.push(Tagged { mark, title: Some(title.into()) });
    }

    /// Adds a data mark that says nothing of its own.
    pub fn add(&mut self, mark: Mark) {
        self.data.push(Tagged { mark, title: None });
    }

    /// The figure as SVG with `role="img"`, title and description; `id` keeps ids unique within a page.
    ///
    /// # Errors
    /// When the drawing library fails.
    pub fn svg(&self, id: &str, title: &str, description: &str) -> Result<String, ReportError> {
        register_font()?;
        let mut frame = String::new();
        {
            let area = SVGBackend::with_string(&mut frame, (self.width, self.height)).into_drawing_area();
            let fail = |error: String| ReportError::Draw { plot: id.to_owned(), reason: error };
            area.fill(&WHITE).map_err(|error| fail(error.to_string()))?;
            for mark in &self.frame {
                draw(&area, mark, 1).map_err(|error| fail(error.to_string()))?;
            }
            area.present().map_err(|error| fail(error.to_string()))?;
        }
        // The library's own <svg> element is replaced by one that says what it is.
        let body = frame.find('>').map_or("", |end| &frame[end + 1..]).trim_end().trim_end_matches("</svg>").trim_end();
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"img\" \
             aria-labelledby=\"{id}-title {id}-desc\">\n<title id=\"{id}-title\">{}</title>\n<desc id=\"{id}-desc\">{}</desc>\n",
            self.width,
            self.height,
            self.width,
            self.height,
            escape::html(title),
            escape::html(description)
        );
        out.push_str("<g aria-hidden=\"true\">");
        out.push_str(body);
        out.push_str("\n</g>\n<g class=\"data\">\n");
        for tagged in &self.data {
            out.push_str(&svg_mark(tagged));
        }
        out.push_str("</g>\n</svg>\n");
        Ok(out)
    }

    /// The figure as PNG at twice the scene's size.
    ///
    /// # Errors
    /// When drawing or encoding fails.
    pub fn png(&self, id: &str) -> Result<Vec<u8>, ReportError> {
        register_font()?;
        let fail = |reason: String| ReportError::Draw { plot: id.to_owned(), reason };
        let (width, height) = (self.width * PNG_SCALE.unsigned_abs(), self.height * PNG_SCALE.unsigned_abs());
        let mut pixels = vec![0_u8; 3 * width as usize * height as usize];
        {
            let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
            area.fill(&WHITE).map_err(|error| fail(error.to_string()))?;
            for mark in self.frame.iter().chain(self.data.iter().map(|tagged| &tagged.mark)) {
                draw(&area, mark, PNG_SCALE).map_err(|error| fail(error.to_string()))?;
            }
            area.present().map_err(|error| fail(error.to_string()))?;
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(|error| fail(error.to_string()))?;
        writer.write_image_data(&pixels).map_err(|error| fail(error.to_string()))?;
        writer.finish().map_err(|error| fail(error.to_string()))?;
        Ok(bytes)
    }
}

fn pixel((x, y): (f64, f64), scale: i32) -> (i32, i32) {
    let scale = f64::from(scale);
    ((x * scale).round() as i32, (y * scale).round() as i32)
}

fn draw<DB: DrawingBackend>(
    area: &DrawingArea<DB, plotters::coord::Shift>,
    mark: &Mark,
    scale: i32,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let rgb = |ink: Ink| RGBColor(ink.0, ink.1, ink.2);
    match mark {
        Mark::Path { points, ink, width, dash } => {
            let style = rgb(*ink).stroke_width(width * scale.unsigned_abs());
            let pieces = match dash {
                None => vec![points.clone()],
                Some(dash) => dashes(points, *dash),
            };
            for piece in pieces {
                let piece: Vec<(i32, i32)> = piece.into_iter().map(|point| pixel(point, scale)).collect();
                area.draw(&PathElement::new(piece, style))?;
            }
            Ok(())
        }
        Mark::Band { from, to, ink, opacity } => {
            area.draw(&Rectangle::new([pixel(*from, scale), pixel(*to, scale)], rgb(*ink).mix(*opacity).filled()))
        }
        Mark::Symbol { at, shape, ink, opacity } => {
            let fill = rgb(*ink).mix(*opacity).filled();
            let edge = rgb(*ink).stroke_width(scale.unsigned_abs());
            if *shape == Shape::Circle {
                let radius = (RADIUS * f64::from(scale)).round() as i32;
                area.draw(&Circle::new(pixel(*at, scale), radius, fill))?;
                return area.draw(&Circle::new(pixel(*at, scale), radius, edge));
            }
            let mut corners: Vec<(i32, i32)> =
                outline(*shape, RADIUS).into_iter().map(|(x, y)| pixel((at.0 + x, at.1 + y), scale)).collect();
            area.draw(&plotters::element::Polygon::new(corners.clone(), fill))?;
            corners.push(corners[0]);
            area.draw(&PathElement::new(corners, edge))
        }
        Mark::Text { at, text, size, anchor, is_upright } => {
            let horizontal = match anchor {
                Anchor::Start => HPos::Left,
                Anchor::Middle => HPos::Center,
                Anchor::End => HPos::Right,
            };
            let mut font = (FONT, size * f64::from(scale)).into_font();
            if *is_upright {
                font = font.transform(FontTransform::Rotate270);
            }
            let style = TextStyle::from(font).color(&RGBColor(0x22, 0x22, 0x22)).pos(Pos::new(horizontal, VPos::Center));
            // The bitmap backend centres the line box, whose letters sit in its upper part.
            let (x, y) = pixel(*at, scale);
            let shift = if *is_upright || scale == 1 { 0 } else { (0.16 * size * f64::from(scale)).round() as i32 };
            area.draw(&Text::new(text.clone(), (x, y + shift), style))
        }
    }
}

/// Cuts a path into the "on" pieces of a dash pattern.
fn dashes(points: &[(f64, f64)], (on, off): (f64, f64)) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<(f64, f64)> = Vec::new();
    let (mut is_on, mut left) = (true, on);
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        if is_on && piece.is_empty() {
            piece.push(from);
        }
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length <= left {
                left -= length;
                if is_on {
                    piece.push(to);
                }
                break;
            }
            let share = left / length;
            from = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            if is_on {
                piece.push(from);
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![from];
            }
            is_on = !is_on;
            left = if is_on { on } else { off };
        }
    }
    if piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

fn svg_mark(tagged: &Tagged) -> String {
    let title = tagged.title.as_ref().map_or_else(String::new, |title| format!("<title>{}</title>", escape::html(title)));
    let at = |(x, y): (f64, f64)| format!("{x:.1},{y:.1}");
    match &tagged.mark {
        Mark::Path { points, ink, width, dash } => {
            let points: Vec<String> = points.iter().map(|point| at(*point)).collect();
            let dash = dash.map_or_else(String::new, |(on, off)| format!(" stroke-dasharray=\"{on} {off}\""));
            format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\"{dash}>{title}</polyline>\n",
                points.join(" "),
                ink.hex()
            )
        }
        Mark::Band { from, to, ink, opacity } => format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" fill-opacity=\"{opacity:.2}\">{title}</rect>\n",
            from.0,
            from.1,
            to.0 - from.0,
            to.1 - from.1,
            ink.hex()
        ),
        Mark::Symbol { at: centre, shape, ink, opacity } => {
            let style = format!("fill=\"{0}\" fill-opacity=\"{opacity:.2}\" stroke=\"{0}\"", ink.hex());
            if *shape == Shape::Circle {
                return format!(
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{RADIUS}\" {style}>{title}</circle>\n",
                    centre.0, centre.1
                );
            }
            let corners: Vec<String> =
                outline(*shape, RADIUS).into_iter().map(|(x, y)| at((centre.0 + x, centre.1 + y))).collect();
            format!("<polygon points=\"{}\" {style}>{title}</polygon>\n", corners.join(" "))
        }
        Mark::Text { at: place, text, size, anchor, is_upright } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let turn =
                if *is_upright { format!(" transform=\"rotate(270 {})\"", at(*place).replace(',', " ")) } else { String::new() };
            // The drawing library's sizes are 1.24 times the font size.
            format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" dy=\"0.5ex\" text-anchor=\"{anchor}\" font-family=\"sans-serif\" font-size=\"{:.1}\" \
                 fill=\"#222222\"{turn}>{}{title}</text>\n",
                place.0,
                place.1,
                size / 1.24,
                escape::html(text)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_cover_the_on_parts_across_corners() {
        let pieces = dashes(&[(0.0, 0.0), (3.0, 0.0), (3.0, 5.0)], (4.0, 2.0));
        assert_eq!(pieces, [vec![(0.0, 0.0), (3.0, 0.0), (3.0, 1.0)], vec![(3.0, 3.0), (3.0, 5.0)]]);
    }

    #[test]
    fn svg_is_tagged_and_escaped() {
        let mut scene = Scene::new(100, 50);
        let mark = Mark::Symbol { at: (10.0, 10.0), shape: Shape::Circle, ink: Ink(0, 0, 0), opacity: 1.0 };
        scene.tag(mark, "a<b");
        let svg = scene.svg("p", "T & t", "D").unwrap();
        assert!(svg.contains("role=\"img\"") && svg.contains("<title id=\"p-title\">T &amp; t</title>"), "{svg}");
        assert!(svg.contains("<title>a&lt;b</title></circle>"), "{svg}");
        assert_eq!(svg.matches("<svg").count(), 1);
        assert_eq!(svg.matches("</svg>").count(), 1);
    }

    #[test]
    fn png_has_twice_the_size_and_ink_where_the_mark_is() {
        let mut scene = Scene::new(20, 10);
        scene.add(Mark::Band { from: (0.0, 0.0), to: (10.0, 10.0), ink: Ink(0, 0, 255), opacity: 1.0 });
        let bytes = scene.png("p").unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (40, 20));
        assert_eq!((&pixels[..3], &pixels[3 * 39..3 * 40]), (&[0, 0, 255][..], &[255, 255, 255][..]));
    }
}
