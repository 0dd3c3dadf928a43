//! Device profiles by path, or by their name among those that are part of the binary.

use std::fs;
use std::path::Path;

use brim_scenario::Profile;
use include_dir::{Dir, include_dir};

use crate::error::Error;

static PROFILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../configs/devices");

/// Reads the profile that `word` names: a path, or a name like `hdd-7200`.
pub(crate) fn find(word: &str) -> Result<Profile, Error> {
    let path = Path::new(word);
    if let Some(file) = PROFILES.get_file(format!("{word}.toml")).filter(|_| !path.exists()) {
        let alone = |_: &str| Err("a profile of the house stands alone".to_owned());
        return Ok(Profile::parse(word, file.contents_utf8().unwrap_or_default(), &alone)?);
    }
    let text = fs::read_to_string(path).map_err(|source| Error::Usage {
        what: format!("no device profile is called {word:?}, and as a file it cannot be read: {source}"),
        help: format!("profiles of the house: {}", names().join(", ")),
    })?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let files = |name: &str| fs::read_to_string(beside.join(name)).map_err(|error| error.to_string());
    Ok(Profile::parse(word, &text, &files)?)
}

/// The names of the profiles that are part of the binary, in order.
fn names() -> Vec<String> {
    let mut names: Vec<String> = PROFILES
        .files()
        .filter_map(|file| file.path().file_stem())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_of_the_house_are_right() {
        let names = names();
        assert!(names.len() >= 4, "{names:?}");
        for name in names {
            let profile = find(&name).unwrap();
            assert_eq!(profile.name, name);
            assert!(!profile.faults.is_empty() && !profile.source.is_empty());
        }
    }

    #[test]
    fn a_profile_that_is_not_there_says_which_are() {
        let error = find("floppy").unwrap_err();
        assert!(format!("{error}").contains("floppy"), "{error}");
    }
}
