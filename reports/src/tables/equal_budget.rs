//! Equal budget: what a variant gains over naive scaling of the same cost, and how much cost it saves. The paper's actual argument.
//!
//! ```text
//! curve          quality(cost) through plain, naive+1, naive+2, …     monotone interpolation, never extrapolated
//! gain           quality(variant) − curve(cost of variant)            positive is better
//! saving factor  cost naive scaling adds to reach the variant's quality ÷ cost the variant adds
//! ```
//! Intervals: 95 % percentile bootstrap over seeds and workers. Outside the measured range of the curve a cell says so.
//!
//! Source: measurement.md section 12; `stats::budget_curve`.

use stats::bootstrap::{BootstrapEstimate, BootstrapPlan};
use stats::budget_curve::{EqualBudgetRoles, equal_budget};

use super::Table;
use crate::conditions::one_condition;
use crate::draws::{QUALITIES, direction, draws};
use crate::error::ReportError;
use crate::number::{Scale, fixed, quantity, significant};
use crate::paper::Paper;
use crate::provenance::Provenance;
use crate::study::{Group, Study};
use crate::subject::{Subject, subjects, titles};
use crate::table::{Content, NumberCell, TableCell, TableData, TableRow};

const COSTS: [&str; 5] = ["params_total", "flops_forward", "train_step_s", "prefill_s", "peak_alloc_bytes"];

/// The table of equal-budget gains.
pub(super) struct EqualBudgetTable;

impl Table for EqualBudgetTable {
    fn name(&self) -> &'static str {
        "equal_budget"
    }

    fn build(&self, study: &Study, _: &Paper) -> Result<TableData, ReportError> {
        let study = &one_condition(study).study;
        let mut table = TableData::new("equal_budget", "Equal budget: against naive scaling", Provenance::default());
        table.text_column("subject", "Subject");
        table.text_column("cost", "Cost");
        table.number_column("at", "At", None);
        table.number_column("gain", "Gain", None);
        table.number_column("equivalent", "Naive scaling needs", None);
        table.number_column("saving", "Saving factor", None);
        let Some(quality) = QUALITIES.into_iter().find(|metric| study.of_metric(metric).next().is_some()) else {
            table.caption = String::from("Nothing was measured.");
            return Ok(table);
        };
        for cost in COSTS {
            let all = subjects(study, |group| group.shared.metric == quality);
            let mut families: Vec<&str> = all.iter().map(Subject::family).collect();
            families.dedup();
            for family in families {
                let has_cost = |subject: &Subject| study.of_subject(&subject.name, cost).any(Group::is_ok);
                let members: Vec<Subject> =
                    all.iter().filter(|subject| subject.family() == family && has_cost(subject)).cloned().collect();
                rows_of(&mut table, study, &members, cost, quality)?;
            }
        }
        table.caption = format!(
            "Quality is `{quality}`; a positive gain is an improvement over naive scaling of the same cost. The curve runs through the \
             baseline and naive+L and is not extrapolated. Brackets: 95 % percentile bootstrap interval over seeds and workers."
        );
        Ok(table)
    }
}

fn rows_of(table: &mut TableData, study: &Study, members: &[Subject], cost: &str, quality: &str) -> Result<(), ReportError> {
    let curve: Vec<usize> = members
        .iter()
        .enumerate()
        .filter(|(_, subject)| subject.is_plain() || subject.variant.starts_with("naive"))
        .map(|(at, _)| at)
        .collect();
    if curve.len() < 2 {
        return Ok(());
    }
    let Some(drawn) = draws(study, members, cost, quality)? else { return Ok(()) };
    let unit = |metric: &str| study.of_metric(metric).next().map_or(String::new(), |group| group.shared.unit.clone());
    let (cost_unit, quality_unit) = (unit(cost), unit(quality));
    // Two points of equal cost are no curve, for example when a count did not change.
    if curve.iter().all(|at| drawn.observed[*at][0] == drawn.observed[curve[0]][0]) {
        return Ok(());
    }
    let what = || format!("equal budget in {cost}");
    for (variant, title) in titles(members).into_iter().enumerate().filter(|(at, _)| !curve.contains(at)) {
        let roles = EqualBudgetRoles { curve: &curve, variant, cost_axis: 0, quality_axis: 1, better: direction(study, quality) };
        let found = equal_budget(&drawn, &roles, &BootstrapPlan::default()).map_err(ReportError::stats(what()))?;
        let scale = Scale::of(&quality_unit, [drawn.observed[variant][1]]);
        let outside = table.footnote("outside the measured range of naive scaling");
        let gain = cell(found.observed.gain, found.gain, &quality_unit, outside, |x| {
            let sign = if x > 0.0 { "+" } else { "" };
            format!("{sign}{}", significant(x / scale.divisor))
        });
        let saving = cell(found.observed.saving_factor, found.saving_factor, "1", outside, |x| format!("{}×", fixed(x, 2)));
        let equivalent = match found.observed.equivalent_cost {
            Some(value) => number(value, None, &cost_unit, quantity(value, &cost_unit)),
            None => TableCell::missing(outside),
        };
        let at = drawn.observed[variant][0];
        table.rows.push(TableRow {
            group: None,
            cells: vec![
                TableCell::words(title),
                TableCell::words(cost),
                number(at, None, &cost_unit, quantity(at, &cost_unit)),
                gain,
                equivalent,
                saving,
            ],
        });
    }
    Ok(())
}

fn number(value: f64, interval: Option<(f64, f64)>, unit: &str, text: String) -> TableCell {
    let unit = unit.to_owned();
    Content::Number(NumberCell { value, interval, n: None, unit, scale: Scale::NONE, text: Some(text) }).into()
}

fn cell(
    value: Option<f64>,
    drawn: Option<BootstrapEstimate>,
    unit: &str,
    outside: usize,
    show: impl Fn(f64) -> String,
) -> TableCell {
    let Some(value) = value else { return TableCell::missing(outside) };
    let interval = drawn.map(|drawn| (drawn.interval.low, drawn.interval.high));
    let range = interval.map_or_else(String::new, |(low, high)| format!(" [{}, {}]", show(low), show(high)));
    number(value, interval, unit, format!("{}{range}", show(value)))
}
