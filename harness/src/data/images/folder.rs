//! Sets in folders.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::layout::{is_picture, same_split};
use super::set::Bytes;

/// Folders are not followed deeper than this, so that a loop of links ends.
const MAX_DEPTH: usize = 6;

/// Pictures below a folder under their relative paths, in order; only those of `split` where the folder has one of that name.
///
/// # Errors
/// Unreadable folders, and a class folder without any picture: every later class would silently get another number.
pub fn read(root: &Path, split: Option<&str>) -> anyhow::Result<Vec<(String, Bytes)>> {
    let mut found = Vec::new();
    for (name, path) in list(root)? {
        if split.is_none_or(|split| same_split(&name, split)) && path.is_dir() {
            walk(&path, &name, 1, &mut found)?;
        }
    }
    if found.is_empty() && split.is_some() {
        walk(root, "", 0, &mut found)?;
    } else if split.is_none() {
        found.extend(
            list(root)?
                .into_iter()
                .filter(|(name, path)| is_picture(name) && path.is_file())
                .map(|(name, path)| (name, Bytes::File(path))),
        );
    }
    Ok(found)
}

fn list(folder: &Path) -> anyhow::Result<Vec<(String, std::path::PathBuf)>> {
    let reading = || format!("cannot read the folder `{}`", folder.display());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    entries.sort();
    Ok(entries)
}

fn walk(folder: &Path, relative: &str, depth: usize, found: &mut Vec<(String, Bytes)>) -> anyhow::Result<()> {
    if depth > MAX_DEPTH {
        bail!("`{}` lies too deep: expected <split>/<class>/<file>", folder.display());
    }
    let before = found.len();
    let mut has_folders = false;
    for (name, path) in list(folder)? {
        let below = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
        if path.is_dir() {
            has_folders = true;
            walk(&path, &below, depth + 1, found)?;
        } else if is_picture(&name) {
            found.push((below, Bytes::File(path)));
        }
    }
    if found.len() == before && !has_folders {
        bail!("the class folder `{}` holds no pictures", folder.display());
    }
    Ok(())
}
