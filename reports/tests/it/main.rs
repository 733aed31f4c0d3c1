//! Integration tests of `reports`: fixed synthetic records through tables, figures, pages and the gate.

mod browser;
mod claims;
mod gate;
mod gate_runs;
mod lint;
mod million;
mod refusals;
mod report;
mod synthetic;
mod tables;
