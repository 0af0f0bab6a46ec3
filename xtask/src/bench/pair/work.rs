//! What is measured.

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

/// A piece of it, with a lab of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Processor time, and bytes on the link.
    Cost(Setup),
    /// Takeovers with so many bindings, and then an empty standby that gets them all.
    Takeover(u64),
}

impl Work {
    /// In the order in which it is done.
    pub const ALL: [Work; 6] = [
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
            Work::Cost(Setup::Single) => "one node, no cluster",
            Work::Cost(Setup::Alone) => "active node, the other one is away",
            Work::Cost(Setup::Pair) => "active node, every binding at both",
            Work::Takeover(1_000) => "1 thousand bindings",
            Work::Takeover(100_000) => "100 thousand bindings",
            Work::Takeover(_) => "1 million bindings",
        }
    }

    /// The name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Work::Cost(Setup::Single) => "cost-single",
            Work::Cost(Setup::Alone) => "cost-alone",
            Work::Cost(Setup::Pair) => "cost-pair",
            Work::Takeover(1_000) => "takeover-1000",
            Work::Takeover(100_000) => "takeover-100000",
            Work::Takeover(_) => "takeover-1000000",
        }
    }

    /// From the command line.
    pub fn named(word: &str) -> Option<Work> {
        Work::ALL.into_iter().find(|work| work.word() == word)
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
        for work in Work::ALL {
            assert_eq!(Work::named(work.word()), Some(work));
        }
    }
}
