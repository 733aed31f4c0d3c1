//! The scanner of the caption tokenizer: at each place it takes the longest shape, then splits words and judges periods.
//!
//! Where it stands decides a few things: a quote opens before a letter or digit, an apostrophe after a word closes, and a period
//! is judged by what follows it, over the line's end if need be.

use super::lexicon::{self, Period};
use super::shapes::{self, after_space, is_apostrophe, is_letter, is_word, lower, run};

/// Position in the text and the lines done so far.
pub(super) struct Scanner<'t> {
    text: &'t [char],
    at: usize,
    lines: Vec<Vec<String>>,
    tokens: Vec<String>,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t [char]) -> Self {
        Self { text, at: 0, lines: Vec::new(), tokens: Vec::new() }
    }

    pub(super) fn scan(mut self) -> Vec<Vec<String>> {
        while let Some(&c) = self.text.get(self.at) {
            if c == '\n' {
                self.lines.push(std::mem::take(&mut self.tokens));
            }
            if c.is_whitespace() {
                self.at += 1;
            } else if !self.address() && !self.number() {
                if is_word(c) { self.word() } else { self.sign(c) }
            }
        }
        self.lines.push(self.tokens);
        self.lines
    }

    fn peek(&self, at: usize) -> Option<char> {
        self.text.get(at).copied()
    }

    /// The text up to `end` as one token.
    fn take(&mut self, end: usize) {
        let token = lower(&self.text[self.at..end]);
        self.write(&token, end);
    }

    fn write(&mut self, token: &str, end: usize) {
        debug_assert!(end > self.at, "a token takes at least one character");
        if !token.is_empty() {
            self.tokens.push(token.to_owned());
        }
        self.at = end;
    }

    fn address(&mut self) -> bool {
        let web = shapes::web_address(self.text, self.at);
        let end =
            web.max(shapes::mail_address(self.text, self.at)).filter(|&end| Some(end) > shapes::joined_word(self.text, self.at));
        end.map(|end| self.take(end)).is_some()
    }

    /// Numbers, where no word with a digit in it reaches further.
    fn number(&mut self) -> bool {
        if shapes::ellipsis(self.text, self.at).is_some() {
            return false;
        }
        let end = shapes::number(self.text, self.at).max(shapes::fraction(self.text, self.at));
        let Some(end) = end.filter(|&end| Some(end) >= shapes::joined_word(self.text, self.at)) else { return false };
        let token = lower(&self.text[self.at..end]).replace(' ', "\u{a0}");
        self.write(&token, end);
        true
    }

    fn word(&mut self) {
        let (text, at) = (self.text, self.at);
        let plain = shapes::plain_word(text, at).unwrap_or(at + 1);
        let joined = shapes::joined_word(text, at)
            .max(shapes::company(text, at))
            .max(shapes::acronym_compound(text, at))
            .max(shapes::dotted_word(text, at));
        let acronym = shapes::acronym(text, at);
        if let Some(end) = joined.filter(|&end| end > plain && Some(end) > acronym) {
            self.take(end);
        } else if let Some(end) = acronym {
            self.acronym(end);
        } else if !self.apostrophe_in_word(plain) {
            self.plain_word(plain);
        }
    }

    /// `U.S.A.`: the last period belongs to it.
    fn acronym(&mut self, end: usize) {
        let end = if self.peek(end) == Some('.') { end + 1 } else { end };
        self.take(end);
    }

    /// Words that hold an apostrophe: `do n't`, `y' all`, `o'clock`; `end` is where the first one stands.
    fn apostrophe_in_word(&mut self, end: usize) -> bool {
        let (text, at) = (self.text, self.at);
        let Some(whole) = shapes::apostrophe_word(text, at) else { return false };
        let rest = lower(&text[end + 1..whole]);
        if rest == "t" && text[end - 1].eq_ignore_ascii_case(&'n') {
            if end - 1 > at {
                self.take(end - 1);
            }
            self.write("n't", whole);
        } else if lexicon::is_clitic(&rest) || rest == "n" {
            return false;
        } else if end == at + 1 && text[at].eq_ignore_ascii_case(&'y') {
            self.write("y'", end + 1);
        } else {
            let token = lower(&text[at..whole]).replace('’', "'");
            self.write(&token, whole);
        }
        true
    }

    fn plain_word(&mut self, end: usize) {
        let (text, at) = (self.text, self.at);
        let word: String = text[at..end].iter().collect();
        match self.peek(end) {
            Some('.') => self.word_before_period(&word, end),
            Some('+') if word.eq_ignore_ascii_case("c") && self.peek(end + 1) == Some('+') => self.take(end + 2),
            _ => match lexicon::contracted(&word) {
                Some(first) if !self.has_clitic(end) => self.two(first, end),
                _ => self.take(end),
            },
        }
    }

    fn two(&mut self, first: usize, end: usize) {
        self.take(self.at + first);
        self.take(end);
    }

    /// A word at whose end a period stands: its own, or the sentence's.
    fn word_before_period(&mut self, word: &str, end: usize) {
        let after = end + 1;
        let next = after_space(self.text, after);
        let period = lexicon::period_of(word);
        let is_initial = end == self.at + 1 && word.chars().all(is_letter);
        let keeps = match period {
            _ if is_initial => !next.is_some_and(|(place, _)| self.opens_sentence(place)),
            Period::Kept | Period::KeptAndClosing => true,
            Period::KeptBeforeNumber if next.is_some_and(|(_, c)| c.is_ascii_digit()) => true,
            // a sentence does not end before these: `fig., the last`
            _ => matches!(self.peek(after), Some(',' | ';' | ':')),
        };
        if keeps {
            self.take(after);
            if period == Period::KeptAndClosing && next.is_some_and(|(_, c)| c.is_uppercase()) {
                self.tokens.push(".".to_owned());
            }
        } else if let Some(first) = lexicon::contracted(word) {
            self.two(first, end);
        } else {
            self.take(end);
        }
    }

    fn opens_sentence(&self, at: usize) -> bool {
        let end = run(self.text, at, is_word);
        self.peek(end) != Some('.') && lexicon::opens_sentence(&self.text[at..end].iter().collect::<String>())
    }

    /// Whether a clitic begins at `at`: before one, `cannot` stays whole.
    fn has_clitic(&self, at: usize) -> bool {
        self.peek(at).is_some_and(is_apostrophe)
            && shapes::plain_word(self.text, at + 1).is_some_and(|end| lexicon::is_clitic(&lower(&self.text[at + 1..end])))
    }

    fn sign(&mut self, c: char) {
        let (text, at) = (self.text, self.at);
        let same = run(text, at, |next| next == c);
        match c {
            '\'' | '’' => self.apostrophe(c),
            '"' => {
                let opens = self.peek(at + 1).is_some_and(|c| c.is_ascii_digit() || (is_letter(c) && c < '\u{250}'));
                self.write(if opens && !self.follows_word() { "``" } else { "''" }, at + 1);
            }
            '`' => self.take(same.min(at + 2)),
            '.' => match shapes::ellipsis(text, at) {
                Some(end) => self.write("...", end),
                None => self.write(".", at + 1),
            },
            '-' => self.write(if same > at + 1 { "--" } else { "-" }, same),
            '–' | '—' => self.write("--", same),
            '!' | '?' => self.take(run(text, at, |c| matches!(c, '!' | '?'))),
            '*' | '_' => self.take(same),
            '@' | '#' => self.take(shapes::tagged(text, at).unwrap_or(at + 1)),
            '<' => self.take(shapes::markup(text, at).unwrap_or(at + 1)),
            ':' | ';' => match shapes::smiley(text, at) {
                Some(end) => {
                    let token: String =
                        text[at..end].iter().map(|&c| lexicon::symbol(c).map_or(c.to_string(), str::to_owned)).collect();
                    self.write(&token, end);
                }
                None => self.take(at + 1),
            },
            '&' => match lexicon::entity(&text[at..]) {
                Some((length, token)) => self.write(token, at + length),
                None => self.take(at + 1),
            },
            _ => match lexicon::symbol(c) {
                Some(token) => self.write(token, at + 1),
                None if c < '\u{100}' => self.take(at + 1),
                None => self.at += 1, // emoji and the like leave nothing
            },
        }
    }

    fn follows_word(&self) -> bool {
        self.at > 0 && is_word(self.text[self.at - 1])
    }

    fn apostrophe(&mut self, c: char) {
        let (text, at) = (self.text, self.at);
        let word = shapes::plain_word(text, at + 1); // beyond the text there is none
        let rest = word.map(|end| lower(&text[at + 1..end])).unwrap_or_default();
        let is_year = || {
            let digits = rest.strip_suffix('s').unwrap_or(&rest);
            digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) && !self.follows_word()
        };
        match (word, rest.as_str()) {
            (Some(end), "tis" | "twas") => {
                self.write("'t", at + 2);
                self.take(end);
            }
            (Some(end), "n") if self.peek(end).is_some_and(is_apostrophe) => self.write("'n'", end + 1),
            (Some(end), "n") if self.follows_word() => self.write("'n", end),
            (Some(end), _) if is_year() => self.write(&format!("'{rest}"), end),
            (Some(end), _) if lexicon::is_clitic(&rest) => self.write(&format!("'{rest}"), end),
            (Some(_), _) if c == '\'' && !self.follows_word() => self.write("`", at + 1),
            _ if c == '\'' && self.peek(at + 1) == Some('\'') => self.write("''", at + 2),
            _ => self.write("'", at + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokenize_lines;

    fn tokens(line: &str) -> String {
        tokenize_lines(&[line])[0].join(" ")
    }

    #[track_caller]
    fn assert_tokens(cases: &[(&str, &str)]) {
        for (line, expected) in cases {
            assert_eq!(tokens(line), *expected, "{line}");
        }
    }

    #[test]
    fn clitics_stand_apart() {
        assert_tokens(&[
            ("A dog's bowl can't float.", "a dog 's bowl ca n't float ."),
            ("They'd've won", "they 'd 've won"),
            ("Y'all cannot stay", "y' all can not stay"),
            ("the cannot's end", "the cannot 's end"),
            ("dogs' ‘new’ o'clock", "dogs ' ` new ' o'clock"),
            ("'Twas the '70s", "'t was the '70s"),
        ]);
    }

    #[test]
    fn quotes_open_before_letters_and_digits_only() {
        assert_tokens(&[
            ("a \"big\" bus", "a `` big '' bus"),
            ("a \" big \" bus", "a '' big '' bus"),
            ("a 7\" pipe", "a 7 '' pipe"),
            ("a 'big' bus", "a ` big ' bus"),
        ]);
    }

    #[test]
    fn words_keep_hyphens_slashes_and_inner_periods() {
        assert_tokens(&[
            ("a black-and-red bus/tram", "a black-and-red bus/tram"),
            ("multi- storey", "multi - storey"),
            ("the street.A bus", "the street.a bus"),
            ("x-Mt. Fuji", "x-mt . fuji"),
            ("R&B and r&b", "r&b and r & b"),
        ]);
    }

    #[test]
    fn periods_stay_with_abbreviations_and_initials() {
        assert_tokens(&[
            ("Elm St. is wet.", "elm st. is wet ."),
            ("no. of cats, No. 4", "no . of cats , no. 4"),
            ("the U.S. flag", "the u.s. flag"),
            ("wet.., ....", "wet . . , ..."),
        ]);
    }

    #[test]
    fn last_period_depends_on_the_next_line() {
        let lines = |second: &str| tokenize_lines(&["at Elm D.", second])[0].join(" ");
        assert_eq!(lines("A dog"), "at elm d .");
        assert_eq!(lines("People"), "at elm d.");
        assert_eq!(tokenize_lines(&["Acme Co.", "Two dogs"])[0], ["acme", "co.", "."]);
        assert_eq!(tokenize_lines(&["Acme Co.", "two dogs"])[0], ["acme", "co."]);
    }

    #[test]
    fn numbers_and_signs_are_normalised() {
        assert_tokens(&[
            ("1,200 at 7:45pm", "1,200 at 7:45 pm"),
            ("2 1/2 cups", "2\u{a0}1/2 cups"),
            ("¾ of £3 (9%)", "3/4 of # 3 -lrb- 9 % -rrb-"),
            ("a&amp;b — 🐱 #3", "a & b -- # 3"),
        ]);
    }

    #[test]
    fn smileys_need_a_character_after_them() {
        assert_eq!(tokens("fun :) here"), "fun :-rrb- here");
        assert_eq!(tokens("fun :)"), "fun : -rrb-");
        assert_eq!(tokenize_lines(&["fun :)", "cat"])[0], ["fun", ":-rrb-"]);
    }

    #[test]
    fn addresses_are_whole() {
        assert_tokens(&[
            ("see http://x.org/y?z=1, or www.x.org.", "see http://x.org/y?z=1 , or www.x.org ."),
            ("end...me@x.org or @me", "end ... me@x.org or @me"),
        ]);
    }

    #[test]
    fn odd_input_keeps_its_lines() {
        assert!(tokenize_lines::<&str>(&[]).is_empty());
        assert_eq!(
            tokenize_lines(&["", " \u{a0}", "a\nb", "\u{ad}"]),
            [vec![], vec![], vec!["a".to_owned(), "b".to_owned()], vec![]]
        );
        // every character alone and in pairs: no panic, and a line for a line
        let signs: Vec<char> = "a1.,'’\"`-/:;()<>&@#+* é½日\u{ad}🐱".chars().collect();
        let pairs: Vec<String> = signs.iter().flat_map(|a| signs.iter().map(move |b| format!("{a}{b}"))).collect();
        assert_eq!(tokenize_lines(&pairs).len(), pairs.len());
        for pair in &pairs {
            assert_eq!(tokenize_lines(&[pair]).len(), 1, "{pair}");
        }
    }
}
