//! Running programs that a model wrote: the system's Python, confined by the kernel, judged by a protocol the program cannot forge.
//!
//! ```text
//! PythonSandbox ── spawn ──> harness __sandbox ── namespaces, limits, landlock, seccomp ── execve ──> python -c bootstrap.py
//!      │  <── report of the layers, `R`, then the token or a letter ── socket ── source, token ──>         │ exec(program)
//!      └─ standard output and error, capped; wall clock; SIGKILL                                           └─ only then: token
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `parent.rs` | [`PythonSandbox`]: one attempt, batches, the retry of timeouts that the machine's load may have caused |
//! | `verdict.rs` | what came back, to a [`tasks::Verdict`] |
//! | `interpreter.rs` | the real interpreter behind `python3` and the files it needs |
//! | `protocol.rs` | the launcher's orders and its report |
//! | `child.rs` | the launcher: the layers in their order, then `execve` |
//! | `files.rs`, `filter.rs` | the landlock rules; the list of system calls |
//! | `system.rs` | the system calls that need `unsafe` |
//! | `bootstrap.py` | runs the program inside the interpreter and hands over the token after its end |
//!
//! What it does not do. Names and sizes of files can be seen (landlock does not cover `stat`), their contents cannot. A program that
//! searches its own interpreter's memory for the token cannot be excluded within one process; the usual ways there (frames, the garbage
//! collector, `ctypes`, a tracer that jumps over the checks) are closed. A program may always fool its tests, for example by an object that
//! equals everything: it then ends without an exception, which is what the references score too.
//!
//! Source: `tasks.md` 7.9 of the specification for the contract; landlock(7), seccomp(2), user_namespaces(7) for the layers.

#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod interpreter;
#[cfg(target_os = "linux")]
mod parent;
mod protocol;
#[cfg(target_os = "linux")]
mod system;
#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(target_os = "linux")]
mod verdict;

#[cfg(target_os = "linux")]
pub use child::enter;
#[cfg(target_os = "linux")]
pub use parent::PythonSandbox;
pub use protocol::Layers;
#[cfg(not(target_os = "linux"))]
pub use unsupported::{PythonSandbox, enter};

use std::path::PathBuf;

/// Settings of a [`PythonSandbox`].
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// The interpreter's name on `PATH`, or its path. A shim is fine: it is asked where the real one is.
    pub python: PathBuf,
    /// The program whose `__sandbox` subcommand confines itself: this one, unless the caller is a test.
    pub launcher: PathBuf,
    /// Run even when landlock is not enforced. The other layers stay. Must have been typed by the user.
    pub unsafe_exec: bool,
    /// Most programs at once in a batch; wall-clock limits mean little above the number of cores.
    pub parallel: usize,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            python: "python3".into(),
            // Not the path of the program: a rebuild during a long run would replace it by one that may not understand our orders.
            launcher: "/proc/self/exe".into(),
            unsafe_exec: false,
            parallel: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Why no program can be run. Tasks that need programs are then reported as not run, never as 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// No interpreter answers to the name.
    #[error("cannot run generated programs: `{python}`: expected a Python interpreter (3.8 or newer), found none: {reason}")]
    NoInterpreter {
        /// Name or path that was tried.
        python: String,
        /// What the system said.
        reason: String,
    },
    /// The interpreter lacks what the verdict's protection needs (audit hooks).
    #[error("cannot run generated programs: `{python}`: expected Python 3.8 or newer, found {version}")]
    TooOld {
        /// The interpreter.
        python: String,
        /// Its version.
        version: String,
    },
    /// A layer that must hold does not, or the confined interpreter does not start.
    #[error("cannot run generated programs in isolation: {reason}")]
    NotConfined {
        /// Which layer, and what the system said.
        reason: String,
    },
    /// The private working folder could not be made.
    #[error("cannot run generated programs: no private folder")]
    Folder(#[source] std::io::Error),
    /// There is no sandbox for this operating system.
    #[error("cannot run generated programs: expected Linux (landlock, seccomp), found {0}")]
    Unsupported(&'static str),
}
