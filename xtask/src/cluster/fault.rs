//! What can happen to a node, and how it ends.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::Cluster;
use crate::lab::Lab;
use crate::lab::pair::{Pair, Side};
use crate::process::tree;

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of the engine.
    EngineKilled,
    /// kill -9 of the guardian.
    GuardianKilled,
    /// kill -9 of all its processes.
    AllKilled,
    /// SIGSTOP of the engine.
    EngineFrozen,
    /// SIGSTOP of the guardian.
    GuardianFrozen,
    /// SIGSTOP of all its processes.
    AllFrozen,
    /// Its cable is out.
    CableOut,
    /// No frame comes through, and nobody is told.
    CutOff,
    /// Nobody hears it; it hears everybody.
    Muted,
    /// It hears nobody; everybody hears it.
    Deafened,
}

impl Fault {
    /// All.
    pub const ALL: [Fault; 10] = [
        Fault::EngineKilled,
        Fault::GuardianKilled,
        Fault::AllKilled,
        Fault::EngineFrozen,
        Fault::GuardianFrozen,
        Fault::AllFrozen,
        Fault::CableOut,
        Fault::CutOff,
        Fault::Muted,
        Fault::Deafened,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Fault::EngineKilled => "engine killed",
            Fault::GuardianKilled => "guardian killed",
            Fault::AllKilled => "everything killed",
            Fault::EngineFrozen => "engine frozen",
            Fault::GuardianFrozen => "guardian frozen",
            Fault::AllFrozen => "everything frozen",
            Fault::CableOut => "cable out",
            Fault::CutOff => "cut off",
            Fault::Muted => "not heard",
            Fault::Deafened => "hears nobody",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

/// A fault that has happened to a node.
#[derive(Debug)]
pub struct Wound {
    fault: Fault,
    side: Side,
    /// Who is frozen.
    frozen: Vec<u32>,
}

impl Cluster {
    /// Lets it happen.
    pub fn hurt(&mut self, lab: &Lab, pair: &Pair, side: Side, fault: Fault) -> Result<Wound> {
        let mut wound = Wound { fault, side, frozen: Vec::new() };
        let cable = pair.node(side).cable();
        match fault {
            Fault::EngineKilled => tree::signal([self.engine(side)?], Signal::KILL)?,
            Fault::GuardianKilled => self.signal(side, Signal::KILL)?,
            Fault::AllKilled => self.kill(side)?,
            Fault::EngineFrozen => wound.frozen = vec![self.engine(side)?],
            Fault::GuardianFrozen => wound.frozen = vec![self.guardian(side)?],
            Fault::AllFrozen => {
                wound.frozen = self.processes(side)?;
                ensure!(wound.frozen.len() >= 2, "guardian and engine are two processes");
            }
            Fault::CableOut => lab.pull(&cable)?,
            Fault::CutOff => lab.cut_off(&cable)?,
            Fault::Muted => lab.mute(&cable)?,
            Fault::Deafened => lab.deafen(&cable)?,
        }
        tree::signal(wound.frozen.iter().copied(), Signal::STOP)?;
        Ok(wound)
    }

    /// Ends it, so that the node will be ready in a while.
    pub fn heal(&mut self, lab: &Lab, pair: &Pair, wound: Wound) -> Result<()> {
        let Wound { fault, side, frozen } = wound;
        tree::signal(frozen, Signal::CONT)?;
        match fault {
            Fault::GuardianKilled => {
                self.wait_for_end(side)?;
                self.start(pair, side)
            }
            Fault::AllKilled => self.start(pair, side),
            Fault::CableOut => lab.plug(&pair.node(side).cable()),
            Fault::CutOff | Fault::Muted | Fault::Deafened => lab.heal(),
            // The guardian starts another engine by itself.
            Fault::EngineKilled | Fault::EngineFrozen | Fault::GuardianFrozen | Fault::AllFrozen => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_its_name() {
        for fault in Fault::ALL {
            assert_eq!(Fault::named(fault.name()), Some(fault));
        }
    }
}
