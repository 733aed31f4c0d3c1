//! A throw-away project: a folder with one small training config, and the program run inside it.

use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A folder with `configs/train/t.toml`, gone when dropped.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// A model of about 50 k parameters on the demo text; `changes` are `--set` overrides written by the tests themselves.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Self { folder };
        let demo = workspace().join("configs/demo");
        let text = format!(
            r#"name = "t"
tier = "demo"
tokenizer = "{demo}/tokenizer.json"
max_steps = 60
batch = 2
eval_every = 25
checkpoint_every = 20
[data]
train = "train.txt"
valid = "valid.txt"
sequence_length = 16
valid_windows = 4
[model]
family = "decoder"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
vocab_size = 1000
max_position_embeddings = 32
norm = "rms"
norm_eps = 1e-5
positions = {{ kind = "rotary", theta = 10000.0 }}
mlp = "swiglu"
tie_word_embeddings = true
[model.residual]
mix = {{ kind = "softmax2" }}
augment = [{{ kind = "low-rank", rank = 2 }}]
[optimizer]
learning_rate = 3e-3
scalar_learning_rate = 1e-2
warmup_steps = 5
"#,
            demo = demo.display()
        );
        std::fs::create_dir_all(project.path("configs/train")).unwrap();
        std::fs::write(project.config(), text).unwrap();
        let train = std::fs::read_to_string(demo.join("text.txt")).unwrap();
        std::fs::write(project.path("train.txt"), train.chars().take(20_000).collect::<String>()).unwrap();
        let valid = std::fs::read_to_string(demo.join("text-valid.txt")).unwrap();
        std::fs::write(project.path("valid.txt"), valid.chars().take(2_000).collect::<String>()).unwrap();
        project
    }

    /// A path inside.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The training config.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("configs/train/t.toml")
    }

    /// The program, working in the project on one thread.
    pub(crate) fn harness(&self, arguments: &[&str]) -> Command {
        let mut command = harness(arguments);
        command.current_dir(self.folder.path()).args(["--threads", "1"]);
        command
    }

    /// `train` of the config, with overrides.
    pub(crate) fn train(&self, sets: &[&str]) -> Command {
        let mut command = self.harness(&["train", "--config", "configs/train/t.toml"]);
        for set in sets {
            command.args(["--set", set]);
        }
        command
    }

    /// The only run directory below `runs/t`.
    pub(crate) fn only_run(&self, runs_dir: &str) -> PathBuf {
        let mut runs: Vec<PathBuf> =
            std::fs::read_dir(self.path(runs_dir).join("t")).unwrap().map(|run| run.unwrap().path()).collect();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }
}

/// The tiny model of `eval --verify` in a folder of its own, with `change` applied to its config.
pub(crate) fn fixture_folder(change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixture = workspace().join("harness/fixtures/verify");
    for name in ["model.safetensors", "tokenizer_config.json"] {
        std::fs::copy(fixture.join(name), folder.path().join(name)).unwrap();
    }
    std::fs::copy(workspace().join("configs/demo/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(fixture.join("config.json")).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

/// The program.
pub(crate) fn harness(arguments: &[&str]) -> Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("harness");
    // Tests are offline; those of the hub name their own endpoint.
    command
        .args(arguments)
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", "/nonexistent")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_TOKEN");
    command
}

/// stdout of a command that must succeed.
pub(crate) fn stdout(mut command: Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

/// stderr of a command that must end with an exit code.
pub(crate) fn stderr(mut command: Command, code: i32) -> String {
    String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap()
}
