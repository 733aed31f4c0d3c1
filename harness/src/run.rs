//! The run directory: everything a run leaves, and the lock that keeps two processes out of one folder.
//!
//! ```text
//! runs/<name>/<config hash 8>-s<seed>/
//!   config.toml     resolved; a missing key has its default    manifest.json   command, commit, host, build, inputs, status
//!   tokenizer.json  a copy, so that the folder stands alone    train.jsonl     the training log
//!   checkpoints/    step-000500/…                              records.jsonl   one row per line
//!   lock            held while a process works here
//! ```

use crate::config::TrainConfig;
use crate::error::Hint as _;
use crate::train::checkpoint::{self, Checkpoint};
use anyhow::{Context as _, anyhow, bail};
use records::store::{MANIFEST_FILE, RECORDS_FILE};
use records::{Manifest, RunId, RunStatus};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// Name of the resolved config in a run directory.
pub const CONFIG_FILE: &str = "config.toml";

/// Name of the tokenizer copy in a run directory.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// The folders of a run. Making one touches nothing on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDirectory {
    folder: PathBuf,
}

impl RunDirectory {
    /// The directory of a config's run.
    pub fn of(runs_dir: &Path, config: &TrainConfig) -> Self {
        Self::with_id(runs_dir, &config.run_id())
    }

    /// The directory of a run by its name.
    pub fn with_id(runs_dir: &Path, run_id: &RunId) -> Self {
        Self { folder: runs_dir.join(run_id.as_str()) }
    }

    /// An existing run directory: a folder that holds `config.toml` and checkpoints.
    ///
    /// # Errors
    /// When it does not look like one.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        if !folder.join(CONFIG_FILE).is_file() {
            bail!("expected a run directory (with `{CONFIG_FILE}`), found `{}`", folder.display());
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The run directory a `--model` argument names: a folder, or `<name>/<hash>-s<seed>` below the runs directory; `None` if neither.
    pub fn find(runs_dir: &Path, model: &str) -> Option<Self> {
        [PathBuf::from(model), runs_dir.join(model)].iter().find_map(|folder| Self::open(folder).ok())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }

    /// `records.jsonl`.
    pub fn records(&self) -> PathBuf {
        self.folder.join(RECORDS_FILE)
    }

    /// `manifest.json`.
    pub fn manifest_path(&self) -> PathBuf {
        self.folder.join(MANIFEST_FILE)
    }

    /// `classes.json`: names of a classifier's outputs, in order.
    pub fn classes(&self) -> PathBuf {
        self.folder.join("classes.json")
    }

    /// `tokenizer.json`.
    pub fn tokenizer(&self) -> PathBuf {
        self.folder.join(TOKENIZER_FILE)
    }

    /// The manifest, if the run was ever started.
    ///
    /// # Errors
    /// When it is there but unreadable.
    pub fn manifest(&self) -> anyhow::Result<Option<Manifest>> {
        let path = self.manifest_path();
        if path.is_file() { Ok(Some(Manifest::load(&path)?)) } else { Ok(None) }
    }

    /// The resolved config the run was started with.
    ///
    /// # Errors
    /// When it does not parse any more (written by another version).
    pub fn config(&self) -> anyhow::Result<TrainConfig> {
        TrainConfig::load(&self.folder.join(CONFIG_FILE), &[], None)
    }

    /// Whether the run trained to its last step.
    ///
    /// # Errors
    /// When the manifest is unreadable.
    pub fn is_finished(&self) -> anyhow::Result<bool> {
        Ok(self.manifest()?.is_some_and(|manifest| manifest.status == RunStatus::Finished))
    }

    /// The newest complete checkpoint.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn newest_checkpoint(&self) -> anyhow::Result<Option<Checkpoint>> {
        checkpoint::newest_complete(&self.checkpoints())
    }

    /// Takes the directory for this process, creating it. The lock ends with the value, or with the process however it dies.
    ///
    /// # Errors
    /// When another process holds it, or the folder cannot be created.
    pub fn lock(&self) -> anyhow::Result<RunLock> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create `{}`", self.folder.display()))
            .hint("choose another place with --runs-dir")?;
        let path = self.folder.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open `{}`", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                // For people who look; the lock itself is the kernel's.
                std::fs::write(&path, format!("{}\n", std::process::id()))
                    .with_context(|| format!("cannot write `{}`", path.display()))?;
                Ok(RunLock { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() };
                Err(anyhow!("another process works in `{}`: process {holder}", self.folder.display()))
                    .hint("wait for it, or use another seed or --runs-dir")
            }
            Err(TryLockError::Error(error)) => {
                Err(anyhow::Error::new(error).context(format!("cannot lock `{}`", path.display())))
            }
        }
    }
}

/// Exclusive use of a run directory.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// Every run directory below a runs folder, sorted.
///
/// # Errors
/// When the folder exists but cannot be listed.
pub fn all_runs(runs_dir: &Path) -> anyhow::Result<Vec<RunDirectory>> {
    let mut found = Vec::new();
    let Ok(names) = std::fs::read_dir(runs_dir) else { return Ok(found) };
    for name in names {
        let name = name.with_context(|| format!("cannot list `{}`", runs_dir.display()))?;
        let Ok(runs) = std::fs::read_dir(name.path()) else { continue };
        found.extend(runs.flatten().filter_map(|run| RunDirectory::open(&run.path()).ok()));
    }
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_lock_is_refused_and_names_the_holder() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDirectory { folder: root.path().join("a/b") };
        let lock = run.lock().unwrap();
        let error = crate::error::render(&run.lock().unwrap_err());
        assert!(error.contains("another process works in") && error.contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        run.lock().unwrap();
    }

    #[test]
    fn only_folders_with_a_config_are_runs() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("subject/12345678-s0");
        std::fs::create_dir_all(&folder).unwrap();
        assert!(RunDirectory::open(&folder).is_err());
        assert_eq!(RunDirectory::find(root.path(), "subject/12345678-s0"), None);
        std::fs::write(folder.join(CONFIG_FILE), "").unwrap();
        assert_eq!(RunDirectory::find(root.path(), "subject/12345678-s0").unwrap().folder(), folder);
        assert_eq!(all_runs(root.path()).unwrap().len(), 1);
        assert_eq!(all_runs(&root.path().join("none")).unwrap().len(), 0);
    }
}
