//! A set of labelled pictures, opened from whatever form it is published in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use images::Rgb8;
use serde::{Deserialize, Serialize};

use super::archive::Contents;
use super::layout::{Placed, Split, arrange, refuse_empty_classes};
use super::parquet::{self, Shard};
use super::{archive, cifar, folder};
use crate::data::source;
use crate::error::Hint as _;

/// What to do about a picture that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadImage {
    /// Leave it out, count it and name it.
    Skip,
    /// Stop.
    #[default]
    Fail,
}

/// How a set is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Split to take; may be left out when the set has one.
    pub split: Option<String>,
    /// Pictures that cannot be decoded.
    pub on_bad_image: OnBadImage,
    /// Most pixels of a picture.
    pub max_pixels: usize,
    /// Memory for decoded pictures, bytes; 0 decodes each time.
    pub cache_bytes: usize,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            split: None,
            on_bad_image: OnBadImage::Fail,
            max_pixels: images::DEFAULT_MAX_PIXELS,
            cache_bytes: DEFAULT_CACHE_BYTES,
        }
    }
}

/// Memory for decoded pictures unless told otherwise: all of CIFAR-10 (154 MB) or of Imagenette at 160 pixels (about 0.9 GB) fits.
pub const DEFAULT_CACHE_BYTES: usize = 1 << 30;

/// A picture that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadImage {
    /// Its position in the set.
    pub index: usize,
    /// Its name in the set.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Where a picture's bytes are.
#[derive(Debug)]
pub enum Bytes {
    /// An encoded file in memory.
    Memory(Vec<u8>),
    /// A file of its own.
    File(PathBuf),
    /// A stretch of a file.
    Part {
        /// The file.
        file: Arc<File>,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// A row of a parquet file.
    Row {
        /// The file.
        shard: Arc<Shard>,
        /// The row.
        row: usize,
    },
    /// Pixels already.
    Pixels(Arc<Rgb8>),
}

impl Bytes {
    pub(super) fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File(path) => std::fs::read(path),
            Self::Part { file, offset, length } => {
                let mut bytes = vec![0; *length as usize];
                file.read_exact_at(&mut bytes, *offset)?;
                Ok(bytes)
            }
            Self::Row { shard, row } => shard.read(*row),
            Self::Pixels(image) => Ok(image.pixels().to_vec()),
        }
    }

    /// How many they are; a file of its own is not read for it.
    fn length(&self) -> std::io::Result<u64> {
        Ok(match self {
            Self::File(path) => std::fs::metadata(path)?.len(),
            other => other.read()?.len() as u64,
        })
    }

    fn decode(&self, max_pixels: usize) -> Result<Arc<Rgb8>, String> {
        let image = match self {
            Self::Pixels(image) => return Ok(Arc::clone(image)),
            Self::Memory(bytes) => images::decode(bytes, max_pixels),
            Self::File(_) | Self::Part { .. } | Self::Row { .. } => {
                images::decode(&self.read().map_err(|error| error.to_string())?, max_pixels)
            }
        };
        image.map(Arc::new).map_err(|error| error.to_string())
    }
}

/// Where a set's content is, for its digest.
#[derive(Debug)]
enum Origin {
    /// In one archive.
    Archive(PathBuf),
    /// In files of many pictures each.
    Files(Vec<PathBuf>),
    /// In the pictures' own files.
    Pictures,
}

/// Labelled pictures. Shared between threads; decoded pictures are kept up to a stated size.
#[derive(Debug)]
pub struct ImageSet {
    /// The file or folder, without its endings.
    pub name: String,
    /// Its split, where it has one.
    pub split: Option<String>,
    classes: Vec<String>,
    items: Vec<Placed<Bytes>>,
    origin: Origin,
    options: OpenOptions,
    kept: Vec<OnceLock<Arc<Rgb8>>>,
    kept_bytes: AtomicUsize,
    bad: Mutex<BTreeMap<usize, String>>,
}

impl ImageSet {
    /// Opens a folder in ImageFolder layout, a tar (also `.gz`, `.zst`) of one, CIFAR's binary files in a folder or tar, or parquet files in a folder.
    ///
    /// # Errors
    /// Nothing there, no pictures, an unknown or ambiguous split, damaged archives.
    pub fn open(path: &Path, options: OpenOptions) -> anyhow::Result<Self> {
        let opening = || format!("cannot open the image set `{}`", path.display());
        let (split, origin) = Self::read(path, options.split.as_deref()).with_context(opening)?;
        Ok(Self { origin, ..Self::of(name_of(path), split, options) })
    }

    fn read(path: &Path, split: Option<&str>) -> anyhow::Result<(Split<Bytes>, Origin)> {
        if path.is_dir() {
            let parts = binary_folder(path)?;
            if !parts.is_empty() {
                let files = parts.iter().map(|(name, _)| path.join(name)).collect();
                return Ok((pixels(cifar::read(parts, split)?), Origin::Files(files)));
            }
            let tables = parquet::list(path)?;
            if !tables.is_empty() {
                let (name, chosen) = parquet::choose(&tables, split)?;
                let files: Vec<PathBuf> = chosen.iter().map(|file| path.join(file)).collect();
                return Ok((parquet::read(&files, &name)?, Origin::Files(files)));
            }
            return Ok((arrange(folder::read(path, split)?, split)?, Origin::Pictures));
        }
        if archive::is_archive(path) {
            let origin = Origin::Archive(path.to_owned());
            let Contents { files, empty } = archive::read(path, cifar::is_part)?;
            if files.iter().any(|(name, _)| cifar::is_part(name)) {
                let parts = files.into_iter().filter(|(name, _)| cifar::is_part(name));
                let parts = parts.map(|(name, bytes)| Ok((name, bytes.read()?))).collect::<std::io::Result<Vec<_>>>()?;
                return Ok((pixels(cifar::read(parts, split)?), origin));
            }
            let split = arrange(files, split)?;
            refuse_empty_classes(&empty, &split)?;
            return Ok((split, origin));
        }
        if path.exists() {
            return Err(anyhow!("expected a folder or a .tar, .tar.gz or .tar.zst file, found another file"))
                .hint("the layout is <split>/<class>/<file>, or <class>/<file>");
        }
        bail!("expected a folder or a tar file, found nothing there");
    }

    /// Opens parquet files of one split, such as the hub's cache holds.
    ///
    /// # Errors
    /// Damaged or missing files.
    pub fn open_parquet(name: String, paths: &[PathBuf], split: &str, options: OpenOptions) -> anyhow::Result<Self> {
        let read = parquet::read(paths, split).with_context(|| format!("cannot open the image set `{name}`"))?;
        Ok(Self { origin: Origin::Files(paths.to_vec()), ..Self::of(name, read, options) })
    }

    /// A set from its parts.
    pub fn of(name: String, split: Split<Bytes>, options: OpenOptions) -> Self {
        let kept = split.files.iter().map(|_| OnceLock::new()).collect();
        Self {
            name,
            split: split.name,
            classes: split.classes,
            items: split.files,
            origin: Origin::Pictures,
            options,
            kept,
            kept_bytes: AtomicUsize::new(0),
            bad: Mutex::new(BTreeMap::new()),
        }
    }

    /// Number of pictures, undecodable ones included.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Never true: sets without pictures are not opened.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Class names; a label is an index into them.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Class of a picture.
    pub fn label(&self, index: usize) -> u32 {
        self.items[index].label
    }

    /// Name of a picture: its path below the split, or file and position.
    pub fn id(&self, index: usize) -> &str {
        &self.items[index].id
    }

    /// Numbers the classes as another list does, such as the one a model was trained on.
    ///
    /// # Errors
    /// When a class of the set is not in the list.
    pub fn align(&mut self, classes: &[String]) -> anyhow::Result<()> {
        let position: BTreeMap<&str, u32> = classes.iter().enumerate().map(|(at, name)| (name.as_str(), at as u32)).collect();
        let mut map = Vec::with_capacity(self.classes.len());
        for class in &self.classes {
            let Some(&label) = position.get(class.as_str()) else {
                let first: Vec<&str> = classes.iter().take(10).map(String::as_str).collect();
                let more = if classes.len() > 10 { ", …" } else { "" };
                return Err(anyhow!(
                    "`{}`: unknown class folder: `{class}` (the {} classes are {}{more})",
                    self.name,
                    classes.len(),
                    first.join(", ")
                ))
                .hint("is this the set that belongs to those classes, and the right level of its folders?");
            };
            map.push(label);
        }
        for item in &mut self.items {
            item.label = map[item.label as usize];
        }
        self.classes = classes.to_vec();
        Ok(())
    }

    /// Pixels of a picture; `None` when it cannot be decoded and is to be skipped. Thread-safe.
    ///
    /// # Errors
    /// When it cannot be decoded and the set was opened to fail then.
    pub fn decode(&self, index: usize) -> anyhow::Result<Option<Arc<Rgb8>>> {
        if let Some(image) = self.kept[index].get() {
            return Ok(Some(Arc::clone(image)));
        }
        let item = &self.items[index];
        match item.item.decode(self.options.max_pixels) {
            Ok(image) => {
                self.keep(index, &image);
                Ok(Some(image))
            }
            Err(reason) if self.options.on_bad_image == OnBadImage::Skip => {
                self.bad.lock().unwrap_or_else(PoisonError::into_inner).insert(index, reason);
                Ok(None)
            }
            Err(reason) => Err(anyhow!("{}: cannot decode `{}`: {reason}", self.name, item.id))
                .hint("--on-bad-image skip, in a training config `data.on_bad_image = \"skip\"`, leaves such pictures out, counts and names them"),
        }
    }

    fn keep(&self, index: usize, image: &Arc<Rgb8>) {
        let bytes = image.pixels().len();
        // Pixels that the set holds anyway cost nothing to keep and gain nothing.
        if matches!(self.items[index].item, Bytes::Pixels(_)) {
            return;
        }
        let before = self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.options.cache_bytes || self.kept[index].set(Arc::clone(image)).is_err() {
            self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of decoded pictures held now.
    pub fn cached_bytes(&self) -> usize {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    /// Pictures met so far that could not be decoded, in order.
    pub fn bad(&self) -> Vec<BadImage> {
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.iter().map(|(&index, reason)| BadImage { index, id: self.items[index].id.clone(), reason: reason.clone() }).collect()
    }

    /// SHA-256 of the archive; of parquet or CIFAR's files over their lines `<sha256>  <name>\n`; of a folder of pictures over their lines
    /// `<class> <id> <bytes>\n` (their content is not read).
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digest(&self) -> anyhow::Result<String> {
        let mut lines = String::new();
        match &self.origin {
            Origin::Archive(path) => return source::sha256(path),
            Origin::Files(files) => {
                for file in files {
                    let name = file.file_name().unwrap_or_default().to_string_lossy();
                    let _ = writeln!(lines, "{}  {name}", source::sha256(file)?);
                }
            }
            Origin::Pictures => {
                for item in &self.items {
                    let length = item.item.length().with_context(|| format!("{}: cannot read `{}`", self.name, item.id))?;
                    let _ = writeln!(lines, "{} {} {length}", self.classes[item.label as usize], item.id);
                }
            }
        }
        Ok(records::ids::sha256_hex(lines.as_bytes()))
    }
}

fn pixels(split: Split<Rgb8>) -> Split<Bytes> {
    let place = |file: Placed<Rgb8>| Placed { id: file.id, label: file.label, item: Bytes::Pixels(Arc::new(file.item)) };
    Split { name: split.name, classes: split.classes, files: split.files.into_iter().map(place).collect() }
}

/// CIFAR's binary files directly in a folder.
fn binary_folder(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let reading = || format!("cannot read the folder `{}`", folder.display());
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if cifar::is_part(&name) && path.is_file() {
            let mut content = Vec::new();
            File::open(&path)
                .and_then(|mut file| file.read_to_end(&mut content))
                .with_context(|| format!("cannot read `{}`", path.display()))?;
            parts.push((name, content));
        }
    }
    parts.sort();
    Ok(parts)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    archive::ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name).to_owned()
}
