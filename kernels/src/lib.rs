//! Fast CPU primitives behind candle custom operations, forward and backward; the home of `unsafe`.
//!
//! Every differentiable operation exists twice: a fused one for f32 and mostly bf16 tensors on the CPU, re-exported here, and its
//! composed candle reference in [`plain`], which also serves every other dtype and device. A fused operation has the same signature,
//! the same formula and the same gradients as its reference; the tests hold them together.
//!
//! ```text
//! gemm/    matrix products of strided f32 operands, of operands rounded to bf16 or split in two, of few rows, of frozen weights
//!          packed once, a portable fallback
//! fused/   linear, norms, rotary, attention, activations, embedding, cross-entropy, low-rank residual, merge, AdamW, SGD;
//!          convolution, batch norm and pooling of images stored channels last
//! infer/   forward-only attention over a key-value cache, and of runs behind chains of shared pieces
//! numerics f32, f32-split or bf16 products
//! cpu      what the processor offers, which level the kernels run at, threads
//! tape     backward over fused operations without candle's gradient store
//! plain    the references
//! ```
//!
//! Results do not depend on the number of threads: work is cut at fixed sizes and reductions are added in a fixed order.
//! They do depend on the level ([`cpu::Level`]), because fused multiply-add rounds once where two operations round twice.
#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]
#![allow(clippy::inline_always, reason = "a helper takes the instruction level of the kernel it is inlined into")]

mod access;
mod check;
pub mod cpu;
mod element;
mod fused;
mod gemm;
pub mod infer;
mod numerics;
mod parallel;
pub mod plain;
mod simd;
mod stand_in;
mod tape;

pub use fused::{
    AdamWParams, BatchNorm, Conv2dConfig, Merge, PackedConv2d, SgdParams, adamw_step, add, add_relu, batch_norm_eval,
    batch_norm_train, cast, causal_attention, conv2d, conv2d_inference, cross_entropy, embedding, gelu_erf, gelu_tanh,
    global_avg_pool, grad_sq_norm, layer_norm, layer_norm_as, linear, linear_cross_entropy, linear_cross_entropy_in, linear_in,
    low_rank, max_pool2d, merge, rms_norm, rms_norm_as, rotary, sgd_step, silu, swiglu, token_nll,
};
pub use gemm::panel::{PackedWeight, linear_packed};
pub use infer::{AttentionRun, KvPiece, KvSlab, append_runs, attention_cached, attention_runs};
pub use numerics::Numerics;
pub use plain::IGNORED;
pub use tape::{Tape, reshape};
