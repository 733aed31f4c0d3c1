//! Pictures from disk to scores: every form of a set, bad ones, the command line, published networks.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use harness::data::images::{ImageSet, OnBadImage, OpenOptions};
use laurel::ResidualConfig;
use models::{ParamStore, ResNet, ResNetConfig};
use polars::prelude::{DataFrame, IntoColumn as _, IntoSeries as _, NamedFrom as _, Series, StructChunked};
use serde_json::Value;
use stats::rng;

use crate::hub::server::{COMMIT, Quirk, Repositories, Server};
use crate::support::{harness, stderr};

/// Pictures a class.
const PER_CLASS: usize = 3;

fn png(width: u32, height: u32, seed: u64) -> Vec<u8> {
    let mut pixels = vec![0; (3 * width * height) as usize];
    let mut random = rng::stream("test/picture", seed, 0);
    for byte in &mut pixels {
        *byte = rng::below(&mut random, 256) as u8;
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    file
}

/// Path below the root -> content: three pictures of 32 × 32 in each class.
fn files(split: &str, classes: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (label, class) in classes.iter().enumerate() {
        for number in 0..PER_CLASS {
            files.insert(format!("{split}/{class}/{number}.png"), png(32, 32, (label * PER_CLASS + number) as u64));
        }
    }
    files
}

fn write_folder(root: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, content) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

fn tar(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    // Not in the order of their names.
    for (name, content) in files.iter().rev() {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn write_parquet(path: &Path, files: &BTreeMap<String, Vec<u8>>, classes: &[&str]) {
    let contents: Vec<&[u8]> = files.values().map(Vec::as_slice).collect();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let label = |name: &&str| classes.iter().position(|class| name.contains(&format!("/{class}/"))).unwrap() as u32;
    let labels: Vec<u32> = names.iter().map(label).collect();
    let parts = [Series::new("bytes".into(), contents), Series::new("path".into(), names)];
    let image = StructChunked::from_series("image".into(), labels.len(), parts.iter()).unwrap().into_series();
    let columns = vec![image.into_column(), Series::new("label".into(), labels).into_column()];
    let mut frame = DataFrame::new(files.len(), columns).unwrap();
    polars_io::prelude::ParquetWriter::new(File::create(path).unwrap()).finish(&mut frame).unwrap();
}

fn open(path: &Path) -> ImageSet {
    ImageSet::open(path, OpenOptions::default()).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Labels and pixels, in order.
fn contents(set: &ImageSet) -> Vec<(u32, Vec<u8>)> {
    (0..set.len()).map(|index| (set.label(index), set.decode(index).unwrap().unwrap().pixels().to_vec())).collect()
}

#[test]
fn every_form_of_a_set_holds_the_same_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let classes = ["ant", "bee", "cow"];
    let files = files("test", &classes);
    write_folder(&at("plain"), &files);
    let archive = tar(&files);
    std::fs::write(at("set.tar"), &archive).unwrap();
    std::fs::write(at("set.tar.zst"), zstd::encode_all(archive.as_slice(), 1).unwrap()).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(File::create(at("set.tgz")).unwrap(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &archive).unwrap();
    encoder.finish().unwrap();
    std::fs::create_dir_all(at("hub/data")).unwrap();
    write_parquet(&at("hub/data/test-00000-of-00001.parquet"), &files, &classes);

    let plain = open(&at("plain"));
    assert_eq!((plain.len(), plain.split.as_deref()), (9, Some("test")));
    assert_eq!(plain.classes(), classes);
    assert_eq!(plain.id(3), "bee/0.png");
    let expected = contents(&plain);
    assert_eq!(expected.iter().map(|(label, _)| *label).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    for other in ["plain/test", "set.tar", "set.tar.zst", "set.tgz", "hub"] {
        let set = open(&at(other));
        assert_eq!(contents(&set), expected, "{other}");
        assert_eq!(contents(&set), expected, "{other}, from the cache");
    }
}

/// Of a folder only class names and file names entered the digest, of parquet the labels: a run went on with other pictures. What it still
/// does not see: in a folder, other content of the same length, as files are not read for it.
#[test]
fn the_digest_of_a_set_changes_with_its_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let classes = ["ant", "bee"];
    let mut files = files("test", &classes);
    let write = |files: &BTreeMap<String, Vec<u8>>, to: &str| {
        write_folder(&at(&format!("{to}/plain")), files);
        std::fs::create_dir_all(at(&format!("{to}/hub"))).unwrap();
        write_parquet(&at(&format!("{to}/hub/test.parquet")), files, &classes);
        std::fs::create_dir_all(at(&format!("{to}/cifar"))).unwrap();
        let record: Vec<u8> = [0].into_iter().chain(files["test/bee/0.png"].iter().copied().cycle().take(3072)).collect();
        std::fs::write(at(&format!("{to}/cifar/test_batch.bin")), record).unwrap();
        std::fs::write(at(&format!("{to}/a.tar")), tar(files)).unwrap();
    };
    write(&files, "before");
    files.insert("test/bee/0.png".to_owned(), png(32, 31, 100));
    write(&files, "after");
    for form in ["plain", "hub", "cifar", "a.tar"] {
        let [before, same, after] =
            ["before", "before", "after"].map(|side| open(&at(&format!("{side}/{form}"))).digest().unwrap());
        assert_eq!(before, same, "{form}");
        assert_ne!(before, after, "{form}");
    }
    let plain = at("after/plain");
    let before = open(&plain).digest().unwrap();
    let picture = plain.join("test/bee/0.png");
    let content: Vec<u8> = std::fs::read(&picture).unwrap().iter().map(|byte| !byte).collect();
    std::fs::write(&picture, content).unwrap();
    assert_eq!(open(&plain).digest().unwrap(), before);
}

#[test]
fn the_cache_keeps_to_its_size() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &files("test", &["a", "b"]));
    let of = |cache_bytes| {
        let set = ImageSet::open(folder.path(), OpenOptions { cache_bytes, ..OpenOptions::default() }).unwrap();
        contents(&set);
        set.cached_bytes()
    };
    // A picture is 32 · 32 · 3 = 3,072 bytes; six of them.
    assert_eq!([0, 3071, 7000, 1 << 20].map(of), [0, 0, 2 * 3072, 6 * 3072]);
}

#[test]
fn a_set_can_be_numbered_as_another_one() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &files("val", &["b", "c"]));
    let mut set = open(folder.path());
    set.align(&["a", "b", "c"].map(str::to_owned)).unwrap();
    assert_eq!((set.label(0), set.label(5)), (1, 2));
    let error = set.align(&["b".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("unknown class folder: `c`") || error.contains("unknown class folder: `a`"), "{error}");
}

#[test]
fn folders_that_are_no_sets_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| format!("{:#}", ImageSet::open(path, OpenOptions::default()).unwrap_err());
    assert!(error(folder.path()).contains("expected pictures (.jpg, .jpeg, .png), found none"));
    write_folder(folder.path(), &files("test", &["a"]));
    std::fs::create_dir_all(folder.path().join("test/b")).unwrap();
    assert!(error(folder.path()).contains("test/b` holds no pictures"), "{}", error(folder.path()));
    assert!(error(&folder.path().join("none")).contains("found nothing there"));
    assert!(error(&folder.path().join("test/a/0.png")).contains("found another file"));
    let archive = folder.path().join("b.tar");
    let mut builder = tar::Builder::new(File::create(&archive).unwrap());
    builder.append_dir_all("set/test", folder.path().join("test")).unwrap();
    builder.finish().unwrap();
    assert!(error(&archive).contains("set/test/b` holds no pictures"), "{}", error(&archive));
    // An empty folder is no picture either.
    std::fs::create_dir_all(folder.path().join("test/b/c")).unwrap();
    assert!(error(folder.path()).contains("test/b/c` holds no pictures"), "{}", error(folder.path()));
    let mut builder = tar::Builder::new(File::create(&archive).unwrap());
    builder.append_dir_all("set/test", folder.path().join("test")).unwrap();
    builder.finish().unwrap();
    assert!(error(&archive).contains("set/test/b` holds no pictures"), "{}", error(&archive));
    let stray = folder.path().join("test/a.tar");
    std::fs::write(&stray, "no archive").unwrap();
    assert!(error(&stray).contains("as a tar file"), "{}", error(&stray));
}

#[test]
fn undecodable_and_oversized_pictures_are_named_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = files("test", &["a"]);
    files.insert("test/a/cut.png".to_owned(), png(32, 32, 0)[..90].to_vec());
    files.insert("test/a/huge.png".to_owned(), png(64, 64, 0));
    write_folder(folder.path(), &files);
    let options = OpenOptions { on_bad_image: OnBadImage::Skip, max_pixels: 2000, ..OpenOptions::default() };
    let set = ImageSet::open(folder.path(), options).unwrap();
    let good = (0..set.len()).filter(|&index| set.decode(index).unwrap().is_some()).count();
    assert_eq!((good, set.len()), (PER_CLASS, PER_CLASS + 2));
    let bad = set.bad();
    assert_eq!(bad.iter().map(|bad| bad.id.as_str()).collect::<Vec<_>>(), ["a/cut.png", "a/huge.png"]);
    assert_eq!(bad[1].reason, "expected at most 2000 pixels, found 64×64");
}

/// A checkpoint of a small CIFAR network with random weights.
fn checkpoint(path: &Path, num_classes: usize) {
    let config = ResNetConfig { num_classes, ..ResNetConfig::cifar(1) }.with_residual(ResidualConfig::default());
    let store = ParamStore::new(DType::F32, &Device::Cpu);
    ResNet::new(&config, store.var_builder()).unwrap().init_weights(7).unwrap();
    store.save(path).unwrap();
}

fn results(out: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(out.join("results.json")).unwrap()).unwrap()
}

struct Evaluated {
    folder: tempfile::TempDir,
}

impl Evaluated {
    fn new(classes: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_folder(&folder.path().join("set"), &files("test", classes));
        checkpoint(&folder.path().join("net.safetensors"), 10);
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn eval(&self, arguments: &[&str]) -> assert_cmd::Command {
        self.eval_on("set", arguments)
    }

    fn eval_on(&self, data: &str, arguments: &[&str]) -> assert_cmd::Command {
        let mut command = harness(&["eval", "--model", "net.safetensors", "--data", data, "--threads", "1"]);
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    fn error(&self, arguments: &[&str]) -> String {
        let assert = self.eval(arguments).assert().code(2);
        String::from_utf8(assert.get_output().stderr.clone()).unwrap()
    }
}

#[test]
fn scores_do_not_depend_on_the_batch_and_samples_name_the_pictures() {
    let project = Evaluated::new(&["bird", "cat"]);
    let mut all = Vec::new();
    let root = crate::support::workspace().join("configs/suites/vision.toml");
    let suite = root.to_str().unwrap();
    for (batch, out) in [("1", "a"), ("4", "b"), ("50", "c")] {
        project.eval(&["--suite", suite, "--batch-size", batch, "--out", out]).assert().success();
        let results = results(&project.path(out));
        let tasks = &results["models"]["net"]["tasks"];
        assert_eq!(tasks["imagenette"]["status"], "missing");
        let task = &tasks["cifar10"];
        assert_eq!((task["n"].as_u64(), task["failed"].as_u64()), (Some(6), Some(0)));
        assert_eq!(task["chance"].as_f64(), Some(0.1));
        all.push(["acc1", "acc5", "cross_entropy"].map(|metric| task["metrics"][metric]["value"].as_f64().unwrap()));
    }
    for values in &all {
        assert_eq!(values[..2], all[0][..2]);
        assert!((values[2] - all[0][2]).abs() < 1e-6, "{all:?}");
    }
    let samples = std::fs::read_to_string(project.path("a/samples/net/cifar10.jsonl")).unwrap();
    let lines: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mean = lines.iter().map(|line| line["metrics"]["acc1"].as_f64().unwrap()).sum::<f64>() / 6.0;
    assert!((mean - all[0][0]).abs() < 1e-12);
    // Labels are those of the ten classes, not of the two folders: bird is 2, cat 3.
    assert_eq!(lines[0]["requests"][0]["image"], "bird/0.png");
    assert_eq!((lines[0]["requests"][0]["label"].as_u64(), lines[5]["requests"][0]["label"].as_u64()), (Some(2), Some(3)));
    assert_eq!(lines[0]["requests"][0]["top"].as_array().unwrap().len(), 5);
}

#[test]
fn a_bad_picture_stops_the_evaluation_or_is_counted() {
    let project = Evaluated::new(&["bird", "cat"]);
    std::fs::write(project.path("set/test/cat/1.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    let error = project.error(&["--task", "cifar10", "--out", "a"]);
    assert!(error.contains("cannot decode `cat/1.png`") && error.contains("hint: --on-bad-image skip"), "{error}");
    assert!(!project.path("a/results.json").exists());
    let assert = project.eval(&["--task", "cifar10", "--out", "b", "--on-bad-image", "skip"]).assert().success();
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(said.contains("left out: cat/1.png: ") && said.contains("1 of 6 pictures could not be decoded"), "{said}");
    let results = results(&project.path("b"));
    let task = &results["models"]["net"]["tasks"]["cifar10"];
    assert_eq!((task["n"].as_u64(), task["failed"].as_u64()), (Some(5), Some(1)));
    assert_eq!(results["provenance"]["undecodable"][0]["id"], "cat/1.png");
    let samples = std::fs::read_to_string(project.path("b/samples/net/cifar10.jsonl")).unwrap();
    assert!(samples.lines().nth(4).unwrap().contains("\"error\":\"damaged or unsupported PNG"), "{samples}");
}

#[test]
fn the_data_command_counts_what_a_set_holds() {
    let project = Evaluated::new(&["bird", "cat"]);
    std::fs::write(project.path("set/test/cat/1.png"), b"nothing").unwrap();
    let mut command = harness(&["data", "images", "set", "--size", "32", "--batch", "2", "--format", "json"]);
    let assert = command.current_dir(project.folder.path()).assert().code(1);
    let found: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!((&found["pictures"], &found["pictures_per_class"]), (&6.into(), &serde_json::json!([3, 3])));
    assert_eq!(found["undecodable"][0]["id"], "cat/1.png");
    assert_eq!(found["cached_bytes"], 5 * 3072);
}

#[test]
fn what_does_not_fit_is_one_clear_error() {
    let project = Evaluated::new(&["bird", "cat"]);
    checkpoint(&project.path("seven.safetensors"), 7);
    let error = project.error(&["--task", "cifar10", "--model", "seven.safetensors"]);
    assert!(error.contains("classes: expected 7, the model's outputs, found 2 class folders"), "{error}");
    let error = project.error(&["--task", "imagenette"]);
    assert!(error.contains("expected a set of task `imagenette`, found the classes of `cifar10`"), "{error}");
    let error = project.error(&["--task", "cifar10", "--split", "train"]);
    assert!(error.contains("unknown split: `train`"), "{error}");
    let error = project.error(&["--task", "cifar10,boolq"]);
    assert!(error.contains("expected tasks of one kind, found `cifar10`"), "{error}");
    for classes in [["mine", "yours"], ["0", "1"]] {
        write_folder(&project.path("cifar10"), &files("test", &classes));
        // Of the task asked and of another one: the scores would stand as the task's in either case.
        for asked in ["cifar10,imagenette", "imagenet1k,imagenette"] {
            let error = stderr(project.eval_on("cifar10", &["--task", asked]), 2);
            assert!(error.contains("expected the classes of task `cifar10`, found `"), "{error}");
            assert!(error.contains("hint: call a set of your own otherwise"), "{error}");
        }
        std::fs::remove_dir_all(project.path("cifar10")).unwrap();
    }
    std::fs::rename(project.path("set/test/cat"), project.path("set/test/kitten")).unwrap();
    let error = project.error(&["--task", "cifar10"]);
    assert!(error.contains("unknown class folder: `kitten`"), "{error}");
    std::fs::remove_dir_all(project.path("set/test")).unwrap();
    std::fs::create_dir_all(project.path("set/test")).unwrap();
    let error = project.error(&["--task", "cifar10"]);
    assert!(error.contains("cannot open the image set `set`"), "{error}");
    std::fs::write(project.path("net.safetensors"), "no tensors").unwrap();
    let error = project.error(&["--task", "cifar10"]);
    assert!(error.contains("error:") && !error.contains("panicked"), "{error}");
}

#[test]
fn flags_of_texts_are_refused_for_pictures() {
    let project = Evaluated::new(&["bird", "cat"]);
    for (flag, value) in [("--shard", "1/2"), ("--seed", "1"), ("--num-fewshot", "5"), ("--dtype", "bf16")] {
        let error = project.error(&["--task", "cifar10", flag, value]);
        assert!(
            error.contains(&format!("{flag}: expected tasks on texts, found `cifar10`, which asks about pictures")),
            "{error}"
        );
    }
}

#[test]
fn a_suites_tasks_have_their_own_limits_and_those_without_pictures_are_named() {
    let project = Evaluated::new(&["bird", "cat"]);
    let suite = "name = \"s\"\n[[task]]\nname = \"imagenet1k\"\nlimit = 1\n[[task]]\nname = \"cifar10\"\nlimit = 4\n";
    std::fs::write(project.path("s.toml"), suite).unwrap();
    let said = stderr(project.eval(&["--suite", "s.toml"]), 0);
    assert!(said.contains("not run: imagenet1k: missing: the pictures of `set` are those of `cifar10`"), "{said}");
    let task = &results(&project.path("runs/_suites/s"))["models"]["net"]["tasks"]["cifar10"];
    assert_eq!((&task["n"], &task["limit"]), (&4.into(), &4.into()));
    project.eval(&["--suite", "s.toml", "--limit", "2", "--out", "o"]).assert().success();
    assert_eq!(results(&project.path("o"))["models"]["net"]["tasks"]["cifar10"]["n"], 2);
    // A set of one's own is none of the tasks: their limits are not its own.
    write_folder(&project.path("mine"), &files("test", &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]));
    project.eval_on("mine", &["--suite", "s.toml", "--out", "p"]).assert().success();
    assert_eq!(results(&project.path("p"))["models"]["net"]["tasks"]["mine"]["n"], 30);
    project.eval_on("mine", &["--suite", "s.toml", "--limit", "7", "--out", "p"]).assert().success();
    assert_eq!(results(&project.path("p"))["models"]["net"]["tasks"]["mine"]["n"], 7);
    let error = project.error(&["--suite", "s.toml", "--task", "cifar10,nosuch"]);
    assert!(error.contains("--task `nosuch`: expected one of suite `s`: imagenet1k, cifar10"), "{error}");
}

#[test]
fn keys_of_texts_are_refused_in_a_suite_of_pictures() {
    let project = Evaluated::new(&["bird", "cat"]);
    for (key, value) in [("num_fewshot", "5"), ("requires", "\"images\"")] {
        let suite = format!("name = \"s\"\n[[task]]\nname = \"cifar10\"\n{key} = {value}\n");
        std::fs::write(project.path("s.toml"), suite).unwrap();
        let error = project.error(&["--suite", "s.toml"]);
        assert!(error.contains(&format!("`{key}` of a suite: expected a task on texts, found `cifar10`")), "{error}");
    }
}

/// A dry run read every byte of the set for its digest.
#[test]
fn a_dry_run_reads_no_pictures() {
    let project = Evaluated::new(&["bird", "cat"]);
    std::os::unix::fs::symlink("nothing", project.path("set/test/cat/gone.png")).unwrap();
    project.eval(&["--task", "cifar10", "--dry-run"]).assert().success();
    assert!(project.error(&["--task", "cifar10"]).contains("cannot read `cat/gone.png`"));
}

#[test]
fn a_folder_none_of_whose_pictures_can_be_decoded_is_a_failure_with_every_reason() {
    let project = Evaluated::new(&["bird", "cat"]);
    for class in ["bird", "cat"] {
        for number in 0..PER_CLASS {
            std::fs::write(project.path(&format!("set/test/{class}/{number}.png")), "none").unwrap();
        }
    }
    let error = project.error(&["--task", "cifar10", "--on-bad-image", "skip", "--out", "o"]);
    assert!(error.contains("expected a score of at least one task, found none: failed: none of 6 pictures"), "{error}");
    let samples = std::fs::read_to_string(project.path("o/samples/net/cifar10.jsonl")).unwrap();
    assert_eq!((samples.lines().count(), samples.matches("\"error\"").count()), (6, 6), "{samples}");
}

#[test]
fn a_folders_name_is_whole_and_its_width_that_of_the_heads_inputs() {
    let project = Evaluated::new(&["bird", "cat"]);
    std::fs::create_dir(project.path("resnet-v1.5")).unwrap();
    std::fs::rename(project.path("net.safetensors"), project.path("resnet-v1.5/net.safetensors")).unwrap();
    let mut command = harness(&["eval", "--task", "cifar10", "--model", "resnet-v1.5", "--data", "set", "--out", "o"]);
    command.current_dir(project.folder.path()).assert().success();
    assert!(results(&project.path("o"))["models"].get("resnet-v1.5").is_some());
    let rows = records::read_rows(&project.path("o/records.jsonl")).unwrap().rows;
    // A CIFAR network's three stages have 16, 32 and 64 channels.
    assert!(!rows.is_empty() && rows.iter().all(|row| row.hidden_size == Some(64)));
}

#[test]
fn pictures_of_the_hub_are_all_there_and_of_a_commit_that_is_recorded() {
    let project = Evaluated::new(&["bird", "cat"]);
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    write_parquet(&project.path("test.parquet"), &files("test", &classes), &classes);
    let table = std::fs::read(project.path("test.parquet")).unwrap();
    let eval = |parts: &[&str], out: &str| {
        let mut repositories = Repositories::new();
        let data = repositories.entry("datasets/uoft-cs/cifar10".to_owned()).or_default();
        data.extend(parts.iter().map(|part| (format!("plain_text/test-{part}.parquet"), (table.clone(), Quirk::None))));
        let server = Server::start(repositories);
        let mut command = harness(&["eval", "--task", "cifar10", "--model", "net.safetensors", "--data", "hub", "--out", out]);
        command.current_dir(project.folder.path()).env_remove("HF_HUB_OFFLINE");
        let output = command.env("HF_ENDPOINT", server.address()).env("HF_HOME", project.path(&format!("home-{out}"))).output();
        String::from_utf8(output.unwrap().stderr).unwrap()
    };
    let said = eval(&["00000-of-00001"], "a");
    let results = results(&project.path("a"));
    assert_eq!(results["models"]["net"]["tasks"]["cifar10"]["n"], 30, "{said}");
    assert_eq!(results["provenance"]["data_commit"], COMMIT);
    let error = eval(&["00000-of-00002"], "b");
    assert!(error.contains("expected parts 0 to 1 of 2, found plain_text/test-00000-of-00002.parquet"), "{error}");
}

/// Right answers that the data set's notes state for a published network on the lossless test pictures.
fn published(model: &str, right: u64) {
    let root = std::env::var_os("PARITY_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/parity")), PathBuf::from);
    let data = root.join("../data");
    let (model, set) = (data.join("models").join(model), data.join("images/cifar10-test-lossless.tar.zst"));
    if !model.is_file() || !set.is_file() {
        eprintln!("skipped: no `{}` or no `{}`", model.display(), set.display());
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let mut command = harness(&["eval", "--task", "cifar10"]);
    command.arg("--model").arg(&model).arg("--data").arg(&set).arg("--out").arg(out.path());
    command.assert().success();
    let results = results(out.path());
    let name = model.file_stem().unwrap().to_str().unwrap();
    let task = &results["models"][name]["tasks"]["cifar10"];
    let count = task["n"].as_f64().unwrap();
    assert_eq!((task["metrics"]["acc1"]["value"].as_f64().unwrap() * count).round() as u64, right);
}

#[test]
fn the_published_resnet_20_gets_as_many_pictures_right_as_stated() {
    published("cifar10-resnet20-12fca82f.safetensors", 2759);
}

#[test]
#[ignore = "a minute of computing; the smaller network runs by default"]
fn the_published_resnet_56_gets_as_many_pictures_right_as_stated() {
    published("cifar10-resnet56-4bfd9763.safetensors", 2796);
}
