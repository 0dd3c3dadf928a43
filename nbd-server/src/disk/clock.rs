//! The time of a disk: nanoseconds since it was made.
#![expect(clippy::disallowed_methods, reason = "the server is a shell: it reads the clock for the table")]

use std::time::Instant;

use brim_device::Nanos;

use super::Disk;

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Nanos {
        Nanos::from(self.0.elapsed())
    }
}

impl Disk {
    /// On the clock that requests are due by.
    pub(crate) fn now(&self) -> Nanos {
        self.shared.clock.now()
    }
}
