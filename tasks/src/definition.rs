//! `tasks/definitions/<task>/task.toml`: its fields, and the leaves it gives.
//!
//! A definition with a `[parameter]` gives one leaf per row of `parameter.values`; the other strings of the file may use the row's fields as
//! `{{ field }}`. Templates under `[prompt]` also see the document's fields.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::prompt::{Templates, fill};
use crate::request::Generation;
use crate::spec::{DatasetFacts, MetricSpec, OutputKind, Profile, TaskSpec};
use crate::{TaskError, prepare::LoaderKind};

/// A file of a definition folder, embedded at build time.
pub(crate) struct Embedded {
    /// Folder name.
    pub(crate) folder: &'static str,
    /// The file's text.
    pub(crate) text: &'static str,
}

/// Every `task.toml` under `tasks/definitions/`, in the order of the folders' names (written by the build script).
const DEFINITIONS: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/definitions.rs"));

/// Every `sample.jsonl` there.
const SAMPLES: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/samples.rs"));

/// A `task.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    #[serde(skip)]
    pub(crate) folder: String,
    pub(crate) name: String,
    pub(crate) group: Option<String>,
    pub(crate) subgroup: Option<String>,
    #[serde(default = "yes")]
    pub(crate) group_size_weighted: bool,
    version: String,
    output: OutputKind,
    reference: String,
    primary_metric: String,
    metrics: Vec<MetricEntry>,
    #[serde(default)]
    chance: f64,
    trivial: Option<f64>,
    dataset: DatasetSection,
    prompt: PromptSection,
    #[serde(default)]
    fewshot: FewshotSection,
    generation: Option<Generation>,
    #[serde(default)]
    filters: Vec<FilterSection>,
    scorer: Option<ScorerSection>,
    pub(crate) parameter: Option<ParameterSection>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricEntry {
    name: String,
    #[serde(default = "yes")]
    higher_is_better: bool,
    /// Only in this profile.
    profile: Option<Profile>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetSection {
    loader: LoaderKind,
    /// Folder whose `sample.jsonl` is used, when it is not the definition's own.
    sample: Option<String>,
    hub: Option<String>,
    config: Option<String>,
    revision: Option<String>,
    split: String,
    fewshot_split: Option<String>,
    licence: String,
    num_docs: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptSection {
    #[serde(default)]
    description: String,
    question: String,
    /// Answer text of a shot; multiple choice takes the gold option.
    target: Option<String>,
    /// Options with fixed texts …
    choices: Option<Vec<String>>,
    /// … or the document's list of this name.
    choices_field: Option<String>,
    /// Renders to the gold option's index.
    gold: Option<String>,
    #[serde(default = "space")]
    target_delimiter: String,
    #[serde(default = "blank_line")]
    fewshot_delimiter: String,
}

/// How shots are chosen.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FewshotSection {
    /// Shots when the user names no number.
    #[serde(default)]
    pub(crate) num: usize,
    /// The number cannot be changed.
    #[serde(default)]
    pub(crate) fixed: bool,
    /// Rule of the reference.
    #[serde(default)]
    pub(crate) sampler: Sampler,
    /// Rule of profile `canonical`, when it differs.
    pub(crate) canonical_sampler: Option<Sampler>,
    /// The reference's settings for the few-shot split and the test split are equal (both absent counts), so its `default` sampler draws one to spare.
    #[serde(default)]
    pub(crate) draws_one_to_spare: bool,
    /// The pool is the evaluated split itself.
    #[serde(default)]
    pub(crate) pool_is_test: bool,
}

/// Rules for choosing shots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sampler {
    /// A seeded draw without replacement.
    #[default]
    Default,
    /// The first n of the pool.
    FirstN,
}

/// One named filter: an answer from a generated text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterSection {
    pub(crate) name: String,
    /// Only in this profile.
    pub(crate) profile: Option<Profile>,
    /// Pattern to search; the first non-empty group of the chosen match.
    pub(crate) regex: Option<String>,
    /// Pattern in profile `canonical`, when it differs.
    pub(crate) canonical_regex: Option<String>,
    /// Which match: 0 the first, -1 the last.
    #[serde(default)]
    pub(crate) group_select: i64,
    /// Strip white space on the left instead of searching.
    #[serde(default)]
    pub(crate) strip_left: bool,
    /// The last number after the last `answer is`, else the last number.
    #[serde(default)]
    pub(crate) last_number: bool,
    /// Compare as exact decimals instead of texts.
    #[serde(default)]
    pub(crate) decimal: bool,
    /// Compare as exact decimals in profile `canonical` only.
    #[serde(default)]
    pub(crate) canonical_decimal: bool,
}

/// How a generated answer becomes numbers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ScorerSection {
    /// String equality after the filters; `reference` renders the gold text.
    ExactMatch {
        reference: String,
        #[serde(default)]
        ignore_case: bool,
        #[serde(default)]
        ignore_punctuation: bool,
        #[serde(default)]
        ignore_regexes: Vec<String>,
    },
    /// MATH, normal forms of the benchmark's authors.
    HendrycksMath,
    /// MATH, final answers after Lewkowycz et al.
    MinervaMath,
    /// SQuAD exact match and F1.
    Squad,
    /// chrF and BLEU against one reference.
    Translation,
    /// The program `source` ends without an exception.
    ProgramPasses { source: String },
    /// The program's last printed line equals the number `reference`.
    ProgramPrints { reference: String },
}

/// The parameter of a definition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParameterSection {
    /// The field that tells leaves apart.
    pub(crate) name: String,
    /// One row per leaf.
    pub(crate) values: Vec<Map<String, Value>>,
}

fn yes() -> bool {
    true
}

fn space() -> String {
    " ".to_owned()
}

fn blank_line() -> String {
    "\n\n".to_owned()
}

/// The options of a multiple-choice prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Choices {
    Fixed(Vec<String>),
    Field(String),
}

/// One leaf, ready to render.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) spec: TaskSpec,
    pub(crate) profile: Profile,
    pub(crate) loader: LoaderKind,
    pub(crate) sample_folder: String,
    /// The parameter's row.
    pub(crate) parameters: Map<String, Value>,
    pub(crate) description: String,
    pub(crate) target_delimiter: String,
    pub(crate) fewshot_delimiter: String,
    pub(crate) choices: Option<Choices>,
    pub(crate) fewshot: FewshotSection,
    pub(crate) filters: Vec<FilterSection>,
    pub(crate) scorer: Option<ScorerSection>,
    pub(crate) templates: Templates,
}

impl Leaf {
    /// A text field of the parameter's row.
    ///
    /// # Panics
    /// When the definition's rows lack it: the definition lint test renders every leaf.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("rows of `{}` have `{name}`", self.spec.definition))
    }
}

impl Definition {
    fn parse(embedded: &Embedded) -> Result<Self, TaskError> {
        let mut definition: Self = toml::from_str(embedded.text).map_err(|e| error(embedded.folder, e.to_string()))?;
        embedded.folder.clone_into(&mut definition.folder);
        definition.check_rows()?;
        Ok(definition)
    }

    /// The rows of the parameter; one empty row without a parameter.
    pub(crate) fn rows(&self) -> Vec<Map<String, Value>> {
        self.parameter.as_ref().map_or_else(|| vec![Map::new()], |p| p.values.clone())
    }

    /// A string of the file with the row's fields filled in.
    pub(crate) fn fill(&self, text: &str, row: &Map<String, Value>) -> Result<String, TaskError> {
        fill(text, row).map_err(|e| error(&self.folder, format!("`{text}`: {e}")))
    }

    fn fill_option(&self, text: Option<&String>, row: &Map<String, Value>) -> Result<Option<String>, TaskError> {
        text.map(|t| self.fill(t, row)).transpose().map(|t| t.filter(|t| !t.is_empty()))
    }

    /// An error when two rows have one value of the parameter, or one has none.
    fn check_rows(&self) -> Result<(), TaskError> {
        let Some(parameter) = &self.parameter else { return Ok(()) };
        let mut values = std::collections::BTreeSet::new();
        for (i, row) in parameter.values.iter().enumerate() {
            let value = row.get(&parameter.name).and_then(Value::as_str);
            if !value.is_some_and(|v| values.insert(v)) {
                let message =
                    format!("parameter.values[{i}].{}: expected a text that no other row has, found {value:?}", parameter.name);
                return Err(error(&self.folder, message));
            }
        }
        Ok(())
    }

    /// The facts of the leaf of one row.
    pub(crate) fn spec(&self, row: &Map<String, Value>, profile: Profile) -> Result<TaskSpec, TaskError> {
        let applies = |p: Option<Profile>| p.is_none_or(|p| p == profile);
        let metrics: Vec<MetricSpec> = self
            .metrics
            .iter()
            .filter(|m| applies(m.profile) && row.get("without_metric").is_none_or(|w| *w != m.name))
            .map(|m| MetricSpec { name: m.name.clone(), higher_is_better: m.higher_is_better })
            .collect();
        if !metrics.iter().any(|m| m.name == self.primary_metric) {
            return Err(error(&self.folder, format!("primary_metric: expected one of metrics, found `{}`", self.primary_metric)));
        }
        let generation = match &self.generation {
            Some(options) => {
                let until = options.until.iter().map(|stop| self.fill(stop, row)).collect::<Result<_, _>>()?;
                Some(Generation { until, ..options.clone() })
            }
            None if self.output == OutputKind::GenerateUntil => {
                return Err(error(&self.folder, "[generation] is missing".to_owned()));
            }
            None => None,
        };
        let count = |name: &str| row.get(name).and_then(Value::as_u64).map(|n| n as usize);
        Ok(TaskSpec {
            name: self.fill(&self.name, row)?,
            definition: self.folder.clone(),
            group: self.fill_option(self.group.as_ref(), row)?,
            subgroup: self.fill_option(self.subgroup.as_ref(), row)?,
            version: self.version.clone(),
            output: self.output,
            num_fewshot: self.fewshot.num,
            num_fewshot_fixed: self.fewshot.fixed,
            metrics,
            primary_metric: self.primary_metric.clone(),
            chance: self.chance,
            trivial: row.get("trivial").and_then(Value::as_f64).or(self.trivial),
            generation,
            dataset: DatasetFacts {
                hub: self.dataset.hub.clone(),
                config: self.fill_option(self.dataset.config.as_ref(), row)?,
                revision: self.dataset.revision.clone(),
                split: self.dataset.split.clone(),
                fewshot_split: self.dataset.fewshot_split.clone(),
                licence: self.dataset.licence.clone(),
                num_docs: count("num_docs").or(self.dataset.num_docs),
            },
            needs_executor: matches!(
                self.scorer,
                Some(ScorerSection::ProgramPasses { .. } | ScorerSection::ProgramPrints { .. })
            ),
            reference: self.fill(&self.reference, row)?,
        })
    }

    /// The leaf of one row.
    pub(crate) fn leaf(&self, row: &Map<String, Value>, profile: Profile) -> Result<Leaf, TaskError> {
        let spec = self.spec(row, profile)?;
        let prompt = &self.prompt;
        let mut templates = vec![("question", prompt.question.clone())];
        templates.extend(prompt.target.clone().map(|t| ("target", t)));
        templates.extend(prompt.gold.clone().map(|t| ("gold", t)));
        match &self.scorer {
            Some(ScorerSection::ExactMatch { reference, .. } | ScorerSection::ProgramPrints { reference }) => {
                templates.push(("reference", reference.clone()));
            }
            Some(ScorerSection::ProgramPasses { source }) => templates.push(("program", source.clone())),
            _ => {}
        }
        let choices = match (&prompt.choices, &prompt.choices_field) {
            (Some(texts), None) => Some(Choices::Fixed(texts.clone())),
            (None, Some(field)) => Some(Choices::Field(field.clone())),
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(error(&self.folder, "prompt: expected `choices` or `choices_field`, found both".to_owned()));
            }
        };
        if (spec.output == OutputKind::MultipleChoice) != (choices.is_some() && prompt.gold.is_some()) {
            return Err(error(
                &self.folder,
                "prompt: `choices` (or `choices_field`) and `gold` belong to multiple_choice".to_owned(),
            ));
        }
        if (spec.output == OutputKind::GenerateUntil) != self.scorer.is_some() {
            return Err(error(&self.folder, "[scorer] belongs to generate_until".to_owned()));
        }
        let mut filters = Vec::new();
        for filter in self.filters.iter().filter(|f| f.profile.is_none_or(|p| p == profile)) {
            let mut filter = filter.clone();
            if profile == Profile::Canonical {
                filter.regex = filter.canonical_regex.take().or(filter.regex);
                filter.decimal |= filter.canonical_decimal;
            }
            filter.regex = filter.regex.map(|r| self.fill(&r, row)).transpose()?;
            filters.push(filter);
        }
        let description = self.fill(&prompt.description, row)?;
        if !description.is_empty() && !description.ends_with(char::is_whitespace) {
            return Err(error(&self.folder, "prompt.description: expected white space at its end, found none".to_owned()));
        }
        Ok(Leaf {
            templates: Templates::new(&spec.name, row, &templates)
                .map_err(|(name, message)| error(&self.folder, format!("prompt.{name}: {message}")))?,
            spec,
            profile,
            loader: self.dataset.loader,
            sample_folder: self.dataset.sample.clone().unwrap_or_else(|| self.folder.clone()),
            parameters: row.clone(),
            description,
            target_delimiter: prompt.target_delimiter.clone(),
            fewshot_delimiter: prompt.fewshot_delimiter.clone(),
            choices,
            fewshot: self.fewshot.clone(),
            filters,
            scorer: self.scorer.clone(),
        })
    }
}

fn error(folder: &str, message: String) -> TaskError {
    TaskError::Definition { definition: folder.to_owned(), message }
}

/// Every definition, parsed once; an unreadable one keeps its message.
pub(crate) fn definitions() -> &'static [Result<Definition, String>] {
    static PARSED: OnceLock<Vec<Result<Definition, String>>> = OnceLock::new();
    PARSED.get_or_init(|| DEFINITIONS.iter().map(|e| Definition::parse(e).map_err(|error| error.to_string())).collect())
}

/// A leaf's definition and its row.
type LeafRow = (&'static Definition, Map<String, Value>);

/// Every leaf by its name.
pub(crate) fn leaves() -> Result<&'static BTreeMap<String, LeafRow>, TaskError> {
    static LEAVES: OnceLock<BTreeMap<String, LeafRow>> = OnceLock::new();
    if let Some(found) = LEAVES.get() {
        return Ok(found);
    }
    let mut found = BTreeMap::new();
    for definition in readable()? {
        for row in definition.rows() {
            let name = definition.fill(&definition.name, &row)?;
            if found.insert(name.clone(), (definition, row)).is_some() {
                return Err(error(&definition.folder, format!("leaf `{name}` is defined twice")));
            }
        }
    }
    Ok(LEAVES.get_or_init(|| found))
}

/// The definitions in the order of their folders; an error when one cannot be read.
pub(crate) fn readable() -> Result<Vec<&'static Definition>, TaskError> {
    definitions()
        .iter()
        .zip(DEFINITIONS)
        .map(|(parsed, embedded)| parsed.as_ref().map_err(|message| error(embedded.folder, message.clone())))
        .collect()
}

/// The bundled documents of a folder.
pub(crate) fn sample(folder: &str) -> Option<&'static str> {
    SAMPLES.iter().find(|e| e.folder == folder).map(|e| e.text)
}
