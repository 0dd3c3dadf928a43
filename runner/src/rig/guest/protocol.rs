//! The words between brim on the host and process 1 of a guest: JSON lines over a serial line, one order at a time.

use brim_agent::{Failure, Written};
use brim_trial::Event;
use serde::{Deserialize, Serialize};

use crate::rig::RigError;
use crate::rig::workbench::{Preparation, State, Trial};

/// What a guest is told to do. Each is answered by one [`Word::Reply`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Take this for a start of the kernel's random numbers. It comes first; the reply is [`Reply::Kernel`].
    Begin {
        /// From the host's.
        entropy: [u8; 32],
    },
    /// Make a filesystem as this preparation wants it, and keep it.
    Make(Preparation),
    /// Prepare a disk; the reply is [`Reply::State`].
    Prepare(Preparation),
    /// Take the disks that the initramfs has for the prepared ones; the reply is [`Reply::State`].
    Adopt(Preparation),
    /// Say what the steps of the preparation have written; the reply is [`Reply::Written`].
    Written,
    /// Say what is on a prepared disk; the reply is [`Reply::Packed`].
    Image {
        /// Which disk, from 0.
        disk: usize,
        /// From which byte on of what it is packed to.
        from: usize,
    },
    /// Mount a fork of it for the next trial.
    Stage,
    /// Run a trial on what is mounted.
    Trial(Box<Trial>),
    /// A part of the line of an order that is too long for one. The guest does as the whole line says when it has the last.
    Part {
        /// What follows the parts before it.
        text: String,
        /// Nothing follows it.
        last: bool,
    },
}

/// The longest line to a guest. A terminal that has 4096 bytes nobody has read tells User Mode Linux to hold back
/// (`n_tty_check_throttle` in `drivers/tty/n_tty.c`, v6.12), and that does not listen again.
const LINE_MAX: usize = 3584;
/// How many characters of an order are a part. Written as a string each of them takes 4 bytes at most: what is more in JSON,
/// a control character, is in no line of JSON.
const PART: usize = 768;

impl Order {
    /// The order as what may be sent line by line, the next one when the guest has replied to the one before.
    pub(super) fn parts(&self) -> serde_json::Result<Vec<Self>> {
        let line = serde_json::to_string(self)?;
        if line.len() <= LINE_MAX {
            return Ok(vec![self.clone()]);
        }
        let characters: Vec<char> = line.chars().collect();
        let texts = characters.chunks(PART).map(String::from_iter);
        let mut parts: Vec<Self> = texts.map(|text| Self::Part { text, last: false }).collect();
        if let Some(Self::Part { last, .. }) = parts.last_mut() {
            *last = true;
        }
        Ok(parts)
    }
}

/// The parts of an order that have come.
#[derive(Debug, Default)]
pub(super) struct Parts(String);

impl Parts {
    /// The order that `order` is or completes; none while there are parts to come.
    pub(super) fn complete(&mut self, order: Order) -> serde_json::Result<Option<Order>> {
        let Order::Part { text, last } = order else { return Ok(Some(order)) };
        self.0.push_str(&text);
        if last { serde_json::from_str(&std::mem::take(&mut self.0)).map(Some) } else { Ok(None) }
    }
}

/// What a guest says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// It lives. Said once it is up, and every second while it has an order, so that a guest that hangs is told from one that is
    /// at work. Between two orders it says nothing: it may be saved then.
    Alive,
    /// Something was seen.
    Event(Box<Event>),
    /// An order ended.
    Reply(Result<Reply, Refusal>),
}

/// How an order ended well.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// Nothing more to say.
    Done,
    /// The kernel's release.
    Kernel {
        /// As uname(2) has it.
        release: String,
    },
    /// What the preparation came to.
    State(Box<State>),
    /// A part of a disk that is packed.
    Packed {
        /// Its bytes, two digits each.
        digits: String,
        /// Nothing follows it.
        last: bool,
    },
    /// What the steps of the preparation have written.
    Written(Box<Written>),
}

/// A [`RigError`] on its way out of a guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Refusal {
    /// The agent's.
    Agent(Failure),
    /// Any other, in words.
    Other(String),
}

impl From<RigError> for Refusal {
    fn from(error: RigError) -> Self {
        match error {
            RigError::Agent(failure) => Self::Agent(failure),
            other => {
                let causes = std::iter::successors(std::error::Error::source(&other), |cause| cause.source());
                let words: Vec<String> =
                    std::iter::once(other.to_string()).chain(causes.map(ToString::to_string)).collect();
                Self::Other(words.join(": "))
            }
        }
    }
}

impl From<Refusal> for RigError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Agent(failure) => Self::Agent(failure),
            Refusal::Other(why) => Self::Guest(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use brim_agent::protocol::TrialOrder;
    use brim_trial::Nanos;

    use super::*;

    fn trial(name: &str) -> Order {
        let (steps, loops) = (Vec::new(), Vec::new());
        let phase = brim_trial::Phase { name: name.to_owned(), until: None, times: 1, steps, loops };
        let order = TrialOrder {
            trial: 1,
            seed: 2,
            phases: vec![phase],
            step_limit: Nanos(3),
            faults: Vec::new(),
            wanted: brim_trial::condition::Wanted::default(),
            written: brim_agent::Written::default(),
        };
        Order::Trial(Box::new(Trial {
            order,
            faults: Vec::new(),
            pools: std::collections::BTreeMap::new(),
            dice: 4,
            name: "trial 1".to_owned(),
        }))
    }

    /// Whatever is in a long order: no line is longer than a terminal takes, and the parts make the order again.
    #[test]
    fn a_long_order_goes_in_parts() {
        for name in ["a".repeat(10_000), "\"\\".repeat(5_000), "\u{1f980}\u{1}\n".repeat(3_000)] {
            let order = trial(&name);
            let parts = order.parts().unwrap();
            assert!(parts.len() > 2);
            let mut came = Parts::default();
            let mut whole = None;
            for part in parts {
                assert!(whole.is_none(), "complete before the last part");
                let line = serde_json::to_string(&part).unwrap();
                assert!(line.len() <= LINE_MAX, "{} bytes", line.len());
                whole = came.complete(serde_json::from_str(&line).unwrap()).unwrap();
            }
            let json = |order: &Order| serde_json::to_string(order).unwrap();
            assert_eq!(whole.as_ref().map(json), Some(json(&order)));
        }
    }

    #[test]
    fn a_short_order_is_a_line() {
        let parts = trial("a").parts().unwrap();
        assert!(matches!(parts.as_slice(), [Order::Trial(_)]));
        assert!(matches!(Parts::default().complete(Order::Stage), Ok(Some(Order::Stage))));
    }
}
