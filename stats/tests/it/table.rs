//! Reproduces the simulation table of the measuring contract (measurement.md section 10) for the bounds that this crate decides or
//! could decide with.
//!
//! The table's shares come from 3000 runs, ours from `RUNS`; the tolerance is three standard errors of their difference, plus
//! half a unit of the table's last digit. The table's +5 % and 3 % are log differences: read as ratios (ln 1.05, ln 1.03), its powers
//! are off by 2 to 4 points.

use stats::describe::{mean, sample_sd};
use stats::distribution::student_t_quantile;
use stats::paired::sign_test;
use stats::rng::stream;
use stats::signed_rank::signed_rank;

use crate::worlds::World;

const RUNS: usize = 20_000;
const TABLE_RUNS: usize = 3000;

/// Share of runs in which the one-sided 95 % lower bound is above the budget.
fn share_above(world: World, shift: f64, budget: f64, n: usize, bound: impl Fn(&[f64]) -> f64) -> f64 {
    let hits = (0..RUNS)
        .filter(|run| {
            let mut rng = stream(&format!("test/table/{world:?}/{shift}"), n as u64, *run as u64);
            bound(&world.differences(&mut rng, shift, n)) > budget
        })
        .count();
    hits as f64 / RUNS as f64
}

fn agrees(found: f64, table: f64, what: &str) {
    let variance = table * (1.0 - table) * (1.0 / RUNS as f64 + 1.0 / TABLE_RUNS as f64);
    let tolerance = 3.0 * variance.sqrt() + if table > 0.2 { 0.005 } else { 0.0005 };
    assert!((found - table).abs() < tolerance, "{what}: found {found:.4}, table {table}, tolerance {tolerance:.4}");
}

/// One row: false alarms at n = 10 and 20 (Gaussian, spiky), then power for +5 % against a budget of 3 % at n = 20.
fn check_row(name: &str, row: [f64; 6], bound: impl Fn(&[f64]) -> f64 + Copy) {
    for (world, n, shift, budget, table) in [
        (World::Gaussian, 10, 0.0, 0.0, row[0]),
        (World::Gaussian, 20, 0.0, 0.0, row[1]),
        (World::Spiky, 10, 0.0, 0.0, row[2]),
        (World::Spiky, 20, 0.0, 0.0, row[3]),
        (World::Gaussian, 20, 0.05, 0.03, row[4]),
        (World::Spiky, 20, 0.05, 0.03, row[5]),
    ] {
        let found = share_above(world, shift, budget, n, bound);
        eprintln!("{name} {world:?} n={n} shift={shift}: {found:.4} (table {table})");
        agrees(found, table, &format!("{name}, {world:?}, n = {n}, shift {shift}"));
    }
}

#[test]
fn signed_rank_row_is_reproduced() {
    check_row("signed-rank", [0.041, 0.043, 0.040, 0.046, 0.90, 0.66], |d| signed_rank(d, 0.05).unwrap().interval.low);
}

#[test]
fn sign_test_row_is_reproduced() {
    check_row("sign test", [0.010, 0.016, 0.009, 0.018, 0.66, 0.49], |d| sign_test(d, 0.05).unwrap().interval.low);
}

#[test]
fn t_row_is_reproduced() {
    // one-sided bound; the quantile is outside the loop because it depends on n alone
    let quantiles = [(10, student_t_quantile(0.95, 9.0).unwrap()), (20, student_t_quantile(0.95, 19.0).unwrap())];
    check_row("t", [0.049, 0.043, 0.031, 0.038, 0.91, 0.38], |d| {
        let t = quantiles.iter().find(|(n, _)| *n == d.len()).unwrap().1;
        mean(d).unwrap() - t * sample_sd(d).unwrap() / (d.len() as f64).sqrt()
    });
}
