//! Process 1 of a guest: the workbench of a host, told what to do over a serial line.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use brim_agent::protocol::{self as lines, Lines};
use brim_agent::{Failure, guest};

use super::disk;
use super::protocol::{Order, Parts, Refusal, Reply, Word};
use crate::interrupt::Interrupt;
use crate::output;
use crate::rig::local::Link;
use crate::rig::workbench::Workbench;
use crate::rig::{Rig, RigError};

/// How often the host hears that the guest lives.
const ALIVE: Duration = Duration::from_secs(1);

/// Where the initramfs has this program.
pub(crate) const PATH: &str = "/init";

/// Serves the host until its line ends, then ends the guest.
pub(crate) fn run() {
    if let Err(failure) = serve() {
        // The console is what the host keeps of a guest that does not come up.
        output::note(&format!("brim: {failure}"));
    }
    guest::power_off();
}

fn serve() -> Result<(), Failure> {
    guest::set_up()?;
    let channel = guest::channel()?;
    let broken = |error: io::Error| Failure::new("listen to the host", error.to_string());
    let line = Line { stream: channel.try_clone().map_err(broken)?, busy: true };
    let host = Host(Arc::new(Mutex::new(line)));
    let interrupt = Interrupt::take_over().map_err(broken)?;
    let mut workbench = Workbench::new(interrupt, Link::Nbd);
    host.say_alive();
    let (mut orders, mut parts) = (Lines::new(channel), Parts::default());
    while let Some(order) = orders.receive().map_err(broken)? {
        host.line().busy = true;
        let reply = match parts.complete(order).map_err(|error| broken(error.into()))? {
            Some(order) => carry_out(&mut workbench, order, &host).map_err(Refusal::from),
            None => Ok(Reply::Done),
        };
        host.reply(reply).map_err(broken)?;
    }
    Ok(())
}

fn carry_out(workbench: &mut Workbench, order: Order, host: &Host) -> Result<Reply, RigError> {
    match order {
        Order::Adopt(preparation) => {
            let image = disk::adopted(&preparation)?;
            workbench.adopt(&preparation, &image).map(|state| Reply::State(Box::new(state)))
        }
        Order::Written => workbench.image().map(|image| Reply::Written(Box::new(image.written))),
        Order::Image { disk, from } => {
            let image = workbench.image()?;
            disk::part(image.disks.get(disk).ok_or(RigError::Image)?, from)
        }
        Order::Begin { entropy } => {
            guest::add_entropy(&entropy).map_err(RigError::Agent)?;
            Ok(Reply::Kernel { release: workbench.kernel().to_owned() })
        }
        Order::Make(preparation) => workbench.make(&preparation).map(|_| Reply::Done),
        Order::Prepare(preparation) => {
            workbench.prepare(&preparation).map(|state| Reply::State(Box::new(state)))
        }
        Order::Stage => workbench.stage().map(|()| Reply::Done),
        Order::Trial(trial) => {
            let mut broken = None;
            let ended = workbench.run(&trial, &mut |event| {
                if let Err(source) = host.say(&Word::Event(Box::new(event))) {
                    broken = Some(source);
                }
            });
            match broken {
                Some(source) => Err(RigError::Channel { source }),
                None => ended.map(|()| Reply::Done),
            }
        }
        Order::Part { .. } => Err(RigError::Guest("a part of an order is not one".to_owned())),
    }
}

/// The host at the other end of the line.
#[derive(Clone, Debug)]
struct Host(Arc<Mutex<Line>>);

#[derive(Debug)]
struct Line {
    stream: UnixStream,
    /// There is an order, or nobody has heard yet that this guest is up.
    busy: bool,
}

impl Host {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, word: &Word) -> io::Result<()> {
        lines::send(&self.line().stream, word)
    }

    /// The last word for now: the guest may be saved when it is heard, and nothing may be under way then.
    fn reply(&self, reply: Result<Reply, Refusal>) -> io::Result<()> {
        let mut line = self.line();
        line.busy = false;
        lines::send(&line.stream, &Word::Reply(reply))
    }

    /// Says so from now on, while there is an order.
    fn say_alive(&self) {
        let host = self.clone();
        std::thread::spawn(move || {
            loop {
                let line = host.line();
                if line.busy && lines::send(&line.stream, &Word::Alive).is_err() {
                    break;
                }
                drop(line);
                std::thread::sleep(ALIVE);
            }
        });
    }
}
