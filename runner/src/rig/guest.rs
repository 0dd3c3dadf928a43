//! `uml` and `qemu/*`: a kernel in a process of ours. The disk, its server and the agent are inside, beside the kernel; the
//! executor is here. A kernel that panics or hangs takes its guest with it and nothing else: its last words are kept, and the
//! next trial gets another guest in the same state.

mod disk;
mod elf;
pub(crate) mod init;
mod initramfs;
mod machine;
mod protocol;
mod running;
mod uml;

use std::num::NonZeroUsize;
use std::thread::ScopedJoinHandle;

use brim_bundle::Bundle;
use brim_trial::event::Crash;
use brim_trial::plan::{Device, Filesystem};
use brim_trial::{Bytes, Event, FilesystemKind};

use initramfs::Initramfs;
pub(crate) use initramfs::InitramfsError;
use machine::{CHANNEL_MODULES, Machine};
use protocol::{Order, Reply};
use running::{Outcome, Running, Unanswered};

use crate::interrupt::Interrupt;
use crate::kernel::{Kernel, Kind};
use crate::rig::qemu::Snapshot;
use crate::rig::workbench::{Image, Preparation, State, Trial};
use crate::rig::{Rig, RigError, RigName};

/// What a guest needs beside its disks: the kernel, the initramfs, the page cache.
const MEMORY: Bytes = Bytes(384 << 20);

/// A guest of one kernel, which is there when it is needed.
pub(crate) struct Guest {
    kernel: Kernel,
    interrupt: Interrupt,
    initramfs: Option<Initramfs>,
    /// The files of the disks that trials begin in, where they were not prepared here.
    adopted: Option<Vec<(String, Vec<u8>)>>,
    running: Option<Running>,
    preparation: Option<Preparation>,
    /// A machine that has booted and made a filesystem, for the preparations that begin with it.
    base: Option<(Beginning, Snapshot)>,
    /// The machine with the prepared disk mounted: each trial begins with it.
    staged: Option<Snapshot>,
}

/// What preparations have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Beginning {
    devices: Vec<Device>,
    filesystem: Filesystem,
    needs: Needs,
}

/// What a preparation wants of a guest from its start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// How much memory.
    memory: Bytes,
    /// Whether the kernel has to measure its ways to compute RAID 5 and 6 parity, which takes most of a short boot.
    parity: bool,
}

impl Needs {
    fn of(preparation: &Preparation) -> Self {
        // A disk may be written full, and what is written lies in the guest's memory; its page cache may hold as much.
        let memory = (MEMORY.0 + 2 * preparation.size().0).next_multiple_of(MIB);
        Self { memory: Bytes(memory), parity: preparation.parity }
    }

    fn meets(self, wanted: Self) -> bool {
        self.memory >= wanted.memory && (self.parity || !wanted.parity)
    }
}

/// Machines have whole ones.
const MIB: u64 = 1 << 20;

impl Guest {
    /// With no guest up yet.
    pub(crate) fn new(kernel: Kernel, interrupt: Interrupt) -> Self {
        let (initramfs, running, preparation, base, staged) = (None, None, None, None, None);
        Self { kernel, interrupt, initramfs, adopted: None, running, preparation, base, staged }
    }

    /// A guest for `preparation`: the one that is up, or one like it was when it had booted, or one that boots.
    fn stand(&mut self, preparation: &Preparation) -> Result<(), RigError> {
        let needs = Needs::of(preparation);
        if self.running.as_ref().is_some_and(|running| running.needs.meets(needs)) {
            return Ok(());
        }
        let Preparation { devices, filesystem, .. } = preparation;
        let beginning = Beginning { devices: devices.clone(), filesystem: filesystem.clone(), needs };
        if let Some((_, snapshot)) = self.base.as_ref().filter(|(known, _)| *known == beginning) {
            self.running = Some(Running::new(Machine::resume(snapshot)?, needs));
            return Ok(());
        }
        self.boot(needs)?;
        if self.kernel.kind == Kind::Pc && self.adopted.is_none() {
            self.call(&Order::Make(preparation.clone()), &mut |_| {})?;
            let snapshot = self.save()?;
            self.running = Some(Running::new(Machine::resume(&snapshot)?, needs));
            self.base = Some((beginning, snapshot));
        }
        Ok(())
    }

    fn boot(&mut self, needs: Needs) -> Result<(), RigError> {
        self.running = None;
        if self.initramfs.is_none() {
            let modules = self.kernel.modules(&self.wanted())?;
            self.initramfs = Some(Initramfs::build(&modules, self.adopted.as_deref().unwrap_or_default())?);
        }
        let Some(initramfs) = &self.initramfs else { return Err(RigError::Unprepared) };
        let mut running = Running::new(Machine::boot(&self.kernel, initramfs, needs)?, needs);
        running.come_up(&self.interrupt)?;
        self.running = Some(running);
        let mut entropy = [0; 32];
        let taken = rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty());
        taken.map_err(|errno| RigError::Channel { source: errno.into() })?;
        match self.call(&Order::Begin { entropy }, &mut |_| {})? {
            Reply::Kernel { release } => self.kernel.release = release,
            _ => return Err(RigError::AgentDied),
        }
        Ok(())
    }

    /// The modules for the line, the disk and the filesystems. A filesystem that the kernel lacks says so when it is to be
    /// mounted.
    fn wanted(&self) -> Vec<&'static str> {
        let line: &[&str] = if self.kernel.kind == Kind::Pc { &CHANNEL_MODULES } else { &[] };
        let filesystems = FilesystemKind::ALL.iter().map(|kind| kind.name());
        let there = filesystems.filter(|name| self.kernel.has(name));
        line.iter().copied().chain(["nbd"]).chain(there).collect()
    }

    fn prepare_again(&mut self, preparation: &Preparation) -> Result<State, RigError> {
        self.stand(preparation)?;
        let order = match self.adopted {
            Some(_) => Order::Adopt(preparation.clone()),
            None => Order::Prepare(preparation.clone()),
        };
        match self.call(&order, &mut |_| {})? {
            Reply::State(state) => Ok(*state),
            _ => Err(RigError::AgentDied),
        }
    }

    /// What a disk of the guest's is packed to.
    fn packed(&mut self, disk: usize) -> Result<Vec<u8>, RigError> {
        let mut packed = Vec::new();
        loop {
            let order = Order::Image { disk, from: packed.len() };
            let Reply::Packed { digits, last } = self.call(&order, &mut |_| {})? else {
                return Err(RigError::Image);
            };
            packed.extend(disk::bytes(&digits).ok_or(RigError::Image)?);
            if last {
                return Ok(packed);
            }
        }
    }

    /// A machine that has the prepared disk mounted, for the trials to begin with.
    fn staged(&mut self) -> Result<&Snapshot, RigError> {
        if self.staged.is_none() {
            let preparation = self.preparation.clone().ok_or(RigError::Unprepared)?;
            if self.running.is_none() {
                self.prepare_again(&preparation)?;
            }
            self.call(&Order::Stage, &mut |_| {})?;
            self.staged = Some(self.save()?);
        }
        self.staged.as_ref().ok_or(RigError::Unprepared)
    }

    /// A guest that has the prepared disk mounted.
    fn stage(&mut self) -> Result<(), RigError> {
        let preparation = self.preparation.clone().ok_or(RigError::Unprepared)?;
        if self.kernel.kind == Kind::Pc {
            let running = Running::new(Machine::resume(self.staged()?)?, Needs::of(&preparation));
            self.running = Some(running);
            return Ok(());
        }
        if self.running.is_none() {
            // Whether the state is the same, the counters of the trial say.
            self.prepare_again(&preparation)?;
        }
        Ok(self.call(&Order::Stage, &mut |_| {}).map(drop)?)
    }

    /// The state of the guest that is up, which is over then.
    fn save(&mut self) -> Result<Snapshot, RigError> {
        let running = self.running.take().ok_or(RigError::Unprepared)?;
        running.into_machine().save().ok_or(RigError::Unprepared)?
    }

    /// A trial in the guest that is up, or in another one.
    fn attempt(&mut self, trial: &Trial, emit: &mut dyn FnMut(Event)) -> Result<(), RigError> {
        self.stage()?;
        let Some(running) = &mut self.running else { return Err(RigError::Unprepared) };
        let outcome = running.trial(trial, emit, &self.interrupt);
        // The next trial begins with the staged machine; and whatever is stuck in a kernel is in nobody's way in another one.
        if self.staged.is_some() || !matches!(outcome, Ok(Outcome::Usable)) {
            self.running = None;
        }
        outcome.map(drop)
    }

    /// Gives an order and waits for its end. A guest that does not live to answer is taken down.
    fn call(&mut self, order: &Order, emit: &mut dyn FnMut(Event)) -> Result<Reply, Unanswered> {
        let Some(running) = &mut self.running else { return Err(RigError::Unprepared.into()) };
        let ended = running.call(order, emit, &self.interrupt);
        if ended.is_err() {
            self.running = None;
        }
        ended
    }
}

impl Rig for Guest {
    fn name(&self) -> RigName {
        match self.kernel.kind {
            Kind::Uml => RigName::Uml,
            Kind::Pc => RigName::QemuNbd,
        }
    }

    fn kernel(&self) -> &str {
        &self.kernel.release
    }

    fn prepare(&mut self, preparation: &Preparation) -> Result<State, RigError> {
        self.staged = None;
        let state = self.prepare_again(preparation)?;
        self.preparation = Some(preparation.clone());
        Ok(state)
    }

    fn trial(&mut self, trial: &Trial, emit: &mut dyn FnMut(Event)) -> Result<(), RigError> {
        match self.attempt(trial, emit) {
            // Wherever on its way it dies, it is this trial that it costs.
            Err(RigError::GuestDied { how, last_words }) => {
                emit(Event::Crash(Crash { trial: trial.order.trial, how, last_words }));
                Ok(())
            }
            ended => ended,
        }
    }

    fn image(&mut self) -> Result<Image, RigError> {
        if self.running.is_none() {
            self.stage()?;
        }
        let sizes: Vec<Bytes> = match &self.preparation {
            Some(preparation) => preparation.devices.iter().map(|device| device.size).collect(),
            None => return Err(RigError::Unprepared),
        };
        let mut disks = Vec::new();
        for (disk, size) in sizes.into_iter().enumerate() {
            let packed = self.packed(disk)?;
            disks.push(Bundle::unpack(packed.as_slice(), size).ok().flatten().ok_or(RigError::Image)?);
        }
        match self.call(&Order::Written, &mut |_| {})? {
            Reply::Written(written) => Ok(Image { disks, written: *written }),
            _ => Err(RigError::AgentDied),
        }
    }

    fn adopt(&mut self, preparation: &Preparation, image: &Image) -> Result<State, RigError> {
        self.adopted = Some(disk::files(image).map_err(|source| RigError::Channel { source })?);
        // It comes with the initramfs.
        (self.initramfs, self.running, self.base) = (None, None, None);
        self.prepare(preparation)
    }

    fn at_once(&self) -> usize {
        match self.kernel.kind {
            Kind::Uml => 1,
            Kind::Pc => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }

    /// Each on a machine of its own, all from the same state.
    fn side_by_side(&mut self, trials: &[Trial]) -> Result<Vec<Vec<Event>>, RigError> {
        let needs = self.preparation.as_ref().map(Needs::of).ok_or(RigError::Unprepared)?;
        let interrupt = self.interrupt.clone();
        let staged = self.staged()?;
        let one = |trial: &Trial| {
            let mut running = Running::new(Machine::resume(staged)?, needs);
            let mut events = Vec::new();
            running.trial(trial, &mut |event| events.push(event), &interrupt)?;
            Ok(events)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = trials.iter().map(|trial| scope.spawn(|| one(trial))).collect();
            let join = |thread: ScopedJoinHandle<'_, Result<_, RigError>>| {
                thread.join().unwrap_or_else(|_| Err(RigError::Guest("a thread of ours panicked".to_owned())))
            };
            threads.into_iter().map(join).collect()
        })
    }
}
