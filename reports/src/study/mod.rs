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

mod builder;
mod names;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use records::ids::cell_text;
use records::{Arm, Row, Status};

pub(crate) use builder::{SHARED, StudyBuilder};

use crate::error::ReportError;
use crate::frame::Records;

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
        for row in rows {
            builder.add(row);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_once_and_groups_share_their_columns() {
        let row = |seed: i64, value: f64| Row {
            subject: Some("s".into()),
            metric: "val_loss".into(),
            seed: Some(seed),
            value: Some(value),
            ..Row::default()
        };
        let study = Study::new(vec![row(1, 0.5), row(0, 0.25), row(1, 0.5)]);
        assert_eq!((study.len(), study.groups().count()), (2, 1));
        let seeds: Vec<Option<i64>> = study.rows().map(|row| row.own.seed).collect();
        assert_eq!(seeds, [Some(0), Some(1)]);
        assert_eq!(study.of_subject("s", "val_loss").count(), 1);
    }
}
