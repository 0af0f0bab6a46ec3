//! Whether two starts of one node are alive: a machine was copied. They ask in turns, while one start replaces another only
//! once.

use clock::Instant;

use crate::{Ask, Holder, Incarnation, LEASE_MAX, NodeId, RequestNumber};

/// Nodes whose starts are told apart. A cluster has a handful.
const NODES_MAX: usize = 16;

/// How often two starts of one node ask in turns before they are taken for two machines.
const TURNS_OF_CLONES: u8 = 4;

/// Which starts of each node were heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Starts(Vec<Start>);

/// Which starts of a node were heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Start {
    pub(super) node: NodeId,
    pub(super) last: (Incarnation, RequestNumber),
    pub(super) before: Option<(Incarnation, RequestNumber)>,
    /// How often the two took turns.
    pub(super) turns: u8,
    pub(super) cloned_until: Instant,
}

/// Whether a node that asks is there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clones {
    /// It is not, as far as is known.
    None,
    /// That was seen just now.
    Found,
    /// That was seen not long ago.
    Known,
}

impl Starts {
    /// A node has asked.
    pub(super) fn heard(&mut self, now: Instant, ask: &Ask) -> Clones {
        let Holder { node, incarnation } = ask.holder;
        let heard = (incarnation, ask.number);
        let Some(start) = self.0.iter_mut().find(|start| start.node == node) else {
            if self.0.len() < NODES_MAX {
                self.0.push(Start {
                    node,
                    last: heard,
                    before: None,
                    turns: 0,
                    cloned_until: Instant::START,
                });
            }
            return Clones::None;
        };
        let is_known = if now < start.cloned_until { Clones::Known } else { Clones::None };
        if start.last.0 == incarnation {
            start.last = start.last.max(heard);
            return is_known;
        }
        match start.before {
            // A datagram of the start before that was late: its number is none that a living one would send.
            Some(before) if before.0 == incarnation && heard <= before => return is_known,
            Some(before) if before.0 == incarnation => start.turns = start.turns.saturating_add(1),
            _ => start.turns = 0,
        }
        start.before = Some(start.last);
        start.last = heard;
        if start.turns < TURNS_OF_CLONES {
            return is_known;
        }
        // The last datagram of the start before may have been late: that is one turn, and not two.
        start.turns = 1;
        start.cloned_until = now + LEASE_MAX;
        Clones::Found
    }

    #[cfg(feature = "test-model")]
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Start> {
        self.0.iter_mut()
    }
}
