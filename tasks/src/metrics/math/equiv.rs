//! Equality of two minerva normal forms: as strings, and as exact expressions.
//!
//! ```text
//! answer := item | item , item …   (ordered)  | [( a , b )]-like brackets, which must agree  | answer ∪ answer | ±∞
//! item   := sums, products, quotients, powers, factorials of numbers, decimals, letters, π, \frac, \sqrt
//! ```
//! What is not of this form, or is ambiguous (`7\frac12` is a mixed number to one reader and a product to another), is equal only to the same text.
//! Like the reference's grammar, a period or `.0` after something that is not a number, and an unmatched `}` at the end, are ignored.
//!
//! Differs: the reference compares with a computer algebra system, which decides more (functions, sums with free variables under roots), reads a list
//! `7,-2` as `7`, and refuses tuples and intervals that are not the same text.

use super::exact::{Ratio, Value};
use crate::metrics::text;

/// Longest run of letters that is read as a product; a longer one is a word.
const MAX_LETTERS: usize = 3;
/// Deepest nesting of groups.
const MAX_DEPTH: usize = 40;

/// Whether two normal forms are the same, non-empty text.
pub fn math_exact(a: &str, b: &str) -> bool {
    !a.is_empty() && a == b
}

/// Whether two normal forms are the same text, but for white space at the ends, or exactly equal expressions. Empty forms equal nothing.
pub fn math_equiv(a: &str, b: &str) -> bool {
    if a.is_empty() || b.is_empty() {
        return false;
    }
    text::strip(a) == text::strip(b) || matches!((parse_answer(a), parse_answer(b)), (Some(a), Some(b)) if a.equals(&b))
}

enum Answer {
    Value(Value),
    Infinity { negative: bool },
    List { brackets: (char, char), items: Vec<Answer> },
    Union(Vec<Answer>),
}

impl Answer {
    fn equals(&self, other: &Self) -> bool {
        let all = |a: &[Self], b: &[Self]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b));
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => a.equals(b) == Some(true),
            (Self::Infinity { negative: a }, Self::Infinity { negative: b }) => a == b,
            (Self::List { brackets: a, items: x }, Self::List { brackets: b, items: y }) => a == b && all(x, y),
            (Self::Union(a), Self::Union(b)) => all(a, b),
            _ => false,
        }
    }
}

/// Spacing and sizing commands that mean nothing.
const SILENT: [&str; 8] = ["\\left", "\\right", "\\!", "\\,", "\\;", "\\:", "\\displaystyle", " "];

fn parse_answer(normal: &str) -> Option<Answer> {
    let mut s = text::strip(normal).to_owned();
    for silent in SILENT {
        s = s.replace(silent, "");
    }
    s = s.replace("\\{", "⟨").replace("\\}", "⟩").replace("\\lbrace", "⟨").replace("\\rbrace", "⟩"); // braces that print
    parse_union(trim_tail(&s))
}

/// Drops what the reference's grammar stops at.
fn trim_tail(s: &str) -> &str {
    let mut s = s;
    if s.matches('}').count() > s.matches('{').count() {
        s = s.strip_suffix('}').unwrap_or(s);
    }
    let head = s.trim_end_matches('0').strip_suffix('.').unwrap_or(s);
    if head.ends_with(|c: char| !c.is_ascii_digit() && c != ',') { head } else { s }
}

fn parse_union(s: &str) -> Option<Answer> {
    let parts = split_top(s, "\\cup")?;
    if parts.len() > 1 {
        return Some(Answer::Union(parts.into_iter().map(parse_list).collect::<Option<_>>()?));
    }
    parse_list(s)
}

fn parse_list(s: &str) -> Option<Answer> {
    let mut chars = s.chars();
    if let (Some(open), Some(close)) = (chars.next(), chars.next_back())
        && "([⟨".contains(open)
        && ")]⟩".contains(close)
    {
        let inner = chars.as_str();
        if let Some(items) = split_top(inner, ",").filter(|items| items.len() > 1 || open == '⟨') {
            let items = items.into_iter().map(parse_item).collect::<Option<_>>()?;
            return Some(Answer::List { brackets: (open, close), items });
        }
    }
    let items = split_top(s, ",")?;
    if items.len() > 1 {
        return Some(Answer::List { brackets: (' ', ' '), items: items.into_iter().map(parse_list).collect::<Option<_>>()? });
    }
    parse_item(s)
}

fn parse_item(s: &str) -> Option<Answer> {
    match s {
        "\\infty" | "+\\infty" => Some(Answer::Infinity { negative: false }),
        "-\\infty" => Some(Answer::Infinity { negative: true }),
        _ => Parser { rest: s, depth: 0 }.whole().map(Answer::Value),
    }
}

/// Pieces between separators outside all brackets; none when brackets do not nest. Kinds need not agree: `[0,1)` is an interval.
fn split_top<'s>(s: &'s str, separator: &str) -> Option<Vec<&'s str>> {
    let (mut depth, mut start, mut pieces) = (0usize, 0, Vec::new());
    for (at, c) in s.char_indices() {
        match c {
            '(' | '[' | '{' | '⟨' => depth += 1,
            ')' | ']' | '}' | '⟩' => depth = depth.checked_sub(1)?,
            _ if depth == 0 && at >= start && s[at..].starts_with(separator) => {
                pieces.push(&s[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    pieces.push(&s[start..]);
    (depth == 0).then_some(pieces)
}

struct Parser<'s> {
    rest: &'s str,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A command, not the start of a longer one.
    fn take_command(&mut self, command: &str) -> bool {
        let ends = self.rest.strip_prefix(command).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()));
        ends && self.take(command)
    }

    fn whole(mut self) -> Option<Value> {
        let value = self.sum()?;
        self.rest.is_empty().then_some(value)
    }

    fn sum(&mut self) -> Option<Value> {
        let mut total = self.signed_product()?;
        while self.rest.starts_with(['+', '-']) {
            total = total.add(&self.signed_product()?)?;
        }
        Some(total)
    }

    fn signed_product(&mut self) -> Option<Value> {
        let negative = self.take("-");
        if !negative {
            self.take("+");
        }
        let product = self.product()?;
        if negative { product.negate() } else { Some(product) }
    }

    fn product(&mut self) -> Option<Value> {
        let mut product = self.juxtaposed()?.0;
        loop {
            if self.take("*") || self.take_command("\\cdot") || self.take_command("\\times") {
                product = product.mul(&self.operand()?.0)?;
            } else if self.take("/") || self.take_command("\\div") {
                let (divisor, several) = self.operand()?;
                if several {
                    return None; // 1/2x
                }
                product = product.div(&divisor)?;
            } else {
                return Some(product);
            }
        }
    }

    /// After an operator a sign may stand.
    fn operand(&mut self) -> Option<(Value, bool)> {
        if self.take("-") {
            let (value, several) = self.juxtaposed()?;
            return Some((value.negate()?, several));
        }
        self.juxtaposed()
    }

    /// Factors side by side, and whether there are several.
    fn juxtaposed(&mut self) -> Option<(Value, bool)> {
        let after_number = self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let mut letters = usize::from(self.rest.starts_with(|c: char| c.is_ascii_alphabetic()));
        let mut product = self.powered()?;
        let mut several = false;
        while self.rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "\\({.π".contains(c)) && !self.at_operator() {
            let is_number = self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
            let is_mixed = !several && after_number && self.rest.starts_with("\\frac");
            let is_letter = self.rest.starts_with(|c: char| c.is_ascii_alphabetic());
            letters = if is_letter { letters + 1 } else { 0 };
            if is_number || is_mixed || letters > MAX_LETTERS {
                return None;
            }
            product = product.mul(&self.powered()?)?;
            several = true;
        }
        Some((product, several))
    }

    fn at_operator(&self) -> bool {
        ["\\cdot", "\\times", "\\div"].iter().any(|op| self.rest.starts_with(op))
    }

    fn powered(&mut self) -> Option<Value> {
        let mut base = self.atom()?;
        if self.take("!") {
            base = base.factorial()?;
        }
        if self.take("^") {
            let exponent = self.argument()?.as_ratio()?;
            base = base.power(exponent)?;
        }
        Some(base)
    }

    /// Every nesting passes here, so the stack is bounded here.
    fn atom(&mut self) -> Option<Value> {
        self.depth += 1;
        let value = if self.depth > MAX_DEPTH { None } else { self.atom_unbounded() };
        self.depth -= 1;
        value
    }

    fn atom_unbounded(&mut self) -> Option<Value> {
        let first = self.rest.chars().next()?;
        match first {
            '0'..='9' | '.' => self.number(),
            '(' | '{' => {
                self.rest = &self.rest[1..];
                let value = self.sum()?;
                self.take(if first == '(' { ")" } else { "}" }).then_some(value)
            }
            'π' => {
                self.rest = &self.rest[first.len_utf8()..];
                Some(Value::pi())
            }
            'a'..='z' | 'A'..='Z' => {
                self.rest = &self.rest[1..];
                (!self.rest.starts_with(['_', '\''])).then(|| Value::letter(first)) // x_1 and x' are names of their own
            }
            '\\' => self.command(),
            _ => None,
        }
    }

    fn command(&mut self) -> Option<Value> {
        if self.take_command("\\pi") {
            return Some(Value::pi());
        }
        if ["\\frac", "\\dfrac", "\\tfrac", "\\cfrac"].iter().any(|name| self.take(name)) {
            let numerator = self.argument()?;
            return numerator.div(&self.argument()?);
        }
        if self.take("\\sqrt") {
            let index = if self.take("[") {
                let end = self.rest.find(']')?;
                let index = self.rest[..end].parse().ok()?;
                self.rest = &self.rest[end + 1..];
                index
            } else {
                2
            };
            return self.argument()?.root(index);
        }
        None
    }

    /// `{…}`, or one digit, letter or command.
    fn argument(&mut self) -> Option<Value> {
        let first = self.rest.chars().next()?;
        if first.is_ascii_digit() {
            self.rest = &self.rest[1..];
            return Some(Value::rational(Ratio::new(i128::from(first.to_digit(10)?), 1)?));
        }
        if first == '(' { None } else { self.atom() }
    }

    fn number(&mut self) -> Option<Value> {
        let digits = |s: &str| s.len() - s.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let whole = digits(self.rest);
        let fraction = if self.rest[whole..].starts_with('.') { digits(&self.rest[whole + 1..]) } else { 0 };
        let end = if fraction > 0 { whole + 1 + fraction } else { whole };
        let text = self.rest[..end].replace('.', "");
        self.rest = &self.rest[end..];
        let numerator: i128 = text.parse().ok()?;
        Some(Value::rational(Ratio::new(numerator, 10i128.checked_pow(u32::try_from(fraction).ok()?)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_expressions() {
        for (a, b) in [
            ("5.50", "5.5"),
            (r"\dfrac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
            (r"\sqrt[3]{8}", "2"),
            ("3^{2}", "9"),
            ("2^{-1}", "0.5"),
            (r"\frac{\pi}{2}", r"0.5\pi"),
            (r"2\cdot3\sqrt{12}", r"12\sqrt{3}"),
            ("(x-1)^2", "x^2-2x+1"),
            (r"\frac{1}{\sqrt{2}-1}", r"\sqrt{2}+1"),
            ("5!", "120"),
            ("(1,1/2)", r"(1,\frac{1}{2})"),
            (r"[0,\frac{1}{2})", "[0,0.5)"),
            (r"(-\infty,0)\cup(1.0,2)", r"(-\infty,0)\cup(1,2)"),
            ("96.8\n", "96.8"),
            (r"3+\sqrt{6}}", r"3+\sqrt{6}"),
            (r"\frac{295}{396}.", r"\frac{295}{396}"),
            (r"-\frac{7}{12}.0", r"-\frac{7}{12}"),
            ("-3^2", "-9"),
            (r"\left(3\right)", "3"),
        ] {
            assert!(math_equiv(a, b), "{a} {b}");
            assert!(math_equiv(b, a), "{b} {a}");
        }
    }

    #[test]
    fn different_or_undecided_expressions() {
        for (a, b) in [
            ("", ""),
            ("82.", "82"),
            ("0.333", r"\frac{1}{3}"),
            (r"7\frac{1}{2}", r"\frac{15}{2}"),
            (r"7\frac{1}{2}", r"\frac{7}{2}"),
            ("(1,2)", "[1,2]"),
            ("(1,2)", "(2,1)"),
            ("1,2", "1"),
            (r"\sqrt{-1}", r"\sqrt{-1.0}"),
            (r"\infty", "infinity"),
            (r"\sqrt{x^2}", "x"),
            ("east", "seat"),
            (r"10\%", "10"),
            ("506_7", "506"),
            ("1/2x", "x/2"),
            (r"\sin(x)", r"\sin(1.0x)"),
        ] {
            assert!(!math_equiv(a, b), "{a} {b}");
        }
        assert!(math_equiv("east", "east") && math_equiv("east\n", "east"));
        assert!(!math_exact("", "") && math_exact("a", "a"));
    }

    #[test]
    fn hostile_input_ends() {
        let deep = "(".repeat(100_000);
        assert!(!math_equiv(&deep, "1"));
        assert!(!math_equiv(&"{".repeat(50).replace('{', "{2+"), "1"));
        assert!(!math_equiv(&"\\sqrt".repeat(100_000), "1"));
        assert!(!math_equiv(&format!("(a+b+c+d+e+f+g+h)^{{{}}}", 60), "1"));
    }
}
