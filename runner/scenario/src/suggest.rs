//! What a user may have meant.

/// A help for `word`, which is none of the `candidates`: the nearest, if one is near, and all of them.
/// `possible` introduces the list: `possible here`.
pub(crate) fn help(word: &str, candidates: &[&str], possible: &str) -> String {
    let quoted: Vec<String> = candidates.iter().map(|name| format!("`{name}`")).collect();
    let all = format!("{possible}: {}", quoted.join(", "));
    match nearest(word, candidates) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    }
}

/// The candidate nearest to `word`, if it is near enough to be a slip of the pen.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let near = |name: &&str| (distance(&word, &name.to_lowercase()), word.chars().count().max(name.len()));
    let (candidate, (slips, length)) =
        candidates.iter().map(|name| (*name, near(name))).min_by_key(|(_, (slips, _))| *slips)?;
    (slips <= length / 4).then_some(candidate)
}

/// Slips of the pen between two words: letters left out, put in, exchanged or swapped with their neighbour
/// (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let swapped = i > 0 && j > 0 && left[i - 1] == *b && right[j - 1] == *a;
            let swap = if swapped { rows[i - 1][j - 1] + 1 } else { usize::MAX };
            let change = rows[i][j] + usize::from(a != b);
            row.push(change.min(rows[i][j + 1] + 1).min(row[j] + 1).min(swap));
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        assert_eq!(nearest("blokcs", &["block", "blocks", "KiB"]), Some("blocks"));
        assert_eq!(nearest("kib", &["B", "KiB", "MiB"]), Some("KiB"));
        assert_eq!(nearest("pwirte", &["fallocate", "pwrite"]), Some("pwrite"));
        assert_eq!(nearest("ENOSPACE", &["EIO", "ENOSPC"]), Some("ENOSPC"));
        assert_eq!(nearest("zfs", &["btrfs", "ext4"]), None);
        assert_eq!(nearest("zfs", &["xfs"]), None);
        assert_eq!(nearest("x", &["y"]), None);
    }
}
