//! What a node does for the messages of a hand-over: the one that takes over lets in what the other one passes on.
//!
//! From the moment when a node begins to hand over, what still comes to it goes on to its heir, and waits there for the
//! lease. So the heir has the addresses and lets frames in before it asks for the service; its gate lets none out.
//!
//! Invariant: nobody passes on to a node that has not admitted.

use clock::Instant;

use super::{Guardian, Output};
use crate::{HardwareAddress, Role};

/// How far a node that takes over is with letting in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// The edge was asked for it.
    Wanted,
    /// It is done, or was tried.
    Settled,
}

impl Guardian {
    /// This node can let in what another one passes on to this address, before it is active.
    pub fn admits_at(&mut self, address: HardwareAddress) {
        self.admits_at = Some(address);
    }

    /// Begins or ends with what the contender does.
    pub(super) fn settle_admission(&mut self, out: &mut Vec<Output>) {
        match (self.contender.is_taking_over(), self.admission) {
            (true, None) if self.admits_at.is_some() => {
                self.admission = Some(Admission::Wanted);
                out.push(Output::Admit);
            }
            (false, Some(_)) => {
                self.admission = None;
                // The active node has an open gate, which ends it.
                if self.contender.role() != Role::Active {
                    out.push(Output::TurnAway);
                }
            }
            _ => {}
        }
    }

    /// It is let in, or can not be: the hand-over goes on.
    pub(super) fn admitted(&mut self, at: Instant) {
        if self.admission == Some(Admission::Wanted) {
            self.admission = Some(Admission::Settled);
            self.reserved(at);
        }
    }

    /// The own voter may have set an epoch aside.
    pub(super) fn reserved(&mut self, at: Instant) {
        let reserved = self.voter.reserved();
        if self.voter.has_reserved(reserved) && self.admission != Some(Admission::Wanted) {
            self.contender.reserved(at, reserved, &mut self.by_contender);
        }
    }

    /// Where the node lets in to which this one hands over.
    pub(super) fn heir(&self, at: Instant) -> Option<HardwareAddress> {
        let heir = self.contender.gives_to()?;
        let mut said = self.peers.iter().filter_map(|peer| peer.says(at));
        said.find(|said| said.from == heir).and_then(|said| said.admits_at)
    }
}
