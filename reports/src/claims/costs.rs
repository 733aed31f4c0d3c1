//! Claims about cost and conduct: ratios to the own baseline, counts, memory against k, runs that finish.
//!
//! ```text
//! within        95 % interval of the paired ratio inside 1 + cost ± margin        one-sided   the whole interval on the claimed side of 1
//! activations   peak(k + 1) − peak(k) ≤ one activation, B·T·D·bytes
//! stable        no run of the variant failed, and its largest gradient spike ≤ plain's + margin
//! ```
//! Fewer than ten pairs are shown and not judged; equal counts have no interval and need none.
//!
//! Source: paper.md section 10, measurement.md sections 3, 7 and 10.

use std::collections::BTreeMap;

use records::{Better, RecordKind};

use super::arena::{Arena, text_of};
use super::{Finding, Standing, all_of};
use crate::compare::{Ratio, ratio, why_no_ratio};
use crate::error::ReportError;
use crate::number::{quantity, ratio_pct, significant};
use crate::paper::{Claim, Expect};
use crate::study::{Group, Study};
use crate::subject::{Subject, display_variant, latest_by_seed};

fn range(found: &Ratio, metric: &str) -> String {
    // The paper states savings in parameters as a factor.
    if metric.starts_with("params") && found.ratio < 0.9 {
        return format!("{}× fewer, n = {}", significant(1.0 / found.ratio), found.n);
    }
    let range = found.interval.map_or_else(String::new, |(low, high)| format!(" [{}, {}]", ratio_pct(low), ratio_pct(high)));
    format!("{}{range}, n = {}", ratio_pct(found.ratio), found.n)
}

/// Ends of the ratio, or why it is shown and not judged.
fn judged(found: &Ratio) -> Result<(f64, f64), String> {
    let is_count = found.pairs.iter().all(|pair| *pair == found.pairs[0]);
    match found.interval {
        None if is_count => Ok((found.ratio, found.ratio)),
        None => Err("no interval".to_owned()),
        Some(_) if found.n < stats::gate::MIN_PAIRS => {
            Err(format!("{} pairs of at least {}: shown, not judged", found.n, stats::gate::MIN_PAIRS))
        }
        Some(ends) => Ok(ends),
    }
}

/// Ratios of every variant of a claim (at the rank it states) to the one it names, judged by `stand`.
fn each(arena: &Arena<'_>, claim: &Claim, stand: impl Fn(usize, (f64, f64)) -> Standing) -> Result<Finding, ReportError> {
    let against = claim.against.as_deref().unwrap_or("plain");
    let Some(reference) = arena.subject(against) else {
        return Ok(Finding::not_run(format!("needs {} of {against}", arena.metric)));
    };
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    for (at, variant) in claim.variants.iter().enumerate() {
        let mut name = display_variant(variant);
        let subject = match claim.rank {
            None => arena.subject(variant),
            Some(rank) => {
                name = format!("{name} r{rank}");
                arena.subject_at(variant, "residual_rank", &rank.to_string())
            }
        };
        let Some(subject) = subject else {
            missing.push(name);
            continue;
        };
        let Some(found) = ratio(arena.study, reference, subject, arena.query())? else {
            missing.push(format!("{name} ({})", why_no_ratio(arena.study, reference, subject, arena.query())));
            continue;
        };
        findings.push(match judged(&found) {
            Ok(ends) => {
                let standing = stand(at, ends);
                let half = 0.5 * (ends.1 - ends.0);
                // The interval's half-width is what a ratio must differ by to be seen.
                let detectable = if standing == Standing::Unresolved && half > 0.0 {
                    format!(", detectable about {}", ratio_pct(1.0 + half).trim_start_matches('+'))
                } else {
                    String::new()
                };
                Finding::new(standing, format!("{name} {}{detectable}", range(&found, arena.metric)))
            }
            Err(why) => Finding::new(Standing::Unresolved, format!("{name} {} ({why})", range(&found, arena.metric))),
        });
    }
    Ok(all_of(findings, &missing))
}

/// Cheaper, or dearer, than the one named.
pub(super) fn one_sided(arena: &Arena<'_>, claim: &Claim) -> Result<Finding, ReportError> {
    let is_lower_claimed = (claim.expect == Expect::Better) == (arena.better != Better::Higher);
    each(arena, claim, |_, (low, high)| match (high < 1.0, low > 1.0) {
        (true, _) if is_lower_claimed => Standing::Supported,
        (_, true) if !is_lower_claimed => Standing::Supported,
        (false, false) => Standing::Unresolved,
        _ => Standing::NotSupported,
    })
}

/// The stated cost, within the margin.
pub(super) fn within(arena: &Arena<'_>, claim: &Claim) -> Result<Finding, ReportError> {
    let margin = claim.margin.unwrap_or(0.0);
    each(arena, claim, |at, (low, high)| {
        let centre = 1.0 + claim.costs.get(at).copied().unwrap_or(0.0);
        if centre - margin <= low && high <= centre + margin {
            Standing::Supported
        } else if low > centre + margin || high < centre - margin {
            Standing::NotSupported
        } else {
            Standing::Unresolved
        }
    })
}

/// Counted LAuReL parameters equal the closed form, everywhere.
pub(super) fn closed_form(study: &Study) -> Finding {
    let values = |metric: &str| -> BTreeMap<_, f64> {
        study
            .of_metric(metric)
            .flat_map(|group| {
                let key = |own: &crate::study::Own| {
                    (group.shared.subject.clone(), group.shared.run_id.clone(), own.block, own.pair, own.worker, own.seed)
                };
                group.rows.iter().filter_map(move |own| Some((key(own), own.value?)))
            })
            .collect()
    };
    let (counted, formulas) = (values("params_laurel"), values("params_closed_form"));
    let mut compared = 0;
    let mut differing: Vec<String> = Vec::new();
    for (key, value) in &counted {
        if let Some(formula) = formulas.get(key) {
            compared += 1;
            if formula != value {
                differing.extend(key.0.clone());
            }
        }
    }
    differing.dedup();
    match (compared, differing.is_empty()) {
        (0, _) => Finding::not_run("needs params_laurel and params_closed_form"),
        (_, true) => Finding::new(Standing::Supported, format!("counted equals closed form in {compared} rows")),
        (_, false) => Finding::new(Standing::NotSupported, format!("differs for {}", differing.join(", "))),
    }
}

/// The same number as the reference in every common seed, to the bit.
pub(super) fn identical(arena: &Arena<'_>, claim: &Claim) -> Finding {
    let by_seed = |subject: &Subject| latest_by_seed(arena.query().rows(arena.study, subject, RecordKind::Sample));
    let Some(reference) = claim.against.as_deref().and_then(|against| arena.subject(against)).map(by_seed) else {
        return Finding::not_run(format!("needs {} of the reference", arena.metric));
    };
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    for variant in &claim.variants {
        let found = arena.subject(variant).map(by_seed).unwrap_or_default();
        let pairs: Vec<(f64, f64)> =
            found.iter().filter_map(|(seed, row)| Some((row.own.value?, reference.get(seed)?.own.value?))).collect();
        if pairs.is_empty() {
            missing.push(display_variant(variant));
            continue;
        }
        let differing = pairs.iter().filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        let words = format!("{}: {} of {} seeds bit-equal", display_variant(variant), pairs.len() - differing, pairs.len());
        findings.push(Finding::new(if differing == 0 { Standing::Supported } else { Standing::NotSupported }, words));
    }
    all_of(findings, &missing)
}

/// Every run of every variant finishes, with gradient spikes no larger than plain's plus the margin (as a ratio).
pub(super) fn stable(arena: &Arena<'_>, claim: &Claim) -> Finding {
    let largest = |subject: &Subject| {
        let values = arena.groups(subject).flat_map(Group::values);
        values.fold(f64::NEG_INFINITY, f64::max)
    };
    let Some(plain) = arena.subject("plain").map(largest) else {
        return Finding::not_run(format!("needs {} of plain", arena.metric));
    };
    let margin = claim.margin.unwrap_or(0.0);
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    for variant in &claim.variants {
        let name = display_variant(variant);
        let subject = arena.subject(variant);
        // Where no run finished there are no spikes to show, and so no subject: it is the least stable of all.
        let is_it = |other: &Subject| subject.map_or(other.variant == *variant, |subject| other.name == subject.name);
        if let Some(reason) = arena.failure(|other, _| is_it(other)) {
            findings.push(Finding::new(Standing::NotSupported, format!("{name}: a run failed ({reason})")));
            continue;
        }
        let Some(spike) = subject.map(largest) else {
            missing.push(name);
            continue;
        };
        findings.push(if spike <= plain + margin {
            Finding::new(Standing::Supported, format!("{name}: largest gradient {spike:.2} times the median"))
        } else {
            let words = format!("{name}: largest gradient {spike:.2} times the median, plain {plain:.2}");
            Finding::new(Standing::NotSupported, words)
        });
    }
    all_of(findings, &missing)
}

/// Peak memory grows by at most one activation per remembered activation.
pub(super) fn activations(arena: &Arena<'_>, claim: &Claim) -> Finding {
    let column = claim.column.as_deref().unwrap_or_default();
    let sweep = arena.sweep(&claim.variants[0], column);
    let mut peaks: Vec<(u64, f64, f64)> = Vec::new();
    for (value, subject) in &sweep {
        let Some(group) = arena.groups(subject).next() else { continue };
        let row = &group.shared;
        let number = |column: &str| text_of(row, column).and_then(|text| text.parse::<f64>().ok());
        let tokens = number("prompt_length").or_else(|| number("sequence_length"));
        let bytes = if row.dtype.as_deref() == Some("f32") { 4.0 } else { 2.0 };
        let activation = number("batch").zip(tokens).zip(number("hidden_size")).map(|((b, t), d)| b * t * d * bytes);
        let peak = group.values().fold(f64::NEG_INFINITY, f64::max);
        if let (Ok(value), Some(activation)) = (value.parse(), activation) {
            peaks.push((value, peak, activation));
        }
    }
    if peaks.len() < 2 {
        return Finding::not_run(format!("needs {} of {} at two values of {column}", arena.metric, claim.variants[0]));
    }
    let findings = peaks
        .windows(2)
        .map(|pair| {
            let steps = (pair[1].0 - pair[0].0) as f64;
            let grown = (pair[1].1 - pair[0].1) / steps;
            // A hundredth of an activation covers the k scalars and their names.
            let standing = if grown <= 1.01 * pair[1].2 { Standing::Supported } else { Standing::NotSupported };
            let words = format!(
                "k {} to {}: {} per step, one activation is {}",
                pair[0].0,
                pair[1].0,
                quantity(grown, "bytes"),
                quantity(pair[1].2, "bytes")
            );
            Finding::new(standing, words)
        })
        .collect();
    all_of(findings, &[])
}
