//! The state before the first step: `[prepare]`.

use brim_device::Bytes;
use brim_trial::BLOCK;
use brim_trial::plan::{Fill, Prepare};
use toml::Spanned;

use crate::error::{Checked, Objection};
use crate::quantity::Dimension;
use crate::read::Reader;
use crate::schema::{File, Formula};
use crate::step::{self, Disks};
use crate::written::Place;

/// What btrfs takes for a node of a tree where mkfs is told nothing (mkfs.btrfs(8), `--nodesize`).
const NODE: u64 = 16 << 10;

/// What is to be prepared. `mkfs` are the words for it.
pub(crate) fn prepare(
    file: &File,
    mkfs: &[String],
    disks: Disks<'_>,
    reader: &mut Reader<'_>,
) -> Checked<Prepare> {
    let steps = file.prepare.step.iter().map(|entry| step::in_preparation(entry, disks, reader));
    let steps = steps.collect::<Checked<_>>()?;
    let Some(wanted) = &file.prepare.fill else { return Ok(Prepare { steps, fill: Fill::default() }) };
    let keys = wanted.get_ref();
    if keys.data_free.is_none() && keys.metadata_free.is_none() {
        let place = Place::scenario(wanted.span());
        return Err(Objection::new(place, "a fill that says nothing", "how full?")
            .help("add `data_free = \"66 blocks\"`, `metadata_free = \"1 MiB\"`, or both"));
    }
    let data_free = keys.data_free.as_ref().map(|wanted| data_free(wanted, reader)).transpose()?;
    let metadata_free = keys.metadata_free.as_ref();
    let metadata_free = metadata_free.map(|wanted| metadata_free_of(wanted, mkfs, reader)).transpose()?;
    Ok(Prepare { steps, fill: Fill { data_free, metadata_free } })
}

fn data_free(wanted: &Spanned<Formula>, reader: &mut Reader<'_>) -> Checked<Bytes> {
    let found = reader.constant(wanted, Dimension::Size, "data_free")?;
    let size = Bytes(found.value);
    if !size.is_multiple_of(BLOCK) {
        let (down, up) = step::near(found.value, BLOCK.0);
        return Err(Objection::new(
            found.place,
            format!("`data_free` is {size}: not a multiple of a block of 4 KiB"),
            "ends inside a block",
        )
        .help(format!("the nearest are {down} and {up}; blocks are counted as in `66 blocks`")));
    }
    Ok(size)
}

fn metadata_free_of(wanted: &Spanned<Formula>, mkfs: &[String], reader: &mut Reader<'_>) -> Checked<Bytes> {
    let found = reader.constant(wanted, Dimension::Size, "metadata_free")?;
    if mkfs.iter().any(|word| word == "-M" || word == "--mixed") {
        return Err(Objection::new(
            Place::scenario(wanted.span()),
            "`metadata_free` with mixed block groups",
            "there is one space for both",
        )
        .help("with `-M` say `data_free` alone: metadata takes from the same"));
    }
    let node = node_size(mkfs);
    if !found.value.is_multiple_of(node) {
        let (down, up) = step::near(found.value, node);
        let size = Bytes(found.value);
        return Err(Objection::new(
            found.place,
            format!("`metadata_free` is {size}: not a multiple of a node of {}", Bytes(node)),
            "ends inside a node",
        )
        .help(format!("the nearest are {down} and {up}: trees grow by whole nodes (`mkfs -n`)")));
    }
    Ok(Bytes(found.value))
}

/// The size of a node that these words of mkfs ask for.
fn node_size(mkfs: &[String]) -> u64 {
    let mut size = NODE;
    let mut words = mkfs.iter();
    while let Some(word) = words.next() {
        let value = match word.as_str() {
            "-n" | "--nodesize" => words.next().map(String::as_str),
            word => word.strip_prefix("--nodesize=").or_else(|| word.strip_prefix("-n")),
        };
        size = value.and_then(bytes).unwrap_or(size);
    }
    size
}

/// A size as btrfs-progs reads it: `16384`, `16k`, `16KiB`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mkfs_says_how_large_a_node_is() {
        let size =
            |words: &[&str]| node_size(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(size(&[]), 16384);
        assert_eq!(size(&["-d", "single", "-n", "4096"]), 4096);
        assert_eq!(size(&["-n32k"]), 32768);
        assert_eq!(size(&["--nodesize", "64K"]), 65536);
        assert_eq!(size(&["--nodesize=8KiB"]), 8192);
        assert_eq!(size(&["-n", "odd"]), 16384);
        assert_eq!(size(&["--no-such"]), 16384);
    }
}
