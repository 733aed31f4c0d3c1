//! Tiny Python functions: thirteen operations of one line each, in the shapes of HumanEval and MBPP and as plain training text.
//!
//! The training text uses other function and argument names than the sample documents, so no document occurs in it verbatim.

use super::draw::Draw;

/// One operation. `{x}` and `{y}` stand for the arguments.
pub(crate) struct Operation {
    /// Function names: two for the training text, one for HumanEval, one for MBPP.
    names: [&'static str; 4],
    takes_two: bool,
    /// Completes "Return …".
    returns: &'static str,
    body: &'static str,
    /// Argument lists and results, as Python literals.
    cases: [(&'static str, &'static str); 3],
}

/// The argument names of the sample documents.
const SAMPLE_ARGUMENTS: (&str, &str) = ("a", "b");
/// The argument names of the training text.
const TEXT_ARGUMENTS: &[(&str, &str)] = &[("x", "y"), ("m", "n"), ("p", "q"), ("one", "two"), ("s", "t"), ("u", "v")];

impl Operation {
    fn signature(&self, name: &str, (x, y): (&str, &str)) -> String {
        if self.takes_two { format!("def {name}({x}, {y}):") } else { format!("def {name}({x}):") }
    }

    fn assertions(&self, function: &str) -> Vec<String> {
        self.cases.iter().map(|(arguments, result)| format!("assert {function}({arguments}) == {result}")).collect()
    }

    /// The name HumanEval's `entry_point` holds.
    pub(crate) fn entry_point(&self) -> &'static str {
        self.names[2]
    }

    /// HumanEval's `prompt`: signature and docstring with one example.
    pub(crate) fn prompt(&self) -> String {
        let (arguments, result) = self.cases[0];
        format!(
            "{}\n    \"\"\"Return {}.\n\n    >>> {}({arguments})\n    {result}\n    \"\"\"\n",
            self.signature(self.names[2], SAMPLE_ARGUMENTS),
            fill(self.returns, SAMPLE_ARGUMENTS),
            self.names[2]
        )
    }

    /// HumanEval's `canonical_solution`.
    pub(crate) fn solution(&self) -> String {
        format!("    return {}\n", fill(self.body, SAMPLE_ARGUMENTS))
    }

    /// HumanEval's `test`.
    pub(crate) fn test(&self) -> String {
        let lines: Vec<String> = self.assertions("candidate").iter().map(|line| format!("    {line}\n")).collect();
        format!("def check(candidate):\n{}", lines.concat())
    }

    /// MBPP's `text`.
    pub(crate) fn task(&self) -> String {
        format!("Write a function to return {}.", fill(self.returns, SAMPLE_ARGUMENTS))
    }

    /// MBPP's `code`.
    pub(crate) fn code(&self) -> String {
        format!("{}\n    return {}", self.signature(self.names[3], SAMPLE_ARGUMENTS), fill(self.body, SAMPLE_ARGUMENTS))
    }

    /// MBPP's `test_list`.
    pub(crate) fn tests(&self) -> Vec<String> {
        self.assertions(self.names[3])
    }
}

/// A template with its argument names.
fn fill(template: &str, (x, y): (&str, &str)) -> String {
    template.replace("{x}", x).replace("{y}", y)
}

/// A function as training text: with a docstring, or as an MBPP-shaped task.
pub(crate) fn text(draw: &mut Draw) -> String {
    let operation = draw.pick(OPERATIONS);
    let name = operation.names[draw.below(2)];
    let arguments = *draw.pick(TEXT_ARGUMENTS);
    let (signature, returns) = (operation.signature(name, arguments), fill(operation.returns, arguments));
    let body = fill(operation.body, arguments);
    if draw.percent(60) {
        let (example, result) = *draw.pick(&operation.cases);
        return format!(
            "{signature}\n    \"\"\"Return {returns}.\n\n    >>> {name}({example})\n    {result}\n    \"\"\"\n    return {body}"
        );
    }
    format!(
        "You are an expert Python programmer, and here is your task: Write a function to return {returns}. Your code should pass these \
         tests:\n\n{}\n[BEGIN]\n{signature}\n    return {body}\n[DONE]",
        operation.assertions(name).join("\n")
    )
}

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        names: ["add", "plus", "total", "sum_of_two"],
        takes_two: true,
        returns: "the sum of {x} and {y}",
        body: "{x} + {y}",
        cases: [("2, 3", "5"), ("10, 4", "14"), ("0, 7", "7")],
    },
    Operation {
        names: ["subtract", "minus", "difference", "take_away"],
        takes_two: true,
        returns: "{x} minus {y}",
        body: "{x} - {y}",
        cases: [("9, 4", "5"), ("7, 7", "0"), ("3, 5", "-2")],
    },
    Operation {
        names: ["multiply", "times", "product", "product_of_two"],
        takes_two: true,
        returns: "the product of {x} and {y}",
        body: "{x} * {y}",
        cases: [("2, 3", "6"), ("5, 4", "20"), ("0, 8", "0")],
    },
    Operation {
        names: ["larger", "bigger", "maximum", "larger_of_two"],
        takes_two: true,
        returns: "the larger of {x} and {y}",
        body: "max({x}, {y})",
        cases: [("2, 3", "3"), ("8, 5", "8"), ("4, 4", "4")],
    },
    Operation {
        names: ["smaller", "lesser", "minimum", "smaller_of_two"],
        takes_two: true,
        returns: "the smaller of {x} and {y}",
        body: "min({x}, {y})",
        cases: [("2, 3", "2"), ("8, 5", "5"), ("4, 4", "4")],
    },
    Operation {
        names: ["is_even", "even", "check_even", "number_is_even"],
        takes_two: false,
        returns: "whether {x} is even",
        body: "{x} % 2 == 0",
        cases: [("4", "True"), ("7", "False"), ("0", "True")],
    },
    Operation {
        names: ["double", "twice", "doubled", "double_of_number"],
        takes_two: false,
        returns: "two times {x}",
        body: "{x} * 2",
        cases: [("4", "8"), ("7", "14"), ("0", "0")],
    },
    Operation {
        names: ["square", "squared", "square_of", "square_of_number"],
        takes_two: false,
        returns: "the square of {x}",
        body: "{x} * {x}",
        cases: [("4", "16"), ("7", "49"), ("0", "0")],
    },
    Operation {
        names: ["length", "size", "count_letters", "length_of_word"],
        takes_two: false,
        returns: "the number of letters in the word {x}",
        body: "len({x})",
        cases: [("'lake'", "4"), ("'hen'", "3"), ("''", "0")],
    },
    Operation {
        names: ["reverse", "backwards", "reverse_word", "word_backwards"],
        takes_two: false,
        returns: "the word {x} backwards",
        body: "{x}[::-1]",
        cases: [("'lake'", "'ekal'"), ("'hen'", "'neh'"), ("'a'", "'a'")],
    },
    Operation {
        names: ["first", "head", "first_item", "first_of_list"],
        takes_two: false,
        returns: "the first item of the list {x}",
        body: "{x}[0]",
        cases: [("[3, 1, 2]", "3"), ("['hen', 'cow']", "'hen'"), ("[5]", "5")],
    },
    Operation {
        names: ["last", "tail", "last_item", "last_of_list"],
        takes_two: false,
        returns: "the last item of the list {x}",
        body: "{x}[-1]",
        cases: [("[3, 1, 2]", "2"), ("['hen', 'cow']", "'cow'"), ("[5]", "5")],
    },
    Operation {
        names: ["sum_all", "add_all", "sum_list", "sum_of_list"],
        takes_two: false,
        returns: "the sum of the list {x}",
        body: "sum({x})",
        cases: [("[3, 1, 2]", "6"), ("[10, 4]", "14"), ("[]", "0")],
    },
];
