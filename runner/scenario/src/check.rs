//! Checks of single values that read no parameter.

use brim_trial::FilesystemKind;

use crate::error::{Checked, Objection};
use crate::schema::Text;
use crate::suggest;
use crate::written::Place;

/// A string that says what something is called: not empty, and the same whatever the parameters are.
pub(crate) fn fixed(text: &Text, key: &str) -> Checked<String> {
    let place = || Place::scenario(text.span());
    if text.get_ref().trim().is_empty() {
        return Err(Objection::new(place(), format!("`{key}` is empty"), "nothing stands here")
            .help(format!("give `{key}` some words")));
    }
    if text.get_ref().contains("${") {
        return Err(Objection::new(place(), format!("`{key}` reads a parameter"), "not possible here").help(
            "it stays the same whatever the parameters are; `${…}` may stand in quantities, files, error numbers, \
             mkfs and mount options, and the name of a phase",
        ));
    }
    Ok(text.get_ref().clone())
}

/// The one of `options` that is called `text`.
pub(crate) fn choose<T: Copy>(text: &str, place: Place, key: &str, options: &[(&str, T)]) -> Checked<T> {
    let found = options.iter().find(|(name, _)| *name == text);
    found.map(|(_, option)| *option).ok_or_else(|| {
        let names: Vec<&str> = options.iter().map(|(name, _)| *name).collect();
        Objection::new(place, format!("`{text}` is not possible for `{key}`"), "unknown").help(suggest::help(
            text,
            &names,
            "possible here",
        ))
    })
}

/// A filesystem by its name.
pub(crate) fn filesystem(text: &Text) -> Checked<FilesystemKind> {
    let name = fixed(text, "filesystem")?;
    name.parse().map_err(|_| {
        let names = FilesystemKind::ALL.map(FilesystemKind::name);
        Objection::new(
            Place::scenario(text.span()),
            format!("`{name}` is not a filesystem that brim can fill"),
            "unknown filesystem",
        )
        .help(suggest::help(&name, &names, "possible here"))
    })
}
