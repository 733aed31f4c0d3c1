//! Subject names that say which configuration they are, where one name stands for several.
//!
//! ```text
//! lm-tiny-rw+lr at ranks 4 and 16     ->  lm-tiny-rw+lr-r4, lm-tiny-rw+lr-r16          by the columns that differ
//! two configs that no column tells    ->  lm-tiny-rw-config 1a2b3c4d                   by the config hash in the run id
//! ```
//! A sweep's cells share their config's name; pooled, they would give one number that belongs to no model.
//!
//! Source: architecture.md section 8 (run ids).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use records::ids::cell_text;
use records::{CellRef, RecordKind, Row};

use super::Group;

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

/// Extends subject names that stand for several configurations by what differs among them.
pub(super) fn tell_apart(groups: &mut [Group]) {
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
                let _ = write!(name, "-{prefix}{text}");
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

/// The config hash in the id of a training run: `name/1a2b3c4d-s0`. Counts that `measure` takes have a suite: their run is the
/// measuring one, whose hash is that of the machine and build.
fn config_hash(row: &Row) -> Option<&str> {
    if row.kind == RecordKind::Document || row.task.is_some() || row.suite.is_some() {
        return None;
    }
    let (hash, seed) = row.run_id.rsplit_once('/')?.1.split_once("-s")?;
    let is_hash = hash.len() == 8 && hash.chars().all(|c| c.is_ascii_hexdigit()) && seed.parse::<i64>().is_ok();
    is_hash.then_some(hash)
}
