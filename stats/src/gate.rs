//! The noisy rule of the gate: is the candidate within its cost budget, judged on pairs measured now?
//!
//! ```text
//! dᵢ = ln(bᵢ/aᵢ) lower is better, ln(aᵢ/bᵢ) higher is better; positive = candidate is worse
//! L, U = one-sided signed-rank bounds of exp(d) − 1 at error α/looks;  δ budget, φ noise floor
//! pass          U < δ
//! fail          L > max(δ, φ), and again on an independent batch of as many fresh pairs
//! inconclusive  otherwise: take the next look (10 → 20 → 40 pairs)
//! too noisy     still undecided, and φ > δ/2: this machine can judge budgets of 2φ and more
//! ```
//! [`decide`] is a pure function of the pairs so far: it replays the looks in order and says what to measure next, so that a stored
//! run gives the same verdict as the live one. Contended pairs count, and the verdict must hold without them too.
//!
//! Sources: Hodges and Lehmann 1963 (bounds); Holm 1979 (several rules); Bulej et al. 2020, Duet Benchmarking (pairs).

use serde::Serialize;

use crate::Better;
use crate::bootstrap::{BootstrapEstimate, BootstrapPlan, bootstrap_median};
use crate::error::{StatsError, check_open_unit, check_pairs, check_sample, invalid};
use crate::interval::Interval;
use crate::multiple::holm;
use crate::signed_rank::signed_rank;

/// Fewest pairs that may be judged; fewer may be shown.
pub const MIN_PAIRS: usize = 10;

/// Log cost ratios of a candidate to its reference, one per pair; positive means "candidate is worse".
///
/// # Errors
/// When lengths differ, there is no pair, or a value is not a finite positive number.
pub fn cost_differences(reference: &[f64], candidate: &[f64], better: Better) -> Result<Vec<f64>, StatsError> {
    const ATTEMPT: &str = "compute cost ratios";
    check_pairs(ATTEMPT, reference, candidate, 1)?;
    for (name, values) in [("reference", reference), ("candidate", candidate)] {
        if let Some(at) = values.iter().position(|v| *v <= 0.0) {
            return Err(invalid(ATTEMPT, format!("{name}[{at}]"), "a number > 0", values[at]));
        }
    }
    Ok(reference
        .iter()
        .zip(candidate)
        .map(|(a, b)| match better {
            Better::Lower => (b / a).ln(),
            Better::Higher => (a / b).ln(),
        })
        .collect())
}

/// The figure to report: median of the paired cost ratios minus 1, with its percentile bootstrap interval over pairs.
pub fn reported_change(differences: &[f64], plan: &BootstrapPlan) -> Result<BootstrapEstimate, StatsError> {
    let changes: Vec<f64> = differences.iter().map(|d| d.exp_m1()).collect();
    bootstrap_median(&changes, plan)
}

/// Noise floor from an A/A run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NoiseFloor {
    /// Largest absolute end of the interval, as a ratio minus 1.
    pub phi: f64,
    /// Two-sided 95 % signed-rank interval of the A/A ratio minus 1.
    pub interval: Interval,
}

/// Noise floor φ of an A/A run: the largest absolute end of its two-sided 95 % signed-rank interval.
///
/// # Errors
/// When there are fewer than [`MIN_PAIRS`] differences or one is not finite.
pub fn noise_floor(differences: &[f64]) -> Result<NoiseFloor, StatsError> {
    check_sample("compute noise floor", "differences", differences, MIN_PAIRS)?;
    let interval = signed_rank(differences, 0.025)?.interval.map(f64::exp_m1);
    Ok(NoiseFloor { phi: interval.low.abs().max(interval.high.abs()), interval })
}

/// What a noisy rule allows and how it is judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NoisyRule {
    /// Allowed slowdown δ, as a ratio minus 1.
    pub budget: f64,
    /// Error probability over all looks.
    pub alpha: f64,
    /// Numbers of pairs at which to look, ascending, the first at least [`MIN_PAIRS`].
    pub looks: Vec<usize>,
}

impl Default for NoisyRule {
    /// 5 % slowdown, 5 % error, looks at 10, 20 and 40 pairs.
    fn default() -> Self {
        Self { budget: 0.05, alpha: 0.05, looks: vec![10, 20, 40] }
    }
}

/// One pair: log cost ratio, and whether either worker was contended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pair {
    /// Log cost ratio of the candidate to the reference; positive means "candidate is worse".
    pub difference: f64,
    /// Whether another process competed with either worker.
    pub is_contended: bool,
}

impl Pair {
    /// A pair without contention.
    pub fn clean(difference: f64) -> Self {
        Self { difference, is_contended: false }
    }
}

/// Verdict of a noisy rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Shown to be within budget.
    Pass,
    /// Shown to be over budget, twice.
    Fail,
    /// Neither shown.
    Inconclusive,
    /// Neither shown, and the noise floor is too high for this budget.
    TooNoisy,
}

/// What to measure next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Nothing: the verdict is final.
    Done,
    /// This many more pairs of the main batch.
    MorePairs(usize),
    /// This many more pairs of the confirmation batch.
    Confirm(usize),
}

/// What one look at a batch shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// U < δ.
    Within,
    /// L > max(δ, φ).
    Over,
    /// Neither.
    Open,
}

/// Bounds of one batch of pairs, with and without the contended ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Batch {
    /// Hodges–Lehmann estimate and one-sided bounds of the ratio minus 1, all pairs.
    pub interval: Interval,
    /// The same without contended pairs; `None` when nothing was contended or fewer than [`MIN_PAIRS`] remain.
    pub uncontended: Option<Interval>,
    /// Number of contended pairs.
    pub contended: usize,
    /// What all pairs show.
    pub sign: Sign,
    /// What the uncontended pairs show; `Open` when fewer than [`MIN_PAIRS`] remain.
    pub sign_uncontended: Sign,
    /// One-sided p-value of "ratio − 1 ≤ max(δ, φ)", all pairs, not corrected for looks.
    pub p_over: f64,
}

impl Batch {
    /// What the batch shows with and without contended pairs; disagreement shows nothing.
    pub fn agreed(&self) -> Sign {
        if self.sign == self.sign_uncontended { self.sign } else { Sign::Open }
    }
}

/// One look: the main batch up to here and, where it was over, the confirmation batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Look {
    /// Pairs looked at.
    pub pairs: usize,
    /// The main batch.
    pub main: Batch,
    /// The independent batch of as many fresh pairs, once measured.
    pub confirmation: Option<Batch>,
}

/// Verdict with all that led to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// `sequential signed-rank`.
    pub method: &'static str,
    /// Verdict on the pairs so far; final when `next` is [`Next::Done`].
    pub verdict: Verdict,
    /// What to measure next.
    pub next: Next,
    /// Budget δ.
    pub budget: f64,
    /// Noise floor φ.
    pub floor: f64,
    /// Error probability of each one-sided bound: α over the number of looks.
    pub alpha_per_look: f64,
    /// Looks taken, in order; the last one decided.
    pub looks: Vec<Look>,
    /// p-value of the failure for Holm's correction over rules; 1 unless the verdict is `Fail`. See [`correct_family`].
    pub p_fail: f64,
    /// Smallest budget that a machine with this noise floor can judge: 2φ.
    pub judgeable_budget: f64,
}

/// Judges the pairs measured so far.
///
/// - `floor`: φ, as a ratio minus 1, from [`noise_floor`].
/// - `pairs`: main batch in the order measured. Pairs beyond the next look wait for it.
/// - `confirmation`: independent pairs in the order measured. A look that is over budget takes as many as it has itself; a look
///   that was not confirmed has used its pairs up, and a later one needs fresh ones.
///
/// Differs: measurement.md section 11 lets "too noisy" replace every decision but pass. Here a failure that was confirmed above
/// max(δ, φ) stands, since otherwise φ could never decide anything in that maximum, and a plain +10 % would go unseen on
/// a machine whose A/A interval is just over half the budget. Only an open decision becomes too noisy.
///
/// # Errors
/// When the rule is malformed, φ is negative or not finite, or a difference is not finite.
pub fn decide(rule: &NoisyRule, floor: f64, pairs: &[Pair], confirmation: &[Pair]) -> Result<Decision, StatsError> {
    const ATTEMPT: &str = "judge a noisy rule";
    check_rule(ATTEMPT, rule)?;
    if !(floor >= 0.0 && floor.is_finite()) {
        return Err(invalid(ATTEMPT, "floor", "a finite ratio >= 0", floor));
    }
    let alpha_per_look = rule.alpha / rule.looks.len() as f64;
    let judge = |name: &'static str, batch: &[Pair]| judge_batch(name, rule.budget, floor, alpha_per_look, batch);
    let open = if floor > 0.5 * rule.budget { Verdict::TooNoisy } else { Verdict::Inconclusive };
    let mut decision = Decision {
        method: "sequential signed-rank",
        verdict: open,
        next: Next::Done,
        budget: rule.budget,
        floor,
        alpha_per_look,
        looks: Vec::new(),
        p_fail: 1.0,
        judgeable_budget: 2.0 * floor,
    };
    let mut confirmed_from = 0;
    for &look in &rule.looks {
        if pairs.len() < look {
            decision.next = Next::MorePairs(look - pairs.len());
            return Ok(decision);
        }
        let main = judge("pairs", &pairs[..look])?;
        decision.looks.push(Look { pairs: look, main, confirmation: None });
        match main.agreed() {
            Sign::Within => {
                decision.verdict = Verdict::Pass;
                return Ok(decision);
            }
            Sign::Open => {}
            Sign::Over => {
                let fresh = &confirmation[confirmed_from.min(confirmation.len())..];
                if fresh.len() < look {
                    decision.next = Next::Confirm(look - fresh.len());
                    return Ok(decision);
                }
                let second = judge("confirmation", &fresh[..look])?;
                confirmed_from += look;
                if let Some(last) = decision.looks.last_mut() {
                    last.confirmation = Some(second);
                }
                if second.agreed() == Sign::Over {
                    decision.verdict = Verdict::Fail;
                    // Each batch must reject on its own, and they are independent: P(both p ≤ x) ≤ x². Both carry the looks.
                    let weaker = (rule.looks.len() as f64 * main.p_over.max(second.p_over)).min(1.0);
                    decision.p_fail = weaker * weaker;
                    return Ok(decision);
                }
            }
        }
    }
    Ok(decision)
}

fn check_rule(attempt: &'static str, rule: &NoisyRule) -> Result<(), StatsError> {
    if !(rule.budget >= 0.0 && rule.budget.is_finite()) {
        return Err(invalid(attempt, "budget", "a finite ratio >= 0", rule.budget));
    }
    check_open_unit(attempt, "alpha", rule.alpha)?;
    if rule.looks.first().is_none_or(|first| *first < MIN_PAIRS) {
        let found = format!("{:?}", rule.looks);
        return Err(invalid(attempt, "looks", format!("a first look at {MIN_PAIRS} pairs or more"), found)
            .with_hint("with 5 pairs the smallest one-sided level is 1/32"));
    }
    if rule.looks.windows(2).any(|w| w[0] >= w[1]) {
        return Err(invalid(attempt, "looks", "ascending numbers of pairs", format!("{:?}", rule.looks)));
    }
    Ok(())
}

fn judge_batch(name: &'static str, budget: f64, floor: f64, alpha: f64, batch: &[Pair]) -> Result<Batch, StatsError> {
    let limit = budget.max(floor);
    let all: Vec<f64> = batch.iter().map(|pair| pair.difference).collect();
    check_sample("judge a noisy rule", name, &all, 1)?;
    let clean: Vec<f64> = batch.iter().filter(|pair| !pair.is_contended).map(|pair| pair.difference).collect();
    let bounds = |differences: &[f64]| signed_rank(differences, alpha).map(|result| result.interval.map(f64::exp_m1));
    let sign = |interval: &Interval| {
        if interval.high < budget {
            Sign::Within
        } else if interval.low > limit {
            Sign::Over
        } else {
            Sign::Open
        }
    };
    let interval = bounds(&all)?;
    let contended = all.len() - clean.len();
    let uncontended = if contended > 0 && clean.len() >= MIN_PAIRS { Some(bounds(&clean)?) } else { None };
    let sign_uncontended = match &uncontended {
        Some(interval) => sign(interval),
        None if contended == 0 => sign(&interval),
        None => Sign::Open,
    };
    let over_limit: Vec<f64> = all.iter().map(|d| d - limit.ln_1p()).collect();
    let p_over = signed_rank(&over_limit, alpha)?.p_greater;
    Ok(Batch { interval, uncontended, contended, sign: sign(&interval), sign_uncontended, p_over })
}

/// Measures until decided: `measure(count, is_confirmation)` returns fresh pairs, or fewer when the time budget has ended.
///
/// # Errors
/// As [`decide`].
pub fn run_looks(
    rule: &NoisyRule,
    floor: f64,
    mut measure: impl FnMut(usize, Batches) -> Vec<Pair>,
) -> Result<Decision, StatsError> {
    let (mut pairs, mut confirmation) = (Vec::new(), Vec::new());
    loop {
        let decision = decide(rule, floor, &pairs, &confirmation)?;
        let (batch, which, wanted) = match decision.next {
            Next::Done => return Ok(decision),
            Next::MorePairs(count) => (&mut pairs, Batches::Main, count),
            Next::Confirm(count) => (&mut confirmation, Batches::Confirmation, count),
        };
        let fresh = measure(wanted, which);
        let is_short = fresh.len() < wanted;
        batch.extend(fresh);
        if is_short {
            return decide(rule, floor, &pairs, &confirmation);
        }
    }
}

/// Which batch is being measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batches {
    /// The batch that is looked at.
    Main,
    /// The independent batch that must repeat a failure.
    Confirmation,
}

/// Verdicts of all rules of one gate after Holm's correction at family error `alpha`: a failure that does not survive becomes
/// inconclusive; nothing else changes.
pub fn correct_family(decisions: &[Decision], alpha: f64) -> Result<Vec<Verdict>, StatsError> {
    let p_values: Vec<f64> = decisions.iter().map(|decision| decision.p_fail).collect();
    let corrected = holm(&p_values, alpha)?;
    Ok(decisions
        .iter()
        .zip(corrected.rejected)
        .map(|(decision, is_rejected)| match decision.verdict {
            Verdict::Fail if !is_rejected => Verdict::Inconclusive,
            verdict => verdict,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distinct log ratios around `ln(1 + change)`, spread ± 1 %, symmetric in every even-sized prefix.
    fn batch(change: f64, n: usize) -> Vec<Pair> {
        let offset = |i: usize| 0.01 * (i / 2 + 1) as f64 / n as f64 * if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        (0..n).map(|i| Pair::clean(change.ln_1p() + offset(i))).collect()
    }

    #[test]
    fn differences_are_positive_when_the_candidate_is_worse() {
        let slower = cost_differences(&[1.0, 2.0], &[1.1, 2.2], Better::Lower).unwrap();
        assert!(slower.iter().all(|d| (d - 1.1f64.ln()).abs() < 1e-15));
        let lower_rate = cost_differences(&[110.0], &[100.0], Better::Higher).unwrap();
        assert!((lower_rate[0] - 1.1f64.ln()).abs() < 1e-15);
        assert_eq!(cost_differences(&[1.0, 0.0], &[1.0, 1.0], Better::Lower).unwrap_err().argument, "reference[1]");
        assert!(cost_differences(&[1.0], &[f64::NAN], Better::Lower).is_err());
    }

    #[test]
    fn reported_change_is_the_median_ratio() {
        let differences = cost_differences(&[1.0; 3], &[1.1, 1.2, 1.4], Better::Lower).unwrap();
        let change = reported_change(&differences, &BootstrapPlan::default()).unwrap();
        assert!((change.interval.estimate - 0.2).abs() < 1e-12 && (change.interval.high - 0.4).abs() < 1e-12);
    }

    #[test]
    fn noise_floor_is_the_outer_end() {
        // ten distinct values at α = 2.5 %: P(T ≤ 8) = 25/1024, so k = 9 of 55; checked against the bounds themselves
        let values: Vec<f64> = (0..10).map(|i| 0.004 * f64::from(i) - 0.02).collect();
        let bounds = signed_rank(&values, 0.025).unwrap().interval;
        let floor = noise_floor(&values).unwrap();
        assert_eq!(floor.phi, bounds.low.exp_m1().abs()); // the low end is farther out: the values lean below 0
        assert!(floor.phi > floor.interval.high.abs());
        assert!(noise_floor(&values[..9]).is_err());
        assert_eq!(noise_floor(&[0.0; 12]).unwrap().phi, 0.0);
    }

    #[test]
    fn equal_arms_pass_at_the_first_look() {
        let decision = decide(&NoisyRule::default(), 0.01, &batch(0.0, 10), &[]).unwrap();
        assert_eq!((decision.verdict, decision.next, decision.looks.len()), (Verdict::Pass, Next::Done, 1));
        assert!((decision.alpha_per_look - 0.05 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn failure_needs_confirmation_by_fresh_pairs() {
        let rule = NoisyRule::default();
        let first = decide(&rule, 0.01, &batch(0.2, 10), &[]).unwrap();
        assert_eq!((first.verdict, first.next), (Verdict::Inconclusive, Next::Confirm(10)));
        let partly = decide(&rule, 0.01, &batch(0.2, 10), &batch(0.2, 4)).unwrap();
        assert_eq!(partly.next, Next::Confirm(6));
        let confirmed = decide(&rule, 0.01, &batch(0.2, 10), &batch(0.2, 10)).unwrap();
        assert_eq!((confirmed.verdict, confirmed.next), (Verdict::Fail, Next::Done));
        // both batches have the smallest p of ten pairs, 2⁻¹⁰; three looks; squared
        assert!((confirmed.p_fail - (3.0f64 / 1024.0).powi(2)).abs() < 1e-18);
        // a batch that does not repeat it sends the rule to the next look, which needs fresh confirmation pairs
        let refuted = decide(&rule, 0.01, &batch(0.2, 10), &batch(0.0, 10)).unwrap();
        assert_eq!((refuted.verdict, refuted.next), (Verdict::Inconclusive, Next::MorePairs(10)));
        let again = decide(&rule, 0.01, &batch(0.2, 20), &batch(0.0, 10)).unwrap();
        assert_eq!(again.next, Next::Confirm(20));
    }

    #[test]
    fn open_looks_ask_for_more_until_the_last() {
        let rule = NoisyRule::default();
        for (have, next) in [
            (0, Next::MorePairs(10)),
            (7, Next::MorePairs(3)),
            (10, Next::MorePairs(10)),
            (25, Next::MorePairs(15)),
            (40, Next::Done),
        ] {
            let decision = decide(&rule, 0.01, &batch(0.05, have), &[]).unwrap(); // exactly on the budget
            assert_eq!((decision.verdict, decision.next), (Verdict::Inconclusive, next), "{have}");
        }
    }

    #[test]
    fn high_floor_makes_open_decisions_too_noisy() {
        let rule = NoisyRule::default();
        let open = decide(&rule, 0.026, &batch(0.05, 40), &[]).unwrap();
        assert_eq!((open.verdict, open.judgeable_budget), (Verdict::TooNoisy, 0.052));
        assert_eq!(decide(&rule, 0.025, &batch(0.05, 40), &[]).unwrap().verdict, Verdict::Inconclusive); // not above δ/2
        assert_eq!(decide(&rule, 0.2, &batch(0.0, 10), &[]).unwrap().verdict, Verdict::Pass); // pass stands
        assert_eq!(decide(&rule, 0.03, &batch(0.2, 10), &batch(0.2, 10)).unwrap().verdict, Verdict::Fail); // over both limits
        // +10 % is over δ but not over φ = 15 %
        assert_eq!(decide(&rule, 0.15, &batch(0.1, 40), &batch(0.1, 40)).unwrap().verdict, Verdict::TooNoisy);
    }

    #[test]
    fn contended_pairs_must_not_decide() {
        let rule = NoisyRule { looks: vec![20], ..NoisyRule::default() };
        // ten clean pairs on the budget, ten contended ones well below it
        let mut pairs = batch(0.05, 10);
        pairs.extend(batch(-0.5, 10).into_iter().map(|pair| Pair { is_contended: true, ..pair }));
        let decision = decide(&rule, 0.01, &pairs, &[]).unwrap();
        assert_eq!(decision.verdict, Verdict::Inconclusive);
        let main = decision.looks[0].main;
        assert_eq!((main.sign, main.sign_uncontended, main.contended), (Sign::Within, Sign::Open, 10));
        // contention that changes nothing is only reported
        let harmless: Vec<Pair> =
            batch(0.0, 20).into_iter().enumerate().map(|(i, pair)| Pair { is_contended: i % 4 == 0, ..pair }).collect();
        assert_eq!(decide(&rule, 0.01, &harmless, &[]).unwrap().verdict, Verdict::Pass);
        // fewer than ten clean pairs cannot be judged
        let mostly: Vec<Pair> =
            batch(0.0, 20).into_iter().enumerate().map(|(i, pair)| Pair { is_contended: i % 4 != 0, ..pair }).collect();
        let unjudged = decide(&rule, 0.01, &mostly, &[]).unwrap();
        assert_eq!((unjudged.verdict, unjudged.looks[0].main.uncontended), (Verdict::Inconclusive, None));
    }

    #[test]
    fn looks_measure_only_what_is_needed_and_stop_when_time_ends() {
        let mut asked = Vec::new();
        let decision = run_looks(&NoisyRule::default(), 0.01, |count, which| {
            asked.push((count, which));
            batch(0.2, count)
        })
        .unwrap();
        assert_eq!((decision.verdict, asked), (Verdict::Fail, vec![(10, Batches::Main), (10, Batches::Confirmation)]));
        let cut = run_looks(&NoisyRule::default(), 0.01, |count, _| batch(0.2, count.min(6))).unwrap();
        assert_eq!((cut.verdict, cut.next), (Verdict::Inconclusive, Next::MorePairs(4)));
    }

    #[test]
    fn family_correction_keeps_strong_failures_only() {
        let strong = decide(&NoisyRule::default(), 0.01, &batch(0.2, 10), &batch(0.2, 10)).unwrap();
        let weak = Decision { p_fail: 0.02, ..strong.clone() };
        let passed = decide(&NoisyRule::default(), 0.01, &batch(0.0, 10), &[]).unwrap();
        assert_eq!(correct_family(&[strong, passed, weak.clone()], 0.05).unwrap(), [Verdict::Fail, Verdict::Pass, Verdict::Fail]);
        assert_eq!(correct_family(&[weak.clone(), weak.clone(), weak], 0.05).unwrap(), [Verdict::Inconclusive; 3]);
    }

    #[test]
    fn decisions_serialise_with_stable_words() {
        let none = decide(&NoisyRule::default(), 0.03, &[], &[]).unwrap();
        let json = serde_json::to_value(&none).unwrap();
        assert_eq!((json["verdict"].as_str(), json["next"]["more_pairs"].as_u64()), (Some("too_noisy"), Some(10)));
        let passed = serde_json::to_value(decide(&NoisyRule::default(), 0.01, &batch(0.0, 10), &[]).unwrap()).unwrap();
        assert_eq!((passed["verdict"].as_str(), passed["next"].as_str()), (Some("pass"), Some("done")));
        assert_eq!(passed["looks"][0]["main"]["sign"].as_str(), Some("within"));
        // a bound that the sample cannot give is infinite here and null on the wire
        assert!(serde_json::to_value(signed_rank(&[1.0, 2.0], 0.05).unwrap()).unwrap()["interval"]["low"].is_null());
    }

    #[test]
    fn malformed_rules_are_refused() {
        let rule = NoisyRule::default();
        for bad in [
            NoisyRule { looks: vec![5], ..rule.clone() },
            NoisyRule { looks: vec![], ..rule.clone() },
            NoisyRule { looks: vec![20, 10], ..rule.clone() },
            NoisyRule { budget: -0.1, ..rule.clone() },
            NoisyRule { alpha: 0.0, ..rule.clone() },
        ] {
            assert!(decide(&bad, 0.01, &[], &[]).is_err(), "{bad:?}");
        }
        assert!(decide(&rule, f64::NAN, &[], &[]).is_err());
        let mut pairs = batch(0.0, 10);
        pairs[3].difference = f64::NAN;
        assert_eq!(decide(&rule, 0.01, &pairs, &[]).unwrap_err().argument, "pairs[3]");
    }
}
