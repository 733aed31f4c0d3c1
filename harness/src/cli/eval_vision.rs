//! `eval` of image tasks: pictures instead of prompts, the same results.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use serde_json::json;

use super::eval::{Args, load_suite};
use super::{Exit, Format, Global, output};
use crate::data::hub::{self, HubError, Repository};
use crate::data::images::{ImageSet, OnBadImage, OpenOptions};
use crate::error::Hint as _;
use crate::eval::files;
use crate::eval::vision::{self, Classifier, TASKS, VisionPlan, classes, score::RealLabels};
use crate::provenance;
use crate::run::RunDirectory;

/// Pictures in a forward pass unless told otherwise.
const BATCH_SIZE: usize = 50;

/// Flags that only image tasks read.
#[derive(Debug, Default, clap::Args)]
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

/// What was asked of pictures.
#[derive(Debug)]
pub struct Asked {
    suite: Option<String>,
    tasks: Vec<String>,
    limit: Option<usize>,
}

/// The image tasks asked, or none when texts are asked.
///
/// # Errors
/// An unknown suite; image and text tasks together.
pub fn asked(args: &Args) -> anyhow::Result<Option<Asked>> {
    let suite = args.suite.as_deref().map(load_suite).transpose()?;
    let mut tasks = args.task.clone();
    let mut limit = args.limit;
    if let Some(suite) = &suite {
        let chosen: Vec<_> = suite.tasks.iter().filter(|task| args.task.is_empty() || args.task.contains(&task.name)).collect();
        tasks = chosen.iter().map(|task| task.name.clone()).collect();
        limit = limit.or_else(|| chosen.iter().find_map(|task| task.limit));
    }
    let (pictures, texts): (Vec<&String>, Vec<&String>) = tasks.iter().partition(|task| vision::is_task(task));
    match (pictures.first(), texts.first()) {
        (Some(_), None) => Ok(Some(Asked { suite: suite.map(|suite| suite.name), tasks, limit })),
        (Some(picture), Some(text)) => {
            Err(anyhow!("expected tasks of one kind, found `{picture}`, which asks about pictures, and `{text}`"))
                .hint("evaluate them in two commands")
        }
        _ => Ok(None),
    }
}

/// Runs the command.
///
/// # Errors
/// Unusable models or pictures, classes that do not fit, a full disk.
pub fn run(args: &Args, asked: &Asked, global: &Global) -> anyhow::Result<Exit> {
    let started = provenance::utc_now();
    if args.num_fewshot.is_some_and(|shots| shots > 0) {
        bail!("--num-fewshot: expected 0 for image tasks, found {}", args.num_fewshot.unwrap_or(0));
    }
    let device = global.device()?;
    let plan = plan(args, asked, global)?;
    let models = args.model.iter().map(|model| load(model, args, global)).collect::<anyhow::Result<Vec<_>>>()?;
    if models.is_empty() {
        return Err(anyhow!("expected a model, found none"))
            .hint("name one with --model: a .safetensors, .pth or .th file, or a run of ours");
    }
    let out = args.out.clone().unwrap_or_else(|| {
        let name =
            asked.suite.as_ref().map_or_else(|| format!("_evals/{}", asked.tasks.join("+")), |suite| format!("_suites/{suite}"));
        global.runs_dir.join(name)
    });
    if args.dry_run {
        output::data(&describe(&plan, &models, &out))?;
        return Ok(Exit::Fine);
    }
    let mut evaluation = vision::evaluate(&plan, &models)?;
    say_bad(&plan.set);
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let facts = json!({
        "data": args.data,
        "split": plan.set.split,
        "pictures": plan.set.len(),
        "undecodable": plan.set.bad(),
        "tier": "full",
        "dtype": "f32",
        "transforms": models.iter().map(|model| json!({ "model": model.name, "transform": model.transform })).collect::<Vec<_>>(),
        "device": format!("{device:?}").to_lowercase(),
    });
    evaluation.settings = facts.as_object().cloned().unwrap_or_default();
    let results = files::write(&evaluation, &out, &started, global.thread_count())?;
    let report = out.join("report");
    let runs = evaluation.models.iter().flat_map(|model| &model.runs).filter_map(|run| run.folder.clone());
    let folders: Vec<PathBuf> = std::iter::once(out.join(records::store::RECORDS_FILE)).chain(runs).collect();
    let summary = super::report::render(&folders, &report, asked.suite.as_deref())?;
    match global.format {
        Format::Json => output::json(&results)?,
        Format::Text => output::data(&summary)?,
    }
    output::note(&format!("results: {}\nreport:  {}", out.join("results.json").display(), report.join("index.html").display()));
    Ok(Exit::Fine)
}

fn plan(args: &Args, asked: &Asked, global: &Global) -> anyhow::Result<VisionPlan> {
    let options = OpenOptions {
        split: args.images.split.clone(),
        on_bad_image: args.images.on_bad_image,
        max_pixels: args.images.max_pixels,
        // Every picture is visited once a model; only several models would gain.
        cache_bytes: if args.model.len() > 1 { OpenOptions::default().cache_bytes } else { 0 },
    };
    let Some(data) = args.data.as_deref() else {
        return Err(anyhow!("expected pictures, found none"))
            .hint("name a folder in ImageFolder layout, a tar, or `hub` with --data");
    };
    let path = Path::new(data);
    let (set, dataset_sha256) = if data == "hub" {
        from_hub(asked, options, global)?
    } else if data == "bundled" {
        bail!("--data `bundled`: no pictures are bundled; expected a folder, a tar, or `hub`");
    } else {
        let set = ImageSet::open(path, options)?;
        let digest = set.digest()?;
        (set, digest)
    };
    let beside = [path.parent().unwrap_or(Path::new("")), path].map(|folder| folder.join(classes::INDEX_FILE));
    let index = args.images.class_index.clone().or_else(|| beside.into_iter().find(|file| file.is_file()));
    let batch_size = args.images.batch_size.unwrap_or(BATCH_SIZE);
    if batch_size == 0 {
        bail!("--batch-size: expected at least 1, found 0");
    }
    Ok(VisionPlan {
        suite: asked.suite.clone(),
        tasks: asked.tasks.clone(),
        set: Arc::new(set),
        dataset_sha256,
        class_index: index.as_deref().map(classes::read_index).transpose()?,
        real_labels: args.images.real_labels.as_deref().map(RealLabels::read).transpose()?,
        limit: asked.limit,
        batch_size,
        // The forward pass uses every thread by turns; one more decodes meanwhile.
        workers: (global.thread_count() / 2).max(1),
        device: global.device()?,
    })
}

/// The pictures of the one task asked, through the hub's cache.
fn from_hub(asked: &Asked, options: OpenOptions, global: &Global) -> anyhow::Result<(ImageSet, String)> {
    let [name] = asked.tasks.as_slice() else {
        return Err(anyhow!("--data `hub`: expected one task, found `{}`", asked.tasks.join("`, `")))
            .hint("choose one with --task");
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
    let fetch = |file: &String| hub.get(&repository, "main", file).map_err(HubError::explain);
    let paths = files.iter().map(fetch).collect::<anyhow::Result<Vec<_>>>()?;
    let set = ImageSet::open_parquet(name.clone(), &paths, &split, options)?;
    let digest = set.digest()?;
    Ok((set, digest))
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
