//! The cost table of the terminal: what each subject costs, and its ratio to the reference with a 95 % interval.
//!
//! ```text
//! absolute   median over workers (exact counts as they are)
//! ratio      median of the paired ratios − 1, percentile bootstrap over pairs; below three pairs the ratio stands alone
//! A/A floor  largest absolute end of the two-sided 95 % interval of the reference against itself, from ten pairs on
//! ```
//! A cell without a number shows why: `failed`, `timeout`, `oom`, `skipped`; `—` was not measured.
//!
//! Source: measurement.md sections 10 and 15.

use super::pairs::{aa_pairs, subject_pairs};
use super::plan::Plan;
use crate::config::RunConfig;
use records::metric::{
    DECODE_TOKENS_PER_S, FLOPS_TRAIN_STEP, IMAGE_LATENCY_S, IMAGES_PER_S, PARAMS_TOTAL, PEAK_ALLOC_BYTES, PEAK_RSS_BYTES,
    PREFILL_S, TRAIN_STEP_S, TTFT_S,
};
use records::{Better, Metric, Row, Status};
use reports::number::{quantity, ratio_pct};
use stats::bootstrap::BootstrapPlan;
use stats::gate::{MIN_PAIRS, Pair, noise_floor, reported_change};

/// Title and metric of a column.
type Column = (&'static str, Metric);

/// Columns of the table of language models.
static LANGUAGE: [Column; 8] = [
    ("params", PARAMS_TOTAL),
    ("FLOP/step", FLOPS_TRAIN_STEP),
    ("step", TRAIN_STEP_S),
    ("prefill", PREFILL_S),
    ("TTFT", TTFT_S),
    ("decode", DECODE_TOKENS_PER_S),
    ("peak alloc", PEAK_ALLOC_BYTES),
    ("peak RSS", PEAK_RSS_BYTES),
];
/// Columns of the table of networks on images.
static IMAGES: [Column; 7] = [
    ("params", PARAMS_TOTAL),
    ("FLOP/step", FLOPS_TRAIN_STEP),
    ("step", TRAIN_STEP_S),
    ("latency", IMAGE_LATENCY_S),
    ("images", IMAGES_PER_S),
    ("peak alloc", PEAK_ALLOC_BYTES),
    ("peak RSS", PEAK_RSS_BYTES),
];

/// Columns of a plan's table: title and metric.
pub fn columns(plan: &Plan) -> &'static [Column] {
    match plan.subjects.first().map(|subject| &subject.config) {
        Some(RunConfig::Images(_)) => &IMAGES,
        _ => &LANGUAGE,
    }
}

/// What stands where nothing was measured.
const MISSING: &str = "—";
/// Fewest pairs that get an interval.
const MIN_INTERVAL: usize = 3;

/// What a subject has for a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Cost {
    /// Median over workers, and how many there were.
    Value(f64, usize),
    /// Only rows without a number.
    Without(Status),
    /// Nothing.
    Missing,
}

/// A cost relative to the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Candidate over reference.
    pub ratio: f64,
    /// 95 % interval, from three pairs on and where pairs differ.
    pub interval: Option<(f64, f64)>,
    /// Pairs; 0 for a ratio of exact counts.
    pub pairs: usize,
    /// Pairs with a contended side.
    pub contended: usize,
}

/// The median cost of a subject.
///
/// # Errors
/// When a value is not finite.
pub fn cost(rows: &[Row], subject: &str, metric: &Metric) -> anyhow::Result<Cost> {
    let found: Vec<&Row> = of_subject(rows, subject, metric).collect();
    let values: Vec<f64> = found.iter().filter_map(|row| row.value).collect();
    Ok(match (values.is_empty(), found.first()) {
        (false, _) => Cost::Value(stats::describe::median(&values)?, values.len()),
        (true, Some(row)) => Cost::Without(row.status),
        (true, None) => Cost::Missing,
    })
}

fn of_subject<'a>(rows: &'a [Row], subject: &'a str, metric: &'a Metric) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(move |row| !row.is_aa && metric.name == *row.metric && row.subject.as_deref() == Some(subject))
}

/// A candidate's cost over the reference's; `None` without pairs.
///
/// # Errors
/// When a value is not positive.
pub fn ratio(rows: &[Row], reference: &str, candidate: &str, metric: &Metric) -> anyhow::Result<Option<Ratio>> {
    let pairs = subject_pairs(rows, metric.name.as_str(), candidate, 0)?;
    if !pairs.is_empty() {
        return Ok(Some(from_pairs(&pairs, metric.better)?));
    }
    let is_exact = of_subject(rows, candidate, metric).all(|row| row.pair.is_none());
    Ok(match (cost(rows, reference, metric)?, cost(rows, candidate, metric)?) {
        (Cost::Value(a, _), Cost::Value(b, _)) if is_exact && a > 0.0 => {
            Some(Ratio { ratio: b / a, interval: None, pairs: 0, contended: 0 })
        }
        _ => None,
    })
}

fn from_pairs(pairs: &[Pair], better: Better) -> anyhow::Result<Ratio> {
    // Pairs say "positive is worse"; a ratio of rates is candidate over reference all the same.
    let sign = if better == Better::Higher { -1.0 } else { 1.0 };
    let logs: Vec<f64> = pairs.iter().map(|pair| sign * pair.difference).collect();
    let contended = pairs.iter().filter(|pair| pair.is_contended).count();
    if pairs.len() < MIN_INTERVAL || logs.iter().all(|log| *log == logs[0]) {
        return Ok(Ratio { ratio: stats::describe::median(&logs)?.exp(), interval: None, pairs: pairs.len(), contended });
    }
    let change = reported_change(&logs, &BootstrapPlan::default())?.interval;
    Ok(Ratio {
        ratio: 1.0 + change.estimate,
        interval: Some((1.0 + change.low, 1.0 + change.high)),
        pairs: pairs.len(),
        contended,
    })
}

/// Header and rows of the absolute costs.
///
/// # Errors
/// When a value is not finite.
pub fn absolute(plan: &Plan, rows: &[Row]) -> anyhow::Result<(Vec<&'static str>, Vec<Vec<String>>)> {
    let lines = plan
        .subjects
        .iter()
        .map(|subject| {
            let name = subject.config.name();
            let cells = columns(plan).iter().map(|(_, metric)| {
                Ok(match cost(rows, name, metric)? {
                    Cost::Value(value, _) => quantity(value, metric.unit.as_str()),
                    Cost::Without(status) => status.to_string(),
                    Cost::Missing => MISSING.to_owned(),
                })
            });
            std::iter::once(Ok(name.to_owned())).chain(cells).collect()
        })
        .collect::<anyhow::Result<_>>()?;
    Ok((header(plan), lines))
}

/// Header and rows of the ratios to the reference; no rows for a plan of one subject.
///
/// # Errors
/// When a value is not positive.
pub fn relative(plan: &Plan, rows: &[Row]) -> anyhow::Result<(Vec<&'static str>, Vec<Vec<String>>)> {
    let Some(reference) = plan.reference() else { return Ok((header(plan), Vec::new())) };
    let mut lines = plan.subjects[1..]
        .iter()
        .map(|subject| {
            let name = subject.config.name();
            let cells = columns(plan)
                .iter()
                .map(|(_, metric)| Ok(ratio(rows, &reference.subject, name, metric)?.map_or(MISSING.to_owned(), ratio_cell)));
            std::iter::once(Ok(name.to_owned())).chain(cells).collect()
        })
        .collect::<anyhow::Result<Vec<Vec<String>>>>()?;
    if let Some(floors) = floor_line(columns(plan), rows)? {
        lines.push(floors);
    }
    Ok((header(plan), lines))
}

fn header(plan: &Plan) -> Vec<&'static str> {
    std::iter::once("subject").chain(columns(plan).iter().map(|(title, _)| *title)).collect()
}

fn ratio_cell(ratio: Ratio) -> String {
    match ratio.interval {
        Some((low, high)) => format!("{} [{}, {}]", ratio_pct(ratio.ratio), short(low), short(high)),
        None => ratio_pct(ratio.ratio),
    }
}

/// A percentage without its sign word, inside an interval.
fn short(ratio: f64) -> String {
    ratio_pct(ratio).trim_end_matches(" %").to_owned()
}

/// The noise floor per column; `None` when no control was measured.
fn floor_line(columns: &[Column], rows: &[Row]) -> anyhow::Result<Option<Vec<String>>> {
    if !rows.iter().any(|row| row.is_aa) {
        return Ok(None);
    }
    let mut line = vec!["A/A floor".to_owned()];
    for (_, metric) in columns {
        let differences: Vec<f64> = aa_pairs(rows, metric.name.as_str(), 0)?.iter().map(|pair| pair.difference).collect();
        line.push(match differences.len() {
            0 => MISSING.to_owned(),
            n if n < MIN_PAIRS => format!("{n} of {MIN_PAIRS} pairs"),
            _ => format!("±{:.2} %", 100.0 * noise_floor(&differences)?.phi),
        });
    }
    Ok(Some(line))
}

/// How many pairs and how many contended ones stand behind the table, in words.
///
/// # Errors
/// When a value is not positive.
pub fn caption(plan: &Plan, rows: &[Row]) -> anyhow::Result<String> {
    let sampled: Vec<&Row> = rows.iter().filter(|row| row.contended.is_some()).collect();
    let contended = sampled.iter().filter(|row| row.contended == Some(true)).count();
    let mut parts = Vec::new();
    if let Some(reference) = plan.reference() {
        let pairs = plan.pairs.len();
        parts.push(format!("ratios to `{}`: median of up to {pairs} pairs, 95 % bootstrap interval", reference.subject));
        if pairs < MIN_PAIRS {
            parts.push(format!("fewer than {MIN_PAIRS} pairs are shown, not judged"));
        }
    }
    if contended > 0 {
        parts.push(format!("{contended} of {} timed rows were contended: another process used the processor", sampled.len()));
    }
    if rows.iter().any(|row| row.cargo_profile.as_deref() == Some("dev") && row.contended.is_some()) {
        parts.push("timed in the dev profile".to_owned());
    }
    Ok(parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::Arm;

    fn row(subject: &str, arm: Arm, pair: u32, metric: &Metric, value: f64) -> Row {
        Row {
            subject: Some(subject.into()),
            arm,
            block: Some(pair / 2),
            pair: Some(pair),
            metric: metric.name.to_string(),
            better: metric.better,
            value: Some(value),
            ..Row::default()
        }
    }

    #[test]
    fn ratios_are_candidate_over_reference_for_times_and_for_rates() {
        for metric in [PREFILL_S, DECODE_TOKENS_PER_S] {
            // Ratios 2, 1.5 and 3: the median is 2.
            let values = [(1.0, 2.0), (2.0, 3.0), (1.0, 3.0)];
            let rows: Vec<Row> = values
                .iter()
                .zip(0..)
                .flat_map(|((a, b), pair)| [row("a", Arm::A, pair, &metric, *a), row("b", Arm::B, pair, &metric, *b)])
                .collect();
            let found = ratio(&rows, "a", "b", &metric).unwrap().unwrap();
            assert!((found.ratio - 2.0).abs() < 1e-12, "{found:?}");
            let (low, high) = found.interval.unwrap();
            assert!((low - 1.5).abs() < 1e-12 && (high - 3.0).abs() < 1e-12 && found.pairs == 3);
        }
    }

    #[test]
    fn exact_counts_have_a_ratio_without_an_interval() {
        let exact = |subject: &str, value| Row { pair: None, block: None, ..row(subject, Arm::None, 0, &PARAMS_TOTAL, value) };
        let found = ratio(&[exact("a", 100.0), exact("b", 104.0)], "a", "b", &PARAMS_TOTAL).unwrap().unwrap();
        assert_eq!((found.ratio, found.interval, found.pairs), (1.04, None, 0));
        assert_eq!(ratio_cell(found), "+4.0 %");
    }

    #[test]
    fn a_cell_without_a_number_says_why() {
        let failed =
            Row { value: None, status: Status::Oom, reason: Some("killed".into()), ..row("a", Arm::A, 0, &PREFILL_S, 0.0) };
        assert_eq!(cost(&[failed], "a", &PREFILL_S).unwrap(), Cost::Without(Status::Oom));
        assert_eq!(cost(&[], "a", &PREFILL_S).unwrap(), Cost::Missing);
    }

    #[test]
    fn the_floor_needs_ten_pairs_of_the_control() {
        let control = |pairs: u32| -> Vec<Row> {
            (0..pairs)
                .flat_map(|pair| {
                    [(Arm::A, 1.0), (Arm::B, 1.0 + 0.01 * f64::from(pair % 2))]
                        .map(|(arm, value)| Row { is_aa: true, ..row("a", arm, pair, &TRAIN_STEP_S, value) })
                })
                .collect()
        };
        assert_eq!(floor_line(&LANGUAGE, &control(9)).unwrap().unwrap()[3], "9 of 10 pairs");
        // Differences 0 and ln 1.01 in turn: the interval ends at most at 1 %.
        assert_eq!(floor_line(&LANGUAGE, &control(10)).unwrap().unwrap()[3], "±1.00 %");
        assert_eq!(floor_line(&LANGUAGE, &[]).unwrap(), None);
    }
}
