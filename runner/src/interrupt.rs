//! SIGINT and SIGTERM as something a run looks at between two waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

/// Says whether the user wants an end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    keyboard: Arc<AtomicBool>,
    told: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes the signals over.
    pub(crate) fn take_over() -> io::Result<Self> {
        let interrupt = Self { keyboard: Arc::default(), told: Arc::default() };
        for signal in [SIGINT, SIGQUIT] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.keyboard))?;
        }
        for signal in [SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.told))?;
        }
        // A disk that stands still holds up every sync(2) of the host: a Ctrl-Z does not stop us.
        signal_hook::flag::register(SIGTSTP, Arc::default())?;
        Ok(interrupt)
    }

    /// Whether a signal came.
    pub(crate) fn happened(&self) -> bool {
        self.keyboard.load(Ordering::Relaxed) || self.told_to_end()
    }

    /// Whether a signal came that is not for a program we run: a Ctrl-C reaches that by itself, and what it makes of it
    /// is its own affair.
    pub(crate) fn told_to_end(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}
