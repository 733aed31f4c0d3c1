//! Repositories of the Hugging Face hub: data sets as rows, models as folders.
//!
//! ```text
//! Hub::list(repository, revision) -> commit, files        Hub::get(repository, revision, file) -> path in the cache
//!   remote: the endpoint, through the cache     offline: the cache alone
//! rows:  files of a split (parquet, JSONL) -> rows + digest         model: config, tokenizer, safetensors -> snapshot folder
//! ```
//! A revision is resolved to a commit once per process, so that files of two commits never mix. The cache has the layout of the hub's own
//! tools (`datasets--org--name/{blobs,refs,snapshots}`). Environment: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, and
//! `HF_HUB_DOWNLOAD_TIMEOUT` (seconds of silence before a transfer counts as stalled); `HF_HUB_OFFLINE` is read with `--offline`.

mod cache;
mod error;
mod model;
mod remote;
mod rows;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use cache::OfflineHub;
pub use error::HubError;
pub use model::{ModelId, fetch_model};
pub use remote::RemoteHub;
pub use rows::{SplitRows, check_parts, fetch_rows, split_files};
pub use table::{parquet_rows, read_rows};

/// Silence after which a transfer counts as stalled, when the environment names none.
const SILENCE: Duration = Duration::from_mins(1);

/// What a repository holds; part of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepositoryKind {
    /// Weights and tokenizer.
    Model,
    /// Documents.
    Dataset,
}

/// A repository: `org/name` and its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    /// Model or data set.
    pub kind: RepositoryKind,
    /// `org/name`.
    pub id: String,
}

impl Repository {
    /// A data set.
    pub fn dataset(id: &str) -> Self {
        Self { kind: RepositoryKind::Dataset, id: id.to_owned() }
    }

    /// A model.
    pub fn model(id: &str) -> Self {
        Self { kind: RepositoryKind::Model, id: id.to_owned() }
    }

    fn at(&self, revision: &str) -> hf_hub::Repo {
        let kind = match self.kind {
            RepositoryKind::Model => hf_hub::RepoType::Model,
            RepositoryKind::Dataset => hf_hub::RepoType::Dataset,
        };
        hf_hub::Repo::with_revision(self.id.clone(), kind, revision.to_owned())
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RepositoryKind::Model => "model",
            RepositoryKind::Dataset => "data set",
        };
        write!(f, "{kind} `{}`", self.id)
    }
}

/// The files of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// 40 hex digits.
    pub commit: String,
    /// Paths in the repository, sorted.
    pub files: Vec<String>,
}

/// Where repositories are read from.
pub trait Hub: fmt::Debug + Send + Sync {
    /// The file in the cache, downloaded first if it is not there.
    ///
    /// # Errors
    /// Every kind of [`HubError`].
    fn get(&self, repository: &Repository, revision: &str, file: &str) -> Result<PathBuf, HubError>;

    /// The commit a revision stands for, and its files (offline: those in the cache).
    ///
    /// # Errors
    /// As [`Hub::get`].
    fn list(&self, repository: &Repository, revision: &str) -> Result<Listing, HubError>;
}

/// Where the hub is and where its files are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Address without a final slash.
    pub endpoint: String,
    /// Folder that holds `datasets--org--name` and `models--org--name`.
    pub cache: PathBuf,
    /// Access token, if any.
    pub token: Option<String>,
    /// Silence after which a transfer counts as stalled.
    pub silence: Duration,
}

impl HubSettings {
    /// As the environment says; see the module documentation.
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok().map(|v| v.trim().to_owned()).filter(|value| !value.is_empty());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let default = hf_hub::Cache::from_env();
        let token = variable("HF_TOKEN").or_else(|| default.token());
        let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|value| value.parse::<u64>().ok()).filter(|&s| s > 0);
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: variable("HF_HUB_CACHE").map_or_else(|| default.path().clone(), PathBuf::from),
            token,
            silence: seconds.map_or(SILENCE, Duration::from_secs),
        }
    }
}

/// The hub as the environment describes it; the cache alone when the network may not be used.
///
/// # Errors
/// When the client cannot be set up.
pub fn open(offline: bool) -> Result<Arc<dyn Hub>, HubError> {
    let settings = HubSettings::from_env();
    Ok(if offline { Arc::new(OfflineHub::new(settings.cache)) } else { Arc::new(RemoteHub::new(settings)?) })
}
