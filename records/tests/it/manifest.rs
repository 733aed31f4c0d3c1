//! The manifest file round-trips and refuses a newer schema.

use records::{Build, Manifest, RecordError, RunStatus};

#[test]
fn manifest_round_trips_through_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest.json");
    let manifest = Manifest {
        run_id: "lm-tiny-rw/01234567-s0".into(),
        command: vec!["harness".into(), "train".into()],
        status: RunStatus::Finished,
        started_utc: "2025-01-01T00:00:00Z".into(),
        finished_utc: Some("2025-01-01T00:01:00Z".into()),
        build: Build { git_commit: Some("abc".into()), git_dirty: Some(false), ..Build::default() },
        ..Manifest::default()
    };
    manifest.save(&path).unwrap();
    assert_eq!(Manifest::load(&path).unwrap(), manifest);
}

#[test]
fn a_newer_manifest_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest.json");
    std::fs::write(&path, r#"{"schema":2}"#).unwrap();
    assert!(matches!(Manifest::load(&path), Err(RecordError::NewerSchema { found: 2, .. })));
}
