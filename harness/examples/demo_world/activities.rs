//! Activities and how they go on: little scenes in the manner of HellaSwag.
//!
//! A scene is a beginning (`ctx_a`), a pronoun (`ctx_b`) and four endings. The right one belongs to the activity and agrees
//! with the beginning. Of the wrong ones, in rising difficulty, one belongs to another activity, one has the key word of
//! another (in brackets in the table), and one names another object than the beginning does.

use super::draw::Draw;
use super::world::{Person, World, town_names};

/// One activity: `{N}` is a name, `{O}` one of the objects, `{T}` a town.
struct Activity {
    label: &'static str,
    beginnings: [&'static str; 3],
    objects: [&'static str; 4],
    endings: [&'static str; 3],
}

/// A scene with four endings.
pub(crate) struct Scene {
    pub(crate) label: &'static str,
    pub(crate) ctx_a: String,
    pub(crate) ctx_b: &'static str,
    pub(crate) endings: [String; 4],
    pub(crate) gold: usize,
    pub(crate) activity: usize,
}

impl Scene {
    /// The context as the HellaSwag task writes it.
    pub(crate) fn context(&self) -> String {
        format!("{}: {} {}", self.label, self.ctx_a, super::world::capital(self.ctx_b))
    }

    /// Context and right ending, as in the training text.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.context(), self.endings[self.gold])
    }
}

/// A scene of some activity with the right ending at `gold`.
pub(crate) fn scene(world: &World, gold: usize, draw: &mut Draw) -> Scene {
    let index = draw.below(ACTIVITIES.len());
    let activity = &ACTIVITIES[index];
    let person: &Person = draw.pick(&world.people);
    let object = draw.word(&activity.objects);
    let ctx_a = draw
        .word(&activity.beginnings)
        .replace("{N}", person.name)
        .replace("{O}", object)
        .replace("{T}", draw.word(&town_names()));
    let right = draw.word(&activity.endings);
    let others: Vec<usize> = (0..ACTIVITIES.len()).filter(|other| *other != index).collect();
    let others = draw.sample(&others, 2);
    let stranger = &ACTIVITIES[others[0]];
    let elsewhere = plain(draw.word(&stranger.endings), draw.word(&stranger.objects));
    let odd = draw.word(&activity.endings);
    let odd = plain(&odd.replace(key_word(odd), key_word(ACTIVITIES[others[1]].endings[0])), object);
    let with_object: Vec<&'static str> = activity.endings.into_iter().filter(|ending| ending.contains("{O}")).collect();
    let changed = plain(draw.word(&with_object), draw.pick_other(&activity.objects, &[object]));
    let mut endings = vec![elsewhere, odd, changed];
    draw.shuffle(&mut endings);
    endings.insert(gold, plain(right, object));
    let endings = [0, 1, 2, 3].map(|i: usize| endings[i].clone());
    Scene { label: activity.label, ctx_a, ctx_b: person.she(), endings, gold, activity: index }
}

/// An ending without brackets, with its object.
fn plain(ending: &str, object: &str) -> String {
    ending.replace(['[', ']'], "").replace("{O}", object)
}

/// The word in brackets.
fn key_word(ending: &str) -> &str {
    let open = ending.find('[').map_or(0, |i| i + 1);
    let close = ending.find(']').unwrap_or(ending.len());
    &ending[open..close]
}

const ACTIVITIES: &[Activity] = &[
    Activity {
        label: "Baking bread",
        beginnings: [
            "{N} mixes flour and water in a {O} bowl.",
            "{N} stands in the warm bakery with a {O} bowl of dough.",
            "In {T}, {N} wants fresh bread and takes a {O} bowl.",
        ],
        objects: ["large", "small", "brown", "deep"],
        endings: [
            "puts the dough from the {O} bowl into the [oven].",
            "kneads the dough and lights the [oven].",
            "cleans the {O} bowl and opens the [oven].",
        ],
    },
    Activity {
        label: "Fishing",
        beginnings: [
            "{N} sits by the {O} with a long rod.",
            "Early in the day, {N} walks down to the {O} with a net.",
            "{N} and a friend from {T} are at the {O} to fish.",
        ],
        objects: ["lake", "river", "pond", "sea"],
        endings: [
            "pulls a fat [trout] out of the {O}.",
            "waits at the {O} for a [trout] to bite.",
            "puts the [trout] into a bucket.",
        ],
    },
    Activity {
        label: "Sewing a coat",
        beginnings: [
            "{N} holds a piece of {O} cloth.",
            "{N} has bought {O} wool cloth in {T}.",
            "{N} sits by the window with {O} cloth and scissors.",
        ],
        objects: ["blue", "red", "green", "grey"],
        endings: [
            "sews the {O} sleeve with a [needle].",
            "pulls a {O} thread through the [needle].",
            "cuts the cloth and looks for a [needle].",
        ],
    },
    Activity {
        label: "Feeding the hens",
        beginnings: [
            "{N} comes into the yard with a {O} of corn.",
            "{N} opens the hen house and carries a {O}.",
            "On the farm near {T}, {N} fills a {O} with corn.",
        ],
        objects: ["bucket", "basket", "bag", "pan"],
        endings: [
            "throws [corn] from the {O} to the hens.",
            "puts down the {O} of [corn] for the hens.",
            "watches the hens pick the [corn].",
        ],
    },
    Activity {
        label: "Milking the cow",
        beginnings: [
            "{N} sits down beside the {O} cow.",
            "{N} leads the {O} cow into the barn.",
            "In a barn at {T}, {N} speaks softly to the {O} cow.",
        ],
        objects: ["brown", "white", "black", "old"],
        endings: ["takes warm [milk] from the {O} cow.", "thanks the {O} cow for the [milk].", "fills the pail with [milk]."],
    },
    Activity {
        label: "Washing clothes",
        beginnings: [
            "{N} has a basket full of dirty {O}.",
            "{N} takes the {O} down to the river.",
            "It is washing day in {T} and {N} brings the {O}.",
        ],
        objects: ["shirts", "coats", "socks", "sheets"],
        endings: ["rubs the {O} with [soap] and water.", "rinses the [soap] out of the {O}.", "fetches water and more [soap]."],
    },
    Activity {
        label: "Digging the garden",
        beginnings: [
            "{N} wants to plant {O} this spring.",
            "{N} walks into the garden to plant {O}.",
            "Behind the house in {T}, {N} makes a bed for {O}.",
        ],
        objects: ["beans", "peas", "carrots", "onions"],
        endings: [
            "makes room for the {O} with the [spade].",
            "sets the {O} in a row and cleans the [spade].",
            "pushes the [spade] into the ground.",
        ],
    },
    Activity {
        label: "Painting a fence",
        beginnings: [
            "{N} opens a pot of {O} paint.",
            "{N} looks at the old fence and chooses {O} paint.",
            "The fence at {T} is old, so {N} mixes {O} paint.",
        ],
        objects: ["white", "green", "yellow", "brown"],
        endings: [
            "dips the [brush] into the {O} paint.",
            "makes the boards {O} with a big [brush].",
            "washes the [brush] in the evening.",
        ],
    },
    Activity {
        label: "Making tea",
        beginnings: [
            "{N} fills the {O} kettle with water.",
            "A guest from {T} comes, and {N} takes the {O} kettle.",
            "{N} puts the {O} kettle on the fire.",
        ],
        objects: ["old", "new", "black", "big"],
        endings: [
            "pours [tea] from the {O} kettle.",
            "lifts the {O} kettle and makes the [tea].",
            "drinks the hot [tea] slowly.",
        ],
    },
    Activity {
        label: "Building a table",
        beginnings: [
            "{N} lays four {O} boards on the bench.",
            "{N} has got {O} boards from the forest.",
            "A family in {T} needs a table, and {N} finds {O} boards.",
        ],
        objects: ["long", "strong", "dry", "smooth"],
        endings: [
            "cuts the {O} boards with a [saw].",
            "marks the {O} boards and takes the [saw].",
            "fixes the legs and puts the [saw] away.",
        ],
    },
    Activity {
        label: "Riding a horse",
        beginnings: [
            "{N} leads the {O} horse out of the stable.",
            "{N} wants to ride the {O} horse to {T}.",
            "{N} brushes the {O} horse and brings it hay.",
        ],
        objects: ["grey", "black", "young", "quiet"],
        endings: [
            "lays the [saddle] on the {O} horse.",
            "calls the {O} horse and climbs into the [saddle].",
            "sits in the [saddle] and rides away.",
        ],
    },
    Activity {
        label: "Writing a letter",
        beginnings: [
            "{N} sits at the {O} desk with a sheet of paper.",
            "{N} has a friend in {T} and sits down at the {O} desk.",
            "In the evening {N} takes a place at the {O} desk.",
        ],
        objects: ["small", "old", "round", "wooden"],
        endings: ["puts the [pen] on the {O} desk.", "bends over the {O} desk with a [pen].", "signs the page with the [pen]."],
    },
    Activity {
        label: "Picking fruit",
        beginnings: [
            "{N} leans a ladder against the tree full of {O}.",
            "The {O} are ripe, and {N} goes into the orchard.",
            "{N} helps to bring in the {O} at {T}.",
        ],
        objects: ["apples", "pears", "plums", "cherries"],
        endings: ["lays the {O} in a [basket].", "fills the [basket] with {O}.", "climbs down with a full [basket]."],
    },
    Activity {
        label: "Sweeping the floor",
        beginnings: [
            "{N} sees dust on the floor of the {O}.",
            "After the feast in {T}, {N} goes into the {O}.",
            "There are crumbs all over the {O}, and {N} sighs.",
        ],
        objects: ["kitchen", "hall", "school", "shop"],
        endings: [
            "sweeps the {O} with a [broom].",
            "walks through the {O} with the [broom].",
            "takes the [broom] from the corner.",
        ],
    },
    Activity {
        label: "Lighting the lamp",
        beginnings: [
            "It is getting dark in the {O}, and {N} stops reading.",
            "{N} comes home late to the {O} at {T}.",
            "The sun is down, and {N} can hardly see the {O}.",
        ],
        objects: ["room", "kitchen", "house", "cellar"],
        endings: ["lights the [lamp] in the {O}.", "carries a [lamp] through the {O}.", "pours oil into the [lamp]."],
    },
    Activity {
        label: "Rowing a boat",
        beginnings: [
            "{N} pushes the {O} boat off the shore.",
            "{N} wants to cross the water in the {O} boat.",
            "At the landing near {T}, {N} unties the {O} boat.",
        ],
        objects: ["little", "green", "old", "long"],
        endings: ["moves the {O} boat with both [oars].", "takes the [oars] of the {O} boat.", "rests the [oars] and drifts."],
    },
];
