//! Operations that do in one pass what candle composes of several, each with its backward.
//!
//! Each checks its shapes, hands anything but f32 on the CPU to [`crate::plain`], makes its arguments contiguous and applies one
//! candle custom operation. Gradients that nobody needs (`track_op` false) are not returned.
mod activation;
mod attention;
mod batch_norm;
mod conv;
mod cross_entropy;
mod embedding;
mod linear;
mod low_rank;
mod merge;
mod norm;
mod optimizer;
mod pool;
mod rotary;
mod sgd;

pub use activation::{gelu_erf, gelu_tanh, silu, swiglu};
pub use attention::causal_attention;
pub(crate) use attention::softmax_rows;
pub use batch_norm::{add_relu, batch_norm_eval, batch_norm_train};
pub use conv::{Conv2dConfig, PackedConv2d, conv2d, conv2d_inference};
pub use cross_entropy::{cross_entropy, linear_cross_entropy, token_nll};
pub use embedding::embedding;
pub use linear::linear;
pub use low_rank::{low_rank, low_rank_add};
pub use merge::{add, merge};
pub use norm::{layer_norm, rms_norm};
pub use optimizer::{AdamWParams, adamw_step, grad_sq_norm};
pub use pool::{global_avg_pool, max_pool2d};
pub use rotary::rotary;
pub use sgd::{SgdParams, sgd_step};
