//! The samples bundled with the definitions: they load, render and score without any file or network.

use std::collections::BTreeSet;

use tasks::{DataSource, JudgedBy, OutputKind, Profile, Request, Response, TaskError, list, load_docs, prepare, task};

#[test]
fn every_definition_has_a_leaf_with_a_bundled_sample() {
    let mut with_sample = BTreeSet::new();
    let mut all = BTreeSet::new();
    for spec in list() {
        all.insert(spec.definition.clone());
        for profile in [Profile::Canonical, Profile::Compat] {
            let task = task(&spec.name, profile).unwrap();
            let data = match load_docs(task.as_ref(), DataSource::Bundled) {
                Ok(data) => data,
                Err(TaskError::Missing { .. }) => continue, // the sample has other subjects or languages
                Err(error) => panic!("{}: {error}", spec.name),
            };
            with_sample.insert(spec.definition.clone());
            let prepared = prepare(task.as_ref(), &data, None, None).unwrap_or_else(|e| panic!("{}: {e}", spec.name));
            assert_eq!(prepared.len(), data.docs.len());
            for document in &prepared {
                assert_eq!(document.shots.len(), spec.num_fewshot, "{}", spec.name);
                let right = right_responses(&document.requests);
                if spec.needs_executor {
                    assert_eq!(task.programs(&document.doc, &right).unwrap().len(), 1, "{}", spec.name);
                    assert!(matches!(task.score(&document.doc, &right), Err(TaskError::NeedsExecutor { .. })), "{}", spec.name);
                } else {
                    let scores = task.score(&document.doc, &right).unwrap_or_else(|e| panic!("{}: {e}", spec.name));
                    assert_eq!(scores.metrics.len(), task.spec().metrics.len(), "{}", spec.name);
                }
            }
        }
    }
    assert_eq!(with_sample, all);
}

/// A response of the right kind to each request.
fn right_responses(requests: &[Request]) -> Vec<Response> {
    let answer = |request: &Request| match request {
        Request::Loglikelihood { continuation, .. } => Response::Loglikelihood {
            loglikelihood: -(continuation.len() as f64),
            is_greedy: false,
            truncated_tokens: 0,
            boundary: false,
        },
        Request::LoglikelihoodRolling { text } => Response::Rolling { loglikelihood: -(text.len() as f64) },
        Request::GenerateUntil { .. } => Response::Text { text: " 4".to_owned(), truncated_tokens: 0 },
    };
    requests.iter().map(answer).collect()
}

#[test]
fn bundled_shots_have_the_published_form() {
    let first_prompt = |name: &str, shots: Option<usize>| {
        let task = task(name, Profile::Canonical).unwrap();
        let data = load_docs(task.as_ref(), DataSource::Bundled).unwrap();
        let prepared = prepare(task.as_ref(), &data, shots, Some(1)).unwrap();
        prepared[0].requests[0].context().to_owned()
    };
    let cot = first_prompt("gsm8k_cot", None);
    assert_eq!((cot.matches("The answer is ").count(), cot.matches("\n\nQ: ").count()), (8, 8), "{cot}");
    let minerva = first_prompt("minerva_math_algebra", None);
    assert_eq!(minerva.matches("I hope it is correct.\n\nProblem:\n").count(), 4, "{minerva}");
    let pal = first_prompt("gsm8k_pal", None);
    assert_eq!(pal.matches("    return result\n\n\n\n\n\nQ: ").count(), 8, "{pal}");
    assert!(!pal.contains("<<") && !pal.contains("= \n"), "{pal}");
    let mbpp = first_prompt("mbpp", None);
    assert_eq!((mbpp.matches("[DONE]\n\nYou are").count(), mbpp.ends_with("[BEGIN]\n")), (3, true));
    let mmlu = first_prompt("mmlu_nutrition", Some(5));
    assert!(mmlu.starts_with("The following are multiple choice questions (with answers) about nutrition.\n\n"));
    let wmt = first_prompt("wmt23-en-de", None);
    assert_eq!((wmt.matches("Translate this into 1. German:\n\n").count(), wmt.ends_with("\n\n1.")), (6, true), "{wmt}");
}

#[test]
fn canonical_solutions_make_programs() {
    let humaneval = task("humaneval", Profile::Canonical).unwrap();
    let data = load_docs(humaneval.as_ref(), DataSource::Bundled).unwrap();
    let doc = &data.docs[0];
    let solution = doc.text("canonical_solution").unwrap().to_owned();
    let programs = humaneval.programs(doc, &[Response::Text { text: solution.clone(), truncated_tokens: 0 }]).unwrap();
    let expected = format!(
        "{}{solution}\n{}\ncheck({})",
        doc.text("prompt").unwrap(),
        doc.text("test").unwrap(),
        doc.text("entry_point").unwrap()
    );
    assert_eq!(programs[0].source, expected);
    assert_eq!((programs[0].judged_by, programs[0].limits.timeout_s), (JudgedBy::Exit, 3.0));
    // HumanEval is 0-shot whatever is asked
    assert_eq!(prepare(humaneval.as_ref(), &data, Some(3), Some(1)).unwrap()[0].shots.len(), 0);
    assert_eq!(humaneval.spec().output, OutputKind::GenerateUntil);
}
