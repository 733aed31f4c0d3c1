//! Tables on the fixed records: what is shown, what is bold, what is missing, and the paper's numbers beside it.

use reports::table::{Content, TableData};
use reports::tables::by_name;
use reports::{Paper, Study, Style, render};

use crate::synthetic::{study, sweep};

fn build(name: &str, study: &Study) -> TableData {
    by_name(name).unwrap().build(study, &Paper::load().unwrap()).unwrap()
}

fn cell(table: &TableData, row: &str, column: &str) -> String {
    let at = table.columns.iter().position(|c| c.key == column).unwrap_or_else(|| panic!("no column `{column}`"));
    table.rows.iter().find(|r| r.cells[0].text() == row).unwrap_or_else(|| panic!("no row `{row}`")).cells[at].text()
}

#[test]
fn paper_rows_render_to_the_published_constants() {
    let none = Study::default();
    let table5 = build("table5", &none);
    assert_eq!(cell(&table5, "RW+LR", "paper_loss"), "2.9531");
    assert_eq!(cell(&table5, "naive+4", "paper_memory"), "13.23");
    assert_eq!(cell(&build("table2", &none), "BoolQ", "paper_laurel"), "65.66");
    assert_eq!(cell(&build("table2", &none), "HellaSwag", "paper_change"), "+0.03");
    assert_eq!(cell(&build("table3", &none), "MGSM", "paper_baseline"), "20.0");
    assert_eq!(cell(&build("table1", &none), "RW", "paper_accuracy"), "75.10 ± 0.10");
    assert_eq!(cell(&build("table7", &none), "BookQA", "paper_baseline41"), "42.77 ± 4.15");
    assert_eq!(cell(&build("table4", &none), "LR+PA", "paper_latency"), "O(krD² + kD)");
    assert_eq!(cell(&build("table6", &none), "RW+LR", "paper_step_change"), "+2.42");
}

#[test]
fn a_printed_number_keeps_its_value_in_our_unit() {
    let table = build("table5", &Study::default());
    let at = table.columns.iter().position(|column| column.key == "paper_memory").unwrap();
    assert_eq!(table.rows[0].cells[at].content, Content::Printed { text: "11.65".into(), value: 11.65e9 });
}

#[test]
fn quality_table_as_text() {
    insta::assert_snapshot!(render(&build("quality", &study()), Style::Text));
}

#[test]
fn cost_table_as_text() {
    insta::assert_snapshot!(render(&build("table5", &study()), Style::Text));
}

#[test]
fn gains_as_markdown() {
    insta::assert_snapshot!(render(&build("gains", &study()), Style::Md));
}

#[test]
fn table1_shows_measured_paper_and_setting_beside_each_other() {
    // Accuracy of five seeds, 90.0 to 90.4 %: mean 90.2, s = 0.158, half-width 2.776·0.158/√5 = 0.196 points.
    let like = |variant: &str, metric: &str, value: f64, seed: i64| {
        let known = records::Metric::by_name(metric).unwrap();
        records::Row {
            subject: Some(format!("resnet-{variant}")),
            variant: Some(variant.into()),
            metric: metric.into(),
            unit: known.unit.as_str().into(),
            better: known.better,
            value: Some(value),
            seed: Some(seed),
            model_family: Some("resnet".into()),
            dataset: Some("imagenette".into()),
            image_size: Some(64),
            batch: Some(32),
            ..records::Row::default()
        }
    };
    let mut rows = Vec::new();
    for seed in 0..5 {
        for (variant, base) in [("plain", 0.900), ("rw", 0.902 + 0.0001 * (seed % 2) as f64)] {
            rows.push(like(variant, "acc1_best", base + 0.001 * seed as f64, seed));
            rows.push(like(variant, "acc5", 0.99 + 0.001 * seed as f64, seed));
        }
        rows.push(like("rw", "params_added_pct", 0.003, seed));
    }
    let table = build("table1", &Study::new(rows));
    assert_eq!(cell(&table, "Baseline", "acc1_best"), "90.20 ± 0.20");
    assert_eq!(cell(&table, "Baseline", "paper_accuracy"), "74.95 ± 0.01");
    assert_eq!(cell(&table, "RW", "params_added_pct"), "0.00300");
    assert_eq!(cell(&table, "RW", "paper_added"), "0.003");
    assert_eq!(cell(&table, "RW", "setting"), "resnet; imagenette; image 64; batch 32");
    assert_eq!(cell(&table, "RW+LR", "setting"), "—");
    // Differences 0.20, 0.21, 0.20, 0.21, 0.20 points: mean 0.204, s = 0.0055, half-width 2.776·0.0055/√5 = 0.0068.
    let gain = table.columns.iter().position(|column| column.key == "acc1_best_relative").unwrap();
    let rw = table.rows.iter().find(|row| row.cells[0].text() == "RW").unwrap();
    assert!(
        rw.cells[gain].is_bold && rw.cells[gain].text().starts_with("+0.2040 [+0.1972, +0.2108]"),
        "{}",
        rw.cells[gain].text()
    );
}

#[test]
fn the_frontier_table_names_probability_hypervolume_and_rival() {
    let table = build("frontier", &study());
    let find = |group: &str, subject: &str| {
        table
            .rows
            .iter()
            .find(|row| row.group.as_deref().is_some_and(|g| g.contains(group)) && row.cells[0].text() == subject)
            .unwrap()
    };
    // naive+1 has the most parameters and a loss above that of RW in every draw: never on the front.
    let naive = find("added parameters", "naive+1");
    assert_eq!((naive.cells[3].text().as_str(), naive.cells[4].value()), ("0.00", Some(0.0)));
    assert_eq!(naive.cells[5].text(), "RW (1.00)");
    let best = find("added parameters", "RW+LR+PA");
    assert_eq!((best.cells[3].text().as_str(), best.cells[5].text().as_str()), ("1.00", "none"));
    assert!(best.cells[4].value().unwrap() > 0.0);
    // Its loss is the lowest: without it the volume up to (1.05·198 272, 1.05·3.0) shrinks by its lead over RW+LR in loss, scaled.
    assert!(best.group.as_ref().unwrap().contains("; hypervolume "));
}

#[test]
fn paper_table_as_latex() {
    insta::assert_snapshot!(render(&build("table1", &Study::default()), Style::Latex));
}

#[test]
fn paper_table_as_csv() {
    insta::assert_snapshot!(render(&build("table6", &Study::default()), Style::Csv));
}

#[test]
fn a_failed_cell_says_so_with_its_reason() {
    let table = build("table5", &study());
    assert_eq!(cell(&table, "RW+LR+PA", "peak_alloc_bytes"), "failed");
    assert!(table.footnotes.iter().any(|note| note == "oom: killed at 2 GiB"), "{:?}", table.footnotes);
}

#[test]
fn bold_follows_the_corrected_interval() {
    let table = build("table5", &study());
    let at = table.columns.iter().position(|column| column.key == "val_loss_relative").unwrap();
    // Every variant's loss is below plain's by 0.03 or more with a paired spread of about 0.001.
    let bold: Vec<bool> =
        table.rows.iter().filter(|row| row.cells[at].value().is_some()).map(|row| row.cells[at].is_bold).collect();
    assert_eq!(bold, [true; 4]);
    let step = table.columns.iter().position(|column| column.key == "train_step_s_relative").unwrap();
    assert!(table.rows.iter().all(|row| !row.cells[step].is_bold), "no variant is faster than plain");
}

#[test]
fn equal_budget_compares_with_naive_scaling_and_never_extrapolates() {
    let table = build("equal_budget", &study());
    let column = |key: &str| table.columns.iter().position(|column| column.key == key).unwrap();
    let row = |subject: &str, cost: &str| {
        table.rows.iter().find(|row| row.cells[0].text() == subject && row.cells[1].text() == cost).unwrap()
    };
    // RW adds 8 of naive+1's 198 272 parameters, so the curve is still at plain's loss: the gain is the whole 0.04.
    let gain = row("RW", "params_total").cells[column("gain")].value().unwrap();
    assert!((gain - 0.04).abs() < 0.001, "{gain}");
    // Its loss is below that of the deepest naive model: no saving factor without extrapolation.
    assert_eq!(row("RW", "params_total").cells[column("saving")].text(), "—");
    assert_eq!(table.footnotes, ["outside the measured range of naive scaling"]);
}

#[test]
fn prompt_lengths_are_never_pooled() {
    let table = build("efficiency", &sweep());
    // 10 µs per token · 512 tokens; the scatter's median is 0 and the 3rd of 12 order statistics from either end are −0.6 and 0.5:
    // 5.12·0.02·0.6 = 0.061.
    assert_eq!(cell(&table, "Baseline", "prefill_s"), "5.120 ± 0.061");
    let words = "prefill_s: at prompt_length 512, threads 1, dtype f32; other conditions were measured and are not pooled";
    assert!(table.footnotes.iter().any(|note| note == words), "{:?}", table.footnotes);
}

#[test]
fn claims_are_judged_from_the_records() {
    let table = build("claims", &study());
    assert_eq!(cell(&table, "C03", "verdict"), "supported");
    assert_eq!(cell(&table, "C33", "verdict"), "supported");
    assert_eq!(cell(&table, "C17", "verdict"), "supported");
    // lr and pa were not trained, so "all variants" cannot be shown.
    assert_eq!(cell(&table, "C13", "verdict"), "not run");
    assert_eq!(cell(&table, "C28", "verdict"), "not run");
    assert_eq!(cell(&table, "C07", "verdict"), "not run");
}

#[test]
fn text_fits_a_hundred_columns() {
    for table in reports::build_tables(&study(), None, "harness report").unwrap() {
        for line in render(&table, Style::Text).lines() {
            assert!(line.chars().count() <= 100, "{}: {line}", table.name);
        }
    }
}

#[test]
fn an_unknown_table_lists_those_there_are() {
    let message = by_name("table9").err().unwrap().to_string();
    assert!(message.starts_with("unknown table: `table9` (expected one of: quality, gains,"), "{message}");
}
