//! What was answered though no other node held it: the causes, as engine and guardian name them to each other.

use net::DEGRADED;

/// How the names of these counters begin; what follows is the cause.
pub const PREFIX: &str = "degraded_";

/// The causes among the counters of an engine, each by its place in [`DEGRADED`], which is what crosses the pair of sockets.
pub fn among<'c>(counters: impl Iterator<Item = (&'c str, u64)>) -> impl Iterator<Item = (u8, u64)> {
    counters.filter_map(|(name, count)| {
        let place = DEGRADED.iter().position(|known| *known == name)?;
        Some((u8::try_from(place).ok()?, count))
    })
}

/// The cause at this place.
pub fn cause(place: u8) -> Option<&'static str> {
    DEGRADED.get(usize::from(place))?.strip_prefix(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_that_the_edge_counts_has_a_name_for_the_guardian() {
        let causes: Vec<&str> = (0..=u8::MAX).filter_map(cause).collect();

        assert_eq!(causes.len(), DEGRADED.len());
        assert_eq!((causes.first(), causes.last()), (Some(&"no_peer"), Some(&"too_many")));
    }

    #[test]
    fn a_cause_is_known_by_its_place() {
        let counters =
            [("late", 1), ("degraded_late", 2), ("degraded_by_nobody", 3), ("degraded_too_many", 4)];

        let found: Vec<(Option<&str>, u64)> =
            among(counters.into_iter()).map(|(place, count)| (cause(place), count)).collect();

        assert_eq!(found, [(Some("late"), 2), (Some("too_many"), 4)]);
    }
}
