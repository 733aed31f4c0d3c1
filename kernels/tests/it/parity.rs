//! Fused operations against their references: values and gradients in f64, any layout, any number of threads, any level.
use candle_core::{DType, Device, Tensor, Var};

use crate::cases::{Case, Operation, all, cast, random};

/// Value and gradients of `Σ weights·operation(args)`; `None` where no gradient arrived.
fn run(operation: &Operation, args: &[Tensor], tracked: impl Fn(usize) -> bool) -> (Tensor, Vec<Option<Tensor>>) {
    let vars: Vec<Option<Var>> = args.iter().enumerate().map(|(i, x)| tracked(i).then(|| Var::from_tensor(x).unwrap())).collect();
    let inputs: Vec<Tensor> =
        vars.iter().zip(args).map(|(var, x)| var.as_ref().map_or(x, |var| var.as_tensor()).clone()).collect();
    let y = operation(&inputs).unwrap();
    let weights = random(y.dims(), 77).to_dtype(y.dtype()).unwrap();
    let loss = (&y * weights).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    (y.detach(), vars.iter().map(|var| var.as_ref().and_then(|var| grads.get(var).cloned())).collect())
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference relative to the largest wanted element (at least `size`).
fn deviation(found: &Tensor, wanted: &Tensor, size: f64) -> f64 {
    assert_eq!(found.dims(), wanted.dims());
    let (found, wanted) = (numbers(found), numbers(wanted));
    let size = wanted.iter().fold(size, |a, b| a.max(b.abs()));
    let worst =
        found.iter().zip(&wanted).map(|(f, w)| (f - w).abs()).fold(0f64, |a, b| if b.is_nan() { f64::NAN } else { a.max(b) });
    worst / size
}

fn assert_close(case: &Case, what: &str, found: &Tensor, wanted: &Tensor) {
    let deviation = deviation(found, wanted, case.size);
    eprintln!("{deviation:.1e} {what}: {}", case.name);
    assert!(deviation <= case.tolerance, "{}: {what}: {deviation:e} > {:e}", case.name, case.tolerance);
}

/// A reference without any rows passes no gradient on, which stands for zeros.
fn or_zeros(grad: Option<&Tensor>, x: &Tensor) -> Tensor {
    grad.cloned().unwrap_or_else(|| x.zeros_like().unwrap())
}

fn check_all_cases() {
    for case in all() {
        let (y, grads) = run(&case.fused, &case.args, |_| true);
        let (wanted, wanted_grads) = run(&case.plain, &cast(&case.args, DType::F64), |_| true);
        assert_close(&case, "value", &y, &wanted);
        for (i, (grad, wanted)) in grads.iter().zip(&wanted_grads).enumerate() {
            let grad = grad.as_ref().unwrap_or_else(|| panic!("{}: no gradient {i}", case.name));
            assert_close(&case, &format!("gradient {i}"), grad, &or_zeros(wanted.as_ref(), &case.args[i]));
        }
    }
}

#[test]
fn fused_values_and_gradients_equal_the_reference_in_f64() {
    check_all_cases();
}

#[test]
fn double_inputs_take_the_reference_path_and_half_ones_keep_their_dtype() {
    for case in all() {
        let args = cast(&case.args, DType::F64);
        let (found, wanted) = ((case.fused)(&args).unwrap(), (case.plain)(&args).unwrap());
        assert_eq!(numbers(&found), numbers(&wanted), "{}", case.name);
    }
    let (x, w) = (random(&[3, 8], 0).to_dtype(DType::BF16).unwrap(), random(&[8], 1).to_dtype(DType::BF16).unwrap());
    assert_eq!(kernels::rms_norm(&x, &w, 1e-5).unwrap().dtype(), DType::BF16);
}

#[test]
fn a_frozen_bf16_weight_is_read_with_f32_sums() {
    // few rows, and more than the direct path takes (12 for a small weight), off the vector width
    for rows in [1, 3, 60] {
        let (x, bias) = (random(&[rows, 70], 0), random(&[300], 2));
        let w = random(&[300, 70], 1).to_dtype(DType::BF16).unwrap();
        let wanted = kernels::plain::linear(
            &x.to_dtype(DType::F64).unwrap(),
            &w.to_dtype(DType::F64).unwrap(),
            Some(&bias.to_dtype(DType::F64).unwrap()),
        )
        .unwrap();
        let y = kernels::linear(&x, &w, Some(&bias)).unwrap();
        assert_eq!(y.dtype(), DType::F32);
        assert!(deviation(&y, &wanted, 1.) < 1e-6, "{rows} rows: {:e}", deviation(&y, &wanted, 1.));
        let half = kernels::linear(&x.to_dtype(DType::BF16).unwrap(), &w, None).unwrap();
        assert_eq!((half.dtype(), half.dims()), (DType::BF16, &[rows, 300][..]));
    }
}

/// The same values with other strides: columns first, or every second element.
fn scattered(x: &Tensor) -> Tensor {
    let y = if x.rank() >= 2 {
        let last = x.rank() - 1;
        x.transpose(0, last).unwrap().contiguous().unwrap().transpose(0, last).unwrap()
    } else {
        Tensor::stack(&[x, x], 1).unwrap().narrow(1, 0, 1).unwrap().squeeze(1).unwrap()
    };
    assert_eq!(numbers(x), numbers(&y));
    y
}

/// The same values behind a non-zero offset.
fn shifted(x: &Tensor) -> Tensor {
    let padding = Tensor::zeros(x.dims(), x.dtype(), &Device::Cpu).unwrap();
    Tensor::stack(&[&padding, x], 0).unwrap().get(1).unwrap()
}

#[test]
fn strides_and_offsets_do_not_change_the_result() {
    for case in all() {
        let wanted = (case.fused)(&case.args).unwrap();
        for layout in [scattered, shifted] {
            let args: Vec<Tensor> = case.args.iter().map(layout).collect();
            assert_eq!(numbers(&(case.fused)(&args).unwrap()), numbers(&wanted), "{}", case.name);
        }
    }
}

#[test]
fn gradients_pass_through_strided_arguments() {
    for case in all().into_iter().filter(|case| case.args.iter().all(|x| x.rank() >= 2)) {
        let last = |x: &Tensor| x.rank() - 1;
        let turned: Vec<Tensor> = case.args.iter().map(|x| x.transpose(0, last(x)).unwrap().contiguous().unwrap()).collect();
        let fused = case.fused;
        let through: Operation =
            Box::new(move |args| fused(&args.iter().map(|x| x.transpose(0, last(x))).collect::<Result<Vec<_>, _>>()?));
        let (_, grads) = run(&through, &turned, |_| true);
        let (_, wanted) = run(&case.plain, &cast(&case.args, DType::F64), |_| true);
        for ((grad, wanted), x) in grads.iter().zip(&wanted).zip(&case.args) {
            let (grad, wanted) = (grad.as_ref().unwrap(), or_zeros(wanted.as_ref(), x));
            let deviation = deviation(&grad.transpose(0, last(&wanted)).unwrap(), &wanted, case.size);
            assert!(deviation <= case.tolerance, "{}: {deviation:e}", case.name);
        }
    }
}

#[test]
fn only_wanted_gradients_are_computed_and_they_are_the_same() {
    for case in all() {
        let (_, full) = run(&case.fused, &case.args, |_| true);
        for only in 0..case.args.len() {
            let (_, grads) = run(&case.fused, &case.args, |i| i == only);
            assert_eq!(numbers(grads[only].as_ref().unwrap()), numbers(full[only].as_ref().unwrap()), "{} {only}", case.name);
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let results = |threads| {
        pool(threads).install(|| {
            let run = |case: Case| {
                let (y, grads) = run(&case.fused, &case.args, |_| true);
                (case.name, numbers(&y), grads.iter().flatten().map(numbers).collect::<Vec<_>>())
            };
            all().into_iter().map(run).collect::<Vec<_>>()
        })
    };
    let one = results(1);
    for threads in [2, 3] {
        for (found, wanted) in results(threads).iter().zip(&one) {
            assert_eq!(found, wanted, "{threads} threads: {}", wanted.0);
        }
    }
}

/// Runs an ignored test of this binary in a process of its own: the level is fixed once per process.
fn in_a_process(test: &str) {
    let output =
        std::process::Command::new(std::env::current_exe().unwrap()).args(["--ignored", "--exact", test]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn lower_levels_agree_with_the_reference() {
    in_a_process("parity::portable_level");
    if kernels::cpu::CpuFeatures::detect().avx2 {
        in_a_process("parity::avx2_level");
    }
}

/// What the kernels of a level compute, training and inference: each check with bounds of its own.
fn check_level(level: kernels::cpu::Level) {
    use crate::{images, infer, numerics, optimizer};
    kernels::cpu::force(level).unwrap();
    check_all_cases();
    a_frozen_bf16_weight_is_read_with_f32_sums();
    images::check_bf16();
    images::the_epilogue_adds_residual_and_clips_as_the_reference();
    images::a_packed_convolution_computes_in_the_dtype_of_its_weight();
    images::nan_passes_through_every_operation();
    infer::check_cached_attention();
    infer::runs_behind_shared_pieces_equal_the_training_form();
    infer::a_packed_weight_gives_the_same_product_and_rows_do_not_depend_on_each_other();
    infer::the_cuts_of_a_past_change_no_bit();
    numerics::bf16_operations_follow_their_references_in_f64();
    numerics::cross_entropy_follows_f64_in_every_numerics();
    optimizer::ten_scaled_steps_follow_the_formula_in_f64();
    optimizer::sgd_follows_its_formula_in_f64_on_any_number_of_threads();
}

#[test]
#[ignore = "run by `lower_levels_agree_with_the_reference` in a process of its own"]
fn portable_level() {
    check_level(kernels::cpu::Level::Portable);
}

#[test]
#[ignore = "run by `lower_levels_agree_with_the_reference` in a process of its own"]
fn avx2_level() {
    check_level(kernels::cpu::Level::Avx2);
}
