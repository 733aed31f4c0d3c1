//! Operations that do in one pass what candle composes of several, each with its backward.
//!
//! Each checks its shapes, hands anything but f32 (and, where its page says so, bf16) on the CPU to [`crate::plain`], makes its
//! arguments contiguous and applies one candle custom operation. Gradients that nobody needs (`track_op` false) are not returned.
mod activation;
mod attention;
mod batch_norm;
mod cast;
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
pub use batch_norm::{BatchNorm, add, add_relu, batch_norm_eval, batch_norm_train};
pub use cast::cast;
pub use conv::{Conv2dConfig, PackedConv2d, conv2d, conv2d_inference};
pub use cross_entropy::{cross_entropy, linear_cross_entropy, linear_cross_entropy_in, token_nll};
pub use embedding::embedding;
pub use linear::{linear, linear_in};
pub use low_rank::low_rank;
pub use merge::{Merge, merge};
pub use norm::{layer_norm, layer_norm_as, rms_norm, rms_norm_as};
pub use optimizer::{AdamWParams, adamw_step, grad_sq_norm};
pub use pool::{global_avg_pool, max_pool2d};
pub use rotary::rotary;
pub use sgd::{SgdParams, sgd_step};
