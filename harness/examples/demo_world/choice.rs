//! Questions with four options: MMLU-like (letters) and OpenBookQA-like (completions).
//!
//! Four MMLU subjects are covered. Most questions ask for the one option of a kind (a town, something to eat, a large number, a
//! kind act): a model of a million parameters learns to name its letter within minutes. The others ask for a sum or for a fact
//! about a person, an animal or a town, which is harder. Which words are right as "the one of a kind" does not depend on the
//! question, on purpose: with opposite questions (large and small, kind and wrong) such a model was still near chance after 600
//! steps of 2,048 tokens.

use super::draw::Draw;
use super::facts::Trait;
use super::world::{
    ANIMALS, COLOURS, DRINKS, JOBS, KIND_ACTS, LANDS, LARGE, SEASONS, SMALL, THINGS, TOWNS, WATERS, WRONG_ACTS, World, a,
    capital, foods, town_names,
};

/// The subjects, by their MMLU names.
pub(crate) const SUBJECTS: &[&str] = &["elementary_mathematics", "high_school_geography", "moral_disputes", "nutrition"];

/// The letters of the four options.
pub(crate) const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// Question, four options, place of the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) question: String,
    pub(crate) options: [String; 4],
    pub(crate) gold: usize,
}

impl Choice {
    /// The right option at `gold`, the others in the order given.
    fn new(question: String, right: impl Into<String>, wrong: Vec<String>, gold: usize) -> Self {
        let mut options = wrong;
        options.truncate(3);
        options.insert(gold, right.into());
        Self { question, options: [0, 1, 2, 3].map(|i: usize| options[i].clone()), gold }
    }

    /// The prompt of one MMLU question, up to the colon.
    pub(crate) fn letters(&self) -> String {
        let [one, two, three, four] = &self.options;
        format!("{}\nA. {one}\nB. {two}\nC. {three}\nD. {four}\nAnswer:", self.question)
    }

    /// Stem and right option, as a completion.
    pub(crate) fn completion(&self) -> String {
        format!("{} {}", self.question, self.options[self.gold])
    }
}

/// The header of an MMLU prompt.
pub(crate) fn header(subject: &str) -> String {
    format!("The following are multiple choice questions (with answers) about {}.", subject.replace('_', " "))
}

/// Questions with their answers under one header, as a few-shot prompt has them.
pub(crate) fn block(subject: &str, questions: &[Choice]) -> String {
    let mut parts = vec![header(subject)];
    parts.extend(questions.iter().map(|item| format!("{} {}", item.letters(), LETTERS[item.gold])));
    parts.join("\n\n")
}

/// A question of `subject` with the right option at `gold`.
pub(crate) fn question(world: &World, subject: &str, gold: usize, draw: &mut Draw) -> Choice {
    match subject {
        "elementary_mathematics" => mathematics(gold, draw),
        "high_school_geography" => geography(world, gold, draw),
        "moral_disputes" => morals(gold, draw),
        _ => nutrition(world, gold, draw),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn mathematics(gold: usize, draw: &mut Draw) -> Choice {
    match draw.below(10) {
        0..=3 => one_of_kind("Which number is large?", LARGE, &[SMALL], gold, draw),
        4..=6 => one_of_kind("Which number is more than 40?", LARGE, &[SMALL], gold, draw),
        7 => {
            let animal = draw.pick(ANIMALS);
            let counts: Vec<String> = [0, 2, 4, 6].iter().filter(|legs| **legs != animal.legs).map(ToString::to_string).collect();
            let wrong = draw.sample(&counts, 3);
            Choice::new(format!("How many legs has {}?", a(animal.name)), animal.legs.to_string(), wrong, gold)
        }
        8 => {
            let (one, two) = (draw.between(1, 5), draw.between(1, 4));
            near(format!("What is {one} + {two}?"), one + two, gold, draw)
        }
        _ => {
            let (one, two) = (draw.between(1, 5), draw.between(1, 4));
            near(format!("What is {} - {two}?", one + two), one, gold, draw)
        }
    }
}

/// A number among three of its neighbours.
fn near(question: String, right: u32, gold: usize, draw: &mut Draw) -> Choice {
    let neighbours: Vec<u32> = (right.saturating_sub(3)..=right + 3).filter(|n| *n != right).collect();
    let wrong = draw.sample(&neighbours, 3).iter().map(u32::to_string).collect();
    Choice::new(question, right.to_string(), wrong, gold)
}

/// One word of `kind` among three of `others`.
fn one_of_kind(question: &str, kind: &[&'static str], others: &[&[&'static str]], gold: usize, draw: &mut Draw) -> Choice {
    let wrong = owned(&draw.sample(&others.concat(), 3));
    Choice::new(question.to_owned(), draw.word(kind), wrong, gold)
}

fn geography(world: &World, gold: usize, draw: &mut Draw) -> Choice {
    let people: Vec<&'static str> = world.people.iter().map(|person| person.name).collect();
    let towns = town_names();
    match draw.below(10) {
        0..=3 => one_of_kind("Which of these is a town?", &towns, &[&people], gold, draw),
        4..=7 => one_of_kind("Which of these is full of water?", WATERS, &[LANDS], gold, draw),
        8 => {
            let town = draw.pick(TOWNS);
            let others: Vec<&str> = towns.into_iter().filter(|name| *name != town.name).collect();
            let wrong = owned(&draw.sample(&others, 3));
            Choice::new(format!("Which town is known for its {}?", town.known_for), town.name, wrong, gold)
        }
        _ => fact(Trait::Town, world, gold, draw),
    }
}

/// The value of a fact about somebody among three other values.
fn fact(asked: Trait, world: &World, gold: usize, draw: &mut Draw) -> Choice {
    let person = draw.pick(&world.people);
    let value = asked.value(person);
    let others: Vec<&str> = asked.values().into_iter().filter(|other| *other != value).collect();
    let wrong = owned(&draw.sample(&others, 3));
    Choice::new(asked.open_question(person.name), value, wrong, gold)
}

fn morals(gold: usize, draw: &mut Draw) -> Choice {
    let question = draw.word(&["Which act is kind?", "Which act is good?", "Which act makes a friend glad?"]);
    one_of_kind(question, KIND_ACTS, &[WRONG_ACTS], gold, draw)
}

fn nutrition(world: &World, gold: usize, draw: &mut Draw) -> Choice {
    let things: Vec<&'static str> = THINGS.iter().map(|thing| thing.name).collect();
    match draw.below(10) {
        0..=4 => one_of_kind("Which of these can you eat?", &foods(), &[&things, COLOURS], gold, draw),
        5..=7 => one_of_kind("Which of these can you drink?", DRINKS, &[&things, COLOURS], gold, draw),
        8 => {
            let animal = draw.pick(ANIMALS);
            let mut others: Vec<&str> = ANIMALS.iter().map(|other| other.eats).filter(|eats| *eats != animal.eats).collect();
            others.sort_unstable();
            others.dedup();
            let wrong = owned(&draw.sample(&others, 3));
            Choice::new(format!("What does {} eat?", a(animal.name)), animal.eats, wrong, gold)
        }
        _ => fact(Trait::Food, world, gold, draw),
    }
}

/// An OpenBookQA-like stem with four completions.
pub(crate) fn completion(world: &World, gold: usize, draw: &mut Draw) -> Choice {
    let person = draw.pick(&world.people);
    let (name, she) = (person.name, person.she());
    match draw.below(6) {
        0..=1 => {
            let things = draw.sample(THINGS, 4);
            let wrong = things[1..].iter().map(|thing| a(thing.name)).collect();
            let stem = if draw.percent(50) {
                format!("{name} wants to {}, so {she} takes", things[0].purpose)
            } else {
                format!("In {}, {name} has to {} and asks for", person.town.name, things[0].purpose)
            };
            Choice::new(stem, a(things[0].name), wrong, gold)
        }
        2..=3 => {
            let animal = draw.pick(ANIMALS);
            let wrong = owned(&draw.sample(animal.cannot, 3));
            let stem = if draw.percent(50) {
                format!("{name} sees {} {}. {} knows that it can", a(animal.name), animal.home, capital(she))
            } else {
                format!("{name} from {} asks what {} can do. It can", person.town.name, a(animal.name))
            };
            Choice::new(stem, *draw.pick(animal.can), wrong, gold)
        }
        4 => {
            let seasons = draw.sample(SEASONS, 4);
            let wrong = seasons[1..].iter().map(|(_, sight)| (*sight).to_owned()).collect();
            let stem = format!("It is {} in {}, and {name} sees", seasons[0].0, draw.pick(TOWNS).name);
            Choice::new(stem, seasons[0].1, wrong, gold)
        }
        _ => {
            let jobs = draw.sample(JOBS, 4);
            let wrong = jobs[1..].iter().map(|job| job.work.to_owned()).collect();
            let stem = format!("{name} met {} in {} who", a(jobs[0].name), draw.pick(TOWNS).name);
            Choice::new(stem, jobs[0].work, wrong, gold)
        }
    }
}
