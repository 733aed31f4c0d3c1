//! Word lists of the caption tokenizer: clitics, words written as one that count as two, abbreviations, and words that open a sentence.
//!
//! All in lower case. Seen in observed pairs: the members that the tests of `scanner` and the parity pack show; the others are common English
//! words of the same kind.

/// What follows an apostrophe and stands apart from its word: `it 's`.
const CLITICS: &[&str] = &["s", "m", "d", "re", "ve", "ll"];

/// One word that is two tokens, with the length of the first: `can not`, `gim me`.
const CONTRACTED: &[(&str, usize)] = &[("cannot", 3), ("gonna", 3), ("gotta", 3), ("wanna", 3), ("lemme", 3), ("gimme", 3)];

/// Abbreviations that keep their period.
const ABBREVIATIONS: &[&str] = &[
    "adm", "apr", "assn", "aug", "ave", "bldg", "brig", "bros", "capt", "cmdr", "col", "cpl", "dec", "dept", "dr", "etc", "feb",
    "ft", "gen", "gov", "hon", "hwy", "jan", "jul", "jun", "lt", "maj", "mar", "messrs", "mr", "mrs", "ms", "mt", "nov", "oct",
    "ph.d", "pres", "prof", "pvt", "rd", "rep", "rev", "sen", "sep", "sept", "sgt", "st", "supt", "univ", "vs",
];

/// Abbreviations after which a capital starts a new sentence, whose period is then written once more: `Acme Co.` → `acme co. .`
const CLOSING_ABBREVIATIONS: &[&str] = &["blvd", "co", "corp", "esq", "inc", "jr", "ltd", "sr"];

/// Abbreviations only when a number follows: `No. 7`, `Fig. 3`; the plain words `no.` and `fig.` lose their period.
const NUMBERED: &[&str] = &["fig", "figs", "no", "nos", "pp", "vol"];

/// Words that open a sentence, so that the initial before them ended one: `street D. | A dog`. Observed: `A` does, `I` and `People` do not; the
/// others are assumed to be like `A`.
const OPENERS: &[&str] =
    &["A", "An", "He", "In", "It", "On", "She", "That", "The", "There", "These", "They", "This", "Those", "We"];

/// Name and text of the entities that stand for one character.
const ENTITIES: &[(&str, &str)] = &[("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")];

/// How an abbreviation treats its period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Period {
    /// Part of the token wherever it stands.
    Kept,
    /// Part of the token, and a second one when a sentence ends here.
    KeptAndClosing,
    /// Part of the token only before a number.
    KeptBeforeNumber,
    /// A token of its own.
    Apart,
}

pub(super) fn period_of(word: &str) -> Period {
    let word = word.to_lowercase();
    let holds = |list: &[&str]| list.contains(&word.as_str());
    if holds(ABBREVIATIONS) {
        Period::Kept
    } else if holds(CLOSING_ABBREVIATIONS) {
        Period::KeptAndClosing
    } else if holds(NUMBERED) {
        Period::KeptBeforeNumber
    } else {
        Period::Apart
    }
}

/// Length of the first token of a word that counts as two.
pub(super) fn contracted(word: &str) -> Option<usize> {
    let word = word.to_lowercase();
    CONTRACTED.iter().find(|(whole, _)| *whole == word).map(|(_, first)| *first)
}

pub(super) fn is_clitic(word: &str) -> bool {
    CLITICS.contains(&word.to_lowercase().as_str())
}

pub(super) fn opens_sentence(word: &str) -> bool {
    OPENERS.contains(&word)
}

/// The entity at the start of `rest`: its length in characters and its text.
pub(super) fn entity(rest: &[char]) -> Option<(usize, &'static str)> {
    ENTITIES
        .iter()
        .find(|(name, _)| name.chars().count() <= rest.len() && name.chars().zip(rest).all(|(n, &c)| n == c.to_ascii_lowercase()))
        .map(|(name, text)| (name.chars().count(), *text))
}

/// Token of a single character that is neither letter nor digit; none where the tokenizer drops it.
pub(super) fn symbol(c: char) -> Option<&'static str> {
    Some(match c {
        '(' => "-lrb-",
        ')' => "-rrb-",
        '[' => "-lsb-",
        ']' => "-rsb-",
        '{' => "-lcb-",
        '}' => "-rcb-",
        '“' | '«' => "``",
        '”' | '»' => "''",
        '‘' => "`",
        '…' => "...",
        '–' | '—' => "--",
        '£' => "#",
        '€' => "$",
        '¢' => "cents",
        '½' => "1/2",
        '¼' => "1/4",
        '¾' => "3/4",
        '⅓' => "1/3",
        '⅔' => "2/3",
        _ => return None,
    })
}
