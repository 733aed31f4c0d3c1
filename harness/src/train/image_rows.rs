//! What a training run on images records: sizes and cost, the evaluation curve as `step` rows, best and last accuracy.

use super::images::{Summary, evaluation};
use super::log::{ImageScores, Line};
use super::rows::{failed, last_losses, residual_columns, seal, size, trained, with};
use crate::config::ImageTrainConfig;
use models::{ImageModelConfig, Model as _};
use records::metric::{ACC1, ACC1_BEST, ACC1_FINAL, ACC5, CROSS_ENTROPY};
use records::{Better, InnerStat, Manifest, Metric, RecordKind, Row};

/// A row with the columns that a config decides: subject, variant, shape, seed. Metric and value are the caller's.
pub fn base_row(config: &ImageTrainConfig, threads: usize) -> Row {
    let ImageModelConfig::Resnet(model) = &config.model;
    Row {
        subject: Some(config.name.clone()),
        variant: Some(config.variant()),
        tier: Some(config.tier),
        model_family: Some(config.model.family().to_owned()),
        num_hidden_layers: Some(model.num_layers() as u64),
        hidden_size: Some(model.head_inputs() as u64),
        image_size: Some(config.data.transform.size as u64),
        dtype: Some("f32".to_owned()),
        numerics: Some(config.numerics),
        batch: Some(config.batch as u64),
        grad_accum: Some(config.grad_accum as u64),
        optimizer: Some(config.optimizer.kind.name().to_owned()),
        seed: i64::try_from(config.seed).ok(),
        threads: Some(threads as u64),
        ..residual_columns(&model.residual)
    }
}

fn trained_row(config: &ImageTrainConfig, manifest: &Manifest, threads: usize) -> Row {
    let ImageModelConfig::Resnet(model) = &config.model;
    trained(base_row(config, threads), &model.residual, &config.optimizer, &manifest.run_id)
}

/// Rows of a run that reached its last step.
pub fn finished(config: &ImageTrainConfig, manifest: &Manifest, threads: usize, summary: &Summary, log: &[Line]) -> Vec<Row> {
    let base = trained_row(config, manifest, threads);
    let exact = |metric: &Metric, value: f64| with(&base, metric, value, InnerStat::Exact);
    let flops = config.model.cost(&config.step_shape()).flops_train();
    let metric = |name, unit, better| Metric::new(name, unit, better).expect("name and unit agree");
    let mut rows = size(&base, summary.params_total, &config.model.num_params(), flops);
    rows.push(exact(&metric("train_images", "image", Better::None), summary.images as f64));
    rows.push(exact(&metric("evaluation_points", "1", Better::None), summary.evaluations as f64));
    rows.push(with(&base, &metric("train_s", "s", Better::Lower), summary.train_s, InnerStat::Total));
    let limit = Some(config.data.valid_images as u64).filter(|&images| images > 0);
    let valid = |metric: &Metric, value: f64, step: u64, kind: RecordKind| Row {
        kind,
        split: Some("valid".to_owned()),
        eval_step: Some(step),
        limit,
        ..with(&base, metric, value, InnerStat::Mean)
    };
    let scores = |scores: &ImageScores, step: u64, kind: RecordKind| {
        let values = [(&ACC1, scores.acc1), (&ACC5, scores.acc5), (&CROSS_ENTROPY, scores.cross_entropy)];
        values.map(|(metric, value)| valid(metric, value, step, kind))
    };
    for (step, at) in log.iter().filter_map(evaluation) {
        rows.extend(scores(&at, step, RecordKind::Step));
    }
    rows.extend(scores(&summary.last, summary.steps, RecordKind::Sample));
    rows.push(valid(&ACC1_FINAL, summary.last.acc1, summary.steps, RecordKind::Sample));
    rows.push(valid(&ACC1_BEST, summary.acc1_best, summary.best_step, RecordKind::Sample));
    let losses: Vec<f64> =
        log.iter().filter_map(|line| if let Line::ImageStep { loss, .. } = line { Some(*loss) } else { None }).collect();
    rows.extend(last_losses(&base, &metric("train_image_loss", "nat", Better::Lower), &losses));
    rows.into_iter().map(seal).collect()
}

/// The row of a run that stopped.
pub fn failure(config: &ImageTrainConfig, manifest: &Manifest, threads: usize) -> Row {
    failed(trained_row(config, manifest, threads), &ACC1_FINAL, manifest)
}
