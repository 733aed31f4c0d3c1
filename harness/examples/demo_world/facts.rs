//! Facts as sentences: what is said of a person, an animal or a thing, how it is asked and what a wrong value would be.
//!
//! [`Trait`] lists the facts known of every person; each has two wordings, a denial, a yes/no question and an open question.
//! Passages, little notes and all reading questions are put together from these sentences.

use super::draw::Draw;
use super::world::{ANIMALS, Animal, COLOURS, DRINKS, JOBS, PETS, Person, THINGS, TOWNS, Thing, Town, World, a, capital, foods};

/// A fact known of every person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trait {
    Town,
    Job,
    Food,
    Drink,
    Pet,
    Coat,
}

pub(crate) const TRAITS: &[Trait] = &[Trait::Town, Trait::Job, Trait::Food, Trait::Drink, Trait::Pet, Trait::Coat];

impl Trait {
    /// The value that holds for `person`.
    pub(crate) fn value(self, person: &Person) -> &'static str {
        match self {
            Self::Town => person.town.name,
            Self::Job => person.job.name,
            Self::Food => person.food,
            Self::Drink => person.drink,
            Self::Pet => person.pet,
            Self::Coat => person.coat,
        }
    }

    /// All values it can have.
    pub(crate) fn values(self) -> Vec<&'static str> {
        match self {
            Self::Town => TOWNS.iter().map(|town| town.name).collect(),
            Self::Job => JOBS.iter().map(|job| job.name).collect(),
            Self::Food => foods(),
            Self::Drink => DRINKS.to_vec(),
            Self::Pet => PETS.to_vec(),
            Self::Coat => COLOURS.to_vec(),
        }
    }

    /// A value that does not hold for `person`.
    pub(crate) fn wrong_value(self, person: &Person, draw: &mut Draw) -> &'static str {
        draw.pick_other(&self.values(), &[self.value(person)])
    }

    /// The fact as a sentence about `subject` (a name or a pronoun), in one of two wordings.
    pub(crate) fn sentence(self, subject: &str, value: &str, draw: &mut Draw) -> String {
        let first = draw.percent(50);
        match (self, first) {
            (Self::Town, true) => format!("{subject} lives in {value}."),
            (Self::Town, false) => format!("{subject} has a house in {value}."),
            (Self::Job, true) => format!("{subject} is {}.", a(value)),
            (Self::Job, false) => format!("{subject} works as {}.", a(value)),
            (Self::Food, true) => format!("{subject} likes {value}."),
            (Self::Food, false) => format!("{subject} often eats {value}."),
            (Self::Drink, true) => format!("{subject} drinks {value} in the morning."),
            (Self::Drink, false) => format!("{subject} starts the day with {value}."),
            (Self::Pet, true) => format!("{subject} has {}.", a(value)),
            (Self::Pet, false) => format!("{subject} keeps {} at home.", a(value)),
            (Self::Coat, true) => format!("{subject} wears {} coat.", a(value)),
            (Self::Coat, false) => format!("{subject} has {} coat.", a(value)),
        }
    }

    /// That a value does not hold.
    pub(crate) fn denial(self, subject: &str, value: &str) -> String {
        match self {
            Self::Town => format!("{subject} does not live in {value}."),
            Self::Job => format!("{subject} is not {}.", a(value)),
            Self::Food => format!("{subject} does not like {value}."),
            Self::Drink => format!("{subject} does not drink {value}."),
            Self::Pet => format!("{subject} does not have {}.", a(value)),
            Self::Coat => format!("{subject} does not wear {} coat.", a(value)),
        }
    }

    /// Yes/no question without question mark, as BoolQ has it.
    pub(crate) fn yes_no(self, name: &str, value: &str) -> String {
        match self {
            Self::Town => format!("does {name} live in {value}"),
            Self::Job => format!("is {name} {}", a(value)),
            Self::Food => format!("does {name} like {value}"),
            Self::Drink => format!("does {name} drink {value} in the morning"),
            Self::Pet => format!("does {name} have {}", a(value)),
            Self::Coat => format!("does {name} wear {} coat", a(value)),
        }
    }

    /// Open question whose answer is the value.
    pub(crate) fn open_question(self, name: &str) -> String {
        match self {
            Self::Town => format!("Where does {name} live?"),
            Self::Job => format!("What is the job of {name}?"),
            Self::Food => format!("What does {name} like to eat?"),
            Self::Drink => format!("What does {name} drink in the morning?"),
            Self::Pet => format!("Which animal does {name} have?"),
            Self::Coat => format!("Which colour is the coat of {name}?"),
        }
    }
}

/// Sentences about `person`: the name first, then the pronoun.
pub(crate) fn about_person(person: &Person, traits: &[Trait], draw: &mut Draw) -> String {
    let mut sentences = Vec::with_capacity(traits.len());
    for (i, fact) in traits.iter().enumerate() {
        let subject = if i == 0 { person.name } else { person.she_capital() };
        sentences.push(fact.sentence(subject, fact.value(person), draw));
    }
    sentences.join(" ")
}

/// `n` sentences about an animal, and `told` somewhere after the first.
pub(crate) fn about_animal(animal: &Animal, told: Option<&str>, n: usize, draw: &mut Draw) -> String {
    let the = format!("The {}", animal.name);
    let mut sentences = vec![
        format!("{the} lives {}.", animal.home),
        format!("It eats {}.", animal.eats),
        format!("Its body is covered with {}.", animal.cover),
        format!("Its young is called {}.", a(animal.young)),
        match animal.legs {
            0 => "It has no legs.".to_owned(),
            legs => format!("It has {legs} legs."),
        },
    ];
    let first = sentences.remove(0);
    draw.shuffle(&mut sentences);
    sentences.truncate(n.saturating_sub(1));
    if let Some(told) = told {
        sentences.insert(draw.below(sentences.len() + 1), told.to_owned());
    }
    sentences.insert(0, first);
    sentences.join(" ")
}

/// Two sentences about a thing in somebody's hands.
pub(crate) fn about_thing(person: &Person, thing: &Thing, draw: &mut Draw) -> String {
    let she = person.she_capital();
    let has = if draw.percent(50) { "has" } else { "bought" };
    format!("{} {has} {} made of {}. {she} uses it to {}.", person.name, a(thing.name), thing.material, thing.purpose)
}

/// A note that stands by itself in the training text: some person, animal, thing or town and what is true of it.
pub(crate) fn note(world: &World, draw: &mut Draw) -> String {
    match draw.below(10) {
        0..=4 => {
            let person = draw.pick(&world.people);
            let traits = draw.sample(TRAITS, 4);
            let mut text = about_person(person, &traits, draw);
            if draw.percent(30) {
                let fact = *draw.pick(&traits);
                let wrong = fact.wrong_value(person, draw);
                text = format!("{text} {}", fact.denial(person.name, wrong));
            }
            text
        }
        5..=6 => animal_note(draw.pick(ANIMALS), draw),
        7..=8 => {
            let thing = draw.pick(THINGS);
            let name = capital(&a(thing.name));
            format!("{name} is made of {}. You take it to {}. {}", thing.material, thing.purpose, material_remark(thing.material))
        }
        _ => town_note(world, draw.pick(TOWNS)),
    }
}

fn animal_note(animal: &Animal, draw: &mut Draw) -> String {
    let (can, cannot) = (*draw.pick(animal.can), *draw.pick(animal.cannot));
    let name = animal.name;
    match draw.below(3) {
        0 => format!("{} It cannot {cannot}.", about_animal(animal, Some(&format!("It can {can}.")), 3, draw)),
        1 => format!("Can {} {can}? Yes, {} can {can}. Can it {cannot}? No, it cannot.", a(name), a(name)),
        _ => format!(
            "{} has {} legs and eats {}. It can {can}, but it cannot {cannot}.",
            capital(&a(name)),
            if animal.legs == 0 { "no".to_owned() } else { animal.legs.to_string() },
            animal.eats
        ),
    }
}

fn town_note(world: &World, town: &Town) -> String {
    let people: Vec<&str> = world.people.iter().filter(|person| person.town == *town).map(|person| person.name).collect();
    format!(
        "{} is a town by {}. It is known for its {}. {} live there.",
        town.name,
        town.by,
        town.known_for,
        people.join(" and ")
    )
}

fn material_remark(material: &str) -> &'static str {
    match material {
        "iron" | "steel" => "The smiths of Quarrow know this metal well.",
        "glass" => "Glass breaks when it falls.",
        "clay" => "Clay is soft first and hard after the fire.",
        "wood" => "The wood comes from the forest near Tollen.",
        _ => "It is light and easy to carry.",
    }
}
