//! The report folder: the same bytes twice, nothing loaded from elsewhere, every file there.

use std::collections::BTreeMap;
use std::path::Path;

use reports::{Paper, Records, ReportOptions, build_report, plots};

use crate::synthetic::{records, study, sweep};

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
    let written = build_report(&records(), a.path(), &options()).unwrap();
    let mut rows = study();
    rows.reverse();
    build_report(&Records::new(rows), b.path(), &options()).unwrap();
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
    build_report(&records(), folder.path(), &options()).unwrap();
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
    build_report(&records(), folder.path(), &options()).unwrap();
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
    let mut rows = study();
    for row in rows.iter_mut().filter(|row| row.variant.as_deref() == Some("rw")) {
        row.subject = Some(name.to_owned());
        row.record_id = String::new();
    }
    let folder = tempfile::tempdir().unwrap();
    build_report(&Records::new(rows), folder.path(), &options()).unwrap();
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
    build_report(&Records::default(), folder.path(), &options()).unwrap();
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
        [("latency_prefill_s", 9)]
    );
}

#[test]
fn unknown_plots_are_named() {
    let message =
        plots::draw(Some("pie"), &records(), &Paper::load().unwrap(), plots::PlotOptions::default()).unwrap_err().to_string();
    assert_eq!(message, "unknown plot: `pie` (expected one of: pareto, overhead, curves, rank, latency)");
}

#[test]
fn latex_collection_compiles_where_an_engine_exists() {
    let folder = tempfile::tempdir().unwrap();
    build_report(&records(), folder.path(), &options()).unwrap();
    let run = std::process::Command::new("pdflatex")
        .args(["-interaction=nonstopmode", "-halt-on-error", "collection.tex"])
        .current_dir(folder.path().join("tables"))
        .output();
    match run {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => eprintln!("skipped: no pdflatex on this machine"),
    }
}
