//! One layer of Gemma 3n: AltUp around attention, LAuReL block and MLP, then the per-layer embedding (formulas: [`super`]).

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use laurel::{FeatureAxis, Placement, Residual, ResidualConfig, ResidualStream};

use super::Gemma3nConfig;
use super::altup::AltUp;
use crate::decoder::attention::{Attention, Context};
use crate::decoder::mlp::Mlp;
use crate::decoder::{DecoderConfig, NormKind};
use crate::layers::{Linear, Norm};

#[derive(Debug)]
pub(super) struct Layer {
    altup: AltUp,
    input_layernorm: Norm,
    self_attn: Attention,
    attention_output_norm: Norm,
    laurel: Residual,
    post_attention_layernorm: Norm,
    mlp: Mlp,
    mlp_output_norm: Norm,
    per_layer_input_gate: Linear,
    per_layer_projection: Linear,
    post_per_layer_input_norm: Norm,
    active: usize,
}

impl Layer {
    pub(super) fn new(decoder: &DecoderConfig, config: &Gemma3nConfig, layer: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, per_layer) = (decoder.hidden_size, config.per_layer_size);
        let norm = |name: &str| Norm::new(NormKind::Rms, hidden, decoder.norm_eps, &vb.pp(name));
        let Some(block) = ResidualConfig::preset("gemma3n", config.laurel_rank, 1) else { bail!("no residual preset `gemma3n`") };
        let block = ResidualConfig { placement: Placement::Attention, ..block };
        Ok(Self {
            altup: AltUp::new(decoder, config, &vb.pp("altup"))?,
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::new(decoder, layer, &vb.pp("self_attn"))?,
            attention_output_norm: norm("attention_output_norm")?,
            laurel: Residual::new(&block, hidden, FeatureAxis::Last, vb.pp("laurel"))?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp::new(decoder, &vb.pp("mlp"))?.with_sparsity(config.sparsity[layer]),
            mlp_output_norm: norm("mlp_output_norm")?,
            per_layer_input_gate: Linear::new(hidden, per_layer, false, &vb.pp("per_layer_input_gate"))?,
            per_layer_projection: Linear::new(per_layer, hidden, false, &vb.pp("per_layer_projection"))?,
            post_per_layer_input_norm: norm("post_per_layer_input_norm")?,
            active: config.altup_active,
        })
    }

    /// M streams `[B, T, D]` and this layer's per-layer embedding `[B, T, P]` to M streams.
    pub(super) fn forward(&self, streams: Vec<Tensor>, per_layer: &Tensor, context: &mut Context<'_>) -> Result<Vec<Tensor>> {
        let numerics = context.numerics;
        let predictions = self.altup.predict(&streams)?;
        let x = &predictions[self.active];
        let wide = |y: Tensor| y.to_dtype(x.dtype());

        let normed = self.input_layernorm.forward(x, numerics)?;
        let mut stream = ResidualStream::start(x.clone(), self.laurel.needs());
        stream.observe(&wide(normed.clone())?);
        let a = self.attention_output_norm.forward(&self.self_attn.forward(&normed, context)?, numerics)?;
        stream.write(&self.laurel, &wide(a)?)?;
        let y = stream.finish()?;

        let m = self.mlp.forward(&self.post_attention_layernorm.forward(&y, numerics)?, numerics)?;
        let z = (&y + wide(self.mlp_output_norm.forward(&m, numerics)?)?)?;
        let mut streams = self.altup.correct(&predictions, &z)?;

        let gate = self.per_layer_input_gate.forward(&self.altup.scaled(&streams[self.active])?, numerics)?;
        let gated = (wide(kernels::gelu_tanh(&gate)?)? * per_layer)?;
        let added = self.per_layer_projection.forward(&gated, numerics)?;
        let added = wide(self.post_per_layer_input_norm.forward(&added, numerics)?)?;
        for stream in &mut streams[1..] {
            *stream = (&*stream + &added)?;
        }
        Ok(streams)
    }

    pub(super) fn residual(&self) -> &Residual {
        &self.laurel
    }

    pub(super) fn init(&self, std: f64, output_std: f64, seed: u64) -> Result<()> {
        self.altup.init(std, seed)?;
        for norm in [
            &self.input_layernorm,
            &self.attention_output_norm,
            &self.post_attention_layernorm,
            &self.mlp_output_norm,
            &self.post_per_layer_input_norm,
        ] {
            norm.init(seed)?;
        }
        self.self_attn.init(std, output_std, seed)?;
        self.laurel.init(seed)?;
        self.mlp.init(std, output_std, seed)?;
        self.per_layer_input_gate.init(std, seed)?;
        self.per_layer_projection.init(std, seed)
    }
}
