//! Planes to pixels: upsampling of the smaller ones and conversion of colours.
//!
//! ```text
//! double width:            out = (3·near + far + {1 left, 2 right}) >> 2
//! double height:           out = (3·near + far + {1 above, 2 below}) >> 2
//! both:  s = 3·near row + far row;  out = (3·s near + s far + {8 left, 7 right}) >> 4       other factors, and planes of 1 or 2 columns: repeated
//! R = Y + 1.402·Cr   G = Y − 0.34414·Cb − 0.71414·Cr   B = Y + 1.772·Cb                     16-bit fixed point, rounded, clamped
//! inks (inverted, as Adobe stores them): R = K − C·K / 255, …
//! ```

use super::{Colors, Component};

/// Fraction bits of the colour factors.
const SCALE: u32 = 16;
const HALF: i32 = 1 << (SCALE - 1);
/// 1.402, 1.772, 0.71414, 0.34414 times 2¹⁶, rounded.
const CR_RED: i32 = 91881;
const CB_BLUE: i32 = 116130;
const CR_GREEN: i32 = 46802;
const CB_GREEN: i32 = 22554;

/// `height × width × 3` bytes.
pub(super) fn pixels(components: &[Component], width: usize, height: usize, colors: Colors) -> Vec<u8> {
    let most_h = components.iter().map(|component| component.horizontal).max().unwrap_or(1);
    let most_v = components.iter().map(|component| component.vertical).max().unwrap_or(1);
    let mut out = vec![0; 3 * width * height];
    let mut rows: Vec<Vec<u8>> =
        components.iter().map(|component| vec![0; component.width * (most_h / component.horizontal)]).collect();
    let mut sums = Vec::new();
    for (y, out) in out.chunks_exact_mut(3 * width).enumerate() {
        for (component, row) in components.iter().zip(&mut rows) {
            upsample(component, most_h / component.horizontal, most_v / component.vertical, y, row, &mut sums);
        }
        match (colors, rows.as_slice()) {
            (Colors::Grey, [grey, ..]) => {
                for (out, &value) in out.chunks_exact_mut(3).zip(grey) {
                    out.fill(value);
                }
            }
            (Colors::Rgb, [r, g, b, ..]) => {
                for (((out, &r), &g), &b) in out.chunks_exact_mut(3).zip(r).zip(g).zip(b) {
                    out.copy_from_slice(&[r, g, b]);
                }
            }
            (Colors::YCbCr, [luma, blue, red, ..]) => {
                for (((out, &luma), &blue), &red) in out.chunks_exact_mut(3).zip(luma).zip(blue).zip(red) {
                    out.copy_from_slice(&rgb(luma, blue, red));
                }
            }
            (Colors::Cmyk, [c, m, y, k]) => {
                for ((((out, &c), &m), &y), &k) in out.chunks_exact_mut(3).zip(c).zip(m).zip(y).zip(k) {
                    out.copy_from_slice(&[ink(c, k), ink(m, k), ink(y, k)]);
                }
            }
            (Colors::Ycck, [luma, blue, red, k]) => {
                for ((((out, &luma), &blue), &red), &k) in out.chunks_exact_mut(3).zip(luma).zip(blue).zip(red).zip(k) {
                    out.copy_from_slice(&rgb(luma, blue, red).map(|value| ink(255 - value, k)));
                }
            }
            _ => unreachable!("colours go with the number of components"),
        }
    }
    out
}

#[inline]
fn rgb(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    [
        luma + ((CR_RED * red + HALF) >> SCALE),
        luma + ((-CB_GREEN * blue - CR_GREEN * red + HALF) >> SCALE),
        luma + ((CB_BLUE * blue + HALF) >> SCALE),
    ]
    .map(|value| value.clamp(0, 255) as u8)
}

/// One colour of an inverted ink and inverted black: Pillow inverts both, then takes `k − ink·k / 255` with its rounding.
#[inline]
fn ink(ink: u8, black: u8) -> u8 {
    let (ink, rest) = (255 - u32::from(ink), u32::from(black));
    let product = ink * rest + 128;
    (rest - (((product >> 8) + product) >> 8).min(rest)) as u8
}

/// Row `y` of the picture from a plane that is `across` × `down` times smaller. `sums` is scratch memory.
fn upsample(component: &Component, across: usize, down: usize, y: usize, out: &mut [u8], sums: &mut Vec<i32>) {
    let (stride, width) = (component.stride(), component.width);
    let row = |y: usize| &component.plane[y * stride..y * stride + width];
    let near = y / down;
    // The row that lies nearer to this one than the other neighbour; the first and the last stand in for those beyond the border.
    let far = || if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(component.height - 1) };
    match (across, down) {
        (1, 1) => out.copy_from_slice(row(near)),
        (2, 1) if width > 2 => double(row(near), out),
        (1, 2) => {
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            for ((out, &near), &far) in out.iter_mut().zip(row(near)).zip(row(far())) {
                *out = ((3 * i32::from(near) + i32::from(far) + bias) >> 2) as u8;
            }
        }
        (2, 2) if width > 2 => {
            sums.clear();
            sums.extend(row(near).iter().zip(row(far())).map(|(&near, &far)| 3 * i32::from(near) + i32::from(far)));
            double_sums(sums, out);
        }
        _ => {
            for (out, &value) in out.chunks_exact_mut(across).zip(row(near)) {
                out.fill(value);
            }
        }
    }
}

fn double(row: &[u8], out: &mut [u8]) {
    let at = |index: usize| i32::from(row[index]);
    let last = row.len() - 1;
    out[0] = row[0];
    out[1] = ((3 * at(0) + at(1) + 2) >> 2) as u8;
    for (index, three) in row.windows(3).enumerate() {
        let [left, middle, right] = [three[0], three[1], three[2]].map(i32::from);
        out[2 * index + 2] = ((3 * middle + left + 1) >> 2) as u8;
        out[2 * index + 3] = ((3 * middle + right + 2) >> 2) as u8;
    }
    out[2 * last] = ((3 * at(last) + at(last - 1) + 1) >> 2) as u8;
    out[2 * last + 1] = row[last];
}

fn double_sums(sums: &[i32], out: &mut [u8]) {
    let last = sums.len() - 1;
    out[0] = ((4 * sums[0] + 8) >> 4) as u8;
    out[1] = ((3 * sums[0] + sums[1] + 7) >> 4) as u8;
    for (index, three) in sums.windows(3).enumerate() {
        out[2 * index + 2] = ((3 * three[1] + three[0] + 8) >> 4) as u8;
        out[2 * index + 3] = ((3 * three[1] + three[2] + 7) >> 4) as u8;
    }
    out[2 * last] = ((3 * sums[last] + sums[last - 1] + 8) >> 4) as u8;
    out[2 * last + 1] = ((4 * sums[last] + 7) >> 4) as u8;
}
