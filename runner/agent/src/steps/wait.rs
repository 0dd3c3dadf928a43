//! Steps that wait, but not for the disk.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use brim_trial::{Limits, Nanos, Pattern};

use super::{Outcome, Steps};
use crate::Failure;
use crate::filesystem::Mounted;

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

    /// Waits until a counter of the filesystem is so; what it is then is what the step returns.
    pub(super) fn wait_for_counter(self, counter: &str, is: Limits) -> Result<Outcome, Failure> {
        let what = || format!("wait for {counter}");
        self.until(|| {
            let counters = self.site.with(Mounted::counters)?;
            let value = counters
                .value(counter)
                .ok_or_else(|| Failure::new(what(), "there is no such counter here").refused())?;
            Ok(is.contain(value.0).then_some(value.0))
        })
    }

    /// Waits until the kernel log has so many lines like this since the trial began; how many it has is what the step returns.
    pub(super) fn wait_for_log(self, pattern: &Pattern, count: u64) -> Result<Outcome, Failure> {
        let log = self.log.ok_or_else(|| {
            Failure::new("wait for a line of the kernel log", "it cannot be read here").refused()
        })?;
        self.until(|| {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.read()?;
            let found = log.count(|line| pattern.matches(line));
            Ok((found >= count).then_some(found))
        })
    }

    /// Looks again and again until there is something, or there will not be: the step passed its limit, or another worker failed,
    /// who may be the one that this one waits for.
    fn until(self, mut look: impl FnMut() -> Result<Option<u64>, Failure>) -> Result<Outcome, Failure> {
        loop {
            if let Some(found) = look()? {
                return Ok(Outcome::new("await", Ok(found)));
            }
            if self.watch.was_overdue() || self.company.has_given_up() {
                return Ok(Outcome { given_up: true, ..Outcome::new("await", Ok(0)) });
            }
            std::thread::sleep(TICK);
        }
    }
}
