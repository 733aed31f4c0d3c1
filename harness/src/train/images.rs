//! Training a network on images: read it top to bottom beside the language models' loop, whose parts it shares.
//!
//! ```text
//! config -> run directory (lock) -> image sets -> network -> resume -> { step, log, evaluate, checkpoint }* -> records -> manifest
//! ```
//! Which pictures stand in a batch and how they are changed is a function of (seed, step, picture), so runs that share a seed see the
//! same pictures, and a run that was killed and resumed gives the same curve bit for bit as one that never stopped.
//!
//! Accuracy is reported as the paper does and as it should be (measurement.md section 9): the best over evaluation points, which is
//! chosen on the set it is reported on and therefore too high, and the last.

use super::average::Average;
use super::checkpoint::{self, Contents};
use super::log::{self, ImageScores, Line, Log, Progress};
use super::optimizer::Optimizer;
use super::step::{Part, StepReport, optimizer_step};
use super::{TrainOptions, image_rows, schedule, session};
use crate::config::ImageTrainConfig;
use crate::data::images::{ImageBatch, ImageSet, Loader};
use crate::error::Hint as _;
use crate::eval::vision::score::score;
use crate::run::RunDirectory;
use anyhow::{Context as _, anyhow, bail};
use candle_core::{DType, Device, Tensor};
use models::{ImageModelConfig, Mode, ParamStore, ResNet, ResNetConfig};
use records::{Inputs, Manifest, RecordWriter, RunStatus, write_atomic};
use std::sync::Arc;
use std::time::Instant;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its directory.
    pub run: RunDirectory,
    /// Steps done before this process began.
    pub resumed_from: u64,
    /// Steps done in all.
    pub steps: u64,
    /// Images trained on.
    pub images: u64,
    /// Seconds in training steps, over all sessions.
    pub train_s: f64,
    /// After the last step.
    pub last: ImageScores,
    /// Largest accuracy over the evaluation points.
    pub acc1_best: f64,
    /// Step it was seen at first.
    pub best_step: u64,
    /// Evaluation points.
    pub evaluations: usize,
    /// Trainable parameters.
    pub params_total: usize,
}

/// Trains a run to its end, or says at once how it ended if it already did.
///
/// # Errors
/// Unusable image sets, classes that do not fit the network; a run directory in use, or of other inputs; a loss that is not finite; a
/// disk that is full. The run can be repeated after each of them and goes on from its last checkpoint.
pub fn train(config: &ImageTrainConfig, options: &TrainOptions) -> anyhow::Result<Summary> {
    let run = RunDirectory::with_id(&options.runs_dir, &config.run_id());
    let start = || -> anyhow::Result<_> {
        let lock = session::open(&run, options.fresh)?;
        let sets = ImageSets::open(config)?;
        let start = session::Start {
            run_id: config.run_id(),
            toml: config.to_toml(),
            tokenizer: None,
            inputs: sets.inputs(config)?,
            threads: options.threads,
        };
        let manifest = session::start_manifest(&run, start)?;
        // Evaluation on another set finds the classes by their names.
        write_atomic(&run.classes(), serde_json::to_string(sets.train.classes())?.as_bytes())?;
        Ok((lock, sets, manifest))
    };
    let (_lock, sets, manifest) = start().with_context(|| format!("cannot start run `{}`", config.run_id()))?;
    let result = run_steps(config, &run, &sets, &manifest, options);
    session::close(&run, manifest, result, |manifest| image_rows::failure(config, manifest, options.threads))
}

fn run_steps(
    config: &ImageTrainConfig,
    run: &RunDirectory,
    sets: &ImageSets,
    manifest: &Manifest,
    options: &TrainOptions,
) -> anyhow::Result<Summary> {
    kernels::cpu::keep_freed_memory();
    let ImageModelConfig::Resnet(shape) = &config.model;
    let store = ParamStore::new(DType::F32, &Device::Cpu);
    let network = ResNet::new(shape, store.var_builder())?.with_numerics(config.kernel_numerics());
    let mut optimizer = Optimizer::new(&config.optimizer, &store);
    let (mut images, mut train_s) = (0, 0.0);
    let newest = run.newest_checkpoint()?;
    match &newest {
        Some(checkpoint) => {
            checkpoint.restore(&store, &mut optimizer)?;
            (images, train_s) = (checkpoint.state.tokens, checkpoint.state.train_s);
        }
        None => network.init_weights(config.seed)?,
    }
    let keeps_average = config.average_decay > 0.0;
    let average = keeps_average.then(|| Average::new(config.average_decay, &config.model, &store)).transpose()?;
    if let (Some(average), Some(checkpoint)) = (&average, &newest) {
        average.store().load(&checkpoint.evaluated_file())?;
    }
    let evaluated = average.as_ref().map_or(&store, Average::store);

    let resumed_from = optimizer.steps();
    let mut log = Log::resume(run.folder(), resumed_from)?;
    let progress = Progress::new(&config.name, resumed_from, config.max_steps);
    let micro_batches = config.grad_accum as u64;
    let mut loader = sets.training(config, resumed_from * micro_batches)?;
    for step in resumed_from..config.max_steps {
        let started = Instant::now();
        let batches = (0..micro_batches).map(|_| next_batch(&mut loader)).collect::<anyhow::Result<Vec<_>>>()?;
        let rate = schedule::rate_fraction(&config.optimizer, step, config.max_steps);
        let report = train_step(&network, &mut optimizer, &batches, config.label_smoothing, rate)?;
        session::check_finite(run, step + 1, report.loss, report.grad_norm)?;
        let done = step + 1;
        if let Some(average) = &average {
            average.update(&store, done)?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let count: usize = batches.iter().map(|batch| batch.labels.len()).sum();
        images += count as u64;
        train_s += seconds;
        let images_per_s = count as f64 / seconds;
        let learning_rate = config.optimizer.learning_rate * rate;
        let (loss, grad_norm) = (report.loss, report.grad_norm);
        log.write(&Line::ImageStep { step: done, images, loss, learning_rate, grad_norm, images_per_s })?;
        progress.show(done, loss, images_per_s, "images");
        let is_last = done == config.max_steps;
        if is_last || session::is_due(config.eval_every, done) {
            let scores = sets.evaluate(config, shape, evaluated)?;
            log.write(&Line::Evaluation { step: done, images, scores })?;
            let ImageScores { cross_entropy, acc1, acc5 } = scores;
            progress.note(&format!(
                "{}: step {done}: accuracy@1 {:.2} %, accuracy@5 {:.2} %, cross-entropy {cross_entropy:.4}, {images_per_s:.0} images/s",
                config.name,
                100.0 * acc1,
                100.0 * acc5
            ));
        }
        if is_last || session::is_due(config.checkpoint_every, done) {
            let contents = Contents { store: &store, optimizer: &optimizer, average: average.as_ref().map(Average::store) };
            checkpoint::save(&run.checkpoints(), &contents, images, train_s, config.keep_checkpoints)?;
        }
    }
    progress.finish();
    sets.report_bad_images();

    let lines = log::read(&run.folder().join(log::TRAIN_LOG))?;
    let evaluations: Vec<(u64, ImageScores)> = lines.iter().filter_map(evaluation).collect();
    let Some(&(_, last)) = evaluations.last().filter(|(step, _)| *step == config.max_steps) else {
        bail!(
            "`{}`: expected an evaluation after step {}, found none",
            run.folder().join(log::TRAIN_LOG).display(),
            config.max_steps
        );
    };
    let (best_step, acc1_best) = best(&evaluations);
    let summary = Summary {
        run: run.clone(),
        resumed_from,
        steps: optimizer.steps(),
        images,
        train_s,
        last,
        acc1_best,
        best_step,
        evaluations: evaluations.len(),
        params_total: store.num_params(),
    };
    if manifest.status != RunStatus::Finished {
        let rows = image_rows::finished(config, manifest, options.threads, &summary, &lines);
        RecordWriter::open(&run.records())?.append(&rows)?;
    }
    Ok(summary)
}

/// An evaluation line's step and scores.
pub(super) fn evaluation(line: &Line) -> Option<(u64, ImageScores)> {
    if let Line::Evaluation { step, scores, .. } = line { Some((*step, *scores)) } else { None }
}

/// Step and value of the largest accuracy, the earliest of equals; there is at least one evaluation.
fn best(evaluations: &[(u64, ImageScores)]) -> (u64, f64) {
    let first = (0, f64::NEG_INFINITY);
    evaluations.iter().fold(first, |best, (step, scores)| if scores.acc1 > best.1 { (*step, scores.acc1) } else { best })
}

/// The next batch. One whose pictures were all skipped is an error: passing over it would move every later step to another batch than
/// a resumed run takes.
fn next_batch(loader: &mut Loader) -> anyhow::Result<ImageBatch> {
    match loader.next_batch()? {
        Some(batch) if !batch.labels.is_empty() => Ok(batch),
        _ => Err(anyhow!("expected pictures in every batch, found one of which none can be decoded"))
            .hint("take the undecodable pictures out of the set (`harness data images` names them), or use larger batches"),
    }
}

/// One optimizer step over micro-batches of equal weight. When loss or gradient are not finite, the report says so and no parameter is
/// changed.
///
/// # Errors
/// When the network refuses the images.
pub fn train_step(
    network: &ResNet,
    optimizer: &mut Optimizer,
    batches: &[ImageBatch],
    label_smoothing: f64,
    rate_fraction: f64,
) -> candle_core::Result<StepReport> {
    train_step_in_parts(network, optimizer, batches, label_smoothing, rate_fraction, |_| Ok(()))
}

/// [`train_step`], telling `ended` whenever a part of it is done.
///
/// # Errors
/// As [`train_step`], and those of `ended`.
pub fn train_step_in_parts(
    network: &ResNet,
    optimizer: &mut Optimizer,
    batches: &[ImageBatch],
    label_smoothing: f64,
    rate_fraction: f64,
    ended: impl FnMut(Part) -> candle_core::Result<()>,
) -> candle_core::Result<StepReport> {
    let loss = |batch: &ImageBatch| {
        let labels = Tensor::from_slice(&batch.labels, batch.labels.len(), network.device())?;
        network.loss(&batch.images, &labels, label_smoothing)
    };
    optimizer_step(optimizer, batches, rate_fraction, loss, ended)
}

/// Training and evaluation set of a run.
#[derive(Debug)]
pub struct ImageSets {
    train: Arc<ImageSet>,
    valid: Arc<ImageSet>,
}

impl ImageSets {
    /// Opens and checks what a config names, before anything is trained.
    ///
    /// # Errors
    /// Missing or damaged sets, classes that differ between them or do not fit the network.
    pub fn open(config: &ImageTrainConfig) -> anyhow::Result<Self> {
        let data = &config.data;
        let train = ImageSet::open(&config.file(&data.train), data.open_options(&data.train_split))?;
        let mut valid = ImageSet::open(&config.file(&data.valid), data.open_options(&data.valid_split))?;
        valid.align(train.classes())?;
        let ImageModelConfig::Resnet(model) = &config.model;
        if train.classes().len() != model.num_classes {
            return Err(anyhow!(
                "model.num_classes: expected {} (classes of `{}`), found {}",
                train.classes().len(),
                train.name,
                model.num_classes
            ))
            .hint("set model.num_classes, or name another split of the data");
        }
        Ok(Self { train: Arc::new(train), valid: Arc::new(valid) })
    }

    /// Training images.
    pub fn train_len(&self) -> usize {
        self.train.len()
    }

    /// Evaluated images.
    pub fn valid_len(&self, config: &ImageTrainConfig) -> usize {
        limit(config).map_or(self.valid.len(), |limit| limit.min(self.valid.len()))
    }

    fn training(&self, config: &ImageTrainConfig, first: u64) -> anyhow::Result<Loader> {
        let (transform, workers) = (&config.data.transform, config.data.workers);
        Loader::train(Arc::clone(&self.train), transform, config.seed, config.batch, first, workers, &Device::Cpu)
    }

    /// Scores of the weights in `store` on the evaluation set.
    fn evaluate(&self, config: &ImageTrainConfig, shape: &ResNetConfig, store: &ParamStore) -> anyhow::Result<ImageScores> {
        let network = ResNet::new(shape, store.freeze())?.fold()?;
        let (transform, workers) = (&config.data.transform, config.data.workers);
        let mut loader =
            Loader::evaluate(Arc::clone(&self.valid), transform, config.batch, limit(config), workers, &Device::Cpu)?;
        let (mut sums, mut count) = (ImageScores { cross_entropy: 0.0, acc1: 0.0, acc5: 0.0 }, 0usize);
        while let Some(batch) = loader.next_batch()? {
            if batch.labels.is_empty() {
                continue;
            }
            let logits = network.forward(&batch.images, Mode::Eval)?.to_vec2::<f32>()?;
            for ((row, &label), &index) in logits.iter().zip(&batch.labels).zip(&batch.ids) {
                let score = score(row, label).with_context(|| format!("picture `{}`", self.valid.id(index as usize)))?;
                sums.cross_entropy += score.cross_entropy;
                sums.acc1 += f64::from(u8::from(score.rank < 1));
                sums.acc5 += f64::from(u8::from(score.rank < 5));
            }
            count += batch.labels.len();
        }
        if count == 0 {
            bail!("`{}`: expected pictures to evaluate, found none that can be decoded", self.valid.name);
        }
        let mean = |sum: f64| sum / count as f64;
        Ok(ImageScores { cross_entropy: mean(sums.cross_entropy), acc1: mean(sums.acc1), acc5: mean(sums.acc5) })
    }

    fn inputs(&self, config: &ImageTrainConfig) -> anyhow::Result<Inputs> {
        let digests = format!("{}\n{}\n", self.train.digest()?, self.valid.digest()?);
        Ok(Inputs {
            config_sha256: Some(config.sha256()),
            dataset: Some(self.train.name.clone()),
            dataset_sha256: Some(records::ids::sha256_hex(digests.as_bytes())),
            tokenizer_sha256: None,
            checkpoint_sha256: None,
        })
    }

    fn report_bad_images(&self) {
        for set in [&self.train, &self.valid] {
            let bad = set.bad();
            if let Some(first) = bad.first() {
                tracing::warn!("`{}`: {} pictures were left out, first `{}`: {}", set.name, bad.len(), first.id, first.reason);
            }
        }
    }
}

fn limit(config: &ImageTrainConfig) -> Option<usize> {
    Some(config.data.valid_images).filter(|&images| images > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::ImageTransform;
    use crate::data::images::layout::{Placed, Split};
    use crate::data::images::set::{Bytes, OnBadImage, OpenOptions};

    /// Passing over such a batch gave a run that stopped there and went on another curve than one that never stopped.
    #[test]
    fn a_batch_without_a_usable_picture_stops_the_run() {
        let place = |(at, item)| Placed { id: format!("{at}"), label: 0, item };
        let good = Bytes::Pixels(Arc::new(::images::Rgb8::new(32, 32, vec![0; 3072]).unwrap()));
        let files = [Bytes::Memory(Vec::new()), good].into_iter().enumerate().map(place).collect();
        let split = Split { name: None, classes: vec!["a".to_owned()], files };
        let options = OpenOptions { on_bad_image: OnBadImage::Skip, ..OpenOptions::default() };
        let set = Arc::new(ImageSet::of("s".to_owned(), split, options));
        let mut loader = Loader::train(set, &ImageTransform::cifar(), 0, 1, 0, 1, &Device::Cpu).unwrap();
        let epoch = [next_batch(&mut loader), next_batch(&mut loader)];
        let errors: Vec<String> = epoch.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
        assert_eq!(errors, ["expected pictures in every batch, found one of which none can be decoded"]);
    }

    #[test]
    fn the_best_accuracy_is_the_earliest_of_equals() {
        let at = |acc1| ImageScores { cross_entropy: 1.0, acc1, acc5: 1.0 };
        assert_eq!(best(&[(10, at(0.5)), (20, at(0.7)), (30, at(0.7)), (40, at(0.6))]), (20, 0.7));
    }
}
