//! "Did you mean": the known word that is nearest to a mistyped one.

/// Longer words are not compared: the cost grows with the square of the length.
const WORD_BYTES_MAX: usize = 64;

/// The nearest of `known`, if it is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let limit = (word.len() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word.as_bytes(), candidate.to_ascii_lowercase().as_bytes()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out, changed or swapped with their neighbour.
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, &a) in left.iter().enumerate() {
        let mut this = vec![row + 1];
        for (column, &b) in right.iter().enumerate() {
            let mut cost =
                (last[column] + usize::from(a != b)).min(last[column + 1] + 1).min(this[column] + 1);
            if row > 0 && column > 0 && a == right[column - 1] && left[row - 1] == b {
                cost = cost.min(before[column - 1] + 1);
            }
            this.push(cost);
        }
        before = std::mem::replace(&mut last, this);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["listen", "ring_timeout", "timer_c", "domains"];

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        for (typed, meant) in [
            ("listne", "listen"),
            ("lisen", "listen"),
            ("ring-timeout", "ring_timeout"),
            ("RING_TIMEOUT", "ring_timeout"),
            ("ringtimeout", "ring_timeout"),
            ("domain", "domains"),
        ] {
            assert_eq!(nearest(typed, KNOWN), Some(meant), "{typed}");
        }
    }

    #[test]
    fn another_word_is_not_taken_for_a_known_one() {
        for typed in ["", "x", "tls", "certificate", &"listen".repeat(20)] {
            assert_eq!(nearest(typed, KNOWN), None, "{typed}");
        }
    }
}
