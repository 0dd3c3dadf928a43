//! How far a campaign is: one line redrawn on a terminal, a line a minute elsewhere, or the whole terminal when asked.

use std::io::{self, IsTerminal, Write};

use brim_campaign::Ledger;

use super::desk::Desk;
use super::screen::Screen;
use crate::output;

/// How often a line is written where nothing can be redrawn, in seconds.
const MINUTE: f64 = 60.0;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// As a line.
    Line,
    /// On the whole terminal.
    Screen,
}

/// What there is to say.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// Trials a second since this run began.
    pub(super) rate: f64,
    /// How many cells are done, of how many.
    pub(super) cells: (usize, usize),
    pub(super) trials: u64,
    /// How many trials may yet be.
    pub(super) left: u64,
    pub(super) hits: u64,
    pub(super) inconclusive: u64,
    /// Seconds since this run began.
    pub(super) elapsed: f64,
}

impl Numbers {
    fn of(ledger: &Ledger<'_>, ended: u64, elapsed: f64) -> Self {
        let (done, all, left) = ledger.left();
        let (trials, hits, inconclusive) = ledger.counts();
        let rate = if elapsed > 0.0 { as_float(ended) / elapsed } else { 0.0 };
        Self { rate, cells: (done, all), trials, left, hits, inconclusive, elapsed }
    }

    /// All of it in a line.
    pub(super) fn line(&self) -> String {
        let Self { rate, cells: (done, all), trials, hits, inconclusive, .. } = self;
        let time = self.time_left().map_or_else(String::new, |time| format!(", at most {time} left"));
        let doubts = if *inconclusive > 0 { format!(", {inconclusive} inconclusive") } else { String::new() };
        format!("{done} of {all} cells, {trials} trials, {rate:.1} a second{time}; {hits} hits{doubts}")
    }

    fn time_left(&self) -> Option<String> {
        (self.rate > 0.0 && self.left > 0).then(|| duration(as_float(self.left) / self.rate))
    }
}

/// A number that is shown, where its last digits do not matter.
pub(crate) fn as_float(number: u64) -> f64 {
    let half = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    half(number >> 32) * 4_294_967_296.0 + half(number & 0xffff_ffff)
}

/// Seconds in words.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5400.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Progress, shown.
pub(super) struct Progress {
    is_terminal: bool,
    said: f64,
    screen: Option<Screen>,
}

impl Progress {
    /// As it was asked for, where there is a terminal.
    pub(super) fn new(shown: Shown) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let screen = match shown {
            Shown::Screen if is_terminal => {
                Screen::open().map_err(|error| output::note(&format!("brim: no screen: {error}"))).ok()
            }
            Shown::Screen | Shown::Line => None,
        };
        Self { is_terminal, said: 0.0, screen }
    }

    /// Whether the user has asked for an end by a key, which a terminal that is ours sends in place of a signal.
    pub(super) fn asked_to_end(&self) -> bool {
        self.screen.is_some() && Screen::asked_to_end()
    }

    /// Shows how far it is.
    pub(super) fn show(&mut self, desk: &Desk<'_>, elapsed: f64, is_last: bool) {
        let due = self.is_terminal || elapsed - self.said >= MINUTE || is_last;
        if !due {
            return;
        }
        self.said = elapsed;
        let numbers = Numbers::of(&desk.ledger, desk.ended, elapsed);
        if let Some(screen) = &mut self.screen {
            screen.draw(&desk.ledger, &numbers);
            return;
        }
        let line = numbers.line();
        let mut stderr = io::stderr().lock();
        // Progress that cannot be shown is no reason to stop.
        let _ = match (self.is_terminal, is_last) {
            (true, false) => write!(stderr, "\r\x1b[K  {line}"),
            (true, true) => write!(stderr, "\r\x1b[K"),
            (false, _) => writeln!(stderr, "brim: {line}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_line_of_numbers() {
        let numbers = Numbers {
            rate: 25.0,
            cells: (3, 10),
            trials: 70,
            left: 3000,
            hits: 2,
            inconclusive: 0,
            elapsed: 3.0,
        };
        assert_eq!(numbers.line(), "3 of 10 cells, 70 trials, 25.0 a second, at most 2 min left; 2 hits");
        assert!((as_float(u64::from(u32::MAX) + 2) - 4_294_967_297.0).abs() < 0.5);
    }
}
