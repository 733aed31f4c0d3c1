//! What is measured, in which order, and how long that may take.
//!
//! ```text
//! exact      one worker per subject
//! sampled    round 0: A B C   round 1: C B A   round 2: C B A   round 3: A B C   …     each letter one worker, per probe
//!            with two subjects these are the blocks ABBA, BAAB, …; block = round / 2, pair = round
//! A/A        two more workers of the reference in every round, as arms A and B with is_aa
//! ```
//! In every round the reference (arm A) stands beside each candidate (arm B): they pair by (block, pair).
//!
//! Source: measurement.md section 10.

use super::job::{Job, Provenance};
use super::probes::predicted_memory::{depths, with_depth};
use super::probes::{Kind, Probe, Work};
use super::subject::{Reference, Workload};
use super::window::WindowSpec;
use crate::config::{ImageTrainConfig, RunConfig, TrainConfig, UpdateRule};
use crate::plan::Shard;
use models::{InputShape, Model as _, ModelConfig};
use records::{Arm, Design};
use std::path::PathBuf;

/// Rounds of memory probes when more are asked for: allocation repeats exactly, and resident size needs at least five workers.
pub const MEMORY_ROUNDS: u32 = 5;
/// Bytes of training state per parameter: weight, gradient and two moments (SGD: one) in f32.
pub(crate) fn train_bytes_per_param(rule: UpdateRule) -> u64 {
    match rule {
        UpdateRule::Adamw => 16,
        UpdateRule::Sgd => 12,
    }
}
/// FLOP/s per thread assumed for the time estimate of a plan; only ever used for that.
const ASSUMED_FLOPS_PER_S: f64 = 2e10;
/// Seconds to start a process and build a small model, assumed for the same.
const ASSUMED_START_S: f64 = 0.4;

/// A subject as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SubjectSpec {
    /// Its config.
    pub config: RunConfig,
    /// Weights to use instead of initial ones.
    pub checkpoint: Option<PathBuf>,
    /// Another build of the harness to measure with, for comparing revisions; default: this one.
    pub program: Option<PathBuf>,
}

impl From<RunConfig> for SubjectSpec {
    fn from(config: RunConfig) -> Self {
        Self { config, checkpoint: None, program: None }
    }
}

impl From<TrainConfig> for SubjectSpec {
    fn from(config: TrainConfig) -> Self {
        RunConfig::from(config).into()
    }
}

impl From<ImageTrainConfig> for SubjectSpec {
    fn from(config: ImageTrainConfig) -> Self {
        RunConfig::from(config).into()
    }
}

/// Subjects × probes, and the design.
#[derive(Debug)]
pub struct Plan {
    /// The subjects; the first is the reference.
    pub subjects: Vec<SubjectSpec>,
    /// What to measure.
    pub probes: Vec<&'static dyn Probe>,
    /// Sizes of the work.
    pub workload: Workload,
    /// Rounds of the sampled probes, as a range of pair numbers: a later range adds fresh pairs.
    pub pairs: std::ops::Range<u32>,
    /// Rounds of memory probes, at most.
    pub memory_rounds: u32,
    /// Whether the reference is also measured against itself.
    pub with_aa: bool,
    /// Batch of pairs: 0 is looked at, 1 must confirm a failure.
    pub trial: u32,
    /// The part of the plan that this process does.
    pub shard: Shard,
}

/// One worker of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it measures.
    pub probe: &'static dyn Probe,
    /// Index of its subject.
    pub subject: usize,
    /// Its place in the design.
    pub design: Design,
}

impl std::fmt::Debug for dyn Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Plan {
    /// A plan of one batch of pairs, without an A/A control.
    pub fn new(subjects: Vec<SubjectSpec>, probes: Vec<&'static dyn Probe>, workload: Workload, pairs: u32) -> Self {
        Self {
            subjects,
            probes,
            workload,
            pairs: 0..pairs,
            memory_rounds: MEMORY_ROUNDS,
            with_aa: false,
            trial: 0,
            shard: Shard::ALL,
        }
    }

    /// Every worker of this process's shard, in the order in which they run. A round of a probe is one entry of the plan: its pairs
    /// stay on one machine. What a probe refuses is one step outside the rounds, whose row says why.
    pub fn steps(&self) -> Vec<Step> {
        let mut entries: Vec<Vec<Step>> = Vec::new();
        for &probe in &self.probes {
            let is_single = |subject: &usize| probe.is_exact() || self.refuses(probe, *subject);
            let single = (0..self.subjects.len()).filter(is_single);
            entries.extend(single.map(|subject| vec![Step { probe, subject, design: Design::default() }]));
        }
        for round in self.pairs.clone() {
            for &probe in self.probes.iter().filter(|probe| !probe.is_exact()) {
                if probe.kind() != Kind::Memory || round - self.pairs.start < self.memory_rounds {
                    entries.extend(Some(self.round(probe, round)).filter(|steps| !steps.is_empty()));
                }
            }
        }
        self.shard.select(entries).into_iter().flatten().collect()
    }

    fn refuses(&self, probe: &dyn Probe, subject: usize) -> bool {
        probe.refuses(&self.subjects[subject].config).is_some()
    }

    fn round(&self, probe: &'static dyn Probe, round: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        // (subject, arm, is_aa); a plan of one subject has no comparison, so its samples have no arm.
        let mut arms: Vec<(usize, Arm, bool)> = (0..self.subjects.len())
            .map(|subject| {
                (
                    subject,
                    if self.subjects.len() == 1 {
                        Arm::None
                    } else if subject == 0 {
                        Arm::A
                    } else {
                        Arm::B
                    },
                    false,
                )
            })
            .collect();
        if self.with_aa {
            arms.extend([(0, Arm::A, true), (0, Arm::B, true)]);
        }
        if self.only_aa() {
            arms.retain(|(_, _, is_aa)| *is_aa);
        }
        arms.retain(|(subject, ..)| !self.refuses(probe, *subject));
        // AB BA | BA AB | …: within two blocks each order comes first as often as last.
        if matches!(round % 4, 1 | 2) {
            arms.reverse();
        }
        let workers = arms.len() as u32;
        for (order, (subject, arm, is_aa)) in arms.into_iter().enumerate() {
            let design = Design {
                trial: Some(self.trial),
                arm,
                block: Some(round / 2),
                pair: Some(round),
                order_in_pair: Some(order as u32),
                worker: Some(round * workers + order as u32),
                is_aa,
                ..Design::default()
            };
            steps.push(Step { probe, subject, design });
        }
        steps
    }

    /// One subject with a control: only the control is measured.
    fn only_aa(&self) -> bool {
        self.with_aa && self.subjects.len() == 1
    }

    /// The reference as rows name it; `None` for a plan without a comparison.
    pub fn reference(&self) -> Option<Reference> {
        let first = self.subjects.first().filter(|_| self.subjects.len() > 1)?;
        Some(Reference {
            subject: first.config.name().to_owned(),
            variant: first.config.variant(),
            params_total: first.config.num_params().total,
        })
    }

    /// The job of a step.
    pub fn job(&self, step: &Step, window: WindowSpec, threads: usize, provenance: Provenance) -> Job {
        let subject = &self.subjects[step.subject];
        Job {
            probe: step.probe.name().to_owned(),
            config: self.workload.apply(&subject.config),
            root: subject.config.root().to_owned(),
            workload: self.workload.clone(),
            checkpoint: subject.checkpoint.clone(),
            reference: self.reference(),
            window,
            threads,
            design: step.design.clone(),
            provenance: Provenance { config_sha256: subject.config.sha256(), ..provenance },
        }
    }

    /// Bytes a step's worker touches at least.
    pub fn needed_bytes(&self, step: &Step) -> u64 {
        let config = &self.subjects[step.subject].config;
        let params = config.num_params().total as u64;
        if let ("predicted_memory", RunConfig::Language(config)) = (step.probe.name(), config) {
            let ModelConfig::Decoder(model) = &config.model;
            let params = with_depth(model, depths(model)[1]).num_params().total as u64;
            return params * train_bytes_per_param(config.optimizer.kind);
        }
        match (step.probe.kind(), step.probe.work()) {
            // Counted on untouched zero pages.
            (Kind::Exact, _) => 0,
            (_, Work::Training) => params * train_bytes_per_param(config.optimizer().kind),
            (_, Work::Nothing) => self.workload.ballast_bytes,
            (_, Work::Prompt | Work::Request | Work::Picture | Work::Pictures | Work::Inference) => {
                self.workload.inference_dtype.dtype().size_in_bytes() as u64 * params
            }
        }
    }

    /// Seconds a step may take: its iterations at an assumed rate, and the minimum times of the protocol. An estimate for people.
    pub fn estimated_s(&self, step: &Step, window: &WindowSpec, threads: usize) -> f64 {
        let config = self.workload.apply(&self.subjects[step.subject].config);
        if step.probe.refuses(&config).is_some() {
            return 0.0;
        }
        let Workload { batch, prompt_length, output_length, .. } = self.workload;
        let flops = match (step.probe.work(), &config) {
            (Work::Nothing, _) => 0,
            (Work::Training, _) => config.step_cost().flops_train(),
            (work, RunConfig::Language(config)) => {
                let forward = |shape| config.model.cost(&shape).flops_forward();
                let tokens = if work == Work::Prompt { 0 } else { output_length as u64 };
                forward(InputShape::prefill(batch, prompt_length)) + forward(InputShape::decode(batch, prompt_length)) * tokens
            }
            (work, RunConfig::Images(config)) => {
                let one = config.model.cost(&config.step_shape()).flops_forward() / config.images_per_step();
                if work == Work::Picture { one } else { one * config.batch as u64 }
            }
        };
        let iteration_s = flops as f64 / (ASSUMED_FLOPS_PER_S * threads as f64);
        ASSUMED_START_S
            + match step.probe.kind() {
                Kind::Exact => 0.0,
                Kind::Memory => 4.0 * iteration_s,
                Kind::Timing => {
                    let warmup = (2 * window.warmup_min_iters) as f64 * iteration_s;
                    let timed = window.timed_min_iters as f64 * iteration_s;
                    warmup.max(window.warmup_min_s) + timed.max(window.timed_min_s)
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::probes;

    fn plan(subjects: usize, with_aa: bool) -> Plan {
        let config = crate::measure::subject::tests_config();
        let subjects =
            (0..subjects).map(|at| SubjectSpec::from(TrainConfig { name: format!("s{at}"), ..config.clone() })).collect();
        let probes = ["params", "prefill"].map(|name| probes::by_name(name).unwrap()).to_vec();
        Plan { with_aa, ..Plan::new(subjects, probes, Workload::default(), 4) }
    }

    fn letters(plan: &Plan) -> Vec<(u32, String)> {
        let mut rounds: Vec<(u32, String)> = Vec::new();
        for step in plan.steps().iter().filter(|step| !step.probe.is_exact()) {
            let letter = match (step.design.is_aa, step.design.arm) {
                (false, _) => ["A", "B", "C"][step.subject],
                (true, Arm::A) => "x",
                (true, _) => "y",
            };
            let pair = step.design.pair.unwrap();
            match rounds.last_mut() {
                Some((last, text)) if *last == pair => text.push_str(letter),
                _ => rounds.push((pair, letter.to_owned())),
            }
        }
        rounds
    }

    fn orders(plan: &Plan) -> Vec<String> {
        letters(plan).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn two_subjects_run_in_abba_and_baab_blocks() {
        let plan = plan(2, false);
        assert_eq!(orders(&plan), ["AB", "BA", "BA", "AB"]);
        let blocks: Vec<_> = plan.steps().iter().filter_map(|step| step.design.block).collect();
        assert_eq!(blocks, [0, 0, 0, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn more_subjects_interleave_and_the_control_joins_every_round() {
        assert_eq!(orders(&plan(3, true)), ["ABCxy", "yxCBA", "yxCBA", "ABCxy"]);
        assert_eq!(orders(&plan(1, true)), ["xy", "yx", "yx", "xy"]);
        assert_eq!(orders(&plan(1, false)), ["A", "A", "A", "A"]);
    }

    #[test]
    fn exact_probes_run_once_per_subject_and_first() {
        let steps = plan(3, false).steps();
        assert!(steps[..3].iter().all(|step| step.probe.name() == "params" && step.design == Design::default()));
        assert_eq!(steps.len(), 3 + 4 * 3);
    }

    #[test]
    fn shards_share_the_workers_and_split_no_round() {
        let whole = plan(2, true);
        let name = |step: &Step| (step.probe.name(), step.subject, step.design.clone());
        let mut joined: Vec<_> = Vec::new();
        for shard in ["1/3", "2/3", "3/3"] {
            let part = Plan { shard: shard.parse().unwrap(), ..plan(2, true) };
            assert!(orders(&part).iter().all(|round| round.len() == 4), "{shard}: {:?}", orders(&part));
            joined.extend(part.steps().iter().map(name));
        }
        assert_eq!(joined.len(), whole.steps().len());
        assert!(whole.steps().iter().all(|step| joined.contains(&name(step))));
    }

    #[test]
    fn a_prediction_needs_the_memory_of_the_depths_it_runs() {
        let config = crate::measure::subject::tests_config();
        let ModelConfig::Decoder(model) = &config.model;
        let two_layers = 16 * with_depth(model, 2).num_params().total as u64;
        let probes = vec![probes::by_name("predicted_memory").unwrap()];
        let plan = Plan::new(vec![config.into()], probes, Workload::default(), 1);
        assert_eq!(plan.needed_bytes(&plan.steps()[0]), two_layers);
    }

    #[test]
    fn a_later_range_of_pairs_adds_fresh_ones() {
        let later = Plan { pairs: 10..12, ..plan(2, false) };
        assert_eq!(letters(&later).iter().map(|(pair, _)| *pair).collect::<Vec<_>>(), [10, 11]);
        let workers: Vec<_> = later.steps().iter().filter_map(|step| step.design.worker).collect();
        assert_eq!(workers, [20, 21, 22, 23]);
    }

    #[test]
    fn rows_of_one_cell_share_its_id_and_arms_do_not_change_it() {
        let plan = plan(2, true);
        let id = |step: &Step| plan.job(step, WindowSpec::default(), 1, Provenance::default()).base_row().unwrap().cell_id;
        let steps = plan.steps();
        let sampled: Vec<&Step> = steps.iter().filter(|step| step.probe.name() == "prefill").collect();
        let of =
            |subject: usize| -> Vec<_> { sampled.iter().filter(|step| step.subject == subject).map(|step| id(step)).collect() };
        assert!(of(0).windows(2).all(|pair| pair[0] == pair[1]) && of(0)[0] != of(1)[0]);
    }
}
