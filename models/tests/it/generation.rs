//! Generation with a cache gives what the definition gives without one.

use candle_core::{DType, Tensor};
use laurel::ResidualConfig;
use models::{Decoder, DecoderConfig, GenerateOptions, Sampling, generate};

use crate::networks::{build, gpt_form, llama_form, values};

fn frozen(config: &DecoderConfig) -> Decoder {
    let (_, params) = build(config, DType::F32);
    Decoder::new(config, params.freeze()).unwrap()
}

fn subjects() -> Vec<DecoderConfig> {
    let residual = || ResidualConfig::preset("rw+lr+pa", 3, 3).unwrap();
    vec![llama_form(), gpt_form(), llama_form().with_residual(residual()), gpt_form().with_residual(residual())]
}

/// The definition: the whole sequence again for every token, argmax of the last position.
fn greedy_by_definition(decoder: &Decoder, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    for _ in 0..count {
        let input = Tensor::new(ids.as_slice(), decoder.device()).unwrap().unsqueeze(0).unwrap();
        let logits = values(&decoder.forward(&input).unwrap().narrow(1, ids.len() - 1, 1).unwrap());
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        ids.push(best as u32);
    }
    ids.split_off(prompt.len())
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, sampling: Sampling::Greedy }
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![3, 1, 4, 1, 5, 9], vec![2], vec![6, 5, 3]]
}

#[test]
fn greedy_generation_equals_the_uncached_argmax_loop() {
    for config in subjects() {
        let decoder = frozen(&config);
        let found = generate(&decoder, &prompts(), &greedy(12), |_, _| false).unwrap();
        for (prompt, found) in prompts().iter().zip(found) {
            assert_eq!(found, greedy_by_definition(&decoder, prompt, 12), "{config:?}");
        }
    }
}

#[test]
fn a_row_stops_when_told_and_the_others_go_on() {
    let decoder = frozen(&llama_form());
    let free = generate(&decoder, &prompts(), &greedy(8), |_, _| false).unwrap();
    let found = generate(&decoder, &prompts(), &greedy(8), |row, tokens| row == 1 && tokens.len() == 3).unwrap();
    assert_eq!(found, vec![free[0].clone(), free[1][..3].to_vec(), free[2].clone()]);
}

#[test]
fn a_row_ends_where_the_positions_end() {
    let decoder = frozen(&llama_form()); // 24 positions
    let found = generate(&decoder, &[vec![1; 22], vec![1; 20], vec![1; 24]], &greedy(100), |_, _| false).unwrap();
    // The token behind the last position can still be chosen; nothing can be chosen behind that one.
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [3, 5, 1]);
}

#[test]
fn a_sample_depends_on_its_seed_and_not_on_its_neighbours() {
    let decoder = frozen(&llama_form());
    let sample = |prompts: &[Vec<u32>], seed| {
        let sampling = Sampling::Random { temperature: 1.0, top_k: Some(20), top_p: Some(0.95), seed };
        generate(&decoder, prompts, &GenerateOptions { max_new_tokens: 10, sampling }, |_, _| false).unwrap()
    };
    let together = sample(&prompts(), 1);
    assert_eq!(sample(&prompts(), 1), together);
    assert_ne!(sample(&prompts(), 2), together);
    assert_eq!(sample(&prompts()[..1], 1)[0], together[0]);
    // Row b draws with seed + b.
    assert_eq!(sample(&prompts()[2..], 3)[0], together[2]);
}

#[test]
fn empty_and_overlong_prompts_are_refused() {
    let decoder = frozen(&llama_form());
    for prompt in [vec![], vec![0; 25]] {
        let error = generate(&decoder, &[vec![1], prompt], &greedy(1), |_, _| false).unwrap_err().to_string();
        assert!(error.contains("prompt 1: expected 1..=24 tokens"), "{error}");
    }
    assert_eq!(generate(&decoder, &[], &greedy(4), |_, _| false).unwrap(), Vec::<Vec<u32>>::new());
}
