//! `uml` and `qemu/*`: a kernel in a process of ours. The disk, its server and the agent are inside, beside the kernel; the
//! executor is here. A kernel that panics or hangs takes its guest with it and nothing else: its last words are kept, and the
//! next trial gets another guest in the same state.

mod elf;
pub(crate) mod init;
mod initramfs;
mod protocol;
mod uml;

use std::time::{Duration, Instant};

use brim_agent::protocol::{Lines, send};
use brim_trial::event::Crash;
use brim_trial::plan::Filesystem;
use brim_trial::{Bytes, Counters, Event, FilesystemKind};

use initramfs::Initramfs;
pub(crate) use initramfs::InitramfsError;
use protocol::{Order, Reply, Word};

use crate::interrupt::Interrupt;
use crate::kernel::{Kernel, Kind};
use crate::rig::workbench::{Preparation, Trial};
use crate::rig::{Rig, RigError, RigName};

/// How often the executor looks whether it was interrupted.
const TICK: Duration = Duration::from_millis(50);
/// How long a guest may say nothing at all, not even that it lives. It says that every second; a host with more to do than
/// it can makes it late.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// How long a guest that hung up may take to end, so that its last words are whole.
const END_LIMIT: Duration = Duration::from_secs(2);
/// What a guest needs beside its disks: the kernel, the initramfs, the page cache.
const MEMORY: Bytes = Bytes(384 << 20);
/// What is kept of the last words.
const LAST_LINES: usize = 40;

/// A guest of one kernel, which is there when it is needed.
pub(crate) struct Guest {
    kernel: Kernel,
    interrupt: Interrupt,
    initramfs: Option<Initramfs>,
    running: Option<Running>,
    preparation: Option<Preparation>,
}

/// A guest that is up.
struct Running {
    machine: uml::Uml,
    lines: Lines,
    heard: Instant,
    /// What it was given the memory and the options for.
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
        let memory = Bytes(MEMORY.0 + 2 * preparation.size.0);
        let Filesystem { mkfs, .. } = &preparation.filesystem;
        let parity = mkfs.iter().any(|word| word.contains("raid5") || word.contains("raid6"));
        Self { memory, parity }
    }

    fn meets(self, wanted: Self) -> bool {
        self.memory >= wanted.memory && (self.parity || !wanted.parity)
    }
}

/// Why there was no answer.
enum Unanswered {
    /// The guest is gone, or not to be reached.
    Crash(Crash),
    Error(RigError),
}

impl From<RigError> for Unanswered {
    fn from(error: RigError) -> Self {
        Self::Error(error)
    }
}

impl From<Unanswered> for RigError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Crash(Crash { how, last_words, .. }) => Self::GuestDied { how, last_words },
            Unanswered::Error(error) => error,
        }
    }
}

impl Guest {
    /// With no guest up yet.
    pub(crate) fn new(kernel: Kernel, interrupt: Interrupt) -> Self {
        Self { kernel, interrupt, initramfs: None, running: None, preparation: None }
    }

    /// A guest for `preparation`, booted where there is none that will do.
    fn stand(&mut self, preparation: &Preparation) -> Result<(), RigError> {
        let needs = Needs::of(preparation);
        if self.running.as_ref().is_some_and(|running| running.needs.meets(needs)) {
            return Ok(());
        }
        self.running = None;
        if self.initramfs.is_none() {
            // A filesystem that the kernel lacks says so when it is to be mounted.
            let filesystems = FilesystemKind::ALL.iter().map(|kind| kind.name());
            let mut wanted = vec!["nbd"];
            wanted.extend(filesystems.filter(|name| self.kernel.has(name)));
            let modules = self.kernel.modules(&wanted)?;
            self.initramfs = Some(Initramfs::build(&modules)?);
        }
        let Some(initramfs) = &self.initramfs else { return Err(RigError::Unprepared) };
        let (machine, stream) = match self.kernel.kind {
            Kind::Uml => uml::Uml::start(&self.kernel, initramfs, needs)?,
            Kind::Pc => return Err(RigError::Guest("no rig boots this kernel yet".to_owned())),
        };
        let mut running = Running { machine, lines: Lines::new(stream), heard: Instant::now(), needs };
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

    fn prepare_again(&mut self, preparation: &Preparation) -> Result<Counters, RigError> {
        self.stand(preparation)?;
        match self.call(&Order::Prepare(preparation.clone()), &mut |_| {})? {
            Reply::Counters(counters) => Ok(counters),
            _ => Err(RigError::AgentDied),
        }
    }

    /// A trial in the guest that is up, or in another one.
    fn attempt(&mut self, trial: &Trial, emit: &mut dyn FnMut(Event)) -> Result<(), RigError> {
        if self.running.is_none() {
            let preparation = self.preparation.clone().ok_or(RigError::Unprepared)?;
            // Whether the state is the same, the counters of the trial say.
            self.prepare_again(&preparation)?;
        }
        self.call(&Order::Stage, &mut |_| {})?;
        let mut stuck = false;
        let order = Order::Trial(Box::new(trial.clone()));
        self.call(&order, &mut |event| {
            stuck |= matches!(event, Event::Stuck(_));
            emit(event);
        })?;
        if stuck {
            // Whatever waits in that kernel is in nobody's way in another one.
            self.running = None;
        }
        Ok(())
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
            Kind::Uml | Kind::Pc => RigName::Uml,
        }
    }

    fn kernel(&self) -> &str {
        &self.kernel.release
    }

    fn prepare(&mut self, preparation: &Preparation) -> Result<Counters, RigError> {
        let counters = self.prepare_again(preparation)?;
        self.preparation = Some(preparation.clone());
        Ok(counters)
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
}

impl Running {
    /// Waits until the guest says that it lives: what was sent before that, no line would have taken.
    fn come_up(&mut self, interrupt: &Interrupt) -> Result<(), Unanswered> {
        match self.word(interrupt)? {
            Word::Alive => Ok(()),
            _ => Err(RigError::AgentDied.into()),
        }
    }

    fn call(
        &mut self,
        order: &Order,
        emit: &mut dyn FnMut(Event),
        interrupt: &Interrupt,
    ) -> Result<Reply, Unanswered> {
        if send(self.lines.stream(), order).is_err() {
            return Err(self.crash());
        }
        loop {
            match self.word(interrupt)? {
                Word::Alive => {}
                Word::Event(event) => emit(*event),
                Word::Reply(reply) => return Ok(reply.map_err(RigError::from)?),
            }
        }
    }

    /// The next word, for which a guest has as long as it may be silent.
    fn word(&mut self, interrupt: &Interrupt) -> Result<Word, Unanswered> {
        self.heard = Instant::now();
        while !self.lines.wait(TICK).map_err(|source| RigError::Channel { source })? {
            if interrupt.happened() {
                return Err(RigError::Interrupted.into());
            }
            if self.machine.has_ended() || self.heard.elapsed() >= SILENCE_LIMIT {
                return Err(self.crash());
            }
        }
        match self.lines.receive() {
            Ok(Some(word)) => Ok(word),
            // The line is over, or ends in the middle of a word.
            Ok(None) | Err(_) => Err(self.crash()),
        }
    }

    /// What became of a guest that does not answer.
    fn crash(&mut self) -> Unanswered {
        let silent = self.heard.elapsed() >= SILENCE_LIMIT;
        let until = Instant::now() + END_LIMIT;
        while !silent && !self.machine.has_ended() && Instant::now() < until {
            std::thread::sleep(TICK);
        }
        let words = self.machine.console();
        let lines: Vec<&str> = words.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let panic = lines.iter().find_map(|line| {
            let at = line.find("Kernel panic")?;
            line.get(at..)
        });
        let how = match panic {
            Some(panic) => panic.to_owned(),
            None if silent => format!("it said nothing for {} s", SILENCE_LIMIT.as_secs()),
            None => "it ended by itself".to_owned(),
        };
        let first = lines.len().saturating_sub(LAST_LINES);
        let last_words = lines.into_iter().skip(first).map(str::to_owned).collect();
        Unanswered::Crash(Crash { trial: 0, how, last_words })
    }
}
