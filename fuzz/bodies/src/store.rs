//! The store against a map of what was written, on disks of any size.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use brim_device::{BLOCK, Bytes, Store};

use crate::input::Input;

/// As many changes, so that one input stays quick.
const STEPS_MAX: usize = 64;
const LENGTH_MAX: u64 = 3 * BLOCK.0;

#[derive(Clone, Default)]
struct Model {
    size: u64,
    /// What is allocated.
    blocks: BTreeMap<u64, Vec<u8>>,
}

/// Where a range lies in each block that it meets.
fn parts(offset: u64, end: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    // Without bytes it meets none, also inside of one.
    let stop = if offset < end { end.div_ceil(BLOCK.0) } else { 0 };
    (offset / BLOCK.0..stop).map(move |block| {
        let within =
            |at: u64| usize::try_from(at.clamp(block * BLOCK.0, (block + 1) * BLOCK.0) - block * BLOCK.0);
        (block, within(offset).unwrap()..within(end).unwrap())
    })
}

impl Model {
    fn write(&mut self, offset: u64, mut data: &[u8]) {
        for (block, range) in parts(offset, offset + Bytes::of_len(data.len()).0) {
            let (here, rest) = data.split_at(range.len());
            self.blocks.entry(block).or_insert_with(|| vec![0; 4096])[range].copy_from_slice(here);
            data = rest;
        }
    }

    fn zero(&mut self, offset: u64, end: u64) {
        if offset >= end {
            return;
        }
        // The last block counts as whole up to the disk's end.
        let last = if end == self.size { end.div_ceil(BLOCK.0) } else { end / BLOCK.0 };
        self.blocks.retain(|block, bytes| {
            let (start, stop) = (block * BLOCK.0, (block + 1) * BLOCK.0);
            if start < end && offset < stop {
                let within = |at: u64| usize::try_from(at.clamp(start, stop) - start).unwrap();
                bytes[within(offset)..within(end)].fill(0);
            }
            *block < offset.div_ceil(BLOCK.0) || *block >= last
        });
    }

    fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let piece = |(block, range): (u64, Range<usize>)| match self.blocks.get(&block) {
            Some(bytes) => bytes[range].to_vec(),
            None => vec![0; range.len()],
        };
        parts(offset, offset + len).flat_map(piece).collect()
    }
}

/// Offsets near the start, near the end, and around borders of blocks and of nodes of the tree.
fn place(input: &mut Input<'_>, size: u64) -> u64 {
    let (kind, detail) = (input.u8(), u64::from(input.u16()));
    match kind % 4 {
        0 => detail,
        1 => size.saturating_sub(detail),
        2 if kind & 4 == 0 => (detail % 256) * BLOCK.0 + (detail >> 13),
        2 => ((detail % 256) * BLOCK.0).saturating_sub(detail >> 13),
        _ => (BLOCK.0 << (6 * (u64::from(kind) >> 2) % 48))
            .wrapping_mul(1 + detail % 64)
            .wrapping_sub(detail >> 6),
    }
}

/// A size that a disk may have, or one just beside.
fn size(input: &mut Input<'_>) -> u64 {
    let rough = match input.u8() {
        shift @ 0..64 => u64::from(input.u8()) << shift,
        _ => u64::from(input.u16()) * 512,
    };
    if input.u8() == 0xff { rough | 1 } else { rough & !511 }
}

/// Reads, writes, zeroes, trims, resizes and forks.
pub fn store(data: &[u8]) {
    let mut input = Input::new(data);
    let first = size(&mut input);
    let Ok(mut disk) = Store::new(Bytes(first)) else {
        assert!(!first.is_multiple_of(512) || first > Store::SIZE_MAX.0);
        return;
    };
    let mut model = Model { size: first, ..Model::default() };
    let mut forks: Vec<(Store, Model)> = Vec::new();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            6 => {
                let size = size(&mut input);
                let right = size.is_multiple_of(512) && size <= Store::SIZE_MAX.0;
                assert_eq!(disk.resize(Bytes(size)).is_ok(), right);
                if right {
                    if size < model.size {
                        model.zero(size, model.size);
                    }
                    model.size = size;
                }
            }
            7 if forks.len() < 4 => forks.push((disk.fork(), model.clone())),
            7 => {
                let (other, its_model) = &mut forks[usize::from(input.u8() % 4)];
                std::mem::swap(&mut disk, other);
                std::mem::swap(&mut model, its_model);
            }
            step => access(step, &mut disk, &mut model, &mut input),
        }
        assert_eq!(disk.size().0, model.size);
        assert_eq!(disk.allocated().0, BLOCK.0 * u64::try_from(model.blocks.len()).unwrap());
    }
    same(&disk, &model);
    for (fork, model) in &forks {
        same(fork, model);
    }
}

fn access(step: u8, disk: &mut Store, model: &mut Model, input: &mut Input<'_>) {
    let offset = place(input, model.size);
    let short = u64::from(input.u16()) % LENGTH_MAX;
    // What is cleared may be as long as the disk.
    let len = if step < 4 { short } else { place(input, model.size.saturating_sub(offset)) };
    let inside = offset.checked_add(len).is_some_and(|end| end <= model.size);
    let done = match step {
        0 | 1 => {
            let mut buffer = vec![0xee; usize::try_from(len).unwrap()];
            let done = disk.read(Bytes(offset), &mut buffer);
            let wanted = if inside { model.read(offset, len) } else { vec![0xee; buffer.len()] };
            assert!(buffer == wanted, "a read of {len} bytes at {offset}");
            done
        }
        2 | 3 => {
            let (first, stride) = (input.u8(), input.u8());
            let data: Vec<u8> = (0..len)
                .scan(first, |byte, _| {
                    *byte = byte.wrapping_add(stride);
                    Some(*byte)
                })
                .collect();
            let done = disk.write(Bytes(offset), &data);
            if inside {
                model.write(offset, &data);
            }
            done
        }
        _ => {
            let done = if step == 4 {
                disk.zero(Bytes(offset), Bytes(len))
            } else {
                disk.trim(Bytes(offset), Bytes(len))
            };
            if inside {
                model.zero(offset, offset + len);
            }
            done
        }
    };
    assert_eq!(done.is_ok(), inside, "{len} bytes at {offset} of {}", model.size);
}

/// All that is allocated, and all that was written.
fn same(disk: &Store, model: &Model) {
    let (mut at, mut blocks) = (0, 0);
    let told = disk.extents(Bytes::ZERO, disk.size(), |allocated, len| {
        let (first, end) = (at / BLOCK.0, (at + len.0).div_ceil(BLOCK.0));
        let there = u64::try_from(model.blocks.range(first..end).count()).unwrap();
        assert_eq!(there, if allocated { end - first } else { 0 }, "blocks {first} to {end}");
        blocks += there;
        at += len.0;
        ControlFlow::Continue(())
    });
    assert!(told.is_ok() && at == model.size && blocks == u64::try_from(model.blocks.len()).unwrap());
    for block in model.blocks.keys() {
        let (offset, end) = (block * BLOCK.0, ((block + 1) * BLOCK.0).min(model.size));
        let mut buffer = vec![0; usize::try_from(end - offset).unwrap()];
        disk.read(Bytes(offset), &mut buffer).unwrap();
        assert!(buffer == model.read(offset, end - offset), "block {block} differs");
    }
}
