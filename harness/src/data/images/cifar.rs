//! CIFAR-10 and CIFAR-100 in their authors' binary form.
//!
//! ```text
//! CIFAR-10:  data_batch_1.bin … data_batch_5.bin | test_batch.bin     record = label, 1024 red, 1024 green, 1024 blue
//! CIFAR-100: train.bin | test.bin                                     record = coarse label, fine label, the same
//! names:     batches.meta.txt | fine_label_names.txt, one a line
//! ```
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>. Labels stay as they stand in the file.

use anyhow::{anyhow, bail};
use images::Rgb8;

use super::layout::{CHOOSE_SPLIT, Placed, Split, same_split};
use crate::error::Hint as _;

/// Pixels a side.
const SIDE: usize = 32;
/// Bytes of one colour.
const PLANE: usize = SIDE * SIDE;

/// Whether a file belongs to one of the two forms.
pub fn is_part(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    is_meta(name) || split_of(name).is_some()
}

fn is_meta(name: &str) -> bool {
    name == "batches.meta.txt" || name == "fine_label_names.txt"
}

/// Split of a record file, and its bytes of label.
fn split_of(name: &str) -> Option<(&'static str, usize)> {
    match name {
        "test_batch.bin" => Some(("test", 1)),
        "train.bin" => Some(("train", 2)),
        "test.bin" => Some(("test", 2)),
        _ => name.strip_prefix("data_batch_")?.strip_suffix(".bin").map(|_| ("train", 1)),
    }
}

/// Reads the record files of one split; `files` are name and content.
///
/// # Errors
/// No such split, a file that is not a whole number of records, a label without a name.
pub fn read(files: Vec<(String, Vec<u8>)>, split: Option<&str>) -> anyhow::Result<Split<Rgb8>> {
    let mut names: Vec<String> = Vec::new();
    let mut parts: Vec<(String, &'static str, usize, Vec<u8>)> = Vec::new();
    for (path, content) in files {
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        if is_meta(&name) {
            names = String::from_utf8_lossy(&content)
                .lines()
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty())
                .collect();
        } else if let Some((of, label_bytes)) = split_of(&name) {
            parts.push((name, of, label_bytes, content));
        }
    }
    let there: std::collections::BTreeSet<&str> = parts.iter().map(|(_, of, ..)| *of).collect();
    let chosen = match split {
        Some(asked) => there.iter().copied().find(|of| same_split(of, asked)),
        None if there.len() == 1 => there.first().copied(),
        None => None,
    };
    let shown = there.iter().copied().collect::<Vec<_>>().join("`, `");
    let Some(chosen) = chosen else {
        return match split {
            Some(asked) => Err(anyhow!("unknown split: `{asked}` (the set has `{shown}`)")),
            None => Err(anyhow!("expected one split, found `{shown}`")).hint(CHOOSE_SPLIT),
        };
    };
    parts.retain(|(_, of, ..)| *of == chosen);
    parts.sort();
    let mut files = Vec::new();
    for (name, _, label_bytes, content) in parts {
        let record = label_bytes + 3 * PLANE;
        if content.is_empty() || content.len() % record != 0 {
            bail!("`{name}`: expected a multiple of {record} bytes, found {}", content.len());
        }
        for (index, record) in content.chunks_exact(record).enumerate() {
            let (label, planes) = record.split_at(label_bytes);
            let label = u32::from(label[label_bytes - 1]);
            let pixels = (0..PLANE).flat_map(|at| [planes[at], planes[PLANE + at], planes[2 * PLANE + at]]).collect();
            files.push(Placed { id: format!("{name}:{index:05}"), label, item: Rgb8::new(SIDE, SIDE, pixels)? });
        }
    }
    let most = files.iter().map(|file| file.label).max().unwrap_or(0);
    if names.is_empty() {
        names = (0..=most).map(|label| label.to_string()).collect();
    }
    if most as usize >= names.len() {
        bail!("expected labels below {}, the number of class names, found {most}", names.len());
    }
    Ok(Split { name: Some(chosen.to_owned()), classes: names, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(labels: &[u8], value: u8) -> Vec<u8> {
        let mut bytes = labels.to_vec();
        for plane in 0..3 {
            bytes.extend((0..PLANE).map(|at| value + plane + u8::from(at == 1) * 100));
        }
        bytes
    }

    #[test]
    fn planes_become_pixels_and_files_are_joined_in_order() {
        let files = vec![
            ("c/data_batch_2.bin".to_owned(), record(&[1], 50)),
            ("c/data_batch_1.bin".to_owned(), [record(&[2], 10), record(&[0], 20)].concat()),
            ("c/test_batch.bin".to_owned(), record(&[2], 70)),
            ("c/batches.meta.txt".to_owned(), b"cat\ndog\nfrog\n\n".to_vec()),
        ];
        let split = read(files, Some("training")).unwrap();
        assert_eq!(split.classes, ["cat", "dog", "frog"]);
        assert_eq!(split.files.iter().map(|file| file.label).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(split.files[0].item.pixels()[..9], [10, 11, 12, 110, 111, 112, 10, 11, 12]);
        assert_eq!(split.files[2].id, "data_batch_2.bin:00000");
    }

    #[test]
    fn the_hundred_class_form_takes_the_fine_label() {
        let split = read(vec![("test.bin".to_owned(), record(&[3, 7], 1))], None).unwrap();
        assert_eq!((split.files[0].label, split.classes.len()), (7, 8));
    }

    #[test]
    fn cut_files_and_unnamed_labels_are_refused() {
        let mut cut = record(&[0], 1);
        cut.pop();
        let error = read(vec![("test_batch.bin".to_owned(), cut)], None).unwrap_err().to_string();
        assert_eq!(error, "`test_batch.bin`: expected a multiple of 3073 bytes, found 3072");
        let files = vec![("test_batch.bin".to_owned(), record(&[9], 1)), ("batches.meta.txt".to_owned(), b"cat\n".to_vec())];
        assert!(read(files, None).unwrap_err().to_string().contains("found 9"));
    }
}
