//! What happens to the active node, and what DESIGN wants of it.

use std::time::Duration;

use super::contestant::Contestant;

/// How long the nodes are cut from each other.
pub const SPLIT: Duration = Duration::from_secs(10);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of all that speaks SIP.
    EngineKilled,
    /// kill -9 of everything, and the cable is out.
    HostDead,
    /// No frame comes through, and nobody is told.
    CutOff,
    /// SIGSTOP of everything.
    Frozen,
    /// Somebody wants the other node.
    Switchover,
    /// The nodes do not hear each other for [`SPLIT`]; phones and routers hear both.
    Split,
    /// kill -9 of everything; the host itself lives.
    Killed,
}

/// What is measured of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The longest time without an answer.
    Gap,
    /// How long both spoke for the address.
    Both,
    /// How long the old one still spoke for it.
    Remains,
}

impl Fault {
    /// In the order of the table.
    pub const ALL: [Fault; 7] = [
        Fault::EngineKilled,
        Fault::HostDead,
        Fault::CutOff,
        Fault::Frozen,
        Fault::Switchover,
        Fault::Split,
        Fault::Killed,
    ];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Fault::EngineKilled => "engine killed",
            Fault::HostDead => "host dead",
            Fault::CutOff => "host cut off",
            Fault::Frozen => "everything frozen",
            Fault::Switchover => "planned switchover",
            Fault::Split => "nodes cut from each other for 10 s: both answer",
            Fault::Killed => "after kill -9 of everything its address stays answerable",
        }
    }

    /// The name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Fault::EngineKilled => "engine-killed",
            Fault::HostDead => "host-dead",
            Fault::CutOff => "cut-off",
            Fault::Frozen => "frozen",
            Fault::Switchover => "switchover",
            Fault::Split => "split",
            Fault::Killed => "killed",
        }
    }

    /// From the command line.
    pub fn named(word: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.word() == word)
    }

    /// What is measured.
    pub fn measure(self) -> Measure {
        match self {
            Fault::Split => Measure::Both,
            Fault::Killed => Measure::Remains,
            _ => Measure::Gap,
        }
    }

    /// What DESIGN wants, for us; in milliseconds.
    pub fn reach(self, contestant: Contestant) -> Option<u64> {
        let lease = contestant.lease()?;
        let takeover = if lease < Duration::from_millis(500) { 250 } else { 600 };
        Some(match self {
            Fault::EngineKilled => 100,
            Fault::HostDead | Fault::CutOff | Fault::Frozen => takeover,
            Fault::Switchover => 20,
            Fault::Split => 0,
            Fault::Killed => lease.as_millis() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_its_word() {
        for fault in Fault::ALL {
            assert_eq!(Fault::named(fault.word()), Some(fault));
        }
    }
}
