//! Sets inside tar files: plain ones are read in place, compressed ones are kept in memory as they come.

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

/// Whether a path names an archive.
pub fn is_archive(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|ending| name.ends_with(ending))
}

/// Files of an archive that are pictures, or that `wanted` asks for, under their paths.
///
/// # Errors
/// When the archive is damaged, or is compressed and holds more than fits in memory.
pub fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<(String, Bytes)>> {
    let plain = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
    let file = Arc::new(File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?);
    let mut archive = tar::Archive::new(source::open(path)?);
    let mut found = Vec::new();
    let mut total = 0;
    let damaged = || format!("cannot read `{}` as a tar file", path.display());
    for entry in archive.entries().with_context(damaged)? {
        let mut entry = entry.with_context(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
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
    Ok(found)
}
