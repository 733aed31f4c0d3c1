//! Rows into a study: split into shared and own columns, each record once, checked, sorted.
//!
//! A value that cannot be one turns its row into a failed one with the reason; see [`refusal`].
//!
//! Source: measurement.md sections 5 and 14.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use records::ids::sha256_hex;
use records::{Row, Status};

use super::names::tell_apart;
use super::{Group, Own, Study, Word, sort_key};

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

/// Record ids are parts of hashes already, so half of one is as good a hash as any.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }
}

/// Collects rows into groups.
#[derive(Debug, Default)]
pub(crate) struct StudyBuilder {
    groups: Vec<Group>,
    places: HashMap<Vec<u8>, usize>,
    words: HashMap<String, u32>,
    seen: HashSet<u128, BuildHasherDefault<IdHasher>>,
    warnings: Vec<String>,
    refused: BTreeMap<String, usize>,
}

impl StudyBuilder {
    /// Notes what was odd about a file.
    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Makes room for so many more rows.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.seen.reserve(rows);
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
        let mut row = if row.record_id.is_empty() { row.seal() } else { row };
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
        let record_id = std::mem::take(&mut row.record_id);
        let at = self.group_of(&shared_of(row), own.is_by_worker());
        self.insert(&record_id, own, at);
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
        let mut key = serde_json::to_vec(shared).expect("a row holds only strings, numbers and lists");
        key.push(u8::from(is_by_worker));
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

/// The shared columns of a row, everything else empty; the columns are those of [`SHARED`].
fn shared_of(row: Row) -> Row {
    Row {
        schema: row.schema,
        run_id: row.run_id,
        source: row.source,
        kind: row.kind,
        suite: row.suite,
        task: row.task,
        subject: row.subject,
        variant: row.variant,
        reference_variant: row.reference_variant,
        tier: row.tier,
        model_family: row.model_family,
        num_hidden_layers: row.num_hidden_layers,
        hidden_size: row.hidden_size,
        num_attention_heads: row.num_attention_heads,
        vocab_size: row.vocab_size,
        image_size: row.image_size,
        residual_placement: row.residual_placement,
        residual_mix: row.residual_mix,
        residual_augment: row.residual_augment,
        residual_rank: row.residual_rank,
        residual_lookback: row.residual_lookback,
        residual_post_norm: row.residual_post_norm,
        residual_init: row.residual_init,
        residual_gamma: row.residual_gamma,
        dtype: row.dtype,
        numerics: row.numerics,
        batch: row.batch,
        sequence_length: row.sequence_length,
        prompt_length: row.prompt_length,
        output_length: row.output_length,
        grad_accum: row.grad_accum,
        optimizer: row.optimizer,
        learning_rate: row.learning_rate,
        is_aa: row.is_aa,
        metric: row.metric,
        unit: row.unit,
        better: row.better,
        inner_stat: row.inner_stat,
        split: row.split,
        task_version: row.task_version,
        eval_profile: row.eval_profile,
        filter: row.filter,
        num_fewshot: row.num_fewshot,
        limit: row.limit,
        chance: row.chance,
        memory_reading: row.memory_reading,
        host_fingerprint: row.host_fingerprint,
        cpu_model: row.cpu_model,
        threads: row.threads,
        gpu_model: row.gpu_model,
        git_commit: row.git_commit,
        git_dirty: row.git_dirty,
        binary_sha256: row.binary_sha256,
        lockfile_sha256: row.lockfile_sha256,
        rustc: row.rustc,
        cargo_profile: row.cargo_profile,
        cargo_features: row.cargo_features,
        harness_version: row.harness_version,
        config_sha256: row.config_sha256,
        dataset: row.dataset,
        dataset_sha256: row.dataset_sha256,
        tokenizer_sha256: row.tokenizer_sha256,
        checkpoint_sha256: row.checkpoint_sha256,
        status: row.status,
        reason: row.reason,
        ..Row::default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use records::column::{CellValue, ColumnType};
    use records::ids::cell_text;
    use records::{Better, COLUMNS};

    #[test]
    fn the_shared_columns_are_those_of_the_list() {
        let mut row = Row { better: Better::Lower, is_aa: true, ..Row::default() };
        for column in COLUMNS {
            let cell = match column.ty {
                ColumnType::Str => CellValue::Str("x".into()),
                ColumnType::Int32 | ColumnType::Int64 => CellValue::Int(1),
                ColumnType::Float => CellValue::Float(1.0),
                ColumnType::Bool => CellValue::Bool(true),
                ColumnType::FloatList => CellValue::Floats(vec![1.0]),
            };
            // A vocabulary refuses the word and keeps what it has.
            let _ = row.set(column.name, cell);
        }
        let (shared, empty) = (shared_of(row.clone()), Row::default());
        for column in COLUMNS {
            let other = if SHARED.contains(&column.name) { &row } else { &empty };
            assert_eq!(shared.get(column.name).map(cell_text), other.get(column.name).map(cell_text), "{}", column.name);
        }
    }
}
