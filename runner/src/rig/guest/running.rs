//! A guest that is up: orders, what it says, and what became of it when it says nothing.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use brim_agent::protocol::{Lines, send};
use brim_trial::Event;
use brim_trial::event::Crash;

use super::Needs;
use super::machine::Machine;
use super::protocol::{Order, Reply, Word};
use crate::interrupt::Interrupt;
use crate::rig::RigError;
use crate::rig::workbench::Trial;

/// How often the executor looks whether it was interrupted.
const TICK: Duration = Duration::from_millis(50);
/// How long a guest that has an order may say nothing at all, not even that it lives. It says that every second; a host with
/// more to do than it can makes it late.
const SILENCE_LIMIT: Duration = Duration::from_secs(90);
/// How long a guest that hung up may take to end, so that its last words are whole.
const END_LIMIT: Duration = Duration::from_secs(2);
/// What is kept of the last words: half as much before a panic, and twice as much in all.
const LAST_LINES: usize = 60;
/// How the kernel begins its last words (kernel/panic.c, v6.12).
const PANIC: &str = "Kernel panic";

/// A guest that is up.
#[derive(Debug)]
pub(super) struct Running {
    machine: Machine,
    lines: Lines,
    heard: Instant,
    /// What it was given the memory and the options for.
    pub(super) needs: Needs,
}

/// What a trial leaves of its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Another trial may follow in it.
    Usable,
    /// It is gone, or something in it does not end.
    Spent,
}

/// Why there was no answer.
pub(super) enum Unanswered {
    /// The guest is gone, or not to be reached.
    Crash(Crash),
    Error(RigError),
}

impl From<RigError> for Unanswered {
    fn from(error: RigError) -> Self {
        Self::Error(error)
    }
}

impl From<Unanswered> for RigError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Crash(Crash { how, last_words, .. }) => Self::GuestDied { how, last_words },
            Unanswered::Error(error) => error,
        }
    }
}

impl Running {
    /// With `line` to the process 1 of `machine`.
    pub(super) fn new((machine, line): (Machine, UnixStream), needs: Needs) -> Self {
        Self { machine, lines: Lines::new(line), heard: Instant::now(), needs }
    }

    /// The machine alone.
    pub(super) fn into_machine(self) -> Machine {
        self.machine
    }

    /// Waits until the guest says that it lives: what was sent before that, no line would have taken.
    pub(super) fn come_up(&mut self, interrupt: &Interrupt) -> Result<(), Unanswered> {
        match self.word(interrupt)? {
            Word::Alive => Ok(()),
            _ => Err(RigError::AgentDied.into()),
        }
    }

    /// Gives an order, passes on what is seen, and waits for its end.
    pub(super) fn call(
        &mut self,
        order: &Order,
        emit: &mut dyn FnMut(Event),
        interrupt: &Interrupt,
    ) -> Result<Reply, Unanswered> {
        let parts = order.parts().map_err(|error| RigError::Channel { source: error.into() })?;
        let mut reply = Reply::Done;
        for part in parts {
            reply = self.line(&part, emit, interrupt)?;
        }
        Ok(reply)
    }

    /// Sends one line, and waits for the reply.
    fn line(
        &mut self,
        order: &Order,
        emit: &mut dyn FnMut(Event),
        interrupt: &Interrupt,
    ) -> Result<Reply, Unanswered> {
        if send(self.lines.stream(), order).is_err() {
            return Err(self.crash());
        }
        loop {
            match self.word(interrupt)? {
                Word::Alive => {}
                Word::Event(event) => emit(*event),
                Word::Reply(reply) => return Ok(reply.map_err(RigError::from)?),
            }
        }
    }

    /// Runs a trial. Where the guest does not live to its end, that is an event like others.
    pub(super) fn trial(
        &mut self,
        trial: &Trial,
        emit: &mut dyn FnMut(Event),
        interrupt: &Interrupt,
    ) -> Result<Outcome, RigError> {
        let mut outcome = Outcome::Usable;
        let order = Order::Trial(Box::new(trial.clone()));
        let ended = self.call(
            &order,
            &mut |event| {
                if matches!(event, Event::Stuck(_)) {
                    outcome = Outcome::Spent;
                }
                emit(event);
            },
            interrupt,
        );
        match ended {
            Ok(_) => Ok(outcome),
            Err(Unanswered::Crash(crash)) => {
                emit(Event::Crash(Crash { trial: trial.order.trial, ..crash }));
                Ok(Outcome::Spent)
            }
            Err(Unanswered::Error(error)) => Err(error),
        }
    }

    /// The next word, for which a guest has as long as it may be silent.
    fn word(&mut self, interrupt: &Interrupt) -> Result<Word, Unanswered> {
        self.heard = Instant::now();
        while !self.lines.wait(TICK).map_err(|source| RigError::Channel { source })? {
            if interrupt.happened() {
                return Err(RigError::Interrupted.into());
            }
            if self.machine.has_ended() || self.heard.elapsed() >= SILENCE_LIMIT {
                return Err(self.crash());
            }
        }
        match self.lines.receive() {
            Ok(Some(word)) => Ok(word),
            // The line is over, or ends in the middle of a word.
            Ok(None) | Err(_) => Err(self.crash()),
        }
    }

    /// What became of a guest that does not answer.
    fn crash(&mut self) -> Unanswered {
        let silent = self.heard.elapsed() >= SILENCE_LIMIT;
        let until = Instant::now() + END_LIMIT;
        while !silent && !self.machine.has_ended() && Instant::now() < until {
            std::thread::sleep(TICK);
        }
        let words = self.machine.console();
        let lines: Vec<&str> = words.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let panic = lines.iter().position(|line| line.contains(PANIC));
        let line = panic.and_then(|at| lines.get(at)).and_then(|line| line.get(line.find(PANIC)?..));
        let how = match line {
            Some(line) => line.to_owned(),
            None if silent => format!("it said nothing for {} s", SILENCE_LIMIT.as_secs()),
            None => "it ended by itself".to_owned(),
        };
        // A panic begins with what it is about; before it may stand the warning that led to it.
        let first = match panic {
            Some(at) => at.saturating_sub(LAST_LINES / 2),
            None => lines.len().saturating_sub(LAST_LINES),
        };
        let last_words = lines.into_iter().skip(first).take(2 * LAST_LINES).map(str::to_owned).collect();
        Unanswered::Crash(Crash { trial: 0, how, last_words })
    }
}
