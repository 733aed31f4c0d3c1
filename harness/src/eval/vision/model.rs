//! Checkpoints as classifiers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use candle_core::{DType, Device};
use models::resnet::{Stem, load_resnet};
use models::{ImageModelConfig, InputShape, Model as _, ParamStore, ResNet};
use records::{Numerics, Row};

use crate::config::ImageTrainConfig;
use crate::data::images::ImageTransform;
use crate::error::Hint as _;
use crate::eval::model::folder_name;
use crate::run::{CONFIG_FILE, RunDirectory};
use crate::train::image_rows::base_row;

/// Endings of checkpoints that stand alone.
const ENDINGS: [&str; 4] = ["safetensors", "pth", "th", "pt"];

/// A network ready to classify pictures.
#[derive(Debug)]
pub struct Classifier {
    /// Name in results: the file's or folder's.
    pub name: String,
    /// The network in its inference form.
    pub network: ResNet,
    /// Names of its outputs, where its run says them.
    pub classes: Option<Vec<String>>,
    /// What it makes of a picture.
    pub transform: ImageTransform,
    /// Trainable values.
    pub params_total: usize,
    /// Digest of its weights.
    pub weights_digest: String,
    /// Training seed, for runs of ours.
    pub seed: Option<u64>,
    /// Run directory, for runs of ours.
    pub folder: Option<PathBuf>,
    /// Columns that the model decides.
    pub base: Row,
}

/// Whether a path is a checkpoint that stands alone.
fn is_checkpoint(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| ENDINGS.contains(&extension))
}

impl Classifier {
    /// Loads a published file, or the only one in a folder; the network follows from its shapes.
    ///
    /// - `image_size`: side of the input; 32 or 224 by the network's stem when none.
    ///
    /// # Errors
    /// No checkpoint, several in a folder, a file of something else than a ResNet.
    pub fn from_file(path: &Path, image_size: Option<usize>, device: &Device) -> anyhow::Result<Self> {
        let file = checkpoint(path)?;
        let loaded = load_resnet(&file, DType::F32, device).with_context(|| format!("cannot load model `{}`", path.display()))?;
        let network = loaded.network().with_context(|| format!("cannot build model `{}`", path.display()))?;
        let config = network.config();
        let preset = match config.stem {
            Stem::Cifar => ImageTransform { size: image_size.unwrap_or(32), ..ImageTransform::cifar() },
            Stem::Imagenet => ImageTransform::imagenet(image_size.unwrap_or(224)),
        };
        // A folder's name has no ending: `resnet-v1.5` is a whole one.
        let of_file = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = if path.is_dir() { folder_name(path)? } else { of_file() };
        let base = Row {
            subject: Some(name.clone()),
            variant: Some(config.variant()),
            tier: Some(records::Tier::Full),
            model_family: Some("resnet".to_owned()),
            num_hidden_layers: Some(config.num_layers() as u64),
            hidden_size: Some(config.head_inputs() as u64),
            image_size: Some(preset.size as u64),
            dtype: Some("f32".to_owned()),
            numerics: Some(Numerics::F32),
            ..Row::default()
        };
        Ok(Self {
            name,
            params_total: loaded.store.num_params(),
            weights_digest: loaded.store.digest()?,
            network,
            classes: None,
            transform: preset,
            seed: None,
            folder: None,
            base,
        })
    }

    /// Loads the newest checkpoint of a run of ours: the weights its evaluations used, its transform, the names of its classes.
    ///
    /// - `image_size`: side of the input instead of the run's.
    ///
    /// # Errors
    /// A run on texts, a run without a checkpoint, damaged files.
    pub fn from_run(run: &RunDirectory, image_size: Option<usize>, threads: usize, device: &Device) -> anyhow::Result<Self> {
        let context = || format!("cannot load run `{}`", run.folder().display());
        let config = ImageTrainConfig::load(&run.folder().join(CONFIG_FILE), &[], None).with_context(context)?;
        let checkpoint = run
            .newest_checkpoint()?
            .ok_or_else(|| anyhow!("run `{}`: expected a checkpoint, found none", run.folder().display()))
            .hint("train it first: harness train --config …")?;
        let ImageModelConfig::Resnet(shape) = &config.model;
        let store = ParamStore::new(DType::F32, device);
        ResNet::new(shape, store.var_builder()).with_context(context)?;
        store.load(&checkpoint.evaluated_file()).with_context(context)?;
        let network = ResNet::new(shape, store.freeze()).and_then(|network| network.fold()).with_context(context)?;
        let names = run.classes();
        let reading = || format!("cannot read the classes `{}`", names.display());
        let text = std::fs::read_to_string(&names).with_context(reading).with_context(context)?;
        let classes = serde_json::from_str(&text).with_context(reading).with_context(context)?;
        let mut transform = config.data.transform.clone();
        if let Some(size) = image_size {
            transform.resize = transform.resize * size / transform.size;
            transform.size = size;
        }
        Ok(Self {
            name: config.name.clone(),
            params_total: store.num_params(),
            weights_digest: store.digest()?,
            network,
            classes: Some(classes),
            seed: Some(config.seed),
            folder: Some(run.folder().to_owned()),
            base: Row { image_size: Some(transform.size as u64), ..base_row(&config, threads) },
            transform,
        })
    }

    /// FLOPs of a forward pass over one picture.
    pub fn flops_forward(&self) -> u64 {
        let size = self.transform.size;
        self.network.cost(&InputShape::Images { batch: 1, height: size, width: size }).flops_forward()
    }
}

/// The file itself, or the only checkpoint of a folder.
fn checkpoint(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read the folder `{}`", path.display()))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|file| is_checkpoint(file)).collect();
    files.sort();
    match files.as_slice() {
        [file] => Ok(file.clone()),
        [] => Err(anyhow!("`{}`: expected a checkpoint (.{}), found none", path.display(), ENDINGS.join(", .")))
            .hint("give the file itself, or a run of ours"),
        _ => Err(anyhow!("`{}`: expected one checkpoint, found {}", path.display(), files.len())).hint("give the file itself"),
    }
}
