//! The tasks: names, classes, where the pictures are published.

use anyhow::{anyhow, bail};
use tasks::{DatasetFacts, MetricSpec, OutputKind, TaskSpec};

use crate::data::images::layout::same_split;
use crate::error::Hint as _;

/// A set of classes that scores can be compared on.
#[derive(Debug, PartialEq, Eq)]
pub struct VisionTask {
    /// Name in results.
    pub name: &'static str,
    /// Class folders in the order of the labels; empty where any WordNet ids are classes.
    pub classes: &'static [&'static str],
    /// Number of classes.
    pub num_classes: usize,
    /// Data set on the hub and its configuration.
    pub hub: (&'static str, Option<&'static str>),
    /// Split that is evaluated.
    pub split: &'static str,
    /// Its pictures.
    pub num_docs: usize,
    /// Terms of use.
    pub licence: &'static str,
    /// What scores can be compared with.
    pub reference: &'static str,
}

/// What every specification of this module names as its definition.
pub const DEFINITION: &str = "vision";

/// Ten of ImageNet's classes.
pub const IMAGENETTE: VisionTask = VisionTask {
    name: "imagenette",
    classes: &[
        "n01440764",
        "n02102040",
        "n02979186",
        "n03000684",
        "n03028079",
        "n03394916",
        "n03417042",
        "n03425413",
        "n03445777",
        "n03888257",
    ],
    num_classes: 10,
    hub: ("frgfm/imagenette", Some("160px")),
    split: "validation",
    num_docs: 3_925,
    licence: "ImageNet terms of access",
    reference: "fast.ai Imagenette2, 160 pixels",
};

/// Every task; the order decides between sets that fit several.
pub const TASKS: [VisionTask; 3] = [
    VisionTask {
        name: "cifar10",
        classes: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        num_classes: 10,
        hub: ("uoft-cs/cifar10", Some("plain_text")),
        split: "test",
        num_docs: 10_000,
        licence: "no formal licence; research use, cite Krizhevsky 2009",
        reference: "He et al. 2016, section 4.2",
    },
    IMAGENETTE,
    VisionTask {
        name: "imagenet1k",
        classes: &[],
        num_classes: 1000,
        hub: ("ILSVRC/imagenet-1k", None),
        split: "validation",
        num_docs: 50_000,
        licence: "ImageNet terms of access",
        reference: "TIMM validate: resize to size/0.875 by Pillow's bilinear filter, centre crop",
    },
];

/// Where Imagenette's classes stand among ImageNet's 1,000 in ascending order of their ids.
pub const IMAGENETTE_IN_IMAGENET: [u32; 10] = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701];

/// Whether a name is one of the tasks.
pub fn is_task(name: &str) -> bool {
    TASKS.iter().any(|task| task.name == name)
}

/// Whether a folder's name is a WordNet id of a noun, as ImageNet's classes are called.
pub fn is_synset(name: &str) -> bool {
    name.len() == 9 && name.starts_with('n') && name[1..].bytes().all(|byte| byte.is_ascii_digit())
}

impl VisionTask {
    fn shares_a_class(&self, classes: &[String]) -> bool {
        if self.classes.is_empty() {
            return classes.iter().any(|class| is_synset(class));
        }
        classes.iter().any(|class| self.classes.contains(&class.as_str()))
    }

    pub(super) fn holds_every_class(&self, classes: &[String]) -> bool {
        classes
            .iter()
            .all(|class| if self.classes.is_empty() { is_synset(class) } else { self.classes.contains(&class.as_str()) })
    }
}

/// The task that a set of class folders belongs to, among those asked (all when none); none for a set of one's own.
///
/// # Errors
/// Folders of several tasks, a folder that no class is called like, a set of another task than asked.
pub fn of_set(classes: &[String], asked: &[&str]) -> anyhow::Result<Option<&'static VisionTask>> {
    if let Some(task) = TASKS.iter().find(|task| task.holds_every_class(classes)) {
        if asked.is_empty() || asked.contains(&task.name) {
            return Ok(Some(task));
        }
        // A set of Imagenette's classes may be asked for as a part of ImageNet.
        if let Some(wider) = TASKS.iter().find(|task| task.holds_every_class(classes) && asked.contains(&task.name)) {
            return Ok(Some(wider));
        }
        bail!("expected a set of task `{}`, found the classes of `{}`", asked.join("`, `"), task.name);
    }
    if let Some(task) = TASKS.iter().find(|task| task.shares_a_class(classes)) {
        let unknown = classes.iter().find(|class| !task.holds_every_class(std::slice::from_ref(*class)));
        let unknown = unknown.map_or("", String::as_str);
        let known = if task.classes.is_empty() { "WordNet ids (n01440764)".to_owned() } else { task.classes.join(", ") };
        return Err(anyhow!("unknown class folder: `{unknown}` (the classes of `{}` are {known})", task.name))
            .hint("the layout is <split>/<class>/<file>; is this the right level, and is the folder called as the class is?");
    }
    // Numbers are what parquet files without names have, and ImageNet's are published under many: they fit the one task asked, if all are there.
    let is_numbered = classes.iter().enumerate().all(|(at, class)| class.parse() == Ok(at));
    match asked {
        [name] if is_numbered || classes.len() == 1000 => {
            let task = TASKS.iter().find(|task| task.name == *name);
            match task.filter(|task| task.num_classes != classes.len()) {
                Some(task) => bail!("expected the {} classes of task `{name}`, found {}", task.num_classes, classes.len()),
                None => Ok(task),
            }
        }
        _ => Ok(None),
    }
}

/// The facts of an evaluation, in the form of every task.
pub fn spec(task: Option<&VisionTask>, name: &str, split: Option<&str>, num_classes: usize) -> TaskSpec {
    let split = split.or(task.map(|task| task.split)).unwrap_or("all").to_owned();
    let metric = |name: &str, higher_is_better| MetricSpec { name: name.to_owned(), higher_is_better };
    TaskSpec {
        name: name.to_owned(),
        definition: DEFINITION.to_owned(),
        group: None,
        subgroup: None,
        version: "1".to_owned(),
        // Scored as one log-likelihood per class.
        output: OutputKind::MultipleChoice,
        num_fewshot: 0,
        num_fewshot_fixed: true,
        metrics: vec![metric("acc1", true), metric("acc5", true), metric("cross_entropy", false)],
        primary_metric: "acc1".to_owned(),
        chance: 1.0 / num_classes as f64,
        trivial: None,
        generation: None,
        dataset: DatasetFacts {
            hub: task.map(|task| task.hub.0.to_owned()),
            config: task.and_then(|task| task.hub.1.map(str::to_owned)),
            revision: None,
            fewshot_split: None,
            licence: task.map_or("the set's own", |task| task.licence).to_owned(),
            num_docs: task.filter(|task| same_split(&split, task.split)).map(|task| task.num_docs),
            split,
        },
        needs_executor: false,
        reference: task.map_or("", |task| task.reference).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(classes: &[&str]) -> Vec<String> {
        classes.iter().map(|class| (*class).to_owned()).collect()
    }

    fn task_of(classes: &[&str], asked: &[&str]) -> anyhow::Result<Option<&'static str>> {
        of_set(&names(classes), asked).map(|task| task.map(|task| task.name))
    }

    #[test]
    fn a_set_is_known_by_its_class_folders() {
        assert_eq!(task_of(&["bird", "cat"], &[]).unwrap(), Some("cifar10"));
        assert_eq!(task_of(TASKS[1].classes, &[]).unwrap(), Some("imagenette"));
        assert_eq!(task_of(&["n01440764", "n01443537"], &["imagenet1k", "cifar10"]).unwrap(), Some("imagenet1k"));
        assert_eq!(task_of(TASKS[1].classes, &["imagenet1k"]).unwrap(), Some("imagenet1k"));
        assert_eq!(task_of(&["mine", "yours"], &[]).unwrap(), None);
    }

    #[test]
    fn classes_without_names_fit_the_task_asked_when_all_are_there() {
        let numbers: Vec<String> = (0..1000).map(|at| at.to_string()).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        assert_eq!(task_of(&numbers[..10], &["cifar10"]).unwrap(), Some("cifar10"));
        assert_eq!(task_of(&numbers, &["imagenet1k"]).unwrap(), Some("imagenet1k"));
        assert_eq!(task_of(&numbers[..10], &["cifar10", "imagenette"]).unwrap(), None);
        let error = |classes: &[&str], asked: &str| task_of(classes, &[asked]).unwrap_err().to_string();
        assert_eq!(error(&numbers[..2], "cifar10"), "expected the 10 classes of task `cifar10`, found 2");
        assert_eq!(error(&numbers, "imagenette"), "expected the 10 classes of task `imagenette`, found 1000");
    }

    #[test]
    fn the_published_number_of_pictures_is_that_of_the_evaluated_split() {
        let num_docs = |split| spec(Some(&IMAGENETTE), "imagenette", split, 10).dataset.num_docs;
        assert_eq!([None, Some("val"), Some("train")].map(num_docs), [Some(3_925), Some(3_925), None]);
    }

    #[test]
    fn wrong_folders_and_wrong_tasks_are_named() {
        let error = task_of(&["airplane", "aeroplane"], &[]).unwrap_err().to_string();
        assert!(error.starts_with("unknown class folder: `aeroplane` (the classes of `cifar10` are airplane, "), "{error}");
        let error = task_of(&["bird", "cat"], &["imagenette"]).unwrap_err().to_string();
        assert_eq!(error, "expected a set of task `imagenette`, found the classes of `cifar10`");
    }
}
