//! The response cache: what a model has answered is never computed again, also after a kill at any moment.
//!
//! One append-only JSONL file per model; each line is `{"key":…,"response":…,"check":…}` where `check` is the start of the SHA-256 of key
//! and response. A torn or damaged line is dropped with a note. The key hashes everything that can change an answer: request kind, token ids,
//! generation settings, weights, tokenizer, special-token policy, dtype, softmax, length and profile (tasks.md section 3, rule 6).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tasks::Response;

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    response: Response,
    check: String,
}

/// Answers by key, in memory and in a file.
#[derive(Debug)]
pub struct ResponseCache {
    path: PathBuf,
    file: File,
    answers: HashMap<String, Response>,
    /// Lines that could not be used at load.
    pub dropped: usize,
}

impl ResponseCache {
    /// Opens or creates the file and loads what it holds.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        let context = || format!("response cache `{}`", path.display());
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).with_context(context)?;
        let (mut answers, mut dropped, mut ends_in_newline) = (HashMap::new(), 0, true);
        let mut reader = BufReader::new(&file);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).with_context(context)? > 0 {
            ends_in_newline = bytes.ends_with(b"\n");
            match serde_json::from_slice::<Line>(&bytes) {
                Ok(line) if ends_in_newline && line.check == check(&line.key, &line.response) => {
                    answers.insert(line.key, line.response);
                }
                _ => dropped += 1,
            }
            bytes.clear();
        }
        let mut cache = Self { path: path.to_path_buf(), file, answers, dropped };
        if !ends_in_newline {
            cache.write(b"\n")?; // the next record must not continue the torn line
        }
        Ok(cache)
    }

    /// The stored answer.
    pub fn get(&self, key: &str) -> Option<&Response> {
        self.answers.get(key)
    }

    /// Stores answers; when this returns they survive a kill of the process.
    ///
    /// # Errors
    /// When the file cannot be written (a full disk): the answers are then not stored.
    pub fn put(&mut self, entries: Vec<(String, Response)>) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        for (key, response) in &entries {
            let line = Line { key: key.clone(), response: response.clone(), check: check(key, response) };
            serde_json::to_writer(&mut bytes, &line)?;
            bytes.push(b'\n');
        }
        self.write(&bytes)?;
        self.answers.extend(entries);
        Ok(())
    }

    /// Answers held.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write response cache `{}`", self.path.display()))
    }
}

fn check(key: &str, response: &Response) -> String {
    let text = serde_json::to_string(response).unwrap_or_default();
    hex(&[key, &text])[..12].to_owned()
}

/// SHA-256 over length-prefixed parts, hexadecimal.
pub fn hex<T: AsRef<[u8]>>(parts: &[T]) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        let part = part.as_ref();
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    }
    records::ids::sha256_hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(value: f64) -> Response {
        Response::Rolling { loglikelihood: value }
    }

    #[test]
    fn answers_survive_reopening_and_a_torn_line_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache/model.jsonl");
        let mut cache = ResponseCache::open(&path).unwrap();
        cache.put(vec![("a".into(), answer(-0.1)), ("b".into(), answer(-2.0 / 3.0))]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap(); // killed while writing the second line

        let mut cache = ResponseCache::open(&path).unwrap();
        assert_eq!((cache.len(), cache.dropped), (1, 1));
        assert_eq!(cache.get("a"), Some(&answer(-0.1)));
        cache.put(vec![("c".into(), answer(-3.0))]).unwrap();
        let cache = ResponseCache::open(&path).unwrap();
        assert_eq!(cache.get("c"), Some(&answer(-3.0)));
    }

    #[test]
    fn a_line_whose_value_was_changed_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.jsonl");
        ResponseCache::open(&path).unwrap().put(vec![("a".into(), answer(-1.5))]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap().replace("-1.5", "-9.5");
        std::fs::write(&path, text).unwrap();
        assert_eq!(ResponseCache::open(&path).unwrap().dropped, 1);
    }
}
