//! Published folders: both config layouts, shards, GPT-2's matrices, and clear refusals. The folders are written here.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use models::pretrained::load_config;
use models::{DecoderConfig, Local, MlpKind, Positions, RotaryScaling, load_pretrained};
use serde_json::{Value, json};

use crate::networks::{build, distance, gpt_form, ids, llama_form};

fn llama_json() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 6, "vocab_size": 31, "max_position_embeddings": 24, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": false, "rope_theta": 10000.0, "torch_dtype": "bfloat16",
        "bos_token_id": 1, "eos_token_id": [2, 7]
    })
}

fn with(mut config: Value, changes: Value) -> Value {
    let changes = changes.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(changes);
    config
}

fn write_config(folder: &Path, config: &Value) {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn config_of(config: &Value) -> Result<DecoderConfig, String> {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), config);
    load_config(folder.path()).map_err(|error| error.to_string())
}

#[test]
fn both_config_layouts_give_the_same_network() {
    let four = llama_json();
    let mut five =
        with(llama_json(), json!({"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "dtype": "float32"}));
    for key in ["rope_theta", "torch_dtype"] {
        five.as_object_mut().unwrap().remove(key);
    }
    let expected = DecoderConfig { max_position_embeddings: 24, ..llama_form() };
    assert_eq!(config_of(&four).unwrap(), expected);
    assert_eq!(config_of(&five).unwrap(), expected);
}

#[test]
fn rotary_scaling_is_read_from_both_layouts() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 8192});
    let expected = Positions::Rotary {
        theta: 500_000.0,
        scaling: Some(RotaryScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        }),
    };
    let four = with(llama_json(), json!({"rope_theta": 500000.0, "rope_scaling": llama3}));
    assert_eq!(config_of(&four).unwrap().positions, expected);
    let five = with(llama_json(), json!({"rope_theta": null, "rope_parameters": with(llama3, json!({"rope_theta": 500000.0}))}));
    assert_eq!(config_of(&five).unwrap().positions, expected);
    let old = with(llama_json(), json!({"rope_scaling": {"type": "linear", "factor": 2.0}}));
    let linear = Positions::Rotary { theta: 10_000.0, scaling: Some(RotaryScaling::Linear { factor: 2.0 }) };
    assert_eq!(config_of(&old).unwrap().positions, linear);
}

#[test]
fn a_sliding_window_makes_layers_local() {
    let local = |layers: [bool; 3]| Some(Local { window: 10, layers: layers.to_vec(), theta: None });
    let mistral = with(llama_json(), json!({"model_type": "mistral", "sliding_window": 10}));
    assert_eq!(config_of(&mistral).unwrap().extras.local, local([true; 3]));
    let none = with(llama_json(), json!({"model_type": "mistral", "sliding_window": null}));
    assert_eq!(config_of(&none).unwrap().extras.local, None);
    let some = json!({"model_type": "qwen3", "sliding_window": 10, "use_sliding_window": true, "max_window_layers": 2});
    assert_eq!(config_of(&with(llama_json(), some)).unwrap().extras.local, local([false, false, true]));
    let qwen2 = with(llama_json(), json!({"model_type": "qwen2", "sliding_window": 10, "use_sliding_window": false}));
    let qwen2 = config_of(&qwen2).unwrap();
    assert_eq!((qwen2.max_position_embeddings, qwen2.attention_bias, qwen2.attention_output_bias), (24, true, false));
}

/// A Gemma file without the key was read as a network without local layers.
#[test]
fn gemmas_window_is_the_librarys_where_the_file_leaves_it_out() {
    let local = |changes: Value| config_of(&with(llama_json(), changes)).unwrap().extras.local;
    let gemma2 = |layers: &[bool]| Some(Local { window: 4096, layers: layers.to_vec(), theta: None });
    assert_eq!(local(json!({"model_type": "gemma2", "hidden_act": null})), gemma2(&[true, false, true]));
    assert_eq!(local(json!({"model_type": "gemma2", "hidden_act": null, "sliding_window": null})), None);
    let gemma3 = local(json!({"model_type": "gemma3_text", "hidden_act": null})).unwrap();
    assert_eq!((gemma3.window, gemma3.layers), (4096, vec![true; 3]));
}

#[test]
fn what_would_be_computed_differently_is_refused_by_name() {
    for (changes, parts) in [
        (json!({"model_type": "mamba"}), ["unsupported model_type: `mamba`", "gpt_neox, llama, mistral, qwen2, qwen3"]),
        (json!({"hidden_act": "gelu"}), ["hidden_act: expected `silu`", "found `gelu`"]),
        (json!({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}), ["rope_type", "found `longrope`"]),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "mscale": 1.0}}), ["mscale: expected nothing", "found 1"]),
        (json!({"model_type": "gemma3n"}), ["text_config: expected a table", "found nothing"]),
        (json!({"model_type": "gemma2", "hidden_activation": "relu"}), ["hidden_activation", "found `relu`"]),
        (json!({"hidden_size": null}), ["hidden_size: expected a whole number", "found nothing"]),
        (json!({"vocab_size": "many"}), ["vocab_size: expected a whole number", "found \"many\""]),
        (json!({"num_key_value_heads": 3}), ["config.json", "num_key_value_heads: expected a divisor"]),
    ] {
        let error = config_of(&with(llama_json(), changes)).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(load_config(folder.path()).unwrap_err().to_string().contains("config.json"));
    fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(load_config(folder.path()).unwrap_err().to_string().contains("not a JSON object"));
}

#[test]
fn shards_and_a_single_file_give_the_same_network() {
    let config = llama_form();
    let (decoder, params) = build(&config, DType::F32);
    let single = tempfile::tempdir().unwrap();
    write_config(single.path(), &llama_json());
    params.save(&single.path().join("model.safetensors")).unwrap();
    let loaded = load_pretrained(single.path(), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(loaded.params.digest().unwrap(), params.digest().unwrap());
    assert_eq!((loaded.bos_token_id, loaded.eos_token_ids.as_slice()), (Some(1), &[2, 7][..]));
    let inputs = ids(&config, 1, 5);
    assert_eq!(distance(&loaded.decoder().unwrap().forward(&inputs).unwrap(), &decoder.forward(&inputs).unwrap()), 0.0);

    let sharded = tempfile::tempdir().unwrap();
    write_config(sharded.path(), &llama_json());
    let mut shards: [HashMap<String, Tensor>; 2] = [HashMap::new(), HashMap::new()];
    let mut weight_map = serde_json::Map::new();
    for (i, (name, var)) in params.vars().into_iter().enumerate() {
        weight_map.insert(name.clone(), format!("shard-{}.safetensors", i % 2).into());
        shards[i % 2].insert(name, var.as_detached_tensor());
    }
    for (i, shard) in shards.iter().enumerate() {
        candle_core::safetensors::save(shard, sharded.path().join(format!("shard-{i}.safetensors"))).unwrap();
    }
    let index = sharded.path().join("model.safetensors.index.json");
    fs::write(&index, json!({ "weight_map": weight_map }).to_string()).unwrap();
    let loaded = load_pretrained(sharded.path(), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(loaded.params.digest().unwrap(), params.digest().unwrap());

    fs::write(&index, json!({"weight_map": {"a": "../elsewhere.safetensors"}}).to_string()).unwrap();
    let error = load_pretrained(sharded.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("without folders"), "{error}");
}

/// Our GPT form written with GPT-2's names and layouts.
fn gpt2_tensors(prefix: &str) -> (DecoderConfig, HashMap<String, Tensor>, models::ParamStore) {
    let config = DecoderConfig { head_bias: false, intermediate_size: 64, mlp: MlpKind::GeluTanh, ..gpt_form() };
    let (_, params) = build(&config, DType::F32);
    let get = |name: &str| params.get(name).unwrap().as_detached_tensor();
    let mut tensors = HashMap::new();
    let mut put = |name: String, tensor: Tensor| drop(tensors.insert(format!("{prefix}{name}"), tensor.contiguous().unwrap()));
    put("wte.weight".into(), get("model.embed_tokens.weight"));
    put("wpe.weight".into(), get("model.embed_positions.weight"));
    for end in ["weight", "bias"] {
        put(format!("ln_f.{end}"), get(&format!("model.norm.{end}")));
        for i in 0..config.num_layers() {
            let ours = |name: &str| get(&format!("model.layers.{i}.{name}.{end}"));
            let turn = |tensor: Tensor| if end == "weight" { tensor.t().unwrap() } else { tensor };
            put(format!("h.{i}.ln_1.{end}"), ours("input_layernorm"));
            put(format!("h.{i}.ln_2.{end}"), ours("post_attention_layernorm"));
            let qkv = ["q", "k", "v"].map(|part| turn(ours(&format!("self_attn.{part}_proj"))));
            let axis = qkv[0].rank() - 1;
            put(format!("h.{i}.attn.c_attn.{end}"), Tensor::cat(&qkv, axis).unwrap());
            put(format!("h.{i}.attn.c_proj.{end}"), turn(ours("self_attn.o_proj")));
            put(format!("h.{i}.mlp.c_fc.{end}"), turn(ours("mlp.up_proj")));
            put(format!("h.{i}.mlp.c_proj.{end}"), turn(ours("mlp.down_proj")));
        }
    }
    (config, tensors, params)
}

fn gpt2_json() -> Value {
    json!({"model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_inner": null, "n_layer": 3, "n_positions": 24,
           "vocab_size": 31, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "eos_token_id": 30})
}

#[test]
fn gpt2_matrices_are_split_and_turned_with_and_without_prefix() {
    for prefix in ["transformer.", ""] {
        let (config, mut tensors, params) = gpt2_tensors(prefix);
        // Masks that old files carry.
        tensors.insert(format!("{prefix}h.0.attn.bias"), Tensor::zeros((1, 1, 4, 4), DType::U8, &Device::Cpu).unwrap());
        let folder = tempfile::tempdir().unwrap();
        write_config(folder.path(), &gpt2_json());
        candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
        let loaded = load_pretrained(folder.path(), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(loaded.config, config);
        assert_eq!(loaded.params.digest().unwrap(), params.digest().unwrap());
        assert_eq!(loaded.eos_token_ids, [30]);
    }
}

#[test]
fn tensors_that_do_not_fit_are_all_listed_under_their_published_names() {
    let (_, mut tensors, _) = gpt2_tensors("");
    tensors.remove("h.1.mlp.c_fc.bias");
    tensors.insert("h.9.surprise".into(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    let turned = tensors["h.0.attn.c_attn.weight"].t().unwrap().contiguous().unwrap();
    tensors.insert("h.0.attn.c_attn.weight".into(), turned);
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &gpt2_json());
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    let error = load_pretrained(folder.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("missing (1): h.1.mlp.c_fc.bias"), "{error}");
    assert!(error.contains("unexpected (1): h.9.surprise"), "{error}");
    assert!(error.contains("h.0.attn.c_attn.weight: expected [16, 48], found [48, 16]"), "{error}");
}

#[test]
fn a_folder_without_weights_says_what_it_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &llama_json());
    let error = load_pretrained(folder.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("expected model.safetensors or model.safetensors.index.json, found neither"), "{error}");
}
