//! Writes the demo world: text, tokenizer and sample documents of the project's own.
//!
//! ```text
//! cargo run -p harness --example demo_world -- --out .
//! ```
//! `--out` names the repository root; files land in `configs/demo/` and `tasks/definitions/<task>/sample.jsonl`. The same code runs in a
//! test that compares its output with the committed files.

use std::path::PathBuf;
use std::process::ExitCode;

#[path = "demo_world/mod.rs"]
mod demo_world;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, out] = arguments.as_slice() else { return usage() };
    if flag != "--out" {
        return usage();
    }
    match demo_world::write(&PathBuf::from(out)) {
        Ok(names) => {
            for name in names {
                eprintln!("wrote {name}");
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("error: expected `--out DIR`\nhint: cargo run -p harness --example demo_world -- --out .");
    ExitCode::from(2)
}
