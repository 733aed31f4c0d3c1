//! Hints on errors, and how an error chain is shown to people.
//!
//! ```text
//! error: cannot start run `lm-tiny-rw+lr`
//!   caused by: configs/train/lm-tiny-rw+lr.toml: model.residual.augment[0].rank: expected 1..=256, found 512
//! hint: the paper recommends ranks from 32 to 64 for language models
//! ```
//!
//! A hint travels with the error it belongs to, so any layer may add context above it.

use std::fmt::{self, Write as _};

/// An error with advice attached; displays as the error itself, the advice is printed after the chain.
#[derive(Debug)]
pub struct Hinted {
    source: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

/// Adds `hint:` lines to an error or to the error of a result.
pub trait Hint {
    /// What [`Hint::hint`] gives back.
    type Output;

    /// Attaches one line of advice, shown after the chain of causes.
    fn hint(self, text: impl Into<String>) -> Self::Output;
}

impl Hint for anyhow::Error {
    type Output = Self;

    fn hint(self, text: impl Into<String>) -> Self {
        Self::new(Hinted { source: self, hint: text.into() })
    }
}

impl<T, E: Into<anyhow::Error>> Hint for Result<T, E> {
    type Output = anyhow::Result<T>;

    fn hint(self, text: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| error.into().hint(text))
    }
}

/// The whole chain as printed to people: `error:`, then `caused by:` lines, then `hint:` lines.
pub fn render(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut hints = Vec::new();
    let mut last = String::new();
    for cause in error.chain() {
        collect_hints(cause, &mut hints);
        let message = cause.to_string();
        // Wrapper types often repeat their source; the same sentence twice teaches nothing.
        if message == last {
            continue;
        }
        let prefix = if last.is_empty() { "error" } else { "  caused by" };
        let _ = writeln!(text, "{prefix}: {}", message.trim_end());
        last = message;
    }
    for hint in hints {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// The error of type `T` in a chain, also below hints.
pub fn find<T: std::error::Error + Send + Sync + 'static>(error: &anyhow::Error) -> Option<&T> {
    error.chain().find_map(|cause| {
        cause.downcast_ref::<T>().or_else(|| cause.downcast_ref::<Hinted>().and_then(|hinted| find(&hinted.source)))
    })
}

fn collect_hints(cause: &(dyn std::error::Error + 'static), hints: &mut Vec<String>) {
    if let Some(hinted) = cause.downcast_ref::<Hinted>() {
        hints.push(hinted.hint.clone());
        // A hinted error may wrap another hinted error, which the chain does not visit again.
        if let Some(inner) = hinted.source.downcast_ref::<Hinted>() {
            collect_hints(inner, hints);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn chain_is_printed_outermost_first_with_hints_last() {
        let error = anyhow!("rank: expected 1..=256, found 512").hint("use 32").context("cannot start run `a`");
        assert_eq!(render(&error), "error: cannot start run `a`\n  caused by: rank: expected 1..=256, found 512\nhint: use 32\n");
    }

    #[test]
    fn hints_of_hinted_errors_are_all_shown() {
        let error = anyhow!("bottom").context("middle").hint("inner").hint("outer");
        assert_eq!(render(&error), "error: middle\n  caused by: bottom\nhint: outer\nhint: inner\n");
    }

    #[test]
    fn an_error_is_found_below_context_and_hints() {
        let error = anyhow::Error::new(std::io::Error::other("disk")).hint("one").context("middle").hint("two").context("top");
        assert_eq!(find::<std::io::Error>(&error).map(ToString::to_string).as_deref(), Some("disk"));
        assert!(find::<std::fmt::Error>(&error).is_none());
    }

    #[test]
    fn a_hint_on_a_result_survives_context() {
        let failed: Result<(), std::io::Error> = Err(std::io::Error::other("disk"));
        let error = failed.hint("free some space").context("cannot write").unwrap_err();
        assert_eq!(render(&error), "error: cannot write\n  caused by: disk\nhint: free some space\n");
    }
}
