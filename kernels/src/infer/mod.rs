//! Forward-only operations for decoding: attention over a key-value cache, of batches and of trees of shared pieces.
mod attention;
mod runs;
mod slab;

pub use attention::attention_cached;
pub use runs::{AttentionRun, KvPiece, append_runs, attention_runs};
pub use slab::KvSlab;
