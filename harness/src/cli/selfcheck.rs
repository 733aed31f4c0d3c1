//! `selfcheck`: show that batch, order, prefix sharing and caching change no score of a model.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use serde::Serialize;
use serde_json::json;
use tasks::{DataSource, LanguageModel as _, Profile, Request, Response};

use super::{Exit, Format, Global, output};
use crate::error::Hint as _;
use crate::eval::suite::{Subject, find_model, load_hub_model, load_run};
use crate::eval::{AnswerOptions, Budget, Evaluator, LoadedModel, ResponseCache, Softmax};

/// Largest difference that rounding in another order may cause, nats (tasks.md section 3, rule 3).
const TOLERANCE: f64 = 1e-4;

/// Arguments of `selfcheck`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  harness selfcheck --model FOLDER --data DIR --task hellaswag,mmlu_anatomy --limit 20

Asks the same requests several ways and prints the largest difference in nats. Exit code 1 if an answer differs by more than 1e-4 nats,
or a greedy flag or text differs.")]
pub struct Args {
    /// A run of ours or a Hugging Face folder
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Tasks whose requests are asked
    #[arg(long, value_delimiter = ',', default_value = "hellaswag,boolq,openbookqa", value_name = "TASK,…")]
    pub task: Vec<String>,
    /// Where documents come from: `bundled` or a folder of benchmark files
    #[arg(long, default_value = "bundled", value_name = "DIR|bundled")]
    pub data: String,
    /// Documents per task
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub limit: usize,
    /// Examples in the prompt
    #[arg(long, value_name = "N")]
    pub num_fewshot: Option<usize>,
}

/// One way of asking, compared with the default way.
#[derive(Debug, Serialize)]
struct Check {
    way: &'static str,
    largest_difference_nats: f64,
    different_decisions: usize,
}

/// Runs the command.
///
/// # Errors
/// Unknown names, an unusable model or data, a model that fails on every request.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    global.check_scores_are_f32()?;
    let model = match find_model(&global.runs_dir, &args.model)? {
        Subject::Run(run) => load_run(&run, args.model.clone(), global.dtype(), &global.device()?)?.0,
        Subject::Folder(folder) => LoadedModel::from_pretrained(&folder, global.dtype(), &global.device()?)?,
        Subject::Hub(id) => load_hub_model(&id, global.is_offline(), global.dtype(), &global.device()?)?,
        Subject::Config { .. } => unreachable!("--model never names a config"),
    };
    let requests = requests(args)?;
    let base = Budget::default();
    let ask = |budget: Budget, requests: &[Request]| {
        let options = AnswerOptions { profile: Profile::Canonical, budget, softmax: Softmax::F32 };
        Evaluator::new(&model, options).answer(requests)
    };
    let reference = ask(base, &requests);
    let failed = reference.iter().filter(|answer| answer.is_err()).count();
    if let (true, Some(Err(error))) = (failed == requests.len(), reference.first()) {
        bail!("`{}`: expected answers to compare, found that all of {failed} requests fail: {error}", model.name);
    }
    let reversed: Vec<Request> = requests.iter().rev().cloned().collect();
    let mut from_reversed = ask(base, &reversed);
    from_reversed.reverse();
    let mut ways = vec![
        (
            "one request at a time, nothing shared",
            ask(Budget { batch_tokens: usize::MAX, cache_tokens: 1, decode_rows: 1, share_prefixes: false }, &requests),
        ),
        ("no prefix sharing", ask(Budget { share_prefixes: false, ..base }, &requests)),
        ("small batches", ask(Budget { batch_tokens: 61, cache_tokens: 2048, decode_rows: 3, ..base }, &requests)),
        ("requests in reverse order", from_reversed),
    ];
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cache.jsonl");
    let options = AnswerOptions { profile: Profile::Canonical, budget: base, softmax: Softmax::F32 };
    // Half of the answers come from a cache, as after a kill.
    let mut cache = ResponseCache::open(&path)?;
    Evaluator::new(&model, options).with_cache(&mut cache).answer(&requests[..requests.len() / 2]);
    let mut cache = ResponseCache::open(&path)?;
    ways.push(("half of it from the response cache", Evaluator::new(&model, options).with_cache(&mut cache).answer(&requests)));

    let checks: Vec<Check> = ways.into_iter().map(|(way, answers)| compare(way, &reference, &answers)).collect();
    let holds = checks.iter().all(|check| check.largest_difference_nats <= TOLERANCE && check.different_decisions == 0);
    match global.format {
        Format::Json => {
            output::json(&json!({"model": model.name, "requests": requests.len(), "unanswered": failed, "checks": checks}))?;
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = checks
                .iter()
                .map(|c| vec![c.way.to_owned(), format!("{:.1e}", c.largest_difference_nats), c.different_decisions.to_string()])
                .collect();
            let unanswered = if failed > 0 { format!(", {failed} of them without an answer") } else { String::new() };
            output::line(&format!(
                "{} requests to `{}`{unanswered}, compared with the default way:",
                requests.len(),
                model.name
            ))?;
            output::data(&output::columns(&["way", "largest difference (nats)", "different decisions"], &rows))?;
            output::line(if holds {
                "scores do not depend on how they are asked for"
            } else {
                "scores DEPEND on how they are asked for"
            })?;
        }
    }
    Ok(if holds { Exit::Fine } else { Exit::Against })
}

fn requests(args: &Args) -> anyhow::Result<Vec<Request>> {
    let folder = PathBuf::from(&args.data);
    let source = if args.data == "bundled" { DataSource::Bundled } else { DataSource::Dir(&folder) };
    let mut requests = Vec::new();
    for name in tasks::expand(&args.task).hint("`harness list tasks` shows every name")? {
        let task = tasks::task(&name, Profile::Canonical)?;
        let data = tasks::load_docs(task.as_ref(), source)?;
        let prepared = tasks::prepare(task.as_ref(), &data, args.num_fewshot, Some(args.limit))?;
        requests.extend(prepared.into_iter().flat_map(|doc| doc.requests));
    }
    if requests.is_empty() { Err(anyhow!("the tasks named have no requests")) } else { Ok(requests) }
}

fn compare<E: std::fmt::Debug>(way: &'static str, a: &[Result<Response, E>], b: &[Result<Response, E>]) -> Check {
    let mut check = Check { way, largest_difference_nats: 0.0, different_decisions: 0 };
    for pair in a.iter().zip(b) {
        let (x, y) = match pair {
            (Ok(x), Ok(y)) => (x, y),
            (Err(_), Err(_)) => continue,
            _ => {
                check.different_decisions += 1;
                continue;
            }
        };
        let (difference, agrees) = match (x, y) {
            (
                Response::Loglikelihood { loglikelihood: p, is_greedy: g, .. },
                Response::Loglikelihood { loglikelihood: q, is_greedy: h, .. },
            ) => ((p - q).abs(), g == h),
            (Response::Rolling { loglikelihood: p }, Response::Rolling { loglikelihood: q }) => ((p - q).abs(), true),
            (Response::Text { text: p, .. }, Response::Text { text: q, .. }) => (0.0, p == q),
            _ => (0.0, false),
        };
        check.largest_difference_nats = check.largest_difference_nats.max(difference);
        check.different_decisions += usize::from(!agrees);
    }
    check
}
