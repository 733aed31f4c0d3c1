//! Published ResNet files: names, what they say about the network, strict loading.
//!
//! ```text
//! file       .safetensors, or torch.save's .pth and .th
//! names      torchvision's; a common prefix `module.` (a wrapped model) is dropped, `linear.*` of the CIFAR files is `fc.*`,
//!            `num_batches_tracked` is left out (torch fills it in)
//! shapes  -> stem, width, depths, block, shortcut, classes: a plain network needs no config beside its file
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::{BlockKind, ResNet, ResNetConfig, ShortcutKind, Stem};
use crate::error::{ModelError, Result, ShapeMismatch};
use crate::params::ParamStore;
use crate::tensor_file::TensorFile;
use crate::torch_file;

/// A network from a file that stood alone.
#[derive(Debug)]
pub struct LoadedResNet {
    /// What the file's shapes say.
    pub config: ResNetConfig,
    /// Its parameters and running statistics.
    pub store: ParamStore,
}

impl LoadedResNet {
    /// The network for inference: folded, without graph.
    ///
    /// # Errors
    /// When a weight cannot be packed.
    pub fn network(&self) -> candle_core::Result<ResNet> {
        ResNet::new(&self.config, self.store.freeze())?.fold()
    }
}

/// Reads a published file, `.safetensors` or torch's formats, and infers the network.
///
/// # Errors
/// When the file cannot be read, is no plain ResNet, or its tensors do not fit together.
pub fn load_resnet(path: &Path, dtype: DType, device: &Device) -> Result<LoadedResNet> {
    let tensors = read_state_dict(path)?;
    let config = infer(path, &tensors)?;
    let store = ParamStore::new(dtype, device);
    ResNet::new(&config, store.var_builder())?;
    set_all(&store, path, &tensors)?;
    Ok(LoadedResNet { config, store })
}

/// The tensors of a file under torchvision's names.
///
/// # Errors
/// When the file cannot be read.
pub fn read_state_dict(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let tensors = if path.extension().is_some_and(|extension| extension == "safetensors") {
        let mut file = TensorFile::open(path)?;
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        let mut tensors = BTreeMap::new();
        for name in names.into_iter().filter(|name| !name.ends_with(COUNTER)) {
            let tensor = file.read(&name, DType::F32, &Device::Cpu)?;
            tensors.insert(name, tensor);
        }
        tensors
    } else {
        torch_file::read(path)?
    };
    let wrapped = tensors.keys().all(|name| name.starts_with(WRAPPED));
    let rename = |name: String| {
        let name = if wrapped { name[WRAPPED.len()..].to_owned() } else { name };
        name.strip_prefix("linear.").map_or(name.clone(), |rest| format!("fc.{rest}"))
    };
    let renamed = tensors.into_iter().map(|(name, tensor)| (rename(name), tensor));
    Ok(renamed.filter(|(name, _)| !name.ends_with(COUNTER)).collect())
}

/// torch's count of batches, which nothing here reads.
const COUNTER: &str = "num_batches_tracked";
/// What torch's `DataParallel` puts before every name.
const WRAPPED: &str = "module.";

fn infer(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<ResNetConfig> {
    let no_resnet = |problem: String| ModelError::corrupt(path, format!("not a ResNet: {problem}"));
    let dims = |name: &str| tensors.get(name).map(Tensor::dims).ok_or_else(|| no_resnet(format!("`{name}` is missing")));
    if let Some(name) = tensors.keys().find(|name| name.contains(".residual.")) {
        return Err(ModelError::corrupt(path, format!("`{name}` belongs to LAuReL, which a file alone does not describe"))
            .with_hint("give the run's folder, which holds the config"));
    }
    let stem = dims("conv1.weight")?;
    let (width, stem) = match *stem {
        [width, 3, 7, 7] => (width, Stem::Imagenet),
        [width, 3, 3, 3] => (width, Stem::Cifar),
        _ => return Err(no_resnet(format!("conv1.weight: expected [width, 3, 7, 7] or [width, 3, 3, 3], found {stem:?}"))),
    };
    let mut depths: Vec<usize> = Vec::new();
    for name in tensors.keys() {
        let Some((stage, rest)) = name.strip_prefix("layer").and_then(|rest| rest.split_once('.')) else { continue };
        let number = |text: &str| text.parse::<usize>().ok().filter(|&number| number < 1000);
        let (Some(stage), Some(block)) = (number(stage).filter(|&s| s > 0), rest.split('.').next().and_then(number)) else {
            return Err(no_resnet(format!("`{name}` names no stage and block")));
        };
        depths.resize(depths.len().max(stage), 0);
        depths[stage - 1] = depths[stage - 1].max(block + 1);
    }
    let has = |part: &str| tensors.keys().any(|name| name.contains(part));
    let block = if has(".conv3.") { BlockKind::Bottleneck } else { BlockKind::Basic };
    let shortcut = if has(".downsample.") { ShortcutKind::Projection } else { ShortcutKind::Padding };
    let head = dims("fc.weight")?;
    let [num_classes, _] = *head else {
        return Err(no_resnet(format!("fc.weight: expected [classes, width], found {head:?}")));
    };
    let config = ResNetConfig { depths, width, block, stem, shortcut, num_classes, ..ResNetConfig::resnet18() };
    config.validate().map_err(|error| no_resnet(error.to_string()))?;
    Ok(config)
}

fn set_all(store: &ParamStore, path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let stored = store.stored();
    let mut missing = Vec::new();
    let mut wrong_shape = Vec::new();
    for (name, var) in &stored {
        match tensors.get(name) {
            None => missing.push(name.clone()),
            Some(found) if found.dims() != var.dims() => {
                let (expected, found) = (var.dims().to_vec(), found.dims().to_vec());
                wrong_shape.push(ShapeMismatch { name: name.clone(), expected, found });
            }
            Some(_) => {}
        }
    }
    let is_known = |name: &String| stored.iter().any(|(known, _)| known == name);
    let unexpected: Vec<String> = tensors.keys().filter(|name| !is_known(name)).cloned().collect();
    if !(missing.is_empty() && unexpected.is_empty() && wrong_shape.is_empty()) {
        return Err(ModelError::Mismatch { path: path.to_path_buf(), missing, unexpected, wrong_shape });
    }
    for (name, _) in &stored {
        store.set(name, &tensors[name])?;
    }
    Ok(())
}
