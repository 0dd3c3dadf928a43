//! The other end of a control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use brim_device::control::{Answer, Order, Refusal, Reply};

/// Why an order has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The server did not carry it out.
    #[error(transparent)]
    Refused(Refusal),
    /// The server has gone, or the socket is none.
    #[error("the control socket broke off")]
    Broken(#[from] io::Error),
    /// What came back is no reply to it.
    #[error("the answer is not one of brim's: {0}")]
    NotAReply(String),
}

/// A client of a control socket. Orders are carried out one after the other.
#[derive(Debug)]
pub struct ControlClient {
    stream: BufReader<UnixStream>,
    next_id: u64,
}

impl ControlClient {
    /// Connects to the control socket at `path`.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(path)?), next_id: 1 })
    }

    /// Has an order carried out. A number is given to it unless it has one.
    ///
    /// # Errors
    ///
    /// When it was refused, or there is no answer.
    pub fn ask(&mut self, mut order: Order) -> Result<Answer, AskError> {
        let id = *order.id.get_or_insert(self.next_id);
        self.next_id += 1;
        let line = self.ask_line(&order.to_line())?;
        let reply = Reply::parse(line.as_bytes()).map_err(AskError::NotAReply)?;
        if reply.id != Some(id) {
            return Err(AskError::NotAReply(format!("it is for {:?}, not for {id}", reply.id)));
        }
        reply.result.map_err(AskError::Refused)
    }

    /// Sends a line as it is, with its end, and answers the line that comes back.
    ///
    /// # Errors
    ///
    /// When the server has gone.
    pub fn ask_line(&mut self, line: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
        }
        Ok(answer)
    }
}
