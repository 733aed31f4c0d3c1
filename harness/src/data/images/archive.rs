//! Sets inside tar files: plain ones are read in place, compressed ones are kept in memory as they come.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::layout::is_picture;
use super::set::Bytes;
use crate::data::source;
use crate::error::Hint as _;

/// Most bytes of pictures that a compressed archive may unpack to in memory.
const MEMORY_LIMIT_BYTES: u64 = 8 << 30;

/// Endings of archives' names.
pub(super) const ENDINGS: [&str; 4] = [".tar.zst", ".tar.gz", ".tgz", ".tar"];

/// Whether a path names an archive.
pub fn is_archive(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)))
}

/// What an archive holds.
#[derive(Debug)]
pub struct Contents {
    /// Files that are pictures, or were asked for, under their paths.
    pub files: Vec<(String, Bytes)>,
    /// Folders without any such file below them.
    pub empty: Vec<String>,
}

/// Files of an archive that are pictures, or that `wanted` asks for.
///
/// # Errors
/// When the archive is damaged, or is compressed and holds more than fits in memory.
pub fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Contents> {
    let plain = path.extension().is_some_and(|extension| extension == "tar");
    let file = Arc::new(File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?);
    let mut archive = tar::Archive::new(source::open(path)?);
    let (mut found, mut folders) = (Vec::new(), BTreeSet::new());
    let mut total = 0;
    let damaged = || format!("cannot read `{}` as a tar file", path.display());
    for entry in archive.entries().with_context(damaged)? {
        let mut entry = entry.with_context(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type().is_dir() {
            folders.insert(name);
            continue;
        }
        if !entry.header().entry_type().is_file() || !(is_picture(&name) || wanted(&name)) {
            continue;
        }
        if plain {
            let part = Bytes::Part { file: Arc::clone(&file), offset: entry.raw_file_position(), length: entry.size() };
            found.push((name, part));
            continue;
        }
        total += entry.size();
        if total > MEMORY_LIMIT_BYTES {
            let refused: anyhow::Result<()> =
                Err(anyhow::anyhow!("`{}` unpacks to more than {MEMORY_LIMIT_BYTES} bytes of pictures", path.display()));
            refused.hint("decompress it to a .tar, which is read in place")?;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).with_context(damaged)?;
        found.push((name, Bytes::Memory(bytes)));
    }
    if found.is_empty() {
        bail!("expected pictures in `{}`, found none", path.display());
    }
    let empty = without_files(&folders, found.iter().map(|(name, _)| name.as_str()));
    Ok(Contents { files: found, empty })
}

/// Folders below which none of the files lies; hidden ones do not count.
fn without_files<'a>(folders: &'a BTreeSet<String>, files: impl Iterator<Item = &'a str>) -> Vec<String> {
    let clean = |path: &'a str| path.trim_start_matches("./").trim_end_matches('/');
    let parents = |path: &'a str| std::iter::successors(path.rsplit_once('/'), |(above, _)| above.rsplit_once('/'));
    let filled: BTreeSet<&str> = files.flat_map(|path| parents(clean(path)).map(|(above, _)| above)).collect();
    let is_hidden = |path: &str| path.split('/').any(|part| part.is_empty() || part.starts_with('.') || part == "__MACOSX");
    // An archive may name a folder and not the one that it lies in.
    let above = folders.iter().flat_map(|folder| parents(clean(folder)).map(|(above, _)| above));
    let all: BTreeSet<&str> = folders.iter().map(|folder| clean(folder)).chain(above).collect();
    all.into_iter().filter(|folder| !filled.contains(folder) && !is_hidden(folder)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_without_files_are_told_from_those_above_others() {
        let folders = ["./", "set/", "set/test/", "set/test/a/", "set/test/b/", "set/.c/", "__MACOSX/d/", "./e", "set/test/f/g/"];
        let folders = folders.into_iter().map(str::to_owned).collect();
        let empty = ["e", "set/test/b", "set/test/f", "set/test/f/g"];
        assert_eq!(without_files(&folders, ["./set/test/a/1.png"].into_iter()), empty);
    }

    #[test]
    fn endings_are_those_that_are_opened() {
        for name in ["a.tar", "b/a.tar.gz", "a.tgz", "a.tar.zst"] {
            assert!(is_archive(Path::new(name)), "{name}");
        }
        // Opened by the exact ending, a.TGZ would be read without decompressing it.
        assert!(!is_archive(Path::new("a.TGZ")) && !is_archive(Path::new("a.zst")));
    }
}
