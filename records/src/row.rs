//! `Row`: one measured number with its conditions, flat, as it is written to disk.
//!
//! ```text
//! {"schema":1,"record_id":"9f…","run_id":"lm-tiny-rw/1a2b3c4d-s0","metric":"train_step_s","value":0.0123,"unit":"s","better":"lower",…}
//! ```
//! Every column is declared once, in the `columns!` list below; the flat struct, the typed groups ([`Cell`], [`Host`], …), the
//! table schema ([`COLUMNS`]) and the conversions all come from that list. In JSON a missing value is left out (read: null), and
//! unknown columns are ignored, so an older reader takes a newer file of the same `schema`.
//!
//! `record_id = hex(sha256(canonical JSON of the row without record_id))`, canonical meaning keys sorted and nulls left out.
//!
//! Six columns extend the list of measurement.md section 14: `residual_init`, `residual_gamma` and `learning_rate` (what a sweep may vary
//! beside the shape), `stderr` and `stderr_clustered` (standard error of an aggregate
//! score over documents, plain and clustered; `inner_n` is the number of documents), and `derived_from` (for `derived` rows, the
//! hash over the sorted `record_id`s of the inputs, [`crate::ids::hash_of_inputs`]).
//!
//! Source: measurement.md section 14.

use serde::{Deserialize, Serialize};

use crate::column::{
    Arm, Better, CellRef, CellValue, ColumnType, EvalProfile, Field, InnerStat, Numerics, RecordKind, Source, Status, Tier,
};
use crate::error::RecordError;
use crate::ids::sha256_hex;

/// Newest schema this build writes and reads.
pub const SCHEMA: i32 = 1;

/// One column of the table form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name: the struct field, the JSON key and the table column.
    pub name: &'static str,
    /// Storage type.
    pub ty: ColumnType,
    /// The group it belongs to.
    pub group: Group,
}

macro_rules! columns {
    ($( $(#[$group_doc:meta])* $group:ident as $accessor:ident {
        $( $(#[$doc:meta])* $name:ident : $ty:ty ),* $(,)?
    } )*) => {
        /// One measured number with its conditions; see the module page. Build with struct update: `Row { metric, ..Row::default() }`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Row {
            $($( $(#[$doc])* #[serde(skip_serializing_if = "Field::is_null")] pub $name: $ty, )*)*
        }

        /// A named group of columns.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Group { $( $(#[$group_doc])* $group ),* }

        impl Default for Row {
            /// An empty measured sample of the current schema.
            fn default() -> Self {
                let mut row = Self { $($( $name: Default::default(), )*)* };
                row.schema = SCHEMA;
                row
            }
        }

        $(
            $(#[$group_doc])*
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            #[serde(default)]
            pub struct $group {
                $( $(#[$doc])* #[serde(skip_serializing_if = "Field::is_null")] pub $name: $ty, )*
            }

            impl $group {
                /// Writes this group's columns into a row.
                pub fn apply(self, row: &mut Row) {
                    $( row.$name = self.$name; )*
                }
            }
        )*

        impl Row {
            $(
                /// This group's columns, copied out.
                pub fn $accessor(&self) -> $group {
                    $group { $( $name: self.$name.clone() ),* }
                }
            )*

            /// Cell of a column by name; `None` when there is no such column.
            pub fn get(&self, column: &str) -> Option<CellRef<'_>> {
                match column {
                    $($( stringify!($name) => Some(Field::cell(&self.$name)), )*)*
                    _ => None,
                }
            }

            /// Sets a column by name.
            ///
            /// # Errors
            /// When there is no such column, or the cell is of another type.
            pub fn set(&mut self, column: &str, cell: CellValue) -> Result<(), RecordError> {
                let found = format!("{cell:?}");
                match column {
                    $($( stringify!($name) => match Field::from_cell(cell) {
                        Some(value) => { self.$name = value; Ok(()) }
                        None => Err(RecordError::Column {
                            column: column.to_owned(),
                            expected: stringify!($ty).to_owned(),
                            found,
                        }),
                    }, )*)*
                    _ => Err(RecordError::Column { column: column.to_owned(), expected: "a column of schema 1".to_owned(), found }),
                }
            }
        }

        /// Every column, in file order.
        pub const COLUMNS: &[Column] = &[
            $($( Column { name: stringify!($name), ty: <$ty as Field>::TYPE, group: Group::$group }, )*)*
        ];
    };
}

columns! {
    /// Which row this is.
    Identity as identity {
        /// Schema of the row, [`SCHEMA`].
        schema: i32,
        /// Hash of the row without it; empty until [`Row::seal`].
        record_id: String,
        /// Run that produced it.
        run_id: String,
        /// Measured here, published, or imported.
        source: Source,
        /// Sample, document, step or derived.
        kind: RecordKind,
        /// For derived rows: hash over the sorted `record_id`s of the inputs.
        derived_from: Option<String>,
    }
    /// What was measured.
    Cell as cell {
        /// Suite that asked for it.
        suite: Option<String>,
        /// Quality task, or workload of a probe.
        task: Option<String>,
        /// Named training config: variant, shape and recipe.
        subject: Option<String>,
        /// Architecture choice: `plain`, `rw+lr`, …
        variant: Option<String>,
        /// Variant (or subject) that `params_added` and ratios refer to.
        reference_variant: Option<String>,
        /// Demo or full size.
        tier: Option<Tier>,
        /// Hash of the cell columns, [`crate::CellId`].
        cell_id: Option<String>,
    }
    /// Shape of the model and of the work.
    Shape as shape {
        /// `decoder`, `resnet`, …
        model_family: Option<String>,
        /// N.
        num_hidden_layers: Option<u64>,
        /// D.
        hidden_size: Option<u64>,
        /// H.
        num_attention_heads: Option<u64>,
        /// V.
        vocab_size: Option<u64>,
        /// Side of the square input image, pixels.
        image_size: Option<u64>,
        /// `layer`, `attention`, `mlp` or `both`.
        residual_placement: Option<String>,
        /// `free`, `softmax2`, …
        residual_mix: Option<String>,
        /// Augmentation terms, `+`-joined.
        residual_augment: Option<String>,
        /// r.
        residual_rank: Option<u64>,
        /// k.
        residual_lookback: Option<u64>,
        /// `none` or `rms`.
        residual_post_norm: Option<String>,
        /// How the low-rank `down` starts: `column-orthogonal`, `xavier`, …
        residual_init: Option<String>,
        /// `learned` or `fixed`: the weights of earlier activations.
        residual_gamma: Option<String>,
        /// Type of weights and activations.
        dtype: Option<String>,
        /// How f32 matrix products are computed.
        numerics: Option<Numerics>,
        /// Sequences or images per step.
        batch: Option<u64>,
        /// T, training.
        sequence_length: Option<u64>,
        /// Prompt tokens, inference.
        prompt_length: Option<u64>,
        /// Generated tokens, inference.
        output_length: Option<u64>,
        /// Micro-batches per optimizer step.
        grad_accum: Option<u64>,
        /// Optimizer name.
        optimizer: Option<String>,
        /// Peak learning rate.
        learning_rate: Option<f64>,
    }
    /// Place in the experiment's design.
    Design as design {
        /// Fixes weights, data order and augmentation; pairs variants.
        seed: Option<i64>,
        /// Training run of a cell, from 0.
        trial: Option<u32>,
        /// Side of a comparison.
        arm: Arm,
        /// ABBA block, from 0.
        block: Option<u32>,
        /// Pair of neighbouring A and B workers, from 0.
        pair: Option<u32>,
        /// 0 for the worker that ran first in its pair.
        order_in_pair: Option<u32>,
        /// Measuring process, from 0.
        worker: Option<u32>,
        /// Both arms are the same: noise-floor control.
        is_aa: bool,
    }
    /// The number.
    Value as value_group {
        /// Metric name.
        metric: String,
        /// The number, in `unit`; null when `status` is not ok.
        value: Option<f64>,
        /// SI base unit, or `%` for `_pct`.
        unit: String,
        /// Direction of improvement.
        better: Better,
        /// How the number was made.
        inner_stat: Option<InnerStat>,
        /// Of how many iterations or documents.
        inner_n: Option<u64>,
        /// Coefficient of variation of the inner iterations.
        inner_cv: Option<f64>,
        /// Every iteration, when asked for.
        raw_samples: Option<Vec<f64>>,
        /// Standard error of an aggregate score over documents, in `unit`.
        stderr: Option<f64>,
        /// The same, clustered by `cluster_id`.
        stderr_clustered: Option<f64>,
    }
    /// Quality scores only.
    Quality as quality {
        /// Stable document id.
        doc_id: Option<String>,
        /// Documents that share a text share a cluster.
        cluster_id: Option<String>,
        /// Data split.
        split: Option<String>,
        /// Training step the score was taken at.
        eval_step: Option<u64>,
        /// Hash of the prediction.
        prediction_hash: Option<String>,
        /// Version of the task definition.
        task_version: Option<String>,
        /// Canonical or compat conventions.
        eval_profile: Option<EvalProfile>,
        /// Answer filter, where a task has several.
        filter: Option<String>,
        /// Examples in the prompt.
        num_fewshot: Option<u64>,
        /// Documents used, if not all.
        limit: Option<u64>,
        /// Expected score of a trivial answerer.
        chance: Option<f64>,
    }
    /// Warm-up and timed window of a worker.
    Window as window {
        /// Iterations before timing.
        warmup_iters: Option<u64>,
        /// Seconds before timing.
        warmup_s: Option<f64>,
        /// Whether the warm-up rule was met before its cap.
        warmup_converged: Option<bool>,
        /// Iterations timed.
        timed_iters: Option<u64>,
        /// Length of the timed window, seconds.
        timed_s: Option<f64>,
        /// Start of the window, UTC, RFC 3339.
        start_utc: Option<String>,
    }
    /// Evidence that something else used the machine.
    Contention as contention {
        /// Pressure-stall `some` total over the window, µs.
        psi_cpu_some_us: Option<u64>,
        /// Stolen time over the window, ms.
        steal_ms: Option<u64>,
        /// Involuntary context switches over the window.
        ctx_switch_invol: Option<u64>,
        /// Major page faults over the window.
        major_faults: Option<u64>,
        /// One-minute load average.
        load1: Option<f64>,
        /// Pressure above 5 % of wall time × cores, or steal above 1 % of wall time.
        contended: Option<bool>,
    }
    /// How a time, count or memory figure was read.
    Detail as detail {
        /// `in-process` here.
        ttft_scope: Option<String>,
        /// `2x-mac` here.
        flops_convention: Option<String>,
        /// Allocator of the worker.
        allocator: Option<String>,
        /// Anonymous part of the resident size, bytes.
        rss_anon_bytes: Option<u64>,
        /// File-backed part of the resident size, bytes.
        rss_file_bytes: Option<u64>,
        /// `alloc`, `vmhwm`, `cgroup`, `pool`, `nvml`.
        memory_reading: Option<String>,
    }
    /// The machine. No host or user name.
    Host as host {
        /// Hash of the columns below, [`Host::fingerprint`].
        host_fingerprint: Option<String>,
        /// Model name of the CPU.
        cpu_model: Option<String>,
        /// Cores online.
        cpus_online: Option<u64>,
        /// Size of the compute thread pool.
        threads: Option<u64>,
        /// Processes in the collective.
        ranks: Option<u64>,
        /// Affinity mask, when pinned.
        affinity: Option<String>,
        /// Hypervisor, if any.
        virt: Option<String>,
        /// Memory of the machine, bytes.
        mem_total_bytes: Option<u64>,
        /// Kernel release.
        kernel: Option<String>,
        /// Operating system.
        os: Option<String>,
        /// Frequency governor.
        governor: Option<String>,
        /// Simultaneous multithreading state.
        smt: Option<String>,
        /// Transparent-huge-page mode.
        thp: Option<String>,
        /// Accelerator.
        gpu_model: Option<String>,
        /// Accelerator driver.
        gpu_driver: Option<String>,
        /// CUDA version.
        cuda: Option<String>,
    }
    /// The program.
    Build as build {
        /// Commit of the source.
        git_commit: Option<String>,
        /// Whether the tree had uncommitted changes.
        git_dirty: Option<bool>,
        /// Hash of the executable.
        binary_sha256: Option<String>,
        /// Hash of the lock file.
        lockfile_sha256: Option<String>,
        /// Compiler version.
        rustc: Option<String>,
        /// Target triple.
        target: Option<String>,
        /// `dev`, `release`, …
        cargo_profile: Option<String>,
        /// CPU features compiled in.
        target_features: Option<String>,
        /// Cargo features.
        cargo_features: Option<String>,
        /// Version of the harness.
        harness_version: Option<String>,
    }
    /// What went in.
    Inputs as inputs {
        /// Hash of the resolved config.
        config_sha256: Option<String>,
        /// Dataset name.
        dataset: Option<String>,
        /// Hash of the dataset files.
        dataset_sha256: Option<String>,
        /// Hash of the tokenizer file.
        tokenizer_sha256: Option<String>,
        /// Hash of the weights.
        checkpoint_sha256: Option<String>,
    }
    /// How it ended.
    Ending as ending {
        /// With a value, or how not.
        status: Status,
        /// Why not.
        reason: Option<String>,
        /// Free words for a reader.
        notes: Option<String>,
    }
}

impl Row {
    /// The row with its `record_id` filled in. Call last: any later change makes the id wrong.
    #[must_use]
    pub fn seal(mut self) -> Self {
        self.record_id = self.content_id();
        self
    }

    /// Hash of the row without its `record_id`, 64 hex digits.
    pub fn content_id(&self) -> String {
        sha256_hex(self.canonical_json().as_bytes())
    }

    /// The row as JSON with sorted keys, without nulls and without `record_id`.
    pub fn canonical_json(&self) -> String {
        let mut out = String::from("{");
        let mut names: Vec<&str> = COLUMNS.iter().map(|column| column.name).filter(|name| *name != "record_id").collect();
        names.sort_unstable();
        let serde_json::Value::Object(object) = serde_json::to_value(self).expect("a row holds only strings, numbers and lists")
        else {
            unreachable!("a struct serialises to an object")
        };
        for name in names {
            if let Some(value) = object.get(name) {
                if out.len() > 1 {
                    out.push(',');
                }
                out.push('"');
                out.push_str(name);
                out.push_str("\":");
                out.push_str(&value.to_string());
            }
        }
        out.push('}');
        out
    }

    /// Checks what a reader relies on: finite numbers, and a value exactly when the status is `ok`.
    ///
    /// # Errors
    /// [`RecordError::NotFinite`] or [`RecordError::Inconsistent`], naming the metric.
    pub fn check(&self) -> Result<(), RecordError> {
        for column in COLUMNS {
            let found = match self.get(column.name) {
                Some(CellRef::Float(value)) if !value.is_finite() => value,
                Some(CellRef::Floats(values)) => match values.iter().find(|value| !value.is_finite()) {
                    Some(value) => *value,
                    None => continue,
                },
                _ => continue,
            };
            return Err(RecordError::NotFinite { metric: self.metric.clone(), column: column.name, found });
        }
        let inconsistent = |what: &str| Err(RecordError::Inconsistent { metric: self.metric.clone(), what: what.to_owned() });
        match (self.status, self.value, &self.reason) {
            (Status::Ok, None, _) => inconsistent("status `ok` without a value"),
            (Status::Ok, Some(_), _) | (_, None, Some(_)) => Ok(()),
            (_, Some(_), _) => inconsistent("a status other than `ok` with a value"),
            (_, None, None) => inconsistent("a status other than `ok` without a reason"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_keys_and_leaves_nulls_out() {
        let row = Row { metric: "acc".into(), value: Some(0.5), unit: "fraction".into(), seed: Some(3), ..Row::default() };
        assert_eq!(
            row.canonical_json(),
            r#"{"arm":"none","better":"none","kind":"sample","metric":"acc","schema":1,"seed":3,"source":"measured","status":"ok","unit":"fraction","value":0.5}"#
        );
    }

    #[test]
    fn record_id_ignores_itself_and_sees_every_other_column() {
        let row = Row { metric: "acc".into(), value: Some(0.5), ..Row::default() }.seal();
        assert_eq!(row.record_id, row.clone().seal().record_id);
        let other = Row { notes: Some("second look".into()), ..row.clone() }.seal();
        assert_ne!(row.record_id, other.record_id);
    }

    #[test]
    fn columns_are_unique_and_reachable_by_name() {
        let mut names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        let row = Row::default();
        assert!(names.iter().all(|name| row.get(name).is_some()));
        assert!(row.get("latency").is_none());
    }

    #[test]
    fn setting_a_column_checks_its_type() {
        let mut row = Row::default();
        row.set("arm", CellValue::Str("B".into())).unwrap();
        row.set("batch", CellValue::Int(8)).unwrap();
        assert_eq!((row.arm, row.batch), (Arm::B, Some(8)));
        assert!(row.set("arm", CellValue::Str("C".into())).is_err());
        assert!(row.set("trial", CellValue::Int(-1)).is_err());
        assert!(row.set("latency", CellValue::Null).is_err());
    }

    #[test]
    fn check_refuses_non_finite_numbers_and_contradictions() {
        let ok = Row { metric: "val_loss".into(), value: Some(2.5), ..Row::default() };
        assert!(ok.check().is_ok());
        let nan = Row { value: Some(f64::NAN), ..ok.clone() };
        assert!(matches!(nan.check(), Err(RecordError::NotFinite { column: "value", .. })));
        let raw = Row { raw_samples: Some(vec![1.0, f64::INFINITY]), ..ok.clone() };
        assert!(matches!(raw.check(), Err(RecordError::NotFinite { column: "raw_samples", .. })));
        assert!(Row { value: None, ..ok.clone() }.check().is_err());
        assert!(Row { status: Status::Oom, ..ok.clone() }.check().is_err());
        assert!(Row { status: Status::Oom, value: None, reason: Some("killed".into()), ..ok }.check().is_ok());
    }
}
