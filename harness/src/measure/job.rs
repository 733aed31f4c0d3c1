//! The order a worker reads from stdin, and the columns of every row it writes.
//!
//! One job is one cell measured once: a probe on a subject, with its place in the design. Parent and worker build rows from the same
//! [`Job::base_row`], so a row of a worker that was killed has the same cell as one that finished.

use super::probes::{self, Probe, Work};
use super::subject::{Reference, Subject, Workload};
use super::window::WindowSpec;
use crate::config::RunConfig;
use crate::train::{image_rows, rows};
use anyhow::anyhow;
use records::{CellId, Design, InnerStat, Measurement, Row, Status};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a row says about machine, program and run; the manifest has the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The measuring run.
    pub run_id: String,
    /// The suite that asked.
    pub suite: String,
    /// Hash of the machine.
    pub host_fingerprint: Option<String>,
    /// `dev` or `release`.
    pub cargo_profile: Option<String>,
    /// Hash of the executable that measures.
    pub binary_sha256: Option<String>,
    /// Hash of the subject's config, before the workload changed its shape.
    pub config_sha256: String,
    /// Hash of the weights, if they are not the initial ones.
    pub checkpoint_sha256: Option<String>,
}

/// One measurement to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The probe's name.
    pub probe: String,
    /// The subject, workload applied.
    pub config: RunConfig,
    /// Folder that the config's paths are relative to.
    pub root: PathBuf,
    /// Sizes of the work.
    pub workload: Workload,
    /// Weights instead of initial ones.
    pub checkpoint: Option<PathBuf>,
    /// What the subject is compared with.
    pub reference: Option<Reference>,
    /// How long to measure.
    pub window: WindowSpec,
    /// Threads of the worker's pool.
    pub threads: usize,
    /// Place in the experiment.
    pub design: Design,
    /// Where the number comes from.
    pub provenance: Provenance,
}

impl Job {
    /// The probe.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn probe(&self) -> anyhow::Result<&'static dyn Probe> {
        probes::by_name(&self.probe).ok_or_else(|| anyhow!("unknown probe: `{}`", self.probe))
    }

    /// The subject in its worker.
    pub fn subject(&self) -> Subject {
        Subject {
            config: self.config.clone().with_root(self.root.clone()),
            workload: self.workload.clone(),
            checkpoint: self.checkpoint.clone(),
            reference: self.reference.clone(),
        }
    }

    /// A row with every column but the number's own.
    ///
    /// # Errors
    /// When the probe is unknown.
    pub fn base_row(&self) -> anyhow::Result<Row> {
        let probe = self.probe()?;
        let mut row = match &self.config {
            RunConfig::Language(config) => rows::base_row(config, self.threads),
            RunConfig::Images(config) => image_rows::base_row(config, self.threads),
        };
        if probe.work() != Work::Training {
            let trained = row.batch.take();
            (row.sequence_length, row.grad_accum, row.optimizer) = (None, None, None);
            if probe.work() != Work::Nothing {
                row.dtype = Some(self.workload.inference_dtype.as_str().to_owned());
            }
            match (&self.config, probe.work()) {
                (_, Work::Nothing | Work::Training) | (RunConfig::Language(_), Work::Picture | Work::Pictures) => {}
                (RunConfig::Language(_), work) => {
                    row.batch = Some(self.workload.batch as u64);
                    row.prompt_length = Some(self.workload.prompt_length as u64);
                    row.output_length = (work != Work::Prompt).then_some(self.workload.output_length as u64);
                }
                (RunConfig::Images(_), work) => {
                    row.batch = if work == Work::Picture { Some(1) } else { trained };
                    // A folded network computes in the format of its weights.
                    row.numerics = Some(self.workload.inference_dtype.numerics());
                }
            }
        }
        // Counts belong to the subject, not to a workload: without a task they pair by seed with those of training runs.
        row.task = (!probe.is_exact()).then(|| probe.name().to_owned());
        row.reference_variant = self.reference.as_ref().map(|reference| reference.variant.clone());
        let from = self.provenance.clone();
        row.suite = Some(from.suite);
        row.run_id = from.run_id;
        row.host_fingerprint = from.host_fingerprint;
        row.cargo_profile = from.cargo_profile;
        row.binary_sha256 = from.binary_sha256;
        row.config_sha256 = Some(from.config_sha256);
        row.checkpoint_sha256 = from.checkpoint_sha256;
        Design { seed: row.seed, ..self.design.clone() }.apply(&mut row);
        row.cell_id = Some(CellId::of(&row).into());
        Ok(row)
    }

    /// A measurement of this job as a row.
    ///
    /// # Errors
    /// When the probe is unknown.
    pub fn row(&self, measurement: Measurement) -> anyhow::Result<Row> {
        let base = self.base_row()?;
        let (host, build, inputs) = (Some(base.host()), Some(base.build()), Some(base.inputs()));
        let is_synthetic = matches!(self.config, RunConfig::Images(_)) && !self.probe()?.is_exact();
        let row = Row::from(Measurement {
            identity: base.identity(),
            cell: base.cell(),
            shape: base.shape(),
            design: base.design(),
            host,
            build,
            inputs,
            notes: measurement.notes.or_else(|| is_synthetic.then(|| "pictures of seeded normal numbers".to_owned())),
            ..measurement
        });
        Ok(row.seal())
    }

    /// Rows of a job that gave no numbers: one per metric of its probe, so that every empty cell of a table has its reason.
    ///
    /// # Errors
    /// When the probe is unknown.
    pub fn failure_rows(&self, status: Status, reason: &str) -> anyhow::Result<Vec<Row>> {
        let base = self.base_row()?;
        let rows = self.probe()?.metrics_of(&self.config).into_iter().map(|metric| {
            let row = Row {
                metric: metric.name.into(),
                unit: metric.unit.into(),
                better: metric.better,
                inner_stat: None::<InnerStat>,
                status,
                reason: Some(reason.to_owned()),
                ..base.clone()
            };
            row.seal()
        });
        Ok(rows.collect())
    }
}
