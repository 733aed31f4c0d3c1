//! AdamW and SGD against its formula in f64, and the squared norm.
use candle_core::{DType, Device, Tensor, Var};
use kernels::{AdamWParams, SgdParams, adamw_step, grad_sq_norm, sgd_step};

use crate::cases::random;

const PARAMS: AdamWParams = AdamWParams { learning_rate: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };

#[test]
fn first_step_moves_by_the_rate_against_the_sign() {
    // m̂ = g and v̂ = g², so the step is η·sign(g) (ε is negligible); decay takes η·λ·θ = 0.001·2
    let var = Var::new(&[2f32, 2.], &Device::Cpu).unwrap();
    let grad = Tensor::new(&[0.5f32, -3.], &Device::Cpu).unwrap();
    let (mut m, mut v) = (Vec::new(), Vec::new());
    adamw_step(&var, &grad, &mut m, &mut v, 1, &PARAMS, 1.).unwrap();
    let theta = var.to_vec1::<f32>().unwrap();
    assert!((theta[0] - (2. - 0.002 - 0.01)).abs() < 1e-6 && (theta[1] - (2. - 0.002 + 0.01)).abs() < 1e-6, "{theta:?}");
    assert!((m[0] - 0.05).abs() < 1e-7 && (v[1] - 0.45).abs() < 1e-6);
}

/// The update in f64, as in the module's formula.
fn reference(theta: &mut [f64], g: &[f64], m: &mut [f64], v: &mut [f64], step: i32) {
    let AdamWParams { learning_rate, beta1, beta2, eps, weight_decay } = PARAMS;
    for i in 0..theta.len() {
        m[i] = beta1 * m[i] + (1. - beta1) * g[i];
        v[i] = beta2 * v[i] + (1. - beta2) * g[i] * g[i];
        let (m_hat, v_hat) = (m[i] / (1. - beta1.powi(step)), v[i] / (1. - beta2.powi(step)));
        theta[i] = theta[i] * (1. - learning_rate * weight_decay) - learning_rate * m_hat / (v_hat.sqrt() + eps);
    }
}

#[test]
pub(crate) fn ten_scaled_steps_follow_the_formula_in_f64() {
    let dims = [37, 11];
    let var = Var::from_tensor(&random(&dims, 0)).unwrap();
    let mut theta: Vec<f64> = var.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap();
    let (mut m, mut v) = (Vec::new(), Vec::new());
    let (mut m64, mut v64) = (vec![0.; theta.len()], vec![0.; theta.len()]);
    for step in 1..=10 {
        let grad = random(&dims, 100 + step);
        let g: Vec<f64> = (grad.flatten_all().unwrap().to_dtype(DType::F64).unwrap() * 0.5).unwrap().to_vec1().unwrap();
        adamw_step(&var, &grad, &mut m, &mut v, step, &PARAMS, 0.5).unwrap();
        reference(&mut theta, &g, &mut m64, &mut v64, step as i32);
    }
    let found = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    // ten roundings of numbers below 1
    assert!(found.iter().zip(&theta).all(|(&f, t)| (f64::from(f) - t).abs() < 2e-6));
}

#[test]
fn threads_do_not_change_a_bit() {
    let run = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let var = Var::from_tensor(&random(&[300, 301], 0)).unwrap();
            let (mut m, mut v) = (Vec::new(), Vec::new());
            adamw_step(&var, &random(&[300, 301], 1), &mut m, &mut v, 1, &PARAMS, 1.).unwrap();
            let norm = grad_sq_norm(&var).unwrap();
            (var.flatten_all().unwrap().to_vec1::<f32>().unwrap(), m, v, norm.to_bits())
        })
    };
    assert!(run(1) == run(2) && run(1) == run(3));
}

#[test]
fn other_dtypes_are_updated_in_f32() {
    let var = Var::from_tensor(&random(&[5], 0).to_dtype(DType::F64).unwrap()).unwrap();
    let twin = Var::from_tensor(&random(&[5], 0)).unwrap();
    let grad = random(&[5], 1);
    let (mut m, mut v) = (Vec::new(), Vec::new());
    adamw_step(&var, &grad.to_dtype(DType::F64).unwrap(), &mut m, &mut v, 1, &PARAMS, 1.).unwrap();
    let (mut m, mut v) = (Vec::new(), Vec::new());
    adamw_step(&twin, &grad, &mut m, &mut v, 1, &PARAMS, 1.).unwrap();
    let found: Vec<f32> = var.to_vec1::<f64>().unwrap().iter().map(|&x| x as f32).collect();
    assert_eq!(found, twin.to_vec1::<f32>().unwrap());
}

#[test]
fn wrong_shapes_lengths_and_steps_are_refused() {
    let var = Var::from_tensor(&random(&[4], 0)).unwrap();
    let grad = random(&[4], 1);
    assert!(adamw_step(&var, &random(&[3], 1), &mut Vec::new(), &mut Vec::new(), 1, &PARAMS, 1.).is_err());
    assert!(adamw_step(&var, &grad, &mut vec![0.; 3], &mut Vec::new(), 1, &PARAMS, 1.).is_err());
    assert!(adamw_step(&var, &grad, &mut Vec::new(), &mut Vec::new(), 0, &PARAMS, 1.).unwrap_err().to_string().contains("hint"));
}

#[test]
fn squared_norm_of_small_integers_is_exact() {
    // Σ i² for i = 1..=100 is 100·101·201/6; the tail of 4 behind 6 vectors is covered
    let x = Tensor::arange(1f32, 101., &Device::Cpu).unwrap();
    assert_eq!(grad_sq_norm(&x).unwrap(), 338_350.);
    assert_eq!(grad_sq_norm(&x.to_dtype(DType::F64).unwrap()).unwrap(), 338_350.);
    assert_eq!(grad_sq_norm(&Tensor::zeros(0, DType::F32, &Device::Cpu).unwrap()).unwrap(), 0.);
}

/// SGD as published: rate 0.1 and decay 0.01, chosen so that small cases can be done by hand.
fn sgd(momentum: f64, nesterov: bool) -> SgdParams {
    SgdParams { learning_rate: 0.1, momentum, nesterov, weight_decay: 0.01 }
}

#[test]
fn two_sgd_steps_by_hand() {
    // g = 2·0.5 + 0.01·1 = 1.01 in the first step (gradient 2 scaled by 0.5)
    let step = |params: &SgdParams, steps: usize| {
        let var = Var::new(&[1f32], &Device::Cpu).unwrap();
        let mut m = Vec::new();
        for _ in 0..steps {
            sgd_step(&var, &Tensor::new(&[2f32], &Device::Cpu).unwrap(), &mut m, params, 0.5).unwrap();
        }
        (var.to_vec1::<f32>().unwrap()[0], m)
    };
    // plain: 1 − 0.1·1.01
    assert!((step(&sgd(0., false), 1).0 - 0.899).abs() < 1e-6);
    assert!(step(&sgd(0., false), 1).1.is_empty());
    // momentum starts as the gradient; then g = 1 + 0.01·0.899 = 1.00899, m = 0.9·1.01 + g = 1.91799
    assert!((step(&sgd(0.9, false), 1).0 - 0.899).abs() < 1e-6);
    let (theta, m) = step(&sgd(0.9, false), 2);
    assert!((theta - (0.899 - 0.191_799)).abs() < 1e-6 && (m[0] - 1.917_99).abs() < 1e-6);
    // Nesterov looks ahead: 1 − 0.1·(1.01 + 0.9·1.01)
    assert!((step(&sgd(0.9, true), 1).0 - 0.8081).abs() < 1e-6);
}

#[test]
pub(crate) fn sgd_follows_its_formula_in_f64_on_any_number_of_threads() {
    let dims = [300, 301];
    for (momentum, nesterov) in [(0., false), (0.9, false), (0.9, true)] {
        let params = sgd(momentum, nesterov);
        let run = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let var = Var::from_tensor(&random(&dims, 0)).unwrap();
                let mut m = Vec::new();
                for step in 0..5 {
                    sgd_step(&var, &random(&dims, 100 + step), &mut m, &params, 0.5).unwrap();
                }
                var.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            })
        };
        let found = run(1);
        assert_eq!(found, run(3));
        let wide = |x: Tensor| x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        let (mut theta, mut m) = (wide(random(&dims, 0)), vec![0.; 300 * 301]);
        for step in 0..5 {
            for ((theta, m), g) in theta.iter_mut().zip(&mut m).zip(wide(random(&dims, 100 + step))) {
                let g = 0.5 * g + 0.01 * *theta;
                *m = momentum * *m + g;
                *theta -= 0.1 * if nesterov { g + momentum * *m } else { *m };
            }
        }
        // five roundings of numbers below 2
        assert!(found.iter().zip(&theta).all(|(&f, t)| (f64::from(f) - t).abs() < 1e-6), "{params:?}");
    }
}

#[test]
fn sgd_refuses_other_shapes_and_momenta() {
    let var = Var::from_tensor(&random(&[2, 3], 0)).unwrap();
    let text = sgd_step(&var, &random(&[3, 2], 1), &mut Vec::new(), &sgd(0.9, false), 1.).unwrap_err().to_string();
    assert!(text.contains("sgd_step: argument `grad`: expected shape [2, 3], found [3, 2]"), "{text}");
    let text = sgd_step(&var, &random(&[2, 3], 1), &mut vec![0.; 5], &sgd(0.9, false), 1.).unwrap_err().to_string();
    assert!(text.contains("expected 6 elements, found 5"), "{text}");
}

#[test]
fn a_bf16_variable_is_updated_in_f32_and_rounded() {
    let var = Var::from_tensor(&random(&[40], 0).to_dtype(DType::BF16).unwrap()).unwrap();
    let wide = |x: &Tensor| x.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
    let (before, grad) = (wide(&var), random(&[40], 1));
    sgd_step(&var, &grad, &mut Vec::new(), &sgd(0., false), 1.).unwrap();
    for ((after, before), g) in wide(&var).iter().zip(before).zip(grad.to_vec1::<f32>().unwrap()) {
        // half a last place of a number up to 1.2: 2⁻⁸
        assert!((after - (before - 0.1 * (g + 0.01 * before))).abs() <= 1. / 256.);
    }
}
