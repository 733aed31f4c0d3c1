//! Operations in bf16 and split numerics, and the tape, against the references.
use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::{Numerics, Tape, plain};

use crate::cases::{all, cast, ids, random};

/// Value and gradients of `Σ weights·f(args)`, by candle's backward or by the tape's.
fn run(f: &dyn Fn(&[Tensor]) -> Result<Tensor>, args: &[Tensor], by_tape: bool) -> (Tensor, Vec<Option<Tensor>>) {
    let vars: Vec<Var> = args.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let tape = by_tape.then(Tape::start);
    let y = f(&inputs).unwrap();
    let weights = random(y.dims(), 77).to_dtype(y.dtype()).unwrap();
    let loss = (&y * weights).unwrap().sum_all().unwrap();
    let grads = match tape {
        Some(tape) => tape.backward(&loss).unwrap(),
        None => loss.backward().unwrap(),
    };
    (y.detach(), vars.iter().map(|var| grads.get(var).cloned()).collect())
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference relative to the largest wanted element, at least `size`.
fn deviation(found: &Tensor, wanted: &Tensor, size: f64) -> f64 {
    assert_eq!(found.dims(), wanted.dims());
    let (found, wanted) = (numbers(found), numbers(wanted));
    assert!(found.iter().all(|x| x.is_finite()));
    let size = wanted.iter().fold(size, |a, b| a.max(b.abs()));
    found.iter().zip(&wanted).map(|(f, w)| (f - w).abs()).fold(0f64, f64::max) / size
}

#[test]
fn the_tape_gives_candles_gradients_bit_for_bit() {
    for case in all() {
        let (y, grads) = run(&case.fused, &case.args, true);
        let (wanted_y, wanted) = run(&case.fused, &case.args, false);
        assert_eq!(numbers(&y), numbers(&wanted_y), "{}", case.name);
        for (grad, wanted) in grads.iter().zip(&wanted) {
            assert_eq!(grad.as_ref().map(numbers), wanted.as_ref().map(numbers), "{}", case.name);
        }
    }
}

/// A small network in which tensors are used twice, reshaped, and joined by candle's own operations.
fn network(numerics: Numerics, args: &[Tensor]) -> Result<Tensor> {
    let [x, w, v, gamma] = args else { unreachable!("four arguments") };
    let dtype = if numerics == Numerics::Bf16 { DType::BF16 } else { DType::F32 };
    let normed = kernels::rms_norm_as(x, gamma, 1e-5, dtype)?;
    let (q, k) = (kernels::linear_in(numerics, &normed, w, None)?, kernels::linear_in(numerics, &normed, v, None)?);
    let heads = |y: &Tensor| kernels::reshape(y, (2, 9, 3, 4));
    let o = kernels::causal_attention(&heads(&q)?, &heads(&k)?, &heads(&q)?, 0.5)?;
    let o = kernels::reshape(&o, (2, 9, 12))?;
    let scale = (gamma.narrow(0, 0, 1)?.exp()? * 0.5)?; // candle's own operations between fused ones
    let stream = kernels::add(&kernels::add(x, &o)?, &kernels::gelu_tanh(&o)?)?;
    stream.broadcast_mul(&scale)
}

fn network_args() -> Vec<Tensor> {
    [&[2, 9, 12][..], &[12, 12], &[12, 12], &[12]].iter().enumerate().map(|(i, dims)| random(dims, i as u64)).collect()
}

#[test]
fn the_tape_follows_shared_reshaped_and_foreign_tensors() {
    let args = network_args();
    for numerics in Numerics::ALL {
        let f = |args: &[Tensor]| network(numerics, args);
        let (_, grads) = run(&f, &args, true);
        let (_, wanted) = run(&f, &args, false);
        for (grad, wanted) in grads.iter().zip(&wanted) {
            let (grad, wanted) = (grad.as_ref().unwrap(), wanted.as_ref().unwrap());
            assert_eq!(grad.dtype(), DType::F32);
            // the order in which a shared tensor's gradients are added differs: a rounding of the activations' format
            let limit = if numerics == Numerics::Bf16 { 1e-2 } else { 1e-6 };
            assert!(deviation(grad, wanted, 1.) <= limit, "{numerics}: {:e}", deviation(grad, wanted, 1.));
        }
    }
}

#[test]
fn every_numerics_follows_the_f64_network() {
    let args = network_args();
    let wide = cast(&args, DType::F64);
    let (wanted_y, wanted) = run(&|args: &[Tensor]| network(Numerics::F32, args), &wide, false);
    for (numerics, limit) in [(Numerics::F32, 2e-6), (Numerics::F32Split, 3e-5), (Numerics::Bf16, 3e-2)] {
        let (y, grads) = run(&|args: &[Tensor]| network(numerics, args), &args, true);
        assert!(deviation(&y, &wanted_y, 1.) <= limit, "{numerics}: {:e}", deviation(&y, &wanted_y, 1.));
        for (i, (grad, wanted)) in grads.iter().zip(&wanted).enumerate() {
            let deviation = deviation(grad.as_ref().unwrap(), wanted.as_ref().unwrap(), 1.);
            assert!(deviation <= limit, "{numerics}: gradient {i}: {deviation:e}");
        }
    }
}

/// A tape that was dropped notes nothing; one that was consumed says so.
#[test]
fn a_tape_ends_when_it_is_dropped_or_used() {
    let x = Var::from_tensor(&random(&[3, 4], 0)).unwrap();
    drop(Tape::start());
    let loss = kernels::silu(&x).unwrap().sum_all().unwrap();
    assert!(loss.backward().unwrap().get(&x).is_some(), "candle's graph reaches the variable");
    let first = Tape::start();
    let second = Tape::start();
    let loss = kernels::silu(&x).unwrap().sum_all().unwrap();
    assert!(second.backward(&loss).unwrap().get(&x).is_some());
    assert!(first.backward(&loss).is_err());
}

#[test]
fn the_end_of_a_replaced_tape_leaves_the_newer_one_alone() {
    let x = Var::from_tensor(&random(&[3, 4], 0)).unwrap();
    let (dropped, used, newest) = (Tape::start(), Tape::start(), Tape::start());
    let loss = kernels::silu(&x).unwrap().sum_all().unwrap();
    drop(dropped);
    assert!(used.backward(&loss).is_err());
    assert!(newest.backward(&loss).unwrap().get(&x).is_some());
}

/// One operation in bf16 with its reference: shapes, which arguments are bf16, both forms, tolerance.
type Pair = (&'static str, Vec<Tensor>, Box<dyn Fn(&[Tensor]) -> Result<Tensor>>, Box<dyn Fn(&[Tensor]) -> Result<Tensor>>);

fn half(dims: &[usize], seed: u64) -> Tensor {
    random(dims, seed).to_dtype(DType::BF16).unwrap()
}

fn pairs() -> Vec<Pair> {
    let mut list: Vec<Pair> = Vec::new();
    for dims in [&[0, 7][..], &[1, 1], &[3, 5, 33], &[70, 300]] {
        let d = dims[dims.len() - 1];
        list.push(("silu", vec![half(dims, 0)], Box::new(|a| kernels::silu(&a[0])), Box::new(|a| plain::silu(&a[0]))));
        list.push((
            "gelu_tanh",
            vec![half(dims, 0)],
            Box::new(|a| kernels::gelu_tanh(&a[0])),
            Box::new(|a| plain::gelu_tanh(&a[0])),
        ));
        list.push((
            "gelu_erf",
            vec![half(dims, 0)],
            Box::new(|a| kernels::gelu_erf(&a[0])),
            Box::new(|a| plain::gelu_erf(&a[0])),
        ));
        list.push((
            "swiglu",
            vec![half(dims, 0), half(dims, 1)],
            Box::new(|a| kernels::swiglu(&a[0], &a[1])),
            Box::new(|a| plain::swiglu(&a[0], &a[1])),
        ));
        for x in [half(dims, 0), random(dims, 0)] {
            let eps = if d == 1 { 0.1 } else { 1e-5 };
            list.push((
                "layer_norm",
                vec![x.clone(), random(&[d], 1), random(&[d], 2)],
                Box::new(move |a| {
                    kernels::layer_norm_as(
                        &a[0],
                        &a[1],
                        Some(&a[2]),
                        eps,
                        if a[0].dtype() == DType::F64 { DType::F64 } else { DType::BF16 },
                    )
                }),
                Box::new(move |a| plain::layer_norm(&a[0], &a[1], Some(&a[2]), eps)),
            ));
            list.push((
                "rms_norm",
                vec![x.clone(), random(&[d], 1)],
                Box::new(move |a| kernels::rms_norm(&a[0], &a[1], eps)),
                Box::new(move |a| plain::rms_norm(&a[0], &a[1], eps)),
            ));
            list.push((
                "add",
                vec![x.clone(), half(dims, 1)],
                Box::new(|a| kernels::add(&a[0], &a[1])),
                Box::new(|a| plain::add(&a[0], &a[1])),
            ));
            for weights in [&[2][..], &[2, d]] {
                list.push((
                    "merge",
                    vec![x.clone(), random(dims, 1), random(weights, 2), half(dims, 3), random(&[d, 2], 4), random(&[2, d], 5)],
                    Box::new(|a| kernels::merge(&joined(a))),
                    Box::new(|a| plain::merge(&joined(a))),
                ));
            }
        }
        list.push((
            "linear with bias",
            vec![half(dims, 0), random(&[37, d], 1), random(&[37], 2)],
            Box::new(|a| kernels::linear_in(Numerics::Bf16, &a[0], &a[1], Some(&a[2]))),
            Box::new(|a| plain::linear(&a[0], &a[1], Some(&a[2]))),
        ));
    }
    for (b, t, heads, kv_heads, d) in [(1, 1, 1, 1, 2), (2, 5, 4, 2, 6), (1, 65, 2, 2, 16), (1, 200, 6, 2, 20)] {
        let (q, kv) = ([b, t, heads, d], [b, t, kv_heads, d]);
        list.push((
            "causal_attention",
            vec![half(&q, 0), half(&kv, 1), half(&kv, 2)],
            Box::new(|a| kernels::causal_attention(&a[0], &a[1], &a[2], 0.7)),
            Box::new(|a| plain::causal_attention(&a[0], &a[1], &a[2], 0.7)),
        ));
        let angles = (random(&[t, d / 2], 9) * 3.).unwrap();
        let (c1, s1) = (angles.cos().unwrap(), angles.sin().unwrap());
        let (c2, s2) = (c1.clone(), s1.clone());
        list.push((
            "rotary",
            vec![half(&q, 0)],
            Box::new(move |a| kernels::rotary(&a[0], &c1, &s1)),
            Box::new(move |a| plain::rotary(&a[0], &c2, &s2)),
        ));
    }
    list
}

#[test]
pub(crate) fn bf16_operations_follow_their_references_in_f64() {
    // a few roundings of 2⁻⁹ each of terms of size up to three
    let limit = 2.5e-2;
    for (name, args, fused, reference) in pairs() {
        let (y, grads) = run(&*fused, &args, false);
        let (wanted_y, wanted) = run(&*reference, &cast(&args, DType::F64), false);
        let found = deviation(&y, &wanted_y, 1.);
        assert!(found <= limit, "{name} {:?}: {found:e}", args[0].dims());
        for (i, (grad, wanted)) in grads.iter().zip(&wanted).enumerate() {
            let Some(wanted) = wanted else { continue };
            let grad = grad.as_ref().unwrap_or_else(|| panic!("{name}: no gradient {i}"));
            assert_eq!(grad.dtype(), args[i].dtype(), "{name}");
            let found = deviation(grad, wanted, 1.);
            assert!(found <= limit, "{name} {:?} gradient {i}: {found:e}", args[0].dims());
        }
    }
}

#[test]
pub(crate) fn cross_entropy_follows_f64_in_every_numerics() {
    let (n, d, vocab) = (130, 33, 77);
    let (h, w, bias) = (random(&[n, d], 0), random(&[vocab, d], 1), random(&[vocab], 2));
    let targets = ids(&[n], vocab, Some(5));
    let args = [h, w, bias];
    let t = targets.clone();
    let (wanted_loss, wanted) =
        run(&move |a: &[Tensor]| plain::linear_cross_entropy(&a[0], &a[1], Some(&a[2]), &t), &cast(&args, DType::F64), false);
    for (numerics, limit) in [(Numerics::F32, 3e-6), (Numerics::F32Split, 3e-5), (Numerics::Bf16, 1e-2)] {
        let t = targets.clone();
        let f = move |a: &[Tensor]| kernels::linear_cross_entropy_in(numerics, &a[0], &a[1], Some(&a[2]), &t);
        let (loss, grads) = run(&f, &args, true);
        assert!(deviation(&loss, &wanted_loss, 1.) <= limit, "{numerics}");
        for (grad, wanted) in grads.iter().zip(&wanted) {
            // relative to the largest gradient: the mean over n rows makes all of them small
            let found = deviation(grad.as_ref().unwrap(), wanted.as_ref().unwrap(), 0.);
            assert!(found <= limit, "{numerics}: {found:e}");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit_in_bf16() {
    let results = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let run = |(_, args, fused, _): Pair| {
                let (y, grads) = run(&*fused, &args, true);
                (numbers(&y), grads.iter().flatten().map(numbers).collect::<Vec<_>>())
            };
            pairs().into_iter().map(run).collect::<Vec<_>>()
        })
    };
    let one = results(1);
    assert!(results(2) == one && results(3) == one);
}

#[test]
fn a_cast_rounds_and_passes_gradients_back() {
    let x = Var::from_tensor(&Tensor::new(&[1f32, 1.001_953_1, -3.], &Device::Cpu).unwrap()).unwrap();
    let y = kernels::cast(&x, DType::BF16).unwrap();
    assert_eq!(numbers(&y), [1., 1., -3.]); // 2⁻⁹ is a quarter of the last place
    let grads = y.sum_all().unwrap().backward().unwrap();
    let grad = grads.get(&x).unwrap();
    assert_eq!((grad.dtype(), numbers(grad)), (DType::F32, vec![1.; 3]));
}

/// A merge of two summands with weights and a map.
fn joined(a: &[Tensor]) -> kernels::Merge<'_> {
    kernels::Merge { fx2: Some(&a[3]), ab: Some(&a[2]), map: Some((&a[4], &a[5])), ..kernels::Merge::plain(&a[0], &a[1]) }
}
