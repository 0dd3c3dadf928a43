//! What a campaign file names: scenarios, kernels and kinds of disks of this machine and of the binary.

use std::fs;
use std::path::Path;

use brim_campaign::{Missing, World};
use brim_scenario::{Profile, Scenario};
use include_dir::{Dir, include_dir};
use miette::Diagnostic;

use crate::catalogue;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::profile;

static CAMPAIGNS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../configs/campaigns");

/// A campaign file, and what it is called in messages.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Reads the campaign file that `word` names: a path, or a name like `free-space-and-records`.
pub(crate) fn find(word: &str) -> Result<Text, Error> {
    let path = Path::new(word);
    if let Some(file) = CAMPAIGNS.get_file(format!("{word}.toml")).filter(|_| !path.exists()) {
        return Ok(Text { name: word.to_owned(), text: file.contents_utf8().unwrap_or_default().to_owned() });
    }
    let text = fs::read_to_string(path).map_err(|source| Error::Usage {
        what: format!("no campaign is called {word:?}, and as a file it cannot be read: {source}"),
        help: format!("campaigns of the house: {}", names().join(", ")),
    })?;
    Ok(Text { name: word.to_owned(), text })
}

/// The names of the campaigns that are part of the binary, in order.
fn names() -> Vec<String> {
    let stems = CAMPAIGNS.files().filter_map(|file| file.path().file_stem());
    let mut names: Vec<String> = stems.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// This machine.
pub(crate) struct Here;

impl World for Here {
    fn scenarios(&self, word: &str) -> Result<Vec<(String, Scenario)>, Missing> {
        if !word.contains(['*', '?', '[']) {
            return catalogue::find(word)
                .map(|entry| vec![(entry.word, entry.scenario)])
                .map_err(|error| missing(&error));
        }
        let pattern = glob::Pattern::new(word).map_err(|error| Missing {
            why: format!("`{word}` is no pattern: {error}"),
            help: "`*` stands for any letters but a slash, `**` for any directories".to_owned(),
        })?;
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let mut words: Vec<String> =
            catalogue::names().into_iter().filter(|name| pattern.matches_with(name, options)).collect();
        if let Ok(paths) = glob::glob_with(word, options) {
            let files =
                paths.flatten().filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
            words.extend(files.map(|path| path.display().to_string()));
        }
        if words.is_empty() {
            return Err(Missing {
                why: format!("no scenario is called `{word}`"),
                help: "`brim list` shows the catalogue; a pattern also means files with the end `.toml`"
                    .to_owned(),
            });
        }
        words
            .iter()
            .map(|word| {
                catalogue::find(word)
                    .map(|entry| (entry.word, entry.scenario))
                    .map_err(|error| missing(&error))
            })
            .collect()
    }

    fn kernel(&self, word: &str) -> Result<(), Missing> {
        Kernel::find(word, None).map(drop).map_err(|error| missing(&Error::from(error)))
    }

    fn profile(&self, word: &str) -> Result<Profile, Missing> {
        profile::find(word).map_err(|error| missing(&error))
    }
}

fn missing(error: &Error) -> Missing {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let why = causes.fold(error.to_string(), |why, cause| format!("{why}: {cause}"));
    Missing { help: error.help().map(|help| help.to_string()).unwrap_or_default(), why }
}

#[cfg(test)]
mod tests {
    use brim_campaign::Campaign;

    use super::*;

    /// A machine that has every kernel.
    struct Anywhere;

    impl World for Anywhere {
        fn scenarios(&self, word: &str) -> Result<Vec<(String, Scenario)>, Missing> {
            Here.scenarios(word)
        }

        fn kernel(&self, _: &str) -> Result<(), Missing> {
            Ok(())
        }

        fn profile(&self, word: &str) -> Result<Profile, Missing> {
            Here.profile(word)
        }
    }

    #[test]
    fn the_campaigns_of_the_house_are_right() {
        let names = names();
        assert!(names.len() >= 4, "{names:?}");
        for name in names {
            let Text { text, .. } = find(&name).unwrap();
            let campaign = Campaign::parse(&name, &text, &Anywhere, None)
                .map_err(|error| format!("{name}: {:?}", miette::Report::new(error)));
            assert_eq!(campaign.unwrap().head.name, name);
        }
    }

    #[test]
    fn a_pattern_means_the_catalogue_and_files() {
        let all = Here.scenarios("btrfs/*").unwrap();
        assert!(all.len() >= 8 && all.iter().all(|(word, _)| word.starts_with("btrfs/")));
        assert!(Here.scenarios("*").is_err(), "a star does not cross a slash");
        assert!(Here.scenarios("nothing/*").unwrap_err().why.contains("nothing/*"));
    }
}
