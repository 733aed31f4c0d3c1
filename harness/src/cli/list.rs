//! `list`: everything that exists, by name. `--format json` is complete: every model config with its exact parameter count.

use super::{Exit, Format, Global, output};
use crate::config::{RunConfig, SuiteConfig};
use crate::eval::vision;
use crate::run;
use anyhow::Context as _;
use clap::ValueEnum;
use laurel::{PRESETS, ResidualConfig};
use models::{ImageModelConfig, ModelConfig};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Training configs with their exact parameter counts
    Models,
    /// Quality tasks and their groups
    Tasks,
    /// Suites: subjects × seeds × tasks
    Suites,
    /// Residual variants and what they add per instance
    Variants,
    /// Tables of `report`
    Tables,
    /// Probes of `measure`
    Probes,
    /// Runs below the runs directory and their state
    Runs,
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness list variants
  harness list models --format json
  harness list tasks | grep mmlu
  harness list runs")]
pub struct Args {
    /// What to list
    pub kind: Kind,
    /// The folder with `train/` and `suites/`
    #[arg(long, value_name = "DIR", default_value = "configs")]
    pub configs: PathBuf,
}

/// A listing in both forms.
struct Listing {
    header: &'static [&'static str],
    rows: Vec<Vec<String>>,
    json: Vec<Value>,
}

/// Runs the command.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let listing = match args.kind {
        Kind::Models => models(&args.configs.join("train"))?,
        Kind::Tasks => tasks(),
        Kind::Suites => suites(&args.configs.join("suites"))?,
        Kind::Variants => variants(),
        Kind::Tables => tables(),
        Kind::Probes => probes(),
        Kind::Runs => runs(&global.runs_dir)?,
    };
    match global.format {
        Format::Json => output::json(&listing.json)?,
        Format::Text => output::data(&output::columns(listing.header, &listing.rows))?,
    }
    Ok(Exit::Fine)
}

/// The TOML files of a folder, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn config_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

fn models(folder: &Path) -> anyhow::Result<Listing> {
    let mut listing =
        Listing { header: &["model", "variant", "layers", "width", "params", "of LAuReL", "config"], rows: vec![], json: vec![] };
    for file in config_files(folder)? {
        let config = RunConfig::load(&file, &[], None)?;
        let count = config.num_params();
        let mut row = json!({
            "name": config.name(), "config": file, "variant": config.variant(), "params_total": count.total,
            "params_embedding": count.embedding, "params_non_embedding": count.non_embedding(), "params_laurel": count.laurel,
            "max_steps": config.max_steps(),
        });
        let (own, layers, width) = match &config {
            RunConfig::Language(config) => {
                let ModelConfig::Decoder(model) = &config.model;
                let own = json!({
                    "tier": config.tier, "family": config.model.family(), "num_hidden_layers": model.num_layers(),
                    "hidden_size": model.hidden_size, "vocab_size": model.vocab_size, "sequence_length": config.data.sequence_length,
                });
                (own, model.num_layers(), model.hidden_size)
            }
            RunConfig::Images(config) => {
                let ImageModelConfig::Resnet(model) = &config.model;
                let own = json!({
                    "tier": config.tier, "family": config.model.family(), "num_hidden_layers": model.num_layers(),
                    "hidden_size": model.head_inputs(), "num_classes": model.num_classes, "image_size": config.data.transform.size,
                });
                (own, model.num_layers(), model.head_inputs())
            }
        };
        if let (Value::Object(row), Value::Object(own)) = (&mut row, own) {
            row.extend(own);
        }
        listing.json.push(row);
        let numbers = [layers, width, count.total, count.laurel].map(|number| number.to_string());
        let names = vec![config.name().to_owned(), config.variant()];
        listing.rows.push([names, numbers.to_vec(), vec![file.display().to_string()]].concat());
    }
    Ok(listing)
}

fn tasks() -> Listing {
    let mut listing =
        Listing { header: &["task", "group", "version", "shots", "metric", "chance", "documents"], rows: vec![], json: vec![] };
    let pictures = vision::TASKS.iter().map(|task| vision::task::spec(Some(task), task.name, None, task.num_classes));
    for spec in tasks::list().into_iter().chain(pictures) {
        let chance = if spec.chance == 0.0 { "0".to_owned() } else { format!("{:.3}", spec.chance) };
        let documents =
            serde_json::to_value(&spec.dataset).ok().and_then(|facts| facts.get("num_docs").cloned()).unwrap_or(Value::Null);
        let documents = if documents.is_null() { "—".to_owned() } else { documents.to_string() };
        let group = spec.group.clone().unwrap_or_else(|| "—".to_owned());
        let shots = spec.num_fewshot.to_string();
        listing.rows.push(vec![
            spec.name.clone(),
            group,
            spec.version.clone(),
            shots,
            spec.primary_metric.clone(),
            chance,
            documents,
        ]);
        listing.json.push(json!({
            "name": spec.name, "group": spec.group, "subgroup": spec.subgroup, "version": spec.version, "num_fewshot": spec.num_fewshot,
            "metrics": spec.metrics.iter().map(|metric| metric.name.clone()).collect::<Vec<_>>(), "primary_metric": spec.primary_metric,
            "chance": spec.chance, "trivial": spec.trivial, "needs_code_execution": spec.needs_executor, "reference": spec.reference,
        }));
    }
    for group in tasks::groups() {
        let rule = if group.size_weighted { "mean over documents" } else { "mean over tasks" };
        listing.rows.push(vec![group.name.clone(), format!("= {} tasks, {rule}", group.leaves.len())]);
        listing.json.push(json!({"name": group.name, "tasks": group.leaves, "size_weighted": group.size_weighted}));
    }
    listing
}

fn suites(folder: &Path) -> anyhow::Result<Listing> {
    let mut listing = Listing { header: &["suite", "subjects", "seeds", "tasks"], rows: vec![], json: vec![] };
    for file in config_files(folder)? {
        let suite = SuiteConfig::load(&file, &[])?;
        let tasks: Vec<&str> = suite.tasks.iter().map(|task| task.name.as_str()).collect();
        let seeds: Vec<String> = suite.seeds.iter().map(u64::to_string).collect();
        listing.rows.push(vec![suite.name.clone(), suite.subjects.join(" "), seeds.join(" "), tasks.join(" ")]);
        listing.json.push(json!({"config": file, "suite": suite}));
    }
    Ok(listing)
}

/// What each preset computes and adds per instance; the formulas are those of the `laurel` crate's first page.
fn variants() -> Listing {
    const FORMULAS: [(&str, &str, &str); PRESETS.len()] = [
        ("plain", "f(x) + x", "0"),
        ("rw", "α·f(x) + β·x", "2"),
        ("rw-vec", "α ⊙ f(x) + β ⊙ x", "2D"),
        ("lr", "f(x) + x + (x·down)·up", "2rD"),
        ("pa", "f(x) + x + Σ γ_j x_{i-j}", "k"),
        ("pa-shared", "f(x) + x + Σ γ_j (x_{i-j}·down)·up", "2rD + k"),
        ("lr+pa", "f(x) + x + Σ γ_j (x_{i-j}·down_j)·up_j", "2rkD + k"),
        ("rw+lr", "α·f(x) + β·(x + (x·down)·up)", "2rD + 2"),
        ("rw+pa", "α·f(x) + β·(x + Σ γ_j x_{i-j})", "k + 2"),
        ("rw+lr+pa", "α·f(x) + β·(x + Σ γ_j (x_{i-j}·down_j)·up_j)", "2rkD + k + 2"),
        ("gemma3n", "(f(n) + x + n + rms((n·down)·up)) / √2", "2rD + D"),
    ];
    let mut listing = Listing { header: &["variant", "x_{i+1} =", "params per instance"], rows: vec![], json: vec![] };
    for (name, formula, params) in FORMULAS {
        let config = ResidualConfig::preset(name, 4, 3);
        listing.rows.push(vec![name.to_owned(), formula.to_owned(), params.to_owned()]);
        listing
            .json
            .push(json!({"name": name, "formula": formula, "params_per_instance": params, "config_rank_4_lookback_3": config}));
    }
    for (name, formula, params) in [
        ("naive+L", "L plain layers more (model.extra_layers)", "L layers"),
        ("wide+r", "r MLP units more (model.mlp_extra)", "2rD, 3rD gated"),
    ] {
        listing.rows.push(vec![name.to_owned(), formula.to_owned(), params.to_owned()]);
        listing.json.push(json!({"name": name, "formula": formula, "params_per_instance": params}));
    }
    listing
}

fn tables() -> Listing {
    let names: Vec<&str> = reports::tables::all().iter().map(|table| table.name()).collect();
    named(&["table"], &names)
}

fn probes() -> Listing {
    let all = crate::measure::probes::probes();
    Listing {
        header: &["probe", "measures"],
        rows: all.iter().map(|probe| vec![probe.name().to_owned(), probe.about().to_owned()]).collect(),
        json: all.iter().map(|probe| json!({"name": probe.name(), "about": probe.about()})).collect(),
    }
}

fn named(header: &'static [&'static str], names: &[&str]) -> Listing {
    Listing {
        header,
        rows: names.iter().map(|&name| vec![name.to_owned()]).collect(),
        json: names.iter().map(|name| json!({"name": name})).collect(),
    }
}

fn runs(runs_dir: &Path) -> anyhow::Result<Listing> {
    let mut listing = Listing { header: &["run", "state", "step", "started"], rows: vec![], json: vec![] };
    for run in run::all_runs(runs_dir)? {
        let manifest = run.manifest()?;
        let state = manifest.as_ref().map_or_else(|| "unknown".to_owned(), |manifest| word(&manifest.status));
        let started = manifest.map_or_else(String::new, |manifest| manifest.started_utc);
        let step = run.newest_checkpoint()?.map_or(0, |checkpoint| checkpoint.state.step);
        let id = run.folder().strip_prefix(runs_dir).unwrap_or(run.folder()).display().to_string();
        listing.json.push(json!({"run_id": id, "folder": run.folder(), "state": state, "step": step, "started_utc": started}));
        listing.rows.push(vec![id, state, step.to_string(), started]);
    }
    Ok(listing)
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_listed_in_order() {
        let names: Vec<String> = variants().rows.into_iter().map(|row| row[0].clone()).collect();
        assert_eq!(names[..PRESETS.len()], PRESETS);
    }
}
