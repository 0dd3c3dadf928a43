//! What a kernel's name means: files of configs/kernels, which are part of the binary, or of a user's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use include_dir::{Dir, DirEntry, include_dir};
use serde::Deserialize;

use super::Kind;
use super::error::KernelError;

static HOUSE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../configs/kernels");

/// Where a kernel is found, and what of it is wanted.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    pub(super) kind: Kind,
    /// The package; others that it needs in the same version come with it.
    pub(super) package: String,
    /// The suites of Debian in which the newest is taken.
    pub(super) suites: Vec<String>,
    /// The image in what is unpacked: the first that is there. A `*` is for one name that is not known before.
    pub(super) image: Vec<String>,
    /// The directory of its modules, in the same way.
    #[serde(default)]
    pub(super) modules: Vec<String>,
}

/// Finds the recipe for a word, and the name that its kernel is kept under.
///
/// # Errors
/// There is none, or it is wrong.
pub(super) fn find(word: &str) -> Result<(String, Recipe), KernelError> {
    if let Some(recipe) = house(word) {
        return Ok((word.to_owned(), recipe?));
    }
    let path = Path::new(word);
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    let name = path.file_stem().and_then(|stem| stem.to_str()).filter(|name| is_toml && is_name(name));
    let Some(name) = name else {
        return Err(KernelError::Unknown { word: word.to_owned(), help: known() });
    };
    let text = fs::read_to_string(path).map_err(KernelError::file("read", path))?;
    Ok((name.to_owned(), parse(word, &text)?))
}

/// The recipe of the house with this name.
pub(super) fn house(name: &str) -> Option<Result<Recipe, KernelError>> {
    let file = HOUSE.get_file(format!("{name}.toml"))?;
    Some(parse(name, file.contents_utf8().unwrap_or_default()))
}

/// The names of the house, oldest kernel first.
pub(crate) fn names() -> Vec<String> {
    let mut names = Vec::new();
    walk(&HOUSE, &mut names);
    names.sort_by_key(|name| order(name));
    names
}

/// Names sort by what they are, and then as numbers.
pub(super) fn order(name: &str) -> (String, Vec<u32>) {
    let (family, version) = name.rsplit_once('/').unwrap_or((name, ""));
    (family.to_owned(), version.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect())
}

/// Every release of Debian that a recipe of the house speaks of.
pub(super) fn releases() -> BTreeSet<String> {
    let recipes = names().into_iter().filter_map(|name| house(&name)?.ok());
    let suites = recipes.flat_map(|recipe| recipe.suites);
    suites.map(|suite| suite.split('-').next().unwrap_or_default().to_owned()).collect()
}

/// What to say to somebody who looks for a name.
pub(super) fn known() -> String {
    format!("the names of the house are {}", names().join(", "))
}

/// Whether a word may be the name of a kernel: it becomes a directory.
pub(super) fn is_name(word: &str) -> bool {
    let is_part = |part: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(is_allowed)
    };
    word.split('/').count() <= 2 && word.split('/').all(is_part)
}

fn parse(file: &str, text: &str) -> Result<Recipe, KernelError> {
    let wrong = |why: String| KernelError::Recipe { file: file.to_owned(), why };
    let recipe: Recipe = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let empty = [("suites", recipe.suites.is_empty()), ("image", recipe.image.is_empty())];
    match empty.into_iter().find(|(_, is_empty)| *is_empty) {
        Some((key, _)) => Err(wrong(format!("`{key}` is empty"))),
        None => Ok(recipe),
    }
}

fn walk(directory: &Dir<'_>, names: &mut Vec<String>) {
    for entry in directory.entries() {
        match entry {
            DirEntry::Dir(directory) => walk(directory, names),
            DirEntry::File(file) => names.push(file.path().with_extension("").display().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipes_of_the_house_are_right() {
        let names = names();
        let wanted = ["5.10", "6.1", "6.12", "newest"];
        let of = |family: &str| wanted.map(|version| format!("{family}/{version}"));
        assert_eq!(names, [of("debian"), of("uml")].concat());
        for name in names {
            let (kept_as, recipe) = find(&name).unwrap();
            assert_eq!(kept_as, name);
            assert_eq!(recipe.kind == Kind::Uml, name.starts_with("uml/"), "{name}");
            assert!(is_name(&name) && !recipe.modules.is_empty(), "{name}");
        }
        assert!(releases().is_superset(&["bullseye", "bookworm", "trixie", "sid"].map(str::to_owned).into()));
    }

    #[test]
    fn a_recipe_that_is_wrong_says_what_is_wrong() {
        let right = "kind = 'pc'\npackage = 'p'\nsuites = ['sid']\nimage = ['boot/vmlinuz-*']\n";
        assert!(parse("x", right).is_ok());
        for (text, said) in [
            (right.replace("pc", "arm"), "arm"),
            (right.replace("'sid'", ""), "`suites` is empty"),
            (format!("{right}colour = 'red'"), "colour"),
        ] {
            let error = parse("x.toml", &text).unwrap_err().to_string();
            assert!(error.contains(said) && error.starts_with("x.toml: "), "{error}");
        }
    }

    #[test]
    fn a_name_never_leaves_its_directory() {
        assert!(is_name("uml/6.1") && is_name("rt-6.12+x"));
        for word in ["", "/", "..", "../x", "uml/..", "uml/", "/etc/x", "a/b/c", ".new", "uml/.x"] {
            assert!(!is_name(word), "{word}");
        }
    }

    #[test]
    fn a_word_that_names_nothing_says_the_names() {
        let error = find("uml/2.4").unwrap_err();
        assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("uml/6.12"));
    }
}
