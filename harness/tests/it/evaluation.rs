//! `eval`, `selfcheck` and `compare` as people and scripts meet them: the results contract, repetition, helpful failures.

use crate::support::{Project, fixture_folder, stderr, stdout};
use serde_json::Value;
use std::path::Path;

/// A project with one finished run of five steps; long enough positions for the bundled documents.
fn trained() -> (Project, String) {
    trained_for(256)
}

/// A run whose model takes that many positions: a generated answer needs more than a choice.
fn trained_for(positions: usize) -> (Project, String) {
    let project = Project::new();
    let positions = format!("model.max_position_embeddings={positions}");
    let sets = ["max_steps=5", "eval_every=0", "checkpoint_every=0", &positions];
    project.train(&sets).assert().success();
    let run = project.only_run("runs").display().to_string();
    (project, run)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn results_follow_the_contract_and_repeat_exactly() {
    let (project, run) = trained();
    let eval = |out: &str| {
        let arguments = ["eval", "--task", "boolq,hellaswag,mmlu", "--limit", "4", "--model", &run, "--out", out];
        project.harness(&arguments).assert().success();
        read(&project.path(out).join("results.json"))
    };
    let results = eval("first");
    assert_eq!(results["schema"], 1);
    assert_eq!(results["provenance"]["tier"], "demo");
    let tasks = results["models"]["t"]["tasks"].as_object().unwrap();
    assert!(tasks.contains_key("mmlu") && tasks.keys().filter(|name| name.starts_with("mmlu_")).count() >= 4, "{tasks:?}");
    for name in ["boolq", "hellaswag"] {
        let task = &tasks[name];
        assert_eq!((&task["n"], &task["limit"], &task["failed"]), (&4.into(), &4.into(), &0.into()), "{name}");
        assert!(task["version"].is_string() && task["num_fewshot"].is_u64() && task["truncated"].is_u64());
        let samples = std::fs::read_to_string(project.path("first").join(format!("samples/t/{name}.jsonl"))).unwrap();
        let samples: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(samples.len(), 4);
        for sample in &samples {
            let request = &sample["requests"][0];
            assert!(request["context"].is_string() && request["continuation"].as_str().unwrap().starts_with(' '));
            assert!(request["loglikelihood"].as_f64().unwrap() < 0.0 && request["is_greedy"].is_boolean());
        }
        // The task's score is the mean of its documents'.
        let mean = samples.iter().map(|sample| sample["metrics"]["acc"].as_f64().unwrap()).sum::<f64>() / 4.0;
        assert_eq!(task["metrics"]["acc"]["value"].as_f64().unwrap(), mean);
        assert_eq!(task["metrics"]["acc"]["higher_is_better"], true);
    }
    for file in ["report/index.html", "report/tables/quality.md", "records.jsonl", "manifest.json"] {
        assert!(project.path("first").join(file).is_file(), "{file}");
    }

    // The second time every answer comes from the cache, which does not grow.
    let caches =
        || std::fs::read_dir(project.path("runs/_cache/responses")).unwrap().map(|f| f.unwrap().metadata().unwrap().len());
    let size: u64 = caches().sum();
    assert_eq!(eval("second")["models"], results["models"]);
    assert_eq!(caches().sum::<u64>(), size);
}

#[test]
fn scores_do_not_depend_on_how_they_are_asked_for() {
    let (project, run) = trained();
    let out = stdout(project.harness(&["selfcheck", "--model", &run, "--limit", "3"]));
    assert!(out.contains("scores do not depend on how they are asked for"), "{out}");
    // A task that generates 256 tokens leaves a model of 256 positions no room for a prompt: nothing was compared.
    let error = stderr(project.harness(&["selfcheck", "--model", &run, "--limit", "2", "--task", "hendrycks_math_algebra"]), 2);
    assert!(error.contains("expected answers to compare, found that all of 2 requests fail: too long"), "{error}");
    let mixed = ["selfcheck", "--model", &run, "--limit", "2", "--task", "boolq,hendrycks_math_algebra"];
    assert!(stdout(project.harness(&mixed)).contains("6 requests to"));
    let found: Value = serde_json::from_str(&stdout(project.harness(&[&mixed[..], &["--format", "json"]].concat()))).unwrap();
    assert_eq!((&found["requests"], &found["unanswered"]), (&6.into(), &2.into()), "{found}");
    assert_eq!(found["checks"].as_array().unwrap().len(), 5);
}

#[test]
fn two_models_are_compared_by_documents() {
    let (project, run) = trained();
    let other = project.path("u");
    copy(Path::new(&run), &other);
    let config = std::fs::read_to_string(other.join("config.toml")).unwrap().replace("name = \"t\"", "name = \"u\"");
    std::fs::write(other.join("config.toml"), config).unwrap();
    let other = other.display().to_string();
    project
        .harness(&["eval", "--task", "boolq", "--limit", "6", "--model", &run, "--model", &other, "--out", "both"])
        .assert()
        .success();
    let out = stdout(project.harness(&["compare", "t", "u", "--from", "both", "--format", "json"]));
    let rows: Value = serde_json::from_str(&out).unwrap();
    let acc = rows.as_array().unwrap().iter().find(|row| row["metric"] == "acc").unwrap();
    assert_eq!((&acc["n"], &acc["difference"], &acc["basis"]), (&6.into(), &0.0.into(), &"documents".into()), "{acc}");
    let error = stderr(project.harness(&["compare", "t", "v", "--from", "both"]), 2);
    assert!(error.contains("unknown model in these records: `v` (there are: t, u)"), "{error}");
}

/// `results.json` without what must differ between two runs of the same evaluation.
fn comparable(folder: &Path) -> Value {
    let mut results = read(&folder.join("results.json"));
    for key in ["command", "started_utc", "finished_utc"] {
        results["provenance"].as_object_mut().unwrap().remove(key);
    }
    results
}

#[test]
fn merged_shards_equal_the_unsharded_result() {
    let (project, run) = trained_for(1024);
    let eval = |more: &[&str]| {
        let common =
            ["eval", "--task", "boolq,hellaswag,gsm8k,wikitext", "--limit", "5", "--num-fewshot", "0", "--profile", "compat"];
        project.harness(&[&common[..], &["--model", &run, "--data", "bundled", "--no-cache"], more].concat()).assert().success();
    };
    eval(&["--out", "whole"]);
    for number in ["1", "2", "3"] {
        eval(&["--shard", &format!("{number}/3"), "--out", &format!("part-{number}")]);
        assert!(!project.path(&format!("part-{number}/results.json")).exists(), "a part has no result of its own");
    }
    stdout(project.harness(&["merge", "part-3", "part-1", "part-2", "--out", "merged"]));
    let (whole, merged) = (project.path("whole"), project.path("merged"));
    assert_eq!(comparable(&whole), comparable(&merged));
    let file = |folder: &Path, name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    for name in [
        "records.jsonl",
        "samples/t/boolq.jsonl",
        "samples/t/hellaswag.jsonl",
        "samples/t/gsm8k.jsonl",
        "samples/t/wikitext.jsonl",
    ] {
        assert_eq!(file(&whole, name), file(&merged, name), "{name}");
    }

    let error = stderr(project.harness(&["merge", "part-1", "part-3", "--out", "m"]), 2);
    assert!(error.contains("2/3 is missing") && error.contains("hint: run the same command with --shard 2/3"), "{error}");
    let error = stderr(project.harness(&["merge", "part-1", "part-2", "part-2", "part-3", "--out", "m"]), 2);
    assert!(error.contains("shard 2/3 is there twice"), "{error}");
    eval(&["--shard", "2/3", "--out", "part-2", "--dtype", "bf16", "--softmax-dtype", "model"]);
    let error = stderr(project.harness(&["merge", "part-1", "part-2", "part-3", "--out", "m"]), 2);
    assert!(
        error.contains("does not belong to the first") && error.contains("dtype: expected \"f32\", found \"bf16\""),
        "{error}"
    );
}

#[test]
fn a_repeated_evaluation_leaves_nothing_of_the_earlier_one() {
    let (project, run) = trained();
    // A folder that no evaluation wrote is not touched.
    std::fs::create_dir_all(project.path("o/samples")).unwrap();
    std::fs::write(project.path("o/samples/mine.txt"), "kept").unwrap();
    let eval = |task: &str| {
        project.harness(&["eval", "--task", task, "--limit", "2", "--model", &run, "--out", "o"]).assert().success();
    };
    let has = |name: &str| project.path("o/samples").join(name).is_file();
    eval("boolq");
    assert!(has("mine.txt") && has("t/boolq.jsonl"));
    eval("hellaswag");
    assert!(has("t/hellaswag.jsonl") && !has("t/boolq.jsonl"));
    let rows = records::read_rows(&project.path("o/records.jsonl")).unwrap().rows;
    assert!(rows.iter().all(|row| row.task.as_deref() != Some("boolq")));
    assert!(has("mine.txt"));
}

#[test]
fn records_of_other_commands_are_not_replaced() {
    let (project, run) = trained();
    let eval = |out: &str| ["eval", "--task", "boolq", "--limit", "2", "--model", &run, "--out", out].map(str::to_owned);
    let refused = |out: &str, found: &str| {
        let records = std::fs::read(Path::new(&project.path(out)).join("records.jsonl")).unwrap();
        let arguments = eval(out);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        for arguments in [arguments.clone(), [&arguments[..], &["--dry-run"]].concat()] {
            let error = stderr(project.harness(&arguments), 2);
            assert!(error.contains("expected an earlier one or nothing, found ") && error.contains(found), "{error}");
            assert!(error.contains("hint: --out DIR writes elsewhere"), "{error}");
        }
        assert_eq!(std::fs::read(Path::new(&project.path(out)).join("records.jsonl")).unwrap(), records);
    };
    refused(&run, "found run `t/");
    let measure =
        ["measure", "--config", "configs/train/t.toml", "--probe", "params", "--prompt-length", "8", "--output-length", "2"];
    project.harness(&[&measure[..], &["--out", "m"]].concat()).assert().success();
    refused("m", "found run `efficiency/");
    project.harness(&["merge", "m", "--out", "merged"]).assert().success();
    refused("merged", "found records without a manifest");
}

#[test]
fn a_suite_is_evaluated_and_measured_in_folders_of_its_own() {
    let (project, _) = trained();
    std::fs::create_dir_all(project.path("configs/suites")).unwrap();
    let suite = "name = \"s\"\nsubjects = [\"t\"]\n[[task]]\nname = \"boolq\"\nlimit = 2\n";
    std::fs::write(project.path("configs/suites/s.toml"), suite).unwrap();
    let plan = |command: &str, more: &[&str]| stdout(project.harness(&[&[command, "--suite", "s", "--dry-run"], more].concat()));
    assert!(plan("eval", &[]).contains("results: runs/_suites/s\n"), "{}", plan("eval", &[]));
    let measured = plan("measure", &["--probe", "params", "--prompt-length", "8", "--output-length", "2"]);
    assert!(measured.contains("records in runs/_measure/s\n"), "{measured}");
}

#[test]
fn a_whole_evaluation_leaves_no_part_of_an_earlier_one() {
    let (project, run) = trained();
    let eval = |more: &[&str]| {
        let common = ["eval", "--task", "boolq", "--limit", "2", "--model", &run, "--out", "o"];
        project.harness(&[&common[..], more].concat()).assert().success();
    };
    eval(&["--shard", "1/2"]);
    assert!(project.path("o/shard.json").is_file());
    eval(&[]);
    assert!(project.path("o/results.json").is_file() && !project.path("o/shard.json").exists());
}

#[test]
fn flags_that_would_do_nothing_are_refused() {
    let (project, run) = trained();
    let refused = |more: &[&str], expected: &str| {
        let error = stderr(project.harness(&[&["eval", "--task", "boolq", "--model", &run], more].concat()), 2);
        assert!(error.contains(expected), "{more:?}: {error}");
    };
    refused(&["--seed", "1"], "--seed: expected a suite's own subjects, found --model");
    refused(&["--softmax-dtype", "model"], "--softmax-dtype model: expected weights in `bf16` or `f16`, found `f32`");
    refused(&["--limit", "0"], "--limit: expected at least 1, found 0");
    refused(&["--unsafe-exec"], "--allow-code-execution");
    refused(&["--system", "Be brief."], "--system: expected --apply-chat-template beside it");
    refused(&["--batch-size", "4"], "--batch-size: expected tasks on pictures, found `boolq`, which asks about texts");
    refused(&["--apply-chat-template"], "model `t`: expected a chat template, found none");
}

#[test]
fn verification_says_what_this_build_was_compared_with() {
    let project = Project::new();
    let text = stdout(project.harness(&["eval", "--verify"]));
    assert!(text.contains("boolq, 0-shot") && text.contains("this build gives what lm-evaluation-harness 0.4.13"), "{text}");
    let found: Value = serde_json::from_str(&stdout(project.harness(&["eval", "--verify", "--format", "json"]))).unwrap();
    assert!(found["reference"].as_str().unwrap().starts_with("lm-evaluation-harness 0.4.13"), "{}", found["reference"]);
    assert!(found["checks"].as_array().unwrap().len() >= 8);
    assert!(stderr(project.harness(&["eval", "--verify", "--limit", "2"]), 2).contains("cannot be used with"));
    assert!(stderr(project.harness(&["eval", "--verify", "--dtype", "bf16"]), 2).contains("stored in it, found `bf16`"));
    assert!(stderr(project.harness(&["eval", "--verify", "--numerics", "bf16"]), 2).contains("--numerics"));
    assert!(stderr(project.harness(&["eval", "--verify", "--device", "tpu"]), 2).contains("found `tpu`"));
}

#[test]
fn programs_run_only_when_they_are_allowed_and_the_record_says_so() {
    let (project, run) = trained_for(2048);
    let eval = |out: &str, more: &[&str]| {
        let common = ["eval", "--task", "humaneval", "--limit", "2", "--model", &run, "--out", out];
        let output = project.harness(&[&common[..], more].concat()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (_, said) = eval("without", &[]);
    assert!(said.contains("not run: humaneval: unsupported: scoring runs programs that the model wrote"), "{said}");
    let flags: [&[&str]; 2] = [&["--allow-code-execution"], &["--allow-code-execution", "--unsafe-exec"]];
    for flags in flags {
        let (is_fine, said) = eval("with", flags);
        if !is_fine {
            assert!(said.contains("cannot run generated programs") && said.contains("harness doctor"), "{said}");
            eprintln!("skipped: {said}");
            continue;
        }
        let results = read(&project.path("with/results.json"));
        let entry = &results["models"]["t"]["tasks"]["humaneval"];
        let verdicts = entry["verdicts"].as_object().unwrap_or_else(|| panic!("no verdicts: {results:#}"));
        assert_eq!(verdicts.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 2, "{verdicts:?}");
        assert!(results["provenance"]["code_execution"].as_str().unwrap().starts_with("Python 3"));
    }
}

#[test]
fn a_chat_template_forms_every_prompt_and_is_recorded() {
    let (project, folder) = (Project::new(), fixture_folder(|_| {}));
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<answer>";
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let model = folder.path().display().to_string();
    let common = ["eval", "--task", "boolq", "--limit", "2", "--num-fewshot", "1", "--data", "bundled", "--model", &model];
    let more = ["--apply-chat-template", "--system", "Be brief.", "--fewshot-as-multiturn", "--out", "o"];
    project.harness(&[&common[..], &more].concat()).assert().success();
    let results = read(&project.path("o/results.json"));
    let (name, entry) = results["models"].as_object().unwrap().iter().next().unwrap();
    let digest = records::ids::sha256_hex(template.as_bytes());
    let expected = serde_json::json!({ "template_sha256": digest, "system": "Be brief.", "fewshot_as_multiturn": true });
    assert_eq!(entry["chat"], expected);
    let samples = std::fs::read_to_string(project.path("o/samples").join(name).join("boolq.jsonl")).unwrap();
    let sample: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    let context = sample["requests"][0]["context"].as_str().unwrap();
    let turns: Vec<&str> = context.split('<').skip(1).map(|turn| turn.split('>').next().unwrap()).collect();
    assert_eq!(turns, ["system", "user", "assistant", "user", "answer"], "{context}");
    assert!(context.starts_with("<system>Be brief.") && context.ends_with("<answer>"));
}

#[test]
fn a_score_carries_its_interval_chance_and_counts() {
    let (project, run) = trained_for(1024);
    let arguments = [
        "eval",
        "--task",
        "boolq,gsm8k",
        "--limit",
        "6",
        "--num-fewshot",
        "0",
        "--model",
        &run,
        "--data",
        "bundled",
        "--out",
        "o",
    ];
    project.harness(&arguments).assert().success();
    let tasks = &read(&project.path("o/results.json"))["models"]["t"]["tasks"];
    let acc = &tasks["boolq"]["metrics"]["acc"];
    let bounds: Vec<f64> = acc["interval_95"].as_array().unwrap().iter().map(|bound| bound.as_f64().unwrap()).collect();
    let value = acc["value"].as_f64().unwrap();
    assert!(bounds[0] <= value && value <= bounds[1], "{acc}");
    assert_eq!(acc["covers_chance"], bounds[0] <= 0.5 && 0.5 <= bounds[1], "{acc}");
    for count in ["truncated", "boundary", "unparsed", "failed"] {
        assert!(tasks["gsm8k"][count].is_u64(), "{count}");
    }
    let shares = tasks["boolq"]["options"]["gold"].as_array().unwrap();
    assert!((shares.iter().map(|share| share.as_f64().unwrap()).sum::<f64>() - 1.0).abs() < 1e-12);
}

#[test]
fn tasks_that_show_images_are_unsupported_rows() {
    let (project, run) = trained();
    std::fs::create_dir_all(project.path("configs/suites")).unwrap();
    let suite = "name = \"s\"\n[[task]]\nname = \"boolq\"\nlimit = 2\n[[task]]\nname = \"mmmu_val\"\nrequires = \"images\"\n";
    std::fs::write(project.path("configs/suites/s.toml"), suite).unwrap();
    let arguments = ["eval", "--suite", "s", "--model", &run, "--data", "bundled", "--out", "o"];
    let error = stderr(project.harness(&arguments), 0);
    assert!(error.contains("not run: mmmu_val: unsupported: the task shows images"), "{error}");
    let tasks = &read(&project.path("o/results.json"))["models"]["t"]["tasks"];
    assert_eq!((&tasks["mmmu_val"]["status"], tasks["mmmu_val"].get("metrics")), (&"unsupported".into(), None));
    assert_eq!(tasks["boolq"]["n"], 2);
    let plan = stdout(project.harness(&[&arguments[..], &["--dry-run"]].concat()));
    assert!(plan.contains("boolq") && plan.contains("not run: mmmu_val: unsupported: the task shows images"), "{plan}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn wrong_names_and_paths_are_answered_with_what_was_expected() {
    let (project, run) = trained();
    let error = stderr(project.harness(&["eval", "--task", "helaswag", "--model", &run]), 2);
    assert!(error.contains("unknown task: `helaswag` (did you mean `hellaswag`?)"), "{error}");
    let error = stderr(project.harness(&["eval", "--task", "boolq", "--model", "no/such/folder/here"]), 2);
    assert!(error.contains("--model `no/such/folder/here`") && error.contains("hint:"), "{error}");
    let error = stderr(project.harness(&["eval", "--task", "boolq", "--model", &run, "--data", "nowhere"]), 2);
    assert!(error.contains("--data `nowhere`"), "{error}");
    let error = stderr(project.harness(&["eval", "--suite", "nothing"]), 2);
    assert!(error.contains("unknown suite: `nothing`"), "{error}");
    let error = stderr(project.harness(&["eval", "--task", "boolq", "--model", &run, "--max-memory", "1000"]), 2);
    assert!(error.contains("--max-memory: expected at least"), "{error}");
}

#[test]
fn a_truncated_checkpoint_is_one_clear_error() {
    let (project, run) = trained();
    let checkpoints = Path::new(&run).join("checkpoints");
    let newest = std::fs::read_dir(&checkpoints).unwrap().next().unwrap().unwrap().path();
    let model = newest.join("model.safetensors");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let error = stderr(project.harness(&["eval", "--task", "boolq", "--model", &run, "--out", "out"]), 2);
    assert!(error.contains("damaged checkpoint") && error.contains("expected a checkpoint, found none"), "{error}");
    assert!(!project.path("out").exists(), "nothing half-written");
}

#[test]
fn a_document_without_a_field_is_named_with_its_file_and_line() {
    let (project, run) = trained();
    let folder = project.path("data/boolq");
    std::fs::create_dir_all(&folder).unwrap();
    let good = r#"{"question": "is it red", "title": "x", "answer": true, "passage": "It is red."}"#;
    std::fs::write(folder.join("dev.jsonl"), format!("{good}\n{}\n", good.replace("passage", "pasage"))).unwrap();
    let arguments = ["eval", "--task", "boolq", "--model", &run, "--data", "data", "--out", "out"];
    let error = stderr(project.harness(&arguments), 2);
    assert!(error.contains("dev.jsonl: record 2: field `passage`"), "{error}");
    // A task whose files are not there is a missing one, and says so; it is not a score of 0.
    let arguments = ["eval", "--task", "openbookqa", "--model", &run, "--data", "data", "--out", "out"];
    let error = stderr(project.harness(&arguments), 0);
    assert!(error.contains("not run: openbookqa: missing"), "{error}");
    let task = &read(&project.path("out/results.json"))["models"]["t"]["tasks"]["openbookqa"];
    assert_eq!((&task["status"], task.get("metrics")), (&"missing".into(), None));
}

#[test]
fn a_task_that_does_not_fit_the_model_fails_alone() {
    // hendrycks_math generates 256 tokens and the model has 256 positions: no room for a prompt.
    let (project, run) = trained();
    let arguments =
        ["eval", "--task", "boolq,hendrycks_math_algebra", "--limit", "2", "--data", "bundled", "--model", &run, "--out", "out"];
    let error = stderr(project.harness(&arguments), 0);
    assert!(error.contains("not run: hendrycks_math_algebra: failed: none of 2 documents could be scored: too long"), "{error}");
    let tasks = &read(&project.path("out/results.json"))["models"]["t"]["tasks"];
    assert_eq!((&tasks["hendrycks_math_algebra"]["status"], &tasks["boolq"]["n"]), (&"failed".into(), &2.into()));
}
