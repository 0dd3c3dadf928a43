//! A machine with the catalogue's scenarios, two kernels and one kind of disk.

use std::fs;
use std::path::Path;

use brim_campaign::{Missing, World};
use brim_scenario::{Profile, Scenario};

/// What a campaign file finds.
pub(crate) struct Anywhere;

fn missing(why: String, help: &str) -> Missing {
    Missing { why, help: help.to_owned() }
}

impl World for Anywhere {
    fn scenarios(&self, word: &str) -> Result<Vec<(String, Scenario)>, Missing> {
        let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
        let words = match word {
            "btrfs/*" => vec!["btrfs/fallocate-then-pwrite", "btrfs/scrub-loses-accepted-write"],
            word => vec![word],
        };
        let read = |word: &str| {
            let path = catalogue.join(word).with_extension("toml");
            let text = fs::read_to_string(path).map_err(|_| {
                missing(format!("no scenario is called `{word}`"), "`brim list` shows the catalogue")
            })?;
            Ok((word.to_owned(), Scenario::parse(word, &text).unwrap()))
        };
        words.into_iter().map(read).collect()
    }

    fn kernel(&self, word: &str) -> Result<(), Missing> {
        let is_here = ["uml/6.1", "uml/6.12"].contains(&word);
        is_here
            .then_some(())
            .ok_or_else(|| missing(format!("there is no kernel `{word}`"), "`brim kernel list`"))
    }

    fn profile(&self, word: &str) -> Result<Profile, Missing> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/devices").join(word);
        let text = fs::read_to_string(path.with_extension("toml"))
            .map_err(|_| missing(format!("there is no disk `{word}`"), "see `configs/devices/`"))?;
        let alone = |_: &str| Err("a profile of the house stands alone".to_owned());
        Ok(Profile::parse(word, &text, &alone).unwrap())
    }
}
