//! What can go wrong between a repository's name and a file: kinds that call for different actions are told apart.

use std::path::PathBuf;

use super::Repository;
use crate::error::Hint as _;

/// An error of the hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// 401 or 403.
    #[error("{repository}: access denied: http status {status}")]
    Denied {
        /// What was asked for.
        repository: Repository,
        /// 401 or 403.
        status: u16,
    },
    /// 404: no such repository.
    #[error("{repository}: expected a repository at `{endpoint}`, found none")]
    NoRepository {
        /// What was asked for.
        repository: Repository,
        /// The hub's address.
        endpoint: String,
    },
    /// 404: the repository has no such branch, tag or commit.
    #[error("{repository}: revision: expected a branch, tag or commit, found none named `{revision}`")]
    NoRevision {
        /// What was asked for.
        repository: Repository,
        /// The revision.
        revision: String,
    },
    /// 404: the revision has no such file.
    #[error("{repository}, revision `{revision}`: expected a file `{file}`, found none")]
    NoFile {
        /// What was asked for.
        repository: Repository,
        /// The revision.
        revision: String,
        /// The path.
        file: String,
    },
    /// Another status.
    #[error("{repository}: expected an answer, found http status {status}")]
    Status {
        /// What was asked for.
        repository: Repository,
        /// The status.
        status: u16,
    },
    /// The endpoint answers, but not as a hub does: a login page, a proxy's notice.
    #[error("{repository}: `{what}`: expected the hub's answer, found {found}")]
    NotTheHub {
        /// What was asked for.
        repository: Repository,
        /// File, or `files` for the list.
        what: String,
        /// What came instead.
        found: String,
    },
    /// The file that arrived is longer or shorter than announced.
    #[error("{repository}: `{file}`: expected {expected} bytes, found {found}")]
    Length {
        /// What was asked for.
        repository: Repository,
        /// The path.
        file: String,
        /// Announced.
        expected: u64,
        /// Arrived.
        found: u64,
    },
    /// The file that arrived has another SHA-256 than the hub names it by.
    #[error("{repository}: `{file}`: expected sha256 {expected}, found {found}")]
    Digest {
        /// What was asked for.
        repository: Repository,
        /// The path.
        file: String,
        /// The hub's.
        expected: String,
        /// The file's.
        found: String,
    },
    /// No connection, or it broke and did not come back.
    #[error("{repository}: cannot reach `{endpoint}`: {reason}")]
    Unreachable {
        /// What was asked for.
        repository: Repository,
        /// The hub's address.
        endpoint: String,
        /// The transport's message.
        reason: String,
    },
    /// Nothing arrived for too long.
    #[error("{repository}: `{what}`: nothing arrived for {silence_s} s")]
    Stalled {
        /// What was asked for.
        repository: Repository,
        /// File, or `files` for the list.
        what: String,
        /// How long was waited.
        silence_s: u64,
    },
    /// Offline, and not in the cache.
    #[error(
        "{repository}, revision `{revision}`: expected {} in the cache `{}`, found none, and the network is switched off",
        file.as_ref().map_or_else(|| "a snapshot".to_owned(), |file| format!("`{file}`")), cache.display()
    )]
    NotCached {
        /// What was asked for.
        repository: Repository,
        /// The revision.
        revision: String,
        /// The path; nothing when the whole revision is not there.
        file: Option<String>,
        /// The cache folder.
        cache: PathBuf,
    },
    /// The cache cannot be read or written, or is being written by another process.
    #[error("{repository}: cannot use the cache: {reason}")]
    Cache {
        /// What was asked for.
        repository: Repository,
        /// Why.
        reason: String,
    },
}

impl HubError {
    /// What to do about it, when that is known.
    pub fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Denied { repository, .. } => format!(
                "gated, private or absent: accept its terms on the page of `{}`, then set HF_TOKEN to a token of that account",
                repository.id
            ),
            Self::NoRepository { .. } => "check the spelling of `org/name`".to_owned(),
            Self::NoRevision { .. } => "leave the revision out for the main branch".to_owned(),
            Self::NotTheHub { .. } => "a proxy or login page may stand between; check HF_ENDPOINT".to_owned(),
            Self::Length { .. } | Self::Digest { .. } => "the damaged file was removed; repeat the command".to_owned(),
            Self::Unreachable { .. } => {
                "what arrived is kept: repeat the command to go on; or --offline to use the cache, or --data DIR".to_owned()
            }
            Self::Stalled { .. } => {
                "what arrived is kept: repeat the command to go on; HF_HUB_DOWNLOAD_TIMEOUT sets the seconds of patience"
                    .to_owned()
            }
            Self::NotCached { .. } => "fetch it once with network: harness data fetch …".to_owned(),
            Self::NoFile { .. } | Self::Status { .. } | Self::Cache { .. } => return None,
        })
    }

    /// The error with its advice.
    pub fn explain(self) -> anyhow::Error {
        let advice = self.advice();
        let error = anyhow::Error::new(self);
        match advice {
            Some(advice) => error.hint(advice),
            None => error,
        }
    }

    /// Whether only the connection is at fault, so that the cache may stand in.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether the data are not to be had as asked, which is one task's trouble and no reason to stop the others.
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::Denied { .. }
                | Self::NoRepository { .. }
                | Self::NoRevision { .. }
                | Self::NoFile { .. }
                | Self::NotCached { .. }
        )
    }
}
