//! The hub against a server on the loopback device: fetching, resuming, kinds of refusal, the cache, and a whole evaluation from it.

pub(crate) mod server;

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use candle_core::{DType, Device};
use harness::data::hub::{Hub, HubError, HubSettings, OfflineHub, RemoteHub, Repository};
use models::pretrained::load_config;
use models::{Decoder, ParamStore};
use polars::prelude::{DataFrame, IntoColumn as _, IntoSeries as _, NamedFrom as _, Series, StructChunked};
use polars_io::prelude::ParquetWriter;
use serde_json::{Value, json};

use crate::support::{harness, stderr, workspace};
use server::{COMMIT, Quirk, Repositories, Server};

fn dataset() -> Repository {
    Repository::dataset("org/data")
}

/// A server with one data set of one file, and a client with a cache of its own.
fn one_file(content: &[u8], quirk: Quirk) -> (Server, RemoteHub, tempfile::TempDir) {
    let mut repositories = Repositories::new();
    repositories.entry("datasets/org/data".to_owned()).or_default().insert("d/test.jsonl".to_owned(), (content.to_vec(), quirk));
    let server = Server::start(repositories);
    let cache = tempfile::tempdir().unwrap();
    let hub = client(server.address(), cache.path());
    (server, hub, cache)
}

fn client(endpoint: &str, cache: &Path) -> RemoteHub {
    let settings =
        HubSettings { endpoint: endpoint.to_owned(), cache: cache.to_owned(), token: None, silence: Duration::from_secs(1) };
    RemoteHub::new(settings).unwrap()
}

fn get(hub: &dyn Hub) -> Result<Vec<u8>, HubError> {
    hub.get(&dataset(), "main", "d/test.jsonl").map(|path| std::fs::read(path).unwrap())
}

/// 100 kB that no repetition shortens.
fn long() -> Vec<u8> {
    (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn a_file_is_fetched_once_and_found_offline_by_branch_and_by_commit() {
    let (server, hub, cache) = one_file(b"{\"a\": 1}\n", Quirk::None);
    let offline = OfflineHub::new(cache.path().to_owned());
    assert!(matches!(get(&offline), Err(HubError::NotCached { file: Some(file), .. }) if file == "d/test.jsonl"));
    assert_eq!(get(&hub).unwrap(), b"{\"a\": 1}\n");
    let requests = server.requests();
    assert_eq!(get(&hub).unwrap(), b"{\"a\": 1}\n");
    assert_eq!(server.requests(), requests, "the second time nothing is sent");
    assert_eq!(get(&offline).unwrap(), b"{\"a\": 1}\n");
    let listing = offline.list(&dataset(), COMMIT).unwrap();
    assert_eq!((listing.commit.as_str(), listing.files), (COMMIT, vec!["d/test.jsonl".to_owned()]));
    // A new process whose endpoint is gone goes on with the cache.
    let gone = client("http://127.0.0.1:9", cache.path());
    assert_eq!(get(&gone).unwrap(), b"{\"a\": 1}\n");
}

#[test]
fn a_cut_download_goes_on_where_it_broke() {
    let (server, hub, _cache) = one_file(&long(), Quirk::CutOnce(30_000));
    assert_eq!(get(&hub).unwrap(), long());
    let ranges: Vec<String> = server.ranges("d/test.jsonl").into_iter().filter(|range| range != "bytes=0-0").collect();
    assert_eq!(ranges, ["bytes=0-", "bytes=30000-"]);
}

#[test]
fn a_connection_that_always_breaks_is_given_up_and_what_arrived_is_kept() {
    let (server, hub, cache) = one_file(&long(), Quirk::CutAlways(1000));
    assert!(matches!(get(&hub), Err(HubError::Unreachable { .. })));
    let last = server.ranges("d/test.jsonl").into_iter().rfind(|range| range != "bytes=0-0").unwrap();
    assert_eq!(last, "bytes=4000-", "five tries of 1000 bytes");
    let blobs = cache.path().join("datasets--org--data/blobs");
    let part = std::fs::read_dir(blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "part"));
    assert_eq!(std::fs::read(part.unwrap()).unwrap(), long()[..5000]);
}

#[test]
fn a_whole_part_left_by_a_killed_process_does_no_harm() {
    let (_server, hub, cache) = one_file(&long(), Quirk::None);
    let blobs = cache.path().join("datasets--org--data/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(records::ids::sha256_hex(&long())).with_extension("part"), long()).unwrap();
    assert_eq!(get(&hub).unwrap(), long());
}

#[test]
fn a_silent_connection_is_given_up() {
    let (_server, hub, _cache) = one_file(&long(), Quirk::Stall);
    assert!(matches!(get(&hub), Err(HubError::Stalled { silence_s: 1, .. })));
}

#[test]
fn content_that_is_not_what_its_name_says_is_refused_and_removed() {
    let (_server, hub, cache) = one_file(b"{\"a\": 12}\n", Quirk::Corrupt);
    assert!(matches!(get(&hub), Err(HubError::Digest { .. })));
    assert!(OfflineHub::new(cache.path().to_owned()).list(&dataset(), COMMIT).is_err(), "nothing is left in the cache");
    let (_server, hub, cache) = one_file(b"<!DOCTYPE html><title>Log in</title>", Quirk::None);
    assert!(matches!(get(&hub), Err(HubError::NotTheHub { found, .. }) if found == "a web page"));
    assert!(OfflineHub::new(cache.path().to_owned()).list(&dataset(), COMMIT).is_err());
    let (_server, hub, _cache) = one_file(b"{}", Quirk::LoginPage);
    assert!(matches!(get(&hub), Err(HubError::NotTheHub { found, .. }) if found.contains("without a valid header")));
}

#[test]
fn refusals_are_told_apart() {
    let (_server, hub, _cache) = one_file(b"{}", Quirk::Status(403));
    let error = get(&hub).unwrap_err();
    assert!(matches!(error, HubError::Denied { status: 403, .. }), "{error}");
    let text = harness::error::render(&error.explain());
    assert!(text.contains("access denied") && text.contains("accept its terms") && text.contains("HF_TOKEN"), "{text}");

    let kind = |id: &str, revision: &str, file: &str| hub.get(&Repository::dataset(id), revision, file).unwrap_err();
    assert!(matches!(kind("org/data", "main", "nothing"), HubError::NoFile { .. }));
    assert!(matches!(kind("org/data", "v9", "d/test.jsonl"), HubError::NoRevision { .. }));
    assert!(matches!(kind("org/absent", "main", "d/test.jsonl"), HubError::NoRepository { .. }));
    assert!(matches!(kind("org/private", "main", "d/test.jsonl"), HubError::Denied { status: 401, .. }));
    assert!(matches!(kind("org/page", "main", "d/test.jsonl"), HubError::NotTheHub { .. }));
}

/// The documents of the end-to-end test: (id, stem, choices, key).
const QUESTIONS: [(&str, &str, [&str; 4], &str); 3] = [
    ("q1", "The sun is", ["a star", "a fish", "a road", "a song"], "A"),
    ("q2", "Fish live in the", ["sand", "sky", "sea", "sun"], "C"),
    ("q3", "A cat has", ["wings", "wheels", "leaves", "whiskers"], "D"),
];
const LABELS: [&str; 4] = ["A", "B", "C", "D"];

/// OpenBookQA's table as the hub stores it: `choices` is a struct of two lists.
fn table() -> Vec<u8> {
    let lists = |of: &dyn Fn(usize) -> [&'static str; 4]| (0..3).map(|i| Series::new("".into(), of(i))).collect::<Vec<_>>();
    let texts = Series::new("text".into(), lists(&|i| QUESTIONS[i].2));
    let labels = Series::new("label".into(), lists(&|_| LABELS));
    let choices = StructChunked::from_series("choices".into(), 3, [texts, labels].iter()).unwrap().into_series();
    let column = |name: &str, of: &dyn Fn(usize) -> &'static str| {
        Series::new(name.into(), (0..3).map(of).collect::<Vec<_>>()).into_column()
    };
    let columns = vec![
        column("id", &|i| QUESTIONS[i].0),
        column("question_stem", &|i| QUESTIONS[i].1),
        choices.into_column(),
        column("answerKey", &|i| QUESTIONS[i].3),
    ];
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(&mut DataFrame::new(3, columns).unwrap()).unwrap();
    bytes
}

/// A llama-form model of a few thousand values on the demo tokenizer.
fn write_model(folder: &Path) {
    let config = json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 1000, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": true, "rope_theta": 10000.0, "bos_token_id": 0, "eos_token_id": 0
    });
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let params = ParamStore::new(DType::F32, &Device::Cpu);
    Decoder::new(&load_config(folder).unwrap(), params.var_builder()).unwrap().init_weights(3).unwrap();
    params.save(&folder.join("model.safetensors")).unwrap();
    std::fs::copy(workspace().join("configs/demo/tokenizer.json"), folder.join("tokenizer.json")).unwrap();
}

fn results(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path.join("results.json")).unwrap()).unwrap()
}

#[test]
fn an_evaluation_from_the_hub_equals_one_from_files_and_repeats_offline() {
    let project = tempfile::tempdir().unwrap();
    let path = |name: &str| project.path().join(name);
    write_model(&path("local/tiny"));
    let mut repositories = Repositories::new();
    let model = repositories.entry("org/tiny".to_owned()).or_default();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        model.insert(file.to_owned(), (std::fs::read(path("local/tiny").join(file)).unwrap(), Quirk::None));
    }
    model.insert("pytorch_model.bin".to_owned(), (Vec::new(), Quirk::Status(500)));
    let data = repositories.entry("datasets/allenai/openbookqa".to_owned()).or_default();
    data.insert("main/test-00000-of-00001.parquet".to_owned(), (table(), Quirk::CutOnce(100)));
    data.insert("additional/test-00000-of-00001.parquet".to_owned(), (b"no".to_vec(), Quirk::Status(500)));
    let server = Server::start(repositories);
    let run = |arguments: &[&str], home: &str| -> Command {
        let mut command = harness(arguments);
        command.current_dir(project.path()).args(["--threads", "1"]);
        command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", server.address()).env("HF_HOME", path(home));
        command
    };

    let tasks = "openbookqa,hellaswag"; // the second data set is not on this hub
    let error = stderr(run(&["eval", "--task", tasks, "--model", "org/tiny", "--data", "hub", "--out", "hub"], "home"), 0);
    assert!(error.contains("not run: hellaswag: missing") && error.contains("Rowan/hellaswag"), "{error}");
    let from_hub = results(&path("hub"));
    assert_eq!((&from_hub["provenance"]["data"], &from_hub["provenance"]["tier"]), (&"hub".into(), &"full".into()));
    let task = &from_hub["models"]["org__tiny"]["tasks"]["openbookqa"];
    assert_eq!((&task["n"], &task["failed"]), (&3.into(), &0.into()));
    assert!(path("hub/samples/org__tiny/openbookqa.jsonl").is_file());
    let records = std::fs::read_to_string(path("hub/records.jsonl")).unwrap();
    let digest = records
        .lines()
        .find_map(|line| serde_json::from_str::<Value>(line).unwrap()["dataset_sha256"].as_str().map(str::to_owned));
    assert_eq!(digest.map(|digest| digest.len()), Some(64), "the digest of the data set is recorded");

    // The same documents and weights from files give the same scores, bit for bit.
    std::fs::create_dir_all(path("data/openbookqa")).unwrap();
    let lines = QUESTIONS.map(|(id, stem, texts, key)| {
        json!({"id": id, "question_stem": stem, "choices": {"text": texts, "label": LABELS}, "answerKey": key}).to_string() + "\n"
    });
    std::fs::write(path("data/openbookqa/test.jsonl"), lines.concat()).unwrap();
    let arguments = ["eval", "--task", "openbookqa", "--model", "local/tiny", "--data", "data", "--out", "files", "--no-cache"];
    run(&arguments, "home").assert().success();
    assert_eq!(results(&path("files"))["models"]["tiny"]["tasks"]["openbookqa"]["metrics"], task["metrics"]);

    // Offline, the cache serves both, also when `--data` is left out.
    let requests = server.requests();
    let arguments = ["eval", "--task", "openbookqa", "--model", "org/tiny", "--out", "offline", "--no-cache", "--offline"];
    run(&arguments, "home").assert().success();
    assert_eq!(results(&path("offline"))["provenance"]["data"], "hub");
    assert_eq!(results(&path("offline"))["models"]["org__tiny"]["tasks"]["openbookqa"]["metrics"], task["metrics"]);
    assert_eq!(server.requests(), requests, "--offline sends nothing");

    // With an empty cache: the default falls back to the bundled samples and says so; what was asked for by name is an error.
    let arguments = ["eval", "--task", "openbookqa", "--model", "local/tiny", "--out", "bundled", "--limit", "2", "--offline"];
    let error = stderr(run(&arguments, "empty"), 0);
    assert!(error.contains("BUNDLED SAMPLES take the place"), "{error}");
    let provenance = &results(&path("bundled"))["provenance"];
    assert_eq!((&provenance["data"], &provenance["tier"]), (&"bundled".into(), &"demo".into()));
    assert!(provenance["data_note"].as_str().unwrap().contains("network is switched off"), "{provenance}");
    let arguments = ["eval", "--task", "openbookqa", "--model", "local/tiny", "--data", "hub", "--offline"];
    let error = stderr(run(&arguments, "empty"), 2);
    assert!(error.contains("cannot fetch the data of task `openbookqa`") && error.contains("harness data fetch"), "{error}");
    let error = stderr(run(&["eval", "--task", "openbookqa", "--model", "org/absent", "--data", "data"], "empty"), 2);
    assert!(error.contains("cannot fetch model `org/absent`") && error.contains("expected a repository"), "{error}");
}

#[test]
fn fetch_downloads_ahead_and_says_what_came() {
    let mut repositories = Repositories::new();
    let data = repositories.entry("datasets/allenai/openbookqa".to_owned()).or_default();
    data.insert("main/test-00000-of-00001.parquet".to_owned(), (table(), Quirk::None));
    data.insert("main/train-00000-of-00001.parquet".to_owned(), (table(), Quirk::None));
    let server = Server::start(repositories);
    let home = tempfile::tempdir().unwrap();
    let fetch = |arguments: &[&str]| {
        let mut command = harness(&["data", "fetch", "--format", "json"]);
        command.args(arguments).env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", server.address()).env("HF_HOME", home.path());
        command
    };
    let output = fetch(&["openbookqa"]).assert().success().get_output().stdout.clone();
    let rows: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(rows[0]["splits"], json!({"test": 3, "train": 3}));
    assert_eq!(rows[0]["commit"], COMMIT);
    let again = fetch(&["openbookqa", "--offline"]).assert().success().get_output().stdout.clone();
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), rows);
    let error = stderr(fetch(&["boolq"]), 2);
    assert!(error.contains("cannot fetch the data of task `boolq`") && error.contains("aps/super_glue"), "{error}");
}
