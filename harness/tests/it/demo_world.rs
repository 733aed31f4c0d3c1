//! The committed demo world is what its generator writes, and its sample documents are fit for measuring.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

#[path = "../../examples/demo_world/mod.rs"]
mod generator;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()))
}

fn rows(task: &str) -> Vec<Value> {
    let path = repository().join(format!("tasks/definitions/{task}/sample.jsonl"));
    read(&path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often each value of `label` occurs among the rows of `split`.
fn label_counts(rows: &[Value], split: &str, label: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in rows.iter().filter(|row| row["split"] == split) {
        *counts.entry(row[label].to_string()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn committed_files_are_what_the_generator_writes() {
    let folder = tempfile::tempdir().unwrap();
    let names = generator::write(folder.path()).unwrap();
    assert!(names.iter().any(|name| name == "configs/demo/text.txt"));
    for name in names {
        let (made, committed) = (read(&folder.path().join(&name)), read(&repository().join(&name)));
        // the contents are long: say which file, not all of it
        assert!(made == committed, "`{name}` differs; run `cargo run -p harness --example demo_world -- --out .`");
    }
}

#[test]
fn gold_labels_are_balanced() {
    // 60 documents of four endings; 33 of 60 yes; 40 stems of four completions; 20 letters a subject over dev and test
    assert_eq!(label_counts(&rows("hellaswag"), "validation", "label").into_values().collect::<Vec<_>>(), [15; 4]);
    assert_eq!(label_counts(&rows("boolq"), "validation", "label"), BTreeMap::from([("0".into(), 27), ("1".into(), 33)]));
    assert_eq!(label_counts(&rows("openbookqa"), "test", "answerKey").into_values().collect::<Vec<_>>(), [10; 4]);
    let mut letters = label_counts(&rows("mmlu"), "test", "answer");
    for (letter, count) in label_counts(&rows("mmlu"), "dev", "answer") {
        *letters.get_mut(&letter).unwrap() += count;
    }
    assert_eq!(letters.into_values().collect::<Vec<_>>(), [20; 4]);
}

#[test]
fn yes_no_documents_occur_in_neither_text() {
    let texts = ["text.txt", "text-valid.txt"].map(|name| read(&repository().join("configs/demo").join(name)));
    for row in rows("boolq") {
        let prompt = format!("{}\nQuestion: {}?", row["passage"].as_str().unwrap(), row["question"].as_str().unwrap());
        assert!(texts.iter().all(|text| !text.contains(&prompt)), "in the text: {prompt}");
    }
}

#[test]
fn validation_documents_do_not_occur_in_the_training_text() {
    let demo = repository().join("configs/demo");
    let (train, valid) = (read(&demo.join("text.txt")), read(&demo.join("text-valid.txt")));
    // pieces of few-shot blocks and of worked problems are shared on purpose; passages with their question are whole documents
    let documents: Vec<&str> = valid.split("\n\n").filter(|piece| piece.contains("\nQuestion: ")).collect();
    assert!(documents.len() > 50, "{} documents", documents.len());
    for document in documents {
        assert!(!train.contains(&format!("\n\n{document}\n\n")), "in the training text: {document}");
    }
}
