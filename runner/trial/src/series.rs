//! Numbers over the time of a trial, few enough to be kept: only when they change, and the longer it takes the coarser.

use brim_device::Nanos;

use crate::event::Series;

/// How many points are kept at most. With a dozen numbers in each that is some 10 KB of journal.
const POINTS_MAX: usize = 160;

/// Keeps numbers as they change.
#[derive(Clone, Debug)]
pub struct Recorder {
    names: Vec<String>,
    at: Vec<Nanos>,
    points: Vec<Vec<u64>>,
    /// Points are at least so far apart.
    gap: Nanos,
}

impl Recorder {
    /// Of numbers with these names.
    #[must_use]
    pub const fn new(names: Vec<String>) -> Self {
        Self { names, at: Vec::new(), points: Vec::new(), gap: Nanos(0) }
    }

    /// At this moment, which is not before the last one, they were so, in the order of the names. What comes too soon after a
    /// point takes its place.
    pub fn record(&mut self, at: Nanos, values: &[u64]) {
        if self.points.last().is_some_and(|last| last == values) {
            return;
        }
        let soon = self.at.last().is_some_and(|last| at.0.saturating_sub(last.0) < self.gap.0);
        if let Some(last) = self.points.last_mut().filter(|_| soon) {
            *last = values.to_vec();
        } else {
            self.at.push(at);
            self.points.push(values.to_vec());
        }
        if self.at.len() > POINTS_MAX {
            self.thin();
        }
    }

    /// When the last point is.
    #[must_use]
    pub fn last(&self) -> Nanos {
        self.at.last().copied().unwrap_or_default()
    }

    /// Leaves out every second point, but for the first and the last, and wants the next ones further apart.
    fn thin(&mut self) {
        let last = self.at.len() - 1;
        let keeps = |index: &usize| index.is_multiple_of(2) || *index == last;
        let kept: Vec<usize> = (0..=last).filter(keeps).collect();
        self.at = kept.iter().filter_map(|index| self.at.get(*index).copied()).collect();
        self.points = kept.iter().filter_map(|index| self.points.get(*index).cloned()).collect();
        let span = self.at.last().map_or(0, |at| at.0);
        // So that what comes until twice this moment fits.
        self.gap = Nanos(self.gap.0.max(2 * span / u64::try_from(POINTS_MAX).unwrap_or(1)));
    }

    /// What was kept of trial `trial`, without the numbers that never changed; `None` where none did.
    #[must_use]
    pub fn series(self, trial: u32, of: &str) -> Option<Series> {
        let column =
            |index: usize| self.points.iter().filter_map(|point| point.get(index).copied()).collect();
        let columns = self.names.iter().enumerate().map(|(index, name)| (name.clone(), column(index)));
        let changed = columns.filter(|(_, values): &(String, Vec<u64>)| {
            values.iter().any(|value| Some(value) != values.first())
        });
        let (names, values): (Vec<String>, Vec<Vec<u64>>) = changed.unzip();
        (!names.is_empty()).then(|| Series {
            trial,
            of: of.to_owned(),
            device: None,
            at: self.at,
            names,
            values,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(points: impl IntoIterator<Item = (u64, Vec<u64>)>) -> Option<Series> {
        let mut recorder = Recorder::new(vec!["a".to_owned(), "b".to_owned()]);
        for (at, values) in points {
            recorder.record(Nanos(at), &values);
        }
        recorder.series(1, "test")
    }

    #[test]
    fn only_what_changes_is_kept() {
        assert_eq!(recorded([(0, vec![1, 7]), (5, vec![1, 7])]), None);
        let series = recorded([(0, vec![1, 7]), (5, vec![1, 7]), (9, vec![2, 7]), (11, vec![2, 7])]).unwrap();
        assert_eq!((series.names, series.values), (vec!["a".to_owned()], vec![vec![1, 2]]));
        assert_eq!(series.at, [Nanos(0), Nanos(9)]);
    }

    /// However long it takes: few points, in order, from the first to the last that was told.
    #[test]
    fn a_long_time_is_kept_coarsely() {
        for count in [160, 1_000, 100_000] {
            let series = recorded((0..count).map(|at| (at * 1_000, vec![at, at / 3]))).unwrap();
            assert!(series.at.len() <= POINTS_MAX && series.at.len() > POINTS_MAX / 4, "{}", series.at.len());
            assert!(series.at.is_sorted());
            assert_eq!(series.at[0], Nanos(0));
            let last = series.values[0].last().unwrap();
            assert_eq!(*last, count - 1, "the last is the last");
        }
    }
}
