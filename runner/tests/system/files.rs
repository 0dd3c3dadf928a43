//! Operations on files: what they do on each filesystem, and what they say.

use serde_json::{Value, json};

use crate::Test;
use crate::bench::{Journal, scenario};
use crate::needs::{BTRFS, Need};

const ALL: &[Need] = &[
    Need::Rig,
    Need::Filesystem("btrfs"),
    Need::Tracefs,
    Need::Filesystem("ext4"),
    Need::Filesystem("xfs"),
    Need::Tool("xfs_repair"),
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("every_mode_of_fallocate_leaves_what_it_ought_to", ALL, fallocate),
        ("writes_of_every_kind_are_read_again", ALL, kinds_of_writes),
        ("a_short_write_is_told_and_the_next_one_fails", BTRFS, short_write),
        ("a_store_that_the_kernel_cannot_take_is_a_sigbus", BTRFS, sigbus),
        ("stores_are_written_back_by_msync", ALL, stores),
        ("names_lead_to_what_was_written", ALL, names),
        ("a_file_without_a_name_takes_its_space_until_it_is_closed", BTRFS, nameless),
        ("what_two_files_share_is_counted", BTRFS, shared),
        ("thousands_of_files_are_made_and_closed", BTRFS, many_files),
    ]
}

/// Runs these phases on a filesystem; no step is to fail but as it may.
fn run(phases: &str, filesystem: &str) -> Journal {
    run_where(phases, filesystem, "fill = { data_free = \"100 blocks\" }")
}

/// The same in another state.
fn run_where(phases: &str, filesystem: &str, prepare: &str) -> Journal {
    let rest = format!(
        "{phases}\n[[reproduced]]\nstep = \"never\"\nerrno = \"EXDEV\"\n\
        [[phase]]\nname = \"last\"\nstep = [ {{ name = \"never\", do.syncfs = {{}} }} ]\n"
    );
    let scenario = scenario(&rest);
    let size = if filesystem == "xfs" { "320 MiB" } else { "128 MiB" };
    let text = std::fs::read_to_string(&scenario.path).unwrap();
    let text = text.replace("size = \"128 MiB\"", &format!("size = \"{size}\""));
    std::fs::write(&scenario.path, text.replace("fill = { data_free = \"100 blocks\" }", prepare)).unwrap();
    let journal = Journal::of(&["run", &scenario.path, "--filesystem", filesystem]);
    let failed: Vec<_> = journal.all("step").into_iter().filter(|step| fails(step)).collect();
    assert!(failed.is_empty(), "{filesystem}: {failed:?}");
    assert_eq!(journal.verdict()["verdict"], "not-reproduced", "{filesystem}: {}", journal.verdict());
    journal
}

fn fails(step: &Value) -> bool {
    let failed = ["errno", "problem", "signal"].iter().any(|how| !step[how].is_null());
    failed && step["allowed"] != true
}

fn once(steps: &[&str], filesystem: &str) -> Journal {
    run(&format!("[[phase]]\nname = \"test\"\nstep = [ {} ]\n", steps.join(", ")), filesystem)
}

/// The first step of this name.
fn step<'a>(journal: &'a Journal, name: &str) -> &'a Value {
    journal.all("step").into_iter().find(|step| step["step"] == name).unwrap()
}

fn write(offset: &str, length: &str) -> String {
    format!("{{ do.pwrite = {{ file = \"f\", offset = \"{offset}\", length = \"{length}\" }} }}")
}

fn fallocate() {
    let mode = |mode: &str, offset: &str, more: &str| {
        format!(
            "{{ name = \"{mode}\", do.fallocate = {{ file = \"f\", offset = \"{offset}\", length = \"16 KiB\", mode = \"{mode}\"{more} }}, \
             allow = \"EOPNOTSUPP\" }}"
        )
    };
    for filesystem in ["btrfs", "ext4", "xfs"] {
        let journal = once(
            &[
                &write("0 B", "160 KiB"),
                &mode("punch_hole", "16 KiB", ""),
                &mode("zero_range", "48 KiB", ", keep_size = true"),
                &mode("collapse_range", "64 KiB", ""),
                &mode("insert_range", "96 KiB", ""),
                &mode("unshare_range", "0 B", ""),
                &mode("write_zeroes", "80 KiB", ""),
                "{ do.remount = {} }",
                "{ do.pread = { file = \"f\", offset = \"0 B\", length = \"140 KiB\" } }",
                "{ name = \"zeroes\", do.pread = { file = \"f\", offset = \"16 KiB\", length = \"16 KiB\", expect = \"zeroes\" } }",
                "{ do.check = {} }",
            ],
            filesystem,
        );
        let does = |mode: &str| step(&journal, mode)["errno"].is_null();
        assert!(does("punch_hole") && does("zero_range"), "{filesystem}");
        let shifts = filesystem != "btrfs";
        assert_eq!((does("collapse_range"), does("insert_range")), (shifts, shifts), "{filesystem}");
        assert_eq!(step(&journal, "punch_hole")["syscall"], "fallocate");
    }
}

fn kinds_of_writes() {
    let write = |at: u64, how: &str, data: &str| {
        format!(
            "{{ name = \"{how}\", do.pwrite = {{ file = \"f\", offset = \"{} KiB\", length = \"16 KiB\", how = \"{how}\", data = {data} }} }}",
            at * 16
        )
    };
    for filesystem in ["btrfs", "ext4", "xfs"] {
        let journal = once(
            &[
                &write(0, "buffered", "\"compressible\""),
                &write(1, "direct", "\"random\""),
                &write(2, "dsync", "{ text = \"brim \" }"),
                "{ do.fsync = { file = \"f\" } }",
                // ext4 does not know it for the page cache, and btrfs would have to wait for room.
                "{ name = \"nowait\", do.pwrite = { file = \"f\", offset = \"0 B\", length = \"4 KiB\", how = [\"nowait\"] }, allow = [\"EAGAIN\", \"EOPNOTSUPP\"] }",
                "{ name = \"read\", do.pread = { file = \"f\", offset = \"0 B\", length = \"48 KiB\", how = \"direct\" } }",
                "{ name = \"cached\", do.pread = { file = \"f\", offset = \"0 B\", length = \"4 KiB\", how = \"nowait\" }, allow = \"EAGAIN\" }",
                "{ do.open = { file = \"f\", flags = [\"O_APPEND\"] } }",
                "{ name = \"append\", do.pwrite = { file = \"f\", offset = \"0 B\", length = \"1000 B\" } }",
                "{ do.close = { file = \"f\" } }",
                "{ do.remount = {} }",
                "{ do.pread = { file = \"f\", offset = \"0 B\", length = \"50152 B\" } }",
            ],
            filesystem,
        );
        let syscall = |name: &str| step(&journal, name)["syscall"].clone();
        let syscalls = ["buffered", "direct", "dsync", "nowait", "read", "cached", "close"].map(syscall);
        assert_eq!(
            Value::from(syscalls.to_vec()),
            json!(["pwrite64", "pwrite64", "pwritev2", "pwritev2", "pread64", "preadv2", "close"])
        );
        if filesystem == "btrfs" {
            // Compressed or not, direct I/O reached the disk at once and the buffered one did not.
            assert_eq!(step(&journal, "direct")["returned"], 16384);
        }
    }
}

/// A hole at 4 blocks free.
fn short_write() {
    for how in ["buffered", "direct"] {
        let journal = once(
            &[
                "{ do.fallocate = { file = \"ballast\", offset = \"0 B\", length = \"96 blocks\" } }",
                &format!(
                    "{{ name = \"short\", do.pwrite = {{ file = \"f\", offset = \"0 B\", length = \"32 KiB\", how = \"{how}\", short = \"stop\" }}, allow = \"ENOSPC\" }}"
                ),
                "{ name = \"full\", do.pwrite = { file = \"f\", offset = \"16 KiB\", length = \"16 KiB\", short = \"stop\" }, allow = \"ENOSPC\" }",
                "{ do.pread = { file = \"f\", offset = \"0 B\", length = \"16 KiB\" } }",
            ],
            "btrfs",
        );
        let short = step(&journal, "short");
        assert_eq!(
            (&short["returned"], &short["short"], &short["errno"]),
            (&16384.into(), &16384.into(), &Value::Null),
            "{how}"
        );
        let full = step(&journal, "full");
        assert_eq!(
            (&full["errno"], &full["allowed"], &full["space"]),
            (&"ENOSPC".into(), &true.into(), &"data".into())
        );
        let phase = journal.all("phase")[0];
        assert_eq!(phase["allowed"], json!([{}, {}, { "ENOSPC": 1 }, {}]));
        assert_eq!(phase["timing"][1]["count"], 1);
        assert!(phase["timing"][1]["sum"].as_u64() > Some(0));
    }
}

/// Stores into holes of a full filesystem, by several workers at once.
fn sigbus() {
    let journal = run(
        "[[phase]]\nname = \"fill\"\nstep = [ \
         { do.fallocate = { file = \"ballast\", offset = \"0 B\", length = \"100 blocks\" } }, \
         { do.truncate = { file = \"f0\", size = \"1 MiB\" } }, { do.truncate = { file = \"f1\", size = \"1 MiB\" } }, \
         { do.truncate = { file = \"f2\", size = \"1 MiB\" } } ]\n\
         [[phase]]\nname = \"store\"\nstep = [ \
         { by = \"w\", do.mmap_write = { file = \"f${copy}\", offset = \"100 B + ${i} * 4 KiB\", length = \"8 KiB\" }, allow = \"SIGBUS\" }, \
         { by = \"w\", name = \"end\", do.mmap_read = { file = \"f${copy}\", offset = \"1 MiB\", length = \"1 B\" }, allow = \"any\" } ]\n\
         [[phase.worker]]\nname = \"w\"\ntimes = 50\ncopies = 3\n\
         [[phase]]\nname = \"look\"\nstep = [ { do.pread = { file = \"f1\", offset = \"0 B\", length = \"1 MiB\" } }, { do.check = {} } ]\n",
        "btrfs",
    );
    let stores: Vec<_> =
        journal.all("step").into_iter().filter(|step| step["step"] == "mmap_write").collect();
    // The first of each copy stands for all of them.
    assert_eq!(stores.len(), 3, "{stores:?}");
    let mut copies: Vec<_> = stores.iter().map(|step| step["copy"].as_u64().unwrap()).collect();
    copies.sort_unstable();
    assert_eq!(copies, [0, 1, 2]);
    for store in stores {
        assert_eq!(
            (&store["signal"], &store["errno"], &store["short"]),
            (&"SIGBUS".into(), &Value::Null, &0.into())
        );
        assert_eq!(store["syscall"], "store");
    }
    let phase = journal.all("phase")[1];
    assert_eq!(phase["allowed"], json!([{ "SIGBUS": 150 }, { "SIGBUS": 150 }]));
}

fn stores() {
    for filesystem in ["btrfs", "ext4", "xfs"] {
        once(
            &[
                "{ do.fallocate = { file = \"f\", offset = \"0 B\", length = \"64 KiB\" } }",
                "{ do.mmap_write = { file = \"f\", offset = \"1000 B\", length = \"10000 B\" } }",
                "{ do.mmap_write = { file = \"f\", offset = \"5000 B\", length = \"10 B\", data = { text = \"ab\" } } }",
                "{ do.msync = { file = \"f\", offset = \"1000 B\", length = \"10000 B\" } }",
                "{ do.mmap_read = { file = \"f\", offset = \"0 B\", length = \"64 KiB\" } }",
                "{ do.remount = {} }",
                "{ do.pread = { file = \"f\", offset = \"0 B\", length = \"64 KiB\" } }",
            ],
            filesystem,
        );
    }
}

fn names() {
    for filesystem in ["btrfs", "ext4", "xfs"] {
        let journal = once(
            &[
                "{ do.creat = { file = \"d/empty\" } }",
                "{ do.mkdir = { path = \"d/sub\" } }",
                &write("0 B", "8 KiB"),
                "{ do.rename = { from = \"f\", to = \"d/sub/g\" } }",
                "{ name = \"keep\", do.rename = { from = \"d/sub/g\", to = \"d/empty\", how = \"noreplace\" }, allow = \"EEXIST\" }",
                "{ do.link = { from = \"d/sub/g\", to = \"h\" } }",
                "{ name = \"by its other name\", do.pwrite = { file = \"h\", offset = \"4 KiB\", length = \"8 KiB\" } }",
                "{ name = \"other\", do.pwrite = { file = \"other\", offset = \"0 B\", length = \"4 KiB\" } }",
                "{ do.rename = { from = \"other\", to = \"h\", how = \"exchange\" } }",
                "{ name = \"directory\", do.rename = { from = \"d\", to = \"e\" } }",
                "{ do.symlink = { path = \"link\", target = \"e/sub/g\" } }",
                "{ name = \"long\", do.symlink = { path = \"long\", length = \"200 B\" } }",
                "{ do.setxattr = { file = \"h\", name = \"user.x\", length = \"100 B\" } }",
                "{ do.removexattr = { file = \"h\", name = \"user.x\" } }",
                "{ name = \"gone\", do.removexattr = { file = \"h\", name = \"user.x\" }, allow = \"ENODATA\" }",
                "{ do.chmod = { file = \"e/sub/g\", mode = \"0600\" } }",
                "{ do.fsync = { file = \"e\" } }",
                "{ name = \"full\", do.rmdir = { path = \"e/sub\" }, allow = \"ENOTEMPTY\" }",
                "{ do.remount = {} }",
                "{ name = \"g\", do.pread = { file = \"e/sub/g\", offset = \"0 B\", length = \"12 KiB\" } }",
                "{ name = \"h\", do.pread = { file = \"h\", offset = \"0 B\", length = \"4 KiB\" } }",
                "{ name = \"o\", do.pread = { file = \"other\", offset = \"0 B\", length = \"12 KiB\" } }",
                "{ do.unlink = { file = \"e/sub/g\" } }",
                "{ do.rmdir = { path = \"e/sub\" } }",
                "{ name = \"not there\", do.open = { file = \"no\" }, allow = \"ENOENT\" }",
                "{ name = \"there\", do.open = { file = \"h\", flags = [\"O_CREAT\", \"O_EXCL\"] }, allow = \"EEXIST\" }",
                "{ do.check = {} }",
            ],
            filesystem,
        );
        let errno = |name: &str| step(&journal, name)["errno"].clone();
        let errnos = ["keep", "gone", "full", "not there", "there"].map(errno);
        let wanted = json!(["EEXIST", "ENODATA", "ENOTEMPTY", "ENOENT", "EEXIST"]);
        assert_eq!(Value::from(errnos.to_vec()), wanted, "{filesystem}");
    }
}

fn nameless() {
    let room = |name: &str, allow: &str| {
        format!(
            "{{ name = \"{name}\", do.fallocate = {{ file = \"more\", offset = \"0 B\", length = \"60 blocks\" }}{allow} }}"
        )
    };
    let journal = once(
        &[
            "{ do.fallocate = { file = \"f\", offset = \"0 B\", length = \"80 blocks\" } }",
            &write("0 B", "8 KiB"),
            "{ do.unlink = { file = \"f\", keep_open = true } }",
            "{ do.syncfs = {} }",
            "{ name = \"orphan\", do.pwrite = { file = \"f\", offset = \"4 KiB\", length = \"8 KiB\" } }",
            "{ name = \"read\", do.pread = { file = \"f\", offset = \"0 B\", length = \"12 KiB\" } }",
            &room("no room", ", allow = \"ENOSPC\""),
            "{ do.close = { file = \"f\" } }",
            "{ name = \"sync\", do.syncfs = {} }",
            &room("room", ""),
            "{ do.unlink = { file = \"more\" } }",
            "{ do.tmpfile = { file = \"dir/t\" } }",
            "{ name = \"temporary\", do.pwrite = { file = \"dir/t\", offset = \"0 B\", length = \"8 KiB\" } }",
            "{ do.link = { from = \"dir/t\", to = \"named\" } }",
            "{ name = \"twice\", do.close = { file = \"dir/t\" } }",
            "{ name = \"not open\", do.close = { file = \"dir/t\" }, allow = \"EBADF\" }",
            "{ do.remount = {} }",
            "{ do.pread = { file = \"named\", offset = \"0 B\", length = \"8 KiB\" } }",
            "{ do.check = {} }",
        ],
        "btrfs",
    );
    assert_eq!(step(&journal, "no room")["errno"], "ENOSPC");
    assert_eq!(step(&journal, "not open")["errno"], "EBADF");
}

fn shared() {
    let journal = once(
        &[
            "{ do.pwrite = { file = \"f\", offset = \"0 B\", length = \"64 KiB\", data = \"compressible\" } }",
            "{ name = \"dirty\", do.extents = { file = \"f\", expect = { delalloc = { at_least = 1 } } } }",
            "{ do.fsync = { file = \"f\" } }",
            "{ do.fallocate = { file = \"f\", offset = \"64 KiB\", length = \"64 KiB\" } }",
            "{ do.reflink = { from = \"f\", to = \"g\" } }",
            "{ do.syncfs = {} }",
            "{ name = \"both\", do.extents = { file = \"g\", expect = { shared = 2, unwritten = { at_least = 1, at_most = 1 } } } }",
            "{ do.pwrite = { file = \"same\", offset = \"0 B\", length = \"64 KiB\", data = { text = \"x\" } } }",
            "{ do.pwrite = { file = \"alike\", offset = \"0 B\", length = \"64 KiB\", data = { text = \"x\" } } }",
            "{ do.syncfs = {} }",
            "{ do.dedupe = { from = \"same\", to = \"alike\", offset = \"0 B\", length = \"64 KiB\" } }",
            "{ do.syncfs = {} }",
            "{ name = \"deduped\", do.extents = { file = \"alike\", expect = { count = 1, shared = 1 } } }",
            "{ do.remount = {} }",
            "{ do.pread = { file = \"g\", offset = \"0 B\", length = \"128 KiB\" } }",
            "{ do.pread = { file = \"alike\", offset = \"0 B\", length = \"64 KiB\" } }",
        ],
        "btrfs",
    );
    assert_eq!(step(&journal, "dedupe")["returned"], 65536);
    let extents = &step(&journal, "deduped")["extents"];
    assert_eq!(
        (&extents["count"], &extents["bytes"], &extents["unwritten"]),
        (&1.into(), &65536.into(), &0.into())
    );

    // What differs, and what is not shared, ends the trial.
    for (last, problem) in [
        (
            "{ do.dedupe = { from = \"f\", to = \"g\", offset = \"0 B\", length = \"8 KiB\" }, allow = \"any\" }",
            json!("differs"),
        ),
        (
            "{ do.extents = { file = \"f\", expect = { shared = 1 } } }",
            json!({ "extents": { "what": "shared", "wanted": { "at_least": 1, "at_most": 1 }, "found": 0 } }),
        ),
    ] {
        let scenario = scenario(&format!(
            "[[phase]]\nname = \"test\"\nstep = [ {}, \
             {{ do.pwrite = {{ file = \"g\", offset = \"0 B\", length = \"8 KiB\" }} }}, {{ do.syncfs = {{}} }}, {last} ]\n\
             [[reproduced]]\nstep = \"syncfs\"\nerrno = \"EXDEV\"\n",
            write("0 B", "8 KiB")
        ));
        let journal = Journal::of(&["run", &scenario.path]);
        assert_eq!(journal.verdict()["verdict"], "inconclusive", "{}", journal.verdict());
        let failed = journal.all("step").into_iter().find(|step| !step["problem"].is_null()).unwrap();
        assert_eq!(failed["problem"], problem);
        assert!(!journal.verdict()["reason"].as_str().unwrap().is_empty());
    }
}

fn many_files() {
    let journal = run_where(
        "[[phase]]\nname = \"make\"\ntimes = 5000\nstep = [ { do.creat = { file = \"d/f${i}\" } } ]\n\
         [[phase]]\nname = \"write\"\ntimes = 3000\nstep = [ \
         { do.pwrite = { file = \"d/f${i}\", offset = \"0 B\", length = \"10 B\" } } ]\n\
         [[phase]]\nname = \"look\"\ntimes = 100\nstep = [ \
         { do.pread = { file = \"d/f${i}\", offset = \"0 B\", length = \"10 B\" } }, \
         { do.rename = { from = \"d/f${i}\", to = \"e/g${i}\" } }, \
         { do.pread = { file = \"e/g${i}\", offset = \"0 B\", length = \"10 B\" } }, \
         { do.unlink = { file = \"d/f49${i}\" }, allow = \"ENOENT\" } ]\n",
        "btrfs",
        "",
    );
    let phases = journal.all("phase");
    assert_eq!((&phases[0]["completed"], &phases[1]["completed"]), (&json!([5000]), &json!([3000])));
    assert_eq!(phases[0]["timing"][0]["count"], 5000);
}
