//! Decoder-only language model, Llama or GPT form, with LAuReL at the chosen additions.
//!
//! - [`config`](DecoderConfig): shape and options, presets, checks
//! - `attention`, `mlp`, `rotary`: what *f* is made of
//! - `block`: one layer, and where its result joins the stream; read this one first
//! - [`cache`](KvCache): keys and values for incremental decoding
//!
//! Parameter names are those of published Llama checkpoints, in the GPT form too:
//!
//! ```text
//! model.embed_tokens.weight            [V, D]        model.embed_positions.weight         [P, D]   GPT form
//! model.layers.{i}.input_layernorm.{weight,bias}     model.layers.{i}.post_attention_layernorm.{weight,bias}
//! model.layers.{i}.self_attn.{q,k,v,o}_proj.{weight,bias}
//! model.layers.{i}.mlp.{gate,up,down}_proj.{weight,bias}
//! model.layers.{i}.residual.*          (placement both: attention_residual.*, mlp_residual.*)
//! model.norm.{weight,bias}             lm_head.{weight,bias}
//! ```

mod attention;
mod block;
mod cache;
mod config;
mod mlp;
mod rotary;

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::VarBuilder;
use kernels::Numerics;
use laurel::{Needs, Residual, ResidualStream};

use self::attention::Context;
use self::block::Block;
pub use self::cache::KvCache;
pub use self::config::{DecoderConfig, MlpKind, NormKind, Positions, RotaryScaling};
use self::rotary::{Rotary, position_ids};
use crate::cost::{ForwardCost, InputShape, Model, ParamCount};
use crate::init::Distribution;
use crate::layers::{Embedding, Linear, Norm, Param};

/// Standard deviation of initial weights (Radford et al. 2019, and published Llama configs' `initializer_range`).
const INIT_STD: f64 = 0.02;

/// Maps the last activation to logits.
#[derive(Debug)]
enum Head {
    /// Shares the embedding table; an optional bias of its own.
    Tied { bias: Option<Param> },
    /// A matrix of its own.
    Untied(Linear),
}

/// A decoder-only language model; see the module for its parts and names.
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    embed_tokens: Embedding,
    embed_positions: Option<Embedding>,
    layers: Vec<Block>,
    norm: Norm,
    head: Head,
    rotary: Option<Rotary>,
    needs: Needs,
    numerics: Numerics,
}

impl Decoder {
    /// Builds names and shapes; values come from [`Self::init_weights`] or a checkpoint.
    ///
    /// # Errors
    /// When the config is invalid, or a tensor behind `vb` is missing or of another shape.
    pub fn new(config: &DecoderConfig, vb: VarBuilder<'_>) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let model = vb.pp("model");
        let hidden = config.hidden_size;
        let embed_tokens = Embedding::new(config.vocab_size, hidden, &model.pp("embed_tokens"))?;
        let embed_positions = match config.positions {
            Positions::Rotary { .. } => None,
            Positions::Learned {} => Some(Embedding::new(config.max_position_embeddings, hidden, &model.pp("embed_positions"))?),
        };
        let layers = (0..config.num_layers())
            .map(|layer| Block::new(config, layer, &model.pp(format!("layers.{layer}"))))
            .collect::<Result<Vec<_>>>()?;
        let head = vb.pp("lm_head");
        let head = if config.tie_word_embeddings {
            let bias = config.head_bias.then(|| Param::new(config.vocab_size, "bias", &head)).transpose()?;
            Head::Tied { bias }
        } else {
            Head::Untied(Linear::new(hidden, config.vocab_size, config.head_bias, &head)?)
        };
        let needs = layers.iter().map(|layer| layer.sites().needs()).fold(Needs::default(), Needs::union);
        Ok(Self {
            config: config.clone(),
            embed_tokens,
            embed_positions,
            layers,
            norm: Norm::new(config.norm, hidden, config.norm_eps, &model.pp("norm"))?,
            head,
            rotary: Rotary::new(config, vb.dtype(), vb.device())?,
            needs,
            numerics: Numerics::F32,
        })
    }

    /// The same network with products in the given numerics; a new one computes in f32.
    ///
    /// With [`Numerics::Bf16`] the activations between products are bf16 while the residual stream is f32.
    #[must_use]
    pub fn with_numerics(self, numerics: Numerics) -> Self {
        Self { numerics, ..self }
    }

    /// How products are computed.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// Fills every parameter in place from generators keyed by (seed, parameter name).
    ///
    /// | parameters | start |
    /// |---|---|
    /// | `embed_tokens`, `embed_positions`, `lm_head.weight` | normal, std 0.02 |
    /// | `q_proj`, `k_proj`, `v_proj`, `gate_proj`, `up_proj` weights | normal, std 0.02 |
    /// | `o_proj`, `down_proj` weights, which write to the stream | normal, std 0.02 / √(2·`num_hidden_layers`) |
    /// | norm weights | 1 |
    /// | all biases | 0 |
    /// | residual parameters | [`laurel::init`] |
    ///
    /// The same seed gives `plain` and every variant the same values for the parameters they share.
    ///
    /// # Errors
    /// When the network was built on frozen tensors.
    pub fn init_weights(&self, seed: u64) -> Result<()> {
        let output_std = INIT_STD / ((2 * self.config.num_hidden_layers) as f64).sqrt();
        self.embed_tokens.init(INIT_STD, seed)?;
        if let Some(positions) = &self.embed_positions {
            positions.init(INIT_STD, seed)?;
        }
        for layer in &self.layers {
            layer.init(INIT_STD, output_std, seed)?;
        }
        self.norm.init(seed)?;
        match &self.head {
            Head::Tied { bias } => bias.as_ref().map_or(Ok(()), |bias| bias.init(Distribution::Constant(0.0), seed)),
            Head::Untied(linear) => linear.init(INIT_STD, seed),
        }
    }

    /// The config it was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Every residual connection in the order in which they write to the stream, plain ones included.
    pub fn residuals(&self) -> Vec<&Residual> {
        self.layers.iter().flat_map(|layer| layer.sites().residuals()).collect()
    }

    /// Type of the activations.
    pub fn dtype(&self) -> DType {
        self.embed_tokens.table().dtype()
    }

    /// Device of the parameters.
    pub fn device(&self) -> &Device {
        self.embed_tokens.table().device()
    }

    /// u32 ids `[B, T]` to logits `[B, T, V]`; differentiable.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.logits(&self.hidden(ids)?)
    }

    /// u32 ids `[B, T]` to the final, normed activations `[B, T, D]`; differentiable.
    ///
    /// # Errors
    /// When T exceeds `max_position_embeddings`.
    pub fn hidden(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, new_tok) = ids.dims2()?;
        if new_tok > self.config.max_position_embeddings {
            bail!(
                "forward: expected at most {} positions (max_position_embeddings), found {new_tok}",
                self.config.max_position_embeddings
            );
        }
        self.run(ids, &vec![0; batch], None)
    }

    /// Activations `[.., D]` to logits `[.., V]`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        match &self.head {
            Head::Tied { bias } => {
                kernels::linear_in(self.numerics, hidden, self.embed_tokens.table(), bias.as_ref().map(Param::tensor))
            }
            Head::Untied(linear) => linear.forward(hidden, self.numerics),
        }
    }

    /// Mean cross-entropy of `targets` (u32 `[B, T]`, `u32::MAX` where ignored) in nats per token, a scalar;
    /// differentiable. The logits are never kept as a whole.
    pub fn loss(&self, ids: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let rows = kernels::reshape(&self.hidden(ids)?, (ids.elem_count(), self.config.hidden_size))?; // [B·T, D]
        let (weight, bias) = match &self.head {
            Head::Tied { bias } => (self.embed_tokens.table(), bias.as_ref().map(Param::tensor)),
            Head::Untied(linear) => linear.parts(),
        };
        kernels::linear_cross_entropy_in(self.numerics, &rows, weight, bias, &targets.flatten_all()?)
    }

    /// Runs new tokens behind what `cache` holds and appends them to it; forward only.
    ///
    /// - `ids`: u32 `[B, T]`, right-padded; `lens[b]` of row b's are valid (0 is allowed: the row stands still).
    /// - Returns the final, normed activations `[B, T, D]`; those of padding are meaningless.
    /// - Rows may differ in their cached lengths. Any variant: the residual's history needs no cache.
    ///
    /// # Errors
    /// When rows or lengths do not fit, or a row would exceed `max_position_embeddings`; the cache's lengths are then
    /// unchanged.
    pub fn forward_cached(&self, ids: &Tensor, lens: &[usize], cache: &mut KvCache) -> Result<Tensor> {
        let (batch, new_tok) = ids.dims2()?;
        cache.check(batch, new_tok, lens)?;
        let past = cache.lengths().to_vec();
        let hidden = self.run(ids, &past, Some(cache))?;
        cache.advance(lens);
        Ok(hidden)
    }

    fn run(&self, ids: &Tensor, past: &[usize], mut cache: Option<&mut KvCache>) -> Result<Tensor> {
        let (batch, new_tok) = ids.dims2()?;
        let rotation = self.rotary.as_ref().map(|rotary| rotary.at(past, new_tok)).transpose()?;
        let rows: Vec<usize> = (0..batch).collect();
        let mut stream = ResidualStream::start(self.embed(ids, past)?, self.needs); // [B, T, D]
        for (i, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| cache.layer(i, &rows, past));
            layer.forward(&mut stream, &mut Context { rotation: rotation.as_ref(), cache, numerics: self.numerics })?;
        }
        self.norm.forward(&stream.finish()?, self.numerics)
    }

    fn embed(&self, ids: &Tensor, past: &[usize]) -> Result<Tensor> {
        let mut tokens = self.embed_tokens.forward(ids)?; // [B, T, D]
        if self.numerics == Numerics::Bf16 {
            tokens = kernels::cast(&tokens, DType::F32)?; // the stream, also of a network whose parameters are bf16
        }
        let Some(table) = &self.embed_positions else { return Ok(tokens) };
        let positions = position_ids(past, ids.dim(1)?, self.config.max_position_embeddings, ids.device())?;
        kernels::add(&tokens, &table.forward(&positions)?)
    }
}

impl Model for Decoder {
    fn num_params(&self) -> ParamCount {
        self.config.num_params()
    }

    fn cost(&self, shape: &InputShape) -> ForwardCost {
        self.config.cost(shape)
    }
}
