//! The demo world: one call writes the demo's text, tokenizer, sample documents and their README.
//!
//! ```text
//! world (facts) -> samples (documents, held out) -> text (train, valid; avoids them) -> tokenizer (trained on train)
//! ```
//! Everything is a pure function of [`SEED`]; a test regenerates all files and compares them with the committed ones.

mod activities;
mod choice;
mod code;
mod draw;
mod facts;
mod german;
mod reading;
mod readme;
mod samples;
mod stories;
mod sums;
mod text;
mod tokenizer;
mod world;

use std::fs;
use std::path::Path;

/// The seed of the committed files.
const SEED: u64 = 241_107_501;

/// Every file, as path below the repository root and contents.
///
/// # Errors
/// When the tokenizer cannot be trained, or a sample document occurs in the text.
pub(crate) fn files() -> Result<Vec<(String, String)>, String> {
    let world = world::World::new(SEED);
    let samples = samples::samples(&world, SEED);
    let (train, valid) = text::texts(&world, SEED, &samples.held_out);
    if let Some(held) = samples.held_out.iter().find(|held| train.contains(held.as_str()) || valid.contains(held.as_str())) {
        return Err(format!("a sample document occurs in the text: {held:?}"));
    }
    let mut files = vec![("configs/demo/tokenizer.json".to_owned(), tokenizer::tokenizer_json(&train)?)];
    files.push(("configs/demo/README.md".to_owned(), readme::readme(&train, &valid, &samples.files)));
    files.push(("configs/demo/text.txt".to_owned(), train));
    files.push(("configs/demo/text-valid.txt".to_owned(), valid));
    for (task, rows) in samples.files {
        let lines: Vec<String> = rows.iter().map(|row| format!("{row}\n")).collect();
        files.push((format!("tasks/definitions/{task}/sample.jsonl"), lines.concat()));
    }
    files.sort();
    Ok(files)
}

/// Writes [`files`] below `root`, making folders as needed; returns their paths.
///
/// # Errors
/// As [`files`], or when a file cannot be written.
pub(crate) fn write(root: &Path) -> Result<Vec<String>, String> {
    let mut written = Vec::new();
    for (name, contents) in files()? {
        let path = root.join(&name);
        let describe = |error: std::io::Error| format!("cannot write `{}`: {error}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(describe)?;
        }
        fs::write(&path, contents).map_err(describe)?;
        written.push(name);
    }
    Ok(written)
}
