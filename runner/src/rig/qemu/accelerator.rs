//! What runs a guest's processor: KVM where it really does, else QEMU's own translator, TCG.
//!
//! A /dev/kvm proves nothing. There are hosts, themselves virtual machines, whose KVM runs only kernels made for it and
//! emulates all others instruction by instruction, minutes to a boot, until it meets one it does not know. So the
//! kernel at hand is booted with a watchdog, as far as its panic for want of a root filesystem, which runs most of it.

mod memory;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use brim_trial::Bytes;
use memory::Memory;

use super::arguments::{Beginning, Hardware};
use super::{Ending, Machine};

/// What a kernel without a root filesystem is told, so that it speaks from its first instructions on, but not much: in a
/// virtual machine within another each byte takes its time. A built-in initramfs is passed over, as it has no such program.
const WORDS: &str = "earlyprintk=ttyS0,115200 loglevel=6 rdinit=/brim-has-no-init";
/// How long a kernel may take to its first word. It takes a tenth of a second, under TCG too.
pub(super) const FIRST_WORD: Duration = Duration::from_secs(2);
/// How long it may take to its panic. With KVM it takes a second; TCG takes some three, so whatever is slower is of no use.
pub(super) const PANIC: Duration = Duration::from_secs(5);
/// How often the console is looked at.
const TICK: Duration = Duration::from_millis(20);
const MEMORY: Bytes = Bytes(256 << 20);

/// What runs a guest's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The host's kernel and processor.
    Kvm,
    /// QEMU's translator, which needs nothing.
    Tcg,
}

/// Why something does not run a kernel here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// QEMU could not be started with it.
    #[error("{0}")]
    NotStarted(String),
    /// The kernel did not say a word in time.
    #[error("the kernel said nothing within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The kernel did not get to its panic in time.
    #[error("the kernel did not get to its end within {} ms", .0.as_millis())]
    Late(Duration),
    /// The guest ended in another way.
    #[error("it ended too soon: {0:?}")]
    Ended(Ending),
}

impl Accelerator {
    /// What runs `kernel` on this host. It is tried once a kernel, and remembered until the host boots again.
    pub(crate) fn find(kernel: &Path) -> Self {
        static FOUND: Mutex<BTreeMap<PathBuf, Accelerator>> = Mutex::new(BTreeMap::new());
        if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
            return Self::Tcg;
        }
        // Locked while it is tried: two that want to know at once find out once.
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        *found.entry(kernel.to_owned()).or_insert_with(|| {
            let memory = Memory::of_this_boot();
            let remembered = memory.as_ref().and_then(|memory| memory.recall(kernel));
            remembered.unwrap_or_else(|| Self::tried(kernel, memory.as_ref()))
        })
    }

    fn tried(kernel: &Path, memory: Option<&Memory>) -> Self {
        let tried = Self::Kvm.runs(kernel, FIRST_WORD, PANIC);
        let found = if tried.is_ok() { Self::Kvm } else { Self::Tcg };
        // One that was late may have been so for the load of this moment, and is tried again by the next process.
        if let Some(memory) = memory.filter(|_| !matches!(tried, Err(Unfit::Late(_)))) {
            memory.keep(kernel, found);
        }
        found
    }

    /// As `-accel` takes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// As `-cpu` takes it. `max` has RDRAND, without which a guest waits seconds for random numbers. QEMU 7.2's emulation of
    /// CMPXCHG16B crashed 7 of 72 boots of 6.12, and none of 70 when kernels were told there is none.
    pub(super) fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "max",
            Self::Tcg => "max,-cx16",
        }
    }

    /// Whether a guest with `kernel` says its first word and gets to its panic in time.
    pub(super) fn runs(self, kernel: &Path, first_word: Duration, panic: Duration) -> Result<(), Unfit> {
        let hardware = Hardware { accelerator: self, memory: MEMORY, drive: false };
        let beginning = Beginning::Boot { kernel, initramfs: None, command_line: WORDS };
        let started = Instant::now();
        let machine = Machine::boot(hardware, &beginning, None);
        let mut machine = machine.map_err(|error| Unfit::NotStarted(error.to_string()))?;
        loop {
            match machine.ended() {
                Some(Ending::Panicked(_)) => return Ok(()),
                Some(other) => return Err(Unfit::Ended(other)),
                None if started.elapsed() >= first_word && machine.console().is_empty() => {
                    return Err(Unfit::Silent(first_word));
                }
                None if started.elapsed() >= panic => return Err(Unfit::Late(panic)),
                None => std::thread::sleep(TICK),
            }
        }
    }
}
