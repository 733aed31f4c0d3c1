//! The report folder: the same bytes twice, nothing loaded from elsewhere, every file there.

use std::collections::BTreeMap;
use std::path::Path;

use reports::{Paper, ReportOptions, Study, build_report, plots};

use crate::synthetic::{rows, study, sweep, sweep_rows};

fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn options() -> ReportOptions {
    ReportOptions { command: "harness report --out report".into(), ..ReportOptions::default() }
}

#[test]
fn two_renders_are_byte_identical_whatever_the_order_of_rows() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let written = build_report(&study(), a.path(), &options()).unwrap();
    let mut rows = rows();
    rows.reverse();
    build_report(&Study::new(rows), b.path(), &options()).unwrap();
    let (left, right) = (tree(a.path()), tree(b.path()));
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (name, bytes) in &left {
        assert!(bytes == &right[name], "{name} differs");
    }
    assert_eq!(written.len(), left.len());
}

#[test]
fn the_folder_holds_every_kind_of_file() {
    let folder = tempfile::tempdir().unwrap();
    build_report(&study(), folder.path(), &options()).unwrap();
    let files = tree(folder.path());
    for name in [
        "index.html",
        "provenance.json",
        "tables/table5.md",
        "tables/table5.tex",
        "tables/table5.csv",
        "tables/table5.json",
        "tables/collection.tex",
        "plots/pareto_params_added.svg",
        "plots/pareto_params_added.png",
        "plots/overhead_train_step_s.svg",
        "plots/curves.png",
        "cards/lm-tiny-rw+lr.md",
    ] {
        assert!(files.contains_key(name), "{name} missing among {:?}", files.keys());
    }
    assert!(files["plots/curves.png"].starts_with(b"\x89PNG"));
}

#[test]
fn the_page_loads_nothing_and_carries_what_the_figures_say() {
    let folder = tempfile::tempdir().unwrap();
    build_report(&study(), folder.path(), &options()).unwrap();
    let html = std::fs::read_to_string(folder.path().join("index.html")).unwrap();
    // The XML namespace is a name, not an address that a browser loads.
    let rest = html.replace("http://www.w3.org/2000/svg", "");
    for scheme in ["http:", "https:", "src=", "url(", "@import", "<link", "<iframe"] {
        assert!(!rest.contains(scheme), "the page contains `{scheme}`");
    }
    assert!(html.contains("default-src &#x27;none&#x27;") || html.contains("default-src 'none'"));
    assert!(html.matches("role=\"img\"").count() >= 3);
    assert_eq!(html.matches("role=\"img\"").count(), html.matches("Data of this figure").count());
    assert!(html.contains("p_front 1.00") && html.contains("harness report --out report"));
    // Ids are unique, or anchors and labels would point elsewhere.
    let mut ids: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn a_hostile_name_stays_text_everywhere() {
    let name = "x<script>alert(1)</script>|y\\input{z}\"";
    let mut rows = rows();
    for row in rows.iter_mut().filter(|row| row.variant.as_deref() == Some("rw")) {
        row.subject = Some(name.to_owned());
        row.record_id = String::new();
    }
    let folder = tempfile::tempdir().unwrap();
    build_report(&Study::new(rows), folder.path(), &options()).unwrap();
    for (file, bytes) in tree(folder.path()) {
        let text = String::from_utf8_lossy(&bytes);
        let extension = file.rsplit('.').next().unwrap_or_default();
        if extension == "html" || extension == "svg" {
            assert!(!text.contains("<script>alert"), "{file}");
        }
        if extension == "tex" {
            assert!(!text.contains("\\input{z}"), "{file}");
        }
    }
}

#[test]
fn a_report_without_rows_shows_the_published_numbers_alone() {
    let folder = tempfile::tempdir().unwrap();
    build_report(&Study::default(), folder.path(), &options()).unwrap();
    let files = tree(folder.path());
    assert!(!files.keys().any(|name| name.starts_with("plots/")));
    let text = String::from_utf8_lossy(&files["tables/table5.md"]).into_owned();
    assert!(text.contains("2.9499") && text.contains("the published numbers stand alone"), "{text}");
}

#[test]
fn sweeps_draw_rank_and_latency_with_their_data() {
    let paper = Paper::load().unwrap();
    let rank = &plots::draw(Some("rank"), &sweep(), &paper, plots::PlotOptions::default()).unwrap()[0];
    assert_eq!(rank.data.rows.len(), 5);
    let svg = rank.svg().unwrap();
    assert_eq!(svg.matches("<title>RW+LR at ").count(), 5);
    assert!(svg.contains("<rect") && svg.contains("<title>RW: 2.96"), "{svg}");
    let latency = plots::draw(Some("latency"), &sweep(), &paper, plots::PlotOptions::default()).unwrap();
    assert_eq!(
        latency.iter().map(|figure| (figure.name.as_str(), figure.data.rows.len())).collect::<Vec<_>>(),
        [("latency_prefill_s", 9), ("latency_ttft_s", 9), ("latency_tpot_s", 9)]
    );
}

#[test]
fn memory_is_split_into_what_the_accounting_knows_and_the_rest() {
    let paper = Paper::load().unwrap();
    let figures = plots::draw(Some("memory"), &sweep(), &paper, plots::PlotOptions::default()).unwrap();
    assert_eq!(figures.iter().map(|figure| figure.name.as_str()).collect::<Vec<_>>(), ["memory_training", "memory_inference"]);
    // Plain, steady: 27 MB = 4 weights + 4 gradients + 8 moments + 11 rest.
    let row = &figures[0].data.rows[2];
    let values: Vec<f64> = row.cells[2..].iter().map(|cell| cell.value().unwrap()).collect();
    assert_eq!((row.cells[1].text().as_str(), values), ("steady", vec![27e6, 4e6, 4e6, 8e6, 11e6]));
    let inference = &figures[1].data.rows[1];
    assert_eq!(inference.cells[3..].iter().map(|cell| cell.value().unwrap()).collect::<Vec<_>>(), [4e6, 0.0, 0.0, 5e6]);
}

#[test]
fn weights_held_in_bf16_take_half_of_their_f32_bytes() {
    let paper = Paper::load().unwrap();
    let mut rows = sweep_rows();
    for row in rows.iter_mut().filter(|row| row.metric.starts_with("peak_alloc_prefill")) {
        row.dtype = Some("bf16".into());
    }
    let figures = plots::draw(Some("memory"), &Study::new(rows), &paper, plots::PlotOptions::default()).unwrap();
    // Plain, prefill: 9 MB = 2 of the 4 that the weights take in f32 + 7 rest.
    let prefill = &figures[1].data.rows[1];
    assert_eq!(prefill.cells[3..].iter().map(|cell| cell.value().unwrap()).collect::<Vec<_>>(), [2e6, 0.0, 0.0, 7e6]);
}

#[test]
fn the_heat_map_has_a_cell_per_variant_and_rank() {
    let paper = Paper::load().unwrap();
    let heat = &plots::draw(Some("heat"), &sweep(), &paper, plots::PlotOptions::default()).unwrap()[0];
    let cells: Vec<(String, String)> = heat.data.rows.iter().map(|row| (row.cells[0].text(), row.cells[1].text())).collect();
    // RW has no rank; LR and RW+LR have five each.
    assert_eq!(cells.len(), 11);
    assert_eq!(cells[0], ("RW".to_owned(), "—".to_owned()));
    assert_eq!(cells[10], ("RW+LR".to_owned(), "64".to_owned()));
    // RW+LR at 16: 3.0 − 2.943 plus a scatter of at most 0.002: better, whatever the direction of the metric.
    let gain = heat.data.rows[8].cells[2].value().unwrap();
    assert!((gain - 0.057).abs() < 0.003, "{gain}");
}

#[test]
fn event_files_hold_every_step_of_every_run() {
    let folder = tempfile::tempdir().unwrap();
    build_report(&study(), folder.path(), &options()).unwrap();
    let files = tree(folder.path());
    let name = "tensorboard/lm-tiny-rw+lr-s1/events.out.tfevents.0.laurel";
    // Read back by the framing alone: lengths lead from record to record to the end of the file.
    let bytes = &files[name];
    let (mut at, mut records) = (0, 0);
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        at += 8 + 4 + length as usize + 4;
        records += 1;
    }
    assert_eq!((at, records), (bytes.len(), 1 + 20));
    assert_eq!(files.keys().filter(|name| name.starts_with("tensorboard/")).count(), 15);
}

#[test]
fn unknown_plots_are_named() {
    let message =
        plots::draw(Some("pie"), &study(), &Paper::load().unwrap(), plots::PlotOptions::default()).unwrap_err().to_string();
    assert_eq!(message, "unknown plot: `pie` (expected one of: pareto, overhead, curves, rank, heat, latency, memory)");
}

#[test]
fn latex_collection_compiles_where_an_engine_exists() {
    let folder = tempfile::tempdir().unwrap();
    build_report(&study(), folder.path(), &options()).unwrap();
    let run = std::process::Command::new("pdflatex")
        .args(["-interaction=nonstopmode", "-halt-on-error", "collection.tex"])
        .current_dir(folder.path().join("tables"))
        .output();
    match run {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => eprintln!("skipped: no pdflatex on this machine"),
    }
}
