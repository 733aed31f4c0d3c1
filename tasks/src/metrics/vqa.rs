//! VQA accuracy over ten human answers (TextVQA), with its answer normaliser.
//!
//! ```text
//! acc_i = min(1, #{j ≠ i : normal(a_j) = normal(p)} / 3);   score = mean over i
//! ```
//! Unit: fraction; higher is better. Fewer than two answers are an error.
//!
//! The normaliser, in order: lower-case; `,` and `?` deleted; `'s` → ` 's`; stripped; punctuation deleted where it stands beside a space anywhere in
//! the text, else a space; periods not followed by a digit deleted, the first 32 of them; number words to digits;
//! articles dropped; contractions given their apostrophe back; one space between words. The limit of 32 is a slip in the reference and kept.
//!
//! Source: Antol et al. 2015 (arXiv:1505.00468) §3; Singh et al. 2019 (TextVQA); EvolvingLMMs-Lab/lmms-eval `EvalAIAnswerProcessor`.

use super::{MetricError, text};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Characters that are deleted or replaced by a space, in this order. (The reference lists `,` and `?` too, and treats digits on both sides of a
/// comma apart; its first step has deleted both characters by then.)
const PUNCTUATION: [char; 19] = [';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', '!'];

/// Periods deleted at most.
const MAX_PERIODS: usize = 32;

/// Answers that must agree with the prediction, among the others, for full credit.
const FULL_CREDIT: f64 = 3.0;

const NUMBER_WORDS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

/// Contractions; each is reached from its spellings with one apostrophe missing. The table of the reference has gaps (`she'd`, `i'm`): kept.
const CONTRACTIONS: &str = "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's \
    how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't \
    she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd \
    something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've \
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've \
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've";

static CONTRACTION_OF: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    for word in CONTRACTIONS.split_whitespace() {
        for (at, _) in word.match_indices('\'') {
            table.insert(format!("{}{}", &word[..at], &word[at + 1..]), word);
        }
    }
    table.insert("somebody'd".to_owned(), "somebodyd"); // the reference has this one the wrong way round
    table
});

/// The normal form of an answer.
pub fn normalize(answer: &str) -> String {
    let lowered = answer.to_lowercase().replace([',', '?'], "").replace("'s", " 's");
    let lowered = text::strip(&lowered).replace(['\n', '\t'], " ");
    let plain = replace_punctuation(text::strip(&lowered)).to_lowercase();
    let words: Vec<&str> = text::split(&plain)
        .map(|word| NUMBER_WORDS.iter().find(|(name, _)| *name == word).map_or(word, |(_, digit)| *digit))
        .filter(|word| !["a", "an", "the"].contains(word))
        .map(|word| CONTRACTION_OF.get(word).copied().unwrap_or(word))
        .collect();
    words.join(" ")
}

fn replace_punctuation(original: &str) -> String {
    let mut out = original.to_owned();
    for mark in PUNCTUATION {
        // "beside a space" is asked of the original text, once for all occurrences of the mark
        let delete = original.contains(&format!("{mark} ")) || original.contains(&format!(" {mark}"));
        out = out.replace(mark, if delete { "" } else { " " });
    }
    delete_periods(&out)
}

/// Deletes the first 32 periods that no digit follows.
fn delete_periods(text: &str) -> String {
    let mut deleted = 0;
    let mut chars = text.chars().peekable();
    let mut out = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        if c == '.' && deleted < MAX_PERIODS && !chars.peek().is_some_and(char::is_ascii_digit) {
            deleted += 1;
        } else {
            out.push(c);
        }
    }
    out
}

/// Accuracy of a prediction against the human answers.
///
/// # Errors
/// When there are fewer than two answers.
pub fn accuracy<S: AsRef<str>>(prediction: &str, answers: &[S]) -> Result<f64, MetricError> {
    if answers.len() < 2 {
        return Err(MetricError::TooFew { metric: "vqa_accuracy", what: "answers", expected: 2, found: answers.len() });
    }
    let predicted = normalize(prediction);
    let agrees: Vec<bool> = answers.iter().map(|a| normalize(a.as_ref()) == predicted).collect();
    let agreeing = agrees.iter().filter(|a| **a).count();
    let sum: f64 = agrees.iter().map(|&own| ((agreeing - usize::from(own)) as f64 / FULL_CREDIT).min(1.0)).sum();
    Ok(sum / answers.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values computed with the reference.
    #[test]
    fn normal_forms() {
        for (text, normal) in [
            ("The answer is: YES!", "answer is: yes"),
            ("two dogs", "2 dogs"),
            ("1,000", "1000"),
            ("u.s.a.", "usa"),
            ("it's", "it 's"),
            ("a/b", "b"),
            ("coca-cola", "coca cola"),
            ("$5.00", "$5.00"),
            ("dont", "don't"),
            ("couldntve", "couldntve"), // two apostrophes missing: not in the table
            ("couldn'tve", "couldn't've"),
        ] {
            assert_eq!(normalize(text), normal, "{text}");
        }
    }

    #[test]
    fn only_the_first_32_periods_go() {
        assert_eq!(normalize(&"a.".repeat(34)), format!("{}a.a.", "a".repeat(32)));
    }

    #[test]
    fn three_others_give_full_credit() {
        let answers = ["yes", "Yes.", "yes", "no", "no", "no", "no", "no", "no", "no"];
        // three agree: they see 2 others (2/3), the other seven see 3 (1): (3·2/3 + 7)/10
        assert!((accuracy("YES", &answers).unwrap() - 0.9).abs() < 1e-12);
        assert_eq!(accuracy("no", &answers).unwrap(), 1.0);
        assert_eq!(accuracy("maybe", &answers).unwrap(), 0.0);
        assert!(matches!(accuracy("x", &["x"]), Err(MetricError::TooFew { .. })));
    }
}
