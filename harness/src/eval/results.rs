//! What an evaluation leaves: `results.json`, one samples file per model and task, and rows for the record store.
//!
//! ```text
//! DIR/results.json                   {"schema":1,"models":{MODEL:{"tasks":{TASK:{…,"metrics":{METRIC:{"value","stderr","higher_is_better"}}}}}},"provenance":{…}}
//! DIR/samples/MODEL/TASK.jsonl       one line per document (and seed): requests, answers, metrics
//! DIR/records.jsonl  manifest.json   rows of measurement.md section 14
//! ```
//! A subject with several seeds has one entry: the value is the mean over seeds, `stderr` is over documents of the per-document means, and
//! `seeds` holds each seed's value.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use records::metric::{FLOPS_FORWARD, PARAMS_ADDED, PARAMS_ADDED_PCT};
use records::{Better, EvalProfile, InnerStat, Metric, Row, write_atomic};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tasks::{Aggregate, GroupSpec, Profile};

use super::runner::{NotRun, Outcome, Sample, TaskResult};

/// One model's outcomes for one seed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunOutcome {
    /// Training seed, for subjects of ours.
    pub seed: Option<u64>,
    /// Trainable values.
    pub params_total: usize,
    /// FLOPs of a forward pass: over one training micro-batch for language models of ours, over one picture for image networks.
    pub flops_forward: Option<u64>,
    /// Digest of the weights.
    pub weights_digest: String,
    /// Run directory, for runs of ours.
    pub folder: Option<std::path::PathBuf>,
    /// Digest of the tokenizer; empty for networks that read no text.
    pub tokenizer_sha256: String,
    /// Chat template and turns, where prompts were put into turns.
    pub chat: Option<Value>,
    /// Columns that the model decides (subject, variant, shape).
    pub base: Row,
    /// Leaf task to outcome, in the order asked.
    pub tasks: Vec<(String, Outcome)>,
}

/// A model or subject with its seeds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelOutcome {
    /// Name in results.
    pub name: String,
    /// One per seed.
    pub runs: Vec<RunOutcome>,
}

/// Everything that was asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluation {
    /// Suite, if one was named.
    pub suite: Option<String>,
    /// Conventions followed.
    pub profile: Profile,
    /// What else was asked for and how, as it stands under `provenance`: shards that differ in it cannot be joined.
    pub settings: Map<String, Value>,
    /// Groups whose mean is reported, with their leaves among the tasks asked.
    pub groups: Vec<GroupSpec>,
    /// Interpreter and layers of the sandbox, when generated programs were run: their scores depend on it.
    pub sandbox: Option<String>,
    /// Models in the order asked.
    pub models: Vec<ModelOutcome>,
}

/// A metric over the seeds of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedMean {
    /// Mean over seeds.
    pub value: f64,
    /// Standard error over documents.
    pub stderr: Option<f64>,
    /// The same with clustered documents.
    pub stderr_clustered: Option<f64>,
    /// Each seed's value, in seed order.
    pub by_seed: Vec<f64>,
    /// Documents.
    pub n: usize,
    /// Direction.
    pub higher_is_better: bool,
    /// 95 % interval over documents, where there is one.
    pub interval: Option<(f64, f64)>,
}

impl SeedMean {
    /// The mean over seeds of one metric, with the errors of `errors`; `is_share` says that every document scored 0 or 1 and none share a cluster.
    fn new(by_seed: Vec<f64>, errors: &Aggregate, is_share: bool) -> Self {
        let value = by_seed.iter().sum::<f64>() / by_seed.len() as f64;
        let share =
            is_share.then(|| stats::interval::wilson_interval((value * errors.n as f64).round() as usize, errors.n, 0.95).ok());
        let normal = || {
            let stderr = errors.stderr_clustered.or(errors.stderr)?;
            stats::interval::normal_interval_from(value, stderr, errors.n, 0.95).ok()
        };
        Self {
            value,
            stderr: errors.stderr,
            stderr_clustered: errors.stderr_clustered,
            n: errors.n,
            higher_is_better: errors.higher_is_better,
            interval: share.flatten().or_else(normal).map(|interval| (interval.low, interval.high)),
            by_seed,
        }
    }
}

impl RunOutcome {
    /// These outcomes of a model about which nothing else is known.
    #[cfg(test)]
    pub(super) fn of(tasks: Vec<(String, Outcome)>) -> Self {
        Self {
            seed: None,
            params_total: 1,
            flops_forward: None,
            weights_digest: String::new(),
            folder: None,
            tokenizer_sha256: String::new(),
            chat: None,
            base: Row::default(),
            tasks,
        }
    }

    /// The results of a group's leaves, in their order, if every leaf ran.
    fn of_group(&self, group: &GroupSpec) -> Option<Vec<&TaskResult>> {
        let result = |leaf: &String| self.tasks.iter().find(|(name, _)| name == leaf)?.1.as_deref().ok();
        group.leaves.iter().map(result).collect()
    }
}

/// A group's mean in every metric.
fn aggregate_group(group: &GroupSpec, results: &[&TaskResult]) -> anyhow::Result<Vec<Aggregate>> {
    let aggregates = results.iter().map(|result| result.aggregates.clone());
    let leaves: Vec<(String, Vec<Aggregate>)> = group.leaves.iter().cloned().zip(aggregates).collect();
    Ok(tasks::aggregate_group(&group.name, &leaves)?)
}

impl ModelOutcome {
    /// The results of a leaf task that ran for every seed.
    pub fn results(&self, task: &str) -> Option<Vec<&TaskResult>> {
        let of_run = |run: &'_ RunOutcome| run.tasks.iter().position(|(name, outcome)| name == task && outcome.is_ok());
        self.runs.iter().map(|run| of_run(run).and_then(|at| run.tasks[at].1.as_deref().ok())).collect()
    }

    /// What became of each document of a leaf task, seed by seed; nothing where it was not asked.
    fn samples(&self, task: &str) -> impl Iterator<Item = &Sample> {
        let outcomes = self.runs.iter().flat_map(|run| &run.tasks).filter(move |(name, _)| name == task);
        outcomes.flat_map(|(_, outcome)| match outcome {
            Ok(result) => result.samples.as_slice(),
            Err(NotRun::Failed { samples, .. }) => samples.as_slice(),
            Err(_) => &[],
        })
    }

    /// Why a leaf task has no result.
    pub fn not_run(&self, task: &str) -> Option<&NotRun> {
        self.runs
            .iter()
            .flat_map(|run| &run.tasks)
            .find_map(|(name, outcome)| if name == task { outcome.as_ref().err() } else { None })
    }

    /// A leaf's metrics over the seeds.
    ///
    /// # Errors
    /// When the standard error cannot be computed.
    pub fn leaf(&self, task: &str, profile: Profile) -> anyhow::Result<Option<Vec<(String, SeedMean)>>> {
        let Some(results) = self.results(task) else { return Ok(None) };
        let averaged = if results.len() > 1 { Some(average_documents(task, profile, &results)?) } else { None };
        let first = results[0];
        let metrics = first.aggregates.iter().enumerate().map(|(at, aggregate)| {
            let by_seed: Vec<f64> = results.iter().map(|result| result.aggregates[at].value).collect();
            let errors =
                averaged.as_ref().and_then(|list| list.iter().find(|a| a.metric == aggregate.metric)).unwrap_or(aggregate);
            let is_share = results.len() == 1
                && errors.stderr_clustered.is_none()
                && first.scores.iter().all(|scores| {
                    let value = scores.metrics.get(&aggregate.metric).and_then(tasks::MetricValue::number);
                    value.is_some_and(|value| value == 0.0 || value == 1.0)
                });
            (aggregate.metric.clone(), SeedMean::new(by_seed, errors, is_share))
        });
        Ok(Some(metrics.collect()))
    }

    /// A group's metrics over the seeds, if every leaf ran.
    ///
    /// # Errors
    /// When the group's mean cannot be formed.
    pub fn group(&self, group: &GroupSpec) -> anyhow::Result<Option<Vec<(String, SeedMean)>>> {
        let mut per_seed: Vec<Vec<Aggregate>> = Vec::new();
        for run in &self.runs {
            let Some(results) = run.of_group(group) else { return Ok(None) };
            per_seed.push(aggregate_group(group, &results)?);
        }
        let Some(first) = per_seed.first() else { return Ok(None) };
        let metrics = first.iter().enumerate().map(|(at, aggregate)| {
            let by_seed: Vec<f64> = per_seed.iter().map(|aggregates| aggregates[at].value).collect();
            // The seeds share their documents, so their errors are not independent: one seed's error is the cautious figure.
            (aggregate.metric.clone(), SeedMean::new(by_seed, aggregate, false))
        });
        Ok(Some(metrics.collect()))
    }
}

/// Scores averaged over seeds per document, aggregated by the task's own rule.
fn average_documents(task: &str, profile: Profile, results: &[&TaskResult]) -> anyhow::Result<Vec<Aggregate>> {
    let mut averaged = results[0].scores.clone();
    for scores in &mut averaged {
        for (metric, value) in &mut scores.metrics {
            let values: Option<Vec<f64>> = results
                .iter()
                .map(|result| result.scores.iter().find(|s| s.doc_id == scores.doc_id)?.metrics.get(metric)?.number())
                .collect();
            if let Some(values) = values {
                *value = tasks::MetricValue::Number(values.iter().sum::<f64>() / values.len() as f64);
            }
        }
    }
    if results[0].spec.definition == super::vision::DEFINITION {
        return super::vision::score::aggregate(&averaged);
    }
    Ok(tasks::task(task, profile)?.aggregate(&averaged)?)
}

impl Evaluation {
    /// Aggregates every task of every model.
    ///
    /// # Errors
    /// When scores cannot be aggregated.
    pub fn conclude(&mut self) -> anyhow::Result<()> {
        let profile = self.profile;
        for (_, outcome) in self.models.iter_mut().flat_map(|model| &mut model.runs).flat_map(|run| &mut run.tasks) {
            let asked = std::mem::replace(outcome, Err(NotRun::Missing(String::new())));
            *outcome = asked.map_or_else(|why| Ok(Err(why)), |result| result.conclude(profile))?;
        }
        Ok(())
    }

    /// Why there is no score at all: the first failure, when no task of any model has a result. Tasks without data and tasks that no model
    /// here can be asked are no failures.
    pub fn failure(&self) -> Option<&NotRun> {
        let outcomes = || self.models.iter().flat_map(|model| &model.runs).flat_map(|run| &run.tasks).map(|(_, outcome)| outcome);
        let failed = || outcomes().filter_map(|outcome| outcome.as_ref().err()).find(|why| matches!(why, NotRun::Failed { .. }));
        if outcomes().any(Result::is_ok) { None } else { failed() }
    }

    /// Leaf tasks in the order asked.
    pub fn leaves(&self) -> Vec<&str> {
        self.models
            .first()
            .and_then(|model| model.runs.first())
            .map_or_else(Vec::new, |run| run.tasks.iter().map(|(name, _)| name.as_str()).collect())
    }

    /// The machine-readable contract.
    ///
    /// # Errors
    /// When a mean cannot be formed.
    pub fn to_json(&self, provenance: Value) -> anyhow::Result<Value> {
        let mut models = Map::new();
        for model in &self.models {
            let mut tasks = Map::new();
            for leaf in self.leaves() {
                if let Some(why) = model.not_run(leaf) {
                    tasks.insert(leaf.to_owned(), not_run_json(why));
                } else if let (Some(results), Some(metrics)) = (model.results(leaf), model.leaf(leaf, self.profile)?) {
                    tasks.insert(leaf.to_owned(), leaf_json(&results, &metrics));
                }
            }
            for group in &self.groups {
                let results = model.runs.first().and_then(|run| run.of_group(group));
                if let (Some(results), Some(metrics)) = (results, model.group(group)?) {
                    let n = metrics.first().map_or(0, |(_, mean)| mean.n);
                    tasks.insert(
                        group.name.clone(),
                        json!({
                            "group": true,
                            "leaves": group.leaves,
                            "n": n,
                            "metrics": metrics_json(&metrics, |metric, is_higher_better| group_chance(&results, metric, is_higher_better)),
                        }),
                    );
                }
            }
            let seeds: Vec<u64> = model.runs.iter().filter_map(|run| run.seed).collect();
            let weights: Vec<&str> = model.runs.iter().map(|run| run.weights_digest.as_str()).collect();
            let mut entry = json!({ "params_total": model.runs.first().map(|run| run.params_total), "weights_digest": weights, "tasks": tasks });
            if let Some(chat) = model.runs.first().and_then(|run| run.chat.as_ref()) {
                entry["chat"] = chat.clone();
            }
            if !seeds.is_empty() {
                entry["seeds"] = json!(seeds);
            }
            models.insert(model.name.clone(), entry);
        }
        Ok(json!({ "schema": 1, "models": models, "provenance": provenance }))
    }

    /// Writes the samples files below `folder`, those of failed documents too.
    ///
    /// # Errors
    /// When a file cannot be written; a half-written one is never left behind.
    pub fn write_samples(&self, folder: &Path) -> anyhow::Result<()> {
        for model in &self.models {
            let folder = folder.join("samples").join(&model.name);
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
            for leaf in self.leaves() {
                let mut lines = Vec::new();
                for sample in model.samples(leaf) {
                    serde_json::to_writer(&mut lines, sample)?;
                    lines.push(b'\n');
                }
                if lines.is_empty() {
                    continue;
                }
                write_atomic(&folder.join(format!("{leaf}.jsonl")), &lines)?;
            }
        }
        Ok(())
    }

    /// One row per model, seed, task and metric; unsealed and without run and host columns.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for run in self.models.iter().flat_map(|model| &model.runs) {
            rows.extend(self.cost_rows(run));
            for (name, outcome) in &run.tasks {
                match outcome {
                    Ok(result) => {
                        rows.extend(result.aggregates.iter().map(|aggregate| self.row(run, result, aggregate)));
                        rows.extend(self.document_rows(run, result));
                    }
                    Err(why) => {
                        let is_failure = matches!(why, NotRun::Failed { .. });
                        rows.push(Row {
                            task: Some(name.clone()),
                            status: if is_failure { records::Status::Failed } else { records::Status::Skipped },
                            reason: Some(why.reason().to_owned()),
                            ..self.base(run)
                        });
                    }
                }
            }
            for group in &self.groups {
                rows.extend(self.group_rows(run, group));
            }
        }
        rows
    }

    /// Exact costs beside the scores, so that a suite of our own subjects can be drawn on its Pareto axes: closed forms, against the first model.
    fn cost_rows(&self, run: &RunOutcome) -> Vec<Row> {
        let reference = self.models.first().and_then(|model| model.runs.first());
        let (Some(reference), Some(flops)) = (reference, run.flops_forward) else { return Vec::new() };
        let added = run.params_total as f64 - reference.params_total as f64;
        let exact = |metric: &Metric, value: f64| Row {
            reference_variant: reference.base.variant.clone(),
            metric: metric.name.to_string(),
            unit: metric.unit.to_string(),
            better: metric.better,
            value: Some(value),
            inner_stat: Some(InnerStat::Exact),
            inner_n: Some(1),
            ..self.base(run)
        };
        vec![
            exact(&PARAMS_ADDED, added),
            exact(&PARAMS_ADDED_PCT, 100.0 * added / reference.params_total as f64),
            Row { flops_convention: Some("2x-mac".to_owned()), ..exact(&FLOPS_FORWARD, flops as f64) },
        ]
    }

    fn base(&self, run: &RunOutcome) -> Row {
        let eval_profile = match self.profile {
            Profile::Compat => EvalProfile::Compat,
            Profile::Canonical => EvalProfile::Canonical,
        };
        Row {
            suite: self.suite.clone(),
            seed: run.seed.and_then(|seed| i64::try_from(seed).ok()),
            eval_profile: Some(eval_profile),
            checkpoint_sha256: Some(run.weights_digest.clone()),
            tokenizer_sha256: Some(run.tokenizer_sha256.clone()).filter(|digest| !digest.is_empty()),
            ..run.base.clone()
        }
    }

    fn row(&self, run: &RunOutcome, result: &TaskResult, aggregate: &Aggregate) -> Row {
        let (metric, filter) = match aggregate.metric.split_once(',') {
            Some((metric, filter)) => (metric.to_owned(), Some(filter.to_owned())),
            None => (aggregate.metric.clone(), None),
        };
        let base = Row { metric, filter, ..self.base(run) };
        Row {
            task: Some(result.spec.name.clone()),
            task_version: Some(result.spec.version.clone()),
            split: Some(result.spec.dataset.split.clone()),
            num_fewshot: Some(result.num_fewshot as u64),
            limit: result.limit.map(|limit| limit as u64),
            chance: chance(result, &aggregate.metric, aggregate.higher_is_better),
            dataset_sha256: Some(result.dataset_sha256.clone()),
            ..Self::valued(base, aggregate)
        }
    }

    /// One row per document and numeric metric: what paired comparisons are made from.
    fn document_rows(&self, run: &RunOutcome, result: &TaskResult) -> Vec<Row> {
        let mut rows = Vec::new();
        for scores in &result.scores {
            for aggregate in &result.aggregates {
                let Some(value) = scores.metrics.get(&aggregate.metric).and_then(tasks::MetricValue::number) else { continue };
                rows.push(Row {
                    kind: records::RecordKind::Document,
                    doc_id: Some(scores.doc_id.to_string()),
                    cluster_id: scores.cluster_id.clone(),
                    value: Some(value),
                    inner_stat: None,
                    inner_n: None,
                    stderr: None,
                    stderr_clustered: None,
                    ..self.row(run, result, aggregate)
                });
            }
        }
        rows
    }

    fn group_rows(&self, run: &RunOutcome, group: &GroupSpec) -> Vec<Row> {
        let Some(results) = run.of_group(group) else { return Vec::new() };
        let (Some(first), Ok(aggregates)) = (results.first(), aggregate_group(group, &results)) else { return Vec::new() };
        let limit = results.iter().filter_map(|result| result.limit).min();
        let row = |aggregate: &Aggregate| Row {
            task: Some(group.name.clone()),
            limit: limit.map(|limit| limit as u64),
            chance: group_chance(&results, &aggregate.metric, aggregate.higher_is_better),
            dataset_sha256: None, // the leaves have one each
            ..self.row(run, first, aggregate)
        };
        aggregates.iter().map(row).collect()
    }

    fn valued(base: Row, aggregate: &Aggregate) -> Row {
        Row {
            value: Some(aggregate.value),
            unit: records::Metric::by_name(&base.metric).map_or_else(|| "fraction".to_owned(), |metric| metric.unit.to_string()),
            better: if aggregate.higher_is_better { Better::Higher } else { Better::Lower },
            inner_stat: Some(InnerStat::Mean),
            inner_n: Some(aggregate.n as u64),
            stderr: aggregate.stderr,
            stderr_clustered: aggregate.stderr_clustered,
            ..base
        }
    }
}

fn not_run_json(why: &NotRun) -> Value {
    json!({ "status": why.status(), "reason": why.reason() })
}

fn leaf_json(results: &[&TaskResult], metrics: &[(String, SeedMean)]) -> Value {
    let first = results[0];
    let sum = |count: fn(&TaskResult) -> usize| results.iter().map(|result| count(result)).sum::<usize>();
    let mut value = json!({
        "version": first.spec.version,
        "num_fewshot": first.num_fewshot,
        "n": first.scores.len(),
        "limit": first.limit,
        "chance": first.spec.chance,
        "primary_metric": first.spec.primary_metric,
        "metrics": metrics_json(metrics, |metric, is_higher_better| chance(first, metric, is_higher_better)),
        "truncated": sum(|result| result.truncated),
        "boundary": sum(|result| result.boundary),
        "unparsed": sum(TaskResult::unparsed),
        "failed": sum(|result| result.failed),
        "dataset_sha256": first.dataset_sha256,
    });
    if let Some(published) = first.spec.dataset.num_docs {
        value["num_docs_published"] = json!(published);
    }
    if let Some(trivial) = first.spec.trivial {
        value["trivial"] = json!(trivial);
    }
    if let Some(note) = &first.fewshot_note {
        value["fewshot_note"] = json!(note);
    }
    if first.spec.needs_executor {
        value["verdicts"] = json!(first.verdicts());
    }
    if let Some((gold, chosen)) = first.option_shares() {
        value["options"] = json!({ "gold": gold, "chosen": chosen });
    }
    value
}

/// Score of guessing in one metric. A loss has none, nor has a metric with several right answers to a picture.
fn chance(result: &TaskResult, metric: &str, is_higher_better: bool) -> Option<f64> {
    match metric {
        "acc1_real" => None,
        "acc5" => Some((5.0 * result.spec.chance).min(1.0)),
        _ => is_higher_better.then_some(result.spec.chance),
    }
}

/// Score of guessing on a group, when all its leaves have the same.
fn group_chance(results: &[&TaskResult], metric: &str, is_higher_better: bool) -> Option<f64> {
    let mut chances = results.iter().map(|result| chance(result, metric, is_higher_better));
    let first = chances.next()??;
    chances.all(|chance| chance == Some(first)).then_some(first)
}

/// Metrics as JSON. Where guessing scores more than 0, whether the 95 % interval covers that chance level says if a model does better than guessing.
fn metrics_json(metrics: &[(String, SeedMean)], chance: impl Fn(&str, bool) -> Option<f64>) -> Value {
    let entries: BTreeMap<&str, Value> = metrics
        .iter()
        .map(|(name, mean)| {
            let mut entry = json!({ "value": mean.value, "stderr": mean.stderr, "higher_is_better": mean.higher_is_better });
            if let Some(clustered) = mean.stderr_clustered {
                entry["stderr_clustered"] = json!(clustered);
            }
            if let Some((low, high)) = mean.interval {
                entry["interval_95"] = json!([low, high]);
                if let Some(chance) = chance(name, mean.higher_is_better).filter(|chance| *chance > 0.0) {
                    entry["covers_chance"] = json!(low <= chance && chance <= high);
                }
            }
            if mean.by_seed.len() > 1 {
                entry["seeds"] = json!(mean.by_seed);
            }
            (name.as_str(), entry)
        })
        .collect();
    json!(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(task: &str, chance: f64, limit: Option<usize>, metric: &str) -> TaskResult {
        let mut spec = tasks::task(task, Profile::Canonical).unwrap().spec().clone();
        spec.chance = chance;
        let aggregate = Aggregate {
            metric: metric.to_owned(),
            value: 0.5,
            stderr: Some(0.1),
            stderr_clustered: None,
            n: 4,
            higher_is_better: true,
        };
        TaskResult { limit, aggregates: vec![aggregate], ..TaskResult::new(spec, task.to_owned()) }
    }

    fn evaluation(tasks: Vec<(String, Outcome)>) -> Evaluation {
        let models = vec![ModelOutcome { name: "m".to_owned(), runs: vec![RunOutcome::of(tasks)] }];
        let (settings, profile) = (Map::new(), Profile::Canonical);
        Evaluation { suite: None, profile, settings, groups: Vec::new(), sandbox: None, models }
    }

    #[test]
    fn only_an_evaluation_without_any_score_in_which_a_task_failed_is_a_failure() {
        let failed = || Err(NotRun::Failed { reason: "not finite".to_owned(), samples: Vec::new() });
        let ok = || Ok(Box::new(result("boolq", 0.5, None, "acc")));
        let missing = || Err(NotRun::Missing("no file".to_owned()));
        let failure = |outcomes: Vec<Outcome>| {
            let tasks = outcomes.into_iter().map(|outcome| ("boolq".to_owned(), outcome)).collect();
            evaluation(tasks).failure().map(ToString::to_string)
        };
        assert_eq!(failure(vec![missing(), failed()]).as_deref(), Some("failed: not finite"));
        assert_eq!([vec![failed(), ok()], vec![missing()], vec![]].map(failure), [None, None, None]);
    }

    #[test]
    fn every_metric_is_compared_with_its_own_score_of_guessing() {
        let result = result("boolq", 0.1, None, "acc1");
        let chance = |metric: &str| chance(&result, metric, metric != "cross_entropy");
        assert_eq!(["acc1", "acc5", "acc1_real", "cross_entropy"].map(chance), [Some(0.1), Some(0.5), None, None]);
        let mean = |higher_is_better| SeedMean {
            value: 0.5,
            stderr: None,
            stderr_clustered: None,
            by_seed: vec![0.5],
            n: 4,
            higher_is_better,
            interval: Some((0.45, 0.55)),
        };
        let metrics = [("acc1", true), ("acc5", true), ("cross_entropy", false)].map(|(name, up)| (name.to_owned(), mean(up)));
        let json = metrics_json(&metrics, |metric, _| chance(metric));
        let covers = |metric: &str| json[metric].get("covers_chance").and_then(Value::as_bool);
        assert_eq!(["acc1", "acc5", "cross_entropy"].map(covers), [Some(false), Some(true), None]);
    }

    #[test]
    fn a_groups_row_names_no_leafs_documents_limit_or_chance() {
        let leaves = ["mmlu_anatomy", "mmlu_astronomy"].map(str::to_owned);
        let row = |chances: [f64; 2]| {
            let results = [result(&leaves[0], chances[0], None, "acc"), result(&leaves[1], chances[1], Some(2), "acc")];
            let tasks = leaves.iter().cloned().zip(results.map(|result| Ok(Box::new(result)))).collect();
            let groups = vec![GroupSpec { name: "mmlu".to_owned(), leaves: leaves.to_vec(), size_weighted: true }];
            Evaluation { groups, ..evaluation(tasks) }.rows().pop().unwrap()
        };
        let same = row([0.25, 0.25]);
        assert_eq!(
            (same.task.as_deref(), same.limit, same.chance, same.dataset_sha256),
            (Some("mmlu"), Some(2), Some(0.25), None)
        );
        assert_eq!(row([0.25, 0.5]).chance, None);
    }
}
