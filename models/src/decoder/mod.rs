//! Decoder-only language model, Llama or GPT form, with LAuReL at the chosen additions.
//!
//! - [`config`](DecoderConfig): shape and options, presets, checks
//! - `attention`, `mlp`, `rotary`: what *f* is made of
//! - `block`: one layer, and where its result joins the stream; read this one first
//! - [`cache`](KvCache): keys and values for incremental decoding of a batch
//! - [`runs`](Run): the same for packed runs of tokens that share what came before them
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

pub(crate) mod attention;
mod block;
mod cache;
mod config;
mod extras;
mod masked;
pub(crate) mod mlp;
mod rotary;
mod runs;

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::VarBuilder;
use kernels::{Numerics, PackedWeight};
use laurel::{Needs, Residual, ResidualStream};

use self::attention::{Cached, Context};
use self::block::Block;
pub use self::cache::KvCache;
pub use self::config::{DecoderConfig, MlpKind, NormKind, Positions, RotaryScaling};
pub use self::extras::{Extras, Local};
use self::rotary::{Rotary, position_ids};
pub use self::runs::{KvSegment, Run};
use crate::cost::{ForwardCost, InputShape, Model, ParamCount};
use crate::gemma3n::Gemma3nBody;
use crate::init::Distribution;
use crate::layers::{Embedding, Linear, Norm, Param};

/// Standard deviation of initial weights (Radford et al. 2019, and published Llama configs' `initializer_range`).
const INIT_STD: f64 = 0.02;

/// Maps the last activation to logits.
#[derive(Debug)]
enum Head {
    /// Shares the embedding table; an optional bias of its own.
    Tied { bias: Option<Param>, packed: Option<PackedWeight> },
    /// A matrix of its own.
    Untied(Linear),
}

/// What lies between embedding and final norm.
#[derive(Debug)]
enum Body {
    /// Layers around one residual stream.
    Stream { layers: Vec<Block>, needs: Needs },
    /// Gemma 3n: several streams.
    Gemma3n(Box<Gemma3nBody>),
}

/// A decoder-only language model; see the module for its parts and names.
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    embed_tokens: Embedding,
    embed_positions: Option<Embedding>,
    body: Body,
    norm: Norm,
    head: Head,
    rotary: Option<Rotary>,
    local_rotary: Option<Rotary>,
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
        let body = if let Some(gemma3n) = &config.extras.gemma3n {
            Body::Gemma3n(Box::new(Gemma3nBody::new(config, gemma3n, &model)?))
        } else {
            let layers = (0..config.num_layers())
                .map(|layer| Block::new(config, layer, &model.pp(format!("layers.{layer}"))))
                .collect::<Result<Vec<_>>>()?;
            let needs = layers.iter().map(|layer| layer.sites().needs()).fold(Needs::default(), Needs::union);
            Body::Stream { layers, needs }
        };
        let head = vb.pp("lm_head");
        let head = if config.tie_word_embeddings {
            let bias = config.head_bias.then(|| Param::new(config.vocab_size, "bias", &head)).transpose()?;
            Head::Tied { bias, packed: None }
        } else {
            Head::Untied(Linear::new(hidden, config.vocab_size, config.head_bias, &head)?)
        };
        Ok(Self {
            config: config.clone(),
            embed_tokens,
            embed_positions,
            body,
            norm: Norm::new(config.norm, hidden, config.norm_eps, &model.pp("norm"))?,
            head,
            rotary: Rotary::new(config, vb.dtype(), vb.device())?,
            local_rotary: Rotary::local(config, vb.dtype(), vb.device())?,
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
        match &self.body {
            Body::Stream { layers, .. } => layers.iter().try_for_each(|layer| layer.init(INIT_STD, output_std, seed))?,
            Body::Gemma3n(body) => body.init(INIT_STD, output_std, seed)?,
        }
        self.norm.init(seed)?;
        match &self.head {
            Head::Tied { bias, .. } => bias.as_ref().map_or(Ok(()), |bias| bias.init(Distribution::Constant(0.0), seed)),
            Head::Untied(linear) => linear.init(INIT_STD, seed),
        }
    }

    /// The same network for inference alone: frozen f32 matrices on the CPU are brought into the order in which products read them, in place of the
    /// tensors (a tied table is kept beside its copy). Anything else stays as it is. What a row of a product gives then depends on no other row.
    ///
    /// # Errors
    /// When memory for a matrix cannot be had.
    pub fn packed(mut self) -> Result<Self> {
        if let Body::Stream { layers, .. } = &mut self.body {
            layers.iter_mut().try_for_each(Block::pack)?;
        }
        match &mut self.head {
            Head::Tied { packed, .. } => *packed = PackedWeight::new(self.embed_tokens.table())?,
            Head::Untied(linear) => linear.pack()?,
        }
        Ok(self)
    }

    /// The config it was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Every residual connection in the order in which they write to the stream, plain ones included.
    pub fn residuals(&self) -> Vec<&Residual> {
        match &self.body {
            Body::Stream { layers, .. } => layers.iter().flat_map(|layer| layer.sites().residuals()).collect(),
            Body::Gemma3n(body) => body.residuals(),
        }
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
        let logits = match &self.head {
            Head::Tied { bias, packed } => {
                let bias = bias.as_ref().map(Param::tensor);
                match packed {
                    Some(packed) => kernels::linear_packed(hidden, packed, bias)?,
                    None => kernels::linear_in(self.numerics, hidden, self.embed_tokens.table(), bias)?,
                }
            }
            Head::Untied(linear) => linear.forward(hidden, self.numerics)?,
        };
        match self.config.extras.logit_softcap {
            Some(cap) => (logits / cap)?.tanh()? * cap,
            None => Ok(logits),
        }
    }

    /// Mean cross-entropy of `targets` (u32 `[B, T]`, `u32::MAX` where ignored) in nats per token, a scalar;
    /// differentiable. The logits are never kept as a whole, unless they are capped.
    pub fn loss(&self, ids: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let rows = kernels::reshape(&self.hidden(ids)?, (ids.elem_count(), self.config.hidden_size))?; // [B·T, D]
        if self.config.extras.logit_softcap.is_some() {
            return kernels::cross_entropy(&self.logits(&rows)?, &targets.flatten_all()?);
        }
        let (weight, bias) = match &self.head {
            Head::Tied { bias, .. } => (self.embed_tokens.table(), bias.as_ref().map(Param::tensor)),
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

    fn run(&self, ids: &Tensor, past: &[usize], cache: Option<&mut KvCache>) -> Result<Tensor> {
        let new_tok = ids.dim(1)?;
        let rotation = self.rotary.as_ref().map(|rotary| rotary.at(past, new_tok)).transpose()?;
        let local_rotation = self.local_rotary.as_ref().map(|rotary| rotary.at(past, new_tok)).transpose()?;
        let positions = position_ids(past, new_tok, self.config.max_position_embeddings, ids.device())?;
        let mut pass = cache.map(|cache| cache.pass(past));
        let mut context = Context {
            rotation: rotation.as_ref(),
            local_rotation: local_rotation.as_ref(),
            cache: pass.as_mut().map(|pass| pass as &mut dyn Cached),
            shared: Vec::new(),
            numerics: self.numerics,
        };
        self.through_layers(ids, &positions, &mut context)
    }

    /// Ids and positions `[B, T]` to the final, normed activations `[B, T, D]`.
    fn through_layers(&self, ids: &Tensor, positions: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let embedded = self.embed(ids, positions)?;
        let last = match &self.body {
            Body::Stream { layers, needs } => {
                let mut stream = ResidualStream::start(embedded, *needs);
                for layer in layers {
                    layer.forward(&mut stream, context)?;
                }
                stream.finish()?
            }
            Body::Gemma3n(body) => body.forward(ids, embedded, context)?,
        };
        self.norm.forward(&last, self.numerics)
    }

    /// Ids and positions `[B, T]` to the first activations `[B, T, D]`.
    fn embed(&self, ids: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let mut tokens = self.embed_tokens.forward(ids)?; // [B, T, D]
        if self.numerics == Numerics::Bf16 {
            tokens = kernels::cast(&tokens, DType::F32)?; // the stream, also of a network whose parameters are bf16
        }
        if let Some(scale) = self.config.extras.embedding_scale {
            tokens = (tokens * scale)?;
        }
        match &self.embed_positions {
            Some(table) => kernels::add(&tokens, &table.forward(positions)?),
            None => Ok(tokens),
        }
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
