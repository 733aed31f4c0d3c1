//! Attention over the cache against the training form.
use candle_core::{Device, Tensor};
use kernels::{KvSlab, attention_cached, causal_attention};

use crate::cases::random;

/// Shapes: queries per call that take the dot-product path, the matrix path and both.
const SHAPES: [(usize, usize, usize, usize, usize); 4] =
    [(1, 6, 1, 1, 1), (3, 9, 4, 2, 20), (2, 150, 6, 2, 64), (2, 40, 8, 1, 33)];

fn worst(found: &Tensor, wanted: &Tensor) -> f32 {
    assert_eq!(found.dims(), wanted.dims());
    (found - wanted).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

pub(crate) fn check_cached_attention() {
    for (b, t, heads, kv_heads, d) in SHAPES {
        let (q, k, v) = (random(&[b, t, heads, d], 0), random(&[b, t, kv_heads, d], 1), random(&[b, t, kv_heads, d], 2));
        let wanted = causal_attention(&q, &k, &v, 0.5).unwrap();
        for step in [1, 2, 5, t] {
            // capacity 2 grows on the way
            let (mut keys, mut values) = (KvSlab::new(b, kv_heads, 2, d), KvSlab::new(b, kv_heads, 2, d));
            let rows: Vec<usize> = (0..b).collect();
            for start in (0..t).step_by(step) {
                let count = step.min(t - start);
                let past = vec![start; b];
                keys.append(&rows, &k.narrow(1, start, count).unwrap(), &past).unwrap();
                values.append(&rows, &v.narrow(1, start, count).unwrap(), &past).unwrap();
                let y = attention_cached(&q.narrow(1, start, count).unwrap(), &keys, &values, &past, 0.5).unwrap();
                // values are below 1 and averages of them: 1e-6 is a few roundings of each of two softmaxes
                let deviation = worst(&y, &wanted.narrow(1, start, count).unwrap());
                assert!(deviation < 1e-6, "T{t} step {step} start {start}: {deviation:e}");
            }
        }
    }
}

#[test]
fn cached_attention_equals_the_training_form() {
    check_cached_attention();
}

#[test]
fn rows_of_different_lengths_do_not_disturb_each_other() {
    let (heads, kv_heads, d) = (4, 2, 8);
    let lengths = [7usize, 1, 4];
    let (mut keys, mut values) = (KvSlab::new(3, kv_heads, 16, d), KvSlab::new(3, kv_heads, 16, d));
    for (row, &length) in lengths.iter().enumerate() {
        let old = random(&[1, length, kv_heads, d], row as u64);
        keys.append(&[row], &old, &[0]).unwrap();
        values.append(&[row], &old, &[0]).unwrap();
    }
    let (q, new) = (random(&[3, 2, heads, d], 10), random(&[3, 2, kv_heads, d], 11));
    keys.append(&[0, 1, 2], &new, &lengths).unwrap();
    values.append(&[0, 1, 2], &new, &lengths).unwrap();
    let together = attention_cached(&q, &keys, &values, &lengths, 0.4).unwrap();
    for (row, &length) in lengths.iter().enumerate() {
        let (mut key, mut value) = (keys.clone(), values.clone());
        key.select_rows(&[row]).unwrap();
        value.select_rows(&[row]).unwrap();
        key.truncate(length + 2);
        value.truncate(length + 2);
        let alone = attention_cached(&q.narrow(0, row, 1).unwrap(), &key, &value, &[length], 0.4).unwrap();
        assert_eq!(worst(&together.narrow(0, row, 1).unwrap(), &alone), 0.);
    }
}

#[test]
fn a_short_cache_and_wrong_lengths_are_refused() {
    let slab = KvSlab::new(1, 1, 3, 4);
    let q = random(&[1, 2, 1, 4], 0);
    assert!(attention_cached(&q, &slab, &slab, &[1], 1.).is_ok());
    assert!(attention_cached(&q, &slab, &slab, &[2], 1.).unwrap_err().to_string().contains("expected 4 positions"));
    assert!(attention_cached(&q, &slab, &slab, &[], 1.).is_err());
    assert!(
        attention_cached(&Tensor::zeros((2, 1, 1, 4), candle_core::DType::F32, &Device::Cpu).unwrap(), &slab, &slab, &[0, 0], 1.)
            .is_err()
    );
}
