//! What training and evaluation make of a decoded picture; keys of the `[data.transform]` table of a training config.
//!
//! ```text
//! train:  pad-crop: crop of size² from the picture with black borders     random-resized-crop: a region of random area and shape, resized
//!         then flip with probability ½, colour jitter, standardise
//! eval:   short side to `resize` (skipped when none), centre crop of size², standardise        tasks.md section 7.1
//! ```
//! Random choices come from stream("train/augment", seed, epoch · 2³² + picture): they do not depend on batches, threads or resumption.

use images::{Filter, ImageError, Normalize, Rgb8, geometry};
use serde::{Deserialize, Serialize};
use stats::rng;

/// Purpose of the random stream of a picture's augmentation.
const AUGMENT: &str = "train/augment";

/// Attempts at a region before the centre is taken (torchvision's number).
const REGION_ATTEMPTS: usize = 10;

/// How a training region is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TrainCrop {
    /// As in evaluation.
    Center,
    /// Any region of the picture after black borders of `padding` pixels (He et al. 2016 for CIFAR: 4).
    PadCrop {
        /// Border, pixels.
        padding: usize,
    },
    /// A region of a share of the area drawn from `[min_area, 1]`, width to height drawn log-uniformly from `[3/4, 4/3]` (Szegedy et al. 2015).
    RandomResizedCrop {
        /// Smallest share of the area; 0.08 is usual.
        min_area: f64,
    },
}

/// From pixels to a network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTransform {
    /// Side of the input, pixels.
    pub size: usize,
    /// Region that training sees.
    pub crop: TrainCrop,
    /// Whether training mirrors half of the pictures.
    pub flip: bool,
    /// Brightness, contrast and saturation are scaled by factors from `[1 − jitter, 1 + jitter]`, in random order; 0 changes nothing.
    #[serde(default)]
    pub color_jitter: f64,
    /// Evaluation: length of the short side before the centre crop; 0 leaves the picture as it is.
    #[serde(default)]
    pub resize: usize,
    /// Kernel of every resize.
    #[serde(default)]
    pub interpolation: Filter,
    /// Means of red, green, blue on [0, 1].
    #[serde(default = "imagenet_mean")]
    pub mean: [f32; 3],
    /// Their standard deviations.
    #[serde(default = "imagenet_std")]
    pub std: [f32; 3],
}

fn imagenet_mean() -> [f32; 3] {
    Normalize::IMAGENET_MEAN
}

fn imagenet_std() -> [f32; 3] {
    Normalize::IMAGENET_STD
}

impl ImageTransform {
    /// CIFAR: 32 pixels, pad by 4 and crop, mirror; evaluated as they are.
    pub fn cifar() -> Self {
        Self {
            size: 32,
            crop: TrainCrop::PadCrop { padding: 4 },
            flip: true,
            color_jitter: 0.0,
            resize: 0,
            interpolation: Filter::Bilinear,
            mean: imagenet_mean(),
            std: imagenet_std(),
        }
    }

    /// ImageNet at `size` pixels: random resized crop, mirror; evaluated at a centre crop of 7/8 of the short side.
    pub fn imagenet(size: usize) -> Self {
        Self {
            size,
            crop: TrainCrop::RandomResizedCrop { min_area: 0.08 },
            resize: size * 8 / 7, // floor(size / 0.875)
            ..Self::cifar()
        }
    }

    /// First value out of its range: key, what is expected, what was found.
    pub fn invalid(&self) -> Option<(&'static str, &'static str, String)> {
        let finite_share = |value: f64, low: f64| value.is_finite() && value > low && value <= 1.0;
        if self.size == 0 {
            return Some(("size", "at least 1", self.size.to_string()));
        }
        if self.resize != 0 && self.resize < self.size {
            return Some(("resize", "0, or at least size", self.resize.to_string()));
        }
        if let TrainCrop::RandomResizedCrop { min_area } = self.crop
            && !finite_share(min_area, 0.0)
        {
            return Some(("crop.min_area", "above 0, at most 1", min_area.to_string()));
        }
        if !(0.0..=1.0).contains(&self.color_jitter) {
            return Some(("color_jitter", "0 to 1", self.color_jitter.to_string()));
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Some(("mean", "numbers", mean.to_string()));
        }
        let deviation = self.std.iter().find(|&&deviation| !(deviation.is_finite() && deviation > 0.0));
        deviation.map(|deviation| ("std", "numbers above 0", deviation.to_string()))
    }

    /// The evaluated picture, `size × size`.
    ///
    /// # Errors
    /// When the picture is smaller than the crop (only without a resize).
    pub fn evaluate(&self, image: &Rgb8) -> Result<Rgb8, ImageError> {
        if self.resize == 0 {
            return geometry::center_crop(image, self.size, self.size);
        }
        geometry::center_crop(&images::resize_short_side(image, self.resize, self.interpolation)?, self.size, self.size)
    }

    /// The picture as an epoch of training sees it, `size × size`.
    ///
    /// # Errors
    /// When the picture is smaller than a crop that does not resize.
    pub fn augment(&self, image: &Rgb8, seed: u64, epoch: u64, index: u32) -> Result<Rgb8, ImageError> {
        let mut random = rng::stream(AUGMENT, seed, (epoch << 32) | u64::from(index));
        let size = self.size;
        let mut out = match self.crop {
            TrainCrop::Center => self.evaluate(image)?,
            TrainCrop::PadCrop { padding } => {
                let mut start = |side: usize| rng::index(&mut random, (side + 2 * padding + 1).saturating_sub(size));
                let (left, top) = (start(image.width()), start(image.height()));
                geometry::padded_crop(image, padding, left, top, size, size)?
            }
            TrainCrop::RandomResizedCrop { min_area } => {
                let [left, top, width, height] = region(&mut random, image.width(), image.height(), min_area);
                let part = geometry::crop(image, left, top, width, height)?;
                images::resize(&part, size, size, self.interpolation)?
            }
        };
        if self.flip && rng::coin(&mut random) {
            out = geometry::flip(&out);
        }
        if self.color_jitter > 0.0 {
            let mut steps = images::Adjust::ALL;
            rng::shuffle(&mut random, &mut steps);
            for step in steps {
                let factor = rng::uniform_range(&mut random, 1.0 - self.color_jitter, 1.0 + self.color_jitter);
                images::adjust(&mut out, step, factor as f32);
            }
        }
        Ok(out)
    }
}

/// Left, top, width and height of a region for a random resized crop, as torchvision draws it.
fn region(random: &mut rng::Stream, width: usize, height: usize, min_area: f64) -> [usize; 4] {
    let (log_low, log_high) = ((3.0f64 / 4.0).ln(), (4.0f64 / 3.0).ln());
    let area = (width * height) as f64;
    for _ in 0..REGION_ATTEMPTS {
        let target = area * rng::uniform_range(random, min_area, 1.0);
        let aspect = rng::uniform_range(random, log_low, log_high).exp();
        let w = (target * aspect).sqrt().round_ties_even() as usize;
        let h = (target / aspect).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = rng::index(random, height - h + 1);
            let left = rng::index(random, width - w + 1);
            return [left, top, w, h];
        }
    }
    // The largest centred region of an allowed shape.
    let ratio = width as f64 / height as f64;
    let (w, h) = if ratio < 3.0 / 4.0 {
        (width, (width as f64 * 4.0 / 3.0).round_ties_even() as usize)
    } else if ratio > 4.0 / 3.0 {
        ((height as f64 * 4.0 / 3.0).round_ties_even() as usize, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    [(width - w) / 2, (height - h) / 2, w, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize) -> Rgb8 {
        let mut random = rng::stream("test/noise", 0, 0);
        Rgb8::new(width, height, (0..3 * width * height).map(|_| rng::below(&mut random, 256) as u8).collect()).unwrap()
    }

    #[test]
    fn augmentation_is_a_function_of_seed_epoch_and_picture() {
        for transform in [ImageTransform::cifar(), ImageTransform { color_jitter: 0.4, ..ImageTransform::imagenet(24) }] {
            let image = noise(40, 32);
            let of = |seed, epoch, index| transform.augment(&image, seed, epoch, index).unwrap();
            assert_eq!(of(1, 2, 3), of(1, 2, 3));
            // 81 offsets or more, two mirrors: of eight draws not all are equal.
            assert!((0..8).any(|seed| of(seed, 2, 3) != of(0, 2, 3)));
            assert!((0..8).any(|epoch| of(1, epoch, 3) != of(1, 0, 3)));
            assert!((0..8).any(|index| of(1, 2, index) != of(1, 2, 0)));
            assert_eq!((of(0, 0, 0).width(), of(0, 0, 0).height()), (transform.size, transform.size));
        }
    }

    #[test]
    fn means_and_deviations_are_finite_numbers() {
        let key = |transform: ImageTransform| transform.invalid().map(|(key, ..)| key);
        let base = ImageTransform::cifar;
        assert_eq!(key(base()), None);
        assert_eq!(key(ImageTransform { mean: [0.5, f32::NAN, 0.5], ..base() }), Some("mean"));
        assert_eq!(key(ImageTransform { mean: [f32::NEG_INFINITY, 0.0, 0.0], ..base() }), Some("mean"));
        for bad in [0.0, -1.0, f32::INFINITY, f32::NAN] {
            assert_eq!(key(ImageTransform { std: [1.0, 1.0, bad], ..base() }), Some("std"), "{bad}");
        }
    }

    #[test]
    fn pad_crop_reaches_every_offset_and_both_mirrors() {
        let transform = ImageTransform { size: 2, crop: TrainCrop::PadCrop { padding: 1 }, ..ImageTransform::cifar() };
        let image = noise(2, 2);
        let seen: std::collections::BTreeSet<Vec<u8>> =
            (0..400).map(|epoch| transform.augment(&image, 0, epoch, 0).unwrap().pixels().to_vec()).collect();
        // 3 × 3 offsets, each plain or mirrored: 18 different pictures.
        assert_eq!(seen.len(), 18);
    }

    #[test]
    fn regions_lie_in_the_picture_and_have_the_stated_area_and_shape() {
        let mut random = rng::stream("test/region", 0, 0);
        let mut shares = Vec::new();
        for _ in 0..2000 {
            let [left, top, width, height] = region(&mut random, 500, 333, 0.08);
            assert!(width >= 1 && left + width <= 500 && top + height <= 333);
            let aspect = width as f64 / height as f64;
            assert!((0.74..1.35).contains(&aspect), "{width}×{height}");
            shares.push((width * height) as f64 / (500.0 * 333.0));
        }
        assert!(shares.iter().all(|share| (0.079..=1.0).contains(share)));
        let mean = shares.iter().sum::<f64>() / 2000.0;
        // A region fits when its height does: share ≤ m = 0.666·aspect, aspect log-uniform. Mean share of those that fit:
        // (E m² − 0.08²) / 2(E m − 0.08) = (0.4685 − 0.0064) / (2 · 0.5952) = 0.388; its standard error over 2000 is 0.005.
        assert!((mean - 0.388).abs() < 0.015, "{mean}");
    }

    #[test]
    fn a_strip_falls_back_to_its_centre() {
        let mut random = rng::stream("test/region", 0, 0);
        let [left, top, width, height] = region(&mut random, 3000, 10, 1.0);
        assert_eq!([left, top, width, height], [(3000 - 13) / 2, 0, 13, 10]);
    }

    #[test]
    fn evaluation_crops_the_centre_and_refuses_pictures_that_are_too_small() {
        let image = noise(40, 32);
        assert_eq!(ImageTransform::cifar().evaluate(&image).unwrap(), geometry::crop(&image, 4, 0, 32, 32).unwrap());
        assert!(ImageTransform::cifar().evaluate(&noise(31, 32)).is_err());
        let small = ImageTransform::imagenet(224).evaluate(&noise(20, 50)).unwrap();
        assert_eq!((small.width(), ImageTransform::imagenet(224).resize), (224, 256));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let bad = ImageTransform { resize: 10, ..ImageTransform::cifar() };
        assert_eq!(bad.invalid().unwrap().0, "resize");
        let crop = TrainCrop::RandomResizedCrop { min_area: 0.0 };
        assert_eq!(ImageTransform { crop, ..ImageTransform::cifar() }.invalid().unwrap().0, "crop.min_area");
        assert_eq!(ImageTransform { std: [0.2, 0.0, 0.2], ..ImageTransform::cifar() }.invalid().unwrap().0, "std");
        assert_eq!(ImageTransform::imagenet(224).invalid(), None);
    }
}
