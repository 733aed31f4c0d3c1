//! A model card per trained subject: what it is, what it was trained on, how well it does, what it is not for.
//!
//! ```text
//! architecture · data · budget · hardware · metrics · limits · intended use · checksum
//! ```
//! Source: measurement.md section 15 ("Model card").

use std::collections::BTreeSet;
use std::fmt::Write as _;

use records::{CellRef, RecordKind, Tier, ids::cell_text};

use crate::conditions::one_condition;
use crate::error::ReportError;
use crate::escape::markdown as escape;
use crate::number::{Scale, estimate as shown};
use crate::study::{Group, Study};
use crate::subject::{Found, Query, Subject, estimate};

const ARCHITECTURE: [&str; 12] = [
    "model_family",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "vocab_size",
    "residual_placement",
    "residual_mix",
    "residual_augment",
    "residual_rank",
    "residual_lookback",
    "residual_post_norm",
    "dtype",
];
const DATA: [&str; 3] = ["dataset", "dataset_sha256", "tokenizer_sha256"];
const BUDGET: [&str; 4] = ["batch", "sequence_length", "grad_accum", "optimizer"];
const HARDWARE: [&str; 4] = ["cpu_model", "gpu_model", "threads", "numerics"];

/// The card of a subject, in Markdown.
///
/// # Errors
/// When an estimator refuses the values.
pub fn card(study: &Study, subject: &Subject) -> Result<String, ReportError> {
    let study = &one_condition(study).study;
    let is_of = |group: &&Group| group.shared.subject.as_deref() == Some(subject.name.as_str());
    let groups: Vec<&Group> = study.groups().filter(is_of).collect();
    let mut out = format!("# {}\n\nA {} model.\n", escape(&subject.name), escape(&subject.short_title()));
    section(&mut out, "Architecture", &groups, &ARCHITECTURE);
    section(&mut out, "Data", &groups, &DATA);
    section(&mut out, "Budget", &groups, &BUDGET);
    section(&mut out, "Hardware", &groups, &HARDWARE);
    let keys: BTreeSet<(Option<&str>, &str, Option<&str>)> = groups
        .iter()
        .filter(|group| group.rows.iter().any(|row| row.pair.is_none()) && group.shared.kind != RecordKind::Step)
        .map(|group| (group.shared.task.as_deref(), group.shared.metric.as_str(), group.shared.filter.as_deref()))
        .collect();
    out.push_str("\n## Metrics\n\n| Task | Metric | Value | n |\n|---|---|--:|---|\n");
    for (task, metric, filter) in keys {
        let Found::Number(found) = estimate(study, subject, Query { metric, task, filter })? else { continue };
        let scale = Scale::of(&found.unit, [found.value]);
        let text = shown(found.value / scale.divisor, found.half_width().map(|half| half / scale.divisor));
        let metric = filter.map_or_else(|| metric.to_owned(), |filter| format!("{metric}, {filter}"));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} {} |",
            escape(task.unwrap_or("—")),
            escape(&metric),
            escape(format!("{text} {}", scale.unit).trim_end()),
            found.n,
            found.basis.as_str()
        );
    }
    out.push_str("\n## Limits and intended use\n\n");
    if groups.iter().any(|group| group.shared.tier == Some(Tier::Demo)) {
        out.push_str(
            "Demonstration tier: a tiny model on bundled text. Its scores show that the pipeline works and how variants compare at this \
             scale; they say nothing about larger models.\n",
        );
    }
    out.push_str(
        "For comparing residual variants under equal conditions. Not for use in a product, and not evaluated for safety.\n",
    );
    let checksums: BTreeSet<&str> = groups.iter().filter_map(|group| group.shared.checkpoint_sha256.as_deref()).collect();
    if !checksums.is_empty() {
        out.push_str("\n## Checksums of the weights\n\n");
        for checksum in checksums {
            let _ = writeln!(out, "- {}", escape(checksum));
        }
    }
    Ok(out)
}

fn section(out: &mut String, title: &str, groups: &[&Group], columns: &[&str]) {
    let mut lines = String::new();
    for column in columns {
        let values: BTreeSet<String> = groups
            .iter()
            .filter_map(|group| group.shared.get(column))
            .filter(|cell| *cell != CellRef::Null)
            .map(cell_text)
            .collect();
        if !values.is_empty() {
            let joined = values.into_iter().collect::<Vec<_>>().join(", ");
            let _ = writeln!(lines, "- {}: {}", escape(column), escape(&joined));
        }
    }
    if !lines.is_empty() {
        let _ = write!(out, "\n## {title}\n\n{lines}");
    }
}
