//! Pictures of 8-bit RGB: bytes of a file in, pixels ready for a network out.
//!
//! ```text
//! file bytes --decode--> Rgb8 --resize, crop, flip, jitter--> Rgb8 --Normalize--> f32, height × width × 3
//! ```
//! Results are those of Pillow and torchvision's Pillow back end: a network's published accuracy belongs to its pixels, and a resize of another
//! kind moves it by tenths of a point. Nothing here draws random numbers, opens files or knows tensors.
//!
//! - [`decode()`]: JPEG and PNG of every colour kind to RGB, refusing pictures beyond a stated number of pixels.
//! - [`resize()`]: antialiased, equal to Pillow byte for byte.
//! - [`adjust()`]: brightness, contrast, saturation.
//! - [`geometry`]: crop, centre crop, crop with zero padding, flip. - [`Normalize`]: bytes to standardised f32.

#![forbid(unsafe_code)]

mod adjust;
mod decode;
mod error;
pub mod geometry;
mod jpeg;
mod normalize;
mod resize;

pub use adjust::{Adjust, adjust};
pub use decode::{DEFAULT_MAX_PIXELS, decode};
pub use error::ImageError;
pub use normalize::Normalize;
pub use resize::{Filter, resize, resize_short_side};

/// A picture: rows from the top, three bytes (red, green, blue) a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8 {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Rgb8 {
    /// A picture over `3 · width · height` bytes.
    ///
    /// # Errors
    /// Another number of bytes, or a side of zero.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, ImageError> {
        let expected = width.checked_mul(height).and_then(|count| count.checked_mul(3));
        if width == 0 || height == 0 || expected != Some(pixels.len()) {
            return Err(ImageError::Shape { width, height, found: pixels.len() });
        }
        Ok(Self { width, height, pixels })
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, `height × width × 3`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

impl std::fmt::Debug for Rgb8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb8({}×{})", self.width, self.height)
    }
}
