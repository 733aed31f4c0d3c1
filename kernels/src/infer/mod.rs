//! Forward-only operations for decoding: attention over a key-value cache.
mod attention;
mod slab;

pub use attention::attention_cached;
pub use slab::KvSlab;
