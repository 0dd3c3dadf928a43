//! A bundle to bytes.

use std::io::{self, Read, Write};

use brim_device::{Bytes, Store};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::image::{self, Map};
use crate::{Bundle, EXTENSION, member};

/// What the operating system of a gzip header is where nobody is to know (RFC 1952, "OS").
const UNKNOWN: u8 = 255;

/// Writes a bundle whose files lie in the directory `name`. The same bundle gives the same bytes: no time, no owner.
///
/// # Errors
/// What it is written to failed.
pub fn write(bundle: &Bundle, name: &str, to: impl Write) -> io::Result<()> {
    let Bundle { manifest, readme, scenario, journal, kernel_log, tickets, written, before, after } = bundle;
    let directory = name.strip_suffix(EXTENSION).unwrap_or(name);
    let packed = GzBuilder::new().operating_system(UNKNOWN).write(to, Compression::default());
    let mut archive = Archive { directory, tar: Builder::new(packed) };
    let mut manifest = serde_json::to_string_pretty(manifest)?;
    manifest.push('\n');
    for (name, text) in [
        (member::README, readme),
        (member::MANIFEST, &manifest),
        (member::SCENARIO, scenario),
        (member::JOURNAL, journal),
        (member::KERNEL_LOG, kernel_log),
        (member::TICKETS, tickets),
        (member::WRITTEN, written),
    ] {
        archive.text(name, text)?;
    }
    for (is_after, disks) in [(false, before), (true, after)] {
        for (index, disk) in disks.iter().enumerate() {
            archive.disk(&member::image(index, is_after), disk)?;
        }
    }
    archive.tar.into_inner()?.finish()?.flush()
}

struct Archive<'a, W: Write> {
    directory: &'a str,
    tar: Builder<W>,
}

impl<W: Write> Archive<'_, W> {
    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        let path = format!("{}/{name}", self.directory);
        self.tar.append_data(&mut header(Bytes::of_len(text.len())), path, text.as_bytes())
    }

    fn disk(&mut self, name: &str, disk: &Store) -> io::Result<()> {
        let (map, size) = (Map::of(disk), disk.size());
        let path = format!("{}/{name}", self.directory);
        self.tar.append_pax_extensions([
            ("GNU.sparse.major", b"1".as_slice()),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", path.as_bytes()),
            ("GNU.sparse.realsize", size.0.to_string().as_bytes()),
        ])?;
        let text = map.text(size);
        let length = Bytes(map.data().0 + Bytes::of_len(text.len()).0);
        // What a tar sees that does not know of sparse files.
        let path = format!("{}/GNUSparseFile.0/{name}", self.directory);
        self.tar.append_data(&mut header(length), path, Content { of: disk, map: &map, text, at: 0, part: 0 })
    }
}

fn header(size: Bytes) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size.0);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The map and the data of a disk, to be read part by part: nothing of it is in memory twice.
struct Content<'a> {
    of: &'a Store,
    map: &'a Map,
    text: Vec<u8>,
    at: u64,
    part: usize,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.text.is_empty() {
            let count = buffer.len().min(self.text.len());
            buffer.iter_mut().zip(self.text.drain(..count)).for_each(|(to, byte)| *to = byte);
            return Ok(count);
        }
        let Some(range) = self.map.0.get(self.part) else { return Ok(0) };
        let left = usize::try_from(range.length.0 - self.at).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        let here = buffer.get_mut(..count).unwrap_or_default();
        self.of.read(Bytes(range.offset.0 + self.at), here).map_err(io::Error::other)?;
        self.at += Bytes::of_len(count).0;
        if self.at == range.length.0 {
            (self.part, self.at) = (self.part + 1, 0);
        }
        Ok(count)
    }
}

/// A disk on its way to a guest is packed alone.
impl Bundle {
    /// What [`crate::encode`] makes of a disk, packed with gzip.
    ///
    /// # Errors
    /// Never, with memory to write to; the library says it may.
    pub fn pack(disk: &Store) -> io::Result<Vec<u8>> {
        let mut packed = GzBuilder::new().operating_system(UNKNOWN).write(Vec::new(), Compression::default());
        packed.write_all(&image::encode(disk))?;
        packed.finish()
    }

    /// The disk of `size` that [`Self::pack`] has packed; `None` where it is none.
    ///
    /// # Errors
    /// It is not packed, or cut short.
    pub fn unpack(packed: impl Read, size: Bytes) -> io::Result<Option<Store>> {
        image::decode(flate2::read::GzDecoder::new(packed), size)
    }
}
