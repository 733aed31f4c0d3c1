//! The prompt of every definition over one small document and one shot: what a reader of the definition would expect to see, offline.
//!
//! Snapshots, `tests/it/snapshots/`; a change of one is a change of the task's `version`.

use serde_json::{Value, json};
use tasks::{Doc, Profile, Request, task};

/// A leaf, its shot (null for none) and its document.
fn cases() -> Vec<(&'static str, Value, Value)> {
    let choice = |q: &str| json!({"question": q, "choices": ["one", "two", "three", "four"], "answer": 1});
    let passage = |n: usize| {
        json!({"flores_passage": format!("Passage {n}."), "question": "Which? ", "mc_answer1": "a", "mc_answer2": "b", "mc_answer3": "c",
               "mc_answer4": "d", "gold": 2})
    };
    let sum = |n: usize| json!({"question": format!("What is {n} + 1?"), "answer": format!("{n} + 1 = {m}\n#### {m}", m = n + 1), "answer_number": n + 1});
    let code = |n: usize| json!({"text": format!("Return {n}."), "code": format!("def f():\r\n  return {n}"), "test_list": ["assert 1", "assert 2", "assert 3"]});
    vec![
        ("belebele_eng_Latn", passage(1), passage(2)),
        (
            "boolq",
            json!({"passage": "P1.", "question": "is it", "label": 0}),
            json!({"passage": "P2.", "question": "was it", "label": 1}),
        ),
        ("gsm8k", sum(1), sum(2)),
        ("gsm8k_cot", json!({"question": "What is 1 + 1?", "target": "1 + 1 = 2. The answer is 2."}), sum(2)),
        ("gsm8k_pal", json!({"question": "What is 1 + 1?", "program": "def solution():\n    return 1 + 1"}), sum(2)),
        (
            "hellaswag",
            json!({"query": "Q one", "choices": ["a.", "b.", "c.", "d."], "gold": 3}),
            json!({"query": "Q two", "choices": ["a.", " b.", "c.", "d."], "gold": 0}),
        ),
        ("hendrycks_math_algebra", json!({"problem": "$1+1$", "answer": "2"}), json!({"problem": "$2+1$", "answer": "3"})),
        ("humaneval", Value::Null, json!({"prompt": "def f():\n    \"\"\"Return 1.\"\"\"\n", "test": "t", "entry_point": "f"})),
        ("mbpp", code(1), code(2)),
        (
            "mgsm_direct_fr",
            json!({"question": "Question : Un ?", "answer": "Réponse étape par étape : Un.", "answer_number": 1}),
            json!({"question": "Deux ?", "answer": null, "answer_number": 2}),
        ),
        (
            "mgsm_en_cot_de",
            json!({"question": "Frage: Eins?", "answer": "Schritt-für-Schritt-Antwort: Eins. Die Antwort lautet 1.", "answer_number": 1}),
            json!({"question": "Zwei?", "answer": null, "answer_number": 2}),
        ),
        (
            "mgsm_native_cot_ru",
            json!({"question": "Задача: Один?", "answer": "Пошаговое решение: Один. Ответ — 1.", "answer_number": 1}),
            json!({"question": "Два?", "answer": null, "answer_number": 2}),
        ),
        (
            "minerva_math_algebra",
            json!({"problem": "$1+1$", "solution": "Two.\nFinal Answer: The final answer is $2$. I hope it is correct."}),
            json!({"problem": "$2+1$", "solution": "s", "answer": "3"}),
        ),
        ("mmlu_high_school_physics", choice("How many?"), choice(" How few? ")),
        (
            "openbookqa",
            json!({"question_stem": "A cat is", "options": ["an animal", "a tool"], "gold": 0}),
            json!({"question_stem": "A saw is", "options": ["an animal", "a tool"], "gold": 1}),
        ),
        ("perplexity", Value::Null, json!({"page": "A text.\n", "text": "A text.\n"})),
        (
            "tydiqa_finnish",
            json!({"context": "C1.", "question": "Mikä?", "answers": {"text": ["yksi", "kaksi"], "answer_start": [0, 1]}}),
            json!({"context": "C2.", "question": "Kuka?", "answers": {"text": ["kolme"], "answer_start": [0]}}),
        ),
        ("wikitext", Value::Null, json!({"page": " = T = \n", "text": " = T =\n"})),
        (
            "wmt23-en-zh",
            json!({"source_text": "One.", "target_text": "一。"}),
            json!({"source_text": "Two.", "target_text": "二。"}),
        ),
    ]
}

fn doc(value: Value) -> Option<Doc> {
    if let Value::Object(fields) = value { Some(Doc::new(0, fields)) } else { None }
}

#[test]
fn prompts_of_every_definition() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, shot, document) in cases() {
        let task = task(name, Profile::Canonical).unwrap();
        seen.insert(task.spec().definition.clone());
        let shots: Vec<Doc> = doc(shot).into_iter().collect();
        let requests = task.requests(&doc(document).unwrap(), &shots).unwrap();
        let escaped = requests[0].context().escape_debug().to_string();
        let mut shown = vec![escaped.replace("\\n", "\\n\n").replace("\\'", "'").replace("\\\"", "\"")];
        shown.extend(requests.iter().map(|request| match request {
            Request::Loglikelihood { continuation, .. } => format!("-> {continuation:?}"),
            Request::GenerateUntil { options, .. } => {
                format!("until {:?}, at most {} tokens", options.until, options.max_gen_toks)
            }
            Request::LoglikelihoodRolling { .. } => "rolling".to_owned(),
        }));
        let shown = shown.join("\n");
        insta::assert_snapshot!(name, shown);
    }
    let all: std::collections::BTreeSet<String> = tasks::list().into_iter().map(|s| s.definition).collect();
    assert_eq!(seen, all, "every definition has a case");
}
