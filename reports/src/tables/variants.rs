//! Tables with one row per variant: costs beside quality, absolute and relative to the reference, the paper's numbers beside ours.
//!
//! ```text
//! variant | measure … (value ± interval) | relative … (ratio or difference, 95 % interval) | paper … | our setting
//! ```
//! Table 1, 4, 5, 6 and the efficiency table are this one layout with different measures. Relative columns are paired (workers by pair
//! or process, runs by seed); lower is never assumed better: bold follows the metric's direction.
//!
//! Source: measurement.md sections 3–7, 10 and 13.

use records::{Better, Row, Source};

use super::Table;
use super::quality::paper_cell;
use crate::compare::{correct, difference, ratio, why_no_ratio};
use crate::conditions::{depends_on_machine, one_condition};
use crate::error::ReportError;
use crate::lint;
use crate::number::{Scale, ratio_pct};
use crate::paper::{Paper, PaperRow, PaperTable};
use crate::provenance::Provenance;
use crate::study::{Group, Study};
use crate::subject::{Found, Query, Subject, display_variant, estimate, reference_of, subjects, titles, variant_rank};
use crate::table::{BOLD_RULE, Content, NumberCell, TableCell, TableData, TableRow};

/// How a measure is set against the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relative {
    /// Not at all.
    No,
    /// Ratio − 1 in percent.
    Ratio,
    /// Difference in the unit.
    Difference,
}

/// One measured quantity of a table.
#[derive(Clone, Copy, Debug)]
struct Measure {
    title: &'static str,
    /// In order of preference; the first that was measured is shown and named.
    metrics: &'static [&'static str],
    relative: Relative,
}

const PARAMS: Measure = Measure { title: "Params", metrics: &["params_total"], relative: Relative::Ratio };
const LOSS: Measure = Measure { title: "Loss", metrics: &["val_loss"], relative: Relative::Difference };
const MEMORY: Measure = Measure {
    title: "Peak memory",
    metrics: &["peak_device_used_bytes", "peak_alloc_bytes", "peak_rss_bytes"],
    relative: Relative::Ratio,
};
const STEP: Measure = Measure { title: "Step", metrics: &["train_step_s"], relative: Relative::Ratio };

/// A table with one row per variant.
pub struct VariantTable {
    name: &'static str,
    title: &'static str,
    paper: Option<&'static str>,
    measures: &'static [Measure],
}

/// Table 1: vision accuracy against added parameters.
pub const TABLE1: VariantTable = VariantTable {
    name: "table1",
    title: "Table 1: image classification",
    paper: Some("table1"),
    measures: &[
        Measure { title: "Accuracy@1, average best", metrics: &["acc1_best", "acc1"], relative: Relative::Difference },
        Measure { title: "Accuracy@1, average final", metrics: &["acc1_final"], relative: Relative::Difference },
        Measure { title: "Accuracy@5", metrics: &["acc5"], relative: Relative::Difference },
        Measure { title: "Params added, %", metrics: &["params_added_pct"], relative: Relative::No },
    ],
};
/// Table 4: cost per instance, the paper's symbols beside counted and measured costs.
pub const TABLE4: VariantTable = VariantTable {
    name: "table4",
    title: "Table 4: cost of LAuReL",
    paper: Some("table4"),
    measures: &[
        Measure { title: "LAuReL params", metrics: &["params_laurel"], relative: Relative::No },
        Measure { title: "LAuReL FLOP per token", metrics: &["flops_laurel"], relative: Relative::No },
        STEP,
        MEMORY,
    ],
};
/// Table 5: small language model, quality and cost.
pub const TABLE5: VariantTable = VariantTable {
    name: "table5",
    title: "Table 5: small language model, quality and cost",
    paper: Some("table5"),
    measures: &[PARAMS, LOSS, MEMORY, STEP],
};
/// Table 6: against one more layer.
pub const TABLE6: VariantTable =
    VariantTable { name: "table6", title: "Table 6: against naive scaling", paper: Some("table6"), measures: &[PARAMS, STEP] };
/// Every inference and training cost.
pub const EFFICIENCY: VariantTable = VariantTable {
    name: "efficiency",
    title: "Efficiency: parameters, FLOPs, speed and memory",
    paper: None,
    measures: &[
        PARAMS,
        Measure { title: "Added, %", metrics: &["params_added_pct"], relative: Relative::No },
        Measure { title: "FLOPs forward", metrics: &["flops_forward"], relative: Relative::Ratio },
        STEP,
        Measure { title: "Prefill", metrics: &["prefill_s"], relative: Relative::Ratio },
        Measure { title: "TTFT", metrics: &["ttft_s"], relative: Relative::Ratio },
        Measure { title: "TPOT", metrics: &["tpot_s"], relative: Relative::Ratio },
        Measure { title: "Decode", metrics: &["decode_tokens_per_s"], relative: Relative::Ratio },
        Measure { title: "Image latency", metrics: &["image_latency_s"], relative: Relative::Ratio },
        Measure { title: "Images", metrics: &["images_per_s"], relative: Relative::Ratio },
        Measure { title: "Peak alloc", metrics: &["peak_alloc_bytes"], relative: Relative::Ratio },
        Measure { title: "Peak RSS", metrics: &["peak_rss_bytes"], relative: Relative::Ratio },
        LOSS,
    ],
};

/// A measure as found in the records: its metric and the shown scale.
struct Shown {
    measure: Measure,
    metric: &'static str,
    scale: Scale,
    found: Vec<Found>,
}

impl Table for VariantTable {
    fn name(&self) -> &'static str {
        self.name
    }

    fn build(&self, study: &Study, paper: &Paper) -> Result<TableData, ReportError> {
        let narrowed = one_condition(study);
        let study = &narrowed.study;
        let metrics: Vec<&str> = self.measures.iter().flat_map(|measure| measure.metrics).copied().collect();
        let all = subjects(study, |group| metrics.contains(&group.shared.metric.as_str()));
        let published = self.paper.and_then(|name| paper.table(name));
        let shown = self.shown(study, &all)?;
        let mut table = TableData::new(self.name, self.title, Provenance::default());
        columns(&mut table, &shown, published);
        // The paper's setting stands in the caption, ours in each row.
        let has_setting = published.is_some() && !all.is_empty();
        if has_setting {
            table.text_column("setting", "Our setting");
        }
        let relative = relatives(&mut table, study, &all, &shown)?;
        let mut used = Vec::new();
        for (at, (subject, title)) in all.iter().zip(titles(&all)).enumerate() {
            let row = published.and_then(|published| paper_row(published, subject, &used));
            used.extend(row.map(|row| row.label.clone()));
            let mut cells = vec![TableCell::words(title)];
            for (column, shown) in shown.iter().enumerate() {
                cells.push(table.found(&shown.found[at], shown.scale));
                if let Some(cell) = &relative[column] {
                    cells.push(cell[at].clone());
                }
            }
            cells.extend(paper_cells(&mut table, published, row));
            if has_setting {
                cells.push(setting_of(study, subject, &metrics));
            }
            table.rows.push(TableRow { group: None, cells });
        }
        for row in published.iter().flat_map(|published| &published.rows).filter(|row| !used.contains(&row.label)) {
            let width =
                table.columns.len() - published.map_or(0, |published| published.columns.len() + 1) - usize::from(has_setting);
            let mut cells = vec![TableCell::words(row.variant.as_deref().map_or(row.label.clone(), display_variant))];
            cells.resize(width, Content::Missing.into());
            cells.extend(paper_cells(&mut table, published, Some(row)));
            if has_setting {
                cells.push(Content::Missing.into());
            }
            table.rows.push(TableRow { group: None, cells });
        }
        if let Some(published) = published {
            for note in lint::notes_for(&lint::lint(paper)?, &published.name) {
                table.footnote(format!("{}: stated {}; {}", note.place, note.stated, note.recomputed));
            }
        }
        for shown in &shown {
            if let Some(words) = narrowed.chosen.get(shown.metric) {
                table.footnote(format!("{}: at {words}; other conditions were measured and are not pooled", shown.metric));
            }
        }
        table.caption = caption(&table, &shown, published, all.is_empty());
        Ok(table)
    }
}

impl VariantTable {
    fn shown(&self, study: &Study, all: &[Subject]) -> Result<Vec<Shown>, ReportError> {
        let mut shown = Vec::new();
        for measure in self.measures {
            let Some(metric) = measure.metrics.iter().copied().find(|metric| study.of_metric(metric).any(is_measured)) else {
                continue;
            };
            let query = Query { metric, ..Query::default() };
            let found = all.iter().map(|subject| estimate(study, subject, query)).collect::<Result<Vec<_>, _>>()?;
            let numbers =
                || found.iter().filter_map(|found| if let Found::Number(estimate) = found { Some(estimate) } else { None });
            let unit = numbers().next().map_or("", |estimate| estimate.unit.as_str());
            let scale = Scale::of(unit, numbers().map(|estimate| estimate.value));
            shown.push(Shown { measure: *measure, metric, scale, found });
        }
        Ok(shown)
    }
}

fn caption(table: &TableData, shown: &[Shown], published: Option<&PaperTable>, is_unmeasured: bool) -> String {
    let mut parts = Vec::new();
    if !shown.is_empty() {
        let names: Vec<String> = shown.iter().map(|s| format!("{} is `{}`", s.measure.title, s.metric)).collect();
        parts.push(format!("{}.", names.join("; ")));
    }
    parts.push(table.describe_intervals());
    if shown.iter().any(|shown| shown.measure.relative != Relative::No) {
        parts.push("Δ is against the baseline, paired, with its 95 % interval in brackets.".to_owned());
    }
    if table.uses_bold() {
        parts.push(BOLD_RULE.to_owned());
    }
    if let Some(published) = published {
        parts.push(format!("Paper: {}; {}.", published.locator, published.setting));
        parts.push(if is_unmeasured {
            "Nothing was measured; the published numbers stand alone.".to_owned()
        } else {
            "Paper and measured values come from different scale and hardware: compare sign, order and ratio to the own baseline only."
                .to_owned()
        });
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

/// `demo; decoder 4 × 128; batch 8; sequence 128; f32`: how a subject was measured, where that is recorded.
fn setting_of(study: &Study, subject: &Subject, metrics: &[&str]) -> TableCell {
    let groups: Vec<&Group> = metrics.iter().flat_map(|metric| study.of_subject(&subject.name, metric)).collect();
    let first = |get: fn(&Row) -> Option<String>| groups.iter().find_map(|group| get(&group.shared));
    let number = |name: &str, value: Option<u64>| value.map(|value| format!("{name} {value}"));
    let parts: Vec<String> = [
        first(|row| row.tier.map(|tier| tier.as_str().to_owned())),
        first(|row| {
            let shape = row.num_hidden_layers.zip(row.hidden_size).map(|(layers, width)| format!(" {layers} × {width}"));
            row.model_family.as_ref().map(|family| format!("{family}{}", shape.unwrap_or_default()))
        }),
        first(|row| row.dataset.clone().or_else(|| row.task.clone())),
        number("image", groups.iter().find_map(|group| group.shared.image_size)),
        number("batch", groups.iter().find_map(|group| group.shared.batch)),
        number("sequence", groups.iter().find_map(|group| group.shared.sequence_length)),
        first(|row| row.dtype.clone()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { Content::Missing.into() } else { TableCell::words(parts.join("; ")) }
}

fn is_measured(group: &Group) -> bool {
    group.shared.source == Source::Measured
}

fn columns(table: &mut TableData, shown: &[Shown], published: Option<&PaperTable>) {
    table.text_column("variant", "Variant");
    for shown in shown {
        let unit = if shown.scale.unit.is_empty() || shown.measure.title.contains('%') {
            String::new()
        } else {
            format!(", {}", shown.scale.unit)
        };
        table.number_column(shown.metric, &format!("{}{unit}", shown.measure.title), Some("Measured"));
        match shown.measure.relative {
            Relative::No => {}
            _ => table.number_column(&format!("{}_relative", shown.metric), "Δ", Some("Measured")),
        }
    }
    if let Some(published) = published {
        table.text_column("paper_label", "Row");
        for column in &published.columns {
            table.number_column(&format!("paper_{}", column.key), &column.title, Some("Paper"));
        }
        if let Some(label) = table.columns.iter_mut().find(|column| column.key == "paper_label") {
            label.group = Some("Paper".to_owned());
        }
    }
}

/// Cells of the relative columns: one list per measure, one cell per subject.
fn relatives(
    table: &mut TableData,
    study: &Study,
    all: &[Subject],
    shown: &[Shown],
) -> Result<Vec<Option<Vec<TableCell>>>, ReportError> {
    let mut gains = Vec::new();
    let mut places = Vec::new();
    let mut out: Vec<Option<Vec<TableCell>>> = Vec::new();
    for (column, shown) in shown.iter().enumerate() {
        if shown.measure.relative == Relative::No {
            out.push(None);
            continue;
        }
        let query = Query { metric: shown.metric, ..Query::default() };
        let mut cells = Vec::new();
        for (at, subject) in all.iter().enumerate() {
            let Some(reference) = reference_of(subject, all) else { continue };
            if reference == subject {
                cells.push(TableCell::words("reference"));
                continue;
            }
            let cell = if shown.measure.relative == Relative::Ratio {
                ratio_cell(table, study, reference, subject, query)?
            } else if let Some(gain) = difference(study, reference, subject, query)? {
                let text = signed(gain.difference / shown.scale.divisor, gain.interval, shown.scale.divisor);
                let cell = number(gain.difference, gain.interval, &gain.unit, text);
                gains.push(gain);
                places.push((column, at));
                cell
            } else {
                TableCell::missing(table.footnote("no common seeds with the reference"))
            };
            cells.push(cell);
        }
        out.push(Some(cells));
    }
    correct(&mut gains)?;
    for ((column, at), gain) in places.into_iter().zip(gains) {
        if let Some(cell) = out[column].as_mut().and_then(|cells| cells.get_mut(at)) {
            cell.is_bold = gain.word() == "better";
        }
    }
    Ok(out)
}

fn ratio_cell(
    table: &mut TableData,
    study: &Study,
    reference: &Subject,
    subject: &Subject,
    query: Query<'_>,
) -> Result<TableCell, ReportError> {
    let Some(found) = ratio(study, reference, subject, query)? else {
        return Ok(TableCell::missing(table.footnote(why_no_ratio(study, reference, subject, query))));
    };
    let better = study.of_metric(query.metric).next().map_or(Better::None, |group| group.shared.better);
    let range = found.interval.map_or_else(String::new, |(low, high)| format!(" [{}, {}]", ratio_pct(low), ratio_pct(high)));
    let mut cell = number(
        found.ratio - 1.0,
        found.interval.map(|(low, high)| (low - 1.0, high - 1.0)),
        "1",
        format!("{}{range}", ratio_pct(found.ratio)),
    );
    let is_timed = study.of_subject(&subject.name, query.metric).any(|group| depends_on_machine(&group.shared));
    if let Some(profile) = with_assertions(study, subject, query.metric).filter(|_| is_timed) {
        cell.footnotes
            .push(table.footnote(format!("times of a build with debug assertions (profile `{profile}`): shown, not judged")));
    } else if found.interval.is_some() && found.n < stats::gate::MIN_PAIRS {
        let words = format!("{} pairs: shown, not judged (at least {})", found.n, stats::gate::MIN_PAIRS);
        cell.footnotes.push(table.footnote(words));
    } else if let Some((low, high)) = found.interval {
        cell.is_bold = match better {
            Better::Lower => high < 1.0,
            Better::Higher => low > 1.0,
            Better::None => false,
        };
    }
    Ok(cell)
}

/// The build profile of a subject's rows, where it has debug assertions.
fn with_assertions<'a>(study: &'a Study, subject: &Subject, metric: &str) -> Option<&'a str> {
    let profile = study.of_subject(&subject.name, metric).find_map(|group| group.shared.cargo_profile.as_deref())?;
    (profile != "release").then_some(profile)
}

fn number(value: f64, interval: Option<(f64, f64)>, unit: &str, text: String) -> TableCell {
    let unit = unit.to_owned();
    Content::Number(NumberCell { value, interval, n: None, unit, scale: Scale::NONE, text: Some(text) }).into()
}

fn signed(value: f64, interval: Option<(f64, f64)>, divisor: f64) -> String {
    let decimals = interval.map_or_else(
        || crate::number::decimals_for(value, 3),
        |(low, high)| crate::number::decimals_for((high - low) / 2.0 / divisor, 2),
    );
    let show = |x: f64| {
        let text = crate::number::fixed(x, decimals);
        if x > 0.0 { format!("+{text}") } else { text }
    };
    let range = interval.map_or_else(String::new, |(low, high)| format!(" [{}, {}]", show(low / divisor), show(high / divisor)));
    format!("{}{range}", show(value))
}

/// The published row of a subject's variant; any number of extra layers stands for the paper's naive scaling.
fn paper_row<'a>(published: &'a PaperTable, subject: &Subject, used: &[String]) -> Option<&'a PaperRow> {
    let is_naive = |variant: &str| variant.starts_with("naive");
    published.rows.iter().filter(|row| !used.contains(&row.label)).find(|row| {
        row.variant.as_deref().is_some_and(|variant| {
            variant_rank(variant) == variant_rank(&subject.variant) || (is_naive(variant) && is_naive(&subject.variant))
        })
    })
}

fn paper_cells(table: &mut TableData, published: Option<&PaperTable>, row: Option<&PaperRow>) -> Vec<TableCell> {
    let Some(published) = published else { return Vec::new() };
    let Some(row) = row else {
        return vec![Content::Missing.into(); published.columns.len() + 1];
    };
    let mut cells = vec![TableCell::words(&row.label)];
    for column in &published.columns {
        cells.push(paper_cell(table, published, row, &column.key));
    }
    cells
}
