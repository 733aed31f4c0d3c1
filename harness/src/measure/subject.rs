//! What a probe measures: one network with the inputs of one workload, all a function of the config and its seed.
//!
//! ```text
//! training    batches of uniform tokens, stream("measure/tokens", seed, batch)        config.batch × grad_accum × sequence_length
//!             pictures of normal numbers with uniform labels, streams "measure/pixels", "measure/labels"    batch × grad_accum × size²
//! inference   an own text, tokenised and cut to prompt_length; the same prompt in every row of the batch
//!             the first of the same pictures
//! ```
//! Weights are the seeded initial ones, or those of a checkpoint; speed does not depend on them, so initial ones are the default. Frozen
//! bf16 weights, for shapes that would not fit otherwise, are cheaper still: every matrix repeats one block of seeded normals.

use crate::config::{ImageTrainConfig, RunConfig, TrainConfig, UpdateRule};
use crate::data::Tokenizer;
use crate::data::images::ImageBatch;
use crate::data::windows::Batch;
use crate::train::images;
use crate::train::optimizer::Optimizer;
use crate::train::step::{Part, StepReport, train_step_in_parts};
use anyhow::{Context as _, bail, ensure};
use candle_core::{DType, Device, Tensor};
use models::{Decoder, DecoderConfig, ImageModelConfig, ModelConfig, ParamStore, ResNet, ResNetConfig};
use records::Numerics;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Purpose of the random stream that draws training tokens.
const TOKENS: &str = "measure/tokens";
/// Purposes of the random streams that draw pictures and their labels.
const PIXELS: &str = "measure/pixels";
const LABELS: &str = "measure/labels";
/// Share of the peak learning rates that measured steps use: the work is that of a real step, while a model that fits one batch perfectly
/// would run into denormal gradients, which are slower.
const RATE_FRACTION: f64 = 1e-3;

/// Text that prompts are cut from.
const PROMPT: &str = "The old mill stands at the river. Every morning the miller opens the gate, the wheel turns, and flour falls into \
                      the white sacks. Anna counts 12 of them, Ben carries 5 away, so 7 are left by the door. ";

/// Values of the block that matrices of random bf16 weights repeat; its odd size keeps rows from repeating.
const BLOCK: usize = (1 << 20) + 7;
/// Standard deviation of those values, the decoder's own for most matrices.
const BLOCK_STD: f32 = 0.02;
/// Purpose of the random stream that draws them.
const WEIGHTS: &str = "measure/weights";

/// Number format of the weights and activations of an inference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InferenceDtype {
    /// As trained.
    #[default]
    F32,
    /// Half the memory; products add up in f32.
    Bf16,
}

impl InferenceDtype {
    /// The word in the column `dtype`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// How products of a network in it are computed.
    pub fn numerics(self) -> Numerics {
        match self {
            Self::F32 => Numerics::F32,
            Self::Bf16 => Numerics::Bf16,
        }
    }

    /// candle's type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_default(dtype: &InferenceDtype) -> bool {
    *dtype == InferenceDtype::default()
}

/// The rate that `mfu` refers to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peak {
    /// What it is, for a reader to check: device, data type, dense.
    pub name: String,
    /// FLOP/s.
    pub flops_per_s: f64,
}

impl std::str::FromStr for Peak {
    type Err = String;

    /// `NAME=FLOP/s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected `NAME=FLOP/s` with a positive number, such as `2 cores f32 dense=2.4e11`, found `{text}`");
        let (name, rate) = text.rsplit_once('=').ok_or_else(wrong)?;
        let flops_per_s: f64 = rate.trim().parse().map_err(|_| wrong())?;
        if name.trim().is_empty() || !(flops_per_s.is_finite() && flops_per_s > 0.0) {
            return Err(wrong());
        }
        Ok(Self { name: name.trim().to_owned(), flops_per_s })
    }
}

/// Sizes of the work, beside what a training config says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Sequences or pictures of a training micro-batch, and pictures of an inference; the config's when absent.
    pub train_batch: Option<usize>,
    /// Tokens of a training sequence; the config's when absent.
    pub sequence_length: Option<usize>,
    /// Requests answered together.
    pub batch: usize,
    /// Prompt tokens of each.
    pub prompt_length: usize,
    /// Tokens generated for each.
    pub output_length: usize,
    /// Bytes that the probe `ballast` touches.
    pub ballast_bytes: u64,
    /// Number format of inference. Left out of a job when it is the default, so that an older build can serve as the reference.
    #[serde(default, skip_serializing_if = "is_default")]
    pub inference_dtype: InferenceDtype,
    /// What `mfu` refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<Peak>,
}

impl Default for Workload {
    /// The config's training shape; one request of 256 tokens answered with 32; 256 MiB of ballast.
    fn default() -> Self {
        Self {
            train_batch: None,
            sequence_length: None,
            batch: 1,
            prompt_length: 256,
            output_length: 32,
            ballast_bytes: 256 << 20,
            inference_dtype: InferenceDtype::F32,
            peak: None,
        }
    }
}

impl Workload {
    /// The config with this workload's training shape.
    pub fn apply(&self, config: &RunConfig) -> RunConfig {
        let mut config = config.clone();
        match &mut config {
            RunConfig::Language(config) => {
                config.batch = self.train_batch.unwrap_or(config.batch);
                config.data.sequence_length = self.sequence_length.unwrap_or(config.data.sequence_length);
            }
            RunConfig::Images(config) => config.batch = self.train_batch.unwrap_or(config.batch),
        }
        config
    }

    /// Checks the sizes against a subject's model.
    ///
    /// # Errors
    /// When a size is 0, the model has too few positions, or a network on images is given a sequence length.
    pub fn check(&self, config: &RunConfig) -> anyhow::Result<()> {
        let config = match config {
            RunConfig::Language(config) => config,
            RunConfig::Images(config) => {
                ensure!(self.train_batch != Some(0), "--batch: expected at least 1, found 0");
                if let Some(length) = self.sequence_length {
                    bail!("--sequence-length: expected none for `{}`, a network on images, found {length}", config.name);
                }
                return Ok(());
            }
        };
        let ModelConfig::Decoder(model) = &config.model;
        let limit = model.max_position_embeddings;
        let sequence = self.sequence_length.unwrap_or(config.data.sequence_length);
        let sizes = [
            ("--batch", self.batch.min(self.train_batch.unwrap_or(1)), 1, usize::MAX),
            ("--sequence-length", sequence, 2, limit),
            ("--prompt-length", self.prompt_length, 1, limit),
            ("--output-length", self.output_length, 1, limit),
            ("--prompt-length plus --output-length", self.prompt_length + self.output_length, 2, limit),
        ];
        for (name, found, low, high) in sizes {
            if found < low {
                bail!("{name}: expected at least {low}, found {found}");
            }
            if found > high {
                bail!("{name}: expected at most {high} (max_position_embeddings of `{}`), found {found}", config.name);
            }
        }
        Ok(())
    }
}

/// The subject that `params_added` and ratios refer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub subject: String,
    /// Its variant.
    pub variant: String,
    /// Its parameters, in closed form.
    pub params_total: usize,
}

/// A subject inside its worker.
#[derive(Debug)]
pub struct Subject {
    /// Config with the workload's training shape.
    pub config: RunConfig,
    /// Sizes of the work.
    pub workload: Workload,
    /// Weights to use instead of initial ones.
    pub checkpoint: Option<PathBuf>,
    /// What it is compared with.
    pub reference: Option<Reference>,
}

/// A model that can be trained, with all a step needs.
#[derive(Debug)]
pub struct Training {
    /// Its parameters.
    pub store: ParamStore,
    /// Zero moments at first.
    optimizer: Optimizer,
    network: Network,
    /// Bytes of one step's tokens; of pictures, of all that are held.
    input_bytes: usize,
}

/// The network, and micro-batches of successive steps.
#[derive(Debug)]
enum Network {
    Language(Box<Decoder>, Vec<Vec<Batch>>),
    Images { network: Box<ResNet>, label_smoothing: f64, steps: Vec<Vec<ImageBatch>> },
}

impl Training {
    /// One optimizer step on the inputs of step `number`, taken in turn, by the training loop's own function. `ended` is told whenever a
    /// part of it is done.
    ///
    /// # Errors
    /// When the network refuses its inputs, a loss or gradient is not finite, and those of `ended`.
    pub fn step(&mut self, number: usize, ended: impl FnMut(Part) -> candle_core::Result<()>) -> anyhow::Result<StepReport> {
        let optimizer = &mut self.optimizer;
        let report = match &self.network {
            Network::Language(model, steps) => {
                train_step_in_parts(model, optimizer, &steps[number % steps.len()], RATE_FRACTION, ended)?
            }
            Network::Images { network, label_smoothing, steps } => {
                let batches = &steps[number % steps.len()];
                images::train_step_in_parts(network, optimizer, batches, *label_smoothing, RATE_FRACTION, ended)?
            }
        };
        ensure!(report.loss.is_finite() && report.grad_norm.is_finite(), "the step's loss is not finite: {report:?}");
        Ok(report)
    }

    /// Bytes of weights (running statistics included), gradients and moments, all f32: there are no separate master weights.
    pub fn state_bytes(&self, rule: UpdateRule) -> usize {
        let moments = match rule {
            UpdateRule::Adamw => 2,
            UpdateRule::Sgd => 1,
        };
        self.store.weights_bytes() + (1 + moments) * size_of::<f32>() * self.store.num_params()
    }

    /// Bytes of one step's inputs and targets; of pictures, which neighbouring steps share, of those of all steps.
    pub fn input_bytes(&self) -> usize {
        self.input_bytes
    }
}

impl Subject {
    /// The config of a language model.
    ///
    /// # Errors
    /// When it is a network on images.
    pub fn language(&self) -> anyhow::Result<&TrainConfig> {
        match &self.config {
            RunConfig::Language(config) => Ok(config),
            other @ RunConfig::Images(_) => bail!("`{}`: expected a language model, found {}", other.name(), other.kind()),
        }
    }

    /// The config of a network on images.
    ///
    /// # Errors
    /// When it is a language model.
    pub fn images(&self) -> anyhow::Result<&ImageTrainConfig> {
        match &self.config {
            RunConfig::Images(config) => Ok(config),
            other @ RunConfig::Language(_) => bail!("`{}`: expected a network on images, found {}", other.name(), other.kind()),
        }
    }

    /// The language model's shape.
    ///
    /// # Errors
    /// As [`Subject::language`].
    pub fn decoder(&self) -> anyhow::Result<&DecoderConfig> {
        let ModelConfig::Decoder(model) = &self.language()?.model;
        Ok(model)
    }

    /// The image network's shape.
    ///
    /// # Errors
    /// As [`Subject::images`].
    pub fn resnet(&self) -> anyhow::Result<&ResNetConfig> {
        let ImageModelConfig::Resnet(model) = &self.images()?.model;
        Ok(model)
    }

    /// The device of this build's measurements.
    pub fn device(&self) -> Device {
        Device::Cpu
    }

    /// Names and shapes of the network: fresh variables are zero pages nobody touched, so a full-size model needs none of its memory.
    ///
    /// # Errors
    /// When the network cannot be built.
    pub fn shapes(&self) -> anyhow::Result<ParamStore> {
        let store = ParamStore::new(DType::F32, &self.device());
        match &self.config {
            RunConfig::Language(_) => drop(Decoder::new(self.decoder()?, store.var_builder())?),
            RunConfig::Images(_) => drop(ResNet::new(self.resnet()?, store.var_builder())?),
        }
        Ok(store)
    }

    /// Parameters and the trainable network on them, with values.
    ///
    /// # Errors
    /// When the checkpoint does not fit.
    pub fn build(&self) -> anyhow::Result<(ParamStore, Decoder)> {
        let store = ParamStore::new(DType::F32, &self.device());
        let model = Decoder::new(self.decoder()?, store.var_builder())?.with_numerics(self.language()?.kernel_numerics());
        if !self.load(&store)? {
            model.init_weights(self.config.seed())?;
        }
        Ok((store, model))
    }

    /// The same for a network on images.
    ///
    /// # Errors
    /// When the checkpoint does not fit.
    pub fn build_images(&self) -> anyhow::Result<(ParamStore, ResNet)> {
        let store = ParamStore::new(DType::F32, &self.device());
        let network = ResNet::new(self.resnet()?, store.var_builder())?.with_numerics(self.images()?.kernel_numerics());
        if !self.load(&store)? {
            network.init_weights(self.config.seed())?;
        }
        Ok((store, network))
    }

    /// Takes the values of the checkpoint, if there is one.
    fn load(&self, store: &ParamStore) -> anyhow::Result<bool> {
        let Some(path) = &self.checkpoint else { return Ok(false) };
        store.load(path).with_context(|| format!("cannot load the weights of `{}`", self.config.name()))?;
        Ok(true)
    }

    /// The image network's inference form: batch norms folded into convolutions that compute in the workload's number format.
    ///
    /// # Errors
    /// As [`Subject::build_images`].
    pub fn build_folded(&self) -> anyhow::Result<ResNet> {
        let (store, _) = self.build_images()?;
        let numerics = match self.workload.inference_dtype {
            InferenceDtype::F32 => kernels::Numerics::F32,
            InferenceDtype::Bf16 => kernels::Numerics::Bf16,
        };
        Ok(ResNet::new(self.resnet()?, store.freeze())?.with_numerics(numerics).fold()?)
    }

    /// Standardised pictures of the config's size, f32 `[count, Y, X, 3]`.
    ///
    /// # Errors
    /// When the subject is a language model.
    pub fn pictures(&self, count: usize) -> anyhow::Result<Tensor> {
        let config = self.images()?;
        let size = config.data.transform.size;
        let mut pixels = vec![0.0; count * size * size * 3];
        stats::rng::fill_normal(&mut stats::rng::stream(PIXELS, config.seed, 0), 0.0, 1.0, &mut pixels);
        Ok(Tensor::from_vec(pixels, (count, size, size, 3), &self.device())?)
    }

    /// The network on detached tensors of the workload's number format: it records no graph.
    ///
    /// # Errors
    /// As [`Subject::build`].
    pub fn build_frozen(&self) -> anyhow::Result<(ParamStore, Decoder)> {
        let store = match self.workload.inference_dtype {
            InferenceDtype::F32 => self.build()?.0,
            InferenceDtype::Bf16 => self.build_bf16()?,
        };
        let frozen = Decoder::new(self.decoder()?, store.freeze())?.with_numerics(self.language()?.kernel_numerics());
        Ok((store, frozen))
    }

    /// bf16 parameters that were never wider, so that shapes fit whose f32 weights would not.
    fn build_bf16(&self) -> anyhow::Result<ParamStore> {
        let store = ParamStore::new(DType::BF16, &self.device());
        let model = Decoder::new(self.decoder()?, store.var_builder())?;
        if self.load(&store)? {
            return Ok(store);
        }
        let mut stream = stats::rng::stream(WEIGHTS, self.config.seed(), 0);
        let block: Vec<f32> = (0..BLOCK).map(|_| BLOCK_STD * stats::rng::normal(&mut stream) as f32).collect();
        let block = Tensor::from_vec(block, BLOCK, &self.device())?.to_dtype(DType::BF16)?;
        for (name, var) in store.vars() {
            let count = var.elem_count();
            if var.rank() >= 2 {
                var.set(&block.repeat(count.div_ceil(BLOCK))?.narrow(0, 0, count)?.reshape(var.dims())?)?;
            } else if name.ends_with("norm.weight") {
                var.set(&var.ones_like()?)?;
            }
        }
        for residual in model.residuals() {
            residual.init(self.config.seed())?;
        }
        Ok(store)
    }

    /// Everything a training step needs, with the inputs of `steps` different steps.
    ///
    /// # Errors
    /// As [`Subject::build`] and [`Subject::build_images`].
    pub fn training(&self, steps: usize) -> anyhow::Result<Training> {
        let (store, network, input_bytes) = match &self.config {
            RunConfig::Language(config) => {
                let (store, model) = self.build()?;
                let (accum, vocab) = (config.grad_accum, self.decoder()?.vocab_size);
                let one_step = |step: usize| (0..accum).map(|micro| token_batch(config, vocab, step * accum + micro)).collect();
                let bytes = 2 * size_of::<u32>() * config.tokens_per_step() as usize;
                (store, Network::Language(model.into(), (0..steps).map(one_step).collect()), bytes)
            }
            RunConfig::Images(config) => {
                let (store, network) = self.build_images()?;
                let count = steps * config.grad_accum;
                // Each micro-batch begins one picture further on: other inputs every time, in the memory of little more than one.
                let pictures = self.pictures(config.batch + count - 1)?;
                let bytes = size_of::<f32>() * pictures.elem_count() + size_of::<u32>() * config.batch * count;
                let batches: Vec<ImageBatch> =
                    (0..count).map(|number| self.picture_batch(config, &pictures, number)).collect::<anyhow::Result<_>>()?;
                let steps = batches.chunks(config.grad_accum).map(<[_]>::to_vec).collect();
                (store, Network::Images { network: network.into(), label_smoothing: config.label_smoothing, steps }, bytes)
            }
        };
        let optimizer = Optimizer::new(self.config.optimizer(), &store);
        Ok(Training { store, optimizer, network, input_bytes })
    }

    fn picture_batch(&self, config: &ImageTrainConfig, pictures: &Tensor, number: usize) -> anyhow::Result<ImageBatch> {
        let classes = self.resnet()?.num_classes;
        let mut stream = stats::rng::stream(LABELS, config.seed, number as u64);
        let labels = (0..config.batch).map(|_| stats::rng::index(&mut stream, classes) as u32).collect();
        let ids = (number..number + config.batch).map(|id| id as u32).collect();
        Ok(ImageBatch { images: pictures.narrow(0, number, config.batch)?, labels, ids })
    }

    /// The config's tokenizer.
    ///
    /// # Errors
    /// When it is missing or has more ids than the model.
    pub fn tokenizer(&self) -> anyhow::Result<Tokenizer> {
        let config = self.language()?;
        let tokenizer = Tokenizer::load(&config.file(&config.tokenizer))?;
        tokenizer.check_fits(self.decoder()?.vocab_size)?;
        Ok(tokenizer)
    }

    /// A text of at least `prompt_length` tokens, with as few more as whole words allow.
    ///
    /// # Errors
    /// When the tokenizer makes nothing of it.
    pub fn prompt_text(&self, tokenizer: &Tokenizer) -> anyhow::Result<String> {
        let mut text = String::new();
        let mut words = PROMPT.split_inclusive(' ').cycle();
        // Every word of the text has at least one token in any tokenizer that represents it at all.
        for _ in 0..=self.workload.prompt_length {
            text.extend(words.next());
            if tokenizer.encode(&text)?.len() >= self.workload.prompt_length {
                return Ok(text);
            }
        }
        bail!("`{}` makes fewer than one token per word", tokenizer.path().display())
    }
}

/// A batch of uniform tokens, a function of seed and number.
fn token_batch(config: &TrainConfig, vocab: usize, number: usize) -> Batch {
    let (rows, length) = (config.batch, config.data.sequence_length);
    let mut stream = stats::rng::stream(TOKENS, config.seed, number as u64);
    let mut batch = Batch { inputs: Vec::with_capacity(rows * length), targets: Vec::with_capacity(rows * length), rows };
    for _ in 0..rows {
        let window: Vec<u32> = (0..=length).map(|_| stats::rng::index(&mut stream, vocab) as u32).collect();
        batch.inputs.extend_from_slice(&window[..length]);
        batch.targets.extend_from_slice(&window[1..]);
    }
    batch
}

/// A small config for tests of this module's neighbours.
#[cfg(test)]
pub(super) fn tests_config() -> TrainConfig {
    let text = include_str!("../../../configs/train/lm-tiny-plain.toml");
    let mut config: TrainConfig = toml::from_str(text).expect("the config is checked by its own test");
    config.root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(prompt_length: usize) -> Subject {
        let workload = Workload { prompt_length, train_batch: Some(2), sequence_length: Some(8), ..Workload::default() };
        Subject { config: workload.apply(&tests_config().into()), workload, checkpoint: None, reference: None }
    }

    #[test]
    fn inputs_are_a_function_of_seed_and_number_and_targets_are_shifted() {
        let subject = subject(8);
        let batch = |number| token_batch(subject.language().unwrap(), 100, number);
        assert_eq!(batch(3), batch(3));
        assert_ne!(batch(3), batch(4));
        assert_eq!((batch(3).rows, batch(3).inputs.len()), (2, 16));
        assert_eq!(batch(3).inputs[1..8], batch(3).targets[..7]);
        assert_eq!(subject.training(3).unwrap().input_bytes(), 2 * 16 * 4);
    }

    #[test]
    fn prompt_texts_have_at_least_the_tokens_asked_for_and_few_more() {
        for length in [1, 7, 64] {
            let subject = subject(length);
            let tokenizer = subject.tokenizer().unwrap();
            let count = tokenizer.encode(&subject.prompt_text(&tokenizer).unwrap()).unwrap().len();
            assert!((length..length + 8).contains(&count), "{length}: {count}");
        }
    }

    #[test]
    fn bf16_subjects_have_ones_in_norms_and_answer_with_finite_logits() {
        let mut subject = subject(8);
        subject.workload.inference_dtype = InferenceDtype::Bf16;
        let (store, model) = subject.build_frozen().unwrap();
        assert_eq!(store.weights_bytes(), 2 * store.num_params());
        let norm = store.get("model.norm.weight").unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        assert!(norm.iter().all(|weight| *weight == 1.0));
        let ids = Tensor::from_vec(vec![1u32, 2, 3], (1, 3), &Device::Cpu).unwrap();
        let logits = model.forward(&ids).unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(logits.iter().all(|logit| logit.is_finite()) && logits.iter().any(|logit| *logit != logits[0]));
    }

    #[test]
    fn a_default_workload_is_a_job_that_older_builds_read() {
        let text = serde_json::to_string(&Workload::default()).unwrap();
        assert!(!text.contains("inference_dtype") && !text.contains("peak"), "{text}");
        let bf16 = Workload { inference_dtype: InferenceDtype::Bf16, ..Workload::default() };
        assert_eq!(serde_json::from_str::<Workload>(&serde_json::to_string(&bf16).unwrap()).unwrap(), bf16);
    }

    #[test]
    fn peaks_need_a_name_and_a_positive_rate() {
        let peak: Peak = "H100 bf16 dense=9.89e14".parse().unwrap();
        assert_eq!((peak.name.as_str(), peak.flops_per_s), ("H100 bf16 dense", 9.89e14));
        for text in ["1e12", "=1e12", "x=0", "x=-1", "x=nan", "x=inf", "x=fast"] {
            assert!(text.parse::<Peak>().unwrap_err().contains("expected `NAME=FLOP/s`"), "{text}");
        }
    }

    #[test]
    fn workloads_beyond_the_models_positions_are_refused_by_flag() {
        let check = |workload: Workload| workload.check(&tests_config().into()).unwrap_err().to_string();
        let message = check(Workload { prompt_length: 1000, output_length: 100, ..Workload::default() });
        assert!(message.starts_with("--prompt-length plus --output-length: expected at most 1024"), "{message}");
        assert_eq!(check(Workload { output_length: 0, ..Workload::default() }), "--output-length: expected at least 1, found 0");
        assert!(check(Workload { batch: 0, ..Workload::default() }).starts_with("--batch"));
        assert!(Workload::default().check(&tests_config().into()).is_ok());
    }
}
