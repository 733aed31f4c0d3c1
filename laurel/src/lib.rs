//! LAuReL, the learned augmented residual layer, for candle.
//!
//! A residual network adds what a block computed to what it was given. LAuReL learns that addition:
//!
//! ```text
//! plain      x_{i+1} =     f(x_i) + x_i
//! LAuReL     x_{i+1} = α · f(x_i) + g(x_i, x_{i-1}, …, x_0)                    g linear in its arguments
//!
//! this crate x_{i+1} = α · f(x_i) + β · (x_i + Σ terms)
//! ```
//!
//! `α`, `β` come from a [`MixKind`]; each term is one [`Augment`]. Every variant of the paper is a choice of the two:
//!
//! | preset | mix | terms | added parameters per instance |
//! |---|---|---|---|
//! | `plain` | none | – | 0 |
//! | `rw` | scalars | – | 2 (`sigmoid1`: 1) |
//! | `rw-vec` | per channel | – | 2D |
//! | `lr` | none | `(x·down)·up` | 2rD |
//! | `pa` | none | `Σ_j γ_j x_{i-j}` | k |
//! | `pa-shared` | none | `Σ_j γ_j (x_{i-j}·down)·up` | 2rD + k |
//! | `lr+pa` | none | `Σ_j γ_j (x_{i-j}·down_j)·up_j` | 2rkD + k |
//! | `rw+lr` | scalars | as `lr` | 2rD + 2 |
//! | `rw+pa` | scalars | as `pa` | k + 2 |
//! | `rw+lr+pa` | scalars | as `lr+pa` (lag 0 is the LR part) | 2rkD + k + 2 |
//! | `gemma3n` | 1/√2 each | `n + rms((n·down)·up)`, n the normed input | 2rD + D |
//!
//! Put it into a candle model by keeping the activations in a [`ResidualStream`] and letting a [`Residual`] merge each block's output:
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use candle_nn::{Linear, Module, VarBuilder, VarMap, linear_no_bias};
//! use laurel::{FeatureAxis, Needs, Residual, ResidualConfig, ResidualStream};
//!
//! struct Net { blocks: Vec<(Linear, Residual)>, needs: Needs }
//!
//! fn net(vb: VarBuilder) -> Result<Net> {
//!     let config = ResidualConfig::preset("rw+lr+pa", 2, 3).expect("a known preset");
//!     let block = |i: usize| {
//!         let vb = vb.pp(format!("blocks.{i}"));
//!         Ok((linear_no_bias(8, 8, vb.pp("linear"))?, Residual::new(&config, 8, FeatureAxis::Last, vb.pp("residual"))?))
//!     };
//!     let blocks = (0..4).map(block).collect::<Result<Vec<_>>>()?;
//!     let needs = blocks.iter().map(|(_, residual)| residual.needs()).fold(Needs::default(), Needs::union);
//!     Ok(Net { blocks, needs })
//! }
//!
//! fn forward(net: &Net, x: Tensor) -> Result<Tensor> {
//!     let mut stream = ResidualStream::start(x, net.needs);
//!     for (linear, residual) in &net.blocks {
//!         let fx = linear.forward(&stream.read(residual)?)?.tanh()?;
//!         stream.write(residual, &fx)?;
//!     }
//!     stream.finish()
//! }
//!
//! # fn main() -> Result<()> {
//! let variables = VarMap::new();
//! let net = net(VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
//! for (_, residual) in &net.blocks {
//!     residual.init(0)?; // each parameter from (seed, its name)
//! }
//! assert_eq!(forward(&net, Tensor::ones((1, 3, 8), DType::F32, &Device::Cpu)?)?.dims(), [1, 3, 8]);
//! # Ok(())
//! # }
//! ```
//!
//! Source: Menghani, Kumar, Kumar, "LAuReL: Learned Augmented Residual Layer", ICML 2025, arXiv 2411.07501.

pub mod augment;
pub mod config;
pub mod cost;
pub mod init;
pub mod mix;
pub mod residual;
pub mod stream;

pub use augment::Augment;
pub use config::{
    AugmentConfig, ConfigError, DownInit, LagMap, MissingLag, MixConfig, MixKind, PRESETS, Placement, PostNorm, ResidualConfig,
};
pub use cost::Cost;
pub use mix::Mix;
pub use residual::{FeatureAxis, Residual, is_scalar_parameter};
pub use stream::{Needs, ResidualStream};
