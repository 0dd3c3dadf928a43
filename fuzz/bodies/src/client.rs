//! The whole client on a socket pair, before a server that says whatever it likes: every command is completed once, with
//! what the bytes say.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use brim_device::Bytes;
use nbd_server::client::{Client, Command, CommandError, Reply};
use nbd_wire::{ErrorCode, SimpleReply};

use crate::input::Input;
use crate::options::{GREETING, OPT_GO, REP_ACK, REP_INFO, Told, put_reply};

/// Far longer than any answer takes.
const LIMIT: Duration = Duration::from_secs(20);
/// A socket takes as much at once.
const INPUT_MAX: usize = 64 << 10;

type Answer = Result<Reply, CommandError>;

/// Either the handshake is the fuzzer's, or a right one is followed by commands and the fuzzer's replies.
pub fn client(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8();
    if choice & 1 == 1 {
        return shake_hands(input.take(INPUT_MAX));
    }
    let commands: Vec<(u8, u16)> = (0..choice >> 1 & 15).map(|_| (input.u8(), input.u16())).collect();
    let replies = input.take(INPUT_MAX);

    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(&greeting()).unwrap();
    let client = Client::connect(theirs, "disk").unwrap();
    let (sender, answers) = mpsc::channel();
    for (index, command) in commands.iter().enumerate() {
        submit(&client, index, *command, &sender);
    }
    drop(sender);
    ours.write_all(replies).unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let mut told: Vec<Option<Answer>> = vec![None; commands.len()];
    for _ in &commands {
        let (index, answer) = answers.recv_timeout(LIMIT).unwrap();
        assert!(told[index].replace(answer).is_none(), "command {index} was completed twice");
    }
    assert!(answers.recv_timeout(LIMIT).is_err());
    drop(client);
    assert_eq!(told.into_iter().collect::<Option<Vec<_>>>(), Some(due(&commands, replies)));
    // What it sent is what it was asked to, and a goodbye where the socket still took one.
    let mut sent = Vec::new();
    ours.set_read_timeout(Some(LIMIT)).unwrap();
    ours.read_to_end(&mut sent).unwrap();
}

fn greeting() -> Vec<u8> {
    let mut greeting = GREETING.to_vec();
    let info = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0x6d];
    put_reply(&mut greeting, Told { option: OPT_GO, kind: REP_INFO, payload: &info });
    put_reply(&mut greeting, Told { option: OPT_GO, kind: REP_ACK, payload: &[] });
    greeting
}

fn shake_hands(said: &[u8]) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(said).unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    if let Ok(client) = Client::connect(theirs, "disk") {
        // Nothing that was said before the question is an answer to it, but one to its cookie is taken for one.
        let _lost_or_not = client.flush();
    }
}

/// Reads of up to 64 KiB, and the others in turn.
fn submit(client: &Client, index: usize, (kind, len): (u8, u16), answers: &mpsc::Sender<(usize, Answer)>) {
    let (offset, len) = (Bytes::ZERO, Bytes(u64::from(len)));
    let data = [7; 512];
    let command = match kind % 5 {
        0 => Command::Read { offset, len },
        1 => Command::Write { offset, data: &data, fua: false },
        2 => Command::Flush,
        3 => Command::Trim { offset, len, fua: true },
        _ => Command::WriteZeroes { offset, len, fua: false, no_hole: true },
    };
    let answers = answers.clone();
    client.submit(command, Box::new(move |answer| answers.send((index, answer)).unwrap()));
}

/// What the replies say of each command: cookies count from zero, and after a byte that is wrong nothing counts.
fn due(commands: &[(u8, u16)], mut replies: &[u8]) -> Vec<Answer> {
    let mut due: Vec<Answer> = vec![Err(CommandError::Lost); commands.len()];
    let mut answered = vec![false; commands.len()];
    while let Ok(Some(reply)) = SimpleReply::parse(replies) {
        replies = &replies[SimpleReply::SIZE..];
        let index = usize::try_from(reply.cookie).unwrap();
        if answered.get(index) != Some(&false) {
            break;
        }
        answered[index] = true;
        let (kind, len) = commands[index];
        let len = if kind % 5 == 0 && reply.error.is_none() { usize::from(len) } else { 0 };
        let Some((data, rest)) = replies.split_at_checked(len) else {
            break;
        };
        replies = rest;
        due[index] = match reply.error {
            None => Ok(Reply { data: data.to_vec() }),
            Some(error) => Err(CommandError::Refused(error)),
        };
        assert!(reply.error.is_none_or(|error| ErrorCode::ALL.contains(&error)));
    }
    due
}
