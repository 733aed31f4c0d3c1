//! The report folder: every table and figure from one set of records, offline, byte for byte the same each time.
//!
//! ```text
//! OUT/index.html   tables/<name>.{md,tex,csv,json}   tables/collection.tex   plots/<name>.{svg,png}   cards/<subject>.md
//! tensorboard/<subject>-s<seed>/events.out.tfevents.*   provenance.json
//! ```
//! Source: measurement.md section 15, architecture.md section 6.

use std::path::{Path, PathBuf};

use records::{Source, Tier, write_atomic};

use crate::cards::card;
use crate::error::ReportError;
use crate::lint::lint;
use crate::page::{Page, page};
use crate::paper::Paper;
use crate::plots::{self, PlotOptions};
use crate::provenance::Provenance;
use crate::render::{Style, latex, render};
use crate::study::Study;
use crate::subject::subjects;
use crate::table::TableData;
use crate::tables;
use crate::tensorboard::event_files;

/// What to write.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Heading of the page.
    pub title: String,
    /// Command that reproduces the report, for the provenance block.
    pub command: String,
    /// Table names; every table when `None`.
    pub tables: Option<Vec<String>>,
    /// Plot names; every plot when `None`.
    pub plots: Option<Vec<String>>,
    /// Languages of the table files. `Html` writes the page.
    pub styles: Vec<Style>,
    /// For the figures.
    pub plot: PlotOptions,
}

impl Default for ReportOptions {
    /// Everything, in every language of a file.
    fn default() -> Self {
        Self {
            title: "LAuReL: quality and footprint".to_owned(),
            command: String::new(),
            tables: None,
            plots: None,
            styles: vec![Style::Md, Style::Latex, Style::Csv, Style::Json, Style::Html],
            plot: PlotOptions::default(),
        }
    }
}

/// The tables asked for, with their provenance; all of them when `names` is `None`.
///
/// # Errors
/// When a name does not exist or an estimator refuses the values.
pub fn build_tables(study: &Study, names: Option<&[String]>, command: &str) -> Result<Vec<TableData>, ReportError> {
    let paper = Paper::load()?;
    let provenance = Provenance::of(study, command);
    let chosen = match names {
        None => tables::all(),
        Some(names) => names.iter().map(|name| tables::by_name(name)).collect::<Result<Vec<_>, _>>()?,
    };
    chosen.iter().map(|table| Ok(TableData { provenance: provenance.clone(), ..table.build(study, &paper)? })).collect()
}

/// Writes the report folder and returns the files written, in order. Existing files of the same names are replaced.
///
/// # Errors
/// When a name does not exist, an estimator refuses the values, or a file cannot be written.
pub fn build_report(study: &Study, out_dir: &Path, options: &ReportOptions) -> Result<Vec<PathBuf>, ReportError> {
    let paper = Paper::load()?;
    let tables = build_tables(study, options.tables.as_deref(), &options.command)?;
    let figures = match &options.plots {
        None => plots::draw(None, study, &paper, options.plot)?,
        Some(names) => {
            let mut figures = Vec::new();
            for name in names {
                figures.extend(plots::draw(Some(name), study, &paper, options.plot)?);
            }
            figures
        }
    };
    let provenance = Provenance::of(study, &options.command);
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    if options.styles.contains(&Style::Html) {
        let html = page(&Page {
            title: &options.title,
            summary: &summary(study),
            figures: &figures,
            tables: &tables,
            notes: &lint(&paper)?,
            provenance: &provenance,
            warnings: study.warnings(),
        })?;
        files.push((PathBuf::from("index.html"), html.into_bytes()));
    }
    for table in &tables {
        for style in options.styles.iter().filter(|style| **style != Style::Html) {
            let path = Path::new("tables").join(format!("{}.{}", table.name, style.extension()));
            files.push((path, render(table, *style).into_bytes()));
        }
    }
    if options.styles.contains(&Style::Latex) {
        files.push((PathBuf::from("tables/collection.tex"), latex::collection(&tables).into_bytes()));
    }
    for figure in &figures {
        let stem = Path::new("plots").join(&figure.name);
        files.push((stem.with_extension("svg"), figure.svg()?.into_bytes()));
        files.push((stem.with_extension("png"), figure.png()?));
    }
    for subject in subjects(study, |group| group.shared.subject.is_some()) {
        let name = file_name(&subject.name);
        files.push((Path::new("cards").join(format!("{name}.md")), card(study, &subject)?.into_bytes()));
    }
    files.extend(event_files(study));
    let lines: serde_json::Map<String, serde_json::Value> =
        provenance.lines.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    let mut json = serde_json::to_string_pretty(&lines).expect("provenance holds only strings");
    json.push('\n');
    files.push((PathBuf::from("provenance.json"), json.into_bytes()));
    write_all(out_dir, files)
}

/// A name as part of a path: nothing but letters, digits and `+-_.`.
pub(crate) fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "+-_.".contains(c) { c } else { '_' }).collect()
}

fn write_all(out_dir: &Path, files: Vec<(PathBuf, Vec<u8>)>) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::with_capacity(files.len());
    for (name, bytes) in files {
        let path = out_dir.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| ReportError::Io {
                action: "create folder",
                path: folder.to_owned(),
                source,
            })?;
        }
        write_atomic(&path, &bytes)?;
        written.push(path);
    }
    Ok(written)
}

/// What a reader should know before the first number.
fn summary(study: &Study) -> Vec<String> {
    let measured: Vec<_> = study.groups().filter(|group| group.shared.source == Source::Measured).collect();
    let mut lines = vec![format!(
        "{} measured rows of {} subjects. Paper values stand beside measured ones for sign, order and ratio; they come from other models, \
         data and hardware.",
        measured.iter().map(|group| group.rows.len()).sum::<usize>(),
        subjects(study, |_| true).len()
    )];
    if measured.iter().any(|group| group.shared.tier == Some(Tier::Demo)) {
        lines.push(
            "Rows of tier demo come from tiny models on bundled text: they show the pipeline, not the paper's scale.".to_owned(),
        );
    }
    lines
}
