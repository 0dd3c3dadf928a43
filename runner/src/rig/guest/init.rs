//! Process 1 of a guest: the workbench of a host, told what to do over a serial line.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use brim_agent::protocol::{self as lines, Lines};
use brim_agent::{Failure, guest};

use super::protocol::{Order, Refusal, Reply, Word};
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
    let broken = |error: std::io::Error| Failure::new("listen to the host", error.to_string());
    let host = Host(Arc::new(Mutex::new(channel.try_clone().map_err(broken)?)));
    let interrupt = Interrupt::take_over().map_err(broken)?;
    let mut workbench = Workbench::new(interrupt, Link::Nbd);
    host.say_alive();
    let mut orders = Lines::new(channel);
    while let Some(order) = orders.receive().map_err(broken)? {
        let reply = carry_out(&mut workbench, order, &host).map_err(Refusal::from);
        host.say(&Word::Reply(reply)).map_err(broken)?;
    }
    Ok(())
}

fn carry_out(workbench: &mut Workbench, order: Order, host: &Host) -> Result<Reply, RigError> {
    match order {
        Order::Begin { entropy } => {
            guest::add_entropy(&entropy).map_err(RigError::Agent)?;
            Ok(Reply::Kernel { release: workbench.kernel().to_owned() })
        }
        Order::Prepare(preparation) => workbench.prepare(&preparation).map(Reply::Counters),
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
    }
}

/// The host at the other end of the line.
#[derive(Clone, Debug)]
struct Host(Arc<Mutex<UnixStream>>);

impl Host {
    fn say(&self, word: &Word) -> std::io::Result<()> {
        lines::send(&self.0.lock().unwrap_or_else(PoisonError::into_inner), word)
    }

    /// Says so from now on, whatever else goes on.
    fn say_alive(&self) {
        let host = self.clone();
        std::thread::spawn(move || {
            while host.say(&Word::Alive).is_ok() {
                std::thread::sleep(ALIVE);
            }
        });
    }
}
