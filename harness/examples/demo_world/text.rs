//! The training and validation text: documents of every section in fixed shares, shuffled, joined by blank lines.
//!
//! A document that holds a sample document's prompt (or problem) is drawn again, and so is one that already occurred; validation documents
//! therefore occur nowhere in the training text.

use std::collections::BTreeSet;

use super::activities::scene;
use super::choice::{LETTERS, SUBJECTS, block, completion, question};
use super::code;
use super::draw::Draw;
use super::facts::note;
use super::german::pair;
use super::reading::{comprehension, span, yes_no};
use super::stories::story;
use super::sums::{MATH_TYPES, math_problem, word_problem};
use super::world::World;

/// Target size of the training text, in bytes.
const TRAIN_BYTES: usize = 460_000;
/// Target size of the validation text, in bytes.
const VALID_BYTES: usize = 30_000;
/// Draws after which a section counts as exhausted.
const MAX_REPEATS: usize = 200;

/// A kind of document.
type Section = fn(&World, &mut Draw) -> String;

/// Every section with its share of the bytes, in percent.
const SECTIONS: &[(&str, usize, Section)] = &[
    ("notes", 8, note),
    ("stories", 8, story),
    ("yes-no", 30, |world, draw| yes_no(world, draw.percent(55), draw).text()),
    ("letters", 30, letters),
    ("scenes", 9, |world, draw| scene(world, 0, draw).text()),
    ("completions", 5, |world, draw| format!("{}.", completion(world, 0, draw).completion())),
    ("spans", 2, |world, draw| span(world, draw).text()),
    ("comprehension", 1, comprehension_text),
    ("sums", 4, sums),
    ("mathematics", 1, |_, draw| math_problem(draw.word(MATH_TYPES), draw).text()),
    ("translations", 1, |_, draw| pair(draw).text()),
    ("code", 1, |_, draw| code::text(draw)),
];

/// Training text, then validation text.
pub(crate) fn texts(world: &World, seed: u64, held_out: &BTreeSet<String>) -> (String, String) {
    let mut seen = BTreeSet::new();
    let train = text(world, seed, "train", TRAIN_BYTES, held_out, &mut seen);
    let valid = text(world, seed, "valid", VALID_BYTES, held_out, &mut seen);
    (train, valid)
}

fn text(world: &World, seed: u64, name: &str, bytes: usize, held_out: &BTreeSet<String>, seen: &mut BTreeSet<String>) -> String {
    let mut documents = Vec::new();
    for (section, share, make) in SECTIONS {
        let draw = &mut Draw::new(seed, &format!("{name}/{section}"));
        let (mut written, mut repeats) = (0, 0);
        while written < bytes * share / 100 && repeats < MAX_REPEATS {
            let document = make(world, draw);
            if seen.contains(&document) || held_out.iter().any(|held| document.contains(held.as_str())) {
                repeats += 1;
                continue;
            }
            repeats = 0;
            written += document.len() + 2;
            seen.insert(document.clone());
            documents.push(document);
        }
    }
    Draw::new(seed, &format!("{name}/order")).shuffle(&mut documents);
    documents.join("\n\n") + "\n"
}

/// One to six questions of one subject under its header.
fn letters(world: &World, draw: &mut Draw) -> String {
    let subject = draw.word(SUBJECTS);
    let n = 1 + draw.below(6);
    let questions: Vec<_> = (0..n)
        .map(|_| {
            let gold = draw.below(4);
            question(world, subject, gold, draw)
        })
        .collect();
    block(subject, &questions)
}

fn comprehension_text(world: &World, draw: &mut Draw) -> String {
    let golds = [draw.below(4), draw.below(4)];
    let item = comprehension(world, golds, draw);
    let i = draw.below(2);
    format!("{} {}", item.prompt(i), LETTERS[golds[i]])
}

fn sums(world: &World, draw: &mut Draw) -> String {
    let item = word_problem(world, draw);
    match draw.below(4) {
        0..=1 => item.chain_of_thought(),
        2 => item.gsm8k(),
        _ => item.mgsm(),
    }
}
