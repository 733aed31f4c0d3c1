//! TOML file -> typed config: one level of `extends`, `--set a.b=v`, and errors that name the file, line and key.
//!
//! ```text
//! parent file --merge--> child file --merge--> --set overrides --deserialise--> T
//! ```
//! Tables merge key by key; arrays and plain values replace. A table that changes its own `kind` (or `family`) replaces the
//! parent's table, as the other keys belong to the old kind. Nothing is read from the environment.

use super::position::{Origin, Origins};
use crate::error::Hint as _;
use anyhow::{Context as _, anyhow, bail};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A config with the places its keys came from, so that later checks can still point at a line.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The typed config.
    pub value: T,
    /// The file it was read from.
    pub path: PathBuf,
    /// The merged table before deserialisation.
    pub table: Table,
    origins: Origins,
}

impl<T> Loaded<T> {
    /// An error at a key: `file:line:column: key: message`.
    pub fn error_at(&self, key: &str, message: &str) -> anyhow::Error {
        anyhow!("{}", self.origins.describe(&self.path, key, message))
    }
}

/// Reads a config file.
///
/// - `path`: the file; its `extends` is relative to it.
/// - `sets`: overrides `a.b=v`; `v` is read as TOML and, where that fails, as a plain string.
///
/// # Errors
/// Missing file, TOML syntax (with line and column), a parent that extends a third file, unknown key (with the nearest known
/// one), wrong type, malformed override.
pub fn load<T: DeserializeOwned>(path: &Path, sets: &[String]) -> anyhow::Result<Loaded<T>> {
    let (mut table, mut origins) = read_table(path)?;
    if let Some(parent) = table.remove("extends") {
        let Value::String(parent) = parent else {
            bail!("{}", origins.describe(path, "extends", "expected a file name in quotes"));
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).join(&parent);
        let (mut base, mut base_origins) =
            read_table(&parent_path).with_context(|| origins.describe(path, "extends", &format!("cannot read `{parent}`")))?;
        if base.contains_key("extends") {
            return Err(anyhow!(
                "{}",
                base_origins.describe(&parent_path, "extends", &format!("found in a file that `{}` extends", path.display()))
            ))
            .hint("one level of `extends` is allowed: extend the base file itself");
        }
        merge(&mut base, table);
        base_origins.overlay(origins);
        (table, origins) = (base, base_origins);
    }
    for set in sets {
        apply_set(&mut table, &mut origins, set)?;
    }
    let value = deserialise(&table, path, &origins)?;
    Ok(Loaded { value, path: path.to_owned(), table, origins })
}

fn read_table(path: &Path) -> anyhow::Result<(Table, Origins)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read config `{}`", path.display()));
    let text = match text {
        Ok(text) => text,
        Err(error) => return Err(with_neighbour_hint(error, path)),
    };
    let origins = Origins::of(path, &text).map_err(|error| syntax_error(path, &text, &error))?;
    let table = toml::from_str::<Table>(&text).map_err(|error| syntax_error(path, &text, &error))?;
    Ok((table, origins))
}

/// A missing config is mostly a misspelt one: the nearest file name of the folder is offered.
fn with_neighbour_hint(error: anyhow::Error, path: &Path) -> anyhow::Error {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wanted = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "toml"))
                .collect()
        })
        .unwrap_or_default();
    match nearest(&wanted, names.iter().map(String::as_str)) {
        Some(name) if name != wanted => error.hint(format!("did you mean `{}`?", folder.join(name).display())),
        _ => error,
    }
}

fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let place = error.span().map_or_else(String::new, |span| {
        let (line, column) = super::position::line_column(text, span.start);
        format!(":{line}:{column}")
    });
    anyhow!("{}{place}: {}", path.display(), error.message().replace('\n', ", "))
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) if !changes_kind(old, &new) => merge(old, new),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn changes_kind(old: &Table, new: &Table) -> bool {
    ["kind", "family"].iter().any(|key| new.get(*key).is_some_and(|value| old.get(*key) != Some(value)))
}

/// One step of a dotted key: a table key or an array index.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

fn parse_key(key: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in key.split('.') {
        let (name, mut rest) = part.split_once('[').map_or((part, ""), |(name, rest)| (name, rest));
        if name.is_empty() {
            return None;
        }
        steps.push(Step::Key(name.to_owned()));
        while !rest.is_empty() {
            let (number, after) = rest.split_once(']')?;
            steps.push(Step::Index(number.parse().ok()?));
            rest = match after {
                "" => "",
                after => after.strip_prefix('[')?,
            };
        }
    }
    Some(steps)
}

fn apply_set(table: &mut Table, origins: &mut Origins, set: &str) -> anyhow::Result<()> {
    let (key, text) = set
        .split_once('=')
        .with_context(|| format!("--set: expected `key=value`, found `{set}`"))
        .hint("for example --set optimizer.learning_rate=1e-3")?;
    let (key, text) = (key.trim(), text.trim());
    let steps = parse_key(key).with_context(|| format!("--set: expected a key such as `a.b` or `a[0].b`, found `{key}`"))?;
    let value = toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut parsed| if parsed.len() == 1 { parsed.remove("v") } else { None })
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let Some((Step::Key(first), rest)) = steps.split_first() else { bail!("--set: expected a key, found `{key}`") };
    let mut place = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    let mut walked = first.clone();
    for step in rest {
        place = match (place, step) {
            (Value::Table(inner), Step::Key(name)) => {
                walked = format!("{walked}.{name}");
                inner.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()))
            }
            (Value::Array(items), Step::Index(index)) => {
                let count = items.len();
                let item = items
                    .get_mut(*index)
                    .with_context(|| format!("--set {key}: `{walked}` has {count} entries, found index {index}"))?;
                walked = format!("{walked}[{index}]");
                item
            }
            (other, Step::Key(name)) => {
                bail!("--set {key}: expected a table at `{walked}` to set `{name}` in, found {}", other.type_str())
            }
            (other, Step::Index(index)) => {
                bail!("--set {key}: expected an array at `{walked}` to set [{index}] of, found {}", other.type_str())
            }
        };
    }
    // An integer where a float stood: `--set optimizer.eps=1` is meant as 1.0.
    *place = match (&*place, value) {
        (Value::Float(_), Value::Integer(number)) => Value::Float(number as f64),
        (Value::Table(old), Value::Table(new)) if !changes_kind(old, &new) => {
            let mut merged = old.clone();
            merge(&mut merged, new);
            Value::Table(merged)
        }
        (_, value) => value,
    };
    origins.insert(key, Origin::Set(set.to_owned()));
    Ok(())
}

fn deserialise<T: DeserializeOwned>(table: &Table, path: &Path, origins: &Origins) -> anyhow::Result<T> {
    Value::Table(table.clone()).try_into().map_err(|error: toml::de::Error| {
        let shown = error.to_string();
        let place = shown.lines().rev().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`')).unwrap_or("").to_owned();
        explain(error.message(), &place, table, path, origins)
    })
}

/// Turns serde's sentence into ours: the full key, the nearest known word, the line.
fn explain(message: &str, place: &str, table: &Table, path: &Path, origins: &Origins) -> anyhow::Error {
    let message = message.trim();
    let complaint = |start: &str| message.strip_prefix(start)?.split_once('`').map(|(word, rest)| (word, backticked(rest)));
    if let Some((field, known)) = complaint("unknown field `") {
        // serde names the table that holds the key, or (inside a tagged table) one further out.
        let key = find_key(table, place, field).unwrap_or_else(|| join(place, field));
        let error = anyhow!("{}", origins.describe(path, &key, "unknown key"));
        return match nearest(field, known.iter().map(String::as_str)) {
            Some(name) => error.hint(format!("did you mean `{name}`?")),
            None if known.is_empty() => error.hint("this table takes no keys"),
            None => error.hint(format!("known keys here: {}", known.join(", "))),
        };
    }
    if let Some((variant, known)) = complaint("unknown variant `") {
        let key = find_value(table, place, variant).unwrap_or_else(|| place.to_owned());
        let error = anyhow!("{}", origins.describe(path, &key, &format!("expected {}, found `{variant}`", alternatives(&known))));
        return match nearest(variant, known.iter().map(String::as_str)) {
            Some(name) => error.hint(format!("did you mean `{name}`?")),
            None => error,
        };
    }
    // Inside a tagged table (`model`, `mix`) serde loses the inner key; the value it complains about may still be unique.
    let key = found_literal(message).and_then(|found| find_value(table, place, &found)).unwrap_or_else(|| place.to_owned());
    anyhow!("{}", origins.describe(path, &key, message))
}

fn join(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

fn backticked(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn alternatives(known: &[String]) -> String {
    match known {
        [] => "another value".to_owned(),
        [one] => format!("`{one}`"),
        many => format!("one of `{}`", many.join("`, `")),
    }
}

/// The literal in serde's "invalid type: string \"abc\", expected usize" or "integer `3`".
fn found_literal(message: &str) -> Option<String> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let found = rest.rsplit_once(", expected").map_or(rest, |(found, _)| found);
    let start = found.find(['"', '`'])?;
    Some(found[start..].trim_matches(['"', '`']).to_owned())
}

fn walk<'a>(value: &'a Value, key: &str, visit: &mut dyn FnMut(&str, &'a Value)) {
    visit(key, value);
    match value {
        Value::Table(table) => {
            for (name, inner) in table {
                walk(inner, &join(key, name), visit);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                walk(inner, &format!("{key}[{index}]"), visit);
            }
        }
        _ => {}
    }
}

fn keys_under(table: &Table, place: &str, matches: impl Fn(&str, &Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in table {
        walk(value, name, &mut |key, value| {
            let is_under = place.is_empty()
                || key == place
                || key.starts_with(&format!("{place}."))
                || key.starts_with(&format!("{place}["));
            if is_under && matches(key, value) {
                found.push(key.to_owned());
            }
        });
    }
    // The outermost key first: serde complains about the nearest one.
    found.sort_by_key(|key| key.matches(['.', '[']).count());
    found
}

fn find_key(table: &Table, place: &str, name: &str) -> Option<String> {
    keys_under(table, place, |key, _| key.rsplit(['.', ']']).next() == Some(name)).into_iter().next()
}

fn find_value(table: &Table, place: &str, found: &str) -> Option<String> {
    let keys = keys_under(table, place, |_, value| match value {
        Value::String(text) => text == found,
        Value::Integer(number) => number.to_string() == found,
        Value::Float(number) => number.to_string() == found,
        Value::Boolean(flag) => flag.to_string() == found,
        _ => false,
    });
    if let [one] = keys.as_slice() { Some(one.clone()) } else { None }
}

/// The candidate within a third of the word's length in edits, nearest first, ties by order.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance with neighbouring swaps counted once (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let substitution = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        inner: Inner,
        #[serde(default)]
        shape: Option<Shape>,
        #[serde(default)]
        terms: Vec<Term>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        learning_rate: f64,
        #[serde(default)]
        steps: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Term {
        rank: usize,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
    enum Shape {
        Round { radius: u32 },
        Square { side: u32 },
    }

    fn write(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn load_one(text: &str, sets: &[&str]) -> Result<Loaded<Outer>, String> {
        let folder = write(&[("a.toml", text)]);
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        load(&folder.path().join("a.toml"), &sets)
            .map_err(|error| crate::error::render(&error).replace(&folder.path().display().to_string(), "DIR"))
    }

    const GOOD: &str = "name = \"a\"\n[inner]\nlearning_rate = 0.1\n";

    #[test]
    fn child_overrides_parent_and_keeps_the_rest() {
        let folder = write(&[
            ("base.toml", "name = \"base\"\n[inner]\nlearning_rate = 0.1\nsteps = 7\n"),
            ("child.toml", "extends = \"base.toml\"\nname = \"child\"\n[inner]\nlearning_rate = 0.2\n"),
        ]);
        let loaded: Loaded<Outer> = load(&folder.path().join("child.toml"), &[]).unwrap();
        assert_eq!((loaded.value.name.as_str(), loaded.value.inner.learning_rate, loaded.value.inner.steps), ("child", 0.2, 7));
        // Later checks point at the file that set the key.
        assert!(loaded.error_at("inner.steps", "too few").to_string().contains("base.toml:4:1: inner.steps: too few"));
        assert!(loaded.error_at("inner.learning_rate", "x").to_string().contains("child.toml:4:1: "));
    }

    #[test]
    fn second_level_of_extends_is_refused() {
        let folder = write(&[("a.toml", "extends = \"b.toml\"\n"), ("b.toml", "extends = \"c.toml\"\n"), ("c.toml", GOOD)]);
        let error = load::<Outer>(&folder.path().join("a.toml"), &[]).unwrap_err();
        assert!(crate::error::render(&error).contains("one level of `extends`"), "{error}");
    }

    #[test]
    fn changed_kind_replaces_the_table() {
        let folder = write(&[
            ("base.toml", &format!("{GOOD}[shape]\nkind = \"round\"\nradius = 1\n")),
            ("child.toml", "extends = \"base.toml\"\n[shape]\nkind = \"square\"\nside = 2\n"),
        ]);
        let loaded: Loaded<Outer> = load(&folder.path().join("child.toml"), &[]).unwrap();
        assert_eq!(loaded.value.shape, Some(Shape::Square { side: 2 }));
    }

    #[test]
    fn unknown_key_names_line_and_suggestion() {
        let error = load_one("name = \"a\"\n[inner]\nlearning_rat = 0.1\n", &[]).unwrap_err();
        assert_eq!(error, "error: DIR/a.toml:3:1: inner.learning_rat: unknown key\nhint: did you mean `learning_rate`?\n");
    }

    #[test]
    fn unknown_key_inside_a_tagged_table_is_found() {
        let error = load_one(&format!("{GOOD}[shape]\nkind = \"round\"\nradios = 1\n"), &[]).unwrap_err();
        assert_eq!(error, "error: DIR/a.toml:6:1: shape.radios: unknown key\nhint: did you mean `radius`?\n");
    }

    #[test]
    fn unknown_variant_lists_what_exists() {
        let error = load_one(&format!("{GOOD}[shape]\nkind = \"rond\"\n"), &[]).unwrap_err();
        assert!(
            error.contains("expected one of `round`, `square`, found `rond`") && error.contains("did you mean `round`?"),
            "{error}"
        );
    }

    #[test]
    fn wrong_type_inside_a_tagged_table_points_at_its_line() {
        let error = load_one(&format!("{GOOD}[shape]\nkind = \"round\"\nradius = \"big\"\n"), &[]).unwrap_err();
        assert!(error.starts_with("error: DIR/a.toml:6:1: shape.radius: invalid type: string \"big\""), "{error}");
    }

    #[test]
    fn syntax_error_has_line_and_column() {
        let error = load_one("name = \"a\"\n[inner\n", &[]).unwrap_err();
        assert!(error.starts_with("error: DIR/a.toml:2:"), "{error}");
    }

    #[test]
    fn set_overrides_nested_keys_arrays_and_reads_words_as_strings() {
        let text = format!("{GOOD}[[terms]]\nrank = 4\n");
        let loaded =
            load_one(&text, &["inner.learning_rate=1", "name=other", "terms[0].rank=8", "shape={kind=\"round\", radius=3}"])
                .unwrap()
                .value;
        assert_eq!((loaded.inner.learning_rate, loaded.name.as_str(), loaded.terms[0].rank), (1.0, "other", 8));
        assert_eq!(loaded.shape, Some(Shape::Round { radius: 3 }));
    }

    #[test]
    fn wrong_set_says_where_it_came_from() {
        assert!(
            load_one(GOOD, &["inner.stepz=3"]).unwrap_err().starts_with("error: --set inner.stepz=3: inner.stepz: unknown key")
        );
        assert!(load_one(GOOD, &["inner"]).unwrap_err().contains("expected `key=value`, found `inner`"));
        assert!(load_one(GOOD, &["name.x=1"]).unwrap_err().contains("expected a table at `name`"));
        assert!(
            load_one(GOOD, &["terms[2].rank=1"]).unwrap_err().contains("expected a table")
                || load_one(GOOD, &["terms[2].rank=1"]).unwrap_err().contains("expected an array")
        );
    }

    #[test]
    fn missing_file_offers_the_nearest_name() {
        let folder = write(&[("lm-tiny-plain.toml", GOOD)]);
        let error = load::<Outer>(&folder.path().join("lm-tiny-plian.toml"), &[]).unwrap_err();
        assert!(crate::error::render(&error).contains("lm-tiny-plain.toml`?"), "{error}");
    }
}
