//! A rig in the kernel that runs us, be it a host's or a guest's: a disk, the agent beside it, and what takes both down.
//! The disk reaches the kernel by nbd.ko, or as a loop device over a FUSE file that is our NBD client.
//!
//! The server and the FUSE session are in this process, the mounts and the block device in the agent's. Whichever is
//! killed, the other can let go: without the server every request fails at once, without the agent its namespace and
//! all that is mounted there is gone.

mod agent;
mod asks;
mod fuse;
mod host;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use brim_agent::Written;
use brim_agent::protocol::{Aside, Command, Message, Reply, TrialOrder};
use brim_trial::event::Stuck;
use brim_trial::plan::{self, Filesystem, Fill};
use brim_trial::{ByteRange, Counters, Event};
use fuse::{Connect, DiskFile};
use fuser::BackgroundSession;
use nbd_server::client::{self, Client, Negotiated};
use nbd_server::{Disk, Fault, Held, ListenError, Listener, Server};

use crate::interrupt::Interrupt;
use crate::rig::RigError;
use crate::rig::sampler::Sampler;
use agent::Agent;
use asks::{AWAIT_TICK, Awaits};
pub(crate) use asks::{let_all_go, set_pool};
use host::{Asked, Told};

/// How often the executor looks whether it was interrupted.
const TICK: Duration = Duration::from_millis(50);
/// The same while somebody may order something for which the kernel is needed.
const ASIDE_TICK: Duration = Duration::from_millis(5);
/// How long a step may go on after its gates were opened, and again after the disk was taken from under it.
const GRACE: Duration = Duration::from_secs(5);
/// How long an agent may take to end once it is killed: its mounts go away in that time.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How long an agent that was killed takes to be gone.
const BLAME_LIMIT: Duration = Duration::from_millis(500);
/// How often the end of a FUSE session is looked for: it is a matter of microseconds.
const SESSION_TICK: Duration = Duration::from_micros(100);

/// How the disk reaches the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// A loop device over a file in a FUSE filesystem of ours.
    Fuse,
    /// nbd.ko, told by netlink, over a stream socket pair.
    Nbd,
}

/// A standing rig.
#[derive(Debug)]
pub(crate) struct Local {
    link: Link,
    agent: Agent,
    server: Arc<Server>,
    /// By the names of disks: each stays for the next disk of its name.
    fuses: BTreeMap<String, Fuse>,
    attached: Vec<Attached>,
    awaits: Awaits,
    /// They look at the disks during a trial.
    samplers: Vec<Sampler>,
    /// The faults of the trial, in force or not.
    rows: Vec<plan::Fault>,
    interrupt: Interrupt,
    /// A program of the user's has run: what the keyboard says was said to it.
    programs: bool,
    /// What orders to the disk want of the kernel, and those of it that the agent has.
    asked: Option<Receiver<Asked>>,
    asides: BTreeMap<u64, Sender<Told>>,
}

/// A disk under the kernel.
#[derive(Debug)]
struct Attached {
    /// Its name, also that of its export.
    name: String,
    disk: Disk,
    /// What rows did that went with the power of the disk.
    faults_before: Vec<Fault>,
}

/// The file that the kernel has for one disk after the other.
#[derive(Debug)]
struct Fuse {
    file: Arc<DiskFile>,
    session: BackgroundSession,
}

impl Local {
    /// Starts the agent, with nothing attached.
    pub(crate) fn start(interrupt: Interrupt, link: Link) -> Result<Self, RigError> {
        let agent = Agent::start().map_err(|source| RigError::AgentStart { source })?;
        let (server, awaits, fuses) = (Arc::new(Server::new()), Awaits::default(), BTreeMap::new());
        Ok(Self {
            link,
            agent,
            server,
            fuses,
            attached: Vec::new(),
            awaits,
            samplers: Vec::new(),
            rows: Vec::new(),
            interrupt,
            programs: false,
            asked: None,
            asides: BTreeMap::new(),
        })
    }

    /// Puts disks under the kernel, in this order, by these names.
    pub(crate) fn attach(&mut self, disks: &[(String, Disk)]) -> Result<(), RigError> {
        let attached = disks.iter().try_for_each(|(name, disk)| self.put_under_the_kernel(name, disk));
        attached.map_err(|error| self.blame(error))
    }

    fn put_under_the_kernel(&mut self, name: &str, disk: &Disk) -> Result<(), RigError> {
        self.server.add_export(name, disk.clone()).map_err(|error| RigError::server(&error))?;
        let attached = Attached { name: name.to_owned(), disk: disk.clone(), faults_before: Vec::new() };
        match self.link {
            Link::Fuse => {
                let (server, export) = (Arc::clone(&self.server), name.to_owned());
                let connect = move || Client::connect(server.connect().ok()?, &export).ok();
                self.open_fuse(name)?.put(disk.clone(), Connect(Box::new(connect)));
                self.attached.push(attached);
                self.call(&Command::AttachLoop { disk: name.to_owned() }, &mut |_| {}).map(drop)
            }
            Link::Nbd => {
                self.attached.push(attached);
                let stream = self.server.connect().map_err(|error| RigError::server(&error))?;
                let Negotiated { stream, info } =
                    client::negotiate(stream, name).map_err(|error| RigError::server(&error))?;
                self.agent.send_fds(&[OwnedFd::from(stream).as_fd()])?;
                let (size, flags) = (disk.size(), info.flags.0);
                let attach = Command::AttachNbd { disk: name.to_owned(), size, flags };
                self.call(&attach, &mut |_| {}).map(drop)
            }
        }
    }

    /// The file of the disk `name`: the first disk of that name has its filesystem mounted, the others find it.
    fn open_fuse(&mut self, name: &str) -> Result<Arc<DiskFile>, RigError> {
        if let Some(Fuse { file, .. }) = self.fuses.get(name) {
            return Ok(Arc::clone(file));
        }
        self.call(&Command::OpenFuse { disk: name.to_owned() }, &mut |_| {})?;
        let descriptor = self.agent.receive_fd()?;
        let file = Arc::new(DiskFile::default());
        let session = fuse::serve(&file, descriptor).map_err(|source| RigError::Fuse { source })?;
        self.fuses.insert(name.to_owned(), Fuse { file: Arc::clone(&file), session });
        Ok(file)
    }

    /// What every row did that was in force since the last attach, also those that went with the power; disk by disk, whose name is
    /// told where there are several.
    pub(crate) fn faults(&self) -> Vec<(Option<String>, Fault)> {
        let several = self.attached.len() > 1;
        let faults = |attached: &Attached| {
            let mut faults = attached.faults_before.clone();
            faults.extend(attached.disk.faults());
            let device = several.then(|| attached.name.clone());
            faults.into_iter().map(move |fault| (device.clone(), fault)).collect::<Vec<_>>()
        };
        self.attached.iter().flat_map(faults).collect()
    }

    /// Takes orders for the disk on a UNIX socket, until what this gives is dropped.
    pub(crate) fn listen_control(&mut self, path: &Path) -> Result<Listener, ListenError> {
        let (asking, asked) = host::pair();
        self.server.set_host(Arc::new(asking));
        self.asked = Some(asked);
        self.server.listen_control(path)
    }

    /// Makes a filesystem on the disks of these names.
    pub(crate) fn make(&mut self, filesystem: &Filesystem, disks: &[String]) -> Result<(), RigError> {
        let (filesystem, disks) = (filesystem.clone(), disks.to_vec());
        self.call(&Command::MakeFilesystem { filesystem, disks }, &mut |_| {}).map(drop)
    }

    /// Mounts what is on the disks.
    pub(crate) fn mount(&mut self, filesystem: &Filesystem) -> Result<(), RigError> {
        self.call(&Command::Mount(filesystem.clone()), &mut |_| {}).map(drop)
    }

    /// Fills the mount until so much is left, or as near as it gets.
    pub(crate) fn fill(&mut self, fill: Fill) -> Result<Counters, RigError> {
        let reply = self.call(&Command::Fill(fill), &mut |_| {})?;
        counters(reply)
    }

    /// The bytes of a region as the mounted filesystem has it.
    pub(crate) fn region(&mut self, name: &str) -> Result<Vec<ByteRange>, RigError> {
        match self.call(&Command::Region { name: name.to_owned() }, &mut |_| {})? {
            Reply::Region(ranges) => Ok(ranges),
            _ => Err(RigError::AgentDied),
        }
    }

    /// The filesystem's counters.
    pub(crate) fn counters(&mut self) -> Result<Counters, RigError> {
        let reply = self.call(&Command::Counters, &mut |_| {})?;
        counters(reply)
    }

    /// Runs the steps of a trial, with these faults for them to put in force, and tells what was seen. What they have written is
    /// the answer.
    pub(crate) fn trial(
        &mut self,
        order: TrialOrder,
        faults: &[plan::Fault],
        emit: &mut dyn FnMut(Event),
    ) -> Result<Written, RigError> {
        self.awaits = Awaits::default();
        self.rows = faults.to_vec();
        let trial = order.trial;
        let start = |attached: &Attached| Sampler::start(&attached.name, &attached.disk, faults);
        self.samplers = self.attached.iter().filter_map(start).collect();
        let ended = self.call(&Command::Trial(order), emit);
        let several = self.attached.len() > 1;
        for sampler in std::mem::take(&mut self.samplers) {
            if let Some(series) = sampler.end(trial, several) {
                emit(Event::Series(series));
            }
        }
        match ended? {
            Reply::Written(written) => Ok(written),
            _ => Err(RigError::AgentDied),
        }
    }

    /// Runs a program at the mount, on our own standard streams.
    pub(crate) fn program(
        &mut self,
        command: Vec<String>,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), RigError> {
        let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        self.programs = true;
        self.agent.send_fds(&[input.as_fd(), output.as_fd(), error.as_fd()])?;
        let ended = self.call(&Command::Program { command }, emit).map(drop);
        // Whoever still asks is told that it is over.
        (self.asked, self.asides) = (None, BTreeMap::new());
        ended
    }

    /// Unmounts the disks and takes them away from the kernel.
    pub(crate) fn detach(&mut self) -> Result<(), RigError> {
        self.call(&Command::Detach, &mut |_| {})?;
        // The next disk is behind the same file: nobody who still has this one may find the other.
        let until = Instant::now() + END_LIMIT;
        for attached in std::mem::take(&mut self.attached) {
            let _last_disk = self.server.remove_export(&attached.name);
            let Some(Fuse { file, session }) = self.fuses.get(&attached.name) else { continue };
            while file.is_open() {
                if session.guard.is_finished() {
                    return self.end_sessions();
                }
                if Instant::now() >= until {
                    return Err(RigError::Busy);
                }
                std::thread::sleep(SESSION_TICK);
            }
            file.take();
        }
        Ok(())
    }

    /// Whatever fails when the agent is gone fails because of that.
    fn blame(&mut self, error: RigError) -> RigError {
        match error {
            RigError::Channel { .. } | RigError::Fuse { .. } if self.agent.wait(BLAME_LIMIT) => {
                RigError::AgentDied
            }
            other => other,
        }
    }

    fn call(&mut self, command: &Command, emit: &mut dyn FnMut(Event)) -> Result<Reply, RigError> {
        let reply = self.ask(command, emit);
        reply.map_err(|error| self.blame(error))
    }

    /// Sends one command and passes on what is seen until it is answered. A command that does not end has the gates
    /// opened, then loses its disk, then its agent.
    fn ask(&mut self, command: &Command, emit: &mut dyn FnMut(Event)) -> Result<Reply, RigError> {
        self.agent.send(command)?;
        let mut overdue = Overdue::No;
        loop {
            let interrupted =
                if self.programs { self.interrupt.told_to_end() } else { self.interrupt.happened() };
            if interrupted {
                return Err(RigError::Interrupted);
            }
            self.pass_on_asides()?;
            let tick = match &self.asked {
                _ if !self.awaits.is_empty() => AWAIT_TICK,
                Some(_) => ASIDE_TICK,
                None => TICK,
            };
            match self.agent.receive(tick)? {
                Some(Message::Reply(reply)) => return reply.map_err(RigError::Agent),
                Some(Message::Event(event)) => match *event {
                    Event::Stuck(stuck) => {
                        emit(Event::Stuck(self.open_gates(stuck)));
                        self.give_up()?;
                        overdue = Overdue::GatesOpened(Instant::now());
                    }
                    event => emit(event),
                },
                Some(Message::Began { at }) => self.samplers.iter().for_each(|sampler| sampler.began(at)),
                Some(Message::Ask { id, ask }) => self.asked(id, ask)?,
                Some(Message::Aside { id, told }) => {
                    // One who waits no more was told so.
                    let _ = self.asides.remove(&id).map(|answer| answer.send(told));
                }
                None => overdue = self.escalate(overdue)?,
            }
            self.look_at_gates()?;
        }
    }

    /// Hands what orders want of the kernel to the agent.
    fn pass_on_asides(&mut self) -> Result<(), RigError> {
        while let Some(Asked { aside, answer }) = self.asked.as_ref().and_then(|asked| asked.try_recv().ok())
        {
            // A program has one disk.
            if let (Aside::Size { size }, Some(attached)) = (&aside, self.attached.first()) {
                self.tell_size(attached, *size);
            }
            let id = self.asides.last_key_value().map_or(1, |(last, _)| last + 1);
            self.asides.insert(id, answer);
            self.agent.send(&Command::Aside { id, aside })?;
        }
        Ok(())
    }

    /// Opens all gates of the disks, and adds to `stuck` what they held.
    fn open_gates(&self, mut stuck: Stuck) -> Stuck {
        for attached in &self.attached {
            stuck.held.extend(attached.disk.held().iter().map(describe));
            asks::let_all_go(&attached.disk);
        }
        stuck
    }

    fn escalate(&mut self, overdue: Overdue) -> Result<Overdue, RigError> {
        match overdue {
            Overdue::GatesOpened(since) if since.elapsed() >= GRACE => {
                // Every request of the kernel now fails, and nothing waits for the disk any longer.
                self.take_disks();
                Ok(Overdue::DiskGone(Instant::now()))
            }
            Overdue::DiskGone(since) if since.elapsed() >= GRACE => Err(RigError::Stuck),
            other => Ok(other),
        }
    }

    /// Has every request fail from now on.
    fn take_disks(&self) {
        self.server.shutdown();
        for fuse in self.fuses.values() {
            fuse.file.fail();
        }
    }

    /// Waits for the ends of the FUSE sessions, which are those of their mounts.
    fn end_sessions(&mut self) -> Result<(), RigError> {
        let until = Instant::now() + END_LIMIT;
        let mut ended = Ok(());
        for fuse in std::mem::take(&mut self.fuses).into_values() {
            ended = ended.and(fuse.end(until));
        }
        ended
    }
}

impl Fuse {
    /// Waits for the end of the session, which comes with that of its mount.
    fn end(self, until: Instant) -> Result<(), RigError> {
        let session = self.session;
        while !session.guard.is_finished() {
            if Instant::now() >= until {
                return Err(RigError::Busy);
            }
            std::thread::sleep(SESSION_TICK);
        }
        match session.join() {
            // The connection ends with the mount; the last read sees it in one of two ways (fs/fuse/dev.c, v6.12).
            Err(source)
                if !matches!(source.kind(), ErrorKind::ConnectionAborted | ErrorKind::NotConnected) =>
            {
                Err(RigError::Fuse { source })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Local {
    /// Takes the rig down, whatever state it is in.
    fn drop(&mut self) {
        for attached in &self.attached {
            asks::let_all_go(&attached.disk);
        }
        self.agent.kill();
        if !self.agent.wait(END_LIMIT) {
            self.take_disks();
            self.agent.wait(END_LIMIT);
        }
        // The FUSE mounts went away with the namespace, so the sessions have ended or are about to.
        let _ended = self.end_sessions();
    }
}

/// How far a command has gone past its limit.
#[derive(Clone, Copy, Debug)]
enum Overdue {
    No,
    GatesOpened(Instant),
    DiskGone(Instant),
}

fn describe(held: &Held) -> String {
    let Held { gate, op, offset, len, .. } = held;
    let op = op.name();
    match len.0 {
        0 => format!("{op}, held by \"{gate}\""),
        _ => format!("{op} of {len} at {offset}, held by \"{gate}\""),
    }
}

fn counters(reply: Reply) -> Result<Counters, RigError> {
    match reply {
        Reply::Counters(counters) => Ok(counters),
        _ => Err(RigError::AgentDied),
    }
}
