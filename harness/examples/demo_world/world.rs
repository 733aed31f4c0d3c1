//! The vale: its towns, trades, animals, things and people, and the facts that hold among them.
//!
//! Lists are written by hand; which person lives where, keeps which pet and so on is drawn once from the seed, each value about
//! equally often. Every other module only states these facts, so that text, questions and sample documents never contradict.

use super::draw::Draw;

/// A town of the vale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Town {
    pub(crate) name: &'static str,
    /// What it lies by, with its article.
    pub(crate) by: &'static str,
    /// What it is known for.
    pub(crate) known_for: &'static str,
}

/// A trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) name: &'static str,
    /// What the person does, third person.
    pub(crate) work: &'static str,
    pub(crate) tool: &'static str,
}

/// A kind of animal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Animal {
    pub(crate) name: &'static str,
    pub(crate) legs: u32,
    pub(crate) can: &'static [&'static str],
    pub(crate) cannot: &'static [&'static str],
    pub(crate) eats: &'static str,
    /// Where it lives, with a preposition.
    pub(crate) home: &'static str,
    /// What covers its body.
    pub(crate) cover: &'static str,
    /// Name of its young.
    pub(crate) young: &'static str,
}

/// A thing of daily use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thing {
    pub(crate) name: &'static str,
    pub(crate) material: &'static str,
    /// What it is for, an infinitive without "to".
    pub(crate) purpose: &'static str,
}

/// A person and the facts about that person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) female: bool,
    pub(crate) town: Town,
    pub(crate) job: Job,
    pub(crate) food: &'static str,
    pub(crate) drink: &'static str,
    pub(crate) pet: &'static str,
    pub(crate) coat: &'static str,
}

impl Person {
    /// Subject pronoun.
    pub(crate) fn she(&self) -> &'static str {
        if self.female { "she" } else { "he" }
    }

    /// Subject pronoun at the start of a sentence.
    pub(crate) fn she_capital(&self) -> &'static str {
        if self.female { "She" } else { "He" }
    }

    /// Object pronoun.
    pub(crate) fn her(&self) -> &'static str {
        if self.female { "her" } else { "him" }
    }
}

/// All facts.
pub(crate) struct World {
    pub(crate) people: Vec<Person>,
}

impl World {
    /// Gives every person a town, trade, food, drink, pet and coat.
    pub(crate) fn new(seed: u64) -> Self {
        let draw = &mut Draw::new(seed, "world");
        let names = WOMEN.iter().map(|name| (*name, true)).chain(MEN.iter().map(|name| (*name, false)));
        let n = WOMEN.len() + MEN.len();
        let (towns, jobs) = (spread(draw, TOWNS, n), spread(draw, JOBS, n));
        let (foods, drinks) = (spread(draw, &foods(), n), spread(draw, DRINKS, n));
        let (pets, coats) = (spread(draw, PETS, n), spread(draw, COLOURS, n));
        let people = names
            .enumerate()
            .map(|(i, (name, female))| Person {
                name,
                female,
                town: towns[i],
                job: jobs[i],
                food: foods[i],
                drink: drinks[i],
                pet: pets[i],
                coat: coats[i],
            })
            .collect();
        Self { people }
    }
}

/// `n` values, each item of `items` about equally often, in random order.
fn spread<T: Copy>(draw: &mut Draw, items: &[T], n: usize) -> Vec<T> {
    let mut values: Vec<T> = (0..n).map(|i| items[i % items.len()]).collect();
    draw.shuffle(&mut values);
    values
}

/// Everything people may like to eat.
pub(crate) fn foods() -> Vec<&'static str> {
    [FRUIT, VEGETABLES, DISHES].concat()
}

/// The names of all towns.
pub(crate) fn town_names() -> Vec<&'static str> {
    TOWNS.iter().map(|town| town.name).collect()
}

/// Noun with its indefinite article.
pub(crate) fn a(noun: &str) -> String {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { format!("an {noun}") } else { format!("a {noun}") }
}

/// First character in upper case.
pub(crate) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// "2 apples", "1 apple": regular plurals only.
pub(crate) fn counted(n: u32, plural: &str) -> String {
    if n == 1 { format!("1 {}", singular(plural)) } else { format!("{n} {plural}") }
}

/// Singular of the countable words used here.
fn singular(plural: &str) -> &str {
    match plural {
        "cherries" => "cherry",
        other => other.strip_suffix('s').unwrap_or(other),
    }
}

pub(crate) const WOMEN: &[&str] =
    &["Mira", "Anka", "Lena", "Sela", "Ilda", "Noor", "Wilma", "Tilda", "Petra", "Rosa", "Dora", "Hanna"];
pub(crate) const MEN: &[&str] =
    &["Tobin", "Jorin", "Pavo", "Rufus", "Bram", "Kesto", "Oren", "Hask", "Milo", "Edgar", "Falk", "Levin"];
pub(crate) const COLOURS: &[&str] = &["red", "blue", "green", "yellow", "brown", "white", "black", "grey"];
pub(crate) const FRUIT: &[&str] = &["apples", "pears", "plums", "cherries"];
pub(crate) const VEGETABLES: &[&str] = &["carrots", "beans", "onions", "peas"];
pub(crate) const DISHES: &[&str] = &["bread", "cheese", "soup", "cake"];
pub(crate) const DRINKS: &[&str] = &["milk", "water", "tea", "cider", "cocoa", "juice"];
pub(crate) const PETS: &[&str] = &["dog", "cat", "hen", "goat", "rabbit", "duck", "mouse", "horse"];
pub(crate) const KIND_ACTS: &[&str] = &["sharing", "helping", "thanking", "caring", "giving", "forgiving"];
pub(crate) const WRONG_ACTS: &[&str] = &["stealing", "lying", "cheating", "hitting", "shouting", "breaking"];
pub(crate) const LARGE: &[&str] = &["50", "60", "70", "80", "90"];
pub(crate) const SMALL: &[&str] = &["1", "2", "3", "4", "5"];
pub(crate) const WATERS: &[&str] = &["lake", "river", "sea", "pond"];
pub(crate) const LANDS: &[&str] = &["hill", "forest", "moor", "field"];
/// Season and what one sees outside.
pub(crate) const SEASONS: &[(&str, &str)] = &[
    ("spring", "new flowers in the fields"),
    ("summer", "ripe corn in the sun"),
    ("autumn", "brown leaves on the ground"),
    ("winter", "deep snow on the roofs"),
];

pub(crate) const TOWNS: &[Town] = &[
    Town { name: "Elmsby", by: "the lake", known_for: "bread" },
    Town { name: "Wexmere", by: "the river", known_for: "boats" },
    Town { name: "Brackmoor", by: "the moor", known_for: "wool" },
    Town { name: "Tollen", by: "the forest", known_for: "honey" },
    Town { name: "Ostrin", by: "the sea", known_for: "fish" },
    Town { name: "Pellgate", by: "the old bridge", known_for: "bells" },
    Town { name: "Dunmere", by: "the hill", known_for: "cheese" },
    Town { name: "Quarrow", by: "the mine", known_for: "iron" },
];

pub(crate) const JOBS: &[Job] = &[
    Job { name: "baker", work: "bakes bread", tool: "oven" },
    Job { name: "farmer", work: "grows corn", tool: "plough" },
    Job { name: "fisher", work: "catches fish", tool: "net" },
    Job { name: "smith", work: "makes horseshoes", tool: "hammer" },
    Job { name: "tailor", work: "sews coats", tool: "needle" },
    Job { name: "teacher", work: "teaches children", tool: "book" },
    Job { name: "carpenter", work: "builds tables", tool: "saw" },
    Job { name: "gardener", work: "grows flowers", tool: "spade" },
    Job { name: "painter", work: "paints walls", tool: "brush" },
    Job { name: "shepherd", work: "looks after sheep", tool: "staff" },
];

pub(crate) const THINGS: &[Thing] = &[
    Thing { name: "hammer", material: "iron", purpose: "drive nails into wood" },
    Thing { name: "needle", material: "steel", purpose: "sew a coat" },
    Thing { name: "spade", material: "iron", purpose: "dig a hole" },
    Thing { name: "lamp", material: "glass", purpose: "light a dark room" },
    Thing { name: "cup", material: "clay", purpose: "drink some tea" },
    Thing { name: "ladder", material: "wood", purpose: "reach the roof" },
    Thing { name: "kettle", material: "iron", purpose: "boil water" },
    Thing { name: "broom", material: "straw", purpose: "sweep the floor" },
    Thing { name: "rope", material: "hemp", purpose: "tie up a boat" },
    Thing { name: "knife", material: "steel", purpose: "cut the bread" },
    Thing { name: "key", material: "steel", purpose: "open a lock" },
    Thing { name: "basket", material: "straw", purpose: "carry apples home" },
    Thing { name: "pen", material: "wood", purpose: "write a letter" },
    Thing { name: "boat", material: "wood", purpose: "cross the lake" },
];

pub(crate) const ANIMALS: &[Animal] = &[
    Animal {
        name: "dog",
        legs: 4,
        can: &["run fast", "swim", "dig holes"],
        cannot: &["fly", "lay eggs", "make honey"],
        eats: "meat",
        home: "in the house",
        cover: "fur",
        young: "puppy",
    },
    Animal {
        name: "cat",
        legs: 4,
        can: &["climb trees", "see in the dark", "jump"],
        cannot: &["fly", "lay eggs", "pull a cart"],
        eats: "mice",
        home: "in the house",
        cover: "fur",
        young: "kitten",
    },
    Animal {
        name: "cow",
        legs: 4,
        can: &["give milk", "pull a cart"],
        cannot: &["fly", "climb trees", "lay eggs"],
        eats: "grass",
        home: "on the farm",
        cover: "hair",
        young: "calf",
    },
    Animal {
        name: "horse",
        legs: 4,
        can: &["run fast", "pull a cart", "jump"],
        cannot: &["fly", "climb trees", "make honey"],
        eats: "hay",
        home: "in the stable",
        cover: "hair",
        young: "foal",
    },
    Animal {
        name: "sheep",
        legs: 4,
        can: &["give wool", "give milk"],
        cannot: &["fly", "lay eggs", "climb trees"],
        eats: "grass",
        home: "on the farm",
        cover: "wool",
        young: "lamb",
    },
    Animal {
        name: "goat",
        legs: 4,
        can: &["give milk", "jump"],
        cannot: &["fly", "lay eggs", "make honey"],
        eats: "leaves",
        home: "on the farm",
        cover: "hair",
        young: "kid",
    },
    Animal {
        name: "hen",
        legs: 2,
        can: &["lay eggs"],
        cannot: &["swim", "give milk", "pull a cart", "make honey"],
        eats: "corn",
        home: "on the farm",
        cover: "feathers",
        young: "chick",
    },
    Animal {
        name: "duck",
        legs: 2,
        can: &["swim", "fly", "lay eggs"],
        cannot: &["give milk", "pull a cart", "climb trees"],
        eats: "water plants",
        home: "on the pond",
        cover: "feathers",
        young: "duckling",
    },
    Animal {
        name: "owl",
        legs: 2,
        can: &["fly", "see in the dark", "lay eggs"],
        cannot: &["swim", "give milk", "pull a cart"],
        eats: "mice",
        home: "in the forest",
        cover: "feathers",
        young: "owlet",
    },
    Animal {
        name: "frog",
        legs: 4,
        can: &["swim", "jump", "lay eggs"],
        cannot: &["fly", "give milk", "pull a cart"],
        eats: "flies",
        home: "in the pond",
        cover: "smooth skin",
        young: "tadpole",
    },
    Animal {
        name: "trout",
        legs: 0,
        can: &["swim", "lay eggs"],
        cannot: &["fly", "run fast", "climb trees", "give milk"],
        eats: "flies",
        home: "in the river",
        cover: "scales",
        young: "fry",
    },
    Animal {
        name: "bee",
        legs: 6,
        can: &["fly", "make honey"],
        cannot: &["swim", "give milk", "pull a cart", "run fast"],
        eats: "nectar",
        home: "in the hive",
        cover: "fine hair",
        young: "grub",
    },
    Animal {
        name: "mouse",
        legs: 4,
        can: &["dig holes", "run fast"],
        cannot: &["fly", "lay eggs", "pull a cart"],
        eats: "seeds",
        home: "in the barn",
        cover: "fur",
        young: "pup",
    },
    Animal {
        name: "rabbit",
        legs: 4,
        can: &["jump", "dig holes", "run fast"],
        cannot: &["fly", "lay eggs", "climb trees"],
        eats: "grass",
        home: "in the field",
        cover: "fur",
        young: "kit",
    },
    Animal {
        name: "fox",
        legs: 4,
        can: &["run fast", "dig holes", "see in the dark"],
        cannot: &["fly", "lay eggs", "pull a cart"],
        eats: "mice",
        home: "in the forest",
        cover: "fur",
        young: "cub",
    },
    Animal {
        name: "bear",
        legs: 4,
        can: &["climb trees", "swim", "run fast"],
        cannot: &["fly", "lay eggs", "make honey"],
        eats: "berries",
        home: "in the forest",
        cover: "fur",
        young: "cub",
    },
];
