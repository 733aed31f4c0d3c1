//! Operations on images: their cases for the tests of all operations, and what is theirs alone.
use candle_core::{DType, Result, Tensor, Var};
use kernels::{BatchNorm, Conv2dConfig, PackedConv2d, plain};

use crate::cases::{Case, List, random};

/// Images `[B, Y, X, I]`, output channels, window `[kY, kX]`, stride, padding, groups.
type Shape = ([usize; 4], usize, [usize; 2], usize, usize, usize);

/// Windows of every kind: one pixel, folded channels, several blocks of channels, gaps between windows, parts of one image and of
/// several, more padding than image, groups, rows that no tile divides.
const CONVOLUTIONS: [Shape; 17] = [
    ([1, 1, 1, 1], 1, [1, 1], 1, 0, 1),
    ([0, 5, 5, 4], 3, [3, 3], 1, 1, 1),
    ([2, 7, 5, 3], 20, [3, 3], 1, 1, 1),
    ([2, 9, 9, 3], 16, [7, 7], 2, 3, 1),
    ([3, 8, 8, 16], 16, [3, 3], 1, 1, 1),
    ([1, 33, 34, 16], 17, [3, 3], 1, 1, 1),
    ([5, 6, 7, 33], 40, [3, 3], 2, 1, 1),
    ([2, 8, 8, 20], 32, [1, 1], 1, 0, 1),
    ([3, 9, 7, 35], 10, [1, 1], 2, 0, 1),
    ([1, 4, 4, 18], 5, [1, 1], 1, 1, 1),
    ([2, 5, 6, 12], 8, [2, 3], 3, 2, 2),
    ([1, 3, 3, 40], 40, [3, 3], 1, 2, 4),
    ([2, 6, 6, 6], 12, [3, 3], 1, 1, 6),
    ([1, 5, 5, 10], 70, [5, 5], 1, 2, 1),
    ([1, 2, 2, 9], 9, [3, 3], 2, 1, 1),
    ([1, 4, 40, 36], 34, [1, 3], 1, 1, 1),
    ([1, 6, 6, 64], 64, [3, 3], 4, 0, 1),
];

pub(crate) fn convolutions(list: &mut List) {
    for (image, outputs, [ky, kx], stride, padding, groups) in CONVOLUTIONS {
        let config = Conv2dConfig { stride, padding, groups };
        let weight = [outputs, image[3] / groups, ky, kx];
        let name = format!("{image:?} to {outputs} by {ky}x{kx} stride {stride} padding {padding} groups {groups}");
        // sums of up to a few hundred products of size 1
        list.add(
            format!("conv2d {name}"),
            &[&image, &weight],
            5e-6,
            move |a| kernels::conv2d(&a[0], &a[1], None, &config),
            move |a| plain::conv2d(&a[0], &a[1], None, &config),
        );
        list.add(
            format!("conv2d with bias {name}"),
            &[&image, &weight, &[outputs]],
            5e-6,
            move |a| kernels::conv2d(&a[0], &a[1], Some(&a[2]), &config),
            move |a| plain::conv2d(&a[0], &a[1], Some(&a[2]), &config),
        );
    }
}

/// Constants in the dtype of the parameters.
fn like(constant: &Tensor, arguments: &[Tensor]) -> Result<Tensor> {
    constant.to_dtype(arguments[1].dtype())
}

/// A batch norm by the second and third argument.
fn norm_of(arguments: &[Tensor], eps: f64, relu: bool) -> BatchNorm<'_> {
    BatchNorm { gamma: &arguments[1], beta: &arguments[2], eps, relu }
}

pub(crate) fn norms(list: &mut List) {
    for dims in [&[2, 1, 1, 1][..], &[2, 3, 5, 7], &[3, 4, 4, 16], &[50, 10, 33], &[40, 9, 9, 20]] {
        let c = dims[dims.len() - 1];
        // the scale of two nearby values is large and passes their rounding on: eps 0.1 keeps it in range
        let eps = if c == 1 { 0.1 } else { 1e-5 };
        let name = format!("{dims:?}");
        for relu in [false, true] {
            list.add(
                format!("batch_norm_train relu {relu} {name}"),
                &[dims, &[c], &[c]],
                5e-6,
                move |a| Ok(kernels::batch_norm_train(&a[0], &norm_of(a, eps, relu))?.0),
                move |a| Ok(plain::batch_norm_train(&a[0], &norm_of(a, eps, relu))?.0),
            );
            let (mean, variance) = (random(&[c], 8), (random(&[c], 9).sqr().unwrap() + 0.5).unwrap());
            let (mean2, variance2) = (mean.clone(), variance.clone());
            list.add(
                format!("batch_norm_eval relu {relu} {name}"),
                &[dims, &[c], &[c]],
                3e-6,
                move |a| kernels::batch_norm_eval(&a[0], &norm_of(a, eps, relu), &like(&mean, a)?, &like(&variance, a)?),
                move |a| plain::batch_norm_eval(&a[0], &norm_of(a, eps, relu), &like(&mean2, a)?, &like(&variance2, a)?),
            );
        }
        list.add(
            format!("add_relu {name}"),
            &[dims, dims],
            2e-7,
            |a| kernels::add_relu(&a[0], &a[1]),
            |a| plain::add_relu(&a[0], &a[1]),
        );
    }
}

pub(crate) fn pools(list: &mut List) {
    for (image, kernel, stride, padding) in [
        ([1, 1, 1, 1], 1, 1, 0),
        ([0, 6, 6, 4], 3, 2, 1),
        ([2, 7, 9, 5], 3, 2, 1),
        ([3, 8, 8, 32], 2, 2, 0),
        ([2, 56, 30, 17], 3, 2, 1),
        ([1, 5, 5, 3], 4, 1, 2),
        ([1, 9, 9, 3], 2, 3, 1),
    ] {
        list.add(
            format!("max_pool2d {image:?} by {kernel} stride {stride} padding {padding}"),
            &[&image],
            // values are exact; a gradient is a sum over the few windows that overlap
            3e-7,
            move |a| kernels::max_pool2d(&a[0], kernel, stride, padding),
            move |a| plain::max_pool2d(&a[0], kernel, stride, padding),
        );
        list.add(
            format!("global_avg_pool {image:?}"),
            &[&image],
            3e-6,
            |a| kernels::global_avg_pool(&a[0]),
            |a| plain::global_avg_pool(&a[0]),
        );
    }
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
pub(crate) fn the_epilogue_adds_residual_and_clips_as_the_reference() {
    for (image, outputs, [ky, kx], stride, padding, groups) in CONVOLUTIONS {
        let config = Conv2dConfig { stride, padding, groups };
        let (x, weight) = (random(&image, 0), random(&[outputs, image[3] / groups, ky, kx], 1));
        let bias = random(&[outputs], 2);
        let packed = PackedConv2d::new(&weight, Some(&bias), &config).unwrap();
        let dims = plain::conv2d(&x, &weight, None, &config).unwrap().dims().to_vec();
        let residual = random(&dims, 3);
        for (residual, relu) in [(None, false), (None, true), (Some(&residual), false), (Some(&residual), true)] {
            let found = packed.forward(&x, residual, relu).unwrap();
            let wanted = plain::conv2d_inference(&x, &weight, Some(&bias), residual, relu, &config).unwrap();
            assert_eq!(found.dims(), wanted.dims());
            // both are f32 sums of up to a few hundred products of size 1, in different order
            let close = numbers(&found).iter().zip(numbers(&wanted)).all(|(f, w)| (f - w).abs() <= 2e-5);
            assert!(close, "{image:?} {config:?} relu {relu}");
            let once = kernels::conv2d_inference(&x, &weight, Some(&bias), residual, relu, &config).unwrap();
            assert_eq!(numbers(&once), numbers(&found));
        }
    }
}

#[test]
pub(crate) fn nan_passes_through_every_operation() {
    let mut values = numbers(&random(&[2 * 6 * 6 * 3], 0));
    values[40] = f32::NAN;
    let x = Tensor::from_vec(values, (2, 6, 6, 3), &candle_core::Device::Cpu).unwrap();
    let (weight, c) = (random(&[5, 3, 3, 3], 1), random(&[3], 2));
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let norm = BatchNorm { gamma: &c, beta: &c, eps: 1e-5, relu: true };
    let has_nan = |y: &Tensor| numbers(y).iter().any(|y| y.is_nan());
    assert!(has_nan(&kernels::conv2d(&x, &weight, None, &config).unwrap()));
    assert!(has_nan(&kernels::conv2d_inference(&x, &weight, None, None, true, &config).unwrap()));
    assert!(has_nan(&kernels::batch_norm_train(&x, &norm).unwrap().0));
    assert!(has_nan(&kernels::batch_norm_eval(&x, &norm, &c, &c.sqr().unwrap()).unwrap()));
    assert!(has_nan(&kernels::add_relu(&x, &x).unwrap()));
    assert!(has_nan(&kernels::merge(&kernels::Merge { relu: true, ..kernels::Merge::plain(&x, &x) }).unwrap()));
    assert!(has_nan(&kernels::max_pool2d(&x, 3, 2, 1).unwrap()));
    assert!(has_nan(&kernels::global_avg_pool(&x).unwrap()));
    assert!(has_nan(&plain::conv2d_inference(&x, &weight, None, None, true, &config).unwrap()));
    assert!(has_nan(&plain::batch_norm_train(&x, &norm).unwrap().0));
    assert!(has_nan(&plain::batch_norm_eval(&x, &norm, &c, &c.sqr().unwrap()).unwrap()));
    assert!(has_nan(&plain::add_relu(&x, &x).unwrap()));
    assert!(has_nan(&plain::merge(&kernels::Merge { relu: true, ..kernels::Merge::plain(&x, &x) }).unwrap()));
}

#[test]
fn a_relu_passes_no_gradient_where_its_output_is_zero() {
    // sums −1, 0, 1 and NaN; candle's own relu passes the gradient at 0 and turns NaN into 0
    let x = Var::new(&[-1f32, 0., 1., f32::NAN], &candle_core::Device::Cpu).unwrap();
    let zero = x.as_tensor().zeros_like().unwrap();
    let merged = |f: fn(&kernels::Merge<'_>) -> Result<Tensor>| {
        f(&kernels::Merge { relu: true, ..kernels::Merge::plain(&zero, &x) }).unwrap()
    };
    let sums = [kernels::add_relu(&x, &zero).unwrap(), plain::add_relu(&x, &zero).unwrap()];
    for y in sums.into_iter().chain([merged(kernels::merge), merged(plain::merge)]) {
        let (found, grads) = (numbers(&y), y.sum_all().unwrap().backward().unwrap());
        assert!(found[..3] == [0., 0., 1.] && found[3].is_nan(), "{found:?}");
        assert_eq!(numbers(grads.get(&x).unwrap()), [0., 0., 1., 1.]);
    }
}

#[test]
fn statistics_are_those_of_the_batch() {
    // channel 0: 1, 2, 3, 6 with mean 3 and squares 4 + 1 + 0 + 9 = 14, over n - 1 = 3; channel 1 is constant
    let x = Tensor::new(&[[1f32, 5.], [2., 5.], [3., 5.], [6., 5.]], &candle_core::Device::Cpu).unwrap();
    let one = Tensor::ones(2, DType::F32, &candle_core::Device::Cpu).unwrap();
    let (y, mean, variance) =
        kernels::batch_norm_train(&x, &BatchNorm { gamma: &one, beta: &one, eps: 0., relu: false }).unwrap();
    assert_eq!(numbers(&mean), [3., 5.]);
    assert!((numbers(&variance)[0] - 14. / 3.).abs() < 1e-6 && numbers(&variance)[1] == 0.);
    // (6 − 3)/√(14/4) + 1
    assert!((numbers(&y)[6] - (1. + 3. / 3.5f32.sqrt())).abs() < 1e-6);
}

#[test]
fn the_variance_survives_a_large_mean() {
    // values 4096 ± 1: squares of 1.7e7 have a spacing of 2 in f32, their mean minus the squared mean would be noise
    let values: Vec<f32> = (0..20_000).map(|i| if i / 2 % 2 == 0 { 4097. } else { 4095. }).collect();
    let x = Tensor::from_vec(values, (10_000, 2), &candle_core::Device::Cpu).unwrap();
    let c = random(&[2], 0);
    let (_, mean, variance) = kernels::batch_norm_train(&x, &BatchNorm { gamma: &c, beta: &c, eps: 1e-5, relu: false }).unwrap();
    assert!(numbers(&mean).iter().all(|mean| (mean - 4096.).abs() < 1e-3), "{mean}");
    assert!(numbers(&variance).iter().all(|v| (v - 10_000. / 9_999.).abs() < 1e-5), "{variance}");
}

#[test]
fn the_first_of_equal_elements_takes_the_gradient() {
    let x = Var::from_tensor(&Tensor::ones((1, 2, 4, 1), DType::F32, &candle_core::Device::Cpu).unwrap()).unwrap();
    let y = kernels::max_pool2d(&x, 2, 2, 0).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(numbers(grads.get(&x).unwrap()), [1., 0., 1., 0., 0., 0., 0., 0.]);
}

/// Value and gradients of `Σ weights·operation(args)`, the first argument in `dtype` and the others in `others`.
fn run(operation: &crate::cases::Operation, args: &[Tensor], dtype: DType, others: DType) -> Vec<Tensor> {
    let dtype_of = |i: usize| if i == 0 { dtype } else { others };
    let vars: Vec<Var> =
        args.iter().enumerate().map(|(i, x)| Var::from_tensor(&x.to_dtype(dtype_of(i)).unwrap()).unwrap()).collect();
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = operation(&inputs).unwrap();
    let weights = random(y.dims(), 77).to_dtype(others).unwrap();
    let loss = (y.to_dtype(others).unwrap() * weights).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    let gradients = vars.iter().map(|var| grads.get(var).cloned().unwrap_or_else(|| var.zeros_like().unwrap()));
    std::iter::once(y.detach()).chain(gradients).collect()
}

/// Every operation with bf16 images and f32 parameters against the reference in f64 over the same images.
pub(crate) fn check_bf16() {
    for mut case in crate::cases::images() {
        if !case.name.starts_with("add_relu") {
            case.args[0] = case.args[0].to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
            check_case(&case);
        }
    }
}

fn check_case(case: &Case) {
    let found = run(&case.fused, &case.args, DType::BF16, DType::F32);
    let wanted = run(&case.plain, &case.args, DType::F64, DType::F64);
    for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        assert_eq!(found.dtype(), if i < 2 { DType::BF16 } else { DType::F32 }, "{} {i}", case.name);
        let numbers = |x: &Tensor| x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let (found, wanted) = (numbers(found), numbers(wanted));
        let size = wanted.iter().fold(1f64, |a, b| a.max(b.abs()));
        assert_eq!(found.len(), wanted.len());
        // rounding to bf16 is relative 2⁻⁹ = 0.002: of the weight, of the output's gradient, of the result, and of a sum's parts
        let worst =
            found.iter().zip(&wanted).map(|(f, w)| (f - w).abs()).fold(0f64, |a, b| if b.is_nan() { b } else { a.max(b) });
        assert!(worst / size <= 8e-3, "{} result {i}: {:e}", case.name, worst / size);
    }
}

#[test]
fn bf16_images_agree_with_the_reference_within_their_rounding() {
    check_bf16();
}

#[test]
fn sums_of_bf16_images_are_rounded_once() {
    let (a, b) = (random(&[3, 5, 7], 0).to_dtype(DType::BF16).unwrap(), random(&[3, 5, 7], 1).to_dtype(DType::BF16).unwrap());
    let wanted = (a.to_dtype(DType::F32).unwrap() + b.to_dtype(DType::F32).unwrap()).unwrap().relu().unwrap();
    let y = kernels::add_relu(&a, &b).unwrap();
    assert_eq!(
        numbers(&y.to_dtype(DType::F32).unwrap()),
        numbers(&wanted.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap())
    );
}

#[test]
pub(crate) fn a_packed_convolution_computes_in_the_dtype_of_its_weight() {
    for (image, outputs, [ky, kx], stride, padding, groups) in CONVOLUTIONS {
        let config = Conv2dConfig { stride, padding, groups };
        let half = |dims: &[usize], seed| random(dims, seed).to_dtype(DType::BF16).unwrap();
        let wide = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
        let (x, weight, bias) = (half(&image, 0), half(&[outputs, image[3] / groups, ky, kx], 1), random(&[outputs], 2));
        let packed = PackedConv2d::new(&weight, Some(&bias), &config).unwrap();
        let residual = half(plain::conv2d(&wide(&x), &wide(&weight), None, &config).unwrap().dims(), 3);
        let found = packed.forward(&x, Some(&residual), true).unwrap();
        assert_eq!(found.dtype(), DType::BF16);
        let wanted =
            plain::conv2d_inference(&wide(&x), &wide(&weight), Some(&bias), Some(&wide(&residual)), true, &config).unwrap();
        // operands are the same numbers: only the result is rounded, by 2⁻⁹ of itself, and f32 sums of size up to about 10
        let close = numbers(&wide(&found)).iter().zip(numbers(&wanted)).all(|(f, w)| (f - w).abs() <= w.abs() / 256. + 2e-5);
        assert!(close, "{image:?} {config:?}");
    }
}
