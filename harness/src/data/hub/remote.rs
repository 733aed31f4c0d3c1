//! The hub over the network, through hf-hub: what that client leaves to its user is done here.
//!
//! - Retries with growing pauses. A repeated download goes on where the last one broke (`<blob>.part`, `Range: bytes=N-`).
//! - Length against the announced size, SHA-256 against the name of a large file's blob, and a look for web pages in place of files.
//! - A watch over silent connections: the client has no time-outs of its own.
//! - 404 told apart: repository, revision or file.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use hf_hub::Cache;
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use serde::Deserialize;

use super::cache::LocalCache;
use super::{Hub, HubError, HubSettings, Listing, Repository};
use crate::data::source;

/// Tries of one request or transfer.
const ATTEMPTS: u32 = 5;

/// First pause between tries; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest wait for a list of files: it is one small answer.
const LIST_SILENCE: Duration = Duration::from_secs(15);

/// The hub at an endpoint.
pub struct RemoteHub {
    api: Api,
    cache: LocalCache,
    settings: HubSettings,
    listed: Mutex<BTreeMap<(Repository, String), Listing>>,
}

impl std::fmt::Debug for RemoteHub {
    /// Without the client, whose headers hold the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteHub").field("endpoint", &self.settings.endpoint).finish_non_exhaustive()
    }
}

/// Answer of `/api/{models,datasets}/org/name/revision/<revision>`, as far as it is needed.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Counts what arrives, for the watch and the check of the length.
#[derive(Debug, Clone, Default)]
struct Meter {
    announced: Arc<AtomicU64>,
    ticks: Arc<AtomicU64>,
}

impl Progress for Meter {
    fn init(&mut self, size: usize, _filename: &str) {
        self.announced.store(size as u64, Ordering::Relaxed);
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    fn update(&mut self, _size: usize) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    fn finish(&mut self) {}
}

/// How a watched piece of work ended without a result.
enum Lost {
    Silent,
    Panicked,
}

/// Runs `work` on a thread of its own and gives up on it when nothing ticks for `silence`; the thread ends with the process.
fn watched<T: Send + 'static>(meter: &Meter, silence: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Lost> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    let (mut ticks, mut since) = (0, Instant::now());
    loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(result) => return Ok(result),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Lost::Panicked),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let now = meter.ticks.load(Ordering::Relaxed);
                if now != ticks {
                    (ticks, since) = (now, Instant::now());
                } else if since.elapsed() > silence {
                    return Err(Lost::Silent);
                }
            }
        }
    }
}

/// Status of a failed request; the client shows it only in its message, `http status: 404`.
fn status_of(error: &ApiError) -> Option<u16> {
    let ApiError::RequestError(error) = error else { return None };
    error.to_string().strip_prefix("http status: ")?.trim().parse().ok()
}

impl RemoteHub {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// When the client cannot be set up.
    pub fn new(settings: HubSettings) -> Result<Self, HubError> {
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.clone())
            .with_progress(false)
            .build()
            .map_err(|error| HubError::Cache { repository: Repository::model("-"), reason: error.to_string() })?;
        Ok(Self { api, cache: LocalCache::new(settings.cache.clone()), settings, listed: Mutex::default() })
    }

    fn unreachable(&self, repository: &Repository, reason: String) -> HubError {
        HubError::Unreachable { repository: repository.clone(), endpoint: self.settings.endpoint.clone(), reason }
    }

    fn lost(repository: &Repository, what: &str, silence: Duration, lost: &Lost) -> HubError {
        let (repository, what) = (repository.clone(), what.to_owned());
        match lost {
            Lost::Silent => HubError::Stalled { repository, what, silence_s: silence.as_secs() },
            Lost::Panicked => HubError::NotTheHub { repository, what, found: "an answer the client cannot read".to_owned() },
        }
    }

    /// Status and text of the description of a revision.
    fn info(&self, repository: &Repository, revision: &str) -> Result<(u16, String), HubError> {
        let silence = self.settings.silence.min(LIST_SILENCE);
        let mut pause = PAUSE;
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            let request = self.api.repo(repository.at(revision)).info_request();
            let answer = watched(&Meter::default(), silence, move || {
                let mut response = request.config().http_status_as_error(false).build().call().map_err(|e| e.to_string())?;
                let text = response.body_mut().read_to_string().map_err(|e| e.to_string())?;
                Ok::<_, String>((response.status().as_u16(), text))
            });
            match answer.map_err(|lost| Self::lost(repository, "files", silence, &lost))? {
                Ok((status, _)) if is_passing(status) => last = format!("http status {status}"),
                Ok(answer) => return Ok(answer),
                Err(reason) => last = reason,
            }
            if attempt + 1 < ATTEMPTS {
                std::thread::sleep(pause);
                pause *= 2;
            }
        }
        Err(self.unreachable(repository, last))
    }

    fn fetch_listing(&self, repository: &Repository, revision: &str) -> Result<Listing, HubError> {
        let (status, text) = self.info(repository, revision)?;
        if !(200..300).contains(&status) {
            return Err(self.refused(repository, revision, status));
        }
        let found = || if looks_like_page(text.as_bytes()) { "a web page" } else { "other text" };
        let info: Info = serde_json::from_str(&text).map_err(|error| HubError::NotTheHub {
            repository: repository.clone(),
            what: "files".to_owned(),
            found: format!("{} ({error})", found()),
        })?;
        let mut files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        files.sort();
        Ok(Listing { commit: info.sha, files })
    }

    /// What an unsuccessful description of a revision means.
    fn refused(&self, repository: &Repository, revision: &str, status: u16) -> HubError {
        let repository = repository.clone();
        match status {
            401 | 403 => HubError::Denied { repository, status },
            404 if revision != "main" && self.info(&repository, "main").is_ok_and(|(status, _)| status == 200) => {
                HubError::NoRevision { repository, revision: revision.to_owned() }
            }
            404 => HubError::NoRepository { repository, endpoint: self.settings.endpoint.clone() },
            _ => HubError::Status { repository, status },
        }
    }

    /// What a file's refusal means; the description of its revision tells the kinds of 404 apart.
    fn file_refused(&self, repository: &Repository, revision: &str, file: &str, status: u16) -> HubError {
        match status {
            404 => match self.info(repository, revision) {
                Ok((200, _)) => {
                    HubError::NoFile { repository: repository.clone(), revision: revision.to_owned(), file: file.to_owned() }
                }
                Ok((status, _)) => self.refused(repository, revision, status),
                Err(error) => error,
            },
            _ => self.refused(repository, "main", status),
        }
    }

    fn download(&self, repository: &Repository, commit: &str, file: &str) -> Result<PathBuf, HubError> {
        let mut pause = PAUSE;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let meter = Meter::default();
            let (api, name, progress) = (self.api.repo(repository.at(commit)), file.to_owned(), meter.clone());
            let result = watched(&meter, self.settings.silence, move || api.download_with_progress(&name, progress))
                .map_err(|lost| Self::lost(repository, file, self.settings.silence, &lost))?;
            let error = match result {
                Ok(path) => match check(repository, file, &path, meter.announced.load(Ordering::Relaxed)) {
                    Ok(()) => return Ok(path),
                    Err(error) => error,
                },
                Err(error) => match (status_of(&error), error) {
                    // A part file that is already whole, or longer than the file.
                    (Some(416), error) | (None, error @ ApiError::InvalidResume) => {
                        self.remove_part(repository, commit, file);
                        self.unreachable(repository, error.to_string())
                    }
                    (Some(status), _) if is_passing(status) => HubError::Status { repository: repository.clone(), status },
                    (Some(status), _) => return Err(self.file_refused(repository, commit, file, status)),
                    (None, ApiError::MissingHeader(header) | ApiError::InvalidHeader(header)) => {
                        return Err(HubError::NotTheHub {
                            repository: repository.clone(),
                            what: file.to_owned(),
                            found: format!("an answer without a valid header `{header}`"),
                        });
                    }
                    (None, error @ ApiError::LockAcquisition(_)) => {
                        return Err(HubError::Cache { repository: repository.clone(), reason: error.to_string() });
                    }
                    (None, error) => self.unreachable(repository, error.to_string()),
                },
            };
            if attempt >= ATTEMPTS || matches!(error, HubError::NotTheHub { .. } | HubError::Cache { .. }) {
                return Err(error);
            }
            tracing::info!("{error}; trying again");
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    fn remove_part(&self, repository: &Repository, commit: &str, file: &str) {
        let repo = repository.at(commit);
        if let Ok(metadata) = self.api.metadata(&self.api.repo(repo.clone()).url(file)) {
            let blob = Cache::new(self.settings.cache.clone()).repo(repo).blob_path(metadata.etag());
            let _ = std::fs::remove_file(blob.with_extension("part"));
        }
    }
}

/// Too many requests, or a server in trouble: worth another try.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

fn looks_like_page(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&head[..head.len().min(256)]).trim_start().to_ascii_lowercase();
    text.starts_with("<!doctype html") || text.starts_with("<html")
}

/// Checks a file that just arrived; a bad one is removed with its blob.
fn check(repository: &Repository, file: &str, path: &Path, announced: u64) -> Result<(), HubError> {
    let unusable = |reason: String| HubError::Cache { repository: repository.clone(), reason };
    let blob = path.canonicalize().map_err(|error| unusable(error.to_string()))?;
    let verdict = (|| {
        let length = std::fs::metadata(&blob).map_err(|error| unusable(error.to_string()))?.len();
        if length != announced {
            let (repository, file) = (repository.clone(), file.to_owned());
            return Err(HubError::Length { repository, file, expected: announced, found: length });
        }
        let mut head = Vec::new();
        let read = std::fs::File::open(&blob).and_then(|opened| opened.take(256).read_to_end(&mut head));
        read.map_err(|error| unusable(error.to_string()))?;
        let may_be_page = Path::new(file).extension().is_some_and(|extension| extension == "html" || extension == "md");
        if looks_like_page(&head) && !may_be_page {
            let (repository, what) = (repository.clone(), file.to_owned());
            return Err(HubError::NotTheHub { repository, what, found: "a web page".to_owned() });
        }
        // Large files are named by their SHA-256, small ones by git's SHA-1.
        let name = blob.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let found = source::sha256(&blob).map_err(|error| unusable(error.to_string()))?;
            if found != name.to_ascii_lowercase() {
                let (repository, file) = (repository.clone(), file.to_owned());
                return Err(HubError::Digest { repository, file, expected: name, found });
            }
        }
        Ok(())
    })();
    if verdict.is_err() {
        let _ = (std::fs::remove_file(&blob), std::fs::remove_file(path));
    }
    verdict
}

impl Hub for RemoteHub {
    fn get(&self, repository: &Repository, revision: &str, file: &str) -> Result<PathBuf, HubError> {
        let listing = self.list(repository, revision)?;
        let path = match self.cache.find(repository, &listing.commit, file) {
            Some(path) => path,
            None if listing.files.iter().any(|listed| listed == file) => self.download(repository, &listing.commit, file)?,
            None => {
                let (repository, revision) = (repository.clone(), revision.to_owned());
                return Err(HubError::NoFile { repository, revision, file: file.to_owned() });
            }
        };
        // The revision's own entry, so that it is found by name without a network.
        let entry = Cache::new(self.settings.cache.clone()).repo(repository.at(revision)).create_ref(&listing.commit);
        entry.map_err(|error| HubError::Cache { repository: repository.clone(), reason: error.to_string() })?;
        Ok(path)
    }

    fn list(&self, repository: &Repository, revision: &str) -> Result<Listing, HubError> {
        let key = (repository.clone(), revision.to_owned());
        if let Some(listing) = self.listed.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(listing.clone());
        }
        let listing = match self.fetch_listing(repository, revision) {
            Err(error) if error.is_unreachable() => match self.cache.list(repository, revision) {
                Some(listing) => {
                    tracing::warn!("{error}; using commit {} from the cache", listing.commit);
                    listing
                }
                None => return Err(error),
            },
            other => other?,
        };
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).insert(key, listing.clone());
        Ok(listing)
    }
}
