//! `report`: tables and plots from records, offline.

use std::path::{Path, PathBuf};

use reports::Study;
use reports::render::{Style, render as render_table};
use reports::report::{ReportOptions, build_report, build_tables};

use super::{Exit, Format, Global, output};
use crate::error::Hint as _;
use crate::provenance;

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  harness report                                       every table and plot of the records below the runs directory
  harness report --from results/ --table table5        one table in the terminal
  harness report --table table2 --style latex          its LaTeX on stdout
  harness report --out site/                           the whole folder: index.html, tables/, plots/, cards/

Same records, same bytes. Paper and measured values stand side by side with the setting in words, and are never subtracted.")]
pub struct Args {
    /// Folders or files of records; default: the runs directory
    #[arg(long, value_name = "PATH")]
    pub from: Vec<PathBuf>,
    /// Tables by name (`harness list tables`); without --out they are printed
    #[arg(long, value_delimiter = ',', value_name = "TABLE,…")]
    pub table: Vec<String>,
    /// Plots by name; needs --out
    #[arg(long, value_delimiter = ',', value_name = "PLOT,…", requires = "out")]
    pub plot: Vec<String>,
    /// Folder to write; default without --table: `report` in the runs directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Style of printed tables, or of the files written: md, latex, csv, json, html, text
    #[arg(long, value_delimiter = ',', value_name = "STYLE,…")]
    pub style: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// No records, an unknown table or plot, a full disk.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let from = if args.from.is_empty() { vec![global.runs_dir.clone()] } else { args.from.clone() };
    let records = load(&from)?;
    let styles: Vec<Style> = args.style.iter().map(|style| Style::parse(style)).collect::<Result<_, _>>()?;
    let names = (!args.table.is_empty()).then(|| args.table.clone());
    if args.out.is_none() && names.is_some() {
        let style = styles.first().copied().unwrap_or(if global.format == Format::Json { Style::Json } else { Style::Text });
        let tables = build_tables(&records, names.as_deref(), &command())?;
        output::data(&tables.iter().map(|table| render_table(table, style)).collect::<Vec<_>>().join("\n"))?;
        return Ok(Exit::Fine);
    }
    let out = args.out.clone().unwrap_or_else(|| global.runs_dir.join("report"));
    let mut options = ReportOptions { command: command(), tables: names, ..ReportOptions::default() };
    options.plots = (!args.plot.is_empty()).then(|| args.plot.clone());
    if !styles.is_empty() {
        options.styles = styles;
    }
    let files = build_report(&records, &out, &options)?;
    for file in files {
        output::line(&file.display().to_string())?;
    }
    Ok(Exit::Fine)
}

/// Renders the records of some folders into a report folder; returns the summary tables for the terminal.
///
/// # Errors
/// As [`run`].
pub fn render(folders: &[PathBuf], out: &Path, suite: Option<&str>) -> anyhow::Result<String> {
    let records = load(folders)?;
    build_report(&records, out, &ReportOptions { command: command(), ..ReportOptions::default() })?;
    // The paper's suites are shown in the layout of the paper's tables.
    let quality = match suite {
        Some("llm") => "table2",
        Some("llm-4b") => "table3",
        _ => "quality",
    };
    let names: Vec<String> = [quality, "efficiency"].map(str::to_owned).to_vec();
    let tables = build_tables(&records, Some(&names), &command())?;
    Ok(tables
        .iter()
        .filter(|table| !table.rows.is_empty())
        .map(|table| render_table(table, Style::Text))
        .collect::<Vec<_>>()
        .join("\n"))
}

fn load(folders: &[PathBuf]) -> anyhow::Result<Study> {
    let records =
        Study::load(folders).hint("records come from `harness train`, `eval` and `measure`; name their folder with --from")?;
    for warning in records.warnings() {
        output::note(&format!("warning: {warning}"));
    }
    Ok(records)
}

fn command() -> String {
    provenance::command().join(" ")
}
