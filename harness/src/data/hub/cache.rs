//! The cache on disk, and the hub without a network.
//!
//! ```text
//! datasets--org--name/refs/<revision>              text: the commit
//!                     snapshots/<commit>/<file>    link to ../../blobs/<etag>
//! ```
//! A 40-digit commit needs no entry under `refs`: other tools do not write one.

use std::path::{Path, PathBuf};

use super::{Hub, HubError, Listing, Repository};

/// Looks up files that are already there.
#[derive(Debug, Clone)]
pub(super) struct LocalCache {
    root: PathBuf,
}

impl LocalCache {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn commit(&self, repository: &Repository, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let reference = self.root.join(repository.at(revision).folder_name()).join("refs").join(revision);
        let commit = std::fs::read_to_string(reference).ok()?.trim().to_owned();
        is_commit(&commit).then_some(commit)
    }

    fn snapshot(&self, repository: &Repository, commit: &str) -> PathBuf {
        self.root.join(repository.at(commit).folder_name()).join("snapshots").join(commit)
    }

    /// The file, if it is there whole.
    pub(super) fn find(&self, repository: &Repository, revision: &str, file: &str) -> Option<PathBuf> {
        let path = self.snapshot(repository, &self.commit(repository, revision)?).join(file);
        path.is_file().then_some(path)
    }

    /// What is there of a revision; nothing when it has no file.
    pub(super) fn list(&self, repository: &Repository, revision: &str) -> Option<Listing> {
        let commit = self.commit(repository, revision)?;
        let root = self.snapshot(repository, &commit);
        let mut files = Vec::new();
        collect(&root, &root, &mut files);
        files.sort();
        (!files.is_empty()).then_some(Listing { commit, files })
    }
}

/// 40 hex digits.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.is_file() {
            let parts = path.strip_prefix(root).into_iter().flat_map(Path::components);
            files.push(parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"));
        }
    }
}

/// The hub as far as the cache holds it.
#[derive(Debug)]
pub struct OfflineHub {
    cache: LocalCache,
}

impl OfflineHub {
    /// Reads the cache in that folder.
    pub fn new(cache: PathBuf) -> Self {
        Self { cache: LocalCache::new(cache) }
    }

    fn miss(&self, repository: &Repository, revision: &str, file: Option<&str>) -> HubError {
        HubError::NotCached {
            repository: repository.clone(),
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
            cache: self.cache.root().to_owned(),
        }
    }
}

impl Hub for OfflineHub {
    fn get(&self, repository: &Repository, revision: &str, file: &str) -> Result<PathBuf, HubError> {
        self.cache.find(repository, revision, file).ok_or_else(|| self.miss(repository, revision, Some(file)))
    }

    fn list(&self, repository: &Repository, revision: &str) -> Result<Listing, HubError> {
        self.cache.list(repository, revision).ok_or_else(|| self.miss(repository, revision, None))
    }
}
