//! Fronts of quality against each cost: who is on it, with which probability, and how much of the space each adds.
//!
//! ```text
//! p_front          share of 2000 bootstrap draws in which a subject is not dominated        ties within the A/A floor count as equal
//! contribution     hypervolume with minus without the subject, to the worst value of each axis and 5 % further
//! dominated by     the subject that dominates it in most draws
//! ```
//! One front per cost and family; figures and the frontier table read the same numbers.
//!
//! Source: measurement.md section 12; `stats::pareto`, `stats::hypervolume`.

use std::collections::BTreeSet;

use stats::bootstrap::BootstrapPlan;
use stats::hypervolume::{default_reference_point, hypervolume};
use stats::pareto::{Draws, Objective, Tie, front_probability};

use crate::conditions::one_condition;
use crate::draws::{QUALITIES, direction, draws};
use crate::error::ReportError;
use crate::provenance::noise_floors;
use crate::study::Study;
use crate::subject::{Estimate, Found, Query, Subject, estimate, subjects, titles};

/// Cost metric, words, logarithmic.
const COSTS: [(&str, &str, bool); 10] = [
    ("params_added", "added parameters", true),
    ("flops_forward", "forward FLOPs", false),
    ("train_step_s", "training step time", false),
    ("prefill_s", "prefill time", false),
    ("ttft_s", "time to first token", false),
    ("tpot_s", "time per output token", false),
    ("image_latency_s", "image latency", false),
    ("peak_alloc_bytes", "peak allocated memory", false),
    ("peak_rss_bytes", "peak resident memory", false),
    ("energy_step_j", "energy per step", false),
];

/// A value with its 95 % bootstrap interval.
pub(crate) type Ranged = (f64, (f64, f64));

/// A subject with both coordinates.
pub(crate) struct Candidate {
    pub(crate) subject: Subject,
    pub(crate) title: String,
    pub(crate) cost: Estimate,
    pub(crate) quality: Estimate,
    pub(crate) is_on_front: bool,
    /// Missing with fewer than two common seeds.
    pub(crate) p_front: Option<f64>,
    /// Hypervolume it adds.
    pub(crate) contribution: Option<Ranged>,
    /// Title of the subject that dominates it most often, and in which share of the draws.
    pub(crate) dominated_by: Option<(String, f64)>,
}

/// Quality against one cost within a family.
pub(crate) struct Front {
    pub(crate) name: String,
    pub(crate) cost: &'static str,
    pub(crate) words: &'static str,
    pub(crate) is_log: bool,
    pub(crate) quality: &'static str,
    pub(crate) candidates: Vec<Candidate>,
    /// Hypervolume of all.
    pub(crate) volume: Option<Ranged>,
}

/// Every front with at least two subjects.
///
/// # Errors
/// When an estimator refuses the values.
pub(crate) fn fronts(study: &Study) -> Result<Vec<Front>, ReportError> {
    let study = &one_condition(study).study;
    let mut found = Vec::new();
    let mut done: BTreeSet<String> = BTreeSet::new();
    for quality in QUALITIES {
        // A subject has one quality: the first of the list that it has.
        let all: Vec<Subject> = subjects(study, |group| group.shared.metric == quality && group.is_ok())
            .into_iter()
            .filter(|subject| !done.contains(subject.family()))
            .collect();
        let families: BTreeSet<String> = all.iter().map(|subject| subject.family().to_owned()).collect();
        for (cost, words, is_log) in COSTS {
            for family in &families {
                let members: Vec<Subject> = all.iter().filter(|subject| subject.family() == family).cloned().collect();
                let mut candidates = candidates(study, &members, cost, quality)?;
                if candidates.len() < 2 {
                    continue;
                }
                let volume = judge(study, &mut candidates, cost, quality)?;
                let name = if family.is_empty() { cost.to_owned() } else { format!("{cost}_{family}") };
                found.push(Front { name, cost, words, is_log, quality, candidates, volume });
            }
        }
        done.extend(families);
    }
    // One family needs no name in the file names.
    if done.len() == 1 {
        for front in &mut found {
            front.name = front.cost.to_owned();
        }
    }
    Ok(found)
}

fn candidates(study: &Study, members: &[Subject], cost: &str, quality: &str) -> Result<Vec<Candidate>, ReportError> {
    let mut found = Vec::new();
    for (subject, title) in members.iter().zip(titles(members)) {
        let of = |metric| estimate(study, subject, Query { metric, ..Query::default() });
        if let (Found::Number(cost), Found::Number(quality)) = (of(cost)?, of(quality)?) {
            found.push(Candidate {
                subject: subject.clone(),
                title,
                cost,
                quality,
                is_on_front: false,
                p_front: None,
                contribution: None,
                dominated_by: None,
            });
        }
    }
    Ok(found)
}

/// Front of the estimates, and probabilities where at least two common seeds allow draws; returns the hypervolume.
fn judge(study: &Study, found: &mut [Candidate], cost: &str, quality: &str) -> Result<Option<Ranged>, ReportError> {
    let what = || format!("Pareto front of {quality} against {cost}");
    let floor = noise_floors(study).get(cost).copied().unwrap_or(0.0);
    let objectives =
        [Objective { better: direction(study, cost), tie: Tie::Relative(floor) }, Objective::exact(direction(study, quality))];
    let points: Vec<Vec<f64>> = found.iter().map(|c| vec![c.cost.value, c.quality.value]).collect();
    let front = stats::pareto::front(&points, &objectives).map_err(ReportError::stats(what()))?;
    for (candidate, is_on_front) in found.iter_mut().zip(front) {
        candidate.is_on_front = is_on_front;
    }
    let members: Vec<Subject> = found.iter().map(|candidate| candidate.subject.clone()).collect();
    let Some(drawn) = draws(study, &members, cost, quality)? else { return Ok(None) };
    let result = front_probability(&drawn, &objectives).map_err(ReportError::stats(what()))?;
    let names: Vec<String> = found.iter().map(|candidate| candidate.title.clone()).collect();
    for (at, candidate) in found.iter_mut().enumerate() {
        candidate.p_front = Some(result.p_front[at]);
        let rival = (0..names.len())
            .filter(|rival| result.p_dominates[*rival][at] > 0.0)
            .max_by(|a, b| result.p_dominates[*a][at].total_cmp(&result.p_dominates[*b][at]).then(b.cmp(a)));
        candidate.dominated_by = rival.map(|rival| (names[rival].clone(), result.p_dominates[rival][at]));
    }
    let Some((volume, contributions)) = volumes(&drawn, &objectives).map_err(ReportError::stats(what()))? else {
        return Ok(None);
    };
    for (candidate, contribution) in found.iter_mut().zip(contributions) {
        candidate.contribution = Some(contribution);
    }
    Ok(Some(volume))
}

/// Hypervolume and contributions with their intervals over the draws; `None` where an axis is 0 for all.
fn volumes(drawn: &Draws, objectives: &[Objective]) -> Result<Option<(Ranged, Vec<Ranged>)>, stats::StatsError> {
    let Ok(reference) = default_reference_point(&drawn.observed, objectives) else { return Ok(None) };
    let observed = hypervolume(&drawn.observed, objectives, &reference, 0, 0)?;
    let mut total = Vec::with_capacity(drawn.draws.len());
    let mut parts = vec![Vec::with_capacity(drawn.draws.len()); drawn.observed.len()];
    for points in &drawn.draws {
        let found = hypervolume(points, objectives, &reference, 0, 0)?;
        total.push(found.volume);
        parts.iter_mut().zip(found.contributions).for_each(|(part, contribution)| part.push(contribution));
    }
    let plan = BootstrapPlan { seed: drawn.seed, ..BootstrapPlan::default() };
    let ranged = |estimate: f64, replicates: &[f64]| -> Result<Ranged, stats::StatsError> {
        let found = plan.summarise("percentile bootstrap", estimate, drawn.observed.len(), replicates)?.interval;
        Ok((estimate, (found.low, found.high)))
    };
    let mut contributions = Vec::new();
    for (estimate, part) in observed.contributions.iter().zip(&parts) {
        contributions.push(ranged(*estimate, part)?);
    }
    Ok(Some((ranged(observed.volume, &total)?, contributions)))
}
