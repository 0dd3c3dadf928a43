//! The transmission phase: requests out of the input buffer, into the disk.

use std::io::{self, IoSliceMut};
use std::sync::Arc;

use brim_device::fault::{self, Op, RowId};
use brim_device::{Bytes, Nanos};
use nbd_wire::{Answer, Command, CommandFlags, ErrorCode, StatusQuery, Terms};

use super::asked::Asked;
use super::input::Input;
use super::timers::{Due, Timers};
use super::{ConnectionError, OUTPUT_MAX};
use crate::disk::{Data, Disk, End, How, Incoming, PAYLOAD_MAX, Refusal, StatusRequest, Submitted};
use crate::export::Export;
use crate::outbox::Outbox;
use crate::output::Output;
use crate::payload::Payload;
use crate::socket::Wait;
use crate::transport::Transport;

/// Requests whose memory is fetched together.
const PREFETCH: usize = 8;

/// A payload from this length on is received into pages of its own, which become the disk's.
const LARGE: usize = 64 << 10;

/// Pages that are received at once. recvmsg(2) takes 1024 places (`UIO_MAXIOV`, uio.h).
const PAGES_MAX: usize = 256;

/// Bytes behind a large payload that are taken with it: what comes next is likely another, of which this should be the
/// header and little more.
const NEXT: usize = 256;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    NeedsInput,
    OutputFull,
    Closed,
    /// A row of the fault table ended the connection: nothing more is sent.
    Cut,
}

/// A payload that does not go through the input buffer.
enum Large {
    None,
    /// It is collected in pages of its own.
    Collect {
        asked: Asked,
        payload: Payload,
    },
    /// It is longer than any that is served: its bytes go nowhere.
    Drain {
        answer: Answer,
        left: usize,
    },
}

pub(crate) struct Transmission {
    export: Export,
    terms: Terms,
    large: Large,
    /// A request of this connection was held, so that its reply may come from another thread.
    has_held: bool,
    timers: Timers,
    /// Requests that were delayed and are answered: the rows that delayed them, and when they were due.
    answered: Vec<(Vec<RowId>, Nanos)>,
    /// A row of the fault table has ended the connection.
    end: Option<End>,
}

impl Transmission {
    pub(crate) fn new(export: Export, terms: Terms) -> Self {
        Self {
            export,
            terms,
            large: Large::None,
            has_held: false,
            timers: Timers::default(),
            answered: Vec::new(),
            end: None,
        }
    }

    pub(super) const fn timers(&mut self) -> &mut Timers {
        &mut self.timers
    }

    /// Whether nothing but the client can bring this connection on.
    pub(crate) fn waits_for_client(&self) -> bool {
        !self.has_held && self.timers.is_empty()
    }

    /// Does what is due, and tells whether anything was.
    pub(crate) fn run_due(&mut self, outbox: &Arc<Outbox>, output: &mut Output) -> bool {
        let mut any = false;
        while !self.timers.is_empty() && self.end.is_none() && output.pending() < OUTPUT_MAX {
            let Some((at, due)) = self.timers.due(self.export.disk.now()) else {
                break;
            };
            any = true;
            match due {
                Due::Watch(arrival) => self.export.disk.overdue(arrival),
                Due::Request(parked) => {
                    let submitted = self.export.disk.resume(&parked, outbox, output);
                    // What waits for space now is answered when there is some.
                    if !matches!(submitted, Submitted::Held(_)) {
                        self.answered.push((parked.delayed_by(), at));
                    }
                    self.submitted(submitted);
                }
            }
        }
        any
    }

    /// What was answered late is handed to the socket.
    pub(crate) fn sent(&mut self) {
        if self.answered.is_empty() {
            return;
        }
        let now = self.export.disk.now();
        for (_, at) in &mut self.answered {
            *at = Nanos(now.0.saturating_sub(at.0));
        }
        self.export.disk.were_late(&mut self.answered);
    }

    /// A row of the fault table ends the connection by a request that another thread let go.
    pub(super) fn end(&mut self, end: Option<End>) {
        self.end = self.end.or(end);
    }

    /// How the connection ends, if a row of the fault table has ended it.
    const fn ended(&self) -> Option<Progress> {
        match self.end {
            None => None,
            Some(End::Soft) => Some(Progress::Closed),
            Some(End::Hard) => Some(Progress::Cut),
        }
    }

    fn submitted(&mut self, submitted: Submitted) {
        match submitted {
            Submitted::Done => {}
            Submitted::Held(watch) => {
                self.has_held = true;
                if let Some(watch) = watch {
                    self.timers.watch(watch);
                }
            }
            Submitted::Delayed(parked) => self.timers.request(parked),
            Submitted::Ends(end) => self.end = Some(end),
        }
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.export.disk
    }

    pub(crate) fn process(
        &mut self,
        input: &mut Input,
        outbox: &Arc<Outbox>,
        output: &mut Output,
    ) -> Result<Progress, ConnectionError> {
        let mut prefetched = 0;
        while output.pending() < OUTPUT_MAX {
            if let Some(ended) = self.ended() {
                return Ok(ended);
            }
            if !self.large_is_done(input, outbox, output) {
                return Ok(Progress::NeedsInput);
            }
            if prefetched == 0 {
                prefetched = self.prefetch(input.bytes());
            }
            prefetched = prefetched.saturating_sub(1);
            let Some(asked) = Asked::parse(self.terms.headers, input.bytes())? else {
                return Ok(Progress::NeedsInput);
            };
            if asked.command == Command::Disconnect {
                return Ok(Progress::Closed);
            }
            let Some(whole) = asked.header.checked_add(asked.payload).filter(|_| asked.payload < LARGE)
            else {
                input.consume(asked.header);
                self.large = Large::of(asked);
                continue;
            };
            let Some(message) = input.bytes().get(..whole) else {
                return Ok(Progress::NeedsInput);
            };
            self.run(&asked, Data::Bytes(&message[asked.header..]), outbox, output);
            input.consume(whole);
        }
        Ok(self.ended().unwrap_or(Progress::OutputFull))
    }

    /// Has the memory fetched that the next requests need, and answers how many that are.
    fn prefetch(&self, mut input: &[u8]) -> usize {
        let mut offsets = [Bytes::ZERO; PREFETCH];
        let mut count = 0;
        while let Some(slot) = offsets.get_mut(count)
            && let Ok(Some(asked)) = Asked::parse(self.terms.headers, input)
        {
            *slot = Bytes(asked.answer.offset);
            count += 1;
            input = input.get(asked.header.saturating_add(asked.payload)..).unwrap_or_default();
        }
        // One alone does not wait beside another.
        if count > 1 {
            self.disk().prefetch(&offsets[..count]);
        }
        count
    }

    /// Takes what the socket has, past the input buffer when a large payload is under way.
    pub(crate) fn receive(
        &mut self,
        input: &mut Input,
        socket: &mut Transport,
        wait: Wait,
    ) -> io::Result<Option<usize>> {
        let Large::Collect { payload, .. } = &mut self.large else {
            return input.receive(socket, wait);
        };
        let missing = payload.missing();
        let mut places = payload.room(PAGES_MAX);
        if missing <= places.iter().map(|place| place.len()).sum() {
            places.push(IoSliceMut::new(input.spare(NEXT)));
        }
        let received = socket.try_receive_into(&mut places, wait)?;
        let count = received.unwrap_or(0);
        payload.arrived(count);
        input.took(count.saturating_sub(missing));
        Ok(received)
    }

    /// Moves on with a large payload; false when it needs more input.
    fn large_is_done(&mut self, input: &mut Input, outbox: &Arc<Outbox>, output: &mut Output) -> bool {
        match &mut self.large {
            Large::None => return true,
            Large::Drain { answer, left } => {
                let here = input.bytes().len().min(*left);
                input.consume(here);
                *left -= here;
                if *left > 0 {
                    return false;
                }
                let why = "the payload is longer than any this server serves";
                Refusal::new(ErrorCode::Einval, why).put(*answer, output.bytes());
            }
            Large::Collect { payload, .. } => {
                if !input.bytes().is_empty() {
                    let here = payload.fill(input.bytes());
                    input.consume(here);
                }
                if payload.missing() > 0 {
                    return false;
                }
            }
        }
        if let Large::Collect { asked, payload } = std::mem::replace(&mut self.large, Large::None) {
            self.run(&asked, Data::Pages(&payload), outbox, output);
        }
        true
    }

    fn run(&mut self, asked: &Asked, data: Data<'_>, outbox: &Arc<Outbox>, output: &mut Output) {
        let refuse = |error, why, output: &mut Output| {
            Refusal::new(error, why).put(asked.answer, output.bytes());
        };
        if let Err(error) = asked.checked {
            return refuse(error, "the server does not know the command, or a flag with it", output);
        }
        // Of a query for block status, the length may be in the payload.
        let misfit = || self.export.options.misfit(asked.command, asked.answer.offset, asked.length.0);
        if asked.command != Command::BlockStatus
            && let Some(why) = misfit()
        {
            return refuse(ErrorCode::Einval, why, output);
        }
        let op = match asked.command {
            Command::Read => Op::Read,
            Command::Write => Op::Write,
            Command::Flush => Op::Flush,
            Command::Trim => Op::Trim,
            Command::WriteZeroes => Op::Zeroes,
            Command::Cache => {
                return self.disk().cache(asked.answer, asked.length, output.bytes());
            }
            Command::BlockStatus => return self.block_status(asked, data.bytes(), output),
            _ => return refuse(ErrorCode::Einval, "the server does not know the command", output),
        };
        // "It SHOULD return NBD_EPERM if it receives a write or trim request on a read-only export" (proto.md, "Error
        // values"), and for zeroes the same.
        if self.export.options.read_only && matches!(op, Op::Write | Op::Trim | Op::Zeroes) {
            return refuse(ErrorCode::Eperm, "the export is read-only", output);
        }
        // "For a flush request, length and offset are reserved, and MUST be set to all-zero" is for clients; a server
        // has no use for them.
        let (offset, len) = match op {
            Op::Flush => (Bytes::ZERO, Bytes::ZERO),
            _ => (Bytes(asked.answer.offset), asked.length),
        };
        let fragment = !asked.flags.contains(CommandFlags::DF);
        let no_hole = asked.flags.contains(CommandFlags::NO_HOLE);
        let fua = asked.flags.contains(CommandFlags::FUA);
        let chunk_max = self.export.options.chunk_max();
        let how = How { answer: asked.answer, fragment, chunk_max, no_hole, fua };
        let incoming = Incoming { request: fault::Request { op, offset, len, fua }, data, how };
        let submitted = self.export.disk.submit(&incoming, outbox, output);
        self.submitted(submitted);
    }

    fn block_status(&self, asked: &Asked, data: &[u8], output: &mut Output) {
        let query = if asked.flags.contains(CommandFlags::PAYLOAD_LEN) {
            pick(data, &self.terms.contexts)
        } else {
            Some(StatusQuery { length: asked.length.0, contexts: self.terms.contexts.clone() })
        };
        let Some(StatusQuery { length, contexts }) = query else {
            let why = "the payload does not pick contexts that were selected";
            return Refusal::new(ErrorCode::Einval, why).put(asked.answer, output.bytes());
        };
        if let Some(why) = self.export.options.misfit(asked.command, asked.answer.offset, length) {
            return Refusal::new(ErrorCode::Einval, why).put(asked.answer, output.bytes());
        }
        let (len, contexts) = (Bytes(length), &contexts);
        let one = asked.flags.contains(CommandFlags::REQ_ONE);
        let offset = Bytes(asked.answer.offset);
        let chunk_max = self.export.options.chunk_max();
        let request = StatusRequest { answer: asked.answer, offset, len, one, chunk_max, contexts };
        self.disk().block_status(&request, output.bytes());
    }
}

/// What the payload of a query for block status asks for; `None` when it is malformed, or has "duplicate or unknown
/// metacontext ids" (proto.md of extension-ext-header, "`NBD_CMD_BLOCK_STATUS`").
fn pick(payload: &[u8], selected: &[u32]) -> Option<StatusQuery> {
    // Longer than that it names one of them twice, or another.
    let longest = 8 + 4 * selected.len();
    let query = StatusQuery::parse(Some(payload).filter(|payload| payload.len() <= longest)?)?;
    let once = |(index, id): (usize, &u32)| selected.contains(id) && !query.contexts[..index].contains(id);
    let all = query.contexts.iter().enumerate().all(once);
    all.then_some(query)
}

impl Large {
    fn of(asked: Asked) -> Self {
        // Of the other commands with a payload none has use for a long one.
        if Bytes::of_len(asked.payload) > PAYLOAD_MAX || asked.command != Command::Write {
            Self::Drain { answer: asked.answer, left: asked.payload }
        } else {
            let payload = Payload::new(Bytes(asked.answer.offset), asked.payload);
            Self::Collect { asked, payload }
        }
    }
}
