//! What a measured number is: one flat row, its typed form, its metric, its manifest and the append-only store.
//!
//! ```text
//! worker -> Measurement (typed) -> Row (flat, 1 JSON line) -> records.jsonl -> reports
//! ```
//! - [`row`]: `Row`, the wire form; every column is declared once, in its `columns!` list.
//! - [`mod@column`]: what a column can hold, and the closed vocabularies (`source`, `arm`, `status`, …).
//! - [`measurement`]: `Measurement`, the typed form, in which a failed measurement cannot carry a value.
//! - [`metric`]: names, units and directions of the metrics; the lint that keeps name and unit consistent.
//! - [`ids`]: run and cell identifiers, and the hashes behind them.
//! - [`manifest`]: what a run directory says once instead of in every row.
//! - [`store`]: writing whole lines under a lock, reading with a torn last line tolerated.
//!
//! No clock, no host inspection and no randomness: times and host facts come as arguments.
//!
//! Source: measurement.md section 14.

pub mod column;
pub mod error;
pub mod ids;
pub mod manifest;
pub mod measurement;
pub mod metric;
pub mod row;
pub mod store;

pub use column::{
    Arm, Better, CellRef, CellValue, ColumnType, EvalProfile, InnerStat, Numerics, RecordKind, Source, Status, Tier,
};
pub use error::RecordError;
pub use ids::{CellId, RunId};
pub use manifest::{Manifest, RunStatus};
pub use measurement::{Inner, Measurement, Outcome, Reason};
pub use metric::{Metric, MetricName, Unit};
pub use row::{
    Build, COLUMNS, Cell, Column, Contention, Design, Group, Host, Identity, Inputs, Quality, Row, SCHEMA, Shape, Window,
};
pub use store::{Loaded, RecordWriter, read_rows, visit_rows, write_atomic};
