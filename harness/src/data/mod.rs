//! Data for training and evaluation. Text: files -> documents -> tokens -> windows in a reproducible order.
//!
//! ```text
//! file (.txt | .jsonl, also .gz, .zst) --source--> documents --tokenizer--> token stream (cached) --windows--> [B, T] inputs, targets
//! ```
//! - [`images`]: labelled pictures. - [`hub`]: data sets and models of the Hugging Face hub.
//! - [`source`]: reading files, hashing files. - [`tokenizer`]: any `tokenizer.json`. - [`tokens`]: the stream and its cache.
//! - [`windows`]: which window stands where in which batch. - [`verify`]: files against the SHA-256 of a manifest.

pub mod hub;
pub mod images;
pub mod source;
pub mod tokenizer;
pub mod tokens;
pub mod verify;
pub mod windows;

pub use tokenizer::Tokenizer;
pub use tokens::{Tokens, load_tokens};
pub use windows::Windows;
