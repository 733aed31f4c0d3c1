//! Where each key of a config came from: file, line and column, or the `--set` that wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The place that set a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A key in a file; line and column count from 1, columns in characters.
    File {
        /// The file.
        path: PathBuf,
        /// Line of the key.
        line: usize,
        /// Column of the key.
        column: usize,
    },
    /// An override on the command line, as typed.
    Set(String),
}

/// Dotted key (`model.residual.augment[0].rank`) -> the place that set it.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Positions of every key of a TOML text.
    ///
    /// # Errors
    /// The parser's error on a syntax error.
    pub fn of(path: &Path, text: &str) -> Result<Self, toml::de::Error> {
        let mut origins = Self::default();
        let table = DeTable::parse(text)?;
        origins.add_table(path, text, "", table.get_ref());
        Ok(origins)
    }

    fn add_table(&mut self, path: &Path, text: &str, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            self.add(path, text, &name, key.span().start);
            self.add_value(path, text, &name, value.get_ref());
        }
    }

    fn add_value(&mut self, path: &Path, text: &str, name: &str, value: &DeValue<'_>) {
        match value {
            DeValue::Table(inner) => self.add_table(path, text, name, inner),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let name = format!("{name}[{index}]");
                    self.add(path, text, &name, item.span().start);
                    self.add_value(path, text, &name, item.get_ref());
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, path: &Path, text: &str, name: &str, offset: usize) {
        let (line, column) = line_column(text, offset);
        self.0.insert(name.to_owned(), Origin::File { path: path.to_owned(), line, column });
    }

    /// Takes over the places of a file that overrides this one.
    pub fn overlay(&mut self, over: Self) {
        self.0.extend(over.0);
    }

    /// Records the place of one key.
    pub fn insert(&mut self, key: &str, origin: Origin) {
        self.0.insert(key.to_owned(), origin);
    }

    /// `file:line:column: key: message`; for a key nobody set, the nearest outer key's place, else `file: key: message`.
    pub fn describe(&self, path: &Path, key: &str, message: &str) -> String {
        let mut outer = key;
        let origin = loop {
            match (self.0.get(outer), outer.rfind(['.', '['])) {
                (Some(origin), _) => break Some(origin),
                (None, Some(end)) => outer = &outer[..end],
                (None, None) => break None,
            }
        };
        let place = match origin {
            Some(Origin::File { path, line, column }) => format!("{}:{line}:{column}", path.display()),
            Some(Origin::Set(set)) => format!("--set {set}"),
            None => path.display().to_string(),
        };
        if key.is_empty() { format!("{place}: {message}") } else { format!("{place}: {key}: {message}") }
    }
}

/// Line and column (both from 1, columns in characters) of a byte offset.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_know_their_lines() {
        let text = "name = \"a\"\n\n[model]\nhidden_size = 4\n[[model.augment]]\nrank = 2\n";
        let origins = Origins::of(Path::new("x.toml"), text).unwrap();
        assert_eq!(origins.describe(Path::new("x.toml"), "model.hidden_size", "m"), "x.toml:4:1: model.hidden_size: m");
        assert_eq!(origins.describe(Path::new("x.toml"), "model.augment[0].rank", "m"), "x.toml:6:1: model.augment[0].rank: m");
        // Not in the file: the table it would stand in.
        assert_eq!(origins.describe(Path::new("x.toml"), "model.vocab_size", "m"), "x.toml:3:2: model.vocab_size: m");
        assert_eq!(origins.describe(Path::new("x.toml"), "seed", "m"), "x.toml: seed: m");
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(line_column("é = 1\nab", 0), (1, 1));
        assert_eq!(line_column("é = 1\nab", 3), (1, 3));
        assert_eq!(line_column("é = 1\nab", 8), (2, 2));
    }
}
