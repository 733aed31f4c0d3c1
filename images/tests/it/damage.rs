//! Damaged and hostile files: an error or a picture, never a panic, and no memory before the size is checked.

use std::path::Path;

use images::{DEFAULT_MAX_PIXELS, ImageError, decode};
use proptest::prelude::*;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

const NAMES: [&str; 8] = [
    "420.jpg",
    "420-progressive.jpg",
    "restart.jpg",
    "restart-progressive.jpg",
    "inks.jpg",
    "grey.jpg",
    "palette-4.png",
    "alpha.png",
];

#[test]
fn every_cut_is_an_error() {
    for name in NAMES {
        let whole = fixture(name);
        // Of a PNG's end chunk of 12 bytes nothing is needed; of a JPEG's end mark of 2 both are.
        let needed = whole.len() - if whole.starts_with(b"\x89PNG") { 12 } else { 1 };
        for length in (0..needed).step_by(7) {
            let error = decode(&whole[..length], DEFAULT_MAX_PIXELS).expect_err(name);
            assert!(
                matches!(error, ImageError::Damaged { .. } | ImageError::UnknownFormat { .. }),
                "{name} at {length}: {error}"
            );
        }
    }
}

#[test]
fn a_claim_of_too_many_pixels_is_refused_from_the_header() {
    for name in ["420.jpg", "rgb.png"] {
        let bytes = fixture(name);
        let error = decode(&bytes, 100).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { limit: 100, .. }), "{error}");
    }
    // A frame of 65,500 × 65,500 pixels in a file of two hundred bytes.
    let mut bytes = fixture("grey.jpg");
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let error = decode(&bytes, DEFAULT_MAX_PIXELS).unwrap_err().to_string();
    assert_eq!(error, "expected at most 89478485 pixels, found 65500×65500");
}

#[test]
fn other_files_are_named() {
    assert!(decode(b"", 1).unwrap_err().to_string().ends_with("found an empty file"));
    assert!(decode(b"GIF89a..", 1).unwrap_err().to_string().contains("47, 49, 46"));
    let mut arithmetic = fixture("grey.jpg");
    let frame = arithmetic.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    arithmetic[frame + 1] = 0xc9;
    assert!(decode(&arithmetic, 1 << 20).unwrap_err().to_string().contains("arithmetic coding"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        which in 0..NAMES.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = fixture(NAMES[which]);
        for (place, value) in changes {
            let at = place.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(image) = decode(&bytes, 1 << 20) {
            prop_assert_eq!(image.pixels().len(), 3 * image.width() * image.height());
        }
    }
}
