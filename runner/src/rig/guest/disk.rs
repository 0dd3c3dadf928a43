//! The content of disks on its way into a guest, with the initramfs, and out of it, over the line.

use std::fs::File;
use std::io::{self, BufReader};

use brim_bundle::Bundle;
use brim_device::{Bytes, Store};

use super::protocol::Reply;
use crate::rig::RigError;
use crate::rig::workbench::{Image, Preparation};

/// Where the initramfs has what the steps of the preparation have written.
const WRITTEN: &str = "/written.json";
/// How many bytes of a packed disk go over the line at once.
const PART: usize = 16 << 10;

/// Where the initramfs has a disk that trials begin in, packed; from 0.
fn path(disk: usize) -> String {
    format!("/disk-{disk}.gz")
}

/// An image as files for the initramfs.
pub(super) fn files(image: &Image) -> io::Result<Vec<(String, Vec<u8>)>> {
    let packed = image.disks.iter().enumerate().map(|(index, disk)| Ok((path(index), Bundle::pack(disk)?)));
    let mut files = packed.collect::<io::Result<Vec<_>>>()?;
    files.push((WRITTEN.to_owned(), serde_json::to_vec(&image.written)?));
    Ok(files)
}

/// The image that the initramfs has.
pub(super) fn adopted(preparation: &Preparation) -> Result<Image, RigError> {
    let disk = |(index, size): (usize, Bytes)| {
        let file = File::open(path(index)).map_err(|_| RigError::Image)?;
        Bundle::unpack(file, size).ok().flatten().ok_or(RigError::Image)
    };
    let disks = preparation.devices.iter().map(|device| device.size).enumerate().map(disk);
    let disks = disks.collect::<Result<Vec<Store>, RigError>>()?;
    let written = File::open(WRITTEN).map_err(|_| RigError::Image)?;
    let written = serde_json::from_reader(BufReader::new(written)).map_err(|_| RigError::Image)?;
    Ok(Image { disks, written })
}

/// The part of a disk that begins with this byte of what it is packed to. The same disk is packed to the same bytes.
pub(super) fn part(disk: &Store, from: usize) -> Result<Reply, RigError> {
    let packed = Bundle::pack(disk).map_err(|source| RigError::Channel { source })?;
    let rest = packed.get(from..).ok_or(RigError::Image)?;
    let part = rest.get(..PART).unwrap_or(rest);
    let digits: Vec<String> = part.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Reply::Packed { digits: digits.concat(), last: part.len() == rest.len() })
}

/// The bytes of a [`Reply::Packed`].
pub(super) fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pair =
        |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_comes_out_of_a_guest_part_by_part() {
        let mut disk = Store::new(Bytes(1 << 20)).unwrap();
        // Bytes that do not compress: three parts and a bit.
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(50_000)
        .collect();
        disk.write(Bytes(4096), &noise).unwrap();
        let (mut packed, mut parts) = (Vec::new(), 0);
        loop {
            let Reply::Packed { digits, last } = part(&disk, packed.len()).unwrap() else { panic!("a part") };
            packed.extend(bytes(&digits).unwrap());
            parts += 1;
            if last {
                break;
            }
        }
        assert_eq!(parts, 4);
        let back = Bundle::unpack(packed.as_slice(), disk.size()).unwrap().unwrap();
        assert_eq!(brim_bundle::encode(&back), brim_bundle::encode(&disk));
    }
}
