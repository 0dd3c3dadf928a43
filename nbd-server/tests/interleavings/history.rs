//! What a disk may answer: a register for every cell, linearizable.
//!
//! A cell is a stretch of bytes that every request covers as a whole or not at all. Every write has a value of its own,
//! so that a read tells which write it saw; only zero may come from several.

/// The value of a cell: zero, or the tag of the write that put it there.
pub(crate) type Value = u64;

/// One request that was answered, with the ticks of a clock before it was sent and after its reply was there.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) what: What,
    /// Cells from here …
    pub(crate) first: usize,
    /// … to before here.
    pub(crate) end: usize,
    pub(crate) sent: u64,
    pub(crate) done: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// All cells get a value: a write its tag; zeroes and trims zero.
    Put(Value),
    /// What was seen in each cell; `None` where the reply says nothing of it.
    See(Vec<Option<Value>>),
}

/// An event as one cell sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Access {
    put: bool,
    value: Value,
    sent: u64,
    done: u64,
}

impl Access {
    /// Whether this was over before the other began. Only then is their order known.
    fn before(&self, other: &Self) -> bool {
        self.done < other.sent
    }
}

/// Checks that there is an order of all events, in keeping with the clock, in which every cell holds what was put there
/// last. The events start with all cells zero.
pub(crate) fn check(events: &[Event], cells: usize) -> Result<(), String> {
    for cell in 0..cells {
        let accesses: Vec<Access> = events.iter().filter_map(|event| access(event, cell)).collect();
        check_cell(&accesses).map_err(|why| format!("cell {cell}: {why}"))?;
    }
    Ok(())
}

fn access(event: &Event, cell: usize) -> Option<Access> {
    let index = cell.checked_sub(event.first).filter(|_| cell < event.end)?;
    let (put, value) = match &event.what {
        What::Put(value) => (true, *value),
        What::See(values) => (false, values[index]?),
    };
    Some(Access { put, value, sent: event.sent, done: event.done })
}

fn check_cell(accesses: &[Access]) -> Result<(), String> {
    let mut puts = vec![Access { put: true, value: 0, sent: 0, done: 0 }];
    puts.extend(accesses.iter().filter(|access| access.put));
    for read in accesses.iter().filter(|access| !access.put) {
        let superseded = |source: &Access| puts.iter().any(|put| source.before(put) && put.before(read));
        let mut sources = puts.iter().filter(|put| put.value == read.value && put.sent < read.done);
        if !sources.any(|source| !superseded(source)) {
            return Err(format!("{read:?} sees what was not there; put were {puts:?}"));
        }
    }
    held_without_a_gap(accesses)
}

/// Gibbons and Korach, "Testing shared memories" (1997): from the first answer that tells of a value to the last
/// question that was answered with it, a value that was put once is there all the time.
fn held_without_a_gap(accesses: &[Access]) -> Result<(), String> {
    let mut zones: Vec<(Value, u64, u64)> = Vec::new();
    for put in accesses.iter().filter(|access| access.put && access.value != 0) {
        let same = || accesses.iter().filter(|access| access.value == put.value);
        let from = same().map(|access| access.done).min().unwrap_or(put.done);
        let until = same().map(|access| access.sent).max().unwrap_or(put.sent);
        if from >= until {
            continue;
        }
        let inside =
            |access: &&Access| access.value != put.value && from < access.sent && access.done < until;
        if let Some(access) = accesses.iter().find(inside) {
            return Err(format!("{access:?} while the value was {} from {from} to {until}", put.value));
        }
        let overlaps = |(_, start, end): &&(Value, u64, u64)| from < *end && *start < until;
        if let Some(zone) = zones.iter().find(overlaps) {
            return Err(format!("the value was {} from {from} to {until}, and {zone:?}", put.value));
        }
        zones.push((put.value, from, until));
    }
    Ok(())
}

fn put(value: Value, sent: u64, done: u64) -> Event {
    Event { what: What::Put(value), first: 0, end: 1, sent, done }
}

fn see(value: Value, sent: u64, done: u64) -> Event {
    Event { what: What::See(vec![Some(value)]), first: 0, end: 1, sent, done }
}

/// For all histories that no disk could have: they are found out.
#[test]
fn what_no_disk_could_answer_is_found() {
    let impossible = [
        ("nobody wrote it", vec![see(7, 1, 2)]),
        ("it was written later", vec![see(1, 1, 2), put(1, 3, 4)]),
        ("a write was lost", vec![put(1, 1, 2), see(0, 3, 4)]),
        ("a trim was lost", vec![put(1, 1, 2), put(0, 3, 4), see(1, 5, 6)]),
        ("an older value", vec![put(1, 1, 2), put(2, 3, 4), see(1, 5, 6)]),
        ("back in time", vec![put(1, 1, 9), put(2, 2, 8), see(1, 3, 4), see(2, 5, 6), see(1, 10, 11)]),
        ("zero in between", vec![put(1, 1, 9), see(1, 2, 3), see(0, 4, 5), see(1, 6, 7)]),
        ("both at once", vec![put(1, 1, 2), put(2, 1, 2), see(1, 3, 6), see(2, 4, 5), see(1, 7, 8)]),
    ];
    for (why, events) in impossible {
        assert!(check(&events, 1).is_err(), "{why}: {events:?}");
    }
}

/// For some histories that only look odd: they pass.
#[test]
fn what_a_disk_could_answer_passes() {
    let possible = [
        vec![see(0, 1, 2)],
        vec![put(1, 1, 9), see(0, 2, 3), see(1, 4, 5)],
        vec![put(1, 1, 9), put(2, 2, 8), see(2, 3, 4), see(1, 5, 6), see(1, 10, 11)],
        vec![put(1, 1, 2), put(0, 3, 9), see(1, 4, 5), see(0, 6, 7), put(2, 8, 10), see(0, 11, 12)],
        vec![put(1, 1, 2), put(2, 3, 9), see(2, 4, 8), see(1, 5, 7)],
    ];
    for events in possible {
        assert_eq!(check(&events, 1), Ok(()), "{events:?}");
    }
}
