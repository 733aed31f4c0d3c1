//! From a set's class folders to a model's outputs.
//!
//! ```text
//! the model's own names (a run of ours)      folder's position among them
//! as many outputs as the task has classes    folder's position among the task's classes, which a set may hold a part of
//! 1,000 outputs, Imagenette                  0, 217, 482, …
//! 1,000 outputs, some WordNet ids            their positions in the class index file
//! as many outputs as folders                 the folders in order
//! ```

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::task::{IMAGENETTE, IMAGENETTE_IN_IMAGENET, VisionTask, is_synset};
use crate::error::Hint as _;

/// Name of the class index beside a set.
pub const INDEX_FILE: &str = "imagenet_class_index.json";

/// Output of each class folder of a set.
///
/// - `classes`: the folders. - `outputs`, `names`: the model's, named where its run says how. - `index`: ImageNet's ids in order.
///
/// # Errors
/// When the model has another number of classes, or lacks one.
pub fn outputs(
    classes: &[String],
    task: Option<&VisionTask>,
    outputs: usize,
    names: Option<&[String]>,
    index: Option<&[String]>,
) -> anyhow::Result<Vec<u32>> {
    let among = |names: &[String], whose: &str| {
        let find =
            |class: &String| position(names, class).ok_or_else(|| anyhow!("unknown class folder: `{class}` (not among {whose})"));
        classes.iter().map(find).collect::<anyhow::Result<Vec<u32>>>()
    };
    if let Some(names) = names {
        return among(names, "the classes that the model was trained on").hint("evaluate on the set the model was trained for");
    }
    let is_named = |task: &VisionTask| !task.classes.is_empty() && task.holds_every_class(classes);
    if let Some(task) = task.filter(|task| task.num_classes == outputs && is_named(task)) {
        return Ok(classes.iter().filter_map(|class| position(task.classes, class)).collect());
    }
    if classes.len() == outputs {
        return Ok((0..outputs as u32).collect());
    }
    if outputs == 1000 && classes.iter().all(|class| is_synset(class)) {
        if is_named(&IMAGENETTE) {
            let own = classes.iter().filter_map(|class| position(IMAGENETTE.classes, class));
            return Ok(own.map(|at| IMAGENETTE_IN_IMAGENET[at as usize]).collect());
        }
        let Some(index) = index else {
            return Err(anyhow!("{} of ImageNet's 1,000 classes: their order is not known", classes.len()))
                .hint(format!("put `{INDEX_FILE}` beside the set, or name it with --class-index"));
        };
        if index.len() != outputs {
            bail!("the class index has {} entries, the model {outputs} outputs", index.len());
        }
        return among(index, "the class index");
    }
    Err(anyhow!("classes: expected {outputs}, the model's outputs, found {} class folders", classes.len()))
        .hint("is this the set the model belongs to?")
}

fn position<T: AsRef<str>>(names: &[T], class: &str) -> Option<u32> {
    names.iter().position(|name| name.as_ref() == class).map(|at| at as u32)
}

/// Reads `{"0": ["n01440764", "tench"], …}` as ids in order.
///
/// # Errors
/// When the file is something else.
pub fn read_index(path: &Path) -> anyhow::Result<Vec<String>> {
    let reading = || format!("cannot read the class index `{}`", path.display());
    let text = std::fs::read_to_string(path).with_context(reading)?;
    let value: Value = serde_json::from_str(&text).with_context(reading)?;
    let entries = value.as_object().map_or(0, serde_json::Map::len);
    let id = |at: usize| value[at.to_string()][0].as_str().map(str::to_owned);
    let ids: Option<Vec<String>> = (0..entries).map(id).collect();
    ids.filter(|ids| !ids.is_empty())
        .ok_or_else(|| anyhow!("expected {{\"0\": [\"n01440764\", \"tench\"], …}}"))
        .with_context(reading)
}

#[cfg(test)]
mod tests {
    use super::super::TASKS;
    use super::*;

    fn names(classes: &[&str]) -> Vec<String> {
        classes.iter().map(|class| (*class).to_owned()).collect()
    }

    #[test]
    fn a_part_of_a_tasks_classes_keeps_its_labels() {
        assert_eq!(outputs(&names(&["cat", "truck"]), Some(&TASKS[0]), 10, None, None).unwrap(), [3, 9]);
    }

    #[test]
    fn imagenette_maps_into_the_thousand_and_into_its_own_ten() {
        let classes = names(TASKS[1].classes);
        assert_eq!(outputs(&classes, Some(&TASKS[1]), 1000, None, None).unwrap(), IMAGENETTE_IN_IMAGENET);
        assert_eq!(outputs(&classes, Some(&TASKS[1]), 10, None, None).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn other_parts_of_imagenet_need_the_index() {
        let classes = names(&["n00000002", "n00000005"]);
        let error = crate::error::render(&outputs(&classes, Some(&TASKS[2]), 1000, None, None).unwrap_err());
        assert!(error.contains("hint: put `imagenet_class_index.json` beside the set"), "{error}");
        let index: Vec<String> = (0..1000).map(|at| format!("n{at:08}")).collect();
        assert_eq!(outputs(&classes, Some(&TASKS[2]), 1000, None, Some(&index)).unwrap(), [2, 5]);
        let unknown = names(&["n00000002", "n99999999"]);
        let error = outputs(&unknown, Some(&TASKS[2]), 1000, None, Some(&index)).unwrap_err().to_string();
        assert!(error.contains("`n99999999`"), "{error}");
    }

    #[test]
    fn names_of_a_run_win_and_unknown_ones_are_refused() {
        let own = names(&["b", "a"]);
        assert_eq!(outputs(&names(&["a", "b"]), None, 2, Some(&own), None).unwrap(), [1, 0]);
        assert!(outputs(&names(&["a", "c"]), None, 2, Some(&own), None).unwrap_err().to_string().contains("`c`"));
    }

    #[test]
    fn another_number_of_classes_is_refused() {
        let error = outputs(&names(&["x", "y", "z"]), None, 10, None, None).unwrap_err().to_string();
        assert_eq!(error, "classes: expected 10, the model's outputs, found 3 class folders");
        assert!(outputs(&names(&["bird", "cat"]), Some(&TASKS[0]), 1000, None, None).is_err());
    }

    #[test]
    fn the_index_file_is_read_in_the_order_of_its_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX_FILE);
        std::fs::write(&path, r#"{"1": ["n2", "b"], "0": ["n1", "a"], "10": ["n3", "c"]}"#).unwrap();
        assert!(read_index(&path).is_err()); // no entry 2
        std::fs::write(&path, r#"{"1": ["n2", "b"], "0": ["n1", "a"]}"#).unwrap();
        assert_eq!(read_index(&path).unwrap(), ["n1", "n2"]);
    }
}
