//! Reference A: the string normal form of the MATH authors.
//!
//! In order: newlines and `\!` deleted; `\\` → `\`; `tfrac`, `dfrac` → `frac`; `\left`, `\right`, degree signs, `\$` deleted; what follows `\text{ `
//! dropped; `\%` deleted; ` .` and `{.` given a 0; a short left side of one `=` dropped; `\sqrtX` → `\sqrt{X}`; spaces deleted; `\fracab` → `\frac{a}{b}`;
//! `0.5` and `m/n` → `\frac`. A form that cannot be built (see [`NormalFormError`]) makes the reference compare the raw texts of both sides.
//!
//! Source: hendrycks/math `math_equivalence.py`, as in lm-evaluation-harness 0.4.13 `hendrycks_math`.

use crate::metrics::text;
use thiserror::Error;

/// Why a text has no normal form. In the reference each is an exception that ends the comparison of normal forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NormalFormError {
    /// Units twice.
    #[error("expected one `\\text{{ `, found several")]
    TwoUnits,
    /// `\sqrt` or `\frac` with nothing after it.
    #[error("expected an argument after `\\sqrt` or `\\frac`, found none")]
    NoArgument,
    /// `a/b` whose sides are not both integers.
    #[error("expected integers around `/`")]
    NotIntegers,
}

/// The answer in a completion: between the **first** and the **last** `$`, or the whole text when there are fewer than two. Two formulas give
/// garbage: a quirk of the reference.
pub fn extract_answer(completion: &str) -> &str {
    match (completion.find('$'), completion.rfind('$')) {
        (Some(first), Some(last)) if first < last => &completion[first + 1..last],
        _ => completion,
    }
}

/// Whether two answers have one normal form.
pub fn is_equiv(a: &str, b: &str) -> bool {
    match (normalize(a), normalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// `exact_match` of the reference: 1 when the answer in the completion equals the boxed one.
pub fn score(completion: &str, gold: &str) -> f64 {
    f64::from(is_equiv(extract_answer(completion), gold))
}

/// The normal form.
///
/// # Errors
/// See [`NormalFormError`].
pub fn normalize(answer: &str) -> Result<String, NormalFormError> {
    let mut s = answer.to_owned();
    for (from, to) in [
        ("\n", ""),
        ("\\!", ""),
        ("\\\\", "\\"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
    ] {
        s = s.replace(from, to);
    }
    // "\text{ " only occurs before units
    let units: Vec<&str> = s.split("\\text{ ").collect();
    s = match units[..] {
        [value] | [value, _] => value.to_owned(),
        _ => return Err(NormalFormError::TwoUnits),
    };
    s = s.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if s.is_empty() {
        return Ok(s);
    }
    if s.starts_with('.') {
        s.insert(0, '0');
    }
    if let [left, right] = s.split('=').collect::<Vec<_>>()[..]
        && left.chars().count() <= 2
    {
        s = String::from(right); // "k = 5"
    }
    s = brace_roots(&s)?.replace(' ', "");
    s = brace_fractions(&s)?;
    if s == "0.5" {
        s = String::from("\\frac{1}{2}");
    }
    fraction_of_slash(s)
}

/// `\sqrt3` → `\sqrt{3}`.
fn brace_roots(s: &str) -> Result<String, NormalFormError> {
    let mut pieces = s.split("\\sqrt");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let first = piece.chars().next().ok_or(NormalFormError::NoArgument)?;
        out.push_str("\\sqrt");
        if first == '{' {
            out.push_str(piece);
        } else {
            out.extend(['{', first, '}']);
            out.push_str(&piece[first.len_utf8()..]);
        }
    }
    Ok(out)
}

/// `\frac12` → `\frac{1}{2}`, `\frac1{72}` → `\frac{1}{72}`; not `\frac{72}1`. A single character after `\frac` leaves the whole text as it is.
fn brace_fractions(s: &str) -> Result<String, NormalFormError> {
    let mut pieces = s.split("\\frac");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let mut chars = piece.chars();
        let a = chars.next().ok_or(NormalFormError::NoArgument)?;
        out.push_str("\\frac");
        if a == '{' {
            out.push_str(piece);
            continue;
        }
        let Some(b) = chars.next() else { return Ok(s.to_owned()) };
        out.extend(['{', a, '}']);
        if b == '{' {
            out.push(b);
        } else {
            out.extend(['{', b, '}']);
        }
        out.push_str(chars.as_str());
    }
    Ok(out)
}

/// `3/4` → `\frac{3}{4}`, only for integers in their plain spelling.
fn fraction_of_slash(s: String) -> Result<String, NormalFormError> {
    let [a, b] = s.split('/').collect::<Vec<_>>()[..] else { return Ok(s) };
    match (python_int(a), python_int(b)) {
        (Some(a), Some(b)) if format!("{a}/{b}") == s => Ok(format!("\\frac{{{a}}}{{{b}}}")),
        (Some(_), Some(_)) => Ok(s), // 007/8, +1/2, 1_0/2: integers that print differently
        _ => Err(NormalFormError::NotIntegers),
    }
}

/// What Python's `int(text)` prints back, or none where it raises.
fn python_int(text: &str) -> Option<String> {
    let text = text::strip(text);
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    if digits.split('_').any(|run| run.is_empty() || !run.chars().all(|c| c.is_ascii_digit())) {
        return None;
    }
    let plain: String = digits.chars().filter(char::is_ascii_digit).collect();
    let value = plain.trim_start_matches('0');
    Some(match (negative, value) {
        (_, "") => "0".to_owned(),
        (true, value) => format!("-{value}"),
        (false, value) => value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_with_one_normal_form() {
        for (a, b) in [
            (r"\frac12", r"\frac{1}{2}"),
            ("0.5", r"\frac{1}{2}"),
            ("x=5", "5"),
            ("3/4", r"\frac{3}{4}"),
            (r"10\%", "10"),
            (r"\sqrt3", r"\sqrt{3}"),
            (r"5\text{ cm}", "5"),
            (".5", "0.5"),
            (r"90^\circ", "90"),
        ] {
            assert!(is_equiv(a, b), "{a} {b}");
        }
        assert!(!is_equiv("1,000", "1000"));
    }

    #[test]
    fn a_failure_compares_raw_texts() {
        assert_eq!(normalize("a/b"), Err(NormalFormError::NotIntegers));
        assert!(!is_equiv("a/b", r"\frac{a}{b}"));
        assert!(!is_equiv("a/b ", "a/b"));
        assert!(is_equiv(r"\frac", r"\frac"));
        assert_eq!(normalize(r"\frac"), Err(NormalFormError::NoArgument));
        assert_eq!(normalize(r"\sqrt"), Err(NormalFormError::NoArgument));
        assert_eq!(normalize(r"1\text{ a}\text{ b}"), Err(NormalFormError::TwoUnits));
    }

    #[test]
    fn integers_must_print_back() {
        assert_eq!(normalize("007/8").unwrap(), "007/8");
        assert_eq!(normalize("-3/4").unwrap(), r"\frac{-3}{4}");
        assert_eq!(normalize("1_0/2").unwrap(), "1_0/2");
        assert_eq!(normalize("1__0/2"), Err(NormalFormError::NotIntegers));
        assert_eq!(normalize("-0/2").unwrap(), "-0/2"); // int prints 0
    }

    #[test]
    fn answer_is_between_the_outer_dollars() {
        assert_eq!(score("answer $4$.", "4"), 1.0);
        assert_eq!(score("we get $x$ and $4$", "4"), 0.0);
        assert_eq!(extract_answer("costs $4"), "costs $4");
    }
}
