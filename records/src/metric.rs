//! Metrics: name, unit and direction, and the lint that keeps a name and its unit consistent.
//!
//! ```text
//! name ends in   unit must be            name starts in   unit must be
//! _s             s                       params_          params   (not _pct)
//! _bytes         bytes (but acc_bytes)   flops_           FLOP
//! _per_s         …/s
//! _j             J
//! _tok           tok
//! _ratio         1
//! _pct           %      0 to 100; everything else is a fraction
//! ```
//! Names in milliseconds, megabytes or another scaled unit are refused: records are in SI base units.
//! Rows describe themselves, so a report needs no table of metrics; the constants below exist so that writers spell names alike.
//!
//! Source: measurement.md sections 3–9, style.md section 3.

use std::borrow::Cow;

use crate::column::Better;
use crate::error::RecordError;

/// Name of a metric, as in the `metric` column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricName(Cow<'static, str>);

/// Unit of a metric, as in the `unit` column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit(Cow<'static, str>);

macro_rules! text_type {
    ($($name:ident),*) => {$(
        impl $name {
            /// The text as written in records.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0.into_owned()
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Cow::Owned(text.to_owned()))
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }
    )*};
}
text_type!(MetricName, Unit);

/// What a number means: name, unit, direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name.
    pub name: MetricName,
    /// Unit.
    pub unit: Unit,
    /// Direction of improvement.
    pub better: Better,
}

impl Metric {
    /// A metric of the constants below.
    const fn of(name: &'static str, unit: &'static str, better: Better) -> Self {
        Self { name: MetricName(Cow::Borrowed(name)), unit: Unit(Cow::Borrowed(unit)), better }
    }

    /// A metric whose name and unit agree.
    ///
    /// # Errors
    /// [`RecordError::Unit`] when they do not, see [`lint`].
    pub fn new(name: &str, unit: &str, better: Better) -> Result<Self, RecordError> {
        lint(name, unit)?;
        Ok(Self::owned(name, unit, better))
    }

    /// A metric as read from a row, unchecked.
    pub(crate) fn owned(name: &str, unit: &str, better: Better) -> Self {
        Self { name: name.into(), unit: unit.into(), better }
    }

    /// The constant of that name, if there is one.
    pub fn by_name(name: &str) -> Option<Self> {
        ALL.iter().find(|metric| metric.name == *name).cloned()
    }
}

/// Checks that the unit is the one the name implies.
///
/// # Errors
/// [`RecordError::Unit`], naming the rule.
pub fn lint(name: &str, unit: &str) -> Result<(), RecordError> {
    let wrong =
        |expected: &str| Err(RecordError::Unit { name: name.to_owned(), expected: expected.to_owned(), found: unit.to_owned() });
    let well_formed = !name.is_empty()
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !well_formed {
        return wrong("a name of lower-case letters, digits and underscores");
    }
    if unit.is_empty() {
        return wrong("a unit (`1` for a pure number)");
    }
    for scaled in ["_ms", "_us", "_ns", "_kb", "_mb", "_gb", "_kib", "_mib", "_gib", "_percent"] {
        if name.ends_with(scaled) {
            return wrong("an SI base unit in the name (`_s`, `_bytes`, `_pct`)");
        }
    }
    let implied = if name.ends_with("_per_s") {
        return if unit.ends_with("/s") { Ok(()) } else { wrong("unit `…/s`") };
    } else if name.ends_with("_pct") {
        Some("%")
    } else if name.ends_with("_s") {
        Some("s")
    } else if name.ends_with("_bytes") && name != "acc_bytes" {
        // `acc_bytes` is a fraction; its suffix says what the loglikelihoods were divided by.
        Some("bytes")
    } else if name.ends_with("_tok") {
        Some("tok")
    } else if name.ends_with("_ratio") {
        Some("1")
    } else if name.starts_with("params_") {
        Some("params")
    } else if name.starts_with("flops_") {
        Some("FLOP")
    } else {
        None
    };
    match implied {
        Some(expected) if unit != expected => wrong(&format!("unit `{expected}`")),
        None if unit == "%" => wrong("a fraction, or a name in `_pct`"),
        _ => Ok(()),
    }
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $unit:literal, $better:ident;)*) => {
        $($(#[$doc])* pub const $constant: Metric = Metric::of($name, $unit, Better::$better);)*

        /// Every metric of this module.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    /// Trainable elements over distinct tensors; tied tensors once.
    PARAMS_TOTAL = "params_total", "params", Lower;
    /// Non-trainable state that is part of the model.
    PARAMS_BUFFERS = "params_buffers", "params", Lower;
    /// Token and position tables, the tied head included.
    PARAMS_EMBEDDING = "params_embedding", "params", Lower;
    /// All the rest.
    PARAMS_NON_EMBEDDING = "params_non_embedding", "params", Lower;
    /// Beyond the reference named in the row.
    PARAMS_ADDED = "params_added", "params", Lower;
    /// The same, in percent of the reference.
    PARAMS_ADDED_PCT = "params_added_pct", "%", Lower;
    /// Owned by LAuReL modules.
    PARAMS_LAUREL = "params_laurel", "params", Lower;
    /// Taking part in one token's forward pass.
    PARAMS_ACTIVE = "params_active", "params", Lower;
    /// The closed form that `params_laurel` must equal.
    PARAMS_CLOSED_FORM = "params_closed_form", "params", None;
    /// Stored weights.
    WEIGHTS_BYTES = "weights_bytes", "bytes", Lower;
    /// Weights, gradients, optimizer state, master weights.
    TRAIN_STATE_BYTES = "train_state_bytes", "bytes", Lower;

    /// Matrix products of one forward pass.
    FLOPS_FORWARD = "flops_forward", "FLOP", Lower;
    /// One optimizer step.
    FLOPS_TRAIN_STEP = "flops_train_step", "FLOP", Lower;
    /// Forward pass per token.
    FLOPS_PER_TOKEN = "flops_per_token", "FLOP", Lower;
    /// Element-wise operations, norms, softmax.
    FLOPS_ELEMENTWISE = "flops_elementwise", "FLOP", Lower;
    /// Attention with the skipped half left out.
    FLOPS_ATTENTION_CAUSAL = "flops_attention_causal", "FLOP", Lower;
    /// LAuReL's extra matrix products per token.
    FLOPS_LAUREL = "flops_laurel", "FLOP", Lower;
    /// Share of a configured peak.
    MFU = "mfu", "1", Higher;
    /// Share of the best matrix product measured in the same run.
    GEMM_UTILISATION = "gemm_utilisation", "1", Higher;
    /// Best measured matrix-product rate.
    GEMM_FLOPS_PER_S = "gemm_flops_per_s", "FLOP/s", Higher;

    /// Best measured rate of reading memory.
    MEMORY_READ_BYTES_PER_S = "memory_read_bytes_per_s", "bytes/s", Higher;

    /// One optimizer step.
    TRAIN_STEP_S = "train_step_s", "s", Lower;
    /// The first, cold step.
    FIRST_STEP_S = "first_step_s", "s", Lower;
    /// The first, cold request.
    FIRST_REQUEST_S = "first_request_s", "s", Lower;
    /// Steps over the whole window.
    TRAIN_STEPS_PER_S = "train_steps_per_s", "step/s", Higher;
    /// Tokens over the whole window.
    TRAIN_TOKENS_PER_S = "train_tokens_per_s", "tok/s", Higher;
    /// Samples over the whole window.
    TRAIN_SAMPLES_PER_S = "train_samples_per_s", "sample/s", Higher;
    /// Forward part, from a separate worker.
    TRAIN_STEP_FWD_S = "train_step_fwd_s", "s", Lower;
    /// Backward part, from a separate worker.
    TRAIN_STEP_BWD_S = "train_step_bwd_s", "s", Lower;
    /// Optimizer part, from a separate worker.
    TRAIN_STEP_OPT_S = "train_step_opt_s", "s", Lower;
    /// With the real data loader.
    TRAIN_STEPS_PER_S_E2E = "train_steps_per_s_e2e", "step/s", Higher;
    /// First wall time at a named target.
    TIME_TO_QUALITY_S = "time_to_quality_s", "s", Lower;

    /// Forward over the prompt, building the cache.
    PREFILL_S = "prefill_s", "s", Lower;
    /// Prompt tokens over `prefill_s`.
    PREFILL_TOKENS_PER_S = "prefill_tokens_per_s", "tok/s", Higher;
    /// Tokenizing, prefill and first token.
    TTFT_S = "ttft_s", "s", Lower;
    /// Per output token after the first.
    TPOT_S = "tpot_s", "s", Lower;
    /// Median gap between tokens.
    ITL_P50_S = "itl_p50_s", "s", Lower;
    /// 90th percentile gap.
    ITL_P90_S = "itl_p90_s", "s", Lower;
    /// 99th percentile gap.
    ITL_P99_S = "itl_p99_s", "s", Lower;
    /// Generation speed.
    DECODE_TOKENS_PER_S = "decode_tokens_per_s", "tok/s", Higher;
    /// Whole-request rate.
    REQUEST_TOKENS_PER_S = "request_tokens_per_s", "tok/s", Higher;
    /// Whole request.
    E2E_S = "e2e_s", "s", Lower;
    /// One image, batch 1.
    IMAGE_LATENCY_S = "image_latency_s", "s", Lower;
    /// Throughput at a stated batch.
    IMAGES_PER_S = "images_per_s", "image/s", Higher;

    /// Maximum of live bytes in the window.
    PEAK_ALLOC_BYTES = "peak_alloc_bytes", "bytes", Lower;
    /// The same less the live bytes at its start.
    PEAK_ALLOC_DELTA_BYTES = "peak_alloc_delta_bytes", "bytes", Lower;
    /// High-water mark of the worker.
    PEAK_RSS_BYTES = "peak_rss_bytes", "bytes", Lower;
    /// High-water mark of the worker's control group.
    PEAK_CGROUP_BYTES = "peak_cgroup_bytes", "bytes", Lower;
    /// Pool used-high mark.
    PEAK_DEVICE_USED_BYTES = "peak_device_used_bytes", "bytes", Lower;
    /// Pool reserved-high mark.
    PEAK_DEVICE_RESERVED_BYTES = "peak_device_reserved_bytes", "bytes", Lower;
    /// Sampled per-process device memory.
    PEAK_DEVICE_PROCESS_BYTES = "peak_device_process_bytes", "bytes", Lower;
    /// Peak of a training step that was not run: accounting over smaller depths.
    PEAK_ALLOC_PREDICTED_BYTES = "peak_alloc_predicted_bytes", "bytes", Lower;
    /// Peak less state and inputs.
    ACTIVATION_BYTES_EST = "activation_bytes_est", "bytes", Lower;

    /// Energy per optimizer step.
    ENERGY_STEP_J = "energy_step_j", "J", Lower;
    /// Energy per output token.
    ENERGY_TOKEN_J = "energy_token_j", "J", Lower;
    /// Power of the machine while the worker sleeps.
    IDLE_POWER_W = "idle_power_w", "W", None;

    /// Mean negative log-likelihood per validation token.
    VAL_LOSS = "val_loss", "nat/tok", Lower;
    /// Mean negative log-likelihood per training token.
    TRAIN_LOSS = "train_loss", "nat/tok", Lower;
    /// Loss of the first batch before any update.
    INITIAL_LOSS = "initial_loss", "nat/tok", None;
    /// Validation bits per byte of text.
    BITS_PER_BYTE = "bits_per_byte", "bit/byte", Lower;
    /// Perplexity per token.
    TOKEN_PPL = "token_ppl", "1", Lower;
    /// Perplexity per word.
    WORD_PPL = "word_ppl", "1", Lower;
    /// Perplexity per byte.
    BYTE_PPL = "byte_ppl", "1", Lower;
    /// Argmax of log-likelihood.
    ACC = "acc", "fraction", Higher;
    /// The same over code points.
    ACC_NORM = "acc_norm", "fraction", Higher;
    /// The same over UTF-8 bytes.
    ACC_BYTES = "acc_bytes", "fraction", Higher;
    /// Label is the largest logit.
    ACC1 = "acc1", "fraction", Higher;
    /// Label is among the five largest logits.
    ACC5 = "acc5", "fraction", Higher;
    /// Best over the evaluation points of a trial.
    ACC1_BEST = "acc1_best", "fraction", Higher;
    /// At the last evaluation point of a trial.
    ACC1_FINAL = "acc1_final", "fraction", Higher;
    /// Mean cross-entropy over images.
    CROSS_ENTROPY = "cross_entropy", "nat", Lower;
    /// Answer equals a gold answer.
    EXACT_MATCH = "exact_match", "fraction", Higher;
    /// Token overlap with a gold answer.
    F1 = "f1", "fraction", Higher;
    /// Generated program passes its tests.
    PASS_AT_1 = "pass_at_1", "fraction", Higher;
    /// Character n-gram F-score, 0 to 1.
    CHRF = "chrf", "fraction", Higher;
    /// BLEU, 0 to 1.
    BLEU = "bleu", "fraction", Higher;
    /// CIDEr, 1 = 100 points.
    CIDER = "cider", "1", Higher;
    /// ROUGE-L.
    ROUGE_L = "rouge_l", "fraction", Higher;
    /// Average normalised Levenshtein similarity.
    ANLS = "anls", "fraction", Higher;
    /// VQA accuracy.
    VQA_ACC = "vqa_acc", "fraction", Higher;

    /// Largest global gradient norm after the warm-up over the median.
    GRAD_NORM_SPIKE_RATIO = "grad_norm_spike_ratio", "1", Lower;
    /// Share of bootstrap draws in which the variant is on the front.
    P_FRONT = "p_front", "1", Higher;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_passes_the_lint_and_is_unique() {
        for metric in ALL {
            lint(metric.name.as_str(), metric.unit.as_str()).unwrap();
        }
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name.as_str()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_suffix_decides_the_unit() {
        assert!(lint("prefill_s", "s").is_ok());
        assert!(lint("prefill_s", "ms").is_err());
        assert!(lint("decode_tokens_per_s", "tok/s").is_ok());
        assert!(lint("decode_tokens_per_s", "s").is_err());
        assert!(lint("prefill_ms", "ms").is_err());
        assert!(lint("params_added_pct", "%").is_ok());
        assert!(lint("acc", "%").is_err());
        assert!(lint("Acc", "fraction").is_err());
        assert!(lint("acc", "").is_err());
    }

    #[test]
    fn messages_name_rule_and_finding() {
        let message = lint("prefill_s", "ms").unwrap_err().to_string();
        assert_eq!(message, "metric `prefill_s`: expected unit `s`, found unit `ms`");
    }
}
