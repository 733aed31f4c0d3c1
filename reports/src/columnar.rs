//! A Parquet file into a study, one column at a time: a million rows in about a second and a few hundred megabytes.
//!
//! ```text
//! shared column   values -> codes (u32), one dictionary each; a constant column costs nothing
//! row             same codes as the row before -> same group; else a look-up by codes
//! own column      straight into the rows
//! ```
//! Only columns that a report reads are decoded. The rows of a whole file, decoded at once into [`records::Row`]s of a hundred columns,
//! would need two gigabytes.
//!
//! Source: measurement.md section 14 for the columns.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;

use polars::prelude::*;
use records::{Arm, COLUMNS, CellValue, RecordError, Row, SCHEMA};

use crate::error::ReportError;
use crate::frame::{data_type, frame_error, read_parquet};
use crate::study::{Own, SHARED, StudyBuilder};

/// Codes of a column's values and what they stand for.
struct Coded {
    name: &'static str,
    /// Empty where all rows have the first value.
    codes: Vec<u32>,
    values: Vec<CellValue>,
}

impl Coded {
    fn code(&self, row: usize) -> u32 {
        self.codes.get(row).copied().unwrap_or(0)
    }
}

/// Adds the rows of a file; false, and nothing is added, where rows lack their record ids.
pub(crate) fn read(path: &Path, builder: &mut StudyBuilder) -> Result<bool, ReportError> {
    let file = ParquetColumns { path };
    let Some(ids) = file.column("record_id")? else { return Ok(false) };
    let ids = ids.str().map_err(frame_error("read record ids"))?.clone();
    if ids.null_count() > 0 || ids.iter().flatten().any(str::is_empty) {
        return Ok(false);
    }
    let mut rows = vec![Own::default(); ids.len()];
    own_columns(&file, builder, &mut rows)?;
    // A row starts a run where any shared column changes.
    let mut is_start = vec![false; rows.len()];
    if let Some(first) = is_start.first_mut() {
        *first = true;
    }
    for at in 1..rows.len() {
        is_start[at] = rows[at].is_by_worker() != rows[at - 1].is_by_worker();
    }
    let mut shared = Vec::new();
    for name in SHARED {
        if let Some(coded) = file.coded(name, &mut is_start)? {
            shared.push(coded);
        }
    }
    if let Some(found) = newest_schema(&shared).filter(|found| *found > i64::from(SCHEMA)) {
        let (supported, found) = (SCHEMA, i32::try_from(found).unwrap_or(i32::MAX));
        return Err(RecordError::NewerSchema { path: path.to_owned(), line: 1, supported, found }.into());
    }
    builder.reserve(rows.len());
    let mut places: HashMap<Box<[u32]>, usize> = HashMap::new();
    let mut place = 0;
    for (at, (own, id)) in rows.into_iter().zip(ids.iter()).enumerate() {
        if is_start[at] {
            let codes: Box<[u32]> = shared.iter().map(|column| column.code(at)).chain([u32::from(own.is_by_worker())]).collect();
            place = if let Some(place) = places.get(&codes) {
                *place
            } else {
                let place = builder.group_of(&row_of(&shared, at)?, own.is_by_worker());
                places.insert(codes, place);
                place
            };
        }
        builder.insert(id.unwrap_or_default(), own, place);
    }
    Ok(true)
}

fn row_of(shared: &[Coded], at: usize) -> Result<Row, ReportError> {
    let mut row = Row::default();
    for column in shared {
        row.set(column.name, column.values[column.code(at) as usize].clone())?;
    }
    Ok(row)
}

fn newest_schema(shared: &[Coded]) -> Option<i64> {
    let schema = shared.iter().find(|column| column.name == "schema")?;
    schema.values.iter().filter_map(|value| if let CellValue::Int(value) = value { Some(*value) } else { None }).max()
}

fn own_columns(file: &ParquetColumns<'_>, builder: &mut StudyBuilder, rows: &mut [Own]) -> Result<(), ReportError> {
    file.floats("value", rows, |row, value| row.value = value)?;
    file.floats("stderr", rows, |row, value| row.stderr = value)?;
    file.floats("stderr_clustered", rows, |row, value| row.stderr_clustered = value)?;
    let count = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let size = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    file.ints("inner_n", rows, |row, value| row.inner_n = size(value))?;
    file.ints("seed", rows, |row, value| row.seed = value)?;
    file.ints("eval_step", rows, |row, value| row.eval_step = size(value))?;
    file.ints("trial", rows, |row, value| row.trial = count(value))?;
    file.ints("block", rows, |row, value| row.block = count(value))?;
    file.ints("pair", rows, |row, value| row.pair = count(value))?;
    file.ints("worker", rows, |row, value| row.worker = count(value))?;
    file.words("arm", rows, |row, text| {
        row.arm = match text {
            "A" => Arm::A,
            "B" => Arm::B,
            _ => Arm::None,
        }
    })?;
    file.words("doc_id", rows, |row, text| row.doc = Some(builder.word(text)))?;
    file.words("cluster_id", rows, |row, text| row.cluster = Some(builder.word(text)))?;
    if let Some(column) = file.column("contended")? {
        let values = column.bool().map_err(frame_error("read column `contended`"))?.clone();
        rows.iter_mut().zip(values.iter()).for_each(|(row, value)| row.contended = value);
    }
    Ok(())
}

/// Columns of a file by name.
struct ParquetColumns<'a> {
    path: &'a Path,
}

impl ParquetColumns<'_> {
    /// A column in its widest type; `None` where the file has none of that name.
    fn column(&self, name: &str) -> Result<Option<Series>, ReportError> {
        let Some(ty) = COLUMNS.iter().find(|column| column.name == name).map(|column| column.ty) else { return Ok(None) };
        let frame = match read_parquet(self.path, Some(vec![name.to_owned()])) {
            Ok(frame) => frame,
            Err(ReportError::Frame { source: PolarsError::ColumnNotFound(_) | PolarsError::SchemaFieldNotFound(_), .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Ok(column) = frame.column(name) else { return Ok(None) };
        let column = column.cast(&data_type(ty)).map_err(frame_error(format!("read column `{name}`")))?;
        Ok(Some(column.as_materialized_series().clone()))
    }

    fn floats(&self, name: &str, rows: &mut [Own], set: impl Fn(&mut Own, Option<f64>)) -> Result<(), ReportError> {
        if let Some(column) = self.column(name)? {
            let values = column.f64().map_err(frame_error(format!("read column `{name}`")))?.clone();
            rows.iter_mut().zip(values.iter()).for_each(|(row, value)| set(row, value));
        }
        Ok(())
    }

    fn ints(&self, name: &str, rows: &mut [Own], set: impl Fn(&mut Own, Option<i64>)) -> Result<(), ReportError> {
        if let Some(column) = self.column(name)? {
            let values = column.i64().map_err(frame_error(format!("read column `{name}`")))?.clone();
            rows.iter_mut().zip(values.iter()).for_each(|(row, value)| set(row, value));
        }
        Ok(())
    }

    fn words(&self, name: &str, rows: &mut [Own], mut set: impl FnMut(&mut Own, &str)) -> Result<(), ReportError> {
        if let Some(column) = self.column(name)? {
            let values = column.str().map_err(frame_error(format!("read column `{name}`")))?.clone();
            for (row, value) in rows.iter_mut().zip(values.iter()) {
                if let Some(text) = value {
                    set(row, text);
                }
            }
        }
        Ok(())
    }

    /// A shared column as codes; marks the rows where it changes.
    fn coded(&self, name: &'static str, is_start: &mut [bool]) -> Result<Option<Coded>, ReportError> {
        let Some(column) = self.column(name)? else { return Ok(None) };
        let fail = || frame_error(format!("read column `{name}`"));
        let (codes, values) = match column.dtype() {
            DataType::Int64 => {
                let (codes, values) = encode(column.i64().map_err(fail())?.iter(), is_start);
                (codes, values.into_iter().map(|value| value.map_or(CellValue::Null, CellValue::Int)).collect())
            }
            DataType::Float64 => {
                let bits = column.f64().map_err(fail())?.iter().map(|value| value.map(f64::to_bits));
                let (codes, values) = encode(bits, is_start);
                let cell = |bits: Option<u64>| bits.map_or(CellValue::Null, |bits| CellValue::Float(f64::from_bits(bits)));
                (codes, values.into_iter().map(cell).collect())
            }
            DataType::Boolean => {
                let (codes, values) = encode(column.bool().map_err(fail())?.iter(), is_start);
                (codes, values.into_iter().map(|value| value.map_or(CellValue::Null, CellValue::Bool)).collect())
            }
            _ => {
                let (codes, values) = encode(column.str().map_err(fail())?.iter(), is_start);
                let cell = |text: Option<&str>| text.map_or(CellValue::Null, |text| CellValue::Str(text.to_owned()));
                (codes, values.into_iter().map(cell).collect::<Vec<_>>())
            }
        };
        Ok(Some(Coded { name, codes, values }))
    }
}

/// Codes in order of first appearance; none where there is one value only.
fn encode<T: Copy + Eq + Hash>(values: impl Iterator<Item = T>, is_start: &mut [bool]) -> (Vec<u32>, Vec<T>) {
    let mut known: HashMap<T, u32> = HashMap::new();
    let mut dictionary = Vec::new();
    let mut codes = Vec::new();
    let mut last: Option<(T, u32)> = None;
    for (at, value) in values.enumerate() {
        let code = match last {
            Some((previous, code)) if previous == value => code,
            _ => {
                is_start[at] = true;
                *known.entry(value).or_insert_with(|| {
                    dictionary.push(value);
                    dictionary.len() as u32 - 1
                })
            }
        };
        if code > 0 && codes.is_empty() {
            codes = vec![0; at];
        }
        if code > 0 || !codes.is_empty() {
            codes.push(code);
        }
        last = Some((value, code));
    }
    (codes, dictionary)
}
