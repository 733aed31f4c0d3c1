//! `train` of a network on images: the plan and the result as a person or a program reads them.

use super::train::{how, state_of};
use super::{Exit, Format, Global, output};
use crate::config::ImageTrainConfig;
use crate::run::RunDirectory;
use crate::train::estimate::estimate;
use crate::train::images::{ImageSets, Summary};
use anyhow::Context as _;
use models::Model as _;
use serde_json::json;

/// Says what would be done and opens the image sets.
pub(super) fn dry_run(config: &ImageTrainConfig, global: &Global) -> anyhow::Result<Exit> {
    let run = RunDirectory::with_id(&global.runs_dir, &config.run_id());
    let count = config.model.num_params();
    let flops = config.model.cost(&config.step_shape()).flops_train();
    let state = state_of(&run)?;
    let estimate = estimate(config).context("cannot measure a training step")?;
    let images = config.max_steps * config.images_per_step();
    if global.format == Format::Json {
        output::json(&json!({
            "run_id": config.run_id().as_str(), "folder": run.folder(), "state": state, "params_total": count.total,
            "params_laurel": count.laurel, "flops_train_step": flops, "steps": config.max_steps, "images": images,
            "estimate": estimate,
        }))?;
    } else {
        output::data(&format!(
            "run      {}\nstate    {state}\nmodel    {} parameters ({} of LAuReL), variant {}\nbudget   {} steps, {images} images, {}FLOP\nhere     {} of training, {} of memory, by one step of a few pictures\n",
            run.folder().display(),
            count.total,
            count.laurel,
            config.variant(),
            config.max_steps,
            output::count(flops as f64 * config.max_steps as f64),
            output::duration(estimate.train_s),
            output::bytes(estimate.memory_bytes as f64),
        ))?;
    }
    let sets = ImageSets::open(config).context("the run could not start")?;
    let epochs = images as f64 / sets.train_len() as f64;
    tracing::info!("{} training images, {epochs:.2} epochs; {} evaluated", sets.train_len(), sets.valid_len(config));
    Ok(Exit::Fine)
}

/// Prints how a run ended.
pub(super) fn print(config: &ImageTrainConfig, summary: &Summary, global: &Global) -> anyhow::Result<()> {
    let last = summary.last;
    if global.format == Format::Json {
        return output::json(&json!({
            "run_id": config.run_id().as_str(), "folder": summary.run.folder(), "resumed_from": summary.resumed_from,
            "steps": summary.steps, "images": summary.images, "train_s": summary.train_s, "params_total": summary.params_total,
            "acc1_final": last.acc1, "acc5_final": last.acc5, "cross_entropy": last.cross_entropy, "acc1_best": summary.acc1_best,
            "best_step": summary.best_step, "evaluation_points": summary.evaluations,
        }));
    }
    output::data(&format!(
        "run            {}{}\nparameters     {}\nsteps          {}, {} images, {}\naccuracy@1     {:.2} % at the end, {:.2} % at best (step {}, of {} evaluations)\naccuracy@5     {:.2} %\ncross_entropy  {:.4} nats per image\n",
        summary.run.folder().display(),
        how(summary.resumed_from, config.max_steps),
        summary.params_total,
        summary.steps,
        summary.images,
        output::duration(summary.train_s),
        100.0 * last.acc1,
        100.0 * summary.acc1_best,
        summary.best_step,
        summary.evaluations,
        100.0 * last.acc5,
        last.cross_entropy,
    ))
}
