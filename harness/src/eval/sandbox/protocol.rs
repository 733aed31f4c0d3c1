//! What parent and launcher say to each other.
//!
//! ```text
//! argv of the launcher: Plan as JSON
//! socket, to the program:   length of the source (8 hexadecimal digits), source (UTF-8), token (32 bytes)
//! socket, from the program: Report as one line of JSON (launcher), `R` (bootstrap), then token | letter
//! ```
//! The order protects the failures: whatever the launcher reports comes before `R`, whatever the program writes comes after, so a program
//! cannot pass itself off as one that was not run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Orders of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// The real interpreter.
    pub(super) interpreter: PathBuf,
    /// Files that may be executed: the interpreter and what the kernel and loader map for it.
    pub(super) executable: Vec<PathBuf>,
    /// Files and folders that may be read.
    pub(super) readable: Vec<PathBuf>,
    /// Address space, bytes.
    pub(super) memory_bytes: u64,
    /// Processor time, seconds.
    pub(super) cpu_s: u64,
    /// Process whose death ends the program.
    pub(super) parent: u32,
    /// Go on when landlock is not enforced.
    pub(super) unsafe_exec: bool,
}

/// What the launcher says before it becomes the interpreter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The layers are up.
    Confined(Layers),
    /// Nothing was run, and why.
    Failed(String),
}

/// The layers that hold, as `doctor` shows them and results record them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Own user, network, IPC and host-name namespaces. Refused by some kernels and containers; landlock and seccomp do without.
    pub namespaces: bool,
    /// Enforced landlock ABI; nothing when landlock is not enforced.
    pub landlock_abi: Option<u32>,
    /// System calls are limited to the list of `filter.rs`.
    pub seccomp: bool,
    /// Limits on memory, processor time, file size, descriptors.
    pub rlimits: bool,
    /// The limit on the number of threads holds. The kernel exempts root from it; threads are then bounded by memory and time.
    pub thread_limit: bool,
    /// No capability can be gained, by root neither.
    pub capabilities_dropped: bool,
}

impl std::fmt::Display for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.landlock_abi {
            Some(abi) => write!(f, "landlock ABI {abi}")?,
            None => write!(f, "NO LANDLOCK")?,
        }
        for (holds, name) in [
            (self.seccomp, "seccomp"),
            (self.rlimits, "rlimits"),
            (self.thread_limit, "thread limit"),
            (self.capabilities_dropped, "no capabilities"),
            (self.namespaces, "namespaces"),
        ] {
            if holds {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}
