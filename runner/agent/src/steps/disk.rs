//! Words with the disk, which the executor has.

use brim_trial::event::{Problem, TooFew};
use brim_trial::operation::Release;

use super::{Outcome, Steps};
use crate::Failure;
use crate::protocol::{Answer, Ask};

impl Steps<'_> {
    pub(super) fn wait_held(self, gate: &str, count: u64) -> Result<Outcome, Failure> {
        let done = Outcome::new("await", Ok(0));
        Ok(match self.word(Ask::Await { gate: gate.to_owned(), count })? {
            Answer::Held(held) => done.holding(held),
            _ => Outcome { given_up: true, ..done },
        })
    }

    pub(super) fn release(self, gate: &str, some: Option<&Release>) -> Result<Outcome, Failure> {
        let done = Outcome::new("release", Ok(0));
        Ok(match self.word(Ask::Release { gate: gate.to_owned(), some: some.cloned() })? {
            Answer::Released(held) => done.holding(held),
            Answer::TooFew(held) => {
                let wanted = some.map_or(0, |release| release.which.at_least());
                Outcome { problem: Some(Problem::TooFew(TooFew { wanted, held })), ..done }
            }
            _ => done,
        })
    }

    pub(super) fn close(self, gate: &str) -> Result<Outcome, Failure> {
        self.word(Ask::Close { gate: gate.to_owned() })?;
        Ok(Outcome::new("close", Ok(0)))
    }
}
