//! Learning curves as TensorBoard event files, one folder per run.
//!
//! ```text
//! record   length u64 LE │ masked CRC-32C of the length │ payload │ masked CRC-32C of the payload        masked(c) = rot15(c) + 0xa282ead8
//! payload  Event { 1: wall_time f64, 2: step i64, 3: file_version string, 5: Summary { 1: Value { 1: tag string, 2: simple_value f32 } } }
//! ```
//! Wall time is 0 in every event: it would make two exports of the same records differ, and curves are read against the step.
//!
//! Source: measurement.md section 15; TensorFlow's record and event formats (`record_writer.h`, `event.proto`, `summary.proto`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use records::{RecordKind, Source};

use crate::study::Study;

/// Added to a rotated checksum, so that the checksum of data that holds checksums stays strong.
const MASK: u32 = 0xa282_ead8;
/// Castagnoli polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What a reader looks for in a file name, and a name that does not depend on clock or host.
const FILE: &str = "events.out.tfevents.0.laurel";

/// Event files of every run with step rows: path below the report folder, and bytes. Runs and tags are sorted, steps rise.
pub fn event_files(study: &Study) -> Vec<(PathBuf, Vec<u8>)> {
    let mut runs: BTreeMap<(String, i64), BTreeMap<(u64, String), f32>> = BTreeMap::new();
    for group in study.groups() {
        let row = &group.shared;
        if row.kind != RecordKind::Step || row.source != Source::Measured || !group.is_ok() {
            continue;
        }
        let Some(subject) = row.subject.as_ref().or(row.variant.as_ref()) else { continue };
        let tag = row.split.as_ref().map_or_else(|| row.metric.clone(), |split| format!("{split}/{}", row.metric));
        for own in &group.rows {
            if let (Some(step), Some(value)) = (own.eval_step, own.value) {
                let run = runs.entry((subject.clone(), own.seed.unwrap_or(0))).or_default();
                run.insert((step, tag.clone()), value as f32);
            }
        }
    }
    runs.into_iter()
        .map(|((subject, seed), points)| {
            let mut bytes = framed(&event(0, &string(3, "brain.Event:2")));
            for ((step, tag), value) in points {
                bytes.extend(framed(&event(step, &message(5, &message(1, &scalar(&tag, value))))));
            }
            let folder = format!("{}-s{seed}", crate::report::file_name(&subject));
            (PathBuf::from("tensorboard").join(folder).join(FILE), bytes)
        })
        .collect()
}

/// One record: payload between its length and checksums.
fn framed(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(&length).to_le_bytes());
    out.extend(payload);
    out.extend(masked(payload).to_le_bytes());
    out
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}

/// CRC-32C (Castagnoli), bit by bit: event files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
        }
    }
    !crc
}

/// Event with its wall time, step and one more field.
fn event(step: u64, field: &[u8]) -> Vec<u8> {
    let mut out = vec![(1 << 3) | 1];
    out.extend(0.0_f64.to_le_bytes());
    out.push(2 << 3);
    out.extend(varint(step));
    out.extend(field);
    out
}

/// A `Summary.Value` of one number.
fn scalar(tag: &str, value: f32) -> Vec<u8> {
    let mut out = string(1, tag);
    out.push((2 << 3) | 5);
    out.extend(value.to_le_bytes());
    out
}

fn string(field: u8, text: &str) -> Vec<u8> {
    message(field, text.as_bytes())
}

/// A length-delimited field.
fn message(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![(field << 3) | 2];
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::Row;

    #[test]
    fn checksum_of_the_standards_test_vectors() {
        // RFC 3720 section B.4, and the usual check value of the digits 1 to 9.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn numbers_above_one_byte_are_split_in_sevens() {
        // Protocol Buffers encoding guide: 150 is 96 01.
        assert_eq!(varint(150), [0x96, 0x01]);
        assert_eq!(varint(0), [0]);
    }

    #[test]
    fn a_run_becomes_one_file_whose_first_events_are_known_bytes() {
        let row = Row {
            kind: RecordKind::Step,
            subject: Some("s".into()),
            metric: "val_loss".into(),
            seed: Some(2),
            eval_step: Some(5),
            value: Some(1.5),
            ..Row::default()
        };
        let files = event_files(&Study::new(vec![row]));
        assert_eq!(files[0].0, PathBuf::from("tensorboard/s-s2/events.out.tfevents.0.laurel"));
        // 26 bytes: tag 09 and eight zeros of the time, 10 00 of the step, 1a 0d and the 13 letters of the version.
        let bytes = &files[0].1;
        assert_eq!(&bytes[..8], 26_u64.to_le_bytes());
        assert_eq!(&bytes[12..21], [9, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[21..38], b"\x10\x00\x1a\x0dbrain.Event:2");
        // Second record: step 5, one value "val_loss" 1.5 (00 00 c0 3f).
        let second = &bytes[12 + 26 + 4 + 12..];
        assert_eq!(&second[9..28], b"\x10\x05\x2a\x11\x0a\x0f\x0a\x08val_loss\x15\x00\x00".as_slice());
        assert_eq!(&second[28..30], [0xc0, 0x3f]);
    }
}
