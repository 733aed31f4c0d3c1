//! A task's splits from a data set repository.
//!
//! ```text
//! config C, split S:  C/S  data/C/S  C-S  C_S  data/C_S      without a config (or `main`, `default`, the repository's name):  data/S  S  default/S
//!                     each as  .parquet, -00000-of-00002.parquet, /0000.parquet;  else .jsonl or .json, also .gz and .zst
//! ```
//! A repository without such files (one with a loading script, say) is looked up on the branch `refs/convert/parquet`, which the hub writes for
//! public data sets. Of numbered parts all must be there: a half-filled cache is never a smaller benchmark.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};
use serde_json::{Map, Value};
use tasks::DatasetFacts;

use super::{Hub, HubError, Listing, Repository, table};
use crate::data::source;
use crate::error::Hint as _;

/// Branch on which the hub keeps its own parquet copy.
const CONVERTED: &str = "refs/convert/parquet";

/// Endings of tables, preferred first.
const ENDINGS: [&str; 7] = [".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst"];

/// Rows of some splits of a data set.
#[derive(Debug, Clone, Default)]
pub struct SplitRows {
    /// Split name to its rows, in file order.
    pub splits: BTreeMap<String, Vec<Map<String, Value>>>,
    /// SHA-256 over the lines `<sha256>  <path>\n` of the files, sorted by path.
    pub sha256: String,
    /// The files.
    pub files: Vec<String>,
    /// The commit they belong to.
    pub commit: String,
}

/// Downloads and reads the evaluated split, and the few-shot split when it is asked for. A few-shot split that the data set does not have is
/// left out: the task says what it lacks.
///
/// # Errors
/// [`HubError`] when the data set or its evaluated split cannot be had; unreadable tables; missing parts.
pub fn fetch_rows(hub: &dyn Hub, dataset: &DatasetFacts, with_shots: bool) -> anyhow::Result<SplitRows> {
    let id = dataset.hub.as_deref().ok_or_else(|| anyhow!("the data set is not on the hub"))?;
    let repository = Repository::dataset(id);
    let pinned = dataset.revision.as_deref();
    let mut revision = pinned.unwrap_or("main");
    let find = |listing: &Listing, split: &str| split_files(&listing.files, id, dataset.config.as_deref(), split);
    let first = hub.list(&repository, revision);
    let has_split = |listing: &Listing| !find(listing, &dataset.split).is_empty();
    let listing = match first {
        Ok(listing) if has_split(&listing) || pinned.is_some() => listing,
        // Offline a cache may hold only the converted copy.
        Err(error) if pinned.is_some() || !matches!(error, HubError::NotCached { .. }) => return Err(error.explain()),
        first => match hub.list(&repository, CONVERTED) {
            Ok(listing) if has_split(&listing) => {
                revision = CONVERTED;
                listing
            }
            _ => first.map_err(HubError::explain)?,
        },
    };
    let mut found = SplitRows { commit: listing.commit.clone(), ..SplitRows::default() };
    let mut digests = BTreeMap::new();
    let shots = dataset.fewshot_split.as_deref().filter(|_| with_shots);
    for split in [Some(dataset.split.as_str()), shots].into_iter().flatten() {
        if found.splits.contains_key(split) {
            continue;
        }
        let files = find(&listing, split);
        if files.is_empty() {
            if split == dataset.split {
                let config = dataset.config.as_deref().unwrap_or("default");
                let file = format!("{config}/{split}*.parquet or .jsonl");
                return Err(HubError::NoFile { repository, revision: revision.to_owned(), file }.explain());
            }
            continue;
        }
        check_parts(&files).with_context(|| format!("{repository}, split `{split}`"))?;
        let mut rows = Vec::new();
        for file in files {
            let path = hub.get(&repository, revision, &file).map_err(HubError::explain)?;
            rows.extend(table::read_rows(&path, &file).with_context(|| repository.to_string())?);
            digests.insert(file, source::sha256(&path)?);
        }
        found.splits.insert(split.to_owned(), rows);
    }
    let mut lines = String::new();
    for (file, sha256) in &digests {
        let _ = writeln!(lines, "{sha256}  {file}");
    }
    found.sha256 = records::ids::sha256_hex(lines.as_bytes());
    found.files = digests.into_keys().collect();
    Ok(found)
}

/// The files of one split, sorted; empty when none has a name of a known form.
pub fn split_files(files: &[String], id: &str, config: Option<&str>, split: &str) -> Vec<String> {
    let names: &[&str] = if split == "validation" { &["validation", "valid", "val", "dev"] } else { &[split] };
    let repository = id.rsplit('/').next().unwrap_or(id);
    let mut bases: Vec<String> = Vec::new();
    for s in names {
        if let Some(c) = config {
            bases.extend([
                format!("{c}/{s}"),
                format!("data/{c}/{s}"),
                format!("{c}-{s}"),
                format!("{c}_{s}"),
                format!("data/{c}_{s}"),
            ]);
        }
        if config.is_none_or(|c| ["main", "default", repository].contains(&c)) {
            bases.extend([format!("data/{s}"), (*s).to_owned(), format!("default/{s}")]);
        }
    }
    // One file a config and no split in its name: the only split is the test.
    bases.extend(config.filter(|_| split == "test").map(|c| format!("data/{c}")));
    for base in &bases {
        for ending in ENDINGS {
            let of_split =
                |file: &&String| file.strip_suffix(ending).and_then(|stem| stem.strip_prefix(base)).is_some_and(is_part);
            let mut found: Vec<String> = files.iter().filter(of_split).cloned().collect();
            if !found.is_empty() {
                found.sort();
                return found;
            }
        }
    }
    Vec::new()
}

/// What may stand between a split's name and the ending: nothing, `/0000`, `-00000-of-00002`, the latter with a dash and a digest.
fn is_part(rest: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    rest.is_empty() || rest.strip_prefix('/').is_some_and(digits) || numbers(rest).is_some()
}

/// Number and count of `-00000-of-00002[-digest]`.
fn numbers(rest: &str) -> Option<(usize, usize)> {
    let (number, rest) = rest.strip_prefix('-')?.split_once("-of-")?;
    let (count, digest) = rest.split_once('-').unwrap_or((rest, ""));
    let is_digest = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { Some((number.parse().ok()?, count.parse().ok()?)) } else { None }
}

/// Checks that of numbered parts all are there.
///
/// # Errors
/// What is there, when it is not all.
pub fn check_parts(files: &[String]) -> anyhow::Result<()> {
    let of = |file: &String| {
        let stem = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending))?;
        let at = stem.find("-of-")?;
        numbers(&stem[stem[..at].rfind('-')?..])
    };
    let parts: BTreeSet<(usize, usize)> = files.iter().filter_map(of).collect();
    let Some(&(_, count)) = parts.first() else { return Ok(()) };
    let here = parts.iter().filter(|part| part.1 == count && part.0 < count).count();
    if here == count && parts.len() == count {
        return Ok(());
    }
    Err(anyhow!("expected parts 0 to {} of {count}, found {}", count - 1, files.join(", ")))
        .hint("an interrupted download: fetch the data set again with network")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str], config: Option<&str>, split: &str) -> Vec<String> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        split_files(&files, "org/name", config, split)
    }

    #[test]
    fn layouts_of_published_data_sets_are_found() {
        let configs = [
            "boolq/train-00000-of-00001.parquet",
            "boolq/validation-00000-of-00001.parquet",
            "rte/validation-00000-of-00001.parquet",
        ];
        assert_eq!(of(&configs, Some("boolq"), "validation"), ["boolq/validation-00000-of-00001.parquet"]);
        let plain = [
            "README.md",
            "data/test-00001-of-00002.parquet",
            "data/test-00000-of-00002.parquet",
            "data/train-00000-of-00001.parquet",
        ];
        assert_eq!(of(&plain, None, "test"), ["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"]);
        assert_eq!(of(&["data/train-00000-of-00001-0a1b2c3d4e5f6071.parquet"], None, "train").len(), 1);
        assert_eq!(of(&["en/test/0000.parquet", "en/train/0000.parquet"], Some("en"), "test"), ["en/test/0000.parquet"]);
        assert_eq!(of(&["data/eng_Latn.jsonl", "data/deu_Latn.jsonl"], Some("eng_Latn"), "test"), ["data/eng_Latn.jsonl"]);
        assert_eq!(of(&["dev.jsonl.gz", "train.jsonl"], None, "validation"), ["dev.jsonl.gz"]);
    }

    #[test]
    fn other_configs_and_splits_are_not_taken() {
        assert!(of(&["rte/validation-00000-of-00001.parquet", "data/validation.jsonl"], Some("boolq"), "validation").is_empty());
        assert!(of(&["data/test_hard.jsonl", "data/tests.jsonl", "data/test-notes.json"], None, "test").is_empty());
        assert!(of(&["data/eng_Latn.jsonl"], Some("eng_Latn"), "train").is_empty());
    }

    #[test]
    fn an_incomplete_set_of_parts_is_refused() {
        let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(check_parts(&files(&["d/test-00000-of-00002.parquet", "d/test-00001-of-00002.parquet"])).is_ok());
        assert!(check_parts(&files(&["test.jsonl"])).is_ok());
        let error = check_parts(&files(&["d/test-00001-of-00002.parquet"])).unwrap_err().to_string();
        assert_eq!(error, "expected parts 0 to 1 of 2, found d/test-00001-of-00002.parquet");
    }
}
