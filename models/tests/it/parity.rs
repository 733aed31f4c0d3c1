//! Agreement with independent implementations: transformers (stored outputs) and candle-transformers (run here).
//!
//! Reference packs lie in `PARITY_DIR`; a test whose pack is missing says so and passes. Sizes and names are read from
//! the packs, so any pack of the same layout works.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama;
use models::pretrained::SUPPORTED_MODEL_TYPES;
use models::tensor_file::TensorFile;
use models::{
    Decoder, DecoderConfig, GenerateOptions, KvCache, KvSegment, Positions, Pretrained, Run, Sampling, generate, load_pretrained,
};
use serde_json::Value;

use crate::networks::{build, data_dir, distance, ids, llama_form, parity_dir, values};

/// The packs' own tolerance on f32 logits, absolute.
const LOGIT_TOLERANCE: f64 = 1e-4;

fn load(folder: &Path) -> (Pretrained, Decoder) {
    let loaded = load_pretrained(folder, DType::F32, &Device::Cpu).unwrap();
    let decoder = loaded.decoder().unwrap();
    (loaded, decoder)
}

/// Our own fixtures, and folders of the pack's `models/` that hold a checkpoint of a family we load, each with what the reference
/// made of it.
fn packs() -> Vec<std::path::PathBuf> {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pretrained"));
    let roots = [Some(fixtures.to_path_buf()), parity_dir("models")];
    let entries = roots.into_iter().flatten().flat_map(|root| fs::read_dir(root).unwrap());
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders.retain(|folder| {
        let text = fs::read_to_string(folder.join("config.json")).unwrap_or_default();
        let config: Value = serde_json::from_str(&text).unwrap_or_default();
        let is_ours = config["model_type"].as_str().is_some_and(|kind| SUPPORTED_MODEL_TYPES.contains(&kind));
        is_ours && folder.join("expected.safetensors").is_file()
    });
    folders
}

#[test]
fn logits_and_greedy_tokens_equal_the_reference() {
    for folder in packs() {
        let (_, decoder) = load(&folder);
        let mut expected = TensorFile::open(&folder.join("expected.safetensors")).unwrap();
        let mut ids = |name: &str| expected.read(name, DType::U32, &Device::Cpu).unwrap();
        let (inputs, greedy) = (ids("input_ids"), ids("greedy").to_vec2::<u32>().unwrap());
        let logits = expected.read("logits", DType::F32, &Device::Cpu).unwrap();
        let apart = distance(&decoder.forward(&inputs).unwrap(), &logits);
        eprintln!("{}: largest deviation of a logit {apart:.2e}", folder.display());
        assert!(apart <= LOGIT_TOLERANCE, "{}: {apart}", folder.display());

        // The generated rows begin with a prompt taken from the inputs; where they part, generation began.
        for (row, sequence) in greedy.iter().enumerate() {
            let input = inputs.get(row).unwrap().to_vec1::<u32>().unwrap();
            let shared = sequence.iter().zip(&input).take_while(|(a, b)| a == b).count();
            let prompt = sequence[..shared].to_vec();
            let count = sequence.len() - prompt.len();
            assert!(count > 0 && !prompt.is_empty(), "{}", folder.display());
            let options = GenerateOptions { max_new_tokens: count, sampling: Sampling::Greedy };
            let found = generate(&decoder, std::slice::from_ref(&prompt), &options, |_, _| false).unwrap();
            assert_eq!(found[0], sequence[prompt.len()..], "{}", folder.display());
        }
    }
}

#[test]
fn cached_logits_equal_the_reference() {
    for folder in packs() {
        let (loaded, decoder) = load(&folder);
        let mut expected = TensorFile::open(&folder.join("expected.safetensors")).unwrap();
        let inputs = expected.read("input_ids", DType::U32, &Device::Cpu).unwrap();
        let logits = expected.read("logits", DType::F32, &Device::Cpu).unwrap();
        let (batch, length) = inputs.dims2().unwrap();
        let mut cache = KvCache::new(&loaded.config, batch, length);
        let mut parts = Vec::new();
        for at in (0..length).step_by(5) {
            let width = 5.min(length - at);
            let part = inputs.narrow(1, at, width).unwrap().contiguous().unwrap();
            let hidden = decoder.forward_cached(&part, &vec![width; batch], &mut cache).unwrap();
            parts.push(decoder.logits(&hidden).unwrap());
        }
        let apart = distance(&Tensor::cat(&parts, 1).unwrap(), &logits);
        eprintln!("{}: largest deviation of a cached logit {apart:.2e}", folder.display());
        assert!(apart <= LOGIT_TOLERANCE, "{}: {apart}", folder.display());
    }
}

/// Runs of each row behind a shared first part, as an evaluator walks a prefix tree.
#[test]
fn packed_runs_equal_the_reference() {
    for folder in packs() {
        let (loaded, decoder) = load(&folder);
        assert_eq!(loaded.params.num_params(), loaded.config.num_params().total, "{}", folder.display());
        let mut expected = TensorFile::open(&folder.join("expected.safetensors")).unwrap();
        let inputs = expected.read("input_ids", DType::U32, &Device::Cpu).unwrap().to_vec2::<u32>().unwrap();
        let logits = expected.read("logits", DType::F32, &Device::Cpu).unwrap();
        for (row, ids) in inputs.iter().enumerate() {
            let (prefix, rest) = ids.split_at(ids.len() / 2 + 1);
            let mut shared = KvSegment::new(&loaded.config, 0, 4);
            let first = decoder.forward_runs(&mut [Run { ids: prefix, before: vec![], own: &mut shared }]).unwrap();
            // The same continuation twice in one pass, then each half's logits.
            let mut ends = [KvSegment::new(&loaded.config, prefix.len(), 2), KvSegment::new(&loaded.config, prefix.len(), 2)];
            let mut runs: Vec<Run<'_>> = ends.iter_mut().map(|own| Run { ids: rest, before: vec![&shared], own }).collect();
            let both = decoder.forward_runs(&mut runs).unwrap();
            let reference = logits.get(row).unwrap();
            let parts = [
                (first, reference.narrow(0, 0, prefix.len()).unwrap()),
                (both.narrow(0, 0, rest.len()).unwrap(), reference.narrow(0, prefix.len(), rest.len()).unwrap()),
                (both.narrow(0, rest.len(), rest.len()).unwrap(), reference.narrow(0, prefix.len(), rest.len()).unwrap()),
            ];
            for (hidden, reference) in parts {
                let apart = distance(&decoder.logits(&hidden.contiguous().unwrap()).unwrap(), &reference);
                assert!(apart <= LOGIT_TOLERANCE, "{}: {apart}", folder.display());
            }
        }
    }
}

/// A published Gemma is part of a larger file; its text network alone must come out the same.
#[test]
fn the_text_network_of_a_multimodal_file_loads() {
    let fixture = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pretrained/gemma3n_text"));
    let (alone, _) = load(fixture);
    let folder = tempfile::tempdir().unwrap();
    let text: Value = serde_json::from_str(&fs::read_to_string(fixture.join("config.json")).unwrap()).unwrap();
    let whole = serde_json::json!({"model_type": "gemma3n", "eos_token_id": [1, 46], "text_config": text});
    fs::write(folder.path().join("config.json"), whole.to_string()).unwrap();
    let tensors = candle_core::safetensors::load(fixture.join("model.safetensors"), &Device::Cpu).unwrap();
    let renamed = |name: String| name.replacen("model.", "model.language_model.", 1);
    let mut tensors: HashMap<String, Tensor> = tensors.into_iter().map(|(name, tensor)| (renamed(name), tensor)).collect();
    let other = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
    // What belongs to other inputs, and the unused maps of layers that read an earlier layer's keys and values.
    for name in ["model.vision_tower.x", "model.audio_tower.x", "model.embed_vision.x"] {
        tensors.insert(name.to_owned(), other.clone());
    }
    tensors.insert("model.language_model.layers.3.self_attn.k_proj.weight".to_owned(), other.clone());
    let file = folder.path().join("model.safetensors");
    candle_core::safetensors::save(&tensors, &file).unwrap();
    let (loaded, _) = load(folder.path());
    assert_eq!(loaded.params.digest().unwrap(), alone.params.digest().unwrap());
    assert_eq!((loaded.model_type.as_str(), loaded.eos_token_ids.as_slice()), ("gemma3n_text", &[1, 46][..]));

    tensors.insert("model.surprise_tower.x".to_owned(), other);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    let error = load_pretrained(folder.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("unexpected (1): model.surprise_tower.x"), "{error}");
}

/// ln softmax(logits)[token] in f64.
fn log_probability(logits: &[f64], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits[token as usize] - largest - logits.iter().map(|l| (l - largest).exp()).sum::<f64>().ln()
}

/// Log-probabilities of all continuations of one context: the context runs once, its row is repeated for the rest.
fn score(decoder: &Decoder, context: &[u32], continuations: &[Vec<u32>]) -> Vec<f64> {
    let device = decoder.device();
    let (last, prefix) = context.split_last().unwrap();
    let mut cache = KvCache::new(decoder.config(), 1, context.len() + 16);
    if !prefix.is_empty() {
        let ids = Tensor::new(prefix, device).unwrap().unsqueeze(0).unwrap();
        decoder.forward_cached(&ids, &[prefix.len()], &mut cache).unwrap();
    }
    cache.repeat_rows(continuations.len());
    let lens: Vec<usize> = continuations.iter().map(Vec::len).collect();
    let width = *lens.iter().max().unwrap();
    let row = |c: &Vec<u32>| {
        let inputs = std::iter::once(*last).chain(c[..c.len() - 1].iter().copied());
        inputs.chain(std::iter::repeat(0)).take(width).collect::<Vec<u32>>()
    };
    let ids: Vec<u32> = continuations.iter().flat_map(row).collect();
    let ids = Tensor::from_vec(ids, (continuations.len(), width), device).unwrap();
    let logits = decoder.logits(&decoder.forward_cached(&ids, &lens, &mut cache).unwrap()).unwrap();
    let sum = |(row, tokens): (usize, &Vec<u32>)| {
        let logits = logits.get(row).unwrap();
        tokens.iter().enumerate().map(|(t, &token)| log_probability(&values(&logits.get(t).unwrap()), token)).sum()
    };
    continuations.iter().enumerate().map(sum).collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn log_probabilities_with_a_shared_prefix_equal_the_evaluation_reference() {
    let Some(folder) = parity_dir("lm_eval/model") else { return };
    let Some(expected) = parity_dir("lm_eval/expected") else { return };
    let (loaded, decoder) = load(&folder);
    let (mut worst, mut compared) = (0f64, 0);
    for file in ["openbookqa.jsonl", "hellaswag.jsonl"] {
        let Ok(text) = fs::read_to_string(expected.join(file)) else { continue };
        for line in text.lines().take(10) {
            let doc: Value = serde_json::from_str(line).unwrap();
            let context = tokens(&doc["context_ids"]);
            let choices = doc["choices"].as_array().unwrap();
            let continuations: Vec<_> = choices.iter().map(|choice| tokens(&choice["continuation_ids"])).collect();
            let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
            if context.is_empty() || context.len() + longest > loaded.config.max_position_embeddings {
                continue;
            }
            for (found, choice) in score(&decoder, &context, &continuations).into_iter().zip(choices) {
                let reference = choice["logprob"].as_f64().unwrap();
                let apart = (found - reference).abs();
                // The pack's tolerance.
                assert!(apart <= 1e-4 + 2e-6 * reference.abs(), "{file} {}: expected {reference}, found {found}", doc["doc_id"]);
                (worst, compared) = (worst.max(apart), compared + 1);
            }
        }
    }
    eprintln!("{compared} log-probabilities, largest deviation {worst:.2e}");
    assert!(compared > 0, "the pack holds no documents this test can read");
}

#[test]
fn the_published_story_model_tells_a_story() {
    let Some(folder) = data_dir("models/stories260K") else { return };
    let (loaded, decoder) = load(&folder);
    assert_eq!(loaded.params.num_params(), loaded.config.num_params().total);
    let options = GenerateOptions { max_new_tokens: 30, sampling: Sampling::Greedy };
    let found = generate(&decoder, &[vec![loaded.bos_token_id.unwrap()]], &options, |_, _| false).unwrap();
    let tokenizer: Value = serde_json::from_str(&fs::read_to_string(folder.join("tokenizer.json")).unwrap()).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
    let words: HashMap<u64, &str> = vocab.iter().map(|(word, id)| (id.as_u64().unwrap(), word.as_str())).collect();
    let text: String = found[0].iter().map(|id| words[&u64::from(*id)]).collect::<String>().replace('▁', " ");
    eprintln!("{text}");
    // What llama2.c prints for this checkpoint at temperature 0.
    assert!(text.trim_start().starts_with("Once upon a time, there was a little girl named"), "{text}");
}

#[test]
fn candle_transformers_llama_agrees_on_the_same_weights() {
    let config = DecoderConfig { head_dim: None, ..llama_form() };
    let (decoder, params) = build(&config, DType::F32);
    let Positions::Rotary { theta, .. } = config.positions else { panic!("the Llama form is rotary") };
    let reference_config = llama::Config {
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        vocab_size: config.vocab_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_key_value_heads,
        use_flash_attn: false,
        rms_norm_eps: config.norm_eps,
        rope_theta: theta as f32,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: config.max_position_embeddings,
        tie_word_embeddings: config.tie_word_embeddings,
    };
    let tensors: HashMap<String, Tensor> =
        params.vars().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect();
    let reference = llama::Llama::load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), &reference_config).unwrap();
    let inputs = ids(&config, 2, 12);
    let ours = decoder.forward(&inputs).unwrap();
    for length in [1, 5, 12] {
        // It returns the logits of the last position only.
        let mut cache = llama::Cache::new(false, DType::F32, &reference_config, &Device::Cpu).unwrap();
        let theirs = reference.forward(&inputs.narrow(1, 0, length).unwrap().contiguous().unwrap(), 0, &mut cache).unwrap();
        let apart = distance(&ours.narrow(1, length - 1, 1).unwrap().squeeze(1).unwrap(), &theirs);
        // Both f32; different orders of summation over values of order one.
        assert!(apart < 1e-5, "length {length}: {apart}");
    }
}
