//! What was answered though no other node held it: the causes, as engine and guardian name them to each other.

/// Of each counter of the engine what follows [`PREFIX`]; the place is what crosses the pair of sockets.
pub const CAUSES: [&str; 9] =
    ["no_peer", "stale", "late", "lost", "refused", "not_equal", "unknown_kind", "too_long", "too_many"];

/// How the names of these counters begin.
pub const PREFIX: &str = "degraded_";

/// The causes among the counters of an engine, each by its place.
pub fn among<'c>(counters: impl Iterator<Item = (&'c str, u64)>) -> impl Iterator<Item = (u8, u64)> {
    counters.filter_map(|(name, count)| {
        let cause = name.strip_prefix(PREFIX)?;
        let place = CAUSES.iter().position(|known| *known == cause)?;
        Some((u8::try_from(place).ok()?, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_that_the_edge_counts_is_known() {
        let source = include_str!("../../net/src/tally.rs");

        let counted: Vec<&str> = source
            .split('"')
            .filter_map(|word| word.strip_prefix(PREFIX))
            .filter(|cause| cause.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            .collect();

        assert_eq!(counted, CAUSES);
    }

    #[test]
    fn a_cause_is_known_by_its_place() {
        let counters =
            [("late", 1), ("degraded_late", 2), ("degraded_by_nobody", 3), ("degraded_too_many", 4)];

        let found: Vec<(u8, u64)> = among(counters.into_iter()).collect();

        assert_eq!(found, [(2, 2), (8, 4)]);
    }
}
