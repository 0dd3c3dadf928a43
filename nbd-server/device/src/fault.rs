//! Faults as rows of one table. The table decides about each request; it never waits and knows no clock.

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// What a request does to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Reads data.
    Read,
    /// Writes data.
    Write,
    /// Makes finished writes durable.
    Flush,
    /// Discards a range.
    Trim,
    /// Zeroes a range.
    Zeroes,
}

impl Op {
    /// Every operation.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Flush, Self::Trim, Self::Zeroes];

    /// Where it is in [`Op::ALL`].
    const fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Flush => 2,
            Self::Trim => 3,
            Self::Zeroes => 4,
        }
    }

    /// The word for it in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Trim => "trim",
            Self::Zeroes => "zeroes",
        }
    }
}

/// A request as the table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What it does.
    pub op: Op,
    /// First byte; zero for a flush.
    pub offset: Bytes,
    /// Bytes from there; zero for a flush.
    pub len: Bytes,
}

/// One fault: when it strikes and what it does. A row with `then = "hold"` is a gate of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Unique in its table.
    pub name: String,
    /// Which requests.
    #[serde(default)]
    pub when: When,
    /// What happens to them.
    pub then: Then,
}

/// Which requests a row is about. All that is absent is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Only this operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<Op>,
    /// Only the one that is the nth of the row's matching requests, counted from 1; absent for every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
}

/// What a row does with a request it fires for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Then {
    /// Parks it until the gate of the row's name is opened.
    Hold,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It is executed now.
    Pass,
    /// It is parked.
    Hold {
        /// Index of the row that did it.
        row: usize,
    },
}

/// Why a row cannot join a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// Gates are opened by name, and hits are reported by name.
    #[error("a fault named {name:?} is there already")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Requests are counted from 1.
    #[error("fault {name:?} waits for request 0, but requests are counted from 1")]
    NthZero {
        /// Name of the row.
        name: String,
    },
}

/// A row with what it has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The row.
    pub row: Row,
    /// Requests that its `op` matched, also those that an earlier row settled.
    pub matches: u64,
    /// Requests that it settled. Zero at the end of a run means that nothing was tested.
    pub firings: u64,
    /// Its gate was opened: it goes on counting and does no more.
    pub open: bool,
}

impl Entry {
    /// Counts one request of an operation that the row is about, and tells whether the row fires for it.
    fn sees(&mut self) -> bool {
        self.matches += 1;
        !self.open && self.row.when.nth.is_none_or(|nth| nth == self.matches)
    }
}

/// The faults of one disk, in order. The first row that has an outcome for a request settles it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultTable {
    entries: Vec<Entry>,
    /// Which entries are about each operation, in order.
    by_op: [Vec<usize>; Op::ALL.len()],
}

impl FaultTable {
    /// A table without faults.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new(), by_op: [const { Vec::new() }; Op::ALL.len()] }
    }

    /// Adds a row behind those that are there.
    ///
    /// # Errors
    ///
    /// When its name is taken, or when it can never fire.
    pub fn add(&mut self, row: Row) -> Result<(), RowError> {
        if row.when.nth == Some(0) {
            return Err(RowError::NthZero { name: row.name });
        }
        if self.entries.iter().any(|entry| entry.row.name == row.name) {
            return Err(RowError::DuplicateName { name: row.name });
        }
        for (op, indices) in Op::ALL.into_iter().zip(&mut self.by_op) {
            if row.when.op.is_none_or(|only| only == op) {
                indices.push(self.entries.len());
            }
        }
        self.entries.push(Entry { row, matches: 0, firings: 0, open: false });
        Ok(())
    }

    /// The rows with their counts, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether there is no row at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Counts a request in every row that is about its operation and says what becomes of it. Rows about others cost
    /// nothing.
    pub fn decide(&mut self, request: &Request) -> Decision {
        let mut decision = Decision::Pass;
        for &row in &self.by_op[request.op.index()] {
            let entry = &mut self.entries[row];
            if entry.sees() && decision == Decision::Pass {
                entry.firings += 1;
                decision = match entry.row.then {
                    Then::Hold => Decision::Hold { row },
                };
            }
        }
        decision
    }

    /// Opens the gate of that name for good; false when there is none.
    pub fn open(&mut self, name: &str) -> bool {
        let gate = self.entries.iter_mut().find(|entry| entry.row.name == name);
        gate.map(|entry| entry.open = true).is_some()
    }

    /// Opens every gate for good.
    pub fn open_all(&mut self) {
        for entry in &mut self.entries {
            entry.open = true;
        }
    }
}
