//! `__sandbox`: confines itself and becomes the interpreter that runs one generated program; started by `eval`, not by people.
//!
//! `cli::main` runs it before the global flags are applied: those start threads, and a process with threads cannot leave its user namespace.

use super::Exit;

/// Arguments of `__sandbox`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Orders of the run, as JSON
    pub plan: String,
}

/// Runs the command; comes back only when the interpreter was not started.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let reason = crate::eval::sandbox::enter(&args.plan);
    Err(anyhow::anyhow!("no program was run: {reason}"))
}
