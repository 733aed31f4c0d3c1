//! A sweep: base configs × a grid of settings × seeds. The keys of `configs/sweeps/*.toml`, in the same order.
//!
//! ```toml
//! name = "lm-tiny-learning-rate"
//! configs = ["configs/train/lm-tiny-plain.toml", "configs/train/lm-tiny-rw+lr.toml"]
//! seeds = [0, 1, 2]
//!
//! [grid]
//! "optimizer.learning_rate" = [1e-3, 3e-3]
//! ```

use super::{Invalid, project_root};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Base configs × grid × seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// The sweep's name.
    pub name: String,
    /// Training configs, relative to the project.
    pub configs: Vec<PathBuf>,
    /// Seeds of every cell.
    pub seeds: Vec<u64>,
    /// Dotted config key -> the values it takes; cells are the product over keys.
    #[serde(default)]
    pub grid: BTreeMap<String, Vec<toml::Value>>,
    /// The folder the file's project lies in; set by [`SweepConfig::load`], not a key.
    #[serde(skip)]
    pub root: PathBuf,
}

/// One run of a sweep: a config with overrides and a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepRun {
    /// The base config.
    pub config: PathBuf,
    /// Overrides as `--set` takes them.
    pub sets: Vec<String>,
    /// The seed.
    pub seed: u64,
}

impl SweepConfig {
    /// Reads and validates a sweep file.
    ///
    /// # Errors
    /// As [`super::load()`]; an empty list of configs, seeds or values.
    pub fn load(path: &Path, sets: &[String]) -> anyhow::Result<Self> {
        let loaded = super::load::<Self>(path, sets)?;
        loaded.value.validate().map_err(|invalid| loaded.error_at(&invalid.key, &invalid.message()))?;
        let mut sweep = loaded.value;
        sweep.root = project_root(path);
        Ok(sweep)
    }

    fn validate(&self) -> Result<(), Invalid> {
        if self.configs.is_empty() {
            return Err(Invalid::new("configs", "at least one training config", "none"));
        }
        if self.seeds.is_empty() {
            return Err(Invalid::new("seeds", "at least one seed", "none"));
        }
        match self.grid.iter().find(|(_, values)| values.is_empty()) {
            Some((key, _)) => Err(Invalid::new(format!("grid.{key}"), "at least one value", "none")),
            None => Ok(()),
        }
    }

    /// Every run, seeds innermost, so that an interrupted sweep leaves whole cells.
    pub fn runs(&self) -> Vec<SweepRun> {
        let mut cells: Vec<Vec<String>> = vec![Vec::new()];
        for (key, values) in &self.grid {
            cells = cells
                .iter()
                .flat_map(|cell| {
                    values.iter().map(move |value| {
                        let mut cell = cell.clone();
                        cell.push(format!("{key}={value}"));
                        cell
                    })
                })
                .collect();
        }
        let mut runs = Vec::new();
        for config in &self.configs {
            for sets in &cells {
                for &seed in &self.seeds {
                    runs.push(SweepRun { config: self.root.join(config), sets: sets.clone(), seed });
                }
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_product_with_seeds_innermost() {
        let sweep: SweepConfig = toml::from_str(
            "name = \"s\"\nconfigs = [\"a.toml\"]\nseeds = [0, 1]\n[grid]\n\"b.c\" = [1e-3, 2e-3]\n\"a\" = [\"x\"]\n",
        )
        .unwrap();
        let runs = sweep.runs();
        assert_eq!(runs.len(), 4);
        assert_eq!((runs[0].seed, runs[1].seed), (0, 1));
        assert_eq!(runs[0].sets, ["a=\"x\"", "b.c=0.001"]);
        assert_eq!(runs[2].sets, ["a=\"x\"", "b.c=0.002"]);
    }
}
