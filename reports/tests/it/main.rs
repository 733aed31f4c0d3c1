//! Integration tests of `reports`: fixed synthetic records through tables, figures, pages and the gate.

mod alarms;
mod gate;
mod lint;
mod report;
mod synthetic;
mod tables;
