//! Classifying pictures: the tasks `cifar10`, `imagenette` and `imagenet1k`, and sets of one's own.
//!
//! ```text
//! picture --transform of the model--> logits --score--> acc1, acc5, cross_entropy      label = index among the model's outputs
//! ```
//! - [`task`]: the tasks, and which one a set belongs to. - [`classes`]: from a set's class folders to a model's outputs.
//! - [`model`]: checkpoints as classifiers. - [`score`]: logits to metrics.
//!
//! Results have the form of every other evaluation ([`super::results`]): a picture is a document, its request holds the picture's name, its
//! label, the five best classes and the log-likelihood of the label. tasks.md section 7.1.

pub mod classes;
pub mod model;
pub mod score;
pub mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use candle_core::Device;
use serde_json::json;
use tasks::{DocScores, Profile};

pub use self::model::Classifier;
use self::score::RealLabels;
pub use self::task::{DEFINITION, TASKS, VisionTask, is_task};
use super::results::{Evaluation, ModelOutcome, RunOutcome};
use super::runner::{NotRun, Outcome, Sample, TaskResult};
use super::suite::progress_bar;
use crate::data::images::{ImageSet, Loader};
use crate::error::Hint as _;

/// What is evaluated on which pictures.
#[derive(Debug)]
pub struct VisionPlan {
    /// Suite, if one was named.
    pub suite: Option<String>,
    /// Names of the tasks asked; empty for whatever the set is.
    pub asked: Vec<String>,
    /// The task that the pictures belong to, by [`task_of`]; none for a set of one's own, which is scored under its own name.
    pub task: Option<&'static VisionTask>,
    /// The pictures.
    pub set: Arc<ImageSet>,
    /// The commit that pictures of the hub are of.
    pub commit: Option<String>,
    /// Ids of the 1,000 classes in order, where a file names them.
    pub class_index: Option<Vec<String>>,
    /// Reassessed labels of the ImageNet validation pictures.
    pub real_labels: Option<RealLabels>,
    /// First pictures only.
    pub limit: Option<usize>,
    /// Pictures in a forward pass; changes no score.
    pub batch_size: usize,
    /// Threads that decode.
    pub workers: usize,
    /// Where to compute.
    pub device: Device,
}

/// The task that a set belongs to, among those asked (all when none); none for a set of one's own.
///
/// # Errors
/// As [`task::of_set`]; a set of one's own that is called like a task, whose scores would stand as that task's.
pub fn task_of(set: &ImageSet, asked: &[String]) -> anyhow::Result<Option<&'static VisionTask>> {
    let context = || format!("cannot evaluate on `{}`", set.name);
    let names: Vec<&str> = asked.iter().map(String::as_str).collect();
    let task = task::of_set(set.classes(), &names).with_context(context)?;
    if task.is_none() && is_task(&set.name) {
        let found: Vec<&str> = set.classes().iter().take(3).map(String::as_str).collect();
        return Err(anyhow!("expected the classes of task `{}`, found `{}`, …", set.name, found.join("`, `")))
            .hint("call a set of your own otherwise; where classes are numbers, name its one task with --task")
            .with_context(context);
    }
    Ok(task)
}

/// Evaluates each model in turn.
///
/// # Errors
/// Classes that do not fit a model, pictures that cannot be read.
pub fn evaluate(plan: &VisionPlan, models: &[Classifier]) -> anyhow::Result<Evaluation> {
    let (set, task) = (&plan.set, plan.task);
    let name = task.map_or(set.name.as_str(), |task| task.name);
    let dataset_sha256 = set.digest()?;
    let mut outcomes: Vec<ModelOutcome> = Vec::new();
    for model in models {
        let outputs = classes::outputs(
            set.classes(),
            task,
            model.network.config().num_classes,
            model.classes.as_deref(),
            plan.class_index.as_deref(),
        )
        .with_context(|| format!("cannot evaluate model `{}` on `{}`", model.name, set.name))?;
        let spec = task::spec(task, name, set.split.as_deref(), model.network.config().num_classes);
        let asked = TaskResult { limit: plan.limit, ..TaskResult::new(spec, dataset_sha256.clone()) };
        let mut tasks = vec![(name.to_owned(), classify(plan, model, asked, &outputs)?)];
        for other in plan.asked.iter().filter(|other| *other != name) {
            let why = NotRun::Missing(format!("the pictures of `{}` are those of `{name}`", set.name));
            tasks.push((other.clone(), Err(why)));
        }
        let run = RunOutcome {
            chat: None,
            seed: model.seed,
            params_total: model.params_total,
            flops_forward: Some(model.flops_forward()),
            weights_digest: model.weights_digest.clone(),
            folder: model.folder.clone(),
            tokenizer_sha256: String::new(),
            base: model.base.clone(),
            tasks,
        };
        // Runs of one config are seeds of one subject.
        match outcomes.iter_mut().find(|other| other.name == model.name) {
            Some(other) if model.seed.is_some() && other.runs.iter().all(|run| run.seed.is_some() && run.seed != model.seed) => {
                other.runs.push(run);
            }
            Some(_) => bail!("two models are called `{}`: results are keyed by name; rename one file", model.name),
            None => outcomes.push(ModelOutcome { name: model.name.clone(), runs: vec![run] }),
        }
    }
    let profile = Profile::Canonical;
    Ok(Evaluation {
        suite: plan.suite.clone(),
        profile,
        settings: serde_json::Map::new(),
        groups: Vec::new(),
        sandbox: None,
        models: outcomes,
    })
}

/// Fills in what was asked; `outputs` maps the set's labels to the model's.
fn classify(plan: &VisionPlan, model: &Classifier, asked: TaskResult, outputs: &[u32]) -> anyhow::Result<Outcome> {
    let set = &plan.set;
    let mut loader =
        Loader::evaluate(Arc::clone(set), &model.transform, plan.batch_size, plan.limit, plan.workers, &plan.device)?;
    let count = plan.limit.map_or(set.len(), |limit| limit.min(set.len()));
    let bar = progress_bar(&format!("{}: {}", model.name, asked.spec.name), count, "pictures");
    let (mut scores, mut samples) = (Vec::new(), Vec::new());
    while let Some(batch) = loader.next_batch()? {
        bar.inc(plan.batch_size as u64);
        if batch.labels.is_empty() {
            continue;
        }
        let logits: Vec<Vec<f32>> = model.network.forward(&batch.images, models::resnet::Mode::Eval)?.to_vec2()?;
        for ((logits, &label), &index) in logits.iter().zip(&batch.labels).zip(&batch.ids) {
            let id = set.id(index as usize);
            let label = outputs[label as usize];
            let score = score::score(logits, label).with_context(|| format!("picture `{id}`"))?;
            let real = plan.real_labels.as_ref().map(|real| real.of(id)).transpose()?;
            let metrics = score.metrics(real);
            samples.push(Sample {
                verdict: None,
                doc_id: index as usize,
                seed: model.seed,
                requests: vec![json!({ "image": id, "label": label, "top": score.top, "loglikelihood": -score.cross_entropy })],
                metrics: metrics.clone(),
                error: None,
            });
            scores.push(DocScores {
                is_unparsed: false,
                doc_id: index as usize,
                metrics,
                answers: BTreeMap::new(),
                gold: Some(label as usize),
                chosen: score.top.first().map(|&class| class as usize),
                verdict: None,
                cluster_id: None,
            });
        }
    }
    bar.finish_and_clear();
    for bad in set.bad().into_iter().filter(|bad| bad.index < count) {
        samples.push(Sample {
            verdict: None,
            doc_id: bad.index,
            seed: model.seed,
            requests: vec![json!({ "image": bad.id })],
            metrics: BTreeMap::new(),
            error: Some(bad.reason),
        });
    }
    samples.sort_by_key(|sample| sample.doc_id);
    if scores.is_empty() {
        return Ok(Err(NotRun::Failed { reason: format!("none of {count} pictures could be decoded"), samples }));
    }
    let aggregates = score::aggregate(&scores)?;
    Ok(Ok(Box::new(TaskResult { aggregates, failed: count - scores.len(), scores, samples, ..asked })))
}
