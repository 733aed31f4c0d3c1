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

/// Pixels of a file; its format is told by the first bytes, as names are not to be trusted (ImageNet holds a PNG called `.JPEG`).
///
/// # Errors
/// Another format, damage, more than `max_pixels`.
pub fn decode(bytes: &[u8], max_pixels: usize) -> Result<Rgb8, ImageError> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(bytes, max_pixels),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => png(bytes, max_pixels),
        [] => Err(ImageError::UnknownFormat { found: "an empty file".to_owned() }),
        _ => Err(ImageError::UnknownFormat { found: format!("bytes {:02x?}", &bytes[..bytes.len().min(8)]) }),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 2 × 1 with samples of 16 bits.
    fn of_16_bits(colour: png::ColorType, samples: &[u16]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_color(colour);
        encoder.set_depth(png::BitDepth::Sixteen);
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_be_bytes()).collect();
        encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
        file
    }

    #[test]
    fn of_16_bits_the_high_byte_is_taken() {
        let pixels = |file: &[u8]| decode(file, 2).unwrap().pixels().to_vec();
        let rgb = of_16_bits(png::ColorType::Rgb, &[0x0102, 0xfeff, 0x00ff, 0x8000, 0x7fff, 0xffff]);
        assert_eq!(pixels(&rgb), [0x01, 0xfe, 0x00, 0x80, 0x7f, 0xff]);
        let grey = of_16_bits(png::ColorType::Grayscale, &[0x12ff, 0x00c0]);
        assert_eq!(pixels(&grey), [0x12, 0x12, 0x12, 0, 0, 0]);
        let alpha = of_16_bits(png::ColorType::GrayscaleAlpha, &[0x12ff, 0, 0x34c0, 0xffff]);
        assert_eq!(pixels(&alpha), [0x12, 0x12, 0x12, 0x34, 0x34, 0x34]);
    }
}
