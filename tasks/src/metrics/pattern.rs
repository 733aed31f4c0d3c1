//! Regular expressions with Python's meaning, for patterns that come from the reference's task files.
//!
//! The two languages agree but for a few classes, which are rewritten before compiling:
//! ```text
//! $    at the end, or before a newline at the end       (?=\n?\z)
//! \Z   at the end                                       \z
//! \w   letters, numbers, _ (no combining marks)         [\p{L}\p{N}_]
//! \b   an edge of such a word                           look-around
//! \s   White_Space and U+001C..U+001F                   [\s\x1c-\x1f]
//! ```
//! `\d`, `.`, laziness and leftmost-first alternation are the same. Patterns with `(?m)` are not rewritten at `$`.
//!
//! Source: Python 3.11 `re` documentation; docs of the `regex` and `fancy-regex` crates.

use super::MetricError;
use fancy_regex::Regex;

/// Python's word characters, to stand inside a class.
const WORD: &str = r"\p{L}\p{N}_";
const WORD_EDGE: &str = r"(?:(?<=[\p{L}\p{N}_])(?![\p{L}\p{N}_])|(?<![\p{L}\p{N}_])(?=[\p{L}\p{N}_]))";

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    what: &'static str,
    regex: Regex,
}

impl Pattern {
    /// Compiles a Python pattern; `what` names its place in error messages.
    ///
    /// # Errors
    /// When the pattern does not compile.
    pub fn new(what: &'static str, pattern: &str) -> Result<Self, MetricError> {
        match Regex::new(&translate(pattern)) {
            Ok(regex) => Ok(Self { source: pattern.to_owned(), what, regex }),
            Err(e) => Err(MetricError::Pattern { what, pattern: pattern.to_owned(), reason: e.to_string() }),
        }
    }

    /// The pattern as given.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    fn run_error(&self, error: &fancy_regex::Error) -> MetricError {
        MetricError::Pattern { what: self.what, pattern: self.source.clone(), reason: error.to_string() }
    }

    /// `re.sub(pattern, "", text)`.
    ///
    /// # Errors
    /// When the engine gives up (backtracking limit).
    pub fn delete_all(&self, text: &str) -> Result<String, MetricError> {
        let mut out = String::with_capacity(text.len());
        let mut end = 0;
        for found in self.regex.find_iter(text) {
            let found = found.map_err(|e| self.run_error(&e))?;
            out.push_str(&text[end..found.start()]);
            end = found.end();
        }
        out.push_str(&text[end..]);
        Ok(out)
    }

    /// `re.findall(pattern, text)`: per match its groups, a group that took no part as the empty text; the whole match when there are no groups.
    ///
    /// # Errors
    /// When the engine gives up (backtracking limit).
    pub fn find_all<'t>(&self, text: &'t str) -> Result<Vec<Vec<&'t str>>, MetricError> {
        let groups = self.regex.captures_len();
        let first = usize::from(groups > 1);
        let mut all = Vec::new();
        for captures in self.regex.captures_iter(text) {
            let captures = captures.map_err(|e| self.run_error(&e))?;
            all.push((first..groups).map(|i| captures.get(i).map_or("", |m| m.as_str())).collect());
        }
        Ok(all)
    }
}

/// Python syntax to the engine's.
fn translate(pattern: &str) -> String {
    let multiline = pattern.contains("(?m") || pattern.contains("(?im") || pattern.contains("(?sm");
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut in_class = false;
    let mut class_start = false; // a `]` right after `[` or `[^` is a member
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let starts = std::mem::take(&mut class_start);
        match c {
            '\\' => {
                let Some(escaped) = chars.next() else {
                    out.push('\\'); // the engine reports the dangling backslash
                    break;
                };
                match (escaped, in_class) {
                    ('Z', false) => out.push_str(r"\z"),
                    ('s', false) => out.push_str(r"[\s\x1c-\x1f]"),
                    ('s', true) => out.push_str(r"\s\x1c-\x1f"),
                    ('w', false) => out.extend(["[", WORD, "]"]),
                    ('w', true) => out.push_str(WORD),
                    ('W', false) => out.extend(["[^", WORD, "]"]),
                    ('b', false) => out.push_str(WORD_EDGE),
                    _ => out.extend(['\\', escaped]),
                }
            }
            '[' if !in_class => {
                in_class = true;
                class_start = true;
                out.push('[');
            }
            '^' if starts => {
                class_start = true;
                out.push('^');
            }
            ']' if in_class && starts => out.push_str(r"\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', c]), // set operations to the engine, plain characters to Python
            '$' if !in_class && !multiline => out.push_str(r"(?=\n?\z)"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(pattern: &str, text: &str) -> String {
        Pattern::new("test", pattern).unwrap().delete_all(text).unwrap()
    }

    /// Expected values from `re.sub` of CPython 3.11.
    #[test]
    fn deletes_as_python_does() {
        assert_eq!(delete(r"\.$", "5."), "5");
        assert_eq!(delete(r"\.$", "5.\n"), "5\n"); // `$` stands before the last newline
        assert_eq!(delete(r"\$", "$5$"), "5");
        assert_eq!(delete(r"(?s).*#### ", "a\nb #### 5"), "5");
        assert_eq!(delete(r"[][&]", "a[b]&c"), "abc");
        assert_eq!(delete(r"\bcm\b", "3 cm cm\u{301} acm"), "3  \u{301} acm");
        assert_eq!(delete(r"\s", "a\u{1c}b"), "ab");
    }

    #[test]
    fn finds_groups_as_python_does() {
        let flexible = Pattern::new("test", r"(-?[$0-9.,]{2,})|(-?[0-9]+)").unwrap();
        assert_eq!(flexible.find_all("a 7 and 12").unwrap(), [["", "7"], ["12", ""]]);
        assert_eq!(Pattern::new("test", "[0-9]").unwrap().find_all("1 2").unwrap(), [["1"], ["2"]]);
    }

    #[test]
    fn a_broken_pattern_says_where() {
        let error = Pattern::new("filter", "(a").unwrap_err().to_string();
        assert!(error.starts_with("filter: invalid pattern `(a`: "), "{error}");
    }
}
