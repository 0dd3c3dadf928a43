//! A run in one file: `NAME.brim.tar.gz`, which tar(1) unpacks and brim reruns.
//!
//! Pure: bytes in, a value out, and back. It opens no file, and nothing that a bundle says names one: whatever an archive holds,
//! what is read of it stays in memory, up to a limit. The same bundle is the same bytes.

mod image;
mod manifest;
mod read;
mod write;

use brim_device::Store;

pub use image::{decode, encode};
pub use manifest::{Manifest, SCHEMA, Tool};
pub use read::{Limits, ReadError, read};
pub use write::write;

/// What a bundle's file is called behind its name.
pub const EXTENSION: &str = ".brim.tar.gz";

/// A run, and all that is needed to run it again.
#[derive(Debug)]
pub struct Bundle {
    /// What ran, with what, and what came of it.
    pub manifest: Manifest,
    /// For people: what this is, and the one line that reruns it.
    pub readme: String,
    /// The scenario as it ran, every parameter fixed.
    pub scenario: String,
    /// The journal, JSON lines.
    pub journal: String,
    /// What the kernel logged during the trial that stands for the verdict, one line each.
    pub kernel_log: String,
    /// The reservations that were refused during it, one line each.
    pub tickets: String,
    /// What the steps of the preparation have written, as brim keeps it: JSON.
    pub written: String,
    /// The disks as trials begin with them, before they are mounted, in the order of the scenario.
    pub before: Vec<Store>,
    /// The disks as that trial left them; none where they could not be had.
    pub after: Vec<Store>,
}

/// The members of the archive.
mod member {
    pub(crate) const README: &str = "README.txt";
    pub(crate) const MANIFEST: &str = "bundle.json";
    pub(crate) const SCENARIO: &str = "scenario.toml";
    pub(crate) const JOURNAL: &str = "journal.jsonl";
    pub(crate) const KERNEL_LOG: &str = "kernel.log";
    pub(crate) const TICKETS: &str = "tickets.txt";
    pub(crate) const WRITTEN: &str = "written.json";
    pub(crate) const BEFORE: &str = "disk.img";

    /// What the image of a disk is called, the first of which has no number.
    pub(crate) fn image(index: usize, is_after: bool) -> String {
        let number = if index == 0 { String::new() } else { format!("-{}", index + 1) };
        format!("disk{number}{}.img", if is_after { "-after" } else { "" })
    }
}
