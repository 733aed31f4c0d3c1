//! `compare`: pair two models' documents and seeds: difference, interval, correction.

use std::path::PathBuf;

use anyhow::anyhow;
use reports::Study;
use reports::compare::{Difference, compare};
use reports::subject::{Subject, subjects};
use serde_json::json;

use super::{Exit, Format, Global, output};
use crate::error::Hint as _;

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  harness compare lm-tiny-plain lm-tiny-rw+lr --suite llm

Seeds pair when both models have at least two of them, documents otherwise. `p` is Holm-corrected over the rows shown. `detectable` is the
smallest difference this design shows with 80 % power: a smaller one may exist unseen. Exit code 1 if B is shown to be worse somewhere.")]
pub struct Args {
    /// Reference model, as named in results
    pub a: String,
    /// Candidate model
    pub b: String,
    /// Suite whose results are compared (below the runs directory)
    #[arg(long, value_name = "SUITE", default_value = "llm")]
    pub suite: String,
    /// Result folders instead of the suite's; may be repeated
    #[arg(long, value_name = "DIR")]
    pub from: Vec<PathBuf>,
    /// Only these tasks
    #[arg(long, value_delimiter = ',', value_name = "TASK,…")]
    pub task: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// No records, or a name that is not in them.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let folders = if args.from.is_empty() { vec![global.runs_dir.join("_suites").join(&args.suite)] } else { args.from.clone() };
    let study = Study::load(&folders).hint("evaluate first: harness eval --suite …")?;
    let known = subjects(&study, |group| group.shared.task.is_some());
    let (a, b) = (find(&known, &args.a)?, find(&known, &args.b)?);
    let mut found = compare(&study, a, b)?;
    found.retain(|difference| difference.task.as_ref().is_some_and(|task| args.task.is_empty() || args.task.contains(task)));
    reports::compare::correct(&mut found)?;
    if found.is_empty() {
        return Err(anyhow!("`{}` and `{}` have no documents or seeds in common", args.a, args.b));
    }
    match global.format {
        Format::Json => output::json(&found.iter().map(as_json).collect::<Vec<_>>())?,
        Format::Text => {
            output::line(&format!("{} against {} (positive: {} scores higher)", b.name, a.name, b.name))?;
            let header = [
                "task",
                "metric",
                args.a.as_str(),
                args.b.as_str(),
                "difference",
                "95 % interval",
                "p (Holm)",
                "detectable",
                "n",
                "",
            ];
            output::data(&output::columns(&header, &found.iter().map(cells).collect::<Vec<_>>()))?;
        }
    }
    Ok(if found.iter().any(|difference| difference.word() == "worse") { Exit::Against } else { Exit::Fine })
}

fn find<'a>(known: &'a [Subject], name: &str) -> anyhow::Result<&'a Subject> {
    let names: Vec<&str> = known.iter().map(|subject| subject.name.as_str()).collect();
    known
        .iter()
        .find(|subject| subject.name == name)
        .ok_or_else(|| anyhow!("unknown model in these records: `{name}` (there are: {})", names.join(", ")))
}

fn cells(d: &Difference) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(|| "—".to_owned(), |value| format!("{value:.4}"));
    let metric = d.filter.as_ref().map_or_else(|| d.metric.clone(), |filter| format!("{},{filter}", d.metric));
    let basis = format!("{} {}", d.n, format!("{:?}", d.basis).to_lowercase());
    vec![
        d.task.clone().unwrap_or_default(),
        metric,
        format!("{:.4}", d.reference_mean),
        format!("{:.4}", d.candidate_mean),
        format!("{:+.4}", d.difference),
        d.interval.map_or_else(|| "—".to_owned(), |(low, high)| format!("[{low:+.4}, {high:+.4}]")),
        number(d.p_holm.or(d.p)),
        number(detectable(d)),
        basis,
        d.word().to_owned(),
    ]
}

fn as_json(d: &Difference) -> serde_json::Value {
    json!({
        "task": d.task, "metric": d.metric, "filter": d.filter, "reference": d.reference, "candidate": d.candidate,
        "reference_mean": d.reference_mean, "candidate_mean": d.candidate_mean, "difference": d.difference, "interval": d.interval,
        "p": d.p, "p_holm": d.p_holm, "detectable": detectable(d), "discordant": d.discordant, "n": d.n,
        "basis": format!("{:?}", d.basis).to_lowercase(), "verdict": d.word(),
    })
}

/// Smallest difference that this design shows with 80 % power at the 5 % level.
fn detectable(d: &Difference) -> Option<f64> {
    stats::power::minimal_detectable_difference(d.sd?, d.n, 0.05, 0.8).ok().map(|found| found.difference)
}
