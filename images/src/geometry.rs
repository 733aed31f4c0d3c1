//! Moving pixels without changing them: crops, zero padding, mirror.

use crate::{ImageError, Rgb8};

/// The region of `width × height` pixels whose first pixel is (`left`, `top`).
///
/// # Errors
/// When the region is empty or does not lie in the picture.
pub fn crop(image: &Rgb8, left: usize, top: usize, width: usize, height: usize) -> Result<Rgb8, ImageError> {
    let fits =
        |start: usize, length: usize, whole: usize| length > 0 && start.checked_add(length).is_some_and(|end| end <= whole);
    if !fits(left, width, image.width) || !fits(top, height, image.height) {
        return Err(ImageError::Region {
            width: image.width,
            height: image.height,
            left,
            top,
            region_width: width,
            region_height: height,
        });
    }
    let mut pixels = Vec::with_capacity(3 * width * height);
    for y in top..top + height {
        let start = 3 * (y * image.width + left);
        pixels.extend_from_slice(&image.pixels[start..start + 3 * width]);
    }
    Ok(Rgb8 { width, height, pixels })
}

/// The middle `width × height` pixels; an odd rest is split as torchvision does, half rounded to the even number.
///
/// # Errors
/// When the picture is smaller.
pub fn center_crop(image: &Rgb8, width: usize, height: usize) -> Result<Rgb8, ImageError> {
    let start = |whole: usize, part: usize| half_to_even(whole.saturating_sub(part));
    crop(image, start(image.width, width), start(image.height, height), width, height)
}

/// `rest / 2`, a half rounded to the even neighbour (Python's `round`).
fn half_to_even(rest: usize) -> usize {
    let half = rest / 2;
    half + (rest % 2) * (half % 2)
}

/// The region of `width × height` pixels at (`left`, `top`) of the picture laid on black with `padding` pixels on each side.
///
/// # Errors
/// When the region does not lie in the padded picture.
pub fn padded_crop(
    image: &Rgb8,
    padding: usize,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
) -> Result<Rgb8, ImageError> {
    let (padded_width, padded_height) = (image.width + 2 * padding, image.height + 2 * padding);
    if width == 0 || height == 0 || left + width > padded_width || top + height > padded_height {
        return Err(ImageError::Region {
            width: padded_width,
            height: padded_height,
            left,
            top,
            region_width: width,
            region_height: height,
        });
    }
    let mut pixels = vec![0; 3 * width * height];
    // Columns of the region that lie in the picture, as columns of the padded one.
    let (first, last) = (left.max(padding), (left + width).min(padding + image.width));
    if first < last {
        for y in top.max(padding)..(top + height).min(padding + image.height) {
            let from = 3 * ((y - padding) * image.width + first - padding);
            let to = 3 * ((y - top) * width + first - left);
            let count = 3 * (last - first);
            pixels[to..to + count].copy_from_slice(&image.pixels[from..from + count]);
        }
    }
    Ok(Rgb8 { width, height, pixels })
}

/// Left and right exchanged.
#[must_use]
pub fn flip(image: &Rgb8) -> Rgb8 {
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for row in image.pixels.chunks_exact(3 * image.width) {
        for pixel in row.rchunks_exact(3) {
            pixels.extend_from_slice(pixel);
        }
    }
    Rgb8 { width: image.width, height: image.height, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red is the column, green the row; blue marks "not padding".
    fn grid(width: usize, height: usize) -> Rgb8 {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 9])).collect();
        Rgb8::new(width, height, pixels).unwrap()
    }

    #[test]
    fn crop_takes_the_region_and_refuses_what_sticks_out() {
        let part = crop(&grid(5, 4), 1, 2, 2, 2).unwrap();
        assert_eq!(part.pixels(), [1, 2, 9, 2, 2, 9, 1, 3, 9, 2, 3, 9]);
        for (left, top, width, height) in [(4, 0, 2, 1), (0, 3, 1, 2), (0, 0, 0, 1), (usize::MAX, 0, 2, 1)] {
            assert!(crop(&grid(5, 4), left, top, width, height).is_err());
        }
    }

    #[test]
    fn center_crop_rounds_half_to_even() {
        // rests 0 1 2 3 4 5 7 over two: 0 0.5 1 1.5 2 2.5 3.5 -> 0 0 1 2 2 2 4
        assert_eq!([0, 1, 2, 3, 4, 5, 7].map(half_to_even), [0, 0, 1, 2, 2, 2, 4]);
        assert_eq!(center_crop(&grid(5, 3), 2, 2).unwrap().pixels()[..2], [2, 0]);
        assert!(center_crop(&grid(5, 3), 6, 2).is_err());
    }

    #[test]
    fn padded_crop_is_the_picture_in_the_middle_and_black_outside() {
        let image = grid(3, 2);
        assert_eq!(padded_crop(&image, 4, 4, 4, 3, 2).unwrap(), image);
        let corner = padded_crop(&image, 1, 0, 0, 2, 2).unwrap();
        assert_eq!(corner.pixels(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        let right = padded_crop(&image, 1, 3, 1, 2, 2).unwrap();
        assert_eq!(right.pixels(), [2, 0, 9, 0, 0, 0, 2, 1, 9, 0, 0, 0]);
        assert!(padded_crop(&image, 1, 4, 0, 2, 2).is_err());
        assert!(padded_crop(&image, 4, 0, 0, 2, 2).unwrap().pixels().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn flipping_twice_changes_nothing() {
        let image = grid(3, 2);
        assert_eq!(flip(&image).pixels()[..6], [2, 0, 9, 1, 0, 9]);
        assert_eq!(flip(&flip(&image)), image);
    }
}
