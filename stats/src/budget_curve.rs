//! Equal-budget comparison: what would naive scaling have bought for the same cost?
//!
//! ```text
//! curve          quality(cost) through plain and its naively enlarged versions, monotone cubic between the points
//! gain           quality(variant) − curve(cost of variant), in the better direction
//! saving factor  (cost at which the curve reaches the variant's quality − cost of plain) / (cost of variant − cost of plain)
//! ```
//! Measured points may fall where they should rise; they are first pooled to the nearest rising sequence. Outside the measured range
//! there is no value (`None`): nothing is extrapolated.
//!
//! Sources: Fritsch and Carlson 1980, and Fritsch and Butland 1984, for the interpolant (the one SciPy calls PCHIP);
//! Barlow et al. 1972 for pooling adjacent violators.

use serde::Serialize;

use crate::Better;
use crate::bootstrap::{BootstrapEstimate, BootstrapPlan};
use crate::error::{StatsError, check_finite, check_pairs, invalid};
use crate::pareto::Draws;

/// Least share of draws with a value for which an interval is given; below it the interval would describe the lucky draws only.
pub const MIN_DEFINED_SHARE: f64 = 0.95;

/// Monotone curve quality(cost); internally quality points upwards.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetCurve {
    costs: Vec<f64>,
    heights: Vec<f64>,
    slopes: Vec<f64>,
    better: Better,
}

impl BudgetCurve {
    /// Curve through (cost, quality) points in any order; equal costs are averaged.
    ///
    /// # Errors
    /// When lengths differ, a value is not finite, or there are fewer than two different costs.
    pub fn fit(costs: &[f64], qualities: &[f64], better: Better) -> Result<Self, StatsError> {
        const ATTEMPT: &str = "fit budget curve";
        check_pairs(ATTEMPT, costs, qualities, 2)?;
        let sign = if better == Better::Higher { 1.0 } else { -1.0 };
        let mut points: Vec<(f64, f64)> = costs.iter().zip(qualities).map(|(c, q)| (*c, sign * q)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        // blocks of (cost, mean height, weight)
        let mut merged: Vec<(f64, f64, f64)> = Vec::new();
        for (cost, height) in points {
            match merged.last_mut() {
                Some(last) if last.0 == cost => {
                    last.1 = (last.1 * last.2 + height) / (last.2 + 1.0);
                    last.2 += 1.0;
                }
                _ => merged.push((cost, height, 1.0)),
            }
        }
        if merged.len() < 2 {
            return Err(invalid(ATTEMPT, "costs", "at least 2 different costs", merged.len()));
        }
        let costs: Vec<f64> = merged.iter().map(|point| point.0).collect();
        let heights = pool_adjacent_violators(&merged.iter().map(|point| (point.1, point.2)).collect::<Vec<_>>());
        let slopes = monotone_slopes(&costs, &heights);
        Ok(Self { costs, heights, slopes, better })
    }

    /// Quality of naive scaling at `cost`; `None` outside the measured costs.
    pub fn quality(&self, cost: f64) -> Option<f64> {
        let height = self.height(cost)?;
        Some(if self.better == Better::Higher { height } else { -height })
    }

    fn height(&self, cost: f64) -> Option<f64> {
        let last = self.costs.len() - 1;
        if !(self.costs[0] <= cost && cost <= self.costs[last]) {
            return None;
        }
        let at = self.costs[1..last].partition_point(|c| *c <= cost);
        Some(self.height_in(at, cost))
    }

    /// Cubic Hermite piece `at`, between points `at` and `at + 1`.
    fn height_in(&self, at: usize, cost: f64) -> f64 {
        let width = self.costs[at + 1] - self.costs[at];
        let t = (cost - self.costs[at]) / width;
        let (t2, t3) = (t * t, t * t * t);
        let rise = self.heights[at + 1] - self.heights[at];
        self.heights[at]
            + rise * (3.0 * t2 - 2.0 * t3)
            + width * (self.slopes[at] * (t3 - 2.0 * t2 + t) + self.slopes[at + 1] * (t3 - t2))
    }

    /// Smallest cost at which naive scaling reaches `quality`; `None` outside the measured qualities.
    pub fn cost(&self, quality: f64) -> Option<f64> {
        let target = if self.better == Better::Higher { quality } else { -quality };
        let last = self.heights.len() - 1;
        if !(self.heights[0] <= target && target <= self.heights[last]) {
            return None;
        }
        let reached = self.heights.partition_point(|h| *h < target);
        if self.heights[reached] == target {
            return Some(self.costs[reached]);
        }
        let (mut low, mut high) = (self.costs[reached - 1], self.costs[reached]);
        // 60 halvings reach neighbouring floats
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if self.height_in(reached - 1, middle) < target {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(high)
    }

    /// Gain and saving factor of a variant against this curve; `plain_cost` is where added cost starts.
    ///
    /// # Errors
    /// When an argument is not finite.
    pub fn compare(&self, plain_cost: f64, variant_cost: f64, variant_quality: f64) -> Result<EqualBudget, StatsError> {
        check_finite(
            "compare at equal budget",
            "[plain_cost, variant_cost, variant_quality]",
            &[plain_cost, variant_cost, variant_quality],
        )?;
        let curve_quality = self.quality(variant_cost);
        let gain = curve_quality.map(|on_curve| match self.better {
            Better::Higher => variant_quality - on_curve,
            Better::Lower => on_curve - variant_quality,
        });
        let equivalent_cost = self.cost(variant_quality);
        let added = variant_cost - plain_cost;
        let saving_factor = equivalent_cost.filter(|_| added > 0.0).map(|cost| (cost - plain_cost) / added);
        Ok(EqualBudget { method: "monotone cubic", curve_quality, gain, equivalent_cost, saving_factor, n: self.costs.len() })
    }
}

/// A variant against naive scaling; `None` where the curve was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EqualBudget {
    /// `monotone cubic`.
    pub method: &'static str,
    /// Quality of naive scaling at the variant's cost.
    pub curve_quality: Option<f64>,
    /// Quality of the variant beyond that, positive when better.
    pub gain: Option<f64>,
    /// Cost at which naive scaling reaches the variant's quality.
    pub equivalent_cost: Option<f64>,
    /// Added cost of naive scaling over added cost of the variant; `None` also when the variant adds no cost.
    pub saving_factor: Option<f64>,
    /// Number of different costs on the curve.
    pub n: usize,
}

/// Equal-budget figures with bootstrap intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EqualBudgetEstimate {
    /// Figures of the observed points.
    pub observed: EqualBudget,
    /// Interval of the gain; `None` where the observed one is, or where too many draws leave the curve.
    pub gain: Option<BootstrapEstimate>,
    /// Share of draws in which the gain has a value.
    pub gain_defined_share: f64,
    /// Interval of the saving factor, under the same rule.
    pub saving_factor: Option<BootstrapEstimate>,
    /// Share of draws in which the saving factor has a value.
    pub saving_factor_defined_share: f64,
}

/// Which rows and columns of [`Draws`] enter an equal-budget comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EqualBudgetRoles<'a> {
    /// Variants on the curve, plain first.
    pub curve: &'a [usize],
    /// Variant to judge.
    pub variant: usize,
    /// Axis holding the cost.
    pub cost_axis: usize,
    /// Axis holding the quality.
    pub quality_axis: usize,
    /// Direction of the quality.
    pub better: Better,
}

/// Equal-budget gain and saving factor with percentile intervals over bootstrap draws.
///
/// # Errors
/// When an index is out of range, the curve has fewer than two different costs, or a value is not finite.
pub fn equal_budget(
    draws: &Draws,
    roles: &EqualBudgetRoles<'_>,
    plan: &BootstrapPlan,
) -> Result<EqualBudgetEstimate, StatsError> {
    const ATTEMPT: &str = "compare at equal budget";
    let variants = draws.observed.len();
    if roles.curve.is_empty() || roles.curve.iter().chain([&roles.variant]).any(|v| *v >= variants) {
        let found = format!("curve {:?}, variant {}", roles.curve, roles.variant);
        return Err(invalid(ATTEMPT, "roles", format!("variants below {variants}, at least 1 on the curve"), found));
    }
    let axes = draws.observed[0].len();
    if roles.cost_axis >= axes || roles.quality_axis >= axes {
        let found = format!("cost {}, quality {}", roles.cost_axis, roles.quality_axis);
        return Err(invalid(ATTEMPT, "roles", format!("axes below {axes}"), found));
    }
    let figures = |points: &[Vec<f64>]| {
        let column = |axis: usize| roles.curve.iter().map(|&v| points[v][axis]).collect::<Vec<f64>>();
        let curve = BudgetCurve::fit(&column(roles.cost_axis), &column(roles.quality_axis), roles.better)?;
        let variant = &points[roles.variant];
        curve.compare(points[roles.curve[0]][roles.cost_axis], variant[roles.cost_axis], variant[roles.quality_axis])
    };
    let observed = figures(&draws.observed)?;
    let drawn = draws.draws.iter().map(|points| figures(points)).collect::<Result<Vec<_>, _>>()?;
    let plan = BootstrapPlan { seed: draws.seed, ..*plan };
    let interval = |name: &'static str, value: Option<f64>, replicates: Vec<f64>| {
        let share = replicates.len() as f64 / drawn.len() as f64;
        let estimate = match value {
            Some(value) if share >= MIN_DEFINED_SHARE => Some(plan.summarise(name, value, observed.n, &replicates)?),
            _ => None,
        };
        Ok::<_, StatsError>((estimate, share))
    };
    let gains = drawn.iter().filter_map(|d| d.gain).collect();
    let savings = drawn.iter().filter_map(|d| d.saving_factor).collect();
    let (gain, gain_defined_share) = interval("percentile bootstrap of the gain", observed.gain, gains)?;
    let (saving_factor, saving_factor_defined_share) =
        interval("percentile bootstrap of the saving factor", observed.saving_factor, savings)?;
    Ok(EqualBudgetEstimate { observed, gain, gain_defined_share, saving_factor, saving_factor_defined_share })
}

/// Nearest non-decreasing sequence in weighted least squares; input (height, weight).
fn pool_adjacent_violators(points: &[(f64, f64)]) -> Vec<f64> {
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new(); // mean, weight, points
    for &(height, weight) in points {
        let mut block = (height, weight, 1);
        while let Some(&(mean, mass, count)) = blocks.last() {
            if mean <= block.0 {
                break;
            }
            block = ((mean * mass + block.0 * block.1) / (mass + block.1), mass + block.1, count + block.2);
            blocks.pop();
        }
        blocks.push(block);
    }
    blocks.iter().flat_map(|&(mean, _, count)| std::iter::repeat_n(mean, count)).collect()
}

/// Slopes that keep the interpolant monotone: weighted harmonic means inside, limited three-point formula at the ends.
fn monotone_slopes(x: &[f64], y: &[f64]) -> Vec<f64> {
    let n = x.len();
    let h: Vec<f64> = x.windows(2).map(|w| w[1] - w[0]).collect();
    let secant: Vec<f64> = y.windows(2).zip(&h).map(|(w, h)| (w[1] - w[0]) / h).collect();
    if n == 2 {
        return vec![secant[0]; 2];
    }
    let end = |h0: f64, h1: f64, s0: f64, s1: f64| {
        let slope = ((2.0 * h0 + h1) * s0 - h0 * s1) / (h0 + h1);
        // heights never fall, so secants are >= 0 and only these two limits can bind
        if slope < 0.0 { 0.0 } else { slope.min(3.0 * s0) }
    };
    let mut slopes = vec![0.0; n];
    slopes[0] = end(h[0], h[1], secant[0], secant[1]);
    slopes[n - 1] = end(h[n - 2], h[n - 3], secant[n - 2], secant[n - 3]);
    for i in 1..n - 1 {
        if secant[i - 1] > 0.0 && secant[i] > 0.0 {
            let (w1, w2) = (2.0 * h[i] + h[i - 1], h[i] + 2.0 * h[i - 1]);
            slopes[i] = (w1 + w2) / (w1 / secant[i - 1] + w2 / secant[i]);
        }
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pareto::{AxisSamples, Centre, Units, draw_points};

    #[test]
    fn interpolant_matches_scipy() {
        let curve = BudgetCurve::fit(&[0.0, 1.0, 3.0, 7.0], &[10.0, 14.0, 15.0, 19.0], Better::Higher).unwrap();
        // scipy 1.17.1: PchipInterpolator([0, 1, 3, 7], [10, 14, 15, 19])(x)
        for (x, y) in [
            (0.5, 12.524211711711713),
            (1.0, 14.0),
            (2.0, 14.582528957528957),
            (5.0, 16.6547619047619),
            (6.9, 18.867441964285714),
        ] {
            assert!((curve.quality(x).unwrap() - y).abs() < 1e-12, "{x}: {:?}", curve.quality(x));
            assert!((curve.cost(y).unwrap() - x).abs() < 1e-9);
        }
    }

    #[test]
    fn published_saving_of_2_6_follows_from_table_1() {
        // plain 74.95 at 0 %, one more layer 75.20 at 4.37 %; RW+LR 75.20 at 1.68 %: 4.37/1.68 = 2.60
        let curve = BudgetCurve::fit(&[0.0, 4.37], &[74.95, 75.20], Better::Higher).unwrap();
        let rw_lr = curve.compare(0.0, 1.68, 75.20).unwrap();
        assert!((rw_lr.saving_factor.unwrap() - 2.601).abs() < 0.001);
        // on the straight line, 1.68 % buys 0.25·1.68/4.37 = 0.0961 points; the gain is the rest of the 0.25
        assert!((rw_lr.gain.unwrap() - (0.25 - 0.25 * 1.68 / 4.37)).abs() < 1e-12);
        // 75.25 is above anything naive scaling was measured to reach: no factor, but a gain
        let with_pa = curve.compare(0.0, 2.40, 75.25).unwrap();
        assert_eq!(with_pa.saving_factor, None);
        assert!(with_pa.gain.is_some());
        // beyond the measured cost: nothing
        assert_eq!(curve.compare(0.0, 5.0, 75.0).unwrap().gain, None);
    }

    #[test]
    fn losses_point_downwards() {
        let curve = BudgetCurve::fit(&[1.0, 2.0, 3.0], &[3.0, 2.5, 2.0], Better::Lower).unwrap();
        let result = curve.compare(1.0, 1.5, 2.5).unwrap(); // on the line the curve has 2.75 at 1.5
        assert!((result.gain.unwrap() - 0.25).abs() < 1e-12 && (result.saving_factor.unwrap() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn falling_points_are_pooled_and_flat_parts_give_the_smallest_cost() {
        // heights 1, 3, 2, 4 -> 1, 2.5, 2.5, 4
        let curve = BudgetCurve::fit(&[0.0, 1.0, 2.0, 3.0], &[1.0, 3.0, 2.0, 4.0], Better::Higher).unwrap();
        assert_eq!((curve.quality(1.0), curve.quality(1.5), curve.quality(2.0)), (Some(2.5), Some(2.5), Some(2.5)));
        assert_eq!(curve.cost(2.5), Some(1.0));
        let mut last = f64::NEG_INFINITY;
        for i in 0..=300 {
            let quality = curve.quality(f64::from(i) / 100.0).unwrap();
            assert!(quality >= last - 1e-12);
            last = quality;
        }
        // equal costs are averaged
        let merged = BudgetCurve::fit(&[0.0, 1.0, 1.0], &[0.0, 1.0, 3.0], Better::Higher).unwrap();
        assert_eq!(merged.quality(1.0), Some(2.0));
    }

    #[test]
    fn no_added_cost_means_no_saving_factor() {
        let curve = BudgetCurve::fit(&[0.0, 1.0], &[1.0, 2.0], Better::Higher).unwrap();
        let free = curve.compare(0.0, 0.0, 1.5).unwrap();
        assert_eq!((free.saving_factor, free.gain), (None, Some(0.5)));
    }

    #[test]
    fn intervals_need_draws_inside_the_curve() {
        let quality = AxisSamples {
            samples: vec![vec![1.0, 1.1, 0.9], vec![2.0, 2.1, 1.9], vec![1.7, 1.8, 1.6]],
            centre: Centre::Mean,
            units: Units::Paired { group: 0 },
        };
        let cost =
            AxisSamples { samples: vec![vec![0.0], vec![4.0], vec![1.0]], centre: Centre::Median, units: Units::Independent };
        let draws = draw_points(&[quality, cost], 500, 0).unwrap();
        let roles = EqualBudgetRoles { curve: &[0, 1], variant: 2, cost_axis: 1, quality_axis: 0, better: Better::Higher };
        let result = equal_budget(&draws, &roles, &BootstrapPlan::default()).unwrap();
        // seeds move all three together, so the gain 1.7 − 1.25 and the saving (0.7·4)/1 have no spread
        let gain = result.gain.unwrap().interval;
        assert!((gain.low - 0.45).abs() < 1e-12 && (gain.high - 0.45).abs() < 1e-12);
        assert!((result.saving_factor.unwrap().interval.estimate - 2.8).abs() < 1e-9);
        assert_eq!((result.gain_defined_share, result.saving_factor_defined_share), (1.0, 1.0));
        // judged at the very end of the curve, independent draws leave it half of the time: no interval
        let edge = AxisSamples {
            samples: vec![vec![1.0, 1.1, 0.9], vec![2.0, 2.1, 1.9], vec![2.0, 2.1, 1.9]],
            centre: Centre::Mean,
            units: Units::Independent,
        };
        let cost =
            AxisSamples { samples: vec![vec![0.0], vec![4.0], vec![1.0]], centre: Centre::Median, units: Units::Independent };
        let edge = equal_budget(&draw_points(&[edge, cost], 500, 0).unwrap(), &roles, &BootstrapPlan::default()).unwrap();
        assert!(edge.observed.saving_factor.is_some() && edge.saving_factor.is_none());
        assert!(edge.saving_factor_defined_share < 0.95 && edge.gain.is_some());
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(BudgetCurve::fit(&[1.0], &[1.0], Better::Higher).is_err());
        assert!(BudgetCurve::fit(&[1.0, 1.0], &[1.0, 2.0], Better::Higher).is_err());
        assert!(BudgetCurve::fit(&[1.0, f64::NAN], &[1.0, 2.0], Better::Higher).is_err());
        let curve = BudgetCurve::fit(&[0.0, 1.0], &[1.0, 2.0], Better::Higher).unwrap();
        assert!(curve.compare(0.0, f64::NAN, 1.0).is_err());
        assert_eq!((curve.quality(-0.1), curve.cost(2.1)), (None, None));
    }
}
