//! What a training run records: one row per number, the validation curve as `step` rows, a failure as a row with its reason.

use super::Summary;
use super::log::Line;
use crate::config::{OptimizerConfig, TrainConfig};
use laurel::{AugmentConfig, ResidualConfig};
use models::{InputShape, Model as _, ModelConfig, ParamCount};
use records::metric::{
    BITS_PER_BYTE, FLOPS_TRAIN_STEP, GRAD_NORM_SPIKE_RATIO, INITIAL_LOSS, PARAMS_EMBEDDING, PARAMS_LAUREL, PARAMS_NON_EMBEDDING,
    PARAMS_TOTAL, TRAIN_LOSS, VAL_LOSS,
};
use records::{Better, CellId, InnerStat, Manifest, Metric, RecordKind, Row, Status};
use serde::Serialize;

/// A row with the columns that a config decides: subject, variant, shape, seed. Metric, value and task are the caller's.
pub fn base_row(config: &TrainConfig, threads: usize) -> Row {
    let ModelConfig::Decoder(model) = &config.model;
    let residual = &model.residual;
    Row {
        subject: Some(config.name.clone()),
        variant: Some(config.variant()),
        tier: Some(config.tier),
        model_family: Some(config.model.family().to_owned()),
        num_hidden_layers: Some(model.num_layers() as u64),
        hidden_size: Some(model.hidden_size as u64),
        num_attention_heads: Some(model.num_attention_heads as u64),
        vocab_size: Some(model.vocab_size as u64),
        dtype: Some("f32".to_owned()),
        numerics: Some(config.numerics),
        batch: Some(config.batch as u64),
        sequence_length: Some(config.data.sequence_length as u64),
        grad_accum: Some(config.grad_accum as u64),
        optimizer: Some(config.optimizer.kind.name().to_owned()),
        seed: i64::try_from(config.seed).ok(),
        threads: Some(threads as u64),
        ..residual_columns(residual)
    }
}

/// A row with nothing but what a residual connection is.
pub(super) fn residual_columns(residual: &ResidualConfig) -> Row {
    Row {
        residual_placement: Some(word(&residual.placement)),
        residual_mix: Some(word(&residual.mix.kind)),
        residual_augment: Some(residual.augment.iter().map(AugmentConfig::kind).collect::<Vec<_>>().join("+"))
            .filter(|terms| !terms.is_empty()),
        residual_rank: rank(residual).map(|rank| rank as u64),
        residual_lookback: lookback(residual).map(|lookback| lookback as u64),
        residual_post_norm: residual.augment.iter().find_map(|term| match term {
            AugmentConfig::LowRank { post_norm, .. } | AugmentConfig::Previous { post_norm, .. } => Some(word(post_norm)),
            AugmentConfig::Gemma3n { .. } => None,
        }),
        ..Row::default()
    }
}

/// A row of [`base_row`] with what only training depends on, so that the cells of a sweep can be told apart.
pub(super) fn trained(base: Row, residual: &ResidualConfig, optimizer: &OptimizerConfig, run_id: &str) -> Row {
    let gamma = if optimizer.scalar_learning_rate == 0.0 { "fixed" } else { "learned" };
    Row {
        run_id: run_id.to_owned(),
        learning_rate: Some(optimizer.learning_rate),
        residual_init: residual.augment.iter().find_map(|term| match term {
            AugmentConfig::LowRank { init, .. } | AugmentConfig::Previous { init, rank: Some(_), .. } => Some(word(init)),
            _ => None,
        }),
        residual_gamma: lookback(residual).map(|_| gamma.to_owned()),
        ..base
    }
}

fn trained_row(config: &TrainConfig, manifest: &Manifest, threads: usize) -> Row {
    let ModelConfig::Decoder(model) = &config.model;
    trained(base_row(config, threads), &model.residual, &config.optimizer, &manifest.run_id)
}

/// Rows of a network's size: parameters as they are counted, FLOPs of a training step.
pub(super) fn size(base: &Row, params_total: usize, count: &ParamCount, flops_train_step: u64) -> Vec<Row> {
    let exact = |metric: &Metric, value: f64| with(base, metric, value, InnerStat::Exact);
    vec![
        exact(&PARAMS_TOTAL, params_total as f64),
        exact(&PARAMS_EMBEDDING, count.embedding as f64),
        exact(&PARAMS_NON_EMBEDDING, count.non_embedding() as f64),
        exact(&PARAMS_LAUREL, count.laurel as f64),
        Row { flops_convention: Some("2x-mac".to_owned()), ..exact(&FLOPS_TRAIN_STEP, flops_train_step as f64) },
    ]
}

/// The mean over the last tenth of the training losses: one step's loss is mostly the luck of its batch. None without a loss.
pub(super) fn last_losses(base: &Row, metric: &Metric, losses: &[f64]) -> Option<Row> {
    let tail = &losses[losses.len() - losses.len().div_ceil(10)..];
    let mean = tail.iter().sum::<f64>() / tail.len() as f64;
    let row = with(base, metric, mean, InnerStat::Mean);
    (!tail.is_empty()).then(|| Row { split: Some("train".to_owned()), inner_n: Some(tail.len() as u64), ..row })
}

/// The row of a run that stopped before `metric` was known.
pub(super) fn failed(base: Row, metric: &Metric, manifest: &Manifest) -> Row {
    seal(Row {
        metric: metric.name.to_string(),
        unit: metric.unit.to_string(),
        better: metric.better,
        split: Some("valid".to_owned()),
        status: Status::Failed,
        reason: manifest.reason.clone(),
        ..base
    })
}

/// Rows of a run that reached its last step.
pub fn finished(config: &TrainConfig, manifest: &Manifest, threads: usize, summary: &Summary, log: &[Line]) -> Vec<Row> {
    let base = trained_row(config, manifest, threads);
    let exact = |metric: &Metric, value: f64| with(&base, metric, value, InnerStat::Exact);
    let count = config.model.num_params();
    let flops =
        config.model.cost(&InputShape::train(config.batch * config.grad_accum, config.data.sequence_length)).flops_train();
    let tokens = Metric::new("train_tok", "tok", Better::None).expect("name and unit agree");
    let train_s = Metric::new("train_s", "s", Better::Lower).expect("name and unit agree");
    let mut rows = size(&base, summary.params_total, &count, flops);
    rows.push(exact(&tokens, summary.tokens as f64));
    rows.push(with(&base, &train_s, summary.train_s, InnerStat::Total));
    let valid = |metric: &Metric, value: f64, step: u64, kind: RecordKind| Row {
        kind,
        split: Some("valid".to_owned()),
        eval_step: Some(step),
        ..with(&base, metric, value, InnerStat::Mean)
    };
    for line in log {
        if let Line::Validation { step, val_loss, bits_per_byte, .. } = line {
            rows.push(valid(&VAL_LOSS, *val_loss, *step, RecordKind::Step));
            rows.push(valid(&BITS_PER_BYTE, *bits_per_byte, *step, RecordKind::Step));
        }
    }
    rows.push(valid(&VAL_LOSS, summary.val_loss, summary.steps, RecordKind::Sample));
    rows.push(valid(&BITS_PER_BYTE, summary.bits_per_byte, summary.steps, RecordKind::Sample));
    let losses: Vec<f64> =
        log.iter().filter_map(|line| if let Line::Step { loss, .. } = line { Some(*loss) } else { None }).collect();
    // The first loss is that of the initial weights on the first batch: equal in variants that start as the plain residual.
    if let Some(Line::Step { step: 1, loss, .. }) = log.iter().find(|line| matches!(line, Line::Step { .. })) {
        rows.push(exact(&INITIAL_LOSS, *loss));
    }
    let norms: Vec<f64> = log
        .iter()
        .filter_map(|line| if let Line::Step { grad_norm, step, .. } = line { Some((*step, *grad_norm)) } else { None })
        .filter(|(step, _)| *step > config.optimizer.warmup_steps)
        .map(|(_, norm)| norm)
        .collect();
    if let (Some(median), Some(largest)) = (median(&norms), norms.iter().copied().reduce(f64::max)) {
        rows.push(with(&base, &GRAD_NORM_SPIKE_RATIO, largest / median, InnerStat::Max));
    }
    rows.extend(last_losses(&base, &TRAIN_LOSS, &losses));
    rows.into_iter().map(seal).collect()
}

fn median(values: &[f64]) -> Option<f64> {
    stats::describe::median(values).ok()
}

/// The row of a run that stopped.
pub fn failure(config: &TrainConfig, manifest: &Manifest, threads: usize) -> Row {
    failed(trained_row(config, manifest, threads), &VAL_LOSS, manifest)
}

pub(super) fn with(base: &Row, metric: &Metric, value: f64, stat: InnerStat) -> Row {
    Row {
        metric: metric.name.to_string(),
        unit: metric.unit.to_string(),
        better: metric.better,
        value: Some(value),
        inner_stat: Some(stat),
        ..base.clone()
    }
}

pub(super) fn seal(row: Row) -> Row {
    let cell_id = CellId::of(&row);
    Row { cell_id: Some(cell_id.into()), ..row }.seal()
}

/// A unit variant as its config word.
fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn rank(residual: &ResidualConfig) -> Option<usize> {
    residual.augment.iter().find_map(|term| match *term {
        AugmentConfig::LowRank { rank, .. } | AugmentConfig::Gemma3n { rank } => Some(rank),
        AugmentConfig::Previous { rank, .. } => rank,
    })
}

fn lookback(residual: &ResidualConfig) -> Option<usize> {
    residual
        .augment
        .iter()
        .find_map(|term| if let AugmentConfig::Previous { lookback, .. } = *term { Some(lookback) } else { None })
}
