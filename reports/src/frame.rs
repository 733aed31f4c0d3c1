//! Records as rows and as a data frame: reading folders, joining manifests, compacting JSON Lines to Parquet.
//!
//! ```text
//! folder  --records*.{jsonl,parquet}, manifest.json-->  Records  --frame-->  DataFrame (one column per record column)
//! ```
//! Rows keep each `record_id` once and are sorted, so the order of files, shards and workers changes nothing downstream. The Parquet
//! form carries host, build and input columns in every row; in JSON Lines they may stand in the manifest only.
//!
//! Source: measurement.md section 14, architecture.md section 8.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use polars::prelude::*;
use polars_io::prelude::{ParquetReader, ParquetWriter, SerReader};
use records::column::{CellRef, CellValue, ColumnType};
use records::store::MANIFEST_FILE;
use records::{COLUMNS, Manifest, RecordError, Row, SCHEMA};

use crate::columnar;
use crate::error::ReportError;
use crate::study::StudyBuilder;

/// A collection of rows, sorted, each record once.
#[derive(Clone, Debug, Default)]
pub struct Records {
    rows: Vec<Row>,
    warnings: Vec<String>,
}

pub(crate) fn frame_error(action: impl Into<String>) -> impl FnOnce(PolarsError) -> ReportError {
    let action = action.into();
    move |source| ReportError::Frame { action, source }
}

impl Records {
    /// From rows; repeated record ids are dropped and the rest sorted.
    pub fn new(rows: Vec<Row>) -> Self {
        let mut seen = HashSet::new();
        let mut rows: Vec<Row> = rows
            .into_iter()
            .map(|row| if row.record_id.is_empty() { row.seal() } else { row })
            .filter(|row| seen.insert(row.record_id.clone()))
            .collect();
        rows.sort_by_cached_key(sort_key);
        Self { rows, warnings: Vec::new() }
    }

    /// Reads record files, or every `records*.jsonl` and `records*.parquet` below folders, with the manifests beside them.
    ///
    /// # Errors
    /// When a path holds no records, a file cannot be read, or a row is of a newer schema.
    pub fn load(paths: &[PathBuf]) -> Result<Self, ReportError> {
        let mut rows = Vec::new();
        let mut warnings = Vec::new();
        for file in files_of(paths)? {
            if is_parquet(&file) {
                rows.extend(rows_of(&read_parquet(&file, None)?, &file)?);
            } else {
                warnings.extend(visit_joined(&file, |row| rows.push(row))?);
            }
        }
        Ok(Self { warnings, ..Self::new(rows) })
    }

    /// The rows, sorted.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What was odd about the files: torn lines, repeated rows.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The rows as a data frame with every column of the schema, missing values null.
    ///
    /// # Errors
    /// When the data frame refuses a column.
    pub fn frame(&self) -> Result<DataFrame, ReportError> {
        frame_of(&self.rows)
    }

    /// Writes the rows to one Parquet file, all or nothing; rows read back are equal.
    ///
    /// # Errors
    /// When the frame or the file cannot be written.
    pub fn compact(&self, path: &Path) -> Result<(), ReportError> {
        compact_rows(&self.rows, path)
    }
}

/// Writes rows to one Parquet file as they stand, all or nothing; rows without an id keep none.
///
/// # Errors
/// When the frame or the file cannot be written.
pub fn compact_rows(rows: &[Row], path: &Path) -> Result<(), ReportError> {
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(&mut frame_of(rows)?).map_err(frame_error(format!("encode `{}`", path.display())))?;
    Ok(records::write_atomic(path, &bytes)?)
}

fn frame_of(rows: &[Row]) -> Result<DataFrame, ReportError> {
    let columns = COLUMNS.iter().map(|column| column_of(rows, column.name, column.ty)).collect();
    DataFrame::new(rows.len(), columns).map_err(frame_error("build a frame of records"))
}

/// Order of rows in every output: what, who, which trial, then the id as tie-break.
fn sort_key(row: &Row) -> impl Ord + use<> {
    (
        row.suite.clone(),
        row.task.clone(),
        row.metric.clone(),
        row.filter.clone(),
        row.subject.clone(),
        row.seed,
        row.trial,
        (row.block, row.pair, row.order_in_pair, row.worker, row.eval_step),
        row.doc_id.clone(),
        row.record_id.clone(),
    )
}

/// Hands the rows of record files to a study, a column at a time where the file has columns.
pub(crate) fn visit(paths: &[PathBuf], builder: &mut StudyBuilder) -> Result<(), ReportError> {
    for file in files_of(paths)? {
        if is_parquet(&file) {
            if !columnar::read(&file, builder)? {
                // Rows without ids need all their columns to get one.
                rows_of(&read_parquet(&file, None)?, &file)?.into_iter().for_each(|row| builder.add(row));
            }
        } else {
            visit_joined(&file, |row| builder.add(row))?.into_iter().for_each(|warning| builder.warn(warning));
        }
    }
    Ok(())
}

fn is_parquet(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "parquet")
}

/// The files named, and every record file below the folders named.
fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ReportError> {
    let mut files = Vec::new();
    for path in paths {
        let before = files.len();
        if path.is_dir() {
            find_records(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
        if files.len() == before {
            return Err(ReportError::NoRecords { path: path.clone() });
        }
    }
    Ok(files)
}

/// Rows of a JSON Lines file with the columns that stand in the manifest beside it; returns what was odd.
fn visit_joined(file: &Path, mut each: impl FnMut(Row)) -> Result<Vec<String>, ReportError> {
    let manifest = file.with_file_name(MANIFEST_FILE);
    let manifest = if manifest.is_file() { Some(Manifest::load(&manifest)?) } else { None };
    let loaded = records::visit_rows(file, |mut row| {
        if let Some(manifest) = &manifest {
            manifest.join(&mut row);
        }
        each(row);
    })?;
    Ok(loaded.warnings)
}

fn find_records(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), ReportError> {
    let io = |source| ReportError::Io { action: "list", path: folder.to_owned(), source };
    let mut entries = fs::read_dir(folder)
        .map_err(io)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(io)?
        .into_iter()
        .map(|e| e.path())
        .collect::<Vec<_>>();
    entries.sort();
    for entry in entries {
        // A link could lead round in a circle.
        if entry.is_symlink() {
            continue;
        }
        if entry.is_dir() {
            find_records(&entry, files)?;
            continue;
        }
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = entry.extension().and_then(|extension| extension.to_str());
        // Other files of a run directory (curves, samples, cached data) have other names.
        if name.starts_with("records") && matches!(extension, Some("jsonl" | "parquet")) {
            files.push(entry);
        }
    }
    Ok(())
}

fn column_of(rows: &[Row], name: &'static str, ty: ColumnType) -> Column {
    let cells = rows.iter().map(|row| row.get(name).unwrap_or(CellRef::Null));
    let name: PlSmallStr = name.into();
    let int = |cell: CellRef<'_>| if let CellRef::Int(value) = cell { Some(value) } else { None };
    match ty {
        ColumnType::Str => {
            Column::new(name, cells.map(|cell| if let CellRef::Str(text) = cell { Some(text) } else { None }).collect::<Vec<_>>())
        }
        ColumnType::Int32 => {
            Column::new(name, cells.map(|cell| int(cell).and_then(|v| i32::try_from(v).ok())).collect::<Vec<_>>())
        }
        ColumnType::Int64 => Column::new(name, cells.map(int).collect::<Vec<_>>()),
        ColumnType::Float => Column::new(
            name,
            cells.map(|cell| if let CellRef::Float(value) = cell { Some(value) } else { None }).collect::<Vec<_>>(),
        ),
        ColumnType::Bool => Column::new(
            name,
            cells.map(|cell| if let CellRef::Bool(value) = cell { Some(value) } else { None }).collect::<Vec<_>>(),
        ),
        ColumnType::FloatList => {
            let mut builder = ListPrimitiveChunkedBuilder::<Float64Type>::new(name, rows.len(), 0, DataType::Float64);
            for cell in cells {
                match cell {
                    CellRef::Floats(values) => builder.append_slice(values),
                    _ => builder.append_null(),
                }
            }
            builder.finish().into_series().into()
        }
    }
}

/// A Parquet file, or some of its columns.
pub(crate) fn read_parquet(path: &Path, columns: Option<Vec<String>>) -> Result<DataFrame, ReportError> {
    let file = File::open(path).map_err(|source| ReportError::Io { action: "open", path: path.to_owned(), source })?;
    ParquetReader::new(file).with_columns(columns).finish().map_err(frame_error(format!("read `{}`", path.display())))
}

/// Type of a column in a data frame, wide enough for every file.
pub(crate) fn data_type(ty: ColumnType) -> DataType {
    match ty {
        ColumnType::Str => DataType::String,
        ColumnType::Int32 | ColumnType::Int64 => DataType::Int64,
        ColumnType::Float => DataType::Float64,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::FloatList => DataType::List(Box::new(DataType::Float64)),
    }
}

/// Rows of a frame in the record schema; unknown columns are ignored, absent ones are null.
fn rows_of(frame: &DataFrame, path: &Path) -> Result<Vec<Row>, ReportError> {
    let action = || format!("read records of `{}`", path.display());
    let mut rows = vec![Row::default(); frame.height()];
    for column in COLUMNS {
        let Ok(data) = frame.column(column.name) else { continue };
        let data = data.cast(&data_type(column.ty)).map_err(frame_error(action()))?;
        let series = data.as_materialized_series();
        for (row, value) in rows.iter_mut().zip(series.iter()) {
            let cell = match value {
                AnyValue::Null => CellValue::Null,
                AnyValue::String(text) => CellValue::Str(text.to_owned()),
                AnyValue::StringOwned(text) => CellValue::Str(text.to_string()),
                AnyValue::Int64(value) => CellValue::Int(value),
                AnyValue::Float64(value) => CellValue::Float(value),
                AnyValue::Boolean(value) => CellValue::Bool(value),
                AnyValue::List(list) => {
                    CellValue::Floats(list.f64().map_err(frame_error(action()))?.iter().map(|x| x.unwrap_or(f64::NAN)).collect())
                }
                other => CellValue::Str(other.to_string()),
            };
            row.set(column.name, cell)?;
        }
    }
    if let Some(row) = rows.iter().find(|row| row.schema > SCHEMA) {
        let found = row.schema;
        return Err(RecordError::NewerSchema { path: path.to_owned(), line: 1, supported: SCHEMA, found }.into());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::{Arm, RecordWriter};

    fn row(subject: &str, seed: i64, value: f64) -> Row {
        Row {
            run_id: "r".into(),
            metric: "val_loss".into(),
            unit: "nat/tok".into(),
            subject: Some(subject.into()),
            seed: Some(seed),
            value: Some(value),
            arm: Arm::B,
            raw_samples: Some(vec![value, 2.0]),
            ..Row::default()
        }
    }

    #[test]
    fn parquet_gives_the_rows_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.parquet");
        let records = Records::new(vec![row("b", 1, 0.5), row("a", 0, 0.25), Row { raw_samples: None, ..row("c", 2, 1.0) }]);
        records.compact(&path).unwrap();
        let back = Records::load(&[path]).unwrap();
        assert_eq!(back.rows(), records.rows());
    }

    #[test]
    fn jsonl_and_its_parquet_side_by_side_count_once() {
        let folder = tempfile::tempdir().unwrap();
        RecordWriter::in_folder(folder.path()).unwrap().append(&[row("a", 0, 0.5), row("a", 1, 0.75)]).unwrap();
        let records = Records::load(&[folder.path().to_owned()]).unwrap();
        records.compact(&folder.path().join("records.parquet")).unwrap();
        assert_eq!(Records::load(&[folder.path().to_owned()]).unwrap().rows().len(), 2);
    }

    #[test]
    fn manifest_beside_the_records_fills_host_columns() {
        let folder = tempfile::tempdir().unwrap();
        RecordWriter::in_folder(folder.path()).unwrap().append(&[row("a", 0, 0.5)]).unwrap();
        let mut manifest = Manifest { run_id: "r".into(), ..Manifest::default() };
        manifest.host.cpu_model = Some("cpu".into());
        manifest.save(&folder.path().join(MANIFEST_FILE)).unwrap();
        let records = Records::load(&[folder.path().to_owned()]).unwrap();
        assert_eq!(records.rows()[0].cpu_model.as_deref(), Some("cpu"));
    }

    #[test]
    fn the_order_of_input_rows_does_not_matter() {
        let a = Records::new(vec![row("a", 0, 0.5), row("b", 0, 0.75), row("a", 1, 0.1)]);
        let b = Records::new(vec![row("a", 1, 0.1), row("b", 0, 0.75), row("a", 0, 0.5)]);
        assert_eq!(a.rows(), b.rows());
    }

    #[test]
    fn a_folder_without_records_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let message = Records::load(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(message.starts_with("no records below `"), "{message}");
    }
}
