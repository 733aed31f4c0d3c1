//! MMMU answer parsing and scoring: option letters of multiple-choice questions, texts and numbers of open ones.
//!
//! ```text
//! choice   strip , . ! ? ; : ' once around, in that order; letters as `(X)`, else as ` X `, else (more than 5 words) options whose text occurs;
//!          of several the one whose last occurrence is latest; none -> unparsed
//! open     per line the shortest tail after `could be `, `so `, `is `, `thus `, `therefore `, `final `, `answer `, `result ` (last line: `=`);
//!          plus all numbers in the tails. Correct if a text contains a gold text, or a number (rounded to 2 decimals) equals a gold number
//! ```
//! Unit: fraction (`acc`); higher is better. An unparsed choice is wrong and counted. Differs: the reference draws a random letter for it from a
//! process-wide generator; `compat` may draw its own, see [`choice_or_guess`].
//!
//! Source: Yue et al. 2023 (arXiv:2311.16502) §4.1; MMMU-Benchmark/MMMU `eval/utils`, as in lm-evaluation-harness 0.4.13.

use super::text;
use crate::python_random::PythonRandom;

/// Words above which the text of an option counts as an answer.
const CONTENT_WORDS: usize = 5;

const INDICATORS: [&str; 9] = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ", "="];
const TRIVIAL: [&str; 7] = [":", ",", ".", "!", "?", ";", "'"];

/// One normalised answer of an open question.
#[derive(Clone, Debug, PartialEq)]
pub enum OpenAnswer {
    /// Lower-case text.
    Text(String),
    /// Rounded to two decimals.
    Number(f64),
}

/// Index of the option that a response names; none when it names none. Option i has letter `A` + i.
pub fn parse_choice<S: AsRef<str>>(response: &str, options: &[S]) -> Option<usize> {
    let mut response = response;
    for mark in [',', '.', '!', '?', ';', ':', '\''] {
        response = response.trim_matches(mark);
    }
    let response = format!(" {response} ");
    let letters = options.len().min(26);
    let letter = |i: usize| char::from(b'A' + i as u8);
    // rightmost position per candidate, in the order of the options: the first of equals wins
    let latest = |needles: Vec<String>, hay: &str| -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        for (i, needle) in needles.iter().enumerate() {
            if let Some(at) = hay.rfind(needle.as_str()).filter(|at| best.is_none_or(|(_, latest)| *at > latest)) {
                best = Some((i, at));
            }
        }
        best.map(|(i, _)| i)
    };
    latest((0..letters).map(|i| format!("({})", letter(i))).collect(), &response)
        .or_else(|| latest((0..letters).map(|i| format!(" {} ", letter(i))).collect(), &response))
        .or_else(|| {
            if text::split(&response).count() <= CONTENT_WORDS {
                return None;
            }
            latest(options.iter().map(|o| o.as_ref().to_lowercase()).collect(), &response.to_lowercase())
        })
}

/// The parsed option, or the draw of `random.choice` in the reference's place: `compat` scoring with one `PythonRandom::new(42)` in document order.
/// None only without options.
pub fn choice_or_guess<S: AsRef<str>>(response: &str, options: &[S], rng: &mut PythonRandom) -> Option<usize> {
    parse_choice(response, options).or_else(|| (!options.is_empty()).then(|| rng.randbelow(options.len())))
}

/// The normalised answers in a response to an open question, without repeats.
pub fn parse_open(response: &str) -> Vec<OpenAnswer> {
    let tails = key_tails(response);
    let mut answers: Vec<OpenAnswer> = Vec::new();
    let numbers = tails.iter().flat_map(|tail| extract_numbers(tail));
    for answer in tails.iter().cloned().chain(numbers).flat_map(|t| normalize(&t)) {
        if !answers.contains(&answer) {
            answers.push(answer);
        }
    }
    answers
}

fn key_tails(response: &str) -> Vec<String> {
    let response = text::strip(response).trim_matches('.').to_lowercase();
    let mut tails = Vec::new();
    // The reference also splits before a capital letter, which lower-cased text does not have.
    let last = response.split('\n').count() - 1;
    for (line, part) in response.split('\n').enumerate() {
        let indicators = if line == last { &INDICATORS[..] } else { &INDICATORS[..INDICATORS.len() - 1] };
        let mut shortest: Option<&str> = None;
        for indicator in indicators {
            let Some((_, tail)) = part.rsplit_once(indicator) else { continue };
            let tail = text::strip(tail);
            // an empty tail is replaced by whatever comes next
            if shortest.is_none_or(|s| s.is_empty() || tail.chars().count() < s.chars().count()) {
                shortest = Some(tail);
            }
        }
        tails.extend(shortest.filter(|s| !s.is_empty() && !TRIVIAL.contains(s)).map(str::to_owned));
    }
    if tails.is_empty() { vec![response] } else { tails }
}

/// A text as the number it is, or in lower case; a single character is padded so that it does not match inside words.
pub fn normalize(answer: &str) -> Vec<OpenAnswer> {
    let answer = text::strip(answer);
    if let Ok(number) = text::strip(&answer.replace(',', "")).parse::<f64>() {
        return vec![OpenAnswer::Number(round_to_cents(number))];
    }
    let answer = answer.to_lowercase();
    if answer.chars().count() == 1 {
        return vec![OpenAnswer::Text(format!(" {answer}")), OpenAnswer::Text(format!("{answer} "))];
    }
    vec![OpenAnswer::Text(answer)]
}

/// Python's `round(x, 2)`: the two-decimal number nearest to the exact binary value.
fn round_to_cents(number: f64) -> f64 {
    if number.is_finite() { format!("{number:.2}").parse().unwrap_or(number) } else { number }
}

/// Numbers in a text: with thousands commas, scientific, plain; each form over the whole text.
///
/// The reference's patterns, matched by hand because the last one looks ahead:
/// `-?\b\d{1,3}(?:,\d{3})+\b`, `-?\d+(?:\.\d+)?[eE][+-]?\d+`, `-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])`.
fn extract_numbers(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut numbers = Vec::new();
    for form in [match_commas, match_scientific, match_plain] {
        let mut at = 0;
        while at < chars.len() {
            let signed = usize::from(chars[at] == '-');
            match form(&chars, at + signed) {
                Some(end) => {
                    numbers.push(chars[at..end].iter().collect());
                    at = end;
                }
                None => at += 1,
            }
        }
    }
    numbers
}

fn digits(chars: &[char], from: usize) -> usize {
    chars[from.min(chars.len())..].iter().take_while(|c| c.is_ascii_digit()).count()
}

fn is_word_at(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(|c| text::is_word(*c))
}

fn match_commas(chars: &[char], from: usize) -> Option<usize> {
    let lead = digits(chars, from);
    let inside_word = from > 0 && text::is_word(chars[from - 1]);
    if !(1..=3).contains(&lead) || inside_word {
        return None;
    }
    let mut end = from + lead;
    let mut last_edge = None; // the longest run of groups that ends at a word edge
    while chars.get(end) == Some(&',') && digits(chars, end + 1) >= 3 {
        end += 4;
        if !is_word_at(chars, end) {
            last_edge = Some(end);
        }
    }
    last_edge
}

fn exponent(chars: &[char], at: usize) -> Option<usize> {
    if !matches!(chars.get(at), Some('e' | 'E')) {
        return None;
    }
    let from = at + 1 + usize::from(matches!(chars.get(at + 1), Some('+' | '-')));
    let count = digits(chars, from);
    (count > 0).then_some(from + count)
}

fn match_scientific(chars: &[char], from: usize) -> Option<usize> {
    let whole = digits(chars, from);
    if whole == 0 {
        return None;
    }
    let end = from + whole;
    let fraction = if chars.get(end) == Some(&'.') { digits(chars, end + 1) } else { 0 };
    let with_fraction = if fraction > 0 { exponent(chars, end + 1 + fraction) } else { None };
    with_fraction.or_else(|| exponent(chars, end))
}

fn match_plain(chars: &[char], from: usize) -> Option<usize> {
    let allowed =
        |end: usize| exponent(chars, end).is_none() && !matches!(chars.get(end), Some(c) if *c == ',' || c.is_ascii_digit());
    let whole = digits(chars, from);
    let point = from + whole;
    if chars.get(point) == Some(&'.') {
        let fraction = digits(chars, point + 1);
        if fraction > 0 && allowed(point + 1 + fraction) {
            return Some(point + 1 + fraction);
        }
    }
    (whole > 0 && !is_word_at(chars, point) && allowed(point)).then_some(point)
}

/// Whether one of the parsed answers is right.
pub fn open_is_correct<S: AsRef<str>>(parsed: &[OpenAnswer], gold: &[S]) -> bool {
    let gold: Vec<OpenAnswer> = gold.iter().flat_map(|g| normalize(g.as_ref())).collect();
    parsed.iter().any(|answer| match answer {
        OpenAnswer::Text(text) => gold.iter().any(|g| matches!(g, OpenAnswer::Text(wanted) if text.contains(wanted.as_str()))),
        OpenAnswer::Number(_) => gold.contains(answer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: [&str; 4] = ["red", "blue sky", "Green", "none of the above"];

    #[test]
    fn letters_before_words_and_the_last_one_wins() {
        assert_eq!(parse_choice("The answer is (C).", &OPTIONS), Some(2));
        assert_eq!(parse_choice("I think A is right, not B", &OPTIONS), Some(1));
        assert_eq!(parse_choice("it is certainly Green in my own opinion here", &OPTIONS), Some(2));
        assert_eq!(parse_choice("ABBA is good", &OPTIONS), None);
        assert_eq!(parse_choice("Green", &OPTIONS), None); // five words or fewer: content is not looked at
    }

    #[test]
    fn guess_is_a_seeded_draw_and_only_for_the_unparsed() {
        let mut rng = PythonRandom::new(42);
        assert_eq!(choice_or_guess("(B)", &OPTIONS, &mut rng), Some(1));
        assert_eq!(choice_or_guess("?", &OPTIONS, &mut rng), Some(0));
        assert_eq!(choice_or_guess::<&str>("?", &[], &mut rng), None);
    }

    #[test]
    fn numbers_in_three_forms_as_pythons_patterns_find_them() {
        assert_eq!(extract_numbers("1,23,456"), ["23,456", "456"]);
        assert_eq!(extract_numbers("-1.5e3 and 2"), ["-1.5e3", "-1", "3", "2"]); // plain numbers are found inside scientific ones
        assert_eq!(extract_numbers("x2 .5 7a 1,234,5678"), ["1,234", "2", ".5", "5678"]);
    }

    #[test]
    fn numbers_round_as_binary_fractions() {
        assert_eq!([2.675, 0.125, 0.375, -1.005].map(round_to_cents), [2.67, 0.12, 0.38, -1.0]);
        assert_eq!(normalize("1,000"), [OpenAnswer::Number(1000.0)]);
        assert_eq!(normalize("X"), [OpenAnswer::Text(" x".to_owned()), OpenAnswer::Text("x ".to_owned())]);
    }

    #[test]
    fn open_answers_match_by_number_or_part_of_text() {
        let parsed = parse_open("It could be 7. Therefore 8.");
        assert_eq!(parsed, [OpenAnswer::Number(8.0)]);
        assert!(open_is_correct(&parsed, &["8.00"]));
        assert!(open_is_correct(&parse_open("the answer is a red apple"), &["Apple"]));
        assert!(!open_is_correct(&parse_open("5"), &["6", "five"]));
    }
}
