//! Prompts, shots, filters, metrics and aggregates against a pack of the reference harness (`PARITY_DIR/lm_eval`): every row of every file.
//!
//! The responses are the stored log-likelihoods and generations, so nothing here depends on a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tasks::{
    Aggregate, DataSource, DocScores, MetricValue, OutputKind, PreparedDoc, Profile, Request, Response, Task, TaskData,
    aggregate_group, load_docs, prepare, task,
};

use crate::packs::{data, parity, rows};

/// One file of the pack: its name without the ending, the task and the number of shots if it says one.
struct Run {
    name: String,
    task: String,
    num_fewshot: Option<usize>,
    rows: Vec<Value>,
}

fn runs(pack: &Path) -> Vec<Run> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(pack.join("expected")).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".jsonl").map(str::to_owned) else { continue };
        if name.starts_with("api_") {
            continue; // requests of the model interface, not of a task
        }
        let (task, shots) =
            name.rsplit_once('.').map_or((name.as_str(), None), |(task, shots)| (task, shots.strip_suffix("shot")));
        found.push(Run { task: task.to_owned(), num_fewshot: shots.map(|n| n.parse().unwrap()), rows: rows(&path), name });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

struct Loaded {
    task: Box<dyn Task>,
    data: TaskData,
    prepared: Vec<PreparedDoc>,
}

fn load(pack: &Path, run: &Run) -> Loaded {
    let folders: Vec<PathBuf> = [pack.join("data")].into_iter().chain(data()).collect();
    let task = task(&run.task, Profile::Compat).unwrap();
    let data = load_docs(task.as_ref(), DataSource::Dirs(&folders)).unwrap_or_else(|e| panic!("{}: {e}", run.name));
    let prepared = prepare(task.as_ref(), &data, run.num_fewshot, None).unwrap_or_else(|e| panic!("{}: {e}", run.name));
    assert_eq!(prepared.len(), run.rows.len(), "{}: documents", run.name);
    Loaded { task, data, prepared }
}

fn text<'v>(row: &'v Value, field: &str) -> &'v str {
    row[field].as_str().unwrap_or_else(|| panic!("text `{field}` in {row}"))
}

fn no_difference(place: &str, found: &str, expected: &str) {
    if found != expected {
        let at = found.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
        let around = |t: &str| t.chars().skip(at.saturating_sub(40)).take(80).collect::<String>();
        panic!("{place}: texts differ at character {at}: found {:?}, expected {:?}", around(found), around(expected));
    }
}

#[test]
fn prompts_are_character_identical() {
    let Some(pack) = parity("lm_eval") else { return };
    let mut texts = 0;
    for run in runs(&pack) {
        let loaded = load(&pack, &run);
        for (prepared, row) in loaded.prepared.iter().zip(&run.rows) {
            let place = format!("{} document {}", run.name, prepared.doc.doc_id);
            assert_eq!(row["doc_id"], prepared.doc.doc_id, "{place}");
            match loaded.task.spec().output {
                OutputKind::MultipleChoice => {
                    let choices = row["choices"].as_array().unwrap();
                    assert_eq!(prepared.requests.len(), choices.len(), "{place}: options");
                    for (request, choice) in prepared.requests.iter().zip(choices) {
                        let Request::Loglikelihood { context, continuation } = request else { panic!("{place}: {request:?}") };
                        no_difference(&place, context, text(row, "context"));
                        no_difference(&place, continuation, text(choice, "continuation"));
                        texts += 2;
                    }
                }
                OutputKind::GenerateUntil => {
                    let [Request::GenerateUntil { context, options }] = prepared.requests.as_slice() else { panic!("{place}") };
                    no_difference(&place, context, text(row, "context"));
                    let sent = &row["gen_kwargs"];
                    assert_eq!(serde_json::to_value(&options.until).unwrap(), sent["until"], "{place}: stops");
                    let max = sent.get("max_gen_toks").map_or(256, |n| n.as_u64().unwrap() as usize);
                    assert_eq!(
                        (options.max_gen_toks, options.do_sample, options.temperature),
                        (max, false, 0.0),
                        "{place}: settings"
                    );
                    texts += 1;
                }
                OutputKind::LoglikelihoodRolling => {
                    let [Request::LoglikelihoodRolling { text: asked }] = prepared.requests.as_slice() else { panic!("{place}") };
                    no_difference(&place, asked, text(row, "text"));
                    texts += 1;
                }
            }
        }
    }
    eprintln!("{texts} texts identical");
    assert!(texts > 0, "the pack holds no rows");
}

fn responses(output: OutputKind, row: &Value) -> Vec<Response> {
    match output {
        OutputKind::MultipleChoice => row["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|choice| Response::Loglikelihood {
                loglikelihood: choice["logprob"].as_f64().unwrap(),
                is_greedy: choice["is_greedy"].as_bool().unwrap(),
                truncated_tokens: 0,
                boundary: false,
            })
            .collect(),
        OutputKind::GenerateUntil => vec![Response::Text { text: text(row, "generation").to_owned(), truncated_tokens: 0 }],
        OutputKind::LoglikelihoodRolling => vec![Response::Rolling { loglikelihood: row["logprob"].as_f64().unwrap() }],
    }
}

/// Our name of a metric of the reference; none where the reference's number is not ours to reproduce (another equality of MATH answers).
fn our_metric(spec_name: &str, metric: &str, filter: &str) -> Option<String> {
    let name = match metric {
        "exact_match" if spec_name.starts_with("minerva_math") => "math_equiv",
        "math_verify" => return None,
        "word_perplexity" => "word_ppl",
        "byte_perplexity" => "byte_ppl",
        other => other,
    };
    Some(if matches!(filter, "none" | "create_test") { name.to_owned() } else { format!("{name},{filter}") })
}

/// The scores of a run's documents from the stored responses; `None` for tasks that run programs.
fn scores(loaded: &Loaded, run: &Run) -> Option<Vec<DocScores>> {
    let spec = loaded.task.spec();
    if spec.needs_executor {
        return None;
    }
    let score = |(prepared, row): (&PreparedDoc, &Value)| loaded.task.score(&prepared.doc, &responses(spec.output, row));
    Some(loaded.prepared.iter().zip(&run.rows).map(|pair| score(pair).unwrap_or_else(|e| panic!("{}: {e}", run.name))).collect())
}

#[test]
fn filters_and_document_metrics_are_equal() {
    let Some(pack) = parity("lm_eval") else { return };
    let (mut values, mut answers) = (0, 0);
    for run in runs(&pack) {
        let loaded = load(&pack, &run);
        let Some(scored) = scores(&loaded, &run) else { continue };
        for (scores, row) in scored.iter().zip(&run.rows) {
            let place = format!("{} document {}", run.name, scores.doc_id);
            if let Some(gold) = scores.gold {
                assert_eq!(row["target"], gold, "{place}: gold option");
            }
            // multiple choice has the filter `none` and no other
            for (filter, metrics) in row["metrics"].as_object().unwrap() {
                for (metric, expected) in metrics.as_object().unwrap() {
                    let Some(name) = our_metric(&run.task, metric, filter) else { continue };
                    let found = scores.metrics.get(&name).unwrap_or_else(|| panic!("{place}: no metric {name}"));
                    match found {
                        MetricValue::Number(number) => assert_eq!(Some(*number), expected.as_f64(), "{place}: {name}"),
                        MetricValue::Ratio(top, bottom) => {
                            assert_eq!(
                                (Some(*top), Some(*bottom)),
                                (expected[0].as_f64(), expected[1].as_f64()),
                                "{place}: {name}"
                            );
                        }
                        MetricValue::Texts { .. } => panic!("{place}: {name} is a corpus metric"),
                    }
                    values += 1;
                }
            }
            for (filter, expected) in row.get("filtered").and_then(Value::as_object).into_iter().flatten() {
                if filter == "none" {
                    continue; // the generation itself
                }
                assert_eq!(scores.answers.get(filter).map(String::as_str), expected[0].as_str(), "{place}: filter {filter}");
                answers += 1;
            }
        }
    }
    eprintln!("{values} document metrics and {answers} filtered answers equal");
    assert!(values > 0 && answers > 0, "the pack holds no rows");
}

/// |found − expected| as a fraction of expected.
fn relative(found: f64, expected: f64) -> f64 {
    if found == expected { 0.0 } else { (found - expected).abs() / expected.abs() }
}

#[test]
fn aggregates_and_errors_agree() {
    let Some(pack) = parity("lm_eval") else { return };
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(pack.join("expected/results.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    let mut aggregates: BTreeMap<String, Vec<Aggregate>> = BTreeMap::new();
    let (mut checked, mut largest) = (0, 0.0_f64);
    let mut compare = |place: &str, found: Option<f64>, expected: &Value| match (found, expected.as_f64()) {
        (Some(found), Some(expected)) => {
            let deviation = relative(found, expected);
            assert!(deviation <= 1e-12, "{place}: found {found}, expected {expected}");
            largest = largest.max(deviation);
            checked += 1;
        }
        (found, _) => assert!(found.is_none(), "{place}: found {found:?}, expected {expected}"),
    };
    for run in runs(&pack) {
        let loaded = load(&pack, &run);
        let result = &expected[&run.name];
        let spec = loaded.task.spec();
        assert_eq!(spec.version.parse::<f64>().ok(), result["version"].as_f64(), "{}: version", run.name);
        assert_eq!(result["n"], loaded.data.docs.len(), "{}: documents", run.name);
        assert_eq!(
            run.num_fewshot.unwrap_or(spec.num_fewshot),
            result["num_fewshot"].as_u64().unwrap() as usize,
            "{}: shots",
            run.name
        );
        let Some(scored) = scores(&loaded, &run) else { continue };
        let found = loaded.task.aggregate(&scored).unwrap();
        for (key, value) in result["results"].as_object().unwrap() {
            let Some((metric, filter)) = key.split_once(',') else { continue };
            let (metric, is_error) = metric.strip_suffix("_stderr").map_or((metric, false), |m| (m, true));
            let Some(name) = our_metric(&run.task, metric, filter) else { continue };
            let ours = found.iter().find(|a| a.metric == name).unwrap_or_else(|| panic!("{}: no aggregate {name}", run.name));
            compare(&format!("{} {key}", run.name), if is_error { ours.stderr } else { Some(ours.value) }, value);
        }
        aggregates.insert(run.name.clone(), found);
    }
    for (name, group) in expected.iter().filter(|(name, _)| name.starts_with("group:")) {
        // `group:mmlu_4.mmlu_5shot`: the leaves of run `mmlu_5shot`
        let members: Vec<&str> = group["members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
        let leaves: Vec<(String, Vec<Aggregate>)> = expected
            .iter()
            .filter(|(run, leaf)| leaf["run"] == group["run"] && aggregates.contains_key(*run))
            .filter(|(_, leaf)| members.iter().any(|m| leaf["task"] == format!("mmlu_{m}")))
            .map(|(run, leaf)| (text(leaf, "task").to_owned(), aggregates[run].clone()))
            .collect();
        assert_eq!(leaves.len(), members.len(), "{name}");
        let found = aggregate_group("mmlu", &leaves).unwrap();
        let acc = found.iter().find(|a| a.metric == "acc").unwrap();
        compare(&format!("{name} acc"), Some(acc.value), &group["results"]["acc,none"]);
        compare(&format!("{name} stderr"), acc.stderr, &group["results"]["acc_stderr,none"]);
        assert_eq!(group["results"]["sample_len"], acc.n, "{name}: documents");
    }
    eprintln!("{checked} aggregates and errors, largest relative deviation {largest:e}");
    assert!(checked > 0, "the pack holds no results");
}

#[test]
fn programs_are_those_the_reference_ran() {
    let Some(pack) = parity("lm_eval") else { return };
    let mut checked = 0;
    for run in runs(&pack) {
        let loaded = load(&pack, &run);
        if !loaded.task.spec().needs_executor {
            continue;
        }
        for (prepared, row) in loaded.prepared.iter().zip(&run.rows) {
            let programs = loaded.task.programs(&prepared.doc, &responses(OutputKind::GenerateUntil, row)).unwrap();
            // the reference joins a filtered completion and the target, which holds the tests
            let (filter, filtered) = row["filtered"].as_object().unwrap().iter().next().unwrap();
            let completion = if filter == "none" { &filtered[0] } else { &filtered[0][0] };
            let expected = format!("{}\n{}", completion.as_str().unwrap(), text(row, "target"));
            no_difference(&format!("{} document {}", run.name, prepared.doc.doc_id), &programs[0].source, &expected);
            checked += 1;
        }
    }
    eprintln!("{checked} programs identical");
    assert!(checked > 0, "the pack holds no code tasks");
}

#[test]
fn text_cleaning_is_that_of_the_reference() {
    let Some(pack) = parity("metrics") else { return };
    let folder = tempfile("text-cleaning");
    // the loaders read files, so each reference row becomes a document of one
    let mut checked = 0;
    let pages = rows(&pack.join("wikitext_text.jsonl"));
    std::fs::create_dir_all(folder.join("wikitext")).unwrap();
    std::fs::copy(pack.join("wikitext_text.jsonl"), folder.join("wikitext/pages.jsonl")).unwrap();
    let wikitext = task("wikitext", Profile::Compat).unwrap();
    let data = load_docs(wikitext.as_ref(), DataSource::Dir(&folder)).unwrap();
    for (doc, row) in data.docs.iter().zip(&pages) {
        no_difference("wikitext", doc.text("text").unwrap(), text(row, "text"));
        let scores = wikitext.score(doc, &[Response::Rolling { loglikelihood: -1.0 }]).unwrap();
        assert_eq!(scores.metrics["word_ppl"], MetricValue::Ratio(-1.0, row["words"].as_f64().unwrap()));
        assert_eq!(scores.metrics["byte_ppl"], MetricValue::Ratio(-1.0, row["bytes"].as_f64().unwrap()));
        checked += 1;
    }
    assert_eq!(data.docs.len(), pages.len());
    let items = rows(&pack.join("hellaswag_text.jsonl"));
    let lines: String = items
        .iter()
        .map(|row| {
            let mut row = row.as_object().unwrap().clone();
            row.insert("label".into(), "0".into());
            // odd rows hold fewer endings than a document has: the first is repeated
            let mut endings = row["endings"].as_array().unwrap().clone();
            endings.resize(4, endings[0].clone());
            row.insert("endings".into(), endings.into());
            serde_json::to_string(&row).unwrap() + "\n"
        })
        .collect();
    std::fs::create_dir_all(folder.join("hellaswag")).unwrap();
    std::fs::write(folder.join("hellaswag/hellaswag_val.jsonl"), lines).unwrap();
    let hellaswag = task("hellaswag", Profile::Compat).unwrap();
    let data = load_docs(hellaswag.as_ref(), DataSource::Dir(&folder)).unwrap();
    for (doc, row) in data.docs.iter().zip(&items) {
        no_difference("hellaswag query", doc.text("query").unwrap(), text(row, "query"));
        let choices = row["choices"].as_array().unwrap();
        assert_eq!(&doc.fields["choices"].as_array().unwrap()[..choices.len()], choices, "hellaswag choices");
        checked += 1;
    }
    assert_eq!(data.docs.len(), items.len());
    std::fs::remove_dir_all(&folder).unwrap();
    eprintln!("{checked} cleaned texts identical");
}

fn tempfile(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tasks-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
