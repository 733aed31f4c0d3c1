//! The sandbox where there is none: every way to make one says so.

use super::{Layers, SandboxError, SandboxOptions};
use std::convert::Infallible;
use std::path::Path;
use tasks::{Executor, Limits, Verdict};

/// Runs Python programs; on this operating system it cannot be made.
#[derive(Debug)]
pub struct PythonSandbox(Infallible);

impl PythonSandbox {
    /// Always an error.
    pub fn new() -> Result<Self, SandboxError> {
        Err(SandboxError::Unsupported(std::env::consts::OS))
    }

    /// Always an error.
    pub fn with_options(_options: SandboxOptions) -> Result<Self, SandboxError> {
        Self::new()
    }

    /// The programs' working folder.
    pub fn folder(&self) -> &Path {
        match self.0 {}
    }

    /// The layers that hold.
    pub fn layers(&self) -> &Layers {
        match self.0 {}
    }

    /// The real interpreter.
    pub fn interpreter(&self) -> &Path {
        match self.0 {}
    }

    /// The interpreter's version.
    pub fn python_version(&self) -> &str {
        match self.0 {}
    }

    /// Timeouts that were run a second time.
    pub fn retried_timeouts(&self) -> usize {
        match self.0 {}
    }
}

impl Executor for PythonSandbox {
    fn run(&mut self, _program: &str, _limits: &Limits) -> Verdict {
        match self.0 {}
    }
}

/// The launcher; nothing to launch here.
pub fn enter(_plan: &str) -> String {
    SandboxError::Unsupported(std::env::consts::OS).to_string()
}
