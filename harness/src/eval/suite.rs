//! From names to an evaluation: subjects are trained or found, folders are loaded, tasks are expanded, and all of it is asked in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use candle_core::{DType, Device};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use models::{Decoder, DecoderConfig, InputShape, Model as _, ModelConfig, ParamStore};
use records::Row;
use serde_json::{Map, Value, json};
use tasks::{DataSource, Executor, GroupSpec, Profile};

use super::adapter::{AnswerOptions, Evaluator};
use super::cache::ResponseCache;
use super::chat::{ChatOptions, ChatTemplate};
use super::encode::SpecialTokens;
use super::memory::Memory;
use super::model::{LoadedModel, folder_name, read_tokenizer};
use super::results::{Evaluation, ModelOutcome, RunOutcome};
use super::runner::{AskOptions, NotRun, Outcome, TaskRequest, run_task};
use super::sandbox::{PythonSandbox, SandboxOptions};
use super::score::{Budget, Softmax};
use crate::config::TrainConfig;
use crate::data::hub::{self, Hub, HubError, ModelId, SplitRows, fetch_model, fetch_rows};
use crate::error::{Hint as _, find, render};
use crate::plan::Shard;
use crate::run::RunDirectory;
use crate::train::{self, TrainOptions, rows::base_row};

/// A model to ask, not yet loaded.
#[derive(Debug, Clone)]
pub enum Subject {
    /// One of our training configs; each seed is a run.
    Config {
        /// Subject name.
        name: String,
        /// The config, once per seed.
        seeds: Vec<TrainConfig>,
        /// Train runs that are not finished instead of failing.
        train_missing: bool,
    },
    /// A run directory of ours.
    Run(RunDirectory),
    /// A Hugging Face folder.
    Folder(PathBuf),
    /// A model of the hub.
    Hub(ModelId),
}

/// Where documents come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// The samples written for the project.
    Bundled,
    /// Benchmark files.
    Folder(PathBuf),
    /// The hub's data sets.
    Hub,
}

/// Everything an evaluation needs to know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Suite, if one was named.
    pub suite: Option<String>,
    /// Models in order.
    pub subjects: Vec<Subject>,
    /// Leaf tasks in order.
    pub tasks: Vec<TaskRequest>,
    /// Groups to aggregate.
    pub groups: Vec<GroupSpec>,
    /// Documents.
    pub data: Data,
    /// Why the documents are others than were to be expected, for the record.
    pub data_note: Option<String>,
    /// Do not use the network.
    pub offline: bool,
    /// Conventions.
    pub profile: Profile,
    /// Ask in turns, by each model's chat template.
    pub chat: Option<ChatOptions>,
    /// Where runs and caches live.
    pub runs_dir: PathBuf,
    /// Threads, for the record.
    pub threads: usize,
    /// Run programs that a model wrote, in the sandbox.
    pub allow_code_execution: bool,
    /// Run them even where the sandbox lacks landlock.
    pub unsafe_exec: bool,
    /// Documents that this process takes.
    pub shard: Shard,
    /// What log-softmax is rounded to.
    pub softmax: Softmax,
    /// Use and write the response cache.
    pub use_cache: bool,
    /// Most memory that weights and caches may take, bytes.
    pub max_memory: u64,
    /// Number format of weights.
    pub dtype: DType,
    /// Where tensors live.
    pub device: Device,
}

/// Expands task and group names to leaves, each once, with the settings of the name that brought it. Of a group asked on the bundled
/// samples only the leaves with a sample are kept: there is one for four of MMLU's subjects, not for all 57.
///
/// # Errors
/// On an unknown name.
pub fn expand(asked: &[TaskRequest], data: &Data, profile: Profile) -> anyhow::Result<(Vec<TaskRequest>, Vec<GroupSpec>)> {
    let (mut leaves, mut groups): (Vec<TaskRequest>, Vec<GroupSpec>) = (Vec::new(), Vec::new());
    let known = tasks::groups();
    for request in asked {
        if request.unsupported.is_some() {
            leaves.push(request.clone());
            continue;
        }
        let names = tasks::expand(&[&request.task]).hint("`harness list tasks` shows every name")?;
        let group = known.iter().find(|group| group.name == request.task);
        let mut kept = Vec::new();
        for leaf in names {
            if group.is_none() || *data != Data::Bundled || has_sample(&leaf, profile)? {
                kept.push(leaf);
            }
        }
        groups.extend(group.map(|group| GroupSpec { leaves: kept.clone(), ..group.clone() }));
        for leaf in kept {
            if !leaves.iter().any(|earlier| earlier.task == leaf) {
                leaves.push(TaskRequest { task: leaf, ..request.clone() });
            }
        }
    }
    Ok((leaves, groups))
}

fn has_sample(leaf: &str, profile: Profile) -> anyhow::Result<bool> {
    match tasks::load_docs(tasks::task(leaf, profile)?.as_ref(), DataSource::Bundled) {
        Ok(_) => Ok(true),
        Err(tasks::TaskError::Missing { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What `--model` names: a run of ours, a Hugging Face folder, or a hub id (`org/name[@revision]`). What is on disk wins.
///
/// # Errors
/// When it is none of them.
pub fn find_model(runs_dir: &Path, model: &str) -> anyhow::Result<Subject> {
    if let Some(run) = RunDirectory::find(runs_dir, model) {
        return Ok(Subject::Run(run));
    }
    let folder = Path::new(model);
    if folder.join("config.json").is_file() {
        return Ok(Subject::Folder(folder.to_owned()));
    }
    if let (false, Ok(id)) = (folder.exists(), model.parse()) {
        return Ok(Subject::Hub(id));
    }
    let found = if folder.exists() { "a path without `config.json`" } else { "nothing at that path" };
    Err(anyhow!("--model `{model}`: expected a run of ours, a Hugging Face folder or a hub id, found {found}"))
        .hint("a run is named `<subject>/<hash>-s<seed>` as in the runs directory; a folder holds config.json, *.safetensors, tokenizer.json; a hub id is `org/name[@revision]`")
}

/// Fetches a model of the hub and loads it; its name is the id with `/` as `__`.
///
/// # Errors
/// When a file cannot be had or the model is not supported.
pub fn load_hub_model(id: &ModelId, offline: bool, dtype: DType, device: &Device) -> anyhow::Result<LoadedModel> {
    let model = LoadedModel::from_pretrained(&hub_folder(id, offline)?, dtype, device)?;
    Ok(LoadedModel { name: id.result_name(), ..model })
}

fn hub_folder(id: &ModelId, offline: bool) -> anyhow::Result<PathBuf> {
    let hub = hub::open(offline).map_err(HubError::explain)?;
    fetch_model(hub.as_ref(), id).with_context(|| format!("cannot fetch model `{id}`"))
}

/// Loads the newest checkpoint of a run.
///
/// # Errors
/// When the run has none, or its files are damaged.
pub fn load_run(run: &RunDirectory, name: String, dtype: DType, device: &Device) -> anyhow::Result<(LoadedModel, TrainConfig)> {
    let context = || format!("cannot load run `{}`", run.folder().display());
    let config = run.config().with_context(context)?;
    let checkpoint = run
        .newest_checkpoint()?
        .ok_or_else(|| anyhow!("run `{}`: expected a checkpoint, found none", run.folder().display()))
        .hint("train it first: harness train --config …")?;
    let ModelConfig::Decoder(model) = &config.model;
    let params = ParamStore::new(dtype, device);
    let _names = Decoder::new(model, params.var_builder()).with_context(context)?;
    params.load(&checkpoint.model_file()).with_context(context)?;
    let (tokenizer, _) = read_tokenizer(&run.tokenizer())?;
    let named = Some(config.data.end_of_document.as_str()).filter(|token| !token.is_empty());
    let end = ["<|endoftext|>", "</s>"].into_iter().chain(named).filter_map(|token| tokenizer.token_to_id(token)).next_back();
    let special = SpecialTokens { bos: end, eos: end.into_iter().collect(), ..SpecialTokens::default() };
    let loaded = LoadedModel::new(name, model, params, &run.tokenizer(), special).with_context(context)?;
    Ok((loaded, config))
}

/// Runs the plan: asks everything, for the documents of the plan's shard. What comes back is not aggregated yet
/// ([`Evaluation::conclude`]).
///
/// # Errors
/// When a subject is missing and may not be trained, a model cannot be loaded, or data is wrong.
pub fn evaluate(plan: &Plan) -> anyhow::Result<Evaluation> {
    kernels::cpu::keep_freed_memory();
    let rows = hub_rows(plan)?;
    let mut sandbox = sandbox(plan)?;
    let mut models: Vec<ModelOutcome> = Vec::new();
    for subject in &plan.subjects {
        let outcome = ask(plan, &rows, subject, &mut sandbox)?;
        if models.iter().any(|model| model.name == outcome.name) {
            bail!("two models are called `{}`: results are keyed by name; rename one folder", outcome.name);
        }
        models.push(outcome);
    }
    let sandbox = sandbox.map(|sandbox| format!("Python {}, {}", sandbox.python_version(), sandbox.layers()));
    let groups = plan.groups.clone();
    Ok(Evaluation { suite: plan.suite.clone(), profile: plan.profile, settings: settings(plan), groups, sandbox, models })
}

/// What was asked for, for the record.
fn settings(plan: &Plan) -> Map<String, Value> {
    let data = match &plan.data {
        Data::Bundled => "bundled".to_owned(),
        Data::Folder(folder) => folder.display().to_string(),
        Data::Hub => "hub".to_owned(),
    };
    let settings = [
        ("data", json!(data)),
        ("data_note", json!(plan.data_note)),
        ("tier", json!(if plan.data == Data::Bundled { "demo" } else { "full" })),
        ("dtype", json!(format!("{:?}", plan.dtype).to_lowercase())),
        ("softmax_dtype", json!(plan.softmax)),
        ("numerics", json!("f32")),
    ];
    settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Rows per task, or why there are none; empty unless the documents come from the hub.
type HubRows = BTreeMap<String, Result<SplitRows, NotRun>>;

/// All documents at once, before the first model is loaded: what cannot be had is known in the first seconds.
///
/// # Errors
/// When the hub is out of reach or answers wrongly, or none of the tasks has data.
fn hub_rows(plan: &Plan) -> anyhow::Result<HubRows> {
    let mut rows = HubRows::new();
    if plan.data != Data::Hub {
        return Ok(rows);
    }
    let hub: Arc<dyn Hub> = hub::open(plan.offline).map_err(HubError::explain)?;
    let mut first = None;
    for request in plan.tasks.iter().filter(|request| request.unsupported.is_none()) {
        let task = tasks::task(&request.task, plan.profile)?;
        let spec = task.spec();
        let on_hub = spec.dataset.hub.is_some();
        let fetched = if on_hub {
            let with_shots = request.num_fewshot.unwrap_or(spec.num_fewshot) > 0;
            fetch_rows(hub.as_ref(), &spec.dataset, with_shots)
        } else {
            Err(anyhow!("its data set is not on the hub")).hint("give a folder of benchmark files: --data DIR")
        };
        let fetched = match fetched {
            Ok(rows) => Ok(rows),
            Err(error) => {
                let is_missing = !on_hub || find::<HubError>(&error).is_some_and(HubError::is_missing);
                let why = render(&error).trim_end().replace('\n', "; ");
                let error = error.context(format!("cannot fetch the data of task `{}`", request.task));
                if !is_missing {
                    return Err(error);
                }
                first.get_or_insert(error);
                Err(NotRun::Missing(why))
            }
        };
        rows.insert(request.task.clone(), fetched);
    }
    match first {
        Some(error) if rows.values().all(Result::is_err) => Err(error),
        _ => Ok(rows),
    }
}

/// The sandbox, when it is allowed and some task needs it.
fn sandbox(plan: &Plan) -> anyhow::Result<Option<PythonSandbox>> {
    let needs = |request: &TaskRequest| tasks::task(&request.task, plan.profile).is_ok_and(|task| task.spec().needs_executor);
    if !plan.allow_code_execution || !plan.tasks.iter().any(needs) {
        return Ok(None);
    }
    let options = SandboxOptions { unsafe_exec: plan.unsafe_exec, parallel: plan.threads.max(1), ..SandboxOptions::default() };
    let sandbox = PythonSandbox::with_options(options).context("cannot run generated programs");
    Ok(Some(sandbox.hint("`harness doctor` says which layers are active")?))
}

fn ask(plan: &Plan, rows: &HubRows, subject: &Subject, sandbox: &mut Option<PythonSandbox>) -> anyhow::Result<ModelOutcome> {
    match subject {
        Subject::Config { name, seeds, train_missing } => {
            let mut runs = Vec::new();
            for config in seeds {
                let ModelConfig::Decoder(model) = &config.model;
                memory(model, plan)?;
                let run = RunDirectory::of(&plan.runs_dir, config);
                if !run.is_finished()? {
                    if !train_missing {
                        return Err(anyhow!(
                            "subject `{name}`, seed {}: expected a finished run at `{}`",
                            config.seed,
                            run.folder().display()
                        ))
                        .hint(format!("train it: harness train --config configs/train/{name}.toml --seed {}", config.seed));
                    }
                    let options = TrainOptions { runs_dir: plan.runs_dir.clone(), threads: plan.threads, fresh: false };
                    train::train(config, &options)
                        .with_context(|| format!("cannot train subject `{name}`, seed {}", config.seed))?;
                }
                let (model, _) = load_run(&run, name.clone(), plan.dtype, &plan.device)?;
                runs.push(RunOutcome {
                    folder: Some(run.folder().to_owned()),
                    flops_forward: Some(flops_forward(config)),
                    ..ask_model(plan, rows, &model, Some(config.seed), base_row(config, plan.threads), sandbox)?
                });
            }
            Ok(ModelOutcome { name: name.clone(), runs })
        }
        Subject::Run(run) => {
            let TrainConfig { name, model: ModelConfig::Decoder(model), .. } = run.config()?;
            memory(&model, plan)?;
            let (model, config) = load_run(run, name.clone(), plan.dtype, &plan.device)?;
            let outcome = ask_model(plan, rows, &model, Some(config.seed), base_row(&config, plan.threads), sandbox)?;
            let outcome =
                RunOutcome { folder: Some(run.folder().to_owned()), flops_forward: Some(flops_forward(&config)), ..outcome };
            Ok(ModelOutcome { name, runs: vec![outcome] })
        }
        Subject::Folder(folder) => ask_published(plan, rows, folder, folder_name(folder)?, sandbox),
        Subject::Hub(id) => ask_published(plan, rows, &hub_folder(id, plan.offline)?, id.result_name(), sandbox),
    }
}

fn ask_published(
    plan: &Plan,
    rows: &HubRows,
    folder: &Path,
    name: String,
    sandbox: &mut Option<PythonSandbox>,
) -> anyhow::Result<ModelOutcome> {
    let config = models::pretrained::load_config(folder).with_context(|| format!("cannot load model `{}`", folder.display()))?;
    memory(&config, plan)?;
    let model = LoadedModel { name, ..LoadedModel::from_pretrained(folder, plan.dtype, &plan.device)? };
    // A score in turns is another cell than a plain one: they must not meet in a table's cell.
    let subject = if plan.chat.is_some() { format!("{} (chat)", model.name) } else { model.name.clone() };
    let base = Row { subject: Some(subject), ..published_row(model.decoder.config(), plan) };
    Ok(ModelOutcome { name: model.name.clone(), runs: vec![ask_model(plan, rows, &model, None, base, sandbox)?] })
}

/// What the model takes within the plan's bound; asked before weights are read.
fn memory(config: &DecoderConfig, plan: &Plan) -> anyhow::Result<Memory> {
    Memory::new(config, plan.dtype, &plan.device, plan.max_memory)
}

/// FLOPs of a forward pass over one micro-batch.
fn flops_forward(config: &TrainConfig) -> u64 {
    config.model.cost(&InputShape::train(config.batch, config.data.sequence_length)).flops_forward()
}

/// Columns of a model that is not a training config of ours.
fn published_row(config: &DecoderConfig, plan: &Plan) -> Row {
    Row {
        variant: Some(config.residual.variant()),
        tier: Some(records::Tier::Full),
        model_family: Some("decoder".to_owned()),
        num_hidden_layers: Some(config.num_layers() as u64),
        hidden_size: Some(config.hidden_size as u64),
        num_attention_heads: Some(config.num_attention_heads as u64),
        vocab_size: Some(config.vocab_size as u64),
        dtype: Some(format!("{:?}", plan.dtype).to_lowercase()),
        threads: Some(plan.threads as u64),
        ..Row::default()
    }
}

/// The template of a model's folder.
///
/// # Errors
/// When the model is none of a published folder, or has no template.
pub fn chat_template(folder: Option<&Path>, name: &str) -> anyhow::Result<ChatTemplate> {
    match folder {
        Some(folder) => ChatTemplate::of_folder(folder),
        None => Err(anyhow!("model `{name}`: expected a chat template, found none"))
            .hint("leave out --apply-chat-template: runs of ours are not tuned on conversations"),
    }
}

fn ask_model(
    plan: &Plan,
    rows: &HubRows,
    model: &LoadedModel,
    seed: Option<u64>,
    base: Row,
    sandbox: &mut Option<PythonSandbox>,
) -> anyhow::Result<RunOutcome> {
    let memory = memory(model.decoder.config(), plan)?;
    tracing::info!("{}", memory.describe());
    let options = AnswerOptions { profile: plan.profile, budget: Budget::default(), softmax: plan.softmax };
    let mut cache = if plan.use_cache {
        let path = plan.runs_dir.join("_cache/responses").join(format!("{}.jsonl", &model.weights_digest));
        Some(ResponseCache::open(&path)?)
    } else {
        None
    };
    let label = seed.map_or_else(|| model.name.clone(), |seed| format!("{} seed {seed}", model.name));
    let template = plan.chat.as_ref().map(|_| chat_template(model.folder.as_deref(), &model.name)).transpose()?;
    let chat = template.as_ref().zip(plan.chat.as_ref());
    let ask = AskOptions { profile: plan.profile, shard: plan.shard, seed, chat };
    let mut outcomes: Vec<(String, Outcome)> = Vec::new();
    for request in &plan.tasks {
        let source = match &plan.data {
            Data::Bundled => DataSource::Bundled,
            Data::Folder(folder) => DataSource::Dir(folder),
            Data::Hub if request.unsupported.is_some() => DataSource::Bundled,
            Data::Hub => match &rows[&request.task] {
                Ok(rows) => DataSource::Rows { splits: &rows.splits, sha256: &rows.sha256 },
                Err(why) => {
                    outcomes.push((request.task.clone(), Err(why.clone())));
                    continue;
                }
            },
        };
        let bar = progress_bar(&format!("{label}: {}", request.task), 0, "requests");
        let mut evaluator =
            Evaluator::new(model, options).with_max_tok(memory.max_tok()).with_progress(Box::new(|answered, total| {
                bar.set_length(total as u64);
                bar.set_position(answered as u64);
            }));
        if let Some(cache) = &mut cache {
            evaluator = evaluator.with_cache(cache);
        }
        let executor = sandbox.as_mut().map(|sandbox| sandbox as &mut dyn Executor);
        let outcome = run_task(request, ask, source, &mut evaluator, executor)?;
        if let Some(tok) = evaluator.too_long {
            return Err(memory.refusal(tok)).with_context(|| format!("cannot ask task `{}`", request.task));
        }
        if let Some(error) = evaluator.cache_error.take() {
            return Err(error).hint("free some space, or run without the cache: --no-cache");
        }
        drop(evaluator);
        bar.finish_and_clear();
        outcomes.push((request.task.clone(), outcome));
    }
    Ok(RunOutcome {
        seed,
        params_total: model.params_total,
        weights_digest: model.weights_digest.clone(),
        tokenizer_sha256: model.tokenizer_sha256.clone(),
        chat: chat.map(|(template, options)| {
            json!({ "template_sha256": template.sha256(), "system": options.system, "fewshot_as_multiturn": options.fewshot_as_multiturn })
        }),
        base,
        folder: None,
        flops_forward: None,
        tasks: outcomes,
    })
}

/// A bar on stderr, drawn on a terminal only.
///
/// - `total`: 0 where it is not known yet. `what`: the things that are counted.
pub(super) fn progress_bar(label: &str, total: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template(&format!("{{prefix}} [{{bar:30}}] {{pos}}/{{len}} {what}  {{per_sec}}  {{eta}} left"));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_prefix(label.to_owned());
    bar
}
