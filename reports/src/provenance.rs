//! The provenance block of every artefact: what a sceptic needs to reproduce a number.
//!
//! ```text
//! commit (+ dirty), config and binary hashes, machine, threads, seeds, versions, tier, contended samples, A/A floor, command
//! ```
//! Everything is read from the records; there is no clock and no host inspection, so two renders agree byte for byte.
//!
//! Source: measurement.md section 15.

use std::collections::{BTreeMap, BTreeSet};

use records::{Arm, Row, Source, Status};
use serde::Serialize;

use crate::study::{Group, Study};

/// How many characters of a hash are shown.
const SHORT: usize = 12;
/// How many distinct values of one key are spelled out.
const SHOWN: usize = 4;

/// Key and value lines, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Lines.
    pub lines: Vec<(String, String)>,
}

impl Provenance {
    /// The provenance of a set of records; `command` reproduces the artefact.
    pub fn of(study: &Study, command: &str) -> Self {
        let groups: Vec<&Group> = study.groups().filter(|group| group.shared.source == Source::Measured).collect();
        let mut lines = Vec::new();
        let mut add = |key: &str, value: String| {
            if !value.is_empty() {
                lines.push((key.to_owned(), value));
            }
        };
        let texts = |get: fn(&Row) -> Option<&str>| distinct(groups.iter().filter_map(|group| get(&group.shared)));
        let hashes = |get: fn(&Row) -> Option<&str>| {
            joined(
                &distinct(groups.iter().filter_map(|group| get(&group.shared)))
                    .iter()
                    .map(|hash| short(hash))
                    .collect::<Vec<_>>(),
            )
        };
        let count =
            |keep: fn(&Group) -> bool| -> usize { groups.iter().filter(|group| keep(group)).map(|group| group.rows.len()).sum() };
        let total = count(|_| true);
        add("rows", total.to_string());
        add("commit", hashes(|row| row.git_commit.as_deref()));
        let dirty = count(|group| group.shared.git_dirty == Some(true));
        if dirty > 0 {
            add("uncommitted changes", format!("{dirty} of {total} rows"));
        }
        add("harness", joined(&texts(|row| row.harness_version.as_deref())));
        add("binary", hashes(|row| row.binary_sha256.as_deref()));
        add("lock file", hashes(|row| row.lockfile_sha256.as_deref()));
        add("compiler", joined(&texts(|row| row.rustc.as_deref())));
        add("profile", joined(&texts(|row| row.cargo_profile.as_deref())));
        add("configs", hashes(|row| row.config_sha256.as_deref()));
        add("data", hashes(|row| row.dataset_sha256.as_deref()));
        add("machine", joined(&texts(|row| row.cpu_model.as_deref())));
        add("accelerator", joined(&texts(|row| row.gpu_model.as_deref())));
        add("fingerprint", joined(&texts(|row| row.host_fingerprint.as_deref())));
        let threads: BTreeSet<u64> = groups.iter().filter_map(|group| group.shared.threads).collect();
        add("threads", joined(&threads.iter().map(u64::to_string).collect::<Vec<_>>()));
        let seeds: BTreeSet<i64> = groups.iter().flat_map(|group| &group.rows).filter_map(|row| row.seed).collect();
        add("seeds", joined_all(&seeds.iter().map(i64::to_string).collect::<Vec<_>>()));
        let tiers: BTreeSet<&str> = groups.iter().filter_map(|group| group.shared.tier).map(records::Tier::as_str).collect();
        add("tier", joined(&tiers.iter().map(ToString::to_string).collect::<Vec<_>>()));
        let judged: Vec<bool> = groups.iter().flat_map(|group| &group.rows).filter_map(|row| row.contended).collect();
        if !judged.is_empty() {
            let contended = judged.iter().filter(|contended| **contended).count();
            add("contended", format!("{contended} of {} samples", judged.len()));
        }
        let failed = count(|group| group.shared.status != Status::Ok);
        if failed > 0 {
            add("not ok", format!("{failed} rows"));
        }
        for (metric, phi) in noise_floors(study) {
            add(&format!("A/A floor of {metric}"), format!("±{:.2} %", 100.0 * phi));
        }
        add("command", command.to_owned());
        Self { lines }
    }
}

/// Noise floor φ per metric from the A/A rows: pairs by run, block and pair.
pub fn noise_floors(study: &Study) -> BTreeMap<String, f64> {
    let mut pairs: BTreeMap<&str, BTreeMap<_, [Option<f64>; 2]>> = BTreeMap::new();
    for group in study.groups().filter(|group| group.shared.is_aa && group.is_ok()) {
        let metric = pairs.entry(&group.shared.metric).or_default();
        for row in group.rows.iter().filter(|row| row.trial.unwrap_or(0) == 0) {
            let side = usize::from(row.arm == Arm::B);
            metric.entry((&group.shared.run_id, row.block, row.pair)).or_default()[side] = row.value;
        }
    }
    let mut floors = BTreeMap::new();
    for (metric, pairs) in pairs {
        let ratios: Vec<f64> = pairs
            .values()
            .filter_map(|sides| Some((sides[0]?, sides[1]?)))
            .filter(|(a, b)| *a > 0.0 && *b > 0.0)
            .map(|(a, b)| (b / a).ln())
            .collect();
        if let Ok(floor) = stats::gate::noise_floor(&ratios) {
            floors.insert(metric.to_owned(), floor.phi);
        }
    }
    floors
}

fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<String> {
    values.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
}

fn short(hash: &str) -> String {
    hash.chars().take(SHORT).collect()
}

/// The first few values, and how many more there are.
fn joined(values: &[String]) -> String {
    if values.len() <= SHOWN {
        return joined_all(values);
    }
    format!("{} and {} more", values[..SHOWN].join(", "), values.len() - SHOWN)
}

fn joined_all(values: &[String]) -> String {
    values.join(", ")
}
