//! Attention over a cache, and over trees of shared pieces, against the training form.
use candle_core::{Device, Tensor};
use kernels::{
    AttentionRun, KvPiece, KvSlab, PackedWeight, append_runs, attention_cached, attention_runs, causal_attention, linear,
    linear_packed,
};

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

/// Positions `from..to` of a `[1, T, ..]` tensor, without the batch.
fn cut(x: &Tensor, from: usize, to: usize) -> Tensor {
    x.narrow(1, from, to - from).unwrap().squeeze(0).unwrap()
}

#[test]
pub(crate) fn runs_behind_shared_pieces_equal_the_training_form() {
    // A trunk of 5 + 70 positions; three branches of 1, 3 and 80 positions behind it, one behind its first 5 alone.
    for (heads, kv_heads, d) in [(6, 2, 16), (4, 4, 64), (1, 1, 3)] {
        let lengths = [(75, 1), (75, 3), (75, 80), (5, 2)];
        let all = |what: u64, count: usize| {
            let trunk = random(&[1, 75, count, d], what);
            lengths.map(|(shared, own)| {
                let branch = random(&[1, own, count, d], 10 * what + own as u64);
                Tensor::cat(&[&trunk.narrow(1, 0, shared).unwrap(), &branch], 1).unwrap()
            })
        };
        let (q, k, v) = (all(1, heads), all(2, kv_heads), all(3, kv_heads));
        let piece = || KvPiece::new(kv_heads, 1, d); // grows on the way
        let (mut head, mut trunk) = (piece(), piece());
        append_runs(&cut(&k[0], 0, 5), &cut(&v[0], 0, 5), &mut [(&mut head, 5)]).unwrap();
        append_runs(&cut(&k[0], 5, 75), &cut(&v[0], 5, 75), &mut [(&mut trunk, 70)]).unwrap();
        // The longest branch comes in two calls, as in decoding.
        let mut own = [piece(), piece(), piece(), piece()];
        append_runs(&cut(&k[2], 75, 85), &cut(&v[2], 75, 85), &mut [(&mut own[2], 10)]).unwrap();
        let old = [0, 0, 10, 0];
        let new = |x: &[Tensor; 4]| {
            let parts: Vec<Tensor> = (0..4).map(|i| cut(&x[i], lengths[i].0 + old[i], lengths[i].0 + lengths[i].1)).collect();
            Tensor::cat(&parts, 0).unwrap()
        };
        let counts: Vec<usize> = (0..4).map(|i| lengths[i].1 - old[i]).collect();
        let mut pieces: Vec<(&mut KvPiece, usize)> = own.iter_mut().zip(counts.iter().copied()).collect();
        append_runs(&new(&k), &new(&v), &mut pieces).unwrap();
        let runs: Vec<AttentionRun<'_>> = (0..4)
            .map(|i| AttentionRun {
                before: if lengths[i].0 == 75 { vec![&head, &trunk] } else { vec![&head] },
                own: &own[i],
                new_tok: counts[i],
            })
            .collect();
        let found = attention_runs(&new(&q), &runs, 0.5).unwrap();
        let wanted: Vec<Tensor> = (0..4).map(|i| causal_attention(&q[i], &k[i], &v[i], 0.5).unwrap()).collect();
        // values are below 1 and averages of them: 1e-6 is a few roundings of each of two softmaxes
        let deviation = worst(&found, &new(&[wanted[0].clone(), wanted[1].clone(), wanted[2].clone(), wanted[3].clone()]));
        assert!(deviation < 1e-6, "H{heads} K{kv_heads} d{d}: {deviation:e}");
    }
}

#[test]
fn runs_that_do_not_fit_their_pieces_are_refused() {
    let (mut piece, x) = (KvPiece::new(1, 2, 4), random(&[2, 1, 4], 0));
    assert!(append_runs(&x, &x, &mut [(&mut piece, 1)]).unwrap_err().to_string().contains("positions"));
    append_runs(&x, &x, &mut [(&mut piece, 2)]).unwrap();
    let run = |new_tok| AttentionRun { before: Vec::new(), own: &piece, new_tok };
    assert!(attention_runs(&x, &[run(2)], 1.).is_ok());
    assert!(attention_runs(&x, &[run(1)], 1.).is_err());
    assert!(attention_runs(&x, &[], 1.).unwrap_err().to_string().contains("found [2, 1, 4]"));
    assert_eq!(attention_runs(&x.narrow(0, 0, 0).unwrap(), &[], 1.).unwrap().dims(), [0, 1, 4]);
    assert!(attention_runs(&random(&[3, 1, 4], 0), &[run(3)], 1.).unwrap_err().to_string().contains("3 new positions"));
}

#[test]
pub(crate) fn a_packed_weight_gives_the_same_product_and_rows_do_not_depend_on_each_other() {
    for (rows, out, k) in [(1, 1, 1), (5, 33, 7), (12, 64, 40), (25, 100, 33), (120, 96, 384)] {
        let (x, w, bias) = (random(&[rows, k], 1), random(&[out, k], 2), random(&[out], 3));
        let packed = PackedWeight::new(&w).unwrap().unwrap();
        assert_eq!(packed.dims(), (out, k));
        for bias in [None, Some(&bias)] {
            let (found, wanted) = (linear_packed(&x, &packed, bias).unwrap(), linear(&x, &w, bias).unwrap());
            // sums of k products below 1 in another order
            assert!(worst(&found, &wanted) < 1e-6 * k as f32, "{rows} x {out} x {k}");
            for row in [0, rows / 2, rows - 1] {
                let alone = linear_packed(&x.narrow(0, row, 1).unwrap(), &packed, bias).unwrap();
                assert_eq!(worst(&alone, &found.narrow(0, row, 1).unwrap()), 0.0, "row {row} of {rows} x {out} x {k}");
            }
        }
    }
    assert!(PackedWeight::new(&random(&[2, 2], 0).to_dtype(candle_core::DType::F64).unwrap()).unwrap().is_none());
    let packed = PackedWeight::new(&random(&[2, 3], 0)).unwrap().unwrap();
    assert!(linear_packed(&random(&[1, 2], 0), &packed, None).is_err());
}

#[test]
pub(crate) fn the_cuts_of_a_past_change_no_bit() {
    // values of 24 numbers take one product of 32 columns, those of 40 a second one
    for d in [24, 40] {
        check_cuts(d);
    }
}

fn check_cuts(d: usize) {
    let (heads, kv_heads, t) = (4, 2, 70);
    let (q, k, v) = (random(&[t, heads, d], 1), random(&[t, kv_heads, d], 2), random(&[t, kv_heads, d], 3));
    let of = |x: &Tensor, from: usize, to: usize| x.narrow(0, from, to - from).unwrap();
    let piece = |from: usize, to: usize| {
        let mut piece = KvPiece::new(kv_heads, to - from, d);
        append_runs(&of(&k, from, to), &of(&v, from, to), &mut [(&mut piece, to - from)]).unwrap();
        piece
    };
    let whole = piece(0, t);
    let expected = attention_runs(&q, &[AttentionRun { before: vec![], own: &whole, new_tok: t }], 0.3).unwrap();
    for cuts in [vec![0, 1, t], vec![0, 33, 40, t], vec![0, 69, t], vec![0, 0, 33, 33, t]] {
        let pieces: Vec<KvPiece> = cuts.windows(2).map(|cut| piece(cut[0], cut[1])).collect();
        let (own, before) = pieces.split_last().unwrap();
        let run = AttentionRun { before: before.iter().collect(), own, new_tok: own.len() };
        let found = attention_runs(&of(&q, t - own.len(), t), &[run], 0.3).unwrap();
        assert_eq!(worst(&found, &of(&expected, t - own.len(), t)), 0.0, "d{d} {cuts:?}");
    }
}
