//! Long-run behaviour of the full gate on seeded synthetic streams (measurement.md section 16, item 7): noise floor, looks,
//! confirmation, family correction. No clock.

use stats::gate::{Decision, NoisyRule, Pair, Verdict, correct_family, noise_floor, run_looks};
use stats::rng::{Stream, stream};

use crate::worlds::World;

const STREAMS: u64 = 1000;

/// Full gate on one stream: A/A control of 20 pairs, then looks and confirmation on fresh pairs.
fn full_gate(world: World, rule: &NoisyRule, slowdown: f64, rng: &mut Stream) -> Decision {
    let floor = noise_floor(&world.differences(rng, 0.0, 20)).unwrap().phi;
    gate_with_floor(world, rule, floor, slowdown, rng)
}

fn gate_with_floor(world: World, rule: &NoisyRule, floor: f64, slowdown: f64, rng: &mut Stream) -> Decision {
    run_looks(rule, floor, |count, _| world.differences(rng, slowdown.ln_1p(), count).into_iter().map(Pair::clean).collect())
        .unwrap()
}

/// Share of streams with each verdict.
struct Shares(Vec<Verdict>);

impl Shares {
    fn of(name: &str, run: impl Fn(&mut Stream) -> Verdict) -> Self {
        let shares = Self((0..STREAMS).map(|at| run(&mut stream(name, 0, at))).collect());
        let all = [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive, Verdict::TooNoisy].map(|verdict| shares.share(verdict));
        eprintln!("{name}: pass {:.3}, fail {:.3}, inconclusive {:.3}, too noisy {:.3}", all[0], all[1], all[2], all[3]);
        shares
    }

    fn share(&self, verdict: Verdict) -> f64 {
        self.0.iter().filter(|v| **v == verdict).count() as f64 / STREAMS as f64
    }
}

#[test]
fn equal_arms_rarely_fail_and_mostly_pass() {
    let rule = NoisyRule::default();
    for world in [World::Gaussian, World::Spiky] {
        let shares = Shares::of(&format!("test/gate/aa/{world:?}"), |rng| full_gate(world, &rule, 0.0, rng).verdict);
        assert!(shares.share(Verdict::Fail) <= 0.05, "{world:?}");
        assert!(shares.share(Verdict::Pass) >= 0.95, "{world:?}");
    }
}

#[test]
fn equal_arms_rarely_fail_even_without_a_budget() {
    // δ = 0 and φ = 0: nothing but the bounds stands between noise and failure, the hardest A/A case
    let rule = NoisyRule { budget: 0.0, ..NoisyRule::default() };
    for world in [World::Gaussian, World::Spiky] {
        let shares =
            Shares::of(&format!("test/gate/aa-no-budget/{world:?}"), |rng| gate_with_floor(world, &rule, 0.0, 0.0, rng).verdict);
        assert!(shares.share(Verdict::Fail) <= 0.05, "{world:?}");
    }
}

#[test]
fn a_candidate_exactly_on_budget_rarely_fails_and_rarely_passes() {
    let rule = NoisyRule::default();
    for world in [World::Gaussian, World::Spiky] {
        let shares = Shares::of(&format!("test/gate/on-budget/{world:?}"), |rng| full_gate(world, &rule, 0.05, rng).verdict);
        assert!(shares.share(Verdict::Fail) <= 0.05, "{world:?}");
        // a pass is a claim too; 5 % over the looks, and three standard errors of a share over 1000 streams
        assert!(shares.share(Verdict::Pass) <= 0.05 + 3.0 * (0.05f64 * 0.95 / STREAMS as f64).sqrt(), "{world:?}");
    }
}

#[test]
fn ten_percent_is_found_at_twenty_pairs() {
    // +10 % against a 5 % budget with 2 % noise; looks end at 20 pairs
    let rule = NoisyRule { looks: vec![10, 20], ..NoisyRule::default() };
    let shares = Shares::of("test/gate/plus-ten", |rng| full_gate(World::Gaussian, &rule, 0.10, rng).verdict);
    assert!(shares.share(Verdict::Fail) >= 0.90);
    let single = NoisyRule { looks: vec![20], ..NoisyRule::default() };
    let shares = Shares::of("test/gate/plus-ten-single-look", |rng| full_gate(World::Gaussian, &single, 0.10, rng).verdict);
    assert!(shares.share(Verdict::Fail) >= 0.90);
}

#[test]
fn ten_percent_is_found_among_spikes_at_forty_pairs() {
    let shares = Shares::of("test/gate/plus-ten-spiky", |rng| full_gate(World::Spiky, &NoisyRule::default(), 0.10, rng).verdict);
    assert!(shares.share(Verdict::Fail) >= 0.90);
}

#[test]
fn a_family_of_twenty_rules_rarely_raises_any_alarm() {
    // 20 independent rules without budget per gate; plain 5 % per rule would alarm in 64 % of gates
    let rule = NoisyRule { budget: 0.0, ..NoisyRule::default() };
    let gates = 100;
    let alarms = (0..gates)
        .filter(|gate| {
            let decisions: Vec<Decision> = (0..20)
                .map(|at| gate_with_floor(World::Gaussian, &rule, 0.0, 0.0, &mut stream("test/gate/family", *gate, at)))
                .collect();
            correct_family(&decisions, 0.05).unwrap().contains(&Verdict::Fail)
        })
        .count();
    assert!(alarms <= 5, "{alarms} of {gates}");
}
