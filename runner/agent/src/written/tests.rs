//! What was written, beside files of bytes.

use brim_trial::Content;
use proptest::prelude::*;

use super::*;

/// The longest file of the properties.
const SIZE: usize = 256;

#[derive(Clone, Debug)]
enum Act {
    Write { file: usize, offset: u64, length: u64, content: Content, seed: u64 },
    Truncate { file: usize, size: u64 },
    Zero { file: usize, offset: u64, length: u64 },
    Collapse { file: usize, offset: u64, length: u64 },
    Insert { file: usize, offset: u64, length: u64 },
    Clone { file: usize, offset: u64, length: u64, other: usize, to: u64 },
    CloneFile { file: usize, other: usize },
    Rename { file: usize, other: usize },
    Exchange { file: usize, other: usize },
    Link { file: usize, other: usize },
    Unlink { file: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let content = prop_oneof![
        Just(Content::Random),
        Just(Content::Zeroes),
        Just(Content::Compressible),
        "[a-c]{1,5}".prop_map(Content::Text),
    ];
    let range = || (0..3_usize, 0..40_u64, 0..24_u64);
    let two = || (0..3_usize, 0..3_usize);
    prop_oneof![
        (range(), content, 0..9_u64).prop_map(|((file, offset, length), content, seed)| Act::Write {
            file,
            offset,
            length,
            content,
            seed
        }),
        (0..3_usize, 0..64_u64).prop_map(|(file, size)| Act::Truncate { file, size }),
        range().prop_map(|(file, offset, length)| Act::Zero { file, offset, length }),
        range().prop_map(|(file, offset, length)| Act::Collapse { file, offset, length }),
        range().prop_map(|(file, offset, length)| Act::Insert { file, offset, length }),
        (range(), 0..3_usize, 0..40_u64).prop_map(|((file, offset, length), other, to)| Act::Clone {
            file,
            offset,
            length,
            other,
            to
        }),
        two().prop_map(|(file, other)| Act::CloneFile { file, other }),
        two().prop_map(|(file, other)| Act::Rename { file, other }),
        two().prop_map(|(file, other)| Act::Exchange { file, other }),
        two().prop_map(|(file, other)| Act::Link { file, other }),
        (0..3_usize).prop_map(|file| Act::Unlink { file }),
    ]
}

const NAMES: [&str; 3] = ["dir/a", "dir/b", "c"];

/// Files of bytes, as a filesystem has them: which of them each name is.
struct Model {
    names: [usize; 3],
    files: Vec<Vec<u8>>,
}

impl Model {
    fn file(&mut self, name: usize) -> &mut Vec<u8> {
        &mut self.files[self.names[name]]
    }

    fn new_file(&mut self, name: usize) {
        self.files.push(vec![0; SIZE * 64]);
        self.names[name] = self.files.len() - 1;
    }

    fn act(&mut self, act: &Act, written: &mut Written) {
        let index = |number: u64| usize::try_from(number).unwrap();
        match act.clone() {
            Act::Write { file, offset, length, content, seed } => {
                let source = Source { content, seed };
                self.file(file)[index(offset)..index(offset + length)].copy_from_slice(&source.bytes(length));
                written.write(NAMES[file], offset, length, source);
            }
            Act::Truncate { file, size } => {
                self.file(file)[index(size)..].fill(0);
                written.truncate(NAMES[file], size);
            }
            Act::Zero { file, offset, length } => {
                self.file(file)[index(offset)..index(offset + length)].fill(0);
                written.zero(NAMES[file], offset, length);
            }
            Act::Collapse { file, offset, length } => {
                self.file(file).drain(index(offset)..index(offset + length));
                self.file(file).resize(SIZE * 64, 0);
                written.collapse(NAMES[file], offset, length);
            }
            Act::Insert { file, offset, length } => {
                let hole = vec![0; index(length)];
                self.file(file).splice(index(offset)..index(offset), hole);
                self.file(file).truncate(SIZE * 64);
                written.insert(NAMES[file], offset, length);
            }
            Act::Clone { file, offset, length, other, to } => {
                let copied = self.file(file)[index(offset)..index(offset + length)].to_vec();
                self.file(other)[index(to)..index(to + length)].copy_from_slice(&copied);
                written.clone_range((NAMES[file], offset), length, (NAMES[other], to));
            }
            Act::CloneFile { file, other } => {
                let copied = self.file(file).clone();
                *self.file(other) = copied;
                written.clone_file(NAMES[file], NAMES[other]);
            }
            Act::Rename { file, other } => {
                if self.names[file] != self.names[other] {
                    self.names[other] = self.names[file];
                    self.new_file(file);
                }
                written.rename(NAMES[file], NAMES[other]);
            }
            Act::Exchange { file, other } => {
                self.names.swap(file, other);
                written.exchange(NAMES[file], NAMES[other]);
            }
            Act::Link { file, other } => {
                // link(2) refuses a name that is there.
                if file != other {
                    written.unlink(NAMES[other]);
                    written.link(NAMES[file], NAMES[other]);
                    self.names[other] = self.names[file];
                }
            }
            Act::Unlink { file } => {
                self.new_file(file);
                written.unlink(NAMES[file]);
            }
        }
    }
}

proptest! {
    /// For all operations on files: what ought to be there is what files of bytes would hold.
    #[test]
    fn it_is_as_files_would_be(acts in prop::collection::vec(act(), 0..30), at in 0..64_u64, length in 0..64_u64) {
        let mut written = Written::default();
        let mut model = Model { names: [0, 1, 2], files: vec![vec![0; SIZE * 64]; 3] };
        for act in &acts {
            model.act(act, &mut written);
        }
        let index = |number: u64| usize::try_from(number).unwrap();
        for (name, path) in NAMES.iter().enumerate() {
            let read = &model.file(name)[index(at)..index(at + length)];
            let expected = written.expected(path, at, length, read);
            prop_assert_eq!(&expected, read, "{}", path);
            prop_assert_eq!(compare(at, &expected, read), None);
        }
        // Renaming the directory takes all below it along.
        written.rename("dir", "other");
        let read = model.file(0)[index(at)..index(at + length)].to_vec();
        prop_assert_eq!(written.expected("other/a", at, length, &[]), read);
    }
}

fn source(seed: u64) -> Source {
    Source { content: Content::Random, seed }
}

#[test]
fn a_difference_says_where_how_much_and_what_stands_there() {
    let lost = |read: &[u8]| compare(100, &[1, 2, 3, 4], read);
    let found = |first, bytes, found| Some(Lost { first: Bytes(first), bytes: Bytes(bytes), found });
    assert_eq!(lost(&[1, 0, 0, 4]), found(101, 2, Found::Zeroes));
    assert_eq!(lost(&[1, 2]), found(102, 2, Found::End));
    assert_eq!(lost(&[1, 9, 0]), found(101, 3, Found::Other));
}

#[test]
fn what_is_not_known_may_be_anything_and_the_rest_may_not() {
    let mut written = Written::default();
    written.write("f", 0, 12, source(1));
    written.unknown("f", 4, 4);
    let whole = source(1).bytes(12);
    let mut read = whole.clone();
    read[4..8].fill(9);
    assert_eq!(written.expected("f", 0, 12, &read), read);
    read[8] ^= 1;
    assert_ne!(written.expected("f", 0, 12, &read), read);
    // The file may end where nothing is known any more, and not before.
    written.unknown("f", 4, 8);
    assert_eq!(written.expected("f", 0, 12, &whole[..6]), whole[..6]);
    assert_eq!(written.expected("f", 0, 12, &whole[..2]), whole[..4]);
    assert_eq!(
        written.expected("f", 0, 13, &whole[..6]).len(),
        13,
        "a hole is zeroes, which have to be there"
    );
}

#[test]
fn only_what_is_durable_has_to_be_there() {
    let mut written = Written::default();
    written.write("f", 0, 8, source(1));
    assert!(!written.is_synced("f"));
    assert_eq!(written.expected_synced("f", 0, 8, &[]), [0; 0]);
    written.synced("f");
    written.write("f", 4, 8, source(2));
    assert!(written.is_synced("f"));
    let first = source(1).bytes(8);
    // Of the second write anything may be there, of the first what it did not write over has to.
    let read = [9; 12];
    let mut expected = read.to_vec();
    expected[..4].copy_from_slice(&first[..4]);
    assert_eq!(written.expected_synced("f", 0, 12, &read), expected);
    assert_eq!(written.expected_synced("f", 0, 12, &[]), first[..4]);
    assert_eq!(written.expected_synced("f", 2, 1, &[7]), first[2..3]);
    written.synced_all();
    assert_eq!(written.expected_synced("f", 4, 8, &[0; 8]), source(2).bytes(8));
    // Written by its other name, it is another file too.
    written.link("f", "g");
    written.synced("g");
    written.write("g", 0, 12, source(3));
    assert!(!written.is_synced("f") && !written.is_synced("g"));
    written.synced("f");
    written.rename("f", "h");
    assert!(!written.is_synced("f") && !written.is_synced("h"), "whose name is durable is not known");
    written.synced("h");
    written.unlink("h");
    assert!(!written.is_synced("h"));
}

#[test]
fn a_snapshot_has_what_the_subvolume_has_and_keeps_it() {
    let mut written = Written::default();
    written.write("sub/f", 0, 8, source(7));
    written.write("subway", 0, 8, source(7));
    written.snapshot("sub", "snap");
    written.unlink("sub/f");
    assert_eq!(written.expected("snap/f", 0, 8, &[]), source(7).bytes(8));
    assert_eq!(written.expected("sub/f", 0, 8, &[]), [0; 8]);
    assert_eq!(written.files.len(), 2);
}
