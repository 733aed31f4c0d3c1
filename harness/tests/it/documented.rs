//! Commands that README and guides show are commands of this program: a flag that is renamed there and not here fails.

use crate::support::workspace;
use clap::Parser as _;
use clap::error::ErrorKind;
use harness::cli::Cli;

/// The lines of a text with those that end in `\` joined to the next.
fn joined_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let line = if open.is_empty() { line } else { line.trim_start() };
        match line.strip_suffix('\\') {
            Some(start) => open += start,
            None => lines.push(std::mem::take(&mut open) + line),
        }
    }
    lines
}

/// Code of a document: fenced and indented lines, and spans between backticks.
fn code(text: &str) -> Vec<String> {
    let mut is_fenced = false;
    let mut found = Vec::new();
    for line in joined_lines(text) {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
        } else if is_fenced || line.starts_with("    ") {
            found.push(line.trim().to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// What follows the program's name, if the code runs the program.
fn arguments(code: &str) -> Option<&str> {
    let (start, of_cargo) = code.split_once("-p harness -- ").unwrap_or_default();
    if start.starts_with("cargo run ") {
        return Some(of_cargo);
    }
    code.strip_prefix("harness ").or_else(|| code.strip_prefix("cargo h "))
}

/// Words as a shell splits them, up to what is left out (`…`), a pipe, a comment, or a remark behind a gap. Brackets mark what is optional.
fn words(arguments: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    let end = arguments.find("   ").unwrap_or(arguments.len());
    for letter in arguments[..end].chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            '…' | '#' | '|' if !is_quoted => break,
            ' ' if !is_quoted => words.push(String::new()),
            '[' | ']' if !is_quoted => {}
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn commands_of_the_readme_and_the_guides_parse() {
    let mut documents = vec![workspace().join("README.md")];
    documents.extend(std::fs::read_dir(workspace().join("docs/guides")).unwrap().map(|entry| entry.unwrap().path()));
    let mut count = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for code in code(&text) {
            let Some(words) = arguments(&code).map(words).filter(|words| !words.is_empty()) else { continue };
            count += 1;
            let Err(error) = Cli::try_parse_from(std::iter::once("harness").chain(words.iter().map(String::as_str))) else {
                continue;
            };
            // A command that is only named may lack what it needs.
            let is_name = words.len() == 1 && error.kind() == ErrorKind::MissingRequiredArgument;
            assert!(is_name, "{}: `{code}`: {error}", document.display());
        }
    }
    assert!(count >= 35, "expected at least the 35 commands of today, found {count}");
}

#[test]
fn commands_are_found_joined_and_cut() {
    let text = "See `harness doctor` and `cargo h …`.\n\n    cargo run --release -p harness -- measure --aa \\\n        --pairs 3 …\n\
                ```\nharness gate accept --reason \"…\" [--suite S]   # why\n```\n    cargo run -p harness --example x -- measure\n";
    let found: Vec<Vec<String>> = code(text).iter().filter_map(|code| arguments(code)).map(words).collect();
    let expected: [&[&str]; 4] =
        [&["doctor"], &[], &["measure", "--aa", "--pairs", "3"], &["gate", "accept", "--reason", "…", "--suite", "S"]];
    assert_eq!(found, expected);
}
