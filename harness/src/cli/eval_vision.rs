//! `eval` of image tasks: pictures instead of prompts, the same results.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use candle_core::DType;
use records::Tier;
use serde_json::json;

use super::eval::{Args, ProfileFlag, SoftmaxFlag, default_out, load_suite, named_tasks, report, suite_tasks};
use super::{Exit, Global, output};
use crate::data::hub::{self, HubError, Repository};
use crate::data::images::{ImageSet, OnBadImage, OpenOptions};
use crate::error::Hint as _;
use crate::eval::files;
use crate::eval::runner::TaskRequest;
use crate::eval::shards::ShardFile;
use crate::eval::vision::{self, Classifier, TASKS, VisionPlan, classes, score::RealLabels};
use crate::provenance;
use crate::run::RunDirectory;

/// Pictures in a forward pass unless told otherwise.
const BATCH_SIZE: usize = 50;

/// Flags that only image tasks read.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Image tasks")]
pub struct ImageArgs {
    /// Split of the pictures, where the set has several (`val`, `test`, …)
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<String>,
    /// Pictures that cannot be decoded: stop, or leave them out, count and name them
    #[arg(long, value_enum, default_value = "fail")]
    pub on_bad_image: OnBadImage,
    /// Most pixels of a picture; larger ones count as undecodable
    #[arg(long, value_name = "N", default_value_t = images::DEFAULT_MAX_PIXELS)]
    pub max_pixels: usize,
    /// Side of the network's input; default: the run's, 32 for CIFAR networks, 224 for others
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
    /// Pictures in a forward pass; changes no score
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Order of ImageNet's 1,000 classes, in the form of Keras's class index; default: `imagenet_class_index.json` beside the data
    #[arg(long, value_name = "FILE")]
    pub class_index: Option<PathBuf>,
    /// Reassessed labels of the ImageNet validation pictures (real.json), for `acc1_real`
    #[arg(long, value_name = "FILE")]
    pub real_labels: Option<PathBuf>,
}

impl ImageArgs {
    /// The flags that are not at their default, by name.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        given([
            ("--split", self.split.is_some()),
            ("--on-bad-image", self.on_bad_image != OnBadImage::default()),
            ("--max-pixels", self.max_pixels != images::DEFAULT_MAX_PIXELS),
            ("--image-size", self.image_size.is_some()),
            ("--batch-size", self.batch_size.is_some()),
            ("--class-index", self.class_index.is_some()),
            ("--real-labels", self.real_labels.is_some()),
        ])
    }
}

/// The flags that only tasks on texts read and that are not at their default, by name.
fn text_flags(args: &Args, global: &Global) -> impl Iterator<Item = &'static str> {
    given([
        ("--num-fewshot", args.num_fewshot.is_some_and(|shots| shots > 0)),
        ("--profile", args.profile != ProfileFlag::Canonical),
        ("--apply-chat-template", args.apply_chat_template),
        ("--system", args.system.is_some()),
        ("--fewshot-as-multiturn", args.fewshot_as_multiturn),
        ("--seed", !args.seed.is_empty()),
        ("--max-memory", args.max_memory.is_some()),
        ("--allow-code-execution", args.allow_code_execution),
        ("--unsafe-exec", args.unsafe_exec),
        ("--softmax-dtype", args.softmax_dtype != SoftmaxFlag::F32),
        ("--shard", args.shard.is_some()),
        ("--no-cache", args.no_cache),
        ("--dtype", global.dtype() != DType::F32),
    ])
}

fn given<const N: usize>(flags: [(&'static str, bool); N]) -> impl Iterator<Item = &'static str> {
    flags.into_iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| flag)
}

/// What was asked of pictures.
#[derive(Debug)]
pub struct Asked {
    suite: Option<String>,
    tasks: Vec<TaskRequest>,
}

/// The image tasks asked, or none when texts are asked.
///
/// # Errors
/// An unknown suite; a task that it does not have; image and text tasks together; a flag or a suite's key that the tasks asked would ignore.
pub fn asked(args: &Args, global: &Global) -> anyhow::Result<Option<Asked>> {
    let suite = args.suite.as_deref().map(load_suite).transpose()?;
    let tasks = suite.as_ref().map_or_else(|| Ok(named_tasks(args)), |suite| suite_tasks(suite, args))?;
    let (pictures, texts): (Vec<&TaskRequest>, Vec<&TaskRequest>) = tasks.iter().partition(|task| vision::is_task(&task.task));
    match (pictures.first(), texts.first()) {
        (Some(picture), Some(text)) => {
            Err(anyhow!("expected tasks of one kind, found `{}`, which asks about pictures, and `{}`", picture.task, text.task))
                .hint("evaluate them in two commands")
        }
        (Some(picture), None) => {
            if let Some(flag) = text_flags(args, global).next() {
                bail!("{flag}: expected tasks on texts, found `{}`, which asks about pictures", picture.task);
            }
            refuse_text_keys(&tasks)?;
            Ok(Some(Asked { suite: suite.map(|suite| suite.name), tasks }))
        }
        (None, text) => match (args.images.given().next(), text) {
            (Some(flag), Some(text)) => {
                bail!("{flag}: expected tasks on pictures, found `{}`, which asks about texts", text.task)
            }
            _ => Ok(None),
        },
    }
}

/// Refuses what a suite says of its image tasks and only tasks on texts read.
fn refuse_text_keys(tasks: &[TaskRequest]) -> anyhow::Result<()> {
    for TaskRequest { task, num_fewshot, unsupported, .. } in tasks {
        let key = match (num_fewshot, unsupported) {
            (Some(1..), _) => "num_fewshot",
            (_, Some(_)) => "requires",
            _ => continue,
        };
        bail!("`{key}` of a suite: expected a task on texts, found `{task}`, which asks about pictures");
    }
    Ok(())
}

/// Runs the command.
///
/// # Errors
/// Unusable models or pictures, classes that do not fit, a full disk.
pub fn run(args: &Args, asked: &Asked, global: &Global) -> anyhow::Result<Exit> {
    let started = provenance::utc_now();
    let plan = plan(args, asked, global)?;
    let models = args.model.iter().map(|model| load(model, args, global)).collect::<anyhow::Result<Vec<_>>>()?;
    if models.is_empty() {
        return Err(anyhow!("expected a model, found none"))
            .hint("name one with --model: a .safetensors, .pth or .th file, or a run of ours");
    }
    let out = args.out.clone().unwrap_or_else(|| default_out(args, asked.suite.as_deref(), global));
    files::refuse_others(&out)?;
    if args.dry_run {
        output::data(&describe(&plan, &models, &out))?;
        return Ok(Exit::Fine);
    }
    let mut evaluation = vision::evaluate(&plan, &models)?;
    say_bad(&plan.set);
    // Rows of demo models never stand in a table of full-size results, nor do all rows of this evaluation then.
    let is_demo = models.iter().any(|model| model.base.tier == Some(Tier::Demo));
    let facts = json!({
        "data": args.data,
        "data_commit": plan.commit,
        "split": plan.set.split,
        "pictures": plan.set.len(),
        "undecodable": plan.set.bad(),
        "tier": if is_demo { Tier::Demo } else { Tier::Full },
        "dtype": "f32",
        "transforms": models.iter().map(|model| json!({ "model": model.name, "transform": model.transform })).collect::<Vec<_>>(),
        "device": format!("{:?}", plan.device).to_lowercase(),
    });
    evaluation.settings = facts.as_object().cloned().unwrap_or_default();
    ShardFile::forget(&out)?;
    report(&evaluation, &out, &started, global.thread_count(), global)
}

fn plan(args: &Args, asked: &Asked, global: &Global) -> anyhow::Result<VisionPlan> {
    let options = OpenOptions {
        split: args.images.split.clone(),
        on_bad_image: args.images.on_bad_image,
        max_pixels: args.images.max_pixels,
        // Each model visits each picture once: a kept picture is read again by the next model only.
        cache_bytes: if args.model.len() > 1 { OpenOptions::default().cache_bytes } else { 0 },
    };
    let Some(data) = args.data.as_deref() else {
        return Err(anyhow!("expected pictures, found none"))
            .hint("name a folder in ImageFolder layout, a tar, or `hub` with --data");
    };
    let path = Path::new(data);
    let (set, commit) = if data == "hub" {
        let (set, commit) = from_hub(asked, options, global)?;
        (set, Some(commit))
    } else if data == "bundled" {
        bail!("--data `bundled`: no pictures are bundled; expected a folder, a tar, or `hub`");
    } else {
        (ImageSet::open(path, options)?, None)
    };
    let beside = [path.parent().unwrap_or(Path::new("")), path].map(|folder| folder.join(classes::INDEX_FILE));
    let index = args.images.class_index.clone().or_else(|| beside.into_iter().find(|file| file.is_file()));
    let batch_size = args.images.batch_size.unwrap_or(BATCH_SIZE);
    if batch_size == 0 {
        bail!("--batch-size: expected at least 1, found 0");
    }
    let names: Vec<String> = asked.tasks.iter().map(|asked| asked.task.clone()).collect();
    let task = vision::task_of(&set, &names)?;
    let request = asked.tasks.iter().find(|asked| task.is_some_and(|task| task.name == asked.task));
    Ok(VisionPlan {
        suite: asked.suite.clone(),
        asked: names,
        task,
        set: Arc::new(set),
        commit,
        class_index: index.as_deref().map(classes::read_index).transpose()?,
        real_labels: args.images.real_labels.as_deref().map(RealLabels::read).transpose()?,
        // A suite's limit is of its task; a set of one's own has the command line's alone.
        limit: request.map_or(args.limit, |request| request.limit),
        batch_size,
        // Decoding goes on beside the forward pass, which uses every thread but not all the time.
        workers: (global.thread_count() / 2).max(1),
        device: global.device()?,
    })
}

/// The pictures of the one task asked, through the hub's cache, and the commit they are of.
fn from_hub(asked: &Asked, options: OpenOptions, global: &Global) -> anyhow::Result<(ImageSet, String)> {
    let [TaskRequest { task: name, .. }] = asked.tasks.as_slice() else {
        let names: Vec<&str> = asked.tasks.iter().map(|task| task.task.as_str()).collect();
        return Err(anyhow!("--data `hub`: expected one task, found `{}`", names.join("`, `"))).hint("choose one with --task");
    };
    let task = TASKS.iter().find(|task| task.name == *name).expect("image tasks only");
    let hub = hub::open(global.is_offline()).map_err(HubError::explain)?;
    let repository = Repository::dataset(task.hub.0);
    let split = options.split.clone().unwrap_or_else(|| task.split.to_owned());
    let listing = hub.list(&repository, "main").map_err(HubError::explain)?;
    let files = hub::split_files(&listing.files, task.hub.0, task.hub.1, &split);
    if files.is_empty() {
        bail!("{repository}: expected parquet files of split `{split}`, found none");
    }
    hub::check_parts(&files).with_context(|| format!("{repository}, split `{split}`"))?;
    let fetch = |file: &String| hub.get(&repository, "main", file).map_err(HubError::explain);
    let paths = files.iter().map(fetch).collect::<anyhow::Result<Vec<_>>>()?;
    Ok((ImageSet::open_parquet(name.clone(), &paths, &split, options)?, listing.commit))
}

fn load(model: &str, args: &Args, global: &Global) -> anyhow::Result<Classifier> {
    let path = Path::new(model);
    if let Some(run) = RunDirectory::find(&global.runs_dir, model) {
        return Classifier::from_run(&run, args.images.image_size, global.thread_count(), &global.device()?);
    }
    if !path.exists() {
        return Err(anyhow!("unknown model: `{model}`"))
            .hint("give a .safetensors, .pth or .th file, a folder of one, or a run of ours");
    }
    Classifier::from_file(path, args.images.image_size, &global.device()?)
}

fn describe(plan: &VisionPlan, models: &[Classifier], out: &Path) -> String {
    let rows: Vec<Vec<String>> = models
        .iter()
        .map(|model| {
            let outputs = model.network.config().num_classes;
            vec![model.name.clone(), model.params_total.to_string(), outputs.to_string(), model.transform.size.to_string()]
        })
        .collect();
    let set = &plan.set;
    let split = set.split.as_deref().map_or_else(String::new, |split| format!(", split `{split}`"));
    let table = output::columns(&["model", "params", "classes", "input"], &rows);
    format!(
        "pictures: {} of `{}`{split}, {} classes\nresults: {}\n\n{table}",
        set.len(),
        set.name,
        set.classes().len(),
        out.display()
    )
}

/// Names the pictures that were left out.
fn say_bad(set: &ImageSet) {
    const SHOWN: usize = 10;
    let bad = set.bad();
    for bad in bad.iter().take(SHOWN) {
        output::note(&format!("left out: {}: {}", bad.id, bad.reason));
    }
    if !bad.is_empty() {
        output::note(&format!("warning: {} of {} pictures could not be decoded and are not in the score", bad.len(), set.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::{CommandFactory as _, Parser as _};
    use std::collections::BTreeSet;

    /// Flags of texts were parsed and ignored for pictures, and the other way round.
    #[test]
    fn every_flag_is_of_texts_of_pictures_or_of_both() {
        const BOTH: [&str; 9] = ["--suite", "--task", "--model", "--data", "--limit", "--out", "--dry-run", "--verify", "--help"];
        let line = "harness eval --task t --num-fewshot 1 --profile compat --apply-chat-template --system s --fewshot-as-multiturn \
                    --seed 1 --max-memory 1 --allow-code-execution --unsafe-exec --softmax-dtype model --shard 1/2 --no-cache \
                    --dtype bf16 --split s --on-bad-image skip --max-pixels 1 --image-size 1 --batch-size 1 --class-index f \
                    --real-labels f";
        let cli = Cli::parse_from(line.split_whitespace());
        let Command::Eval(args) = &cli.command else { panic!("not eval") };
        let seen: BTreeSet<&str> = text_flags(args, &cli.global).chain(args.images.given()).chain(BOTH).collect();
        let mut program = Cli::command();
        program.build();
        let flags = program.find_subcommand("eval").unwrap().get_arguments().filter(|flag| !flag.is_global_set());
        let mut all: BTreeSet<String> = flags.map(|flag| format!("--{}", flag.get_long().unwrap())).collect();
        all.insert("--dtype".to_owned());
        assert_eq!(seen, all.iter().map(String::as_str).collect());

        let cli = Cli::parse_from(["harness", "eval", "--task", "t"]);
        let Command::Eval(args) = &cli.command else { panic!("not eval") };
        assert_eq!(text_flags(args, &cli.global).chain(args.images.given()).next(), None);
    }
}
