//! A write log of QEMU's (blklogwrites) is read here, and replays to the disk that QEMU wrote; and xfstests' replay-log does
//! the same with one of ours.

use std::fs;

use brim_device::log::{Flags, Mark, Position, Record, What, WriteLog, entries};
use brim_device::{Bytes, Store};
use libtest_mimic::Failed;
use nbd_server::LogFile;

use super::{noise, succeed, text};

pub(crate) type Check = fn() -> Result<(), Failed>;

pub(crate) const CHECKS: [(&str, &str, Check); 1] = [("qemu-io", "write_log", qemu_write_log)];

/// No distribution has this tool alone: it is built from src/log-writes/ of xfstests, and never required.
pub(crate) const UNPACKAGED: [(&str, &str, Check); 1] = [("replay-log", "write_log", replay_log_reads_ours)];

const SIZE: usize = 16 << 20;

/// QEMU counts its entries at a flush, and does one at its end.
const COMMANDS: [&str; 10] = [
    "write -P 0xaa 4k 64k",
    "write -P 0xbb 61440 512",
    "flush",
    "write -z 8k 4k",
    "discard 16k 8k",
    "write -f -P 0xcc 1M 1M",
    "aio_write -P 0xdd 15M 1M",
    "aio_flush",
    "discard 1536k 512k",
    "write -P 0xee 2M 512",
];

fn qemu_write_log() -> Result<(), Failed> {
    for sector in [512, 4096] {
        let dir = tempfile::tempdir()?;
        let (disk, log) = (dir.path().join("disk"), dir.path().join("log"));
        fs::File::create(&disk)?.set_len(Bytes::of_len(SIZE).0)?;
        fs::write(&log, [])?;
        let options = format!(
            "driver=blklogwrites,log-sector-size={sector},\
             file.driver=raw,file.file.driver=file,file.file.filename={},file.discard=unmap,file.file.discard=unmap,\
             log.driver=file,log.filename={}",
            text(&disk),
            text(&log)
        );
        let mut arguments = vec!["-d", "unmap", "--image-opts", &options];
        let commands = COMMANDS.into_iter().filter(|command| sector == 512 || !command.ends_with(" 512"));
        arguments.extend(commands.flat_map(|command| ["-c", command]));
        let said = succeed("qemu-io", &arguments)?;
        assert!(!said.contains("fail") && !said.contains("rror"), "{said}");

        let bytes = fs::read(&log)?;
        let mut counts = [0; 3];
        for entry in entries(&bytes)? {
            match entry?.0.what {
                What::Write { .. } => counts[0] += 1,
                What::Discard { .. } => counts[1] += 1,
                What::Flush => counts[2] += 1,
                What::Mark(mark) => return Err(format!("QEMU has no {mark:?}").into()),
            }
        }
        let written = if sector == 512 { 6 } else { 4 };
        assert!(
            counts[0] == written && counts[1] == 2 && counts[2] >= 2,
            "{counts:?} with sectors of {sector}"
        );
        let mut store = Store::new(Bytes::of_len(SIZE))?;
        WriteLog::decode(&bytes)?.replay(&mut store, &Position::End)?;
        let mut content = vec![0xee; SIZE];
        store.read(Bytes::ZERO, &mut content)?;
        assert!(content == fs::read(&disk)?, "what was replayed differs, with sectors of {sector}");
    }
    Ok(())
}

/// More than the 128 MiB that replay-log zeroes at once where a device cannot discard, as a file cannot.
const LARGE: usize = 320 << 20;

/// Keeps a log in a file, and answers what the disk was at its mark and at its end.
fn keep(path: &std::path::Path) -> Result<[Vec<u8>; 2], Failed> {
    let mut store = Store::new(Bytes::of_len(LARGE))?;
    let log = LogFile::create(path)?;
    let append = |records: Vec<Record>| records.into_iter().try_for_each(|record| log.append(record));
    let content = |store: &Store| -> Result<Vec<u8>, Failed> {
        let mut all = vec![0xee; LARGE];
        store.read(Bytes::ZERO, &mut all)?;
        Ok(all)
    };
    for (offset, len, flags) in
        [(0, 64 << 20, Flags::NONE), (260 << 20, 1 << 20, Flags::FUA), (5000, 3, Flags::NONE)]
    {
        store.write(Bytes(offset), &noise(len))?;
        append(Record::written(&store, Bytes(offset), Bytes::of_len(len), flags)?)?;
    }
    append(vec![Record::flush(), Record::mark(Mark::new("here")?)])?;
    let here = content(&store)?;
    let most = Bytes(300 << 20);
    store.trim(Bytes(4096), most)?;
    append(Record::discarded(&store, Bytes(4096), most, Flags::NONE)?)?;
    store.write(Bytes(8 << 20), &noise(4096))?;
    append(Record::written(&store, Bytes(8 << 20), Bytes(4096), Flags::NONE)?)?;
    let zeroed = Bytes(200 << 20);
    store.zero(Bytes(100), zeroed)?;
    append(Record::zeroed(&store, Bytes(100), zeroed, Flags::NONE)?)?;
    append(vec![Record::mark(Mark::new("end")?)])?;
    log.finish()?;
    Ok([here, content(&store)?])
}

fn replay_log_reads_ours() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (log, disk) = (dir.path().join("log"), dir.path().join("disk"));
    let [here, end] = keep(&log)?;
    let ours = ["--log", text(&log)];
    let ask = |more: &[&str]| succeed("replay-log", &[&ours, more].concat());
    let count = entries(&fs::read(&log)?)?.count();
    assert_eq!(ask(&["--num-entries"])?.trim(), count.to_string());
    let found = ask(&["--find", "--end-mark", "here"])?;
    assert!(found.starts_with("4@"), "{found}");
    let found = ask(&["--find", "--end-mark", "end"])?;
    assert!(found.starts_with(&format!("{}@", count - 1)), "{found}");
    let found = ask(&["--find", "--next-fua"])?;
    assert!(found.starts_with("1@"), "{found}");
    for (more, content) in [(&["--end-mark", "here"][..], &here), (&["--limit", "5"], &here), (&[], &end)] {
        fs::write(&disk, [])?;
        fs::File::options().write(true).open(&disk)?.set_len(Bytes::of_len(LARGE).0)?;
        ask(&[&["--replay", text(&disk)], more].concat())?;
        assert!(fs::read(&disk)? == *content, "what was replayed differs, up to {more:?}");
    }
    Ok(())
}
