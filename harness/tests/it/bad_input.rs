//! Broken benchmark files and models, as a person meets them: one clear error, or a counted failure of a document; never a silent 0.

use std::path::Path;

use candle_core::{DType, Device};
use harness::eval::encode::SpecialTokens;
use harness::eval::{AnswerOptions, Budget, Evaluator, LoadedModel, Softmax};
use serde_json::Value;
use tasks::{Generation, LanguageModel as _, Profile, Request, RequestErrorKind};

use crate::support::{Project, fixture_folder, stderr};

fn load(folder: &Path, special: SpecialTokens) -> LoadedModel {
    LoadedModel::from_pretrained_with(folder, DType::F32, &Device::Cpu, special).unwrap()
}

fn options() -> AnswerOptions {
    AnswerOptions { profile: Profile::Canonical, budget: Budget::default(), softmax: Softmax::F32 }
}

fn scored(context: &str, continuation: &str) -> Request {
    Request::Loglikelihood { context: context.to_owned(), continuation: continuation.to_owned() }
}

fn written(context: &str, max_gen_toks: usize) -> Request {
    Request::GenerateUntil { context: context.to_owned(), options: Generation { max_gen_toks, ..Generation::default() } }
}

/// `boolq/dev.jsonl` with these bytes, asked of the tiny model.
fn boolq(bytes: &[u8], code: i32) -> String {
    let project = Project::new();
    std::fs::create_dir_all(project.path("data/boolq")).unwrap();
    std::fs::write(project.path("data/boolq/dev.jsonl"), bytes).unwrap();
    let folder = fixture_folder(|_| {});
    let model = folder.path().display().to_string();
    stderr(project.harness(&["eval", "--task", "boolq", "--model", &model, "--data", "data", "--out", "out"]), code)
}

const GOOD: &str = r#"{"question": "is it red", "title": "x", "answer": true, "passage": "It is red."}"#;

#[test]
fn a_renamed_field_is_named_with_its_line() {
    let error = boolq(format!("{GOOD}\n{}\n", GOOD.replace("\"answer\"", "\"anser\"")).as_bytes(), 2);
    assert!(error.contains("dev.jsonl: record 2: field `label`: expected true, false, 1 or 0"), "{error}");
    assert!(error.contains("found no such field among: question, title, anser, passage"), "{error}");
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_file() {
    let error = boolq(&[GOOD.as_bytes(), b"\n{\"question\": \"\xff\xfe\"}\n"].concat(), 2);
    assert!(error.contains("dev.jsonl") && error.contains("UTF-8"), "{error}");
}

#[test]
fn an_empty_file_is_an_error_and_a_short_one_is_said() {
    let error = boolq(b"", 2);
    assert!(error.contains("dev.jsonl: expected at least one record, found none"), "{error}");
    let error = boolq(format!("{GOOD}\n").as_bytes(), 0);
    assert!(error.contains("1 documents where the published split has 3270"), "{error}");
}

#[test]
fn a_model_that_gives_nan_fails_document_by_document() {
    let folder = fixture_folder(|_| {});
    let file = folder.path().join("model.safetensors");
    // The final norm's weights, all bf16 NaN: every logit is one.
    let bytes = std::fs::read(&file).unwrap();
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    let at = &header["model.norm.weight"]["data_offsets"];
    let mut broken = bytes.clone();
    for pair in broken[8 + header_len..][at[0].as_u64().unwrap() as usize..at[1].as_u64().unwrap() as usize].chunks_exact_mut(2) {
        pair.copy_from_slice(&0x7fc0u16.to_le_bytes());
    }
    std::fs::write(&file, broken).unwrap();
    let model = load(folder.path(), SpecialTokens::default());
    let answers = Evaluator::new(&model, options()).answer(&[scored("It is", " red"), written("It is", 4)]);
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind, RequestErrorKind::NotFinite);
    }
    // As a person meets it: the task fails by name.
    let (project, path) = (Project::new(), folder.path().display().to_string());
    let error = stderr(
        project.harness(&["eval", "--task", "boolq", "--limit", "2", "--model", &path, "--data", "bundled", "--out", "o"]),
        2,
    );
    assert!(error.contains("not run: boolq: failed: none of 2 documents could be scored: not finite"), "{error}");
    assert!(error.contains("error: expected a score of at least one task, found none: failed: none of 2"), "{error}");
    // What happened is written all the same, document by document.
    let samples = std::fs::read_dir(project.path("o/samples")).unwrap().next().unwrap().unwrap().path().join("boolq.jsonl");
    let samples = std::fs::read_to_string(samples).unwrap();
    assert!(samples.lines().count() == 2 && samples.lines().all(|line| line.contains("\"error\":\"not finite")), "{samples}");
}

#[test]
fn a_prompt_longer_than_the_model_is_cut_and_counted_and_one_without_room_fails_alone() {
    let folder = fixture_folder(|config| config["max_position_embeddings"] = serde_json::json!(32));
    let model = load(folder.path(), SpecialTokens::default());
    let long = "It is red and blue. ".repeat(30);
    let requests = [scored(&long, " yes"), written(&long, 8), written("It is", 32), scored("It is", &long)];
    let answers = Evaluator::new(&model, options()).answer(&requests);
    assert!(answers[0].as_ref().unwrap().truncated_tokens() > 0 && answers[1].as_ref().unwrap().truncated_tokens() > 0);
    for answer in &answers[2..] {
        assert_eq!(answer.as_ref().unwrap_err().kind, RequestErrorKind::TooLong);
    }
}

#[test]
fn a_tokenizer_without_bos_and_eos_fails_only_where_it_needs_one() {
    let folder = fixture_folder(|config| {
        let config = config.as_object_mut().unwrap();
        config.remove("bos_token_id");
        config.remove("eos_token_id");
    });
    std::fs::write(folder.path().join("tokenizer_config.json"), "{}").unwrap();
    let model = load(folder.path(), SpecialTokens::default());
    let requests = [
        scored("It is", " red"),
        scored("", "red"),
        Request::LoglikelihoodRolling { text: "It is red.".to_owned() },
        written("", 4),
    ];
    let answers = Evaluator::new(&model, options()).answer(&requests);
    assert!(answers[0].is_ok());
    for answer in &answers[1..] {
        assert_eq!(answer.as_ref().unwrap_err().kind, RequestErrorKind::EmptyContext);
    }
}

#[test]
fn an_empty_answer_is_scored_as_wrong_and_counted_as_unread() {
    let task = tasks::task("gsm8k", Profile::Canonical).unwrap();
    let data = tasks::load_docs(task.as_ref(), tasks::DataSource::Bundled).unwrap();
    let response = tasks::Response::Text { text: String::new(), truncated_tokens: 0 };
    let scores = task.score(&data.docs[0], &[response]).unwrap();
    assert!(scores.is_unparsed);
    assert!(scores.metrics.values().all(|value| value.number() == Some(0.0)), "{:?}", scores.metrics);
}

#[test]
fn a_memory_bound_below_one_request_is_refused_and_the_bound_is_said_before_the_first_request() {
    let (project, folder) = (Project::new(), fixture_folder(|_| {}));
    let path = folder.path().display().to_string();
    let eval = |bytes: &str, code| {
        let arguments = [
            "eval",
            "--task",
            "boolq",
            "--limit",
            "2",
            "--model",
            &path,
            "--data",
            "bundled",
            "--out",
            "o",
            "--max-memory",
            bytes,
        ];
        stderr(project.harness(&arguments), code)
    };
    let error = eval("1000", 2);
    assert!(error.contains("--max-memory: expected at least") && error.contains("for a request of 1 positions"), "{error}");
    let smallest: u64 = error.split("at least ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    // Room for one position is enough to load the model, and too little for the documents.
    let error = eval(&smallest.to_string(), 2);
    assert!(error.contains("memory: at most 0.0") && error.contains("cannot ask task `boolq`"), "{error}");
    let longest: u64 = error.split("a request of ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let needed: u64 = error.split("at least ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((2..1024).contains(&longest) && needed > smallest, "{error}");
    // The bound that it names suffices: less than the model's 1,024 positions.
    eval(&needed.to_string(), 0);
    assert!(eval("100000000", 0).contains("memory: at most 0.0"));
}

#[test]
fn rows_leave_and_enter_a_generation_without_changing_it() {
    let folder = fixture_folder(|_| {});
    let model = load(folder.path(), SpecialTokens::default());
    let shared = "Jorin wears a grey coat. He is a baker. ".repeat(3);
    let requests: Vec<Request> =
        (0..9).map(|i| written(&format!("{shared}{} and", "Anka met Pavo. ".repeat(i % 4)), 3 + 5 * (i % 3))).collect();
    let ask = |budget: Budget| Evaluator::new(&model, AnswerOptions { budget, ..options() }).answer(&requests);
    let together = ask(Budget::default());
    assert!(together.iter().all(Result::is_ok));
    let base = Budget::default();
    for budget in [
        Budget { decode_rows: 1, share_prefixes: false, ..base },
        Budget { decode_rows: 2, batch_tokens: 7, ..base },
        Budget { cache_tokens: 1, ..base },
    ] {
        assert_eq!(ask(budget), together, "{budget:?}");
    }
}
