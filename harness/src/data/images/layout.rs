//! Splits and classes from paths, as torchvision's ImageFolder lays sets out.
//!
//! ```text
//! […/]<split>/<class>/<file>      or  <class>/<file>        classes in ascending order of their names are 0, 1, 2, …
//! ```

use std::collections::BTreeSet;

use anyhow::{anyhow, bail};

use crate::error::Hint as _;

/// Names that one split goes by.
const ALIASES: [&[&str]; 2] = [&["validation", "valid", "val"], &["train", "training"]];

/// Advice where a set has several splits.
pub(super) const CHOOSE_SPLIT: &str =
    "choose one with --split, or in a training config with `data.train_split` and `data.valid_split`";

/// A file of a set: where it lies and what it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// Path below the split.
    pub id: String,
    /// Index into the classes.
    pub label: u32,
    /// What belongs to it.
    pub item: T,
}

/// The files of one split.
#[derive(Debug, PartialEq, Eq)]
pub struct Split<T> {
    /// Its name as the set has it; none when classes are at the top.
    pub name: Option<String>,
    /// Class names, ascending.
    pub classes: Vec<String>,
    /// Its files in ascending order of their ids.
    pub files: Vec<Placed<T>>,
}

/// Whether a file's name says that it is a picture; hidden files are none.
pub fn is_picture(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    !name.starts_with('.')
        && !path.starts_with("__MACOSX/")
        && matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png" | "jpe" | "jfif"))
}

/// Whether two names mean the same split (`val`, `validation`).
pub fn same_split(a: &str, b: &str) -> bool {
    a == b || ALIASES.iter().any(|names| names.contains(&a) && names.contains(&b))
}

/// Chooses a split among files given by path and numbers its classes.
///
/// - `split`: the one asked for; may be left out when there is only one.
///
/// # Errors
/// No pictures, pictures outside class folders, an unknown split, several splits and none asked for.
pub fn arrange<T>(files: Vec<(String, T)>, split: Option<&str>) -> anyhow::Result<Split<T>> {
    if files.is_empty() {
        return Err(anyhow!("expected pictures (.jpg, .jpeg, .png), found none"))
            .hint("the layout is <split>/<class>/<file>, or <class>/<file>");
    }
    let mut parted = Vec::with_capacity(files.len());
    let mut names: BTreeSet<Option<String>> = BTreeSet::new();
    for (path, item) in files {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let [above @ .., class, file] = parts.as_slice() else {
            return Err(anyhow!("expected <class>/<file>, found the picture `{path}` outside a class folder"))
                .hint("the layout is <split>/<class>/<file>, or <class>/<file>");
        };
        let name = above.last().map(|&name| name.to_owned());
        names.insert(name.clone());
        parted.push((name, (*class).to_owned(), format!("{class}/{file}"), item));
    }
    let shown = || names.iter().map(|name| name.as_deref().unwrap_or("(classes at the top)")).collect::<Vec<_>>().join("`, `");
    let chosen: Option<String> = match split {
        Some(asked) => match names.iter().flatten().find(|name| same_split(name, asked)) {
            Some(name) => Some(name.clone()),
            // A folder that is itself one split has no split level to look for.
            None if names.len() == 1 && names.contains(&None) => None,
            None => bail!("unknown split: `{asked}` (the set has `{}`)", shown()),
        },
        None if names.len() == 1 => names.first().cloned().flatten(),
        None => return Err(anyhow!("expected one split, found `{}`", shown())).hint(CHOOSE_SPLIT),
    };
    parted.retain(|(name, ..)| *name == chosen);
    let classes: BTreeSet<&str> = parted.iter().map(|(_, class, ..)| class.as_str()).collect();
    let classes: Vec<String> = classes.into_iter().map(str::to_owned).collect();
    let label = |class: &str| classes.binary_search_by(|known| known.as_str().cmp(class)).expect("collected above") as u32;
    let mut files: Vec<Placed<T>> =
        parted.into_iter().map(|(_, class, id, item)| Placed { label: label(&class), id, item }).collect();
    files.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(pair) = files.windows(2).find(|pair| pair[0].id == pair[1].id) {
        bail!("expected each picture once, found `{}` twice", pair[0].id);
    }
    Ok(Split { name: chosen, classes, files })
}

/// Refuses class folders of a split that hold no pictures: every later class would silently get another number.
///
/// - `folders`: paths without any picture below them.
///
/// # Errors
/// The first such folder.
pub fn refuse_empty_classes<T>(folders: &[String], split: &Split<T>) -> anyhow::Result<()> {
    let split_of = |folder: &str| folder.rsplit_once('/').map(|(above, _)| above.rsplit('/').next().unwrap_or(above).to_owned());
    match folders.iter().find(|folder| split_of(folder) == split.name) {
        Some(folder) => bail!("the class folder `{folder}` holds no pictures"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str], split: Option<&str>) -> anyhow::Result<Split<()>> {
        arrange(paths.iter().map(|path| ((*path).to_owned(), ())).collect(), split)
    }

    #[test]
    fn classes_are_numbered_in_order_of_their_names() {
        let split = of(&["test/b/2.png", "test/a/9.png", "./test/b/1.png", "test/Z/0.png"], None).unwrap();
        assert_eq!(split.name.as_deref(), Some("test"));
        assert_eq!(split.classes, ["Z", "a", "b"]);
        let files: Vec<(&str, u32)> = split.files.iter().map(|file| (file.id.as_str(), file.label)).collect();
        assert_eq!(files, [("Z/0.png", 0), ("a/9.png", 1), ("b/1.png", 2), ("b/2.png", 2)]);
    }

    #[test]
    fn a_split_is_found_by_any_of_its_names_and_at_any_depth() {
        let paths = ["set/train/a/1.png", "set/val/a/2.png"];
        assert_eq!(of(&paths, Some("validation")).unwrap().files[0].id, "a/2.png");
        assert_eq!(of(&["a/1.png"], Some("test")).unwrap().name, None);
        let error = of(&paths, Some("test")).unwrap_err().to_string();
        assert_eq!(error, "unknown split: `test` (the set has `train`, `val`)");
        assert_eq!(of(&paths, None).unwrap_err().to_string(), "expected one split, found `train`, `val`");
    }

    #[test]
    fn pictures_without_a_class_and_empty_sets_are_refused() {
        assert!(of(&["1.png"], None).unwrap_err().to_string().contains("outside a class folder"));
        assert!(of(&[], None).unwrap_err().to_string().contains("found none"));
        assert!(of(&["x/a/1.png", "./x/a/1.png"], None).unwrap_err().to_string().contains("found `a/1.png` twice"));
    }

    #[test]
    fn empty_classes_matter_in_the_chosen_split_only() {
        let paths = ["set/train/a/1.png", "set/val/a/2.png"];
        let refused =
            |folder: &str, split| refuse_empty_classes(&[folder.to_owned()], &of(&paths, Some(split)).unwrap()).is_err();
        assert!(refused("set/val/b", "val") && !refused("set/val/b", "train") && !refused("set", "val"));
        let top = of(&["a/1.png"], None).unwrap();
        let error = refuse_empty_classes(&["b".to_owned()], &top).unwrap_err().to_string();
        assert_eq!(error, "the class folder `b` holds no pictures");
    }

    #[test]
    fn pictures_are_told_by_extension() {
        assert!(is_picture("a/b.JPEG") && is_picture("b.png") && !is_picture("a/b.txt") && !is_picture("a/._b.png"));
    }
}
