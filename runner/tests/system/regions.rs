//! Regions by name are the bytes that they say, read from the disk itself.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::Test;
use crate::bench::{Journal, assert_nothing_left, brim, mark, scenario};
use crate::needs::{BTRFS, Need};

const OTHERS: &[Need] = &[Need::Rig, Need::Filesystem("ext4"), Need::Filesystem("xfs")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("regions_of_btrfs_are_where_they_say", BTRFS, btrfs),
        ("regions_of_ext4_and_xfs_are_where_they_say", OTHERS, others),
        ("a_region_that_cannot_be_found_is_told", BTRFS, not_found),
        ("a_row_of_a_region_acts_there_alone", BTRFS, acts_there_alone),
        ("the_log_tree_is_what_a_mount_replays", BTRFS, log_tree),
    ]
}

/// A run that waits for a gate which never holds anything: time to look at its disk.
struct Waiting {
    child: Child,
    /// The rest of its journal: it ends when nobody reads that.
    journal: BufReader<ChildStdout>,
    regions: Vec<Vec<(u64, u64)>>,
    file: PathBuf,
    disk: File,
}

impl Waiting {
    /// Writes a file, and arms a fault for each of these regions.
    fn with(regions: &[&str], filesystem: &str) -> (Self, crate::bench::Mark) {
        let fault = |(index, region): (usize, &&str)| {
            format!(
                "[[fault]]\nname = \"{index}\"\nwhen = {{ op = \"trim\", region = \"{region}\" }}\nthen = \"hold\"\n"
            )
        };
        let faults = regions.iter().enumerate().map(fault).collect::<Vec<_>>().concat();
        let arms: Vec<String> =
            (0..regions.len()).map(|index| format!("{{ arm = \"{index}\" }}, ")).collect();
        let arms = arms.concat();
        // Written in two pieces and not all of it, so that there is more than one extent.
        let scenario = scenario(&format!(
            "{faults}[[phase]]\nname = \"test\"\nstep = [ \
             {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"64 KiB\" }} }}, {{ do.fsync = {{ file = \"f\" }} }}, \
             {{ do.pwrite = {{ file = \"other\", offset = \"0 B\", length = \"4 KiB\" }} }}, {{ do.syncfs = {{}} }}, \
             {{ do.pwrite = {{ file = \"f\", offset = \"64 KiB\", length = \"32 KiB\" }} }}, {{ do.syncfs = {{}} }}, \
             {arms} {{ await.held = \"0\" }} ]\n[[reproduced]]\nstep = \"syncfs\"\nerrno = \"EIO\"\n"
        ))
        .with_limit("4 s");
        let text = std::fs::read_to_string(&scenario.path).unwrap().replace("\"128 MiB\"", "\"320 MiB\"");
        std::fs::write(
            &scenario.path,
            text.replace("[prepare]\nfill = { data_free = \"100 blocks\" }\n", ""),
        )
        .unwrap();
        let mut command = brim(&["run", &scenario.path, "--json", "--filesystem", filesystem]);
        let mark = mark(&mut command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut journal = BufReader::new(child.stdout.take().unwrap());
        let mut found = Vec::new();
        while found.len() < regions.len() {
            let mut line = String::new();
            journal.read_line(&mut line).unwrap();
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["step"] == "arm" {
                let ranges = event["region"].as_array().unwrap().iter();
                let number = |range: &Value, key: &str| range[key].as_u64().unwrap();
                found.push(ranges.map(|range| (number(range, "offset"), number(range, "length"))).collect());
            }
        }
        let (file, disk) = look_into(&child);
        (Self { child, journal, regions: found, file, disk }, mark)
    }

    /// What the disk holds there.
    fn bytes(&self, ranges: &[(u64, u64)]) -> Vec<u8> {
        let mut all = Vec::new();
        for (offset, length) in ranges {
            // Direct reads are of whole sectors into aligned memory.
            let (begin, end) = (offset / 4096 * 4096, (offset + length).next_multiple_of(4096));
            let count = usize::try_from(end - begin).unwrap();
            let mut memory = vec![0_u8; count + 4096];
            let aligned = memory.as_ptr().align_offset(4096);
            self.disk.read_exact_at(&mut memory[aligned..aligned + count], begin).unwrap();
            let skip = aligned + usize::try_from(offset - begin).unwrap();
            all.extend_from_slice(&memory[skip..skip + usize::try_from(*length).unwrap()]);
        }
        all
    }

    fn end(mut self, mark: &crate::bench::Mark) {
        drop(self.disk);
        std::io::copy(&mut self.journal, &mut std::io::sink()).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(4));
        assert_nothing_left(mark);
    }
}

/// The file in the agent's mount namespace, and the device under it.
fn look_into(brim: &Child) -> (PathBuf, File) {
    let children = format!("/proc/{0}/task/{0}/children", brim.id());
    let agent = std::fs::read_to_string(children).unwrap();
    let agent = agent.split_whitespace().next().unwrap();
    let mounts = std::fs::read_to_string(format!("/proc/{agent}/mounts")).unwrap();
    let mount = mounts.lines().find(|line| line.contains("/brim ")).unwrap();
    let mut words = mount.split_whitespace();
    let (device, path) = (words.next().unwrap(), words.next().unwrap());
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    let disk = std::fs::OpenOptions::new().read(true).custom_flags(direct).open(device).unwrap();
    (PathBuf::from(format!("/proc/{agent}/root{path}/f")), disk)
}

fn btrfs() {
    let names = ["superblock", "file:f", "block-group-of:f", "data", "metadata", "system"];
    let (waiting, mark) = Waiting::with(&names, "btrfs");
    let [superblock, file, group, data, metadata, system] = waiting.regions.as_slice() else { panic!() };
    assert_eq!(superblock, &[(64 << 10, 4096), (64 << 20, 4096)]);
    for copy in superblock {
        // fs/btrfs: include/uapi/linux/btrfs_tree.h, struct btrfs_super_block: checksum, fsid, address, flags, magic.
        assert_eq!(&waiting.bytes(&[*copy])[64..72], b"_BHRfS_M");
    }
    assert!(waiting.bytes(file) == std::fs::read(&waiting.file).unwrap(), "{file:?}");
    let inside = |outer: &[(u64, u64)], (at, length): (u64, u64)| {
        outer.iter().any(|(begin, count)| *begin <= at && at + length <= begin + count)
    };
    assert!(file.iter().all(|range| inside(group, *range)));
    assert!(group.iter().all(|range| inside(data, *range)));
    let sum = |ranges: &[(u64, u64)]| ranges.iter().map(|(_, length)| length).sum::<u64>();
    assert!(sum(file) == 96 << 10 && sum(group) < sum(data) + 1);
    // Each node says in its header which filesystem it is of; so does a superblock that lies between them.
    let superblock = waiting.bytes(&superblock[..1]);
    let is_node = |node: &&[u8]| node[32..48] == superblock[32..48] && node[64..72] != superblock[64..72];
    let is_ours = |ranges: &[(u64, u64)]| waiting.bytes(ranges).chunks(16384).filter(is_node).count();
    let (metadata, system) = (is_ours(metadata), is_ours(system));
    assert!(metadata >= 10 && metadata % 2 == 0, "both copies of {metadata} nodes");
    assert_eq!(system % 2, 0, "both copies of {system} nodes");
    assert!(system >= 2);
    waiting.end(&mark);
}

fn others() {
    for (filesystem, magic, at) in [("ext4", [0x53, 0xef].as_slice(), 56), ("xfs", b"XFSB", 0)] {
        let (waiting, mark) = Waiting::with(&["superblock", "file:f"], filesystem);
        let [superblock, file] = waiting.regions.as_slice() else { panic!() };
        assert_eq!(&waiting.bytes(superblock)[at..at + magic.len()], magic, "{filesystem}");
        // xfs also has blocks behind the end of a file, for what may follow.
        let (disk, content) = (waiting.bytes(file), std::fs::read(&waiting.file).unwrap());
        assert!(disk.starts_with(&content), "{filesystem}: {file:?}");
        waiting.end(&mark);
    }
}

fn not_found() {
    let said = |region: &str, filesystem: &str| {
        let scenario = scenario(&format!(
            "[[fault]]\nname = \"gate\"\nwhen = {{ region = \"{region}\" }}\nthen = \"hold\"\n\
             [[phase]]\nname = \"test\"\nstep = [ \
             {{ do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"100 B\" }} }}, {{ do.syncfs = {{}} }}, \
             {{ arm = \"gate\" }} ]\n[[reproduced]]\nstep = \"syncfs\"\nerrno = \"EIO\"\n"
        ));
        let output = brim(&["run", &scenario.path, "--filesystem", filesystem]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{region}");
        let said = String::from_utf8(output.stderr).unwrap();
        said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
    };
    let inline = said("file:f", "btrfs");
    assert!(inline.contains("inside a leaf of a tree"), "{inline}");
    let missing = said("file:nothing", "btrfs");
    assert!(missing.contains("nothing to find where it lies"), "{missing}");
    // What was written is committed.
    let no_log = said("log-tree", "btrfs");
    assert!(no_log.contains("the superblock names no log tree"), "{no_log}");
    let elsewhere = said("metadata", "ext4");
    assert!(elsewhere.contains("ext4 has no such region"), "{elsewhere}");
}

/// Writes to the file fail, and what is beside it is written.
fn acts_there_alone() {
    let scenario = scenario(
        "[[fault]]\nname = \"broken\"\nwhen = { op = \"write\", region = \"file:f\" }\nthen = { error = \"EIO\" }\n\
         [[phase]]\nname = \"test\"\nstep = [ { do.fallocate = { file = \"f\", offset = \"0 B\", length = \"64 KiB\" } }, \
         { do.syncfs = {} }, { do.pwrite = { file = \"g\", offset = \"0 B\", length = \"64 KiB\" } }, \
         { do.pwrite = { file = \"f\", offset = \"0 B\", length = \"16 KiB\" } }, { arm = \"broken\" }, \
         { name = \"other\", do.fsync = { file = \"g\" } }, { do.fsync = { file = \"f\" } } ]\n\
         [[reproduced]]\nstep = \"fsync\"\nerrno = \"EIO\"\n",
    );
    let journal = crate::bench::Journal::of(&["run", &scenario.path, "--trials", "3"]);
    assert_eq!(journal.verdict()["reproduced"], 3, "{}", journal.verdict());
    let (fault, arm) = (journal.all("fault")[0], journal.all("step"));
    assert_eq!((&fault["matches"], &fault["firings"]), (&1.into(), &1.into()), "one write of 16 KiB");
    let arm = arm.into_iter().find(|step| step["step"] == "arm").unwrap();
    assert_eq!(arm["region"][0]["length"], 64 << 10, "also where it is dirty");
}

/// What the region says is what the kernel reads when it replays, and without the fault it mounts.
fn log_tree() {
    let scenario = "btrfs/log-tree-unreadable-refuses-mount";
    let journal = Journal::of(&["run", scenario]);
    assert_eq!(journal.verdict()["verdict"], "reproduced", "{}", journal.verdict());
    let steps = journal.all("step");
    let cut = steps.iter().find(|step| step["step"] == "power_cut").unwrap();
    let copies = cut["region"].as_array().unwrap();
    assert!(copies.len() == 2 && copies[0]["length"] == copies[1]["length"], "both copies: {copies:?}");
    let fault = journal.all("fault")[0];
    assert!(fault["firings"].as_u64().unwrap() >= 2, "each copy is tried: {fault}");
    let whole = Journal::of(&["run", scenario, "--without-fault", "log"]);
    assert_eq!(whole.verdict()["verdict"], "not-reproduced", "{}", whole.verdict());
}
