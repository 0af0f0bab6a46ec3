//! What is measured.

use super::database::Kind as DatabaseKind;
use crate::bench::relay::contestant::Kind;

/// Who holds the bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setup {
    /// A server without `[cluster]`.
    Single,
    /// A node of a cluster whose other node is away.
    Alone,
    /// A node of a cluster, and the other one.
    Pair,
}

/// How phones on TCP lose their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// kill -9 of everything.
    Killed,
    /// The switch drops its frames.
    CutOff,
    /// `tandem switchover`.
    Planned,
}

/// A piece of it, with a lab of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Processor time, and bytes on the link.
    Cost(Setup),
    /// Takeovers with so many bindings, and then an empty standby that gets them all.
    Takeover(u64),
    /// Processor time, delay, and bytes on the link and in memory for calls.
    Calls(Setup),
    /// How soon ten thousand phones on TCP are back.
    Reconnect(Loss),
    /// What a media relay costs, and how much it bears.
    Relay(Kind),
    /// What a database costs.
    Database(DatabaseKind),
}

impl Work {
    /// All for `bench calls`, in the order in which it is done.
    pub const OF_CALLS: [Work; 3] =
        [Work::Calls(Setup::Single), Work::Calls(Setup::Alone), Work::Calls(Setup::Pair)];

    /// All for `bench reconnect`, in the order in which it is done.
    pub const OF_RECONNECT: [Work; 3] =
        [Work::Reconnect(Loss::Killed), Work::Reconnect(Loss::CutOff), Work::Reconnect(Loss::Planned)];

    /// All for `bench relay`, in the order in which it is done.
    pub const OF_RELAY: [Work; 5] = [
        Work::Relay(Kind::ALL[0]),
        Work::Relay(Kind::ALL[1]),
        Work::Relay(Kind::ALL[2]),
        Work::Relay(Kind::ALL[3]),
        Work::Relay(Kind::ALL[4]),
    ];

    /// All for `bench database`, in the order in which it is done.
    pub const OF_DATABASE: [Work; 5] = [
        Work::Database(DatabaseKind::ALL[0]),
        Work::Database(DatabaseKind::ALL[1]),
        Work::Database(DatabaseKind::ALL[2]),
        Work::Database(DatabaseKind::ALL[3]),
        Work::Database(DatabaseKind::ALL[4]),
    ];

    /// All for `bench pair`, in the order in which it is done.
    pub const OF_PAIR: [Work; 6] = [
        Work::Cost(Setup::Single),
        Work::Cost(Setup::Alone),
        Work::Cost(Setup::Pair),
        Work::Takeover(1_000),
        Work::Takeover(100_000),
        Work::Takeover(1_000_000),
    ];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Work::Cost(Setup::Single) | Work::Calls(Setup::Single) => "one node, no cluster",
            Work::Cost(Setup::Alone) | Work::Calls(Setup::Alone) => "active node, the other one is away",
            Work::Calls(Setup::Pair) => "active node, every call at both",
            Work::Cost(Setup::Pair) => "active node, every binding at both",
            Work::Takeover(1_000) => "1 thousand bindings",
            Work::Takeover(100_000) => "100 thousand bindings",
            Work::Takeover(_) => "1 million bindings",
            Work::Reconnect(Loss::Killed) => "everything killed",
            Work::Reconnect(Loss::CutOff) => "host cut off",
            Work::Reconnect(Loss::Planned) => "planned switchover",
            Work::Relay(kind) => kind.name(),
            Work::Database(kind) => kind.name(),
        }
    }

    /// The name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Work::Cost(Setup::Single) => "cost-single",
            Work::Cost(Setup::Alone) => "cost-alone",
            Work::Cost(Setup::Pair) => "cost-pair",
            Work::Calls(Setup::Single) => "calls-single",
            Work::Calls(Setup::Alone) => "calls-alone",
            Work::Calls(Setup::Pair) => "calls-pair",
            Work::Takeover(1_000) => "takeover-1000",
            Work::Takeover(100_000) => "takeover-100000",
            Work::Takeover(_) => "takeover-1000000",
            Work::Reconnect(Loss::Killed) => "reconnect-killed",
            Work::Reconnect(Loss::CutOff) => "reconnect-cut-off",
            Work::Reconnect(Loss::Planned) => "reconnect-planned",
            Work::Relay(kind) => kind.word(),
            Work::Database(kind) => kind.word(),
        }
    }

    /// Everything of every page.
    fn all() -> impl Iterator<Item = Work> {
        let rest = Work::OF_RELAY.into_iter().chain(Work::OF_DATABASE);
        Work::OF_PAIR.into_iter().chain(Work::OF_CALLS).chain(Work::OF_RECONNECT).chain(rest)
    }

    /// From the command line.
    pub fn named(word: &str) -> Option<Work> {
        Work::all().find(|work| work.word() == word)
    }

    /// How often at most: a million bindings take long to be made, and each run has several takeovers.
    pub fn runs_max(self) -> usize {
        match self {
            Work::Takeover(1_000_000) => 1,
            _ => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_is_found_by_its_word() {
        for work in Work::all() {
            assert_eq!(Work::named(work.word()), Some(work));
        }
    }
}
