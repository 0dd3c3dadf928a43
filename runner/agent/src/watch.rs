//! What each worker is doing, since when, and whether that is longer than it may be.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use brim_trial::Nanos;
use brim_trial::event::Stuck;

/// The present task of each thread that has one, seen from the thread that watches them.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<BTreeMap<u32, Task>>);

#[derive(Debug)]
struct Task {
    trial: u32,
    what: String,
    since: Instant,
    limit: Duration,
    reported: bool,
}

impl Watch {
    /// The calling thread begins `what`, which may take `limit`.
    pub(crate) fn begin(&self, trial: u32, what: &str, limit: Nanos) {
        let task = Task {
            trial,
            what: what.to_owned(),
            since: Instant::now(),
            limit: Duration::from_nanos(limit.0),
            reported: false,
        };
        self.tasks().insert(this_thread(), task);
    }

    /// Whether the calling thread's present task was told of as overdue.
    pub(crate) fn was_overdue(&self) -> bool {
        self.tasks().get(&this_thread()).is_some_and(|task| task.reported)
    }

    /// The calling thread is done with what it began.
    pub(crate) fn end(&self) {
        self.tasks().remove(&this_thread());
    }

    /// A task that has passed its limit, told once. The disk's side of it is for the executor to add.
    pub(crate) fn overdue(&self) -> Option<Stuck> {
        let mut tasks = self.tasks();
        let (thread, task) =
            tasks.iter_mut().find(|(_, task)| !task.reported && task.since.elapsed() >= task.limit)?;
        task.reported = true;
        Some(Stuck {
            trial: task.trial,
            what: task.what.clone(),
            limit: Nanos(u64::try_from(task.limit.as_nanos()).unwrap_or(u64::MAX)),
            held: Vec::new(),
            waiting_in: waiting_in(*thread),
        })
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<u32, Task>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calling thread, as the kernel numbers it.
pub(crate) fn this_thread() -> u32 {
    u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap_or(0)
}

/// The kernel functions a thread of ours sleeps in, innermost first.
fn waiting_in(thread: u32) -> Option<String> {
    const FRAMES: usize = 6;
    let stack = std::fs::read_to_string(format!("/proc/self/task/{thread}/stack")).ok()?;
    // Lines like `[<0>] folio_wait_bit_common+0x123/0x456`.
    let functions: Vec<&str> = stack
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter_map(|frame| frame.split('+').next())
        .take(FRAMES)
        .collect();
    (!functions.is_empty()).then(|| functions.join(" < "))
}
