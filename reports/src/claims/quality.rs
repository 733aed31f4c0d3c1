//! Claims about quality: each is a contrast of paired seeds that must be positive.
//!
//! ```text
//! better    q_v − q_against                        share    q_v − (1 − s)·q_plain − s·q_against
//! equal     |q_v − q_against| < m (two tests)      peak     q_best − q_r for every other r
//! little    s·(q_best − q_against) − (q_v − q_against)
//! enough    s·(q_k − q_plain) − (q_k' − q_k) for every k' > k
//! order     q_v − q_next for each neighbour        front    p_front over bootstrap draws
//! ```
//! Source: paper.md section 10.

use super::arena::{Arena, text_of};
use super::{Finding, Standing, all_of};
use crate::draws::{direction, draws};
use crate::error::ReportError;
use crate::number::fixed;
use crate::paper::Claim;
use crate::subject::{Subject, display_variant};
use records::Row;
use stats::pareto::{Objective, front_probability};

type Judged = Result<Finding, ReportError>;

/// The subject a claim holds its variants against, or what is missing.
fn against<'a>(arena: &'a Arena<'_>, claim: &Claim) -> Result<&'a Subject, Finding> {
    let variant = claim.against.as_deref().unwrap_or("plain");
    arena.subject(variant).ok_or_else(|| Finding::not_run(format!("needs {} of {variant}", arena.metric)))
}

/// Every variant of a claim against the one it names.
fn each(arena: &Arena<'_>, claim: &Claim, sign: f64) -> Judged {
    let reference = match against(arena, claim) {
        Ok(reference) => reference,
        Err(missing) => return Ok(missing),
    };
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    for variant in &claim.variants {
        let Some(subject) = arena.subject(variant) else {
            missing.push(display_variant(variant));
            continue;
        };
        let terms = [(subject, sign), (reference, -sign)];
        let mut label = subject.short_title();
        // A reference out of a sweep is named: another one may say otherwise.
        if reference.short_title() != display_variant(&reference.variant) {
            label = format!("{label} against {}", reference.short_title());
        }
        findings.push(arena.contrast(&terms, claim.variants.len())?.finding(&label));
    }
    Ok(all_of(findings, &missing))
}

pub(super) fn better(arena: &Arena<'_>, claim: &Claim) -> Judged {
    each(arena, claim, 1.0)
}

pub(super) fn worse(arena: &Arena<'_>, claim: &Claim) -> Judged {
    each(arena, claim, -1.0)
}

/// "Equals": two one-sided tests at the claim's margin.
pub(super) fn equal(arena: &Arena<'_>, claim: &Claim) -> Judged {
    let reference = match against(arena, claim) {
        Ok(reference) => reference,
        Err(missing) => return Ok(missing),
    };
    let variant = claim.variants.first().map_or("", String::as_str);
    let swept = claim.rank.and_then(|rank| arena.subject_at(variant, "residual_rank", &rank.to_string()));
    let Some(subject) = swept.or_else(|| arena.subject(variant)) else {
        return Ok(Finding::not_run(format!("needs {} of {variant}", arena.metric)));
    };
    let contrast = arena.gain(subject, reference, 1)?;
    let margin = claim.margin.unwrap_or(0.0);
    let label = format!("{} − {}", display_variant(&subject.variant), display_variant(&reference.variant));
    let Some(sd) = contrast.sd else {
        return Ok(Finding::new(Standing::Unresolved, format!("{label} {}", contrast.words())));
    };
    let what = || format!("equivalence in {}", arena.metric);
    let stderr = sd / (contrast.n as f64).sqrt();
    let found = stats::equivalence::tost_from(contrast.mean, stderr, (contrast.n - 1) as f64, margin, 0.05)
        .map_err(ReportError::stats(what()))?;
    let (low, high) = (found.interval.low, found.interval.high);
    let standing = if found.is_shown {
        Standing::Supported
    } else if low > margin || high < -margin {
        Standing::NotSupported
    } else {
        Standing::Unresolved
    };
    let words = format!("{label} {}; margin ± {margin}, 90 % interval [{low:+.4}, {high:+.4}]", contrast.words());
    Ok(Finding::new(standing, words))
}

/// "Most of the gain": the variant gains at least a share of what the other gains over plain.
pub(super) fn share(arena: &Arena<'_>, claim: &Claim) -> Judged {
    let share = claim.share.unwrap_or(0.5);
    let subjects = (arena.subject("plain"), arena.subject(&claim.variants[0]), against(arena, claim));
    let (Some(plain), Some(subject), Ok(other)) = subjects else {
        return Ok(Finding::not_run(format!("needs {} of plain, {} and naive scaling", arena.metric, claim.variants[0])));
    };
    let gain = arena.gain(other, plain, 1)?;
    if !gain.is_shown() {
        // A share of a gain that is not there means nothing.
        let words =
            format!("{} gains {} over plain, so no share of it can be judged", display_variant(&other.variant), gain.words());
        return Ok(Finding::new(Standing::Unresolved, words));
    }
    let contrast = arena.contrast(&[(subject, 1.0), (plain, share - 1.0), (other, -share)], 1)?;
    Ok(contrast.finding(&format!(
        "gain of {} less {share} of that of {}:",
        display_variant(&subject.variant),
        display_variant(&other.variant)
    )))
}

/// Values of the swept column that the claim calls best, and the best of them by mean.
fn best_of<'a, 'b>(arena: &Arena<'_>, sweep: &'b [(String, &'a Subject)], best: &[u64]) -> Option<&'b (String, &'a Subject)> {
    sweep
        .iter()
        .filter(|(value, _)| best.iter().any(|best| best.to_string() == *value))
        .max_by(|(_, a), (_, b)| arena.mean(a).unwrap_or(f64::MIN).total_cmp(&arena.mean(b).unwrap_or(f64::MIN)))
}

/// "Best at …": one of the named values beats every other value of the sweep.
pub(super) fn peak(arena: &Arena<'_>, claim: &Claim) -> Judged {
    let column = claim.column.as_deref().unwrap_or_default();
    let sweep = arena.sweep(&claim.variants[0], column);
    let others: Vec<&(String, &Subject)> =
        sweep.iter().filter(|(value, _)| !claim.best.iter().any(|best| best.to_string() == *value)).collect();
    let Some((value, subject)) = best_of(arena, &sweep, &claim.best).filter(|_| others.len() >= 2) else {
        return Ok(Finding::not_run(format!("needs a sweep of {column} with {:?} and at least two others", claim.best)));
    };
    let mut findings = Vec::new();
    for (other, rival) in &others {
        findings.push(arena.gain(subject, rival, others.len())?.finding(&format!("{value} over {other}:")));
    }
    Ok(all_of(findings, &[]))
}

/// "Adds little": named values gain less than a share of what the best ones gain over the reference.
pub(super) fn little(arena: &Arena<'_>, claim: &Claim) -> Judged {
    let column = claim.column.as_deref().unwrap_or_default();
    let sweep = arena.sweep(&claim.variants[0], column);
    let (Some((best, top)), Ok(reference)) = (best_of(arena, &sweep, &claim.best), against(arena, claim)) else {
        return Ok(Finding::not_run(format!(
            "needs a sweep of {column} with {:?} and {:?}, and its reference",
            claim.values, claim.best
        )));
    };
    let share = claim.share.unwrap_or(0.5);
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    for value in &claim.values {
        let Some((_, subject)) = sweep.iter().find(|(found, _)| *found == value.to_string()) else {
            missing.push(format!("{column} {value}"));
            continue;
        };
        let contrast = arena.contrast(&[(top, share), (reference, 1.0 - share), (subject, -1.0)], claim.values.len())?;
        findings.push(contrast.finding(&format!("{share} of the gain of {best} less that of {value}:")));
    }
    Ok(all_of(findings, &missing))
}

/// "Is enough": no larger value gains a share more over what the named value gains over plain.
pub(super) fn enough(arena: &Arena<'_>, claim: &Claim) -> Judged {
    let column = claim.column.as_deref().unwrap_or_default();
    let sweep = arena.sweep(&claim.variants[0], column);
    let wanted = claim.values.first().copied().unwrap_or(0);
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let subject = sweep.iter().find(|(value, _)| number(value) == wanted);
    let larger: Vec<&(String, &Subject)> = sweep.iter().filter(|(value, _)| number(value) > wanted).collect();
    let (Some((_, subject)), Ok(plain), false) = (subject, against(arena, claim), larger.is_empty()) else {
        return Ok(Finding::not_run(format!("needs a sweep of {column} with {wanted} and larger values, and plain")));
    };
    let share = claim.share.unwrap_or(0.25);
    let mut findings = Vec::new();
    for (value, rival) in &larger {
        let terms = [(*subject, 1.0 + share), (plain, -share), (*rival, -1.0)];
        let contrast = arena.contrast(&terms, larger.len())?;
        findings.push(contrast.finding(&format!("{share} of the gain of {wanted} less what {value} adds:")));
    }
    Ok(all_of(findings, &[]))
}

/// "Matters": some pair of values differs, after correction.
pub(super) fn matters(arena: &Arena<'_>, claim: &Claim) -> Judged {
    let column = claim.column.as_deref().unwrap_or_default();
    let Some(sweep) = claim.variants.iter().map(|variant| arena.sweep(variant, column)).find(|sweep| sweep.len() >= 2) else {
        return Ok(Finding::not_run(format!("needs a sweep of {column}")));
    };
    let (first, base) = &sweep[0];
    let mut words = Vec::new();
    let mut is_shown = false;
    for (value, subject) in &sweep[1..] {
        let contrast = arena.gain(subject, base, 2 * (sweep.len() - 1))?;
        let mirrored = arena.gain(base, subject, 2 * (sweep.len() - 1))?;
        is_shown |= contrast.is_opposite_shown() || mirrored.is_opposite_shown();
        words.push(format!("{value} − {first} {}", contrast.words()));
    }
    let standing = if is_shown { Standing::Supported } else { Standing::Unresolved };
    Ok(Finding::new(standing, words.join("; ")))
}

/// One setting of a column beats another.
pub(super) fn setting(arena: &Arena<'_>, claim: &Claim) -> Judged {
    let column = claim.column.as_deref().unwrap_or_default();
    let (setting, other) = (claim.setting.as_deref().unwrap_or_default(), claim.other.as_deref().unwrap_or_default());
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    for variant in &claim.variants {
        let name = display_variant(variant);
        let side = |value: &str| arena.subject_at(variant, column, value);
        let failure = |value: &str| {
            let is_it = |row: &Row| text_of(row, column).as_deref() == Some(value);
            let reason = arena.failure(|subject, row| subject.variant == *variant && is_it(row))?;
            Some(format!("{name} {value}: a run failed ({reason})"))
        };
        if let (Some(a), Some(b)) = (side(setting), side(other)) {
            findings.push(arena.gain(a, b, claim.variants.len())?.finding(&format!("{name} {setting} − {other}")));
        } else if side(setting).is_none()
            && let Some(failed) = failure(setting)
        {
            findings.push(Finding::new(Standing::NotSupported, failed));
        } else {
            // How much better a setting is than one that gives no number cannot be said.
            missing.push(failure(other).unwrap_or_else(|| format!("{name} {setting} and {other}")));
        }
    }
    Ok(all_of(findings, &missing))
}

/// Each variant beats the next.
pub(super) fn order(arena: &Arena<'_>, claim: &Claim) -> Judged {
    let mut findings = Vec::new();
    let missing: Vec<String> =
        claim.variants.iter().filter(|variant| arena.subject(variant).is_none()).map(|v| display_variant(v)).collect();
    for pair in claim.variants.windows(2) {
        if let (Some(a), Some(b)) = (arena.subject(&pair[0]), arena.subject(&pair[1])) {
            let label = format!("{} over {}:", display_variant(&pair[0]), display_variant(&pair[1]));
            findings.push(arena.gain(a, b, claim.variants.len() - 1)?.finding(&label));
        }
    }
    Ok(all_of(findings, &missing))
}

/// Every variant is worth its cost: on the front of quality against the cost column.
pub(super) fn front(arena: &Arena<'_>, claim: &Claim) -> Judged {
    let cost = claim.column.as_deref().unwrap_or_default();
    let named: Vec<&Subject> =
        ["plain"].into_iter().chain(claim.variants.iter().map(String::as_str)).filter_map(|v| arena.subject(v)).collect();
    let missing: Vec<String> =
        claim.variants.iter().filter(|variant| arena.subject(variant).is_none()).map(|v| display_variant(v)).collect();
    let members: Vec<Subject> = named.into_iter().cloned().collect();
    let Some(drawn) = draws(arena.study, &members, cost, arena.metric)? else {
        return Ok(Finding::not_run(format!("needs {cost} and two common seeds of {}", arena.metric)));
    };
    let objectives = [Objective::exact(direction(arena.study, cost)), Objective::exact(direction(arena.study, arena.metric))];
    let found = front_probability(&drawn, &objectives).map_err(ReportError::stats(format!("front of {cost}")))?;
    let findings = members
        .iter()
        .zip(found.p_front)
        .filter(|(subject, _)| !subject.is_plain())
        .map(|(subject, p)| {
            let standing = match p {
                p if p >= 0.95 => Standing::Supported,
                p if p <= 0.05 => Standing::NotSupported,
                _ => Standing::Unresolved,
            };
            Finding::new(standing, format!("{} p_front {}", display_variant(&subject.variant), fixed(p, 2)))
        })
        .collect();
    Ok(all_of(findings, &missing))
}
