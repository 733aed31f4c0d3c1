//! Which shots a document gets: CPython's draws in `compat`, independence of the other documents in `canonical`.

use proptest::prelude::*;
use serde_json::json;
use tasks::python_random::PythonRandom;
use tasks::{Doc, Profile, TaskData, fewshot, prepare, task};

fn docs(kind: &str, count: usize) -> Vec<Doc> {
    let doc = |i: usize| {
        let serde_json::Value::Object(fields) = json!({
            "question": format!("{kind} {i}"), "passage": "p", "idx": i, "label": i % 2,
            "answer": format!("a\n#### {i}"), "answer_number": i, "problem": "p", "solution": "s",
        }) else {
            unreachable!("an object")
        };
        Doc::new(i, fields)
    };
    (0..count).map(doc).collect()
}

fn data(count: usize, pool: usize) -> TaskData {
    TaskData {
        docs: docs("test", count),
        fewshot_pool: docs("train", pool),
        fewshot_missing: None,
        fewshot_note: None,
        dataset_sha256: String::new(),
        files: Vec::new(),
    }
}

fn shot_ids(name: &str, profile: Profile, data: &TaskData, num: usize, limit: Option<usize>) -> Vec<Vec<usize>> {
    prepare(task(name, profile).unwrap().as_ref(), data, Some(num), limit).unwrap().into_iter().map(|p| p.shot_ids).collect()
}

/// tasks.md section 8, computed with CPython.
#[test]
fn compat_draws_are_cpythons() {
    assert_eq!(
        shot_ids("gsm8k", Profile::Compat, &data(4, 7473), 5, None),
        [
            vec![6374, 3610, 957, 61, 742],
            vec![7462, 6610, 4769, 286, 5501],
            vec![5677, 687, 806, 6279, 2905],
            vec![1939, 142, 252, 6461, 129]
        ]
    );
    // boolq draws one to spare and drops the last
    assert_eq!(shot_ids("boolq", Profile::Compat, &data(3, 32), 3, None), [vec![28, 7, 0], vec![2, 5, 6], vec![15, 1, 22]]);
    assert_eq!(shot_ids("gsm8k", Profile::Compat, &data(3, 32), 3, None), [vec![28, 7, 0], vec![5, 2, 6], vec![22, 15, 1]]);
}

#[test]
fn golden_values_of_the_generator() {
    let mut random = PythonRandom::new(1234);
    assert_eq!([0; 4].map(|_| random.getrandbits(32)), [4150886329, 3342196574, 1892932127, 501869158]);
    let mut random = PythonRandom::new(1234);
    assert_eq!(random.sample(30, 8), [24, 14, 3, 0, 2, 18, 1, 21]);
    assert_eq!(random.sample(100, 5), [88, 10, 12, 98, 45]);
    assert_eq!(random.sample(8, 8), [3, 0, 6, 5, 2, 7, 1, 4]);
}

#[test]
fn a_document_equal_to_a_shot_is_not_its_own_example() {
    let mut data = data(3, 32);
    data.fewshot_pool[28] = data.docs[0].clone(); // the first draw of boolq holds 28
    let compat = shot_ids("boolq", Profile::Compat, &data, 3, Some(1));
    assert_eq!(compat[0].len(), 3);
    assert!(!compat[0].contains(&28));
    for limit in 1..=3 {
        assert!(shot_ids("boolq", Profile::Canonical, &data, 3, Some(limit))[0].iter().all(|i| *i != 28));
    }
}

#[test]
fn first_n_keeps_the_order_of_the_pool() {
    for profile in [Profile::Compat, Profile::Canonical] {
        assert_eq!(shot_ids("minerva_math_algebra", profile, &data(2, 4), 4, None), [vec![0, 1, 2, 3], vec![0, 1, 2, 3]]);
    }
    // mgsm: another order for each document in the reference, a fixed one in ours (tasks.md 7.11)
    let mgsm = data(3, 8);
    let ids = |profile| {
        let task = task("mgsm_native_cot_en", profile).unwrap();
        let ids = |i| fewshot(task.as_ref(), &mgsm, i, 8).unwrap().iter().map(|d| d.doc_id).collect::<Vec<_>>();
        [ids(0), ids(1), ids(2)]
    };
    assert_eq!(ids(Profile::Compat), [vec![7, 0, 6, 5, 4, 2, 3, 1], vec![5, 1, 0, 7, 4, 6, 2, 3], vec![2, 0, 1, 6, 4, 7, 5, 3]]);
    assert_eq!(ids(Profile::Canonical), [[0, 1, 2, 3, 4, 5, 6, 7]; 3]);
}

#[test]
fn too_small_a_pool_is_an_error() {
    let task = task("gsm8k", Profile::Canonical).unwrap();
    let error = prepare(task.as_ref(), &data(1, 3), Some(5), None).unwrap_err().to_string();
    assert!(error.contains("at least 5 documents") && error.contains("found 3"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn canonical_shots_do_not_depend_on_the_limit(count in 1usize..12, pool in 6usize..40, num in 0usize..6, limit in 1usize..12, keep in 0usize..12) {
        let all = data(count, pool);
        let whole = shot_ids("boolq", Profile::Canonical, &all, num, None);
        let limited = shot_ids("boolq", Profile::Canonical, &all, num, Some(limit));
        prop_assert_eq!(&whole[..limited.len()], limited.as_slice());
        // nor on which other documents are there: one document alone, under its own id
        let keep = keep % count;
        let alone = TaskData { docs: vec![all.docs[keep].clone()], ..all.clone() };
        prop_assert_eq!(&shot_ids("boolq", Profile::Canonical, &alone, num, None)[0], &whole[keep]);
        for ids in &whole {
            let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
            prop_assert_eq!(distinct.len(), num);
        }
    }

    #[test]
    fn limited_compat_draws_are_the_first_of_the_whole_run(limit in 1usize..6) {
        let all = data(6, 20);
        let whole = shot_ids("gsm8k", Profile::Compat, &all, 4, None);
        let limited = shot_ids("gsm8k", Profile::Compat, &all, 4, Some(limit));
        prop_assert_eq!(&whole[..limit], limited.as_slice());
    }
}
