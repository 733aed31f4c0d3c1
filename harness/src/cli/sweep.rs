//! `sweep`: a grid of settings × seeds, one run after another.

use super::{Exit, Format, Global, output};
use crate::config::{RunConfig, SweepConfig, sweep::SweepRun};
use crate::error::Hint as _;
use crate::plan::Shard;
use crate::run::RunDirectory;
use crate::sweep;
use crate::train::{self, TrainOptions, estimate::Estimate};
use anyhow::{Context as _, anyhow, bail};
use serde_json::json;
use std::collections::{BTreeMap, btree_map::Entry};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Arguments of `sweep`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness sweep --config configs/sweeps/lm-tiny-learning-rate.toml --dry-run
  harness sweep --config configs/sweeps/lm-tiny-learning-rate.toml
  harness sweep --config configs/sweeps/lm-tiny-rank.toml --shard 1/4       the first of four machines; `merge` joins their records

Finished runs are skipped; a failed one is reported at the end and does not stop the others (exit code 2).")]
pub struct Args {
    /// The sweep config
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Override a key of the sweep, as `a.b=v`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Runs at the same time, each a process with its share of the threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub jobs: usize,
    /// Forget earlier runs
    #[arg(long)]
    pub fresh: bool,
    /// Print the plan
    #[arg(long)]
    pub dry_run: bool,
    /// Do this part of the plan only
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub shard: Shard,
}

/// Runs the command.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    super::train::check_device(global)?;
    if global.numerics.is_some() {
        return Err(anyhow!("--numerics: a sweep takes it from its configs"))
            .hint("put `numerics = [\"f32\", \"bf16\"]` into the sweep's grid");
    }
    if args.jobs == 0 {
        bail!("--jobs: expected at least 1, found 0");
    }
    let config = SweepConfig::load(&args.config, &args.sets)?;
    let runs = args.shard.select(sweep::plan(&config)?);
    if args.jobs > 1 && !args.dry_run {
        run_processes(&runs, args, global)?;
    }
    let configs: Vec<RunConfig> = runs.into_iter().map(|(_, config)| config).collect();
    if args.dry_run {
        print_plan(&configs, global)?;
        return Ok(Exit::Fine);
    }
    // With several jobs every run is finished by now, and this pass only collects the summaries.
    let options =
        TrainOptions { runs_dir: global.runs_dir.clone(), threads: global.thread_count(), fresh: args.fresh && args.jobs == 1 };
    let outcomes = sweep::run(configs, &options);
    print_outcomes(&outcomes, global)?;
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    if failed > 0 {
        bail!("{failed} of {} runs failed; their reasons are above and in their manifests", outcomes.len());
    }
    Ok(Exit::Fine)
}

/// Trains each run in a process of its own, `jobs` at a time.
fn run_processes(runs: &[(SweepRun, RunConfig)], args: &Args, global: &Global) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let threads = (global.thread_count() / args.jobs).max(1);
    let mut running: Vec<Child> = Vec::new();
    for (run, _) in runs {
        if running.len() == args.jobs {
            wait_for_one(&mut running)?;
        }
        let mut command = Command::new(&program);
        command.arg("train").arg("--config").arg(&run.config).args(["--seed", &run.seed.to_string()]);
        for set in &run.sets {
            command.args(["--set", set]);
        }
        command.args(["--threads", &threads.to_string()]).arg("--runs-dir").arg(&global.runs_dir);
        if args.fresh {
            command.arg("--fresh");
        }
        running.push(command.stdout(Stdio::null()).spawn().with_context(|| format!("cannot start `{}`", program.display()))?);
    }
    while !running.is_empty() {
        wait_for_one(&mut running)?;
    }
    Ok(())
}

/// Waits until any child ends and drops it; its result is read from its run directory later.
fn wait_for_one(running: &mut Vec<Child>) -> anyhow::Result<()> {
    let before = running.len();
    while running.len() == before {
        for index in (0..running.len()).rev() {
            if running[index].try_wait().context("cannot wait for a run")?.is_some() {
                running.remove(index).wait().context("cannot wait for a run")?;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}

fn print_plan(configs: &[RunConfig], global: &Global) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let mut json_rows = Vec::new();
    let mut total_s = 0.0;
    let mut estimates: BTreeMap<String, Estimate> = BTreeMap::new();
    for config in configs {
        let run = RunDirectory::with_id(&global.runs_dir, &config.run_id());
        let state = match (run.is_finished()?, run.newest_checkpoint()?) {
            (true, _) => "finished".to_owned(),
            (false, Some(checkpoint)) => format!("step {}", checkpoint.state.step),
            (false, None) => "new".to_owned(),
        };
        let params = config.num_params().total;
        // Seeds of one config take the same.
        let estimate = match config {
            RunConfig::Images(config) => Some(match estimates.entry(config.sha256()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => *new.insert(train::estimate::estimate(config)?),
            }),
            RunConfig::Language(_) => None,
        };
        json_rows.push(json!({
            "run_id": config.run_id().as_str(), "variant": config.variant(), "params_total": params, "steps": config.max_steps(), "state": state,
            "estimate": estimate,
        }));
        let mut row =
            vec![config.run_id().to_string(), config.variant(), params.to_string(), config.max_steps().to_string(), state];
        if let Some(estimate) = estimate {
            total_s += estimate.train_s;
            row.extend([output::bytes(estimate.memory_bytes as f64), output::duration(estimate.train_s)]);
        }
        rows.push(row);
    }
    match global.format {
        Format::Json => output::json(&json_rows),
        Format::Text if estimates.is_empty() => {
            output::data(&output::columns(&["run", "variant", "params", "steps", "state"], &rows))
        }
        Format::Text => {
            let header = ["run", "variant", "params", "steps", "state", "memory", "train time"];
            output::data(&output::columns(&header, &rows))?;
            output::note(&format!(
                "{} runs, {} of training on this machine, one after another; measured on a few pictures, without decoding and evaluation",
                configs.len(),
                output::duration(total_s)
            ));
            Ok(())
        }
    }
}

fn print_outcomes(outcomes: &[sweep::Outcome], global: &Global) -> anyhow::Result<()> {
    if global.format == Format::Json {
        let rows: Vec<_> = outcomes
            .iter()
            .map(|outcome| match &outcome.result {
                Ok(summary) => {
                    let [(first, a), (second, b)] = summary.headline();
                    json!({
                        "run_id": outcome.config.run_id().as_str(), "status": "ok", first: a, second: b, "train_s": summary.train_s(),
                    })
                }
                Err(error) => {
                    json!({"run_id": outcome.config.run_id().as_str(), "status": "failed", "reason": format!("{error:#}")})
                }
            })
            .collect();
        return output::json(&rows);
    }
    let missing = || "—".to_owned();
    let done = || outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
    // A sweep is of one kind of run; its first finished one names the numbers.
    let names = done().next().map_or(["", ""], |summary| summary.headline().map(|(name, _)| name));
    let rows: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            let summary = outcome.result.as_ref().ok();
            let number = |at: usize| summary.map_or_else(missing, |summary| format!("{:.4}", summary.headline()[at].1));
            let seconds = summary.map_or_else(missing, |summary| output::duration(summary.train_s()));
            vec![outcome.config.run_id().to_string(), outcome.config.variant(), number(0), number(1), seconds]
        })
        .collect();
    output::data(&output::columns(&["run", "variant", names[0], names[1], "train time"], &rows))
}
