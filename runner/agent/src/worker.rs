//! Carries the commands out, one after the other, on a thread that may sleep in the kernel for as long as it must.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use brim_trial::event::{KERNEL_LOG, MAY_USE, TICKETS};
use brim_trial::plan::Filesystem;
use brim_trial::{ByteRange, Bytes, Event, Nanos, Operation};
use rustix::mount::MountFlags;

use crate::Failure;
use crate::aside::Asides;
use crate::asks::Asks;
use crate::devices::Devices;
use crate::failure::Trying;
use crate::filesystem::{self, Mounted};
use crate::fill;
use crate::kernel_log::{KernelLog, Lines};
use crate::loop_device::{LoopDevice, SECTOR};
use crate::may_use::MayUseSums;
use crate::namespace::{self, RunDirectory};
use crate::nbd_device::{NbdDevice, NbdSettings};
use crate::phase::{self, Bench};
use crate::program;
use crate::protocol::{self, Command, Message, Reply, TrialOrder};
use crate::region::{self, Ground};
use crate::rescue::Rescue;
use crate::site::Site;
use crate::tickets::Tickets;
use crate::watch::Watch;

/// The name of the one file in the FUSE filesystem.
pub(crate) const DISK_FILE: &str = "disk";
/// How long the rig's own work (mount, unmount, mkfs, fill) may take on a disk that nothing slows down.
const RIG_LIMIT: Nanos = Nanos(60_000_000_000);

/// What the worker holds while the rig stands.
#[derive(Debug)]
pub(crate) struct Worker {
    run: RunDirectory,
    channel: Arc<Mutex<UnixStream>>,
    fds: UnixStream,
    asks: Arc<Asks>,
    asides: Asides,
    watch: Arc<Watch>,
    rescue: Arc<Rescue>,
    tickets: Option<Tickets>,
    kernel_log: Option<KernelLog>,
    missing: Vec<Event>,
    devices: Arc<Devices>,
    mounted: Option<Mounted>,
}

impl Worker {
    /// A worker with nothing attached.
    pub(crate) fn new(
        run: RunDirectory,
        channel: Arc<Mutex<UnixStream>>,
        fds: UnixStream,
        (asks, asides): (Arc<Asks>, Asides),
        (watch, rescue): (Arc<Watch>, Arc<Rescue>),
    ) -> Self {
        let mut missing = Vec::new();
        let mut or_missing = |evidence: &str, failure: Failure| {
            missing.push(Event::Missing { evidence: evidence.to_owned(), why: failure.to_string() });
        };
        let tickets = record_tickets(&run).map_err(|failure| or_missing(TICKETS, failure)).ok();
        let kernel_log = KernelLog::open().map_err(|failure| or_missing(KERNEL_LOG, failure)).ok();
        let (devices, mounted) = (Arc::default(), None);
        Self {
            run,
            channel,
            fds,
            asks,
            asides,
            watch,
            rescue,
            tickets,
            kernel_log,
            missing,
            devices,
            mounted,
        }
    }

    /// Carries out one command and answers it.
    ///
    /// # Errors
    /// The channel is broken: nobody is there to answer to.
    pub(crate) fn obey(&mut self, command: Command) -> std::io::Result<()> {
        self.watch.begin(0, name(&command), RIG_LIMIT);
        let result = self.carry_out(command);
        self.watch.end();
        self.send(&Message::Reply(result))
    }

    fn send(&self, message: &Message) -> std::io::Result<()> {
        protocol::send(&self.channel.lock().unwrap_or_else(PoisonError::into_inner), message)
    }

    fn carry_out(&mut self, command: Command) -> Result<Reply, Failure> {
        match command {
            Command::OpenFuse { disk } => self.open_fuse(&disk),
            Command::AttachLoop { disk } => self.attach_loop(&disk),
            Command::AttachNbd { disk, size, flags } => self.attach_nbd(&disk, size, flags),
            Command::MakeFilesystem { filesystem, disks } => self.make(&filesystem, &disks),
            Command::Mount(filesystem) => self.mount(&filesystem),
            Command::Fill(fill) => fill::fill(self.mounted()?, fill).map(Reply::Counters),
            Command::Counters => self.mounted()?.counters().map(Reply::Counters),
            Command::Trial(order) => self.trial(&order),
            Command::Program { command } => self.program(&command),
            Command::Unmount => match self.mounted.take() {
                Some(mounted) => mounted.unmount().map(|_| Reply::Done),
                None => Ok(Reply::Done),
            },
            Command::Detach => self.detach(),
            Command::Region { name } => self.region(&name).map(Reply::Region),
            Command::Answer { .. } | Command::Aside { .. } => {
                Err(Failure::new("take an answer", "nobody has asked"))
            }
        }
    }

    fn open_fuse(&mut self, disk: &str) -> Result<Reply, Failure> {
        let path = self.run.disks().join(disk);
        if !path.is_dir() {
            std::fs::create_dir(&path).trying(|| format!("make {}", path.display()))?;
        }
        let fuse = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let fuse = fuse.trying(|| "open /dev/fuse".to_owned()).map_err(|failure| {
            failure.with_help("load FUSE: `modprobe fuse` (in a container: pass /dev/fuse)")
        })?;
        let fuse = OwnedFd::from(fuse);
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&fuse);
        let options = format!("fd={descriptor},rootmode=40000,user_id=0,group_id=0");
        let options =
            std::ffi::CString::new(options).map_err(|_| Failure::new("mount FUSE", "a nul byte"))?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        rustix::mount::mount("brim", &path, "fuse.brim", flags, options.as_c_str())
            .trying(|| "mount the disk's FUSE filesystem".to_owned())?;
        // Only the server may hold this descriptor: when the server is gone, so is the disk, and nothing waits for it.
        protocol::send_fds(&self.fds, &[std::os::fd::AsFd::as_fd(&fuse)])
            .trying(|| "hand the FUSE descriptor over".to_owned())?;
        Ok(Reply::Fuse)
    }

    fn attach_loop(&mut self, disk: &str) -> Result<Reply, Failure> {
        let file = self.run.disks().join(disk).join(DISK_FILE);
        self.devices.attach(disk, LoopDevice::over(&file)?.into());
        Ok(Reply::Done)
    }

    fn attach_nbd(&mut self, disk: &str, size: Bytes, flags: u16) -> Result<Reply, Failure> {
        let what = || "take the disk's connection over".to_owned();
        let streams = protocol::receive_fds(&self.fds).trying(what)?;
        let stream =
            streams.into_iter().next().ok_or_else(|| Failure::new(what(), "no descriptor came with it"))?;
        let settings = NbdSettings { size, block_size: SECTOR, flags };
        self.devices.attach(disk, NbdDevice::connect(stream, &settings)?.into());
        Ok(Reply::Done)
    }

    fn make(&mut self, filesystem: &Filesystem, disks: &[String]) -> Result<Reply, Failure> {
        let devices = disks.iter().map(|disk| self.devices.get(Some(disk)));
        let devices = devices.collect::<Result<Vec<_>, _>>()?;
        let paths: Vec<&str> = devices.iter().map(|device| device.path()).collect();
        filesystem::make(filesystem, &paths)?;
        devices.iter().try_for_each(|device| device.forget_cache())?;
        Ok(Reply::Done)
    }

    fn mount(&mut self, filesystem: &Filesystem) -> Result<Reply, Failure> {
        let mounted = Mounted::mount(filesystem, &self.devices, &self.run.mount())?;
        let path = mounted.path().display().to_string();
        self.mounted = Some(mounted);
        Ok(Reply::Mounted { path })
    }

    fn trial(&mut self, order: &TrialOrder) -> Result<Reply, Failure> {
        self.emit_missing()?;
        let Some(mounted) = self.mounted.take() else {
            return Err(Failure::new("run a trial", "nothing is mounted"));
        };
        let site = Site::of(mounted, order.written.clone(), &self.rescue);
        let channel = &self.channel;
        let emit = |event: Event| {
            let channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
            protocol::send(&channel, &Message::Event(Box::new(event)))
                .trying(|| "tell the executor".to_owned())
        };
        let may_use = order.wanted.may_use.then(|| MayUseSums::record(&self.run.tracing()));
        let may_use = may_use.transpose().or_else(|failure| {
            // Not every kernel has tracepoints.
            let (evidence, why) = (MAY_USE.to_owned(), failure.to_string());
            emit(Event::Missing { evidence, why }).map(|()| None)
        })?;
        let awaited = order.phases.iter().flat_map(|phase| &phase.steps);
        let awaited =
            awaited.map(|step| &step.operation).any(|step| matches!(step, Operation::AwaitLog { .. }));
        let log =
            awaited.then(|| Lines::from_now(self.devices.kernel_names()).map(Mutex::new)).transpose()?;
        let bench = Bench {
            site: &site,
            log,
            may_use: may_use.map(Mutex::new),
            devices: &self.devices,
            tickets: self.tickets.as_mut().map(Mutex::new),
            kernel_log: self.kernel_log.as_mut(),
            watch: &self.watch,
            rescue: &self.rescue,
            asks: &self.asks,
            emit: &emit,
            began: &|at| {
                let channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
                protocol::send(&channel, &Message::Began { at }).trying(|| "tell the executor".to_owned())
            },
        };
        let ended = phase::run(order, bench);
        self.rescue.free_the_mount();
        let (mounted, written) = site.leave();
        self.mounted = mounted;
        ended.map(|()| Reply::Written(written))
    }

    fn program(&mut self, command: &[String]) -> Result<Reply, Failure> {
        self.emit_missing()?;
        let streams =
            protocol::receive_fds(&self.fds).trying(|| "take over the standard streams".to_owned())?;
        // A program may take as long as it likes.
        self.watch.end();
        let Some(mounted) = self.mounted.as_ref() else {
            return Err(Failure::new("run a program", "nothing is mounted"));
        };
        let evidence = program::Evidence {
            mounted,
            devices: &self.devices.kernel_names(),
            tracing: &self.run.tracing(),
            tickets: self.tickets.as_mut(),
            kernel_log: self.kernel_log.as_mut(),
        };
        self.asides.begin(mounted, &self.devices)?;
        let ended = program::run(command, streams, evidence);
        self.asides.end();
        for event in ended? {
            self.emit(event)?;
        }
        Ok(Reply::Done)
    }

    fn region(&self, name: &str) -> Result<Vec<ByteRange>, Failure> {
        let mounted = self.mounted()?;
        let root = mounted.root().try_clone().trying(|| "look at the mount".to_owned())?;
        let ground = Ground::at(mounted.kind(), root, &self.devices, None)?;
        region::resolve(name, &ground, &self.asks)
    }

    fn detach(&mut self) -> Result<Reply, Failure> {
        if let Some(mounted) = self.mounted.take() {
            mounted.unmount()?;
        }
        self.devices.detach()?;
        Ok(Reply::Done)
    }

    /// Says what cannot be seen here: of each trial, as each is judged by itself.
    fn emit_missing(&self) -> Result<(), Failure> {
        self.missing.iter().try_for_each(|event| self.emit(event.clone()))
    }

    fn emit(&self, event: Event) -> Result<(), Failure> {
        self.send(&Message::Event(Box::new(event))).trying(|| "tell the executor".to_owned())
    }

    fn mounted(&self) -> Result<&Mounted, Failure> {
        self.mounted.as_ref().ok_or_else(|| Failure::new("work at the mount", "nothing is mounted"))
    }
}

fn record_tickets(run: &RunDirectory) -> Result<Tickets, Failure> {
    let tracing = run.tracing();
    namespace::mount_tracefs(&tracing)?;
    Tickets::record(&tracing)
}

/// What the rig's own work is called where it does not end.
fn name(command: &Command) -> &'static str {
    match command {
        Command::OpenFuse { .. } => "mounting the disk",
        Command::AttachLoop { .. } => "attaching the loop device",
        Command::AttachNbd { .. } => "attaching the nbd device",
        Command::MakeFilesystem { .. } => "mkfs",
        Command::Mount(_) => "mount",
        Command::Fill(_) => "the fill",
        Command::Counters => "reading the counters",
        Command::Trial(_) => "the trial",
        Command::Program { .. } => "the program",
        Command::Unmount => "unmount",
        Command::Detach => "detaching the disk",
        Command::Region { .. } => "looking for a region",
        Command::Answer { .. } | Command::Aside { .. } => "an answer",
    }
}
