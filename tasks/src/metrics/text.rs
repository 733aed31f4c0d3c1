//! Python's notions of white space, words and case, which the reference metrics inherit and Rust's standard library does not share exactly.
//!
//! ```text
//! str.isspace   Unicode White_Space and U+001C..U+001F
//! re \w         letters, numbers and `_`; combining marks are not word characters
//! str.split()   pieces between runs of white space, no empty pieces
//! ```
//! Source: CPython 3.11 `Objects/unicodectype.c`, `Modules/_sre`.

use unicode_normalization::char::is_combining_mark;

/// `str.isspace` of one character.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `re` class `\w` of one character.
pub fn is_word(c: char) -> bool {
    // Rust's `is_alphabetic` adds marks and circled letters that are symbols to Python.
    let circled =
        matches!(c, '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f149}' | '\u{1f150}'..='\u{1f169}' | '\u{1f170}'..='\u{1f189}');
    c == '_' || (c.is_alphanumeric() && !is_combining_mark(c) && !circled)
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.rstrip()`.
pub fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `str.split()`.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|piece| !piece.is_empty())
}

/// `" ".join(text.split())`.
pub fn collapse_spaces(text: &str) -> String {
    split(text).collect::<Vec<_>>().join(" ")
}

/// `str.capitalize()`: the first character in title case, **all others in lower case**.
pub fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut out = title_case(first);
    // Lower-case with the first character in place, so that a final sigma sees what stands before it.
    let lowered = text.to_lowercase();
    let skip = first.to_lowercase().count();
    out.extend(lowered.chars().skip(skip));
    out
}

/// Title case of one character: upper case but for the digraphs and ligatures that have a form of their own.
fn title_case(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        _ => {
            let mut upper = c.to_uppercase();
            let head: String = upper.by_ref().take(1).collect();
            head + &upper.flat_map(char::to_lowercase).collect::<String>() // ß -> Ss, ﬁ -> Fi
        }
    }
}

/// Replaces every whole word `word` (as `\bword\b`) that `keep` does not protect; `keep` is given the character in front, if any.
pub(crate) fn replace_word(text: &str, words: &[&str], with: &str, keep: impl Fn(Option<char>) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut previous = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if !previous.is_some_and(is_word) && !keep(previous) {
            let hit = words.iter().find(|w| rest.starts_with(**w) && !rest[w.len()..].chars().next().is_some_and(is_word));
            if let Some(word) = hit {
                out.push_str(with);
                previous = word.chars().last();
                rest = &rest[word.len()..];
                continue;
            }
        }
        out.push(c);
        previous = Some(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(strip("\u{1f}\u{3000} a\u{200b}\u{a0}"), "a\u{200b}"); // U+200B is not white space in either
        assert_eq!(split(" a \n b ").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(collapse_spaces("\ta  b\n"), "a b");
    }

    #[test]
    fn combining_marks_end_a_word() {
        assert!(is_word('ন') && is_word('é') && is_word('_') && is_word('½'));
        assert!(!is_word('\u{09be}') && !is_word('\u{301}') && !is_word('Ⓐ') && !is_word('-'));
    }

    #[test]
    fn capitalize_lowers_the_rest() {
        assert_eq!(capitalize("hello WORLD foo"), "Hello world foo");
        assert_eq!(capitalize(""), "");
        assert_eq!(capitalize("ßA"), "Ssa");
        assert_eq!(capitalize("ΑΣ"), "Ας"); // final sigma, as in Python
    }

    #[test]
    fn whole_words_only() {
        assert_eq!(replace_word("a cat, an ant; the end", &["a", "an", "the"], "", |_| false), " cat,  ant;  end");
        assert_eq!(replace_word("a\u{301} b", &["a"], "_", |_| false), "_\u{301} b");
        assert_eq!(replace_word("2 cm \\cm", &["cm"], "", |before| before == Some('\\')), "2  \\cm");
    }
}
