//! Reference B: answer extraction and normal form of the Minerva paper, as of `minerva_math` 3.1.
//!
//! ```text
//! extraction   first match of  Final Answer: The final answer is(.*?). I hope it is correct.   in completion + "I hope it is correct."
//! normal form  after the last `=`; unit words deleted; substitutions; expressions deleted; content of $…$, \text, \textbf, \overline, \boxed;
//!              \fracab -> \frac{a}{b}, \sqrtX -> \sqrt{X}; `$` deleted; commas deleted when the whole is a number with thousands commas
//! ```
//! The extraction does not cross a newline, and the appended sentence stands in for a missing one only where a character and a space end the text.
//!
//! Source: Lewkowycz et al. 2022 (arXiv:2206.14858) appendix D; lm-evaluation-harness 0.4.13 `minerva_math/utils.py`.

use crate::metrics::text;
use regex::Regex;
use std::sync::LazyLock;

/// What an output without a final answer is compared as.
pub const INVALID: &str = "[invalidanswer]";

const SUBSTITUTIONS: [(&str, &str); 10] = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
];

const REMOVED: [&str; 40] = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "ft",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
];
/// The end of the same list; apart only because it follows `{,}` there.
const REMOVED_LAST: [&str; 2] = ["\"", "\\dots"];

fn literal(pattern: &str) -> Regex {
    Regex::new(pattern).expect("pattern is a literal")
}

static FINAL_ANSWER: LazyLock<Regex> = LazyLock::new(|| literal("Final Answer: The final answer is(.*?). I hope it is correct."));
static COMMAND: LazyLock<Regex> = LazyLock::new(|| literal(r"\\[a-zA-Z]+"));
static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| literal(r"\A-?\d{1,3}(?:,\d{3})+\z"));
static REWRITES: LazyLock<[(Regex, &str); 8]> = LazyLock::new(|| {
    [
        (r"(.*?)(\$)(.*?)(\$)(.*)", "$$${3}$$"),
        (r"(\\text\{)(.*?)(\})", "${2}"),
        (r"(\\textbf\{)(.*?)(\})", "${2}"),
        (r"(\\overline\{)(.*?)(\})", "${2}"),
        (r"(\\boxed\{)(.*)(\})", "${2}"),
        (r"(frac)([^{])(.)", "frac{${2}}{${3}}"),
        // an indexed root first, so that the next rule leaves its `[` alone
        (r"(sqrt)(\[[^\]]*\])([\p{L}\p{N}_])", "${1}${2}{${3}}"),
        (r"(sqrt)([^{\[])", "sqrt{${2}}"),
    ]
    .map(|(pattern, with)| (literal(pattern), with))
});

/// The final answer of a completion, or [`INVALID`].
pub fn extract_answer(completion: &str) -> String {
    let whole = format!("{completion}I hope it is correct.");
    FINAL_ANSWER.captures(&whole).map_or_else(|| INVALID.to_owned(), |found| text::strip(&found[1]).to_owned())
}

/// The normal form.
pub fn normalize(answer: &str) -> String {
    let mut s = answer.rsplit('=').next().unwrap_or_default().to_owned();
    let removed = || REMOVED.into_iter().chain(REMOVED_LAST);
    let is_unit = |expression: &str| expression.chars().all(|c| c.is_ascii_alphabetic());
    // unit words while white space still delimits them
    for unit in removed().filter(|e| is_unit(e)) {
        s = text::replace_word(&s, &[unit], "", |before| before == Some('\\'));
    }
    for (from, to) in SUBSTITUTIONS {
        s = s.replace(from, to);
    }
    for expression in removed() {
        s = if is_unit(expression) { delete_outside_commands(&s, expression) } else { s.replace(expression, "") };
    }
    for (regex, with) in REWRITES.iter() {
        s = regex.replace_all(&s, *with).into_owned();
    }
    s = s.replace('$', "");
    if THOUSANDS.is_match(&s) {
        s = s.replace(',', "");
    }
    s
}

/// Deletes a unit glued to its surroundings, but not inside a command: `ft` goes, `\left` stays.
fn delete_outside_commands(s: &str, unit: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut end = 0;
    for command in COMMAND.find_iter(s) {
        out.push_str(&s[end..command.start()].replace(unit, ""));
        out.push_str(command.as_str());
        end = command.end();
    }
    out.push_str(&s[end..].replace(unit, ""));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extraction_needs_one_line_and_a_period() {
        assert_eq!(extract_answer("Final Answer: The final answer is $5$. I hope it is correct."), "$5$");
        assert_eq!(extract_answer("Final Answer: The final answer is $5$. "), "$5$");
        assert_eq!(extract_answer("Final Answer: The final answer is $5$."), INVALID);
        assert_eq!(extract_answer("Final Answer: The final answer is\n$5$. I hope it is correct."), INVALID);
    }

    /// Values of the reference.
    #[test]
    fn normal_forms() {
        for (text, normal) in [
            (r"x=2\pi cm", r"2\pi"),
            (r"\left(1, 2\right)", r"\left(1,2\right)"),
            (r"$18^{\circ}$", "18"),
            (r"\mbox{cm}", ""),
            (r"\sqrt[3]8", r"\sqrt[3]{8}"),
            (r"\frac 34", r"\frac{3}{4}"),
            ("1,000,000", "1000000"),
            ("0,1", "0,1"),
            (r"\boxed{\$16,\!386.16}", "16386.16"),
            (r"7, -2, \text{ and } -5", "7,-2,-5"),
            ("96.8\n", "96.8\n"),
            ("50 degrees", "50"),
        ] {
            assert_eq!(normalize(text), normal, "{text}");
        }
    }

    #[test]
    fn a_row_break_before_a_space_loses_a_backslash() {
        assert_eq!(normalize(r"\begin{pmatrix}1\\ 2\end{pmatrix}"), r"\begin{pmatrix}1\2\end{pmatrix}");
        assert_eq!(normalize(r"\begin{pmatrix}1\\2\end{pmatrix}"), r"\begin{pmatrix}1\\2\end{pmatrix}");
    }
}
