//! A covering array of strength two: few combinations in which every two values of different axes are together at least once.
//!
//! In-parameter-order (Lei and Tai 1998): the two longest axes are combined in full; each further axis first takes, in each row
//! there is, the value that covers the most pairs yet uncovered, and then rows are added for the pairs that are left. Ties go to the
//! lower value, so that the same axes give the same rows.

use std::collections::BTreeSet;

/// What a row has of an axis: a value, or whatever.
type Choice = Option<usize>;

/// Rows for axes of these lengths: in each the index of a value on each axis, in the order of the axes. Axes without values give
/// no row.
#[must_use]
pub fn pairwise(lengths: &[usize]) -> Vec<Vec<usize>> {
    if lengths.contains(&0) || lengths.is_empty() {
        return Vec::new();
    }
    // The longest axes first: their product is the least number of rows there can be.
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|axis| std::cmp::Reverse(lengths[*axis]));
    let sorted: Vec<usize> = order.iter().map(|axis| lengths[*axis]).collect();
    let mut rows: Vec<Vec<Choice>> = match sorted.as_slice() {
        [only] => (0..*only).map(|value| vec![Some(value)]).collect(),
        [first, second, ..] => {
            (0..*first).flat_map(|one| (0..*second).map(move |other| vec![Some(one), Some(other)])).collect()
        }
        [] => Vec::new(),
    };
    for axis in 2..sorted.len() {
        extend(&mut rows, &sorted, axis);
    }
    let place = |row: Vec<Choice>| {
        let mut placed = vec![0; lengths.len()];
        for (choice, axis) in row.into_iter().zip(&order) {
            placed[*axis] = choice.unwrap_or(0);
        }
        placed
    };
    let mut rows: Vec<Vec<usize>> = rows.into_iter().map(place).collect();
    rows.sort();
    rows.dedup();
    rows
}

/// Adds the axis `axis` to rows that have those before it.
fn extend(rows: &mut Vec<Vec<Choice>>, lengths: &[usize], axis: usize) {
    // (an earlier axis, its value, the new axis' value)
    let mut uncovered: BTreeSet<(usize, usize, usize)> = (0..axis)
        .flat_map(|earlier| {
            (0..lengths[earlier])
                .flat_map(move |value| (0..lengths[axis]).map(move |new| (earlier, value, new)))
        })
        .collect();
    for row in rows.iter_mut() {
        let pairs = |new: usize| -> Vec<(usize, usize, usize)> {
            let pair = |(earlier, choice): (usize, &Choice)| choice.map(|value| (earlier, value, new));
            row.iter().enumerate().filter_map(pair).collect()
        };
        let covers = |new: usize| pairs(new).iter().filter(|pair| uncovered.contains(pair)).count();
        let best = (0..lengths[axis]).max_by_key(|new| (covers(*new), std::cmp::Reverse(*new)));
        let chosen = best.filter(|new| covers(*new) > 0);
        for pair in chosen.map(pairs).unwrap_or_default() {
            uncovered.remove(&pair);
        }
        row.push(chosen);
    }
    while let Some((earlier, value, new)) = uncovered.pop_first() {
        let fits = |row: &Vec<Choice>| {
            row[earlier].is_none_or(|there| there == value) && row[axis].is_none_or(|there| there == new)
        };
        if let Some(row) = rows.iter_mut().find(|row| fits(row)) {
            (row[earlier], row[axis]) = (Some(value), Some(new));
            for (other, choice) in row.iter().enumerate().take(axis) {
                if let Some(there) = choice {
                    uncovered.remove(&(other, *there, new));
                }
            }
        } else {
            let mut row = vec![None; axis + 1];
            (row[earlier], row[axis]) = (Some(value), Some(new));
            rows.push(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uncovered(lengths: &[usize], rows: &[Vec<usize>]) -> Option<[(usize, usize); 2]> {
        let axes = 0..lengths.len();
        let pairs = axes.clone().flat_map(|one| (one + 1..lengths.len()).map(move |other| (one, other)));
        let mut all = pairs.flat_map(|(one, other)| {
            (0..lengths[one])
                .flat_map(move |left| (0..lengths[other]).map(move |right| [(one, left), (other, right)]))
        });
        all.find(|pair| !rows.iter().any(|row| pair.iter().all(|(axis, value)| row[*axis] == *value)))
    }

    proptest! {
        /// For all axes: every pair of values is in a row, every row is possible, none is there twice, and there are no more rows
        /// than combinations.
        #[test]
        fn every_pair_is_covered(lengths in prop::collection::vec(1usize..6, 1..8)) {
            let rows = pairwise(&lengths);
            prop_assert_eq!(uncovered(&lengths, &rows), None);
            for row in &rows {
                prop_assert_eq!(row.len(), lengths.len());
                prop_assert!(row.iter().zip(&lengths).all(|(value, length)| value < length));
            }
            let distinct: std::collections::BTreeSet<_> = rows.iter().collect();
            prop_assert_eq!(distinct.len(), rows.len());
            prop_assert!(rows.len() <= lengths.iter().product());
        }
    }

    /// Far from the full product: 81, 1024, 1048576 and 400 rows.
    #[test]
    fn it_is_small() {
        for (lengths, most) in
            [(vec![3; 4], 12), (vec![2; 10], 14), (vec![4; 10], 40), (vec![10, 10, 2, 2], 104)]
        {
            let rows = pairwise(&lengths).len();
            assert!(rows <= most, "{lengths:?}: {rows} rows");
        }
        assert_eq!(pairwise(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(pairwise(&[3, 0]), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn a_test_that_can_fail() {
        let mut rows = pairwise(&[3, 3, 2]);
        rows.pop();
        assert!(uncovered(&[3, 3, 2], &rows).is_some());
    }
}
