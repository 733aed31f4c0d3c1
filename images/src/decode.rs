//! Files to pixels: JPEG and PNG, whatever their colours, to 8-bit RGB as Pillow's `convert("RGB")` does.
//!
//! ```text
//! grey -> three equal channels     palette -> its colours     inks -> colours     16 bit -> the high byte     alpha -> dropped
//! ```
//! Differs: Pillow clips 16-bit grey to 255, which whitens nearly every such picture.
//! The header is read first: a picture of more pixels than allowed is refused before memory is taken for it.

use std::io::Cursor;

use png::Transformations;

use crate::{ImageError, Rgb8, jpeg};

/// Most pixels of a picture unless told otherwise: Pillow's own limit, a quarter of a gibibyte as RGB.
pub const DEFAULT_MAX_PIXELS: usize = (1 << 30) / 4 / 3;

/// File formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ISO 10918-1.
    Jpeg,
    /// ISO 15948.
    Png,
}

impl Format {
    /// The format by the first bytes; names of files are not trusted (ImageNet holds a PNG called `.JPEG`).
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else {
            None
        }
    }
}

/// Pixels of a file.
///
/// # Errors
/// Another format, damage, more than `max_pixels`.
pub fn decode(bytes: &[u8], max_pixels: usize) -> Result<Rgb8, ImageError> {
    match Format::of(bytes) {
        Some(Format::Jpeg) => jpeg::decode(bytes, max_pixels),
        Some(Format::Png) => png(bytes, max_pixels),
        None if bytes.is_empty() => Err(ImageError::UnknownFormat { found: "an empty file".to_owned() }),
        None => Err(ImageError::UnknownFormat { found: format!("bytes {:02x?}", &bytes[..bytes.len().min(8)]) }),
    }
}

pub(crate) fn check_size(width: usize, height: usize, limit: usize) -> Result<(), ImageError> {
    match width.checked_mul(height) {
        Some(count) if count <= limit => Ok(()),
        _ => Err(ImageError::TooLarge { width, height, limit }),
    }
}

fn png(bytes: &[u8], max_pixels: usize) -> Result<Rgb8, ImageError> {
    let damaged = |error: &dyn std::fmt::Display| ImageError::Damaged { format: "PNG", reason: error.to_string() };
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(|error| damaged(&error))?;
    let (width, height) = (header.width as usize, header.height as usize);
    check_size(width, height, max_pixels)?;
    let mut reader = decoder.read_info().map_err(|error| damaged(&error))?;
    let mut buffer = vec![0; reader.output_buffer_size().ok_or_else(|| damaged(&"no size"))?];
    let frame = reader.next_frame(&mut buffer).map_err(|error| damaged(&error))?;
    buffer.truncate(frame.buffer_size());
    let pixels = match reader.output_color_type().0.samples() {
        1 => buffer.iter().flat_map(|&grey| [grey; 3]).collect(),
        2 => buffer.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        4 => buffer.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        _ => buffer,
    };
    Rgb8::new(width, height, pixels)
}
