//! Evaluation: tasks asked of models, answers in order, scores with their error bars.
//!
//! ```text
//! tasks::prepare ─ requests ─> adapter ─ encode ─> cache? ─ prefix tree, batches ─> decoder ─> responses ─> Task::score ─> results
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | a model folder, loaded |
//! | [`encode`] | texts to tokens: what conditions, what is scored, what is cut |
//! | [`prefix_tree`] | what several requests share is computed once |
//! | [`score`] | log-likelihoods in batches of bounded size |
//! | [`generation`] | texts up to a stop string |
//! | [`cache`] | answers that survive a kill |
//! | [`memory`] | what fits into `--max-memory` |
//! | [`adapter`] | all of it behind `tasks::LanguageModel` |
//! | [`chat`] | prompts as turns, by the model's template |
//! | [`runner`] | one task on one model |
//! | [`sandbox`] | programs that a model wrote, run in isolation |
//! | [`suite`] | subjects, folders and tasks from their names |
//! | [`vision`] | pictures instead of texts |
//! | [`results`] | results as JSON, samples, rows |
//! | [`files`] | the folder they are written to |
//! | [`shards`] | parts of an evaluation, joined again |
//! | [`verify`] | this build against stored answers of the reference harness |

pub mod adapter;
pub mod cache;
pub mod chat;
pub mod encode;
pub mod files;
pub mod generation;
pub mod memory;
pub mod model;
pub mod prefix_tree;
pub mod results;
pub mod runner;
pub mod sandbox;
pub mod score;
pub mod shards;
pub mod suite;
pub mod verify;
pub mod vision;

pub use adapter::{AnswerOptions, Evaluator};
pub use cache::ResponseCache;
pub use model::LoadedModel;
pub use score::{Budget, Softmax};
