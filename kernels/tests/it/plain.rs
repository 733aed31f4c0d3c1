//! The references: gradients against central differences in f64, and hand-sized values.
use candle_core::{DType, Device, Tensor, Var};
use kernels::plain;

use crate::cases::{all, cast, random};

/// Elements probed per argument.
const PROBES: usize = 5;

#[test]
fn gradients_of_the_references_equal_central_differences() {
    // step 1e-5: truncation ~1e-10 and rounding ~1e-16/1e-5 = 1e-11 of the loss, whose size is up to a few hundred
    let (step, tolerance) = (1e-5, 1e-6);
    for case in all().into_iter().filter(|case| case.args.iter().map(Tensor::elem_count).sum::<usize>() < 40_000) {
        let args = cast(&case.args, DType::F64);
        let loss = |args: &[Tensor]| {
            let y = (case.plain)(args).unwrap();
            let weights = random(y.dims(), 77).to_dtype(DType::F64).unwrap();
            (y * weights).unwrap().sum_all().unwrap()
        };
        let vars: Vec<Var> = args.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
        let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let grads = loss(&tracked).backward().unwrap();
        for (i, var) in vars.iter().enumerate() {
            let Some(grad) = grads.get(var) else {
                assert_eq!((case.plain)(&args).unwrap().elem_count(), 0, "{}: no gradient {i}", case.name);
                continue;
            };
            let grad = grad.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let values = args[i].flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let stride = (values.len() / PROBES).max(1);
            for element in (0..values.len()).step_by(stride) {
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values[element] += by;
                    let mut args = args.clone();
                    args[i] = Tensor::from_vec(values, args[i].dims(), &Device::Cpu).unwrap();
                    loss(&args).to_scalar::<f64>().unwrap()
                };
                let difference = (moved(step) - moved(-step)) / (2. * step);
                let error = (difference - grad[element]).abs() / grad[element].abs().max(1.);
                assert!(error <= tolerance, "{}: argument {i} element {element}: {} {difference}", case.name, grad[element]);
            }
        }
    }
}

fn row(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap()
}

fn assert_values(found: &Tensor, wanted: &[f64]) {
    let found = found.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert!(found.iter().zip(wanted).all(|(f, w)| (f - w).abs() < 1e-9), "{found:?} {wanted:?}");
    assert_eq!(found.len(), wanted.len());
}

#[test]
fn norms_of_a_small_row() {
    let ones = Tensor::ones(2, DType::F64, &Device::Cpu).unwrap();
    // rms of (3, 4) is √12.5; mean 3.5 and deviation 0.5
    assert_values(&plain::rms_norm(&row(&[3., 4.]), &ones, 0.).unwrap(), &[3. / 12.5f64.sqrt(), 4. / 12.5f64.sqrt()]);
    assert_values(&plain::layer_norm(&row(&[3., 4.]), &ones, Some(&ones), 0.).unwrap(), &[0., 2.]);
}

#[test]
fn a_quarter_turn_swaps_the_halves() {
    let x = Tensor::new(&[1f64, 2., 3., 4.], &Device::Cpu).unwrap().reshape((1, 1, 1, 4)).unwrap();
    let (cos, sin) = (row(&[0., 0.]), row(&[1., 1.]));
    assert_values(&plain::rotary(&x, &cos, &sin).unwrap(), &[-3., -4., 1., 2.]);
}

#[test]
fn attention_of_two_positions() {
    // position 0 sees itself; position 1 scores 0 and ln 3, so its weights are 1/4 and 3/4
    let column = |values: &[f64]| Tensor::from_slice(values, (1, 2, 1, 1), &Device::Cpu).unwrap();
    let y = plain::causal_attention(&column(&[5., 1.]), &column(&[0., 3f64.ln()]), &column(&[8., 4.]), 1.).unwrap();
    assert_values(&y, &[8., 5.]);
}

#[test]
fn cross_entropy_skips_ignored_targets() {
    // softmax of (0, ln 3) is (1/4, 3/4)
    let logits = Tensor::from_slice(&[0., 3f64.ln(), 7., 9., 0., 3f64.ln()], (3, 2), &Device::Cpu).unwrap();
    let targets = Tensor::new(&[0u32, plain::IGNORED, 1], &Device::Cpu).unwrap();
    let (first, second) = (4f64.ln(), (4f64 / 3.).ln());
    assert_values(&plain::token_nll(&logits, &targets).unwrap(), &[first, 0., second]);
    let mean = plain::cross_entropy(&logits, &targets).unwrap().to_scalar::<f64>().unwrap();
    assert!((mean - f64::midpoint(first, second)).abs() < 1e-12);
}

#[test]
fn gelu_at_one() {
    // Φ(1) = 0.841344746068543; the tanh form differs in the fourth digit: ½(1 + tanh(0.797884560802865·1.044715)) = 0.841191990607
    assert_values(&plain::gelu_erf(&row(&[1.])).unwrap(), &[0.841344746068543]);
    assert_values(&plain::gelu_tanh(&row(&[1.])).unwrap(), &[0.841191990608]);
}

#[test]
fn zero_up_leaves_the_residual_exactly_plain() {
    let (fx, x, down) = (random(&[3, 6], 2), random(&[3, 6], 0), random(&[6, 2], 1));
    let up = Tensor::zeros((2, 6), DType::F32, &Device::Cpu).unwrap();
    let expected = (&fx + &x).unwrap().to_vec2::<f32>().unwrap();
    let args = kernels::Merge { map: Some((&down, &up)), ..kernels::Merge::plain(&fx, &x) };
    for y in [plain::merge(&args).unwrap(), kernels::merge(&args).unwrap()] {
        assert_eq!(y.to_vec2::<f32>().unwrap(), expected);
    }
}
