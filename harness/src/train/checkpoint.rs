//! Checkpoints: folders that are complete or absent.
//!
//! ```text
//! checkpoints/step-000500/{model.safetensors, optimizer.safetensors, state.json}      and average.safetensors where one is kept
//! write   .step-000500.<pid>.tmp/…  -> sync every file -> rename the folder -> sync the parent
//! resume  newest folder whose files have the hashes in its state.json; damaged ones are named and passed over
//! ```

use super::optimizer::Optimizer;
use crate::data::source;
use crate::error::Hint as _;
use anyhow::{Context as _, bail};
use models::ParamStore;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const AVERAGE: &str = "average.safetensors";
const STATE: &str = "state.json";

/// Everything a run needs beside the tensors to go on as if it had never stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Optimizer steps done.
    pub step: u64,
    /// Tokens trained on; of a run on images, images.
    pub tokens: u64,
    /// Seconds spent in training steps, over all sessions.
    pub train_s: f64,
    /// SHA-256 of `model.safetensors`.
    pub model_sha256: String,
    /// SHA-256 of `optimizer.safetensors`.
    pub optimizer_sha256: String,
    /// SHA-256 of `average.safetensors`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average_sha256: Option<String>,
}

/// What a checkpoint holds.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// Parameters and running statistics.
    pub store: &'a ParamStore,
    /// Moments.
    pub optimizer: &'a Optimizer,
    /// Their moving average, where one is kept.
    pub average: Option<&'a ParamStore>,
}

/// A complete checkpoint on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its folder.
    pub folder: PathBuf,
    /// Its state.
    pub state: State,
}

impl Checkpoint {
    /// The weights.
    pub fn model_file(&self) -> PathBuf {
        self.folder.join(MODEL)
    }

    /// The averaged weights where there are some, else the weights: what evaluations use.
    pub fn evaluated_file(&self) -> PathBuf {
        if self.state.average_sha256.is_some() { self.folder.join(AVERAGE) } else { self.model_file() }
    }

    /// Sets parameters and optimizer from it.
    ///
    /// # Errors
    /// When it belongs to another model.
    pub fn restore(&self, store: &ParamStore, optimizer: &mut Optimizer) -> anyhow::Result<()> {
        store.load(&self.model_file())?;
        optimizer.load(&self.folder.join(OPTIMIZER), self.state.step)
    }
}

/// The folder name of a step.
pub fn folder_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// Writes a checkpoint below `root` and removes all but the newest `keep`.
///
/// # Errors
/// When the disk refuses; nothing half-written stays, and the earlier checkpoints are untouched.
pub fn save(root: &Path, contents: &Contents<'_>, tokens: u64, train_s: f64, keep: usize) -> anyhow::Result<Checkpoint> {
    let step = contents.optimizer.steps();
    let temporary = root.join(format!(".{}.{}.tmp", folder_name(step), std::process::id()));
    let folder = root.join(folder_name(step));
    let written = write(&temporary, &folder, contents, tokens, train_s);
    let state = match written {
        Ok(state) => state,
        Err(error) => {
            let _ = fs::remove_dir_all(&temporary);
            let last = newest_complete(root)?.map_or_else(|| "none".to_owned(), |last| last.folder.display().to_string());
            return Err(error.context(format!("cannot write checkpoint `{}`", folder.display())))
                .hint(format!("free some disk space and repeat the command; the last good checkpoint is: {last}"));
        }
    };
    remove_old(root, keep)?;
    Ok(Checkpoint { folder, state })
}

fn write(temporary: &Path, folder: &Path, contents: &Contents<'_>, tokens: u64, train_s: f64) -> anyhow::Result<State> {
    fs::create_dir_all(temporary).with_context(|| format!("cannot create `{}`", temporary.display()))?;
    let (model, moments) = (temporary.join(MODEL), temporary.join(OPTIMIZER));
    contents.store.save(&model)?;
    contents.optimizer.save(&moments)?;
    let average = temporary.join(AVERAGE);
    let save_average = |store: &ParamStore| -> anyhow::Result<String> {
        store.save(&average)?;
        source::sha256(&average)
    };
    let average_sha256 = contents.average.map(save_average).transpose()?;
    let state = State {
        step: contents.optimizer.steps(),
        tokens,
        train_s,
        model_sha256: source::sha256(&model)?,
        optimizer_sha256: source::sha256(&moments)?,
        average_sha256,
    };
    fs::write(temporary.join(STATE), serde_json::to_string_pretty(&state)? + "\n")?;
    let average = contents.average.map(|_| AVERAGE);
    for file in [MODEL, OPTIMIZER, STATE].into_iter().chain(average) {
        File::open(temporary.join(file))?.sync_all()?;
    }
    File::open(temporary)?.sync_all()?;
    if folder.exists() {
        // Only a damaged folder can stand here: a complete one would have been resumed from.
        fs::remove_dir_all(folder)?;
    }
    fs::rename(temporary, folder)?;
    File::open(folder.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(state)
}

/// Step numbers and folders, oldest first.
fn folders(root: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read `{}`", root.display()))),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(step) = name.strip_prefix("step-").and_then(|digits| digits.parse().ok()) {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest checkpoint whose files are what its state says; damaged ones are passed over with a warning.
///
/// # Errors
/// When the folder cannot be listed.
pub fn newest_complete(root: &Path) -> anyhow::Result<Option<Checkpoint>> {
    for (_, folder) in folders(root)?.into_iter().rev() {
        match open(&folder) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(error) => tracing::warn!("passing over a damaged checkpoint: {error:#}"),
        }
    }
    Ok(None)
}

/// Reads and verifies one checkpoint folder.
///
/// # Errors
/// When a file is missing, truncated or altered.
pub fn open(folder: &Path) -> anyhow::Result<Checkpoint> {
    let path = folder.join(STATE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let state: State = serde_json::from_str(&text).with_context(|| format!("cannot read `{}`", path.display()))?;
    let average = state.average_sha256.iter().map(|sha256| (AVERAGE, sha256));
    for (file, expected) in [(MODEL, &state.model_sha256), (OPTIMIZER, &state.optimizer_sha256)].into_iter().chain(average) {
        let path = folder.join(file);
        let found = source::sha256(&path)?;
        if found != *expected {
            bail!("{}: expected sha256 {expected}, found {found}", path.display());
        }
    }
    Ok(Checkpoint { folder: folder.to_owned(), state })
}

fn remove_old(root: &Path, keep: usize) -> anyhow::Result<()> {
    let folders = folders(root)?;
    for (_, folder) in &folders[..folders.len().saturating_sub(keep)] {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove old checkpoint `{}`", folder.display()))?;
    }
    Ok(())
}

/// Removes what killed processes left half-written. Only call while holding the run's lock.
///
/// # Errors
/// When the folder cannot be listed or a leftover cannot be removed.
pub fn remove_leftovers(root: &Path) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(root) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_suffix(".tmp").is_some_and(|stem| stem.starts_with(".step-")) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("cannot remove `{}`", entry.path().display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn setup() -> (ParamStore, Optimizer) {
        let store = ParamStore::new(DType::F32, &Device::Cpu);
        store.var_builder().get((2, 3), "w").unwrap();
        let config = toml::from_str("learning_rate = 0.1\nscalar_learning_rate = 0.1").unwrap();
        let optimizer = Optimizer::new(&config, &store);
        (store, optimizer)
    }

    fn contents<'a>(store: &'a ParamStore, optimizer: &'a Optimizer) -> Contents<'a> {
        Contents { store, optimizer, average: None }
    }

    fn advance(store: &ParamStore, optimizer: &mut Optimizer) {
        let loss = store.get("w").unwrap().as_tensor().sum_all().unwrap();
        let gradients = optimizer.accumulate(super::super::optimizer::Gradients::default(), loss.backward().unwrap()).unwrap();
        optimizer.step(&gradients, 1.0, 1).unwrap();
    }

    #[test]
    fn newest_is_restored_and_old_ones_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let (store, mut optimizer) = setup();
        for tokens in 1..=4 {
            advance(&store, &mut optimizer);
            save(root.path(), &contents(&store, &optimizer), tokens, 0.5, 2).unwrap();
        }
        let names: Vec<_> = folders(root.path()).unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(names, [3, 4]);
        let checkpoint = newest_complete(root.path()).unwrap().unwrap();
        assert_eq!((checkpoint.state.step, checkpoint.state.tokens), (4, 4));
        let (other, mut other_optimizer) = setup();
        checkpoint.restore(&other, &mut other_optimizer).unwrap();
        assert_eq!(other.digest().unwrap(), store.digest().unwrap());
        assert_eq!(other_optimizer.steps(), 4);
    }

    #[test]
    fn a_truncated_checkpoint_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let (store, mut optimizer) = setup();
        for tokens in 1..=2 {
            advance(&store, &mut optimizer);
            save(root.path(), &contents(&store, &optimizer), tokens, 0.5, 9).unwrap();
        }
        let model = root.path().join("step-000002").join(MODEL);
        let bytes = fs::read(&model).unwrap();
        fs::write(&model, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(newest_complete(root.path()).unwrap().unwrap().state.step, 1);
        fs::remove_dir_all(root.path().join("step-000001")).unwrap();
        assert_eq!(newest_complete(root.path()).unwrap(), None);
    }

    #[test]
    fn leftovers_of_killed_processes_are_removed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".step-000005.123.tmp")).unwrap();
        fs::create_dir(root.path().join("other")).unwrap();
        remove_leftovers(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        assert_eq!(newest_complete(&root.path().join("none")).unwrap(), None);
    }
}
