//! Arithmetic check of the published numbers: what a stated figure becomes when it is recomputed from its neighbours.
//!
//! ```text
//! stated percentage  vs  100·(B/A − 1)      a note when they differ by more than 0.01 (the paper truncates)
//! stated counts      vs  closed forms       the cases of measurement.md section 13, agreeing or not
//! ```
//! The stated value stays visible in every table; a note stands beside it and never replaces it.
//!
//! Source: measurement.md section 13, paper.md section 9.

use crate::error::ReportError;
use crate::number::thousands;
use crate::paper::{Paper, PaperTable};

/// Largest difference of a stated percentage that truncation to two decimals explains.
const TRUNCATION: f64 = 0.01;

/// Blocks per stage of ResNet-50, and the width after each stage.
const RESNET50: [(u64, u64); 4] = [(3, 256), (4, 512), (6, 1024), (3, 2048)];
/// Width after ResNet-50's stem.
const RESNET50_STEM: u64 = 64;
/// Trainable parameters of ResNet-50 with 1000 classes.
const RESNET50_PARAMS: u64 = 25_557_032;
/// Problems in HumanEval.
const HUMANEVAL: f64 = 164.0;

/// One note on a published number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LintNote {
    /// Table and row: `T2 MMLU`.
    pub place: String,
    /// What the paper states.
    pub stated: String,
    /// What comes out.
    pub recomputed: String,
}

/// Every note, in the order of the tables; within a table, percentages before counts.
///
/// # Errors
/// When a table lacks a row that a check needs.
pub fn lint(paper: &Paper) -> Result<Vec<LintNote>, ReportError> {
    let mut notes = Vec::new();
    notes.extend(counts_of_table1(paper)?);
    notes.extend(percentages(table(paper, "table2")?, "T2", ("baseline", "laurel", "change")));
    notes.push(humaneval(paper)?);
    notes.push(earlier_revision(paper)?);
    notes.extend(percentages(table(paper, "table3")?, "T3", ("baseline", "laurel", "change")));
    notes.extend(counts_of_table5(paper)?);
    notes.extend(counts_of_table6(paper)?);
    notes.extend(percentages(table(paper, "table7")?, "T7", ("baseline40", "laurel40", "change")));
    Ok(notes)
}

/// The notes on one table (`table2`), for its footnotes.
pub fn notes_for<'a>(notes: &'a [LintNote], table: &str) -> Vec<&'a LintNote> {
    let prefix = table.replace("table", "T");
    notes.iter().filter(|note| note.place.split([' ', ',']).any(|word| word == prefix)).collect()
}

fn note(place: impl Into<String>, stated: impl Into<String>, recomputed: impl Into<String>) -> LintNote {
    LintNote { place: place.into(), stated: stated.into(), recomputed: recomputed.into() }
}

fn table<'a>(paper: &'a Paper, name: &str) -> Result<&'a PaperTable, ReportError> {
    paper.table(name).ok_or_else(|| missing(name, "the table"))
}

fn missing(table: &str, what: &str) -> ReportError {
    ReportError::Definition { file: format!("reports/paper/{table}.toml"), what: format!("expected {what}, found none") }
}

fn value(table: &PaperTable, label: &str, key: &str) -> Result<f64, ReportError> {
    table
        .rows
        .iter()
        .find(|row| row.label == label)
        .and_then(|row| table.value(row, key))
        .map(|value| value.value)
        .ok_or_else(|| missing(&table.name, &format!("`{key}` of row `{label}`")))
}

fn percentages(table: &PaperTable, short: &str, (from, to, change): (&str, &str, &str)) -> Vec<LintNote> {
    let mut notes = Vec::new();
    for row in &table.rows {
        let (Some(a), Some(b), Some(stated)) = (table.value(row, from), table.value(row, to), table.value(row, change)) else {
            continue;
        };
        let relative = 100.0 * (b.value / a.value - 1.0);
        if (relative - stated.value).abs() > TRUNCATION {
            // Where the stated figure is nearer to the points than to the percent, say both.
            let points = b.value - a.value;
            let recomputed = if (points - stated.value).abs() < (relative - stated.value).abs() {
                format!("{relative:+.2} % relative, {points:+.2} points")
            } else {
                format!("{relative:+.2} %")
            };
            notes.push(note(format!("{short} {}", row.label), format!("{} %", stated.text), recomputed));
        }
    }
    notes
}

fn counts_of_table1(paper: &Paper) -> Result<Vec<LintNote>, ReportError> {
    let table = table(paper, "table1")?;
    let share = |params: u64| 100.0 * params as f64 / RESNET50_PARAMS as f64;
    let stated = |label: &str| -> Result<(f64, String), ReportError> {
        let added = value(table, label, "added")?;
        let text = table.rows.iter().find(|row| row.label == label).and_then(|row| row.cells.get("added"));
        Ok((added, format!("{} %", text.map_or("", String::as_str))))
    };

    // 1×1, 3×3, 1×1 convolutions without bias, each with a scale and a shift per output channel.
    let (wide, narrow) = (1024, 256);
    let bottleneck = 2 * wide * narrow + 9 * narrow * narrow + 2 * (2 * narrow + wide);
    let (extra, extra_text) = stated("Baseline + 1 layer")?;
    let verdict = if (share(bottleneck) - extra).abs() <= TRUNCATION {
        "agrees, and tells which block was added"
    } else {
        "not explained by the text"
    };
    let first = format!(
        "one identity bottleneck 1024-256-1024 has {} params = {:.3} % of {}: {verdict}",
        thousands(bottleneck),
        share(bottleneck),
        thousands(RESNET50_PARAMS)
    );

    let blocks: u64 = RESNET50.iter().map(|(blocks, _)| blocks).sum();
    let scalars = 2 * blocks;
    let (rw, rw_text) = stated("LAuReL-RW")?;
    let implied = rw / 100.0 * RESNET50_PARAMS as f64;
    let second = format!(
        "two scalars in {blocks} blocks are {scalars} params = {:.5} %; {rw} % would be about {implied:.0}: not explained by the text",
        share(scalars)
    );

    let rank = 16;
    let outputs: u64 = RESNET50.iter().map(|(blocks, width)| blocks * width).sum();
    let identity: u64 = RESNET50.iter().map(|(blocks, width)| (blocks - 1) * width).sum();
    let entries: u64 = [RESNET50_STEM].into_iter().chain(RESNET50.iter().map(|(_, width)| *width)).take(4).sum();
    let inputs = identity + entries;
    let (_, lr_text) = stated("LAuReL-RW+LR, r = 16")?;
    let pairs = |widths: u64| 2 * rank * widths;
    let third = format!(
        "2·16·ΣD over the {blocks} block outputs is {} = {:.2} %; over the {} identity blocks {} = {:.2} %; \
         with input widths {} = {:.2} %: placement not explained by the text",
        thousands(pairs(outputs)),
        share(pairs(outputs)),
        blocks - RESNET50.len() as u64,
        thousands(pairs(identity)),
        share(pairs(identity)),
        thousands(pairs(inputs)),
        share(pairs(inputs)),
    );
    Ok(vec![note("T1 extra layer", extra_text, first), note("T1 RW", rw_text, second), note("T1 RW+LR, r = 16", lr_text, third)])
}

fn humaneval(paper: &Paper) -> Result<LintNote, ReportError> {
    let table = table(paper, "table2")?;
    let (a, b) = (value(table, "HumanEval", "baseline")?, value(table, "HumanEval", "laurel")?);
    let change = value(table, "HumanEval", "change")?;
    let (before, after) = ((a / 100.0 * HUMANEVAL).round(), (b / 100.0 * HUMANEVAL).round());
    let p = before / HUMANEVAL;
    let stderr_points = 100.0 * (p * (1.0 - p) / HUMANEVAL).sqrt();
    let solved = if after - before == 1.0 { "one problem".to_owned() } else { format!("{} problems", after - before) };
    Ok(note(
        "T2 HumanEval",
        format!("{change:+.2} %"),
        format!("{before} → {after} of {HUMANEVAL} problems: {solved}; SE of one score {stderr_points:.1} points"),
    ))
}

fn earlier_revision(paper: &Paper) -> Result<LintNote, ReportError> {
    let (two, three) = (table(paper, "table2")?, table(paper, "table3")?);
    let relative = |table: &PaperTable, label: &str| -> Result<f64, ReportError> {
        Ok(100.0 * (value(table, label, "laurel")? / value(table, label, "baseline")? - 1.0))
    };
    let (tydi, mgsm) = (relative(two, "TyDi QA GoldP")?, relative(three, "MGSM")?);
    let v4 = (value(two, "TyDi QA GoldP", "change")?, value(three, "MGSM", "change")?);
    Ok(note(
        "T2 TyDi QA, T3 MGSM in an earlier revision",
        "+6.07 % both",
        format!("{tydi:+.2} %, {mgsm:+.2} % (v4 has {:.2} and {:.2})", v4.0, v4.1),
    ))
}

fn counts_of_table5(paper: &Paper) -> Result<Vec<LintNote>, ReportError> {
    let table = table(paper, "table5")?;
    let params = |label: &str| value(table, label, "params");
    let base = params("Baseline-24")?;
    let (rank, width, layers, lags) = (32_u64, 768_u64, 24_u64, 3_u64);
    let pair = 2 * rank * width * layers;
    let lr = params("LR")? - base;
    let pa = params("PA")? - base;
    let all = params("RW+LR+PA")? - base;
    let lags_pairs = pair * lags;
    let million = |count: u64| count as f64 / 1e6;
    Ok(vec![
        note(
            "T5 LR",
            format!("{lr:+.2} M"),
            format!("2·{rank}·{width}·{layers} = {:.2} M: agrees if D = {width}", million(pair)),
        ),
        note(
            "T5 PA; RW+LR+PA",
            format!("{pa:+.2} M; {all:+.2} M"),
            format!(
                "k scalars per layer would be {} params, {layers}·{width} = {} would fit; 2rkDN = {:.2} M leaves {:.2} M open",
                lags * layers,
                thousands(layers * width),
                million(lags_pairs),
                all - million(lags_pairs)
            ),
        ),
    ])
}

fn counts_of_table6(paper: &Paper) -> Result<Vec<LintNote>, ReportError> {
    let table = table(paper, "table6")?;
    let params = |label: &str| value(table, label, "params");
    let (base, deeper, laurel) = (params("Baseline-40")?, params("Baseline-41")?, params("LAuReL-40")?);
    let layers = 40.0;
    let per_layer = (deeper - base) * 1e9;
    // A layer of 12·D² parameters: 4·D² attention and 8·D² in a two-matrix MLP of width 4·D.
    let width = (per_layer / 12.0).sqrt();
    let rank = 64.0;
    let added = 2.0 * rank * width * layers;
    let (step_naive, step_laurel) = (value(table, "Baseline-41", "step")?, value(table, "LAuReL-40", "step")?);
    let mut notes = vec![
        note(
            "T6 LAuReL-40",
            format!("{:+.0} M with r = {rank}", (laurel - base) * 1e3),
            format!(
                "2rDN with the D implied by {:.0} M per layer (12D²) gives about {:.0} M: not explained",
                per_layer / 1e6,
                added / 1e6
            ),
        ),
        note(
            "T6 Baseline-40",
            format!("{base:.3} B"),
            format!("{layers} layers of {:.0} M are {:.1} B: not explained", per_layer / 1e6, layers * per_layer / 1e9),
        ),
    ];
    if step_laurel > step_naive {
        notes.push(note(
            "T6",
            "—",
            "step time of LAuReL-40 is above that of the extra layer: on this axis alone naive scaling wins",
        ));
    }
    Ok(notes)
}
