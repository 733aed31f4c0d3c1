//! Training one run: read it top to bottom, it is the whole story.
//!
//! ```text
//! config -> run directory (lock) -> tokens -> model -> resume -> { step, log, validate, checkpoint }* -> records -> manifest
//! ```
//! - [`step`]: one optimizer step. - [`optimizer`]: AdamW and SGD in groups. - [`schedule`]: the learning rate.
//! - [`mod@images`]: the same story for networks on images. - `session`: what the two share around their loops.
//! - [`checkpoint`]: complete or absent. - [`log`]: `train.jsonl` and the progress bar. - [`rows`]: what is recorded at the end.
//!
//! Every step is a function of (config, seed, step, parameters, moments): data order and initial values come from keyed streams, so
//! a run that was killed and resumed gives the same curve bit for bit as one that never stopped.

pub mod average;
pub mod checkpoint;
pub mod estimate;
pub mod image_rows;
pub mod images;
pub mod log;
pub mod optimizer;
pub mod rows;
pub mod schedule;
mod session;
pub mod step;

use crate::config::{RunConfig, TrainConfig};
use crate::data::{Tokenizer, Tokens, Windows, load_tokens, windows::validation_batches};
use crate::run::RunDirectory;
use anyhow::{Context as _, bail};
use candle_core::{DType, Device};
use checkpoint::Contents;
use log::{Line, Log, Progress};
use models::{Decoder, ModelConfig, ParamStore};
use optimizer::Optimizer;
use records::{Inputs, Manifest, RecordWriter, RunStatus};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How to train, beside what the config says.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Where runs and caches live.
    pub runs_dir: PathBuf,
    /// Threads of the pool, for the record.
    pub threads: usize,
    /// Forget an earlier run of the same config and seed.
    pub fresh: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its directory.
    pub run: RunDirectory,
    /// Steps done before this process began.
    pub resumed_from: u64,
    /// Steps done in all.
    pub steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds in training steps, over all sessions.
    pub train_s: f64,
    /// Validation loss after the last step, nats per token.
    pub val_loss: f64,
    /// The same in bits per byte of text.
    pub bits_per_byte: f64,
    /// Trainable parameters.
    pub params_total: usize,
}

/// How a run of either kind ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunSummary {
    /// A language model.
    Language(Summary),
    /// A network on images.
    Images(images::Summary),
}

impl RunSummary {
    /// The two numbers a person asks for first, with their names.
    pub fn headline(&self) -> [(&'static str, f64); 2] {
        match self {
            Self::Language(summary) => [("val_loss", summary.val_loss), ("bits_per_byte", summary.bits_per_byte)],
            Self::Images(summary) => [("acc1_best", summary.acc1_best), ("acc1_final", summary.last.acc1)],
        }
    }

    /// Seconds in training steps, over all sessions.
    pub fn train_s(&self) -> f64 {
        match self {
            Self::Language(summary) => summary.train_s,
            Self::Images(summary) => summary.train_s,
        }
    }
}

/// Trains a run of either kind.
///
/// # Errors
/// As [`train()`] and [`images::train`].
pub fn run(config: &RunConfig, options: &TrainOptions) -> anyhow::Result<RunSummary> {
    Ok(match config {
        RunConfig::Language(config) => RunSummary::Language(train(config, options)?),
        RunConfig::Images(config) => RunSummary::Images(images::train(config, options)?),
    })
}

/// Trains a run to its end, or says at once how it ended if it already did.
///
/// # Errors
/// Unusable data or tokenizer; a run directory in use, or of other inputs; a loss that is not finite; a disk that is full. The run
/// can be repeated after each of them and goes on from its last checkpoint.
pub fn train(config: &TrainConfig, options: &TrainOptions) -> anyhow::Result<Summary> {
    let run = RunDirectory::of(&options.runs_dir, config);
    let start = || -> anyhow::Result<_> {
        let lock = session::open(&run, options.fresh)?;
        let corpus = Corpus::load(config, &options.runs_dir)?;
        let start = session::Start {
            run_id: config.run_id(),
            toml: config.to_toml(),
            tokenizer: Some(corpus.tokenizer.path()),
            inputs: corpus.inputs(config),
            threads: options.threads,
        };
        let manifest = session::start_manifest(&run, start)?;
        Ok((lock, corpus, manifest))
    };
    let (_lock, corpus, manifest) = start().with_context(|| format!("cannot start run `{}`", config.run_id()))?;
    let result = run_steps(config, &run, &corpus, &manifest, options);
    session::close(&run, manifest, result, |manifest| rows::failure(config, manifest, options.threads))
}

fn run_steps(
    config: &TrainConfig,
    run: &RunDirectory,
    corpus: &Corpus,
    manifest: &Manifest,
    options: &TrainOptions,
) -> anyhow::Result<Summary> {
    kernels::cpu::keep_freed_memory();
    let ModelConfig::Decoder(shape) = &config.model;
    let store = ParamStore::new(DType::F32, &Device::Cpu);
    let model = Decoder::new(shape, store.var_builder())?.with_numerics(config.kernel_numerics());
    let mut optimizer = Optimizer::new(&config.optimizer, &store);
    let (mut tokens, mut train_s) = (0, 0.0);
    match run.newest_checkpoint()? {
        Some(checkpoint) => {
            checkpoint.restore(&store, &mut optimizer)?;
            (tokens, train_s) = (checkpoint.state.tokens, checkpoint.state.train_s);
        }
        None => model.init_weights(config.seed)?,
    }
    let frozen = Decoder::new(shape, store.freeze())?; // shares storage with `model`, records no graph, f32
    let mut windows = Windows::new(&corpus.train.ids, config.data.sequence_length, config.seed, &config.data.train)?;
    let valid = validation_batches(&corpus.valid.ids, config.data.sequence_length, config.batch, config.data.valid_windows);
    let validate = |step: u64, tokens: u64| -> anyhow::Result<Line> {
        let val_loss = step::validation_loss(&frozen, &valid)?;
        Ok(Line::Validation { step, tokens, val_loss, bits_per_byte: corpus.valid.bits_per_byte(val_loss) })
    };

    let resumed_from = optimizer.steps();
    let mut log = Log::resume(run.folder(), resumed_from)?;
    let progress = Progress::new(&config.name, resumed_from, config.max_steps);
    let items_per_step = (config.batch * config.grad_accum) as u64;
    for step in resumed_from..config.max_steps {
        let batches: Vec<_> = (0..config.grad_accum as u64)
            .map(|micro| windows.batch(step * items_per_step + micro * config.batch as u64, config.batch))
            .collect();
        let rate = schedule::rate_fraction(&config.optimizer, step, config.max_steps);
        let started = Instant::now();
        let report = step::train_step(&model, &mut optimizer, &batches, rate)?;
        let seconds = started.elapsed().as_secs_f64();
        session::check_finite(run, step + 1, report.loss, report.grad_norm)?;
        let done = step + 1;
        tokens += config.tokens_per_step();
        train_s += seconds;
        let tokens_per_s = config.tokens_per_step() as f64 / seconds;
        let learning_rate = config.optimizer.learning_rate * rate;
        log.write(&Line::Step {
            step: done,
            tokens,
            loss: report.loss,
            learning_rate,
            grad_norm: report.grad_norm,
            tokens_per_s,
        })?;
        progress.show(done, report.loss, tokens_per_s, "tokens");
        let is_last = done == config.max_steps;
        if is_last || session::is_due(config.eval_every, done) {
            let line = validate(done, tokens)?;
            log.write(&line)?;
            if let Line::Validation { val_loss, bits_per_byte, .. } = line {
                progress.note(&format!("{}: step {done}: val_loss {val_loss:.4}, {bits_per_byte:.4} bits per byte", config.name));
            }
        }
        if is_last || session::is_due(config.checkpoint_every, done) {
            let contents = Contents { store: &store, optimizer: &optimizer, average: None };
            checkpoint::save(&run.checkpoints(), &contents, tokens, train_s, config.keep_checkpoints)?;
        }
    }
    progress.finish();

    let lines = log::read(&run.folder().join(log::TRAIN_LOG))?;
    let last = lines.iter().rev().find(|line| matches!(line, Line::Validation { .. }) && line.step() == config.max_steps);
    let last = last.cloned().map_or_else(|| validate(config.max_steps, tokens), Ok)?;
    let Line::Validation { val_loss, bits_per_byte, .. } = last else { unreachable!("only validations are looked for") };
    let params_total = store.num_params();
    let summary = Summary {
        run: run.clone(),
        resumed_from,
        steps: optimizer.steps(),
        tokens,
        train_s,
        val_loss,
        bits_per_byte,
        params_total,
    };
    if manifest.status != RunStatus::Finished {
        let rows = rows::finished(config, manifest, options.threads, &summary, &lines);
        RecordWriter::open(&run.records())?.append(&rows)?;
    }
    Ok(summary)
}

/// Tokenizer and token streams of a run.
#[derive(Debug)]
pub struct Corpus {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Training tokens.
    pub train: Tokens,
    /// Validation tokens.
    pub valid: Tokens,
}

impl Corpus {
    /// Loads and checks everything a config names, before anything is trained.
    ///
    /// # Errors
    /// Missing or empty files, a tokenizer that does not fit the model, a corpus shorter than a window.
    pub fn load(config: &TrainConfig, runs_dir: &Path) -> anyhow::Result<Self> {
        let tokenizer = Tokenizer::load(&config.file(&config.tokenizer))?;
        let ModelConfig::Decoder(model) = &config.model;
        tokenizer.check_fits(model.vocab_size)?;
        let cache = runs_dir.join("_cache/tokens");
        let train = load_tokens(&config.file(&config.data.train), &config.data, &tokenizer, &cache)?;
        let valid = load_tokens(&config.file(&config.data.valid), &config.data, &tokenizer, &cache)?;
        Windows::new(&train.ids, config.data.sequence_length, config.seed, &config.data.train)?;
        if valid.ids.len() < 2 {
            bail!(
                "the corpus `{}` is too short: expected at least 2 tokens, found {}",
                config.data.valid.display(),
                valid.ids.len()
            );
        }
        Ok(Self { tokenizer, train, valid })
    }

    fn inputs(&self, config: &TrainConfig) -> Inputs {
        let files = format!("{}\n{}\n", self.train.file_sha256, self.valid.file_sha256);
        Inputs {
            config_sha256: Some(config.sha256()),
            dataset: config.data.train.file_name().map(|name| name.to_string_lossy().into_owned()),
            dataset_sha256: Some(records::ids::sha256_hex(files.as_bytes())),
            tokenizer_sha256: Some(self.tokenizer.sha256().to_owned()),
            checkpoint_sha256: None,
        }
    }
}
