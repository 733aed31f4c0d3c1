//! Loaders over the benchmark data folder (published counts, both layouts of one task) and over small broken folders of our own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tasks::{DataSource, Profile, TaskData, TaskError, expand, load_docs, prepare, task};

use crate::packs::data;

fn load(name: &str, folder: &Path) -> Result<TaskData, TaskError> {
    load_docs(task(name, Profile::Canonical).unwrap().as_ref(), DataSource::Dir(folder))
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("tasks-data-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::create_dir_all(&root).unwrap();
        Self(root)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn published_counts() {
    let Some(folder) = data() else { return };
    let count = |name: &str| -> usize {
        let leaves = expand(&[name]).unwrap();
        leaves.iter().map(|leaf| load(leaf, &folder).unwrap_or_else(|e| panic!("{e}")).docs.len()).sum()
    };
    for (name, published) in [
        ("boolq", 3270),
        ("openbookqa", 500),
        ("mmlu", 14042),
        ("belebele_eng_Latn", 900),
        ("belebele_deu_Latn", 900),
        ("gsm8k", 1319),
        ("gsm8k_cot", 1319),
        ("gsm8k_pal", 1319),
        ("hendrycks_math", 5000),
        ("minerva_math", 5000),
        ("mgsm_native_cot", 2750),
        ("mgsm_direct", 2750),
        ("mgsm_en_cot", 2750),
        ("humaneval", 164),
        ("mbpp", 500),
        ("tydiqa", 5077),
        ("wmt23", 24994),
        ("wikitext", 60), // articles of the corpus file; the hub's page copy counts 62, two lines of formulae being taken for titles
    ] {
        assert_eq!(count(name), published, "{name}");
    }
    // every leaf holds what its definition says, except where the folder holds a subset
    for leaf in ["mmlu", "minerva_math", "tydiqa", "wmt23", "mgsm_direct"] {
        for name in expand(&[leaf]).unwrap() {
            assert_eq!(
                Some(load(&name, &folder).unwrap().docs.len()),
                task(&name, Profile::Canonical).unwrap().spec().dataset.num_docs,
                "{name}"
            );
        }
    }
}

#[test]
fn pools_and_clusters() {
    let Some(folder) = data() else { return };
    let pool = |name: &str| load(name, &folder).unwrap().fewshot_pool.len();
    assert_eq!((pool("gsm8k"), pool("openbookqa"), pool("mmlu_anatomy"), pool("mgsm_direct_te")), (7473, 4957, 5, 8));
    assert_eq!((pool("mbpp"), pool("wmt23-he-en"), pool("hendrycks_math_geometry") > 0), (3, 5, true));
    let belebele = load("belebele_eng_Latn", &folder).unwrap();
    let clusters: BTreeSet<_> = belebele.docs.iter().map(|d| d.cluster_id.clone().unwrap()).collect();
    assert_eq!(clusters.len(), 488); // passages
}

#[test]
fn both_layouts_of_boolq_give_one_prompt() {
    let Some(folder) = data() else { return };
    let superglue = load("boolq", &folder).unwrap();
    assert_eq!(superglue.files[0].path, "boolq/superglue/train_fewglue32.jsonl");
    let authors = Folder::new("boolq-authors", &[]);
    std::fs::create_dir_all(authors.0.join("boolq")).unwrap();
    std::fs::copy(folder.join("boolq/dev.jsonl.gz"), authors.0.join("boolq/dev.jsonl.gz")).unwrap();
    let authors = load("boolq", &authors.0).unwrap();
    assert_eq!(authors.docs.len(), superglue.docs.len());
    let different = authors.docs.iter().zip(&superglue.docs).filter(|(a, s)| {
        a.fields["question"] != s.fields["question"]
            || a.fields["passage"] != s.fields["passage"]
            || a.fields["label"] != s.fields["label"]
    });
    assert_eq!(different.count(), 0);
}

#[test]
fn a_blanked_tydi_split_is_refused() {
    let Some(folder) = data() else { return };
    let blanked = Folder::new("tydi", &[]);
    let inside = "tydiqa_goldp/tydiqa-goldp-v1.1-dev";
    std::fs::create_dir_all(blanked.0.join(inside)).unwrap();
    let file = format!("{inside}/tydiqa.goldp.sw.dev.json.gz");
    std::fs::copy(folder.join(&file), blanked.0.join(&file)).unwrap();
    let error = load("tydiqa_swahili", &blanked.0).unwrap_err().to_string();
    assert!(error.contains("only blank answers in 499 of 499"), "{error}");
}

#[test]
fn fixed_shots_come_from_a_stored_prompt_or_are_missing() {
    let Some(folder) = data() else { return };
    let (Ok(cot), Ok(minerva)) = (load("gsm8k_cot", &folder), load("minerva_math_geometry", &folder)) else {
        panic!("test splits are there")
    };
    if cot.fewshot_missing.is_none() {
        assert_eq!(cot.fewshot_pool.len(), 8);
        assert!(cot.fewshot_pool.iter().all(|shot| shot.text("target").unwrap().contains("The answer is ")));
    }
    if minerva.fewshot_missing.is_none() {
        assert_eq!(minerva.fewshot_pool.len(), 4);
        assert!(minerva.fewshot_pool.iter().all(|shot| shot.text("solution").unwrap().ends_with("I hope it is correct.")));
    }
    // a folder with the questions alone: documents load, shots are an error that says what is missing
    let bare = Folder::new("bare", &[("gsm8k/test.jsonl", "{\"question\": \"q\", \"answer\": \"a\\n#### 3\"}\n")]);
    let task = task("gsm8k_cot", Profile::Canonical).unwrap();
    let data = load_docs(task.as_ref(), DataSource::Dir(&bare.0)).unwrap();
    assert_eq!((data.docs.len(), data.fewshot_pool.len()), (1, 0));
    let error = prepare(task.as_ref(), &data, None, None).unwrap_err().to_string();
    assert!(error.contains("expected at least 8 documents") && error.contains("Wei et al. 2022"), "{error}");
    assert_eq!(prepare(task.as_ref(), &data, Some(0), None).unwrap().len(), 1);
}

#[test]
fn programs_are_made_of_the_training_file_in_canonical_only_and_said() {
    let worked = "{\"question\": \"q\", \"answer\": \"1+2=<<1+2=3>>3\\n#### 3\"}\n";
    let load_as = |profile, folder: &Folder| load_docs(task("gsm8k_pal", profile).unwrap().as_ref(), DataSource::Dir(&folder.0));
    let trained = Folder::new("pal-train", &[("gsm8k/test.jsonl", worked), ("gsm8k/train.jsonl", worked)]);
    let canonical = load_as(Profile::Canonical, &trained).unwrap();
    assert!(canonical.fewshot_pool[0].text("program").unwrap().ends_with("    result = 1+2\n    return result"));
    let note = canonical.fewshot_note.unwrap();
    assert!(note.contains("worked answers of `gsm8k/train.jsonl`"), "{note}");
    let compat = load_as(Profile::Compat, &trained).unwrap();
    assert!(compat.fewshot_pool.is_empty() && compat.fewshot_note.is_none());
    assert!(compat.fewshot_missing.unwrap().contains("Gao et al. 2022"));
    // A file of shots that lacks its programs is damaged, in both profiles.
    let shots = "gsm8k/pal/gsm8k_pal_shots.jsonl";
    let damaged = Folder::new("pal-shots", &[("gsm8k/test.jsonl", worked), (shots, worked)]);
    for profile in [Profile::Canonical, Profile::Compat] {
        let error = load_as(profile, &damaged).unwrap_err().to_string();
        assert!(error.contains(shots) && error.contains("`program`"), "{error}");
    }
}

#[test]
fn a_missing_file_names_folder_and_candidates() {
    let empty = Folder::new("empty", &[]);
    let error = load("hellaswag", &empty.0).unwrap_err();
    assert!(matches!(&error, TaskError::Missing { tried, .. } if tried.contains(&"hellaswag/hellaswag_val.jsonl".to_owned())));
    let text = error.to_string();
    assert!(text.contains(empty.0.to_str().unwrap()) && text.contains("Rowan/hellaswag"), "{text}");
}

#[test]
fn broken_records_are_errors_with_their_place() {
    let passage = r#""passage": "p", "question": "q""#;
    for (name, task, path, text, expected) in [
        ("renamed", "boolq", "boolq/val.jsonl", format!("{{{passage}, \"lable\": true}}\n"), "field `label`"),
        ("null", "boolq", "boolq/val.jsonl", format!("{{{passage}, \"label\": null}}\n"), "found null"),
        ("range", "boolq", "boolq/val.jsonl", format!("{{{passage}, \"label\": 2}}\n"), "below 2"),
        ("twice", "boolq", "boolq/val.jsonl", format!("{{{passage}, \"label\": 1, \"label\": 0}}\n"), "`label` stands twice"),
        ("torn", "boolq", "boolq/val.jsonl", format!("{{{passage}, \"label\": 1}}\n{{\"passage\"\n"), "record 2"),
        ("empty", "boolq", "boolq/val.jsonl", String::new(), "at least one record"),
        ("columns", "mmlu_anatomy", "mmlu/test/anatomy_test.csv", "q,a,b,c,A\n".to_owned(), "6 columns"),
        ("letter", "mmlu_anatomy", "mmlu/test/anatomy_test.csv", "q,a,b,c,d,E\n".to_owned(), "A, B, C or D"),
        ("number", "mgsm_direct_de", "mgsm/mgsm_de.tsv", "Frage\tdrei\n".to_owned(), "a whole number"),
        ("gold", "gsm8k", "gsm8k/test.jsonl", "{\"question\": \"q\", \"answer\": \"three\"}\n".to_owned(), "after `####`"),
        ("box", "hendrycks_math_algebra", "math/test.jsonl", r#"{"problem": "p", "type": "Algebra", "solution": "3"}"#.to_owned(), "a box"),
        ("other", "hendrycks_math_geometry", "math/test.jsonl", r#"{"problem": "p", "type": "Algebra", "solution": "\\boxed{3}"}"#.to_owned(), "at least one record"),
        (
            "key",
            "openbookqa",
            "openbookqa/test.jsonl",
            r#"{"question": {"stem": "s", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]}, "answerKey": "C"}"#.to_owned(),
            "one of A, B",
        ),
    ] {
        let folder = Folder::new(name, &[(path, &text)]);
        let error = load(task, &folder.0).expect_err(name).to_string();
        assert!(error.contains(expected) && error.contains(path.split('/').next().unwrap()), "{name}: {error}");
    }
}

#[test]
fn compressed_files_and_hub_rows_give_the_same_documents() {
    use std::io::Write as _;
    let line = "{\"question\": \"q\", \"passage\": \"p\", \"idx\": 0, \"label\": 1}\n";
    let plain = Folder::new("plain", &[("boolq/val.jsonl", line)]);
    let packed = Folder::new("packed", &[("boolq/none", "")]);
    let mut gz = flate2::write::GzEncoder::new(
        std::fs::File::create(packed.0.join("boolq/val.jsonl.gz")).unwrap(),
        flate2::Compression::fast(),
    );
    gz.write_all(line.as_bytes()).unwrap();
    gz.finish().unwrap();
    let zstd_folder = Folder::new("zstd", &[("boolq/none", "")]);
    std::fs::write(zstd_folder.0.join("boolq/val.jsonl.zst"), zstd::encode_all(line.as_bytes(), 1).unwrap()).unwrap();
    let rows = std::collections::BTreeMap::from([(
        "validation".to_owned(),
        vec![serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).unwrap()],
    )]);
    let boolq = task("boolq", Profile::Canonical).unwrap();
    let hub = load_docs(boolq.as_ref(), DataSource::Rows { splits: &rows, sha256: "00" }).unwrap();
    let expected = load("boolq", &plain.0).unwrap();
    assert_eq!(hub.docs, expected.docs);
    for folder in [&packed.0, &zstd_folder.0] {
        let found = load("boolq", folder).unwrap();
        assert_eq!(found.docs, expected.docs);
        assert_ne!(found.dataset_sha256, expected.dataset_sha256); // the digest is of the stored file
    }
    // SHA-256 of the listing "<sha256>  boolq/val.jsonl\n"; the file's own digest is its first column
    assert_eq!(
        (expected.files.len(), expected.files[0].path.as_str(), expected.dataset_sha256.len()),
        (1, "boolq/val.jsonl", 64)
    );
}

#[test]
fn perplexity_takes_a_text_file_or_a_folder_of_them() {
    let folder = Folder::new("texts", &[("perplexity/b.txt", "two words"), ("perplexity/a.txt", "one"), ("alone.txt", "x y z")]);
    let data = load("perplexity", &folder.0).unwrap();
    assert_eq!(data.docs.iter().map(|d| d.text("text").unwrap()).collect::<Vec<_>>(), ["one", "two words"]);
    let data = load("perplexity", &folder.0.join("alone.txt")).unwrap();
    assert_eq!(data.docs[0].text("text"), Some("x y z"));
}
