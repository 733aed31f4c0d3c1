//! Little stories: five skeletons filled with people, towns, things, animals and seasons of the vale.

use super::draw::Draw;
use super::world::{ANIMALS, Person, SEASONS, THINGS, TOWNS, World, a, counted};

/// One story of four to six sentences.
pub(crate) fn story(world: &World, draw: &mut Draw) -> String {
    let people = draw.sample(&world.people, 2);
    let (one, two) = (&people[0], &people[1]);
    let (season, sight) = *draw.pick(SEASONS);
    match draw.below(5) {
        0 => market(one, two, season, draw),
        1 => lost_animal(one, two, draw),
        2 => lending(one, two, draw),
        3 => format!(
            "It was {season}, and in {} you could see {sight}. {} the {} got up early and drank some {}. {} put on the {} coat and went \
             to see {} in {}. They ate {} together and talked until the evening.",
            one.town.name,
            one.name,
            one.job.name,
            one.drink,
            one.she_capital(),
            one.coat,
            two.name,
            two.town.name,
            two.food
        ),
        _ => trade(one, two, draw),
    }
}

fn market(one: &Person, two: &Person, season: &str, draw: &mut Draw) -> String {
    let town = draw.pick(TOWNS);
    let n = draw.between(2, 9);
    format!(
        "One day in {season}, {} walked to the market in {}, the town by {}. There {} met {}, who {}. \"Good morning,\" said {}. \"I want \
         some {}.\" {} bought {} of {} and carried them home to {}.",
        one.name,
        town.name,
        town.by,
        one.she(),
        two.name,
        two.job.work,
        one.name,
        one.food,
        one.she_capital(),
        counted(n, "bags"),
        one.food,
        one.town.name
    )
}

fn lost_animal(one: &Person, two: &Person, draw: &mut Draw) -> String {
    let town = draw.pick(TOWNS);
    format!(
        "{} has {}. One morning the {} was gone. {} looked in the house, in the garden and by {}, but {} did not find it. Then {} came \
         from {} and said, \"Your {} is with me.\" {} was glad and thanked {}.",
        one.name,
        a(one.pet),
        one.pet,
        one.she_capital(),
        town.by,
        one.she(),
        two.name,
        two.town.name,
        one.pet,
        one.name,
        two.her()
    )
}

fn lending(one: &Person, two: &Person, draw: &mut Draw) -> String {
    let (thing, animal) = (draw.pick(THINGS), draw.pick(ANIMALS));
    let can = draw.pick(animal.can);
    format!(
        "{} wanted to {}, but {} had no {}. So {} asked {} for help. {} is {} and has everything one needs. \"Take my {},\" said {}. \
         \"It is made of {}.\" On the way home {} saw {} {}. \"It can {can},\" {} thought.",
        one.name,
        thing.purpose,
        one.she(),
        thing.name,
        one.she(),
        two.name,
        two.name,
        a(two.job.name),
        thing.name,
        two.name,
        thing.material,
        one.she(),
        a(animal.name),
        animal.home,
        one.she()
    )
}

fn trade(one: &Person, two: &Person, draw: &mut Draw) -> String {
    let job = one.job;
    let n = draw.between(2, 8);
    format!(
        "{} is {} in {}. {} {} and works with the {}. Today {} came with {} and asked for help. They worked for {} and then drank {}. \
         \"Sharing is kind,\" said {}, and {} gave {} some {} to take home.",
        one.name,
        a(job.name),
        one.town.name,
        one.she_capital(),
        job.work,
        job.tool,
        two.name,
        a(two.pet),
        counted(n, "hours"),
        one.drink,
        two.name,
        one.name,
        two.her(),
        one.food
    )
}
