//! `measure`: parameters, FLOPs, step times, latencies, memory — and the hidden `worker` that takes one of them.

use super::{Exit, Format, Global, output};
use crate::config::{RunConfig, SuiteConfig, nearest};
use crate::error::Hint as _;
use crate::measure::parent::add_rows;
use crate::measure::plan::MEMORY_ROUNDS;
use crate::measure::probes::{self, Kind, Probe};
use crate::measure::subject::{InferenceDtype, Peak};
use crate::measure::table::{self, Cost};
use crate::measure::{MeasureOptions, Plan, SubjectSpec, Workload, criterion, measure, quality, worker};
use crate::plan::Shard;
use crate::run::RunDirectory;
use anyhow::{Context as _, anyhow, bail};
use candle_core::{DType, Device};
use laurel::{PRESETS, ResidualConfig};
use records::store::RECORDS_FILE;
use reports::number::quantity;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the named subjects of a suite live.
const CONFIGS: &str = "configs";
/// Flags that mean nothing where nothing is measured: refused rather than ignored.
const OF_MEASURING: [&str; 4] = ["probe", "trained", "shard", "dry_run"];

/// Arguments of `measure`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness measure --config configs/train/lm-tiny-plain.toml --residual rw,rw+lr
  harness measure --config configs/train/lm-tiny-plain.toml --config configs/train/lm-tiny-rw.toml --probe train_step --pairs 20 --aa
  harness measure --config configs/train/llm-4b-plain.toml --residual rw+lr --rank 64 --probe params,flops
  harness measure --config configs/train/llm-1b-plain.toml --residual rw+lr --dtype bf16 --probe prefill,decode,inference_memory
  harness measure --config configs/train/resnet20-cifar10-plain.toml --residual rw,rw+lr --probe train_step,image_latency
  harness measure --shard 2/4 --out shard-2                       one of four machines or jobs; then: harness merge shard-* --out all
  harness measure --from-criterion target/criterion               results of `cargo bench`, as records
  harness measure --target-val-loss 2.5                           from the logs of runs: seconds of training to that loss
  harness measure --dry-run

The first subject is the reference. Each sample is one fresh process; subjects take turns (A B C, C B A), so that they pair. Repeating
the command resumes. Times need an optimised build: cargo run --release -p harness -- measure …")]
pub struct Args {
    /// Suite that names the subjects; its file configs/suites/NAME.toml, else the demo subjects
    #[arg(long, value_name = "NAME", default_value = "efficiency")]
    pub suite: String,
    /// Training config of a subject; may be repeated
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Also these variants of each config
    #[arg(long, value_name = "PRESET,…", value_delimiter = ',')]
    pub residual: Vec<String>,
    /// Rank of low-rank terms in --residual
    #[arg(long, value_name = "R", default_value = "4")]
    pub rank: usize,
    /// Activations read by previous-activation terms in --residual
    #[arg(long, value_name = "K", default_value = "3")]
    pub lookback: usize,
    /// What to measure; default: everything
    #[arg(long, value_name = "PROBE,…", value_delimiter = ',')]
    pub probe: Vec<String>,
    /// Rounds of timing probes, one worker per subject each; ten are the fewest that can be judged
    #[arg(long, value_name = "N", default_value = "20")]
    pub pairs: u32,
    /// Sequences or pictures per training micro-batch (default: the config's), requests answered together (default: 1), pictures of a batch
    /// whose rate is measured (default: the training micro-batch's)
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Tokens of a training sequence; default: the config's
    #[arg(long, value_name = "N")]
    pub sequence_length: Option<usize>,
    /// Prompt tokens of a request
    #[arg(long, value_name = "N", default_value = "256")]
    pub prompt_length: usize,
    /// Tokens generated for a request
    #[arg(long, value_name = "N", default_value = "32")]
    pub output_length: usize,
    /// Also measure the reference against itself: the noise floor
    #[arg(long)]
    pub aa: bool,
    /// Use the weights of the subjects' runs below --runs-dir instead of initial ones
    #[arg(long)]
    pub trained: bool,
    /// Folder of the records; default: _measure/SUITE in --runs-dir
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Keep every iteration in the rows
    #[arg(long)]
    pub keep_raw: bool,
    /// Forget earlier records in the folder
    #[arg(long)]
    pub fresh: bool,
    /// Measure this part of the plan only; `merge` joins the folders of all parts
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub shard: Shard,
    /// The rate that `mfu` refers to: device, dtype, dense
    #[arg(long, value_name = "NAME=FLOP/s")]
    pub peak: Option<Peak>,
    /// Measure nothing, import criterion's results from this folder (target/criterion)
    #[arg(long, value_name = "DIR", conflicts_with_all = OF_MEASURING, conflicts_with = "target_val_loss")]
    pub from_criterion: Option<PathBuf>,
    /// Measure nothing, read from the logs of the subjects' runs when they first reached this validation loss
    #[arg(long, value_name = "LOSS", conflicts_with_all = OF_MEASURING)]
    pub target_val_loss: Option<f64>,
    /// Say what would be measured, and about how long it takes
    #[arg(long)]
    pub dry_run: bool,
    /// Seconds a worker may take
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    pub timeout: u64,
    /// Take times even in a build with debug assertions
    #[arg(long)]
    pub allow_debug_assertions: bool,
}

/// Arguments of the hidden `worker`.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {}

/// Serves one measurement: a job on stdin, rows on stdout.
pub fn run_worker(_: &WorkerArgs, _: &Global) -> anyhow::Result<Exit> {
    output::data(&worker::serve(std::io::stdin().lock())?)?;
    Ok(Exit::Fine)
}

/// Runs the command.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    if !matches!(global.device()?, Device::Cpu) {
        bail!("--device: expected `cpu` for measuring, found `{}`", global.device);
    }
    if let Some(folder) = &args.from_criterion {
        return add(criterion::rows(folder, args.keep_raw)?, args, global);
    }
    if let Some(target) = args.target_val_loss {
        if !target.is_finite() {
            bail!("--target-val-loss: expected a number, found {target}");
        }
        let plan = plan(args, global)?;
        let names: Vec<&str> = plan.subjects.iter().map(|subject| subject.config.name()).collect();
        return add(quality::rows(&global.runs_dir, &names, target)?, args, global);
    }
    let plan = plan(args, global)?;
    let options = options(args, global);
    if args.dry_run {
        dry_run(&plan, &options, global)?;
        return Ok(Exit::Fine);
    }
    let rows = measure(&plan, &options)?;
    print(&plan, &rows, &options.out.join(RECORDS_FILE), global)?;
    Ok(Exit::Fine)
}

/// Stores rows that were read rather than measured, and prints them.
fn add(rows: Vec<records::Row>, args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let options = options(args, global);
    let (rows, new) = add_rows(rows, &options)?;
    let file = options.out.join(RECORDS_FILE);
    if global.format == Format::Json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| json!({"subject": row.subject, "seed": row.seed, "metric": row.metric, "value": row.value, "unit": row.unit, "status": row.status.to_string(), "reason": row.reason}))
            .collect();
        output::json(&json!({"records": file, "added": new, "rows": rows}))?;
        return Ok(Exit::Fine);
    }
    let cells = rows.iter().map(|row| {
        let value = row.value.map_or_else(|| row.reason.clone().unwrap_or_default(), |value| quantity(value, &row.unit));
        vec![
            row.subject.clone().unwrap_or_default(),
            row.seed.map_or_else(String::new, |seed| seed.to_string()),
            row.metric.clone(),
            value,
        ]
    });
    output::data(&output::columns(&["subject", "seed", "metric", "value"], &cells.collect::<Vec<_>>()))?;
    output::line(&format!("{new} of {} rows are new; records in {}", rows.len(), file.display()))?;
    Ok(Exit::Fine)
}

fn options(args: &Args, global: &Global) -> MeasureOptions {
    let out = args.out.clone().unwrap_or_else(|| global.runs_dir.join("_measure").join(&args.suite));
    let mut options = MeasureOptions::new(out, global.thread_count());
    options.suite.clone_from(&args.suite);
    options.worker_flags = global.worker_flags();
    options.window.keep_raw = args.keep_raw;
    options.timeout = Duration::from_secs(args.timeout);
    options.fresh = args.fresh;
    options.allow_debug_assertions = args.allow_debug_assertions;
    options
}

fn plan(args: &Args, global: &Global) -> anyhow::Result<Plan> {
    if args.pairs == 0 {
        bail!("--pairs: expected at least 1, found 0");
    }
    let files = if args.config.is_empty() { suite_configs(&args.suite)? } else { args.config.clone() };
    let sets: Vec<String> = global.numerics_set().into_iter().collect();
    let mut subjects = Vec::new();
    for file in &files {
        let config = RunConfig::load(file, &sets, None)?;
        for config in variants(&config, args)? {
            subjects.push(subject(config, args, global)?);
        }
    }
    let workload = Workload {
        train_batch: args.batch,
        sequence_length: args.sequence_length,
        batch: args.batch.unwrap_or(1),
        prompt_length: args.prompt_length,
        output_length: args.output_length,
        inference_dtype: match global.dtype() {
            DType::F32 => InferenceDtype::F32,
            DType::BF16 => InferenceDtype::Bf16,
            other => bail!("--dtype: expected `f32` or `bf16` for inference, found {other:?}"),
        },
        peak: args.peak.clone(),
        ..Workload::default()
    };
    let chosen = chosen_probes(args, &subjects)?;
    Ok(Plan {
        shard: args.shard,
        with_aa: args.aa,
        memory_rounds: MEMORY_ROUNDS,
        ..Plan::new(subjects, chosen, workload, args.pairs)
    })
}

/// The probes asked for. Without a choice those that a subject can be measured with; a build that may not time leaves out times, and says so.
fn chosen_probes(args: &Args, subjects: &[SubjectSpec]) -> anyhow::Result<Vec<&'static dyn Probe>> {
    if !args.probe.is_empty() {
        return args.probe.iter().map(|name| probe(name)).collect();
    }
    let is_for_one = |probe: &&dyn Probe| subjects.iter().any(|subject| probe.refuses(&subject.config).is_none());
    let mut chosen: Vec<_> = probes::probes().into_iter().filter(|probe| probe.is_default()).filter(is_for_one).collect();
    if cfg!(debug_assertions) && !args.allow_debug_assertions {
        tracing::warn!(
            "this build has debug assertions: no times are taken; for times: cargo run --release -p harness -- measure …, or --allow-debug-assertions"
        );
        chosen.retain(|probe| probe.kind() != Kind::Timing);
    }
    Ok(chosen)
}

fn probe(name: &str) -> anyhow::Result<&'static dyn Probe> {
    probes::by_name(name).ok_or_else(|| unknown("probe", name, &probes::names(), "`harness list probes` shows them"))
}

fn unknown(what: &str, name: &str, known: &[&str], hint: &str) -> anyhow::Error {
    let suggestion = nearest(name, known.iter().copied()).map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
    anyhow!("unknown {what}: `{name}`{suggestion}").hint(hint)
}

/// Configs of the suite's subjects: its file's, else every demo subject, the plain one first.
fn suite_configs(suite: &str) -> anyhow::Result<Vec<PathBuf>> {
    let file = Path::new(CONFIGS).join("suites").join(format!("{suite}.toml"));
    if file.is_file() {
        let suite = SuiteConfig::load(&file, &[])?;
        return Ok(suite.subjects.iter().map(|subject| suite.subject_config(subject)).collect());
    }
    if suite != "efficiency" {
        return Err(anyhow!("unknown suite: `{suite}` (no file `{}`)", file.display()))
            .hint("name subjects with --config instead");
    }
    let folder = Path::new(CONFIGS).join("train");
    let names = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot list `{}`", folder.display()))
        .hint("name subjects with --config")?;
    let mut files = Vec::new();
    for name in names {
        let path = name.with_context(|| format!("cannot list `{}`", folder.display()))?.path();
        let is_demo = path.extension().is_some_and(|extension| extension == "toml")
            && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("lm-tiny-"));
        if is_demo {
            files.push(path);
        }
    }
    files.sort_by_key(|path| (!path.ends_with("lm-tiny-plain.toml"), path.clone()));
    if files.is_empty() {
        return Err(anyhow!("`{}` holds no demo subject", folder.display())).hint("name subjects with --config");
    }
    Ok(files)
}

/// A config and its variants asked for by preset; the config itself comes first and only once.
fn variants(config: &RunConfig, args: &Args) -> anyhow::Result<Vec<RunConfig>> {
    let mut all = vec![config.clone()];
    for name in &args.residual {
        let residual = ResidualConfig::preset(name, args.rank, args.lookback)
            .ok_or_else(|| unknown("variant", name, &PRESETS, "`harness list variants` shows them"))?;
        let new = variant_name(config.name(), &config.variant(), name);
        let variant = config.with_residual(residual, new).with_context(|| format!("--residual {name} on `{}`", config.name()))?;
        if !all.iter().any(|known| known.has_model_of(&variant)) {
            all.push(variant);
        }
    }
    Ok(all)
}

/// `lm-tiny-plain` with `rw` is `lm-tiny-rw`; a name without its variant gets one.
fn variant_name(name: &str, own: &str, preset: &str) -> String {
    format!("{}-{preset}", name.strip_suffix(&format!("-{own}")).unwrap_or(name))
}

fn subject(config: RunConfig, args: &Args, global: &Global) -> anyhow::Result<SubjectSpec> {
    if !args.trained {
        return Ok(config.into());
    }
    let run = RunDirectory::with_id(&global.runs_dir, &config.run_id());
    let checkpoint = run
        .newest_checkpoint()?
        .ok_or_else(|| anyhow!("--trained: no checkpoint of `{}` in `{}`", config.name(), run.folder().display()))
        .hint("train it first, or measure initial weights: speed does not depend on them")?;
    Ok(SubjectSpec { checkpoint: Some(checkpoint.evaluated_file()), ..config.into() })
}

fn dry_run(plan: &Plan, options: &MeasureOptions, global: &Global) -> anyhow::Result<()> {
    let steps = plan.steps();
    let lines: Vec<(String, &str, usize, f64)> = plan
        .subjects
        .iter()
        .enumerate()
        .flat_map(|(at, subject)| {
            let steps = &steps;
            plan.probes.iter().filter_map(move |probe| {
                let workers: Vec<_> =
                    steps.iter().filter(|step| step.subject == at && step.probe.name() == probe.name()).collect();
                let seconds = workers.iter().map(|step| plan.estimated_s(step, &options.window, options.threads)).sum();
                (!workers.is_empty()).then(|| (subject.config.name().to_owned(), probe.name(), workers.len(), seconds))
            })
        })
        .collect();
    let total: f64 = lines.iter().map(|(.., seconds)| seconds).sum();
    if global.format == Format::Json {
        let cells: Vec<_> = lines
            .iter()
            .map(|(subject, probe, workers, seconds)| json!({"subject": subject, "probe": probe, "workers": workers, "estimated_s": seconds}))
            .collect();
        return output::json(&json!({"out": options.out, "cells": cells, "workers": steps.len(), "estimated_s": total}));
    }
    let rows: Vec<Vec<String>> = lines
        .into_iter()
        .map(|(subject, probe, workers, seconds)| vec![subject, probe.to_owned(), workers.to_string(), output::duration(seconds)])
        .collect();
    output::data(&output::columns(&["subject", "probe", "workers", "about"], &rows))?;
    output::line(&format!("{} workers, about {}, records in {}", steps.len(), output::duration(total), options.out.display()))
}

fn print(plan: &Plan, rows: &[records::Row], file: &Path, global: &Global) -> anyhow::Result<()> {
    if global.format == Format::Json {
        return print_json(plan, rows, file);
    }
    let (header, absolute) = table::absolute(plan, rows)?;
    output::data(&output::columns(&header, &absolute))?;
    let (header, relative) = table::relative(plan, rows)?;
    if !relative.is_empty() {
        output::line("")?;
        output::data(&output::columns(&header, &relative))?;
    }
    let caption = table::caption(plan, rows)?;
    if !caption.is_empty() {
        output::line(&format!("\n{caption}"))?;
    }
    output::note(&format!("records: {}", file.display()));
    Ok(())
}

fn print_json(plan: &Plan, rows: &[records::Row], file: &Path) -> anyhow::Result<()> {
    let reference = plan.reference();
    let mut subjects = Vec::new();
    for subject in &plan.subjects {
        let name = subject.config.name();
        let mut metrics = serde_json::Map::new();
        for (_, metric) in table::columns(plan) {
            let ratio = match &reference {
                Some(reference) if reference.subject != name => table::ratio(rows, &reference.subject, name, metric)?,
                _ => None,
            };
            let entry = match table::cost(rows, name, metric)? {
                Cost::Missing => continue,
                Cost::Without(status) => json!({"status": status.to_string()}),
                Cost::Value(value, workers) => json!({
                    "value": value, "unit": metric.unit.as_str(), "n": workers,
                    "ratio": ratio.map(|ratio| ratio.ratio), "interval": ratio.and_then(|ratio| ratio.interval),
                    "pairs": ratio.map(|ratio| ratio.pairs), "contended_pairs": ratio.map(|ratio| ratio.contended),
                }),
            };
            metrics.insert(metric.name.to_string(), entry);
        }
        subjects.push(json!({"subject": name, "variant": subject.config.variant(), "metrics": metrics}));
    }
    output::json(&json!({"records": file, "reference": reference.map(|reference| reference.subject), "subjects": subjects}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_named_after_their_config() {
        assert_eq!(variant_name("lm-tiny-plain", "plain", "rw+lr"), "lm-tiny-rw+lr");
        assert_eq!(variant_name("mine", "plain", "rw"), "mine-rw");
    }

    #[test]
    fn unknown_probes_are_answered_with_the_nearest() {
        let Err(error) = probe("prefil") else { panic!("there is no such probe") };
        assert_eq!(error.to_string(), "unknown probe: `prefil` (did you mean `prefill`?)");
    }
}
