//! The agent's main loop: takes commands from the channel, hands them to the worker, and watches how long they take.

use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use brim_trial::Event;

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
    let worker = std::thread::spawn(move || {
        let mut worker = Worker::new(run, for_worker, fds, asking, working);
        while let Ok(command) = todo.recv() {
            if worker.obey(command).is_err() {
                break;
            }
        }
    });
    let mut lines = Lines::new(channel);
    loop {
        if lines.wait(TICK).trying(what)? {
            match lines.receive().trying(what)? {
                None => return Ok(()),
                Some(Command::Answer { id, answer }) => asks.answer(id, answer),
                // The receiver lives as long as the worker, which ends only with this process.
                Some(command) => drop(jobs.send(command)),
            }
        } else if worker.is_finished() {
            // Only an error of ours ends it before the channel does, and it has said so on standard error.
            return Err(Failure::new(what(), "the worker's thread has ended"));
        } else if let Some(stuck) = watch.overdue() {
            let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            protocol::send(&writer, &Message::Event(Box::new(Event::Stuck(stuck)))).trying(what)?;
        }
    }
}
