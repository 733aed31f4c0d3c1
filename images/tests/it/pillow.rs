//! Pixels equal to Pillow's, by digest: our own fixtures (`fixtures/make.py` made them), and the pictures of a reference pack.

use std::path::{Path, PathBuf};

use images::{DEFAULT_MAX_PIXELS, Filter, Rgb8, decode, resize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read(path: &Path) -> Rgb8 {
    let bytes = std::fs::read(path).unwrap();
    decode(&bytes, DEFAULT_MAX_PIXELS).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sha256(image: &Rgb8) -> String {
    Sha256::digest(image.pixels()).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn check(line: &Value, image: &Rgb8) {
    let size = (line["width"].as_u64().unwrap() as usize, line["height"].as_u64().unwrap() as usize);
    assert_eq!((image.width(), image.height()), size, "{line}");
    assert_eq!(sha256(image), line["sha256"].as_str().unwrap(), "{line}");
}

#[test]
fn files_decode_to_pillows_bytes() {
    let lines = lines(&fixtures().join("expected.jsonl"));
    let decoded: Vec<&Value> = lines.iter().filter(|line| line.get("filter").is_none()).collect();
    assert!(decoded.len() > 25, "{}", decoded.len());
    for line in decoded {
        check(line, &read(&fixtures().join(line["file"].as_str().unwrap())));
    }
}

#[test]
fn resized_pictures_are_pillows_bytes() {
    let lines = lines(&fixtures().join("expected.jsonl"));
    let resized: Vec<&Value> = lines.iter().filter(|line| line.get("filter").is_some()).collect();
    assert!(resized.len() > 15, "{}", resized.len());
    for line in resized {
        let filter: Filter = serde_json::from_value(line["filter"].clone()).unwrap();
        let size = |key: &str| line[key].as_u64().unwrap() as usize;
        let image = read(&fixtures().join(line["file"].as_str().unwrap()));
        check(line, &resize(&image, size("width"), size("height"), filter).unwrap());
    }
}

/// The reference pack: `$PARITY_DIR`, or where a checkout has it; none with a printed reason.
fn pack() -> Option<PathBuf> {
    let root = std::env::var_os("PARITY_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/parity"), PathBuf::from);
    let found = root.join("models/vlm_images").is_dir();
    if !found {
        eprintln!("skipped: no `models/vlm_images` in the reference pack `{}`", root.display());
    }
    found.then_some(root)
}

#[test]
fn a_photograph_of_the_pack_decodes_to_the_stored_pixels() {
    let Some(root) = pack() else { return };
    let folder = root.join("models/vlm_images");
    let mut pairs = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(file) = name.strip_suffix(".decoded.png") {
            assert_eq!(read(&folder.join(file)), read(&path), "{file}");
            pairs += 1;
        }
    }
    assert!(pairs > 0, "no *.decoded.png in `{}`", folder.display());
}

#[test]
fn document_pages_decode_to_the_stored_digests() {
    let Some(root) = pack() else { return };
    let data = root.join("../data/docvqa");
    let file = root.join("models/vlm_images/docvqa_pixels.jsonl");
    if !data.is_dir() || !file.is_file() {
        eprintln!("skipped: no document pages at `{}`", data.display());
        return;
    }
    for line in lines(&file) {
        let image = read(&data.join(line["image"].as_str().unwrap()));
        assert_eq!(sha256(&image), line["rgb_sha256"].as_str().unwrap(), "{}", line["image"]);
    }
}
