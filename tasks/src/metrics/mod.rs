//! Quality metrics as plain functions: one file per metric, with its definition, unit, direction and error rule.
//!
//! Two shapes. A *mean metric* gives one value per document and the score is their mean ([`stderr::mean_stderr`] gives its error):
//! [`accuracy`], [`exact_match`], [`squad`], [`math`], [`pass_at_k`], [`anls`], [`vqa`], [`mmmu`]. A *corpus metric* is computed from summed counts,
//! and its per-document value is never averaged into the score: [`bleu`], [`chrf`], [`perplexity`]; [`cider`] is a mean over images whose
//! weights come from the whole set. [`METRICS`] lists unit and direction by the name that records carry.

pub mod accuracy;
pub mod anls;
pub mod bleu;
pub mod chrf;
pub mod cider;
pub mod coco_bleu;
pub mod error;
pub mod exact_match;
pub mod math;
pub mod mmmu;
pub mod pass_at_k;
pub mod pattern;
pub mod perplexity;
pub mod ptb;
pub mod rouge_l;
pub mod squad;
pub mod stderr;
pub mod text;
pub mod vqa;

pub use error::MetricError;

/// What a metric's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// Name in results and records.
    pub name: &'static str,
    /// `fraction` is 0..1, `percent` 0..100.
    pub unit: &'static str,
    /// Whether a larger value is a better one.
    pub higher_is_better: bool,
}

const fn info(name: &'static str, unit: &'static str, higher_is_better: bool) -> MetricInfo {
    MetricInfo { name, unit, higher_is_better }
}

/// Every quality metric of this module.
pub const METRICS: &[MetricInfo] = &[
    info("acc", "fraction", true),
    info("acc_norm", "fraction", true),
    info("acc_bytes", "fraction", true),
    info("exact_match", "fraction", true),
    info("f1", "fraction", true),
    info("math_exact", "fraction", true),
    info("math_equiv", "fraction", true),
    info("pass_at_1", "fraction", true),
    info("bleu", "percent", true),
    info("chrf", "percent", true),
    info("chrf++", "percent", true),
    info("anls", "fraction", true),
    info("vqa_accuracy", "fraction", true),
    info("cider", "1", true),
    info("rouge_l", "fraction", true),
    info("word_ppl", "1", false),
    info("byte_ppl", "1", false),
    info("bits_per_byte", "bit/byte", false),
];
