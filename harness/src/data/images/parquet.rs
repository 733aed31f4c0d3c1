//! Sets in parquet, as the hub keeps them.
//!
//! ```text
//! columns: `image` or `img` = {bytes, path} (or bytes alone)     `label`, `labels` or `fine_label` = class number, −1 where it is secret
//! names of classes: the file's metadata under `huggingface`, info.features.<label>.names; else the numbers
//! ```
//! Files up to a stated total are read at once. Of larger sets only the labels are; pictures are fetched `CHUNK_ROWS` rows at a time as they
//! are asked for, which suits evaluation. Training draws pictures in random order and would read each chunk for a single one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use polars::prelude::{Column, DataFrame, DataType};
use polars_io::prelude::{ParquetReader, SerReader as _};
use serde_json::Value;

use super::layout::{CHOOSE_SPLIT, Placed, Split};
use super::set::Bytes;
use crate::data::hub;
use crate::error::Hint as _;

/// Rows that are fetched together.
const CHUNK_ROWS: usize = 64;

/// Files whose sizes sum to at most this are held in memory.
const MEMORY_LIMIT_BYTES: u64 = 2 << 30;

/// Splits that are looked for when none is named.
const SPLITS: [&str; 3] = ["train", "validation", "test"];

/// A file of a set, and the rows read from it last.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    image: String,
    last: Mutex<(usize, Vec<Vec<u8>>)>,
}

impl Shard {
    /// The encoded picture of a row.
    pub(super) fn read(&self, row: usize) -> std::io::Result<Vec<u8>> {
        let chunk = row / CHUNK_ROWS;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != chunk {
            let frame = read_columns(&self.path, &[&self.image], Some((chunk * CHUNK_ROWS, CHUNK_ROWS)));
            *last = (chunk, frame.and_then(|frame| pictures(&frame, &self.image)).map_err(std::io::Error::other)?);
        }
        last.1.get(row % CHUNK_ROWS).cloned().ok_or_else(|| std::io::Error::other("the file has fewer rows than before"))
    }
}

/// Parquet files below a folder, at most three levels deep, as paths relative to it.
///
/// # Errors
/// A folder that cannot be read.
pub fn list(folder: &Path) -> anyhow::Result<Vec<String>> {
    fn walk(root: &Path, folder: &Path, depth: usize, found: &mut Vec<String>) -> anyhow::Result<()> {
        let reading = || format!("cannot read the folder `{}`", folder.display());
        for entry in std::fs::read_dir(folder).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            if path.is_dir() && depth < 3 {
                walk(root, &path, depth + 1, found)?;
            } else if path.extension().is_some_and(|extension| extension == "parquet")
                && let Ok(relative) = path.strip_prefix(root)
            {
                found.push(relative.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(folder, folder, 0, &mut found)?;
    found.sort();
    Ok(found)
}

/// The files of one split among `files`, and the split's name.
///
/// # Errors
/// No such split, several splits and none asked for, several configurations that have it.
pub fn choose(files: &[String], split: Option<&str>) -> anyhow::Result<(String, Vec<String>)> {
    let configs: BTreeSet<Option<&str>> = files.iter().map(|file| file.split_once('/').map(|(config, _)| config)).collect();
    let of = |split: &str| -> anyhow::Result<Vec<String>> {
        let found: BTreeMap<Vec<String>, &str> =
            configs.iter().map(|config| (hub::split_files(files, "", *config, split), config.unwrap_or("."))).collect();
        let mut found = found.into_iter().filter(|(files, _)| !files.is_empty()).collect::<Vec<_>>();
        if found.len() > 1 {
            let names: Vec<&str> = found.iter().map(|(_, config)| *config).collect();
            return Err(anyhow!("expected one configuration with split `{split}`, found `{}`", names.join("`, `")))
                .hint("name the configuration's folder instead of the one above it");
        }
        Ok(found.pop().map(|(files, _)| files).unwrap_or_default())
    };
    if let Some(split) = split {
        let name = if super::layout::same_split(split, "validation") { "validation" } else { split };
        let found = of(name)?;
        if found.is_empty() {
            bail!("unknown split: `{split}` (the files are `{}`)", files.join("`, `"));
        }
        return Ok((name.to_owned(), found));
    }
    let mut there: Vec<(String, Vec<String>)> =
        SPLITS.iter().map(|name| Ok(((*name).to_owned(), of(name)?))).collect::<anyhow::Result<_>>()?;
    there.retain(|(_, found)| !found.is_empty());
    match there.len() {
        0 => bail!("expected files named after a split (train, validation, test), found `{}`", files.join("`, `")),
        1 => Ok(there.remove(0)),
        _ => {
            let names: Vec<String> = there.into_iter().map(|(name, _)| name).collect();
            Err(anyhow!("expected one split, found `{}`", names.join("`, `"))).hint(CHOOSE_SPLIT)
        }
    }
}

/// Reads the files of a split in order.
///
/// # Errors
/// Damaged files, missing columns, labels that are secret or have no name.
pub fn read(paths: &[PathBuf], split: &str) -> anyhow::Result<Split<Bytes>> {
    let total: u64 = paths.iter().map(|path| std::fs::metadata(path).map_or(0, |metadata| metadata.len())).sum();
    read_within(paths, split, total <= MEMORY_LIMIT_BYTES)
}

fn read_within(paths: &[PathBuf], split: &str, in_memory: bool) -> anyhow::Result<Split<Bytes>> {
    let mut files = Vec::new();
    let mut classes: Vec<String> = Vec::new();
    for path in paths {
        let reading = || format!("cannot read `{}`", path.display());
        let schema = Schema::of(path).with_context(reading)?;
        classes = if classes.is_empty() { schema.classes } else { classes };
        let labels =
            read_columns(path, &[&schema.label], None).and_then(|frame| labels(&frame, &schema.label)).with_context(reading)?;
        let mut bytes: Vec<Bytes> = if in_memory {
            let frame = read_columns(path, &[&schema.image], None).with_context(reading)?;
            pictures(&frame, &schema.image).with_context(reading)?.into_iter().map(Bytes::Memory).collect()
        } else {
            let last = Mutex::new((usize::MAX, Vec::new()));
            let shard = Arc::new(Shard { path: path.clone(), image: schema.image, last });
            (0..labels.len()).map(|row| Bytes::Row { shard: Arc::clone(&shard), row }).collect()
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (row, (label, item)) in labels.into_iter().zip(bytes.drain(..)).enumerate() {
            files.push(Placed { id: format!("{stem}:{row:06}"), label, item });
        }
    }
    let most =
        files.iter().map(|file| file.label as usize).max().ok_or_else(|| anyhow!("expected pictures, found an empty split"))?;
    if classes.is_empty() {
        classes = (0..=most).map(|label| label.to_string()).collect();
    }
    if most >= classes.len() {
        bail!("expected labels below {}, the number of class names, found {most}", classes.len());
    }
    Ok(Split { name: Some(split.to_owned()), classes, files })
}

/// Names of a file's columns and classes.
struct Schema {
    image: String,
    label: String,
    classes: Vec<String>,
}

impl Schema {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let mut reader = ParquetReader::new(File::open(path)?);
        let schema = reader.schema().map_err(damaged)?;
        let names: Vec<&str> = schema.iter_names().map(polars::prelude::PlSmallStr::as_str).collect();
        let find = |wanted: &[&str]| wanted.iter().find(|name| names.contains(name)).map(|name| (*name).to_owned());
        let missing = |wanted: &str| anyhow!("expected a column {wanted}, found `{}`", names.join("`, `"));
        let image = find(&["image", "img"]).ok_or_else(|| missing("`image` or `img`"))?;
        let label = find(&["label", "labels", "fine_label"]).ok_or_else(|| missing("`label`"))?;
        let metadata = reader.get_metadata().map_err(damaged)?.key_value_metadata().iter().flatten();
        let text = metadata.filter(|pair| pair.key == "huggingface").find_map(|pair| pair.value.as_deref());
        let info: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let names = info["info"]["features"][&label]["names"].as_array().cloned().unwrap_or_default();
        let classes = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Self { image, label, classes })
    }
}

fn damaged(error: polars::prelude::PolarsError) -> anyhow::Error {
    anyhow!("{error}")
}

fn read_columns(path: &Path, columns: &[&str], slice: Option<(usize, usize)>) -> anyhow::Result<DataFrame> {
    let names = columns.iter().map(|name| (*name).to_owned()).collect();
    ParquetReader::new(File::open(path)?)
        .with_columns(Some(names))
        .with_slice(slice)
        .finish()
        .map_err(damaged)
        .hint("the file may be damaged: remove it and fetch it again")
}

fn column<'a>(frame: &'a DataFrame, name: &str) -> anyhow::Result<&'a Column> {
    frame.column(name).map_err(damaged)
}

fn labels(frame: &DataFrame, name: &str) -> anyhow::Result<Vec<u32>> {
    let numbers = column(frame, name)?.cast(&DataType::Int64).map_err(damaged)?;
    let numbers = numbers.i64().map_err(damaged)?;
    let label = |(row, number): (usize, Option<i64>)| match number.map(u32::try_from) {
        Some(Ok(label)) => Ok(label),
        _ => Err(anyhow!("row {row}: expected a class number, found {number:?}"))
            .hint("labels of −1 are secret: take another split"),
    };
    numbers.iter().enumerate().map(label).collect()
}

/// Encoded pictures of a frame; a missing one is empty and will count as damaged.
fn pictures(frame: &DataFrame, name: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let series = column(frame, name)?.as_materialized_series();
    let bytes = match series.dtype() {
        DataType::Binary => series.clone(),
        DataType::Struct(_) => series.struct_().and_then(|parts| parts.field_by_name("bytes")).map_err(damaged)?,
        other => bail!("column `{name}`: expected bytes, found {other}"),
    };
    let bytes = bytes.binary().map_err(damaged)?;
    Ok(bytes.iter().map(|value| value.map(<[u8]>::to_vec).unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::{IntoColumn as _, IntoSeries as _, NamedFrom as _, Series, StructChunked};

    fn write(path: &Path, labels: &[i64]) {
        let bytes: Vec<Vec<u8>> = (0..labels.len()).map(|row| vec![row as u8; 3]).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let names: Vec<String> = (0..labels.len()).map(|row| format!("{row}.png")).collect();
        let parts = [Series::new("bytes".into(), slices), Series::new("path".into(), names)];
        let image = StructChunked::from_series("image".into(), labels.len(), parts.iter()).unwrap().into_series();
        let columns = vec![image.into_column(), Series::new("label".into(), labels).into_column()];
        let mut frame = DataFrame::new(labels.len(), columns).unwrap();
        polars_io::prelude::ParquetWriter::new(File::create(path).unwrap()).finish(&mut frame).unwrap();
    }

    #[test]
    fn rows_are_the_same_from_memory_and_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("test-00000-of-00002.parquet"), folder.path().join("test-00001-of-00002.parquet")];
        write(&paths[0], &(0..150).map(|row| row % 7).collect::<Vec<i64>>());
        write(&paths[1], &[3, 1]);
        let held = read_within(&paths, "test", true).unwrap();
        let fetched = read_within(&paths, "test", false).unwrap();
        assert_eq!((held.files.len(), held.classes.len()), (152, 7));
        for index in [0, 149, 63, 64, 128, 151, 150, 5] {
            let (a, b) = (&held.files[index], &fetched.files[index]);
            assert_eq!((&a.id, a.label), (&b.id, b.label));
            let expected = vec![if index < 150 { index } else { index - 150 } as u8; 3];
            assert_eq!(a.item.read().unwrap(), expected);
            assert_eq!(b.item.read().unwrap(), expected);
        }
        assert_eq!(held.files[151].id, "test-00001-of-00002:000001");
    }

    #[test]
    fn secret_labels_and_other_tables_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.parquet");
        write(&path, &[0, -1]);
        let error = format!("{:#}", read(std::slice::from_ref(&path), "test").unwrap_err());
        assert!(error.contains("row 1: expected a class number, found Some(-1)"), "{error}");
        let mut frame = DataFrame::new(1, vec![Series::new("text".into(), ["a"]).into_column()]).unwrap();
        polars_io::prelude::ParquetWriter::new(File::create(&path).unwrap()).finish(&mut frame).unwrap();
        let error = format!("{:#}", read(&[path], "test").unwrap_err());
        assert!(error.contains("expected a column `image` or `img`, found `text`"), "{error}");
    }

    #[test]
    fn splits_are_found_in_the_hubs_layouts() {
        let files = ["data/test-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"].map(str::to_owned);
        assert_eq!(choose(&files, Some("val")).unwrap(), ("validation".to_owned(), vec![files[1].clone()]));
        assert!(choose(&files, None).unwrap_err().to_string().contains("`validation`, `test`"));
        assert!(choose(&files, Some("train")).unwrap_err().to_string().starts_with("unknown split: `train`"));
        let one = ["160px/validation-00000-of-00001.parquet".to_owned()];
        assert_eq!(choose(&one, None).unwrap().1, one);
    }

    /// The first in the order of the alphabet was taken.
    #[test]
    fn several_configurations_are_never_chosen_between() {
        let files = ["160px/validation-00000-of-00001.parquet", "320px/validation-00000-of-00001.parquet"].map(str::to_owned);
        for split in [None, Some("val")] {
            let error = choose(&files, split).unwrap_err().to_string();
            assert_eq!(error, "expected one configuration with split `validation`, found `160px`, `320px`");
        }
        // A file at the top and one below `data` are of one nameless configuration, whose first form counts.
        let files = ["data/test.parquet", "test.parquet"].map(str::to_owned);
        assert_eq!(choose(&files, None).unwrap().1, ["data/test.parquet"]);
    }
}
