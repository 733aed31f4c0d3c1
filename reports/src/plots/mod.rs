//! Figures: functions of records. One file per figure; the list below is the only registry.
//!
//! ```text
//! pareto     quality against each cost, front with probability          overhead  ratios with intervals and a budget line
//! curves     loss over training steps, per seed                          rank      quality against rank, RW as a band
//! heat       gain of every rank and variant                             latency   prefill, TTFT and TPOT against prompt length
//! memory     peak of each phase split into weights, gradients, optimizer state and the rest
//! ```
//! A figure is axes drawn by plotters and a tagged data layer of our own ([`scene`]); it carries a title, a description and its data
//! as a table. A figure without data is not drawn.
//!
//! Source: measurement.md sections 12, 13 and 15.

mod axis;
mod curves;
mod heat;
mod labels;
mod latency;
mod lines;
mod memory;
mod overhead;
pub mod palette;
mod pareto;
mod rank;
pub mod scene;

use crate::error::ReportError;
use crate::paper::Paper;
use crate::study::Study;
use crate::table::TableData;
use scene::Scene;

/// A drawn figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Machine name: file stem and anchor.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it shows, in words, for those who do not see it.
    pub description: String,
    /// Marks.
    pub scene: Scene,
    /// The numbers behind the marks.
    pub data: TableData,
}

impl Figure {
    /// As SVG.
    ///
    /// # Errors
    /// When the drawing library fails.
    pub fn svg(&self) -> Result<String, ReportError> {
        self.scene.svg(&format!("f-{}", self.name), &self.title, &self.description)
    }

    /// As PNG.
    ///
    /// # Errors
    /// When the drawing library fails.
    pub fn png(&self) -> Result<Vec<u8>, ReportError> {
        self.scene.png(&self.name)
    }
}

/// What figures need beside records.
#[derive(Clone, Copy, Debug)]
pub struct PlotOptions {
    /// Budget line of the overhead figures, as a ratio − 1.
    pub budget: f64,
}

impl Default for PlotOptions {
    /// A budget of 5 %, the gate's default.
    fn default() -> Self {
        Self { budget: 0.05 }
    }
}

type Draw = fn(&Study, &Paper, PlotOptions) -> Result<Vec<Figure>, ReportError>;

/// Every plot by name, in the order of a report.
pub const PLOTS: [(&str, Draw); 7] = [
    ("pareto", pareto::draw),
    ("overhead", overhead::draw),
    ("curves", curves::draw),
    ("rank", rank::draw),
    ("heat", heat::draw),
    ("latency", latency::draw),
    ("memory", memory::draw),
];

/// The figures of one plot, or of all; those without data are left out.
///
/// # Errors
/// When there is no plot of that name, or drawing fails.
pub fn draw(name: Option<&str>, study: &Study, paper: &Paper, options: PlotOptions) -> Result<Vec<Figure>, ReportError> {
    if let Some(name) = name
        && !PLOTS.iter().any(|(plot, _)| *plot == name)
    {
        let expected = PLOTS.map(|(plot, _)| plot).join(", ");
        return Err(ReportError::Unknown { kind: "plot", expected, found: name.to_owned() });
    }
    let mut figures = Vec::new();
    for (plot, draw) in PLOTS {
        if name.is_none_or(|name| name == plot) {
            figures.extend(draw(study, paper, options)?);
        }
    }
    Ok(figures)
}
