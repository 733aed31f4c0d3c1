//! Tasks whose few-shot examples are a published text: GSM8K-CoT, GSM8K-PAL, MATH after Lewkowycz et al.
//!
//! The examples belong to their authors and are not in this repository. They are read from the data folder: a JSONL file of shots, the
//! published prompt file, or a stored prompt of the reference harness (`expected/<task>.jsonl` of a parity pack, found in the data folder's
//! neighbourhood), whose first context is cut back into its examples. When none is there the pool is missing, and so is the task.
//!
//! With the bundled samples the examples are made from the sample's own worked answers, in the published form.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::reader::{parse_error, records};
use super::{Loader, Origin, Record, Role, gsm8k, math};
use crate::definition::Leaf;
use crate::error::TaskError;
use crate::metrics::math::gold_answer;
use crate::metrics::text::strip;
use crate::spec::Profile;

/// How a prompt file writes its examples.
struct Form {
    /// Before a question.
    question: &'static str,
    /// Between question and answer.
    answer: &'static str,
    /// Between examples.
    between: &'static str,
    /// Field names of question and answer.
    fields: [&'static str; 2],
}

/// Cuts a prompt into its examples; the last one, whose answer is missing, is the evaluated question.
fn shots_of_prompt(form: &Form, file: &Arc<str>, prompt: &str) -> Result<Vec<Record>, TaskError> {
    let separator = format!("{}{}", form.between, form.question);
    let body = prompt.trim_start_matches('\n').strip_prefix(form.question);
    let body =
        body.ok_or_else(|| parse_error(file, 1, format!("expected a prompt that begins `{}`", form.question.escape_default())))?;
    let mut found = Vec::new();
    for example in body.split(separator.as_str()) {
        let Some((question, answer)) = example.split_once(form.answer) else { continue };
        if strip(answer).is_empty() || question.contains("{question}") {
            continue;
        }
        let fields =
            form.fields.iter().zip([question, answer]).map(|(name, text)| ((*name).to_owned(), Value::from(text))).collect();
        found.push(Record { file: Arc::clone(file), line: found.len() + 1, fields });
    }
    if found.is_empty() { Err(TaskError::Empty { file: file.to_string() }) } else { Ok(found) }
}

/// Reads shots from a JSONL file of shots, a stored prompt of the reference (a row with `context`), or a prompt text.
fn shot_records(form: &Form, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
    if !file.ends_with(".jsonl") {
        // a Python file keeps the prompt in its first triple-quoted text
        let quoted = ["'''", "\"\"\""].iter().filter_map(|q| Some((text.find(q)?, *q))).min();
        let prompt = match quoted {
            Some((start, quote)) if file.ends_with(".py") => {
                let rest = &text[start + 3..];
                rest.split(quote).next().unwrap_or(rest)
            }
            _ => text,
        };
        return shots_of_prompt(form, file, prompt);
    }
    let rows = records(file, text)?;
    match rows.first() {
        Some(first) if first.fields.contains_key("context") => shots_of_prompt(form, file, first.text("context")?),
        _ => Ok(rows),
    }
}

/// Where a stored prompt of the reference may stand, seen from a data folder of the parity pack and from one beside the packs.
fn stored_prompts(task: &str) -> [String; 2] {
    [format!("../expected/{task}.jsonl"), format!("../parity/lm_eval/expected/{task}.jsonl")]
}

fn texts(pairs: [(&str, &str); 2]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, text)| (name.to_owned(), Value::from(text))).collect()
}

/// What the missing file would hold.
fn published(what: &str) -> String {
    format!("the published few-shot examples ({what}), which are not part of this repository")
}

pub(crate) struct Gsm8kCot;

const GSM8K_COT: Form = Form { question: "Q: ", answer: "\nA:", between: "\n\n", fields: ["question", "target"] };

impl Loader for Gsm8kCot {
    fn candidates(&self, leaf: &Leaf, role: Role) -> Vec<String> {
        if role == Role::Test {
            return gsm8k::Gsm8k.candidates(leaf, role);
        }
        let own = ["gsm8k/gsm8k_cot_shots.jsonl", "gsm8k/gsm8k_cot_prompt.txt"].map(str::to_owned);
        own.into_iter().chain(stored_prompts("gsm8k_cot")).collect()
    }

    fn records(&self, _leaf: &Leaf, role: Role, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
        if role == Role::Test { records(file, text) } else { shot_records(&GSM8K_COT, file, text) }
    }

    fn fields(&self, _leaf: &Leaf, role: Role, origin: Origin, record: &Record) -> Result<Option<Map<String, Value>>, TaskError> {
        if role == Role::Test {
            return gsm8k::document(record).map(Some);
        }
        let question = record.filled_text("question")?;
        if origin == Origin::Bundled {
            let fields = gsm8k::document(record)?;
            let (answer, number) = (record.text("answer")?, fields["answer_number"].as_str().unwrap_or_default());
            let target = format!("{} The answer is {number}.", gsm8k::steps(answer).replace('\n', " "));
            return Ok(Some(texts([("question", question), ("target", &target)])));
        }
        Ok(Some(texts([("question", question), ("target", strip(record.filled_text("target")?))])))
    }

    fn whereabouts(&self, leaf: &Leaf, role: Role) -> String {
        match role {
            Role::Test => gsm8k::Gsm8k.whereabouts(leaf, role),
            Role::Shots => published(
                "eight chain-of-thought solutions, Wei et al. 2022, arXiv 2201.11903, table 20; lines of `question`, `target`",
            ),
        }
    }
}

pub(crate) struct Gsm8kPal;

const GSM8K_PAL: Form =
    Form { question: "Q: ", answer: "\n\n# solution in Python:\n\n\n", between: "\n\n\n\n\n\n", fields: ["question", "program"] };

impl Loader for Gsm8kPal {
    fn candidates(&self, leaf: &Leaf, role: Role) -> Vec<String> {
        if role == Role::Test {
            return gsm8k::Gsm8k.candidates(leaf, role);
        }
        let own = ["gsm8k/pal/gsm8k_pal_shots.jsonl", "gsm8k/pal/math_prompts.py", "gsm8k/pal/prompt.txt"].map(str::to_owned);
        // Ours, when the published prompt is not there: the training split's own worked answers, as programs. Never in `compat`.
        let made = gsm8k::Gsm8k.candidates(leaf, role).into_iter().filter(|_| leaf.profile == Profile::Canonical);
        own.into_iter().chain(stored_prompts("gsm8k_pal")).chain(made).collect()
    }

    fn shots_note(&self, _leaf: &Leaf, file: &str) -> Option<String> {
        is_training_file(file).then(|| format!("the published programs (pal/prompt/math_prompts.py) were not found: the shots are worked answers of `{file}`, written as programs"))
    }

    fn records(&self, _leaf: &Leaf, role: Role, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
        if role == Role::Test { records(file, text) } else { shot_records(&GSM8K_PAL, file, text) }
    }

    fn fields(&self, leaf: &Leaf, role: Role, origin: Origin, record: &Record) -> Result<Option<Map<String, Value>>, TaskError> {
        if role == Role::Test {
            return gsm8k::document(record).map(Some);
        }
        let question = record.filled_text("question")?;
        let may_be_made = leaf.profile == Profile::Canonical && is_training_file(&record.file);
        if origin == Origin::Bundled || (may_be_made && !record.fields.contains_key("program")) {
            let fields = gsm8k::document(record)?;
            let number = fields["answer_number"].as_str().unwrap_or_default().replace(',', "");
            let program = worked_program(question, record.text("answer")?, &number);
            return Ok(Some(texts([("question", question), ("program", &program)])));
        }
        let program = record.filled_text("program")?.trim_end_matches('\n');
        Ok(Some(texts([("question", question), ("program", program)])))
    }

    fn whereabouts(&self, leaf: &Leaf, role: Role) -> String {
        match role {
            Role::Test => gsm8k::Gsm8k.whereabouts(leaf, role),
            Role::Shots => {
                published("eight programs, Gao et al. 2022, project reasoning-machines/pal, file pal/prompt/math_prompts.py")
            }
        }
    }
}

/// Whether a file holds GSM8K's training split, whose records have worked answers instead of programs.
fn is_training_file(file: &str) -> bool {
    file.rsplit('/').next().is_some_and(|name| name.starts_with("train."))
}

/// A program of the published form from the notes of a worked answer: one line per `<<expression=value>>`, the last one returned.
fn worked_program(question: &str, answer: &str, number: &str) -> String {
    let mut lines = vec!["def solution():".to_owned(), format!("    \"\"\"{question}\"\"\"")];
    let expressions = gsm8k::expressions(answer);
    for (i, expression) in expressions.iter().enumerate() {
        let name = if i + 1 == expressions.len() { "result".to_owned() } else { format!("step_{}", i + 1) };
        lines.push(format!("    {name} = {expression}"));
    }
    if expressions.is_empty() {
        lines.push(format!("    result = {number}"));
    }
    lines.push("    return result".to_owned());
    lines.join("\n")
}

pub(crate) struct MinervaMath;

const MINERVA_MATH: Form =
    Form { question: "Problem:\n", answer: "\n\nSolution:", between: "\n\n", fields: ["problem", "solution"] };

impl Loader for MinervaMath {
    fn candidates(&self, leaf: &Leaf, role: Role) -> Vec<String> {
        if role == Role::Test {
            return math::candidates(leaf, role);
        }
        let own = ["math/minerva_math_shots.jsonl", "math/minerva_math_prompt.txt"].map(str::to_owned);
        // every subject has the same four shots
        own.into_iter().chain(stored_prompts(&leaf.spec.name)).chain(stored_prompts("minerva_math_algebra")).collect()
    }

    fn records(&self, _leaf: &Leaf, role: Role, file: &Arc<str>, text: &str) -> Result<Vec<Record>, TaskError> {
        if role == Role::Test { records(file, text) } else { shot_records(&MINERVA_MATH, file, text) }
    }

    fn fields(&self, leaf: &Leaf, role: Role, origin: Origin, record: &Record) -> Result<Option<Map<String, Value>>, TaskError> {
        if role == Role::Test {
            return math::document(leaf, record);
        }
        let problem = record.filled_text("problem")?;
        let mut solution = strip(record.filled_text("solution")?).to_owned();
        if origin == Origin::Bundled && !solution.contains("Final Answer:") {
            let answer = gold_answer(&solution).map_err(|e| record.error("solution", "a box with the answer", e.to_string()))?;
            solution = format!("{solution}\nFinal Answer: The final answer is ${answer}$. I hope it is correct.");
        }
        Ok(Some(texts([("problem", problem), ("solution", &solution)])))
    }

    fn whereabouts(&self, leaf: &Leaf, role: Role) -> String {
        match role {
            Role::Test => math::Math.whereabouts(leaf, role),
            Role::Shots => {
                published("four solutions, Lewkowycz et al. 2022, arXiv 2206.14858, appendix D.2; lines of `problem`, `solution`")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_cut_back_into_its_examples() {
        let prompt = "Q: One?\nA: It is 1. The answer is 1.\n\nQ: Two?\nA: It is 2. The answer is 2.\n\nQ: Three?\nA:";
        let shots = shot_records(&GSM8K_COT, &Arc::from("p.txt"), prompt).unwrap();
        assert_eq!(shots.len(), 2);
        assert_eq!(
            (shots[1].text("question").unwrap(), shots[1].text("target").unwrap()),
            ("Two?", " It is 2. The answer is 2.")
        );
    }

    #[test]
    fn a_python_prompt_file_is_read_between_its_quotes() {
        let between = "\n".repeat(6);
        let shot = "Q: One?\n\n# solution in Python:\n\n\ndef solution():\n    return 1";
        let file = format!("PROMPT = '''\n{shot}{between}Q: {{question}}\n\n# solution in Python:\n'''.strip()\n");
        let shots = shot_records(&GSM8K_PAL, &Arc::from("math_prompts.py"), &file).unwrap();
        assert_eq!(shots.len(), 1);
        assert_eq!(shots[0].text("program").unwrap(), "def solution():\n    return 1");
    }

    #[test]
    fn a_worked_answer_becomes_a_program() {
        let program = worked_program("How many?", "2*3=<<2*3=6>>6, 6+1=<<6+1=7>>7\n#### 7", "7");
        assert_eq!(program, "def solution():\n    \"\"\"How many?\"\"\"\n    step_1 = 2*3\n    result = 6+1\n    return result");
    }
}
