//! The sample documents: rows in the field layout of each real task, and the strings that must not occur in the training text.
//!
//! One JSON object per line. Every row ends with a `split` field (`train`, `dev`, `validation` or `test`); HellaSwag's own
//! field of that name is replaced by it. Rows of the few-shot pool come first. Gold labels are balanced: options uniform, BoolQ
//! 55 % yes.

use serde_json::{Value, json};
use std::collections::BTreeSet;

use super::activities::{Scene, scene};
use super::choice::{self, Choice, LETTERS, SUBJECTS, completion};
use super::code::OPERATIONS;
use super::draw::Draw;
use super::german::pair;
use super::reading::{Span, YesNo, comprehension, span, yes_no};
use super::sums::{MATH_TYPES, math_problem, word_problem};
use super::world::World;

/// All sample files and what the training text must avoid.
pub(crate) struct Samples {
    /// Task folder and its rows.
    pub(crate) files: Vec<(&'static str, Vec<Value>)>,
    /// Prompt and right answer of every document.
    pub(crate) held_out: BTreeSet<String>,
}

/// Draws all documents; no document occurs twice.
pub(crate) fn samples(world: &World, seed: u64) -> Samples {
    let mut held_out = BTreeSet::new();
    let held = &mut held_out;
    let mathematics = math(seed, held);
    let files = vec![
        ("belebele", belebele(world, seed, held)),
        ("boolq", boolq(world, seed, held)),
        ("gsm8k", gsm8k(world, seed, held)),
        ("hellaswag", hellaswag(world, seed, held)),
        ("hendrycks_math", mathematics.clone()),
        ("humaneval", humaneval(held)),
        ("mbpp", mbpp(held)),
        ("mgsm", mgsm(world, seed, held)),
        ("minerva_math", mathematics),
        ("mmlu", mmlu(world, seed, held)),
        ("openbookqa", openbookqa(world, seed, held)),
        ("tydiqa", tydiqa(world, seed, held)),
        ("wmt23", wmt23(seed, held)),
    ];
    Samples { files, held_out }
}

/// `n` labels in `0..kinds`, each about equally often, in random order.
fn balanced(n: usize, kinds: usize, draw: &mut Draw) -> Vec<usize> {
    let mut labels: Vec<usize> = (0..n).map(|i| i % kinds).collect();
    draw.shuffle(&mut labels);
    labels
}

/// Draws until `key` of the item is new, and keeps the key.
fn fresh<T>(held: &mut BTreeSet<String>, mut make: impl FnMut() -> T, key: impl Fn(&T) -> String) -> T {
    loop {
        let item = make();
        if held.insert(key(&item)) {
            return item;
        }
    }
}

/// `train` for the first `shots` rows, `rest` for the others.
fn split(i: usize, shots: usize, rest: &'static str) -> &'static str {
    if i < shots { "train" } else { rest }
}

fn boolq(world: &World, seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "samples/boolq");
    let labels = |yes: usize, no: usize, draw: &mut Draw| {
        let mut labels = [vec![true; yes], vec![false; no]].concat();
        draw.shuffle(&mut labels);
        labels
    };
    let labels = [labels(4, 4, draw), labels(33, 27, draw)].concat();
    let rows = labels.into_iter().enumerate().map(|(i, label)| {
        let item = fresh(held, || yes_no(world, label, draw), YesNo::prompt);
        json!({"question": item.question, "passage": item.passage, "idx": i, "label": u8::from(label), "split": split(i, 8, "validation")})
    });
    rows.collect()
}

fn hellaswag(world: &World, seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "samples/hellaswag");
    let golds = [balanced(8, 4, draw), balanced(60, 4, draw)].concat();
    let rows = golds.into_iter().enumerate().map(|(i, gold)| {
        let item = fresh(held, || scene(world, gold, draw), Scene::text);
        json!({
            "ind": i,
            "activity_label": item.label,
            "ctx_a": item.ctx_a,
            "ctx_b": item.ctx_b,
            "ctx": format!("{} {}", item.ctx_a, item.ctx_b),
            "endings": item.endings,
            "source_id": format!("demo~{}", item.activity),
            "split_type": "indomain",
            "label": item.gold.to_string(),
            "split": split(i, 8, "validation"),
        })
    });
    rows.collect()
}

fn openbookqa(world: &World, seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "samples/openbookqa");
    let golds = [balanced(8, 4, draw), balanced(40, 4, draw)].concat();
    let rows = golds.into_iter().enumerate().map(|(i, gold)| {
        let item = fresh(held, || completion(world, gold, draw), Choice::completion);
        json!({
            "id": format!("demo-{i}"),
            "question_stem": item.question,
            "choices": {"text": item.options, "label": LETTERS},
            "answerKey": LETTERS[item.gold],
            "split": split(i, 8, "test"),
        })
    });
    rows.collect()
}

fn mmlu(world: &World, seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let mut rows = Vec::new();
    for subject in SUBJECTS {
        let draw = &mut Draw::new(seed, &format!("samples/mmlu/{subject}"));
        // 20 labels over dev and test together: five of each letter
        for (i, gold) in balanced(20, 4, draw).into_iter().enumerate() {
            let item = fresh(held, || choice::question(world, subject, gold, draw), Choice::letters);
            rows.push(json!({
                "question": item.question,
                "subject": subject,
                "choices": item.options,
                "answer": item.gold,
                "split": if i < 5 { "dev" } else { "test" },
            }));
        }
    }
    rows
}

fn belebele(world: &World, seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "samples/belebele");
    let golds = balanced(20, 4, draw);
    let mut rows = Vec::new();
    for (passage, golds) in golds.chunks(2).enumerate() {
        let item = fresh(held, || comprehension(world, [golds[0], golds[1]], draw), |item| item.passage.clone());
        for (number, (question, [one, two, three, four], gold)) in item.questions.iter().enumerate() {
            rows.push(json!({
                "link": format!("https://example.org/vale/{passage}"),
                "question_number": number + 1,
                "flores_passage": item.passage,
                "question": question,
                "mc_answer1": one,
                "mc_answer2": two,
                "mc_answer3": three,
                "mc_answer4": four,
                "correct_answer_num": (gold + 1).to_string(),
                "dialect": "eng_Latn",
                "split": "test",
            }));
        }
    }
    rows
}

fn gsm8k(world: &World, seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "samples/gsm8k");
    let rows = (0..38).map(|i| {
        let item = fresh(held, || word_problem(world, draw), |item| item.question.clone());
        json!({"question": item.question, "answer": item.gsm8k_answer(), "split": split(i, 8, "test")})
    });
    rows.collect()
}

fn mgsm(world: &World, seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "samples/mgsm");
    let rows = (0..28).map(|i| {
        let item = fresh(held, || word_problem(world, draw), |item| item.question.clone());
        if i < 8 {
            json!({
                "question": format!("Question: {}", item.question),
                "answer": item.mgsm_answer(),
                "answer_number": item.answer,
                "equation_solution": item.equation,
                "language": "en",
                "split": "train",
            })
        } else {
            json!({
                "question": item.question,
                "answer": null,
                "answer_number": item.answer,
                "equation_solution": null,
                "language": "en",
                "split": "test",
            })
        }
    });
    rows.collect()
}

/// Shots from four subjects, then twenty problems over all seven.
fn math(seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "samples/math");
    let shots = ["Prealgebra", "Geometry", "Number Theory", "Algebra"];
    let rows = (0..24).map(|i| {
        let kind = if i < 4 { shots[i] } else { MATH_TYPES[(i - 4) % MATH_TYPES.len()] };
        let item = fresh(held, || math_problem(kind, draw), |item| item.problem.clone());
        let (problem, solution) = (item.problem, item.solution);
        json!({"problem": problem, "level": "Level 1", "type": item.kind, "solution": solution, "split": split(i, 4, "test")})
    });
    rows.collect()
}

fn tydiqa(world: &World, seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "samples/tydiqa");
    let rows = (0..25).map(|i| {
        let item = fresh(held, || span(world, draw), Span::prompt);
        let start = item.answer_start();
        json!({
            "id": format!("english-demo-{i}"),
            "title": item.title,
            "context": item.context,
            "question": item.question,
            "answers": {"text": [item.answer], "answer_start": [start]},
            "split": split(i, 5, "validation"),
        })
    });
    rows.collect()
}

fn humaneval(held: &mut BTreeSet<String>) -> Vec<Value> {
    let rows = OPERATIONS.iter().take(10).enumerate().map(|(i, item)| {
        held.insert(item.prompt());
        json!({
            "task_id": format!("Demo/{i}"),
            "prompt": item.prompt(),
            "canonical_solution": item.solution(),
            "test": item.test(),
            "entry_point": item.entry_point(),
            "split": "test",
        })
    });
    rows.collect()
}

/// Task ids as in the real file: 2, 3 and 4 are the shots, the test split starts at 11.
fn mbpp(held: &mut BTreeSet<String>) -> Vec<Value> {
    let rows = OPERATIONS.iter().rev().enumerate().map(|(i, item)| {
        held.insert(item.code());
        json!({
            "task_id": if i < 3 { i + 2 } else { i + 8 },
            "text": item.task(),
            "code": item.code(),
            "test_list": item.tests(),
            "test_setup_code": "",
            "challenge_test_list": [],
            "split": split(i, 3, "test"),
        })
    });
    rows.collect()
}

fn wmt23(seed: u64, held: &mut BTreeSet<String>) -> Vec<Value> {
    let draw = &mut Draw::new(seed, "samples/wmt23");
    let rows = (0..15).map(|i| {
        let item = fresh(held, || pair(draw), |item| item.english.clone());
        json!({"pair": "en-de", "source": item.english, "target": item.german, "split": split(i, 5, "test")})
    });
    rows.collect()
}
