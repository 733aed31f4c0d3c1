//! Chat templates: a document's prompt as turns of a conversation, in the form the model was tuned on.
//!
//! ```text
//! system     --system text, then the task's description      (no such turn when both are empty)
//! user       shots and question in one turn                   or, with --fewshot-as-multiturn, question, answer (assistant), … , question
//! ```
//! The template is Jinja: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json` (the one named `default` of a list). It is
//! rendered as published templates expect: blocks swallow their line break, methods of Python's types exist, `raise_exception`,
//! `strftime_now` and a `tojson` that writes what Python writes. A template that refuses a system turn is rendered without it.
//! Semantics: EleutherAI/lm-evaluation-harness 0.4.13 (read as behaviour). Differs: `strftime_now` gives UTC.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value as Jinja, context};
use serde::Serialize as _;
use serde_json::Value;
use tasks::{Dialogue, PreparedDoc, Task};

use super::model::{TOKENIZER_CONFIG, token_text, tokenizer_config};
use crate::error::Hint as _;
use crate::provenance::civil;

/// Special tokens that templates may name.
const TOKENS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// How prompts become conversations; asked for by the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatOptions {
    /// Text of the system turn, before a task's description.
    pub system: Option<String>,
    /// Each shot is a turn of its own.
    pub fewshot_as_multiturn: bool,
}

/// A model's template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: Vec<(&'static str, String)>,
    sha256: String,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    role: &'static str,
    content: String,
}

impl ChatTemplate {
    /// Reads the template of a model folder.
    ///
    /// # Errors
    /// When there is none, or it is not a template.
    pub fn of_folder(folder: &Path) -> anyhow::Result<Self> {
        let config = tokenizer_config(folder)?;
        let own = folder.join("chat_template.jinja");
        let (source, place) = if own.is_file() {
            let text = std::fs::read_to_string(&own).with_context(|| format!("cannot read `{}`", own.display()))?;
            (text, own)
        } else if let Some(text) = of_config(&config["chat_template"]) {
            (text.to_owned(), folder.join(TOKENIZER_CONFIG))
        } else {
            return Err(anyhow!(
                "`{}`: expected a chat template (chat_template.jinja, or chat_template in tokenizer_config.json), found none",
                folder.display()
            ))
            .hint("leave out --apply-chat-template: a model without a template was not tuned on conversations");
        };
        let tokens = TOKENS.into_iter().filter_map(|key| Some((key, token_text(&config, key)?.to_owned()))).collect();
        Self::new(&source, tokens).with_context(|| format!("cannot use the chat template of `{}`", place.display()))
    }

    fn new(source: &str, tokens: Vec<(&'static str, String)>) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().context("the default delimiters are valid")?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<Jinja, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            strftime(&format, now).map_err(|message| Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned("chat", without_marks(source)).map_err(|error| anyhow!("{error:#}"))?;
        Ok(Self { environment, tokens, sha256: records::ids::sha256_hex(source.as_bytes()) })
    }

    /// SHA-256 of the template's text.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Puts the prompts of prepared documents into turns.
    ///
    /// # Errors
    /// When the template fails on a document.
    pub fn apply(&self, options: &ChatOptions, task: &dyn Task, docs: &mut [PreparedDoc]) -> anyhow::Result<()> {
        for doc in docs {
            let Some(dialogue) = task.dialogue(&doc.doc, &doc.shots)? else { continue };
            let place = || format!("task `{}`, document {}: chat template", task.spec().name, doc.doc.doc_id);
            let prompt = self.prompt(&turns(&dialogue, options)).with_context(place)?;
            doc.requests = dialogue.with_prompt(std::mem::take(&mut doc.requests), &prompt);
        }
        Ok(())
    }

    /// The text of turns up to where the model's answer begins.
    fn prompt(&self, turns: &[Turn]) -> anyhow::Result<String> {
        let rest = match turns {
            [Turn { role: "system", .. }, rest @ ..] => Some(rest),
            _ => None,
        };
        match (self.render(turns), rest) {
            (Ok(text), _) => Ok(text),
            (Err(_), Some(rest)) => self.render(rest).map_err(|error| anyhow!("{error:#}")),
            (Err(error), None) => Err(anyhow!("{error:#}")),
        }
    }

    fn render(&self, turns: &[Turn]) -> Result<String, Error> {
        self.render_messages(turns.iter().map(|turn| context! { role => turn.role, content => turn.content.as_str() }).collect())
    }

    fn render_messages(&self, messages: Vec<Jinja>) -> Result<String, Error> {
        let tokens: BTreeMap<&str, Jinja> = self.tokens.iter().map(|(name, text)| (*name, Jinja::from(text.as_str()))).collect();
        self.environment.get_template("chat")?.render(context! {
            messages => messages, add_generation_prompt => true, tools => (), documents => (), ..Jinja::from(tokens)
        })
    }
}

/// `chat_template` of a config: a text, or a list of named ones.
fn of_config(value: &Value) -> Option<&str> {
    let named = |name: &str| {
        let entry = value.as_array()?.iter().find(|entry| entry["name"] == name)?;
        entry["template"].as_str()
    };
    value.as_str().or_else(|| named("default"))
}

/// `{% generation %}` marks what a trainer learns from; the text inside stays, and so does what the tags do to white space.
fn without_marks(source: &str) -> String {
    let mut text = source.to_owned();
    for (mark, neutral) in [("generation", "if true"), ("endgeneration", "endif")] {
        for (open, close) in [("{%-", "-%}"), ("{%-", "%}"), ("{%", "-%}"), ("{%", "%}")] {
            text = text.replace(&format!("{open} {mark} {close}"), &format!("{open} {neutral} {close}"));
        }
    }
    text
}

fn turns(dialogue: &Dialogue, options: &ChatOptions) -> Vec<Turn> {
    let system = joined(options.system.as_deref().unwrap_or_default(), &dialogue.description, &dialogue.fewshot_delimiter);
    let mut turns = Vec::new();
    if !system.is_empty() {
        turns.push(Turn { role: "system", content: system });
    }
    if !options.fewshot_as_multiturn {
        turns.push(Turn { role: "user", content: dialogue.joined() });
        return turns;
    }
    for (question, answer) in &dialogue.shots {
        turns.push(Turn { role: "user", content: question.clone() });
        turns.push(Turn { role: "assistant", content: answer.clone() });
    }
    turns.push(Turn { role: "user", content: dialogue.question.clone() });
    turns
}

/// Two texts with a delimiter between, unless one is empty or white space already parts them.
fn joined(first: &str, second: &str, delimiter: &str) -> String {
    let is_parted = first.ends_with(char::is_whitespace) || second.starts_with(char::is_whitespace);
    let between = if first.is_empty() || second.is_empty() || is_parted { "" } else { delimiter };
    format!("{first}{between}{second}")
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: Jinja, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Accepted and without effect here: it is off in the reference too.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut bytes = Vec::new();
    if let Some(indent) = indent {
        let space = " ".repeat(indent);
        let formatter = serde_json::ser::PrettyFormatter::with_indent(space.as_bytes());
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(failed)?;
    } else {
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced)).map_err(failed)?;
    }
    String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Python's separators: `, ` and `: `.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The directives that templates use, of seconds since 1970 in UTC.
fn strftime(format: &str, seconds: u64) -> Result<String, String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let directive = rest.next();
        let part = match directive {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('H') => format!("{:02}", of_day / 3600),
            Some('M') => format!("{:02}", of_day / 60 % 60),
            Some('S') => format!("{:02}", of_day % 60),
            Some('%') => "%".to_owned(),
            _ => {
                let found = directive.map(String::from).unwrap_or_default();
                return Err(format!("strftime_now: expected one of %Y %y %m %d %B %b %A %a %H %M %S %%, found `%{found}`"));
            }
        };
        text.push_str(&part);
    }
    Ok(text)
}

impl ChatOptions {
    /// Checks that the flags were given together.
    ///
    /// # Errors
    /// A flag of conversations without `--apply-chat-template`.
    pub fn from_flags(apply: bool, system: Option<&str>, fewshot_as_multiturn: bool) -> anyhow::Result<Option<Self>> {
        if apply {
            return Ok(Some(Self { system: system.map(str::to_owned), fewshot_as_multiturn }));
        }
        if system.is_some() || fewshot_as_multiturn {
            let flag = if system.is_some() { "--system" } else { "--fewshot-as-multiturn" };
            bail!("{flag}: expected --apply-chat-template beside it, found none");
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source, vec![("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())]).unwrap()
    }

    fn dialogue() -> Dialogue {
        Dialogue {
            description: "Answer.\n\n".to_owned(),
            shots: vec![("Q: 1+1?\nA:".to_owned(), "2".to_owned())],
            question: "Q: 2+2?\nA:".to_owned(),
            target_delimiter: " ".to_owned(),
            fewshot_delimiter: "\n\n".to_owned(),
        }
    }

    const CHATML: &str = "{%- for message in messages %}\n    {%- if loop.first and message['role'] != 'system' %}\n        {{- bos_token }}\n    {%- endif %}\n    {{- '<|' + message.role + '|>' + message.content | trim + eos_token }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|assistant|>' }}\n{%- endif %}";

    #[test]
    fn one_user_turn_or_a_turn_per_shot() {
        let render = |options: &ChatOptions| template(CHATML).prompt(&turns(&dialogue(), options)).unwrap();
        assert_eq!(render(&ChatOptions::default()), "<|system|>Answer.</s><|user|>Q: 1+1?\nA: 2\n\nQ: 2+2?\nA:</s><|assistant|>");
        let many = ChatOptions { fewshot_as_multiturn: true, system: Some("Be brief.".to_owned()) };
        assert_eq!(
            render(&many),
            "<|system|>Be brief.\n\nAnswer.</s><|user|>Q: 1+1?\nA:</s><|assistant|>2</s><|user|>Q: 2+2?\nA:</s><|assistant|>"
        );
    }

    #[test]
    fn a_template_that_refuses_system_turns_is_rendered_without() {
        let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}";
        let found = template(source).prompt(&turns(&dialogue(), &ChatOptions::default())).unwrap();
        assert_eq!(found, "[user]Q: 1+1?\nA: 2\n\nQ: 2+2?\nA:");
        let always = template("{{ raise_exception('never ' + messages[0].role) }}");
        let error = always.prompt(&turns(&dialogue(), &ChatOptions::default())).unwrap_err().to_string();
        assert!(error.contains("never user"), "{error}");
    }

    #[test]
    fn constructs_of_published_templates_give_what_python_gives() {
        let turns = [Turn { role: "user", content: " Ä <b> 'x' ".to_owned() }];
        for (source, expected) in [
            ("{{ messages | tojson }}", r#"[{"role": "user", "content": " Ä <b> 'x' "}]"#),
            ("{{ messages[0] | tojson(indent=2) }}", "{\n  \"role\": \"user\",\n  \"content\": \" Ä <b> 'x' \"\n}"),
            ("{{ messages[0]['content'].strip().upper() }}|{{ messages[0].content.startswith(' Ä') }}", "Ä <B> 'X'|True"),
            ("{% for m in messages %}{% if loop.last %}{{ loop.index0 }}{% break %}{% endif %}{% endfor %}", "0"),
            ("{% if tools is not none %}tools{% elif foo is defined %}foo{% else %}plain{% endif %}", "plain"),
            ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "1"),
            ("{% macro turn(m) %}<{{ m.role }}>{% endmacro %}{{ turn(messages[-1]) }}", "<user>"),
            ("{% if true %}\n  a\n  {% endif %}\nb", "  a\nb"),
            ("{%- generation %}x{% endgeneration %}{% generation %}y{%- endgeneration -%} z", "xyz"),
        ] {
            assert_eq!(template(source).prompt(&turns).unwrap(), expected, "{source}");
        }
    }

    /// Published templates and what transformers renders them to, where the reference pack is there.
    #[test]
    fn published_templates_give_the_reference_prompts() {
        let root = std::env::var_os("PARITY_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/parity"), std::path::PathBuf::from);
        let Ok(entries) = std::fs::read_dir(root.join("models")) else {
            eprintln!("skipped: {} does not exist (set PARITY_DIR)", root.display());
            return;
        };
        let mut compared = 0;
        for folder in entries.map(|entry| entry.unwrap().path()).filter(|folder| folder.join("chat_template.jinja").is_file()) {
            let template = ChatTemplate::of_folder(&folder).unwrap();
            for line in std::fs::read_to_string(folder.join("cases.jsonl")).unwrap().lines() {
                let case: Value = serde_json::from_str(line).unwrap();
                let messages = case["messages"].as_array().unwrap().iter().map(|m| Jinja::from(minijinja::value::Serde(m)));
                assert_eq!(template.render_messages(messages.collect()).unwrap(), case["prompt"], "{}", folder.display());
                compared += 1;
            }
        }
        assert!(compared > 0, "no template with its prompts below {}", root.display());
        eprintln!("{compared} prompts compared");
    }

    #[test]
    fn dates_are_written_as_asked() {
        // 2024-02-29 was a Thursday; 1,709,208,000 s after 1970 is its noon, UTC.
        assert_eq!(strftime("%d %b %Y, %A %H:%M:%S", 1_709_208_000).unwrap(), "29 Feb 2024, Thursday 12:00:00");
        assert_eq!(strftime("%y/%m/%B %a %%", 0).unwrap(), "70/01/January Thu %");
        assert!(strftime("%Q", 0).unwrap_err().contains("found `%Q`"));
        let year: u32 = template("{{ strftime_now('%Y') }}").prompt(&[]).unwrap().parse().unwrap();
        assert!(year >= 2024);
    }

    #[test]
    fn templates_are_found_in_every_published_place() {
        let folder = tempfile::tempdir().unwrap();
        let missing = format!("{:#}", ChatTemplate::of_folder(folder.path()).unwrap_err());
        assert!(missing.contains("expected a chat template") && missing.contains("found none"), "{missing}");
        let config = |text: &str| std::fs::write(folder.path().join("tokenizer_config.json"), text).unwrap();
        let prompt = || ChatTemplate::of_folder(folder.path()).unwrap().prompt(&[]).unwrap();
        config(r#"{"chat_template": "one"}"#);
        assert_eq!(prompt(), "one");
        config(r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "two"}]}"#);
        assert_eq!(prompt(), "two");
        std::fs::write(folder.path().join("chat_template.jinja"), "three").unwrap();
        assert_eq!(prompt(), "three");
        std::fs::write(folder.path().join("chat_template.jinja"), "{% if %}").unwrap();
        let broken = format!("{:#}", ChatTemplate::of_folder(folder.path()).unwrap_err());
        assert!(broken.contains("chat_template.jinja") && broken.contains("syntax error"), "{broken}");
    }

    #[test]
    fn options_lose_the_delimiter_of_a_plain_prompt() {
        let request =
            |continuation: &str| tasks::Request::Loglikelihood { context: "c".into(), continuation: continuation.into() };
        let expected = tasks::Request::Loglikelihood { context: "p".into(), continuation: "yes".into() };
        assert_eq!(dialogue().with_prompt(vec![request(" yes")], "p"), [expected]);
    }
}
