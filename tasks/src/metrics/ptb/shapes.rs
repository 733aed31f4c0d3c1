//! Shapes of the caption tokenizer: how far a word, number, address or tag reaches from a place in the text.
//!
//! Each function takes the text and a start and returns the end (exclusive) of its shape there, or none.

const SOFT_HYPHEN: char = '\u{ad}';

pub(super) fn is_letter(c: char) -> bool {
    c.is_alphabetic() || ('\u{300}'..='\u{36f}').contains(&c)
}

/// Part of a plain word. Signs like `½` are numeric to Unicode but are tokens of their own.
pub(super) fn is_word(c: char) -> bool {
    is_letter(c) || c.is_ascii_digit() || c == SOFT_HYPHEN
}

pub(super) fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’')
}

/// Text of a token: lower case, soft hyphens gone.
pub(super) fn lower(part: &[char]) -> String {
    part.iter().filter(|&&c| c != SOFT_HYPHEN).collect::<String>().to_lowercase()
}

/// End of the longest run of characters that `accept` takes; `at` itself when there is none.
pub(super) fn run(text: &[char], at: usize, accept: impl Fn(char) -> bool) -> usize {
    text[at..].iter().position(|&c| !accept(c)).map_or(text.len(), |n| at + n)
}

/// As [`run`], but at least one character.
fn some(text: &[char], at: usize, accept: impl Fn(char) -> bool) -> Option<usize> {
    let end = run(text, at.min(text.len()), accept);
    (end > at).then_some(end)
}

fn digits(text: &[char], at: usize) -> Option<usize> {
    some(text, at, |c| c.is_ascii_digit())
}

fn is(text: &[char], at: usize, c: char) -> bool {
    text.get(at) == Some(&c)
}

fn starts_with(text: &[char], at: usize, prefix: &str) -> bool {
    text.len() - at >= prefix.len() && prefix.chars().zip(&text[at..]).all(|(p, &c)| p == c.to_ascii_lowercase())
}

/// Whether no word goes on at `end`.
pub(super) fn is_end(text: &[char], end: usize) -> bool {
    !text.get(end).is_some_and(|&c| is_word(c))
}

/// A run of letters and digits: `stop`, `2x4`, `1950s`.
pub(super) fn plain_word(text: &[char], at: usize) -> Option<usize> {
    some(text, at, is_word)
}

/// Words with hyphens between, then such groups with slashes between: `t-shirt`, `red/blue`. A word with a soft hyphen takes no slash.
pub(super) fn joined_word(text: &[char], at: usize) -> Option<usize> {
    let hyphenated = |at: usize| {
        let mut end = plain_word(text, at)?;
        while let Some(next) = is(text, end, '-').then(|| plain_word(text, end + 1)).flatten() {
            end = next;
        }
        Some(end)
    };
    let takes_slash = |from: usize, to: usize| !text[from..to].contains(&SOFT_HYPHEN);
    let mut start = at;
    let mut end = hyphenated(at)?;
    while is(text, end, '/') && takes_slash(start, end) {
        let Some(next) = hyphenated(end + 1).filter(|&next| takes_slash(end + 1, next)) else { break };
        (start, end) = (end + 1, next);
    }
    Some(end)
}

/// Capitals around an ampersand: `AT&T`.
pub(super) fn company(text: &[char], at: usize) -> Option<usize> {
    let capital = |c: char| c.is_ascii_uppercase();
    let first = some(text, at, capital)?;
    let end = is(text, first, '&').then(|| some(text, first + 1, capital)).flatten()?;
    is_end(text, end).then_some(end)
}

/// Single letters with periods between, without a last one, or `Ph.D`: `U.K`, `e.g`.
pub(super) fn acronym(text: &[char], at: usize) -> Option<usize> {
    let letter = |at: usize| text.get(at).is_some_and(|&c| is_letter(c)) && is_end(text, at + 1);
    if starts_with(text, at, "ph.d") && is_end(text, at + 4) {
        return Some(at + 4);
    }
    let mut end = letter(at).then_some(at + 1)?;
    while is(text, end, '.') && letter(end + 1) {
        end += 2;
    }
    (end > at + 1).then_some(end)
}

/// An acronym with its last period, then hyphenated words: `U.S.-based`.
pub(super) fn acronym_compound(text: &[char], at: usize) -> Option<usize> {
    let end = acronym(text, at)?;
    let end = if is(text, end, '.') { end + 1 } else { end };
    is(text, end, '-').then(|| joined_word(text, end + 1)).flatten()
}

/// A word with an apostrophe inside, letters on both sides of it: `o'clock`, `pe'e`. Clitics have this shape too.
pub(super) fn apostrophe_word(text: &[char], at: usize) -> Option<usize> {
    let end = plain_word(text, at)?;
    let holds = is_letter(text[end - 1]) && text.get(end).is_some_and(|&c| is_apostrophe(c));
    (holds && text.get(end + 1).is_some_and(|&c| is_letter(c))).then(|| plain_word(text, end + 1)).flatten()
}

/// Digits with separators inside, a sign or separator before: `-5`, `1,000`, `3.14`, `12:30`, `:30`.
pub(super) fn number(text: &[char], at: usize) -> Option<usize> {
    let at = if is(text, at, '+') || is(text, at, '-') { at + 1 } else { at };
    let mut end = match text.get(at)? {
        '.' | ':' => digits(text, at + 1)?,
        _ => digits(text, at)?,
    };
    while let Some(next) = text.get(end).filter(|c| matches!(c, '.' | ',' | ':')).and_then(|_| digits(text, end + 1)) {
        end = next;
    }
    Some(end)
}

/// `1/2`, `5/6/2014`, `7-1/2`, or `3 1/2`, which is one token too.
pub(super) fn fraction(text: &[char], at: usize) -> Option<usize> {
    let slashed = |at: usize| {
        let first = digits(text, at)?;
        is(text, first, '/').then(|| digits(text, first + 1)).flatten()
    };
    if let Some(end) = slashed(at) {
        let third = is(text, end, '/').then(|| digits(text, end + 1)).flatten();
        return Some(third.unwrap_or(end));
    }
    let whole = digits(text, at)?;
    let gap = text.get(whole).filter(|c| matches!(c, ' ' | '\u{a0}' | '-'))?;
    let end = slashed(whole + 1)?;
    // `5 6/7/2014` is a number and a date
    (*gap == '-' || !is(text, end, '/')).then_some(end)
}

/// Words with a period between and no space: `end.next`, `example.com`; at least one letter in the first.
pub(super) fn dotted_word(text: &[char], at: usize) -> Option<usize> {
    let label = |at: usize| some(text, at, |c| c.is_ascii_alphanumeric());
    let first = label(at).filter(|&end| text[at..end].iter().any(char::is_ascii_alphabetic))?;
    let mut end = first;
    while let Some(next) = is(text, end, '.').then(|| label(end + 1)).flatten() {
        end = next;
    }
    (end > first).then_some(end)
}

/// `http://…` to the next space or quote, or `www.a.com` with its path; punctuation at its end is not part of it.
pub(super) fn web_address(text: &[char], at: usize) -> Option<usize> {
    let in_path = |c: char| !c.is_whitespace() && !is_apostrophe(c) && !"\"<>|()[]{}“”…".contains(c);
    let path = |start: usize| {
        let end = run(text, start, in_path);
        let kept = text[start..end].iter().rposition(|&c| !".,;:!?-".contains(c))?;
        Some(start + kept + 1)
    };
    if let Some(scheme) = ["http://", "https://", "ftp://"].iter().find(|scheme| starts_with(text, at, scheme)) {
        return path(at + scheme.len());
    }
    let end = starts_with(text, at, "www.").then(|| dotted_word(text, at)).flatten()?;
    if is(text, end, '/') { path(at) } else { Some(end) }
}

/// `name@host.end`. The host is made of the atoms of RFC 822, which hold signs like `!` as well.
pub(super) fn mail_address(text: &[char], at: usize) -> Option<usize> {
    let part = |at: usize| some(text, at, |c| c.is_ascii_alphanumeric() || "_-+".contains(c));
    let mut name = text.get(at).filter(|c| c.is_ascii_alphanumeric()).and_then(|_| part(at))?;
    while let Some(next) = is(text, name, '.').then(|| part(name + 1)).flatten() {
        name = next;
    }
    let atom = |at: usize| some(text, at, |c| c.is_ascii_graphic() && !"()<>@,;:\\\".[]".contains(c));
    let mut end = is(text, name, '@').then(|| atom(name + 1)).flatten()?;
    while let Some(next) = is(text, end, '.').then(|| atom(end + 1)).flatten() {
        end = next;
    }
    Some(end)
}

/// `@name` or `#word`; `#1` is a sign and a number.
pub(super) fn tagged(text: &[char], at: usize) -> Option<usize> {
    text.get(at + 1).filter(|&&c| is_letter(c))?;
    Some(run(text, at + 1, |c| is_word(c) || c == '_'))
}

/// `<tag>`, closing ones too.
pub(super) fn markup(text: &[char], at: usize) -> Option<usize> {
    let name = if is(text, at + 1, '/') { at + 2 } else { at + 1 };
    text.get(name).filter(|c| c.is_ascii_alphabetic())?;
    let end = run(text, name, |c| !matches!(c, '>' | '<' | '\n'));
    is(text, end, '>').then_some(end + 1)
}

/// `:)`, `:-(`, `;)`: only with a character after it that is no part of a word, so never at the end of the whole text.
pub(super) fn smiley(text: &[char], at: usize) -> Option<usize> {
    let mouth = if is(text, at + 1, '-') { at + 2 } else { at + 1 };
    text.get(mouth).filter(|c| matches!(c, '(' | ')'))?;
    (mouth + 1 < text.len() && is_end(text, mouth + 1)).then_some(mouth + 1)
}

/// Three or more periods, or three with single spaces between.
pub(super) fn ellipsis(text: &[char], at: usize) -> Option<usize> {
    let end = run(text, at, |c| c == '.');
    if end - at >= 3 {
        return Some(end);
    }
    (text.len() >= at + 5 && text[at..at + 5] == ['.', ' ', '.', ' ', '.']).then_some(at + 5)
}

/// First character after white space, line ends included, with its place.
pub(super) fn after_space(text: &[char], at: usize) -> Option<(usize, char)> {
    let next = run(text, at, char::is_whitespace);
    (next > at).then(|| text.get(next).map(|&c| (next, c))).flatten()
}
