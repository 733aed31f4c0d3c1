//! The parameter store: order, ties, strict loading, damaged files.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use models::ParamStore;

/// Two parameters of a made-up network, in an order that is not the names'.
fn store() -> ParamStore {
    let params = ParamStore::new(DType::F32, &Device::Cpu);
    let vb = params.var_builder();
    vb.pp("z").get(3, "bias").unwrap();
    vb.pp("a").get((2, 3), "weight").unwrap();
    params.set("a.weight", &Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap().reshape((2, 3)).unwrap()).unwrap();
    params
}

#[test]
fn parameters_come_in_name_order_and_start_at_zero() {
    let params = store();
    assert_eq!(params.vars().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a.weight", "z.bias"]);
    assert_eq!(params.get("z.bias").unwrap().to_vec1::<f32>().unwrap(), [0.0; 3]);
}

#[test]
fn a_known_name_gives_the_same_parameter_and_another_shape_is_refused() {
    let params = store();
    let vb = params.var_builder();
    let again = vb.pp("a").get((2, 3), "weight").unwrap();
    assert_eq!(again.id(), params.get("a.weight").unwrap().id());
    let error = vb.pp("a").get((3, 2), "weight").unwrap_err().to_string();
    assert!(error.contains("a.weight") && error.contains("[3, 2]") && error.contains("[2, 3]"), "{error}");
}

#[test]
fn a_tied_parameter_counts_and_is_stored_once() {
    let params = store();
    params.tie("head.weight", "a.weight").unwrap();
    assert_eq!(params.num_params(), 9);
    assert_eq!(params.vars().len(), 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tied.safetensors");
    params.save(&path).unwrap();
    assert_eq!(models::tensor_file::TensorFile::open(&path).unwrap().names().collect::<Vec<_>>(), ["a.weight", "z.bias"]);
    params.load(&path).unwrap();
    assert!(params.tie("z.bias", "a.weight").unwrap_err().to_string().contains("already names"));
    assert!(params.tie("b", "nothing").unwrap_err().to_string().contains("`nothing`"));
}

#[test]
fn the_digest_sees_every_value_shape_and_name() {
    let digest = |change: &dyn Fn(&ParamStore)| {
        let params = store();
        change(&params);
        params.digest().unwrap()
    };
    let base = digest(&|_| {});
    assert_eq!(digest(&|_| {}), base);
    assert_eq!(base.len(), 16);
    let last_value = Tensor::new(&[0f32, 0.0, 1e-30], &Device::Cpu).unwrap();
    assert_ne!(digest(&|params| params.set("z.bias", &last_value).unwrap()), base);
    assert_ne!(digest(&|params| drop(params.var_builder().get(1, "more").unwrap())), base);
}

#[test]
fn frozen_tensors_follow_updates_without_being_variables() {
    let params = store();
    let frozen = params.freeze().pp("z").get(3, "bias").unwrap();
    params.set("z.bias", &Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap()).unwrap();
    assert_eq!(frozen.to_vec1::<f32>().unwrap(), [1.0, 2.0, 3.0]);
    assert!(!frozen.is_variable());
    assert!(params.freeze().get(1, "nothing").unwrap_err().to_string().contains("`nothing`"));
}

#[test]
fn loading_lists_everything_that_does_not_fit_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let other = ParamStore::new(DType::F32, &Device::Cpu);
    other.var_builder().get((3, 2), "a.weight").unwrap();
    other.var_builder().get(1, "extra.one").unwrap();
    other.var_builder().get(1, "extra.two").unwrap();
    other.save(&path).unwrap();
    let params = store();
    let before = params.digest().unwrap();
    let error = params.load(&path).unwrap_err().to_string();
    assert!(error.contains("missing (1): z.bias"), "{error}");
    assert!(error.contains("unexpected (2): extra.one, extra.two"), "{error}");
    assert!(error.contains("wrong shape (1): a.weight: expected [2, 3], found [3, 2]"), "{error}");
    assert_eq!(params.digest().unwrap(), before);
}

fn load_error(path: &Path, bytes: &[u8]) -> String {
    fs::write(path, bytes).unwrap();
    let params = store();
    let before = params.digest().unwrap();
    let error = params.load(path).unwrap_err().to_string();
    assert_eq!(params.digest().unwrap(), before, "a damaged file changed the parameters");
    error
}

#[test]
fn damaged_files_are_named_with_expected_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.safetensors");
    store().save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let header_end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;

    for cut in [whole.len() - 1, header_end, header_end - 3, 9, 3, 0] {
        let error = load_error(&path, &whole[..cut]);
        assert!(error.contains("truncated") && error.contains(&format!("found {cut} bytes")), "cut at {cut}: {error}");
        assert!(error.contains("damaged.safetensors") && error.contains("hint:"), "{error}");
    }
    let error = load_error(&path, &[whole.as_slice(), &[0; 4]].concat());
    assert!(error.contains(&format!("expected {} bytes, found {}", whole.len(), whole.len() + 4)), "{error}");
    let error = load_error(&path, b"<!DOCTYPE html><html>not found</html>");
    assert!(error.contains("not a safetensors file"), "{error}");
    let mut garbled = whole.clone();
    garbled[9] = b'!';
    assert!(load_error(&path, &garbled).contains("header is not valid"));
    fs::remove_file(&path).unwrap();
    assert!(store().load(&path).unwrap_err().to_string().starts_with("cannot read "));
}

#[test]
fn saving_the_same_parameters_writes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |name: &str| {
        let path = folder.path().join(name);
        store().save(&path).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(bytes("one"), bytes("two"));
}

#[test]
fn half_precision_files_widen_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    let half = ParamStore::new(DType::BF16, &Device::Cpu);
    half.var_builder().get(3, "w").unwrap();
    half.set("w", &Tensor::new(&[1.5f32, -0.0078125, 3.0e38], &Device::Cpu).unwrap()).unwrap();
    half.save(&path).unwrap();
    let wide = ParamStore::new(DType::F32, &Device::Cpu);
    wide.var_builder().get(3, "w").unwrap();
    wide.load(&path).unwrap();
    let expected = half.get("w").unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(wide.get("w").unwrap().to_vec1::<f32>().unwrap(), expected);
    assert_eq!(expected[..2], [1.5, -0.0078125]);
}
