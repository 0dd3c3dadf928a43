//! What a connection is to do when its time comes: an entry in a heap, and no thread.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use brim_device::Nanos;

use crate::disk::{Parked, Watch};

/// The longest that the kernel is expected to wake a thread late by as a matter of course.
const LEAD_MAX: Nanos = Nanos(500_000);

/// A thread that is early spins for so long at most, or for this part of the time that it slept: a processor that has slept
/// for long takes longer to wake.
const SPIN_MAX: Nanos = Nanos(60_000);
const SPIN_PART: u64 = 32;

/// What is due.
#[derive(Debug)]
pub(super) enum Due {
    /// A delayed request.
    Request(Parked),
    /// The limit of a gate that held the request of this number.
    Watch(u64),
}

#[derive(Debug)]
struct Timer {
    at: Nanos,
    /// Of what is due at the same moment, what came first goes first.
    order: u64,
    due: Due,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// By the clock of the disk.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
    count: u64,
    /// How late the kernel lately woke this thread, in the middle: so much earlier it is asked to.
    lead: Nanos,
    /// What is due within this is waited for awake: the lead that the last sleep was cut by.
    near: Nanos,
}

impl Timers {
    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub(super) fn request(&mut self, parked: Parked) {
        self.push(parked.due(), Due::Request(parked));
    }

    pub(super) fn watch(&mut self, watch: Watch) {
        self.push(watch.until, Due::Watch(watch.arrival));
    }

    fn push(&mut self, at: Nanos, due: Due) {
        let order = self.count;
        self.count += 1;
        self.heap.push(Reverse(Timer { at, order, due }));
    }

    /// When the next one is due.
    fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse(timer)| timer.at)
    }

    /// The next one that is due by now, and when it was.
    pub(super) fn due(&mut self, now: Nanos) -> Option<(Nanos, Due)> {
        self.heap.peek().filter(|Reverse(timer)| timer.at <= now)?;
        self.heap.pop().map(|Reverse(timer)| (timer.at, timer.due))
    }

    /// How long the thread may sleep before the next one is due; `None` for as long as it likes.
    pub(super) fn sleep(&mut self, now: Nanos) -> Option<Nanos> {
        let until = self.next()?.0.saturating_sub(now.0);
        self.near = self.spin(until);
        Some(Nanos(until.saturating_sub(self.near.0)))
    }

    /// How long the thread is to be awake ahead of what is due in so many nanoseconds.
    fn spin(&self, until: u64) -> Nanos {
        self.lead.min(SPIN_MAX.max(Nanos(until / SPIN_PART)))
    }

    /// The kernel was to wake the thread at a moment, and it is now.
    pub(super) fn woken(&mut self, asked: Nanos, now: Nanos) {
        // A step up or down at a time finds the middle, and no outlier moves it far.
        let late = now.0.saturating_sub(asked.0);
        let step = 1 + self.lead.0 / 16;
        let lead = if late > self.lead.0 { self.lead.0 + step } else { self.lead.0.saturating_sub(step) };
        self.lead = Nanos(lead).min(LEAD_MAX);
    }

    /// Whether the next one is due so soon that sleeping would miss it.
    pub(super) fn is_near(&self, now: Nanos) -> bool {
        self.next().is_some_and(|next| next > now && next.0 - now.0 <= self.near.0)
    }
}
