//! Steps that wait, but not for the disk.

use std::time::{Duration, Instant};

use brim_trial::Nanos;

use super::{Outcome, Steps};

/// How long a step that waits sleeps before it looks again whether it may go on.
const TICK: Duration = Duration::from_millis(1);

impl Steps<'_> {
    pub(super) fn sleep(self, time: Nanos) -> Outcome {
        let until = Instant::now() + Duration::from(time);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.watch.was_overdue() {
                return Outcome::new("sleep", Ok(0));
            }
            // The last stretch in one go, so that nothing is added to it.
            std::thread::sleep(if left > TICK * 20 { TICK * 10 } else { left });
        }
    }
}
