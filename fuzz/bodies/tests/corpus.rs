//! Every target on every file that was kept, and on some thousand mutations of them: what libFuzzer found stays found,
//! on any machine and without libFuzzer.
#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by clippy")]

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use brim_fuzz_bodies::{Body, TARGETS};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Panics of any thread: those of a server's would end with their connection.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(fuzz_directory().join("corpus").join(name)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn run(body: Body, data: &[u8], what: &str) {
    let before = PANICS.load(Ordering::Relaxed);
    let result = panic::catch_unwind(|| body(data));
    let panics = PANICS.load(Ordering::Relaxed) - before;
    assert!(result.is_ok() && panics == 0, "{what}, which is {data:?}");
}

/// Like what libFuzzer does to an input, with other dice.
fn mutate(data: &mut Vec<u8>, other: &[u8], dice: &mut Xoshiro256PlusPlus) {
    let below = |most: usize, dice: &mut Xoshiro256PlusPlus| {
        usize::try_from(dice.next_u64() % u64::try_from(most.max(1)).unwrap()).unwrap()
    };
    for _ in 0..=below(4, dice) {
        let at = below(data.len() + 1, dice);
        let len = below(data.len() - at + 1, dice).min(1 << below(8, dice));
        let word = dice.next_u64().to_be_bytes();
        match below(6, dice) {
            0 => drop(data.drain(at..at + len)),
            1 => drop(data.splice(at..at, word[..=below(7, dice)].iter().copied())),
            2 => data[at..at + len].fill([0, 1, 0x7f, 0x80, 0xff][below(5, dice)]),
            3 => data.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (word[0] % 8)),
            4 => data.extend_from_within(at..at + len),
            _ => {
                let from = below(other.len() + 1, dice);
                let until = from + below(other.len() - from + 1, dice).min(64);
                drop(data.splice(at..at + len, other[from..until].iter().copied()));
            }
        }
    }
}

fn target(name: &str, mutations: u64) {
    static COUNT: Once = Once::new();
    COUNT.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            told(panic);
        }));
    });
    let (_, body) = TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    let files = corpus(name);
    assert!(!files.is_empty(), "there is no corpus for {name}");
    for (path, data) in &files {
        run(body, data, &path.display().to_string());
    }
    for seed in 0..mutations {
        let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pick = || {
            let index = dice.next_u64() % u64::try_from(files.len()).unwrap();
            &files[usize::try_from(index).unwrap()].1
        };
        let (mut data, other) = (pick().clone(), pick());
        mutate(&mut data, other, &mut dice);
        run(body, &data, &format!("mutation {seed} of the corpus of {name}"));
    }
}

macro_rules! targets {
    ($($name:ident: $mutations:literal,)*) => {
        $(#[test]
        fn $name() {
            target(stringify!($name), $mutations);
        })*

        /// Every target has its test here, its binary, and its entry in the manifest.
        #[test]
        fn every_target_is_tested_and_built() {
            let names = TARGETS.map(|(name, _)| name);
            assert_eq!(names.as_slice(), [$(stringify!($name)),*]);
            let manifest = fs::read_to_string(fuzz_directory().join("Cargo.toml")).unwrap();
            let built: Vec<&str> = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")).collect();
            assert_eq!(built, names.map(|name| format!("{name}.rs\"")));
            for name in names {
                let path = fuzz_directory().join(format!("fuzz_targets/{name}.rs"));
                assert!(fs::read_to_string(path).unwrap().contains(&format!("brim_fuzz_bodies::{name}(data)")));
            }
        }
    };
}

targets! {
    answer: 2000,
    bundle: 500,
    client: 300,
    client_handshake: 2000,
    client_replies: 2000,
    client_tls: 2000,
    control: 2000,
    extended_request: 2000,
    log: 2000,
    reply: 2000,
    request: 2000,
    scenario: 500,
    server: 300,
    server_handshake: 2000,
    server_options: 2000,
    server_tls: 2000,
    simple_reply: 2000,
    status_query: 2000,
    store: 300,
}
