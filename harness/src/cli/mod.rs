//! The command line: global flags, one file per subcommand, exit codes, and what is printed where.
//!
//! - Data goes to stdout, progress and notes to stderr. A closed pipe (`harness list tasks | head -1`) ends the program quietly.
//! - Exit codes: 0 fine, 1 a judgement went against you (a gate, a comparison, a failed check), 2 error (also a wrong command line).
//! - To add a subcommand: a file here with `Args` and `run(&Args, &Global) -> anyhow::Result<Exit>`, a variant in [`Command`], an arm in
//!   [`Command::run`].

pub mod compare;
pub mod completions;
pub mod data;
pub mod data_images;
pub mod doctor;
pub mod eval;
pub mod eval_vision;
pub mod gate;
pub mod global;
pub mod list;
pub mod measure;
pub mod merge;
pub mod output;
pub mod report;
pub mod sandbox;
pub mod selfcheck;
pub mod sweep;
pub mod train;
mod train_images;

pub use global::{Format, Global};

use crate::error;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Exit code 0.
    Fine,
    /// Exit code 1: the work was done and its judgement is negative (a regression, a failed verification).
    Against,
}

/// LAuReL harness: train, evaluate, measure and compare learned augmented residual layers.
#[derive(Debug, Parser)]
#[command(
    name = "harness",
    version,
    max_term_width = 110,
    after_help = "\
Start here:
  harness list variants                                            what can stand in for `x + f(x)`
  harness train --config configs/train/lm-tiny-rw+lr.toml          one run, half a minute on two cores
  harness eval  --suite llm                                        demo subjects on bundled documents; trains what is missing
  harness report                                                   tables and plots from the records
  harness doctor                                                   what would fail on this machine, and why

Exit codes: 0 fine, 1 a judgement went against you, 2 error."
)]
pub struct Cli {
    /// Flags every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands; `harness help COMMAND` teaches each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train one run from one config; resumes if interrupted, skips if finished
    Train(train::Args),
    /// Ask tasks of models and score the answers
    Eval(eval::Args),
    /// Measure parameters, FLOPs, step times, latencies and memory
    Measure(measure::Args),
    /// Serve one measurement (started by `measure`, not by people)
    #[command(hide = true)]
    Worker(measure::WorkerArgs),
    /// Run one generated program, confined (started by `eval`, not by people)
    #[command(name = "__sandbox", hide = true)]
    Sandbox(sandbox::Args),
    /// Expand a grid of settings and seeds into runs
    Sweep(sweep::Args),
    /// Render tables and plots from records
    Report(report::Args),
    /// Judge records against rules: check, accept, explain
    Gate(gate::Args),
    /// List, prepare and verify data
    Data(data::Args),
    /// Pair two models' documents and seeds: difference, interval, correction
    Compare(compare::Args),
    /// Show that batch, order, caching and prefix sharing change no score of a model
    Selfcheck(selfcheck::Args),
    /// Join the records of shards or folders, dropping duplicates
    Merge(merge::Args),
    /// List what exists: models, tasks, suites, variants, tables, probes
    List(list::Args),
    /// Say what works on this machine, what would fail, and why
    Doctor(doctor::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

impl Command {
    /// Runs the command. The global flags have been applied ([`Global::apply`]) before.
    pub fn run(&self, global: &Global) -> anyhow::Result<Exit> {
        match self {
            Self::Train(args) => train::run(args, global),
            Self::Eval(args) => eval::run(args, global),
            Self::Measure(args) => measure::run(args, global),
            Self::Worker(args) => measure::run_worker(args, global),
            Self::Sandbox(args) => sandbox::run(args),
            Self::Sweep(args) => sweep::run(args, global),
            Self::Report(args) => report::run(args, global),
            Self::Gate(args) => gate::run(args, global),
            Self::Data(args) => data::run(args, global),
            Self::Compare(args) => compare::run(args, global),
            Self::Selfcheck(args) => selfcheck::run(args, global),
            Self::Merge(args) => merge::run(args, global),
            Self::List(args) => list::run(args, global),
            Self::Doctor(args) => doctor::run(args, global),
            Self::Completions(args) => completions::run(args),
        }
    }
}

/// Parses the process's arguments, runs the command, prints the error chain if there is one.
pub fn main() -> ExitCode {
    let cli = Cli::parse(); // exits with 2 on a wrong command line, 0 after --help
    let result = match &cli.command {
        // before the global flags start threads: see `sandbox`
        Command::Sandbox(args) => sandbox::run(args),
        command => cli.global.apply().and_then(|()| command.run(&cli.global)),
    };
    match result {
        Ok(Exit::Fine) => ExitCode::SUCCESS,
        Ok(Exit::Against) => ExitCode::from(1),
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(error::render(&error).trim_end());
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
