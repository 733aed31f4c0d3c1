//! Every folder of `tasks/definitions/`: it parses, gives its leaves, says what a report needs, and renders.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tasks::{Aggregate, OutputKind, Profile, TaskError, aggregate_group, expand, groups, list, task};

fn folders() -> Vec<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/definitions"));
    let mut found: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    found.sort();
    found
}

#[test]
fn every_definition_gives_its_leaves() {
    let specs = list();
    let mut names = BTreeSet::new();
    for spec in &specs {
        assert!(names.insert(spec.name.clone()), "{} twice", spec.name);
        for profile in [Profile::Compat, Profile::Canonical] {
            let task = task(&spec.name, profile).unwrap_or_else(|e| panic!("{e}"));
            assert!(task.spec().metric(&spec.primary_metric).is_some(), "{}", spec.name);
            assert_eq!(task.spec().output == OutputKind::GenerateUntil, task.spec().generation.is_some(), "{}", spec.name);
        }
        assert!(!spec.version.is_empty() && !spec.dataset.licence.is_empty() && !spec.reference.is_empty(), "{}", spec.name);
        assert!((0.0..1.0).contains(&spec.chance) && spec.trivial.is_none_or(|t| t >= spec.chance), "{}", spec.name);
    }
    let with_definition: BTreeSet<String> = specs.iter().map(|s| s.definition.clone()).collect();
    for folder in folders() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if folder.join("task.toml").is_file() {
            assert!(with_definition.contains(&name), "{name} has no leaf");
            let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_else(|e| panic!("{name}/README.md: {e}"));
            for word in ["Dataset", "Licence", "Prompt", "Metric", "Trivial", "Matches"] {
                assert!(readme.contains(word), "{name}/README.md does not say: {word}");
            }
        }
    }
}

#[test]
fn published_leaf_counts() {
    let leaves = |group: &str| expand(&[group]).unwrap().len();
    assert_eq!(leaves("mmlu"), 57);
    assert_eq!(leaves("mmlu_stem") + leaves("mmlu_other") + leaves("mmlu_social_sciences") + leaves("mmlu_humanities"), 57);
    assert_eq!(leaves("belebele"), 122);
    for group in ["mgsm_native_cot", "mgsm_en_cot", "mgsm_direct"] {
        assert_eq!(leaves(group), 11, "{group}");
    }
    assert_eq!((leaves("minerva_math"), leaves("hendrycks_math"), leaves("tydiqa"), leaves("wmt23")), (7, 7, 9, 14));
    let docs = |definition: &str| {
        list().iter().filter(|s| s.definition == definition).map(|s| s.dataset.num_docs.unwrap()).sum::<usize>()
    };
    assert_eq!(docs("mmlu"), 14042);
    assert_eq!(docs("minerva_math"), 5000);
    assert_eq!(docs("tydiqa"), 5077);
    assert_eq!(docs("mgsm_native_cot"), 2750);
    assert_eq!(docs("belebele"), 122 * 900);
}

#[test]
fn names_expand_once_and_in_order() {
    assert_eq!(expand(&["wmt23-en-de", "boolq", "wmt23-en-de"]).unwrap(), ["wmt23-en-de", "boolq"]);
    let mmlu = expand(&["mmlu_anatomy", "mmlu"]).unwrap();
    assert_eq!((mmlu.len(), mmlu[0].as_str()), (57, "mmlu_anatomy"));
}

#[test]
fn a_misspelt_name_suggests_the_nearest() {
    for (wrong, right) in
        [("helaswag", "hellaswag"), ("mmlu_antomy", "mmlu_anatomy"), ("mgsm_native_cott_de", "mgsm_native_cot_de")]
    {
        let Err(TaskError::UnknownTask { suggestion, .. }) = task(wrong, Profile::Canonical) else { panic!("{wrong}") };
        assert_eq!(suggestion.as_deref(), Some(right));
    }
    let Err(TaskError::UnknownTask { suggestion, .. }) = expand(&["mmluu"]) else { panic!() };
    assert_eq!(suggestion.as_deref(), Some("mmlu"));
    let Err(TaskError::UnknownTask { suggestion, .. }) = task("quite_another_thing", Profile::Canonical) else { panic!() };
    assert_eq!(suggestion, None);
}

fn aggregate(metric: &str, value: f64, stderr: f64, n: usize) -> Aggregate {
    Aggregate { metric: metric.to_owned(), value, stderr: Some(stderr), stderr_clustered: None, n, higher_is_better: true }
}

#[test]
fn a_size_weighted_group_pools_as_the_reference_does() {
    // tasks.md section 8: pooled error of (0.05, n 100; 0.04, n 200) is 0.0314508
    let leaves = [
        ("mmlu_anatomy".to_owned(), vec![aggregate("acc", 0.3, 0.05, 100)]),
        ("mmlu_virology".to_owned(), vec![aggregate("acc", 0.6, 0.04, 200)]),
    ];
    let found = aggregate_group("mmlu", &leaves).unwrap();
    assert_eq!((found[0].metric.as_str(), found[0].n), ("acc", 300));
    assert!((found[0].value - 0.5).abs() < 1e-15 && (found[0].stderr.unwrap() - 0.0314508).abs() < 5e-8);
    assert_eq!(found[1].metric, "acc_unweighted");
    assert!((found[1].value - 0.45).abs() < 1e-15);
    assert!((found[1].stderr.unwrap() - (0.05_f64.powi(2) + 0.04_f64.powi(2)).sqrt() / 2.0).abs() < 1e-15);
}

#[test]
fn tydiqa_averages_languages_with_and_without_english() {
    let leaves = [("tydiqa_arabic", 0.4), ("tydiqa_english", 0.7), ("tydiqa_telugu", 0.1)];
    let leaves = leaves.map(|(name, f1)| (name.to_owned(), vec![aggregate("f1", f1, 0.01, 50)]));
    let found = aggregate_group("tydiqa", &leaves).unwrap();
    let value = |name: &str| found.iter().find(|a| a.metric == name).unwrap().value;
    assert!((value("f1_goldp") - 0.25).abs() < 1e-15 && (value("f1_all9") - 0.4).abs() < 1e-15);
}

#[test]
fn a_group_refuses_the_leaf_of_another() {
    let leaves = [("boolq".to_owned(), vec![aggregate("acc", 0.5, 0.1, 10)])];
    assert!(aggregate_group("mmlu", &leaves).unwrap_err().to_string().contains("found `boolq`"));
    assert!(groups().iter().any(|g| g.name == "wmt23" && !g.size_weighted));
}
