//! `Measurement`: the typed form of a row, in which impossible combinations cannot be written.
//!
//! ```text
//! Row (flat, nullable)  <-- From --  Measurement (typed)
//!                       -- TryFrom -->   refused: ok without a value, failure with a value or without a reason
//! ```
//! A probe or task builds measurements; the store writes rows; reports read rows. The groups ([`Identity`], [`Cell`], …) are the
//! row's own column groups, so a column is named once.
//!
//! Source: architecture.md section 4, measurement.md section 14.

use crate::column::{InnerStat, Status};
use crate::error::RecordError;
use crate::metric::Metric;
use crate::row::{Build, Cell, Contention, Design, Detail, Host, Identity, Inputs, Quality, Row, Shape, Window};

/// Why a measurement has no value; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// A reason in words; an empty text becomes `unknown`.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self(if text.trim().is_empty() { "unknown".to_owned() } else { text })
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How one value was made of inner iterations or documents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inner {
    /// Median, mean, maximum, total or exact.
    pub stat: Option<InnerStat>,
    /// Of how many.
    pub n: Option<u64>,
    /// Coefficient of variation of the iterations.
    pub cv: Option<f64>,
    /// Every iteration, when kept.
    pub raw: Option<Vec<f64>>,
    /// Standard error over documents.
    pub stderr: Option<f64>,
    /// The same, clustered.
    pub stderr_clustered: Option<f64>,
}

/// How a measurement ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With a value in the metric's unit.
    Ok {
        /// The number.
        value: f64,
        /// How it was made.
        inner: Inner,
    },
    /// With an error.
    Failed(Reason),
    /// Killed at its time limit.
    Timeout(Reason),
    /// Ran out of memory.
    OutOfMemory(Reason),
    /// Not attempted.
    Skipped(Reason),
}

impl Outcome {
    /// An exact value: counted, not sampled.
    pub fn exact(value: f64) -> Self {
        Self::Ok { value, inner: Inner { stat: Some(InnerStat::Exact), n: Some(1), ..Inner::default() } }
    }

    /// A value that is `stat` over `n` iterations or documents.
    pub fn of(value: f64, stat: InnerStat, n: u64) -> Self {
        Self::Ok { value, inner: Inner { stat: Some(stat), n: Some(n), ..Inner::default() } }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<f64> {
        if let Self::Ok { value, .. } = self { Some(*value) } else { None }
    }
}

/// One measured number with its conditions, typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Which row.
    pub identity: Identity,
    /// What was measured.
    pub cell: Cell,
    /// Shape of the model and the work.
    pub shape: Shape,
    /// Place in the design.
    pub design: Design,
    /// Name, unit, direction.
    pub metric: Metric,
    /// Value or failure.
    pub outcome: Outcome,
    /// Quality columns, when it is a score.
    pub quality: Option<Quality>,
    /// Warm-up and timed window, when it was timed.
    pub window: Option<Window>,
    /// Contention evidence, when observed.
    pub contention: Option<Contention>,
    /// How it was read.
    pub detail: Option<Detail>,
    /// The machine, unless the manifest says it.
    pub host: Option<Host>,
    /// The program, unless the manifest says it.
    pub build: Option<Build>,
    /// What went in, unless the manifest says it.
    pub inputs: Option<Inputs>,
    /// Free words.
    pub notes: Option<String>,
}

impl Measurement {
    /// A measurement with everything else empty.
    pub fn new(metric: Metric, outcome: Outcome) -> Self {
        let empty = Row::default();
        Self {
            identity: empty.identity(),
            cell: Cell::default(),
            shape: Shape::default(),
            design: Design::default(),
            metric,
            outcome,
            quality: None,
            window: None,
            contention: None,
            detail: None,
            host: None,
            build: None,
            inputs: None,
            notes: None,
        }
    }
}

impl From<Measurement> for Row {
    fn from(m: Measurement) -> Self {
        let mut row = Row { notes: m.notes, better: m.metric.better, ..Row::default() };
        row.metric = m.metric.name.into();
        row.unit = m.metric.unit.into();
        m.identity.apply(&mut row);
        m.cell.apply(&mut row);
        m.shape.apply(&mut row);
        m.design.apply(&mut row);
        m.quality.unwrap_or_default().apply(&mut row);
        m.window.unwrap_or_default().apply(&mut row);
        m.contention.unwrap_or_default().apply(&mut row);
        m.detail.unwrap_or_default().apply(&mut row);
        m.host.unwrap_or_default().apply(&mut row);
        m.build.unwrap_or_default().apply(&mut row);
        m.inputs.unwrap_or_default().apply(&mut row);
        let (status, reason) = match m.outcome {
            Outcome::Ok { value, inner } => {
                row.value = Some(value);
                row.inner_stat = inner.stat;
                row.inner_n = inner.n;
                row.inner_cv = inner.cv;
                row.raw_samples = inner.raw;
                row.stderr = inner.stderr;
                row.stderr_clustered = inner.stderr_clustered;
                (Status::Ok, None)
            }
            Outcome::Failed(reason) => (Status::Failed, Some(reason)),
            Outcome::Timeout(reason) => (Status::Timeout, Some(reason)),
            Outcome::OutOfMemory(reason) => (Status::Oom, Some(reason)),
            Outcome::Skipped(reason) => (Status::Skipped, Some(reason)),
        };
        row.status = status;
        row.reason = reason.map(|reason| reason.0);
        row
    }
}

/// `None` for a group in which every column is missing.
fn unless_empty<G: Default + PartialEq>(group: G) -> Option<G> {
    if group == G::default() { None } else { Some(group) }
}

impl TryFrom<Row> for Measurement {
    type Error = RecordError;

    /// # Errors
    /// When the row contradicts itself, see [`Row::check`].
    fn try_from(row: Row) -> Result<Self, RecordError> {
        row.check()?;
        let reason = Reason::new(row.reason.clone().unwrap_or_default());
        let outcome = match (row.status, row.value) {
            (Status::Ok, Some(value)) => Outcome::Ok {
                value,
                inner: Inner {
                    stat: row.inner_stat,
                    n: row.inner_n,
                    cv: row.inner_cv,
                    raw: row.raw_samples.clone(),
                    stderr: row.stderr,
                    stderr_clustered: row.stderr_clustered,
                },
            },
            (Status::Timeout, _) => Outcome::Timeout(reason),
            (Status::Oom, _) => Outcome::OutOfMemory(reason),
            (Status::Skipped, _) => Outcome::Skipped(reason),
            (Status::Failed | Status::Ok, _) => Outcome::Failed(reason),
        };
        Ok(Self {
            identity: row.identity(),
            cell: row.cell(),
            shape: row.shape(),
            design: row.design(),
            metric: Metric::owned(&row.metric, &row.unit, row.better),
            outcome,
            quality: unless_empty(row.quality()),
            window: unless_empty(row.window()),
            contention: unless_empty(row.contention()),
            detail: unless_empty(row.detail()),
            host: unless_empty(row.host()),
            build: unless_empty(row.build()),
            inputs: unless_empty(row.inputs()),
            notes: row.notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric;

    #[test]
    fn a_failed_measurement_becomes_a_row_without_a_value() {
        let row: Row = Measurement::new(metric::TTFT_S, Outcome::Timeout(Reason::new("600 s"))).into();
        assert_eq!((row.status, row.value, row.reason.as_deref()), (Status::Timeout, None, Some("600 s")));
        assert_eq!((row.metric.as_str(), row.unit.as_str()), ("ttft_s", "s"));
    }

    #[test]
    fn an_ok_row_without_a_value_is_refused() {
        let row = Row { metric: "ttft_s".into(), ..Row::default() };
        let message = Measurement::try_from(row).unwrap_err().to_string();
        assert_eq!(message, "inconsistent row of metric `ttft_s`: status `ok` without a value");
    }
}
