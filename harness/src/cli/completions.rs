//! `completions SHELL`: a completion script on stdout.

use super::{Cli, Exit, output};
use clap::CommandFactory as _;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness completions bash > ~/.local/share/bash-completion/completions/harness
  harness completions fish > ~/.config/fish/completions/harness.fish")]
pub struct Args {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Writes the script.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "harness", &mut script);
    output::data(&String::from_utf8(script)?)?;
    Ok(Exit::Fine)
}
