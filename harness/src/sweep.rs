//! A sweep runs its plan one after another; finished runs are skipped, so repeating it is idempotent.

use crate::config::{RunConfig, SweepConfig, sweep::SweepRun};
use crate::train::{self, RunSummary, TrainOptions};
use anyhow::Context as _;

/// The runs of a sweep with their resolved configs, each run once, in plan order.
///
/// # Errors
/// When a cell of the grid gives an invalid config: nothing is run then.
pub fn plan(sweep: &SweepConfig) -> anyhow::Result<Vec<(SweepRun, RunConfig)>> {
    let mut planned: Vec<(SweepRun, RunConfig)> = Vec::new();
    for run in sweep.runs() {
        let config = RunConfig::load(&run.config, &run.sets, Some(run.seed)).with_context(|| {
            format!("sweep `{}`: cell `{}` with `{}`", sweep.name, run.config.display(), run.sets.join("` `"))
        })?;
        // Two cells that resolve to the same run (a value equal to the base config's) are one run.
        if !planned.iter().any(|(_, other)| other.run_id() == config.run_id()) {
            planned.push((run, config));
        }
    }
    Ok(planned)
}

/// How one run of a sweep ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its config.
    pub config: RunConfig,
    /// Its summary or its error; one failed run does not stop the others.
    pub result: anyhow::Result<RunSummary>,
}

/// Trains every config, in order.
pub fn run(configs: Vec<RunConfig>, options: &TrainOptions) -> Vec<Outcome> {
    let total = configs.len();
    configs
        .into_iter()
        .enumerate()
        .map(|(index, config)| {
            tracing::info!("run {} of {total}: {}", index + 1, config.run_id());
            let result = train::run(&config, options);
            if let Err(error) = &result {
                tracing::error!("{error:#}");
            }
            Outcome { config, result }
        })
        .collect()
}
