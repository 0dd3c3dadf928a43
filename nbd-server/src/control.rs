//! The control socket: orders about the disks of a running server, as JSON lines on a UNIX socket
//! ([`brim_device::control`] has the words).
//!
//! Each client has a thread, which carries out one order after the other and answers in that order. A client that waits,
//! for a gate or for delayed requests, holds up nobody else.

mod client;
mod host;
mod lines;
mod orders;

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use brim_device::control::{LINE_MAX, Order, Refusal, Reply};

use crate::lock;
use crate::server::Door;
use crate::socket::Socket;
pub use client::{AskError, ControlClient};
pub use host::Host;
pub(crate) use host::Slot;
use lines::{Line, Lines};

/// The threads of the clients.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<Threads>);

#[derive(Debug, Default)]
struct Threads {
    running: Vec<(Arc<Socket>, JoinHandle<()>)>,
    stopped: bool,
}

impl Clients {
    pub(crate) fn start(&self, socket: Socket, door: Door) -> io::Result<()> {
        let mut threads = lock(&self.0);
        if threads.stopped {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the server was shut down"));
        }
        threads.running.retain(|(_, thread)| !thread.is_finished());
        let socket = Arc::new(socket);
        let served = Arc::clone(&socket);
        let client = move || {
            // The client sees its end, and there is nobody else to tell.
            let _client_broke_off = serve(&served, &door);
            // `Clients` may keep the descriptor for a while yet.
            served.shutdown();
        };
        let thread = thread::Builder::new().name("nbd control".to_owned()).spawn(client)?;
        threads.running.push((socket, thread));
        Ok(())
    }

    /// Breaks all clients off and waits for their threads.
    pub(crate) fn shutdown(&self) {
        let running = {
            let mut threads = lock(&self.0);
            threads.stopped = true;
            std::mem::take(&mut threads.running)
        };
        for (socket, _) in &running {
            socket.shutdown();
        }
        for (_, thread) in running {
            // A thread that panicked has told so on stderr.
            let _panicked = thread.join();
        }
    }
}

/// Carries out what one client orders, until it goes.
fn serve(socket: &Socket, door: &Door) -> io::Result<()> {
    let mut lines = Lines::new(socket);
    while let Some(line) = lines.next()? {
        let reply = match line {
            Line::Whole(text) if text.trim_ascii().is_empty() => continue,
            Line::Whole(text) => answer(text, socket, door),
            Line::TooLong => Some(too_long()),
        };
        let Some(reply) = reply else { return Ok(()) };
        socket.send_all(reply.to_line().as_bytes())?;
    }
    Ok(())
}

fn answer(line: &[u8], socket: &Socket, door: &Door) -> Option<Reply> {
    match Order::parse(line) {
        Ok(order) => {
            let id = order.id;
            orders::carry_out(order, door, socket).map(|result| Reply { id, result })
        }
        Err(reply) => Some(reply),
    }
}

fn too_long() -> Reply {
    let refusal = Refusal::new(format!("the line is longer than {LINE_MAX} bytes"));
    Reply { id: None, result: Err(refusal.hint("a command is one line; lists can be sent in several")) }
}
