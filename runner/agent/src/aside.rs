//! What is done while a program runs at the mount: the worker waits for the program, and so others do it.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use brim_trial::{ByteRange, FilesystemKind};

use crate::Failure;
use crate::asks::Asks;
use crate::devices::Devices;
use crate::failure::Trying;
use crate::filesystem::Mounted;
use crate::protocol::{self, Aside, Message};
use crate::region::{self, Ground};

/// How long the end of a program waits for what was asked aside: a region that is read from a disk that stands still.
const END_LIMIT: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(1);

/// What is mounted while a program runs there.
#[derive(Debug)]
struct Live {
    kind: FilesystemKind,
    root: File,
    devices: Arc<Devices>,
}

/// What can be done beside a program.
#[derive(Clone, Debug)]
pub(crate) struct Asides {
    live: Arc<Mutex<Option<Arc<Live>>>>,
    channel: Arc<Mutex<UnixStream>>,
    asks: Arc<Asks>,
}

impl Asides {
    /// With no program.
    pub(crate) fn over(channel: Arc<Mutex<UnixStream>>, asks: Arc<Asks>) -> Self {
        Self { live: Arc::default(), channel, asks }
    }

    /// A program is about to run at `mounted`.
    pub(crate) fn begin(&self, mounted: &Mounted, devices: &Arc<Devices>) -> Result<(), Failure> {
        let root = mounted.root().try_clone().trying(|| "look at the mount".to_owned())?;
        let live = Live { kind: mounted.kind(), root, devices: Arc::clone(devices) };
        *self.live() = Some(Arc::new(live));
        Ok(())
    }

    /// The program has ended; nothing of this stays open, unless it waits for the disk.
    pub(crate) fn end(&self) {
        let Some(live) = self.live().take() else { return };
        let until = Instant::now() + END_LIMIT;
        while Arc::strong_count(&live) > 1 && Instant::now() < until {
            std::thread::sleep(TICK);
        }
    }

    /// Does it, on a thread of its own, and tells the executor.
    pub(crate) fn start(&self, id: u64, aside: Aside) {
        let asides = self.clone();
        std::thread::spawn(move || {
            let told = asides.carry_out(aside).map_err(|failure| match failure.help {
                Some(help) => format!("{}: {} ({help})", failure.what, failure.why),
                None => failure.to_string(),
            });
            let channel = asides.channel.lock().unwrap_or_else(PoisonError::into_inner);
            // An executor that is gone has no question either.
            let _ = protocol::send(&channel, &Message::Aside { id, told });
        });
    }

    fn carry_out(&self, aside: Aside) -> Result<Vec<ByteRange>, Failure> {
        let Some(live) = self.live().clone() else {
            return Err(Failure::new("look at the mount", "no program runs there"));
        };
        match aside {
            Aside::Size { size } => live.devices.get(None)?.update_size(size).map(|_| Vec::new()),
            Aside::Region { name } => {
                let root = live.root.try_clone().trying(|| "look at the mount".to_owned())?;
                region::resolve(&name, &Ground::at(live.kind, root, &live.devices, None)?, &self.asks)
            }
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Option<Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
