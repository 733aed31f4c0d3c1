//! The record file: locking, torn lines, duplicates, newer schemas, atomic writes.

use std::fs;
use std::io::Write as _;

use records::{RecordError, RecordWriter, Row, read_rows, write_atomic};

fn sample(value: f64) -> Row {
    Row { run_id: "r".into(), metric: "train_step_s".into(), unit: "s".into(), value: Some(value), ..Row::default() }
}

#[test]
fn appended_rows_are_read_back_in_order_and_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = RecordWriter::in_folder(&folder.path().join("run")).unwrap();
    writer.append(&[sample(1.0), sample(2.0)]).unwrap();
    let ids = writer.append(&[sample(3.0)]).unwrap();
    let loaded = read_rows(writer.path()).unwrap();
    assert_eq!(loaded.rows.iter().map(|row| row.value.unwrap()).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
    assert_eq!(loaded.rows[2].record_id, ids[0]);
    assert_eq!(loaded.rows[2].content_id(), ids[0]);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn a_second_writer_is_refused_until_the_first_ends() {
    let folder = tempfile::tempdir().unwrap();
    let first = RecordWriter::in_folder(folder.path()).unwrap();
    let message = RecordWriter::in_folder(folder.path()).unwrap_err().to_string();
    assert!(message.contains("another process is writing to it"), "{message}");
    drop(first);
    RecordWriter::in_folder(folder.path()).unwrap();
}

#[test]
fn a_torn_last_line_is_dropped_with_a_warning_and_cut_off_before_appending() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = RecordWriter::in_folder(folder.path()).unwrap();
    writer.append(&[sample(1.0)]).unwrap();
    let path = writer.path().to_owned();
    drop(writer);
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(br#"{"schema":1,"metric":"train_st"#).unwrap();

    let loaded = read_rows(&path).unwrap();
    assert_eq!(loaded.rows.len(), 1);
    assert!(loaded.warnings[0].contains(":2: dropped a torn last line"), "{:?}", loaded.warnings);

    RecordWriter::open(&path).unwrap().append(&[sample(2.0)]).unwrap();
    let loaded = read_rows(&path).unwrap();
    assert_eq!((loaded.rows.len(), loaded.warnings.len()), (2, 0));
}

#[test]
fn every_cut_of_the_file_loses_at_most_the_cut_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = RecordWriter::in_folder(folder.path()).unwrap();
    writer.append(&[sample(1.0), sample(2.0)]).unwrap();
    let bytes = fs::read(writer.path()).unwrap();
    let cut_file = folder.path().join("cut.jsonl");
    for length in 0..=bytes.len() {
        fs::write(&cut_file, &bytes[..length]).unwrap();
        let whole_lines = bytes[..length].split(|byte| *byte == b'\n').count() - 1;
        let rows = read_rows(&cut_file).unwrap().rows.len();
        // A line without its newline may still be whole.
        assert!(rows == whole_lines || rows == whole_lines + 1, "cut at {length}: {rows} rows, {whole_lines} lines");
        RecordWriter::open(&cut_file).unwrap().append(&[sample(3.0)]).unwrap();
        assert_eq!(read_rows(&cut_file).unwrap().rows.len(), rows + 1, "cut at {length}");
    }
}

#[test]
fn a_whole_line_that_is_no_row_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    fs::write(&path, "{\"schema\":1,\"metric\":\"acc\"}\n{\"schema\":1,\"arm\":\"C\"}\n").unwrap();
    let message = read_rows(&path).unwrap_err().to_string();
    assert!(message.contains("records.jsonl:2: expected one row of schema 1, found unknown variant `C`"), "{message}");
}

#[test]
fn a_newer_schema_is_refused_even_on_a_torn_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.jsonl");
    fs::write(&path, r#"{"schema":2,"metric":"acc","arm":7}"#).unwrap();
    assert!(matches!(read_rows(&path), Err(RecordError::NewerSchema { line: 1, supported: 1, found: 2, .. })));
}

#[test]
fn repeated_record_ids_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = RecordWriter::in_folder(folder.path()).unwrap();
    writer.append(&[sample(1.0), sample(1.0), sample(2.0)]).unwrap();
    let loaded = read_rows(writer.path()).unwrap();
    assert_eq!((loaded.rows.len(), loaded.duplicates), (2, 1));
}

#[test]
fn a_non_finite_value_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = RecordWriter::in_folder(folder.path()).unwrap();
    let message = writer.append(&[sample(1.0), sample(f64::NAN)]).unwrap_err().to_string();
    assert_eq!(message, "cannot record `train_step_s`: column `value` expected a finite number, found NaN");
    assert_eq!(fs::read(writer.path()).unwrap(), b"");
}

#[test]
fn atomic_write_replaces_and_leaves_no_temporary_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write_atomic(&path, b"one").unwrap();
    write_atomic(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_atomic_write_keeps_the_target_and_removes_its_temporary_file() {
    let folder = tempfile::tempdir().unwrap();
    // Renaming a file onto a non-empty folder fails after the temporary file was written.
    let path = folder.path().join("target");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("kept"), b"x").unwrap();
    assert!(write_atomic(&path, b"new").is_err());
    assert_eq!(fs::read(path.join("kept")).unwrap(), b"x");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
