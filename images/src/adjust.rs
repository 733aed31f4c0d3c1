//! Brightness, contrast and saturation, as Pillow's `ImageEnhance` changes them.
//!
//! ```text
//! out = reference + factor · (in − reference), truncated and clamped to a byte
//! reference: black | the rounded mean of the grey picture | each pixel's grey          grey = (19595·r + 38470·g + 7471·b + 2¹⁵) >> 16
//! ```

use crate::Rgb8;

/// What is adjusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjust {
    /// Away from black.
    Brightness,
    /// Away from the mean grey.
    Contrast,
    /// Away from each pixel's grey.
    Saturation,
}

impl Adjust {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Brightness, Self::Contrast, Self::Saturation];
}

/// ITU-R 601-2 luma in 16-bit fixed point.
fn grey(pixel: &[u8]) -> u8 {
    ((19595 * u32::from(pixel[0]) + 38470 * u32::from(pixel[1]) + 7471 * u32::from(pixel[2]) + 0x8000) >> 16) as u8
}

fn blend(reference: u8, byte: u8, factor: f32) -> u8 {
    (f32::from(reference) + factor * (f32::from(byte) - f32::from(reference))).clamp(0.0, 255.0) as u8
}

/// Scales one property of a picture by `factor`; 1 changes nothing.
pub fn adjust(image: &mut Rgb8, what: Adjust, factor: f32) {
    let mean = match what {
        Adjust::Contrast => {
            let sum: u64 = image.pixels.chunks_exact(3).map(|pixel| u64::from(grey(pixel))).sum();
            (sum as f64 / (image.width * image.height) as f64 + 0.5) as u8
        }
        Adjust::Brightness | Adjust::Saturation => 0,
    };
    for pixel in image.pixels.chunks_exact_mut(3) {
        let reference = if what == Adjust::Saturation { grey(pixel) } else { mean };
        for byte in pixel {
            *byte = blend(reference, *byte, factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_property_moves_from_its_reference() {
        let image = Rgb8::new(2, 1, vec![100, 50, 200, 10, 20, 30]).unwrap();
        let after = |what, factor| {
            let mut image = image.clone();
            adjust(&mut image, what, factor);
            image.pixels().to_vec()
        };
        assert_eq!(after(Adjust::Brightness, 1.5), [150, 75, 255, 15, 30, 45]);
        // greys: (1959500 + 1923500 + 1494200 + 32768) >> 16 = 82, (195950 + 769400 + 224130 + 32768) >> 16 = 18; mean 50
        assert_eq!(after(Adjust::Contrast, 0.5), [75, 50, 125, 30, 35, 40]);
        assert_eq!(after(Adjust::Saturation, 0.0), [82, 82, 82, 18, 18, 18]);
        for what in Adjust::ALL {
            assert_eq!(after(what, 1.0), image.pixels());
        }
    }
}
