//! The agent's main loop: takes commands from the channel, hands them to the worker, and watches how long they take.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use brim_trial::Event;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::Failure;
use crate::asks::Asks;
use crate::failure::Trying;
use crate::namespace::RunDirectory;
use crate::protocol::{self, Command, Lines, Message};
use crate::sys;
use crate::watch::Watch;
use crate::worker::Worker;

/// How exactly a limit is kept.
const TICK: Duration = Duration::from_millis(20);

/// Serves the executor at the other end of `channel` until it is gone. To be called before the process has a second
/// thread, as it moves to a mount namespace of its own.
///
/// # Errors
/// The namespace could not be made, or the channel failed.
pub fn serve(channel: UnixStream, fds: UnixStream) -> Result<(), Failure> {
    let what = || "serve the executor".to_owned();
    sys::set_name();
    let writer = Arc::new(Mutex::new(channel.try_clone().trying(what)?));
    let run = match RunDirectory::enter() {
        Ok(run) => run,
        Err(failure) => {
            // The executor shows it to the user.
            return protocol::send(&channel, &Message::Reply(Err(failure))).trying(what);
        }
    };
    let watch = Arc::new(Watch::default());
    let (jobs, todo) = mpsc::channel::<Command>();
    let asks = Arc::new(Asks::over(Arc::clone(&writer)));
    let (working, for_worker, asking) = (Arc::clone(&watch), Arc::clone(&writer), Arc::clone(&asks));
    std::thread::spawn(move || {
        let mut worker = Worker::new(run, for_worker, fds, asking, working);
        while let Ok(command) = todo.recv() {
            if worker.obey(command).is_err() {
                break;
            }
        }
    });
    let mut lines = Lines::new(channel);
    loop {
        if readable(&lines).trying(what)? {
            match lines.receive().trying(what)? {
                None => return Ok(()),
                Some(Command::Answer { id, answer }) => asks.answer(id, answer),
                // The receiver lives as long as the worker, which ends only with this process.
                Some(command) => drop(jobs.send(command)),
            }
        } else if let Some(stuck) = watch.overdue() {
            let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            protocol::send(&writer, &Message::Event(Event::Stuck(stuck))).trying(what)?;
        }
    }
}

/// Waits a tick for the next line.
fn readable(lines: &Lines) -> io::Result<bool> {
    if lines.buffered() {
        return Ok(true);
    }
    let tick = Timespec::try_from(TICK).map_err(io::Error::other)?;
    let mut fds = [PollFd::from_borrowed_fd(lines.stream().as_fd(), PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&tick)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
