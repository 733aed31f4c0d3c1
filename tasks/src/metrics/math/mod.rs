//! MATH: taking the answer out of a solution, normal forms, and equivalence.
//!
//! ```text
//! reference A (hendrycks_math)   exact_match = hendrycks normal forms equal                                   hendrycks.rs
//! reference B (minerva_math)     math_exact  = minerva normal forms equal and not empty: a lower bound        minerva.rs
//!                                math_equiv  = math_exact, or the two are equal as exact expressions          equiv.rs, exact.rs
//! ```
//! The reference B calls a computer algebra system; ours decides a subset exactly and calls everything else different, so neither number is named
//! `exact_match`. Unit: fraction; higher is better; the only error is a solution without a box.
//!
//! Source: Hendrycks et al. 2021 (arXiv:2103.03874); Lewkowycz et al. 2022 (arXiv:2206.14858) appendix D; lm-evaluation-harness 0.4.13.

mod boxed;
mod equiv;
mod exact;
pub mod hendrycks;
pub mod minerva;

pub use boxed::{gold_answer, last_boxed, remove_boxed};
pub use equiv::{math_equiv, math_exact};
