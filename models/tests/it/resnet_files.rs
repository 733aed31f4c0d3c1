//! ResNets from files: torchvision's stored outputs, published CIFAR networks, and files that do not fit.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use laurel::ResidualConfig;
use models::params::is_buffer;
use models::resnet::weights::read_state_dict;
use models::resnet::{ResNetConfig, ShortcutKind, load_resnet};
use models::tensor_file::TensorFile;
use models::{Mode, Model, ParamStore, ResNet};

use crate::networks::{data_dir, distance, parity_dir, values};

/// The pack's tolerance on f32 logits, absolute.
const LOGIT_TOLERANCE: f64 = 1e-4;

fn by_name(name: &str) -> Option<ResNetConfig> {
    Some(match name {
        "resnet18" => ResNetConfig::resnet18(),
        "resnet34" => ResNetConfig::resnet34(),
        "resnet50" => ResNetConfig::resnet50(),
        "resnet101" => ResNetConfig::resnet101(),
        _ => return None,
    })
}

/// Element `i` of tensor `j` as the pack's README defines it.
fn formula(i: u64, j: u64, seed: u64) -> f64 {
    const MASK: u64 = 0xffff_ffff;
    let mut h = (i.wrapping_mul(2_654_435_761).wrapping_add((j + 1) * 40_503 * seed)) & MASK;
    h = ((h ^ (h >> 15)) * 2_246_822_519) & MASK;
    h ^= h >> 13;
    h as f64 / f64::from(1u32 << 31) - 1.0
}

/// Sets every tensor by the pack's formula.
fn fill(store: &ParamStore, seed: u64) {
    let mut tensors: Vec<_> = store.vars().into_iter().chain(store.buffers()).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (j, (name, var)) in tensors.into_iter().enumerate() {
        let fan_in = var.elem_count() / var.dims()[0];
        let value = |u: f64| match name.rsplit('.').next() {
            Some("running_var") => 1.0 + 0.5 * u,
            Some("running_mean" | "bias") if var.rank() < 2 => 0.1 * u,
            _ if var.rank() >= 2 => u * (6.0 / fan_in as f64).sqrt(),
            _ => 0.5 + 0.1 * u,
        };
        let values: Vec<f64> = (0..var.elem_count() as u64).map(|i| value(formula(i, j as u64, seed))).collect();
        store.set(&name, &Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
    }
}

#[test]
fn logits_equal_torchvisions() {
    let Some(path) = parity_dir("models/resnet_expected.safetensors") else { return };
    let mut pack = TensorFile::open(&path).unwrap();
    let seed: u64 = pack.metadata()["seed"].parse().unwrap();
    let names: Vec<String> = pack.names().filter_map(|name| name.strip_suffix(".logits")).map(str::to_owned).collect();
    assert!(!names.is_empty(), "the pack holds no logits");
    let images = pack.read("pixel_values", DType::F32, &Device::Cpu).unwrap(); // [B, 3, Y, X]
    let images = images.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    for name in names {
        let config = by_name(&name).unwrap_or_else(|| panic!("the pack has a network this test does not know: {name}"));
        let expected = pack.read(&format!("{name}.logits"), DType::F32, &Device::Cpu).unwrap();
        let store = ParamStore::new(DType::F32, &Device::Cpu);
        ResNet::new(&config, store.var_builder()).unwrap();
        fill(&store, seed);
        let network = ResNet::new(&config, store.freeze()).unwrap();
        for (form, network) in [("batch norm", &network), ("folded", &network.fold().unwrap())] {
            let apart = distance(&network.forward(&images, Mode::Eval).unwrap(), &expected);
            eprintln!("{name}, {form}: largest deviation of a logit {apart:.2e}");
            assert!(apart <= LOGIT_TOLERANCE, "{name}, {form}: {apart}");
        }
    }
}

#[test]
fn published_cifar_networks_load_as_what_they_are() {
    let Some(folder) = data_dir("models") else { return };
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(layers) = name.strip_prefix("cifar10-resnet").and_then(|rest| rest.split('-').next()) else { continue };
        let loaded = load_resnet(&path, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(loaded.config.num_layers().to_string(), layers, "{name}");
        assert_eq!(loaded.config.shortcut, ShortcutKind::Padding, "{name}");
        assert_eq!(loaded.store.num_params(), loaded.config.num_params().total, "{name}");
        found += 1;
    }
    assert!(found > 0, "the folder holds no CIFAR network");
}

#[test]
fn torchs_own_format_holds_the_same_tensors_as_safetensors() {
    let Some(folder) = data_dir("models") else { return };
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let twin = path.with_extension("safetensors");
        if path.extension().is_none_or(|extension| extension != "th") || !twin.is_file() {
            continue;
        }
        let (a, b) = (read_state_dict(&path).unwrap(), read_state_dict(&twin).unwrap());
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
        for (name, tensor) in &a {
            assert_eq!(values(tensor), values(&b[name]), "{name}");
        }
    }
}

/// A file of a small network with `blocks` per stage and its store.
fn saved(folder: &Path, config: &ResNetConfig) -> std::path::PathBuf {
    let store = ParamStore::new(DType::F32, &Device::Cpu);
    ResNet::new(config, store.var_builder()).unwrap().init_weights(1).unwrap();
    let path = folder.join("network.safetensors");
    store.save(&path).unwrap();
    path
}

#[test]
fn a_saved_network_is_recognised_by_its_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let variants = [
        ResNetConfig { num_classes: 7, ..ResNetConfig::cifar(2) },
        ResNetConfig { depths: vec![1, 2, 1, 1], width: 8, ..ResNetConfig::resnet18() },
        ResNetConfig { depths: vec![2, 1], width: 4, ..ResNetConfig::resnet50() },
    ];
    for config in variants {
        let path = saved(folder.path(), &config);
        let loaded = load_resnet(&path, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(loaded.config, config);
        let images = Tensor::ones((1, 16, 16, 3), DType::F32, &Device::Cpu).unwrap();
        let logits = loaded.network().unwrap().forward(&images, Mode::Eval).unwrap();
        assert_eq!(logits.dims(), [1, config.num_classes]);
    }
}

#[test]
fn a_variant_without_its_config_and_a_stranger_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let variant = ResNetConfig::cifar(1).with_residual(ResidualConfig::preset("rw", 1, 1).unwrap());
    let error = load_resnet(&saved(folder.path(), &variant), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains(".residual.") && error.contains("hint: give the run's folder"), "{error}");

    let other = folder.path().join("other.pth");
    std::fs::write(&other, b"no torch file at all").unwrap();
    let error = load_resnet(&other, DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("torch.save") && error.contains("other.pth"), "{error}");
}

#[test]
fn a_file_whose_tensors_do_not_fit_together_is_refused_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path(), &ResNetConfig::cifar(1));
    let change = |change: &dyn Fn(&mut std::collections::HashMap<String, Tensor>)| {
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        change(&mut tensors);
        let other = folder.path().join("other.safetensors");
        candle_core::safetensors::save(&tensors, &other).unwrap();
        load_resnet(&other, DType::F32, &Device::Cpu).unwrap_err().to_string()
    };
    let error = change(&|tensors| drop(tensors.remove("layer2.0.bn1.weight")));
    assert!(error.contains("missing") && error.contains("layer2.0.bn1.weight"), "{error}");
    // A scalar has no first axis to take the number of classes from.
    let scalar = Tensor::new(1f32, &Device::Cpu).unwrap();
    let error = change(&|tensors| drop(tensors.insert("fc.weight".to_owned(), scalar.clone())));
    assert!(error.contains("not a ResNet: fc.weight: expected [classes, width], found []"), "{error}");
}

#[test]
fn a_torch_file_that_is_cut_off_is_refused() {
    let Some(folder) = data_dir("models") else { return };
    let Some(path) = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "th"))
    else {
        return;
    };
    let bytes = std::fs::read(&path).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    for length in [20, bytes.len() / 3, bytes.len() - 1] {
        let cut = temporary.path().join("cut.th");
        std::fs::write(&cut, &bytes[..length]).unwrap();
        let error = load_resnet(&cut, DType::F32, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("cut.th") && error.contains("not a readable torch file"), "{length}: {error}");
    }
}

#[test]
fn statistics_are_told_from_parameters_by_name() {
    assert!(is_buffer("layer1.0.bn1.running_mean") && is_buffer("bn1.running_var"));
    assert!(!is_buffer("bn1.weight") && !is_buffer("model.norm.weight"));
}
