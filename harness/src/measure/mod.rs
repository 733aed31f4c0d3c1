//! Efficiency measurements: what a subject costs, read by fresh worker processes and written as rows.
//!
//! ```text
//! subjects × probes ──plan──> exact cells once; sampled cells in rounds A B C | C B A …      one worker process per sample
//! parent ──job (JSON, stdin)──> `harness worker` ──rows (JSON lines, stdout)──> parent ──append──> OUT/records.jsonl
//! ```
//! - [`mod@probes`]: what can be measured; a file each. - [`subject`]: model and inputs of a workload. - [`window`]: warm-up, timed window,
//!   the one timer. - [`allocator`], [`process`], [`cgroup`], [`energy`]: bytes asked for, bytes resident, contention, joules.
//! - [`job`], [`worker`]: one measurement in its own process. - [`plan`]: what is measured in which order. - [`parent`]: spawns workers,
//!   survives them, resumes. - [`pairs`]: log cost ratios for tables and the gate. - [`table`]: the cost table of the terminal.
//! - [`criterion`]: rows of benchmarks that criterion ran. - [`quality`]: time to a named validation loss, from the logs of training runs.
//!
//! The sample is the unit of statistics, not the iteration: what one process repeats inside shares its memory layout and its
//! neighbours, so a worker gives one number per metric. Nothing is retried and nothing is dropped: a worker that fails, is killed or
//! runs out of time or memory gives rows with a reason.
//!
//! Definitions and protocol: measurement.md sections 1 to 10.

pub mod allocator;
pub mod cgroup;
pub mod criterion;
pub mod energy;
pub mod job;
pub mod pairs;
pub mod parent;
pub mod plan;
pub mod probes;
pub mod process;
pub mod quality;
pub mod subject;
pub mod table;
pub mod window;
pub mod worker;

pub use pairs::{PairRequest, measure_pairs};
pub use parent::{MeasureOptions, measure};
pub use plan::{Plan, SubjectSpec};
pub use probes::{Probe, probes};
pub use subject::Workload;
pub use window::WindowSpec;
