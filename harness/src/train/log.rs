//! The training log `train.jsonl` and the progress bar.
//!
//! ```text
//! {"step":1,"tokens":1024,"loss":6.93,"learning_rate":3e-5,"grad_norm":1.2,"tokens_per_s":41000.0}
//! {"step":50,"tokens":51200,"val_loss":4.1,"bits_per_byte":2.2}
//!
//! {"step":1,"images":128,"loss":2.30,"learning_rate":0.01,"grad_norm":1.2,"images_per_s":900.0}          a run on images
//! {"step":50,"images":6400,"cross_entropy":1.61,"acc1":0.41,"acc5":0.90}
//! ```
//! One object per line, written as one call, so that a kill loses at most the last line. Resuming cuts the log back to the
//! checkpoint; only the rates (`tokens_per_s`, `images_per_s`) then differ from a run that never stopped.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// Name of the log in a run directory.
pub const TRAIN_LOG: &str = "train.jsonl";

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// An optimizer step.
    Step {
        /// Steps done, from 1.
        step: u64,
        /// Tokens trained on so far.
        tokens: u64,
        /// Mean loss of the step, nats per token.
        loss: f64,
        /// Rate of the matrix group.
        learning_rate: f64,
        /// Norm of the gradient before clipping.
        grad_norm: f64,
        /// Tokens of the step over its wall time.
        tokens_per_s: f64,
    },
    /// A validation.
    Validation {
        /// Steps done.
        step: u64,
        /// Tokens trained on so far.
        tokens: u64,
        /// Nats per token.
        val_loss: f64,
        /// Bits per byte of text.
        bits_per_byte: f64,
    },
    /// An optimizer step on images.
    ImageStep {
        /// Steps done, from 1.
        step: u64,
        /// Images trained on so far.
        images: u64,
        /// Mean loss of the step, nats per image.
        loss: f64,
        /// Rate of the matrix group.
        learning_rate: f64,
        /// Norm of the gradient before clipping.
        grad_norm: f64,
        /// Images of the step over its wall time, waiting for the loader included.
        images_per_s: f64,
    },
    /// An evaluation on images.
    Evaluation {
        /// Steps done.
        step: u64,
        /// Images trained on so far.
        images: u64,
        /// Its numbers.
        #[serde(flatten)]
        scores: ImageScores,
    },
}

/// What an image set says about a network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ImageScores {
    /// Mean over images, nats.
    pub cross_entropy: f64,
    /// Share of images whose label has the largest logit.
    pub acc1: f64,
    /// Share of images whose label is among the five largest logits.
    pub acc5: f64,
}

impl Line {
    /// Steps done when the line was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step { step, .. }
            | Self::Validation { step, .. }
            | Self::ImageStep { step, .. }
            | Self::Evaluation { step, .. } => *step,
        }
    }
}

/// The open log.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Opens the log for the run to go on after `step`: later lines, and a torn last one, are cut off.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn resume(folder: &Path, step: u64) -> anyhow::Result<Self> {
        let path = folder.join(TRAIN_LOG);
        let kept: String = read(&path)?
            .into_iter()
            .filter(|line| line.step() <= step)
            .map(|line| serde_json::to_string(&line).expect("numbers only") + "\n")
            .collect();
        records::write_atomic(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).with_context(|| format!("cannot open `{}`", path.display()))?;
        Ok(Self { file, path })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, line: &Line) -> anyhow::Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        self.file.write_all(text.as_bytes()).with_context(|| format!("cannot append to `{}`", self.path.display()))
    }
}

/// The lines of a log; a missing log is empty, a torn last line is dropped.
///
/// # Errors
/// When the file cannot be read, or a line before the last is damaged.
pub fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot read `{}`", path.display()))),
    };
    let mut lines = Vec::new();
    let mut rest = text.split_inclusive('\n').enumerate().peekable();
    while let Some((index, line)) = rest.next() {
        match serde_json::from_str(line) {
            Ok(parsed) if line.ends_with('\n') => lines.push(parsed),
            _ if rest.peek().is_none() => {}
            Ok(_) => unreachable!("only the last line lacks its newline"),
            Err(error) => return Err(anyhow::Error::new(error).context(format!("{}:{}", path.display(), index + 1))),
        }
    }
    Ok(lines)
}

/// A progress bar on a terminal, nothing elsewhere.
#[derive(Debug)]
pub struct Progress(Option<indicatif::ProgressBar>);

impl Progress {
    /// A bar over `max_steps` that starts at `step`.
    pub fn new(label: &str, step: u64, max_steps: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = indicatif::ProgressBar::new(max_steps).with_position(step).with_prefix(label.to_owned());
        let style = indicatif::ProgressStyle::with_template("{prefix} {bar:24} step {pos}/{len}  {msg}  {eta} left")
            .expect("a constant template that the tests parse");
        bar.set_style(style);
        bar.reset_eta();
        Self(Some(bar))
    }

    /// Shows the state after a step.
    ///
    /// - `unit`: of what the rate counts, in the plural.
    pub fn show(&self, step: u64, loss: f64, per_s: f64, unit: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(format!("loss {loss:.3}  {per_s:.0} {unit}/s"));
            bar.set_position(step);
        }
    }

    /// Prints a line above the bar, or as a log line.
    pub fn note(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.println(text);
        } else {
            tracing::info!("{text}");
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Line {
        Line::Step { step, tokens: step * 8, loss: 1.0 / 3.0, learning_rate: 1e-3, grad_norm: 0.1, tokens_per_s: 10.0 }
    }

    #[test]
    fn resuming_cuts_back_to_the_checkpoint_and_drops_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::resume(folder.path(), 0).unwrap();
        for number in 1..=3 {
            log.write(&step(number)).unwrap();
        }
        log.write(&Line::Validation { step: 3, tokens: 24, val_loss: 2.5, bits_per_byte: 1.25 }).unwrap();
        log.file.write_all(b"{\"step\":4,\"tok").unwrap();
        let path = folder.path().join(TRAIN_LOG);
        assert_eq!(read(&path).unwrap().len(), 4);
        let mut log = Log::resume(folder.path(), 2).unwrap();
        log.write(&step(3)).unwrap();
        assert_eq!(read(&path).unwrap(), [step(1), step(2), step(3)]);
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TRAIN_LOG);
        std::fs::write(&path, "{\"step\":1\n{}\n").unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("train.jsonl:1"));
    }

    #[test]
    fn bar_template_parses() {
        assert!(indicatif::ProgressStyle::with_template("{prefix} {bar:24} step {pos}/{len}  {msg}  {eta} left").is_ok());
    }
}
