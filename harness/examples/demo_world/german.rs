//! Pairs of English and German sentences from one pattern, for the translation task.
//!
//! `The {adjective} {noun} {verb} {place}.` ↔ `Der/Die/Das {Adjektiv}e {Nomen} {Verb} {Ort}.` Nominative singular after a
//! definite article has the weak ending `-e` in all three genders, so the pattern is always right.

use super::draw::Draw;

/// A sentence and its translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) english: String,
    pub(crate) german: String,
}

impl Pair {
    /// One item of the shared task's prompt, with its translation.
    pub(crate) fn text(&self) -> String {
        format!("Translate this into 1. German:\n\n{}\n\n1. {}", self.english, self.german)
    }
}

/// English noun, German article and noun.
const NOUNS: &[(&str, &str, &str)] = &[
    ("dog", "Der", "Hund"),
    ("cat", "Die", "Katze"),
    ("horse", "Das", "Pferd"),
    ("baker", "Der", "Bäcker"),
    ("teacher", "Die", "Lehrerin"),
    ("child", "Das", "Kind"),
    ("farmer", "Der", "Bauer"),
    ("duck", "Die", "Ente"),
    ("girl", "Das", "Mädchen"),
    ("smith", "Der", "Schmied"),
];
/// English adjective, German stem.
const ADJECTIVES: &[(&str, &str)] = &[
    ("old", "alt"),
    ("young", "jung"),
    ("little", "klein"),
    ("big", "groß"),
    ("tired", "müd"),
    ("happy", "froh"),
    ("quiet", "still"),
];
const VERBS: &[(&str, &str)] =
    &[("sleeps", "schläft"), ("sits", "sitzt"), ("stands", "steht"), ("waits", "wartet"), ("eats", "isst"), ("plays", "spielt")];
const PLACES: &[(&str, &str)] = &[
    ("in the garden", "im Garten"),
    ("by the lake", "am See"),
    ("in the house", "im Haus"),
    ("in the forest", "im Wald"),
    ("by the river", "am Fluss"),
    ("in the kitchen", "in der Küche"),
    ("on the bridge", "auf der Brücke"),
    ("in the village", "im Dorf"),
];

/// A random pair.
pub(crate) fn pair(draw: &mut Draw) -> Pair {
    let (noun, article, german_noun) = *draw.pick(NOUNS);
    let (adjective, stem) = *draw.pick(ADJECTIVES);
    let (verb, german_verb) = *draw.pick(VERBS);
    let (place, german_place) = *draw.pick(PLACES);
    if draw.percent(30) {
        return Pair {
            english: format!("The {noun} {verb} {place}."),
            german: format!("{article} {german_noun} {german_verb} {german_place}."),
        };
    }
    Pair {
        english: format!("The {adjective} {noun} {verb} {place}."),
        german: format!("{article} {stem}e {german_noun} {german_verb} {german_place}."),
    }
}
