//! Records to tables, plots and verdicts: pure functions of a folder of records.
//!
//! ```text
//! records.jsonl / .parquet --study--> Study ---tables--> TableData --render--> md, tex, csv, json, html, terminal
//!                                           --plots---> Figure ----> svg, png
//!                          --frame--> Records --gate--> GateReport -> text, md, json, junit, sarif, annotations
//! ```
//! No models, no clock, no network: the same records give the same bytes on any machine.

pub mod cards;
pub mod claims;
mod columnar;
pub mod compare;
pub mod conditions;
mod draws;
pub mod error;
pub mod escape;
pub mod frame;
mod front;
pub mod gate;
pub mod lint;
pub mod number;
pub mod page;
pub mod paper;
pub mod plots;
pub mod provenance;
pub mod render;
pub mod report;
pub mod study;
pub mod subject;
pub mod table;
pub mod tables;
pub mod tensorboard;

pub use error::ReportError;
pub use frame::Records;
pub use paper::Paper;
pub use render::{Style, render};
pub use report::{ReportOptions, build_report, build_tables};
pub use study::Study;
