//! The program that turns an experiment file into records: command line, configs, data, training, evaluation, measuring, sweeps.
//!
//! ```text
//! configs/*.toml --extends, --set--> resolved config --hash--> run id --> run directory --> records.jsonl --> tables, plots, verdicts
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | one file per subcommand; global flags; how errors, data and progress are printed |
//! | [`config`] | TOML with one level of `extends`, `--set`, validation, the hash that names a run |
//! | [`data`] | text and JSONL corpora, tokenizers, token cache, windows in a reproducible order; benchmark files |
//! | [`train`] | the step, the optimizer, schedule, checkpoints, the training log |
//! | [`run`] | the run directory: resolved config, manifest, lock, records |
//! | [`plan`] | which part of a long command this process does |
//! | [`provenance`] | machine, program and time of a number |
//! | [`sweep`] | a grid of configs × seeds |
//! | [`eval`] | tasks asked of models |
//! | [`measure`] | step times, latencies, memory |
//!
//! The library target exists for the tests and examples of this package; no other crate imports it.

pub mod cli;
pub mod config;
pub mod data;
pub mod error;
pub mod eval;
pub mod measure;
pub mod plan;
pub mod provenance;
pub mod run;
pub mod sweep;
pub mod train;
