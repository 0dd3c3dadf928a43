//! Bundles to bytes and back, and bytes that are none.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::collections::BTreeMap;
use std::io::Write;

use brim_bundle::{Bundle, Limits, Manifest, ReadError, SCHEMA, Tool, decode, encode, read, write};
use brim_device::{Bytes, Store};
use brim_trial::event::VerdictEvent;
use brim_trial::{Event, FilesystemKind, JournalLine, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

fn verdict() -> VerdictEvent {
    VerdictEvent {
        scenario: "btrfs/x".to_owned(),
        control: None,
        params: BTreeMap::from([("free".to_owned(), "66 blocks".to_owned())]),
        verdict: Verdict::Reproduced,
        known: None,
        rate: None,
        expected: true,
        trials: 1,
        reproduced: 1,
        inconclusive: 0,
        kernel: "6.18.44".to_owned(),
        filesystem: FilesystemKind::Btrfs,
        rig: "host/fuse".to_owned(),
        failed_step: Some("pwrite".to_owned()),
        errno: None,
        space: None,
        reason: None,
        findings: Vec::new(),
        seed: 1,
        seconds: 0.25,
        command: "brim run btrfs/x --seed 0x1".to_owned(),
    }
}

fn bundle(before: Store, after: Option<Store>) -> Bundle {
    of_disks(vec![before], after.into_iter().collect())
}

fn of_disks(before: Vec<Store>, after: Vec<Store>) -> Bundle {
    let line = JournalLine::from(Event::Verdict(Box::new(verdict())));
    Bundle {
        manifest: Manifest {
            schema: SCHEMA,
            brim: "0.1.0".to_owned(),
            tools: vec![Tool { name: "mkfs.btrfs".to_owned(), version: "v6.2".to_owned() }],
            kernel: "running".to_owned(),
            trial: 1,
            verdict: verdict(),
            left_out: Vec::new(),
        },
        readme: "read me\n".to_owned(),
        scenario: "schema = 1\n".to_owned(),
        journal: serde_json::to_string(&line).unwrap() + "\n",
        kernel_log: String::new(),
        tickets: "data 4096 B = ENOSPC\n".to_owned(),
        written: "{}".to_owned(),
        before,
        after,
    }
}

fn bytes(bundle: &Bundle) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(bundle, "x.brim.tar.gz", &mut bytes).unwrap();
    bytes
}

fn disk(size: u64, writes: &[(u64, Vec<u8>)]) -> Store {
    let mut disk = Store::new(Bytes(size)).unwrap();
    for (offset, data) in writes {
        let (offset, len) = ((*offset).min(size), Bytes::of_len(data.len()).0);
        let here = Bytes(len.min(size - offset)).to_len().unwrap();
        disk.write(Bytes(offset), &data[..here]).unwrap();
    }
    disk
}

fn disks() -> impl Strategy<Value = Store> {
    let content = prop_oneof![vec(any::<u8>(), 0..5000), Just(vec![0; 9000])];
    (1u64..200, vec((0u64..90_000, content), 0..6)).prop_map(|(sectors, writes)| disk(sectors * 512, &writes))
}

fn content(disk: &Store) -> Vec<u8> {
    let mut content = vec![0; disk.size().to_len().unwrap()];
    disk.read(Bytes(0), &mut content).unwrap();
    content
}

proptest! {
    /// For all disks: what is packed is the disk, and nothing that is zero is in it.
    #[test]
    fn a_disk_comes_back(disk in disks()) {
        let bytes = encode(&disk);
        let back = decode(bytes.as_slice(), disk.size()).unwrap().unwrap();
        prop_assert_eq!(content(&back), content(&disk));
        prop_assert_eq!(encode(&back), bytes.clone());
        let packed = Bundle::pack(&disk).unwrap();
        let back = Bundle::unpack(packed.as_slice(), disk.size()).unwrap().unwrap();
        prop_assert_eq!(encode(&back), bytes);
    }

    /// For all bundles: what is read is what was written, and the same bundle is the same bytes.
    #[test]
    fn a_bundle_comes_back(disks in vec((disks(), disks()), 1..4), has_after in any::<bool>()) {
        let (before, after) = disks.into_iter().unzip();
        let written = of_disks(before, if has_after { after } else { Vec::new() });
        let packed = bytes(&written);
        prop_assert_eq!(&bytes(&written), &packed);
        let back = read(packed.as_slice(), Limits::default()).unwrap();
        prop_assert_eq!(&back.manifest, &written.manifest);
        prop_assert_eq!(&back.scenario, &written.scenario);
        prop_assert_eq!(back.events().len(), 1);
        let all = |disks: &[Store]| disks.iter().map(content).collect::<Vec<_>>();
        prop_assert_eq!(all(&back.before), all(&written.before));
        prop_assert_eq!(all(&back.after), all(&written.after));
        prop_assert_eq!(bytes(&back), packed);
    }

    /// For all bundles, cut anywhere or with any byte changed: an error, or another bundle; never a panic.
    #[test]
    fn what_is_damaged_is_refused_or_read(before in disks(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let packed = bytes(&bundle(before, None));
        let at = at.index(packed.len());
        prop_assert!(read(&packed[..at], Limits::default()).is_err(), "cut at {} of {}", at, packed.len());
        let mut changed = packed;
        changed[at] ^= byte;
        let _read = read(changed.as_slice(), Limits::default());
    }

    /// For all bytes as a disk: a disk of that size, or none.
    #[test]
    fn any_bytes_are_a_disk_or_none(text in "[0-9\n]{0,40}", size in 0u64..1 << 40, rest in vec(any::<u8>(), 0..2000)) {
        let mut bytes = text.into_bytes();
        bytes.extend(rest);
        if let Ok(Some(disk)) = decode(bytes.as_slice(), Bytes(size)) {
            prop_assert_eq!(disk.size(), Bytes(size));
        }
    }
}

/// An archive with members of somebody else's choice behind those of a bundle.
fn with(change: impl FnOnce(&mut tar::Builder<&mut Vec<u8>>)) -> Result<Bundle, ReadError> {
    let packed = bytes(&bundle(disk(8192, &[(0, vec![1; 4096])]), None));
    let mut plain = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut plain).unwrap();
    // The two empty records of its end.
    plain.truncate(plain.len() - 1024);
    change(&mut tar::Builder::new(&mut plain));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).unwrap();
    read(packed.finish().unwrap().as_slice(), Limits { text: Bytes(1 << 20), disk: Bytes(1 << 20) })
}

fn refusal(change: impl FnOnce(&mut tar::Builder<&mut Vec<u8>>)) -> String {
    with(change).unwrap_err().to_string()
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

/// An entry as it is, whatever its name: the library refuses to write what it would refuse to unpack.
fn raw(name: &str, size: u64) -> tar::Header {
    let mut header = header(size);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    header
}

#[test]
fn what_belongs_into_no_bundle_is_refused() {
    assert!(with(|tar| tar.finish().unwrap()).is_ok(), "the archive that the others are changed from");
    let member = |name: &'static str| refusal(move |tar| tar.append(&raw(name, 1), [0].as_slice()).unwrap());
    assert_eq!(member("x/evil.sh"), r#""x/evil.sh" in it belongs into no bundle"#);
    assert_eq!(member("x/../../etc/passwd"), r#""x/../../etc/passwd" in it belongs into no bundle"#);
    assert_eq!(member("../README.txt"), r#""../README.txt" in it lies beside the others"#);
    assert_eq!(member("/README.txt"), r#""/README.txt" in it lies beside the others"#);
    assert_eq!(member("README.txt"), r#""README.txt" in it lies in no directory"#);
    assert_eq!(member("x/README.txt"), r#""x/README.txt" in it is there twice"#);
    assert_eq!(member("x/disk-17.img"), r#""x/disk-17.img" in it belongs into no bundle"#);
    assert_eq!(member("x/disk-after.img"), r#""x/disk-after.img" in it is no sparse file"#);
    for kind in
        [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory, tar::EntryType::Char]
    {
        let refused = refusal(move |tar| {
            let mut header = raw("x/README.txt", 0);
            header.set_entry_type(kind);
            header.set_link_name("/etc/passwd").unwrap();
            header.set_cksum();
            tar.append(&header, std::io::empty()).unwrap();
        });
        assert_eq!(refused, r#""x/README.txt" in it is no plain file"#, "{kind:?}");
    }
}

#[test]
fn what_is_too_large_stops_at_a_limit() {
    let text = refusal(|tar| {
        let zeroes = vec![0; 2 << 20];
        tar.append(&raw("x/tickets.txt", 2 << 20), zeroes.as_slice()).unwrap();
    });
    assert_eq!(text, r#""x/tickets.txt" in it is larger than 1 MiB"#);
    // More than there is: what an entry says of its length is not believed.
    let short = refusal(|tar| tar.append(&raw("x/tickets.txt", 1 << 19), std::io::empty()).unwrap());
    assert!(short.contains("tickets") || short.contains("not a whole tar"), "{short}");
    // A disk of 8 EiB is a matter of its map; one whose map ends past it is none.
    let sparse = |size: &'static str, map: &'static str| {
        with(move |tar| {
            let pax: [(&str, &[u8]); 4] = [
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"x/disk-after.img"),
                ("GNU.sparse.realsize", size.as_bytes()),
            ];
            tar.append_pax_extensions(pax).unwrap();
            let mut map = map.as_bytes().to_vec();
            map.resize(512, 0);
            tar.append(&raw("x/GNUSparseFile.0/disk-after.img", 512), map.as_slice()).unwrap();
            tar.finish().unwrap();
        })
    };
    let large = sparse("9223372036854771712", "1\n9223372036854771712\n0\n").unwrap();
    assert_eq!(large.after[0].allocated(), Bytes(0));
    let none = r#""x/disk-after.img" in it is no disk"#;
    for (size, map) in [
        ("4096", "1\n4096\n4096\n"),
        ("4096", "1\n1\n2\n"),
        ("4096", "2\n0\n0\n0\n"),
        ("4096", "99999999999999999999999\n"),
        ("4096", "-1\n"),
        ("4097", "0\n"),
        ("18446744073709551615", "0\n"),
    ] {
        assert_eq!(sparse(size, map).unwrap_err().to_string(), none, "{size} {map}");
    }
}

#[test]
fn another_schema_is_named() {
    let mut other = bundle(disk(4096, &[]), None);
    other.manifest.schema = 2;
    let error = read(bytes(&other).as_slice(), Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "its schema is 2, and this brim reads 1");
    let mut journal = bundle(disk(4096, &[]), None);
    journal.journal = "{}\n".to_owned();
    let error = read(bytes(&journal).as_slice(), Limits::default()).unwrap_err();
    assert!(
        error.to_string().starts_with(r#""journal.jsonl" in it has a line 1 that is none of a journal"#),
        "{error}"
    );
    for bytes in [b"".as_slice(), b"not a bundle", &[0x1f, 0x8b, 8, 0]] {
        let error = read(bytes, Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), "it is not a whole tar archive packed with gzip");
    }
}

/// The first input of the fuzz target, as it is: `UPDATE_SNAPSHOTS=1` writes it anew.
#[test]
fn the_corpus_begins_with_a_bundle() {
    let after = disk(9216, &[(4096, vec![7; 5120])]);
    let packed = bytes(&bundle(disk(8192, &[(0, vec![1; 4096])]), Some(after)));
    let mut plain = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut plain).unwrap();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/bundle/whole");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &plain).unwrap();
    }
    assert_eq!(std::fs::read(path).unwrap(), plain);
}
