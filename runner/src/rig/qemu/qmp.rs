//! QMP, over which QEMU is told what to do and tells what happens (QEMU's docs/interop/qmp-spec.rst: JSON lines).
//!
//! By hand: crate `qapi` has types for the whole schema, was last released in 2024, and cannot hand a descriptor over; brim
//! says six commands.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};

use crate::rig::readable;

/// How long QEMU may take to answer. It answers at once where the host is not overloaded.
const LIMIT: Duration = Duration::from_secs(30);

/// Why QEMU did not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    /// It said no.
    #[error("{command} is refused: {why}")]
    Refused { command: String, why: String },
    /// It said nothing.
    #[error("no answer within {} s", LIMIT.as_secs())]
    Silent,
    /// It is not there any more.
    #[error("QEMU is gone")]
    Gone,
    /// It said something that is not QMP.
    #[error("{line:?} is not QMP")]
    Garbled { line: String },
    /// The socket failed.
    #[error("the channel to QEMU failed")]
    Channel { source: io::Error },
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: Value,
}

/// One line of QEMU's.
#[derive(Debug, PartialEq)]
enum Said {
    Greeting,
    Return(Value),
    Error(String),
    Event(Event),
}

impl Said {
    fn parse(line: &[u8]) -> Result<Self, QmpError> {
        let garbled = || QmpError::Garbled { line: String::from_utf8_lossy(line).into_owned() };
        let mut value: Value = serde_json::from_slice(line).map_err(|_| garbled())?;
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        if let Some(value) = value.get_mut("return") {
            return Ok(Self::Return(value.take()));
        }
        if let Some(why) = value.pointer("/error/desc") {
            return text(why).map(Self::Error).ok_or_else(garbled);
        }
        if let Some(name) = value.get("event").and_then(text) {
            let data = value.get_mut("data").map_or(Value::Null, Value::take);
            return Ok(Self::Event(Event { name, data }));
        }
        value.get("QMP").map(|_| Self::Greeting).ok_or_else(garbled)
    }
}

/// The channel to one QEMU.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: UnixStream,
    received: VecDeque<u8>,
    events: VecDeque<Event>,
}

impl Qmp {
    /// Waits for QEMU's greeting on `stream` and answers it.
    pub(super) fn greet(stream: UnixStream) -> Result<Self, QmpError> {
        let mut qmp = Self { stream, received: VecDeque::new(), events: VecDeque::new() };
        match qmp.hear(Instant::now() + LIMIT)? {
            Some(Said::Greeting) => {}
            Some(other) => return Err(QmpError::Garbled { line: format!("{other:?}") }),
            None => return Err(QmpError::Silent),
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Has QEMU do something, and waits until it has.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        self.say(command, arguments, &[])
    }

    /// Gives QEMU a descriptor, which it knows by `name` from then on.
    pub(super) fn hand_over(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.say("getfd", &json!({ "fdname": name }), &[fd]).map(drop)
    }

    /// The next event that has not been taken yet, where one comes within `limit`.
    pub(super) fn event(&mut self, limit: Duration) -> Result<Option<Event>, QmpError> {
        let until = Instant::now() + limit;
        while self.events.is_empty() {
            match self.hear(until)? {
                Some(Said::Event(event)) => self.events.push_back(event),
                Some(other) => return Err(QmpError::Garbled { line: format!("{other:?}") }),
                None => break,
            }
        }
        Ok(self.events.pop_front())
    }

    fn say(&mut self, command: &str, arguments: &Value, fds: &[BorrowedFd<'_>]) -> Result<Value, QmpError> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(QmpError::Channel { source: io::Error::other("one descriptor at a time") });
        }
        // A line is far smaller than the buffer of a socket, so it goes as a whole.
        let sent = [IoSlice::new(line.as_bytes())];
        match rustix::net::sendmsg(self.stream.as_fd(), &sent, &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(_) => {}
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Err(QmpError::Gone),
            Err(errno) => return Err(QmpError::Channel { source: errno.into() }),
        }
        let until = Instant::now() + LIMIT;
        loop {
            match self.hear(until)? {
                Some(Said::Return(value)) => return Ok(value),
                Some(Said::Error(why)) => {
                    return Err(QmpError::Refused { command: command.to_owned(), why });
                }
                Some(Said::Event(event)) => self.events.push_back(event),
                Some(Said::Greeting) => {}
                None => return Err(QmpError::Silent),
            }
        }
    }

    /// The next line, where one comes until then.
    fn hear(&mut self, until: Instant) -> Result<Option<Said>, QmpError> {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Said::parse(&line).map(Some);
            }
            let channel = |source| QmpError::Channel { source };
            let left = until.saturating_duration_since(Instant::now());
            if !readable(&self.stream, left).map_err(channel)? {
                if Instant::now() >= until {
                    return Ok(None);
                }
                continue;
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(QmpError::Gone),
                Ok(count) => self.received.extend(buffer.iter().take(count)),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => return Err(QmpError::Gone),
                    _ => return Err(channel(error)),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::*;

    // Lines as QEMU 7.2 says them.
    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2"}, "capabilities": ["oob"]}}"#;
    const RESET: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;
    const STOP: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#;

    fn reset() -> Event {
        Event { name: "SHUTDOWN".to_owned(), data: json!({ "guest": true, "reason": "guest-reset" }) }
    }

    #[test]
    fn every_kind_of_line_is_told_apart() {
        let parse = |line: &str| Said::parse(line.as_bytes()).unwrap();
        assert_eq!(parse(GREETING), Said::Greeting);
        assert_eq!(
            parse(r#"{"return": {"status": "running"}}"#),
            Said::Return(json!({ "status": "running" }))
        );
        let refused = r#"{"error": {"class": "GenericError", "desc": "no such fd"}}"#;
        assert_eq!(parse(refused), Said::Error("no such fd".to_owned()));
        assert_eq!(parse(RESET), Said::Event(reset()));
        assert_eq!(parse(STOP), Said::Event(Event { name: "STOP".to_owned(), data: Value::Null }));
        for garbled in ["", "{}", "[1]", r#"{"event": 1}"#, r#"{"return": "#] {
            assert!(matches!(Said::parse(garbled.as_bytes()), Err(QmpError::Garbled { .. })), "{garbled}");
        }
    }

    /// Answers each command with the next of `answers`, and gives back the commands.
    fn played(answers: Vec<String>) -> (UnixStream, std::thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let player = std::thread::spawn(move || {
            let mut commands = BufReader::new(theirs.try_clone().unwrap()).lines();
            writeln!(&theirs, "{GREETING}").unwrap();
            let heard = answers.into_iter().map_while(|answer| {
                let command = commands.next()?.unwrap();
                write!(&theirs, "{answer}").unwrap();
                Some(command)
            });
            heard.collect()
        });
        (ours, player)
    }

    #[test]
    fn events_between_a_command_and_its_answer_are_kept() {
        let done = "{\"return\": {}}\n".to_owned();
        let (stream, player) = played(vec![done.clone(), format!("{STOP}\n{RESET}\n{done}{STOP}\n")]);
        let mut qmp = Qmp::greet(stream).unwrap();
        assert_eq!(qmp.execute("stop", &json!({})).unwrap(), json!({}));
        let commands = player.join().unwrap();
        assert_eq!(commands.last().unwrap(), r#"{"arguments":{},"execute":"stop"}"#);
        let mut next = || qmp.event(Duration::ZERO);
        assert_eq!(next().unwrap().unwrap().name, "STOP");
        assert_eq!(next().unwrap().unwrap(), reset());
        assert_eq!(next().unwrap().unwrap().name, "STOP");
        assert!(matches!(next(), Err(QmpError::Gone)), "the other side has ended");
    }

    #[test]
    fn a_refusal_names_the_command_and_the_reason() {
        let refused = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n".to_owned();
        let (stream, player) = played(vec!["{\"return\": {}}\n".to_owned(), refused]);
        let mut qmp = Qmp::greet(stream).unwrap();
        let error = qmp.execute("cont", &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "cont is refused: not now");
        player.join().unwrap();
    }

    #[test]
    fn nothing_said_is_no_event_within_the_limit() {
        let (stream, player) = played(vec!["{\"return\": {}}\n".to_owned(), String::new()]);
        let mut qmp = Qmp::greet(stream).unwrap();
        assert_eq!(qmp.event(Duration::from_millis(20)).unwrap(), None);
        drop(qmp);
        assert_eq!(player.join().unwrap().len(), 1, "the one command of the greeting");
    }
}
