//! A suite: named subjects × seeds × tasks. The keys of `configs/suites/*.toml`, in the same order.

use super::{Invalid, project_root};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What to do about a subject that has no finished run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnMissing {
    /// Train it first (demo subjects).
    Train,
    /// Stop and print the command that fills the gap.
    #[default]
    Fail,
}

/// Named subjects × seeds × tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteConfig {
    /// The suite's name.
    pub name: String,
    /// Training configs by name (`configs/train/<subject>.toml`); the first is the reference.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Seeds of every subject.
    #[serde(default = "seed_zero")]
    pub seeds: Vec<u64>,
    /// Subjects without a finished run.
    #[serde(default)]
    pub on_missing: OnMissing,
    /// What is asked.
    #[serde(default, rename = "task")]
    pub tasks: Vec<SuiteTask>,
    /// The folder the file's project lies in; set by [`SuiteConfig::load`], not a key.
    #[serde(skip)]
    pub root: PathBuf,
}

/// One task of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteTask {
    /// Task or group name.
    pub name: String,
    /// Examples in the prompt; the task's own default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_fewshot: Option<usize>,
    /// Documents used per task; recorded, and a limited score never enters a leaderboard table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// What a model must take besides text. Without it the task is a row `unsupported`, never a 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<Requires>,
}

/// What a task shows a model besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requires {
    /// Images.
    Images,
}

impl Requires {
    /// Why a model that takes text alone is not asked.
    pub fn reason(self) -> String {
        match self {
            Self::Images => "the task shows images, and the models here take text alone".to_owned(),
        }
    }
}

fn seed_zero() -> Vec<u64> {
    vec![0]
}

impl SuiteConfig {
    /// Reads and validates a suite file.
    ///
    /// # Errors
    /// As [`super::load()`]; repeated subjects or seeds; a subject without a config file.
    pub fn load(path: &Path, sets: &[String]) -> anyhow::Result<Self> {
        let loaded = super::load::<Self>(path, sets)?;
        loaded.value.validate().map_err(|invalid| loaded.error_at(&invalid.key, &invalid.message()))?;
        let mut suite = loaded.value.clone();
        suite.root = project_root(path);
        for (index, subject) in suite.subjects.iter().enumerate() {
            let file = suite.subject_config(subject);
            if !file.is_file() {
                let message = format!("expected a config `{}`, found none", file.display());
                return Err(loaded.error_at(&format!("subjects[{index}]"), &message));
            }
        }
        Ok(suite)
    }

    fn validate(&self) -> Result<(), Invalid> {
        if self.seeds.is_empty() {
            return Err(Invalid::new("seeds", "at least one seed", "none"));
        }
        for (index, subject) in self.subjects.iter().enumerate() {
            if self.subjects[..index].contains(subject) {
                return Err(Invalid::new(format!("subjects[{index}]"), "each subject once", format!("a second `{subject}`")));
            }
        }
        for (index, seed) in self.seeds.iter().enumerate() {
            if self.seeds[..index].contains(seed) {
                return Err(Invalid::new(format!("seeds[{index}]"), "each seed once", format!("a second {seed}")));
            }
        }
        for (index, task) in self.tasks.iter().enumerate() {
            if task.limit == Some(0) {
                return Err(Invalid::new(format!("task[{index}].limit"), "at least 1, or no limit", 0));
            }
        }
        Ok(())
    }

    /// The training config of a subject.
    pub fn subject_config(&self, subject: &str) -> PathBuf {
        self.root.join("configs/train").join(format!("{subject}.toml"))
    }

    /// The reference subject, the first one.
    pub fn reference(&self) -> Option<&str> {
        self.subjects.first().map(String::as_str)
    }
}
