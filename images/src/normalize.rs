//! Bytes to standardised numbers: `(byte / 255 − mean) / deviation` per channel, each operation rounded to f32 as torch does.

use crate::Rgb8;

/// Means and standard deviations of the three channels, as a table of the 256 results each.
#[derive(Debug, Clone)]
pub struct Normalize {
    table: [[f32; 256]; 3],
}

impl Normalize {
    /// ImageNet's means, on [0, 1]. The CIFAR checkpoints in circulation use them too.
    pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// ImageNet's standard deviations, on [0, 1].
    pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

    /// Table of `(byte / 255 − mean) / deviation`; deviations must not be zero.
    pub fn new(mean: [f32; 3], deviation: [f32; 3]) -> Self {
        let mut table = [[0.0; 256]; 3];
        for ((row, mean), deviation) in table.iter_mut().zip(mean).zip(deviation) {
            for (byte, value) in row.iter_mut().enumerate() {
                *value = (byte as f32 / 255.0 - mean) / deviation;
            }
        }
        Self { table }
    }

    /// Writes the picture as `height × width × 3` numbers.
    ///
    /// # Panics
    /// When `out` has another length than the picture's bytes.
    pub fn write(&self, image: &Rgb8, out: &mut [f32]) {
        assert_eq!(out.len(), image.pixels.len());
        for (out, pixel) in out.chunks_exact_mut(3).zip(image.pixels.chunks_exact(3)) {
            out[0] = self.table[0][pixel[0] as usize];
            out[1] = self.table[1][pixel[1] as usize];
            out[2] = self.table[2][pixel[2] as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_use_their_own_mean_and_deviation() {
        let normalize = Normalize::new([0.5, 0.25, 0.0], [0.5, 0.25, 2.0]);
        let image = Rgb8::new(2, 1, vec![255, 255, 255, 0, 51, 102]).unwrap();
        let mut out = [0.0; 6];
        normalize.write(&image, &mut out);
        // 51/255 = 0.2, 102/255 = 0.4
        let expected = [1.0, 3.0, 0.5, -1.0, -0.2, 0.2];
        assert!(out.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{out:?}");
    }
}
