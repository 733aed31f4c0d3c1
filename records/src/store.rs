//! The append-only record file: whole JSON lines written under an exclusive lock, read with a torn last line tolerated.
//!
//! ```text
//! open    lock the file, cut off a torn last line a crash left
//! append  check, seal, one write per batch of whole lines, sync to disk
//! read    parse each line; drop a torn last line (warning) and repeated record ids; refuse a newer schema
//! ```
//! [`write_atomic`] is for every other file: temporary name, sync, rename, sync of the folder; on failure nothing is left behind.
//!
//! Source: measurement.md section 14.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::RecordError;
use crate::row::{Row, SCHEMA};

/// Name of the record file in a run directory.
pub const RECORDS_FILE: &str = "records.jsonl";

/// Name of the manifest in a run directory.
pub const MANIFEST_FILE: &str = "manifest.json";

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { action, path, source }
}

/// Appends rows to one record file, alone.
#[derive(Debug)]
pub struct RecordWriter {
    file: File,
    path: PathBuf,
    /// Bytes known to end in a whole line; a failed append is cut back to here.
    good_bytes: u64,
}

impl RecordWriter {
    /// Opens `folder/records.jsonl` for appending, creating folder and file.
    ///
    /// # Errors
    /// As [`RecordWriter::open`].
    pub fn in_folder(folder: &Path) -> Result<Self, RecordError> {
        fs::create_dir_all(folder).map_err(io_error("create folder", folder))?;
        Self::open(&folder.join(RECORDS_FILE))
    }

    /// Opens a record file for appending, creating it; the lock lasts as long as the writer.
    /// A last line without its newline is what a crash left: it is cut off, unless it is a whole row.
    ///
    /// # Errors
    /// [`RecordError::Locked`] when another writer, of this or another process, holds the file.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io_error("open records", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RecordError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", path)(source)),
        }
        let mut writer = Self { file, path: path.to_owned(), good_bytes: 0 };
        writer.repair_tail()?;
        Ok(writer)
    }

    /// Where the rows go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends rows as whole lines and syncs them to disk; a row without an id is sealed. Returns the ids.
    ///
    /// # Errors
    /// When a row fails [`Row::check`] (nothing is written), or the disk refuses (nothing half-written stays).
    pub fn append(&mut self, rows: &[Row]) -> Result<Vec<String>, RecordError> {
        let mut lines = Vec::new();
        let mut ids = Vec::with_capacity(rows.len());
        for row in rows {
            row.check()?;
            let sealed = if row.record_id.is_empty() { row.clone().seal() } else { row.clone() };
            serde_json::to_writer(&mut lines, &sealed).expect("a row holds only strings, numbers and lists");
            lines.push(b'\n');
            ids.push(sealed.record_id);
        }
        let written = self
            .file
            .seek(SeekFrom::Start(self.good_bytes))
            .and_then(|_| self.file.write_all(&lines))
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // A full disk must not leave half a line in front of later ones.
            let _ = self.file.set_len(self.good_bytes);
            return Err(io_error("append to", &self.path)(source));
        }
        self.good_bytes += lines.len() as u64;
        Ok(ids)
    }

    fn repair_tail(&mut self) -> Result<(), RecordError> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).map_err(io_error("read", &self.path))?;
        self.good_bytes = bytes.len() as u64;
        if bytes.is_empty() || bytes.ends_with(b"\n") {
            return Ok(());
        }
        let start = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if serde_json::from_slice::<Row>(&bytes[start..]).is_ok() {
            self.file.write_all(b"\n").map_err(io_error("repair", &self.path))?;
            self.good_bytes += 1;
        } else {
            self.file.set_len(start as u64).map_err(io_error("repair", &self.path))?;
            self.good_bytes = start as u64;
        }
        Ok(())
    }
}

/// Rows read from a file, and what was odd about it.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The rows, in file order, each record id once.
    pub rows: Vec<Row>,
    /// Rows left out because their record id was already there.
    pub duplicates: usize,
    /// What a reader should be told.
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
struct SchemaProbe {
    schema: Option<i32>,
}

/// Reads one record file.
///
/// # Errors
/// When the file cannot be read, a complete line is not a row, or a row is of a newer schema.
pub fn read_rows(path: &Path) -> Result<Loaded, RecordError> {
    let mut rows = Vec::new();
    let loaded = visit_rows(path, |row| rows.push(row))?;
    Ok(Loaded { rows, ..loaded })
}

/// Hands each row of a record file to `each`, in file order and each record id once, and returns what was odd; for files whose rows
/// need not be in memory together.
///
/// # Errors
/// As [`read_rows`].
pub fn visit_rows(path: &Path, mut each: impl FnMut(Row)) -> Result<Loaded, RecordError> {
    let bytes = fs::read(path).map_err(io_error("read records", path))?;
    let mut loaded = Loaded::default();
    let mut seen = HashSet::new();
    let mut rest = bytes.as_slice();
    let mut line = 0;
    while !rest.is_empty() {
        line += 1;
        let (text, whole, next) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&rest[..end], true, &rest[end + 1..]),
            None => (rest, false, &rest[rest.len()..]),
        };
        rest = next;
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match parse_row(text, path, line) {
            Ok(row) if row.record_id.is_empty() || seen.insert(row.record_id.clone()) => each(row),
            Ok(_) => loaded.duplicates += 1,
            Err(RecordError::BadLine { found, .. }) if !whole => {
                loaded.warnings.push(format!("{}:{line}: dropped a torn last line ({found})", path.display()));
            }
            Err(error) => return Err(error),
        }
    }
    if loaded.duplicates > 0 {
        loaded.warnings.push(format!("{}: dropped {} repeated rows", path.display(), loaded.duplicates));
    }
    Ok(loaded)
}

fn parse_row(text: &[u8], path: &Path, line: usize) -> Result<Row, RecordError> {
    let bad = |found: String| RecordError::BadLine { path: path.to_owned(), line, found };
    // The schema is looked at first: a newer one may have changed the type of any other column.
    let probe: SchemaProbe = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
    match probe.schema {
        Some(found) if found > SCHEMA => Err(RecordError::NewerSchema { path: path.to_owned(), line, supported: SCHEMA, found }),
        Some(_) => serde_json::from_slice(text).map_err(|error| bad(error.to_string())),
        None => Err(bad("a line without `schema`".to_owned())),
    }
}

/// Writes a file all or nothing: temporary name beside it, sync, rename, sync of the folder. The folder must exist.
///
/// # Errors
/// When the disk refuses; the target is then untouched and the temporary file removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // The process id keeps two processes that write the same file from sharing a temporary one.
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let result = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    result.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        io_error("write", path)(source)
    })
}
