//! The import rules of docs/architecture.md, read from `cargo metadata` so that they are not a promise.

use crate::support::workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Workspace crate -> workspace crates it may depend on.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("kernels", &[]),
    ("laurel", &["kernels"]),
    ("models", &["laurel", "kernels"]),
    ("images", &[]),
    ("stats", &[]),
    ("records", &[]),
    ("tasks", &["stats", "records"]),
    ("reports", &["stats", "records"]),
    ("harness", &["laurel", "kernels", "models", "images", "tasks", "stats", "records", "reports"]),
];

/// Heavy dependency -> its home.
const HOMES: [(&str, &[&str]); 8] = [
    ("plotters", &["reports"]),
    ("polars", &["reports", "harness"]),
    ("polars-io", &["reports", "harness"]),
    ("hf-hub", &["harness"]),
    ("tokenizers", &["harness"]),
    ("candle-transformers", &["models"]),
    ("candle-core", &["kernels", "laurel", "models", "harness"]),
    ("candle-nn", &["kernels", "laurel", "models", "harness"]),
];

/// Normal (not dev, not build) dependencies of every workspace crate, and the dev ones.
fn dependencies() -> (BTreeMap<String, BTreeSet<String>>, BTreeMap<String, BTreeSet<String>>) {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (mut normal, mut dev) = (BTreeMap::new(), BTreeMap::new());
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap().to_owned();
        let of_kind = |kind: Option<&str>| -> BTreeSet<String> {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            dependencies.filter(|one| one["kind"].as_str() == kind).map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        normal.insert(name.clone(), of_kind(None));
        dev.insert(name, of_kind(Some("dev")));
    }
    (normal, dev)
}

#[test]
fn workspace_crates_import_only_what_they_may() {
    let (normal, _) = dependencies();
    let names: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    assert_eq!(normal.keys().map(String::as_str).collect::<BTreeSet<_>>(), names, "a crate without a rule");
    for (name, allowed) in ALLOWED {
        for dependency in normal[name].iter().filter(|dependency| names.contains(dependency.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "`{name}` may not depend on `{dependency}`");
        }
    }
}

#[test]
fn heavy_dependencies_have_one_home() {
    let (normal, _) = dependencies();
    for (heavy, homes) in HOMES {
        for (name, dependencies) in &normal {
            assert!(
                !dependencies.contains(heavy) || homes.contains(&name.as_str()),
                "`{heavy}` belongs to {homes:?}, found in `{name}`"
            );
        }
    }
}

#[test]
fn nothing_imports_harness_and_criterion_is_for_benches_only() {
    let (normal, dev) = dependencies();
    for (name, dependencies) in &normal {
        assert!(!dependencies.contains("harness"), "`{name}` imports harness");
        assert!(!dependencies.contains("criterion"), "`{name}` uses criterion outside benches");
        assert!(!dev[name].contains("harness"), "tests of `{name}` import harness");
    }
}

#[test]
fn every_crate_takes_the_workspace_lints_and_unsafe_has_its_homes() {
    for (name, _) in ALLOWED {
        let manifest: toml::Table =
            toml::from_str(&std::fs::read_to_string(workspace().join(name).join("Cargo.toml")).unwrap()).unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{name}");
    }
    let root: toml::Table = toml::from_str(&std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap()).unwrap();
    assert_eq!(root["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("deny"));
}

/// `files under ~500 lines, opened by a //! paragraph`: the parts of the style that a machine can see.
#[test]
fn every_source_file_opens_with_its_purpose_and_stays_readable() {
    fn walk(folder: &std::path::Path, out: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(path);
            }
        }
    }
    let mut files = Vec::new();
    for (name, _) in ALLOWED {
        walk(&workspace().join(name).join("src"), &mut files);
    }
    assert!(files.len() > 50);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{}: no //! paragraph", file.display());
        assert!(text.lines().count() <= 800, "{}: {} lines", file.display(), text.lines().count());
    }
}
