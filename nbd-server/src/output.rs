//! Replies on their way out: bytes, and pages of the disk that are sent from where they are.

use std::io::{self, IoSlice};
use std::ops::Range;

use brim_device::{Bytes, Page};
use nbd_wire::Sink;

use crate::transport::Transport;

/// Pieces handed to the kernel at once; sendmsg(2) takes 1024 (`UIO_MAXIOV`, uio.h). With this many, a read of 256 KiB
/// goes in one call.
const GATHER_MAX: usize = 128;

/// Data up to this length is copied: a piece of its own costs the kernel as much.
const COPY_MAX: usize = 512;

/// After replies that took more than this, their buffer is given back.
const KEPT_MAX: usize = 1 << 20;

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// The stream to the client from the first byte that is not sent yet.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    /// What goes out between the bytes, in order.
    splices: Vec<Splice>,
    /// Of `bytes`, of `splices` as a whole, and of the splice after those.
    sent: Position,
    /// Bytes in all that are not sent.
    pending: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Position {
    bytes: usize,
    splices: usize,
    within: usize,
}

#[derive(Debug)]
struct Splice {
    /// How many of the bytes go first.
    at: usize,
    what: Spliced,
}

#[derive(Debug)]
enum Spliced {
    Page(Page, Range<usize>),
    Zeroes(usize),
}

impl Spliced {
    fn len(&self) -> usize {
        match self {
            Self::Page(_, range) => range.len(),
            Self::Zeroes(len) => *len,
        }
    }

    /// As much of it from `start` on as lies together.
    fn from(&self, start: usize) -> &[u8] {
        match self {
            Self::Page(page, range) => &page[range.start + start..range.end],
            Self::Zeroes(len) => &ZEROES[..ZEROES.len().min(len - start)],
        }
    }
}

impl Output {
    /// Bytes that are not sent.
    pub(crate) fn pending(&self) -> usize {
        self.pending + self.bytes.len() - self.sent.bytes
    }

    /// The end of the stream, for what is in one piece.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes all that is not sent, in one piece.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut flat = Vec::with_capacity(self.pending());
        let mut at = self.sent;
        while let Some(slice) = self.next(&mut at) {
            flat.extend_from_slice(slice);
        }
        self.clear();
        flat
    }

    /// Sends what the socket takes without waiting.
    pub(crate) fn send(&mut self, socket: &mut Transport) -> io::Result<()> {
        socket.flush()?;
        while self.pending() > 0 {
            let mut pieces = [IoSlice::new(&[]); GATHER_MAX];
            let mut count = 0;
            let mut at = self.sent;
            while let Some(slot) = pieces.get_mut(count)
                && let Some(next) = self.next(&mut at)
            {
                *slot = IoSlice::new(next);
                count += 1;
            }
            let Some(sent) = socket.try_send(&pieces[..count])? else {
                self.forget_sent();
                return Ok(());
            };
            self.advance(sent);
        }
        self.clear();
        Ok(())
    }

    /// Lets go of what is sent, once it is most of what is kept: with a client that is always behind there is never a moment
    /// when all is sent, and the pages would be kept from their disk.
    fn forget_sent(&mut self) {
        let most = |sent: usize, kept: usize| sent > 0 && sent * 2 >= kept;
        if most(self.sent.splices, self.splices.len()) || most(self.sent.bytes, self.bytes.len()) {
            self.splices.drain(..self.sent.splices);
            self.bytes.drain(..self.sent.bytes);
            for splice in &mut self.splices {
                splice.at -= self.sent.bytes;
            }
            self.sent.bytes = 0;
            self.sent.splices = 0;
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_MAX);
        self.splices.clear();
        self.splices.shrink_to(KEPT_MAX / size_of::<Splice>());
        self.sent = Position::default();
        self.pending = 0;
    }

    /// The piece at a position, which moves past it.
    fn next(&self, at: &mut Position) -> Option<&[u8]> {
        let splice = self.splices.get(at.splices);
        let until = splice.map_or(self.bytes.len(), |splice| splice.at);
        if at.bytes < until {
            let piece = &self.bytes[at.bytes..until];
            at.bytes = until;
            return Some(piece);
        }
        let what = &splice?.what;
        let piece = what.from(at.within);
        at.within += piece.len();
        if at.within == what.len() {
            at.within = 0;
            at.splices += 1;
        }
        Some(piece)
    }

    /// So many more bytes are sent.
    fn advance(&mut self, mut sent: usize) {
        while sent > 0 {
            let splice = self.splices.get(self.sent.splices);
            let bytes = splice.map_or(self.bytes.len(), |splice| splice.at) - self.sent.bytes;
            if bytes > 0 {
                let here = bytes.min(sent);
                self.sent.bytes += here;
                sent -= here;
                continue;
            }
            let Some(Splice { what, .. }) = splice else {
                return;
            };
            let here = sent.min(what.len() - self.sent.within);
            self.sent.within += here;
            self.pending -= here;
            sent -= here;
            if self.sent.within == what.len() {
                self.sent.within = 0;
                self.sent.splices += 1;
            }
        }
    }

    fn splice(&mut self, what: Spliced) {
        self.pending += what.len();
        self.splices.push(Splice { at: self.bytes.len(), what });
    }
}

impl Sink for Output {
    type Data<'a> = (&'a Page, Range<usize>);

    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn length((_, range): &Self::Data<'_>) -> u64 {
        Bytes::of_len(range.len()).0
    }

    fn data(&mut self, (page, range): Self::Data<'_>) {
        if range.len() <= COPY_MAX {
            self.bytes.extend_from_slice(&page[range]);
        } else {
            self.splice(Spliced::Page(page.clone(), range));
        }
    }

    fn zeroes(&mut self, length: u64) {
        let length = Bytes(length).to_len().unwrap_or(usize::MAX);
        if length <= COPY_MAX {
            self.bytes.resize(self.bytes.len() + length, 0);
        } else {
            self.splice(Spliced::Zeroes(length));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const ROUNDS: u8 = 200;
    const PAGES: usize = 64;

    fn page(byte: u8) -> Page {
        let mut page = Page::scratch();
        page.get_mut().unwrap().fill(byte);
        page
    }

    /// For a client that never has taken all there is: what it took is let go of.
    #[test]
    fn what_is_sent_is_not_kept_for_what_is_not() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut transport = Transport::new(Arc::new(ours.into()));
        let mut output = Output::default();
        let (mut taken, mut buffer) = (0, vec![0; PAGES * Page::LEN]);
        for round in 0..ROUNDS {
            output.bytes().extend_from_slice(&[round; 16]);
            let page = page(round);
            for _ in 0..PAGES {
                output.data((&page, 0..Page::LEN));
            }
            while output.pending() > 1 << 20 {
                output.send(&mut transport).unwrap();
                taken += theirs.read(&mut buffer).unwrap();
            }
            assert!(output.splices.len() <= 10 * PAGES && output.bytes.len() <= 10 * 16);
        }
        assert!(taken > 0 && output.pending() > 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Bytes(Vec<u8>),
        Page(u8, usize, usize),
        Zeroes(u64),
        Take(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
            (any::<u8>(), 0..4096usize, 0..4096usize).prop_map(|(byte, a, b)| Step::Page(
                byte,
                a.min(b),
                a.max(b)
            )),
            (0..200_000u64).prop_map(Step::Zeroes),
            (0..300_000usize).prop_map(Step::Take),
        ]
    }

    proptest! {
        /// For all that is put in, in whatever pieces the client takes it: it gets the same bytes in the same order.
        #[test]
        fn the_stream_is_what_was_put_in(steps in prop::collection::vec(step(), 0..60)) {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.set_nonblocking(true).unwrap();
            let mut transport = Transport::new(Arc::new(ours.into()));
            let mut output = Output::default();
            let (mut wanted, mut got) = (Vec::new(), Vec::new());
            let mut take = |count: usize, got: &mut Vec<u8>| {
                let mut buffer = vec![0; count];
                if let Ok(count) = theirs.read(&mut buffer) {
                    got.extend_from_slice(&buffer[..count]);
                }
            };
            for step in steps {
                match step {
                    Step::Bytes(bytes) => {
                        wanted.extend_from_slice(&bytes);
                        output.bytes().extend_from_slice(&bytes);
                    }
                    Step::Page(byte, start, end) => {
                        wanted.resize(wanted.len() + end - start, byte);
                        output.data((&page(byte), start..end));
                    }
                    Step::Zeroes(count) => {
                        wanted.resize(wanted.len() + usize::try_from(count).unwrap(), 0);
                        output.zeroes(count);
                    }
                    Step::Take(count) => {
                        output.send(&mut transport).unwrap();
                        take(count, &mut got);
                    }
                }
            }
            while output.pending() > 0 {
                output.send(&mut transport).unwrap();
                take(1 << 20, &mut got);
            }
            while got.len() < wanted.len() {
                take(1 << 20, &mut got);
            }
            prop_assert!(got == wanted);
        }
    }
}
