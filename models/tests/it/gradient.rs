//! Gradients of a whole network in f64 against central differences.

use candle_core::{DType, Tensor};
use laurel::{Placement, ResidualConfig};
use models::DecoderConfig;
use models::pretrained::load_config;

use crate::networks::{build, fixtures, gpt_form, ids, llama_form, values};

/// Step of the central difference; its error is about h² ≈ 1e-10 and the rounding of the loss divided by h about 1e-11.
const STEP: f64 = 1e-5;

fn check(config: &DecoderConfig, parameters: &[&str]) {
    let (decoder, params) = build(config, DType::F64);
    let (inputs, targets) = (ids(config, 2, 5), ids(config, 2, 5));
    let loss = || decoder.loss(&inputs, &targets).unwrap();
    let gradients = loss().backward().unwrap();
    for name in parameters {
        let var = params.get(name).unwrap_or_else(|| panic!("no parameter {name}"));
        let analytic = values(gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("no gradient for {name}")));
        let start = values(&var);
        for at in [0, start.len() / 2, start.len() - 1] {
            let moved = |step: f64| {
                let mut changed = start.clone();
                changed[at] += step;
                params.set(name, &Tensor::from_vec(changed, var.dims(), var.device()).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            params.set(name, &Tensor::from_vec(start.clone(), var.dims(), var.device()).unwrap()).unwrap();
            let tolerance = 1e-8 + 1e-6 * numeric.abs();
            assert!((analytic[at] - numeric).abs() < tolerance, "{name}[{at}]: expected {numeric}, found {}", analytic[at]);
        }
    }
}

fn residual(placement: Placement) -> ResidualConfig {
    ResidualConfig { placement, ..ResidualConfig::preset("rw+lr+pa", 3, 3).unwrap() }
}

#[test]
fn llama_form_with_everything_per_layer() {
    check(
        &llama_form().with_residual(residual(Placement::Layer)),
        &[
            "model.embed_tokens.weight",
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.1.self_attn.v_proj.weight",
            "model.layers.2.mlp.gate_proj.weight",
            "model.layers.1.input_layernorm.weight",
            "model.layers.0.residual.mix.a",
            "model.layers.2.residual.mix.b",
            "model.layers.2.residual.previous.gamma",
            "model.layers.2.residual.previous.down.2",
            "model.layers.2.residual.previous.up.1",
            "model.norm.weight",
            "lm_head.weight",
        ],
    );
}

#[test]
fn gpt_form_with_everything_at_both_additions() {
    check(
        &gpt_form().with_residual(residual(Placement::Both)),
        &[
            "model.embed_tokens.weight",
            "model.embed_positions.weight",
            "model.layers.0.self_attn.k_proj.weight",
            "model.layers.1.self_attn.o_proj.bias",
            "model.layers.2.mlp.up_proj.bias",
            "model.layers.0.post_attention_layernorm.bias",
            "model.layers.1.attention_residual.mix.a",
            "model.layers.1.mlp_residual.previous.gamma",
            "model.layers.2.attention_residual.previous.down.0",
            "lm_head.bias",
        ],
    );
}

#[test]
fn gemma_block_reads_the_normed_input() {
    let residual = ResidualConfig::preset("gemma3n", 3, 3).unwrap();
    check(
        &llama_form().with_residual(residual),
        &[
            "model.layers.1.residual.gemma3n.down",
            "model.layers.1.residual.gemma3n.up",
            "model.layers.1.residual.gemma3n.norm",
            "model.layers.1.input_layernorm.weight",
        ],
    );
}

#[test]
fn windows_caps_and_streams_of_published_families() {
    let config = |family: &str| load_config(fixtures().iter().find(|folder| folder.ends_with(family)).unwrap()).unwrap();
    check(
        &DecoderConfig { tie_word_embeddings: false, ..config("gemma2") },
        &[
            "model.embed_tokens.weight",
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.1.self_attn.k_proj.weight",
            "model.layers.0.attention_output_norm.weight",
            "model.layers.2.mlp.gate_proj.weight",
        ],
    );
    check(
        &config("gemma3n_text"),
        &[
            "model.embed_tokens_per_layer.weight",
            "model.layers.1.self_attn.v_proj.weight",
            "model.layers.0.self_attn.k_norm.weight",
            "model.layers.0.laurel.gemma3n.down",
            "model.layers.0.altup.prediction_coefs.weight",
            "model.layers.3.altup.modality_router.weight",
            "model.layers.0.mlp.gate_proj.weight",
            "model.altup_unembed_projections.0.weight",
        ],
    );
    check(&config("gpt_neox"), &["model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"]);
}
