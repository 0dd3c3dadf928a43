//! The command line where nothing is mounted: what it prints, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn brim(arguments: &[&str]) -> Output {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Command::new(env!("CARGO_BIN_EXE_brim"))
        .args(arguments)
        .current_dir(project)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn assert_usage(arguments: &[&str], parts: &[&str]) {
    let output = brim(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: `{part}` is not in:\n{said}");
    }
}

const SCENARIO: &str = "scenarios/btrfs/fallocate-then-pwrite.toml";

#[test]
fn bad_usage_exits_with_2_and_says_what_would_be_right() {
    assert_usage(&["run", SCENARIO, "--set", "free=65 blokcs"], &["65 blokcs", "did you mean `65 blocks`"]);
    assert_usage(&["run", SCENARIO, "--set", "fre=65 blocks"], &["fre", "free"]);
    assert_usage(&["run", SCENARIO, "--set", "free"], &["NAME=VALUE"]);
    assert_usage(&["run", SCENARIO, "--filesystem", "zfs"], &["btrfs, ext4 or xfs"]);
    assert_usage(&["run", SCENARIO, "--rig", "qemu/virtio"], &["not in this release", "qemu/nbd"]);
    assert_usage(&["run", SCENARIO, "--rig", "uml"], &["none is named", "brim kernel list"]);
    assert_usage(&["run", SCENARIO, "--rig", "cloud"], &["host/fuse"]);
    assert_usage(&["run", SCENARIO, "--trials", "0"], &["--trials"]);
    assert_usage(&["run", SCENARIO, "--seed", "dice"], &["0x"]);
    assert_usage(&["run", "no/such-scenario"], &["no/such-scenario", "brim list"]);
    assert_usage(&["exec", "--data-free", "66", "--", "true"], &["66 blocks"]);
    assert_usage(&["exec"], &["COMMAND"]);
    assert_usage(&["serve", "--size", "1MiB"], &["--unix"]);
}

#[test]
fn serve_says_what_is_wrong_with_its_exports_and_sizes() {
    let assert_serve = |arguments: &[&str], parts: &[&str]| {
        assert_usage(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat(), parts);
    };
    assert_serve(&[], &["the disk has no size", "--size 1GiB"]);
    assert_serve(&["--size", "1000"], &["512"]);
    assert_serve(&["--export", "a", "--export", "b=1MiB"], &["\"a\" has no size", "--export a=1GiB"]);
    assert_serve(&["--export", "a=1000"], &["512"]);
    assert_serve(&["--export", "a=b"], &["behind the last `=` is the size"]);
    assert_serve(
        &["--export", "a=1MiB", "--export", "a=2MiB"],
        &["\"a\" is there already", "name of its own"],
    );
    let sized = |sizes, parts: &[&str]| assert_serve(&["--size", "1049088", "--block-size", sizes], parts);
    sized("3", &["a power of 2 up to 65536", "3 is not"]);
    sized("512,256", &["256 is not"]);
    sized("512,4KiB,512", &["512 is less"]);
    sized("1,2,3,4", &["MIN,PREFERRED,MAX"]);
    sized("big", &["big"]);
    sized("512,4096,65MiB", &["64 MiB", "1MiB"]);
    sized("4096", &["1049088", "not a multiple of the minimum"]);
    assert_serve(&["--size", "1MiB", "--block-size-policy", "allow"], &["--block-size"]);
}

#[test]
fn serve_says_what_is_wrong_with_its_certificates() {
    let assert_serve = |arguments: &[&str], parts: &[&str]| {
        let always = ["serve", "--listen", "127.0.0.1:0", "--size", "1MiB"];
        assert_usage(&[&always, arguments].concat(), parts);
    };
    for mode in ["on", "require"] {
        assert_serve(&["--tls", mode], &["--tls-certificates"]);
    }
    assert_serve(&["--tls", "maybe"], &["off", "on", "require"]);
    assert_serve(&["--tls-certificates", "."], &["--tls"]);
    assert_serve(&["--tls", "on", "--tls-verify-peer"], &["--tls-certificates"]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let missing = ["server-cert.pem", "No such file", "docs/nbd.md", "openssl"];
    assert_serve(&["--tls", "require", "--tls-certificates", path], &missing);
    std::fs::write(directory.path().join("server-cert.pem"), "no PEM").unwrap();
    assert_serve(
        &["--tls", "on", "--tls-certificates", path],
        &["server-cert.pem has no certificate in PEM"],
    );
}

#[test]
fn a_bad_scenario_among_good_ones_runs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let bad = directory.path().join("bad.toml");
    std::fs::write(&bad, "schema = 1\nname = \"x\"\nclame = \"y\"\n").unwrap();
    assert_usage(&["run", SCENARIO, bad.to_str().unwrap()], &["clame", "claim"]);
    let output = brim(&["check", SCENARIO, bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), format!("{SCENARIO}: ok\n"));
    assert!(text(&output.stderr).contains("clame"));
}

/// What a rig does not deliver is said without running anything.
#[test]
fn check_says_which_rigs_turn_an_error_into_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool.toml");
    std::fs::write(
        &path,
        "schema = 1\nname = \"a\"\nclaim = \"b\"\nsource = \"c\"\n[device]\nsize = \"128 MiB\"\n\
         pool = { free = \"1 MiB\" }\n[filesystem]\nkind = \"btrfs\"\n[[phase]]\nname = \"d\"\n\
         step = [ { do.syncfs = {} } ]\n[[reproduced]]\nstep = \"syncfs\"\nerrno = \"ENOSPC\"\n",
    )
    .unwrap();
    let output = brim(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    let note = "  on host/nbd, uml, qemu/nbd: the ENOSPC of the pool arrives as EIO: nbd.ko has no other\n";
    assert!(said.ends_with(note), "{said}");
}

#[test]
fn the_catalogue_is_listed_checked_and_explained() {
    let listed = text(&brim(&["list"]).stdout);
    assert!(listed.contains("btrfs/fallocate-then-pwrite "), "{listed}");
    for line in listed.lines() {
        let name = line.split_whitespace().next().unwrap();
        assert_eq!(brim(&["check", name]).status.code(), Some(0), "{name}");
    }
    let output = brim(&["explain", "btrfs/fallocate-then-pwrite", "--set", "free=67 blocks"]);
    let words = text(&output.stdout);
    for part in [
        "room for exactly 67 blocks (274432 B) of data",
        "until something fails with ENOSPC",
        "1. fallocate 132096 B of `blob` at offset i × 132096 B",
        "Reproduced means: pwrite fails with ENOSPC, and a reservation of data space was refused under it.",
        "not-reproduced",
    ] {
        assert!(words.contains(part), "`{part}` is not in:\n{words}");
    }
}

#[test]
fn doctor_names_every_part_and_what_mends_it() {
    let output = brim(&["doctor"]);
    let said = text(&output.stdout);
    for part in ["root", "FUSE", "loop", "btrfs-progs", "tracefs", "nbd", "KVM", "QEMU", "rigs here:"] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    let count = |word: &str| said.lines().filter(|line| line.contains(word)).count();
    assert_eq!(count("  missing "), count(" mend: "), "what is missing can be mended:\n{said}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_without_a_word() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_brim"))
        .args(["explain", SCENARIO, "--set", "free=1..2000 blocks"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""));
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_brim")).arg("list").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("cannot write the result"), "{}", text(&output.stderr));
}
