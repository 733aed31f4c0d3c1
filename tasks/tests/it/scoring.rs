//! Scores that a model's answers get, where the two profiles differ and where an answer cannot be scored.

use serde_json::json;
use tasks::{Doc, DocScores, MetricValue, Profile, Response, Task, TaskError, Verdict, task};

fn doc(value: serde_json::Value) -> Doc {
    let serde_json::Value::Object(fields) = value else { panic!("an object") };
    Doc::new(0, fields)
}

fn generated(text: &str) -> [Response; 1] {
    [Response::Text { text: text.to_owned(), truncated_tokens: 0 }]
}

fn loglikelihoods(values: &[f64]) -> Vec<Response> {
    let one = |v: &f64| Response::Loglikelihood { loglikelihood: *v, is_greedy: false, truncated_tokens: 0, boundary: false };
    values.iter().map(one).collect()
}

fn value(scores: &DocScores, metric: &str) -> f64 {
    scores.metrics[metric].number().unwrap_or_else(|| panic!("{metric} is no number"))
}

#[test]
fn acc_norm_divides_by_code_points() {
    let task = task("hellaswag", Profile::Canonical).unwrap();
    // lengths in code points 2, 4, 2, 2; in bytes 4 for the first
    let doc = doc(json!({"query": "q", "choices": ["éé", "abcd", "ab", "cd"], "gold": 1}));
    let scores = task.score(&doc, &loglikelihoods(&[-2.0, -3.0, -5.0, -5.0])).unwrap();
    assert_eq!((value(&scores, "acc"), value(&scores, "acc_norm")), (0.0, 1.0)); // −2/2 < −3/4
    assert_eq!((scores.gold, scores.chosen), (Some(1), Some(1)));
}

#[test]
fn a_nan_or_a_wrong_number_of_answers_is_an_error() {
    let task = task("boolq", Profile::Canonical).unwrap();
    let doc = doc(json!({"passage": "p", "question": "q", "label": 1}));
    assert!(matches!(task.score(&doc, &loglikelihoods(&[f64::NAN, -1.0])), Err(TaskError::Response { .. })));
    assert!(matches!(task.score(&doc, &loglikelihoods(&[-1.0])), Err(TaskError::Response { .. })));
    assert!(matches!(task.score(&doc, &generated("yes")), Err(TaskError::Response { .. })));
    let tie = task.score(&doc, &loglikelihoods(&[-1.0, -1.0])).unwrap();
    assert_eq!(tie.chosen, Some(0)); // the first wins
}

#[test]
fn gsm8k_cot_quirk_is_kept_in_compat_and_repaired_beside_it() {
    let doc = doc(json!({"question": "q", "answer": "#### 18", "answer_number": "18"}));
    let compat =
        task("gsm8k_cot", Profile::Compat).unwrap().score(&doc, &generated(" So the answer is ... The answer is 18")).unwrap();
    assert_eq!(compat.answers["strict-match"], "1"); // the pattern's last `.` takes the 8
    assert_eq!(value(&compat, "exact_match,strict-match"), 0.0);
    assert!(!compat.metrics.contains_key("exact_match,numeric-match"));
    let canonical = task("gsm8k_cot", Profile::Canonical).unwrap().score(&doc, &generated("The answer is $18.00")).unwrap();
    assert_eq!(value(&canonical, "exact_match,numeric-match"), 1.0);
}

#[test]
fn mgsm_canonical_compares_decimals_and_knows_the_exemplars_phrase() {
    let doc = doc(json!({"question": "q", "answer": null, "answer_number": 5}));
    let score = |profile, text: &str| {
        let scores = task("mgsm_native_cot_de", profile).unwrap().score(&doc, &generated(text)).unwrap();
        (value(&scores, "exact_match,strict-match"), value(&scores, "exact_match,flexible-extract"))
    };
    assert_eq!(score(Profile::Compat, "Die Antwort ist 5."), (0.0, 1.0));
    assert_eq!(score(Profile::Canonical, "Die Antwort ist 5."), (1.0, 1.0));
    // punctuation is ignored in the reference: −5 equals 5, and 5.0 is 50
    assert_eq!(score(Profile::Compat, "Die Antwort lautet -5"), (1.0, 1.0));
    assert_eq!(score(Profile::Canonical, "Die Antwort lautet -5"), (0.0, 0.0));
    assert_eq!(score(Profile::Compat, "Die Antwort lautet 5.0."), (0.0, 0.0));
    assert_eq!(score(Profile::Canonical, "Die Antwort lautet 5.0."), (1.0, 1.0));
}

#[test]
fn math_answers() {
    let doc = doc(json!({"problem": "p", "solution": "s", "answer": "\\frac{1}{2}"}));
    let minerva = task("minerva_math_algebra", Profile::Canonical).unwrap();
    let scores = minerva.score(&doc, &generated(" So. Final Answer: The final answer is $0.5$. I hope it is correct.")).unwrap();
    assert_eq!((value(&scores, "math_exact"), value(&scores, "math_equiv")), (0.0, 1.0));
    let hendrycks = task("hendrycks_math_algebra", Profile::Canonical).unwrap();
    assert_eq!(value(&hendrycks.score(&doc, &generated("we get $0.5$")).unwrap(), "exact_match"), 1.0);
    assert_eq!(value(&hendrycks.score(&doc, &generated("$x$ and $0.5$")).unwrap(), "exact_match"), 0.0); // first to last `$`
}

#[test]
fn tydiqa_takes_the_best_answer() {
    let doc =
        doc(json!({"context": "c", "question": "q", "answers": {"text": ["1889", "in the year 1889"], "answer_start": [0, 0]}}));
    let scores = task("tydiqa_english", Profile::Canonical).unwrap().score(&doc, &generated(" In 1889")).unwrap();
    assert_eq!(value(&scores, "exact_match"), 0.0);
    assert!((value(&scores, "f1") - 0.8).abs() < 1e-12); // {in, 1889} of {in, year, 1889}: P 1, R 2/3
}

#[test]
fn translation_is_scored_over_the_corpus() {
    // tasks.md section 8: BLEU 33.80, chrF 70.5678055
    let hypotheses = ["The cat sat on the mat.", "Hello, world! It's 3.5 degrees."];
    let references = ["The cat is on the mat.", "Hello world! It is 3.5 degrees."];
    for profile in [Profile::Compat, Profile::Canonical] {
        let task = task("wmt23-he-en", profile).unwrap();
        let scores: Vec<DocScores> = hypotheses
            .iter()
            .zip(references)
            .map(|(h, r)| {
                task.score(&doc(json!({"source_text": "s", "target_text": r})), &generated(&format!(" {h}\n"))).unwrap()
            })
            .collect();
        let found = task.aggregate(&scores).unwrap();
        let of = |name: &str| found.iter().find(|a| a.metric == name).unwrap();
        assert!((of("chrf").value - 0.705678055).abs() < 5e-10 && (of("bleu").value - 0.3380).abs() < 5e-5, "{found:?}");
        assert!(of("chrf").stderr.unwrap() > 0.0 && of("chrf").n == 2);
    }
    // no BLEU into Japanese
    let metrics: Vec<String> =
        task("wmt23-en-ja", Profile::Canonical).unwrap().spec().metrics.iter().map(|m| m.name.clone()).collect();
    assert_eq!(metrics, ["chrf"]);
}

/// The score of an answer whose one program is expected to be `source` and ends with `verdict`.
fn judged(task: &dyn Task, doc: &Doc, answer: &str, source: &str, verdict: Verdict) -> Result<DocScores, TaskError> {
    let responses = generated(answer);
    let programs = task.programs(doc, &responses)?;
    assert_eq!(programs.iter().map(|program| program.source.as_str()).collect::<Vec<_>>(), [source]);
    task.score_verdicts(doc, &responses, &[verdict])
}

#[test]
fn code_is_scored_by_its_verdict_and_never_without_one() {
    let mbpp = task("mbpp", Profile::Canonical).unwrap();
    let doc = doc(json!({"text": "t", "code": "c", "test_list": ["assert a", "assert b", "assert c"]}));
    let source = "def f(): pass\n\nassert a\nassert b\nassert c";
    let run = |verdict: Verdict| judged(mbpp.as_ref(), &doc, "def f(): pass\n", source, verdict);
    let passed = run(Verdict::Pass { stdout: String::new() }).unwrap();
    assert_eq!((value(&passed, "pass_at_1"), passed.verdict.as_deref()), (1.0, Some("pass")));
    let late = run(Verdict::Timeout).unwrap();
    assert_eq!((value(&late, "pass_at_1"), late.verdict.as_deref()), (0.0, Some("timeout")));
    assert!(matches!(run(Verdict::NotRun { reason: "no interpreter".to_owned() }), Err(TaskError::Executor { .. })));
    assert!(matches!(mbpp.score(&doc, &generated("x")), Err(TaskError::NeedsExecutor { .. })));
}

#[test]
fn a_program_that_prints_is_judged_by_its_last_line() {
    let pal = task("gsm8k_pal", Profile::Canonical).unwrap();
    let doc = doc(json!({"question": "q", "answer": "#### 1,200", "answer_number": "1,200"}));
    let score = |stdout: &str| {
        let (answer, source) =
            ("def solution():\n    return 1200\n\nQ: next", "def solution():\n    return 1200\n\n\nprint(solution())");
        let verdict = Verdict::Pass { stdout: stdout.to_owned() };
        value(&judged(pal.as_ref(), &doc, answer, source, verdict).unwrap(), "exact_match")
    };
    assert_eq!((score("note\n1200.0005\n"), score("1200.01"), score("many"), score("")), (1.0, 0.0, 0.0, 0.0));
}

#[test]
fn an_aggregate_needs_every_document() {
    let task = task("boolq", Profile::Canonical).unwrap();
    let doc = doc(json!({"passage": "p", "question": "q", "label": 1}));
    let scored = task.score(&doc, &loglikelihoods(&[-1.0, -0.5])).unwrap();
    let mut lost = scored.clone();
    lost.metrics.clear();
    assert!(matches!(task.aggregate(&[scored.clone(), lost]), Err(TaskError::Aggregate { .. })));
    assert!(matches!(task.aggregate(&[]), Err(TaskError::Aggregate { .. })));
    let one = task.aggregate(&[scored]).unwrap();
    assert_eq!((one[0].value, one[0].stderr, one[0].n), (1.0, None, 1));
}

#[test]
fn clusters_widen_the_error_of_copies() {
    let task = task("belebele_eng_Latn", Profile::Canonical).unwrap();
    let mut scores = Vec::new();
    for i in 0..8 {
        let mut document = Doc::new(i, doc(json!({"gold": 0})).fields);
        document.cluster_id = Some((i / 2).to_string());
        let right = i / 2 % 2 == 0; // both of a passage, or neither
        scores.push(task.score(&document, &loglikelihoods(&[if right { -1.0 } else { -9.0 }, -2.0, -3.0, -4.0])).unwrap());
    }
    let acc = &task.aggregate(&scores).unwrap()[0];
    // naive: √(8·0.25/7)/√8 = 0.18898; clustered: √(4·(2·0.5)²)/8 = 0.25
    assert!((acc.stderr.unwrap() - 0.188982236504614).abs() < 1e-12 && (acc.stderr_clustered.unwrap() - 0.25).abs() < 1e-15);
}

#[test]
fn rolling_is_a_ratio_of_sums() {
    let task = task("wikitext", Profile::Canonical).unwrap();
    let page = |id: usize, page: &str, loglikelihood: f64| {
        let document = Doc::new(id, doc(json!({"page": page, "text": page})).fields);
        task.score(&document, &[Response::Rolling { loglikelihood }]).unwrap()
    };
    let scores = [page(0, "a b", -3.0), page(1, "abcde", -5.0)];
    assert_eq!(scores[0].metrics["word_ppl"], MetricValue::Ratio(-3.0, 2.0));
    let found = task.aggregate(&scores).unwrap();
    let of = |name: &str| found.iter().find(|a| a.metric == name).unwrap();
    assert!((of("word_ppl").value - (8.0_f64 / 3.0).exp()).abs() < 1e-12); // 3 words
    assert!((of("byte_ppl").value - 1.0_f64.exp()).abs() < 1e-12); // 8 bytes
    assert!((of("bits_per_byte").value - 1.0 / std::f64::consts::LN_2).abs() < 1e-12);
    assert!(found.iter().all(|a| a.stderr.is_none() && !a.higher_is_better));
}
