//! Words with the disk, which the executor has.

use brim_trial::event::{Problem, TooFew};
use brim_trial::operation::{DiskWord, Release};

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

    /// What needs nothing of the mount, or takes it away for a while.
    pub(super) fn disk(self, word: &DiskWord) -> Result<Outcome, Failure> {
        match word {
            DiskWord::RestoreSnapshot { name } => return self.restore(word, name),
            // The same moment for both: nobody has written between them unless it was at the same time as this step.
            DiskWord::KeepSnapshot { name } => self.site.keep_written(name),
            _ => {}
        }
        let marked = matches!(self.word(Ask::Disk(word.clone()))?, Answer::Marked);
        Ok(Outcome::new(word.verb(), Ok(u64::from(marked))))
    }
}
