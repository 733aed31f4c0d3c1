//! `eval`: ask tasks of models and score the answers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use candle_core::DType;
use clap::{FromArgMatches as _, ValueEnum};
use tasks::Profile;

use super::{Exit, Format, Global, output};
use crate::config::{OnMissing, Requires, SuiteConfig, SuiteTask, TrainConfig};
use crate::data::hub::{self, HubError, Repository};
use crate::error::Hint as _;
use crate::eval::chat::ChatOptions;
use crate::eval::results::Evaluation;
use crate::eval::runner::{TaskRequest, TaskResult};
use crate::eval::shards::ShardFile;
use crate::eval::suite::{Data, Plan, Subject, chat_template, evaluate, expand, find_model};
use crate::eval::verify::{self, Verification};
use crate::eval::{Softmax, files};
use crate::plan::Shard;
use crate::provenance;

/// Whose quirks are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProfileFlag {
    /// The reference harness's prompts and metrics with their known quirks repaired.
    Canonical,
    /// The reference harness bit for bit.
    Compat,
}

/// What log-probabilities are rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SoftmaxFlag {
    /// Not rounded.
    F32,
    /// The model's own type.
    Model,
}

/// Every flag that asks of a model, which `--verify` does not.
const OTHER_FLAGS: [&str; 26] = [
    "suite",
    "task",
    "model",
    "data",
    "limit",
    "num_fewshot",
    "profile",
    "apply_chat_template",
    "system",
    "fewshot_as_multiturn",
    "seed",
    "max_memory",
    "allow_code_execution",
    "unsafe_exec",
    "softmax_dtype",
    "shard",
    "no_cache",
    "out",
    "dry_run",
    "split",
    "on_bad_image",
    "max_pixels",
    "image_size",
    "batch_size",
    "class_index",
    "real_labels",
];

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness eval --suite llm                                             the demo: trains four small subjects, then compares them
  harness eval --task boolq,mmlu --num-fewshot 5 --model FOLDER --data DIR
  harness eval --task hellaswag --limit 200 --profile compat --model FOLDER --data DIR --out results/hellaswag
  harness eval --suite vision --model resnet20.safetensors --data cifar10-test.tar.zst

A model is a run of ours (`lm-tiny-rw/<hash>-s0`, or its folder), a Hugging Face folder (config.json, *.safetensors, tokenizer.json),
or a hub id (`org/name[@revision]`).
`--data DIR` holds the benchmark files as their authors publish them (`boolq/dev.jsonl`, `mmlu/data/test/*.csv`, …; .gz and .zst are read);
`--data hub` downloads (HF_ENDPOINT, HF_HOME, HF_TOKEN; --offline uses the cache alone);
`--data bundled` takes the small samples written for this project. Interrupted? Repeat the command: what was answered is not asked again.
Writes results.json, samples/MODEL/TASK.jsonl, records.jsonl and report/ below --out.")]
pub struct Args {
    /// Suite: a name from configs/suites (`llm`, `smoke`, …) or a file
    #[arg(long, value_name = "SUITE", required_unless_present_any = ["task", "verify"])]
    pub suite: Option<String>,
    /// Tasks or groups, comma-separated (`boolq,mmlu`); with --suite: only these of its tasks
    #[arg(long, value_delimiter = ',', value_name = "TASK,…")]
    pub task: Vec<String>,
    /// Models instead of the suite's subjects; may be repeated
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,
    /// Where documents come from: a folder of benchmark files, `hub`, or `bundled`; default: `bundled` for a suite's own subjects, with
    /// --model `hub` when it can be reached or is cached
    #[arg(long, value_name = "DIR|hub|bundled")]
    pub data: Option<String>,
    /// First N documents of each task; such scores never enter a leaderboard table
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Examples in the prompt, instead of the task's or suite's number
    #[arg(long, value_name = "N")]
    pub num_fewshot: Option<usize>,
    /// Conventions of prompts and metrics
    #[arg(long, value_enum, default_value = "canonical")]
    pub profile: ProfileFlag,
    /// Ask in turns, formatted by the model's own chat template
    #[arg(long)]
    pub apply_chat_template: bool,
    /// Text of the system turn, before a task's description (with --apply-chat-template)
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Each example is a turn of its own instead of part of the question's (with --apply-chat-template)
    #[arg(long)]
    pub fewshot_as_multiturn: bool,
    /// Training seeds of the suite's own subjects, instead of the suite's
    #[arg(long, value_delimiter = ',', value_name = "SEED,…")]
    pub seed: Vec<u64>,
    /// Most memory for weights and caches, bytes; default: half of what is available
    #[arg(long, value_name = "BYTES")]
    pub max_memory: Option<u64>,
    /// Run the programs that a model writes (HumanEval, MBPP, GSM8K-PAL), each in a sandbox
    #[arg(long)]
    pub allow_code_execution: bool,
    /// Run them also where the kernel cannot confine them to their folder (no landlock); the other layers stay
    #[arg(long, requires = "allow_code_execution")]
    pub unsafe_exec: bool,
    /// Round log-probabilities: `f32` (not at all) or `model` (to the type of --dtype, bf16 or f16, as the reference harness does by default)
    #[arg(long, value_enum, default_value = "f32", value_name = "TYPE")]
    pub softmax_dtype: SoftmaxFlag,
    /// Part i of n: every n-th document of each task; `harness merge` joins the parts
    #[arg(long, value_name = "i/n")]
    pub shard: Option<Shard>,
    /// Check this build on this machine against stored answers of the reference harness, and do nothing else
    #[arg(long, conflicts_with_all = OTHER_FLAGS)]
    pub verify: bool,
    /// Do not read or write the response cache
    #[arg(long)]
    pub no_cache: bool,
    /// Where results go; default: below the runs directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Say what would be done and stop
    #[arg(long)]
    pub dry_run: bool,
    /// How pictures are read
    #[command(flatten)]
    pub images: super::eval_vision::ImageArgs,
}

impl Args {
    /// `--suite NAME --out DIR`, everything else at its default.
    fn of_suite(suite: &str, out: &Path) -> anyhow::Result<Self> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("eval").no_binary_name(true));
        let words = [OsStr::new("--suite"), OsStr::new(suite), OsStr::new("--out"), out.as_os_str()];
        Ok(Self::from_arg_matches(&command.try_get_matches_from(words)?)?)
    }
}

/// Evaluates a suite's own subjects and writes the results below `out`, without report and summary.
///
/// # Errors
/// As [`run`].
pub(super) fn evaluate_suite(suite: &str, out: &Path, global: &Global) -> anyhow::Result<()> {
    let plan = plan(&Args::of_suite(suite, out)?, global)?;
    files::refuse_others(out)?;
    let started = provenance::utc_now();
    let mut evaluation = evaluate(&plan)?;
    evaluation.conclude()?;
    files::write(&evaluation, out, &started, plan.threads)?;
    Ok(())
}

/// Runs the command.
///
/// # Errors
/// Unknown names, unusable models or data, a full disk.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    global.check_scores_are_f32()?;
    if args.limit == Some(0) {
        bail!("--limit: expected at least 1, found 0");
    }
    if args.verify {
        if global.dtype() != DType::F32 {
            bail!("--dtype: expected `f32` with --verify, whose answers were stored in it, found `{}`", word(global.dtype()));
        }
        return report_verification(&verify::run(&global.device()?)?, global);
    }
    if let Some(asked) = super::eval_vision::asked(args, global)? {
        return super::eval_vision::run(args, &asked, global);
    }
    let plan = plan(args, global)?;
    let out = args.out.clone().unwrap_or_else(|| default_out(args, plan.suite.as_deref(), global));
    files::refuse_others(&out)?;
    if args.dry_run {
        output::data(&describe(&plan, &out)?)?;
        return Ok(Exit::Fine);
    }
    let started = provenance::utc_now();
    announce(&plan);
    let mut evaluation = evaluate(&plan)?;
    if let Some(shard) = args.shard {
        let (number, of) = shard.numbers();
        ShardFile::new(shard, started, plan.threads, evaluation).save(&out)?;
        output::note(&format!("shard {number} of {of}: {}\nwith the others: harness merge DIR… --out DIR", out.display()));
        return Ok(Exit::Fine);
    }
    evaluation.conclude()?;
    ShardFile::forget(&out)?;
    report(&evaluation, &out, &started, plan.threads, global)
}

/// Writes an evaluation's files and report, and shows the scores.
///
/// # Errors
/// Files that cannot be written; after all are written, an evaluation without any score in which a task failed.
pub(super) fn report(
    evaluation: &Evaluation,
    out: &Path,
    started: &str,
    threads: usize,
    global: &Global,
) -> anyhow::Result<Exit> {
    say_not_run(evaluation);
    say_caveats(evaluation);
    let results = files::write(evaluation, out, started, threads)?;
    let report = out.join("report");
    // The subjects' training records bring the cost axes.
    let runs = evaluation.models.iter().flat_map(|model| &model.runs).filter_map(|run| run.folder.clone());
    let folders: Vec<PathBuf> = std::iter::once(out.join(records::store::RECORDS_FILE)).chain(runs).collect();
    let summary = super::report::render(&folders, &report, evaluation.suite.as_deref())?;
    match global.format {
        Format::Json => output::json(&results)?,
        Format::Text => output::data(&summary)?,
    }
    output::note(&format!("results: {}\nreport:  {}", out.join("results.json").display(), report.join("index.html").display()));
    match evaluation.failure() {
        Some(why) => bail!("expected a score of at least one task, found none: {why}"),
        None => Ok(Exit::Fine),
    }
}

fn plan(args: &Args, global: &Global) -> anyhow::Result<Plan> {
    let suite = args.suite.as_deref().map(load_suite).transpose()?;
    let asked: Vec<TaskRequest> = match &suite {
        Some(suite) => suite_tasks(suite, args)?,
        None => named_tasks(args),
    };
    let profile = match args.profile {
        ProfileFlag::Canonical => Profile::Canonical,
        ProfileFlag::Compat => Profile::Compat,
    };
    let (data, data_note) = match args.data.as_deref() {
        None if args.model.is_empty() => (Data::Bundled, None),
        None => default_data(&asked, profile, global)?,
        Some("bundled") => (Data::Bundled, None),
        Some("hub") => (Data::Hub, None),
        Some(folder) if Path::new(folder).exists() => (Data::Folder(PathBuf::from(folder)), None),
        Some(folder) => bail!("--data `{folder}`: expected `hub`, `bundled` or a folder, found none of them"),
    };
    let (tasks, groups) = expand(&asked, &data, profile)?;
    if !args.seed.is_empty() && !args.model.is_empty() {
        return Err(anyhow!("--seed: expected a suite's own subjects, found --model"))
            .hint("a trained model has its seed; give each as a --model of its own");
    }
    let subjects: Vec<Subject> = if args.model.is_empty() {
        let Some(suite) = &suite else {
            return Err(anyhow!("expected a model, found none"))
                .hint("name one with --model, or a suite with subjects: --suite llm");
        };
        suite_subjects(suite, &args.seed)?
    } else {
        args.model.iter().map(|model| find_model(&global.runs_dir, model)).collect::<anyhow::Result<_>>()?
    };
    let chat = ChatOptions::from_flags(args.apply_chat_template, args.system.as_deref(), args.fewshot_as_multiturn)?;
    if chat.is_some() {
        check_chat_templates(&subjects)?;
    }
    let available = provenance::mem_available_bytes().unwrap_or(4 << 30);
    Ok(Plan {
        suite: suite.map(|suite| suite.name),
        subjects,
        tasks,
        groups,
        data,
        data_note,
        offline: global.is_offline(),
        profile,
        chat,
        runs_dir: global.runs_dir.clone(),
        threads: global.thread_count(),
        allow_code_execution: args.allow_code_execution,
        unsafe_exec: args.unsafe_exec,
        shard: args.shard.unwrap_or(Shard::ALL),
        softmax: softmax(args.softmax_dtype, global.dtype())?,
        use_cache: !args.no_cache,
        max_memory: args.max_memory.unwrap_or(available / 2),
        dtype: global.dtype(),
        device: global.device()?,
    })
}

/// What log-softmax is rounded to. A type that would round nothing is refused rather than ignored.
fn softmax(asked: SoftmaxFlag, dtype: DType) -> anyhow::Result<Softmax> {
    match (asked, dtype) {
        (SoftmaxFlag::F32, _) => Ok(Softmax::F32),
        (SoftmaxFlag::Model, DType::BF16 | DType::F16) => Ok(Softmax::Model),
        (SoftmaxFlag::Model, _) => Err(anyhow!(
            "--softmax-dtype model: expected weights in `bf16` or `f16`, found `{}`: nothing is rounded to it",
            word(dtype)
        ))
        .hint("load the weights in their own type: --dtype bf16"),
    }
}

/// A dtype as the command line writes it.
fn word(dtype: DType) -> String {
    format!("{dtype:?}").to_lowercase()
}

/// Documents for `--model` without `--data`: the hub when the first data set can be reached or is cached, else the bundled samples with the reason.
fn default_data(asked: &[TaskRequest], profile: Profile, global: &Global) -> anyhow::Result<(Data, Option<String>)> {
    let (leaves, _) = expand(asked, &Data::Hub, profile)?;
    let mut ids = Vec::new();
    for leaf in leaves.iter().filter(|leaf| leaf.unsupported.is_none()) {
        ids.extend(tasks::task(&leaf.task, profile)?.spec().dataset.hub.clone());
    }
    let Some(id) = ids.first() else {
        return Ok((Data::Bundled, Some("none of the tasks has a data set on the hub".to_owned())));
    };
    let hub = hub::open(global.is_offline()).map_err(HubError::explain)?;
    Ok(match hub.list(&Repository::dataset(id), "main") {
        Ok(_) => (Data::Hub, None),
        Err(error) => (Data::Bundled, Some(format!("the hub's data sets cannot be had ({error})"))),
    })
}

/// Every model that is here has a chat template; one of the hub is checked once it is fetched.
fn check_chat_templates(subjects: &[Subject]) -> anyhow::Result<()> {
    for subject in subjects {
        match subject {
            Subject::Folder(folder) => drop(chat_template(Some(folder), "")?),
            Subject::Hub(_) => {}
            Subject::Config { name, .. } => drop(chat_template(None, name)?),
            Subject::Run(run) => drop(chat_template(None, &run.config()?.name)?),
        }
    }
    Ok(())
}

/// A suite by name or by file.
pub(super) fn load_suite(name: &str) -> anyhow::Result<SuiteConfig> {
    let path = if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        PathBuf::from(name)
    } else {
        Path::new("configs/suites").join(format!("{name}.toml"))
    };
    if !path.is_file() {
        return Err(anyhow!("unknown suite: `{name}` (no file `{}`)", path.display())).hint("`harness list suites` shows them");
    }
    SuiteConfig::load(&path, &[])
}

/// The tasks of the command line.
pub(super) fn named_tasks(args: &Args) -> Vec<TaskRequest> {
    let named = |task: &String| SuiteTask { name: task.clone(), num_fewshot: None, limit: None, requires: None };
    args.task.iter().map(|task| request(args, &named(task))).collect()
}

/// A suite's tasks, or those of them that the command line names.
///
/// # Errors
/// A name that is none of the suite's.
pub(super) fn suite_tasks(suite: &SuiteConfig, args: &Args) -> anyhow::Result<Vec<TaskRequest>> {
    for name in &args.task {
        if !suite.tasks.iter().any(|task| task.name == *name) {
            let names: Vec<&str> = suite.tasks.iter().map(|task| task.name.as_str()).collect();
            bail!("--task `{name}`: expected one of suite `{}`: {}", suite.name, names.join(", "));
        }
    }
    let chosen = suite.tasks.iter().filter(|task| args.task.is_empty() || args.task.contains(&task.name));
    Ok(chosen.map(|task| request(args, task)).collect())
}

/// A suite's task with what the command line overrides.
fn request(args: &Args, task: &SuiteTask) -> TaskRequest {
    TaskRequest {
        task: task.name.clone(),
        num_fewshot: args.num_fewshot.or(task.num_fewshot),
        limit: args.limit.or(task.limit),
        unsupported: task.requires.map(Requires::reason),
    }
}

fn suite_subjects(suite: &SuiteConfig, seeds: &[u64]) -> anyhow::Result<Vec<Subject>> {
    if suite.subjects.is_empty() {
        return Err(anyhow!("suite `{}` names no subjects", suite.name)).hint("name models with --model");
    }
    let seeds = if seeds.is_empty() { &suite.seeds } else { seeds };
    let subject = |name: &String| {
        let file = suite.subject_config(name);
        let configs = seeds.iter().map(|&seed| TrainConfig::load(&file, &[], Some(seed))).collect::<anyhow::Result<_>>()?;
        Ok(Subject::Config { name: name.clone(), seeds: configs, train_missing: suite.on_missing == OnMissing::Train })
    };
    suite.subjects.iter().map(subject).collect()
}

/// Where results go unless told: below the runs directory, by suite or tasks.
pub(super) fn default_out(args: &Args, suite: Option<&str>, global: &Global) -> PathBuf {
    let name = match suite {
        Some(suite) => format!("_suites/{suite}"),
        None => format!("_evals/{}", args.task.join("+")),
    };
    let shard = args.shard.map(Shard::numbers).map(|(number, of)| format!("-shard-{number}-of-{of}"));
    global.runs_dir.join(name + &shard.unwrap_or_default())
}

fn subject_name(subject: &Subject) -> String {
    match subject {
        Subject::Config { name, seeds, .. } => {
            let seeds: Vec<String> = seeds.iter().map(|config| config.seed.to_string()).collect();
            format!("{name} (seeds {})", seeds.join(", "))
        }
        Subject::Run(run) => run.folder().display().to_string(),
        Subject::Folder(folder) => folder.display().to_string(),
        Subject::Hub(id) => id.to_string(),
    }
}

fn describe(plan: &Plan, out: &Path) -> anyhow::Result<String> {
    let mut rows = Vec::new();
    for request in plan.tasks.iter().filter(|request| request.unsupported.is_none()) {
        let task = tasks::task(&request.task, plan.profile)?;
        let spec = task.spec();
        rows.push(vec![
            request.task.clone(),
            spec.version.clone(),
            request.num_fewshot.unwrap_or(spec.num_fewshot).to_string(),
            request.limit.map_or_else(|| "all".to_owned(), |limit| limit.to_string()),
            spec.primary_metric.clone(),
        ]);
    }
    let subjects: Vec<String> = plan.subjects.iter().map(|subject| format!("  {}\n", subject_name(subject))).collect();
    let table = output::columns(&["task", "version", "shots", "documents", "primary metric"], &rows);
    let not_run = |request: &TaskRequest| {
        let why = request.unsupported.as_ref()?;
        Some(format!("not run: {}: unsupported: {why}\n", request.task))
    };
    let not_run: String = plan.tasks.iter().filter_map(not_run).collect();
    Ok(format!("subjects:\n{}data: {:?}\nresults: {}\n\n{table}{not_run}", subjects.concat(), plan.data, out.display()))
}

/// Says on stderr what kind of numbers these will be.
fn announce(plan: &Plan) {
    if let Some(note) = &plan.data_note {
        output::note(&format!("warning: {note}: BUNDLED SAMPLES take the place of the benchmarks"));
    }
    let trains = plan.subjects.iter().any(|subject| matches!(subject, Subject::Config { .. }));
    match &plan.data {
        Data::Bundled => output::note(
            "demo tier: documents are the samples written for this project, not the benchmarks; scores say how the program works, \
             not how good a model is. Benchmark files: --data DIR",
        ),
        Data::Folder(folder) => output::note(&format!("documents: benchmark files in `{}`", folder.display())),
        Data::Hub => output::note("documents: data sets of the hub"),
    }
    if trains {
        let names: Vec<String> = plan.subjects.iter().map(subject_name).collect();
        output::note(&format!("subjects: {}; runs that are not finished are trained first", names.join("; ")));
    }
}

/// Tasks without a result, once each, with the reason: an absent score is never a silent one.
fn say_not_run(evaluation: &Evaluation) {
    for task in evaluation.leaves() {
        if let Some(why) = evaluation.models.iter().find_map(|model| model.not_run(task)) {
            output::note(&format!("not run: {task}: {why}"));
        }
    }
}

/// What a reader of the scores must know, one line per task: failures, cut prompts, answers that were not found, files that are not the
/// published split, scores that guessing explains.
fn say_caveats(evaluation: &Evaluation) {
    for model in &evaluation.models {
        for leaf in evaluation.leaves() {
            let Some(results) = model.results(leaf) else { continue };
            let sum = |count: fn(&TaskResult) -> usize| results.iter().map(|result| count(result)).sum::<usize>();
            let asked = sum(|result| result.samples.len());
            let mut caveats: Vec<String> = [
                (sum(|result| result.failed), "without a score"),
                (sum(|result| result.truncated), "with a prompt cut on the left"),
                (sum(|result| result.boundary), "with a token across context and continuation"),
                (sum(TaskResult::unparsed), "without an answer that can be read"),
            ]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} of {asked} documents {what}"))
            .collect();
            let first = results[0];
            if let (None, Some(published)) = (first.limit, first.spec.dataset.num_docs)
                && published != first.samples.len()
                && evaluation.settings.get("tier").is_some_and(|tier| tier == "full")
            {
                caveats.push(format!("{} documents where the published split has {published}", first.samples.len()));
            }
            caveats.extend(first.fewshot_note.clone());
            if !caveats.is_empty() {
                output::note(&format!("{}: {leaf}: {}", model.name, caveats.join("; ")));
            }
        }
    }
}

/// Shows what `--verify` found.
fn report_verification(verification: &Verification, global: &Global) -> anyhow::Result<Exit> {
    let Verification { reference, checks } = verification;
    let holds = checks.iter().all(verify::Check::holds);
    match global.format {
        Format::Json => output::json(verification)?,
        Format::Text => {
            let rows: Vec<Vec<String>> = checks
                .iter()
                .map(|check| {
                    let largest = format!("{:.1e}", check.largest_difference);
                    vec![check.task.clone(), check.documents.to_string(), largest, check.deviations.len().to_string()]
                })
                .collect();
            output::data(&output::columns(&["task", "documents", "largest difference (nats)", "deviations"], &rows))?;
            for deviation in checks.iter().flat_map(|check| &check.deviations) {
                output::line(deviation)?;
            }
            let verdict = if holds { "this build gives" } else { "this build DOES NOT give" };
            output::line(&format!("{verdict} what {reference} gives"))?;
        }
    }
    Ok(if holds { Exit::Fine } else { Exit::Against })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// A default written by hand gave pictures of at most 0 pixels.
    #[test]
    fn a_suite_by_name_has_the_command_lines_defaults() {
        let ours = Args::of_suite("llm", Path::new("o")).unwrap();
        let cli = <crate::cli::Cli as clap::Parser>::parse_from(["harness", "eval", "--suite", "llm", "--out", "o"]);
        let crate::cli::Command::Eval(typed) = cli.command else { panic!("not eval") };
        assert_eq!(format!("{ours:?}"), format!("{typed:?}"));
        assert_eq!(ours.images.max_pixels, images::DEFAULT_MAX_PIXELS);
    }

    #[test]
    fn verification_takes_no_flag_that_it_would_ignore() {
        let mut program = crate::cli::Cli::command();
        program.build();
        let eval = program.find_subcommand("eval").unwrap();
        let verify = eval.get_arguments().find(|flag| flag.get_id() == "verify").unwrap();
        let refused = eval.get_arg_conflicts_with(verify);
        for flag in
            eval.get_arguments().filter(|flag| !flag.is_global_set() && !["verify", "help"].contains(&flag.get_id().as_str()))
        {
            assert!(refused.iter().any(|other| other.get_id() == flag.get_id()), "--verify ignores --{}", flag.get_id());
        }
    }
}
