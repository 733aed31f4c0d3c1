#![allow(missing_docs, reason = "a test binary")]
//! Integration tests of `laurel`: one binary, a module per kind of proof.

mod contract;
mod gradient;
mod parity;
mod support;
