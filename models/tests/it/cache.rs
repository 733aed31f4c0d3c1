//! Incremental decoding agrees with the whole sequence, for every variant, for rows of different lengths and for runs with shared segments.

use candle_core::{DType, Device, Tensor};
use laurel::ResidualConfig;
use models::{Decoder, DecoderConfig, KvCache, KvSegment, Run};

use crate::networks::{build, distance, every_variant, gpt_form, ids, llama_form};

/// Both sides in f32; they differ in the order of sums over a few dozen values of order one.
const TOLERANCE: f64 = 1e-5;

fn frozen(config: &DecoderConfig) -> Decoder {
    let (_, params) = build(config, DType::F32);
    Decoder::new(config, params.freeze()).unwrap()
}

/// Logits of `ids[:, from..to]` behind what the cache holds.
fn step(decoder: &Decoder, ids: &Tensor, from: usize, to: usize, cache: &mut KvCache) -> Tensor {
    let (batch, _) = ids.dims2().unwrap();
    let part = ids.narrow(1, from, to - from).unwrap().contiguous().unwrap();
    decoder.logits(&decoder.forward_cached(&part, &vec![to - from; batch], cache).unwrap()).unwrap()
}

#[test]
fn cached_logits_equal_uncached_logits_for_every_variant() {
    for (name, config) in every_variant() {
        let decoder = frozen(&config);
        let inputs = ids(&config, 2, 9);
        let whole = decoder.forward(&inputs).unwrap();
        let mut cache = KvCache::new(&config, 2, 4); // smaller than needed: it grows
        let parts = [(0, 5), (5, 6), (6, 7), (7, 9)].map(|(from, to)| step(&decoder, &inputs, from, to, &mut cache));
        let apart = distance(&Tensor::cat(&parts, 1).unwrap(), &whole);
        assert!(apart < TOLERANCE, "{name}: {apart}");
        assert_eq!(cache.lengths(), [9, 9]);
    }
}

#[test]
fn rows_of_different_lengths_equal_single_rows() {
    for config in [llama_form(), gpt_form()] {
        let config = config.with_residual(ResidualConfig::preset("rw+lr+pa", 3, 3).unwrap());
        let decoder = frozen(&config);
        let (first, second) = (ids(&config, 3, 6), ids(&config, 3, 4).affine(1.0, 0.0).unwrap());
        let (lens, more) = ([6, 2, 4], [1, 4, 0]);
        let mut cache = KvCache::new(&config, 3, 16);
        let one = decoder.forward_cached(&first, &lens, &mut cache).unwrap();
        let two = decoder.forward_cached(&second, &more, &mut cache).unwrap();
        assert_eq!(cache.lengths(), [7, 6, 4]);
        for row in 0..3 {
            let cut = |ids: &Tensor, len: usize| ids.narrow(0, row, 1).unwrap().narrow(1, 0, len).unwrap();
            let alone = Tensor::cat(&[cut(&first, lens[row]), cut(&second, more[row])], 1).unwrap();
            let expected = decoder.hidden(&alone).unwrap();
            let found = [cut(&one, lens[row]), cut(&two, more[row])];
            let apart = distance(&Tensor::cat(&found, 1).unwrap(), &expected);
            assert!(apart < TOLERANCE, "row {row}: {apart}");
        }
    }
}

#[test]
fn a_shared_prefix_is_run_once_and_repeated() {
    let config = llama_form().with_residual(ResidualConfig::preset("rw+lr", 3, 3).unwrap());
    let decoder = frozen(&config);
    let (prefix, suffixes) = (ids(&config, 1, 5), ids(&config, 4, 3));
    let mut cache = KvCache::new(&config, 1, 5);
    step(&decoder, &prefix, 0, 5, &mut cache);
    cache.repeat_rows(4);
    let found = step(&decoder, &suffixes, 0, 3, &mut cache);
    let prefixes = prefix.repeat((4, 1)).unwrap();
    let whole = decoder.forward(&Tensor::cat(&[prefixes, suffixes], 1).unwrap()).unwrap();
    let apart = distance(&found, &whole.narrow(1, 5, 3).unwrap());
    assert!(apart < TOLERANCE, "{apart}");
}

#[test]
fn truncating_and_selecting_rows_rewinds_exactly() {
    let config = llama_form();
    let decoder = frozen(&config);
    let inputs = ids(&config, 3, 8);
    let mut cache = KvCache::new(&config, 3, 8);
    step(&decoder, &inputs, 0, 5, &mut cache);
    let once = step(&decoder, &inputs, 5, 8, &mut cache);
    cache.truncate(&[5, 5, 5]).unwrap();
    cache.select_rows(&[2, 0]).unwrap();
    assert_eq!(cache.lengths(), [5, 5]);
    let order = Tensor::new(&[2u32, 0], &Device::Cpu).unwrap();
    let again = step(&decoder, &inputs.index_select(&order, 0).unwrap(), 5, 8, &mut cache);
    let apart = distance(&again, &once.index_select(&order, 0).unwrap());
    assert!(apart < TOLERANCE, "{apart}");
}

#[test]
fn rows_and_lengths_that_do_not_fit_are_refused_and_change_nothing() {
    let config = llama_form();
    let decoder = frozen(&config);
    let inputs = ids(&config, 2, 20);
    let mut cache = KvCache::new(&config, 2, 8);
    step(&decoder, &inputs, 0, 20, &mut cache);
    let problem = |lens: &[usize], cache: &mut KvCache| decoder.forward_cached(&inputs, lens, cache).unwrap_err().to_string();
    assert!(problem(&[20, 5], &mut cache).contains("at most 24 positions"));
    assert!(problem(&[21, 1], &mut cache).contains("at most 20 new tokens"));
    assert!(problem(&[1], &mut cache).contains("expected 2 rows"));
    assert_eq!(cache.lengths(), [20, 20]);
    assert!(cache.truncate(&[21, 0]).is_err());
    assert!(cache.select_rows(&[2]).is_err());
    assert_eq!(cache.lengths(), [20, 20]);
}

#[test]
fn runs_behind_shared_segments_equal_whole_sequences_for_every_variant() {
    for (name, config) in every_variant() {
        let decoder = frozen(&config);
        let rows: Vec<Vec<u32>> = ids(&config, 2, 9).to_vec2().unwrap();
        // Both sequences share the first row's tokens 0..4.
        let branches = [rows[0].clone(), [&rows[0][..4], &rows[1][4..]].concat()];
        let mut shared = KvSegment::new(&config, 0, 1);
        decoder.forward_runs(&mut [Run { ids: &branches[0][..4], before: vec![], own: &mut shared }]).unwrap();
        let mut own = [KvSegment::new(&config, 4, 5), KvSegment::new(&config, 4, 1)];
        let [first, second] = &mut own;
        let mut runs = [
            Run { ids: &branches[0][4..], before: vec![&shared], own: first },
            Run { ids: &branches[1][4..8], before: vec![&shared], own: second },
        ];
        let together = decoder.forward_runs(&mut runs).unwrap(); // [5 + 4, D]
        let last = decoder.forward_runs(&mut [Run { ids: &branches[1][8..], before: vec![&shared], own: second }]).unwrap();
        assert_eq!((first.end(), second.end()), (9, 9));
        for (branch, found) in branches
            .iter()
            .zip([together.narrow(0, 0, 5).unwrap(), Tensor::cat(&[together.narrow(0, 5, 4).unwrap(), last], 0).unwrap()])
        {
            let whole = Tensor::new(branch.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let expected = decoder.hidden(&whole).unwrap().squeeze(0).unwrap().narrow(0, 4, 5).unwrap();
            let apart = distance(&found, &expected);
            assert!(apart < TOLERANCE, "{name}: {apart}");
        }
    }
}

#[test]
fn runs_with_a_gap_without_tokens_or_past_the_end_are_refused() {
    let config = llama_form();
    let decoder = frozen(&config);
    let limit = config.max_position_embeddings;
    let long = vec![1u32; limit + 1];
    let refuse = |start: usize, ids: &[u32], what: &str| {
        let mut own = KvSegment::new(&config, start, 1);
        let error = decoder.forward_runs(&mut [Run { ids, before: vec![], own: &mut own }]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(own.is_empty());
    };
    refuse(3, &[1], "without a gap");
    refuse(0, &[], "found 0");
    refuse(0, &long, &format!("found {}", limit + 1));
}
