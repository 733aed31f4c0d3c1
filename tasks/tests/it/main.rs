//! Integration tests of the crate, one binary.

mod bundled;
mod data_folder;
mod definitions;
mod fewshot;
mod lm_eval_parity;
mod metrics_parity;
mod packs;
mod prompts;
mod scoring;
