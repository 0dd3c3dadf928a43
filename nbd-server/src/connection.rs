//! One connection, one thread: take all that has arrived, run it, answer in one go.
//!
//! The thread waits in recv(2) while its client is all that can move it, else in poll(2) for its socket and its outbox, so that
//! a held request never stops it.

mod asked;
mod input;
mod timers;
mod transmission;

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;

use brim_device::{Bytes, Nanos};
use nbd_wire::{Outcome, ServerHandshake, ServerHandshakeError, TlsPolicy};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::export::ExportList;
use crate::outbox::Outbox;
use crate::output::Output;
use crate::socket::{Socket, Wait};
use crate::tls::Tls;
use crate::transport::Transport;
use input::Input;
use transmission::{Progress, Transmission};

/// With this many bytes of replies unsent, no further request is looked at.
const OUTPUT_MAX: usize = 256 << 10;

/// Why a connection ended otherwise than by the client's wish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Handshake(#[from] ServerHandshakeError),
    #[error(transparent)]
    OutOfStep(#[from] nbd_wire::BadRequestMagic),
    #[error("the client announces a payload of {length}")]
    PayloadTooLong { length: Bytes },
    #[error("the socket failed")]
    Socket(#[from] io::Error),
}

/// What poll(2) found.
struct Ready {
    input: bool,
    bell: bool,
}

enum Phase {
    Handshake(ServerHandshake),
    Transmission(Transmission),
    /// Nothing more is read; what is owed is sent.
    Closing,
}

/// The state of one connection.
pub(crate) struct Connection {
    socket: Transport,
    tls: Option<Tls>,
    exports: ExportList,
    outbox: Arc<Outbox>,
    input: Input,
    output: Output,
    phase: Phase,
}

impl Connection {
    pub(crate) fn new(
        socket: Arc<Socket>,
        tls: Option<Tls>,
        exports: ExportList,
        outbox: Arc<Outbox>,
    ) -> Self {
        let mut output = Output::default();
        ServerHandshake::greet(output.bytes());
        let policy = tls.as_ref().map_or(TlsPolicy::Off, Tls::policy);
        let phase = Phase::Handshake(ServerHandshake::with_tls(policy));
        let socket = Transport::new(socket);
        Self { socket, tls, exports, outbox, input: Input::new(), output, phase }
    }

    /// Serves until the client leaves, breaks the protocol, or the server stops. Held requests of this connection are
    /// forgotten then.
    pub(crate) fn serve(mut self) -> Result<(), ConnectionError> {
        // By default the kernel may wake a thread 50 us late (PR_SET_TIMERSLACK of prctl(2)), which delays would then be. One
        // that refuses leaves them as late as that.
        let _later_only = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let result = self.turn();
        if result.is_err() {
            // Best effort: the client may still want to know what was answered before it broke the protocol.
            let _client_gone = self.output.send(&mut self.socket);
        }
        result
    }

    fn turn(&mut self) -> Result<(), ConnectionError> {
        loop {
            self.run_due();
            let progress = self.process()?;
            if progress == Progress::Cut {
                // What was answered before is answered, as far as the client takes it now.
                let _client_gone = self.output.send(&mut self.socket);
                return Ok(());
            }
            self.output.send(&mut self.socket)?;
            if let Phase::Transmission(transmission) = &mut self.phase {
                transmission.sent();
            }
            let room = self.output.pending() < OUTPUT_MAX;
            match progress {
                Progress::OutputFull if room => continue,
                Progress::Closed if self.output.pending() == 0 && !self.socket.wants_write() => return Ok(()),
                _ => {}
            }
            if self.only_input_can_come(progress) {
                match self.receive(Wait::Yes)? {
                    Some(0) => self.close(),
                    Some(_) => {}
                    // A socket that was made not to wait, by whoever handed it over, is waited for below.
                    None => _ = self.wait(true)?,
                }
                continue;
            }
            let ready = self.wait(room && progress != Progress::Closed)?;
            if ready.bell && !self.collect() {
                return Ok(());
            }
            if ready.input && self.receive(Wait::No)? == Some(0) {
                self.close();
            }
        }
    }

    /// Does what is due, once it is due: a thread that the kernel woke a little early stays awake for it.
    fn run_due(&mut self) {
        if let Phase::Transmission(transmission) = &mut self.phase
            && !transmission.timers().is_empty()
            && self.output.pending() < OUTPUT_MAX
        {
            let disk = transmission.disk().clone();
            while transmission.timers().is_near(disk.now()) {
                std::hint::spin_loop();
            }
            transmission.run_due(&self.outbox, &mut self.output);
        }
    }

    /// Takes what other threads have left; false when the connection is to end.
    fn collect(&mut self) -> bool {
        let Some((delayed, end)) = self.outbox.collect(self.output.bytes()) else {
            return false;
        };
        if let Phase::Transmission(transmission) = &mut self.phase {
            for parked in delayed {
                transmission.timers().request(parked);
            }
            transmission.end(end);
        }
        true
    }

    /// Runs what is in the input buffer, until it needs more input or the output is full.
    fn process(&mut self) -> Result<Progress, ConnectionError> {
        loop {
            match &mut self.phase {
                Phase::Closing => return Ok(Progress::Closed),
                Phase::Transmission(transmission) => {
                    let progress = transmission.process(&mut self.input, &self.outbox, &mut self.output)?;
                    if matches!(progress, Progress::Closed) {
                        self.close();
                    }
                    return Ok(progress);
                }
                Phase::Handshake(handshake) => {
                    let received = handshake.receive(self.input.bytes(), &self.exports, self.output.bytes());
                    let (used, outcome) = received?;
                    self.input.consume(used);
                    match outcome {
                        Outcome::More => return Ok(Progress::NeedsInput),
                        Outcome::StartTls => self.start_tls()?,
                        Outcome::Aborted => self.close(),
                        Outcome::Transmission(found, terms) => {
                            self.phase = Phase::Transmission(Transmission::new(found.export, terms));
                        }
                    }
                }
            }
        }
    }

    /// No byte that arrived in the clear is left in the input: the handshake makes sure of it.
    fn start_tls(&mut self) -> io::Result<()> {
        let tls = self.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        self.socket.start_tls(tls, self.output.take())
    }

    /// The client wants no more: what it is owed is sent, and what it has held is forgotten, since nobody would take
    /// the answer.
    fn close(&mut self) {
        self.forget_held();
        self.phase = Phase::Closing;
    }

    fn forget_held(&self) {
        if let Phase::Transmission(transmission) = &self.phase {
            transmission.disk().forget(&self.outbox);
        }
    }

    /// Whether nothing is unsent and no reply can come from another thread, so that waiting for the client is waiting for
    /// all there is. [`Outbox::stop`] ends that wait as well.
    fn only_input_can_come(&self, progress: Progress) -> bool {
        let none_held = match &self.phase {
            Phase::Transmission(transmission) => transmission.waits_for_client(),
            Phase::Handshake(_) => true,
            Phase::Closing => false,
        };
        matches!(progress, Progress::NeedsInput)
            && none_held
            && self.output.pending() == 0
            && self.socket.is_in_the_clear()
    }

    /// `None` when there was nothing after all.
    fn receive(&mut self, wait: Wait) -> io::Result<Option<usize>> {
        match &mut self.phase {
            Phase::Transmission(transmission) => {
                transmission.receive(&mut self.input, &mut self.socket, wait)
            }
            Phase::Handshake(_) | Phase::Closing => self.input.receive(&mut self.socket, wait),
        }
    }

    /// Waits for the bell, for room in the socket when something is unsent, for input when it is wanted, and for what is due.
    fn wait(&mut self, want_input: bool) -> io::Result<Ready> {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, want_input);
        events.set(PollFlags::OUT, self.output.pending() > 0 || self.socket.wants_write());
        let here = want_input && self.socket.has_input();
        let room = self.output.pending() < OUTPUT_MAX;
        let (asked, limit) = self.limit(here, room);
        let mut fds = [PollFd::new(&self.socket, events), PollFd::new(self.outbox.bell(), PollFlags::IN)];
        let found = match poll(&mut fds, limit.as_ref()) {
            // What is due may have become so meanwhile.
            Err(Errno::INTR) => return Ok(Ready { input: false, bell: false }),
            Err(error) => return Err(error.into()),
            Ok(found) => found,
        };
        let [socket, bell] = fds.map(|fd| fd.revents());
        if let (Phase::Transmission(transmission), Some(asked), 0) = (&mut self.phase, asked, found) {
            let now = transmission.disk().now();
            transmission.timers().woken(asked, now);
        }
        let input = here || want_input && socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        Ok(Ready { input, bell: !bell.is_empty() })
    }

    /// How long poll(2) may wait, and until when that is by the clock of the disk.
    fn limit(&mut self, here: bool, room: bool) -> (Option<Nanos>, Option<Timespec>) {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        if here {
            return (None, Some(AT_ONCE));
        }
        let Phase::Transmission(transmission) = &mut self.phase else {
            return (None, None);
        };
        // What is due has to wait until there is room for its reply.
        if !room || transmission.timers().is_empty() {
            return (None, None);
        }
        let now = transmission.disk().now();
        let sleep = transmission.timers().sleep(now).unwrap_or_default();
        let limit = Timespec::try_from(std::time::Duration::from(sleep)).unwrap_or(AT_ONCE);
        (now.checked_add(sleep), Some(limit))
    }
}

impl Drop for Connection {
    /// However it ends: no request stays held for a client that has gone.
    fn drop(&mut self) {
        self.forget_held();
        self.socket.shutdown();
    }
}
