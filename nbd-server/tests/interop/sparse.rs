//! What clients make of chunks, contexts and holes.

use std::os::unix::fs::MetadataExt;

use brim_device::fault::{Row, Then, When};
use brim_device::{Bytes, Store};
use libtest_mimic::Failed;
use nbd_server::client::Client;
use serde_json::Value;

use super::{Check, Rig, SIZE, noise, output, qemu_io, succeed, text};

pub(crate) const CHECKS: [(&str, &str, Check); 9] = [
    ("nbdinfo", "chunks_and_contexts", nbdinfo_chunks_and_contexts),
    ("nbdinfo", "map", nbdinfo_map),
    ("nbdinfo", "map_of_state", nbdinfo_map_of_state),
    ("nbdcopy", "sparse", nbdcopy_sparse),
    ("nbdcopy", "allocated", nbdcopy_allocated),
    ("qemu-img", "map", qemu_img_map),
    ("qemu-img", "convert", qemu_img_convert),
    ("qemu-io", "zeroes_and_status", qemu_io_zeroes_and_status),
    ("fio", "verify", fio_verify),
];

/// Three islands in holes, one of them at the end.
const ISLANDS: [u64; 3] = [1 << 20, 64 << 20, (128 << 20) - 65536];
const ISLAND: u64 = 64 << 10;

/// Writes the islands, and answers what the disk then reads as.
fn islands(rig: &Rig) -> Result<Vec<u8>, Failed> {
    let data = noise(usize::try_from(ISLAND)?);
    let mut whole = vec![0; usize::try_from(SIZE.0)?];
    for start in ISLANDS {
        qemu_io(rig, &[&format!("write -q -P 1 {start} {ISLAND}")])?;
        whole[usize::try_from(start)?..][..data.len()].fill(1);
    }
    assert_eq!(rig.disk.allocated(), Bytes(3 * ISLAND));
    Ok(whole)
}

fn content(store: &Store) -> Result<Vec<u8>, Failed> {
    let mut all = vec![0xee; usize::try_from(store.size().0)?];
    store.read(Bytes::ZERO, &mut all)?;
    Ok(all)
}

fn json(tool: &str, arguments: &[&str]) -> Result<Value, Failed> {
    Ok(serde_json::from_str(&succeed(tool, arguments)?)?)
}

fn nbdinfo_chunks_and_contexts(rig: &Rig) -> Result<(), Failed> {
    let told = json("nbdinfo", &["--json", &rig.uri])?;
    // Newer ones than 1.14 tell "extended headers" by a key of its own, and structured replies as well.
    assert!(told["structured"] == true || told["extended"] == true, "{told}");
    let export = &told["exports"][0];
    let contexts: Vec<_> = export["contexts"].as_array().ok_or("no contexts")?.iter().collect();
    assert_eq!(contexts, ["base:allocation", "brim:state"]);
    for can in ["can_df", "can_cache", "can_fast_zero"] {
        assert_eq!(export[can], true, "{can}");
    }
    assert_eq!(export["block_size_maximum"], 32 << 20);
    Ok(())
}

/// Offset, length and type of each extent.
fn map(rig: &Rig, option: &str) -> Result<Vec<[u64; 3]>, Failed> {
    let told = json("nbdinfo", &[option, "--json", &rig.uri])?;
    let extents = told.as_array().ok_or("no extents")?.iter();
    let number = |extent: &Value, key: &str| extent[key].as_u64().ok_or("no number");
    extents
        .map(|extent| Ok([number(extent, "offset")?, number(extent, "length")?, number(extent, "type")?]))
        .collect()
}

/// The extents of the islands, by what they are and what is between.
fn expected(island: u64, between: u64) -> Vec<[u64; 3]> {
    let mut extents = Vec::new();
    let mut at = 0;
    for start in ISLANDS {
        extents.extend([[at, start - at, between], [start, ISLAND, island]]);
        at = start + ISLAND;
    }
    extents
}

fn nbdinfo_map(rig: &Rig) -> Result<(), Failed> {
    islands(rig)?;
    assert_eq!(map(rig, "--map")?, expected(0, 3));
    Ok(())
}

fn nbdinfo_map_of_state(rig: &Rig) -> Result<(), Failed> {
    islands(rig)?;
    // QEMU flushes before it ends.
    assert_eq!(map(rig, "--map=brim:state")?, expected(1, 0));
    let client = Client::connect(rig.server.connect()?, "disk")?;
    client.write(Bytes(ISLANDS[0]), &vec![1; usize::try_from(ISLAND)?])?;
    client.write(Bytes(ISLANDS[1]), &vec![1; usize::try_from(ISLAND)?])?;
    let mut dirty = expected(1, 0);
    if rig.disk.options().write_cache {
        dirty[1][2] = 3;
        dirty[3][2] = 3;
    }
    assert_eq!(map(rig, "--map=brim:state")?, dirty);
    client.flush()?;
    assert_eq!(map(rig, "--map=brim:state")?, expected(1, 0));
    let when = When { op: None.into(), nth: Some(1_000_000), ..When::default() };
    rig.disk.add_fault(Row { name: "late".to_owned(), when, then: Then::HOLD })?;
    assert_eq!(map(rig, "--map=brim:state")?, expected(5, 4));
    Ok(())
}

fn nbdcopy_sparse(rig: &Rig) -> Result<(), Failed> {
    let whole = islands(rig)?;
    let (file, before) = (rig.dir.path().join("image"), rig.disk.stats().read.bytes);
    succeed("nbdcopy", &[&rig.uri, text(&file)])?;
    assert!(std::fs::read(&file)? == whole, "what was copied differs");
    let blocks = std::fs::metadata(&file)?.blocks() * 512;
    assert!(blocks <= 4 * ISLAND, "{blocks} bytes on disk: the copy is not sparse");
    let read = rig.disk.stats().read.bytes.0 - before.0;
    assert!(read < SIZE.0 / 4, "{read} bytes were read to copy {} of data", 3 * ISLAND);
    // And back, over a disk that is full.
    rig.disk.resize(Bytes(512))?;
    rig.disk.resize(SIZE)?;
    qemu_io(rig, &["write -q -P 9 0 32M"])?;
    succeed("nbdcopy", &[text(&file), &rig.uri])?;
    assert!(content(&rig.disk.snapshot())? == whole, "what came back differs");
    assert!(rig.disk.allocated() <= Bytes(4 * ISLAND), "{}: the disk is not sparse", rig.disk.allocated());
    Ok(())
}

fn nbdcopy_allocated(rig: &Rig) -> Result<(), Failed> {
    let file = rig.dir.path().join("empty");
    std::fs::File::create(&file)?.set_len(SIZE.0)?;
    succeed("nbdcopy", &["--allocated", text(&file), &rig.uri])?;
    let content = content(&rig.disk.snapshot())?;
    assert!(content.iter().all(|byte| *byte == 0));
    Ok(())
}

fn qemu_img_map(rig: &Rig) -> Result<(), Failed> {
    islands(rig)?;
    let told = json("qemu-img", &["map", "--output=json", "-f", "raw", &rig.uri])?;
    let extents: Vec<_> = told.as_array().ok_or("no extents")?.iter().collect();
    assert_eq!(extents.len(), 6, "{told}");
    for (extent, [start, length, island]) in extents.iter().zip(expected(1, 0)) {
        assert_eq!((&extent["start"], &extent["length"]), (&start.into(), &length.into()));
        assert_eq!((&extent["data"], &extent["zero"]), (&(island == 1).into(), &(island == 0).into()));
    }
    Ok(())
}

fn qemu_img_convert(rig: &Rig) -> Result<(), Failed> {
    let whole = islands(rig)?;
    let file = rig.dir.path().join("image.qcow2");
    succeed("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &rig.uri, text(&file)])?;
    let size = std::fs::metadata(&file)?.len();
    assert!(size < SIZE.0 / 32, "{size} bytes of qcow2 for {} of data", 3 * ISLAND);
    qemu_io(rig, &["write -q -P 9 0 128M"])?;
    succeed("qemu-img", &["convert", "-n", "-f", "qcow2", "-O", "raw", text(&file), &rig.uri])?;
    assert!(content(&rig.disk.snapshot())? == whole, "what came back differs");
    succeed("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", text(&file), &rig.uri])?;
    Ok(())
}

fn qemu_io_zeroes_and_status(rig: &Rig) -> Result<(), Failed> {
    // Without -u QEMU wants the blocks to stay.
    qemu_io(rig, &["write -q -P 7 0 1M", "write -q -z 0 512k", "read -q -P 0 0 512k"])?;
    assert_eq!(rig.disk.allocated(), Bytes(1 << 20));
    qemu_io(rig, &["write -q -z -u 0 512k", "read -q -P 0 0 512k", "read -q -P 7 512k 512k"])?;
    assert_eq!(rig.disk.allocated(), Bytes(1 << 19));
    Ok(())
}

fn fio_verify(rig: &Rig) -> Result<(), Failed> {
    if !succeed("fio", &["--enghelp"])?.lines().any(|line| line.trim() == "nbd") {
        return Err("this fio was built without its nbd engine".into());
    }
    let uri = format!("--uri={}", rig.uri);
    let jobs = ["--name=v", "--ioengine=nbd", &uri, "--rw=randrw", "--bs=4k-64k", "--iodepth=16"];
    let verify = ["--size=32M", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1"];
    // Where it may not write its verify state file there, it should not fail for that.
    let done = output("fio", &[&jobs[..], &verify, &["--verify_state_save=0"]].concat())?;
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}{}", String::from_utf8_lossy(&done.stdout));
    Ok(())
}
