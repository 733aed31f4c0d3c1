//! Wrong shapes and values name the operation, the argument, what was expected and what was found.
use candle_core::{DType, Device, Result, Tensor};
use kernels::Merge;

use crate::cases::{ids, random};

fn message(result: Result<Tensor>) -> String {
    result.expect_err("must be refused").to_string()
}

#[test]
fn shape_errors_name_argument_and_expectation() {
    let (x, w) = (random(&[2, 3], 0), random(&[4, 5], 1));
    let text = message(kernels::linear(&x, &w, None));
    assert!(text.contains("linear: argument `w`: expected shape [out, 3], found [4, 5]"), "{text}");
    let text = message(kernels::rms_norm(&x, &random(&[4], 1), 1e-5));
    assert!(text.contains("rms_norm: argument `weight`: expected shape [3], found [4]"), "{text}");
    let text = message(kernels::merge(&Merge { ab: Some(&random(&[3], 1)), ..Merge::plain(&x, &x) }));
    assert!(text.contains("merge: argument `ab`: expected shape [2] or [2, 3], found [3]"), "{text}");
    let (q, kv) = (random(&[1, 2, 3, 4], 0), random(&[1, 2, 2, 4], 1));
    assert!(message(kernels::causal_attention(&q, &kv, &kv, 1.)).contains("divides 3"));
    assert!(message(kernels::rotary(&random(&[1, 2, 1, 3], 0), &x, &x)).contains("even head dimension"));
    let (down, up) = (random(&[3, 2], 1), random(&[3, 2], 2));
    assert!(message(kernels::low_rank(&x, &down, &up)).contains("`up`"));
    assert!(message(kernels::merge(&Merge { map: Some((&down, &up)), ..Merge::plain(&x, &x) })).contains("`up`"));
    let text = message(kernels::merge(&Merge { branches: &[(w.clone(), up)], ..Merge::plain(&x, &x) }));
    assert!(text.contains("merge: argument `z`: expected the rows of [2, 3], found [4, 5]"), "{text}");
    assert!(message(kernels::swiglu(&x, &w)).contains("`up`"));
    assert!(
        message(kernels::layer_norm(&Tensor::zeros((2, 0), DType::F32, &Device::Cpu).unwrap(), &x, None, 1e-5))
            .contains("at least one")
    );
}

#[test]
fn images_and_windows_that_do_not_fit_are_refused() {
    let (x, config) = (random(&[2, 4, 5, 6], 0), kernels::Conv2dConfig::default());
    let conv = |weight: &[usize], config: kernels::Conv2dConfig| message(kernels::conv2d(&x, &random(weight, 1), None, &config));
    assert!(conv(&[8, 5, 3, 3], config).contains("conv2d: argument `weight`: expected shape [O, 6, kY, kX]"));
    assert!(conv(&[8, 6, 5, 1], config).contains("at least 5 pixels with its padding of 0"));
    assert!(conv(&[8, 6, 1, 1], kernels::Conv2dConfig { groups: 4, ..config }).contains("4 groups divide"));
    assert!(conv(&[8, 6, 1, 1], kernels::Conv2dConfig { stride: 0, ..config }).contains("a stride and a window of at least 1"));
    let text = message(kernels::conv2d(&x, &random(&[8, 6, 1, 1], 1), Some(&random(&[7], 2)), &config));
    assert!(text.contains("argument `bias`: expected shape [8], found [7]"), "{text}");
    assert!(message(kernels::conv2d(&random(&[4, 5, 6], 0), &random(&[8, 6, 1, 1], 1), None, &config)).contains("[B, Y, X, C]"));
    let packed = kernels::PackedConv2d::new(&random(&[8, 6, 1, 1], 1), None, &config).unwrap();
    let text = message(packed.forward(&x, Some(&random(&[2, 4, 5, 6], 3)), false));
    assert!(text.contains("`residual`: expected shape [2, 4, 5, 8], found [2, 4, 5, 6]"), "{text}");
    let c = random(&[5], 1);
    let norm = kernels::BatchNorm { gamma: &c, beta: &c, eps: 1e-5, relu: false };
    let text = kernels::batch_norm_train(&x, &norm).unwrap_err().to_string();
    assert!(text.contains("batch_norm_train: argument `gamma`: expected shape [6], found [5]"), "{text}");
    let one = random(&[1, 1, 1, 5], 0);
    let text = kernels::batch_norm_train(&one, &norm).unwrap_err().to_string();
    assert!(text.contains("at least 2 values per channel"), "{text}");
    assert!(message(kernels::max_pool2d(&x, 2, 1, 2)).contains("at most half the window of 2"));
    assert!(message(kernels::global_avg_pool(&random(&[2, 0, 3, 4], 0))).contains("at least one pixel"));
}

#[test]
fn ids_out_of_range_are_refused_with_their_place() {
    let table = random(&[4, 2], 0);
    let bad = Tensor::new(&[0u32, 4], &Device::Cpu).unwrap();
    assert!(message(kernels::embedding(&table, &bad)).contains("position 1: expected below 4, found 4"));
    let logits = random(&[2, 4], 0);
    assert!(message(kernels::cross_entropy(&logits, &bad)).contains("row 1: expected below 4"));
    assert!(message(kernels::token_nll(&logits, &bad)).contains("row 1"));
    assert!(message(kernels::linear_cross_entropy(&random(&[2, 2], 0), &table, None, &bad)).contains("row 1"));
}

#[test]
fn a_mean_over_no_targets_is_refused() {
    let none = Tensor::new(&[u32::MAX, u32::MAX], &Device::Cpu).unwrap();
    let logits = random(&[2, 4], 0);
    for result in [
        kernels::cross_entropy(&logits, &none),
        kernels::cross_entropy(&logits.to_dtype(DType::F64).unwrap(), &none),
        kernels::linear_cross_entropy(&logits, &random(&[3, 4], 1), None, &none),
        kernels::cross_entropy(&Tensor::zeros((0, 4), DType::F32, &Device::Cpu).unwrap(), &ids(&[0], 4, None)),
    ] {
        assert!(message(result).contains("no targets"));
    }
    assert_eq!(kernels::token_nll(&logits, &none).unwrap().to_vec1::<f32>().unwrap(), [0., 0.]);
}

#[test]
fn nan_reaches_the_result() {
    let mut values = vec![0.5f32; 40];
    values[17] = f32::NAN;
    let x = Tensor::from_vec(values, (2, 20), &Device::Cpu).unwrap();
    let targets = Tensor::new(&[1u32, 2], &Device::Cpu).unwrap();
    let nll = kernels::token_nll(&x, &targets).unwrap().to_vec1::<f32>().unwrap();
    assert!(nll[0].is_nan() && nll[1].is_finite());
    assert!(kernels::cross_entropy(&x, &targets).unwrap().to_scalar::<f32>().unwrap().is_nan());
    for f in [kernels::silu, kernels::gelu_tanh, kernels::gelu_erf] {
        assert!(f(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[17].is_nan());
    }
}

#[test]
fn tails_of_the_activations_are_exact_zeros_and_identities() {
    let x = Tensor::new(&[-200f32, 200.], &Device::Cpu).unwrap();
    for f in [kernels::silu, kernels::gelu_tanh, kernels::gelu_erf] {
        let y = f(&x).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((y[0].abs(), y[1]), (0., 200.));
    }
}

#[test]
fn token_nll_is_accurate_for_a_large_vocabulary() {
    let vocab = 50_001;
    let logits = (random(&[3, vocab], 5) * 8.).unwrap();
    let targets = ids(&[3], vocab, None);
    let found = kernels::token_nll(&logits, &targets).unwrap().to_vec1::<f32>().unwrap();
    let wanted = kernels::plain::token_nll(&logits.to_dtype(DType::F64).unwrap(), &targets).unwrap().to_vec1::<f64>().unwrap();
    // one rounding of a number near 16 is 1e-6
    assert!(found.iter().zip(&wanted).all(|(&f, w)| (f64::from(f) - w).abs() < 1.5e-6), "{found:?} {wanted:?}");
}
