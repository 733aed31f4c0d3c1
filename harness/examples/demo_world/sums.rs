//! Sums with their worked answers, in the shapes of GSM8K, MGSM and MATH.
//!
//! GSM8K rows end in `#### N`; the chain-of-thought form of the text says `The answer is N.`; MATH solutions hold `\boxed{N}` and close
//! with the sentence that the Minerva extraction looks for.

use super::draw::Draw;
use super::world::{FRUIT, VEGETABLES, World, counted};

/// A word problem: question, reasoning with its last equation, number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WordProblem {
    pub(crate) question: String,
    pub(crate) reasoning: String,
    pub(crate) equation: String,
    pub(crate) answer: u32,
}

impl WordProblem {
    /// `Q: … A: …`, the chain-of-thought form.
    pub(crate) fn chain_of_thought(&self) -> String {
        format!("Q: {}\nA: {} The answer is {}.", self.question, self.reasoning, self.answer)
    }

    /// `Question: … Answer: …`, the form of GSM8K's own solutions.
    pub(crate) fn gsm8k(&self) -> String {
        format!("Question: {}\nAnswer: {}", self.question, self.gsm8k_answer())
    }

    /// GSM8K's `answer` field.
    pub(crate) fn gsm8k_answer(&self) -> String {
        format!("{}\n#### {}", self.reasoning, self.answer)
    }

    /// `Question: … Step-by-Step Answer: …`, the form of MGSM.
    pub(crate) fn mgsm(&self) -> String {
        format!("Question: {}\n{}", self.question, self.mgsm_answer())
    }

    /// MGSM's `answer` field of an exemplar.
    pub(crate) fn mgsm_answer(&self) -> String {
        format!("Step-by-Step Answer: {} The answer is {}.", self.reasoning, self.answer)
    }
}

/// A word problem with one step.
pub(crate) fn word_problem(world: &World, draw: &mut Draw) -> WordProblem {
    let people = draw.sample(&world.people, 2);
    let (one, two) = (&people[0], &people[1]);
    let things = *draw.pick(&[FRUIT, VEGETABLES].concat());
    let (x, y) = (draw.between(2, 9), draw.between(2, 9));
    let (name, other, she) = (one.name, two.name, one.she());
    match draw.below(5) {
        0 => WordProblem {
            question: format!(
                "{name} has {x} {things}. {other} gives {} {y} more. How many {things} does {name} have now?",
                one.her()
            ),
            reasoning: format!("{name} starts with {x} {things} and gets {y} more. {x} + {y} = {}.", x + y),
            equation: format!("{x} + {y} = {}.", x + y),
            answer: x + y,
        },
        1 => WordProblem {
            question: format!(
                "{name} has {} {things}. {} gives {y} to {other}. How many {things} are left?",
                x + y,
                capital_she(she)
            ),
            reasoning: format!("{name} starts with {} {things} and gives away {y}. {} - {y} = {x}.", x + y, x + y),
            equation: format!("{} - {y} = {x}.", x + y),
            answer: x,
        },
        2 => {
            let bags = draw.between(2, 5);
            WordProblem {
                question: format!("{name} has {bags} bags with {x} {things} in each. How many {things} does {name} have?"),
                reasoning: format!("There are {bags} bags of {x} {things}. {bags} * {x} = {}.", bags * x),
                equation: format!("{bags} * {x} = {}.", bags * x),
                answer: bags * x,
            }
        }
        3 => WordProblem {
            question: format!("{name} picks {x} {things} and {other} picks {y}. How many {things} do they have together?"),
            reasoning: format!("{name} has {x} and {other} has {y}. {x} + {y} = {}.", x + y),
            equation: format!("{x} + {y} = {}.", x + y),
            answer: x + y,
        },
        _ => {
            let price = draw.between(2, 6);
            WordProblem {
                question: format!(
                    "In {}, one bag of {things} costs {price} coins. How many coins does {name} pay for {}?",
                    two.town.name,
                    counted(x, "bags")
                ),
                reasoning: format!("One bag costs {price} coins and {name} takes {x}. {x} * {price} = {}.", x * price),
                equation: format!("{x} * {price} = {}.", x * price),
                answer: x * price,
            }
        }
    }
}

fn capital_she(she: &str) -> &'static str {
    if she == "she" { "She" } else { "He" }
}

/// The seven subjects of MATH, as its `type` field writes them.
pub(crate) const MATH_TYPES: &[&str] =
    &["Algebra", "Counting & Probability", "Geometry", "Intermediate Algebra", "Number Theory", "Prealgebra", "Precalculus"];

/// A row of MATH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MathProblem {
    pub(crate) problem: String,
    pub(crate) solution: String,
    pub(crate) kind: &'static str,
}

impl MathProblem {
    /// Both prompt shapes' common form: problem, then solution.
    pub(crate) fn text(&self) -> String {
        format!("Problem:\n{}\n\nSolution: {}", self.problem, self.solution)
    }
}

/// A one-line problem of the given subject.
pub(crate) fn math_problem(kind: &'static str, draw: &mut Draw) -> MathProblem {
    let (x, y) = (draw.between(2, 9), draw.between(2, 9));
    let (problem, steps, answer) = match kind {
        "Algebra" => (
            format!("If $x + {y} = {}$, what is $x$?", x + y),
            format!("We take ${y}$ from both sides: $x = {} - {y} = {x}$.", x + y),
            x,
        ),
        "Counting & Probability" => (
            format!("A tailor has ${x}$ coats and ${y}$ hats. In how many ways can one coat and one hat be chosen?"),
            format!("Each coat goes with each hat: ${x} \\cdot {y} = {}$.", x * y),
            x * y,
        ),
        "Geometry" => (
            format!("A garden is ${x}$ steps long and ${y}$ steps wide. What is its area in square steps?"),
            format!("The area is length times width: ${x} \\cdot {y} = {}$.", x * y),
            x * y,
        ),
        "Intermediate Algebra" => (
            format!("What is the larger root of $(x - {})(x - {}) = 0$?", x.min(y), x.max(y) + 1),
            format!("The roots are ${}$ and ${}$.", x.min(y), x.max(y) + 1),
            x.max(y) + 1,
        ),
        "Number Theory" => (
            format!("What is the remainder when ${}$ is divided by ${}$?", x * (y + 1) + 1, x),
            format!("We have ${} = {x} \\cdot {} + 1$.", x * (y + 1) + 1, y + 1),
            1 % x,
        ),
        "Prealgebra" => (
            format!("What is ${x} + {y} \\cdot 2$?"),
            format!("We multiply first: ${y} \\cdot 2 = {}$ and ${x} + {} = {}$.", 2 * y, 2 * y, x + 2 * y),
            x + 2 * y,
        ),
        _ => (
            format!("What is ${x} \\cdot \\sin 90^\\circ + {y} \\cdot \\sin 0^\\circ$?"),
            format!("Here $\\sin 90^\\circ = 1$ and $\\sin 0^\\circ = 0$, so the sum is ${x} + 0 = {x}$."),
            x,
        ),
    };
    let solution =
        format!("{steps} So we get $\\boxed{{{answer}}}$.\nFinal Answer: The final answer is ${answer}$. I hope it is correct.");
    MathProblem { problem, solution, kind }
}
