//! The provenance block of every artefact: what a sceptic needs to reproduce a number.
//!
//! ```text
//! commit (+ dirty), config and binary hashes, machine, threads, seeds, versions, tier, contended samples, A/A floor, command
//! ```
//! Everything is read from the records; there is no clock and no host inspection, so two renders agree byte for byte.
//!
//! Source: measurement.md section 15.

use std::collections::BTreeSet;

use records::{Row, Source, Status};
use serde::Serialize;

use crate::frame::Records;

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
    pub fn of(records: &Records, command: &str) -> Self {
        let rows: Vec<&Row> = records.rows().iter().filter(|row| row.source == Source::Measured).collect();
        let mut lines = Vec::new();
        let mut add = |key: &str, value: String| {
            if !value.is_empty() {
                lines.push((key.to_owned(), value));
            }
        };
        let texts = |get: fn(&Row) -> Option<&str>| distinct(rows.iter().filter_map(|row| get(row)));
        let hashes = |get: fn(&Row) -> Option<&str>| {
            joined(&distinct(rows.iter().filter_map(|row| get(row))).iter().map(|hash| short(hash)).collect::<Vec<_>>())
        };
        add("rows", rows.len().to_string());
        add("commit", hashes(|row| row.git_commit.as_deref()));
        let dirty = rows.iter().filter(|row| row.git_dirty == Some(true)).count();
        if dirty > 0 {
            add("uncommitted changes", format!("{dirty} of {} rows", rows.len()));
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
        let threads: BTreeSet<u64> = rows.iter().filter_map(|row| row.threads).collect();
        add("threads", joined(&threads.iter().map(u64::to_string).collect::<Vec<_>>()));
        let seeds: BTreeSet<i64> = rows.iter().filter_map(|row| row.seed).collect();
        add("seeds", joined_all(&seeds.iter().map(i64::to_string).collect::<Vec<_>>()));
        let tiers: BTreeSet<&str> = rows.iter().filter_map(|row| row.tier).map(records::Tier::as_str).collect();
        add("tier", joined(&tiers.iter().map(ToString::to_string).collect::<Vec<_>>()));
        let judged: Vec<bool> = rows.iter().filter_map(|row| row.contended).collect();
        if !judged.is_empty() {
            let contended = judged.iter().filter(|contended| **contended).count();
            add("contended", format!("{contended} of {} samples", judged.len()));
        }
        let failed = rows.iter().filter(|row| row.status != Status::Ok).count();
        if failed > 0 {
            add("not ok", format!("{failed} rows"));
        }
        for (metric, phi) in noise_floors(&rows) {
            add(&format!("A/A floor of {metric}"), format!("±{:.2} %", 100.0 * phi));
        }
        add("command", command.to_owned());
        Self { lines }
    }
}

/// Noise floor φ per metric from the A/A rows: pairs by run, block and pair.
pub fn noise_floors(rows: &[&Row]) -> Vec<(String, f64)> {
    let metrics: BTreeSet<&str> = rows.iter().filter(|row| row.is_aa).map(|row| row.metric.as_str()).collect();
    metrics
        .into_iter()
        .filter_map(|metric| {
            let selected: Vec<&Row> = rows.iter().copied().filter(|row| row.is_aa && row.metric == metric).collect();
            let differences = crate::gate::pairs::aa_differences(&selected);
            let floor = stats::gate::noise_floor(&differences).ok()?;
            Some((metric.to_owned(), floor.phi))
        })
        .collect()
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
