//! What shards and the prober tell each other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::health::Failure;

/// What became of a request that a shard sent to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, whatever it said of the call.
    Answered,
    /// It did not do its work.
    Failed(Failure),
    /// RFC 3261 §21.5.4: a 503 with Retry-After.
    Busy(Duration),
}

/// What a call should think of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be tried.
    Good,
    /// Only if nothing better is left.
    Doubtful,
    /// Not at all: the operator has taken it out.
    Out,
}

/// The verdict over every gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Counts up, so that of two the newer one is known.
    version: u64,
    /// Those that are not good.
    marked: BTreeMap<Box<str>, Verdict>,
}

impl Verdicts {
    /// The verdict over the gateway of this name; one that nobody has said anything of is good.
    pub fn of(&self, name: &str) -> Verdict {
        self.marked.get(name).copied().unwrap_or(Verdict::Good)
    }

    #[cfg(test)]
    pub(crate) fn of_version(version: u64, verdicts: impl Iterator<Item = (Box<str>, Verdict)>) -> Self {
        Self { version, ..verdicts.collect() }
    }

    /// Whether these were made after the others: threads may carry them in another order.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        other.version < self.version
    }

    /// The verdicts that come after these; `None` if they would say the same.
    pub(super) fn next(&self, verdicts: Self) -> Option<Self> {
        (verdicts.marked != self.marked).then(|| Self { version: self.version + 1, ..verdicts })
    }
}

impl FromIterator<(Box<str>, Verdict)> for Verdicts {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Verdict)>>(verdicts: I) -> Self {
        Self {
            version: 0,
            marked: verdicts.into_iter().filter(|(_, verdict)| *verdict != Verdict::Good).collect(),
        }
    }
}
