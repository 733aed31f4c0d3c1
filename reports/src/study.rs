//! The records as a report reads them: grouped, so that what many rows share is kept once, and cleaned, so that no number only looks fine.
//!
//! ```text
//! row    = shared columns (what, who, which machine, which build)  +  own columns (value, seed, pair, document)
//! group  = all rows of equal shared columns            a million rows of documents are a few hundred groups and 130 bytes per row
//! ```
//! Tables and figures ask for a metric of a subject and get its groups from an index; nothing scans all rows. Each `record_id` counts
//! once, and everything is sorted, so the order of files, shards and workers changes nothing downstream.
//!
//! Two things happen on the way in. A value that cannot be one (NaN, infinite, a negative duration) turns its row into a failed one with
//! the reason. And where one subject name stands for several configurations, as in a sweep, the name is extended by what differs
//! (`lm-tiny-rw+lr-r16`), so that configurations are never pooled.
//!
//! Source: measurement.md sections 9, 10 and 14.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use records::ids::{cell_text, sha256_hex};
use records::{Arm, CellRef, CellValue, RecordKind, Row, Status};

use crate::error::ReportError;
use crate::frame::Records;

/// Columns that a report reads and that many rows share. The rest of a row is [`Own`], or is not read here.
pub(crate) const SHARED: &[&str] = &[
    "schema",
    "run_id",
    "source",
    "kind",
    "suite",
    "task",
    "subject",
    "variant",
    "reference_variant",
    "tier",
    "model_family",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "vocab_size",
    "image_size",
    "residual_placement",
    "residual_mix",
    "residual_augment",
    "residual_rank",
    "residual_lookback",
    "residual_post_norm",
    "residual_init",
    "residual_gamma",
    "dtype",
    "numerics",
    "batch",
    "sequence_length",
    "prompt_length",
    "output_length",
    "grad_accum",
    "optimizer",
    "learning_rate",
    "is_aa",
    "metric",
    "unit",
    "better",
    "inner_stat",
    "split",
    "task_version",
    "eval_profile",
    "filter",
    "num_fewshot",
    "limit",
    "chance",
    "memory_reading",
    "host_fingerprint",
    "cpu_model",
    "threads",
    "gpu_model",
    "git_commit",
    "git_dirty",
    "binary_sha256",
    "lockfile_sha256",
    "rustc",
    "cargo_profile",
    "cargo_features",
    "harness_version",
    "config_sha256",
    "dataset",
    "dataset_sha256",
    "tokenizer_sha256",
    "checkpoint_sha256",
    "status",
    "reason",
];

/// Columns of a configuration, and how a name says which one it is: `-r16`, `-k3`, `-free`.
const CONFIGURATION: [(&str, &str); 10] = [
    ("num_hidden_layers", "layers"),
    ("hidden_size", "width"),
    ("residual_placement", ""),
    ("residual_mix", ""),
    ("residual_rank", "r"),
    ("residual_lookback", "k"),
    ("residual_post_norm", "norm-"),
    ("residual_init", ""),
    ("residual_gamma", "gamma-"),
    ("learning_rate", "rate"),
];

/// A word of the study; order of words is order of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(u32);

/// What a row has of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Own {
    /// The number; none where the status is not ok.
    pub value: Option<f64>,
    /// Standard error over documents.
    pub stderr: Option<f64>,
    /// The same, clustered.
    pub stderr_clustered: Option<f64>,
    /// Of how many iterations or documents.
    pub inner_n: Option<u64>,
    /// Seed.
    pub seed: Option<i64>,
    /// Training step.
    pub eval_step: Option<u64>,
    /// Training run of a cell, or batch of pairs.
    pub trial: Option<u32>,
    /// ABBA block.
    pub block: Option<u32>,
    /// Pair of workers.
    pub pair: Option<u32>,
    /// Measuring process.
    pub worker: Option<u32>,
    /// Side of a comparison.
    pub arm: Arm,
    /// Whether something else used the machine.
    pub contended: Option<bool>,
    /// Document.
    pub doc: Option<Word>,
    /// Cluster of the document.
    pub cluster: Option<Word>,
    /// First half of the record id: what makes the row itself.
    id: u128,
}

impl Own {
    /// Whether a measuring process made the row.
    pub(crate) fn is_by_worker(&self) -> bool {
        self.pair.is_some() || self.worker.is_some()
    }
}

/// Rows of equal shared columns.
#[derive(Clone, Debug)]
pub struct Group {
    /// The shared columns; every other column of this row is empty.
    pub shared: Row,
    /// Whether measuring processes made the rows.
    pub is_by_worker: bool,
    /// The rows, sorted.
    pub rows: Vec<Own>,
}

impl Group {
    /// Whether the rows have values.
    pub fn is_ok(&self) -> bool {
        self.shared.status == Status::Ok
    }

    /// The values, in order.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.rows.iter().filter_map(|row| row.value)
    }
}

/// A row: its group's columns and its own.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Shared columns.
    pub shared: &'a Row,
    /// Own columns.
    pub own: &'a Own,
}

/// Records of a report.
#[derive(Clone, Debug, Default)]
pub struct Study {
    groups: Vec<Arc<Group>>,
    by_metric: HashMap<String, Vec<usize>>,
    by_subject: HashMap<(String, String), Vec<usize>>,
    words: Arc<Vec<String>>,
    warnings: Vec<String>,
}

impl Study {
    /// From rows.
    pub fn new(rows: Vec<Row>) -> Self {
        let mut builder = StudyBuilder::default();
        rows.into_iter().for_each(|row| builder.add(row));
        builder.finish()
    }

    /// Reads record files, or every record file below folders, with the manifests beside them.
    ///
    /// # Errors
    /// When a path holds no records, a file cannot be read, or a row is of a newer schema.
    pub fn load(paths: &[PathBuf]) -> Result<Self, ReportError> {
        let mut builder = StudyBuilder::default();
        crate::frame::visit(paths, &mut builder)?;
        Ok(builder.finish())
    }

    /// All groups, sorted.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().map(AsRef::as_ref)
    }

    /// All rows, in the order of their groups.
    pub fn rows(&self) -> impl Iterator<Item = Record<'_>> {
        self.groups().flat_map(|group| group.rows.iter().map(|own| Record { shared: &group.shared, own }))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.rows.len()).sum()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Groups of a metric that have values.
    pub fn of_metric(&self, metric: &str) -> impl Iterator<Item = &Group> {
        self.at(self.by_metric.get(metric)).filter(|group| group.is_ok())
    }

    /// Groups of a metric of a subject, failed ones included.
    pub fn of_subject(&self, subject: &str, metric: &str) -> impl Iterator<Item = &Group> {
        self.at(self.by_subject.get(&(subject.to_owned(), metric.to_owned())))
    }

    fn at<'a>(&'a self, places: Option<&'a Vec<usize>>) -> impl Iterator<Item = &'a Group> {
        places.into_iter().flatten().map(|place| self.groups[*place].as_ref())
    }

    /// Text of a word.
    pub fn text(&self, word: Word) -> &str {
        &self.words[word.0 as usize]
    }

    /// What was odd about the files and rows.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The groups that pass; rows are not copied.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Group) -> bool) -> Self {
        self.with_groups(self.groups.iter().filter(|group| keep(group)).cloned().collect())
    }

    /// With rows of no documents added, for example scores of task groups.
    #[must_use]
    pub fn with_rows(&self, rows: Vec<Row>) -> Self {
        let mut groups = self.groups.clone();
        groups.extend(Self::new(rows).groups);
        groups.sort_by_cached_key(|group| sort_key(group));
        self.with_groups(groups)
    }

    fn with_groups(&self, groups: Vec<Arc<Group>>) -> Self {
        let mut study = Self { groups, words: Arc::clone(&self.words), warnings: self.warnings.clone(), ..Self::default() };
        for (at, group) in study.groups.iter().enumerate() {
            let metric = &group.shared.metric;
            study.by_metric.entry(metric.clone()).or_default().push(at);
            if let Some(name) = group.shared.subject.as_ref().or(group.shared.variant.as_ref()) {
                study.by_subject.entry((name.clone(), metric.clone())).or_default().push(at);
            }
        }
        study
    }
}

impl From<&Records> for Study {
    fn from(records: &Records) -> Self {
        let mut study = Self::new(records.rows().to_vec());
        study.warnings.splice(0..0, records.warnings().iter().cloned());
        study
    }
}

/// Order of groups in every output: what, who, then every shared column.
fn sort_key(group: &Group) -> impl Ord + use<> {
    let row = &group.shared;
    let rest: Vec<String> = SHARED.iter().filter_map(|column| row.get(column)).map(cell_text).collect();
    (row.suite.clone(), row.task.clone(), row.metric.clone(), row.filter.clone(), row.subject.clone(), group.is_by_worker, rest)
}

/// Collects rows into groups.
#[derive(Debug, Default)]
pub(crate) struct StudyBuilder {
    groups: Vec<Group>,
    places: HashMap<Vec<u8>, usize>,
    words: HashMap<String, u32>,
    seen: HashSet<u128>,
    warnings: Vec<String>,
    refused: BTreeMap<String, usize>,
}

impl StudyBuilder {
    /// Notes what was odd about a file.
    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Number of a word; words are ordered when the study is finished.
    pub(crate) fn word(&mut self, text: &str) -> Word {
        if let Some(number) = self.words.get(text) {
            return Word(*number);
        }
        let number = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        self.words.insert(text.to_owned(), number);
        Word(number)
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, row: Row) {
        let row = if row.record_id.is_empty() { row.seal() } else { row };
        let own = Own {
            value: row.value,
            stderr: row.stderr,
            stderr_clustered: row.stderr_clustered,
            inner_n: row.inner_n,
            seed: row.seed,
            eval_step: row.eval_step,
            trial: row.trial,
            block: row.block,
            pair: row.pair,
            worker: row.worker,
            arm: row.arm,
            contended: row.contended,
            doc: row.doc_id.as_deref().map(|id| self.word(id)),
            cluster: row.cluster_id.as_deref().map(|id| self.word(id)),
            id: 0,
        };
        let mut shared = Row::default();
        for column in SHARED {
            let cell = row.get(column).map_or(CellValue::Null, CellValue::from);
            // The same column of the same type.
            let _ = shared.set(column, cell);
        }
        let at = self.group_of(&shared, own.is_by_worker());
        self.insert(&row.record_id, own, at);
    }

    /// Adds a row to a group, unless its id is known.
    pub(crate) fn insert(&mut self, record_id: &str, own: Own, at: usize) {
        let id = id_of(record_id);
        if !self.seen.insert(id) {
            return;
        }
        let group = &self.groups[at];
        let Some(reason) = refusal(&group.shared, &own) else {
            self.groups[at].rows.push(Own { id, ..own });
            return;
        };
        *self.refused.entry(format!("{}: {reason}", group.shared.metric)).or_default() += 1;
        let shared = Row { status: Status::Failed, reason: Some(reason), ..group.shared.clone() };
        let at = self.group_of(&shared, own.is_by_worker());
        self.groups[at].rows.push(Own { id, value: None, ..own });
    }

    /// Place of the group of some shared columns.
    pub(crate) fn group_of(&mut self, shared: &Row, is_by_worker: bool) -> usize {
        let mut key = vec![u8::from(is_by_worker)];
        for column in SHARED {
            if let Some(cell) = shared.get(column) {
                key.extend(cell_text(cell).into_bytes());
            }
            // A separator that no text of a record holds.
            key.push(0);
        }
        if let Some(at) = self.places.get(&key) {
            return *at;
        }
        self.groups.push(Group { shared: shared.clone(), is_by_worker, rows: Vec::new() });
        self.places.insert(key, self.groups.len() - 1);
        self.groups.len() - 1
    }

    /// The study: names told apart, words and rows in order.
    pub(crate) fn finish(mut self) -> Study {
        let mut words: Vec<(String, u32)> = self.words.into_iter().collect();
        words.sort_unstable();
        let mut place = vec![0_u32; words.len()];
        for (at, (_, number)) in words.iter().enumerate() {
            place[*number as usize] = at as u32;
        }
        let words: Vec<String> = words.into_iter().map(|(text, _)| text).collect();
        for group in &mut self.groups {
            for row in &mut group.rows {
                row.doc = row.doc.map(|word| Word(place[word.0 as usize]));
                row.cluster = row.cluster.map(|word| Word(place[word.0 as usize]));
            }
            let key = |row: &Own| {
                (row.seed, row.trial, (row.block, row.pair, row.worker), row.eval_step, row.doc, row.arm as u8, row.id)
            };
            group.rows.sort_unstable_by_key(key);
        }
        tell_apart(&mut self.groups);
        for (what, count) in self.refused {
            self.warnings.push(format!("{what}; {count} rows are shown as failed"));
        }
        let schemas: BTreeSet<i32> = self.groups.iter().map(|group| group.shared.schema).collect();
        if schemas.len() > 1 {
            let found: Vec<String> = schemas.iter().map(ToString::to_string).collect();
            self.warnings
                .push(format!("rows of schemas {} in one report: times are compared within one schema only", found.join(", ")));
        }
        let mut groups: Vec<Arc<Group>> = self.groups.into_iter().map(Arc::new).collect();
        groups.sort_by_cached_key(|group| sort_key(group));
        let study = Study { words: Arc::new(words), warnings: self.warnings, ..Study::default() };
        study.with_groups(groups)
    }
}

/// First half of an id; one that is no hash is hashed.
fn id_of(record_id: &str) -> u128 {
    let half = |hex: &str| hex.get(..32).and_then(|hex| u128::from_str_radix(hex, 16).ok());
    half(record_id).or_else(|| half(&sha256_hex(record_id.as_bytes()))).unwrap_or_default()
}

/// Why a row that claims to be ok has no number to show.
fn refusal(shared: &Row, own: &Own) -> Option<String> {
    if shared.status != Status::Ok {
        return None;
    }
    let Some(value) = own.value else { return Some("refused: status ok without a value".to_owned()) };
    if !value.is_finite() {
        return Some(format!("refused: not a finite number: {value}"));
    }
    let is_size = matches!(shared.unit.as_str(), "s" | "bytes" | "params" | "FLOP") || shared.unit.ends_with("/s");
    // Added parameters are a difference.
    if value < 0.0 && is_size && !shared.metric.starts_with("params_added") && !shared.metric.ends_with("_delta_bytes") {
        let why = if shared.unit == "s" { "a negative duration, the clock went backwards" } else { "a negative size" };
        return Some(format!("refused: {why}: {value} {}", shared.unit));
    }
    None
}

/// Extends subject names that stand for several configurations by what differs among them.
fn tell_apart(groups: &mut [Group]) {
    let mut found: BTreeMap<String, Vec<BTreeSet<String>>> = BTreeMap::new();
    for group in groups.iter() {
        if let Some(subject) = &group.shared.subject {
            let sets = found.entry(subject.clone()).or_insert_with(|| vec![BTreeSet::new(); CONFIGURATION.len()]);
            for ((column, _), set) in CONFIGURATION.iter().zip(sets) {
                set.extend(text_of(&group.shared, column));
            }
        }
    }
    for group in groups.iter_mut() {
        let Some(subject) = group.shared.subject.clone() else { continue };
        let mut name = subject.clone();
        for ((column, prefix), set) in CONFIGURATION.iter().zip(&found[&subject]) {
            if set.len() > 1
                && let Some(text) = text_of(&group.shared, column)
            {
                name.push_str(&format!("-{prefix}{text}"));
            }
        }
        group.shared.subject = Some(name);
    }
    // What no column tells apart: two training runs of one seed and name whose configs hash differently.
    let mut hashes: BTreeMap<String, BTreeMap<i64, BTreeSet<String>>> = BTreeMap::new();
    for group in groups.iter() {
        if let (Some(subject), Some(hash)) = (&group.shared.subject, config_hash(&group.shared)) {
            let seeds = hashes.entry(subject.clone()).or_default();
            for row in &group.rows {
                seeds.entry(row.seed.unwrap_or(0)).or_default().insert(hash.to_owned());
            }
        }
    }
    for group in groups.iter_mut() {
        if let (Some(subject), Some(hash)) = (&group.shared.subject, config_hash(&group.shared))
            && hashes[subject].values().any(|hashes| hashes.len() > 1)
        {
            group.shared.subject = Some(format!("{subject}-config {hash}"));
        }
    }
}

fn text_of(row: &Row, column: &str) -> Option<String> {
    row.get(column).filter(|cell| *cell != CellRef::Null).map(cell_text)
}

/// The config hash in the id of a training run: `name/1a2b3c4d-s0`.
fn config_hash(row: &Row) -> Option<&str> {
    if row.kind == RecordKind::Document || row.task.is_some() {
        return None;
    }
    let (hash, seed) = row.run_id.rsplit_once('/')?.1.split_once("-s")?;
    let is_hash = hash.len() == 8 && hash.chars().all(|c| c.is_ascii_hexdigit()) && seed.parse::<i64>().is_ok();
    is_hash.then_some(hash)
}
