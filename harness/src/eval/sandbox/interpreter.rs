//! The real interpreter: `python3` on PATH may be a shim or a link, and the sandbox has to name the files it lets be read.
//!
//! The interpreter is asked for its own path, its prefix, its version and the files mapped into it (its loader and libraries).

use std::path::{Path, PathBuf};
use std::process::Command;

use super::SandboxError;

/// Prints one fact a line: path, prefix, version, then the mapped files.
const QUESTION: &str = r#"
import os, sys
print(os.path.realpath(sys.executable))
print(os.path.realpath(sys.base_prefix))
print("%d.%d.%d" % sys.version_info[:3])
mapped = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line}
for path in sorted(mapped):
    print(path)
"#;

/// Folders of shared libraries and what the loader reads; those that do not exist are left out later.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];

/// Devices that programs expect.
const DEVICES: [&str; 2] = ["/dev/null", "/dev/urandom"];

/// Oldest version with audit hooks.
const OLDEST: (u32, u32) = (3, 8);

/// An interpreter that can be confined.
#[derive(Debug, Clone)]
pub(super) struct Interpreter {
    /// The real program.
    pub(super) path: PathBuf,
    /// `major.minor.patch`.
    pub(super) version: String,
    /// The program and the files that are mapped when it starts.
    pub(super) executable: Vec<PathBuf>,
    /// Its library, the system's libraries, two devices.
    pub(super) readable: Vec<PathBuf>,
}

impl Interpreter {
    /// Asks `python`, a name on PATH or a path.
    ///
    /// # Errors
    /// When it cannot be started, does not answer as Python 3 does, or is too old.
    pub(super) fn find(python: &Path) -> Result<Self, SandboxError> {
        let none = |reason: String| SandboxError::NoInterpreter { python: python.display().to_string(), reason };
        let output =
            Command::new(python).args(["-I", "-S", "-B", "-c", QUESTION]).output().map_err(|error| none(error.to_string()))?;
        let (answer, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut lines = answer.lines().map(str::to_owned);
        let (Some(path), Some(prefix), Some(version)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(none(format!("{}: {}", output.status, complaint.trim())));
        };
        if !new_enough(&version) {
            return Err(SandboxError::TooOld { python: path, version });
        }
        let path = PathBuf::from(path);
        let executable = std::iter::once(path.clone()).chain(lines.map(PathBuf::from).filter(|file| file.is_file())).collect();
        let prefix = PathBuf::from(prefix);
        let mut readable = vec![prefix.join("lib"), prefix.join("lib64")];
        readable.extend(LIBRARIES.iter().chain(&DEVICES).map(PathBuf::from));
        Ok(Self { path, version, executable, readable })
    }
}

fn new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if major == 3 && (major, minor) >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(new_enough("3.8.0"));
        assert!(new_enough("3.14.1"));
        assert!(!new_enough("3.7.16"));
        assert!(!new_enough("2.7.18"));
        assert!(!new_enough("three"));
    }

    #[test]
    fn an_absent_interpreter_is_named() {
        let error = Interpreter::find(Path::new("no-such-python")).unwrap_err();
        assert!(error.to_string().contains("`no-such-python`: expected a Python interpreter"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_python_is_no_interpreter() {
        // `true` answers nothing, whatever it is asked
        let error = Interpreter::find(Path::new("true")).unwrap_err();
        assert!(matches!(error, SandboxError::NoInterpreter { .. }), "{error}");
    }
}
