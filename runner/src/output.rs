//! stdout is the result, stderr the progress.

use std::io::{self, IsTerminal, Write};

use brim_report::Style;
use brim_trial::Event;
use serde_json::ser;

/// Whether `stream` gets colours: a terminal does, unless `NO_COLOR` is set (no-color.org).
pub(crate) fn style(stream: &impl IsTerminal) -> Style {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Style { colour: stream.is_terminal() && !unwanted }
}

/// One line of the result.
pub(crate) fn line(text: &str) {
    write_or_end(&format!("{text}\n"));
}

/// A line on stderr.
pub(crate) fn note(text: &str) {
    // Nobody is there to be told that nobody is there.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// One line of the journal.
pub(crate) fn json_line(line: &brim_trial::JournalLine) {
    match ser::to_string(line) {
        Ok(json) => write_or_end(&format!("{json}\n")),
        Err(error) => {
            // Maps with keys that are not text would do this; no event has one.
            assert!(error.is_io(), "an event is not JSON: {error}");
        }
    }
}

/// A result that cannot be written is no result. Ending here takes the rig down as a kill would: whole.
fn write_or_end(text: &str) {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        // The reader has seen enough (`brim list | head -1`); as other tools, which die of SIGPIPE.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(128 + 13),
        Err(error) => {
            note(&format!("brim: cannot write the result: {error}"));
            std::process::exit(3);
        }
    }
}

/// One line on a terminal's stderr that says how far the run is.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    trials: u32,
    params: String,
}

impl Progress {
    /// Progress for people who wait at a terminal, if `wanted`.
    pub(crate) fn on_stderr(wanted: bool) -> Self {
        Self { shown: wanted && io::stderr().is_terminal(), trials: 0, params: String::new() }
    }

    /// Something happened.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Run(run) => {
                self.trials = run.trials;
                let params: Vec<String> =
                    run.params.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                self.params = params.join(", ");
                self.show("preparing the disk");
            }
            Event::Trial { trial } => self.show(&format!("trial {trial} of {}", self.trials)),
            _ => {}
        }
    }

    fn show(&self, what: &str) {
        if self.shown {
            // Progress that cannot be shown is no reason to stop.
            let _ = write!(io::stderr().lock(), "\r\x1b[K  {}: {what}", self.params);
        }
    }

    /// Makes room for a line of the result.
    pub(crate) fn clear(stream: &(impl IsTerminal + Sized)) {
        if stream.is_terminal() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
