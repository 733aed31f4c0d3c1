//! Names to tasks: leaves, groups, and the nearest name to a misspelt one.

use std::collections::BTreeMap;

use crate::definition::{Leaf, leaves, readable};
use crate::doc::Aggregate;
use crate::error::TaskError;
use crate::kinds::{LeafTask, aggregate_leaves};
use crate::metrics::anls::levenshtein;
use crate::spec::{GroupSpec, Profile, TaskSpec};
use crate::task::Task;

/// The leaf task of that name.
///
/// ```
/// use tasks::{Profile, task};
/// let boolq = task("boolq", Profile::Canonical).unwrap();
/// assert_eq!(boolq.spec().primary_metric, "acc");
/// let error = task("helaswag", Profile::Canonical).err().unwrap();
/// assert_eq!(error.to_string(), "unknown task: `helaswag` (did you mean `hellaswag`?)");
/// ```
///
/// # Errors
/// An unknown name, with the nearest known one; a group's name (its leaves are tasks: [`expand`]).
pub fn task(name: &str, profile: Profile) -> Result<Box<dyn Task>, TaskError> {
    Ok(Box::new(LeafTask::new(leaf(name, profile)?)?))
}

pub(crate) fn leaf(name: &str, profile: Profile) -> Result<Leaf, TaskError> {
    let all = leaves()?;
    match all.get(name) {
        Some((definition, row)) => definition.leaf(row, profile),
        None => Err(unknown(name, all.keys().map(String::as_str))),
    }
}

/// Leaf names for names of leaves and groups, in the order given and each once; a group's leaves in the order of its definition.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn expand<S: AsRef<str>>(names: &[S]) -> Result<Vec<String>, TaskError> {
    let all = leaves()?;
    let groups = groups();
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let name = name.as_ref();
        let members = match groups.iter().find(|g| g.name == name) {
            Some(group) => group.leaves.clone(),
            None if all.contains_key(name) => vec![name.to_owned()],
            None => return Err(unknown(name, all.keys().map(String::as_str).chain(groups.iter().map(|g| g.name.as_str())))),
        };
        for member in members {
            if !found.contains(&member) {
                found.push(member);
            }
        }
    }
    Ok(found)
}

/// The specification of every leaf (profile `canonical`), by definition and then in its order.
///
/// # Panics
/// When a definition cannot be read, which the definition test excludes.
pub fn list() -> Vec<TaskSpec> {
    let definitions = readable().expect("every definition parses: test `every_definition_gives_its_leaves`");
    let specs = definitions.iter().flat_map(|d| d.rows().into_iter().map(|row| d.spec(&row, Profile::Canonical)));
    specs.collect::<Result<_, _>>().expect("every definition gives its leaves: test `every_definition_gives_its_leaves`")
}

/// Every group, those of definitions first, then parts of groups (`mmlu_stem`).
pub fn groups() -> Vec<GroupSpec> {
    let mut tops: Vec<GroupSpec> = Vec::new();
    let mut parts: BTreeMap<String, GroupSpec> = BTreeMap::new();
    let size_weighted: BTreeMap<String, bool> =
        readable().unwrap_or_default().iter().map(|d| (d.folder.clone(), d.group_size_weighted)).collect();
    for spec in list() {
        let weighted = size_weighted.get(&spec.definition).copied().unwrap_or(true);
        let new = |name: &str| GroupSpec { name: name.to_owned(), leaves: Vec::new(), size_weighted: weighted };
        if let Some(name) = &spec.group {
            if tops.last().is_none_or(|g| g.name != *name) {
                tops.push(new(name));
            }
            if let Some(group) = tops.last_mut() {
                group.leaves.push(spec.name.clone());
            }
        }
        if let Some(name) = &spec.subgroup {
            parts.entry(name.clone()).or_insert_with(|| new(name)).leaves.push(spec.name.clone());
        }
    }
    tops.extend(parts.into_values());
    tops
}

/// A group's result from those of its leaves (leaf name, aggregates), which may be some of them only: the caller says which.
///
/// # Errors
/// An unknown group, no leaves, a leaf of another group, values that are not finite.
pub fn aggregate_group(group: &str, leaves: &[(String, Vec<Aggregate>)]) -> Result<Vec<Aggregate>, TaskError> {
    let groups = groups();
    let found = groups.iter().find(|g| g.name == group).ok_or_else(|| unknown(group, groups.iter().map(|g| g.name.as_str())))?;
    if let Some((other, _)) = leaves.iter().find(|(name, _)| !found.leaves.contains(name)) {
        let message = format!("expected leaves of the group, found `{other}`");
        return Err(TaskError::Aggregate { task: group.to_owned(), metric: String::new(), message });
    }
    aggregate_leaves(found, leaves)
}

/// An error that suggests the nearest known name, if one is near enough to be a slip.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> TaskError {
    let nearest = known.map(|k| (levenshtein(name, k), k)).min();
    let suggestion = nearest.filter(|(distance, k)| *distance <= 2 + k.len() / 4).map(|(_, k)| k.to_owned());
    TaskError::UnknownTask { name: name.to_owned(), suggestion }
}
