//! JPEG to RGB, equal byte for byte to libjpeg-turbo behind Pillow: accurate integer transform, triangle ("fancy") upsampling, 16-bit colour tables.
//!
//! ```text
//! markers -> frame, tables -> scans -> coefficients -> inverse transform -> planes -> upsampling, colours -> rows
//! ```
//! Read: 8-bit baseline, extended and progressive Huffman files of one, three or four components, any integer sampling, restart intervals.
//! Refused by name: arithmetic coding, lossless and hierarchical files, 12 bits, fractional sampling. Files that end early or hold impossible
//! codes are damaged; Pillow patches some of the latter with grey, which is no picture either.
//!
//! - `huffman`: bits and tables. - `scan`: coefficients of a scan. - `idct`: the transform. - `output`: upsampling and colours.
//!
//! Sources: ISO/IEC 10918-1; the numerics are those that the IJG library documents.

mod huffman;
mod idct;
mod output;
mod scan;

use crate::{ImageError, Rgb8, decode::check_size};
use huffman::{Table, next_marker};

/// Zigzag position -> row-major position.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42,
    49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Blocks that an interleaved unit may hold (annex B.2.3).
const MAX_UNIT_BLOCKS: usize = 10;

/// Most scans of a file; encoders make about ten. Each costs a pass over every block for a few bytes, which a hostile file could use.
const MAX_SCANS: usize = 500;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Damage {
    #[error("the file ends early")]
    Short,
    #[error("impossible Huffman code")]
    Code,
    #[error("impossible Huffman table")]
    Table,
    #[error("expected restart marker {expected:02x}, found {found:02x}")]
    Restart { expected: u8, found: u8 },
    #[error("segment {marker:02x}: {problem}")]
    Segment { marker: u8, problem: &'static str },
    #[error("unsupported: {0}")]
    Unsupported(&'static str),
}

/// One colour of the frame.
struct Component {
    id: u8,
    /// Sampling factors, 1 to 4.
    horizontal: usize,
    vertical: usize,
    quantisation: usize,
    /// Size in samples: the picture's, divided by the subsampling and rounded up.
    width: usize,
    height: usize,
    /// Size in blocks; what scans of this component alone hold.
    blocks_wide: usize,
    blocks_high: usize,
    /// Size in blocks filled up to whole units; what the buffers hold.
    padded_wide: usize,
    padded_high: usize,
    /// Row-major steps, taken over at the component's first scan.
    steps: Option<[i32; 64]>,
    /// Coefficients as they stand in the file, row-major in each block; empty when blocks are transformed at once.
    coefficients: Vec<i16>,
    /// Samples, `8·padded_wide` a row.
    plane: Vec<u8>,
}

impl Component {
    fn stride(&self) -> usize {
        8 * self.padded_wide
    }
}

/// How the components are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colors {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// Everything known about the file so far.
struct Decoder<'a> {
    bytes: &'a [u8],
    width: usize,
    height: usize,
    is_progressive: bool,
    components: Vec<Component>,
    steps: [Option<[i32; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart_interval: usize,
    has_jfif: bool,
    adobe_transform: Option<u8>,
}

/// Pixels of a JPEG file.
pub(crate) fn decode(bytes: &[u8], max_pixels: usize) -> Result<Rgb8, ImageError> {
    let mut decoder = Decoder {
        bytes,
        width: 0,
        height: 0,
        is_progressive: false,
        components: Vec::new(),
        steps: [None; 4],
        dc: [const { None }; 4],
        ac: [const { None }; 4],
        restart_interval: 0,
        has_jfif: false,
        adobe_transform: None,
    };
    let damaged = |damage: Damage| ImageError::Damaged { format: "JPEG", reason: damage.to_string() };
    let (mut at, mut scans) = (2, 0);
    loop {
        // Bytes between segments are passed over, as the IJG library does with a warning.
        at = next_marker(bytes, at).ok_or_else(|| damaged(Damage::Short))?;
        let marker = bytes[at + 1];
        at += 2;
        match marker {
            0xd9 => break,
            // Stray restart markers and markers without a segment.
            0xd0..=0xd8 | 0x01 => {}
            _ => {
                let body = segment(bytes, at).map_err(damaged)?;
                let end = at + 2 + body.len();
                at = match marker {
                    0xda => {
                        scans += 1;
                        if scans > MAX_SCANS {
                            return Err(damaged(Damage::Unsupported("more than 500 scans")));
                        }
                        decoder.scan(body, end).map_err(damaged)?
                    }
                    0xc0..=0xc2 => {
                        decoder.frame(marker, body, max_pixels).map_err(|error| match error {
                            FrameError::Damage(damage) => damaged(damage),
                            FrameError::Image(error) => error,
                        })?;
                        end
                    }
                    _ => {
                        decoder.table(marker, body).map_err(damaged)?;
                        end
                    }
                };
            }
        }
    }
    decoder.finish().map_err(damaged)
}

/// Bytes of a segment after its length.
fn segment(bytes: &[u8], at: usize) -> Result<&[u8], Damage> {
    let length = bytes.get(at..at + 2).map(|two| usize::from(two[0]) << 8 | usize::from(two[1])).ok_or(Damage::Short)?;
    if length < 2 {
        return Err(Damage::Short);
    }
    bytes.get(at + 2..at + length).ok_or(Damage::Short)
}

enum FrameError {
    Damage(Damage),
    Image(ImageError),
}

impl From<Damage> for FrameError {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl Decoder<'_> {
    /// Segments other than frame and scan.
    fn table(&mut self, marker: u8, body: &[u8]) -> Result<(), Damage> {
        match marker {
            0xdb => self.quantisation_tables(body),
            0xc4 => self.huffman_tables(body),
            0xdd => {
                let &[high, low] = body else { return Err(Damage::Segment { marker, problem: "expected two bytes" }) };
                self.restart_interval = usize::from(high) << 8 | usize::from(low);
                Ok(())
            }
            0xe0 => {
                self.has_jfif |= body.starts_with(b"JFIF\0");
                Ok(())
            }
            0xee => {
                if body.len() >= 12 && body.starts_with(b"Adobe") {
                    self.adobe_transform = Some(body[11]);
                }
                Ok(())
            }
            0xc3 | 0xcb => Err(Damage::Unsupported("lossless coding")),
            0xc5..=0xc7 | 0xcd..=0xcf | 0xde | 0xdf => Err(Damage::Unsupported("hierarchical coding")),
            0xc9 | 0xca | 0xcc => Err(Damage::Unsupported("arithmetic coding")),
            0xdc => Err(Damage::Unsupported("a height that follows the picture")),
            _ => Ok(()),
        }
    }

    fn quantisation_tables(&mut self, mut body: &[u8]) -> Result<(), Damage> {
        let short = Damage::Segment { marker: 0xdb, problem: "the table is cut" };
        while let Some((&head, rest)) = body.split_first() {
            let (is_wide, index) = (head >> 4 != 0, usize::from(head & 15));
            let bytes = if is_wide { 128 } else { 64 };
            let (table, rest) = rest.split_at_checked(bytes).ok_or_else(|| short.clone())?;
            let mut steps = [0; 64];
            for (position, &natural) in ZIGZAG.iter().enumerate() {
                steps[natural as usize] = if is_wide {
                    i32::from(table[2 * position]) << 8 | i32::from(table[2 * position + 1])
                } else {
                    i32::from(table[position])
                };
            }
            *self.steps.get_mut(index).ok_or(Damage::Segment { marker: 0xdb, problem: "expected a table number below 4" })? =
                Some(steps);
            body = rest;
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Result<(), Damage> {
        let short = || Damage::Segment { marker: 0xc4, problem: "the table is cut" };
        while let Some((&head, rest)) = body.split_first() {
            let (counts, rest) = rest.split_at_checked(16).ok_or_else(short)?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(total).ok_or_else(short)?;
            let tables = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let slot = tables.get_mut(usize::from(head & 15));
            *slot.ok_or(Damage::Segment { marker: 0xc4, problem: "expected a table number below 4" })? =
                Some(Table::new(counts, symbols)?);
            body = rest;
        }
        Ok(())
    }

    fn frame(&mut self, marker: u8, body: &[u8], max_pixels: usize) -> Result<(), FrameError> {
        let problem = |problem| Damage::Segment { marker, problem };
        if !self.components.is_empty() {
            return Err(problem("a second frame").into());
        }
        let &[precision, y1, y0, x1, x0, count, ref rest @ ..] = body else { return Err(problem("the segment is cut").into()) };
        if precision != 8 {
            return Err(Damage::Unsupported("more than 8 bits a sample").into());
        }
        self.height = usize::from(y1) << 8 | usize::from(y0);
        self.width = usize::from(x1) << 8 | usize::from(x0);
        if self.width == 0 || self.height == 0 {
            return Err(problem("a side of zero").into());
        }
        check_size(self.width, self.height, max_pixels).map_err(FrameError::Image)?;
        if !matches!(count, 1 | 3 | 4) {
            return Err(Damage::Unsupported("expected 1, 3 or 4 components").into());
        }
        if rest.len() < 3 * usize::from(count) {
            return Err(problem("the segment is cut").into());
        }
        self.is_progressive = marker == 0xc2;
        let specs: Vec<&[u8]> = rest.chunks_exact(3).take(usize::from(count)).collect();
        let factors: Vec<(usize, usize)> =
            specs.iter().map(|spec| (usize::from(spec[1] >> 4), usize::from(spec[1] & 15))).collect();
        if factors.iter().any(|&(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(problem("expected sampling factors from 1 to 4").into());
        }
        let most_h = factors.iter().map(|factor| factor.0).max().unwrap_or(1);
        let most_v = factors.iter().map(|factor| factor.1).max().unwrap_or(1);
        if factors.iter().any(|&(h, v)| most_h % h != 0 || most_v % v != 0) {
            return Err(Damage::Unsupported("fractional sampling").into());
        }
        for (spec, (horizontal, vertical)) in specs.into_iter().zip(factors) {
            let width = (self.width * horizontal).div_ceil(most_h);
            let height = (self.height * vertical).div_ceil(most_v);
            let padded_wide = self.width.div_ceil(8 * most_h) * horizontal;
            let padded_high = self.height.div_ceil(8 * most_v) * vertical;
            self.components.push(Component {
                id: spec[0],
                horizontal,
                vertical,
                quantisation: usize::from(spec[2]),
                width,
                height,
                blocks_wide: width.div_ceil(8),
                blocks_high: height.div_ceil(8),
                padded_wide,
                padded_high,
                steps: None,
                coefficients: Vec::new(),
                plane: Vec::new(),
            });
        }
        Ok(())
    }

    /// By the rules of the IJG library: what markers say, else component names.
    fn colors(&self) -> Colors {
        let ids: Vec<u8> = self.components.iter().map(|component| component.id).collect();
        match (ids.len(), self.adobe_transform) {
            (1, _) => Colors::Grey,
            (3, _) if self.has_jfif => Colors::YCbCr,
            (3, Some(0)) => Colors::Rgb,
            (3, None) if ids == *b"RGB" => Colors::Rgb,
            (3, _) => Colors::YCbCr,
            (_, None | Some(0)) => Colors::Cmyk,
            _ => Colors::Ycck,
        }
    }

    /// Planes to pixels, once all scans are read.
    fn finish(mut self) -> Result<Rgb8, Damage> {
        if self.components.is_empty() || self.components.iter().any(|component| component.steps.is_none()) {
            return Err(Damage::Short);
        }
        for component in &mut self.components {
            component.transform_blocks();
        }
        let pixels = output::pixels(&self.components, self.width, self.height, self.colors());
        Ok(Rgb8 { width: self.width, height: self.height, pixels })
    }
}

impl Component {
    /// The inverse transform of coefficients that waited for later scans.
    fn transform_blocks(&mut self) {
        if self.coefficients.is_empty() {
            return;
        }
        let steps = self.steps.expect("checked by the caller");
        let stride = self.stride();
        self.plane = vec![0; stride * 8 * self.padded_high];
        for (index, block) in self.coefficients.chunks_exact(64).enumerate() {
            let (row, column) = (index / self.padded_wide, index % self.padded_wide);
            let dequantised = std::array::from_fn(|at| i32::from(block[at]).wrapping_mul(steps[at]));
            idct::inverse(&dequantised, &mut self.plane[8 * row * stride + 8 * column..], stride);
        }
    }
}
