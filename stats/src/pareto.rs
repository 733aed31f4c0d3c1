//! Pareto fronts with ties and with uncertainty.
//!
//! ```text
//! x dominates y   no worse on any axis, better on at least one; differences within ε of an axis are ties
//! p_front(x)      share of bootstrap draws in which x is on the front
//! p_dominates     share of draws in which x dominates y, as a matrix
//! ```
//! ε is the noise floor of the axis, so a 0.2 % "win" pushes nobody off. Ties are not transitive: from three objectives on, variants
//! can dominate each other in a circle. Then a variant is off the front only if something dominates it that it does not lead
//! back to, which keeps the front non-empty.
//!
//! Draws resample what was measured: seeds (paired across variants) for quality, workers or pairs for cost. Hypervolumes and
//! equal-budget gains take the same draws: [`crate::hypervolume`], [`crate::budget_curve`].
//!
//! Sources: Laumanns et al. 2002 (ε-dominance); Efron 1979.

use serde::Serialize;

use crate::Better;
use crate::describe::{mean_of, median_of_sorted};
use crate::error::{StatsError, check_finite, check_sample, invalid};
use crate::resample::MedianResampler;
use crate::rng::{Stream, index, stream};

/// When two values of an axis count as equal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tie {
    /// Difference at most this, in the unit of the axis. 0 means exact equality.
    Absolute(f64),
    /// Larger over smaller, minus 1, at most this: the scale of a noise floor.
    Relative(f64),
}

/// One axis of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Objective {
    /// Direction.
    pub better: Better,
    /// Tolerance within which values tie.
    pub tie: Tie,
}

impl Objective {
    /// Axis without tolerance.
    pub fn exact(better: Better) -> Self {
        Self { better, tie: Tie::Absolute(0.0) }
    }

    /// `Greater` when `x` is better than `y` beyond the tolerance, `Less` when worse, `Equal` for a tie.
    fn compare(&self, x: f64, y: f64) -> std::cmp::Ordering {
        let slack = match self.tie {
            Tie::Absolute(epsilon) => epsilon,
            Tie::Relative(epsilon) => epsilon * x.abs().min(y.abs()),
        };
        let advantage = match self.better {
            Better::Higher => x - y,
            Better::Lower => y - x,
        };
        if advantage.abs() <= slack { std::cmp::Ordering::Equal } else { advantage.total_cmp(&0.0) }
    }
}

/// Whether point `x` dominates point `y`.
///
/// # Errors
/// When the points and `objectives` differ in length, a value is not finite, or a tolerance is negative.
pub fn dominates(x: &[f64], y: &[f64], objectives: &[Objective]) -> Result<bool, StatsError> {
    check_points(&[x.to_vec(), y.to_vec()], objectives)?;
    Ok(dominates_unchecked(x, y, objectives))
}

fn dominates_unchecked(x: &[f64], y: &[f64], objectives: &[Objective]) -> bool {
    let mut is_better_somewhere = false;
    for ((x, y), objective) in x.iter().zip(y).zip(objectives) {
        match objective.compare(*x, *y) {
            std::cmp::Ordering::Less => return false,
            std::cmp::Ordering::Greater => is_better_somewhere = true,
            std::cmp::Ordering::Equal => {}
        }
    }
    is_better_somewhere
}

/// Whether each point (`points[variant][axis]`) is on the front. Equal points stay or go together.
///
/// # Errors
/// As [`dominates`], and when there is no point or no axis.
pub fn front(points: &[Vec<f64>], objectives: &[Objective]) -> Result<Vec<bool>, StatsError> {
    check_points(points, objectives)?;
    Ok(front_of(&domination(points, objectives)))
}

/// `matrix[x][y]`: x dominates y.
fn domination(points: &[Vec<f64>], objectives: &[Objective]) -> Vec<Vec<bool>> {
    points.iter().map(|x| points.iter().map(|y| dominates_unchecked(x, y, objectives)).collect()).collect()
}

/// On the front: everything that dominates y is led back to by y. Without circles this is "nothing dominates y".
fn front_of(domination: &[Vec<bool>]) -> Vec<bool> {
    let n = domination.len();
    let reach = closure(domination);
    (0..n).map(|y| (0..n).all(|x| !domination[x][y] || reach[y][x])).collect()
}

/// Transitive closure (Warshall).
fn closure(domination: &[Vec<bool>]) -> Vec<Vec<bool>> {
    let mut reach = domination.to_vec();
    for via in 0..reach.len() {
        let onward = reach[via].clone();
        for row in reach.iter_mut().filter(|row| row[via]) {
            for (to, is_reached) in row.iter_mut().zip(&onward) {
                *to |= is_reached;
            }
        }
    }
    reach
}

/// How the samples of an axis become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// Mean: quality over seeds.
    Mean,
    /// Median: cost over workers.
    Median,
}

/// What is drawn with replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Units {
    /// Sample i of every variant belongs together (same seed, same block): one draw for all variants, and for all axes with
    /// the same group number.
    Paired {
        /// Axes of one group share their draw.
        group: u32,
    },
    /// Each variant is drawn on its own (workers of separate runs). A single exact value per variant stays as it is.
    Independent,
}

/// Samples of one axis: `samples[variant][unit]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisSamples {
    /// Samples of each variant.
    pub samples: Vec<Vec<f64>>,
    /// How they become one value.
    pub centre: Centre,
    /// How they are drawn.
    pub units: Units,
}

/// Observed points and bootstrap draws of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Draws {
    /// `observed[variant][axis]`.
    pub observed: Vec<Vec<f64>>,
    /// `draws[draw][variant][axis]`.
    pub draws: Vec<Vec<Vec<f64>>>,
    /// Seed of the resampling streams.
    pub seed: u64,
}

/// Default number of draws of a front.
pub const DEFAULT_DRAWS: usize = 2000;

/// Draws the points of all variants `count` times.
///
/// # Errors
/// When axes differ in their number of variants, a variant has no sample, a value is not finite, paired samples differ in number,
/// or `count` is below 100.
pub fn draw_points(axes: &[AxisSamples], count: usize, seed: u64) -> Result<Draws, StatsError> {
    const ATTEMPT: &str = "draw Pareto points";
    let Some(first) = axes.first() else {
        return Err(invalid(ATTEMPT, "axes", "at least 1 axis", 0));
    };
    if count < 100 {
        return Err(invalid(ATTEMPT, "count", "at least 100 draws", count));
    }
    let variants = first.samples.len();
    let mut groups: Vec<(u32, usize)> = Vec::new(); // group, number of units
    for (a, axis) in axes.iter().enumerate() {
        if axis.samples.len() != variants || variants == 0 {
            let expected = format!("{variants} variants, as on the first axis, and at least 1");
            return Err(invalid(ATTEMPT, format!("axes[{a}].samples"), expected, axis.samples.len()));
        }
        for (v, samples) in axis.samples.iter().enumerate() {
            check_sample(ATTEMPT, &format!("axes[{a}].samples[{v}]"), samples, 1)?;
            if let Units::Paired { group } = axis.units {
                let known = groups.iter().find(|(g, _)| *g == group).map(|(_, size)| *size);
                let size = known.unwrap_or(samples.len());
                if known.is_none() {
                    groups.push((group, size));
                }
                if samples.len() != size {
                    let expected = format!("{size} samples, as elsewhere in group {group}");
                    return Err(invalid(ATTEMPT, format!("axes[{a}].samples[{v}]"), expected, samples.len())
                        .with_hint("pair by seed first, leaving out seeds that a variant lacks"));
                }
            }
        }
    }
    let mut medians: Vec<Vec<MedianResampler>> =
        axes.iter().map(|axis| axis.samples.iter().map(|samples| MedianResampler::new(samples)).collect()).collect();
    let observed = (0..variants)
        .map(|v| {
            let centre = |(axis, medians): (&AxisSamples, &Vec<MedianResampler>)| match axis.centre {
                Centre::Mean => mean_of(&axis.samples[v]),
                Centre::Median => medians[v].median(),
            };
            axes.iter().zip(&medians).map(centre).collect()
        })
        .collect();
    let draws = (0..count)
        .map(|draw| {
            let mut rng = stream("stats/pareto", seed, draw as u64);
            let shared: Vec<(u32, Vec<usize>)> =
                groups.iter().map(|&(group, size)| (group, (0..size).map(|_| index(&mut rng, size)).collect())).collect();
            (0..variants)
                .map(|v| {
                    axes.iter()
                        .zip(&mut medians)
                        .map(|(axis, medians)| draw_centre(axis, v, medians, &shared, &mut rng))
                        .collect()
                })
                .collect()
        })
        .collect();
    Ok(Draws { observed, draws, seed })
}

/// Centre of a variant's resample on one axis; `shared` holds the units drawn for each paired group.
fn draw_centre(
    axis: &AxisSamples,
    variant: usize,
    medians: &mut [MedianResampler],
    shared: &[(u32, Vec<usize>)],
    rng: &mut Stream,
) -> f64 {
    let samples = &axis.samples[variant];
    let mut drawn: Vec<f64> = match (axis.units, axis.centre) {
        (Units::Independent, Centre::Median) => return medians[variant].draw(rng),
        (Units::Independent, Centre::Mean) => (0..samples.len()).map(|_| samples[index(rng, samples.len())]).collect(),
        (Units::Paired { group }, _) => {
            let units = shared.iter().find(|(g, _)| *g == group).map_or(&[][..], |(_, units)| units);
            units.iter().map(|unit| samples[*unit]).collect()
        }
    };
    match axis.centre {
        Centre::Mean => mean_of(&drawn),
        Centre::Median => {
            drawn.sort_unstable_by(f64::total_cmp);
            median_of_sorted(&drawn)
        }
    }
}

/// Front with its uncertainty.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FrontProbability {
    /// `bootstrap front`.
    pub method: &'static str,
    /// Whether each variant is on the front of the observed points.
    pub on_front: Vec<bool>,
    /// Share of draws in which each variant is on the front.
    pub p_front: Vec<f64>,
    /// `p_dominates[x][y]`: share of draws in which x dominates y.
    pub p_dominates: Vec<Vec<f64>>,
    /// Number of draws.
    pub n: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// Front probabilities from draws.
///
/// # Errors
/// As [`front`].
pub fn front_probability(draws: &Draws, objectives: &[Objective]) -> Result<FrontProbability, StatsError> {
    let on_front = front(&draws.observed, objectives)?;
    let (variants, n) = (on_front.len(), draws.draws.len());
    let mut p_front = vec![0.0; variants];
    let mut p_dominates = vec![vec![0.0; variants]; variants];
    let weight = 1.0 / n as f64;
    for points in &draws.draws {
        check_points(points, objectives)?;
        let matrix = domination(points, objectives);
        for (share, is_on) in p_front.iter_mut().zip(front_of(&matrix)) {
            *share += if is_on { weight } else { 0.0 };
        }
        for (shares, row) in p_dominates.iter_mut().zip(&matrix) {
            for (share, is_over) in shares.iter_mut().zip(row) {
                *share += if *is_over { weight } else { 0.0 };
            }
        }
    }
    Ok(FrontProbability { method: "bootstrap front", on_front, p_front, p_dominates, n, seed: draws.seed })
}

/// Refuses ragged or empty points, non-finite values and negative tolerances.
pub(crate) fn check_points(points: &[Vec<f64>], objectives: &[Objective]) -> Result<(), StatsError> {
    const ATTEMPT: &str = "compare points";
    if points.is_empty() || objectives.is_empty() {
        let found = format!("{} points, {} objectives", points.len(), objectives.len());
        return Err(invalid(ATTEMPT, "points", "at least 1 point and 1 objective", found));
    }
    for (at, objective) in objectives.iter().enumerate() {
        let (Tie::Absolute(epsilon) | Tie::Relative(epsilon)) = objective.tie;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(invalid(ATTEMPT, format!("objectives[{at}].tie"), "a finite number >= 0", epsilon));
        }
    }
    for (at, point) in points.iter().enumerate() {
        if point.len() != objectives.len() {
            let expected = format!("{} values, one per objective", objectives.len());
            return Err(invalid(ATTEMPT, format!("points[{at}]"), expected, point.len()));
        }
        check_finite(ATTEMPT, &format!("points[{at}]"), point)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUALITY_COST: [Objective; 2] = [
        Objective { better: Better::Higher, tie: Tie::Absolute(0.0) },
        Objective { better: Better::Lower, tie: Tie::Absolute(0.0) },
    ];

    fn points(values: &[[f64; 2]]) -> Vec<Vec<f64>> {
        values.iter().map(|p| p.to_vec()).collect()
    }

    #[test]
    fn front_by_hand() {
        // quality up, cost down: C is worse than B on both; D equals B; E costs the same as A with less quality
        let set = points(&[[70.0, 1.0], [75.0, 2.0], [74.0, 3.0], [75.0, 2.0], [69.0, 1.0]]);
        assert_eq!(front(&set, &QUALITY_COST).unwrap(), [true, true, false, true, false]);
        assert!(dominates(&set[1], &set[2], &QUALITY_COST).unwrap());
        assert!(!dominates(&set[1], &set[3], &QUALITY_COST).unwrap());
        assert_eq!(front(&set[..1], &QUALITY_COST).unwrap(), [true]);
    }

    #[test]
    fn small_wins_push_nobody_off() {
        let loose = [QUALITY_COST[0], Objective { better: Better::Lower, tie: Tie::Relative(0.01) }];
        // equal quality, 0.2 % cheaper: a tie
        assert_eq!(front(&points(&[[75.0, 1.000], [75.0, 1.002]]), &loose).unwrap(), [true, true]);
        assert_eq!(front(&points(&[[75.0, 1.000], [75.0, 1.002]]), &QUALITY_COST).unwrap(), [true, false]);
        // 2 % cheaper: beyond the floor
        assert_eq!(front(&points(&[[75.0, 1.00], [75.0, 1.02]]), &loose).unwrap(), [true, false]);
        // tie on cost, better quality: dominated although a hair cheaper
        assert_eq!(front(&points(&[[76.0, 1.002], [75.0, 1.000]]), &loose).unwrap(), [true, false]);
        // at zero, only zero ties relatively
        assert_eq!(front(&points(&[[75.0, 0.0], [75.0, 1e-9]]), &loose).unwrap(), [true, false]);
    }

    #[test]
    fn circles_of_ties_leave_a_front() {
        // with ε = 1 each of the first three beats the next by 2 on one axis and ties on the others; the fourth loses to all
        let axis = Objective { better: Better::Higher, tie: Tie::Absolute(1.0) };
        let set = vec![vec![2.0, 1.0, 0.0], vec![0.0, 2.0, 1.0], vec![1.0, 0.0, 2.0], vec![-5.0, -5.0, -5.0]];
        assert!(dominates(&set[0], &set[1], &[axis; 3]).unwrap());
        assert!(dominates(&set[1], &set[2], &[axis; 3]).unwrap());
        assert!(dominates(&set[2], &set[0], &[axis; 3]).unwrap());
        assert_eq!(front(&set, &[axis; 3]).unwrap(), [true, true, true, false]);
    }

    #[test]
    fn paired_seeds_cancel_what_they_share() {
        // B is better than A on every seed by 0.1, while seeds differ by 10: paired draws never see A ahead
        let a = vec![0.0, 10.0, 20.0, 30.0, 40.0];
        let b: Vec<f64> = a.iter().map(|q| q + 0.1).collect();
        let cost = AxisSamples { samples: vec![vec![1.0], vec![1.0]], centre: Centre::Median, units: Units::Independent };
        let quality = |units| AxisSamples { samples: vec![a.clone(), b.clone()], centre: Centre::Mean, units };
        let paired = draw_points(&[quality(Units::Paired { group: 0 }), cost.clone()], 500, 7).unwrap();
        let certain = front_probability(&paired, &QUALITY_COST).unwrap();
        assert!((certain.p_front[1] - 1.0).abs() < 1e-9 && certain.p_front[0] == 0.0);
        assert!((certain.p_dominates[1][0] - 1.0).abs() < 1e-9 && certain.p_dominates[0][1] == 0.0);
        assert_eq!(certain.on_front, [false, true]);
        let independent = draw_points(&[quality(Units::Independent), cost], 500, 7).unwrap();
        let unsure = front_probability(&independent, &QUALITY_COST).unwrap();
        assert!(unsure.p_front[0] > 0.3, "{:?}", unsure.p_front);
    }

    #[test]
    fn axes_of_one_group_share_their_draw() {
        let axis =
            |group| AxisSamples { samples: vec![vec![1.0, 2.0, 3.0, 4.0]], centre: Centre::Mean, units: Units::Paired { group } };
        let draws = draw_points(&[axis(0), axis(0), axis(1)], 200, 0).unwrap();
        assert!(draws.draws.iter().all(|point| point[0][0] == point[0][1]));
        assert!(draws.draws.iter().any(|point| point[0][0] != point[0][2]));
        assert_eq!(draws.observed, [[2.5, 2.5, 2.5]]);
    }

    #[test]
    fn front_probability_matches_the_enumerated_share() {
        // one seed axis, two variants, d = 3, −1, −1 by seed: the mean of a paired draw is above 0 unless all three draws miss the
        // first seed (8/27 below 0); two hits or one: (3·k − (3−k))/3 > 0 for k ≥ 1
        let quality = AxisSamples {
            samples: vec![vec![0.0; 3], vec![3.0, -1.0, -1.0]],
            centre: Centre::Mean,
            units: Units::Paired { group: 0 },
        };
        let draws = draw_points(&[quality], 20_000, 1).unwrap();
        let result = front_probability(&draws, &[Objective::exact(Better::Higher)]).unwrap();
        // 4 sd of a share of 19/27 over 20 000 draws is 0.013
        assert!((result.p_front[1] - 19.0 / 27.0).abs() < 0.013, "{:?}", result.p_front);
        assert!((result.p_front[0] + result.p_front[1] - 1.0).abs() < 1e-9);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(front(&[], &QUALITY_COST).is_err() && front(&points(&[[1.0, 2.0]]), &[]).is_err());
        assert_eq!(front(&points(&[[1.0, 2.0], [1.0, f64::NAN]]), &QUALITY_COST).unwrap_err().argument, "points[1][1]");
        assert!(front(&[vec![1.0]], &QUALITY_COST).is_err());
        let ragged =
            AxisSamples { samples: vec![vec![1.0, 2.0], vec![1.0]], centre: Centre::Mean, units: Units::Paired { group: 0 } };
        assert!(draw_points(&[ragged], 200, 0).unwrap_err().to_string().contains("group 0"));
        assert!(draw_points(&[], 200, 0).is_err());
        let bad_tie = [Objective { better: Better::Higher, tie: Tie::Absolute(f64::NAN) }];
        assert!(front(&[vec![1.0]], &bad_tie).is_err());
    }
}
