//! Networks that use `laurel`: decoder, ResNet, parameter store, generation, published checkpoints.
//!
//! ```text
//! config ── validate ──> Decoder::new(&config, store.var_builder())      names and shapes
//!                        decoder.init_weights(seed)   or  store.load(path)   values
//! train     decoder.loss(&ids, &targets)                                  differentiable
//! evaluate  Decoder::new(&config, store.freeze())                         detached: no graph is recorded
//!           decoder.forward_cached(&ids, &lens, &mut cache)                  a batch
//!           decoder.forward_runs(&mut runs)                                 packed sequences that share what came before
//! ```
//!
//! - [`params`]: every parameter by name, in name order; saving and strict loading
//! - [`decoder`]: the language model; [`resnet`]: the image network; [`config`]: the one list of families; [`cost`]: counts in
//!   closed form
//! - [`mod@generate`]: greedy and sampled continuation of a batch of prompts
//! - [`mod@fold`]: residual weights folded into the neighbouring matrices for inference
//! - [`pretrained`]: published checkpoint folders; [`tensor_file`]: reading safetensors without a second copy in memory;
//!   [`torch_file`]: reading `.pth` files
//!
//! It knows no tasks, records or clocks.

pub mod config;
pub mod cost;
pub mod decoder;
pub mod error;
pub mod fold;
pub mod gemma3n;
pub mod generate;
mod init;
mod layers;
pub mod params;
pub mod pretrained;
pub mod resnet;
pub mod tensor_file;
pub mod torch_file;

pub use config::{ImageModelConfig, ModelConfig};
pub use cost::{ForwardCost, InputShape, Model, ParamCount};
pub use decoder::{Decoder, DecoderConfig, Extras, KvCache, KvSegment, Local, MlpKind, NormKind, Positions, RotaryScaling, Run};
pub use error::ModelError;
pub use fold::{Folded, fold};
pub use generate::{GenerateOptions, Sampling, generate};
pub use params::ParamStore;
pub use pretrained::{Pretrained, load_pretrained};
pub use resnet::{Mode, ResNet, ResNetConfig, load_resnet};
