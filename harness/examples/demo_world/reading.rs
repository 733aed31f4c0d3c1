//! Reading questions: a passage and what it answers, in the manner of BoolQ, Belebele and TyDi QA.
//!
//! Yes/no questions come in four kinds of rising difficulty: a denial in the passage, a value that the passage does not mention, a value
//! that belongs to the other person of the passage, and a fact of the world the passage leaves out.

use super::draw::Draw;
use super::facts::{TRAITS, Trait, about_animal, about_person, about_thing};
use super::world::{ANIMALS, Person, THINGS, World, a};

/// Passage, question without question mark, answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YesNo {
    pub(crate) passage: String,
    pub(crate) question: String,
    pub(crate) answer: bool,
}

impl YesNo {
    /// The prompt of the BoolQ task, up to the colon.
    pub(crate) fn prompt(&self) -> String {
        format!("{}\nQuestion: {}?\nAnswer:", self.passage, self.question)
    }

    /// Prompt and answer, as in the training text.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.prompt(), if self.answer { "yes" } else { "no" })
    }
}

/// A yes/no question whose answer is `answer`.
pub(crate) fn yes_no(world: &World, answer: bool, draw: &mut Draw) -> YesNo {
    let (passage, question) = match draw.below(10) {
        0..=4 => yes_no_person(draw.pick(&world.people), answer, draw),
        5 => {
            let people = draw.sample(&world.people, 2);
            yes_no_two(&people[0], &people[1], answer, draw)
        }
        6..=8 => {
            let animal = draw.pick(ANIMALS);
            let asked = *draw.pick(if answer { animal.can } else { animal.cannot });
            let told = format!("It {} {asked}.", if answer { "can" } else { "cannot" });
            let told = Some(told.as_str()).filter(|_| draw.percent(65));
            (about_animal(animal, told, 2, draw), format!("can {} {asked}", a(animal.name)))
        }
        _ => {
            let (person, thing) = (draw.pick(&world.people), draw.pick(THINGS));
            let passage = about_thing(person, thing, draw);
            let other = draw.pick_other(THINGS, &[*thing]);
            let purpose = if answer { thing.purpose } else { other.purpose };
            (passage, format!("can {} use the {} to {purpose}", person.name, thing.name))
        }
    };
    YesNo { passage, question, answer }
}

fn yes_no_person(person: &Person, answer: bool, draw: &mut Draw) -> (String, String) {
    let traits = draw.sample(TRAITS, 3);
    let asked = *draw.pick(&traits);
    let wrong = asked.wrong_value(person, draw);
    if !answer && draw.percent(65) {
        let told: Vec<Trait> = traits.into_iter().filter(|fact| *fact != asked).collect();
        let passage = format!("{} {}", about_person(person, &told, draw), asked.denial(person.name, wrong));
        return (passage, asked.yes_no(person.name, wrong));
    }
    let value = if answer { asked.value(person) } else { wrong };
    (about_person(person, &traits, draw), asked.yes_no(person.name, value))
}

fn yes_no_two(one: &Person, two: &Person, answer: bool, draw: &mut Draw) -> (String, String) {
    let differing: Vec<Trait> = TRAITS.iter().copied().filter(|fact| fact.value(one) != fact.value(two)).collect();
    let traits = draw.sample(&differing, 2);
    let asked = *draw.pick(&traits);
    let passage = format!("{} {}", about_person(one, &traits, draw), about_person(two, &traits, draw));
    let (who, other) = if draw.percent(50) { (one, two) } else { (two, one) };
    let value = asked.value(if answer { who } else { other });
    (passage, asked.yes_no(who.name, value))
}

/// A passage about two people with two questions of four options each: one Belebele passage.
pub(crate) struct Comprehension {
    pub(crate) passage: String,
    pub(crate) questions: Vec<(String, [String; 4], usize)>,
}

impl Comprehension {
    /// Belebele's prompt for question `i`, up to the colon.
    pub(crate) fn prompt(&self, i: usize) -> String {
        let (question, [one, two, three, four], _) = &self.questions[i];
        format!("P: {}\nQ: {question}\nA: {one}\nB: {two}\nC: {three}\nD: {four}\nAnswer:", self.passage)
    }
}

/// Passage and two questions; `golds` are the places of the right options.
pub(crate) fn comprehension(world: &World, golds: [usize; 2], draw: &mut Draw) -> Comprehension {
    let person = draw.pick(&world.people);
    let traits = draw.sample(TRAITS, 3);
    let passage = about_person(person, &traits, draw);
    let questions = golds
        .into_iter()
        .zip(&traits)
        .map(|(gold, asked)| {
            let value = asked.value(person);
            let others: Vec<&str> = asked.values().into_iter().filter(|other| *other != value).collect();
            let mut options = draw.sample(&others, 3);
            options.insert(gold, value);
            let options = [0, 1, 2, 3].map(|i: usize| options[i].to_owned());
            (asked.open_question(person.name), options, gold)
        })
        .collect();
    Comprehension { passage, questions }
}

/// A passage and a question answered by a span of it.
pub(crate) struct Span {
    pub(crate) title: String,
    pub(crate) context: String,
    pub(crate) question: String,
    pub(crate) answer: String,
}

impl Span {
    /// Prompt and answer, as in the training text.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.prompt(), self.answer)
    }

    /// The prompt of the TyDi QA task, up to the colon.
    pub(crate) fn prompt(&self) -> String {
        format!("{}\nQuestion: {}\nAnswer:", self.context, self.question)
    }

    /// Place of the answer in the context, in characters.
    pub(crate) fn answer_start(&self) -> usize {
        self.context.find(&self.answer).map_or(0, |byte| self.context[..byte].chars().count())
    }
}

/// A span question about one person, the name of a second one being in the passage.
pub(crate) fn span(world: &World, draw: &mut Draw) -> Span {
    loop {
        let people = draw.sample(&world.people, 2);
        let (person, neighbour) = (&people[0], &people[1]);
        let traits = draw.sample(TRAITS, 3);
        let asked = *draw.pick(&traits);
        let other = *draw.pick(&traits);
        let context = format!("{} {}", about_person(person, &traits, draw), about_person(neighbour, &[other], draw));
        let answer = asked.value(person).to_owned();
        // the answer must be one place of the context, or its start would be a guess
        if context.matches(&answer).count() == 1 {
            return Span { title: person.name.to_owned(), context, question: asked.open_question(person.name), answer };
        }
    }
}
