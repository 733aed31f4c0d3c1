//! Tokens of captions, as the COCO caption scorers see them: the tokenizer of Stanford CoreNLP 3.4.1 (`PTBTokenizer -preserveLines -lowerCase`).
//!
//! ```text
//! A dog can't read "STOP".   →  a dog ca n't read `` stop '' .   →  a dog ca n't read stop
//!                               tokenize_lines                      caption_tokens
//! ```
//! Written from observed input and output alone, and checked against them: every real caption and at least 99 % of the odd strings of the parity
//! pack. The scanner takes the longest shape that fits at each place (`shapes`), then asks the word lists (`lexicon`) about clitics and periods.
//! All lines are one text, as the reference reads one file: a line's last period depends on how the next line begins, and the last line of
//! all has nothing after it. Score a caption set in one call, in its own order.
//!
//! Differs: what no observed pair shows is a guess by analogy (rare abbreviations, symbols outside Latin-1, what may follow an address).
//!
//! Used before [`super::cider`], [`super::coco_bleu`] and [`super::rouge_l`]. Source: observed pairs; the drop list is that of tylin/coco-caption.

mod lexicon;
mod scanner;
mod shapes;

use scanner::Scanner;

/// Tokens that the caption scorers leave out. Brackets are here in upper case while the tokenizer writes them in lower case, so they stay in
/// captions: the reference does the same.
const DROPPED: &[&str] =
    &["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// Raw tokens of each line, in lower case.
///
/// Line breaks inside an entry count as spaces. A mixed number is one token with a no-break space in it (`3\u{a0}1/2`).
/// Cost: one pass over the text.
pub fn tokenize_lines<S: AsRef<str>>(lines: &[S]) -> Vec<Vec<String>> {
    if lines.is_empty() {
        return Vec::new();
    }
    let mut text = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        text.extend(line.as_ref().chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c }));
    }
    Scanner::new(&text).scan()
}

/// Tokens of each line that the caption scorers count: [`tokenize_lines`] without punctuation.
pub fn caption_tokens<S: AsRef<str>>(lines: &[S]) -> Vec<Vec<String>> {
    let mut lines = tokenize_lines(lines);
    for tokens in &mut lines {
        tokens.retain(|token| !DROPPED.contains(&token.as_str()));
    }
    lines
}
