//! Hypervolume: how much of the space up to a reference point a set of variants dominates.
//!
//! ```text
//! scaled advantage  uⱼ = (rⱼ − xⱼ)/|rⱼ| lower is better, (xⱼ − rⱼ)/|rⱼ| higher is better; 0 where x is worse than r
//! hypervolume       volume of the union of the boxes [0, u] over all points, dimensionless
//! contribution(x)   hypervolume with minus without x
//! ```
//! One and two objectives exactly, by sorting, O(n log n). More by Monte Carlo with a stated standard error; the same random points
//! serve the whole and all contributions, so they stay consistent. The reference point is an argument: fix it once and keep it.
//!
//! Source: Zitzler and Thiele 1998.

use serde::Serialize;

use crate::Better;
use crate::bootstrap::{BootstrapEstimate, BootstrapPlan};
use crate::error::{StatsError, check_finite, invalid};
use crate::pareto::{Draws, Objective, check_points};
use crate::rng::{stream, uniform};

/// Random points of a Monte-Carlo hypervolume, by default.
pub const DEFAULT_SAMPLES: usize = 100_000;

/// Default reference point: the worst value of each axis, 5 % of its magnitude further out (5 % of the axis' range where the
/// worst value is 0). Freeze it in the configuration: with a moving reference, volumes do not compare.
///
/// # Errors
/// When points are ragged or empty, a value is not finite, or an axis is 0 throughout.
pub fn default_reference_point(points: &[Vec<f64>], objectives: &[Objective]) -> Result<Vec<f64>, StatsError> {
    check_points(points, objectives)?;
    objectives
        .iter()
        .enumerate()
        .map(|(axis, objective)| {
            let values = || points.iter().map(|point| point[axis]);
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
            let worst = if objective.better == Better::Higher { low } else { high };
            let step = 0.05 * if worst == 0.0 { high - low } else { worst.abs() };
            if step == 0.0 {
                return Err(invalid("choose a reference point", format!("axis {axis}"), "a value other than 0", worst)
                    .with_hint("leave out an axis on which all variants are 0"));
            }
            Ok(if objective.better == Better::Higher { worst - step } else { worst + step })
        })
        .collect()
}

/// Hypervolume of a set and the part each point adds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hypervolume {
    /// `exact` or `monte carlo`.
    pub method: &'static str,
    /// Dominated volume in axes scaled to the reference point.
    pub volume: f64,
    /// Monte-Carlo standard error; 0 when exact.
    pub stderr: f64,
    /// Volume with minus without each point.
    pub contributions: Vec<f64>,
    /// Monte-Carlo standard error of each contribution; 0 when exact.
    pub contribution_stderrs: Vec<f64>,
    /// Number of points.
    pub n: usize,
    /// Random points used; 0 when exact.
    pub samples: usize,
}

/// Hypervolume of `points[variant][axis]` up to `reference`, exact to two objectives, else Monte Carlo with `samples` points.
///
/// # Errors
/// When points are ragged or empty, a value is not finite, a reference coordinate is 0, or `samples` is below 100 and needed.
pub fn hypervolume(
    points: &[Vec<f64>],
    objectives: &[Objective],
    reference: &[f64],
    samples: usize,
    seed: u64,
) -> Result<Hypervolume, StatsError> {
    let scaled = scale(points, objectives, reference)?;
    if objectives.len() <= 2 {
        return Ok(exact(&scaled));
    }
    if samples < 100 {
        return Err(invalid("compute hypervolume", "samples", "at least 100 for three or more objectives", samples));
    }
    Ok(monte_carlo(&scaled, samples, seed))
}

/// Percentile interval of the hypervolume over bootstrap draws; in three or more objectives Monte-Carlo noise is included.
///
/// # Errors
/// As [`hypervolume`].
pub fn hypervolume_interval(
    draws: &Draws,
    objectives: &[Objective],
    reference: &[f64],
    samples: usize,
    plan: &BootstrapPlan,
) -> Result<BootstrapEstimate, StatsError> {
    let volume =
        |points: &[Vec<f64>]| hypervolume(points, objectives, reference, samples, draws.seed).map(|result| result.volume);
    let observed = volume(&draws.observed)?;
    let replicates = draws.draws.iter().map(|points| volume(points)).collect::<Result<Vec<f64>, _>>()?;
    let plan = BootstrapPlan { seed: draws.seed, ..*plan };
    plan.summarise("percentile bootstrap of the hypervolume", observed, draws.observed.len(), &replicates)
}

/// Advantages over the reference point, scaled; worse than the reference is 0.
fn scale(points: &[Vec<f64>], objectives: &[Objective], reference: &[f64]) -> Result<Vec<Vec<f64>>, StatsError> {
    const ATTEMPT: &str = "compute hypervolume";
    check_points(points, objectives)?;
    if reference.len() != objectives.len() {
        let expected = format!("{} values, one per objective", objectives.len());
        return Err(invalid(ATTEMPT, "reference", expected, reference.len()));
    }
    check_finite(ATTEMPT, "reference", reference)?;
    if let Some(at) = reference.iter().position(|r| *r == 0.0) {
        return Err(invalid(ATTEMPT, format!("reference[{at}]"), "a value other than 0, which scales the axis", 0));
    }
    let advantage = |((x, r), objective): ((&f64, &f64), &Objective)| {
        let difference = if objective.better == Better::Higher { x - r } else { r - x };
        (difference / r.abs()).max(0.0)
    };
    Ok(points.iter().map(|point| point.iter().zip(reference).zip(objectives).map(advantage).collect()).collect())
}

fn exact(scaled: &[Vec<f64>]) -> Hypervolume {
    let volume = area(scaled, None);
    let contributions = (0..scaled.len()).map(|without| (volume - area(scaled, Some(without))).max(0.0)).collect();
    Hypervolume {
        method: "exact",
        volume,
        stderr: 0.0,
        contributions,
        contribution_stderrs: vec![0.0; scaled.len()],
        n: scaled.len(),
        samples: 0,
    }
}

/// Length (one axis) or staircase area (two axes) of the union of boxes, leaving out point `without`.
fn area(scaled: &[Vec<f64>], without: Option<usize>) -> f64 {
    let mut corners: Vec<(f64, f64)> = scaled
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != without)
        .map(|(_, u)| (u[0], u.get(1).copied().unwrap_or(1.0)))
        .collect();
    corners.sort_by(|a, b| b.0.total_cmp(&a.0)); // from the widest box inwards, each adds the height above those before
    let (mut total, mut height) = (0.0, 0.0);
    for (width, tall) in corners {
        if tall > height {
            total += width * (tall - height);
            height = tall;
        }
    }
    total
}

fn monte_carlo(scaled: &[Vec<f64>], samples: usize, seed: u64) -> Hypervolume {
    let n = scaled.len();
    let axes = scaled[0].len();
    let ideal: Vec<f64> = (0..axes).map(|axis| scaled.iter().map(|u| u[axis]).fold(0.0, f64::max)).collect();
    let bounding: f64 = ideal.iter().product();
    let mut rng = stream("stats/hypervolume", seed, 0);
    let (mut covered, mut alone) = (0usize, vec![0usize; n]);
    let mut probe = vec![0.0; axes];
    for _ in 0..samples {
        for (coordinate, top) in probe.iter_mut().zip(&ideal) {
            *coordinate = top * uniform(&mut rng);
        }
        let mut owners = (0..n).filter(|&at| scaled[at].iter().zip(&probe).all(|(u, p)| p < u));
        if let Some(first) = owners.next() {
            covered += 1;
            if owners.next().is_none() {
                alone[first] += 1;
            }
        }
    }
    let share = |hits: usize| hits as f64 / samples as f64;
    let volume = |hits: usize| bounding * share(hits);
    let stderr = |hits: usize| bounding * (share(hits) * (1.0 - share(hits)) / samples as f64).sqrt();
    Hypervolume {
        method: "monte carlo",
        volume: volume(covered),
        stderr: stderr(covered),
        contributions: alone.iter().map(|&hits| volume(hits)).collect(),
        contribution_stderrs: alone.iter().map(|&hits| stderr(hits)).collect(),
        n,
        samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pareto::{AxisSamples, Centre, Units, draw_points};

    fn lower(n: usize) -> Vec<Objective> {
        vec![Objective::exact(Better::Lower); n]
    }

    #[test]
    fn staircase_by_hand() {
        // reference (10, 10), advantages (0.9, 0.2), (0.5, 0.5), (0.2, 0.9): 0.9·0.2 + 0.5·0.3 + 0.2·0.4 = 0.41
        let points = vec![vec![1.0, 8.0], vec![5.0, 5.0], vec![8.0, 1.0]];
        let result = hypervolume(&points, &lower(2), &[10.0, 10.0], 0, 0).unwrap();
        assert!((result.volume - 0.41).abs() < 1e-12);
        // without the middle: 0.9·0.2 + 0.2·0.7 = 0.32; ends: 0.5·0.5 + 0.2·0.4 = 0.33 each way
        for (found, expected) in result.contributions.iter().zip([0.08, 0.09, 0.08]) {
            assert!((found - expected).abs() < 1e-12, "{:?}", result.contributions);
        }
        assert_eq!((result.method, result.stderr, result.samples), ("exact", 0.0, 0));
    }

    #[test]
    fn dominated_duplicate_and_outside_points_add_nothing() {
        let points = vec![vec![5.0, 5.0], vec![6.0, 6.0], vec![5.0, 5.0], vec![1.0, 11.0]];
        let result = hypervolume(&points, &lower(2), &[10.0, 10.0], 0, 0).unwrap();
        assert_eq!((result.volume, result.contributions), (0.25, vec![0.0; 4]));
    }

    #[test]
    fn directions_and_one_axis() {
        // higher is better: (80 − 50)/50; alone it owns the difference to the second, (80 − 60)/50
        let higher = [Objective::exact(Better::Higher)];
        let result = hypervolume(&[vec![80.0], vec![60.0]], &higher, &[50.0], 0, 0).unwrap();
        assert!((result.volume - 0.6).abs() < 1e-12 && (result.contributions[0] - 0.4).abs() < 1e-12);
    }

    #[test]
    fn three_axes_agree_with_the_box_formula() {
        // two boxes (0.8, 0.5, 0.5) and (0.5, 0.5, 0.8): 0.2 + 0.2 − 0.5³ = 0.275; each alone 0.2 − 0.125 = 0.075
        let points = vec![vec![2.0, 5.0, 5.0], vec![5.0, 5.0, 2.0]];
        let result = hypervolume(&points, &lower(3), &[10.0; 3], DEFAULT_SAMPLES, 3).unwrap();
        assert!((result.volume - 0.275).abs() < 4.0 * result.stderr, "{result:?}");
        assert!(result.stderr < 0.001 && result.stderr > 0.0);
        for (found, stderr) in result.contributions.iter().zip(&result.contribution_stderrs) {
            assert!((found - 0.075).abs() < 4.0 * stderr);
        }
        // one point is its own bounding box
        assert!((hypervolume(&points[..1], &lower(3), &[10.0; 3], 100, 0).unwrap().volume - 0.2).abs() < 1e-12);
    }

    #[test]
    fn monte_carlo_matches_exact_in_two_axes() {
        let scaled = scale(&[vec![1.0, 8.0], vec![5.0, 5.0], vec![8.0, 1.0]], &lower(2), &[10.0, 10.0]).unwrap();
        let (sure, sampled) = (exact(&scaled), monte_carlo(&scaled, 50_000, 5));
        assert!((sure.volume - sampled.volume).abs() < 4.0 * sampled.stderr);
    }

    #[test]
    fn reference_is_five_percent_beyond_the_worst() {
        let objectives = [Objective::exact(Better::Higher), Objective::exact(Better::Lower)];
        let reference = default_reference_point(&[vec![60.0, 2.0], vec![80.0, 4.0]], &objectives).unwrap();
        assert!((reference[0] - 57.0).abs() < 1e-12 && (reference[1] - 4.2).abs() < 1e-12);
        // worst value 0: 5 % of the range
        let zero = default_reference_point(&[vec![0.0, 1.0], vec![10.0, 1.0]], &objectives).unwrap();
        assert_eq!(zero[0], -0.5);
        assert!(default_reference_point(&[vec![1.0, 0.0], vec![2.0, 0.0]], &objectives).is_err());
    }

    #[test]
    fn interval_spans_the_draws() {
        // cost fixed at half the reference, quality (1, 2, 3) against 0.5 -> volume ½·(q̄ − ½)/½
        let quality = AxisSamples { samples: vec![vec![1.0, 2.0, 3.0]], centre: Centre::Mean, units: Units::Paired { group: 0 } };
        let cost = AxisSamples { samples: vec![vec![1.0]], centre: Centre::Median, units: Units::Independent };
        let draws = draw_points(&[quality, cost], 2000, 0).unwrap();
        let objectives = [Objective::exact(Better::Higher), Objective::exact(Better::Lower)];
        let result = hypervolume_interval(&draws, &objectives, &[0.5, 2.0], 0, &BootstrapPlan::default()).unwrap();
        // mean 1 and mean 3 have 1/27 = 3.7 % of the resamples each, so they are the 2.5 % and 97.5 % points
        assert_eq!((result.interval.low, result.interval.estimate, result.interval.high), (0.5, 1.5, 2.5));
        assert_eq!(result.resamples, 2000);
    }

    #[test]
    fn bad_input_is_refused() {
        let point = vec![vec![1.0, 1.0]];
        assert!(hypervolume(&point, &lower(2), &[1.0], 0, 0).is_err());
        assert!(hypervolume(&point, &lower(2), &[0.0, 1.0], 0, 0).is_err());
        assert!(hypervolume(&point, &lower(2), &[f64::NAN, 1.0], 0, 0).is_err());
        assert!(hypervolume(&[vec![f64::NAN, 1.0]], &lower(2), &[1.0, 1.0], 0, 0).is_err());
        assert!(hypervolume(&[vec![1.0; 3]], &lower(3), &[2.0; 3], 10, 0).is_err());
    }
}
