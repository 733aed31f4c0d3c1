//! Names and layouts of published checkpoints, as sources of our parameters.
//!
//! | family | differs from ours in |
//! |---|---|
//! | Llama form, Qwen | nothing |
//! | GPT-2 | words, an optional prefix, matrices stored `[in, out]`, queries, keys and values side by side: `[D, 3D]` |
//! | GPT-NeoX | words; queries, keys and values of each head below each other: `[H·3·d, D]`; rotation of the first dimensions only |
//! | Gemma 2, 3 | norms are stored as `weight − 1` and named by what they follow |
//! | Gemma 3n | as Gemma 2, norms as they are; the LAuReL block's maps are stored `[out, in]` |
//!
//! Where only the first R dimensions of a head turn, the rows of queries and keys are put in the order `0..R/2, R..R+e/2, R/2..R,
//! R+e/2..` (e the rest): pairs then lie half a head apart as everywhere, and scores do not change.

use candle_core::{Result, Tensor};

use super::config::Published;

/// Names of output matrices.
pub(super) const HEADS: [&str; 4] =
    ["lm_head.weight", "embed_out.weight", "language_model.lm_head.weight", "model.lm_head.weight"];

/// Where one of our parameters comes from.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) tensor: String,
    /// Stored `[in, out]`: turn it.
    transposed: bool,
    /// Which third of the last axis of a fused tensor.
    third: Option<usize>,
    /// Rows of a fused tensor, all of which are stored: which, of how many.
    rows: Option<(Vec<u32>, usize)>,
    /// Added to every value.
    offset: f64,
}

impl Source {
    fn named(tensor: impl Into<String>) -> Self {
        Self { tensor: tensor.into(), ..Self::default() }
    }

    /// Shape in the file of a parameter that has shape `ours`.
    pub(super) fn stored_shape(&self, ours: &[usize]) -> Vec<usize> {
        let mut shape = ours.to_vec();
        if self.transposed {
            shape.reverse();
        }
        if let (Some(_), Some(last)) = (self.third, shape.last_mut()) {
            *last *= 3;
        }
        if let (Some((_, stored)), Some(first)) = (&self.rows, shape.first_mut()) {
            *first = *stored;
        }
        shape
    }

    /// The stored tensor as our parameter of shape `ours`.
    pub(super) fn as_ours(&self, tensor: &Tensor, ours: &[usize]) -> Result<Tensor> {
        let mut tensor = tensor.clone();
        if let Some(third) = self.third {
            let axis = tensor.rank() - 1;
            let width = tensor.dim(axis)? / 3;
            tensor = tensor.narrow(axis, third * width, width)?;
        }
        if let Some((rows, _)) = &self.rows {
            tensor = tensor.index_select(&Tensor::new(rows.as_slice(), tensor.device())?, 0)?;
        }
        if self.transposed {
            tensor = tensor.t()?;
        }
        if self.offset != 0.0 {
            tensor = (tensor + self.offset)?;
        }
        debug_assert_eq!(tensor.dims(), ours);
        tensor.contiguous()
    }
}

/// How one checkpoint names its tensors.
#[derive(Debug)]
pub(super) struct Names<'a> {
    published: &'a Published,
    /// Before the names of the network without its head.
    prefix: &'static str,
    head: &'static str,
}

impl<'a> Names<'a> {
    /// `has` says whether the files hold a tensor.
    pub(super) fn new(published: &'a Published, has: &dyn Fn(&str) -> bool) -> Self {
        let (prefixes, embedding): (&[&str], _) = match published.model_type.as_str() {
            "gpt2" => (&["transformer.", ""], "wte.weight"),
            "gpt_neox" => (&["gpt_neox.", ""], "embed_in.weight"),
            // Multimodal files keep the text network apart.
            _ => (&["model.", "model.language_model.", "language_model.model.", ""], "embed_tokens.weight"),
        };
        let found = |prefix: &&&'static str| has(&format!("{prefix}{embedding}"));
        Self {
            published,
            prefix: prefixes.iter().find(found).unwrap_or(&prefixes[0]),
            head: HEADS.into_iter().find(|name| has(name)).unwrap_or(HEADS[0]),
        }
    }

    /// Parts of multimodal files that a text network does not have, and tensors that published files carry without use.
    pub(super) fn is_ignored(&self, name: &str) -> bool {
        const OTHER_MODALITIES: [&str; 5] =
            ["vision_tower.", "audio_tower.", "embed_vision.", "embed_audio.", "multi_modal_projector."];
        let of_prefix = name.strip_prefix("model.").unwrap_or(name);
        if self.published.is_multimodal && OTHER_MODALITIES.iter().any(|part| of_prefix.starts_with(part)) {
            return true;
        }
        // Layers that read an earlier layer's keys and values are published with maps of their own.
        let config = &self.published.config;
        let layer = name.strip_prefix(self.prefix).and_then(|rest| rest.strip_prefix("layers."));
        let Some((layer, part)) = layer.and_then(|rest| rest.split_once('.')) else { return false };
        let shares =
            layer.parse().is_ok_and(|layer: usize| layer < config.num_layers() && config.key_value_layer(layer) != layer);
        shares
            && ["self_attn.k_proj.", "self_attn.v_proj.", "self_attn.k_norm.", "self_attn.v_norm."]
                .iter()
                .any(|n| part.starts_with(n))
    }

    /// The source of the parameter that we call `name`.
    pub(super) fn source(&self, name: &str) -> Source {
        if name == "lm_head.weight" {
            return Source::named(self.head);
        }
        let Some(inner) = name.strip_prefix("model.") else { return Source::named(name) };
        let mut source = match self.published.model_type.as_str() {
            "gpt2" => gpt2(inner),
            "gpt_neox" => self.gpt_neox(inner),
            kind if kind.starts_with("gemma") => gemma(inner, kind == "gemma3n_text"),
            _ => Source::named(inner),
        };
        source.tensor.insert_str(0, self.prefix);
        source
    }

    fn gpt_neox(&self, name: &str) -> Source {
        let Some((layer, rest)) = layer_part(name) else {
            return Source::named(name.replace("embed_tokens.", "embed_in.").replacen("norm.", "final_layer_norm.", 1));
        };
        let words: Vec<&str> = rest.split('.').collect();
        let (module, part) = match words[..] {
            ["self_attn", "q_proj", _] => ("attention.query_key_value", Some(0)),
            ["self_attn", "k_proj", _] => ("attention.query_key_value", Some(1)),
            ["self_attn", "v_proj", _] => ("attention.query_key_value", Some(2)),
            ["self_attn", "o_proj", _] => ("attention.dense", None),
            ["mlp", "up_proj", _] => ("mlp.dense_h_to_4h", None),
            ["mlp", "down_proj", _] => ("mlp.dense_4h_to_h", None),
            _ => return Source::named(name),
        };
        let end = words.last().copied().unwrap_or_default();
        let rows = part.map(|part| self.fused_rows(part));
        Source { tensor: format!("layers.{layer}.{module}.{end}"), rows, ..Source::default() }
    }

    /// Rows of `[H, 3, d]` that are queries (0), keys (1) or values (2), in the order described above.
    fn fused_rows(&self, part: usize) -> (Vec<u32>, usize) {
        let config = &self.published.config;
        let (heads, d) = (config.num_attention_heads, config.head_dim());
        let turned = config.extras.rotary_dim.filter(|_| part < 2).unwrap_or(d);
        let middle = turned + (d - turned) / 2;
        let order = (0..turned / 2).chain(turned..middle).chain(turned / 2..turned).chain(middle..d);
        let order: Vec<usize> = order.collect();
        let rows = (0..heads).flat_map(|head| order.iter().map(move |at| ((head * 3 + part) * d + at) as u32)).collect();
        (rows, heads * 3 * d)
    }
}

/// Layer and the rest of `layers.{i}.{rest}`.
fn layer_part(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("layers.")?.split_once('.')
}

fn gpt2(name: &str) -> Source {
    let Some((layer, rest)) = layer_part(name) else {
        let name = name.replace("embed_tokens.", "wte.").replace("embed_positions.", "wpe.");
        return Source::named(name.replacen("norm.", "ln_f.", 1));
    };
    let (module, end) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let (module, third) = match module {
        "input_layernorm" => ("ln_1", None),
        "post_attention_layernorm" => ("ln_2", None),
        "self_attn.q_proj" => ("attn.c_attn", Some(0)),
        "self_attn.k_proj" => ("attn.c_attn", Some(1)),
        "self_attn.v_proj" => ("attn.c_attn", Some(2)),
        "self_attn.o_proj" => ("attn.c_proj", None),
        "mlp.up_proj" => ("mlp.c_fc", None),
        "mlp.down_proj" => ("mlp.c_proj", None),
        other => (other, None),
    };
    let transposed = end == "weight" && !module.starts_with("ln_");
    Source { tensor: format!("h.{layer}.{module}.{end}"), transposed, third, ..Source::default() }
}

fn gemma(name: &str, is_3n: bool) -> Source {
    let published = match layer_part(name) {
        None => name.to_owned(),
        Some((layer, rest)) => {
            // Our names say what a norm precedes, Gemma's what it follows.
            let rest = match rest {
                "attention_output_norm.weight" => "post_attention_layernorm.weight",
                "post_attention_layernorm.weight" => "pre_feedforward_layernorm.weight",
                "mlp_output_norm.weight" => "post_feedforward_layernorm.weight",
                "laurel.gemma3n.down" => "laurel.linear_left.weight",
                "laurel.gemma3n.up" => "laurel.linear_right.weight",
                "laurel.gemma3n.norm" => "laurel.post_laurel_norm.weight",
                other => other,
            };
            format!("layers.{layer}.{rest}")
        }
    };
    let offset = if !is_3n && published.ends_with("norm.weight") { 1.0 } else { 0.0 };
    let transposed = published.contains(".laurel.linear_");
    Source { tensor: published, transposed, offset, ..Source::default() }
}
