//! The store against the plainest model there is: a vector of bytes, and a count of the blocks that were touched.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use brim_device::{AccessError, BLOCK, Bytes, SizeError, Store};
use proptest::prelude::*;

/// More than 64 blocks, so that trees of heights 0 to 2 and changes of height are met.
const MODEL_MAX: u64 = 200 * 4096;

#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, len: u64, seed: u8 },
    Zero { offset: u64, len: u64, trim: bool },
    Resize { sectors: u64 },
    Fork,
}

#[derive(Clone)]
struct Model {
    bytes: Vec<u8>,
    blocks: BTreeSet<u64>,
}

fn as_len(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

impl Model {
    fn new(size: u64) -> Self {
        Self { bytes: vec![0; as_len(size)], blocks: BTreeSet::new() }
    }

    fn size(&self) -> u64 {
        Bytes::of_len(self.bytes.len()).0
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        self.bytes[as_len(offset)..][..data.len()].copy_from_slice(data);
        if !data.is_empty() {
            let end = offset + Bytes::of_len(data.len()).0;
            self.blocks.extend(offset / BLOCK.0..end.div_ceil(BLOCK.0));
        }
    }

    fn zero(&mut self, offset: u64, len: u64) {
        self.bytes[as_len(offset)..as_len(offset + len)].fill(0);
        let (end, size) = (offset + len, self.size());
        let is_freed = |block: &u64| {
            let (first, last) = (block * BLOCK.0, ((block + 1) * BLOCK.0).min(size));
            len > 0 && offset <= first && last <= end
        };
        self.blocks.retain(|block| !is_freed(block));
    }

    fn copy_range(&mut self, other: &Self, offset: u64, len: u64) {
        let (end, size) = (offset + len, self.size());
        let range = as_len(offset)..as_len(end);
        self.bytes[range.clone()].copy_from_slice(&other.bytes[range]);
        let touched = if len > 0 { offset / BLOCK.0..end.div_ceil(BLOCK.0) } else { 0..0 };
        for block in touched {
            let whole = offset <= block * BLOCK.0 && ((block + 1) * BLOCK.0).min(size) <= end;
            if other.blocks.contains(&block) {
                self.blocks.insert(block);
            } else if whole {
                self.blocks.remove(&block);
            }
        }
    }

    fn resize(&mut self, size: u64) {
        if size < self.size() {
            self.zero(size, self.size() - size);
        }
        self.bytes.resize(as_len(size), 0);
    }

    fn check(&self, store: &Store) -> Result<(), TestCaseError> {
        let (mut at, mut blocks) = (0, BTreeSet::new());
        let told = store.extents(Bytes::ZERO, store.size(), |allocated, len| {
            let end = at + len.0;
            blocks.extend((at / BLOCK.0..end.div_ceil(BLOCK.0)).filter(|_| allocated));
            at = end;
            ControlFlow::Continue(())
        });
        prop_assert_eq!((told, at, &blocks), (Ok(()), self.size(), &self.blocks));
        prop_assert_eq!(store.size().0, self.size());
        let mut all = vec![1; self.bytes.len()];
        store.read(Bytes(0), &mut all).unwrap();
        prop_assert!(all == self.bytes, "content differs");
        prop_assert_eq!(store.allocated(), Bytes(Bytes::of_len(self.blocks.len()).0 * BLOCK.0));
        Ok(())
    }
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![0..MODEL_MAX, (0..200u64).prop_map(|block| block * BLOCK.0)];
    let len = prop_oneof![0..10_000u64, 0..MODEL_MAX, (0..100u64).prop_map(|blocks| blocks * BLOCK.0)];
    prop_oneof![
        4 => (offset.clone(), len.clone(), any::<u8>()).prop_map(|(offset, len, seed)| Step::Write { offset, len, seed }),
        3 => (offset, len, any::<bool>()).prop_map(|(offset, len, trim)| Step::Zero { offset, len, trim }),
        1 => (0..=MODEL_MAX / 512).prop_map(|sectors| Step::Resize { sectors }),
        1 => Just(Step::Fork),
    ]
}

fn data(len: u64, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at.wrapping_mul(31) + at / 255 + u64::from(seed)) % 251).unwrap())
        .collect()
}

/// Takes one step on both, cutting the range to the disk half of the time, so that both outcomes are met.
fn take(step: &Step, store: &mut Store, model: &mut Model) -> Result<(), TestCaseError> {
    let size = model.size();
    match *step {
        Step::Write { offset, len, seed } => {
            let (offset, len) = fit(offset, len, size, seed % 4 != 0);
            let result = store.write(Bytes(offset), &data(len, seed));
            expect_range(result, offset, len, size)?;
            if result.is_ok() {
                model.write(offset, &data(len, seed));
            }
        }
        Step::Zero { offset, len, trim } => {
            let (offset, len) = fit(offset, len, size, len % 8 != 1);
            let act = if trim { Store::trim } else { Store::zero };
            let result = act(store, Bytes(offset), Bytes(len));
            expect_range(result, offset, len, size)?;
            if result.is_ok() {
                model.zero(offset, len);
            }
        }
        Step::Resize { sectors } => {
            store.resize(Bytes(sectors * 512)).unwrap();
            model.resize(sectors * 512);
        }
        Step::Fork => {}
    }
    Ok(())
}

fn fit(offset: u64, len: u64, size: u64, cut: bool) -> (u64, u64) {
    if !cut {
        return (offset, len);
    }
    let offset = offset.min(size);
    (offset, len.min(size - offset))
}

fn expect_range(
    result: Result<(), AccessError>,
    offset: u64,
    len: u64,
    size: u64,
) -> Result<(), TestCaseError> {
    let past = AccessError::PastEnd { offset: Bytes(offset), len: Bytes(len), size: Bytes(size) };
    prop_assert_eq!(result, if offset + len <= size { Ok(()) } else { Err(past) });
    Ok(())
}

/// Blocks that do not differ read alike, the sum is right, and what is allocated is as without the other disk.
fn check_differing(
    store: &Store,
    other: &Store,
    model: &Model,
    other_model: &Model,
) -> Result<(), TestCaseError> {
    let (mut at, mut sum) = (0, 0);
    let mut allocated_here = BTreeSet::new();
    store
        .extents_against(other, Bytes(0), store.size(), |allocated, differs, len| {
            let (range, end) = (as_len(at)..as_len(at + len.0), at + len.0);
            assert!(differs || model.bytes[range.clone()] == other_model.bytes[range]);
            let blocks = at / BLOCK.0..end.div_ceil(BLOCK.0);
            sum += if differs { blocks.end - blocks.start } else { 0 };
            allocated_here.extend(blocks.filter(|_| allocated));
            at = end;
            ControlFlow::Continue(())
        })
        .unwrap();
    prop_assert_eq!((at, &allocated_here), (model.size(), &model.blocks));
    prop_assert_eq!(store.differing(other), Bytes(sum * BLOCK.0));
    prop_assert_eq!(other.differing(store), Bytes(sum * BLOCK.0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// For all sequences of steps: the disk reads as the vector does, and has allocated exactly the blocks that were
    /// written and not freed since. For all writes after a fork: the parent is unchanged.
    #[test]
    fn the_store_is_a_vector_that_forks(
        sectors in 0..=MODEL_MAX / 512,
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let mut store = Store::new(Bytes(sectors * 512)).unwrap();
        let mut model = Model::new(sectors * 512);
        let mut parents = Vec::new();
        for step in &steps {
            if matches!(step, Step::Fork) {
                let child = store.fork();
                parents.push((std::mem::replace(&mut store, child), model.clone()));
            }
            take(step, &mut store, &mut model)?;
            model.check(&store)?;
        }
        for (parent, at_fork) in &parents {
            at_fork.check(parent)?;
        }
    }

    /// For all writes to the parent after a fork: the child is unchanged.
    #[test]
    fn a_fork_keeps_what_its_parent_loses(before in step(), after in prop::collection::vec(step(), 1..8)) {
        let mut parent = Store::new(Bytes(MODEL_MAX)).unwrap();
        let mut model = Model::new(MODEL_MAX);
        take(&before, &mut parent, &mut model)?;
        let child = parent.fork();
        let at_fork = model.clone();
        for step in &after {
            take(step, &mut parent, &mut model)?;
        }
        at_fork.check(&child)?;
        model.check(&parent)?;
    }

    /// For all ranges that are taken over from a disk that was one with this one: what is in the range is theirs, what is
    /// outside is ours, and they notice nothing. Blocks that are said to be the same read alike.
    #[test]
    fn a_range_is_taken_over(
        sectors in 0..=MODEL_MAX / 512,
        before in prop::collection::vec(step(), 0..4),
        ours in prop::collection::vec(step(), 0..4),
        theirs in prop::collection::vec(step(), 0..4),
        ranges in prop::collection::vec((0..MODEL_MAX, 0..MODEL_MAX, 0..2u8), 1..6),
    ) {
        let mut store = Store::new(Bytes(sectors * 512)).unwrap();
        let mut model = Model::new(sectors * 512);
        let stays = |steps: &[Step]| steps.iter().filter(|step| !matches!(step, Step::Resize { .. })).cloned().collect::<Vec<_>>();
        for step in &before {
            take(step, &mut store, &mut model)?;
        }
        let (mut other, mut other_model) = (store.fork(), model.clone());
        for step in &stays(&ours) {
            take(step, &mut store, &mut model)?;
        }
        for step in &stays(&theirs) {
            take(step, &mut other, &mut other_model)?;
        }
        check_differing(&store, &other, &model, &other_model)?;
        for (offset, len, cut) in ranges {
            let (offset, len) = fit(offset, len % (20_000 << (4 * cut)), model.size(), true);
            store.copy_range_from(&other, Bytes(offset), Bytes(len)).unwrap();
            model.copy_range(&other_model, offset, len);
            model.check(&store)?;
            other_model.check(&other)?;
            check_differing(&store, &other, &model, &other_model)?;
        }
        store.copy_range_from(&other, Bytes(0), other.size()).unwrap();
        other_model.check(&store)?;
        prop_assert_eq!(store.differing(&other), Bytes(0));
    }

    /// For all ranges that are read: they are what the whole disk has there.
    #[test]
    fn parts_read_as_the_whole(write in step(), offset in 0..MODEL_MAX, len in 0..20_000u64) {
        let mut store = Store::new(Bytes(MODEL_MAX)).unwrap();
        let mut model = Model::new(MODEL_MAX);
        take(&write, &mut store, &mut model)?;
        let (offset, len) = fit(offset, len, model.size(), true);
        let mut part = vec![7; as_len(len)];
        store.read(Bytes(offset), &mut part).unwrap();
        prop_assert_eq!(&part[..], &model.bytes[as_len(offset)..as_len(offset + len)]);
    }
}

#[test]
fn sizes_are_whole_sectors_up_to_a_limit() {
    assert_eq!(Store::new(Bytes(513)).unwrap_err(), SizeError::Unaligned { size: Bytes(513) });
    let size = Bytes(1 << 63);
    assert_eq!(Store::new(size).unwrap_err(), SizeError::TooLarge { size });
    let error = Store::new(Bytes(132_097)).unwrap_err();
    assert_eq!(error.to_string(), "a disk of 132097 B is not a multiple of 512 B");
}

#[test]
fn the_largest_disk_works_at_both_ends() {
    let mut store = Store::new(Store::SIZE_MAX).unwrap();
    let end = Bytes(Store::SIZE_MAX.0 - 3);
    store.write(Bytes(0), b"first").unwrap();
    store.write(end, b"end").unwrap();
    assert_eq!(store.allocated(), Bytes(8192));
    let mut buf = [0; 3];
    store.read(end, &mut buf).unwrap();
    assert_eq!(&buf, b"end");
    let past = AccessError::PastEnd { offset: end, len: Bytes(4), size: Store::SIZE_MAX };
    assert_eq!(store.write(end, b"over"), Err(past));
    assert!(store.read(Bytes(u64::MAX), &mut buf).is_err());
    store.trim(Bytes(4096), Bytes(Store::SIZE_MAX.0 - 4096)).unwrap();
    assert_eq!(store.allocated(), BLOCK);
    store.zero(Bytes(0), Store::SIZE_MAX).unwrap();
    assert_eq!(store.allocated(), Bytes(0));
}

/// A petabyte, forked ten thousand times and trimmed as a whole: this ends only if neither walks the disk.
#[test]
fn forks_and_large_trims_do_not_walk_the_disk() {
    let mut store = Store::new(Bytes(1 << 50)).unwrap();
    for block in 0..1000 {
        store.write(Bytes(block << 38), &[1; 4096]).unwrap();
    }
    let forks: Vec<Store> = (0..10_000).map(|_| store.fork()).collect();
    store.trim(Bytes(512), Bytes((1 << 50) - 512)).unwrap();
    assert_eq!(store.allocated(), BLOCK);
    assert!(forks.iter().all(|fork| fork.allocated() == Bytes(1000 * 4096)));
}

/// A petabyte with a thousand islands, compared ten thousand times: this ends only if what is shared is not walked.
#[test]
fn what_is_shared_is_not_compared() {
    let mut store = Store::new(Bytes(1 << 50)).unwrap();
    for island in 0..1000 {
        store.write(Bytes(island << 38), &[1; 16384]).unwrap();
    }
    let before = store.fork();
    store.write(Bytes(5 << 38), &[2; 512]).unwrap();
    store.trim(Bytes(7 << 38), Bytes(8192)).unwrap();
    store.write(Bytes((1 << 50) - 1), &[3]).unwrap();
    for _ in 0..10_000 {
        assert_eq!(store.differing(&before), Bytes(4 * 4096));
    }
    let mut kept = before.fork();
    for offset in [Bytes(5 << 38), Bytes((1 << 50) - 512)] {
        kept.copy_range_from(&store, offset, Bytes(512)).unwrap();
    }
    // A part of a block that makes it the same as a whole leaves it shared.
    assert_eq!(store.differing(&kept), Bytes(2 * 4096));
    kept.copy_range_from(&store, Bytes(512), Bytes((1 << 50) - 512)).unwrap();
    assert_eq!(store.differing(&kept), Bytes(0));
}

#[test]
fn growing_shows_zeroes_where_shrinking_cut() {
    let mut store = Store::new(Bytes(1 << 20)).unwrap();
    store.write(Bytes(0), &vec![9; 1 << 20]).unwrap();
    store.resize(Bytes(4096 + 512)).unwrap();
    assert_eq!(store.allocated(), Bytes(8192));
    store.resize(Bytes(1 << 30)).unwrap();
    let mut tail = [1; 8192];
    store.read(Bytes(4096), &mut tail).unwrap();
    assert!(tail[..512].iter().all(|byte| *byte == 9) && tail[512..].iter().all(|byte| *byte == 0));
    assert_eq!(store.allocated(), Bytes(8192));
}
