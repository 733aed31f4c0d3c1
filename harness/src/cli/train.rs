//! `train`: one run from one config.

use super::global::DtypeFlag;
use super::{Exit, Format, Global, output, train_images};
use crate::config::{RunConfig, TrainConfig};
use crate::error::Hint as _;
use crate::plan;
use crate::run::RunDirectory;
use crate::train::{self, Corpus, Summary, TrainOptions};
use anyhow::{Context as _, anyhow};
use candle_core::Device;
use models::{InputShape, Model as _};
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness train --config configs/train/lm-tiny-plain.toml
  harness train --config configs/train/lm-tiny-rw+lr.toml --seed 1 --max-steps 50
  harness train --config configs/train/lm-tiny-plain.toml --set optimizer.learning_rate=2e-3 --set name=lm-tiny-plain-2e-3
  harness train --config configs/train/table5-rw.toml --dry-run
  harness train --config configs/train/resnet20-cifar10-rw+lr.toml --seed 1

The run's folder is runs/<name>/<config hash>-s<seed>. Repeating the command resumes an interrupted run and skips a finished one.")]
pub struct Args {
    /// The training config
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Override a key, as `a.b=v`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// The seed; default: the config's
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Optimizer steps; short for `--set max_steps=N`, so the run gets a folder of its own
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Forget an earlier run of the same config and seed
    #[arg(long)]
    pub fresh: bool,
    /// Say what would be done and check its inputs
    #[arg(long)]
    pub dry_run: bool,
    /// Do this part of the plan only; a single run belongs to part 1
    #[arg(long, value_name = "I/N", default_value = "1/1", hide = true)]
    pub shard: plan::Shard,
}

/// Runs the command.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    check_device(global)?;
    let mut sets = args.sets.clone();
    sets.extend(args.max_steps.map(|steps| format!("max_steps={steps}")));
    sets.extend(global.numerics_set());
    let config = RunConfig::load(&args.config, &sets, args.seed)?;
    if !args.shard.takes(0) {
        return Ok(Exit::Fine);
    }
    let options = TrainOptions { runs_dir: global.runs_dir.clone(), threads: global.thread_count(), fresh: args.fresh };
    match &config {
        RunConfig::Language(config) if args.dry_run => return dry_run(config, global),
        RunConfig::Images(config) if args.dry_run => return train_images::dry_run(config, global),
        RunConfig::Language(config) => print(config, &train::train(config, &options)?, global)?,
        RunConfig::Images(config) => train_images::print(config, &train::images::train(config, &options)?, global)?,
    }
    Ok(Exit::Fine)
}

/// Training is f32 on the CPU; a flag that asks for something else is refused rather than ignored.
///
/// # Errors
/// When device or dtype ask for something training does not have.
pub fn check_device(global: &Global) -> anyhow::Result<()> {
    if !matches!(global.device()?, Device::Cpu) {
        return Err(anyhow!("--device: expected `cpu` for training, found `{}`", global.device))
            .hint("the update kernels are CPU code");
    }
    if global.dtype != DtypeFlag::F32 {
        return Err(anyhow!("--dtype: expected `f32` for training, found another format"))
            .hint("master weights and their gradients are f32");
    }
    Ok(())
}

fn dry_run(config: &TrainConfig, global: &Global) -> anyhow::Result<Exit> {
    let run = RunDirectory::of(&global.runs_dir, config);
    let count = config.model.num_params();
    let flops =
        config.model.cost(&InputShape::train(config.batch * config.grad_accum, config.data.sequence_length)).flops_train();
    let files = [&config.tokenizer, &config.data.train, &config.data.valid];
    let missing: Vec<String> = files
        .iter()
        .map(|file| config.file(file))
        .filter(|file| !file.is_file())
        .map(|file| file.display().to_string())
        .collect();
    let state = state_of(&run)?;
    let tokens = config.max_steps * config.tokens_per_step();
    if global.format == Format::Json {
        output::json(&json!({
            "run_id": config.run_id().as_str(), "folder": run.folder(), "state": state, "params_total": count.total,
            "params_laurel": count.laurel, "flops_train_step": flops, "steps": config.max_steps, "tokens": tokens, "missing": missing,
        }))?;
    } else {
        output::data(&format!(
            "run      {}\nstate    {state}\nmodel    {} parameters ({} of LAuReL), variant {}\nbudget   {} steps, {} tokens, {}FLOP\n",
            run.folder().display(),
            count.total,
            count.laurel,
            config.variant(),
            config.max_steps,
            tokens,
            output::count(flops as f64 * config.max_steps as f64),
        ))?;
        for file in &missing {
            output::line(&format!("missing  {file}"))?;
        }
    }
    if missing.is_empty() {
        let corpus = Corpus::load(config, &global.runs_dir).context("the run could not start")?;
        let epochs = tokens as f64 / corpus.train.ids.len() as f64;
        tracing::info!(
            "{} training tokens, {epochs:.2} epochs; {} validation tokens",
            corpus.train.ids.len(),
            corpus.valid.ids.len()
        );
        Ok(Exit::Fine)
    } else {
        Err(anyhow!("inputs are missing: `{}`", missing.join("`, `")))
    }
}

/// What a repeated command would do.
pub(super) fn state_of(run: &RunDirectory) -> anyhow::Result<String> {
    Ok(match (run.is_finished()?, run.newest_checkpoint()?) {
        (true, _) => "finished".to_owned(),
        (false, Some(checkpoint)) => format!("would resume after step {}", checkpoint.state.step),
        (false, None) => "would start".to_owned(),
    })
}

/// What stands behind the run's name when an earlier process did some of it.
pub(super) fn how(resumed_from: u64, max_steps: u64) -> String {
    match resumed_from {
        0 => String::new(),
        step if step == max_steps => " (was finished)".to_owned(),
        step => format!(" (resumed after step {step})"),
    }
}

fn print(config: &TrainConfig, summary: &Summary, global: &Global) -> anyhow::Result<()> {
    if global.format == Format::Json {
        return output::json(&json!({
            "run_id": config.run_id().as_str(), "folder": summary.run.folder(), "resumed_from": summary.resumed_from,
            "steps": summary.steps, "tokens": summary.tokens, "train_s": summary.train_s, "params_total": summary.params_total,
            "val_loss": summary.val_loss, "bits_per_byte": summary.bits_per_byte,
        }));
    }
    let how = how(summary.resumed_from, config.max_steps);
    output::data(&format!(
        "run            {}{how}\nparameters     {}\nsteps          {}, {} tokens, {}\nval_loss       {:.4} nats per token\nbits_per_byte  {:.4}\n",
        summary.run.folder().display(),
        summary.params_total,
        summary.steps,
        summary.tokens,
        output::duration(summary.train_s),
        summary.val_loss,
        summary.bits_per_byte,
    ))
}
