//! The two images of a write cache against two vectors.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use brim_device::{BLOCK, Bytes, Images, Store};
use proptest::prelude::*;

/// More than 64 blocks, so that there are inner nodes, and changes of height.
const SIZE: u64 = 80 * 4096;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Puts this byte, zeroes or nothing into a range, and makes it durable where `fua` says so.
    Change {
        what: What,
        offset: u64,
        len: u64,
        fua: bool,
    },
    Flush,
    PowerCut,
    Resize {
        sectors: u64,
    },
    Fork,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Write(u8),
    Zero,
    Trim,
}

fn step() -> impl Strategy<Value = Step> {
    let what =
        prop_oneof![4 => (1..=255u8).prop_map(What::Write), 1 => Just(What::Zero), 1 => Just(What::Trim)];
    let offset = prop_oneof![0..SIZE, (0..160u64).prop_map(|half| half * 2048)];
    let len = prop_oneof![0..6000u64, (0..8u64).prop_map(|halves| halves * 2048), 0..SIZE];
    let change = (what, offset, len, any::<bool>());
    prop_oneof![
        10 => change.prop_map(|(what, offset, len, fua)| Step::Change { what, offset, len, fua }),
        2 => Just(Step::Flush),
        2 => Just(Step::PowerCut),
        1 => (0..=SIZE / 512).prop_map(|sectors| Step::Resize { sectors }),
        1 => Just(Step::Fork),
    ]
}

fn as_len(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

#[derive(Clone)]
struct Model {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Blocks that were changed and not made durable as a whole since.
    changed: BTreeSet<u64>,
    cache: bool,
}

impl Model {
    fn new(cache: bool) -> Self {
        let zeroes = vec![0; as_len(SIZE)];
        Self { cached: zeroes.clone(), durable: zeroes, changed: BTreeSet::new(), cache }
    }

    fn size(&self) -> u64 {
        Bytes::of_len(self.cached.len()).0
    }

    fn change(&mut self, byte: u8, offset: u64, len: u64, fua: bool) {
        let (range, end) = (as_len(offset)..as_len(offset + len), offset + len);
        self.cached[range.clone()].fill(byte);
        if fua || !self.cache {
            self.durable[range].fill(byte);
        }
        let size = self.size();
        for block in (offset / BLOCK.0..end.div_ceil(BLOCK.0)).filter(|_| len > 0 && self.cache) {
            let whole = offset <= block * BLOCK.0 && ((block + 1) * BLOCK.0).min(size) <= end;
            if fua && whole {
                self.changed.remove(&block);
            } else {
                self.changed.insert(block);
            }
        }
    }

    fn resize(&mut self, size: u64) {
        self.cached.resize(as_len(size), 0);
        self.durable.resize(as_len(size), 0);
        self.changed.retain(|block| block * BLOCK.0 < size);
    }
}

fn take(step: Step, images: &mut Images, model: &mut Model) -> Result<(), TestCaseError> {
    match step {
        Step::Change { what, offset, len, fua } => {
            let offset = offset.min(model.size());
            let len = len.min(model.size() - offset);
            let byte = if let What::Write(byte) = what { byte } else { 0 };
            match what {
                What::Write(byte) => images.write(Bytes(offset), &vec![byte; as_len(len)]),
                What::Zero => images.zero(Bytes(offset), Bytes(len)),
                What::Trim => images.trim(Bytes(offset), Bytes(len)),
            }
            .unwrap();
            if fua {
                images.persist(Bytes(offset), Bytes(len)).unwrap();
            }
            model.change(byte, offset, len, fua);
        }
        Step::Flush => {
            images.flush();
            model.durable.clone_from(&model.cached);
            model.changed.clear();
        }
        Step::PowerCut => {
            let dirty = images.dirty();
            prop_assert_eq!(images.power_cut(), dirty);
            model.cached.clone_from(&model.durable);
            model.changed.clear();
        }
        Step::Resize { sectors } => {
            images.resize(Bytes(sectors * 512)).unwrap();
            model.resize(sectors * 512);
        }
        Step::Fork => {}
    }
    Ok(())
}

fn content(store: &Store) -> Vec<u8> {
    let mut all = vec![0xee; as_len(store.size().0)];
    store.read(Bytes(0), &mut all).unwrap();
    all
}

fn check(images: &Images, model: &Model) -> Result<(), TestCaseError> {
    prop_assert!(content(images.cached()) == model.cached, "the cached image differs");
    prop_assert!(content(images.durable()) == model.durable, "the durable image differs");
    let (mut at, mut dirty) = (0, BTreeSet::new());
    images
        .extents(Bytes(0), images.cached().size(), |_, is_dirty, len| {
            dirty.extend((at / BLOCK.0..(at + len.0).div_ceil(BLOCK.0)).filter(|_| is_dirty));
            at += len.0;
            ControlFlow::Continue(())
        })
        .unwrap();
    prop_assert_eq!(images.dirty(), Bytes(Bytes::of_len(dirty.len()).0 * BLOCK.0));
    prop_assert!(dirty.is_subset(&model.changed), "{dirty:?} are dirty, {:?} were changed", model.changed);
    let differs = |block: u64| {
        let range = as_len(block * BLOCK.0)..as_len(((block + 1) * BLOCK.0).min(model.size()));
        model.cached[range.clone()] != model.durable[range]
    };
    let lost: BTreeSet<u64> = (0..model.size().div_ceil(BLOCK.0)).filter(|block| differs(*block)).collect();
    prop_assert!(lost.is_subset(&dirty), "{lost:?} would be lost, {dirty:?} are dirty");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// For all orders of changes, with FUA and without, flushes, power cuts and resizes: both images are what the vectors
    /// are. What is not dirty would not be lost, and what was not changed is not dirty. Forks are unchanged.
    #[test]
    fn both_images_are_vectors(cache: bool, steps in prop::collection::vec(step(), 1..25)) {
        let store = Store::new(Bytes(SIZE)).unwrap();
        let mut images = if cache { Images::write_back(store) } else { Images::write_through(store) };
        let mut model = Model::new(cache);
        let mut parents = Vec::new();
        for step in steps {
            if matches!(step, Step::Fork) {
                let child = images.fork();
                parents.push((std::mem::replace(&mut images, child), model.clone()));
            }
            take(step, &mut images, &mut model)?;
            check(&images, &model)?;
        }
        for (parent, at_fork) in &parents {
            check(parent, at_fork)?;
        }
    }
}

/// A part of a block is durable on its own: its neighbours in the block are not.
#[test]
fn fua_of_a_part_of_a_block_makes_only_that_part_durable() {
    let mut images = Images::write_back(Store::new(Bytes(8192)).unwrap());
    images.write(Bytes(0), &[1; 4096]).unwrap();
    images.write(Bytes(512), &[2; 512]).unwrap();
    images.persist(Bytes(512), Bytes(512)).unwrap();
    assert_eq!(images.dirty(), BLOCK);
    assert_eq!(images.power_cut(), BLOCK);
    let expected = [vec![0; 512], vec![2; 512], vec![0; 7168]].concat();
    assert_eq!(content(images.cached()), expected);
    // What makes the block the same in both images leaves it clean.
    images.write(Bytes(1024), &[3; 512]).unwrap();
    images.persist(Bytes(1024), Bytes(512)).unwrap();
    assert_eq!((images.dirty(), images.power_cut()), (Bytes(0), Bytes(0)));
}

#[test]
fn a_cut_through_a_clean_block_leaves_it_clean() {
    let mut images = Images::write_back(Store::new(Bytes(1 << 20)).unwrap());
    images.write(Bytes(0), &[1; 12288]).unwrap();
    images.flush();
    images.write(Bytes(0), &[2; 1]).unwrap();
    images.resize(Bytes(8192 + 512)).unwrap();
    assert_eq!(images.dirty(), BLOCK);
    images.flush();
    images.resize(Bytes(512)).unwrap();
    assert_eq!(images.dirty(), Bytes(0));
}
